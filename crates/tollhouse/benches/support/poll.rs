//! Futures driven by hand, so that no runtime is measured along.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use tower::Service;

/// The result of a future that never waits.
pub(crate) fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("an uncontended call does not wait"),
    }
}

/// Readies and calls a service that never waits.
pub(crate) fn call<S: Service<u64>>(service: &mut S, cost: u64) -> S::Response {
    let mut cx = Context::from_waker(Waker::noop());
    let Poll::Ready(Ok(())) = service.poll_ready(&mut cx) else {
        panic!("an uncontended service is ready")
    };
    match now(service.call(cost)) {
        Ok(response) => response,
        Err(_) => panic!("an uncontended call succeeds"),
    }
}
