//! What answers tell, and what the ledger makes of it: rules 5 and 6.

use std::time::Duration;

use super::dealings::Heard;
use super::metered::{Answered, Metered};
use super::trust::{Epoch, Untold};
use super::{Entry, Ledger, REQUESTS, Sent, TOKENS, Told};
use crate::answer::{Denial, Observation, RateLimits, Scope};
use crate::charge::{Charge, Per, Unit};
use crate::rules::stats::Note;
use crate::rules::{Allowed, Key};
use crate::time::Moment;

/// No answer closes an account for longer without a probe.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Ledger {
    /// The head of an answer went by.
    ///
    /// That it was counted comes first, and is all where it tells nothing and nothing
    /// is waited for.
    #[inline(always)]
    pub(crate) fn observe_answer(&mut self, key: Key, told: Option<&Observation>, now: Moment) {
        let now = self.catch_up(now);
        let good = told.is_none_or(|told| told.denial.is_none());
        self.answered(key, good, now);
        if told.is_some() || self.unlearned || !self.terms.pace.is_full() {
            self.heed(key, told.copied().unwrap_or_default(), good, now);
        }
    }

    /// The limits come first, since everything else is reckoned by them; then the
    /// refusal, which may hold or slow everybody; then the counts, which correct every
    /// meter they speak of, whichever of them refused.
    fn heed(&mut self, key: Key, told: Observation, good: bool, now: Moment) {
        self.told = true;
        if self.terms.learns.anything() {
            self.adopt(&told.limits, good, now);
        }
        let Entry {
            charge,
            epoch,
            sent,
            ..
        } = *self.transit.get_mut(key);
        if let Some(denial) = told.denial {
            self.transit.get_mut(key).refused = true;
            self.refused(&charge, sent, denial.scope, now);
            self.deny((&charge, epoch, sent), denial, &told.limits, now);
        } else if self.terms.pace.recover(sent.reserved) {
            self.resize(now);
        }
        if told.limits != RateLimits::default() {
            let from = Answered {
                key,
                charge,
                sent,
                good,
            };
            self.learn(&told.limits, Some(from), now);
        }
    }

    fn refused(&mut self, charge: &Charge, sent: Sent, scope: Scope, now: Moment) {
        self.tally.denied(scope);
        for metered in &mut self.meters {
            let unit = metered.meter.unit();
            metered.correction.refused(sent, now);
            if is_about(scope, unit) {
                metered.belief.refused();
            }
            if matches!(scope, Scope::Tokens | Scope::Requests) {
                metered.correction.spared(charge.get(unit));
            }
        }
    }

    /// Takes over the limits that an answer names, where they are to be
    /// learned from it. After a first good answer, or a refusal that names them
    /// all, nothing more is waited for.
    pub(super) fn adopt(&mut self, told: &RateLimits, good: bool, now: Moment) {
        if self.terms.adopt(told) {
            self.notes.push(Note::Learned {
                tokens_per_minute: self.terms.limit(TOKENS),
                requests_per_minute: self.terms.limit(REQUESTS),
            });
            self.resize(now);
        }
        // A refusal that names one limit of two leaves the other to the next answer.
        let done = good || self.terms.learns.are_named_by(told);
        if done && std::mem::take(&mut self.unlearned) {
            self.fall_back(told, now);
        }
    }

    pub(super) fn fall_back(&mut self, told: &RateLimits, now: Moment) {
        if let Some(fallback) = self.terms.fall_back() {
            self.notes.push(Note::NoTokenLimit { fallback });
            self.resize(now);
        }
        if self.terms.learns.requests && told.limit_requests.is_none() {
            self.notes.push(Note::NoRequestLimit);
        }
    }

    /// The provider's count, from nobody's answer in particular.
    pub(crate) fn observe(&mut self, limits: &RateLimits, now: Moment) {
        let now = self.catch_up(now);
        self.told = true;
        self.learn(limits, None, now);
    }

    fn learn(&mut self, limits: &RateLimits, from: Option<Answered>, now: Moment) {
        for metered in &mut self.meters {
            let &Allowed { unit, per, .. } = metered.meter.allowed();
            let Some(told) = told(limits, unit, per) else {
                continue;
            };
            if let (Some(dealings), Some(remaining)) = (&mut self.dealings, told.remaining) {
                dealings.hear(Heard::Remaining {
                    unit,
                    per,
                    remaining,
                    reserved: metered.trusted_since(from),
                });
            }
            if metered.learn(&told, from, &self.terms, now) {
                let meter = unit.name();
                self.notes.push(Note::Disbelieved { meter });
            }
        }
    }

    /// A refusal is news for everybody: rule 6.
    ///
    /// Whatever was told, it closes nothing for longer than a day; one request
    /// then goes first and asks again.
    fn deny(
        &mut self,
        (charge, epoch, sent): (&Charge, Epoch, Sent),
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
        match denial.scope {
            // ===> Exhausted: refused at once, since nobody waits for so long.
            scope @ (Scope::TokensPerDay | Scope::RequestsPerDay) => {
                self.exhaust(scope, delay, now);
            }
            scope if delay > self.terms.max_told_delay => {
                self.exhaust(longer(scope), delay, now);
            }
            // ===> Held: there is nothing to reckon with yet.
            Scope::Tokens | Scope::Requests if self.unlearned => self.hold(now + delay, now),
            scope if self.waits_for(scope).next().is_some() => {
                // ===> Corrected: this very charge fits after the delay, a smaller one
                // sooner. First the pace, by which the delay is reckoned.
                self.slow_if_repeated(sent, told, now);
                let mut heard = Vec::new();
                for metered in self.waits_for(scope) {
                    let &Allowed { unit, per, .. } = metered.meter.allowed();
                    let amount = charge.get(unit);
                    metered.meter.wait_for(amount, delay, now);
                    heard.push(Heard::After {
                        unit,
                        per,
                        amount,
                        delay,
                    });
                }
                if let Some(dealings) = &mut self.dealings {
                    heard.into_iter().for_each(|heard| dealings.hear(heard));
                }
            }
            // ===> Held: what ran out is no meter of ours.
            _ => self.hold(now + delay, now),
        }
    }

    /// The meters by the minute, or shorter, that a refusal of this scope speaks of.
    fn waits_for(&mut self, scope: Scope) -> impl Iterator<Item = &mut Metered> {
        self.meters.iter_mut().filter(move |metered| {
            let &Allowed { unit, per, .. } = metered.meter.allowed();
            is_about(scope, unit) && per <= Per::Minute
        })
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

    /// Closes the budget until `until`, unless that is over already. What older answers
    /// tell afterwards must not undo it.
    pub(crate) fn hold(&mut self, until: Moment, now: Moment) {
        let now = self.catch_up(now);
        if until <= now {
            return;
        }
        if let Some(dealings) = &mut self.dealings {
            dealings.held(until);
        }
        self.close_until(until, now);
    }

    /// The same, whoever was told so.
    pub(super) fn close_until(&mut self, until: Moment, now: Moment) {
        self.tally.held();
        let delay = until - now;
        self.notes.push(Note::Held { delay });
        self.trust.hold(until);
        for metered in &mut self.meters {
            metered.correction.hold(until, now);
        }
    }
}

/// Whether a refusal of this scope speaks of such a meter.
fn is_about(scope: Scope, unit: Unit) -> bool {
    match unit {
        Unit::Tokens | Unit::Input | Unit::Output => scope == Scope::Tokens,
        Unit::Requests => scope == Scope::Requests,
        Unit::Images => false,
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

/// What an answer tells of the meter of a unit by a period.
fn told(limits: &RateLimits, unit: Unit, per: Per) -> Option<Told> {
    match (unit, per) {
        TOKENS => Some(Told {
            limit: limits.limit_tokens,
            remaining: limits.remaining_tokens,
            reset: limits.reset_tokens,
        }),
        REQUESTS => Some(Told {
            limit: limits.limit_requests,
            remaining: limits.remaining_requests,
            reset: limits.reset_requests,
        }),
        _ => None,
    }
}
