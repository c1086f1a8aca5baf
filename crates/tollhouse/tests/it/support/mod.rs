//! What several of the tests use.

pub(crate) mod account;
pub(crate) mod agenda;
pub(crate) mod bell;
pub(crate) mod channel;
pub(crate) mod counting;
pub(crate) mod random;
pub(crate) mod watch;
