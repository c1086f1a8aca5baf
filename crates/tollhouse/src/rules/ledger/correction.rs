//! The provider's word: rule 5 of the ledger.

use std::time::Duration;

use super::TRANSIT;
use super::answers::Answered;
use super::belief::{Belief, Verdict};
use super::cross_traffic::CrossTraffic;
use super::meters::{Requests, Tokens};
use super::refill::Refill;
use super::terms::{Accounting, Terms, Window};
use crate::answer::{RateLimits, Scope};
use crate::rules::stats::Note;
use crate::time::Moment;

const MINUTE: Duration = Duration::from_secs(60);

/// Corrects the level by what the provider says is left.
///
/// What it says was true when it counted the request, which may be long ago by
/// the time the answer is here. So the level falls to what is left at most,
/// less what is in transit and may not be counted yet, and rises to what is
/// left *surely*: less the headroom, less all that was charged since that
/// request was reserved, and less what was in transit then.
///
/// Where others spend from the same account, the level so falls with theirs,
/// and what is in transit is the margin for what they spend until the next
/// answer.
#[derive(Debug, Default)]
pub(super) struct Correction {
    /// All that was ever charged and not refunded; wraps.
    charged: u64,
    /// Only answers to requests that surely left later may raise the level.
    lowered: Option<Moment>,
    /// Nothing raises the level before.
    steady: Moment,
    refill: Refill,
    others: CrossTraffic,
    /// By how much the level was raised while usage was still to be settled.
    /// What the provider told may have had refunds in it already.
    advanced: u64,
    tokens_believed: Belief,
    requests_believed: Belief,
}

/// When a request left, as far as that is known, and what the provider may
/// have counted since.
///
/// Its launch is told once it has been handed on. On another thread it may have
/// been counted by then, even answered, and others after it: so what the count in
/// its answer has in it for sure is reckoned from its reservation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    /// It left no sooner.
    pub(super) reserved: Moment,
    /// It left no later, where that was told.
    pub(super) launched: Option<Moment>,
    /// To be subtracted later from all that was charged.
    mark: u64,
}

impl Sent {
    fn by(&self, now: Moment) -> Moment {
        self.launched.unwrap_or(now)
    }
}

/// The meters that a correction touches.
pub(super) struct Meters<'a> {
    pub(super) tokens: &'a mut Tokens,
    pub(super) requests: Option<&'a mut Requests>,
    pub(super) notes: &'a mut Vec<Note>,
}

impl Correction {
    #[inline]
    pub(super) fn charged(&mut self, cost: u64) {
        self.charged = self.charged.wrapping_add(cost);
        self.others.spent(cost);
    }

    pub(super) fn refunded(&mut self, cost: u64) {
        self.charged = self.charged.wrapping_sub(cost);
        self.others.returned(cost);
    }

    /// The provider did not take, or gave back, what was charged here.
    pub(super) fn spared(&mut self, tokens: u64) {
        self.others.returned(tokens);
    }

    /// What is to be given back of `unused` tokens when usage is settled, with
    /// `outstanding` still to come: a refund that the provider has told, and the
    /// level has risen by, is not given twice.
    pub(super) fn settled(&mut self, unused: u64, outstanding: u64) -> u64 {
        self.spared(unused);
        let told = self.advanced.min(unused);
        self.advanced = match outstanding {
            0 => 0,
            _ => self.advanced - told,
        };
        unused - told
    }

    /// What was just charged, itself included, and `others_in_transit` before it.
    #[inline]
    pub(super) fn reserved(&self, others_in_transit: u64, now: Moment) -> Sent {
        Sent {
            reserved: now,
            launched: None,
            mark: self.charged.wrapping_sub(others_in_transit),
        }
    }

    /// An answer to this one was a refusal.
    pub(super) fn refused(&mut self, sent: Sent, scope: Scope, now: Moment) {
        match scope {
            Scope::Tokens => self.tokens_believed.refused(),
            Scope::Requests => self.requests_believed.refused(),
            _ => {}
        }
        self.distrust_before(sent.by(now));
    }

    /// Something that is known of the account since `at` is worse than what
    /// answers to older requests may tell.
    pub(super) fn distrust_before(&mut self, at: Moment) {
        self.lowered = self.lowered.max(Some(at));
    }

    /// The budget is held until `until`. However much is left then, nobody is
    /// helped by a burst: for a minute after it, only the refill counts.
    pub(super) fn hold(&mut self, until: Moment, now: Moment) {
        self.distrust_before(now);
        self.steady = self.steady.max(until + MINUTE);
    }

