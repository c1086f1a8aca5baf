//! What `tollhouse batch` can be asked for.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::{PathBufValueParser, TypedValueParser};
use http::Uri;
use tollhouse_batch::{Changed, Money};
use tollhouse_openai::{Account, AccountConfig, Caller};

use super::files::{self, Place};
use crate::failure::{self, BoxError};
use crate::flags::{caller, non_zero, time};
use crate::policy_args::{ClientArgs, PolicyArgs};

const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// Send the requests of a file, within the limits, and write the answers as they come
///
/// Input and output are in the form of the OpenAI Batch API; the input may also
/// be bare request bodies, and packed with gzip. It is read once before
/// anything is sent: a file with two lines of one custom_id is refused, and one
/// with lines that can never fit the limits, or that were changed since they were answered, too. A run that was interrupted or
/// killed goes on when the same command is given again: what the output or the
/// errors file holds is not sent again.
///
/// Ctrl-C sends nothing more and waits for the answers under way; a second one
/// stops at once.
///
/// Exit code: 0 all answered, 1 some failed (also in an earlier run) or the run
/// was given up, 2 some lines are no requests, 130 interrupted, also by --deadline or
/// --cost-limit.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Requests in the form of the OpenAI Batch API, `-` for standard input
    #[arg(value_name = "IN.jsonl")]
    pub(super) input: Place,

    /// Where answers go, `-` for standard output
    #[arg(short, long, value_name = "OUT.jsonl")]
    pub(super) output: Place,

    /// Where failed requests go; has to be said with --output - [default: OUT.errors.jsonl]
    #[arg(long, value_name = "ERR.jsonl", value_parser = a_file())]
    errors: Option<PathBuf>,

    /// Send again what failed in an earlier run
    #[arg(long)]
    pub(super) retry_errors: bool,

    /// What to do with lines that were changed since an earlier run answered them: refuse the
    /// file, send them again, or keep the old answers
    #[arg(long, value_enum, value_name = "WHAT", default_value_t)]
    pub(super) changed: ChangedLines,

    /// Write answers in the order of the input
    #[arg(long)]
    pub(super) ordered: bool,

    /// Where bare request bodies go [default: as `messages`, `prompt` and `input` tell]
    #[arg(long, value_name = "PATH", value_parser = endpoint)]
    pub(super) url: Option<Uri>,

    /// Send the others where some requests can never fit the limits; those go to the errors
    #[arg(long)]
    pub(super) skip_impossible: bool,

    /// Go on where it is hopeless: with the quota exhausted, or a key that is not accepted
    #[arg(long)]
    pub(super) keep_going: bool,

    /// Give up when the provider has been away or overloaded for so long, as 90s, 10m or 1h30m
    /// [default: wait for it]
    #[arg(long, value_name = "TIME", value_parser = time, allow_negative_numbers = true)]
    pub(super) give_up_after: Option<Duration>,

    /// Send nothing more after so long, as 90s, 10m or 2h; the same command goes on from there
    #[arg(long, value_name = "TIME", value_parser = time, allow_negative_numbers = true)]
    pub(super) deadline: Option<Duration>,

    /// What tokens cost, to tell what the run cost: a TOML file with a `[prices."MODEL"]` of
    /// `input`, `cached` and `output` for a million tokens
    #[arg(long, value_name = "FILE.toml")]
    pub(super) prices: Option<PathBuf>,

    /// Send nothing that could make the run cost more than this, in the currency of --prices; the
    /// same command goes on from there
    #[arg(
        long,
        value_name = "AMOUNT",
        value_parser = amount,
        allow_negative_numbers = true,
        requires = "prices"
    )]
    pub(super) cost_limit: Option<Money>,

    /// The longest delay told by the provider that is waited for, as 90s, 10m or 2h
    #[arg(
        long,
        value_name = "TIME",
        value_parser = told_delay,
        allow_negative_numbers = true,
        default_value = "1h"
    )]
    pub(super) max_told_delay: Duration,

    /// About how much of the answers to hold in memory, in MB; fewer requests are taken at once
    /// where answers are long
    #[arg(
        long,
        value_name = "MB",
        value_parser = non_zero,
        allow_negative_numbers = true,
        default_value = "256"
    )]
    pub(super) answer_megabytes: std::num::NonZeroU32,

    /// Give up when more than this share has failed, counted from the twentieth on
    #[arg(long, value_name = "SHARE", value_parser = share, allow_negative_numbers = true)]
    pub(super) max_failures: Option<f64>,

    /// Write what the run came to into this file, as JSON
    #[arg(long, value_name = "FILE.json", value_parser = a_file())]
    pub(super) summary: Option<PathBuf>,

    /// Show in a browser how it goes, while it goes; at a loopback address, on a free port unless
    /// one is given
    #[arg(
        long,
        value_name = "ADDRESS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "127.0.0.1:0",
        value_parser = loopback
    )]
    pub(super) page: Option<SocketAddr>,

    /// Leave that page behind in this file, as it is at the end; it needs no server
    #[arg(long, value_name = "FILE.html", value_parser = a_file())]
    pub(super) report: Option<PathBuf>,

    /// Who asks, where the account is shared
    #[arg(long, value_name = "NAME", value_parser = caller, default_value = "batch")]
    pub(super) caller: String,

    /// The share of that caller against others' [default: as the file says, else 1]
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000),
        allow_negative_numbers = true
    )]
    pub(super) weight: Option<u32>,

    /// Wait for nothing and refuse nothing, and tell at the end what would have waited or been
    /// refused; the provider's own limits hold all the same
    #[arg(long)]
    pub(super) dry_run: bool,

    /// Show neither progress nor summary
    #[arg(short, long)]
    pub(super) quiet: bool,

    #[command(flatten)]
    pub(super) client: ClientArgs,

    #[command(flatten)]
    pub(super) policy: PolicyArgs,
}

