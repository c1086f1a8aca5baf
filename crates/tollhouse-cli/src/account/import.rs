//! `tollhouse account import`: a file made of what the provider tells.

use std::path::PathBuf;

use tollhouse_openai::AccountConfig;

use super::admin::{self, RateLimit};
use super::{drift, file};
use crate::failure::{BoxError, Ended, Exit};
use crate::logging;
use crate::policy_args::ClientArgs;
use crate::print::{Counted, to_stdout};

/// Where it goes unless told.
const OUTPUT: &str = "tollhouse.toml";

/// Write a file of a project's limits, as OpenAI's admin API tells them, or compare one with them
///
/// The key is read from OPENAI_ADMIN_KEY. A file that is there already is not replaced unless
/// --force is given.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Whose limits
    #[arg(long, value_name = "ID")]
    project: String,

    /// Where the file goes [default: tollhouse.toml, or nowhere with --config]
    #[arg(short, long, value_name = "FILE.toml")]
    output: Option<PathBuf>,

    /// Replace a file that is there already
    #[arg(long)]
    force: bool,

    /// Tell what this file says and the API does not, and the other way round
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,

    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: Args) -> Ended {
    let config = args.config.as_ref().map(AccountConfig::open).transpose()?;
    let client = args.client.with_key_of("OPENAI_ADMIN_KEY")?;
    let limits = admin::rate_limits(&client, &args.project).await?;
    if let Some(config) = &config {
        tell_drift(config, &limits)?;
    }
    let output = match (&args.output, &config) {
        (Some(output), _) => output.clone(),
        (None, Some(_)) => return Ok(Exit::Done),
        (None, None) => OUTPUT.into(),
    };
    let base_url = client.base_url().to_string();
    let text = file::text(&args.project, &base_url, &limits)?;
    file::write(&output, &text, args.force)?;
    let models = Counted(file::models(&limits).len() as u64, "model");
    logging::say(format_args!(
        "Wrote the limits of {models} to {}",
        output.display()
    ));
    Ok(Exit::Done)
}

fn tell_drift(config: &AccountConfig, limits: &[RateLimit]) -> Result<(), BoxError> {
    let lines = drift::drift(config, limits)?;
    if lines.is_empty() {
        return Ok(to_stdout("The file says what the API tells.\n")?);
    }
    Ok(to_stdout(lines.join("\n") + "\n")?)
}
