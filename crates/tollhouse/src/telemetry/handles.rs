//! The handles of one queue's metrics, looked up once and kept.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Label, counter, gauge, histogram};
use tokio::time::Instant;

use super::Name;
use super::on::{
    DENIALS, HELD, HOLDS, IN_FLIGHT, IN_TRANSIT, LAUNCHES, LEVEL, LIMIT, OUTSTANDING, REASONS,
    REFUNDED, REFUSALS, RESERVED, SETTLED, SLOTS, WAIT, WAITING, of, policy, reason_index,
    scope_label,
};
use crate::error::Refused;
use crate::rules::stats::{BudgetLevels, Counts, Levels, SCOPES, SlotLevels, Stats};

/// A handle belongs to the recorder that gave it out. It is asked for anew
/// once it is older than this, because an exporter may have forgotten an idle metric, with all
/// its handles, and another recorder may have come to lie at the address of
/// one that is gone.
const KEPT: Duration = Duration::from_secs(1);

pub(super) struct Handles {
    recorder: usize,
    named: bool,
    resolved: Instant,
    wait: Histogram,
    waiting: Gauge,
    slots: OnceLock<[Gauge; 2]>,
    budget: OnceLock<[Gauge; 5]>,
    counts: [OnceLock<Counter>; 5],
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
            waiting: gauge!(WAITING, of(name, "gate", gate)),
            slots: OnceLock::new(),
            budget: OnceLock::new(),
            counts: Default::default(),
            denials: Default::default(),
            refusals: Default::default(),
        }
    }

    /// Whether the present recorder still listens to them.
    pub(super) fn are_current(&self, name: Name<'_>, reads_clock: bool) -> bool {
        self.recorder == present_recorder()
            && self.named == name.is_some()
            && (!reads_clock || self.resolved.elapsed() < KEPT)
    }

    pub(super) fn admitted(&self, waited: Option<Duration>) {
        self.wait.record(waited.unwrap_or_default().as_secs_f64());
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

    /// Tells what has changed since `before`, or all where that is `None`.
    pub(super) fn tell(
        &self,
        name: Name<'_>,
        before: Option<&Stats>,
        counted: &Counts,
        now: &Stats,
    ) {
        if before.is_none_or(|before| before.waiting != now.waiting) {
            self.waiting.set(now.waiting as f64);
        }
        self.levels(name, before.map(|before| before.levels), now.levels);
        self.counts(name, counted, &now.counts);
    }

    fn levels(&self, name: Name<'_>, before: Option<Levels>, now: Levels) {
        if before == Some(now) {
            return;
        }
        let labels = || vec![policy(name)];
        if let Some(SlotLevels { taken, max }) = now.slots {
            let gauges = kept(&self.slots, || {
                [IN_FLIGHT, SLOTS].map(|metric| gauge!(metric, labels()))
            });
            set(gauges, [taken as f64, max as f64]);
        }
        if let Some(BudgetLevels {
            limit,
            level,
            in_transit,
            outstanding,
            held,
        }) = now.budget
        {
            let gauges = kept(&self.budget, || {
                [LIMIT, LEVEL, IN_TRANSIT, OUTSTANDING, HELD].map(|metric| gauge!(metric, labels()))
            });
            let held = f64::from(u8::from(held));
            let [limit, in_transit, outstanding] =
                [limit, in_transit, outstanding].map(|tokens| tokens as f64);
            set(gauges, [limit, level as f64, in_transit, outstanding, held]);
        }
    }

    fn counts(&self, name: Name<'_>, before: &Counts, now: &Counts) {
        if before == now {
            return;
        }
        for (index, (metric, count)) in counted(now).into_iter().enumerate() {
            let more = count - counted(before)[index].1;
            if more > 0 {
                let labels = || vec![policy(name)];
                kept(&self.counts[index], || counter!(metric, labels())).increment(more);
            }
        }
        for (index, scope) in SCOPES.into_iter().enumerate() {
            let more = now.denials[index] - before.denials[index];
            if more > 0 {
                let labels = || of(name, "scope", scope_label(scope));
                kept(&self.denials[index], || counter!(DENIALS, labels())).increment(more);
            }
        }
    }
}

fn counted(counts: &Counts) -> [(&'static str, u64); 5] {
    [
        (RESERVED, counts.reserved),
        (REFUNDED, counts.refunded),
        (SETTLED, counts.settled),
        (LAUNCHES, counts.launches),
        (HOLDS, counts.holds),
    ]
}

fn set<const N: usize>(gauges: &[Gauge; N], values: [f64; N]) {
    for (gauge, value) in gauges.iter().zip(values) {
        gauge.set(value);
    }
}

/// What is kept, or else looked up and kept. The recorder is not asked from
/// within `get_or_init`: it might come back here.
fn kept<T>(place: &OnceLock<T>, look_up: impl FnOnce() -> T) -> &T {
    if let Some(kept) = place.get() {
        return kept;
    }
    let found = look_up();
    place.get_or_init(|| found)
}

/// Tells recorders apart.
fn present_recorder() -> usize {
    metrics::with_recorder(|recorder| std::ptr::from_ref(recorder).addr())
}

/// Shared by whoever tells just now.
pub(super) type Shared = Arc<Handles>;
