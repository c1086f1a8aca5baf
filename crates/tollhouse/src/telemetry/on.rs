//! Metrics by the facade of the crate `metrics`.

use std::sync::Arc;

use metrics::{
    Label, SharedString, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge,
};

use super::Name;
use crate::answer::Scope;
use crate::error::Refused;

pub(crate) const ON: bool = true;

// ===== names =====

pub(super) const WAIT: &str = "tollhouse_wait_seconds";
pub(super) const CALLER_WAIT: &str = "tollhouse_caller_wait_seconds";
pub(super) const WAITING: &str = "tollhouse_waiting";
pub(super) const REFUSALS: &str = "tollhouse_refusals_total";
pub(super) const IN_FLIGHT: &str = "tollhouse_in_flight";
pub(super) const SLOTS: &str = "tollhouse_slots";
pub(super) const LIMIT: &str = "tollhouse_budget_limit_tokens";
pub(super) const LEVEL: &str = "tollhouse_budget_level_tokens";
pub(super) const IN_TRANSIT: &str = "tollhouse_budget_in_transit_tokens";
pub(super) const OUTSTANDING: &str = "tollhouse_budget_outstanding_tokens";
pub(super) const HELD: &str = "tollhouse_budget_held";
pub(super) const RESERVED: &str = "tollhouse_reserved_tokens_total";
pub(super) const REFUNDED: &str = "tollhouse_refunded_tokens_total";
pub(super) const SETTLED: &str = "tollhouse_settled_tokens_total";
pub(super) const LAUNCHES: &str = "tollhouse_launches_total";
pub(super) const HOLDS: &str = "tollhouse_holds_total";
pub(super) const DENIALS: &str = "tollhouse_denials_total";
pub(super) const SHARED_UP: &str = "tollhouse_shared_ledger_up";
pub(super) const RETRIES: &str = "tollhouse_retries_total";

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
    describe_histogram!(
        CALLER_WAIT,
        seconds,
        "The same of calls whose caller may be told by name, by caller"
    );
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
        (
            SHARED_UP,
            Unit::Count,
            "1 while this process spends from the shared ledger, else 0",
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

/// Of the policy, and of the pool where there are several. Who did not name a policy has
/// one, or does not tell them apart.
pub(super) fn labels(name: Name<'_>) -> Vec<Label> {
    let policy = match name.and_then(|name| name.policy.as_ref()) {
        Some(policy) => SharedString::from(Arc::clone(policy)),
        None => SharedString::const_str("default"),
    };
    let pool = name.and_then(|name| name.pool.as_ref());
    let pool = pool.map(|pool| Label::new("pool", SharedString::from(Arc::clone(pool))));
    [Label::new("policy", policy)]
        .into_iter()
        .chain(pool)
        .collect()
}

pub(super) fn of(name: Name<'_>, key: &'static str, value: &'static str) -> Vec<Label> {
    let mut labels = labels(name);
    labels.push(Label::from_static_parts(key, value));
    labels
}

pub(super) const fn scope_label(scope: Scope) -> &'static str {
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

/// Why a gate refuses, in the order of [`reason_index`].
pub(super) const REASONS: [&str; 5] =
    ["too_large", "overloaded", "exhausted", "closed", "too_late"];

pub(super) const fn reason_index(refused: &Refused) -> usize {
    match refused {
        Refused::TooLarge { .. } | Refused::TooMany { .. } => 0,
        Refused::Overloaded { .. } => 1,
        Refused::Exhausted { .. } => 2,
        Refused::Closed => 3,
        Refused::TooLate { .. } => 4,
    }
}

// ===== events =====

pub(crate) fn shared_ledger(is_up: bool) {
    gauge!(SHARED_UP).set(f64::from(u8::from(is_up)));
}

pub(crate) fn retried(name: Name<'_>, scope: Scope) {
    counter!(RETRIES, of(name, "scope", scope_label(scope))).increment(1);
}
