//! Headers that are ours, and those that end here.

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, SEC_WEBSOCKET_PROTOCOL, TE,
    TRANSFER_ENCODING,
};
use http::{HeaderMap, HeaderName, HeaderValue};

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-tollhouse-request-id");
pub(crate) const TOKEN: HeaderName = HeaderName::from_static("x-tollhouse-token");
pub(crate) const CALLER: HeaderName = HeaderName::from_static("x-tollhouse-caller");
pub(crate) const MAX_WAIT: HeaderName = HeaderName::from_static("x-tollhouse-max-wait");
pub(crate) const WAIT: HeaderName = HeaderName::from_static("x-tollhouse-wait-ms");
pub(crate) const ATTEMPTS: HeaderName = HeaderName::from_static("x-tollhouse-attempts");
pub(crate) const CHARGE: HeaderName = HeaderName::from_static("x-tollhouse-charge");
pub(crate) const POOL: HeaderName = HeaderName::from_static("x-tollhouse-pool");
pub(crate) const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
pub(crate) const API_KEY: HeaderName = HeaderName::from_static("api-key");

/// A client's own key among WebSocket's protocols, where a header of its own is not to be had.
const KEY_PROTOCOL: &[u8] = b"openai-insecure-api-key.";

/// Leaves of a request's headers what the provider is to see.
pub(crate) fn for_provider(headers: &mut HeaderMap, keeps_key: bool) {
    let takes_trailers = headers.get(TE).is_some_and(names_trailers);
    trim_for_provider(headers, keeps_key);
    if takes_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    join_cookies(headers);
}

/// The same of its trailers, in which nobody has a key: what a call is let in by stands in its
/// head.
pub(crate) fn trailers_for_provider(trailers: &mut HeaderMap) {
    trim_for_provider(trailers, false);
}

fn trim_for_provider(headers: &mut HeaderMap, keeps_key: bool) {
    let mut may_hide_key = false;
    trim(headers, |name| match name {
        // Usage is read from answers that are not packed; and hyper has answered the
        // expectation.
        "accept-encoding" | "expect" => true,
        "authorization" | "api-key" => !keeps_key,
        "sec-websocket-protocol" => {
            may_hide_key = !keeps_key;
            false
        }
        name => is_ours(name),
    });
    if may_hide_key {
        take_key_out(headers);
    }
}

/// A token of ours stays here, whatever becomes of the request that has it among its protocols.
fn take_key_out(headers: &mut HeaderMap) {
    let others: Vec<_> = protocols(headers)
        .filter(|protocol| key_of(protocol).is_none())
        .collect();
    let left = HeaderValue::from_bytes(&others.join(&b", "[..]));
    match left.ok().filter(|left| !left.is_empty()) {
        Some(left) => drop(headers.insert(SEC_WEBSOCKET_PROTOCOL, left)),
        None => drop(headers.remove(SEC_WEBSOCKET_PROTOCOL)),
    }
}

fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    words(headers, SEC_WEBSOCKET_PROTOCOL)
}

/// What stands between the commas of a header that is a list, in however many lines.
pub(crate) fn words(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    let values = headers.get_all(name).into_iter();
    values
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
}

fn key_of(protocol: &[u8]) -> Option<&[u8]> {
    let (start, key) = protocol.split_at_checked(KEY_PROTOCOL.len())?;
    start.eq_ignore_ascii_case(KEY_PROTOCOL).then_some(key)
}

/// The keys that a client has put among its protocols.
pub(crate) fn keys_among_protocols(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    protocols(headers).filter_map(key_of)
}

/// Whether a client says that its key ends at this hop.
pub(crate) fn ends_key(headers: &HeaderMap) -> bool {
    named_by_connection(headers).any(|name| name == AUTHORIZATION || name == API_KEY)
}

/// HTTP/2 may send cookies one by one; HTTP/1.1 may not (RFC 9113, section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<_> = headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if crumbs.len() < 2 {
        return;
    }
    if let Ok(mut joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        joined.set_sensitive(true);
        headers.insert(COOKIE, joined);
    }
}

