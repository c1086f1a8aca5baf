//! Nothing, at no cost.

use std::sync::MutexGuard;
use std::time::Duration;

use super::Name;
use crate::answer::Scope;
use crate::error::Refused;
use crate::queue::State;
use crate::rules::Rule;

pub(crate) const ON: bool = false;

pub(crate) type Guard<'q, R> = MutexGuard<'q, State<R>>;

#[inline(always)]
pub(crate) fn guard<'q, R: Rule>(state: MutexGuard<'q, State<R>>, _: Name<'q>) -> Guard<'q, R> {
    state
}

/// Nothing needs telling.
pub(crate) trait Tell {}

impl<R> Tell for R {}

#[inline(always)]
pub(crate) fn admitted(_: Name<'_>, _: &'static str, _: Option<Duration>) {}

#[inline(always)]
pub(crate) fn refused(_: Name<'_>, _: &'static str, _: &Refused) {}

#[inline(always)]
pub(crate) fn retried(_: Name<'_>, _: Scope) {}

/// Counts nothing.
#[derive(Debug, Default)]
pub(crate) struct Tally {}

impl Tally {
    #[inline(always)]
    pub(crate) fn reserved(&mut self, _: u64) {}

    #[inline(always)]
    pub(crate) fn refunded(&mut self, _: u64) {}

    #[inline(always)]
    pub(crate) fn settled(&mut self, _: u64) {}

    #[inline(always)]
    pub(crate) fn launched(&mut self) {}

    #[inline(always)]
    pub(crate) fn held(&mut self) {}

    #[inline(always)]
    pub(crate) fn denied(&mut self, _: Scope) {}
}
