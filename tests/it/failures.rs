//! What must not go wrong, through the whole stack and the wire's own answers.
//!
//! The numbers are those of the list of failures that systems of this kind
//! have met; the gates' own are in `crates/tollhouse/tests`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_stream::wrappers::ReceiverStream;
use tollhouse_openai::{Limit, Policy, Refused};
use tower::{Layer, Service, ServiceExt, service_fn};

const SEC: Duration = Duration::from_secs(1);

/// Gates that bind on tokens alone.
fn policy() -> Policy {
    Policy::default()
        .stagger(Duration::ZERO)
        .max_concurrency(50)
        .headroom(0.0)
        .cautious_start(false)
}

fn chat(max_tokens: u64) -> Request<Bytes> {
    let body = format!(
        r#"{{"model":"gpt-4o","max_tokens":{max_tokens},"messages":[{{"role":"user","content":"1234"}}]}}"#
    );
    Request::post("/v1/chat/completions")
        .body(Bytes::from(body))
        .expect("a valid request")
}

/// What `chat(0)` costs: a token of text, four for the message, three for the
/// reply's start.
const PROMPT: u64 = 8;

fn answer(status: u16, body: &'static str) -> Response<Full<Bytes>> {
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(Full::from(body))
        .expect("a valid response")
}

/// Answers with `first` to the first call and well to all others; notes when
/// each came.
fn once(
    first: impl Fn() -> Response<Full<Bytes>> + Clone + Send + 'static,
    calls: &Arc<Mutex<Vec<Instant>>>,
) -> impl Service<Request<Bytes>, Response = Response<Full<Bytes>>, Error = std::io::Error, Future: Send>
+ Clone
+ Send
+ 'static {
    let calls = Arc::clone(calls);
    service_fn(move |_: Request<Bytes>| {
        let came = {
            let mut calls = calls.lock().expect("no panic");
            calls.push(Instant::now());
            calls.len()
        };
        let answer = if came == 1 {
            first()
        } else {
            answer(200, "{}")
        };
        std::future::ready(Ok(answer))
    })
}

fn seconds(calls: &Mutex<Vec<Instant>>, start: Instant) -> Vec<f64> {
    let calls = calls.lock().expect("no panic");
    calls.iter().map(|at| (*at - start).as_secs_f64()).collect()
}

/// A stream holds its slot until its last byte, not until its headers.
#[tokio::test(start_paused = true)]
async fn failure_04_a_stream_holds_its_slot_to_the_end_of_its_body() {
    let policy = policy().max_concurrency(1);
    let (send, frames) = mpsc::channel::<Result<Frame<Bytes>, std::io::Error>>(1);
    let frames = Arc::new(Mutex::new(Some(frames)));
    let client = policy.layer().layer(service_fn(move |_: Request<Bytes>| {
        let frames = frames.lock().expect("no panic").take();
        let frames = frames.unwrap_or_else(|| mpsc::channel(1).1);
        let body = StreamBody::new(ReceiverStream::new(frames));
        std::future::ready(Ok::<_, std::io::Error>(Response::new(body)))
    }));

    let stream = client.clone().oneshot(chat(10)).await.expect("a head");
    let second = tokio::spawn(client.clone().oneshot(chat(10)));
    sleep(60 * SEC).await;
    assert!(!second.is_finished());
    assert_eq!(
        (
            policy.budget().snapshot().in_flight,
            policy.budget().snapshot().waiting
        ),
        (1, 1)
    );

    let chunk = Bytes::from_static(b"data: [DONE]\n\n");
    send.send(Ok(Frame::data(chunk.clone())))
        .await
        .expect("a reader");
    drop(send);
    let collected = stream.into_body().collect().await.expect("a whole body");
    assert_eq!(collected.to_bytes(), chunk);
    drop(second.await.expect("no panic").expect("an answer"));
    assert_eq!(policy.budget().snapshot().in_flight, 0);
}

