//! A provider that is away for a while, or in trouble: it is waited for, and no
//! request fails for it.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::{Body, Log, RunBoxed, answer, id_of, ids, input, respond, service_fn, word};
use bytes::Bytes;
use http::{Request, Response};
use tokio::time::{Instant, sleep};
use tollhouse::{Backoff, Classify, Decision, RetryLayer, Scope, StaggerLayer};
use tollhouse_batch::{Batch, Event, Failed, Judgement, SentLayer};
use tower::{Layer, Service};

const SEC: Duration = Duration::from_secs(1);

/// By the status alone.
fn judge(failed: &Failed<'_>) -> Judgement {
    match failed.status.map(|status| status.as_u16()) {
        None | Some(503) => Judgement::Outage,
        Some(500..) => Judgement::Unclear,
        Some(_) => Judgement::Failed,
    }
}

/// Notes when requests came, and of which id.
type Came = Log<(Duration, String)>;

/// Answers after 0.1 s as it is told.
fn provider(
    does: impl Fn(&str, Duration) -> Result<u16, &'static str> + Send + Sync + 'static,
    came: &Came,
) -> impl Service<Request<Bytes>, Response = Response<Body>, Error = io::Error, Future: Send>
+ Clone
+ Send
+ 'static {
    let (begin, came, does) = (Instant::now(), came.clone(), Arc::new(does));
    service_fn(move |request: Request<Bytes>| {
        let id = id_of(&request);
        came.push((begin.elapsed(), id.clone()));
        let does = does(&id, begin.elapsed());
        async move {
            sleep(SEC / 10).await;
            match does {
                Ok(200) => Ok(answer(&id)),
                Ok(status) => Ok(respond(status, "{}")),
                Err(reason) => Err(io::Error::other(reason)),
            }
        }
    })
}

/// Three attempts, 1 s apart, after whatever is the provider's.
#[derive(Clone, Copy, Debug)]
struct Again;

impl<B, E: fmt::Debug> Classify<Response<B>, E> for Again {
    fn classify(&self, result: Result<&Response<B>, &E>) -> Decision {
        match result {
            Ok(response) if response.status().as_u16() < 500 => Decision::GiveUp,
            _ => Decision::Retry {
                after: Some(SEC),
                scope: Scope::Overload,
            },
        }
    }
}

fn retry() -> RetryLayer<Again> {
    RetryLayer::new(Backoff::default().max_attempts(3), Again)
}

fn numbered(count: usize) -> String {
    input((0..count).map(|n| n.to_string()))
}

