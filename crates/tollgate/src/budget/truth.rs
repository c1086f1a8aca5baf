//! The provider's word: rule 5 of the ledger.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::config::Window;
use super::ledger::TRANSIT;
use super::meters::{Requests, Tokens};
use super::others::Others;
use super::terms::Terms;
use crate::answer::RateLimits;
use crate::rules::Moment;

const MINUTE: Duration = Duration::from_secs(60);

/// Corrects the level by what the provider says is left.
///
/// What it says was true when it counted the request, which may be long ago by
/// the time the answer is here. So the level falls to what is left at most,
/// less what is in transit and may not be counted yet, and rises to what is
/// left *surely*: less the headroom, less all that was charged since that
/// request was launched, and less what was in transit then.
///
/// Where others spend from the same account, the level so falls with theirs,
/// and what is in transit is the margin for what they spend until the next
/// answer.
#[derive(Debug, Default)]
pub(super) struct Truth {
    /// All that was ever charged and not refunded; wraps.
    charged: u64,
    /// Only answers to requests launched later may raise the level.
    lowered: Option<Moment>,
    /// Nothing raises the level before.
    steady: Moment,
    refill: Refill,
    others: Others,
}

/// When a request was launched, and what the provider may have counted since.
#[derive(Clone, Copy, Debug)]
pub(super) struct Launched {
    pub(super) at: Moment,
    /// To be subtracted later from all that was charged.
    mark: u64,
}

/// The meters that a correction touches.
pub(super) struct Meters<'a> {
    pub(super) tokens: &'a mut Tokens,
    pub(super) requests: Option<&'a mut Requests>,
}

impl Truth {
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

