//! So many at once.

use super::When;

/// At most `max` requests hold a slot at the same time.
#[derive(Debug)]
pub(crate) struct Slots {
    pub(crate) max: usize,
    taken: usize,
}

impl Slots {
    /// # Panics
    ///
    /// If `max` is 0: nobody would ever pass.
    pub(crate) fn new(max: usize) -> Self {
        assert!(max > 0, "a concurrency limit must be at least 1, not 0");
        Slots { max, taken: 0 }
    }

    pub(crate) fn when(&self) -> When {
        if self.taken < self.max {
            When::Now
        } else {
            When::OnRelease
        }
    }

    pub(crate) fn take(&mut self) {
        self.taken += 1;
    }

    pub(crate) fn give_back(&mut self) {
        self.taken -= 1;
    }

    pub(crate) fn taken(&self) -> usize {
        self.taken
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
