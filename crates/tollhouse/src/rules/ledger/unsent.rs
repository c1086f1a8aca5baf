//! What never reached the provider: all of it comes back.

use super::{Entry, Ledger, Stage};
use crate::charge::Unit;
use crate::rules::{Charged, Key};
use crate::time::Moment;

impl Ledger {
    /// A request that was launched, perhaps, turns out never to have left.
    pub(super) fn take_back(&mut self, key: Key, now: Moment) -> Charged {
        let now = self.catch_up(now);
        let entry = self.transit.get_mut(key);
        if entry.answered {
            // Somebody answered it: then it did leave.
            return self.abandon(key, now);
        }
        let (epoch, tokens) = (entry.epoch, entry.charge.get(Unit::Tokens));
        let (stage, at) = (entry.stage, entry.at);
        self.outstanding -= tokens;
        self.trust.forget(epoch);
        self.tally.refunded(tokens);
        match stage {
            Stage::Landed => self.raise(key, at, now),
            Stage::Reserved | Stage::Handed | Stage::Sent | Stage::Orphan => {
                self.refund(key, now);
            }
        }
        Charged::Nothing
    }

    /// It took longer to fail than to be counted, by our reckoning: a connection
    /// that timed out. It is given back as far as the level would be higher now
    /// had it never been asked: a bucket that has filled up since has nothing to
    /// give back.
    ///
    /// What was charged stays in the reckoning of what answers tell, because
    /// later requests have been reckoned with it.
    fn raise(&mut self, key: Key, landed: Moment, now: Moment) {
        let Entry { charge, .. } = self.transit.remove(key);
        if let Some(dealings) = &mut self.dealings {
            dealings.give_back(key, landed, charge.into());
        }
        for metered in &mut self.meters {
            let amount = charge.get(metered.meter.unit());
            if amount > 0 {
                metered.raise(key, amount, landed, now);
            }
        }
    }
}
