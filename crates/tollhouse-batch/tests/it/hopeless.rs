//! Runs that are given up.

use std::convert::Infallible;
use std::time::Duration;

use crate::common::{Log, RunBoxed, answer, id_of, ids, input, respond, service_fn, word};
use bytes::Bytes;
use http::Request;
use tollhouse_batch::{Batch, Done, Judgement, SentLayer};
use tower::Layer;

const SPENT: &str = r#"{"error":{"code":"insufficient_quota","message":"no money"}}"#;

/// The first `good` requests are answered, each after its number in seconds;
/// then the money is gone.
async fn poor(
    request: Request<Bytes>,
    good: u64,
) -> Result<http::Response<crate::common::Body>, Infallible> {
    let n: u64 = id_of(&request).parse().expect("a number");
    tokio::time::sleep(Duration::from_secs(n)).await;
    Ok(if n <= good {
        answer(&n.to_string())
    } else {
        respond(429, SPENT)
    })
}

#[tokio::test(start_paused = true)]
async fn a_hopeless_failure_ends_the_run_and_is_left_for_a_later_one() {
    let events = Log::new();
    let service = SentLayer.layer(service_fn(|request| poor(request, 2)));
    let batch = Batch::new(service)
        .look_ahead(3)
        .withdraw_unsent(true)
        .judge(|failed| match failed.code {
            "insufficient_quota" => Judgement::Hopeless(format!("quota: {}", failed.message)),
            _ => Judgement::Failed,
        })
        .on_event({
            let events = events.clone();
            move |event| events.push(word(&event))
        });
    let lines = input((1..=9).map(|n| n.to_string()));
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let run = batch.run_boxed(lines.as_bytes(), &mut output, &mut errors);
    let summary = run.await.expect("memory can be read and written");

    assert_eq!(summary.gave_up.as_deref(), Some("quota: no money"));
    assert!(summary.interrupted && !summary.is_complete());
    assert_eq!((summary.ok, summary.failed, summary.withdrawn), (2, 0, 3));
    assert!(errors.is_empty());
    let told = events.take();
    assert!(told.contains(&"giving up: quota: no money".to_owned()));
    assert_eq!(
        told.iter().filter(|t| t.starts_with("giving up")).count(),
        1
    );

    // The account was topped up.
    let mut done = Done::new();
    done.read(&output[..]).await.expect("an output");
    let rest = Batch::new(service_fn(|request| poor(request, 9))).resume(done);
    let run = rest.run_boxed(lines.as_bytes(), &mut output, &mut errors);
    assert!(run.await.expect("memory can be read").is_complete());
    let mut ids = ids(&output);
    ids.sort();
    assert_eq!(ids, ["1", "2", "3", "4", "5", "6", "7", "8", "9"]);
}

#[tokio::test(start_paused = true)]
async fn a_judge_sees_the_services_own_error() {
    let broken = service_fn(|_: Request<Bytes>| async {
        Err::<http::Response<crate::common::Body>, _>(std::io::Error::other("out of order"))
    });
    let batch = Batch::new(broken).judge(|failed| {
        let error = failed.error.and_then(|error| error.downcast_ref());
        let error: &std::io::Error = error.expect("the service's own");
        Judgement::Hopeless(format!("{}: {error}", failed.code))
    });
    let lines = input(["1", "2"]);
    let run = batch.run_boxed(lines.as_bytes(), tokio::io::sink(), tokio::io::sink());
    let summary = run.await.expect("memory can be read");
    assert_eq!(
        summary.gave_up.as_deref(),
        Some("request_failed: out of order")
    );
}

#[tokio::test(start_paused = true)]
async fn too_many_failures_end_the_run_and_stay_written() {
    let failing = service_fn(|request: Request<Bytes>| async move {
        let n: u64 = id_of(&request).parse().expect("a number");
        tokio::time::sleep(Duration::from_secs(n)).await;
        let fails = n.is_multiple_of(2) || n > 20;
        Ok::<_, Infallible>(if fails {
            respond(400, "{}")
        } else {
            answer("x")
        })
    });
    let lines = input((1..=100).map(|n| n.to_string()));
    let mut errors = Vec::new();
    let batch = Batch::new(failing).look_ahead(1).max_failures(0.5);
    let run = batch.run_boxed(lines.as_bytes(), tokio::io::sink(), &mut errors);
    let summary = run.await.expect("memory can be read and written");
    assert_eq!((summary.ok, summary.failed), (10, 11));
    let reason = "11 of 21 requests failed, more than 50%";
    assert_eq!(summary.gave_up.as_deref(), Some(reason));
    assert_eq!(ids(&errors).len(), 11);
}
