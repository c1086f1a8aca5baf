//! The handles of one queue's metrics, looked up once and kept.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Label, SharedString, counter, gauge, histogram};
use tokio::time::Instant;

use super::Name;
use super::figures::{COUNTERS, Figures, GAUGES};
use super::on::{
    CALLER_WAIT, DENIALS, REASONS, REFUSALS, WAIT, WAITING, labels, of, reason_index, scope_label,
};
use crate::error::Refused;
use crate::rules::stats::{SCOPES, Stats};

/// A handle belongs to the recorder that gave it out. It is asked for anew
/// once it is older than this, because an exporter may have forgotten an idle metric, with all
/// its handles, and another recorder may have come to lie at the address of
/// one that is gone.
const KEPT: Duration = Duration::from_secs(1);

/// The most callers that one queue tells by name: each is a time series. Names belong to
/// weights, which somebody wrote down, so there are hardly ever as many.
const MOST_CALLERS: usize = 100;

/// What all further ones are called.
const OTHER: &str = "other";

pub(super) struct Handles {
    recorder: usize,
    named: bool,
    resolved: Instant,
    wait: Histogram,
    /// Of the callers that are told by name, the first so many, and of all others.
    callers: Mutex<Vec<(Arc<str>, Histogram)>>,
    gauges: [OnceLock<Gauge>; GAUGES.len()],
    counters: [OnceLock<Counter>; COUNTERS.len()],
    denials: [OnceLock<Counter>; SCOPES.len()],
    refusals: [OnceLock<Counter>; REASONS.len()],
}

impl Handles {
    /// Looks up what every gate has.
    pub(super) fn resolve(name: Name<'_>, gate: &'static str) -> Self {
        Handles {
            recorder: present_recorder(),
            named: name.is_some(),
            resolved: Instant::now(),
            wait: histogram!(WAIT, of(name, "gate", gate)),
            callers: Mutex::default(),
            gauges: Default::default(),
            counters: Default::default(),
            denials: Default::default(),
            refusals: Default::default(),
        }
    }

    /// Whether the present recorder still listens to them.
    #[inline]
    pub(super) fn are_current(&self, name: Name<'_>, reads_clock: bool) -> bool {
        self.recorder == present_recorder()
            && self.named == name.is_some()
            && (!reads_clock || self.resolved.elapsed() < KEPT)
    }

    #[inline]
    pub(super) fn admitted(&self, waited: Option<Duration>) {
        self.wait.record(waited.unwrap_or_default().as_secs_f64());
    }

    /// The same, by the caller's name.
    pub(super) fn admitted_as(&self, name: Name<'_>, caller: &Arc<str>, waited: Option<Duration>) {
        let wait = self.wait_of(name, caller);
        wait.record(waited.unwrap_or_default().as_secs_f64());
    }

    fn wait_of(&self, name: Name<'_>, caller: &Arc<str>) -> Histogram {
        let known = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        let find = |caller: &str| known.iter().find(|(known, _)| **known == *caller);
        let is_full = known.len() >= MOST_CALLERS;
        let found = find(caller).or_else(|| is_full.then(|| find(OTHER)).flatten());
        if let Some((_, wait)) = found {
            return wait.clone();
        }
        let caller = if is_full {
            OTHER.into()
        } else {
            Arc::clone(caller)
        };
        // The recorder is asked under no lock of ours.
        drop(known);
        let mut labels = labels(name);
        labels.push(Label::new(
            "caller",
            SharedString::from(Arc::clone(&caller)),
        ));
        let wait = histogram!(CALLER_WAIT, labels);
        let mut known = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.iter().any(|(known, _)| *known == caller) {
            known.push((caller, wait.clone()));
        }
        wait
    }

    pub(super) fn refused(&self, name: Name<'_>, gate: &'static str, refused: &Refused) {
        let index = reason_index(refused);
        let counter = kept(&self.refusals[index], || {
            let mut labels = of(name, "gate", gate);
            labels.push(Label::from_static_parts("reason", REASONS[index]));
            counter!(REFUSALS, labels)
        });
        counter.increment(1);
    }

    /// Tells what has changed since it was `told`.
    #[inline]
    pub(super) fn tell(&self, name: Name<'_>, gate: &'static str, told: &mut Figures, now: &Stats) {
        told.each_gauge(now, |index, value| {
            let gauge = kept(&self.gauges[index], || match GAUGES[index] {
                WAITING => gauge!(WAITING, of(name, "gate", gate)),
                metric => gauge!(metric, labels(name)),
            });
            gauge.set(value);
        });
        told.each_counter(&now.counts, |index, more| {
            let counter = kept(&self.counters[index], || {
                counter!(COUNTERS[index], labels(name))
            });
            counter.increment(more);
        });
        told.each_denial(&now.counts, |index, more| {
            let counter = kept(&self.denials[index], || {
                counter!(DENIALS, of(name, "scope", scope_label(SCOPES[index])))
            });
            counter.increment(more);
        });
    }
}

/// What is kept, or else looked up and kept. The recorder is not asked from
/// within `get_or_init`: it might come back here.
#[inline]
fn kept<T>(place: &OnceLock<T>, look_up: impl FnOnce() -> T) -> &T {
    if let Some(kept) = place.get() {
        return kept;
    }
    let found = look_up();
    place.get_or_init(|| found)
}

/// Tells recorders apart.
#[inline]
fn present_recorder() -> usize {
    metrics::with_recorder(|recorder| std::ptr::from_ref(recorder).addr())
}

/// Shared by whoever tells just now.
pub(super) type Shared = Arc<Handles>;
