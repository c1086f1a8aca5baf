//! Streams through a whole policy, in virtual time.
//!
//! The numbers are those of the list of failures that systems of this kind
//! have met.

mod hosted;
mod recorded;
mod support;

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};

use bytes::Bytes;
use http_body_util::BodyExt;
use support::{COST, Calls, PROMPT, SEC, ask, policy, read, token};
use tokio::time::{Instant, sleep};
use tollhouse_openai::{Accounting, Policy};
use tower::Layer;

fn spent(policy: &Policy) -> i64 {
    600 - policy.budget().snapshot().level
}

fn recorded(name: &str) -> Bytes {
    let path = format!(
        "{}/tests/data/streams/{name}.sse",
        env!("CARGO_MANIFEST_DIR")
    );
    Bytes::from(std::fs::read(path).expect("a recorded stream"))
}

/// Reads ten tokens of a stream, leaves, and tells what that cost.
async fn leave_early(accounting: Accounting) -> i64 {
    let policy = policy().accounting(accounting);
    let calls = Calls::default();
    let client = policy.layer().layer(calls.provider());
    let mut body = ask(&client).await;
    let mut upstream = calls.upstream(0);
    for _ in 0..10 {
        upstream.send_data(token()).await.expect("a reader");
    }
    read(&mut body, 10).await;
    drop(body);
    spent(&policy)
}

#[tokio::test(start_paused = true)]
async fn failure_03_the_charge_of_a_client_that_leaves_stands_as_requested() {
    assert_eq!(leave_early(Accounting::AsRequested).await, COST);
}

#[tokio::test(start_paused = true)]
async fn failure_03_as_used_it_is_the_prompt_and_the_tokens_seen() {
    assert_eq!(leave_early(Accounting::AsUsed).await, PROMPT + 10);
}

#[tokio::test(start_paused = true)]
async fn failure_03_who_leaves_before_the_first_token_pays_the_prompt() {
    let policy = policy().accounting(Accounting::AsUsed);
    let calls = Calls::default();
    drop(ask(&policy.layer().layer(calls.provider())).await);
    assert_eq!(spent(&policy), PROMPT);
}

#[tokio::test(start_paused = true)]
async fn failure_03_a_client_that_leaves_stops_upstream_and_frees_its_slot_now() {
    let policy = policy().max_concurrency(1);
    let calls = Calls::default();
    let client = policy.layer().layer(calls.provider());
    let mut body = ask(&client).await;
    let mut upstream = calls.upstream(0);
    upstream.send_data(token()).await.expect("a reader");
    read(&mut body, 1).await;

    let next = tokio::spawn(async move {
        let body = ask(&client).await;
        (body, Instant::now())
    });
    sleep(9 * SEC).await;
    assert_eq!(calls.arrivals().len(), 1, "the slot is held");
    let left = Instant::now();
    drop(body);
    let (body, admitted) = next.await.expect("no panic");
    assert_eq!(admitted, left);
    assert!(upstream.send_data(token()).await.is_err(), "nobody reads");
    drop(body);
}

