use std::time::Duration;

use http::Response;
use http_body_util::BodyExt;
use http_body_util::channel::Channel;
use tokio::time::sleep;
use tower::{Layer, Service, ServiceExt};

use super::*;

const SEC: Duration = Duration::from_secs(1);

/// Calls of `cost` that begin at so many seconds, and take so many.
async fn record(
    calls: &[(u64, u64, u64)],
) -> Recorder<fn(&(u64, u64)) -> u64, crate::UntilResponse> {
    let provider = ScriptedProvider::new(|_, (_, takes): &(u64, u64)| {
        Reply::ok(()).after(Duration::from_secs(*takes))
    });
    let cost: fn(&(u64, u64)) -> u64 = |(cost, _)| *cost;
    let recorder = Recorder::new().cost(cost).until_response();
    let client = recorder.layer(provider);
    let calls = calls.iter().map(|&(at, cost, takes)| {
        let client = client.clone();
        async move {
            sleep(Duration::from_secs(at)).await;
            client.oneshot((cost, takes)).await.expect("an answer");
        }
    });
    futures_util::future::join_all(calls).await;
    recorder
}

/// What an assertion says when it fails.
async fn said(assertion: impl FnOnce() + Send + 'static) -> String {
    let failed = tokio::spawn(async { assertion() }).await;
    let panic = failed.expect_err("it must fail").into_panic();
    match panic.downcast::<String>() {
        Ok(formatted) => *formatted,
        Err(other) => (*other.downcast::<&str>().expect("a message")).to_owned(),
    }
}

#[tokio::test(start_paused = true)]
async fn in_flight_counts_from_the_launch_to_the_end() {
    let recorder = record(&[(0, 0, 4), (1, 0, 2), (3, 0, 5), (3, 0, 0)]).await;
    let calls = recorder.calls();
    let seen: Vec<_> = calls
        .iter()
        .map(|call| call.ended.map(|at| at.as_secs()))
        .collect();
    assert_eq!(seen, [Some(4), Some(3), Some(8), Some(3)]);
    recorder.assert_in_flight_at_most(3);
    assert_eq!(
        said(move || recorder.assert_in_flight_at_most(2)).await,
        "call 3 made 3 in flight at 3s; at most 2 are allowed, and these were: [0ns, 3s, 3s]"
    );
}

#[tokio::test(start_paused = true)]
async fn gaps_are_named_with_both_instants() {
    let recorder = record(&[(0, 0, 0), (15, 0, 0), (29, 0, 0)]).await;
    recorder.assert_spaced_by(14 * SEC);
    assert_eq!(
        said(move || recorder.assert_spaced_by(15 * SEC)).await,
        "calls 1 and 2 were launched 14s apart, at 15s and 29s; at least 15s is allowed"
    );
}

/// A window ends before the instant at which it would be whole: 60 s after a
/// launch, that launch is out.
#[tokio::test(start_paused = true)]
async fn windows_slide_and_are_half_open() {
    let recorder = record(&[(0, 600, 0), (59, 300, 0), (60, 600, 0), (119, 50, 0)]).await;
    recorder.assert_tokens_at_most(900, 60 * SEC);
    recorder.assert_tokens_at_most(1_550, 1_000 * SEC);
    assert_eq!(
        said(move || recorder.assert_tokens_at_most(899, 60 * SEC)).await,
        "calls 0 to 1, launched from 0ns to 59s, cost 900 tokens; at most 899 in any 60s are allowed"
    );
}

#[tokio::test(start_paused = true)]
async fn what_proves_nothing_fails() {
    let nobody = record(&[]).await;
    let empty = said(move || nobody.assert_in_flight_at_most(9)).await;
    assert!(empty.starts_with("no call was noted"), "{empty}");
    let free = record(&[(0, 0, 0)]).await;
    let free = said(move || free.assert_tokens_at_most(9, SEC)).await;
    assert!(
        free.starts_with("1 calls were noted and none cost anything"),
        "{free}"
    );
}

/// A stream is in flight until its last byte, and a caller who leaves ends it.
#[tokio::test(start_paused = true)]
async fn streams_end_with_their_bodies() {
    let recorder = Recorder::new();
    let mut client = recorder.layer(tower::service_fn(async |(): ()| {
        let (sender, body) = Channel::<bytes::Bytes>::new(1);
        tokio::spawn(async move {
            sleep(5 * SEC).await;
            drop(sender);
        });
        Ok::<_, std::io::Error>(Response::new(body))
    }));
    let read = client.ready().await.unwrap().call(()).await.unwrap();
    let left = client.call(()).await.unwrap();
    sleep(SEC).await;
    drop(left);
    read.into_body().collect().await.unwrap();
    let calls = recorder.calls();
    assert_eq!(
        calls.iter().map(|call| call.ended).collect::<Vec<_>>(),
        [Some(5 * SEC), Some(SEC)]
    );
    assert_eq!(calls[1].in_flight, 2);
}

#[tokio::test(start_paused = true)]
async fn a_failed_call_has_ended() {
    let recorder = Recorder::new().until_response();
    let refuses = ScriptedProvider::<(), ()>::new(|_, ()| {
        Reply::error(std::io::ErrorKind::ConnectionRefused).after(SEC)
    });
    assert!(recorder.layer(refuses).oneshot(()).await.is_err());
    assert_eq!(recorder.calls()[0].ended, Some(SEC));
}
