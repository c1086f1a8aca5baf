//! What answers tell, and what the ledger makes of it: rules 5 and 6.

use std::time::Duration;

use super::correction::{Meters, Sent};
use super::trust::{Epoch, Untold};
use super::{Entry, Ledger, Stage};
use crate::answer::{Denial, Observation, RateLimits, Scope};
use crate::rules::Key;
use crate::rules::stats::Note;
use crate::time::Moment;

/// No answer closes an account for longer without a probe.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The longest answer that any model writes, in tokens.
const LONGEST_ANSWER: u64 = 128_000;

/// By how much an estimate may be wrong, whatever it is an estimate of.
const UNDERESTIMATED: u64 = 16;

/// Whose answer it is that tells something.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answered {
    pub(super) cost: u64,
    pub(super) sent: Sent,
    /// Whether it was let in.
    pub(super) good: bool,
}

impl Ledger {
    /// The head of an answer went by.
    ///
    /// That it was counted comes first; then the limits, since everything else is reckoned by them; then
    /// the refusal, which may hold or slow everybody; then the counts, which
    /// correct every meter they speak of, whichever of them refused.
    #[inline]
    pub(crate) fn observe_answer(&mut self, key: Key, told: &Observation, now: Moment) {
        let now = self.catch_up(now);
        let good = told.denial.is_none();
        self.answered(key, good, now);
        if self.terms.learns.anything() {
            self.adopt(&told.limits, good, now);
            self.bound(key, now);
        }
        let Entry {
            cost, epoch, sent, ..
        } = *self.transit.get_mut(key);
        if let Some(denial) = told.denial {
            self.tally.denied(denial.scope);
            self.correction.refused(sent, denial.scope, now);
            if matches!(denial.scope, Scope::Tokens | Scope::Requests) {
                self.correction.spared(cost);
            }
            self.deny((cost, epoch, sent), denial, &told.limits, now);
        } else if self.terms.pace.recover(sent.reserved) {
            self.resize(now);
        }
        if told.limits != RateLimits::default() {
            let from = Answered { cost, sent, good };
            self.learn(&told.limits, Some(from), now);
        }
    }

    /// Takes over the limits that an answer names, where they are to be
    /// learned from it. After a first good answer, or a refusal that names them
    /// all, nothing more is waited for.
    fn adopt(&mut self, told: &RateLimits, good: bool, now: Moment) {
        if self.terms.adopt(told) {
            let terms = &self.terms;
            self.notes.push(Note::Learned {
                tokens_per_minute: terms.limit,
                requests_per_minute: terms.requests.map(|requests| requests.limit),
            });
            self.resize(now);
        }
        let done = good || self.terms.learns.are_named_by(told);
        if done && std::mem::take(&mut self.unlearned) {
            self.note_fallbacks(told);
            self.bound_those_before(now);
        }
    }

    /// Those that went before anybody knew what fits, and that nobody waited
    /// for, may have been charged any number; the provider took no more than it
    /// had.
    fn bound_those_before(&mut self, now: Moment) {
        let mut orphan = self.transit.first();
        while let Some(key) = orphan {
            self.bound(key, now);
            orphan = self.transit.after(key);
        }
        self.tokens.bucket.forgive_debt(now);
    }