/// A stream without usage settles on the estimate; so does one cut short.
#[tokio::test(start_paused = true)]
async fn failure_05_a_stream_without_usage_is_not_free() {
    let policy = policy();
    let streams = [
        "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\ndata: [DONE]\n\n",
        "data: {\"choices\":[{\"delta\":{\"conten",
    ];
    for stream in streams {
        let before = policy.budget().snapshot().level;
        let client = policy.layer().layer(service_fn(move |_: Request<Bytes>| {
            let response = Response::builder().header("content-type", "text/event-stream");
            std::future::ready(response.body(Full::from(stream)))
        }));
        let answer = client.oneshot(chat(1_000)).await.expect("an answer");
        answer.into_body().collect().await.expect("a body");
        let spent = before - policy.budget().snapshot().level;
        assert_eq!(spent, (1_000 + PROMPT) as i64);
        assert_eq!(policy.budget().snapshot().outstanding, 0);
    }
}

/// A prompt above the budget fails at once, with both numbers.
#[tokio::test(start_paused = true)]
async fn failure_06_a_request_larger_than_the_budget_fails_at_once() {
    let calls = Arc::default();
    let client = policy().layer().layer(once(|| answer(200, "{}"), &calls));
    let start = Instant::now();
    let error = client.oneshot(chat(45_411 - PROMPT)).await.unwrap_err();
    let (cost, limit) = (45_411, 30_000);
    assert_eq!(error.refused(), Some(&Refused::TooLarge { cost, limit }));
    assert_eq!(
        error.to_string(),
        "request too large: it costs 45411 tokens, and at most 30000 can ever be spent at once"
    );
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert!(
        calls.lock().expect("no panic").is_empty(),
        "nothing was sent"
    );
}

const REACHED: &str = r#"{"error":{"message":"Rate limit reached for gpt-4o on tokens per min (TPM): Limit 30000, Used 29900, Requested 1008. Please try again in 20s.","type":"tokens","param":null,"code":"rate_limit_exceeded"}}"#;

/// A 429 is news for everybody: whoever comes after it waits as well, and they
/// follow at the bucket's pace.
#[tokio::test(start_paused = true)]
async fn failure_08_a_429_pauses_the_whole_key() {
    let calls = Arc::default();
    let refuses = || answer(429, REACHED);
    let client = policy().layer().layer(once(refuses, &calls));
    let start = Instant::now();
    let ask = || tokio::spawn(client.clone().oneshot(chat(1_000)));
    let refused = ask();
    sleep(SEC).await;
    let later: Vec<_> = (0..3).map(|_| ask()).collect();
    assert_eq!(refused.await.unwrap().expect("an answer").status(), 200);
    for call in later {
        assert_eq!(call.await.unwrap().expect("an answer").status(), 200);
    }
    // 1,008 tokens are there again after 20 s, and again every 2.016 s.
    assert_eq!(seconds(&calls, start), [0.0, 20.0, 22.016, 24.032, 26.048]);
}

