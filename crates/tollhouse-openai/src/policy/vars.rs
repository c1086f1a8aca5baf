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
