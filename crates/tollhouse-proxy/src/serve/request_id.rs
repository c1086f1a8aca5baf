//! What a request is called in the log and in its answer.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderValue, Request};
use tower_http::request_id::{MakeRequestId, RequestId};

/// A number for each, hashed by keys that the operating system gave once: 128 bits that
/// nobody can foretell, and no question to the system for each request.
///
/// # Cloning
///
/// Clones count on together.
#[derive(Clone, Debug, Default)]
pub(crate) struct RequestIds {
    hashers: [RandomState; 2],
    given: Arc<AtomicU64>,
}

impl MakeRequestId for RequestIds {
    fn make_request_id<B>(&mut self, _: &Request<B>) -> Option<RequestId> {
        let number = self.given.fetch_add(1, Ordering::Relaxed);
        let halves = self
            .hashers
            .each_ref()
            .map(|hasher| hasher.hash_one(number));
        let id = HeaderValue::from_bytes(&digits(halves)).ok()?;
        Some(RequestId::new(id))
    }
}

/// 32 hexadecimal digits.
fn digits(halves: [u64; 2]) -> [u8; 32] {
    let bytes = halves.map(u64::to_be_bytes);
    let mut digits = [0; 32];
    for (byte, pair) in bytes.as_flattened().iter().zip(digits.chunks_exact_mut(2)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    digits
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_id_is_given_twice() {
        let mut one = RequestIds::default();
        let mut given = HashSet::new();
        for _ in 0..1_000 {
            // A clone of the layer is in every connection.
            for ids in [&mut one.clone(), &mut one] {
                let id = ids.make_request_id(&Request::new(())).unwrap();
                assert!(given.insert(id.into_header_value()));
            }
        }
    }

    #[test]
    fn ids_are_written_in_hexadecimal() {
        let written = digits([0x0123_4567_89ab_cdef, 0xf]);
        assert_eq!(&written, b"0123456789abcdef000000000000000f");
    }
}
