//! Whose errors mean that nothing was sent.

use std::error::Error as StdError;

use crate::wire::transport_error::chain;

/// Whether no connection was made for a request, so that nothing of it ever left, by the
/// word of hyper-util's client; also where somebody else's client is around that one.
///
/// [Our own error](crate::Error) says so itself. What made several attempts may have sent
/// something at an earlier one.
pub(super) fn never_connected(error: &(dyn StdError + 'static)) -> bool {
    for error in chain(error) {
        let gated = error.downcast_ref::<tollhouse::Error>();
        if error.is::<crate::Error>() || gated.is_some_and(|error| error.attempts() > 1) {
            return false;
        }
        if let Some(error) = error.downcast_ref::<hyper_util::client::legacy::Error>() {
            return error.is_connect();
        }
    }
    false
}
