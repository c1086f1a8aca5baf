//! Metrics by the facade of the crate `metrics`.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use metrics::{
    Label, SharedString, Unit, counter, describe_counter, describe_gauge, describe_histogram,
    gauge, histogram,
};

use super::Name;
use crate::answer::Scope;
use crate::error::Refused;
use crate::queue::State;
use crate::rules::ledger::Ledger;
use crate::rules::{Rule, Slots, Spacing};

pub(crate) const ON: bool = true;

// ===== names =====

const WAIT: &str = "tollhouse_wait_seconds";
const WAITING: &str = "tollhouse_waiting";
const REFUSALS: &str = "tollhouse_refusals_total";
const IN_FLIGHT: &str = "tollhouse_in_flight";
const SLOTS: &str = "tollhouse_slots";
const LIMIT: &str = "tollhouse_budget_limit_tokens";
const LEVEL: &str = "tollhouse_budget_level_tokens";
const IN_TRANSIT: &str = "tollhouse_budget_in_transit_tokens";
const OUTSTANDING: &str = "tollhouse_budget_outstanding_tokens";
const HELD: &str = "tollhouse_budget_held";
const RESERVED: &str = "tollhouse_reserved_tokens_total";
const REFUNDED: &str = "tollhouse_refunded_tokens_total";
const SETTLED: &str = "tollhouse_settled_tokens_total";
const LAUNCHES: &str = "tollhouse_launches_total";
const HOLDS: &str = "tollhouse_holds_total";
const DENIALS: &str = "tollhouse_denials_total";
const RETRIES: &str = "tollhouse_retries_total";

/// Tells the installed recorder what each metric is and in which unit; once,
/// after it was installed.
///
/// # Examples
///
/// ```
/// use metrics_exporter_prometheus::PrometheusBuilder;
///
/// let recorder = PrometheusBuilder::new().build_recorder();
/// metrics::with_local_recorder(&recorder, || {
///     tollhouse::describe_metrics();
///     metrics::gauge!("tollhouse_in_flight").set(3);
/// });
/// let told = recorder.handle().render();
/// assert!(told.contains("# HELP tollhouse_in_flight Calls that hold a slot"));
/// ```
pub fn describe() {
    let seconds = Unit::Seconds;
    describe_histogram!(WAIT, seconds, "Time from asking a gate to being let in");
    for (name, unit, what) in [
        (WAITING, Unit::Count, "Calls in line at a gate"),
        (IN_FLIGHT, Unit::Count, "Calls that hold a slot"),
        (SLOTS, Unit::Count, "The most calls that may hold a slot"),
        (
            LIMIT,
            Unit::Count,
            "Tokens a minute that the provider allows",
        ),
        (
            LEVEL,
            Unit::Count,
            "Tokens that may be spent now; below zero is debt",
        ),
        (
            IN_TRANSIT,
            Unit::Count,
            "Tokens reserved and not surely counted by the provider yet",
        ),
        (
            OUTSTANDING,
            Unit::Count,
            "Tokens reserved whose real usage is not known yet",
        ),
        (
            HELD,
            Unit::Count,
            "1 while the provider has closed the budget, else 0",
        ),
    ] {
        describe_gauge!(name, unit, what);
    }
    for (name, what) in [
        (
            REFUSALS,
            "Calls that a gate turned away instead of letting them wait",
        ),
        (RESERVED, "Tokens taken before sending"),
        (
            REFUNDED,
            "Tokens given back by calls that were never launched",
        ),
        (
            SETTLED,
            "Tokens that calls ended with: their usage, or else what was reserved",
        ),
        (LAUNCHES, "Calls handed to the transport"),
        (HOLDS, "Times that the budget was closed"),
        (
            DENIALS,
            "Answers by which the provider refused, by what ran out",
        ),
        (RETRIES, "Attempts after the first, by what ran out"),
    ] {
        describe_counter!(name, Unit::Count, what);
    }
}

// ===== labels =====

/// Who did not name a policy has one, or does not tell them apart.
fn policy(name: Name<'_>) -> Label {
    let name = match name {
        Some(name) => SharedString::from(Arc::clone(name)),
        None => SharedString::const_str("default"),
    };
    Label::new("policy", name)
}

fn of(name: Name<'_>, key: &'static str, value: &'static str) -> Vec<Label> {
    vec![policy(name), Label::from_static_parts(key, value)]
}

const fn scope_label(scope: Scope) -> &'static str {
    match scope {
        Scope::Tokens => "tokens",
        Scope::Requests => "requests",
        Scope::TokensPerDay => "tokens_per_day",
        Scope::RequestsPerDay => "requests_per_day",
        Scope::Quota => "quota",
        Scope::Overload => "overload",
        Scope::None => "none",
    }
}

