//! How far the level is believed: slow start, holds, and the half-open probe at
//! their end.

use std::time::Duration;

use crate::rules::{Random, When};
use crate::time::Moment;

/// The first hold where the provider told no delay, before jitter.
const FIRST_HOLD: Duration = Duration::from_secs(1);

/// The longest such hold.
const LONGEST_HOLD: Duration = Duration::from_secs(60);

/// Which period of trust a request belongs to: an answer to one that was sent
/// before a hold says nothing about the time after it.
pub(super) type Epoch = u32;

/// What may be spent on levels that are not confirmed: costs are the time that
/// they take to refill, of whichever meter takes longest.
///
/// It is spent no faster than the bucket refills. If the provider's is full,
/// that loses nothing; if it is empty, that is as fast as anybody may go.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(test, derive(Hash))]
pub(super) struct Allowance {
    /// In all.
    left: Duration,
    /// When all that was spent will have been refilled.
    refilled: Option<Moment>,
}

impl Allowance {
    /// At most so much, at the pace of the refill.
    pub(super) fn new(left: Duration) -> Self {
        Allowance {
            left,
            refilled: None,
        }
    }

    /// One request at a time.
    pub(super) const NONE: Allowance = Allowance {
        left: Duration::ZERO,
        refilled: None,
    };

    fn when(self, cost: Duration, now: Moment) -> When {
        match self.refilled {
            _ if cost > self.left => When::OnRelease,
            Some(refilled) if refilled > now => When::At(refilled),
            _ => When::Now,
        }
    }

    fn spend(&mut self, cost: Duration, now: Moment) {
        self.left = self.left.saturating_sub(cost);
        self.refilled = Some(self.refilled.map_or(now, |at| at.max(now)) + cost);
    }
}

/// While the level is not confirmed, only an allowance may be spent on it (slow
/// start), or one request at a time: the probe (a breaker's half-open state),
/// whose answer confirms it.
///
/// # Slow start: an allowance, no hold
///
/// - answered well: to *confirmed*
/// - refused, and held: to *held*
///
/// # Confirmed: no allowance, no hold
///
/// - held: to *held*
///
/// # Held: until an instant
///
/// - held again: stays, until the later of the two
/// - the instant comes: to *half-open*
///
/// # Half-open: no allowance but for one, and the hold is over
///
/// - nobody unanswered: the next to ask is the probe, and the burst goes with the
///   first of them
/// - the probe is answered well: to *confirmed*
/// - the probe is refused and all is held: to *held*, for twice as long where no
///   delay was told
/// - the probe is dropped, or refused with a delay that only corrects the level:
///   stays, and the next to ask is the probe
///
/// Every hold begins an epoch. A good answer of an earlier one confirms nothing,
/// and a refusal that told no delay holds nobody again: both left before whatever
/// closed the budget.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, Hash))]
pub(super) struct Trust {
    epoch: Epoch,
    /// What may be spent unconfirmed; `None` once confirmed.
    allowance: Option<Allowance>,
    /// Requests of this epoch that nobody answered yet.
    unanswered: usize,
    /// Nothing passes before.
    held_until: Option<Moment>,
    /// Whether the probe's admission spends the whole burst, so that the
    /// others follow at the bucket's pace and not as a herd.
    drains: bool,
    /// Holds in a row for which no delay was told.
    untold: u32,
    random: Random,
}

/// What to do about a refusal that told no delay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Untold {
    /// How long to hold: doubles with every such hold in a row, half of it at
    /// random.
    pub(super) delay: Duration,
    /// Whether others were answered well before: then it was not the level that
    /// was wrong from the start, or still is after a hold.
    pub(super) confirmed: bool,
}

impl Trust {
    /// `allowance` is what may be spent until a first answer, if not all.
    pub(super) fn new(allowance: Option<Allowance>) -> Self {
        Trust {
            epoch: 0,
            allowance,
            unanswered: 0,
            held_until: None,
            drains: false,
            untold: 0,
            random: Random::from_entropy(),
        }
    }

    /// Whether nothing was held since that epoch began.
    #[inline]
    pub(super) fn is_of_now(&self, epoch: Epoch) -> bool {
        self.epoch == epoch
    }

