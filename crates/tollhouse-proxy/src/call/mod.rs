//! One call, from its head to its answer's last byte: what is read of it, how it
//! waits for its turn, and what its client is told.
//!
//! [`pass`] is the way; a [`Line`](line::Line) notes what becomes of it, and the
//! other files are its stations.

mod answer;
mod comments;
mod line;
mod pass;
mod ready;
mod target;
mod together;
mod tunnel;
mod underway;
mod with_size;

pub(crate) use pass::pass;
pub(crate) use tunnel::Tunnel;
