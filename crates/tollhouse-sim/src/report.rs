//! What the provider saw.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What the provider saw, from the first call until now.
///
/// A *call* is a `POST` to one of the model endpoints; lists of models and
/// unknown routes are not counted. Times are in the client's time; a *minute*
/// is the provider's, 60 s / speed.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # fn chat(tokens: u64) -> http::Request<String> {
/// #     let (asked, said) = (tokens - 4, r#"[{"role":"user","content":"Hi there"}]"#);
/// #     let body = format!(r#"{{"model":"gpt-4o","max_tokens":{asked},"messages":{said}}}"#);
/// #     http::Request::post("/v1/chat/completions").body(body).unwrap()
/// # }
/// use std::time::Duration;
/// use tollhouse_sim::Sim;
/// use tower::ServiceExt;
///
/// // `chat(600)` is a chat of 600 tokens.
/// let sim = Sim::builder().build()?;
/// for _ in 0..3 {
///     drop(sim.service().oneshot(chat(600)).await?);
///     tokio::time::sleep(Duration::from_secs(15)).await;
/// }
/// let report = sim.report();
/// assert_eq!((report.arrived, report.peak_in_flight), (3, 1));
/// assert_eq!(report.elapsed_minutes, 0.5);
/// assert_eq!(report.models["gpt-4o"].tokens_charged, 1_800);
/// assert!(report.to_string().starts_with("arrived      3 in 30.000 s"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Calls whose head arrived.
    pub arrived: u64,
    /// Calls answered 400, 401, 404, 408 or 413.
    pub invalid: u64,
    /// Calls answered 503 because of
    /// [`bounds.memory_bytes`](crate::Bounds::memory_bytes).
    #[serde(default)]
    pub overloaded: u64,
    /// Calls that have arrived and have not ended yet: an answer ends when its
    /// last byte was handed on, or when the client drops it.
    pub in_flight: u64,
    /// The most calls that were in flight at once.
    pub peak_in_flight: u64,
    /// The least time between two arrivals, in seconds.
    pub least_gap_seconds: Option<f64>,
    /// From the first arrival to the last, in seconds.
    pub elapsed_seconds: f64,
    /// The same in provider's minutes.
    pub elapsed_minutes: f64,
    /// Different requests among those that were answered in full. How the
    /// answer is delivered (`stream`) makes no difference. The first 1,048,576
    /// are remembered; what comes after them counts as different.
    pub distinct: u64,
    /// Requests that were answered in full once more than needed.
    pub repeated: u64,
    /// All models together.
    #[serde(flatten)]
    pub total: Tally,
    /// Each model that was called.
    pub models: BTreeMap<String, Tally>,
}

/// What became of the calls, and of the tokens.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// Calls that passed the limits.
    pub admitted: u64,
    /// Calls answered to the last byte.
    pub completed: u64,
    /// Calls that were admitted and whose client left before the last byte.
    pub abandoned: u64,
    /// Calls answered 429.
    pub rejected: Rejected,
    /// Calls that met a fault.
    pub faults: Faulted,
    /// Tokens charged, after any true-up.
    pub tokens_charged: u64,
    /// Tokens really used by admitted calls: the prompt and what was generated
    /// of the answer. A call that met an error or a reset used none.
    pub tokens_used: u64,
    /// The most that could have been charged from the first call to the last:
    /// with continuous refill, what the bucket held at first and the refill
    /// since, others' use taken off; with fixed minutes, the limit for each
    /// minute of the clock that was touched; with sliding minutes, the limit,
    /// others' use taken off, once and again for each whole minute since.
    /// `None` where tokens are not limited.
    pub tokens_allowed: Option<u64>,
    /// Charged of allowed, as a share; `None` where tokens are not limited.
    pub utilisation: Option<f64>,
    /// The most tokens charged at admission within one minute of the
    /// provider's clock, which starts with the first call unless fixed
    /// minutes have a phase.
    pub peak_tokens_clock_minute: u64,
    /// The most tokens charged at admission within any minute, however
    /// aligned.
    pub peak_tokens_any_minute: u64,
}