/// The same told by a header, with a scope that is no bucket of ours: all is
/// held, and one goes first when it ends.
#[tokio::test(start_paused = true)]
async fn failure_08_a_told_delay_holds_what_no_bucket_counts() {
    let calls = Arc::default();
    let busy = || {
        let mut answer = answer(503, r#"{"error":{"message":"Overloaded"}}"#);
        answer
            .headers_mut()
            .insert("retry-after", "7".parse().expect("digits"));
        answer
    };
    let client = policy().layer().layer(once(busy, &calls));
    let start = Instant::now();
    let ask = || tokio::spawn(client.clone().oneshot(chat(1_000)));
    let refused = ask();
    sleep(SEC).await;
    let later: Vec<_> = (0..2).map(|_| ask()).collect();
    refused.await.unwrap().expect("an answer");
    for call in later {
        call.await.unwrap().expect("an answer");
    }
    assert_eq!(seconds(&calls, start), [0.0, 7.0, 9.016, 11.032]);
}

/// No money: no retry, and no pause for what else may be paid for.
#[tokio::test(start_paused = true)]
async fn failure_09_a_spent_quota_is_handed_back_and_pauses_nobody() {
    const QUOTA: &str = r#"{"error":{"message":"You exceeded your current quota, please check your plan and billing details.","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#;
    let calls = Arc::default();
    let client = policy().layer().layer(once(|| answer(429, QUOTA), &calls));
    let start = Instant::now();
    let refused = client.clone().oneshot(chat(10)).await.expect("an answer");
    assert_eq!(refused.status(), 429);
    let body = refused
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes();
    assert_eq!(body, QUOTA, "the provider's own words");
    let fine = client.oneshot(chat(10)).await.expect("an answer");
    assert_eq!(fine.status(), 200);
    assert_eq!(seconds(&calls, start), [0.0, 0.0]);
}

/// While a call backs off it holds nothing, and its next attempt pays again.
#[tokio::test(start_paused = true)]
async fn failure_16_a_call_that_backs_off_holds_nothing() {
    let calls = Arc::default();
    let policy = policy().max_concurrency(1);
    let error = || answer(500, r#"{"error":{"message":"The server had an error"}}"#);
    let client = policy.layer().layer(once(error, &calls));
    let backing_off = tokio::spawn(client.clone().oneshot(chat(1_000)));
    tokio::task::yield_now().await;
    assert_eq!(calls.lock().expect("no panic").len(), 1);
    assert_eq!(policy.budget().snapshot().in_flight, 0);

    let other = client.oneshot(chat(1_000)).await.expect("an answer");
    assert_eq!(other.status(), 200);
    drop(other);
    assert_eq!(backing_off.await.unwrap().expect("an answer").status(), 200);
    assert_eq!(calls.lock().expect("no panic").len(), 3);
}

/// Who would wait behind too many is told so at once, and how long it would be.
#[tokio::test(start_paused = true)]
async fn failure_27_a_full_line_turns_away_at_once() {
    let policy = policy().max_concurrency(1).max_waiting(2);
    let slow = service_fn(|_: Request<Bytes>| async {
        sleep(10 * SEC).await;
        Ok::<_, std::io::Error>(answer(200, "{}"))
    });
    let client = policy.layer().layer(slow);
    // An answer that lies about unread would hold its slot.
    let ask = || {
        let call = client.clone().oneshot(chat(10));
        tokio::spawn(async { call.await.map(drop) })
    };
    let mut calls: Vec<_> = (0..3).map(|_| ask()).collect();
    sleep(25 * SEC).await;
    // Two are done, one is under way.
    calls.extend((0..2).map(|_| ask()));
    tokio::task::yield_now().await;
    let start = Instant::now();
    let error = client.clone().oneshot(chat(10)).await.unwrap_err();
    assert_eq!(
        error.refused(),
        Some(&Refused::Overloaded {
            waiting: 2,
            // Three turns of the line, which moved every ten seconds.
            expected_wait: 30 * SEC,
        })
    );
    assert_eq!(start.elapsed(), Duration::ZERO);
    for call in calls {
        call.await.expect("no panic").expect("an answer");
    }
}

/// A shutdown: nobody new, those in flight go on, and then it is quiet.
#[tokio::test(start_paused = true)]
async fn failure_28_a_shutdown_drains() {
    let policy = policy()
        .max_concurrency(1)
        .rpm_limit(Limit::per_minute(600));
    let slow = service_fn(|_: Request<Bytes>| async {
        sleep(10 * SEC).await;
        Ok::<_, std::io::Error>(answer(200, "{}"))
    });
    let client = policy.layer().layer(slow);
    let start = Instant::now();
    let in_flight = tokio::spawn(client.clone().oneshot(chat(10)));
    let waiting = tokio::spawn(client.clone().oneshot(chat(10)));
    sleep(SEC).await;

    policy.close();
    let turned_away = waiting.await.expect("no panic").unwrap_err();
    assert_eq!(turned_away.refused(), Some(&Refused::Closed));
    let too_late = client.oneshot(chat(10)).await.unwrap_err();
    assert_eq!(too_late.refused(), Some(&Refused::Closed));

    let deadline = tokio::time::timeout(5 * SEC, policy.idle()).await;
    assert!(deadline.is_err(), "one is still in flight");
    let finish = async {
        let answer = in_flight.await.expect("no panic").expect("an answer");
        answer.into_body().collect().await.expect("a body");
    };
    tokio::join!(finish, policy.idle());
    assert_eq!(start.elapsed(), 10 * SEC);
}