    #[inline]
    pub(super) fn launch(&self, others_in_transit: u64, at: Moment) -> Launched {
        Launched {
            at,
            mark: self.charged.wrapping_sub(others_in_transit),
        }
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

    /// Takes in what came with the answer to a request launched at `launched`,
    /// or with nobody's in particular.
    pub(super) fn learn(
        &mut self,
        told: &RateLimits,
        launched: Option<Launched>,
        terms: &Terms,
        meters: Meters<'_>,
        now: Moment,
    ) {
        let Meters { tokens, requests } = meters;
        if let (Some(requests), Some(remaining)) = (requests, told.remaining_requests) {
            requests.bucket.lower_to(signed(remaining), now);
        }
        if let Some(remaining) = told.remaining_tokens {
            if tokens.minute.is_none() {
                self.share(remaining, told.limit_tokens, terms, tokens, now);
            }
            self.correct(remaining, told.limit_tokens, launched, terms, tokens, now);
        }
        let counted = launched.map_or(now, |launched| launched.at)..=now;
        if terms.window == Window::Auto && self.refill.is_continuous(told, &counted) {
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
        let rate = terms.rate.min(self.others.leave(limit));
        tokens.bucket.resize(rate, terms.capacity, now);
    }

    fn correct(
        &mut self,
        remaining: u64,
        limit: Option<u64>,
        launched: Option<Launched>,
        terms: &Terms,
        tokens: &mut Tokens,
        now: Moment,
    ) {
        let bucket = &mut tokens.bucket;
        // A count from longer ago than any transit has been refilled since.
        let age = launched.map_or(Duration::ZERO, |launched| now - (launched.at + TRANSIT));
        let left = remaining.saturating_add(bucket.refill_in(age));
        let theirs = self.others.in_transit(terms.limit);
        // A burst in transit is mostly counted already; at the pace of the
        // refill, no more than this is not.
        let uncounted = bucket.in_transit().min(bucket.refill_in(TRANSIT));
        let most = signed(left).saturating_sub_unsigned(uncounted + theirs);
        if most < bucket.level(now) {
            bucket.lower_to(most, now);
            self.distrust_before(launched.map_or(now, |launched| launched.at));
            return;
        }
        // Of a larger account, only the share that the terms allow is ours.
        let ours = limit.is_some_and(|limit| limit <= terms.limit);
        let newer = launched.is_none_or(|launched| Some(launched.at) > self.lowered);
        if ours && newer && now >= self.steady {
            let since = match launched {
                Some(launched) => self.charged.wrapping_sub(launched.mark),
                None => bucket.in_transit(),
            };
            let kept = terms.reserve() + since + theirs;
            bucket.raise_to(remaining.saturating_sub(kept), now);
        }
    }
}

fn signed(tokens: u64) -> i64 {
    i64::try_from(tokens).unwrap_or(i64::MAX)
}

/// Whether resets show a bucket that refills all the time, and not a minute
/// that ends.
///
/// A continuous bucket is full again after `used / limit` minutes, so
/// `limit x reset / used` is a minute at every answer. A fixed minute's reset
/// falls while its use rises, so it can look like that at one level of use,
/// but not at two in a row; nor for longer than the one second that the
/// tolerance spans, or the five between two answers that a new minute hides in.
#[derive(Debug, Default)]
struct Refill {
    in_a_row: u32,
    least_used: u64,
    most_used: u64,
    /// When the first and the last of the row came.
    first: Moment,
    last: Moment,
}

impl Refill {
    /// Answers in a row that must agree.
    const PROOFS: u32 = 3;

    /// So much later must an answer be counted than another one came.
    const SPAN: Duration = Duration::from_secs(10);

    /// The longest gap in a row.
    const GAP: Duration = Duration::from_secs(5);

    /// The provider counted some time within `counted`, which ends now.
    fn is_continuous(&mut self, told: &RateLimits, counted: &RangeInclusive<Moment>) -> bool {
        let (Some(limit), Some(remaining), Some(reset)) =
            (told.limit_tokens, told.remaining_tokens, told.reset_tokens)
        else {
            return false;
        };
        let used = limit.saturating_sub(remaining);
        // Below a hundredth, the resolution of the header hides the window.
        if used.saturating_mul(100) < limit || limit == 0 {
            return false;
        }
        let window = reset.as_millis().saturating_mul(u128::from(limit)) / u128::from(used);
        if !(59_500..=60_500).contains(&window) {
            self.in_a_row = 0;
            return false;
        }
        let (&from, &now) = (counted.start(), counted.end());
        if self.in_a_row == 0 || from > self.last + Self::GAP {
            (self.least_used, self.most_used) = (used, used);
            (self.in_a_row, self.first) = (0, now);
        }
        self.last = now;
        self.in_a_row += 1;
        self.least_used = self.least_used.min(used);
        self.most_used = self.most_used.max(used);
        let differ = self.most_used - self.least_used >= limit / 40;
        let last = from >= self.first + Self::SPAN;
        self.in_a_row >= Self::PROOFS && (differ || last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(limit: u64, remaining: u64, reset_millis: u64) -> RateLimits {
        RateLimits {
            limit_tokens: Some(limit),
            remaining_tokens: Some(remaining),
            reset_tokens: Some(Duration::from_millis(reset_millis)),
            ..RateLimits::default()
        }
    }

    /// Counted at that second, and told at once.
    fn at(second: u64) -> RangeInclusive<Moment> {
        let at = Moment::default() + Duration::from_secs(second);
        at..=at
    }

    #[test]
    fn a_continuous_refill_shows_at_different_levels() {
        let mut refill = Refill::default();
        let at = at(0);
        assert!(!refill.is_continuous(&told(1000, 900, 6_000), &at));
        assert!(!refill.is_continuous(&told(1000, 900, 6_000), &at));
        assert!(
            !refill.is_continuous(&told(1000, 900, 6_000), &at),
            "one level proves nothing"
        );
        assert!(refill.is_continuous(&told(1000, 500, 30_000), &at));
    }

    /// What is used falls only where it refills. Callers that all wait for the
    /// same minute once showed no more than this of it.
    #[test]
    fn a_continuous_refill_shows_while_it_refills() {
        let mut refill = Refill::default();
        assert!(!refill.is_continuous(&told(30_000, 2_673, 54_654), &at(4)));
        assert!(!refill.is_continuous(&told(30_000, 3_184, 53_632), &at(5)));
        assert!(refill.is_continuous(&told(30_000, 3_682, 52_636), &at(6)));
    }

    #[test]
    fn a_continuous_refill_shows_at_one_level_in_time() {
        let mut refill = Refill::default();
        let empty = told(1000, 10, 59_400);
        assert!(!refill.is_continuous(&empty, &at(0)));
        assert!(!refill.is_continuous(&empty, &at(5)));
        assert!(!refill.is_continuous(&empty, &at(9)));
        let late = Moment::default()..=*at(10).end();
        assert!(
            !refill.is_continuous(&empty, &late),
            "it may be an old count"
        );
        assert!(refill.is_continuous(&empty, &at(10)));
    }

    #[test]
    fn what_is_told_once_a_minute_is_no_proof() {
        let mut refill = Refill::default();
        // All spent at the start of every minute.
        for second in (0..600).filter(|second| second % 60 < 2) {
            assert!(!refill.is_continuous(&told(1000, 10, 59_400), &at(second)));
        }
    }

    #[test]
    fn a_fixed_minute_does_not_pass_for_continuous() {
        let mut refill = Refill::default();
        let at = at(0);
        // All spent at once at the start of the minute looks like it.
        assert!(!refill.is_continuous(&told(1000, 10, 59_900), &at));
        assert!(!refill.is_continuous(&told(1000, 5, 59_800), &at));
        assert!(!refill.is_continuous(&told(1000, 0, 59_700), &at));
        assert!(!refill.is_continuous(&told(1000, 0, 40_000), &at));
        // So does a tenth spent when a tenth of the minute is left.
        assert!(!refill.is_continuous(&told(1000, 900, 6_000), &at));
        assert!(!refill.is_continuous(&told(1000, 800, 5_000), &at));
    }

    #[test]
    fn nonsense_is_no_proof() {
        let mut refill = Refill::default();
        let at = at(0);
        for _ in 0..10 {
            assert!(!refill.is_continuous(&told(0, 0, 60_000), &at));
            assert!(!refill.is_continuous(&told(10, 500, 60_000), &at));
            assert!(!refill.is_continuous(&RateLimits::default(), &at));
        }
    }
}