    /// Takes in what came with the answer to a request, or with nobody's in
    /// particular.
    pub(super) fn learn(
        &mut self,
        told: &RateLimits,
        from: Option<Answered>,
        terms: &Terms,
        meters: Meters<'_>,
        now: Moment,
    ) {
        let Meters {
            tokens,
            requests,
            notes,
        } = meters;
        let sent = from.map(|from| from.sent);
        // Only an admitted request contradicts what was said before.
        let admitted = from.filter(|from| from.good);
        if let (Some(requests), Some(remaining)) = (requests, told.remaining_requests) {
            let verdict = admitted.map_or(Verdict::Believed, |from| {
                let reserved = from.sent.reserved;
                self.requests_believed.admitted(remaining, 1, reserved, now)
            });
            match verdict {
                Verdict::Believed => requests.bucket.lower_to(signed(remaining), now),
                Verdict::Lost => notes.push(Note::Disbelieved { meter: "requests" }),
                Verdict::Disbelieved => {}
            }
        }
        let remaining_tokens = told.remaining_tokens.filter(|&remaining| {
            let verdict = admitted.map_or(Verdict::Believed, |from| {
                let reserved = from.sent.reserved;
                self.tokens_believed
                    .admitted(remaining, from.cost, reserved, now)
            });
            if verdict == Verdict::Lost {
                notes.push(Note::Disbelieved { meter: "tokens" });
                // Nobody takes what the count is silent about.
                self.others = CrossTraffic::default();
                tokens
                    .bucket
                    .resize(terms.token_rate(), terms.capacity, now);
            }
            verdict == Verdict::Believed
        });
        if let Some(remaining) = remaining_tokens {
            if tokens.minute.is_none() {
                self.share(remaining, told.limit_tokens, terms, tokens, now);
            }
            self.correct(remaining, told.limit_tokens, sent, terms, tokens, now);
        }
        let left = sent.map_or((now, now), |sent| (sent.reserved, sent.by(now)));
        if terms.window == Window::Auto && self.refill.is_continuous(told, left, now) {
            tokens.minute = None;
        }
    }

    /// Leaves others what they take of the refill.
    fn share(
        &mut self,
        remaining: u64,
        limit: Option<u64>,
        terms: &Terms,
        tokens: &mut Tokens,
        now: Moment,
    ) {
        // Of a larger account, others may well have the rest.
        let Some(limit) = limit.filter(|limit| *limit <= terms.limit) else {
            return;
        };
        self.others.learn(remaining, limit, now);
        let rate = terms.token_rate().min(self.others.leave(limit));
        tokens.bucket.resize(rate, terms.capacity, now);
    }

    fn correct(
        &mut self,
        remaining: u64,
        limit: Option<u64>,
        sent: Option<Sent>,
        terms: &Terms,
        tokens: &mut Tokens,
        now: Moment,
    ) {
        let bucket = &mut tokens.bucket;
        // A count from longer ago than any transit has been refilled since.
        let age = sent.map_or(Duration::ZERO, |sent| now - (sent.by(now) + TRANSIT));
        let left = remaining.saturating_add(bucket.refill_in(age));
        let theirs = self.others.in_transit(terms.limit);
        // A burst in transit is mostly counted already; at the pace of the
        // refill, no more than this is not.
        let uncounted = bucket.in_transit().min(bucket.refill_in(TRANSIT));
        let most = signed(left).saturating_sub_unsigned(uncounted.saturating_add(theirs));
        if most < bucket.level(now) {
            bucket.lower_to(most, now);
            self.distrust_before(sent.map_or(now, |sent| sent.by(now)));
            return;
        }
        // Of a larger account, only the share that the terms allow is ours.
        let ours = limit.is_some_and(|limit| limit <= terms.limit);
        let newer = sent.is_none_or(|sent| Some(sent.reserved) > self.lowered);
        if ours && newer && now >= self.steady {
            let since = match sent {
                Some(sent) => self.charged.wrapping_sub(sent.mark),
                None => bucket.in_transit(),
            };
            let kept = terms.reserve().saturating_add(since).saturating_add(theirs);
            let before = bucket.level(now);
            bucket.raise_to(remaining.saturating_sub(kept), now);
            if terms.accounting == Accounting::AsUsed {
                let raised = bucket.level(now).saturating_sub(before);
                let raised = u64::try_from(raised).unwrap_or(0);
                self.advanced = self.advanced.saturating_add(raised);
            }
        }
    }
}

fn signed(tokens: u64) -> i64 {
    i64::try_from(tokens).unwrap_or(i64::MAX)
}
