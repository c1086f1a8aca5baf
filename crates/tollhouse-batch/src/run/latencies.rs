//! How long a run's requests waited, and their answers took.

use sketches_ddsketch::{Config, DDSketch};
use tokio::time::Duration;

use crate::summary::Percentiles;

/// Every percentile is told this exactly, whatever the spread: within 0.5 %.
const RELATIVE_ERROR: f64 = 0.005;
/// Enough for times from a nanosecond to a century; 32 KB at most.
const MAX_BINS: u32 = 4_096;
const LEAST_SECONDS: f64 = 1e-9;

/// Times in flat memory, however many there are.
pub(crate) struct Latencies {
    waiting: DDSketch,
    answers: DDSketch,
}

impl Latencies {
    pub(crate) fn new() -> Self {
        let config = Config::new(RELATIVE_ERROR, MAX_BINS, LEAST_SECONDS);
        Self {
            waiting: DDSketch::new(config),
            answers: DDSketch::new(config),
        }
    }

    /// A request was answered: so long after its start, having waited, as far as
    /// is known, so long until it was sent for the last time.
    pub(crate) fn add(&mut self, waited: Option<Duration>, elapsed: Duration) {
        if let Some(waited) = waited {
            self.waiting.add(waited.as_secs_f64());
        }
        let answer = elapsed.saturating_sub(waited.unwrap_or_default());
        self.answers.add(answer.as_secs_f64());
    }

    pub(crate) fn waiting(&self) -> Option<Percentiles> {
        percentiles(&self.waiting)
    }

    pub(crate) fn answers(&self) -> Option<Percentiles> {
        percentiles(&self.answers)
    }
}

fn percentiles(times: &DDSketch) -> Option<Percentiles> {
    let at = |share| {
        // Only a share outside of 0 to 1 is refused.
        let seconds = times.quantile(share).ok().flatten()?;
        Duration::try_from_secs_f64(seconds).ok()
    };
    Some(Percentiles {
        p50: at(0.5)?,
        p95: at(0.95)?,
        p99: at(0.99)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_within_half_a_percent() {
        let mut latencies = Latencies::new();
        assert_eq!(latencies.waiting(), None);
        for millis in 1..=10_000 {
            let waited = Duration::from_millis(millis);
            latencies.add(Some(waited), waited * 3);
        }
        let waiting = latencies.waiting().expect("some waited");
        let answers = latencies.answers().expect("some were answered");
        for (found, seconds) in [
            (waiting.p50, 5.0),
            (waiting.p95, 9.5),
            (waiting.p99, 9.9),
            (answers.p50, 10.0),
            (answers.p99, 19.8),
        ] {
            let off = (found.as_secs_f64() - seconds).abs() / seconds;
            assert!(off <= 0.006, "{found:?} for {seconds} s");
        }
    }

    #[test]
    fn what_did_not_wait_waited_no_time() {
        let mut latencies = Latencies::new();
        latencies.add(Some(Duration::ZERO), Duration::ZERO);
        let waiting = latencies.waiting().expect("one was sent");
        assert_eq!(waiting.p99, Duration::ZERO);
        latencies.add(None, Duration::from_secs(1));
        assert_eq!(
            latencies.waiting().map(|waiting| waiting.p50),
            Some(Duration::ZERO)
        );
    }
}
