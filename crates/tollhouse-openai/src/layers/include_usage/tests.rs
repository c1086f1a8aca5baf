use std::collections::VecDeque;
use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Body;
use http_body_util::channel::Channel;
use http_body_util::{BodyExt, Full};
use proptest::prelude::*;
use tower::{ServiceExt, service_fn};

use super::filter::Filter;
use super::*;

/// What passes of a stream that comes in these chunks, chunk by chunk.
fn passes<'c>(chunks: impl IntoIterator<Item = &'c [u8]>) -> Vec<Vec<u8>> {
    let mut filter = Filter::default();
    let mut passed = VecDeque::new();
    let mut all = Vec::new();
    for chunk in chunks {
        filter.feed(Bytes::copy_from_slice(chunk), &mut passed);
        all.push(passed.drain(..).flatten().collect());
    }
    filter.finish(&mut passed);
    all.push(passed.drain(..).flatten().collect());
    all
}

/// Whatever the cut, the same passes.
fn filtered(stream: &str) -> String {
    let stream = stream.as_bytes();
    let whole = passes([stream]).concat();
    for size in [1, 2, 3, 7, 64] {
        assert_eq!(passes(stream.chunks(size)).concat(), whole, "by {size}");
    }
    for at in 0..stream.len() {
        let (head, tail) = stream.split_at(at);
        assert_eq!(passes([head, tail]).concat(), whole, "cut at {at}");
    }
    String::from_utf8(whole).expect("text")
}

const TEXT: &str = r#"data: {"id":"x","choices":[{"delta":{"content":"a"}}],"usage":null}"#;
const USAGE: &str = r#"data: {"id":"x","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}"#;

#[test]
fn the_extra_event_is_taken_out_in_every_form() {
    let done = "data: [DONE]";
    for end in ["\n", "\r\n", "\r"] {
        let blank = format!("{end}{end}");
        let stream = [TEXT, TEXT, USAGE, done, ""].join(&blank);
        let expected = [TEXT, TEXT, done, ""].join(&blank);
        assert_eq!(filtered(&stream), expected, "{end:?}");
    }
    for form in [
        r#"data:{"usage": {"total_tokens": 3}, "choices" : [ ] , "x": [1]}"#,
        "event: chunk\nid: 7\ndata: {\"choices\":[],\ndata: \"usage\":{\"total_tokens\":3}}\nretry: 1",
    ] {
        let stream = [TEXT, form, done, ""].join("\n\n");
        assert_eq!(filtered(&stream), [TEXT, done, ""].join("\n\n"), "{form}");
    }
    // It is nobody's last word, and may come before or in between.
    let stream = [USAGE, TEXT, USAGE, USAGE, TEXT, USAGE, ""].join("\n\n");
    assert_eq!(filtered(&stream), [TEXT, TEXT, ""].join("\n\n"));
}

/// The mark went with a hidden first event, or stayed, as the chunks were cut.
#[test]
fn a_byte_order_mark_before_a_hidden_event_passes_whatever_the_cut() {
    for end in ["\n\n", "\r\n\r\n"] {
        let stream = format!("\u{feff}{}", [USAGE, TEXT, ""].join(end));
        let expected = format!("\u{feff}{}", [TEXT, ""].join(end));
        assert_eq!(filtered(&stream), expected);
    }
}