/// Away from 5 s on, for so long.
fn away_for(seconds: u64) -> impl Fn(&str, Duration) -> Result<u16, &'static str> {
    move |_, now| match now >= 5 * SEC && now < (5 + seconds.min(1_000_000)) as u32 * SEC {
        true => Err("connection refused"),
        false => Ok(200),
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_waited_for_and_nothing_fails() {
    for seconds in [20, 180] {
        let came = Log::new();
        let provider = provider(away_for(seconds), &came);
        let events = Log::new();
        let service = StaggerLayer::new(SEC / 10).layer(SentLayer.layer(provider));
        let batch = Batch::new(retry().layer(service)).judge(judge).on_event({
            let events = events.clone();
            move |event| events.push(event)
        });
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        let lines = numbered(500);
        let run = batch.run_boxed(lines.as_bytes(), &mut output, &mut errors);
        let summary = run.await.expect("memory can be read and written");

        assert_eq!((summary.ok, summary.failed), (500, 0));
        assert_eq!(ids(&output).len(), 500);
        assert!(errors.is_empty());
        // 45 s are left to send when it is back.
        let longest = Duration::from_secs(5 + seconds + 30 + 46);
        assert!(summary.elapsed <= longest, "{summary}");
        let away = (
            Duration::from_secs(seconds),
            Duration::from_secs(seconds + 31),
        );
        assert!((away.0..away.1).contains(&summary.outage), "{summary}");

        // Of what was sent in vain, all but a few are probes, one at a time.
        let away = 12 * SEC..Duration::from_secs(5 + seconds);
        let probes: Vec<_> = came
            .take()
            .into_iter()
            .filter(|(at, _)| away.contains(at))
            .collect();
        assert!((1..=16).contains(&probes.len()), "{probes:?}");
        let mut probed = probes.iter().map(|(_, id)| id).collect::<Vec<_>>();
        probed.dedup();
        assert_eq!(probed.len(), probes.len(), "each asks with another line");

        let told = events.take();
        let outages = told.iter().filter_map(|event| match event {
            Event::Outage { since, reason } => Some((*since, reason.to_string())),
            _ => None,
        });
        let outages: Vec<_> = outages.collect();
        assert!(outages.iter().all(|outage| *outage == outages[0]));
        assert_eq!(outages[0].1, "connection refused");
        let recovered = |event: &&Event| matches!(event, Event::Recovered { .. });
        assert_eq!(told.iter().filter(recovered).count(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_seen_before_any_request_has_failed() {
    let provider = provider(away_for(1_000_000), &Log::new());
    let events = Log::new();
    let service = StaggerLayer::new(3 * SEC).layer(SentLayer.layer(provider));
    let batch = Batch::new(retry().layer(service))
        .judge(judge)
        .give_up_after(60 * SEC)
        .on_event({
            let events = events.clone();
            move |event| events.push(event)
        });
    let begin = Instant::now();
    let lines = numbered(50);
    let run = batch.run_boxed(lines.as_bytes(), Vec::new(), Vec::new());
    let summary = run.await.expect("memory can be read and written");
    // Launches at 0, 3, then 6 and 9 in vain; 12 is the first 5 s after that.
    let since = events.take().into_iter().find_map(|event| match event {
        Event::Outage { since, .. } => Some(since - begin),
        _ => None,
    });
    assert_eq!(since, Some(SEC * 61 / 10));
    assert_eq!(summary.elapsed, SEC * 661 / 10);
}

#[tokio::test(start_paused = true)]
async fn overload_fails_nothing_while_it_lasts() {
    // Without a mark of what leaves, and without attempts of the service's own.
    let provider = provider(
        |_, now| match now > 2 * SEC && now < 200 * SEC {
            true => Ok(503),
            false => Ok(200),
        },
        &Log::new(),
    );
    let batch = Batch::new(provider).judge(judge).look_ahead(1);
    let lines = numbered(60);
    let run = batch.run_boxed(lines.as_bytes(), Vec::new(), Vec::new());
    let summary = run.await.expect("memory can be read and written");
    assert_eq!((summary.ok, summary.failed), (60, 0));
    assert!(summary.elapsed < 240 * SEC, "{summary}");
}

#[tokio::test(start_paused = true)]
async fn a_line_that_alone_draws_errors_fails_at_last() {
    for look_ahead in [1, 8] {
        let came = Log::new();
        let provider = provider(
            |id, _| match id {
                "7" => Ok(500),
                _ => Ok(200),
            },
            &came,
        );
        let service = retry().layer(SentLayer.layer(provider));
        let batch = Batch::new(service)
            .judge(judge)
            .attempts(3)
            .look_ahead(look_ahead);
        let mut errors = Vec::new();
        let lines = numbered(2_000);
        let run = batch.run_boxed(lines.as_bytes(), tokio::io::sink(), &mut errors);
        let summary = run.await.expect("memory can be read and written");
        assert_eq!(
            (summary.ok, summary.failed),
            (1_999, 1),
            "{look_ahead} at once"
        );
        assert_eq!(ids(&errors), ["7"]);
        let sent = came.take().iter().filter(|(_, id)| id == "7").count();
        assert!(
            (6..=13).contains(&sent),
            "{sent} times, {look_ahead} at once"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_lines_that_alone_draw_errors_fail_at_last() {
    let provider = provider(
        |id, _| match id {
            "18" | "19" => Ok(500),
            _ => Ok(200),
        },
        &Log::new(),
    );
    let service = retry().layer(SentLayer.layer(provider));
    let run = Batch::new(service).judge(judge).run_boxed(
        Box::leak(numbered(20).into_boxed_str()).as_bytes(),
        tokio::io::sink(),
        tokio::io::sink(),
    );
    let summary = run.await.expect("memory can be read and written");
    assert_eq!((summary.ok, summary.failed), (18, 2));
    assert!(summary.elapsed > 600 * SEC, "an outage may end: {summary}");
    assert!(summary.elapsed < 800 * SEC, "{summary}");
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_one_line_alone_is_one() {
    // The last line left is away for 9 min; others cannot say so.
    let provider = provider(
        |id, now| match id {
            "19" if now < 540 * SEC => Ok(500),
            _ => Ok(200),
        },
        &Log::new(),
    );
    let service = retry().layer(SentLayer.layer(provider));
    let lines = numbered(20);
    let run = Batch::new(service)
        .judge(judge)
        .run_boxed(lines.as_bytes(), Vec::new(), Vec::new());
    let summary = run.await.expect("memory can be read and written");
    assert_eq!((summary.ok, summary.failed), (20, 0));
}

#[tokio::test(start_paused = true)]
async fn half_of_all_answers_being_overload_fails_nothing() {
    let drawn: Arc<Mutex<HashMap<String, u32>>> = Arc::default();
    let provider = provider(
        move |id, _| {
            let mut drawn = drawn.lock().expect("no panic");
            let times = drawn.entry(id.to_owned()).or_default();
            *times += 1;
            // As a draw would be, and always the same.
            let n: u32 = id.parse().expect("a number");
            let mixed = (n * 64 + *times)
                .wrapping_mul(2_654_435_761)
                .rotate_left(13);
            match mixed.wrapping_mul(2_246_822_519) >> 31 {
                0 => Ok(503),
                _ => Ok(200),
            }
        },
        &Log::new(),
    );
    // One attempt a round, as with a retry budget that is empty.
    let batch = Batch::new(SentLayer.layer(provider))
        .judge(judge)
        .look_ahead(20);
    let lines = numbered(500);
    let run = batch.run_boxed(lines.as_bytes(), Vec::new(), Vec::new());
    let summary = run.await.expect("memory can be read and written");
    assert_eq!((summary.ok, summary.failed), (500, 0), "{summary}");
}

#[tokio::test(start_paused = true)]
async fn patience_ends_a_run_that_can_be_resumed() {
    let provider = provider(away_for(1_000_000), &Log::new());
    let events = Log::new();
    let service = StaggerLayer::new(SEC).layer(SentLayer.layer(provider));
    let batch = Batch::new(retry().layer(service))
        .judge(judge)
        .give_up_after(600 * SEC)
        .on_event({
            let events = events.clone();
            move |event| events.push(word(&event))
        });
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let lines = numbered(100);
    let run = batch.run_boxed(lines.as_bytes(), &mut output, &mut errors);
    let summary = run.await.expect("memory can be read and written");
    let reason = "the provider has been away for 10m 00s: connection refused";
    assert_eq!(summary.gave_up.as_deref(), Some(reason));
    assert!(summary.interrupted && errors.is_empty());
    assert_eq!((summary.ok, summary.failed), (5, 0));
    assert_eq!(summary.total, summary.ok + summary.withdrawn);
    // The first in vain left after 5 s.
    assert_eq!(summary.elapsed, SEC * 51 / 10 + 600 * SEC);
    assert_eq!(summary.outage, 600 * SEC);
    assert!(events.take().contains(&format!("giving up: {reason}")));
}

#[tokio::test(start_paused = true)]
async fn an_address_that_never_answers_ends_the_run_after_a_minute() {
    for marked in [true, false] {
        let provider = provider(|_, _| Err("connection refused"), &Log::new());
        let lines = numbered(100);
        let output = (Vec::new(), Vec::new());
        let summary = match marked {
            true => {
                let service = StaggerLayer::new(15 * SEC).layer(SentLayer.layer(provider));
                let batch = Batch::new(retry().layer(service)).judge(judge);
                batch.run_boxed(lines.as_bytes(), output.0, output.1).await
            }
            false => {
                let batch = Batch::new(provider).judge(judge);
                batch.run_boxed(lines.as_bytes(), output.0, output.1).await
            }
        };
        let summary = summary.expect("memory can be read and written");
        let reason = "nothing has answered in the first 1m 00s: connection refused";
        assert_eq!(summary.gave_up.as_deref(), Some(reason));
        assert_eq!((summary.ok, summary.failed), (0, 0));
        assert_eq!(summary.elapsed, SEC * 601 / 10, "marked: {marked}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_in_an_outage_ends_the_run() {
    let provider = provider(away_for(1_000_000), &Log::new());
    let service = retry().layer(SentLayer.layer(provider));
    let batch = Batch::new(service)
        .judge(judge)
        .withdraw_unsent(true)
        .ordered(true);
    let stop = batch.stop_handle();
    tokio::spawn(async move {
        sleep(100 * SEC).await;
        stop.stop();
    });
    let lines = numbered(9_999);
    let mut output = Vec::new();
    let run = batch.run_boxed(lines.as_bytes(), &mut output, Vec::new());
    let summary = run.await.expect("memory can be read and written");
    assert!(summary.interrupted && summary.gave_up.is_none());
    assert_eq!(summary.failed, 0);
    assert_eq!(summary.total, summary.ok + summary.withdrawn);
    assert!(summary.elapsed <= SEC * 1_001 / 10, "{summary}");
}

#[tokio::test(start_paused = true)]
async fn order_survives_an_outage() {
    let provider = provider(away_for(60), &Log::new());
    let service = StaggerLayer::new(SEC / 5).layer(SentLayer.layer(provider));
    let batch = Batch::new(retry().layer(service))
        .judge(judge)
        .ordered(true);
    let mut output = Vec::new();
    let lines = numbered(100);
    let run = batch.run_boxed(lines.as_bytes(), &mut output, Vec::new());
    assert!(
        run.await
            .expect("memory can be read and written")
            .is_complete()
    );
    let expected: Vec<_> = (0..100).map(|n| n.to_string()).collect();
    assert_eq!(ids(&output), expected);
}
