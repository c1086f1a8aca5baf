//! Every recorded sample, decided as the recording says.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::Value;
use tollhouse_openai::{End, Meter, RateLimits, Scope, UsageMeter, classify};

fn lines(file: &str) -> Vec<Value> {
    let path = format!("{}/tests/data/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).expect("a fixture file");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect()
}

fn headers(sample: &Value) -> HeaderMap {
    let pairs = sample["headers"].as_object().expect("headers");
    pairs
        .iter()
        .map(|(name, value)| {
            let name: HeaderName = name.parse().expect("a header name");
            let value = value.as_str().expect("a string");
            (name, value.parse::<HeaderValue>().expect("a header value"))
        })
        .collect()
}

/// Whole milliseconds, rounded up, as the recordings are written.
fn millis(span: Option<Duration>) -> Option<u64> {
    let up = |span: Duration| span.as_nanos().div_ceil(1_000_000);
    span.map(|span| u64::try_from(up(span)).expect("a sane delay"))
}

#[test]
fn every_recorded_rate_limit_header_is_read_as_recorded() {
    let samples = lines("ratelimit_headers.jsonl");
    assert!(!samples.is_empty());
    for sample in samples {
        let read = RateLimits::from_headers(&headers(&sample));
        let found = [
            ("limit_requests", read.limit_requests),
            ("limit_tokens", read.limit_tokens),
            ("remaining_requests", read.remaining_requests),
            ("remaining_tokens", read.remaining_tokens),
            ("reset_requests_ms", millis(read.reset_requests)),
            ("reset_tokens_ms", millis(read.reset_tokens)),
        ];
        for (field, found) in found {
            let expected = sample["expect"][field].as_u64();
            assert_eq!(found, expected, "{}: {field}", sample["id"]);
        }
    }
}

fn scope(name: &str) -> Scope {
    match name {
        "tokens" => Scope::Tokens,
        "requests" => Scope::Requests,
        "tokens_day" => Scope::TokensPerDay,
        "requests_day" => Scope::RequestsPerDay,
        "quota" => Scope::Quota,
        "overload" => Scope::Overload,
        "none" => Scope::None,
        other => panic!("an unknown scope: {other}"),
    }
}

#[test]
fn every_recorded_error_is_decided_as_recorded() {
    let mut wrong = Vec::new();
    for sample in lines("errors.jsonl") {
        let status = sample["status"].as_u64().expect("a status") as u16;
        let status = StatusCode::from_u16(status).expect("a status");
        let body = sample["body"].as_str().expect("a body");
        let verdict = classify(status, &headers(&sample), body.as_bytes());
        let expect = &sample["expect"];
        let expected = (
            expect["retry"].as_bool().expect("a decision"),
            expect["after_ms"].as_u64(),
            scope(expect["scope"].as_str().expect("a scope")),
        );
        let found = (verdict.retry, millis(verdict.after), verdict.scope);
        if found != expected {
            wrong.push(format!("{}: {found:?}, not {expected:?}", sample["id"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_recorded_stream_tells_its_usage_however_it_is_cut() {
    let expected = [
        ("chat_include_usage", Some(16)),
        ("chat_no_usage", None),
        ("responses_completed", Some(16)),
        ("responses_failed_rate_limit", None),
        ("chat_error_midstream", None),
        ("chat_comments_usage_with_choice", Some(101)),
        ("chat_x_groq_usage", Some(36)),
        ("chat_crlf_utf8_multiline", Some(30)),
    ];
    for (name, tokens) in expected {
        let path = format!(
            "{}/tests/data/streams/{name}.sse",
            env!("CARGO_MANIFEST_DIR")
        );
        let stream = std::fs::read(&path).expect("a recorded stream");
        assert_eq!(used([&stream[..]]), tokens, "{name}, whole");
        for size in [1, 2, 3, 100, 4096] {
            assert_eq!(used(stream.chunks(size)), tokens, "{name}, by {size}");
        }
        // One cut at every place: inside characters, between CR and LF.
        for at in 0..stream.len() {
            let (head, tail) = stream.split_at(at);
            assert_eq!(used([head, tail]), tokens, "{name}, cut at {at}");
        }
    }
}

fn used<'s>(chunks: impl IntoIterator<Item = &'s [u8]>) -> Option<u64> {
    let kind = HeaderValue::from_static("text/event-stream; charset=utf-8");
    let head = HeaderMap::from_iter([(http::header::CONTENT_TYPE, kind)]);
    let mut meter = UsageMeter::new(StatusCode::OK, &head);
    chunks.into_iter().for_each(|chunk| meter.chunk(chunk));
    meter.used(End::Complete)
}
