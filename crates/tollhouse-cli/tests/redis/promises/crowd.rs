//! Eight processes of one account, each with more to do than it may.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tollhouse_sim::{Builder, Sim};

use crate::common::{Files, Provider, Started, directory, run, start, text, tollhouse, until};
use crate::server::Redis;
use serde_json::Value;

use super::clients::{COST, Clients};

/// How many.
pub(super) const MANY: usize = 8;

/// What the provider allows, in tokens.
pub(super) const A_MINUTE: u64 = 2_400_000;
pub(super) const A_SECOND: u64 = A_MINUTE / 60;

/// What lines ask for, in tokens: 1,000 on average.
const SIZES: [u64; 8] = [150, 150, 300, 400, 600, 800, 1_600, 4_000];

/// One in some hundred is of three seconds' worth of a process's share.
const LARGE: u64 = 15_000;

/// A provider that has next to nothing at first, so that what is spent too much is refused, and
/// whose answers take as long as some do.
pub(super) fn provider() -> Builder {
    Sim::builder()
        .tokens_per_minute(A_MINUTE)
        .requests_per_minute(30_000)
        .start_level(2.0 * COST as f64 / A_MINUTE as f64)
        .latency(Duration::from_millis(200), Duration::ZERO)
        .latency_spread(0.5)
}

/// The file of them all.
fn configuration(headroom: f64) -> String {
    format!(
        r#"
[defaults]
tokens_per_minute = {A_MINUTE}
requests_per_minute = 30000
headroom = {headroom}
max_concurrency = 400
stagger_seconds = 0
cautious_start = false
window = "off"
"#
    )
}

/// What all share.
pub(super) struct Crowd {
    pub(super) provider: Provider,
    /// Since when it refills.
    since: Instant,
    file: String,
}

impl Crowd {
    pub(super) async fn new(test: &str, headroom: f64) -> Self {
        let file = directory(test).join("tollhouse.toml");
        fs::write(&file, configuration(headroom)).expect("a file");
        let provider = Provider::start(provider()).await;
        // It refills from its first call on, and so before any ledger does.
        let since = Instant::now();
        Clients::of(&provider.url()).call_once().await;
        Crowd {
            provider,
            since,
            file: text(&file).to_owned(),
        }
    }

    pub(super) fn command(&self, redis: &str, arguments: &[&str]) -> Command {
        let mut command = self.provider.tollhouse(arguments);
        command
            .env_remove("OPENAI_STAGGER_SECONDS")
            .env("RUST_LOG", "warn")
            .args(["--config", &self.file, "--redis", redis]);
        command
    }

    /// Starts a batch, or goes on with one.
    pub(super) fn batch(&self, redis: &str, files: &Files) -> Started {
        start(self.command(redis, &files.arguments(&[])), &files.stderr)
    }

    /// Tokens that were charged until now, and when that is.
    pub(super) fn charged(&self) -> Charged {
        Charged {
            at: Instant::now(),
            tokens: self.provider.sim.report().total.tokens_charged,
        }
    }

