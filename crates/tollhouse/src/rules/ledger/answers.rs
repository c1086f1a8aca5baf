//! What answers tell, and what the ledger makes of it: rules 5 and 6.

use super::correction::{Meters, Sent};
use super::trust::{Epoch, Untold};
use super::{Entry, Ledger};
use crate::answer::{Denial, Observation, RateLimits, Scope};
use crate::rules::Key;
use crate::rules::stats::Note;
use crate::time::Moment;

impl Ledger {
    /// The head of an answer went by.
    #[inline]
    pub(crate) fn observe_answer(&mut self, key: Key, told: &Observation, now: Moment) {
        let now = self.catch_up(now);
        self.answered(key, told.denial.is_none(), now);
        let Entry {
            cost, epoch, sent, ..
        } = *self.transit.get_mut(key);
        if let Some(denial) = told.denial {
            self.tally.denied(denial.scope);
            self.correction.refused(sent, now);
            if matches!(denial.scope, Scope::Tokens | Scope::Requests) {
                self.correction.spared(cost);
            }
            self.deny(cost, epoch, denial, &told.limits, now);
        } else if self.terms.pace.recover(sent.reserved) {
            self.resize(now);
        }
        if self.terms.learns.anything() {
            self.adopt(&told.limits, told.denial.is_none(), now);
        }
        if told.limits != RateLimits::default() {
            self.learn(&told.limits, Some(sent), now);
        }
    }

    /// Takes over the limits that an answer names, where they are to be
    /// learned from it. After a first good answer nothing more is waited for.
    fn adopt(&mut self, told: &RateLimits, good: bool, now: Moment) {
        if self.terms.adopt(told) {
            self.notes.push(Note::Learned {
                tokens_per_minute: self.terms.limit,
                requests_per_minute: self.terms.requests.map(|requests| requests.limit),
            });
            self.resize(now);
        }
        if good && std::mem::take(&mut self.unlearned) {
            self.warn_of_fallbacks(told);
        }
    }

    /// Brings the meters into line with the terms.
    fn resize(&mut self, now: Moment) {
        let terms = &self.terms;
        self.tokens
            .resize(terms.limit, terms.token_rate(), terms.capacity, now);
        if let (Some(meter), Some(requests), Some(rate)) =
            (&mut self.requests, terms.requests, terms.request_rate())
        {
            meter.resize(requests.limit, rate, now);
        }
    }

    fn warn_of_fallbacks(&mut self, told: &RateLimits) {
        if self.terms.learns.tokens && told.limit_tokens.is_none() {
            let fallback = self.terms.limit;
            self.notes.push(Note::NoTokenLimit { fallback });
        }
        if self.terms.learns.requests && told.limit_requests.is_none() {
            self.notes.push(Note::NoRequestLimit);
        }
    }

    /// The provider's count, from nobody's answer in particular.
    pub(crate) fn observe(&mut self, limits: &RateLimits, now: Moment) {
        let now = self.catch_up(now);
        self.learn(limits, None, now);
    }

    fn learn(&mut self, limits: &RateLimits, sent: Option<Sent>, now: Moment) {
        let meters = Meters {
            tokens: &mut self.tokens,
            requests: self.requests.as_mut(),
        };
        self.correction
            .learn(limits, sent, &self.terms, meters, now);
    }

    /// A refusal is news for everybody: rule 6.
    fn deny(&mut self, cost: u64, epoch: Epoch, denial: Denial, told: &RateLimits, now: Moment) {
        match (denial.scope, denial.after, &mut self.requests) {
            // Money does not come back by waiting, and a bad request is
            // nobody else's trouble.
            (Scope::Quota | Scope::None, _, _) => {}
            (Scope::TokensPerDay | Scope::RequestsPerDay, Some(delay), _) => {
                self.exhausted = Some((denial.scope, now + delay));
            }
            (scope, Some(delay), _) if delay > self.terms.max_told_delay => {
                self.exhausted = Some((longer(scope), now + delay));
            }
            // Nothing to reckon with yet.
            (Scope::Tokens | Scope::Requests, Some(delay), _) if self.unlearned => {
                self.hold(now + delay, now);
            }
            (Scope::Tokens, Some(delay), _) => self.tokens.bucket.wait_for(cost, delay, now),
            (Scope::Requests, Some(delay), Some(requests)) => {
                requests.bucket.wait_for(1, delay, now);
            }
            (_, Some(delay), _) => self.hold(now + delay, now),
            // One 500 among thousands is not an outage: only its own caller
            // backs off.
            (Scope::Overload, None, _) => {}
            (scope, None, _) => self.deny_untold(scope, epoch, told, now),
        }
    }

    /// No delay was told: all is held. Where nothing else was told, either, the
    /// limits are not what we took them for, and the pace falls, too; but not
    /// for a first request or a hold's probe, which no slower pace would have
    /// let pass.
    fn deny_untold(&mut self, scope: Scope, epoch: Epoch, told: &RateLimits, now: Moment) {
        let Some(Untold { delay, confirmed }) = self.trust.untold(epoch) else {
            return;
        };
        self.hold(now + delay, now);
        let explained = told.remaining_tokens.is_some() || told.remaining_requests.is_some();
        let ours = matches!(scope, Scope::Tokens | Scope::Requests);
        if confirmed && ours && !explained && !self.unlearned {
            self.terms.pace.slow(now);
            self.resize(now);
            let percent = self.terms.pace.percent();
            self.notes.push(Note::Slowed { percent });
        }
    }

    /// Closes the budget until `until`. What older answers tell afterwards
    /// must not undo it.
    pub(crate) fn hold(&mut self, until: Moment, now: Moment) {
        let now = self.catch_up(now);
        let delay = until - now;
        self.tally.held();
        self.notes.push(Note::Held { delay });
        self.trust.hold(until);
        self.correction.hold(until, now);
    }
}

/// A limit under which a longer delay is told than a minute's can ask for.
fn longer(scope: Scope) -> Scope {
    match scope {
        Scope::Tokens => Scope::TokensPerDay,
        Scope::Requests => Scope::RequestsPerDay,
        scope => scope,
    }
}