/// Leaves of an answer's headers what the client is to see; of its trailers, too.
pub(crate) fn for_client(headers: &mut HeaderMap) {
    // Chunks end where they say, whatever is said beside them (RFC 9112, section 6.3).
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    // The provider's word on pages is not about this origin.
    trim(headers, |name| {
        name.starts_with("access-control-") || is_ours(name)
    });
}

/// Takes out what RFC 9110, section 7.6.1, ends here, and whatever else is not to go on.
fn trim(headers: &mut HeaderMap, mut is_other: impl FnMut(&str) -> bool) {
    let ends = |name: &&HeaderName| is_hop(name.as_str()) || is_other(name.as_str());
    let mut ending: Vec<_> = headers.keys().filter(ends).cloned().collect();
    if ending.contains(&CONNECTION) {
        ending.extend(named_by_connection(headers));
    }
    for name in ending {
        headers.remove(name);
    }
}

fn named_by_connection(headers: &HeaderMap) -> impl Iterator<Item = HeaderName> {
    words(headers, CONNECTION).filter_map(|name| HeaderName::from_bytes(name).ok())
}

/// Told by text, which is compared by its length first.
fn is_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
    )
}

fn names_trailers(value: &HeaderValue) -> bool {
    let value = value.to_str().unwrap_or_default();
    value
        .split(',')
        .any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
}

/// What this proxy and its clients say to each other.
fn is_ours(name: &str) -> bool {
    name.starts_with("x-tollhouse-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(headers: &[(&str, &str)], trim: impl FnOnce(&mut HeaderMap)) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: HeaderName = name.parse().unwrap();
            map.append(name, HeaderValue::from_str(value).unwrap());
        }
        trim(&mut map);
        let mut left: Vec<_> = map.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        left.join(" ")
    }

    /// Chunks that are named, but not there, say nothing of an answer's length.
    #[test]
    fn a_length_ends_where_there_are_chunks() {
        let named = [("connection", "transfer-encoding"), ("content-length", "5")];
        assert_eq!(left(&named, for_client), "content-length");
        let there = [("transfer-encoding", "chunked"), ("content-length", "5")];
        assert_eq!(left(&there, for_client), "");
    }

    #[test]
    fn hops_and_keys_end_here() {
        let headers = [
            ("connection", "close, X-Secret-Hop"),
            ("connection", "x-other-hop"),
            ("x-secret-hop", "1"),
            ("x-other-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "x"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("te", "gzip, Trailers"),
            ("expect", "100-continue"),
            ("accept-encoding", "gzip"),
            ("x-tollhouse-caller", "me"),
            ("authorization", "Bearer x"),
            ("openai-beta", "y"),
            ("openai-beta", "z"),
            ("trailer", "x-checksum"),
        ];
        let own = left(&headers, |headers| for_provider(headers, false));
        assert_eq!(own, "openai-beta te trailer");
        let kept = left(&headers, |headers| for_provider(headers, true));
        assert_eq!(kept, "authorization openai-beta te trailer");
    }

    #[test]
    fn cookies_that_came_one_by_one_are_joined() {
        let mut headers = HeaderMap::new();
        for crumb in ["a=1", "b=2"] {
            headers.append(COOKIE, HeaderValue::from_static(crumb));
        }
        for_provider(&mut headers, false);
        let all: Vec<_> = headers.get_all(COOKIE).iter().collect();
        assert_eq!(all, ["a=1; b=2"]);
    }

    #[test]
    fn an_answer_keeps_what_is_the_providers() {
        let headers = [
            ("x-request-id", "req_1"),
            ("x-ratelimit-remaining-tokens", "5"),
            ("set-cookie", "a"),
            ("access-control-allow-origin", "*"),
            ("transfer-encoding", "chunked"),
            ("x-tollhouse-wait-ms", "1"),
        ];
        let kept = left(&headers, for_client);
        assert_eq!(kept, "set-cookie x-ratelimit-remaining-tokens x-request-id");
    }
}