    /// Whether anything may be spent: confirmed, and so no hold, since only one that was
    /// let in after it confirms anything.
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.allowance.is_none()
    }

    pub(super) fn when(&self, cost: impl FnOnce() -> Duration, now: Moment) -> When {
        match (self.held_until, self.allowance) {
            // Held.
            (Some(until), _) if until > now => When::At(until),
            // Slow start, or half-open with its probe out. One that is free may be
            // refused like any other, so it waits, too.
            (_, Some(allowance)) if self.unanswered > 0 => {
                allowance.when(cost().max(Duration::from_nanos(1)), now)
            }
            _ => When::Now,
        }
    }

    /// A request is admitted; says to which epoch it belongs, and whether the
    /// burst goes with it.
    #[inline]
    pub(super) fn admit(&mut self, cost: impl FnOnce() -> Duration, now: Moment) -> (Epoch, bool) {
        self.unanswered += 1;
        if let Some(allowance) = &mut self.allowance {
            allowance.spend(cost(), now);
        }
        (self.epoch, std::mem::take(&mut self.drains))
    }

    /// An admitted request will not be answered any more.
    #[inline]
    pub(super) fn forget(&mut self, epoch: Epoch) {
        if epoch == self.epoch {
            self.unanswered -= 1;
        }
    }

    /// An admitted request was answered, and not with a refusal.
    #[inline]
    pub(super) fn confirm(&mut self, epoch: Epoch) {
        if epoch == self.epoch {
            // ===> Confirmed
            self.allowance = None;
            self.untold = 0;
        }
    }

    /// Closes the budget until `until`; a hold never shortens another.
    pub(super) fn hold(&mut self, until: Moment) {
        // ===> Held, and half-open by itself once `until` has come.
        self.held_until = self.held_until.max(Some(until));
        self.epoch = self.epoch.wrapping_add(1);
        // Of the new epoch: those of the old one are not waited for, since their
        // answers tell nothing of the time after the hold.
        self.unanswered = 0;
        self.allowance = Some(Allowance::NONE);
        self.drains = true;
    }

    /// A refusal told no delay. `None` where the refused request is from before
    /// the present hold: it tells nothing new.
    pub(super) fn untold(&mut self, epoch: Epoch) -> Option<Untold> {
        if epoch != self.epoch {
            return None;
        }
        // Before the hold that follows makes it unconfirmed.
        let confirmed = self.allowance.is_none();
        let whole = FIRST_HOLD
            .saturating_mul(1 << self.untold.min(16))
            .min(LONGEST_HOLD);
        self.untold += 1;
        Some(Untold {
            // Processes that share a key were refused at the same moment; they
            // must not probe at the same one.
            delay: whole.mul_f64(0.5 + 0.5 * self.random.fraction()),
            confirmed,
        })
    }

    /// The end of the last hold, if that is yet to come or was so long ago at most.
    pub(super) fn held_within(&self, ago: Duration, now: Moment) -> Option<Moment> {
        self.held_until.filter(|until| *until + ago > now)
    }

    pub(super) fn held_until(&self, now: Moment) -> Option<Moment> {
        self.held_until.filter(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEC: Duration = Duration::from_secs(1);

    #[test]
    fn an_unconfirmed_level_is_spent_with_care() {
        let now = Moment::default();
        let mut trust = Trust::new(Some(Allowance::new(100 * SEC)));
        assert_eq!(
            trust.when(|| 500 * SEC, now),
            When::Now,
            "somebody must go first"
        );
        let (epoch, drains) = trust.admit(|| 60 * SEC, now);
        assert!(!drains);
        let refilled = now + 60 * SEC;
        assert_eq!(trust.when(|| 40 * SEC, now), When::At(refilled));
        assert_eq!(trust.when(|| 40 * SEC, refilled), When::Now);
        assert_eq!(trust.when(|| 41 * SEC, refilled), When::OnRelease);
        trust.forget(epoch);
        assert_eq!(
            trust.when(|| 41 * SEC, now),
            When::Now,
            "nobody else will confirm it"
        );
        let (epoch, _) = trust.admit(|| 41 * SEC, now);
        trust.confirm(epoch);
        assert_eq!(trust.when(|| Duration::MAX, now), When::Now);
    }

    #[test]
    fn a_hold_ends_with_one_probe() {
        let now = Moment::default();
        let mut trust = Trust::new(None);
        let (old, _) = trust.admit(|| 1 * SEC, now);
        trust.hold(now + 10 * SEC);
        trust.hold(now + 5 * SEC);
        assert_eq!(trust.when(|| 1 * SEC, now), When::At(now + 10 * SEC));
        let end = now + 10 * SEC;
        assert_eq!(trust.when(|| 1 * SEC, end), When::Now);
        let (probe, drains) = trust.admit(|| 1 * SEC, now);
        assert!(drains);
        assert_eq!(trust.when(|| 1 * SEC, end), When::OnRelease);
        trust.confirm(old);
        trust.forget(old);
        assert_eq!(
            trust.when(|| 1 * SEC, end),
            When::OnRelease,
            "an old answer proves nothing"
        );
        trust.confirm(probe);
        assert_eq!(trust.when(|| 1 * SEC, end), When::Now);
    }

    #[test]
    fn untold_holds_double_up_to_a_minute() {
        let now = Moment::default();
        let mut trust = Trust::new(None);
        for whole in [1, 2, 4, 8, 16, 32, 60, 60] {
            let (epoch, _) = trust.admit(|| 1 * SEC, now);
            let Untold { delay, confirmed } = trust.untold(epoch).expect("of this epoch");
            assert_eq!(confirmed, whole == 1, "the first time");
            assert!(
                delay >= whole * SEC / 2 && delay <= whole * SEC,
                "{delay:?}"
            );
            trust.hold(now + delay);
            assert_eq!(trust.untold(epoch), None, "one herd, one hold");
        }
    }

    #[test]
    fn a_hold_is_over_at_its_end() {
        let now = Moment::default();
        let (mut trust, end) = (Trust::new(None), now + 10 * SEC);
        assert!(trust.is_open());
        assert_eq!(trust.held_until(now), None);
        assert_eq!(trust.held_within(60 * SEC, now), None);
        trust.hold(end);
        assert!(!trust.is_open());
        let before = |instant: Moment| instant - Duration::from_nanos(1);
        assert_eq!(trust.held_until(before(end)), Some(end));
        assert_eq!(trust.held_until(end), None);
        let minute_later = end + 60 * SEC;
        assert_eq!(trust.held_within(60 * SEC, before(minute_later)), Some(end));
        assert_eq!(trust.held_within(60 * SEC, minute_later), None);
    }

    /// A request that is free waits for the first answer like any other.
    #[test]
    fn nobody_goes_beside_the_first_where_nothing_is_known() {
        let now = Moment::default();
        let mut trust = Trust::new(Some(Allowance::NONE));
        let (first, _) = trust.admit(|| Duration::ZERO, now);
        assert_eq!(trust.when(|| Duration::ZERO, now), When::OnRelease);
        trust.forget(first);
        assert_eq!(trust.when(|| Duration::ZERO, now), When::Now);
    }
}
