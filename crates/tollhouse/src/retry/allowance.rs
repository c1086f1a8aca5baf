use std::time::Duration;

use crate::time::Moment;

/// Into how many slices the minute is cut. One more is kept, see [`Slice`].
const SLICES: u64 = 12;

/// How long a slice lasts.
const SLICE: Duration = Duration::from_secs(60 / SLICES);

/// One retry, in the thousandths that shares are reckoned in.
const RETRY: u64 = 1000;

/// How many retries a minute's requests allow; pure, told the time.
///
/// At every retry that it grants, and so in any stretch of a minute that ends
/// with one: retries <= reserve + share x requests.
///
/// It remembers by slices, and errs on the safe side: at the minute's far end
/// a slice's requests are forgotten as soon as one of them may be too old, its
/// retries only when all of them are.
#[derive(Clone, Debug)]
pub(super) struct Allowance {
    /// Thousandths of a retry for each request.
    share: u64,
    /// Retries a minute whatever the requests.
    reserve: u32,
    /// Where slices are counted from: the first look at the clock.
    begun: Option<Moment>,
    /// The slice that is being filled.
    current: u64,
    slices: [Slice; SLICES as usize + 1],
}

/// What happened in five seconds. The oldest one kept reaches over the
/// minute's far end: of it only the retries still count.
#[derive(Clone, Copy, Debug, Default)]
struct Slice {
    requests: u64,
    retries: u64,
}

impl Allowance {
    /// `share` in thousandths of a retry for each request.
    pub(super) fn new(share: u64, reserve: u32) -> Self {
        Allowance {
            share,
            reserve,
            begun: None,
            current: 0,
            slices: [Slice::default(); SLICES as usize + 1],
        }
    }

    /// Other numbers from now on, for what was counted already.
    pub(super) fn set(&mut self, share: u64, reserve: u32) {
        (self.share, self.reserve) = (share, reserve);
    }

    /// A request was made for the first time.
    pub(super) fn earn(&mut self, now: Moment) {
        self.slice(now).requests += 1;
    }

    /// Takes one retry, if there is one.
    pub(super) fn spend(&mut self, now: Moment) -> bool {
        let granted = self.left(now) > 0;
        if granted {
            self.slice(now).retries += 1;
        }
        granted
    }

    /// How many retries could be made now.
    pub(super) fn left(&mut self, now: Moment) -> u64 {
        self.slice(now);
        let oldest = self.place(self.current + 1);
        let fresh = |(place, slice): (usize, &Slice)| {
            let counts = place != oldest;
            slice.requests * u64::from(counts)
        };
        let requests: u64 = self.slices.iter().enumerate().map(fresh).sum();
        let retries: u64 = self.slices.iter().map(|slice| slice.retries).sum();
        let earned = u64::from(self.reserve) * RETRY + requests.saturating_mul(self.share);
        earned.saturating_sub(retries * RETRY) / RETRY
    }

    /// The slice of this instant, what is too old forgotten. An instant before
    /// the last one told counts as that one.
    fn slice(&mut self, now: Moment) -> &mut Slice {
        let begun = *self.begun.get_or_insert(now);
        let current = (now - begun).as_secs() / SLICE.as_secs();
        let passed = current.saturating_sub(self.current).min(SLICES + 1);
        for n in 0..passed {
            let stale = self.place(current - n);
            self.slices[stale] = Slice::default();
        }
        self.current = self.current.max(current);
        let place = self.place(self.current);
        &mut self.slices[place]
    }

    /// Where a slice is kept.
    fn place(&self, slice: u64) -> usize {
        (slice % (SLICES + 1)) as usize
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::default() + Duration::from_secs(seconds)
    }

    #[test]
    fn a_minutes_requests_allow_their_share_and_the_reserve() {
        // Requests, share in thousandths, reserve: retries.
        for (requests, share, reserve, retries) in [
            (0, 200, 0, 0),
            (0, 200, 10, 10),
            (4, 200, 0, 0),
            (5, 200, 0, 1),
            (9, 200, 0, 1),
            (100, 200, 10, 30),
            (100, 0, 3, 3),
            (1, 1_000, 0, 1),
            (7, 2_500, 1, 18),
        ] {
            let mut allowance = Allowance::new(share, reserve);
            (0..requests).for_each(|_| allowance.earn(at(0)));
            assert_eq!(allowance.left(at(0)), retries);
            let granted = (0..1_000).take_while(|_| allowance.spend(at(59))).count();
            assert_eq!(granted as u64, retries, "{requests} x {share} + {reserve}");
        }
    }

    #[test]
    fn what_was_earned_and_spent_is_forgotten_after_a_minute() {
        let mut allowance = Allowance::new(1_000, 2);
        (0..3).for_each(|_| allowance.earn(at(0)));
        (0..4).for_each(|_| assert!(allowance.spend(at(4))));
        for (second, left) in [(4, 1), (59, 1), (60, 0), (64, 0)] {
            assert_eq!(allowance.clone().left(at(second)), left, "at {second} s");
        }
        for second in (65..200).chain(1_000_000..1_000_100) {
            assert_eq!(allowance.clone().left(at(second)), 2, "at {second} s");
        }
    }

    #[test]
    fn time_that_seems_to_go_back_stands_still() {
        let mut allowance = Allowance::new(1_000, 0);
        allowance.earn(at(100));
        assert_eq!(allowance.left(at(0)), 1);
        assert!(allowance.spend(at(50)));
        assert_eq!(allowance.left(at(159)), 0);
    }

    proptest! {
        /// Against a list of all that happened: never more than the promise,
        /// and never less than what two slices' blur accounts for.
        #[test]
        fn retries_stay_within_any_minutes_allowance(
            share in 0_u64..1_500,
            reserve in 0_u32..5,
            steps in prop::collection::vec((0_u64..9_000, any::<bool>()), 1..400),
        ) {
            let mut allowance = Allowance::new(share, reserve);
            let mut now = Duration::ZERO;
            let (mut requests, mut retries) = (Vec::new(), Vec::new());
            let minute = Duration::from_secs(60);
            for (millis, is_request) in steps {
                now += Duration::from_millis(millis);
                let moment = Moment::default() + now;
                if is_request {
                    allowance.earn(moment);
                    requests.push(now);
                    continue;
                }
                let since = |list: &[Duration], length| {
                    list.iter().filter(|then| now - **then < length).count() as u64
                };
                let allowed = |requests| u64::from(reserve) * 1000 + share * requests;
                if allowance.spend(moment) {
                    retries.push(now);
                    prop_assert!(since(&retries, minute) * 1000 <= allowed(since(&requests, minute)));
                } else {
                    let surely = allowed(since(&requests, minute - SLICE));
                    prop_assert!((since(&retries, minute + SLICE) + 1) * 1000 > surely);
                }
            }
        }
    }
}
