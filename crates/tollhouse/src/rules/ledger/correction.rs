//! Correction: our level reconciled with the provider's count, rule 5 of the ledger.

use std::time::Duration;

use super::TRANSIT;
use super::cross_traffic::CrossTraffic;
use super::refill::Refill;
use super::terms::{Accounting, Share, Terms, Window};
use super::{Sent, Told};
use crate::rules::Meter;
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
#[cfg_attr(test, derive(Clone, Hash))]
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
}

/// All that had been charged at some moment, less what was in transit then: to be
/// subtracted later from all that was charged.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(test, derive(Hash))]
pub(super) struct Mark(u64);

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

    /// What was just charged, itself included, with `others_in_transit` before it.
    #[inline]
    pub(super) fn mark(&self, others_in_transit: u64) -> Mark {
        Mark(self.charged.wrapping_sub(others_in_transit))
    }

    /// An answer to this one was a refusal.
    pub(super) fn refused(&mut self, sent: Sent, now: Moment) {
        self.distrust_before(sent.by(now));
    }

    /// Nobody takes what a count that is not believed is silent about.
    pub(super) fn forget_others(&mut self) {
        self.others = CrossTraffic::default();
    }

    /// Something that is known of the account since `at` is worse than what
    /// answers to older requests may tell.
    pub(super) fn distrust_before(&mut self, at: Moment) {
        self.lowered = self.lowered.max(Some(at));
    }

    /// Whether an answer to a request that was reserved then may raise the level.
    pub(super) fn is_newer(&self, reserved: Moment) -> bool {
        Some(reserved) > self.lowered
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
        told: &Told,
        sent: Option<(Mark, Sent)>,
        terms: &Terms,
        meter: &mut Meter,
        now: Moment,
    ) {
        if let Some(remaining) = told.remaining {
            meter.lower_pace(remaining, now);
            // The window stays while minutes may be fixed ones, and their count rises
            // by no steady refill that others could be read off. Those who share a ledger
            // are no others.
            if !meter.is_windowed() && terms.share == Share::Whole {
                self.share(remaining, told.limit, meter, now);
            }
            self.correct(remaining, told.limit, sent, terms, meter, now);
        }
        let left = sent.map_or((now, now), |(_, sent)| (sent.reserved, sent.by(now)));
        let per = meter.allowed().per;
        if terms.window == Window::Auto && self.refill.is_continuous(told, per, left, now) {
            meter.drop_window();
        }
    }

    /// Leaves others what they take of the refill.
    fn share(&mut self, remaining: u64, limit: Option<u64>, meter: &mut Meter, now: Moment) {
        let allowed = *meter.allowed();
        // Of a larger account, others may well have the rest.
        let Some(limit) = limit.filter(|limit| *limit <= allowed.limit) else {
            return;
        };
        self.others.learn(remaining, limit, allowed.per, now);
        meter.slow_to(self.others.leave(limit, allowed.per), now);
    }

    /// Leaves them the same after the limit has changed.
    pub(super) fn leave_others(&self, meter: &mut Meter, now: Moment) {
        let allowed = *meter.allowed();
        if !meter.is_windowed() {
            meter.slow_to(self.others.leave(allowed.limit, allowed.per), now);
        }
    }

    /// Whatever the level was raised by so far, the provider may have told refunds
    /// of all that is outstanding.
    pub(super) fn account_anew(&mut self, outstanding: u64) {
        self.advanced = outstanding;
    }

    fn correct(
        &mut self,
        remaining: u64,
        limit: Option<u64>,
        sent: Option<(Mark, Sent)>,
        terms: &Terms,
        meter: &mut Meter,
        now: Moment,
    ) {
        let allowed = *meter.allowed();
        let Some(bucket) = meter.level() else {
            return;
        };
        // A count from longer ago than any transit has been refilled since.
        let age = sent.map_or(Duration::ZERO, |(_, sent)| now - (sent.by(now) + TRANSIT));
        let left = remaining.saturating_add(bucket.refill_in(age));
        let theirs = self.others.in_transit(allowed.limit, allowed.per);
        // A burst in transit is mostly counted already; at the pace of the
        // refill, no more than this is not.
        let uncounted = bucket.in_transit().min(bucket.refill_in(TRANSIT));
        let most = signed(left).saturating_sub_unsigned(uncounted.saturating_add(theirs));
        if most < bucket.level(now) {
            // ===> Down, at once: whoever is wrong on this side only waits. Answers
            // that left before this one did may still say more, and must not raise it.
            bucket.lower_to(most, now);
            self.distrust_before(sent.map_or(now, |(_, sent)| sent.by(now)));
            return;
        }
        // Of a larger account, only the share that the terms allow is ours.
        let ours = limit.is_some_and(|limit| limit <= allowed.limit);
        let newer = sent.is_none_or(|(_, sent)| self.is_newer(sent.reserved));
        if ours && newer && now >= self.steady {
            // ===> Up, as far as is sure: perhaps nothing of what was charged since its
            // reservation is in the count yet, nor of what was in transit then. Where it
            // is nobody's answer in particular, nothing of what is in transit now.
            let since = match sent {
                Some((mark, _)) => self.charged.wrapping_sub(mark.0),
                None => bucket.in_transit(),
            };
            let kept = allowed.kept.saturating_add(since).saturating_add(theirs);
            let before = bucket.level(now);
            bucket.raise_to(remaining.saturating_sub(kept), now);
            // The count may have risen by refunds that are still to be settled here;
            // settling them as well would give them twice.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refund_that_was_told_is_taken_off_those_that_follow() {
        let mut correction = Correction::default();
        correction.account_anew(100);
        // Unused, still outstanding: what is given back of it.
        for (unused, outstanding, given) in [(30, 50, 0), (90, 50, 20), (10, 50, 10)] {
            assert_eq!(correction.settled(unused, outstanding), given);
        }
        correction.account_anew(100);
        assert_eq!(correction.settled(30, 0), 0);
        assert_eq!(correction.settled(30, 50), 30, "none of those is left");
    }

    #[test]
    fn what_left_at_the_instant_of_worse_news_is_not_newer() {
        let news = Moment::default() + MINUTE;
        let mut correction = Correction::default();
        assert!(correction.is_newer(Moment::default()));
        correction.distrust_before(news);
        correction.distrust_before(Moment::default());
        assert!(!correction.is_newer(news));
        assert!(correction.is_newer(news + Duration::from_nanos(1)));
    }
}