/// Calls answered 429, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// The minute's tokens were used up.
    pub tokens: u64,
    /// The minute's requests were used up.
    pub requests: u64,
    /// More tokens than the limit was asked for.
    pub too_large: u64,
    /// There was a storm.
    pub storm: u64,
}

impl Rejected {
    /// For whatever reason.
    pub fn total(&self) -> u64 {
        self.tokens + self.requests + self.too_large + self.storm
    }
}

/// Calls that met a fault, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faulted {
    /// Answered 500.
    pub server_error: u64,
    /// Answered 503.
    pub unavailable: u64,
    /// The connection was reset.
    pub reset: u64,
    /// The stream broke off.
    pub cut: u64,
}

impl Faulted {
    /// Of whatever kind.
    pub fn total(&self) -> u64 {
        self.server_error + self.unavailable + self.reset + self.cut
    }
}

// ===== Display =====

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = &self.total;
        row(f, "arrived", &self.arrivals())?;
        row(f, "admitted", &total.endings())?;
        row(f, "rejected", &total.rejected)?;
        row(f, "faults", &total.faults)?;
        row(f, "invalid", &self.invalid)?;
        if self.overloaded > 0 {
            row(f, "overloaded", &self.overloaded)?;
        }
        row(f, "in flight", &self.flight())?;
        row(f, "least gap", &Gap(self.least_gap_seconds))?;
        row(f, "repeated", &self.repetitions())?;
        row(f, "tokens", &total.tokens())?;
        row(f, "peak tokens", &total.peaks())?;
        if self.models.len() < 2 {
            return Ok(());
        }
        for (model, tally) in &self.models {
            writeln!(f, "{model}")?;
            row(f, "  admitted", &tally.endings())?;
            row(f, "  rejected", &tally.rejected)?;
            row(f, "  tokens", &tally.tokens())?;
        }
        Ok(())
    }
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, value: &dyn fmt::Display) -> fmt::Result {
    writeln!(f, "{name:<13}{value}")
}

impl Report {
    fn arrivals(&self) -> String {
        let (seconds, minutes) = (self.elapsed_seconds, self.elapsed_minutes);
        format!(
            "{} in {seconds:.3} s ({minutes:.2} provider's minutes)",
            self.arrived
        )
    }

    fn flight(&self) -> String {
        format!("{} now, {} at most", self.in_flight, self.peak_in_flight)
    }

    fn repetitions(&self) -> String {
        format!("{} of {} different requests", self.repeated, self.distinct)
    }
}

impl Tally {
    fn endings(&self) -> String {
        let Self {
            admitted,
            completed,
            abandoned,
            ..
        } = self;
        format!("{admitted}: {completed} answered in full, {abandoned} abandoned")
    }

    fn tokens(&self) -> String {
        let (charged, used) = (self.tokens_charged, self.tokens_used);
        match (self.tokens_allowed, self.utilisation) {
            (Some(allowed), Some(share)) => {
                let percent = share * 100.0;
                format!("{charged} charged of {allowed} allowed ({percent:.1} %), {used} used")
            }
            _ => format!("{charged} charged, no limit, {used} used"),
        }
    }

    fn peaks(&self) -> String {
        format!(
            "{} in a minute of the clock, {} in any minute",
            self.peak_tokens_clock_minute, self.peak_tokens_any_minute
        )
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} tokens, {} requests, {} too large, {} storm",
            self.total(),
            self.tokens,
            self.requests,
            self.too_large,
            self.storm
        )
    }
}

impl fmt::Display for Faulted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} status 500, {} status 503, {} resets, {} cut streams",
            self.total(),
            self.server_error,
            self.unavailable,
            self.reset,
            self.cut
        )
    }
}

struct Gap(Option<f64>);

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(seconds) => write!(f, "{seconds:.6} s"),
            None => f.write_str("none"),
        }
    }
}

impl Report {
    /// The least time between two arrivals.
    pub fn least_gap(&self) -> Option<Duration> {
        self.least_gap_seconds.map(Duration::from_secs_f64)
    }
}
