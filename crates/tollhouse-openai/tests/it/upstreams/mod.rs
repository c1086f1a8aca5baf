//! Upstreams without TLS that are hostile, sloppy, slow or gone: what a call sees, and what
//! the next one does.
//!
//! There a call drives its own connection, so that each of these is a question of when it
//! may be used again.

mod drops;
mod early;
mod ends;
mod framing;
mod pool;
mod stalls;
mod support;
mod wakers;
