//! Ending a run early, in order or at once.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::common::{Log, RunBoxed, answer, id_of, ids, input, service_fn, slow, word};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};
use tollhouse_batch::{Batch, SentBody, SentLayer, Summary};
use tower::{Layer, Service, ServiceExt};

#[tokio::test(start_paused = true)]
async fn stop_finishes_what_is_under_way_and_starts_nothing() {
    let events = Log::new();
    let batch = Batch::new(service_fn(slow)).look_ahead(2).on_event({
        let events = events.clone();
        move |event| events.push(word(&event))
    });
    let stop = batch.stop_handle();
    tokio::spawn(async move {
        sleep(Duration::from_secs(3)).await;
        stop.stop();
        assert!(stop.is_stopped());
    });
    let lines = input(["2", "4", "5", "6"]);
    let mut output = Vec::new();
    let run = batch.run_boxed(lines.as_bytes(), &mut output, tokio::io::sink());
    let summary = run.await.expect("memory can be read and written");

    assert!(summary.interrupted);
    assert!(!summary.is_complete());
    assert_eq!((summary.total, summary.ok, summary.withdrawn), (3, 3, 0));
    assert_eq!(summary.elapsed, Duration::from_secs(7));
    assert_eq!(ids(&output), ["2", "4", "5"]);
    let expected = "started 2|started 4|finished 2|started 5|stopping 2|finished 4|finished 5";
    assert_eq!(events.take().join("|"), expected);
}

#[tokio::test(start_paused = true)]
async fn stop_before_the_run_sends_nothing() {
    let batch = Batch::new(service_fn(slow));
    batch.stop_handle().stop();
    let lines = input(["1"]);
    let run = batch.run_boxed(lines.as_bytes(), tokio::io::sink(), tokio::io::sink());
    let summary = run.await.expect("memory can be read");
    assert_eq!((summary.total, summary.interrupted), (0, true));
}

#[tokio::test(start_paused = true)]
async fn stop_is_heard_while_the_input_is_awaited() {
    let (_give, lines) = tokio::io::duplex(64);
    let batch = Batch::new(service_fn(slow));
    let stop = batch.stop_handle();
    let run = tokio::spawn(batch.run(lines, tokio::io::sink(), tokio::io::sink()));
    sleep(Duration::from_secs(1)).await;
    stop.stop();
    let summary = run.await.expect("the run ends").expect("without error");
    assert!(summary.interrupted);
}

#[tokio::test(start_paused = true)]
async fn stop_after_the_last_line_was_started_does_not_interrupt() {
    let batch = Batch::new(service_fn(slow));
    let stop = batch.stop_handle();
    let lines = input(["2"]);
    let run = batch.run_boxed(lines.as_bytes(), tokio::io::sink(), tokio::io::sink());
    let (summary, ()) = tokio::join!(run, async {
        sleep(Duration::from_secs(1)).await;
        stop.stop();
    });
    let summary = summary.expect("memory can be read");
    assert!(summary.is_complete() && !summary.interrupted);
}

/// One request at a time passes to the transport; the others wait.
fn gated() -> impl Service<
    Request<Bytes>,
    Response = http::Response<SentBody<crate::common::Body>>,
    Error = Infallible,
    Future = impl Future<Output = Result<http::Response<SentBody<crate::common::Body>>, Infallible>>
             + Send,
> + Clone
+ Send
+ 'static {
    let transport = SentLayer.layer(service_fn(slow));
    let slots = Arc::new(Semaphore::new(1));
    service_fn(move |request| {
        let (transport, slots) = (transport.clone(), slots.clone());
        async move {
            let _slot = slots.acquire().await.expect("the slots stay open");
            transport.oneshot(request).await
        }
    })
}

#[tokio::test(start_paused = true)]
async fn stop_calls_back_what_waits_in_the_service() {
    let events = Log::new();
    let start = Instant::now();
    let batch = Batch::new(gated()).withdraw_unsent(true).on_event({
        let events = events.clone();
        move |event| events.push(format!("{} {}", start.elapsed().as_secs(), word(&event)))
    });
    let stop = batch.stop_handle();
    let lines = input(["5", "6", "7"]);
    let mut output = Vec::new();
    let run = batch.run_boxed(lines.as_bytes(), &mut output, tokio::io::sink());
    let (summary, ()) = tokio::join!(run, async {
        sleep(Duration::from_secs(7)).await;
        stop.stop();
    });
    let summary = summary.expect("memory can be read and written");

    assert_eq!(ids(&output), ["5", "6"], "what was sent is waited for");
    assert_eq!((summary.ok, summary.withdrawn), (2, 1));
    assert!(summary.interrupted);
    assert_eq!(summary.elapsed, Duration::from_secs(11));
    let expected = [
        "0 started 5",
        "0 started 6",
        "0 started 7",
        "0 sent 5",
        "5 sent 6",
        "5 finished 5",
        "7 stopping 2",
        "7 withdrawn 7",
        "11 finished 6",
    ];
    assert_eq!(events.take(), expected);
}

