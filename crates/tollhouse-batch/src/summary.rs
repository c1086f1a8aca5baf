//! What a run came to.

use std::fmt;

use serde::Serialize;
use tokio::time::Duration;

use crate::event::{EndedBy, Event};
use crate::format::{Count, Counted, Span, as_seconds};
use crate::money::Money;

/// What a run came to. As JSON, `elapsed` is `elapsed_seconds`, and `outage`
/// `outage_seconds`.
///
/// `total` is the sum of `ok`, `failed`, `skipped`, `bad_lines`, `withdrawn`
/// and `unwritten`.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use bytes::Bytes;
/// # use http::{Request, Response};
/// # use http_body_util::Full;
/// use tollhouse_batch::Batch;
///
/// let service = tower::service_fn(async |_: Request<Bytes>| {
///     let answer = r#"{"usage":{"total_tokens":12}}"#;
///     Ok::<_, std::io::Error>(Response::new(Full::new(Bytes::from(answer))))
/// });
/// let input = r#"{"model":"gpt-4o","messages":[]}
/// {"model":"gpt-4o"}"#;
/// let run = Batch::new(service).run(input.as_bytes(), Vec::new(), Vec::new());
/// let summary = run.await?;
/// assert_eq!(
///     summary.to_string(),
///     "1 answered, 1 bad line; 12 tokens in 0s"
/// );
/// assert_eq!(serde_json::to_value(&summary)?["elapsed_seconds"], 0.0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Summary {
    /// Lines read, blank ones left out.
    pub total: u64,
    /// Requests answered with success, now in the output.
    pub ok: u64,
    /// Requests that failed, now in the errors.
    pub failed: u64,
    /// Requests that an earlier run had answered.
    pub skipped: u64,
    /// Lines that are not requests.
    pub bad_lines: u64,
    /// Requests left for a later run: called back before they were sent, because
    /// the run stopped, or failed in a way that made it be given up.
    pub withdrawn: u64,
    /// Requests whose answers could not be written; they are in
    /// [`Error::unwritten`](crate::Error::unwritten).
    pub unwritten: u64,
    /// Tokens used, as far as the answers in the output say
    /// (`usage.total_tokens`).
    pub tokens: u64,
    /// Time from the start to the end of the run.
    #[serde(rename = "elapsed_seconds", serialize_with = "as_seconds")]
    pub elapsed: Duration,
    /// Time in which the provider was away; ended [outages](Event::Outage) only.
    #[serde(rename = "outage_seconds", serialize_with = "as_seconds")]
    pub outage: Duration,
    /// How long requests that were answered had waited when they were sent for
    /// the last time; needs a [`SentLayer`](crate::SentLayer).
    pub waiting: Option<Percentiles>,
    /// How long their answers took from then to the last byte; without a
    /// `SentLayer` from the start, waiting included.
    pub answers: Option<Percentiles>,
    /// What the run cost, where [prices](crate::Batch::prices) are known. What was
    /// sent and did not tell its usage counts with its estimate.
    pub cost: Option<Money>,
    /// The bound that ended the run before the end of its input, if one did.
    pub ended_by: Option<EndedBy>,
    /// Why the run was given up, if it was.
    pub gave_up: Option<String>,
    /// Whether the run was stopped before the end of its input.
    pub interrupted: bool,
}

/// Of all times half, 95 and 99 in a hundred are no longer; within 0.5 %. As
/// JSON in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Percentiles {
    /// The median.
    #[serde(serialize_with = "as_seconds")]
    pub p50: Duration,
    /// No longer in 95 of 100.
    #[serde(serialize_with = "as_seconds")]
    pub p95: Duration,
    /// No longer in 99 of 100.
    #[serde(serialize_with = "as_seconds")]
    pub p99: Duration,
}

impl Summary {
    /// Whether every line now has a successful answer.
    ///
    /// # Examples
    ///
    /// ```
    /// use tollhouse_batch::Summary;
    ///
    /// let mut summary = Summary::default();
    /// (summary.total, summary.skipped, summary.ok) = (5, 3, 2);
    /// assert!(summary.is_complete());
    /// (summary.total, summary.failed) = (6, 1);
    /// assert!(!summary.is_complete());
    /// ```
    pub fn is_complete(&self) -> bool {
        !self.interrupted && self.ok + self.skipped == self.total
    }

    /// Adds what has happened: a summary is the sum of a run's events.
    pub(crate) fn count(&mut self, event: &Event) {
        match event {
            Event::Started(_) => self.total += 1,
            Event::Sent(_) | Event::PutBack(_) => {}
            Event::Outage { .. } | Event::Stopping { .. } => {}
            Event::Recovered { lasted } => self.outage += *lasted,
            Event::Ending(ended_by) => self.ended_by = Some(*ended_by),
            Event::GivingUp { reason } => self.gave_up = Some(reason.to_string()),
            Event::Finished { tokens, .. } => {
                self.ok += 1;
                self.tokens += tokens.unwrap_or(0);
            }
            Event::Failed { .. } => self.failed += 1,
            Event::Unwritten(_) => self.unwritten += 1,
            Event::Withdrawn(_) => {
                self.withdrawn += 1;
                self.interrupted = true;
            }
            Event::Skipped(_) => {
                self.total += 1;
                self.skipped += 1;
            }
            Event::BadLine(_) => {
                self.total += 1;
                self.bad_lines += 1;
            }
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} answered", Count(self.ok))?;
        let others = [
            (self.failed, "failed"),
            (self.skipped, "already done"),
            (self.withdrawn, "put off"),
            (self.unwritten, "not saved"),
        ];
        for (count, what) in others.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, ", {} {what}", Count(count))?;
        }
        if self.bad_lines > 0 {
            write!(f, ", {}", Counted(self.bad_lines, "bad line"))?;
        }
        write!(
            f,
            "; {} in {}",
            Counted(self.tokens, "token"),
            Span(self.elapsed)
        )?;
        if !self.outage.is_zero() {
            write!(f, "; the provider was away for {}", Span(self.outage))?;
        }
        if let Some(reason) = &self.gave_up {
            write!(f, "; given up: {reason}")?;
        } else if self.interrupted {
            match self.ended_by {
                Some(ended_by) => write!(f, "; {ended_by}")?,
                None => write!(f, "; interrupted")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { p50, p95, p99 } = *self;
        write!(
            f,
            "p50 {:.2}, p95 {:.2}, p99 {:.2}",
            Span(p50),
            Span(p95),
            Span(p99)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary() -> Summary {
        Summary {
            total: 1_300,
            ok: 1_297,
            failed: 2,
            bad_lines: 1,
            tokens: 182_113,
            elapsed: Duration::from_millis(252_400),
            ..Summary::default()
        }
    }

    #[test]
    fn display_leaves_out_what_did_not_happen() {
        assert_eq!(
            summary().to_string(),
            "1,297 answered, 2 failed, 1 bad line; 182,113 tokens in 4m 12s"
        );
    }

    #[test]
    fn json_has_seconds() {
        let json = serde_json::to_value(summary()).expect("a summary is JSON");
        assert_eq!(json["elapsed_seconds"], 252.4);
        assert_eq!(json["interrupted"], false);
    }

    #[test]
    fn only_a_run_without_gaps_is_complete() {
        assert!(!summary().is_complete());
        let whole = Summary {
            total: 3,
            ok: 1,
            skipped: 2,
            ..Summary::default()
        };
        assert!(whole.is_complete());
    }
}
