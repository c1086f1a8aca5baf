//! A run that must be over by an instant.

use std::convert::Infallible;
use std::time::Duration;

use crate::common::{Body, Log, RunBoxed, answer, id_of, ids, input, line, service_fn, slow, word};
use bytes::Bytes;
use http::{Request, Response};
use tokio::time::{Instant, sleep};
use tollhouse::StaggerLayer;
use tollhouse_batch::{Batch, Done, EndedBy, SentLayer};
use tower::{Layer, ServiceExt};

#[tokio::test(start_paused = true)]
async fn what_is_under_way_is_finished_and_what_waits_is_left() {
    let events = Log::new();
    let service =
        StaggerLayer::new(Duration::from_secs(2)).layer(SentLayer.layer(service_fn(slow)));
    let batch = Batch::new(service)
        .deadline(Instant::now() + Duration::from_secs(5))
        .on_event({
            let events = events.clone();
            move |event| events.push(word(&event))
        });
    // Sent at 0, 2 and 4 s; the last takes until 13 s.
    let lines = input(["1", "3", "9", "4", "5"]);
    let mut output = Vec::new();
    let run = batch.run_boxed(lines.as_bytes(), &mut output, tokio::io::sink());
    let summary = run.await.expect("memory can be read and written");

    assert_eq!(summary.ended_by, Some(EndedBy::Deadline));
    assert_eq!((summary.ok, summary.withdrawn), (3, 2));
    assert!(summary.interrupted);
    assert_eq!(summary.elapsed, Duration::from_secs(13));
    assert!(summary.to_string().ends_with("; the deadline is reached"));
    let told = events.take().join("|");
    assert!(
        told.contains("ending: the deadline is reached|stopping 4"),
        "{told}"
    );

    let mut done = Done::new();
    done.read(&*output).await.expect("an output");
    let rest = Batch::new(service_fn(slow)).resume(done);
    let mut more = Vec::new();
    let run = rest.run_boxed(lines.as_bytes(), &mut more, tokio::io::sink());
    assert!(run.await.expect("memory can be read").is_complete());
    assert_eq!(ids(&more), ["4", "5"]);
}

#[tokio::test(start_paused = true)]
async fn no_attempt_is_made_after_it() {
    let sent = Log::new();
    let (log, start) = (sent.clone(), Instant::now());
    let transport = SentLayer.layer(service_fn(move |_: Request<Bytes>| {
        log.push(start.elapsed());
        async { Err::<Response<Body>, _>(std::io::Error::other("reset")) }
    }));
    // A retry, with attempts at 0, 10 and 20 s.
    let service = service_fn(move |request: Request<Bytes>| {
        let transport = transport.clone();
        async move {
            for _ in 0..2 {
                let _ = transport.clone().oneshot(request.clone()).await;
                sleep(Duration::from_secs(10)).await;
            }
            transport.oneshot(request).await
        }
    });
    let batch = Batch::new(service).deadline(Instant::now() + Duration::from_secs(15));
    let run = batch.run_boxed(
        input(["1"]).into_bytes().leak() as &[u8],
        Vec::new(),
        Vec::new(),
    );
    let summary = run.await.expect("memory can be read and written");
    assert_eq!((summary.withdrawn, summary.failed), (1, 0));
    assert_eq!(summary.elapsed, Duration::from_secs(15));
    assert_eq!(sent.take(), [0, 10].map(Duration::from_secs));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_over_before_has_not_reached_it() {
    let batch = Batch::new(service_fn(slow)).deadline(Instant::now() + Duration::from_secs(60));
    let lines = input(["1", "2"]);
    let run = batch.run_boxed(lines.as_bytes(), tokio::io::sink(), tokio::io::sink());
    let summary = run.await.expect("memory can be read");
    assert!(summary.is_complete());
    assert_eq!(
        (summary.ended_by, summary.elapsed),
        (None, Duration::from_secs(2))
    );
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_has_passed_sends_nothing() {
    let service =
        service_fn(async |request: Request<Bytes>| Ok::<_, Infallible>(answer(&id_of(&request))));
    let batch = Batch::new(service).deadline(Instant::now());
    sleep(Duration::from_secs(1)).await;
    let lines = input(["1"]);
    let run = batch.run_boxed(lines.as_bytes(), tokio::io::sink(), tokio::io::sink());
    let summary = run.await.expect("memory can be read");
    assert_eq!((summary.total, summary.interrupted), (0, true));
}

#[tokio::test(start_paused = true)]
async fn percentiles_tell_waiting_and_answers_apart() {
    let service =
        StaggerLayer::new(Duration::from_secs(1)).layer(SentLayer.layer(service_fn(slow)));
    // Sent at 0 to 99 s, each answered after 7 s.
    let lines: Vec<_> = (0..100)
        .map(|n| line("7").replace(r#""custom_id":"7""#, &format!(r#""custom_id":"{n}""#)))
        .collect();
    let lines = lines.join("\n");
    let batch = Batch::new(service).look_ahead(1_000);
    let run = batch.run_boxed(lines.as_bytes(), tokio::io::sink(), tokio::io::sink());
    let summary = run.await.expect("memory can be read");
    let near = |time: Duration, seconds: f64| (time.as_secs_f64() / seconds - 1.0).abs() < 0.02;
    let waiting = summary.waiting.expect("they waited");
    assert!(
        near(waiting.p50, 49.5) && near(waiting.p95, 94.5) && near(waiting.p99, 98.5),
        "{waiting}"
    );
    let answers = summary.answers.expect("they were answered");
    assert!(
        near(answers.p50, 7.0) && near(answers.p99, 7.0),
        "{answers}"
    );
}
