//! The gates, the ledger and the layers at their public face.

mod absurd;
mod account_slots;
mod account_spacing;
mod bounds;
mod cancellation;
mod clock;
mod deadlines;
mod fairness;
mod fifo;
mod glance;
mod hour;
mod lanes;
mod leases;
mod ledger_proof;
mod live;
mod locks;
mod observe;
mod peers;
mod refusals;
mod retry;
mod scarce;
mod stack;
mod streams;
mod support;
mod threads;
mod unsent;
