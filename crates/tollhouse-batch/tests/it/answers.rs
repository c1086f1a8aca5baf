//! A batch whose requests and answers are streams.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::common::{Log, RunBoxed, answer, id_of, input, service_fn, slow};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Request, Uri};
use tokio::time::{Instant, sleep, timeout};
use tollhouse_batch::{Ask, Batch, Done, Event};

fn ask(id: u64) -> Ask {
    Ask {
        custom_id: id.to_string().into(),
        url: Uri::from_static("/v1/responses"),
        body: format!(r#"{{"user":"{id}"}}"#).into(),
    }
}

fn asks(ids: &'static [u64]) -> impl futures_util::Stream<Item = Ask> {
    stream::iter(ids.iter().copied().map(ask))
}

#[tokio::test(start_paused = true)]
async fn answers_come_as_they_finish() {
    let start = Instant::now();
    let answers = Batch::new(service_fn(slow))
        .look_ahead(2)
        .answers(asks(&[3, 1, 1, 4]));
    let answered: Vec<_> = answers.collect().await;
    // The second 1 is left out: its id was met.
    let ids: Vec<_> = answered.iter().map(|a| &*a.custom_id).collect();
    assert_eq!(ids, ["1", "3", "4"]);
    assert_eq!(start.elapsed(), Duration::from_secs(5));
    assert_eq!(answered[1].elapsed, Duration::from_secs(3));
    let response = answered[2].result.as_ref().expect("an answer");
    assert_eq!(response.headers()["x-request-id"], "req_1");
    assert!(response.body().starts_with(br#"{"echo":"4""#));
}

#[tokio::test(start_paused = true)]
async fn what_is_done_is_left_out_and_a_stop_starts_nothing_more() {
    let mut done = Done::new();
    let line = r#"{"custom_id":"1","response":{},"error":null}"#;
    done.read(line.as_bytes()).await.expect("an output");
    let batch = Batch::new(service_fn(slow)).look_ahead(1).resume(done);
    let stop = batch.stop_handle();
    let mut answers = batch.answers(asks(&[1, 2, 3, 4]));
    assert_eq!(&*answers.next().await.expect("an answer").custom_id, "2");
    stop.stop();
    assert!(answers.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_stop_is_heard_while_the_requests_are_awaited() {
    let batch = Batch::new(service_fn(slow));
    let stop = batch.stop_handle();
    let answers = tokio::spawn(batch.answers(stream::pending::<Ask>()).count());
    sleep(Duration::from_secs(1)).await;
    stop.stop();
    assert_eq!(answers.await.expect("no panic"), 0);
}

#[tokio::test(start_paused = true)]
async fn failures_of_the_service_are_answers_without_response() {
    let broken = service_fn(|_: Request<Bytes>| async {
        Err::<http::Response<crate::common::Body>, _>(std::io::Error::other("out of order"))
    });
    let mut answers = Batch::new(broken).answers(asks(&[1]));
    let error = answers
        .next()
        .await
        .expect("an end")
        .result
        .expect_err("no answer");
    assert_eq!(error.to_string(), "request_failed: out of order");
    assert_eq!(error.code, "request_failed");
}

/// Dropped at every second of its life, it leaves nothing running.
#[tokio::test(start_paused = true)]
async fn dropping_the_stream_drops_what_is_under_way() {
    for seconds in 0..6 {
        let running = Arc::new(AtomicUsize::new(0));
        let service = service_fn({
            let running = running.clone();
            move |request: Request<Bytes>| {
                struct Guard(Arc<AtomicUsize>);
                impl Drop for Guard {
                    fn drop(&mut self) {
                        self.0.fetch_sub(1, Ordering::SeqCst);
                    }
                }
                running.fetch_add(1, Ordering::SeqCst);
                let guard = Guard(running.clone());
                async move {
                    let answer = slow(request).await;
                    drop(guard);
                    answer
                }
            }
        });
        let answers = Batch::new(service)
            .look_ahead(2)
            .answers(asks(&[1, 2, 3, 4]));
        let all = timeout(Duration::from_millis(seconds * 1_000 + 1), answers.count()).await;
        assert_eq!(all.is_ok(), seconds > 5, "1 to 4 by twos take 6 seconds");
        tokio::task::yield_now().await;
        assert_eq!(running.load(Ordering::SeqCst), 0, "after {seconds} s");
    }
}

#[tokio::test(start_paused = true)]
async fn events_are_a_stream_that_ends_with_the_run() {
    let echo = service_fn(|_: Request<Bytes>| async { Ok::<_, Infallible>(answer("x")) });
    let mut batch = Batch::new(echo);
    let events = batch.events();
    let lines = input(["1", "2"]);
    let run = batch.run_boxed(lines.as_bytes(), tokio::io::sink(), tokio::io::sink());
    let (summary, events) = tokio::join!(run, events.collect::<Vec<_>>());
    assert_eq!(summary.expect("memory can be read").ok, 2);
    let finished = |event: &&Event| matches!(event, Event::Finished { .. });
    assert_eq!(events.iter().filter(finished).count(), 2);
    assert_eq!(events.len(), 4);
}

/// A double that records its requests keeps their extensions, too.
#[tokio::test(start_paused = true)]
async fn events_end_though_the_service_keeps_its_requests() {
    let kept = Log::new();
    let service = service_fn({
        let kept = kept.clone();
        move |request: Request<Bytes>| {
            let id = id_of(&request);
            kept.push(request);
            async move { Ok::<_, Infallible>(answer(&id)) }
        }
    });
    let mut batch = Batch::new(service);
    let events = batch.events();
    let lines = input(["1", "2"]);
    let run = batch.run_boxed(lines.as_bytes(), tokio::io::sink(), tokio::io::sink());
    run.await.expect("memory can be read");
    let events = timeout(Duration::from_secs(1), events.count()).await;
    assert_eq!((events, kept.take().len()), (Ok(4), 2));
}
