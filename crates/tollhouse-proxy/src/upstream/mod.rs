//! The account's gates around the client, and what is known of the attempts that
//! they let through.

pub(crate) mod gates;
pub(crate) mod launches;
mod proof;
mod session;
