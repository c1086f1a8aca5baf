//! `tollhouse plan`: what a batch will take, before anything is sent.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri};
use tokio::io::AsyncRead;
use tollhouse_batch::{Done, Limits, Plan};
use tollhouse_openai::{Account, Call, Limit, PolicyConfig};

use crate::batch::args::endpoint;
use crate::batch::files::{self, Place, Requests};
use crate::failure::{BoxError, Ended, Exit};
use crate::flags::seconds;
use crate::policy_args::PolicyArgs;
use crate::pools::{Pool, Pools};
use crate::print::to_stdout;

/// Show what a batch will take: tokens, time by each pool's limits, lines that can never fit
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
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_negative_numbers = true)]
    answer_seconds: Option<Duration>,

    /// Print the plan as JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    policy: PolicyArgs,
}

/// Plans, and prints the plan.
pub(crate) async fn run(args: Args) -> Ended {
    let account = Account::from_config(args.policy.account()?)?;
    let pools = Pools::new(account);
    let input = Requests::find(&args.input).await?.open().await?;
    let done = match &args.output {
        Some(path) => files::answered(path).await?,
        None => Done::new(),
    };
    let plan = plan(input, done, &pools, args.answer_seconds, args.url).await?;
    match args.json {
        true => to_stdout(format_args!("{}\n", serde_json::to_string_pretty(&plan)?))?,
        false => {
            to_stdout(&plan)?;
            if let Some(unknown) = unknown(&pools) {
                to_stdout(format_args!("{unknown}\n"))?;
            }
        }
    }
    Ok(match plan.bad_lines.count + plan.impossible.count {
        0 => Exit::Done,
        _ => Exit::BadInput,
    })
}

/// What the plan could not reckon with: limits that answers will tell, by pool.
fn unknown(pools: &Pools) -> Option<String> {
    let pools = pools.all();
    let learned: Vec<_> = pools
        .iter()
        .filter_map(|pool| Some((learned(&pool.config)?, &pool.name)))
        .collect();
    let (what, _) = learned.first()?;
    let whose = match (learned.len(), pools.len()) {
        (_, 1) => String::new(),
        (1.., _) => {
            let names: Vec<_> = learned.iter().map(|(_, name)| &***name).collect();
            format!(" of {}", names.join(", "))
        }
        (0, _) => return None,
    };
    Some(format!(
        "not reckoned with: the limit of {what} a minute{whose}, which the first answer tells; \
         until then one request goes alone"
    ))
}

/// What a pool learns from answers.
pub(crate) fn learned(config: &PolicyConfig) -> Option<&'static str> {
    let tokens = config.tokens_per_minute == Limit::Auto;
    let requests = config.requests_per_minute == Limit::Auto;
    match (tokens, requests) {
        (true, true) => Some("tokens and requests"),
        (true, false) => Some("tokens"),
        (false, true) => Some("requests"),
        (false, false) => None,
    }
}

/// What is left of a batch after earlier runs takes, pool by pool.
pub(crate) async fn plan(
    input: impl AsyncRead + Unpin,
    done: Done,
    pools: &Pools,
    answers_take: Option<Duration>,
    url: Option<Uri>,
) -> Result<Plan, BoxError> {
    let mut shared = pools.shared_limits(answers_take);
    if let Some(url) = url {
        shared = shared.url(url);
    }
    let mut known: Vec<(Arc<Pool>, Arc<Limits>)> = Vec::new();
    let share = |request: &Request<Bytes>| {
        let call = Call::of(request);
        let number = pools.number_of(&call);
        if number >= known.len() {
            let new = pools.all().into_iter().skip(known.len());
            known.extend(new.map(|pool| {
                let limits = Arc::new(pool.limits(answers_take));
                (pool, limits)
            }));
        }
        let (pool, limits) = &known[number];
        pool.share(&call, limits)
    };
    Ok(Plan::read_pools(input, done, share, shared).await?)
}
