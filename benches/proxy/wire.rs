//! As much of HTTP/1.1 as both ends of the bench need.

/// How many bytes the first message in these takes, once all of it is there. Nothing
/// follows one that is chunked.
pub(crate) fn message(bytes: &[u8]) -> Option<usize> {
    let head = find(bytes, b"\r\n\r\n")? + 4;
    if find_caseless(&bytes[..head], b"\r\ntransfer-encoding: chunked").is_some() {
        return bytes.ends_with(b"\r\n0\r\n\r\n").then_some(bytes.len());
    }
    let length = find_caseless(&bytes[..head], LENGTH)
        .and_then(|at| digits(&bytes[at + LENGTH.len()..]))
        .unwrap_or_default();
    let end = head + usize::try_from(length).ok()?;
    (bytes.len() >= end).then_some(end)
}

const LENGTH: &[u8] = b"\r\ncontent-length: ";

pub(crate) fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|part| part == wanted)
}

/// The number that stands behind these words.
pub(crate) fn number_after(bytes: &[u8], words: &[u8]) -> Option<u64> {
    digits(&bytes[find(bytes, words)? + words.len()..])
}

fn find_caseless(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    let mut parts = bytes.windows(wanted.len());
    parts.position(|part| part.eq_ignore_ascii_case(wanted))
}

fn digits(bytes: &[u8]) -> Option<u64> {
    let length = bytes
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    str::from_utf8(&bytes[..length]).ok()?.parse().ok()
}
