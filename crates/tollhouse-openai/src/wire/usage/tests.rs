use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use proptest::prelude::*;
use tollhouse::{Scope, Usage};

use super::*;
use crate::call::Call;
use crate::wire::cost::ChargeRule;

fn headers(kind: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))])
}

/// Whatever the cut, the same is found.
fn found(kind: &'static str, body: &[u8]) -> Option<u64> {
    let cut = |size: usize| {
        let mut meter = UsageMeter::new(StatusCode::OK, &headers(kind));
        body.chunks(size).for_each(|chunk| meter.chunk(chunk));
        meter.used(End::Complete)
    };
    let whole = cut(body.len().max(1));
    for size in [1, 2, 3, 5, 7, 64, 1_021] {
        assert_eq!(cut(size), whole, "cut every {size} bytes");
    }
    whole
}

fn json(body: &str) -> Option<u64> {
    found("application/json", body.as_bytes())
}

#[test]
fn whole_bodies_tell_their_usage() {
    let cases = [
        (
            r#"{"usage":{"prompt_tokens":14,"completion_tokens":2,"total_tokens":16}}"#,
            Some(16),
        ),
        (
            r#"{"usage": {"input_tokens": 11, "output_tokens": 5 , "total_tokens": 16 }}"#,
            Some(16),
        ),
        (
            r#"{"data":[{"embedding":[0.1,-2e-3]}],"usage":{"prompt_tokens":8,"total_tokens":8}}"#,
            Some(8),
        ),
        // Completions may leave out what was completed.
        (r#"{"usage":{"prompt_tokens":5,"total_tokens":5}}"#, Some(5)),
        (
            r#"{"usage":{"prompt_tokens":5,"completion_tokens":7}}"#,
            Some(12),
        ),
        // Details have counts of the same names, deeper.
        (
            r#"{"usage":{"prompt_tokens":9,"prompt_tokens_details":{"prompt_tokens":4,"cached_tokens":3},"completion_tokens":1}}"#,
            Some(10),
        ),
        // Thinking that only the total counts.
        (
            r#"{"usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":30}}"#,
            Some(30),
        ),
        (r#"{"usage":null}"#, None),
        (r#"{"usage":{}}"#, None),
        (r#"{"usage":{"total_tokens":-4}}"#, None),
        (r#"{"usage":{"total_tokens":"16"}}"#, None),
        (r#"{"usage":{"total_tokens":1e3}}"#, None),
        (
            r#"{"usage":{"total_tokens":99999999999999999999999}}"#,
            None,
        ),
        (
            r#"{"usage":{"total_tokens":18446744073709551615}}"#,
            Some(u64::MAX),
        ),
        (r#"[{"usage":{"total_tokens":16}}]"#, None),
        (
            r#"{"choices":[{"usage":{"total_tokens":16}}],"metadata":{"usage":{"total_tokens":3}}}"#,
            None,
        ),
        ("", None),
        ("<html>", None),
    ];
    for (body, expected) in cases {
        assert_eq!(json(body), expected, "{body}");
    }
}

/// What the total has beyond the input is output; of a total alone nothing is known.
#[test]
fn input_and_output_are_told_apart_as_far_as_they_are_told() {
    let cases = [
        (
            r#"{"prompt_tokens":9,"completion_tokens":4}"#,
            Charge::tokens(13).and(Unit::Input, 9).and(Unit::Output, 4),
        ),
        (
            r#"{"input_tokens":9,"output_tokens":1,"total_tokens":30}"#,
            Charge::tokens(30).and(Unit::Input, 9).and(Unit::Output, 21),
        ),
        (
            r#"{"prompt_tokens":8,"total_tokens":8}"#,
            Charge::tokens(8).and(Unit::Input, 8).and(Unit::Output, 0),
        ),
        (
            r#"{"output_tokens":4}"#,
            Charge::tokens(4).and(Unit::Output, 4),
        ),
        (r#"{"total_tokens":30}"#, Charge::tokens(30)),
        (
            r#"{"input_tokens":18446744073709551615,"output_tokens":9}"#,
            Charge::tokens(u64::MAX)
                .and(Unit::Input, u64::MAX)
                .and(Unit::Output, 0),
        ),
    ];
    for (usage, expected) in cases {
        let mut meter = UsageMeter::new(StatusCode::OK, &HeaderMap::new());
        meter.chunk(format!(r#"{{"usage":{usage}}}"#).as_bytes());
        assert_eq!(meter.charged(End::Complete), Some(expected), "{usage}");
    }
}

#[test]
fn a_usage_inside_the_models_own_text_is_not_the_usage() {
    let text = r#"{"choices":[{"message":{"content":"\"usage\":{\"total_tokens\":9}} \\"}}],"a\"usage":{"total_tokens":8},"usage":{"total_tokens":3}}"#;
    assert_eq!(json(text), Some(3));
    assert_eq!(json(r#"{"us\u0061ge":{"total_tokens":3}}"#), None);
}

#[test]
fn failure_05_a_body_cut_before_its_usage_tells_none() {
    let body = r#"{"usage":{"prompt_tokens":14,"completion_tokens":2,"total_tokens":16}}"#;
    assert_eq!(json(&body[..body.len() - 2]), None);
    assert_eq!(json(&body[..body.len() - 1]), Some(16));
    let stream = b"data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}],\"usage\":null}\n\ndata: {\"usage\":{\"tot";
    assert_eq!(found("text/event-stream", stream), None);
}

#[test]
fn an_event_cut_in_the_middle_does_not_spoil_the_next() {
    let stream = b"data: {\"a\":{\"b\":\"\n\ndata: {\"usage\":{\"total_tokens\":7}}\n\n";
    assert_eq!(found("text/event-stream; charset=utf-8", stream), Some(7));
}

#[test]
fn errors_and_compressed_bodies_are_not_read() {
    let body = br#"{"usage":{"total_tokens":16}}"#;
    let mut meter = UsageMeter::new(StatusCode::BAD_REQUEST, &HeaderMap::new());
    meter.chunk(body);
    assert_eq!(meter.used(End::Complete), None);

    let mut headers = headers("application/json");
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    let mut meter = UsageMeter::new(StatusCode::OK, &headers);
    meter.chunk(body);
    assert_eq!(meter.used(End::Complete), None);
}

fn denial(kind: &'static str, body: &str) -> Option<Denial> {
    let cut = |size: usize| {
        let mut meter = UsageMeter::new(StatusCode::OK, &headers(kind));
        body.as_bytes()
            .chunks(size)
            .for_each(|chunk| meter.chunk(chunk));
        meter.denial()
    };
    let whole = cut(body.len().max(1));
    for size in [1, 2, 3, 5, 7, 64, 1_021] {
        assert_eq!(cut(size), whole, "cut every {size} bytes: {body}");
    }
    whole
}

#[test]
fn an_error_inside_a_stream_is_judged_as_one_in_the_head() {
    const LIMIT: &str = r#""code":"rate_limit_exceeded","message":"Rate limit reached on tokens per min (TPM): Limit 30000, Used 29937, Requested 385. Please try again in 644ms.""#;
    let told = Some(Denial {
        scope: Scope::Tokens,
        after: Some(Duration::from_millis(644)),
    });
    for event in [
        format!(r#"data: {{"error":{{{LIMIT}}}}}"#),
        format!(
            r#"data: {{"id":"x","choices":[{{"error":1}}],"error": {{{LIMIT},"metadata":{{"a":["}}"]}}}} }}"#
        ),
        format!("event: error\ndata: {{\"type\": \"error\",{LIMIT},\"param\":null}}"),
        format!("event: error\ndata: {{\"type\":\"error\",\"error\":{{{LIMIT}}}}}"),
        format!(
            "event: response.failed\ndata: {{\"response\":{{\"error\":{{{LIMIT}}},\"usage\":null}},\"type\":\"response.failed\"}}"
        ),
    ] {
        let stream =
            format!("data: {{\"response\":{{\"error\":null}}}}\n\n{event}\n\ndata: [DONE]\n\n");
        assert_eq!(denial("text/event-stream", &stream), told, "{stream}");
    }
    let whole = format!(r#"{{"error":{{{LIMIT}}}}}"#);
    assert_eq!(denial("application/json", &whole), told);
}

#[test]
fn an_error_that_is_nobody_elses_trouble_is_no_denial() {
    for event in [
        // A tool's own, inside an item.
        r#"{"type":"response.output_item.done","item":{"error":{"code":"rate_limit_exceeded","message":"rate limit"}}}"#,
        r#"{"choices":[{"delta":{"content":"\"error\":{\"code\":\"rate_limit_exceeded\"}"}}]}"#,
        r#"{"error":{"message":"bad","type":"invalid_request_error","status_code":400}}"#,
        r#"{"error":null}"#,
        r#"{"type":"error_free"}"#,
        // Cut in the middle.
        r#"{"error":{"code":"rate_limit_exceeded","mess"#,
    ] {
        let stream = format!("data: {event}\n\n");
        assert_eq!(denial("text/event-stream", &stream), None, "{event}");
    }
    let prompt = "x".repeat(17_000);
    let long =
        format!(r#"data: {{"error":{{"code":"rate_limit_exceeded","message":"{prompt}"}}}}"#);
    assert_eq!(denial("text/event-stream", &long), None);
}

/// What was asked, by a prompt of 100 tokens.
fn asked() -> Asked {
    let body = Bytes::from(format!(
        r#"{{"max_tokens":500,"messages":[{{"content":"{}"}}]}}"#,
        "x".repeat(372)
    ));
    let request = Request::post("/v1/chat/completions").body(body);
    let request = request.expect("a request");
    let charge = ChargeRule::Safe.with_est_tokens(7_000);
    Asked::new(
        &charge.estimate(Call::of(&request).facts()).expect("a cost"),
        None,
    )
}

/// What a stream is settled with, whatever the cut.
fn settled(stream: &str, end: End) -> Option<u64> {
    let cut = |size: usize| {
        let head = Response::builder().header(CONTENT_TYPE, "text/event-stream");
        let mut meter = asked().meter(&head.body(()).expect("a response"));
        stream
            .as_bytes()
            .chunks(size)
            .for_each(|chunk| meter.chunk(chunk));
        meter.used(end)
    };
    let whole = cut(stream.len().max(1));
    for size in [1, 2, 3, 5, 7, 64, 1_021] {
        assert_eq!(cut(size), whole, "cut every {size} bytes: {stream}");
    }
    whole
}

#[test]
fn failure_03_a_cut_stream_is_told_apart_into_its_prompt_and_its_answer() {
    let head = Response::builder().header(CONTENT_TYPE, "text/event-stream");
    let mut meter = asked().meter(&head.body(()).expect("a response"));
    meter.chunk(b"data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\n");
    let seen = Charge::tokens(101).and(Unit::Input, 100);
    let seen = seen.and(Unit::Output, 1);
    assert_eq!(meter.charged(End::Cut), Some(seen));
}

#[test]
fn failure_03_a_cut_stream_used_its_prompt_and_what_was_seen() {
    let chat = |content: &str| {
        format!(
            r#"data: {{"id":"chatcmpl-1","choices":[{{"delta":{{"content":"{content}","refusal":null}},"logprobs":null}}],"usage":null}}"#
        ) + "\n\n"
    };
    let response = |delta: &str| {
        let data =
            format!(r#"{{"type":"response.output_text.delta","delta":"{delta}","logprobs":[]}}"#);
        format!("event: response.output_text.delta\ndata: {data}\n\n")
    };
    assert_eq!(settled("", End::Cut), Some(100));
    assert_eq!(settled(": waiting\n\n", End::Cut), Some(100));
    // An event is a token at least.
    assert_eq!(settled(&chat("a").repeat(30), End::Cut), Some(130));
    // 36 bytes are 9 tokens.
    let long = "x".repeat(36);
    assert_eq!(settled(&chat(&long), End::Cut), Some(109));
    assert_eq!(settled(&response(&"x".repeat(40)), End::Cut), Some(110));
    assert_eq!(settled(&response(r"\n\n"), End::Cut), Some(101));
    // Quotes in the text are text; keys are not; numbers are none.
    let odd = r#"data: {"delta":{"a":"\"delta\":","bbbbbbbbbb":{"c":["dd",1]}},"x":{"delta":"of no account"}}"#;
    assert_eq!(settled(&format!("{odd}\n\n"), End::Cut), Some(103));
    let none = "data: {\"delta\":null}\n\ndata: {\"delta\":[]}\n\n";
    assert_eq!(settled(none, End::Cut), Some(102));
}

#[test]
fn failure_05_a_stream_without_usage_keeps_its_charge() {
    let event = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n";
    let stream = event.repeat(9) + "data: [DONE]\n\n";
    assert_eq!(settled(&stream, End::Complete), None);
    let told = stream + "data: {\"usage\":{\"total_tokens\":7}}\n\n";
    assert_eq!(settled(&told, End::Complete), Some(7));
    assert_eq!(settled(&told, End::Cut), Some(7));
}

#[test]
fn a_meter_does_not_grow() {
    assert!(size_of::<UsageMeter>() <= 300);
}

/// Bits of answers in any order.
fn pieces() -> impl Strategy<Value = Vec<&'static str>> {
    let known = [
        "{",
        "}",
        "[",
        "]",
        "\"",
        ",",
        ":",
        "\\",
        " ",
        "7",
        "null",
        "{\"error\":",
        "\"error\"",
        "\"error\":{",
        "\"type\":\"error\"",
        "\"type\":\"err\\u006fr\"",
        "\"usage\":{",
        "\"total_tokens\":12",
        "\"prompt_tokens\":3",
        "\"response\":{",
        "\"choices\":[",
        "\"choices\":[]",
        "\"a string\"",
    ];
    prop::collection::vec(prop::sample::select(known.to_vec()), 0..40)
}

proptest! {
    /// The scanner agrees with a parser that holds the whole document.
    #[test]
    fn the_scanner_agrees_with_a_whole_parser(
        before in "[\\PC\"\\\\{}\\[\\]:,]{0,40}",
        total in any::<u64>(),
        depth in 0_usize..6,
        cut in 1_usize..40,
    ) {
        let nested = (0..depth).fold(serde_json::json!(before), |inner, n| {
            if n % 2 == 0 { serde_json::json!([inner, 1.5]) } else { serde_json::json!({"usage": inner, "total_tokens": 3}) }
        });
        let document = serde_json::json!({
            "choices": nested, "usage": {"total_tokens": total}, "zzz": before,
        });
        let body = document.to_string();
        let mut meter = UsageMeter::new(StatusCode::OK, &HeaderMap::new());
        body.as_bytes().chunks(cut).for_each(|chunk| meter.chunk(chunk));
        prop_assert_eq!(meter.used(End::Complete), Some(total));
    }

    /// Errors are copied from where they begin to where they end, wherever a step ends.
    #[test]
    fn a_scanner_finds_alike_however_it_is_cut(pieces in pieces(), cut in 2_usize..60) {
        let document = pieces.concat();
        let found = |cut: usize| {
            let mut scanner = Scanner::default();
            document.as_bytes().chunks(cut).for_each(|chunk| scanner.feed(chunk));
            let error = scanner.error().map(|error| String::from_utf8_lossy(error).into_owned());
            (error, scanner.found().and_then(Counts::charge), scanner.choices())
        };
        let expected = found(1);
        prop_assert_eq!(found(cut), expected.clone());
        prop_assert_eq!(found(document.len().max(1)), expected);
    }

    #[test]
    fn hostile_bodies_never_panic(body in prop::collection::vec(any::<u8>(), 0..400), json in any::<bool>()) {
        found(if json { "application/json" } else { "text/event-stream" }, &body);
    }

    #[test]
    fn hostile_structure_never_panics(body in "[{}\\[\\]\",:0-9 \r\nusage]{0,300}") {
        found("application/json", body.as_bytes());
        found("text/event-stream", format!("data: {body}").as_bytes());
    }
}
