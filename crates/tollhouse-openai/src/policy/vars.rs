//! Reads variables, and remembers every one that is bad.

use std::fmt::Display;
use std::ops::RangeInclusive;

use super::settings::limit;
use super::{BadVariable, Limit, PolicyError};
use crate::wire::time::decimal;

pub(super) struct Vars<'v> {
    var: &'v dyn Fn(&str) -> Option<String>,
    bad: Vec<BadVariable>,
}

impl<'v> Vars<'v> {
    pub(super) fn new(var: &'v dyn Fn(&str) -> Option<String>) -> Self {
        Vars {
            var,
            bad: Vec::new(),
        }
    }

    pub(super) fn whole(
        &mut self,
        name: &'static str,
        range: RangeInclusive<u64>,
        set: impl FnOnce(u64),
    ) {
        let allowed = format!("a whole number {}", from_to(&range));
        self.read(
            name,
            allowed,
            |value| whole(value).filter(|n| range.contains(n)),
            set,
        );
    }

    pub(super) fn real(
        &mut self,
        name: &'static str,
        range: RangeInclusive<f64>,
        set: impl FnOnce(f64),
    ) {
        let allowed = format!("a number {}", from_to(&range));
        self.read(
            name,
            allowed,
            |value| real(value).filter(|n| range.contains(n)),
            set,
        );
    }

    pub(super) fn limit(&mut self, name: &'static str, most: u64, set: impl FnOnce(Limit)) {
        let allowed = format!("a whole number {}, or auto", from_to(&(1..=most)));
        self.read(name, allowed, |value| limit(value, most), set);
    }

    /// What was read, unless something was bad.
    pub(super) fn finish<T>(self, read: T) -> Result<T, PolicyError> {
        match self.bad.is_empty() {
            true => Ok(read),
            false => Err(PolicyError::new(self.bad)),
        }
    }

    fn read<T>(
        &mut self,
        name: &'static str,
        allowed: String,
        parse: impl FnOnce(&str) -> Option<T>,
        set: impl FnOnce(T),
    ) {
        let value = (self.var)(name).unwrap_or_default();
        let value = value.trim();
        if value.is_empty() {
            return;
        }
        match parse(value) {
            Some(parsed) => set(parsed),
            None => self.bad.push(BadVariable::new(name, value, allowed)),
        }
    }
}

/// The variables that a policy is made of.
pub(super) const OURS: [&str; 8] = [
    "OPENAI_MAX_CONCURRENCY",
    "OPENAI_STAGGER_SECONDS",
    "OPENAI_TPM_LIMIT",
    "OPENAI_RPM_LIMIT",
    "OPENAI_TPM_HEADROOM",
    "OPENAI_EST_TOKENS_PER_RUN",
    "OPENAI_RETRY_MAX_ATTEMPTS",
    "OPENAI_BACKOFF_BASE_SECONDS",
];

/// Those that clients and SDKs know, which are no slips however close they come.
const OTHERS: [&str; 8] = [
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "OPENAI_API_BASE",
    "OPENAI_ORG_ID",
    "OPENAI_ORGANIZATION",
    "OPENAI_PROJECT_ID",
    "OPENAI_WEBHOOK_SECRET",
    "OPENAI_LOG",
];

/// The variables among `names` that are one slip away from one that is known: a
/// letter too many, one too few, another one, or two that changed places.
pub(super) fn misspelt(names: impl Iterator<Item = String>) -> Vec<BadVariable> {
    let mut bad: Vec<_> = names
        .filter(|name| !OURS.contains(&&**name) && !OTHERS.contains(&&**name))
        .filter_map(|name| {
            let known = OURS
                .into_iter()
                .chain(["OPENAI_API_KEY", "OPENAI_BASE_URL"]);
            let meant = known.filter(|known| is_one_slip(&name, known)).min()?;
            Some(BadVariable::misspelt(name, meant))
        })
        .collect();
    bad.sort_by(|one, other| one.name().cmp(other.name()));
    bad
}

fn is_one_slip(name: &str, known: &str) -> bool {
    let (name, known) = (name.as_bytes(), known.as_bytes());
    let same = name.iter().zip(known).take_while(|(a, b)| a == b).count();
    let (name, known) = (&name[same..], &known[same..]);
    match (name, known) {
        ([a, b, name @ ..], [c, d, known @ ..]) if a == d && b == c && name == known => true,
        ([_, name @ ..], [_, known @ ..]) if name == known => true,
        ([_, name @ ..], known) if name == known => true,
        (name, [_, known @ ..]) => name == known,
        _ => false,
    }
}

fn from_to<T: Display>(range: &RangeInclusive<T>) -> String {
    format!("from {} to {}", range.start(), range.end())
}

/// Digits alone; `parse` would take a plus.
pub(super) fn whole(value: &str) -> Option<u64> {
    let digits = value.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| value.parse().ok()).flatten()
}

/// Digits and perhaps a fraction: neither signs, exponents, nor `inf`, `NaN`.
fn real(value: &str) -> Option<f64> {
    let (number, rest) = decimal(value)?;
    rest.is_empty().then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_that_is_one_slip_away_is_named() {
        let names = [
            "OPENAI_TPM_LIMITS",
            "OPENAI_TPM_LIMT",
            "OPENAI_TMP_LIMIT",
            "OPENAI_RPN_LIMIT",
            "OPENAI_API_KEYS",
            "OPENAI_MAX_CONCURENCY",
            // Nothing of ours, or as it should be.
            "OPENAI_TPM_LIMIT",
            "OPENAI_API_KEY",
            "OPENAI_ORG_ID",
            "OPENAI_MODEL",
            "OPENAI_TIMEOUT",
            "PATH",
        ];
        let bad = misspelt(names.into_iter().map(str::to_owned));
        let said: Vec<_> = bad.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "OPENAI_API_KEYS is not known: OPENAI_API_KEY is meant, perhaps",
                "OPENAI_MAX_CONCURENCY is not known: OPENAI_MAX_CONCURRENCY is meant, perhaps",
                "OPENAI_RPN_LIMIT is not known: OPENAI_RPM_LIMIT is meant, perhaps",
                "OPENAI_TMP_LIMIT is not known: OPENAI_TPM_LIMIT is meant, perhaps",
                "OPENAI_TPM_LIMITS is not known: OPENAI_TPM_LIMIT is meant, perhaps",
                "OPENAI_TPM_LIMT is not known: OPENAI_TPM_LIMIT is meant, perhaps",
            ]
        );
    }
}