#[tokio::test(start_paused = true)]
async fn requests_of_others_pass_the_sent_layer() {
    let service = SentLayer.layer(service_fn(slow));
    let body = Bytes::from_static(br#"{"user":"1"}"#);
    let response = service.oneshot(Request::new(body)).await;
    assert_eq!(response.expect("it never fails").status(), 200);
}

/// Counts how many requests are under way.
#[derive(Clone, Default)]
struct Active(Arc<AtomicUsize>);

impl Active {
    fn enter(&self) -> Self {
        self.0.fetch_add(1, Ordering::SeqCst);
        self.clone()
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_the_run_drops_what_is_under_way() {
    struct Leave(Active);
    impl Drop for Leave {
        fn drop(&mut self) {
            self.0.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let active = Active::default();
    let service = service_fn({
        let active = active.clone();
        move |request: Request<Bytes>| {
            let guard = Leave(active.enter());
            async move {
                let _guard = guard;
                sleep(Duration::from_secs(60)).await;
                Ok::<_, Infallible>(answer(&id_of(&request)))
            }
        }
    });
    let lines = input(["1", "2", "3"]);
    let run = Batch::new(service).run_boxed(lines.as_bytes(), tokio::io::sink(), tokio::io::sink());
    let early = timeout(Duration::from_secs(5), async {
        let watch = async {
            sleep(Duration::from_secs(4)).await;
            assert_eq!(active.count(), 3);
        };
        tokio::join!(run, watch).0
    });
    assert!(early.await.is_err(), "the run is still waiting");
    // The tasks are dropped by the runtime, as soon as it gets to them.
    tokio::task::yield_now().await;
    assert_eq!(active.count(), 0);
}

/// Runs one request, is stopped after so long, and calls back what it may.
async fn stopped<S, B>(service: S, after: Duration) -> Summary
where
    S: Service<Request<Bytes>, Response = http::Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let batch = Batch::new(service).withdraw_unsent(true);
    let stop = batch.stop_handle();
    let lines = input(["1"]);
    let run = batch.run_boxed(lines.as_bytes(), tokio::io::sink(), tokio::io::sink());
    let (summary, ()) = tokio::join!(run, async {
        sleep(after).await;
        stop.stop();
    });
    summary.expect("memory can be read")
}

/// Each attempt takes a second and fails, and the next one follows after ten.
#[tokio::test(start_paused = true)]
async fn stop_calls_back_what_waits_for_another_attempt() {
    for (at, sent, end) in [(5, 1, 5), (11, 2, 12)] {
        let transport = SentLayer.layer(service_fn(async |_: Request<Bytes>| {
            sleep(Duration::from_secs(1)).await;
            let mut refused = http::Response::new(crate::common::Body::default());
            *refused.status_mut() = http::StatusCode::TOO_MANY_REQUESTS;
            Ok::<_, Infallible>(refused)
        }));
        let attempts = Arc::new(AtomicUsize::new(0));
        let counted = attempts.clone();
        let retrying = service_fn(move |request: Request<Bytes>| {
            let (transport, counted) = (transport.clone(), counted.clone());
            async move {
                for _ in 0..4 {
                    counted.fetch_add(1, Ordering::Relaxed);
                    transport.clone().oneshot(request.clone()).await?;
                    sleep(Duration::from_secs(10)).await;
                }
                transport.oneshot(request).await
            }
        });
        let summary = stopped(retrying, Duration::from_secs(at)).await;
        assert_eq!((summary.withdrawn, summary.failed), (1, 0));
        assert_eq!(
            summary.elapsed,
            Duration::from_secs(end),
            "stopped at {at} s"
        );
        assert_eq!(attempts.load(Ordering::Relaxed), sent);
    }
}

/// Around the transport stands something that reads the answer and then takes its
/// time, as a cache does.
#[tokio::test(start_paused = true)]
async fn a_good_answer_is_waited_for_wherever_it_is() {
    let transport = SentLayer.layer(service_fn(slow));
    let cached = service_fn(move |request: Request<Bytes>| {
        let transport = transport.clone();
        async move {
            let (head, body) = transport.oneshot(request).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            sleep(Duration::from_secs(10)).await;
            Ok::<_, Infallible>(http::Response::from_parts(head, Full::new(body)))
        }
    });
    let summary = stopped(cached, Duration::from_secs(5)).await;
    assert_eq!((summary.ok, summary.withdrawn), (1, 0));
    assert_eq!(summary.elapsed, Duration::from_secs(11));
}

/// The service asks again in a task of its own.
#[tokio::test(start_paused = true)]
async fn stop_hears_of_attempts_that_end_in_another_task() {
    let attempts = Arc::new(AtomicUsize::new(0));
    let counted = attempts.clone();
    let transport = SentLayer.layer(service_fn(move |_: Request<Bytes>| {
        counted.fetch_add(1, Ordering::Relaxed);
        async {
            sleep(Duration::from_secs(2)).await;
            Ok::<_, Infallible>(crate::common::respond(503, "{}"))
        }
    }));
    let spawning = service_fn(move |request: Request<Bytes>| {
        let transport = transport.clone();
        let retrying = tokio::spawn(async move {
            for _ in 0..4 {
                transport.clone().oneshot(request.clone()).await?;
                sleep(Duration::from_secs(10)).await;
            }
            transport.oneshot(request).await
        });
        async { retrying.await.expect("no panic") }
    });
    let summary = stopped(spawning, Duration::from_secs(1)).await;
    assert_eq!((summary.withdrawn, summary.failed), (1, 0));
    assert_eq!(summary.elapsed, Duration::from_secs(2));
    assert_eq!(attempts.load(Ordering::Relaxed), 1);
}
