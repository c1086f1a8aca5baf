//! An account's slots on leases, for whoever fetches them from elsewhere.

use std::sync::{Arc, Weak};

use super::account::{AccountSlots, Shared, State};
use super::bell::Bell;
use super::sync::Mutex;
use crate::rules::ledger::Share;
use crate::rules::{Demand, Granted, Leases, Limited, Wish};
use crate::time::{Moment, Now};

/// An account's slots that keep nobody from dropping them.
pub(crate) struct WeakSlots(Weak<Mutex<State>>);

impl WeakSlots {
    pub(crate) fn upgrade(&self) -> Option<AccountSlots> {
        AccountSlots::upgrade(&self.0)
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.0.strong_count() == 0
    }
}

impl AccountSlots {
    pub(crate) fn weak(&self) -> WeakSlots {
        WeakSlots(self.downgrade())
    }

    /// From now on other processes share them, and none is there but on a lease.
    pub(crate) fn lease(&self, bell: Arc<dyn Bell>) {
        let before;
        {
            let mut state = self.lock();
            before = state.shared.replace(Shared {
                leases: Leases::new(Now::unread().get()),
                share: Share::Drawn,
                bell,
            });
            state.space(&mut Now::unread());
        }
        drop(before);
    }

    /// How many pools stand for a slot, how the slots are limited, and what more of them
    /// could be used; `None` where they are not shared.
    pub(crate) fn ask(
        &self,
        demand: impl FnOnce(usize) -> Demand,
        now: Moment,
    ) -> Option<(Limited, Wish, bool)> {
        let mut state = self.lock();
        let demand = demand(state.standing());
        let limited = state.limited();
        let shared = state.shared.as_mut()?;
        let wish = shared.leases.ask(&demand, &limited, now);
        let was_used = shared.leases.was_used_within(crate::rules::LATELY, now);
        Some((limited, wish, demand.waiting > 0 || was_used))
    }

    /// All that is leased may be used until then, and more is.
    pub(crate) fn renew(&self, until: Moment, granted: Option<Granted>) {
        self.change(|state, now| {
            let Some(shared) = &mut state.shared else {
                return;
            };
            shared.leases.renew(until);
            if let Some(granted) = granted {
                shared.leases.grant(granted);
            }
            shared.share = Share::Drawn;
            state.space(now);
        });
    }

    /// The shared ledger is away: on with this share of the slots and the launches, or with
    /// none.
    pub(crate) fn go_alone(&self, share: Option<Share>) {
        self.change(|state, now| {
            let Some(shared) = &mut state.shared else {
                return;
            };
            shared.leases.lose(share.is_some());
            shared.share = share.unwrap_or(Share::Drawn);
            state.space(now);
        });
    }

    /// None is given any more.
    pub(crate) fn close_leases(&self) {
        self.change(|state, _| {
            if let Some(shared) = &mut state.shared {
                shared.leases.close();
            }
        });
    }
}
