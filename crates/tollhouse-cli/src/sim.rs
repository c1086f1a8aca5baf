//! `tollhouse sim`: the simulated provider on a socket.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use serde_json::Value;
use tollhouse_sim::{ChargeRule, Config, Enforcement, Report, RequestEnforcement, Sim};

use crate::failure::{self, BoxError, Ended, Exit};
use crate::flags::{address, seconds, whole};
use crate::logging;
use crate::print::{Count, Span, to_stdout};
use crate::signals::Signals;

/// Serve a simulated provider that enforces limits as the real one does
///
/// Until Ctrl-C, which prints a report of what it saw. A second Ctrl-C does
/// not wait for the answers under way.
///
/// Settings without a flag stand in a file (--config); all of them, with units
/// and defaults:
/// https://github.com/tollhouse-rs/tollhouse/blob/main/docs/guide/simulator.md
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", value_parser = address, default_value = "127.0.0.1:8788")]
    listen: SocketAddr,

    /// Tokens a minute for each model, or `none` [default: 30000]
    #[arg(long, value_name = "TOKENS", value_parser = limit, allow_negative_numbers = true)]
    tpm: Option<Limit>,

    /// Requests a minute for each model, or `none` [default: 500]
    #[arg(long, value_name = "REQUESTS", value_parser = limit, allow_negative_numbers = true)]
    rpm: Option<Limit>,

    /// How a minute is counted [default: continuous]
    #[arg(long, value_name = "HOW")]
    enforcement: Option<How>,

    /// Enforce the request limit by the second
    #[arg(long)]
    rpm_per_second: bool,

    /// What a request is charged when it is admitted [default: as-requested]
    #[arg(long, value_name = "RULE")]
    charge: Option<Rule>,

    /// Replace the charge by the real usage once an answer is complete
    #[arg(long)]
    true_up: bool,

    /// How many times faster than real it lives: its minute takes 60 s / SPEED [default: 1]
    #[arg(long, allow_negative_numbers = true)]
    speed: Option<f64>,

    /// Seconds until the first token, in its own time [default: 0]
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_negative_numbers = true)]
    latency: Option<Duration>,

    /// Seconds between two tokens, in its own time [default: 0]
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_negative_numbers = true)]
    token_latency: Option<Duration>,

    /// How widely latencies are spread, 0 to 1 [default: 0]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    latency_spread: Option<f64>,

    /// As on a bad day: empty buckets, others use 15 %, 1 % 500, 1 % 503, 0.5 % resets
    #[arg(long)]
    hard: bool,

    /// Tell delays in retry-after headers too
    #[arg(long)]
    retry_after: bool,

    /// What all that is random is drawn from [default: 0]
    #[arg(long, value_parser = whole::<u64>, allow_negative_numbers = true)]
    seed: Option<u64>,

    /// A JSON file of settings, also of those without a flag; flags go first
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// A limit by the minute, or none.
#[derive(Clone, Copy, Debug)]
struct Limit(Option<u64>);

