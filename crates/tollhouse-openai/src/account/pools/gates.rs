//! What the pools of an account share: its slots, its spacing, its ledger.

use std::time::Duration;

use tollhouse::AccountSlots;
use tollhouse::shared::Sharing as Ledger;

use crate::account::config::{AccountConfig, Sharing};
use crate::account::models::learns;

/// What all pools of an account share.
#[derive(Clone, Debug, Default)]
pub(in crate::account) struct SharedGates {
    pub(in crate::account) slots: Option<AccountSlots>,
    pub(in crate::account) max_slots: Option<usize>,
    /// Between launches of all pools; `None` where each pool keeps its own.
    pub(super) interval: Option<Duration>,
    /// With whom other processes do.
    pub(in crate::account) ledger: Option<Ledger>,
}

impl SharedGates {
    pub(super) fn new(config: &AccountConfig) -> Self {
        // Variables speak of one pool; where its limits must be learned model by model,
        // what they say of slots and spacing still holds for all.
        let apart = config.sharing == Sharing::OnePool && learns(&config.defaults);
        let defaults = &config.defaults;
        let slots = match apart {
            true => Some(
                defaults
                    .max_concurrency
                    .min(config.max_concurrency.unwrap_or(usize::MAX)),
            ),
            false => config.max_concurrency,
        };
        let shared = SharedGates {
            slots: slots.map(AccountSlots::new),
            max_slots: slots,
            interval: apart.then_some(defaults.stagger),
            ledger: None,
        };
        shared.retune();
        shared
    }

    /// What another config says, with the gates that there are.
    pub(super) fn under(&self, config: &AccountConfig) -> SharedGates {
        let next = SharedGates::new(config);
        let there = self.clone();
        let slots = next.slots.map(|new| {
            there.slots.unwrap_or_else(|| {
                if let Some(ledger) = &self.ledger {
                    new.share(ledger);
                }
                new
            })
        });
        SharedGates {
            slots,
            ledger: there.ledger,
            ..next
        }
    }

    pub(super) fn retune(&self) {
        if let (Some(slots), Some(max)) = (&self.slots, self.max_slots) {
            slots.set_max(max);
            slots.set_interval(self.interval.unwrap_or_default());
        }
    }
}
