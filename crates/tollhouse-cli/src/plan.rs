//! `tollhouse plan`: what a batch will take, before anything is sent.

use std::time::Duration;

use http::Uri;
use tokio::io::AsyncRead;
use tollhouse_batch::{Done, Limits, Plan};
use tollhouse_openai::{Cost, Limit, MeterSnapshot, Per, Policy, Unit};

use crate::batch::args::endpoint;
use crate::batch::files::{self, Place, Requests};
use crate::failure::{BoxError, Ended, Exit};
use crate::policy_args::PolicyArgs;
use crate::print::to_stdout;
use crate::sim::seconds;

/// Show what a batch will take: tokens, time at this policy, lines that can never fit
///
/// Nothing is sent. Exit code 2 where lines are no requests or can never be
/// sent.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Requests in the form of the OpenAI Batch API, `-` for standard input
    #[arg(value_name = "IN.jsonl")]
    input: Place,

    /// Leave out what this output of an earlier run has answered
    #[arg(long, value_name = "OUT.jsonl")]
    output: Option<std::path::PathBuf>,

    /// Where bare request bodies go [default: as `messages`, `prompt` and `input` tell]
    #[arg(long, value_name = "PATH", value_parser = endpoint)]
    url: Option<Uri>,

    /// How long an answer takes on average, to reckon with the requests in flight
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    answer_seconds: Option<Duration>,

    /// Print the plan as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    policy: PolicyArgs,
}

/// Plans, and prints the plan.
pub(crate) async fn run(args: Args) -> Ended {
    let policy = args.policy.policy()?;
    let input = Requests::find(&args.input).await?.open().await?;
    let done = match &args.output {
        Some(path) => files::answered(path).await?,
        None => Done::new(),
    };
    let plan = plan(input, done, &policy, args.answer_seconds, args.url).await?;
    match args.json {
        true => to_stdout(format_args!("{}\n", serde_json::to_string_pretty(&plan)?))?,
        false => {
            to_stdout(&plan)?;
            if let Some(unknown) = unknown(&policy) {
                to_stdout(format_args!("{unknown}\n"))?;
            }
        }
    }
    Ok(match plan.bad_lines.count + plan.impossible.count {
        0 => Exit::Done,
        _ => Exit::BadInput,
    })
}

/// What the plan could not reckon with.
fn unknown(policy: &Policy) -> Option<String> {
    let learned = [
        (policy.config().tokens_per_minute, "tokens"),
        (policy.config().requests_per_minute, "requests"),
    ];
    let learned = learned
        .into_iter()
        .filter(|(limit, _)| *limit == Limit::Auto);
    let learned: Vec<_> = learned.map(|(_, what)| what).collect();
    (!learned.is_empty()).then(|| {
        let learned = learned.join(" and ");
        format!(
            "not reckoned with: the limit of {learned} a minute, which the first answer tells; \
             until then one request goes alone"
        )
    })
}

/// What is left of a batch after earlier runs takes under a policy.
pub(crate) async fn plan(
    input: impl AsyncRead + Unpin,
    done: Done,
    policy: &Policy,
    answers_take: Option<Duration>,
    url: Option<Uri>,
) -> Result<Plan, BoxError> {
    let charge = policy.charge();
    let mut limits = limits(policy, answers_take);
    if let Some(url) = url {
        limits = limits.url(url);
    }
    Ok(Plan::read_rest(input, done, |request| charge.cost(request), limits).await?)
}

/// The policy as a plan reckons with it. A limit that the provider's first
/// answer will tell is none yet.
fn limits(policy: &Policy, answers_take: Option<Duration>) -> Limits {
    let mut limits = Limits::new().stagger(policy.config().stagger);
    if let Some(rate) = tokens_a_minute(policy) {
        limits = limits
            .tokens_per_minute(rate)
            .capacity(policy.budget().snapshot().capacity);
    }
    if let (Limit::PerMinute(_), Some(rate)) = (
        policy.config().requests_per_minute,
        requests_a_minute(policy),
    ) {
        limits = limits.requests_per_minute(rate);
    }
    match answers_take {
        Some(each) => limits.concurrency(policy.config().max_concurrency, each),
        None => limits,
    }
}

/// The tokens a minute that the provider allows, where they are limited and the
/// limit is known by now.
pub(crate) fn token_limit(policy: &Policy) -> Option<u64> {
    let meters = policy.budget().snapshot().meters;
    let is_it = |meter: &&MeterSnapshot| (meter.unit, meter.per) == (Unit::Tokens, Per::Minute);
    meters.iter().find(is_it).map(|meter| meter.limit)
}

/// The tokens a minute that a policy uses of it.
pub(crate) fn tokens_a_minute(policy: &Policy) -> Option<u64> {
    Some(less_headroom(token_limit(policy)?, policy))
}

/// The requests a minute that a policy uses, if they are limited.
pub(crate) fn requests_a_minute(policy: &Policy) -> Option<u64> {
    let requests = policy.budget().snapshot().requests_limit?;
    Some(less_headroom(requests, policy))
}

/// In whole units; a nudge keeps 0.15 of 30,000 from leaving 25,499.
fn less_headroom(limit: u64, policy: &Policy) -> u64 {
    let left = limit as f64 * (1.0 - policy.config().headroom) * (1.0 + 1e-12);
    (left as u64).max(1)
}