/// What becomes of lines that were changed since an earlier run answered them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum ChangedLines {
    #[default]
    Refuse,
    Send,
    Keep,
}

impl From<ChangedLines> for Changed {
    fn from(changed: ChangedLines) -> Self {
        match changed {
            ChangedLines::Refuse => Self::Refuse,
            ChangedLines::Send => Self::Send,
            ChangedLines::Keep => Self::Keep,
        }
    }
}

impl Args {
    /// The account as this run uses it.
    pub(super) fn over(&self, mut config: AccountConfig) -> AccountConfig {
        // Nobody waits in front of a batch.
        config.defaults.max_told_delay = self.max_told_delay;
        config.dry_run |= self.dry_run;
        if let Some(weight) = self.weight {
            config.set_caller(&*self.caller, weight);
        }
        config
    }

    /// Who asks, as the account weighs it.
    pub(super) fn caller(&self, account: &Account) -> Caller {
        let weight = account.config().weight_of(&self.caller);
        Caller::new(&*self.caller).weight(weight.unwrap_or(1))
    }

    pub(super) fn answer_bytes(&self) -> usize {
        let bytes = u64::from(self.answer_megabytes.get()) * 1_000_000;
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// The errors file, which must be none of the others.
    pub(super) fn errors(&self) -> Result<PathBuf, BoxError> {
        let errors = match (&self.errors, self.output.file()) {
            (Some(errors), _) => errors.clone(),
            (None, Some(output)) => files::errors_beside(output),
            (None, None) => {
                return Err(failure::error(
                    "--errors is missing: with --output - it must name a file for failed requests",
                ));
            }
        };
        let (summary, report) = (self.summary.as_deref(), self.report.as_deref());
        files::all_different(&[
            ("IN.jsonl", self.input.file()),
            ("--config", self.policy.file().as_deref()),
            ("--prices", self.prices.as_deref()),
            ("--output", self.output.file()),
            ("--errors", Some(&errors)),
            ("--summary", summary),
            ("--report", report),
        ])?;
        // These are written at the end alone.
        files::has_a_folder(("--summary", summary))?;
        files::has_a_folder(("--report", report))?;
        Ok(errors)
    }
}

/// A path, as a flag gives it.
pub(crate) fn endpoint(text: &str) -> Result<Uri, &'static str> {
    tollhouse_batch::endpoint(text).ok_or("a path such as /v1/chat/completions is allowed")
}

/// Standard output is the answers' alone.
fn a_file() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| match path == Path::new("-") {
        true => Err("a file is allowed, such as ./-, and no standard output"),
        false => Ok(path),
    })
}

/// Nobody shows a token to that page.
fn loopback(text: &str) -> Result<SocketAddr, &'static str> {
    let address: Option<SocketAddr> = text.parse().ok();
    address
        .filter(|address| address.ip().is_loopback())
        .ok_or("a loopback address with a port, such as 127.0.0.1:8790, is allowed")
}

fn amount(text: &str) -> Result<Money, &'static str> {
    let units = text.parse().ok().filter(|units: &f64| units.is_finite());
    units
        .and_then(Money::new)
        .ok_or("an amount such as 5 or 12.50 is allowed")
}

/// As long as a policy allows.
fn told_delay(text: &str) -> Result<Duration, &'static str> {
    let time = time(text).ok().filter(|time| *time <= YEAR);
    time.ok_or("a time such as 90s, 10m, 2h or 1h30m, at most 365d, is allowed")
}

fn share(text: &str) -> Result<f64, &'static str> {
    let share = text.parse().ok();
    share
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or("a number from 0 to 1 is allowed")
}
