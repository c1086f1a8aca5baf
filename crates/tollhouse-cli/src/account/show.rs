//! `tollhouse account show`: which numbers hold for a model, and why.

use std::fmt::Write;

use bytes::Bytes;
use clap::builder::NonEmptyStringValueParser;
use http::{Request, Uri};
use tollhouse_openai::account::Explanation;
use tollhouse_openai::call::Endpoint;
use tollhouse_openai::{Account, Call};

use super::numbers;
use crate::batch::args::endpoint;
use crate::failure::{BoxError, Ended, Exit};
use crate::policy_args::PolicyArgs;
use crate::print::to_stdout;

/// Show which pool a model belongs to, which section says so, and the numbers that result
///
/// The file, the variables and the flags together, as every command reads them.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The model that is asked about [default: the one that the path names; without either,
    /// every pool is shown]
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    model: Option<String>,

    /// The path that its calls go to, where sections speak of endpoints
    #[arg(long, value_name = "PATH", value_parser = endpoint)]
    url: Option<Uri>,

    #[command(flatten)]
    policy: PolicyArgs,
}

pub(super) fn run(args: &Args) -> Ended {
    let account = Account::from_config(args.policy.account()?)?;
    let source = match args.policy.file() {
        Some(file) => format!(
            "{}, with variables and flags over its [defaults]",
            file.display()
        ),
        None => "no file: variables and flags alone".to_owned(),
    };
    let endpoint = args.url.as_ref().map(|url| Endpoint::of(url.path()));
    let in_path = args.url.as_ref().and_then(model_in);
    let model = args.model.as_deref().or(in_path.as_deref());
    let explained = || account.explain(model, endpoint);
    let text = match (model, &args.url) {
        (None, None) => numbers::of_pools(&account.config()),
        (Some(model), _) => told(model, &explained())?,
        (None, Some(url)) => told(&format!("a call to {url} without a model"), &explained())?,
    };
    to_stdout(format_args!("from {source}\n\n{text}"))?;
    Ok(Exit::Done)
}

/// The model that a path names by itself: Azure's deployment, or what Realtime is asked for.
fn model_in(url: &Uri) -> Option<String> {
    let mut request = Request::new(Bytes::new());
    *request.uri_mut() = url.clone();
    Call::of(&request).model().map(str::to_owned)
}

fn told(what: &str, found: &Explanation) -> Result<String, BoxError> {
    let Explanation {
        pool,
        section,
        policy,
        ..
    } = found;
    let numbers = numbers::in_words(policy);
    let mut text = format!("{what} is in pool {pool}, as {section} says\n{numbers}\n\n");
    let settings = serde_json::to_value(policy)?;
    for (name, value) in settings.as_object().into_iter().flatten() {
        // Numbers, texts and flags are written alike in both.
        writeln!(text, "{name} = {value}")?;
    }
    Ok(text)
}
