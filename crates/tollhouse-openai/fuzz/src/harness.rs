//! What each fuzz target does with its input; an ordinary test replays the
//! corpora through the same functions.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tollhouse_openai::{End, Meter, RateLimits, UsageMeter, classify};

/// Lines of `name: value` are read as rate-limit headers.
pub fn headers(input: &[u8]) {
    let limits = RateLimits::from_headers(&header_lines(input));
    assert_ne!(limits.limit_requests, Some(0));
    assert_ne!(limits.limit_tokens, Some(0));
}

/// Two bytes of status, header lines, an empty line, and a body.
pub fn errors(input: &[u8]) {
    let Some((status, rest)) = input.split_first_chunk() else {
        return;
    };
    let Ok(status) = StatusCode::from_u16(u16::from_be_bytes(*status) % 1000) else {
        return;
    };
    let gap = rest.windows(2).position(|pair| pair == b"\n\n");
    let (head, body) = rest.split_at(gap.unwrap_or(0));
    let verdict = classify(status, &header_lines(head), body);
    let year = std::time::Duration::from_secs(366 * 86_400);
    assert!(verdict.after.is_none_or(|after| after <= year));
}

/// Whatever the cut, a body tells the same usage, as a stream and as JSON.
pub fn streams(input: &[u8]) {
    for kind in ["text/event-stream", "application/json"] {
        let whole = used(kind, input, input.len().max(1));
        for size in [1, 2, 7] {
            assert_eq!(used(kind, input, size), whole, "{kind} cut every {size}");
        }
    }
}

fn used(kind: &'static str, body: &[u8], size: usize) -> Option<u64> {
    let kind = HeaderValue::from_static(kind);
    let head = HeaderMap::from_iter([(http::header::CONTENT_TYPE, kind)]);
    let mut meter = UsageMeter::new(StatusCode::OK, &head);
    body.chunks(size).for_each(|chunk| meter.chunk(chunk));
    meter.used(End::Complete)
}

fn header_lines(text: &[u8]) -> HeaderMap {
    let pair = |line: &[u8]| {
        let colon = line.iter().position(|b| *b == b':')?;
        let name = HeaderName::from_bytes(line[..colon].trim_ascii()).ok()?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        Some((name, value))
    };
    text.split(|b| *b == b'\n').filter_map(pair).collect()
}
