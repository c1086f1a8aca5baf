//! Interleaved rounds on a noisy machine.
//!
//! Whatever disturbs a machine lasts longer than one batch of calls, so a
//! subject is always timed right after the reference, and what counts is the
//! ratio of the two: the median over all rounds, with its quartiles.

use std::time::{Duration, Instant};

use super::calls::Run;

/// The wall's clock. Some benches pause tokio's, and a paused clock cannot
/// time anything.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that must not follow tokio's clock"
)]
pub(crate) fn wall() -> Instant {
    Instant::now()
}

pub(crate) fn nanos_per(time: Duration, times: usize) -> f64 {
    time.as_secs_f64() * 1e9 / times as f64
}

/// Middle, lower and upper quartile of some measurements.
#[derive(Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) low: f64,
    pub(crate) median: f64,
    pub(crate) high: f64,
}

impl Spread {
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |share: usize| values[(values.len() - 1) * share / 4];
        Spread {
            low: at(1),
            median: at(2),
            high: at(3),
        }
    }
}

/// A subject against the reference.
pub(crate) struct Duel {
    pub(crate) nanos: Spread,
    pub(crate) ratio: Spread,
}

/// Times every subject in every round, each right after the reference.
pub(crate) fn duels(
    reference: &mut Run,
    subjects: &mut [&mut Run],
    rounds: usize,
    calls: u32,
) -> Vec<Duel> {
    let mut times = vec![Vec::new(); subjects.len()];
    for _ in 0..rounds {
        for (subject, times) in subjects.iter_mut().zip(&mut times) {
            times.push((time(reference, calls), time(subject, calls)));
        }
    }
    times.into_iter().map(duel).collect()
}

fn duel(times: Vec<(f64, f64)>) -> Duel {
    Duel {
        nanos: Spread::of(times.iter().map(|(_, nanos)| *nanos).collect()),
        ratio: Spread::of(times.iter().map(|(unit, nanos)| nanos / unit).collect()),
    }
}

/// Nanoseconds a call.
fn time(run: &mut Run, calls: u32) -> f64 {
    let start = wall();
    run(calls);
    nanos_per(start.elapsed(), calls as usize)
}
