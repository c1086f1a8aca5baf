//! Several processes, here in one, on one shared ledger: what the whole account spends, and
//! that the provider refuses nothing.

mod away;
mod calls;
mod conserved;
mod fair;
mod kinds;
mod news;
mod play;
mod saturated;
mod waits;

use play::{MILLI, Play, SEC};
