//! The rules of admission: pure, synchronous, told the time.
//!
//! A rule knows how much of a scarce thing is there and answers, for the
//! request at the head of a queue: *now*, *at this instant* or *when something
//! is released*. It reads no clock, holds no waker and never waits; the
//! [queue](crate::queue) does that for all of them.

mod bucket;
mod compound;
mod cost;
mod leases;
pub(crate) mod ledger;
mod line;
mod meter;
mod pool;
mod random;
mod slots;
mod spacing;
pub(crate) mod stats;
mod window;

use std::time::Duration;

use crate::charge::{Charge, Total};
use crate::error::Refused;
use crate::time::{Moment, Now};

pub(crate) use bucket::{Bucket, Room};
pub(crate) use cost::{Charged, Cost};
pub(crate) use leases::{Agreed, Common, Demand, Granted, LATELY, Leases, Limited, Wish};
pub(crate) use line::{Beside, Ends, Key, Line};
pub(crate) use meter::{Allowed, Meter};
pub(crate) use pool::{Limits, Pool};
pub(crate) use random::Random;
pub(crate) use slots::Slots;
pub(crate) use spacing::Spacing;
use stats::{Note, Stats};
pub(crate) use window::Window;

/// How a request is handed on.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tollhouse::gate::{Launch, Now};
/// use tollhouse::{Gate, Pass, TokenBudget, TpmBudgetLayer};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// for (launch, in_transit) in [(Launch::ToWire, 0), (Launch::ToService, 100)] {
///     let budget = TokenBudget::per_minute(30_000).build()?;
///     let gate = TpmBudgetLayer::new(budget.clone(), |_: &()| 100);
///     let mut pass = Gate::<(), ()>::pass(&gate, &());
///     pass.admitted().await?;
///     pass.launched(launch, &mut Now::unread());
///
///     // What left at once has surely been counted by the provider.
///     tokio::time::sleep(Duration::from_secs(2)).await;
///     assert_eq!(budget.snapshot().in_transit, in_transit);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Launch {
    /// To the transport: it leaves now.
    ToWire,
    /// To another service, which may keep it for a while.
    ToService,
}

/// When a request may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// At once.
    Now,
    /// Not before this instant; ask again then.
    At(Moment),
    /// Not before somebody gives something back; ask again then.
    OnRelease,
    /// Not while what is allowed is what it is, whatever is given back; ask again when
    /// [`prices`](Rule::prices) has changed.
    OnChange,
    /// Whatever happens, and why.
    Never(Refused),
}

impl When {
    /// When both allow it: the later of two answers.
    #[inline]
    pub(crate) fn and(self, other: When) -> When {
        use When::{At, Never, Now, OnChange, OnRelease};
        match (self, other) {
            (Now, when) | (when, Now) => when,
            (never @ Never(_), _) | (_, never @ Never(_)) => never,
            (OnChange, _) | (_, OnChange) => OnChange,
            (OnRelease, _) | (_, OnRelease) => OnRelease,
            (At(a), At(b)) => At(a.max(b)),
        }
    }
}

