//! What the errors of transports say, whoever's they are.

/// The errors behind an error, nearest first.
pub(crate) fn chain<'e>(
    error: &'e (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'e (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

/// Whether a connection went away under a request that was on it.
pub(crate) fn broke_off(error: &(dyn std::error::Error + 'static)) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let gone = [
        BrokenPipe,
        ConnectionAborted,
        ConnectionReset,
        UnexpectedEof,
    ];
    let by_hyper = chain(error)
        .filter_map(|error| error.downcast_ref::<hyper::Error>())
        .any(|e| e.is_incomplete_message() || e.is_canceled() || e.is_closed());
    // A stream that was reset or a connection that was told to go, under HTTP/2.
    let by_h2 = chain(error)
        .filter_map(|error| error.downcast_ref::<h2::Error>())
        .any(|e| e.is_io() || e.reason().is_some());
    by_hyper || by_h2 || io_kinds(error).any(|kind| gone.contains(&kind))
}

pub(crate) fn io_kinds<'e>(
    error: &'e (dyn std::error::Error + 'static),
) -> impl Iterator<Item = std::io::ErrorKind> + 'e {
    let io = |error: &'e (dyn std::error::Error + 'static)| error.downcast_ref::<std::io::Error>();
    chain(error).filter_map(io).map(std::io::Error::kind)
}
