//! Every error that was recorded inside a stream, met by the meter as it passes.

use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::Value;
use tollhouse_openai::{Meter, UsageMeter, classify};

/// A stream, as its head says.
fn head() -> HeaderMap {
    let kind = HeaderValue::from_static("text/event-stream");
    HeaderMap::from_iter([(http::header::CONTENT_TYPE, kind)])
}

#[test]
fn every_recorded_error_inside_a_stream_is_judged_as_it_passes() {
    let path = format!("{}/tests/data/errors.jsonl", env!("CARGO_MANIFEST_DIR"));
    let samples = std::fs::read_to_string(path).expect("the recordings");
    let mut denials = Vec::new();
    for sample in samples.lines() {
        let sample: Value = serde_json::from_str(sample).expect("a line of JSON");
        if sample["status"] != 200 {
            continue;
        }
        let body = sample["body"].as_str().expect("a body");
        let expected = classify(StatusCode::OK, &head(), body.as_bytes()).denial();
        for size in [1, 2, 3, 64, body.len()] {
            let mut meter = UsageMeter::new(StatusCode::OK, &head());
            meter.chunk(b"data: {\"choices\":[]}\n\n");
            body.as_bytes()
                .chunks(size)
                .for_each(|chunk| meter.chunk(chunk));
            assert_eq!(meter.denial(), expected, "{}, by {size}", sample["id"]);
        }
        denials.push(expected);
    }
    assert!(denials.iter().any(Option::is_some));
    assert!(denials.iter().any(Option::is_none));
}
