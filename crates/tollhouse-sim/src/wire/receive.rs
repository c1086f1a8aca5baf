//! Receives a request's body, within bounds.

use std::future::poll_fn;
use std::pin::Pin;

use axum::body::Body;
use bytes::Bytes;
use http_body::Body as _;
use tokio::time::timeout;

use crate::config::Bounds;
use crate::error::ApiError;
use crate::memory::Hold;

/// What a value takes once it is parsed, at most: itself, its place in an
/// array that has grown, its key.
const PARSED: u64 = 64;

/// The whole body; `hold` holds it, and room for what will be parsed of it.
pub(super) async fn receive(
    mut body: Body,
    bounds: &Bounds,
    hold: &mut Hold,
) -> Result<Vec<u8>, ApiError> {
    let received = timeout(bounds.body_time, collect(&mut body, bounds, hold)).await;
    let received = received.unwrap_or_else(|_| Err(ApiError::slow(bounds.body_time)));
    if received.is_err() {
        hold.shrink_to(0);
        discard(body, *bounds);
    }
    received
}

async fn collect(body: &mut Body, bounds: &Bounds, hold: &mut Hold) -> Result<Vec<u8>, ApiError> {
    let too_long = || ApiError::too_long(bounds.body_bytes);
    if body.size_hint().lower() > bounds.body_bytes {
        return Err(too_long());
    }
    let full = |full| ApiError::full(full, bounds.memory_bytes);
    let mut received = Vec::new();
    while let Some(data) = next(body).await? {
        let length = received.len() as u64 + data.len() as u64;
        if length > bounds.body_bytes {
            return Err(too_long());
        }
        hold.grow(data.len() as u64).map_err(full)?;
        received.extend_from_slice(&data);
    }
    hold.grow(parsed_size(&received)).map_err(full)?;
    Ok(received)
}

/// The next piece of data.
async fn next(body: &mut Body) -> Result<Option<Bytes>, ApiError> {
    loop {
        match poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
            None => return Ok(None),
            Some(Err(_)) => return Err(ApiError::unreadable()),
            Some(Ok(frame)) => {
                // Trailers are nothing to us.
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// A byte of JSON can become a value: `[1,1,1]`. It is counted by what stands
/// between values, which in a text is seldom.
fn parsed_size(json: &[u8]) -> u64 {
    let between = |byte: &&u8| matches!(byte, b',' | b':' | b'[' | b'{');
    json.iter().filter(between).count() as u64 * PARSED
}

/// Goes on receiving what nobody wants, and keeps nothing of it. A connection
/// that is closed on a client who is still sending takes the answer with it.
fn discard(mut body: Body, bounds: Bounds) {
    tokio::spawn(timeout(bounds.body_time, async move {
        let mut left = bounds.body_bytes;
        while let Ok(Some(data)) = next(&mut body).await {
            left = left.saturating_sub(data.len() as u64);
            if left == 0 {
                break;
            }
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_parsed_counts_and_prose_hardly_does() {
        assert_eq!(parsed_size(b"[1,1,1]"), 3 * PARSED);
        assert_eq!(parsed_size(br#"{"a":{"b":[]}}"#), 5 * PARSED);
        assert_eq!(parsed_size(b"a text without any"), 0);
    }
}
