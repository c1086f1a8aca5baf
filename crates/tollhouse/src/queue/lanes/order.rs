//! Lanes by rank, the least first.

use crate::time::Moment;

/// What lanes are ordered by: a tag, and among equal ones who came first.
pub(super) type Rank = (u128, Moment);

/// A heap of lanes in which any can be found, moved and left out: the least is first,
/// and a change costs the logarithm of how many there are.
#[derive(Default)]
pub(super) struct Order {
    heap: Vec<(Rank, u32)>,
    /// By lane: where it stands in the heap, or [`NOWHERE`].
    places: Vec<u32>,
}

const NOWHERE: u32 = u32::MAX;

impl Order {
    /// The lane of the least rank.
    #[inline]
    pub(super) fn first(&self) -> Option<u32> {
        self.heap.first().map(|(_, lane)| *lane)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    /// All lanes, in no order.
    pub(super) fn lanes(&self) -> impl Iterator<Item = u32> {
        self.heap.iter().map(|(_, lane)| *lane)
    }

    /// All lanes with their ranks, in no order.
    pub(super) fn ranked(&self) -> impl Iterator<Item = (Rank, u32)> {
        self.heap.iter().copied()
    }

    /// Whether one lane ranks before another; not where either was left out.
    pub(super) fn is_before(&self, lane: u32, other: u32) -> bool {
        let ranks = self.rank_of(lane).zip(self.rank_of(other));
        ranks.is_some_and(|(rank, other)| rank < other)
    }

    fn rank_of(&self, lane: u32) -> Option<Rank> {
        let place = *self.places.get(lane as usize)?;
        (place != NOWHERE).then(|| self.heap[place as usize].0)
    }

    /// Puts a lane where its rank belongs, whether it was there or not.
    #[inline]
    pub(super) fn set(&mut self, lane: u32, rank: Rank) {
        let index = lane as usize;
        if index >= self.places.len() {
            self.places.resize(index + 1, NOWHERE);
        }
        let place = match self.places[index] {
            NOWHERE => {
                self.heap.push((rank, lane));
                self.heap.len() - 1
            }
            place => {
                self.heap[place as usize].0 = rank;
                place as usize
            }
        };
        self.sift(place);
    }

    /// Leaves a lane out, if it is there.
    pub(super) fn remove(&mut self, lane: u32) {
        let Some(&place) = self.places.get(lane as usize) else {
            return;
        };
        if place == NOWHERE {
            return;
        }
        self.places[lane as usize] = NOWHERE;
        let place = place as usize;
        self.heap.swap_remove(place);
        if place < self.heap.len() {
            self.sift(place);
        }
    }

    /// Moves whoever stands at `place` to where it belongs.
    fn sift(&mut self, mut place: usize) {
        while place > 0 && self.heap[place].0 < self.heap[(place - 1) / 2].0 {
            place = self.swap(place, (place - 1) / 2);
        }
        while let Some(less) = self.lesser_child(place)
            && self.heap[less].0 < self.heap[place].0
        {
            place = self.swap(place, less);
        }
        self.note(place);
    }

    fn lesser_child(&self, place: usize) -> Option<usize> {
        let (left, right) = (2 * place + 1, 2 * place + 2);
        let left_rank = self.heap.get(left)?.0;
        match self.heap.get(right) {
            Some((rank, _)) if *rank < left_rank => Some(right),
            _ => Some(left),
        }
    }

    fn swap(&mut self, from: usize, to: usize) -> usize {
        self.heap.swap(from, to);
        self.note(from);
        to
    }

    fn note(&mut self, place: usize) {
        let lane = self.heap[place].1;
        self.places[lane as usize] = u32::try_from(place).expect("fewer lanes than that");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever is set and left out, the first is the least.
        #[test]
        fn the_first_is_the_least(steps in prop::collection::vec((0u32..20, 0u128..50, any::<bool>()), 0..300)) {
            let mut order = Order::default();
            let mut plain: BTreeMap<u32, u128> = BTreeMap::new();
            for (lane, tag, stays) in steps {
                if stays {
                    order.set(lane, (tag, Moment::default()));
                    plain.insert(lane, tag);
                } else {
                    order.remove(lane);
                    plain.remove(&lane);
                }
                let least = plain.values().min();
                prop_assert_eq!(order.first().map(|lane| &plain[&lane]), least);
                prop_assert_eq!(order.len(), plain.len());
                let mut lanes: Vec<u32> = order.lanes().collect();
                lanes.sort_unstable();
                prop_assert!(lanes.iter().eq(plain.keys()));
            }
        }
    }
}