/// A provider that breaks off is paid for as a client that leaves is.
#[tokio::test(start_paused = true)]
async fn failure_05_a_stream_that_breaks_off_is_never_free() {
    for (accounting, expected) in [
        (Accounting::AsRequested, COST),
        (Accounting::AsUsed, PROMPT + 2),
    ] {
        let policy = policy().accounting(accounting);
        let calls = Calls::default();
        let client = policy.layer().layer(calls.provider());
        let mut body = ask(&client).await;
        let mut upstream = calls.upstream(0);
        for _ in 0..2 {
            upstream.send_data(token()).await.expect("a reader");
        }
        upstream.abort("reset");
        read(&mut body, 2).await;
        let failed = body.frame().await.expect("an end");
        assert_eq!(failed.expect_err("a failure"), "reset");
        assert_eq!(spent(&policy), expected, "{accounting:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn failure_05_a_stream_without_usage_settles_on_its_estimate() {
    for accounting in [Accounting::AsRequested, Accounting::AsUsed] {
        let policy = policy().accounting(accounting);
        let calls = Calls::default();
        let body = ask(&policy.layer().layer(calls.provider())).await;
        let mut upstream = calls.upstream(0);
        let stream = recorded("chat_no_usage");
        upstream.send_data(stream.clone()).await.expect("a reader");
        drop(upstream);
        let read = body.collect().await.expect("a stream").to_bytes();
        assert_eq!(read, stream);
        assert_eq!(spent(&policy), COST, "{accounting:?}");
    }
}

/// A refusal that comes as an event is news for everybody, as a 429 is.
#[tokio::test(start_paused = true)]
async fn a_rate_limit_inside_a_stream_holds_the_budget_as_one_in_the_head() {
    let policy = policy();
    let calls = Calls::default();
    let client = policy.layer().layer(calls.provider());
    let body = ask(&client).await;
    let mut upstream = calls.upstream(0);
    let stream = recorded("responses_failed_rate_limit");
    // However it is cut.
    for piece in stream.chunks(100) {
        let piece = Bytes::copy_from_slice(piece);
        upstream.send_data(piece).await.expect("a reader");
    }
    drop(upstream);
    sleep(SEC).await;
    let read = body.collect().await.expect("a stream").to_bytes();
    assert_eq!(read, stream, "the caller gets it as it came");

    let told = Instant::now();
    let _body = ask(&client).await;
    let waited = calls.arrivals()[1] - told;
    assert_eq!(waited.as_millis(), 11_054);
}

/// An error that is the request's own fault is nobody else's trouble.
#[tokio::test(start_paused = true)]
async fn a_bad_request_inside_a_stream_keeps_nobody_waiting() {
    let policy = policy();
    let calls = Calls::default();
    let client = policy.layer().layer(calls.provider());
    let body = ask(&client).await;
    let mut upstream = calls.upstream(0);
    let stream = recorded("chat_error_midstream");
    upstream.send_data(stream).await.expect("a reader");
    drop(upstream);
    body.collect().await.expect("a stream");
    assert_eq!(spent(&policy), COST);
    let told = Instant::now();
    let _body = ask(&client).await;
    assert_eq!(calls.arrivals()[1], told);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_was_made_to_tell_settles_and_the_caller_sees_nothing_of_it() {
    let policy = policy().accounting(Accounting::AsUsed).ask_for_usage(true);
    let calls = Calls::default();
    let body = ask(&policy.layer().layer(calls.provider())).await;
    let asked = String::from_utf8(calls.bodies()[0].to_vec()).expect("text");
    assert!(asked.starts_with(r#"{"stream_options":{"include_usage":true},"model":"m","#));

    let stream = recorded("chat_include_usage");
    let mut upstream = calls.upstream(0);
    let pieces = stream.clone();
    tokio::spawn(async move {
        for piece in pieces.chunks(37) {
            let piece = Bytes::copy_from_slice(piece);
            upstream.send_data(piece).await.expect("a reader");
        }
    });
    let read = body.collect().await.expect("a stream").to_bytes();
    let text = String::from_utf8(stream.to_vec()).expect("text");
    let usage = text
        .split_inclusive("\n\n")
        .find(|event| event.contains(r#""choices":[]"#));
    assert_eq!(read, text.replace(usage.expect("the event"), ""));
    assert_eq!(spent(&policy), 16);
}

/// The question is put once, outside of the attempts.
#[tokio::test(start_paused = true)]
async fn every_attempt_asks_for_the_usage_alike() {
    let policy = policy().ask_for_usage(true);
    let calls = Calls::default();
    let provider = calls.provider_with(|call| if call < 2 { 503 } else { 200 });
    let body = ask(&policy.layer().layer(provider)).await;
    let usage = "data: {\"choices\":[],\"usage\":{\"total_tokens\":150}}\n\n";
    let mut upstream = calls.upstream(2);
    upstream.send_data(usage.into()).await.expect("a reader");
    drop(upstream);
    let bodies = calls.bodies();
    assert_eq!(bodies.len(), 3);
    assert!(bodies.iter().all(|body| *body == bodies[0]));
    assert!(
        body.collect()
            .await
            .expect("a stream")
            .to_bytes()
            .is_empty()
    );
}

/// What passes is not kept from the caller until the next frame comes.
#[tokio::test(start_paused = true)]
async fn nothing_waits_for_a_frame_that_may_never_come() {
    let policy = policy().ask_for_usage(true);
    let calls = Calls::default();
    let mut body = ask(&policy.layer().layer(calls.provider())).await;
    let mut upstream = calls.upstream(0);
    upstream.send_data(token()).await.expect("a reader");
    let mut cx = Context::from_waker(Waker::noop());
    let mut frame = pin!(read(&mut body, 1));
    let std::task::Poll::Ready(text) = frame.as_mut().poll(&mut cx) else {
        panic!("the event is whole and must not wait");
    };
    assert_eq!(text, token());
}