    /// Waits until what the provider refilled meanwhile is spent, but for a second's worth: what
    /// is used from then on is what is allowed from then on. A machine that is too busy for that
    /// is not waited for.
    pub(super) async fn until_saturated(&self) {
        let patience = Instant::now() + Duration::from_secs(20);
        while Instant::now() < patience {
            let charged = self.charged();
            let refilled = A_SECOND as f64 * (charged.at - self.since).as_secs_f64();
            if refilled - (charged.tokens as f64) < A_SECOND as f64 {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until so many tokens were charged.
    pub(super) async fn until_charged(&self, tokens: u64) {
        until("tokens to be spent", || self.charged().tokens >= tokens).await;
    }

    /// Calls that were refused until now, and calls in all.
    pub(super) fn refused(&self) -> (u64, u64) {
        let report = self.provider.sim.report();
        (report.total.rejected.total(), report.arrived)
    }
}

/// What was charged at one moment.
#[derive(Clone, Copy)]
pub(super) struct Charged {
    at: Instant,
    tokens: u64,
}

impl Charged {
    /// In percent of what the provider allowed meanwhile.
    pub(super) fn used_until(self, later: Charged) -> f64 {
        let allowed = A_SECOND as f64 * (later.at - self.at).as_secs_f64();
        100.0 * (later.tokens - self.tokens) as f64 / allowed
    }
}

/// Files of batches that all together have so many seconds' worth to do.
pub(super) fn work(test: &str, seconds: u64) -> Vec<Files> {
    let each = A_SECOND * seconds / MANY as u64;
    let files = (0..MANY).map(|n| Files::new(&format!("{test}-{n}"), lines(n as u64, each)));
    files.collect()
}

/// Mixed ones of so many tokens, in an order of its own for each seed.
fn lines(seed: u64, tokens: u64) -> String {
    let mut random = seed + 1;
    let (mut all, mut sum, mut count) = (String::new(), 0, 0);
    while sum < tokens {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let drawn = random >> 40;
        let size = match drawn % 300 {
            0 => LARGE,
            _ => SIZES[(drawn % SIZES.len() as u64) as usize],
        };
        all += &crate::common::line(&format!("r{count}"), size);
        all.push('\n');
        (sum, count) = (sum + size, count + 1);
    }
    all
}

/// Of those who write here, how many processes each that went on alone had been told of when it last did.
pub(super) fn alone(files: &[Files]) -> Vec<u64> {
    let told = |files: &Files| {
        let said = fs::read_to_string(&files.stderr).unwrap_or_default();
        let warned = said.lines().rev();
        let line = warned
            .filter(|line| line.contains("going on without the shared ledger"))
            .find_map(|line| Some(line.split_once("processes=")?.1.to_owned()))?;
        Some(line.trim().parse().expect("a number"))
    };
    files.iter().filter_map(told).collect()
}

/// How an account stands; `None` where Redis does not tell in time.
pub(super) fn status(redis: &Redis) -> Option<Value> {
    let url = redis.url();
    let ran = run(tollhouse(&["account", "status", "--json", "--redis", &url]));
    serde_json::from_str(&ran.stdout).ok()
}

/// Waits until a ledger that was lost grants again.
pub(super) async fn until_granted(redis: &Redis) {
    until("the ledger to grant again", || {
        let Some(status) = status(redis) else {
            return false;
        };
        status["learning_seconds"] == 0.0
    })
    .await;
}

/// Waits until every process was told of all the others: each has asked twice since all were
/// there, so that it has the answer to one of the two.
pub(super) async fn until_known_to_all(redis: &Redis) {
    let mut since = None;
    until("each to know of all", || {
        let Some(now) = status(redis).map(|status| reports(&status)) else {
            return false;
        };
        let since: &Vec<u64> = match now.len() {
            MANY => since.get_or_insert_with(|| now.clone()),
            _ => return false,
        };
        now.iter().zip(since).all(|(now, then)| *now >= then + 2)
    })
    .await;
}

/// How often each process has asked, by its name.
fn reports(status: &Value) -> Vec<u64> {
    let processes = status["processes"].as_array().expect("a list");
    let by_name: BTreeMap<_, _> = processes
        .iter()
        .map(|it| (it["process"].to_string(), it["reports"].as_u64()))
        .collect();
    let reports = by_name.into_values();
    reports.map(|it| it.expect("a number")).collect()
}

/// What came to a server of the two commands that run a script.
pub(super) async fn calls(redis: &Redis) -> u64 {
    let told = redis.ask("INFO commandstats").await;
    let of = |name: &str| {
        let line = told.lines().find_map(|line| line.strip_prefix(name));
        let count = line.and_then(|line| line.split(',').next());
        count.map_or(0, |count| count.parse().expect("a number"))
    };
    of("cmdstat_evalsha:calls=") + of("cmdstat_eval:calls=")
}
