//! Several rules at once: a tuple of rules is a rule.
//!
//! It says *now* when all of them do, and takes from all of them in the same step.
//! So whoever waits holds nothing of any of them, and nobody can be let in by one
//! and not by another.

use std::time::Duration;

use super::stats::{Note, Stats};
use super::{Ahead, Charged, Cost, Launch, Rule, When};
use crate::charge::Charge;
use crate::time::Now;

macro_rules! tuple_of_rules {
    ($($rule:ident $index:tt),+) => {
        impl<$($rule: Rule),+> Rule for ($($rule,)+) {
            const NAME: &'static str = "several";
            const LAPSES: bool = false $(|| $rule::LAPSES)+;
            type Held = ($($rule::Held,)+);

            #[inline]
            fn when(&mut self, charge: &Charge, now: &mut Now) -> When {
                When::Now$(.and(self.$index.when(charge, now)))+
            }

            #[inline]
            fn is_open(&mut self, charge: &Charge, now: &mut Now) -> bool {
                true$(&& self.$index.is_open(charge, now))+
            }

            #[inline]
            fn take(&mut self, charge: &Charge, now: &mut Now) -> Self::Held {
                ($(self.$index.take(charge, now),)+)
            }

            #[inline]
            fn launch(&mut self, held: &Self::Held, to: Launch, now: &mut Now) {
                $(self.$index.launch(&held.$index, to, now);)+
            }

            #[inline]
            fn release(&mut self, held: Self::Held, now: &mut Now) -> Charged {
                Charged::Nothing$(.or(self.$index.release(held.$index, now)))+
            }

            fn unsend(&mut self, held: Self::Held, now: &mut Now) -> Charged {
                Charged::Nothing$(.or(self.$index.unsend(held.$index, now)))+
            }

            #[inline]
            fn cost(&self, charge: &Charge) -> Cost {
                Cost::NOTHING$(.max(self.$index.cost(charge)))+
            }

            #[inline]
            fn prices(&self) -> u32 {
                0_u32$(.wrapping_add(self.$index.prices()))+
            }

            #[inline]
            fn has_lapsed(&mut self, held: &Self::Held, now: &mut Now) -> bool {
                false$(|| self.$index.has_lapsed(&held.$index, now))+
            }

            fn expected_wait(&mut self, charge: &Charge, ahead: Ahead, now: &mut Now) -> Duration {
                Duration::ZERO$(.max(self.$index.expected_wait(charge, ahead, now)))+
            }

            #[inline]
            fn show(&mut self, stats: &mut Stats) {
                $(self.$index.show(stats);)+
            }

            #[inline]
            fn has_notes(&self) -> bool {
                false$(|| self.$index.has_notes())+
            }

            fn take_notes(&mut self) -> Vec<Note> {
                let mut all = Vec::new();
                $(all.append(&mut self.$index.take_notes());)+
                all
            }
        }
    };
}

tuple_of_rules!(A 0, B 1);
tuple_of_rules!(A 0, B 1, C 2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::{Random, Slots, Spacing};
    use crate::time::Moment;

    const SEC: Duration = Duration::from_secs(1);

    fn both() -> (Slots, Spacing) {
        let spacing = Spacing::new(SEC, 0.0, Random::seeded(1));
        (Slots::new(2), spacing)
    }

    #[test]
    fn it_says_now_when_all_of_them_do_and_takes_from_all() {
        let mut both = both();
        let start = Moment::default();
        let at = |moment: Moment| Now::at(moment);
        let charge = Charge::default();
        assert_eq!(both.when(&charge, &mut at(start)), When::Now);
        let first = both.take(&charge, &mut at(start));
        both.launch(&first, Launch::ToWire, &mut at(start));
        let next = start + SEC;
        assert_eq!(both.when(&charge, &mut at(start)), When::At(next));
        assert_eq!(both.when(&charge, &mut at(next)), When::Now);
        let _second = both.take(&charge, &mut at(next));
        let later = next + SEC;
        assert_eq!(both.when(&charge, &mut at(later)), When::OnRelease);
        both.release(first, &mut at(later));
        assert_eq!(both.when(&charge, &mut at(later)), When::Now);
    }
}