    /// A request that went before its limits were known is charged no more than
    /// could ever fit: what is more was surely not taken by the provider.
    fn bound(&mut self, key: Key, now: Moment) {
        let capacity = self.terms.capacity;
        let Entry { cost, stage, .. } = *self.transit.get_mut(key);
        let Some(excess) = cost.checked_sub(capacity).filter(|excess| *excess > 0) else {
            return;
        };
        match stage {
            Stage::Landed { at, .. } => self.tokens.uncount(excess, at, now),
            _ => self.tokens.refund(excess, now),
        }
        self.transit.get_mut(key).cost = capacity;
        self.correction.refunded(excess);
        // Nobody settles an orphan: it was told of as it was abandoned.
        if !matches!(stage, Stage::Sent { orphan: true, .. }) {
            self.outstanding -= excess;
            self.tally.refunded(excess);
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

    fn note_fallbacks(&mut self, told: &RateLimits) {
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

    fn learn(&mut self, limits: &RateLimits, from: Option<Answered>, now: Moment) {
        let meters = Meters {
            tokens: &mut self.tokens,
            requests: self.requests.as_mut(),
            notes: &mut self.notes,
        };
        self.correction
            .learn(limits, from, &self.terms, meters, now);
    }

    /// A refusal is news for everybody: rule 6.
    ///
    /// Whatever was told, it closes nothing for longer than a day; one request
    /// then goes first and asks again.
    fn deny(
        &mut self,
        (cost, epoch, sent): (u64, Epoch, Sent),
        denial: Denial,
        told: &RateLimits,
        now: Moment,
    ) {
        // Money does not come back by waiting, and a bad request is nobody
        // else's trouble.
        if matches!(denial.scope, Scope::Quota | Scope::None) {
            return;
        }
        let Some(delay) = denial.after.map(|delay| delay.min(DAY)) else {
            // One 500 among thousands is not an outage: only its own caller
            // backs off.
            if denial.scope != Scope::Overload {
                self.deny_untold(denial.scope, epoch, told, now);
            }
            return;
        };
        match (denial.scope, &mut self.requests) {
            (scope @ (Scope::TokensPerDay | Scope::RequestsPerDay), _) => {
                self.exhaust(scope, delay, now);
            }
            (scope, _) if delay > self.terms.max_told_delay => {
                self.exhaust(longer(scope), delay, now);
            }
            (Scope::Tokens | Scope::Requests, _) if self.unlearned => {
                // Nothing to reckon with yet.
                self.hold(now + delay, now);
            }
            (Scope::Tokens, _) => {
                self.slow_if_repeated(sent, told, now);
                self.tokens.bucket.wait_for(cost, delay, now);
            }
            (Scope::Requests, Some(_)) => {
                self.slow_if_repeated(sent, told, now);
                if let Some(requests) = &mut self.requests {
                    requests.bucket.wait_for(1, delay, now);
                }
            }
            (_, _) => self.hold(now + delay, now),
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
        let ours = matches!(scope, Scope::Tokens | Scope::Requests);
        if confirmed && ours && !explained(told) && !self.unlearned {
            self.slow(now);
        }
    }

    /// A delay was told, but not what is left. One such refusal is explained by
    /// a level that was not what it was taken for, and the delay mends that;
    /// another soon after it, by limits that are not what they were taken for.
    fn slow_if_repeated(&mut self, sent: Sent, told: &RateLimits, now: Moment) {
        if !explained(told) && self.terms.pace.is_repeated(sent.reserved, now) {
            self.slow(now);
        }
    }

    fn slow(&mut self, now: Moment) {
        self.terms.pace.slow(now);
        self.resize(now);
        let percent = self.terms.pace.percent();
        self.notes.push(Note::Slowed { percent });
    }

    /// Turns everybody away until `delay` is over, and lets one probe go first
    /// then.
    fn exhaust(&mut self, scope: Scope, delay: Duration, now: Moment) {
        let until = now + delay;
        match self.exhausted {
            Some((_, longest)) if longest >= until => {}
            _ => self.exhausted = Some((scope, until)),
        }
        self.hold(until, now);
    }

    /// Closes the budget until `until`. What older answers tell afterwards
    /// must not undo it.
    pub(crate) fn hold(&mut self, until: Moment, now: Moment) {
        let now = self.catch_up(now);
        self.tally.held();
        let delay = until - now;
        self.notes.push(Note::Held { delay });
        self.trust.hold(until);
        self.correction.hold(until, now);
    }

    /// What is believed of the usage that an answer tells.
    ///
    /// A request that was let in fitted into a minute's limit, and no model
    /// writes more than [`LONGEST_ANSWER`] beyond that; or its estimate was
    /// [`UNDERESTIMATED`]. More is no usage but a broken number, and a debt
    /// that nothing would ever correct.
    pub(super) fn believed(&mut self, cost: u64, told: u64) -> u64 {
        let estimated = cost.saturating_mul(UNDERESTIMATED);
        let most = estimated.max(self.terms.limit.saturating_add(LONGEST_ANSWER));
        if told > most {
            self.notes.push(Note::UsageCapped {
                reserved: cost,
                told,
                believed: most,
            });
        }
        told.min(most)
    }
}

/// Whether a refusal tells what is left: rule 5 knows better, then.
fn explained(told: &RateLimits) -> bool {
    told.remaining_tokens.is_some() || told.remaining_requests.is_some()
}

/// A limit under which a longer delay is told than a minute's can ask for. An
/// overload is no limit, however long it lasts.
fn longer(scope: Scope) -> Scope {
    match scope {
        Scope::Tokens => Scope::TokensPerDay,
        Scope::Requests => Scope::RequestsPerDay,
        scope => scope,
    }
}
