//! What never reached the provider: all of it comes back.

use super::{Ledger, Stage};
use crate::rules::Key;
use crate::time::Moment;

impl Ledger {
    /// A request that was launched, perhaps, turns out never to have left.
    pub(super) fn take_back(&mut self, key: Key, now: Moment) {
        let now = self.catch_up(now);
        let entry = self.transit.get_mut(key);
        if entry.answered {
            // Somebody answered it: then it did leave.
            return self.abandon(key, now);
        }
        self.outstanding -= entry.cost;
        self.trust.forget(entry.epoch);
        self.tally.refunded(entry.cost);
        match entry.stage {
            Stage::Reserved | Stage::Handed | Stage::Sent { .. } => self.refund(key, now),
            Stage::Landed { .. } => self.raise(key, now),
        }
    }

    /// It took longer to fail than to be counted, by our reckoning: a connection
    /// that timed out. It is given back as far as the level would be higher now
    /// had it never been asked: a bucket that has filled up since has nothing to
    /// give back.
    ///
    /// What was charged stays in the reckoning of what answers tell, because
    /// later requests have been reckoned with it.
    fn raise(&mut self, key: Key, now: Moment) {
        let entry = self.transit.remove(key);
        let Stage::Landed { at, rooms } = entry.stage else {
            unreachable!("only what has landed is raised")
        };
        self.correction.spared(entry.cost);
        self.tokens.give_back(entry.cost, at, rooms.tokens, now);
        if let Some(requests) = &mut self.requests {
            requests.give_back(at, rooms.requests, now);
        }
    }
}
