use http::HeaderValue;
use proptest::prelude::*;

use super::*;

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

#[test]
fn a_usage_inside_the_models_own_text_is_not_the_usage() {
    let text = r#"{"choices":[{"message":{"content":"\"usage\":{\"total_tokens\":9}} \\"}}],"a\"usage":{"total_tokens":8},"usage":{"total_tokens":3}}"#;
    assert_eq!(json(text), Some(3));
    assert_eq!(json(r#"{"us\u0061ge":{"total_tokens":3}}"#), None);
}

/// Case 5 of the failures: without a usage, the estimate stands.
#[test]
fn case_5_a_body_cut_before_its_usage_tells_none() {
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

#[test]
fn a_meter_does_not_grow() {
    assert!(size_of::<UsageMeter>() <= 256);
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
