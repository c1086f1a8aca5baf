use std::sync::Arc;
use std::time::Duration;

use tokio::sync::futures::OwnedNotified;
use tokio::time::Instant;

use super::Delays;
use super::terms::Terms;
use crate::answer::{Decision, Scope};
use crate::ask::{Arrival, Deadline};
use crate::telemetry;

/// When to make a next attempt.
pub(super) struct Next {
    pub(super) at: Instant,
    /// Ready where it is to be made before, and is the last.
    pub(super) closed: OwnedNotified,
}

/// What one call's attempts may still do.
#[derive(Debug)]
pub(super) struct Plan {
    terms: Arc<Terms>,
    /// No further attempt begins later.
    end: Option<Instant>,
    /// Nor later than its caller wants.
    until: Option<Instant>,
    /// Whether that alone was why there was none.
    is_left: bool,
    /// How many attempts were made before the call came here.
    spent: u32,
    /// How many attempts were begun here.
    made: u32,
    /// When the first of them was, where somebody wants to know.
    first: Option<Arrival>,
    /// No further attempt can be made, whatever the terms.
    ended: bool,
    /// Drawn up at the first retry: most calls need none.
    delays: Option<Delays>,
}

impl Plan {
    /// For a call of which so many attempts were made before, and which has until then to be
    /// launched, if that is said.
    pub(super) fn new(terms: Arc<Terms>, spent: u32, until: Option<Deadline>) -> Self {
        let total = terms.backoff.total();
        let end = total.and_then(|total| Instant::now().checked_add(total));
        Plan {
            end,
            until: until.map(Deadline::instant),
            is_left: false,
            terms,
            spent,
            made: 0,
            first: None,
            ended: false,
            delays: None,
        }
    }

    /// Begins an attempt; says when the first was begun here, if this is another one
    /// and somebody wants to know.
    #[inline]
    pub(super) fn begin(&mut self, notes_arrival: bool) -> Option<Arrival> {
        self.made += 1;
        if notes_arrival && self.made == 1 {
            self.first = Some(Arrival::now());
        }
        self.first.filter(|_| self.made > 1)
    }

    /// Makes the attempt that comes, or was begun, the last.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    /// The attempts so far, those before the call came here included.
    pub(super) fn attempt(&self) -> u32 {
        self.spent.saturating_add(self.made)
    }

    /// The attempts that were made here.
    pub(super) fn made(&self) -> u32 {
        self.made
    }

    /// Whether another attempt is its caller's to make.
    pub(super) fn is_left(&self) -> bool {
        self.is_left
    }

    pub(super) fn is_last(&self) -> bool {
        self.ended || self.attempt() >= self.terms.backoff.attempts()
    }

    /// When to make the next attempt, if there is one.
    pub(super) fn next(&mut self, decision: Decision, answered: bool) -> Option<Next> {
        let retry = match decision {
            Decision::GiveUp => None,
            Decision::Retry { after, scope } => Some((after, scope)),
        };
        // An error that is not worth asking again most likely never left, and
        // what somebody in front asks again is no new request.
        if let (1, Some(budget)) = (self.attempt(), &self.terms.budget)
            && (answered || retry.is_some())
        {
            budget.earn();
        }
        let (told, scope) = retry?;
        if self.ended {
            tracing::debug!(attempt = self.attempt(), %scope, "cannot be sent again");
            return None;
        }
        self.retry(told, scope)
    }

    fn retry(&mut self, told: Option<Duration>, scope: Scope) -> Option<Next> {
        let Terms {
            backoff,
            budget,
            name,
            closing,
        } = &*self.terms;
        let spent = self.spent;
        let delays = self
            .delays
            .get_or_insert_with(|| backoff.delays_after(spent));
        let drawn = delays.next()?;
        let delay = told.unwrap_or(drawn);
        let at = Instant::now().checked_add(delay)?;
        let in_time = |by: Option<Instant>| by.is_none_or(|by| at <= by);
        let is_allowed = in_time(self.end) && backoff.obeys(told);
        self.is_left = is_allowed && !in_time(self.until);
        if !is_allowed || self.is_left {
            tracing::debug!(attempt = self.attempt(), %scope, ?delay, "too long a wait to retry");
            return None;
        }
        let Some(closed) = closing.wait() else {
            tracing::debug!(attempt = self.attempt(), %scope, "closed");
            return None;
        };
        if budget.as_ref().is_some_and(|budget| !budget.grants(scope)) {
            tracing::warn!(attempt = self.attempt(), %scope, "retry budget spent");
            return None;
        }
        tracing::debug!(attempt = self.attempt(), %scope, ?delay, told = told.is_some(), "retrying");
        telemetry::retried(name.as_ref(), scope);
        Some(Next { at, closed })
    }
}