#[test]
fn every_other_event_passes_byte_for_byte() {
    for event in [
        "",
        ":",
        ": waiting",
        "data: [DONE]",
        "data: {\"choices\":[]}",
        r#"data: {"choices":[],"prompt_filter_results":[{"usage":1}],"usage":null}"#,
        r#"data: {"choices":[{"delta":{}}],"usage":{"total_tokens":3}}"#,
        r#"data: {"choices":[{"index":0}],"x_groq":{"usage":{"total_tokens":3}}}"#,
        r#"data: {"usage":{"total_tokens":3}}"#,
        r#"data: {"x":{"choices":[]},"usage":{"total_tokens":3}}"#,
        r#"data: {"choices":["[]"],"usage":{"total_tokens":3}}"#,
        r#"data: "\"choices\":[],\"usage\":{\"total_tokens\":3}""#,
        "event: error\r\ndata: {\"error\":{}}",
    ] {
        let stream = ["\u{feff}: hi", TEXT, event, TEXT, event, ""].join("\n\n");
        assert_eq!(filtered(&stream), stream);
        // And if it breaks off anywhere.
        assert_eq!(filtered(stream.trim_end()), stream.trim_end());
    }
}

/// Only the two that asked have such an event.
#[test]
fn recorded_streams_pass_but_for_the_extra_event() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/streams");
    let mut shortened = Vec::new();
    for entry in std::fs::read_dir(path).expect("recorded streams") {
        let path = entry.expect("a file").path();
        let stream = std::fs::read_to_string(&path).expect("a stream");
        let passed = filtered(&stream);
        if passed != stream {
            let name = path.file_stem().expect("a name").to_string_lossy();
            shortened.push(name.into_owned());
            assert!(!passed.contains("prompt_tokens"), "{path:?}");
            let events = |text: &str| text.matches(r#""choices""#).count();
            assert_eq!(events(&passed) + 1, events(&stream), "{path:?}");
        }
    }
    shortened.sort();
    assert_eq!(
        shortened,
        ["chat_crlf_utf8_multiline", "chat_include_usage"]
    );
}

#[test]
fn a_usage_without_its_last_line_end_is_hidden_and_half_of_one_is_not() {
    assert_eq!(
        filtered(&format!("{TEXT}\n\n{USAGE}")),
        format!("{TEXT}\n\n")
    );
    let half = &USAGE[..USAGE.len() - 9];
    assert_eq!(filtered(half), half);
}

#[test]
fn a_comment_before_the_hidden_event_passes() {
    let stream = format!(": a\n{USAGE}\n\n: b\r\n\r\n");
    assert_eq!(filtered(&stream), ": a\n: b\r\n\r\n");
}

/// What is known to pass does not wait for what comes later.
#[test]
fn an_event_is_held_only_while_it_may_be_the_one() {
    let chunks = [
        &b"data: {\"choices\":["[..],
        b"{",
        b"\"delta\":{}}],\"usage\":{\"total_tokens\":1}}",
        b"\n\n: wait",
        b"ing\n\ndata: {\"choices\":[]",
        b",\"usage\":null}\n",
        b"\n",
        b"data: [DONE]\n\n",
    ];
    let at_once: Vec<String> = passes(chunks)
        .into_iter()
        .map(|passed| String::from_utf8(passed).expect("text"))
        .collect();
    assert_eq!(
        at_once,
        [
            "",
            "data: {\"choices\":[{",
            "\"delta\":{}}],\"usage\":{\"total_tokens\":1}}",
            "\n\n: wait",
            "ing\n\n",
            "",
            "data: {\"choices\":[],\"usage\":null}\n\n",
            "data: [DONE]\n\n",
            "",
        ]
    );
}