/// What a [queue](crate::queue) needs of a rule.
///
/// The time comes as a [`Now`] because a rule about slots never needs it.
pub(crate) trait Rule: Send + Sized + 'static {
    /// The gate's name in traces.
    const NAME: &'static str;

    /// What an admitted request holds, to be given back by [`release`].
    ///
    /// [`release`]: Rule::release
    type Held: Send;

    /// Whether a request of this charge may pass, were it the first in line.
    fn when(&mut self, charge: &Charge, now: &mut Now) -> When;

    /// Whether [`when`](Rule::when) would surely say [`When::Now`], as far as a glance
    /// tells: mostly there is so much that nothing need be brought up to date to see it.
    /// Where it does not tell, that is to be asked. It reads the clock only where it must.
    #[inline]
    fn is_open(&mut self, charge: &Charge, now: &mut Now) -> bool {
        let _ = (charge, now);
        false
    }

    /// Whether [`when`](Rule::when) would surely say [`When::OnRelease`], as far as a glance
    /// tells, whatever time does meanwhile: so much is held that nothing need be brought up
    /// to date to see it.
    #[inline]
    fn is_shut(&self, charge: &Charge) -> bool {
        let _ = charge;
        false
    }

    /// Lets a request pass that was told [`When::Now`], or that it is
    /// [open](Rule::is_open). While `now` is unread, it is to be handed on at once.
    fn take(&mut self, charge: &Charge, now: &mut Now) -> Self::Held;

    /// The request is handed on: to the wire itself, or to a service that may
    /// yet keep it waiting.
    fn launch(&mut self, held: &Self::Held, to: Launch, now: &mut Now);

    /// The request is done or gave up; gives back what can be given back, and says
    /// what of it stands.
    fn release(&mut self, held: Self::Held, now: &mut Now) -> Charged;

    /// Whether whoever holds this was never launched, so that nothing of it stands once he
    /// gives it back, and it may be [passed on](Rule::pass_on).
    #[inline]
    fn is_unused(&self, held: &Self::Held) -> bool {
        let _ = held;
        false
    }

    /// Whether what was [never used](Rule::is_unused) may be held by one of this charge from
    /// now on, as it is: it was taken for the same, which would be let in if all of it went
    /// back first. Then it is as if he had taken it now.
    #[inline]
    fn pass_on(&mut self, held: &Self::Held, charge: &Charge, now: &mut Now) -> bool {
        let _ = (held, charge, now);
        false
    }

    /// The request never reached the provider, launched though it may be; gives
    /// back all that it took, as far as nothing has come of it since.
    fn unsend(&mut self, held: Self::Held, now: &mut Now) -> Charged {
        self.release(held, now);
        Charged::Nothing
    }

    /// What a request of this charge costs of the scarcest thing, for what is fair
    /// between callers. Never nothing.
    #[inline]
    fn cost(&self, charge: &Charge) -> Cost {
        let _ = charge;
        Cost::LEAST
    }

    /// Another number whenever [`cost`](Self::cost) answers another way than before, or
    /// [`when`](Self::when) may not say [`When::OnChange`] any more.
    #[inline]
    fn prices(&self) -> u32 {
        0
    }

    /// Whether it looks at the clock wherever a glance does not do.
    const IS_TIMED: bool = false;

    /// Whether anything that is held can lapse.
    const LAPSES: bool = false;

    /// Whether what an admitted request holds has lapsed, because it did nothing
    /// with it for so long that somebody else may be let in on it. Then all that it
    /// holds goes back, and it stands first in line again.
    #[inline]
    fn has_lapsed(&mut self, held: &Self::Held, now: &mut Now) -> bool {
        let _ = (held, now);
        false
    }

    /// How long a newcomer would wait, as far as can be told.
    fn expected_wait(&mut self, charge: &Charge, ahead: Ahead, now: &mut Now) -> Duration;

    /// How long it would wait for sure.
    fn least_wait(&mut self, charge: &Charge, ahead: Ahead, now: &mut Now) -> Duration {
        self.expected_wait(charge, ahead, now)
    }

    /// Adds all that it has counted since it began, and writes down how it stands as
    /// of the last instant that it knows of.
    #[inline]
    fn show(&mut self, stats: &mut Stats) {
        let _ = stats;
    }

    /// Whether somebody outside is to be called.
    #[inline]
    fn calls(&self) -> bool {
        false
    }

    /// What he is to be called for, once.
    fn take_call(&mut self) -> Option<Need> {
        None
    }

    /// Whether there is anything to say.
    #[inline]
    fn has_notes(&self) -> bool {
        false
    }

    /// What there is to say since the last time. A rule writes no event
    /// itself, because it runs under a lock; the queue does it afterwards.
    fn take_notes(&mut self) -> Vec<Note> {
        Vec::new()
    }
}

/// What somebody outside is called for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Something is lacking that only he can give.
    More,
    /// Something is to be told that cannot wait.
    Word,
}

/// What stands in line before a newcomer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ahead {
    /// How many wait.
    pub(crate) waiting: usize,
    /// What they are charged together.
    pub(crate) charge: Total,
    /// The mean time between two admissions from the line, lately; zero where
    /// there were none.
    pub(crate) pace: Duration,
    /// How many were admitted and are not over.
    pub(crate) in_flight: usize,
}
