//! Finds where a string of JSON ends, quickly.

use memchr::memchr2;

/// Where a string may end. Most are short, and for those looking at eight
/// bytes at a time is twice as fast as the search that is made for long ones.
pub(super) fn string_end(chunk: &[u8]) -> Option<usize> {
    let mut rest = chunk;
    for near in [0, 8, 16] {
        let Some((eight, far)) = rest.split_first_chunk() else {
            break;
        };
        let eight = u64::from_le_bytes(*eight);
        let ends = places(eight, b'"') | places(eight, b'\\');
        if ends != 0 {
            return Some(near + ends.trailing_zeros() as usize / 8);
        }
        rest = far;
    }
    let near = chunk.len() - rest.len();
    memchr2(b'"', b'\\', rest).map(|at| near + at)
}

/// Marks the highest bit of each of eight bytes that is `byte`; exact up to the
/// first of them, which is all that is asked for.
fn places(eight: u64, byte: u8) -> u64 {
    const LOW: u64 = 0x0101_0101_0101_0101;
    let zeros = eight ^ (LOW * u64::from(byte));
    zeros.wrapping_sub(LOW) & !zeros & (LOW << 7)
}

/// What follows a string that is open, if it has no escapes and ends in here.
pub(super) fn after_plain_string(chunk: &[u8]) -> Option<&[u8]> {
    let (end, rest) = chunk[string_end(chunk)?..].split_first()?;
    (*end == b'"').then_some(rest)
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
