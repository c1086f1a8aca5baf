//! Finds where a string of JSON ends, quickly.

use memchr::memchr2;

/// Where a string may end. Most are short, and for those looking at eight
/// bytes at a time is twice as fast as the search that is made for long ones.
#[inline]
pub(super) fn string_end(chunk: &[u8]) -> Option<usize> {
    if let Some((eight, rest)) = chunk.split_first_chunk() {
        let end = end_among(*eight);
        return end.or_else(|| far_end(rest).map(|at| 8 + at));
    }
    chunk.iter().position(|byte| matches!(byte, b'"' | b'\\'))
}

/// The same for what comes after the first eight bytes.
fn far_end(chunk: &[u8]) -> Option<usize> {
    let mut rest = chunk;
    for near in [0, 8] {
        let Some((eight, far)) = rest.split_first_chunk() else {
            break;
        };
        if let Some(end) = end_among(*eight) {
            return Some(near + end);
        }
        rest = far;
    }
    let near = chunk.len() - rest.len();
    memchr2(b'"', b'\\', rest).map(|at| near + at)
}

/// The first of eight bytes that may end a string.
#[inline]
fn end_among(eight: [u8; 8]) -> Option<usize> {
    let eight = u64::from_le_bytes(eight);
    let ends = places(eight, b'"') | places(eight, b'\\');
    (ends != 0).then(|| ends.trailing_zeros() as usize / 8)
}

/// Marks the highest bit of each of eight bytes that is `byte`; exact up to the
/// first of them, which is all that is asked for.
#[inline]
fn places(eight: u64, byte: u8) -> u64 {
    const LOW: u64 = 0x0101_0101_0101_0101;
    let zeros = eight ^ (LOW * u64::from(byte));
    zeros.wrapping_sub(LOW) & !zeros & (LOW << 7)
}

/// The text of a string that is open, and what follows it, if it has no escapes and ends
/// in here.
#[inline]
pub(super) fn plain_string(chunk: &[u8]) -> Option<(&[u8], &[u8])> {
    let (text, rest) = chunk.split_at(string_end(chunk)?);
    let (end, rest) = rest.split_first()?;
    (*end == b'"').then_some((text, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_string_ends_where_a_plain_loop_finds_it(text in "[ab\"\\\\#]{0,6}[\\PC\"]{0,60}") {
            let text = text.as_bytes();
            let expected = text.iter().position(|byte| matches!(byte, b'"' | b'\\'));
            prop_assert_eq!(string_end(text), expected);
        }

        #[test]
        fn bytes_beside_the_ends_are_not_taken_for_them(text in prop::collection::vec(any::<u8>(), 0..40)) {
            let expected = text.iter().position(|byte| matches!(byte, b'"' | b'\\'));
            prop_assert_eq!(string_end(&text), expected);
        }
    }
}
