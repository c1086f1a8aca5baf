//! So many at once.

use std::time::Duration;

use super::stats::{SlotLevels, Stats};
use super::{Ahead, Charged, Launch, Rule, When};
use crate::charge::Charge;
use crate::time::Now;

/// At most `max` requests hold a slot at the same time.
///
/// They are counted where there is no limit, too, since one may come.
#[derive(Debug)]
pub(crate) struct Slots {
    max: Option<usize>,
    taken: usize,
}

impl Slots {
    /// # Panics
    ///
    /// If `max` is 0: nobody would ever pass.
    #[track_caller]
    pub(crate) fn new(max: usize) -> Self {
        let mut slots = Slots::unlimited();
        slots.set_max(Some(max));
        slots
    }

    pub(crate) const fn unlimited() -> Self {
        Slots {
            max: None,
            taken: 0,
        }
    }

    /// Where more hold a slot already, they keep it, and nobody follows until
    /// enough of them are done.
    ///
    /// # Panics
    ///
    /// If `max` is 0.
    #[track_caller]
    pub(crate) fn set_max(&mut self, max: Option<usize>) {
        assert!(
            max != Some(0),
            "a concurrency limit must be at least 1, not 0"
        );
        self.max = max;
    }

    pub(crate) const fn max(&self) -> Option<usize> {
        self.max
    }

    #[inline]
    fn is_free(&self) -> bool {
        self.max.is_none_or(|max| self.taken < max)
    }

    /// Whether more hold one than may, since their number was lowered.
    #[inline]
    pub(crate) fn is_overrun(&self) -> bool {
        self.max.is_some_and(|max| self.taken > max)
    }

    #[inline]
    pub(crate) fn when(&self) -> When {
        match self.is_free() {
            true => When::Now,
            false => When::OnRelease,
        }
    }

    #[inline]
    pub(crate) fn take(&mut self) {
        self.taken += 1;
    }

    #[inline]
    pub(crate) fn give_back(&mut self) {
        self.taken -= 1;
    }

    pub(crate) fn taken(&self) -> usize {
        self.taken
    }
}

impl Rule for Slots {
    const NAME: &'static str = "concurrency";
    type Held = ();

    #[inline]
    fn when(&mut self, _: &Charge, _: &mut Now) -> When {
        Slots::when(self)
    }

    #[inline]
    fn is_open(&mut self, _: &Charge, _: &mut Now) -> bool {
        self.is_free()
    }

    #[inline]
    fn is_shut(&self, _: &Charge) -> bool {
        !self.is_free()
    }

    #[inline]
    fn take(&mut self, _: &Charge, _: &mut Now) {
        Slots::take(self);
    }

    #[inline]
    fn launch(&mut self, (): &(), _: Launch, _: &mut Now) {}

    #[inline]
    fn release(&mut self, (): (), _: &mut Now) -> Charged {
        self.give_back();
        Charged::Whole
    }

    fn expected_wait(&mut self, _: &Charge, ahead: Ahead, _: &mut Now) -> Duration {
        let Some(max) = self.max else {
            return Duration::ZERO;
        };
        let free = max.saturating_sub(self.taken);
        let line = (ahead.waiting + 1).saturating_sub(free);
        let line = u32::try_from(line).unwrap_or(u32::MAX);
        ahead.pace.saturating_mul(line)
    }

    #[inline]
    fn show(&mut self, stats: &mut Stats) {
        if let Some(max) = self.max {
            let taken = self.taken;
            stats.slots = Some(SlotLevels { taken, max });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_counted() {
        let mut slots = Slots::new(2);
        assert_eq!(slots.when(), When::Now);
        slots.take();
        assert_eq!(slots.when(), When::Now);
        slots.take();
        assert_eq!(slots.when(), When::OnRelease);
        slots.give_back();
        assert_eq!(slots.when(), When::Now);
    }

    #[test]
    #[should_panic(expected = "must be at least 1")]
    fn no_slots_at_all_is_a_mistake() {
        Slots::new(0);
    }
}
