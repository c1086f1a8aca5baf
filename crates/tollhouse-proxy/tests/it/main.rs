//! The proxy on sockets, in front of a simulated provider or of one made by hand.

mod bounds;
mod calls;
mod comments;
mod ends;
mod hostile;
mod log;
mod page;
mod raw;
mod realtime;
mod secrets;
mod support;
mod tokens;
mod upstreams;
mod waits;