#[derive(Clone, Copy, Debug, ValueEnum)]
enum How {
    /// A bucket that refills all the time, as OpenAI's.
    Continuous,
    /// A counter that starts again each minute, as Azure's.
    FixedMinute,
    /// Whatever the last 60 s used.
    SlidingMinute,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Rule {
    /// The prompt and the asked length.
    AsRequested,
    /// The prompt alone, as OpenAI since March 2025.
    Openai,
}

/// Serves until a signal, then reports.
pub(crate) async fn run(args: Args) -> Ended {
    let sim = Sim::new(args.config()?)
        .map_err(|error| failure::because("cannot set up the simulator", error))?;
    let mut signals = Signals::listen()?;
    let served = sim
        .spawn(args.listen)
        .await
        .map_err(|error| failure::because(format!("cannot listen at {}", args.listen), error))?;
    logging::say(greeting(&sim, &served.url()).trim_end());
    signals.next().await;
    logging::say("Stopping; Ctrl-C again does not wait for the answers under way.");
    tokio::select! {
        ended = served.shutdown() => ended?,
        () = signals.next() => {}
    }
    report(&sim.report(), args.json)?;
    Ok(Exit::Done)
}

fn report(report: &Report, json: bool) -> Result<(), BoxError> {
    match json {
        true => to_stdout(format_args!("{}\n", serde_json::to_string_pretty(report)?))?,
        false => to_stdout(report)?,
    }
    Ok(())
}

fn greeting(sim: &Sim, url: &str) -> String {
    let config = sim.config();
    let limit = |limit: Option<u64>| match limit {
        Some(limit) => Count(limit).to_string(),
        None => "unlimited".to_owned(),
    };
    let minute = Duration::from_secs(60).div_f64(config.speed);
    format!(
        "Simulated provider at {url}\n\
         {} tokens and {} requests a minute for each model; a minute takes {}\n\
         \n  export OPENAI_BASE_URL={url} OPENAI_API_KEY=any\n\
         \nCtrl-C stops it and prints what it saw.\n",
        limit(config.limits.tokens_per_minute),
        limit(config.limits.requests_per_minute),
        Span(minute),
    )
}

impl Args {
    fn config(&self) -> Result<Config, BoxError> {
        let mut config = self.base()?;
        if self.hard {
            config = config.hard();
        }
        set(
            &mut config.limits.tokens_per_minute,
            self.tpm.map(|tpm| tpm.0),
        );
        set(
            &mut config.limits.requests_per_minute,
            self.rpm.map(|rpm| rpm.0),
        );
        set(&mut config.enforcement, self.enforcement.map(How::into));
        set(&mut config.charge, self.charge.map(Rule::into));
        set(&mut config.speed, self.speed);
        set(&mut config.latency.first_token, self.latency);
        set(&mut config.latency.per_token, self.token_latency);
        set(&mut config.latency.spread, self.latency_spread);
        set(&mut config.seed, self.seed);
        if self.rpm_per_second {
            config.requests = RequestEnforcement::PerSecond;
        }
        config.true_up |= self.true_up;
        config.headers.retry_after |= self.retry_after;
        Ok(config)
    }

    fn base(&self) -> Result<Config, BoxError> {
        let Some(path) = &self.config else {
            return Ok(Config::default());
        };
        let what = || path.display().to_string();
        let text = std::fs::read(path).map_err(|error| failure::because(what(), error))?;
        let all: Value =
            serde_json::from_slice(&text).map_err(|error| failure::because(what(), error))?;
        if let Some(mut place) = list_in(&all) {
            place.reverse();
            let place = match &place[..] {
                [] => "it".to_owned(),
                place => place.join("."),
            };
            let said =
                format!("{place} is a list; an object of settings by their names is allowed");
            return Err(failure::because(what(), failure::error(said)));
        }
        // Not of what was read, which knows no places any more.
        serde_json::from_slice(&text).map_err(|error| failure::because(what(), error))
    }
}

/// Where something is written as a list, which would be read as settings in their order: the
/// names on the way there, the innermost first.
fn list_in(value: &Value) -> Option<Vec<&str>> {
    match value {
        Value::Array(_) => Some(Vec::new()),
        Value::Object(all) => all.iter().find_map(|(name, value)| {
            let mut place = list_in(value)?;
            place.push(name);
            Some(place)
        }),
        _ => None,
    }
}

fn set<T>(setting: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *setting = given;
    }
}

impl From<How> for Enforcement {
    fn from(how: How) -> Self {
        match how {
            How::Continuous => Self::Continuous,
            How::FixedMinute => Self::FixedMinute {
                phase: Duration::ZERO,
            },
            How::SlidingMinute => Self::SlidingMinute,
        }
    }
}

impl From<Rule> for ChargeRule {
    fn from(rule: Rule) -> Self {
        match rule {
            Rule::AsRequested => Self::AsRequested,
            Rule::Openai => Self::OpenAi,
        }
    }
}

/// As much as the simulator takes.
const MOST: u64 = 1_000_000_000_000;

fn limit(text: &str) -> Result<Limit, &'static str> {
    match text {
        "none" => Ok(Limit(None)),
        _ => text
            .parse()
            .ok()
            .filter(|limit| (1..=MOST).contains(limit))
            .map(|limit| Limit(Some(limit)))
            .ok_or("a whole number from 1 to 1000000000000, or `none`, is allowed"),
    }
}
