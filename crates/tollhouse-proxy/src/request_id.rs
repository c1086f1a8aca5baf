//! What a request is called in the log and in its answer.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{HeaderMap, HeaderValue};

use crate::headers::REQUEST_ID;

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

impl RequestIds {
    /// What a client calls its request, or else one that is made up.
    pub(crate) fn of(&self, headers: &HeaderMap) -> HeaderValue {
        match headers.get(REQUEST_ID) {
            // A copy: what it came in is the connection's.
            Some(theirs) => copy(theirs.as_bytes()),
            None => copy(&self.make()),
        }
    }

    fn make(&self) -> [u8; 32] {
        let number = self.given.fetch_add(1, Ordering::Relaxed);
        let hashers = self.hashers.each_ref();
        digits(hashers.map(|hasher| hasher.hash_one(number)))
    }
}

fn copy(id: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(id).expect("it is one, or digits")
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
        let one = RequestIds::default();
        let mut given = HashSet::new();
        for _ in 0..1_000 {
            // A clone is in every connection.
            for ids in [&one.clone(), &one] {
                assert!(given.insert(ids.of(&HeaderMap::new())));
            }
        }
    }

    #[test]
    fn a_clients_own_id_is_kept() {
        let theirs = HeaderValue::from_static("mine");
        let headers = HeaderMap::from_iter([(REQUEST_ID, theirs.clone())]);
        assert_eq!(RequestIds::default().of(&headers), theirs);
    }

    #[test]
    fn ids_are_written_in_hexadecimal() {
        let written = digits([0x0123_4567_89ab_cdef, 0xf]);
        assert_eq!(&written, b"0123456789abcdef000000000000000f");
    }
}
