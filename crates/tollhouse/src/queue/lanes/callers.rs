//! Whose the lanes are.

use std::hash::BuildHasher;
use std::sync::Arc;

use super::lane::{Lane, Owner, SHARED, Weight};
use super::{Lanes, NOBODY};
use crate::ask::Caller;
use crate::rules::Key;
use crate::rules::ledger::CallerSnapshot;

/// How many callers have a lane of their own at once; the others share [`SHARED`].
pub(super) const NAMED: usize = 1_024;

impl<T> Lanes<T> {
    /// The lane of a caller, made where there is none, with the weight that is said
    /// of it now.
    pub(super) fn lane_of(&mut self, caller: &Caller) -> u32 {
        let index = match self.known_lane_of(caller) {
            Some(index) => index,
            None => self.make_lane(caller),
        };
        let weight = Weight::of(caller);
        let lane = self.lane(index);
        if lane.weight != weight && !matches!(lane.owner, Owner::Shared(_)) {
            lane.weight = weight;
            if lane.waiting > 0 {
                self.rank(index);
            }
        }
        index
    }

    pub(super) fn known_lane_of(&self, caller: &Caller) -> Option<u32> {
        let Some(name) = caller.name() else {
            return Some(NOBODY);
        };
        match self.names.get(name) {
            Some(index) => Some(*index),
            None if self.names.len() < NAMED => None,
            None => self.shared.get(&self.number_of(name)).copied(),
        }
    }

    /// Which of the shared lanes is a name's. Nobody outside can tell which names go
    /// together.
    pub(super) fn number_of(&self, name: &str) -> u64 {
        self.hasher.hash_one(name) % u64::from(SHARED)
    }

    fn make_lane(&mut self, caller: &Caller) -> u32 {
        let Some(name) = caller.shared_name() else {
            return NOBODY;
        };
        if self.is_plain() {
            // The one lane stands where it last did while there were others; whoever
            // joins puts it where it belongs if anybody waits there.
            self.leave_out(NOBODY);
        }
        let is_named = self.names.len() < NAMED;
        let (owner, weight) = match is_named {
            true => (Owner::Named(Arc::clone(name)), Weight::of(caller)),
            false => (Owner::Shared(self.number_of(name)), Weight::SHARED),
        };
        let lane = Lane::new(owner.clone(), weight, self.virtual_time);
        let index = match self.free.pop() {
            Some(index) => {
                self.lanes[index as usize] = lane;
                index
            }
            None => {
                self.lanes.push(lane);
                u32::try_from(self.lanes.len() - 1).expect("lanes are bounded")
            }
        };
        match owner {
            Owner::Named(name) => drop(self.names.insert(name, index)),
            Owner::Shared(number) => drop(self.shared.insert(number, index)),
            Owner::Nobody => unreachable!("it has a name"),
        }
        index
    }

    pub(super) fn forget(&mut self, index: u32) {
        if index == NOBODY {
            return;
        }
        let owner = std::mem::replace(&mut self.lane(index).owner, Owner::Nobody);
        match owner {
            Owner::Named(name) => drop(self.names.remove(&name)),
            Owner::Shared(number) => drop(self.shared.remove(&number)),
            Owner::Nobody => return,
        }
        self.free.push(index);
    }

    /// A caller has another weight from now on; nothing where nobody knows it.
    pub(crate) fn weigh(&mut self, caller: &Caller) {
        if self.known_lane_of(caller).is_some() {
            self.lane_of(caller);
        }
    }

    /// Whose one is. Those beyond the first [`NAMED`] have no name any more.
    pub(crate) fn caller_of(&self, key: Key) -> Caller {
        let index = self.entries.get(key).lane;
        let lane = &self.lanes[index as usize];
        match &lane.owner {
            Owner::Named(name) => Caller::new(Arc::clone(name)).weight(lane.weight.rounded()),
            Owner::Nobody | Owner::Shared(_) => Caller::default(),
        }
    }

    /// The weights of all who wait or have something in flight, together.
    pub(crate) fn weight(&self) -> u64 {
        let busy = self.lanes.iter().filter(|lane| !lane.is_idle());
        busy.map(|lane| u64::from(lane.weight.rounded())).sum()
    }

    /// Every caller that is known, `inside` being in flight of all together.
    pub(crate) fn standings(&self, inside: usize) -> Vec<CallerSnapshot> {
        let known = || {
            let lanes = (0u32..).zip(&self.lanes);
            lanes.filter(|(index, lane)| *index == NOBODY || lane.owner != Owner::Nobody)
        };
        let named: usize = known().skip(1).map(|(_, lane)| lane.in_flight).sum();
        let charged = |lane: &Lane| u128::from(lane.charged_in(self.spell).get());
        let all = known().map(|(_, lane)| charged(lane)).sum::<u128>().max(1);
        known()
            .map(|(index, lane)| CallerSnapshot {
                name: match &lane.owner {
                    Owner::Named(name) => Some(Arc::clone(name)),
                    Owner::Nobody | Owner::Shared(_) => None,
                },
                is_shared: matches!(lane.owner, Owner::Shared(_)),
                weight: lane.weight.rounded(),
                waiting: lane.waiting + lane.aside,
                in_flight: match index {
                    NOBODY => inside.saturating_sub(named),
                    _ => lane.in_flight,
                },
                share_permille: u16::try_from(charged(lane) * 1_000 / all).unwrap_or(1_000),
            })
            .collect()
    }
}