const fn reason(refused: &Refused) -> &'static str {
    match refused {
        Refused::TooLarge { .. } => "too_large",
        Refused::Overloaded { .. } => "overloaded",
        Refused::Exhausted { .. } => "exhausted",
        Refused::Closed => "closed",
    }
}

// ===== events =====

pub(crate) fn admitted(name: Name<'_>, gate: &'static str, waited: Option<Duration>) {
    let seconds = waited.unwrap_or_default().as_secs_f64();
    histogram!(WAIT, of(name, "gate", gate)).record(seconds);
}

pub(crate) fn refused(name: Name<'_>, gate: &'static str, refused: &Refused) {
    let mut labels = of(name, "gate", gate);
    labels.push(Label::from_static_parts("reason", reason(refused)));
    counter!(REFUSALS, labels).increment(1);
}

pub(crate) fn retried(name: Name<'_>, scope: Scope) {
    counter!(RETRIES, of(name, "scope", scope_label(scope))).increment(1);
}

/// What a ledger has counted and not told yet.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    reserved: u64,
    refunded: u64,
    settled: u64,
    launches: u64,
    holds: u64,
    denials: Vec<Scope>,
}

impl Tally {
    pub(crate) fn reserved(&mut self, tokens: u64) {
        self.reserved += tokens;
    }

    pub(crate) fn refunded(&mut self, tokens: u64) {
        self.refunded += tokens;
    }

    pub(crate) fn settled(&mut self, tokens: u64) {
        self.settled += tokens;
    }

    pub(crate) fn launched(&mut self) {
        self.launches += 1;
    }

    pub(crate) fn held(&mut self) {
        self.holds += 1;
    }

    pub(crate) fn denied(&mut self, scope: Scope) {
        self.denials.push(scope);
    }

    fn tell(self, name: Name<'_>) {
        for (metric, count) in [
            (RESERVED, self.reserved),
            (REFUNDED, self.refunded),
            (SETTLED, self.settled),
            (LAUNCHES, self.launches),
            (HOLDS, self.holds),
        ] {
            if count > 0 {
                counter!(metric, vec![policy(name)]).increment(count);
            }
        }
        for scope in self.denials {
            counter!(DENIALS, of(name, "scope", scope_label(scope))).increment(1);
        }
    }
}

// ===== levels =====

/// Tells of the queue when it is let go of.
///
/// It is told under the lock: of two who change it, the later must speak last,
/// or a gauge would stand wrong until the next change.
pub(crate) struct Guard<'q, R: Rule> {
    state: MutexGuard<'q, State<R>>,
    name: Name<'q>,
}

pub(crate) fn guard<'q, R: Rule>(state: MutexGuard<'q, State<R>>, name: Name<'q>) -> Guard<'q, R> {
    Guard { state, name }
}

impl<R: Rule> Deref for Guard<'_, R> {
    type Target = State<R>;

    fn deref(&self) -> &State<R> {
        &self.state
    }
}

impl<R: Rule> DerefMut for Guard<'_, R> {
    fn deref_mut(&mut self) -> &mut State<R> {
        &mut self.state
    }
}

impl<R: Rule> Drop for Guard<'_, R> {
    fn drop(&mut self) {
        let waiting = self.state.ahead().waiting;
        gauge!(WAITING, of(self.name, "gate", R::NAME)).set(waiting as f64);
        self.state.rule.tell(self.name);
    }
}

/// A rule that tells how it stands.
pub(crate) trait Tell {
    fn tell(&mut self, name: Name<'_>);
}

impl Tell for Spacing {
    fn tell(&mut self, _: Name<'_>) {}
}

impl Tell for Slots {
    fn tell(&mut self, name: Name<'_>) {
        gauge!(IN_FLIGHT, vec![policy(name)]).set(self.taken() as f64);
        gauge!(SLOTS, vec![policy(name)]).set(self.max as f64);
    }
}

impl Tell for Ledger {
    fn tell(&mut self, name: Name<'_>) {
        std::mem::take(&mut self.tally).tell(name);
        // As of the last instant that the ledger knows of.
        let now = self.snapshot(0, self.seen);
        for (metric, value) in [
            (LIMIT, now.limit as f64),
            (LEVEL, now.level as f64),
            (IN_TRANSIT, now.in_transit as f64),
            (OUTSTANDING, now.outstanding as f64),
            (HELD, f64::from(u8::from(now.held_until.is_some()))),
        ] {
            gauge!(metric, vec![policy(name)]).set(value);
        }
    }
}