#[test]
fn an_event_beyond_the_bound_passes() {
    let long = "x".repeat(20_000);
    let event = format!(r#"data: {{"x":"{long}","choices":[],"usage":{{"total_tokens":3}}}}"#);
    let stream = format!("{event}\n\n{TEXT}\n\n");
    assert_eq!(
        passes(stream.as_bytes().chunks(1_000)).concat(),
        stream.as_bytes()
    );
    // In one piece it never was held.
    assert_eq!(
        passes([stream.as_bytes()]).concat(),
        format!("{TEXT}\n\n").as_bytes()
    );
}

#[test]
fn a_chunk_that_passes_is_not_copied() {
    let chunk = Bytes::from(format!("{TEXT}\n\n{TEXT}\n\n"));
    let mut passed = VecDeque::new();
    Filter::default().feed(chunk.clone(), &mut passed);
    assert_eq!(passed.len(), 1);
    assert_eq!(passed[0].as_ptr(), chunk.as_ptr());
}

fn post(body: &'static str) -> Request<Bytes> {
    let request = Request::post("/v1/chat/completions").body(Bytes::from(body));
    request.expect("a request")
}

#[tokio::test]
async fn what_is_held_goes_before_trailers_and_before_an_error() {
    for fails in [false, true] {
        let provider = service_fn(move |_| async move {
            let (mut sender, body) = Channel::<Bytes, &str>::new(8);
            tokio::spawn(async move {
                sender.send_data("data: {".into()).await.expect("a reader");
                if fails {
                    sender.abort("broken");
                } else {
                    sender
                        .send_trailers(HeaderMap::new())
                        .await
                        .expect("a reader");
                }
            });
            let answer = Response::builder().header("content-type", "text/event-stream");
            Ok::<_, Infallible>(answer.body(body).expect("a response"))
        });
        let client = IncludeUsage::new(provider);
        let answer = client.oneshot(post(r#"{"stream":true}"#)).await.unwrap();
        let mut body = answer.into_body();
        let data = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(data, "data: {");
        assert!(!body.is_end_stream());
        match body.frame().await.unwrap() {
            Ok(frame) => assert!(frame.is_trailers() && !fails),
            Err(error) => assert!(error == "broken" && fails),
        }
        assert!(body.frame().await.is_none());
    }
}

#[tokio::test]
async fn only_streams_that_were_asked_for_it_are_filtered() {
    let provider = |kind: &'static str| {
        service_fn(move |_| async move {
            let body = Full::new(Bytes::from(format!("{USAGE}\n\n")));
            let answer = Response::builder()
                .header("content-type", kind)
                .header("content-length", body.size_hint().lower());
            Ok::<_, Infallible>(answer.body(body).expect("a response"))
        })
    };
    for (body, kind, hidden) in [
        (r#"{"stream":true}"#, "text/event-stream", true),
        (r#"{"stream":true}"#, "application/json", false),
        (
            r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
            "text/event-stream",
            false,
        ),
        (r#"{"stream":false}"#, "text/event-stream", false),
    ] {
        let client = IncludeUsage::new(provider(kind));
        let answer = client.oneshot(post(body)).await.unwrap();
        assert_eq!(answer.headers().contains_key("content-length"), !hidden);
        let exact = answer.body().size_hint().exact();
        assert_eq!(exact.is_none(), hidden);
        let data = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(data.is_empty(), hidden, "{body} {kind}");
    }
}

proptest! {
    /// Of streams of any events, exactly those with a usage and no choices are
    /// missing, however they are cut.
    #[test]
    fn nothing_else_is_ever_lost(
        events in prop::collection::vec(0..6_usize, 0..12),
        end in prop::sample::select(vec!["\n", "\r\n", "\r"]),
        cuts in prop::collection::vec(1_usize..90, 1..8),
    ) {
        let pool = [TEXT, USAGE, ": a", "data: [DONE]", "event: x\ndata:{\"choices\":[]}", ""];
        let mut stream = String::new();
        let mut expected = String::new();
        for event in events {
            let event = pool[event].replace('\n', end) + end + end;
            stream += &event;
            if !event.starts_with(USAGE) {
                expected += &event;
            }
        }
        let mut rest = stream.as_bytes();
        let mut chunks = Vec::new();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (chunk, more) = rest.split_at((*cut).min(rest.len()));
            chunks.push(chunk);
            rest = more;
        }
        prop_assert_eq!(passes(chunks).concat(), expected.as_bytes());
    }

    #[test]
    fn hostile_streams_never_panic(stream in prop::collection::vec(any::<u8>(), 0..300), cut in 1_usize..50) {
        passes(stream.chunks(cut));
    }
}
