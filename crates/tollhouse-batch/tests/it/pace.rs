//! How much a run takes in hand at once, and that nothing it waits for holds
//! the rest up.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::common::{Log, RunBoxed, answer, id_of, ids, input, service_fn, slow};
use bytes::Bytes;
use http::Request;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep};
use tollhouse::testing::Recorder;
use tollhouse_batch::{Batch, Done};
use tower::Layer;

#[tokio::test(start_paused = true)]
async fn look_ahead_bounds_what_the_service_holds() {
    let recorder = Recorder::new();
    let service = recorder.layer(service_fn(slow));
    // Twenty requests of one second each.
    let ids = (1..=20).map(|zeros| "0".repeat(zeros) + "1");
    let lines = input(ids);
    let batch = Batch::new(service).look_ahead(5);
    let run = batch.run_boxed(lines.as_bytes(), Vec::new(), Vec::new());
    let summary = run.await.expect("memory can be read and written");

    recorder.assert_in_flight_at_most(5);
    assert_eq!(recorder.calls()[4].in_flight, 5, "all that is allowed");
    assert_eq!(summary.ok, 20);
    assert_eq!(summary.elapsed, Duration::from_secs(4));
}

#[tokio::test(start_paused = true)]
async fn look_ahead_is_bounded_in_bytes_too() {
    let lines = input(["1", "01", "001"]);
    let batch = Batch::new(service_fn(slow)).look_ahead_bytes(1);
    let run = batch.run_boxed(lines.as_bytes(), Vec::new(), Vec::new());
    let summary = run.await.expect("memory can be read and written");
    assert_eq!(summary.elapsed, Duration::from_secs(3), "one at a time");
}

#[test]
#[should_panic(expected = "at least one request ahead")]
fn look_ahead_of_nothing_panics() {
    let _ = Batch::new(()).look_ahead(0);
}

#[tokio::test(start_paused = true)]
async fn answers_are_written_while_the_input_is_awaited() {
    let (mut give, lines) = tokio::io::duplex(1024);
    let (output, mut written) = tokio::io::duplex(1024);
    let batch = Batch::new(service_fn(slow));
    let run = tokio::spawn(batch.run(lines, output, tokio::io::sink()));

    let mut record = vec![0; 8];
    for id in ["1", "2"] {
        let line = input([id]);
        give.write_all(line.as_bytes())
            .await
            .expect("the run reads");
        written
            .read_exact(&mut record)
            .await
            .expect("an answer comes");
    }
    drop(give);
    let summary = run.await.expect("the run ends").expect("without error");
    assert_eq!(summary.ok, 2);
    assert_eq!(summary.elapsed, Duration::from_secs(3));
}

/// Takes so long for each write, and keeps what each one brought.
struct SlowWriter {
    pause: Pin<Box<tokio::time::Sleep>>,
    every: Duration,
    writes: Log<Vec<u8>>,
}

impl AsyncWrite for SlowWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        std::task::ready!(self.pause.as_mut().poll(cx));
        let next = Instant::now() + self.every;
        self.pause.as_mut().reset(next);
        self.writes.push(data.to_vec());
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn requests_go_on_while_a_line_is_written() {
    let every = Duration::from_secs(10);
    let writes = Log::new();
    let output = SlowWriter {
        pause: Box::pin(sleep(every)),
        every,
        writes: writes.clone(),
    };
    let ends = Log::new();
    let service = service_fn({
        let ends = ends.clone();
        move |request: Request<Bytes>| {
            let ends = ends.clone();
            async move {
                let answer = slow(request).await;
                ends.push(Instant::now());
                answer
            }
        }
    });
    let start = Instant::now();
    let lines = input(["1", "2", "3", "4"]);
    let run = Batch::new(service).run_boxed(lines.as_bytes(), output, tokio::io::sink());
    let summary = run.await.expect("memory can be written");

    let ends: Vec<_> = ends
        .take()
        .iter()
        .map(|end| (*end - start).as_secs())
        .collect();
    assert_eq!(ends, [1, 2, 3, 4], "the writer holds nobody up");
    let writes = writes.take();
    let lines: Vec<_> = writes.iter().map(|write| ids(write)).collect();
    assert_eq!(
        lines,
        [vec!["1"], vec!["2", "3", "4"]],
        "whole lines, together"
    );
    assert_eq!(summary.elapsed, Duration::from_secs(20));
}

#[tokio::test(start_paused = true)]
async fn skipped_lines_do_not_starve_the_thread() {
    let mut done = Done::new();
    let all: Vec<_> = (0..5_000).map(|n| format!("{n}")).collect();
    let mut output = Vec::new();
    let echo =
        service_fn(async |request: Request<Bytes>| Ok::<_, Infallible>(answer(&id_of(&request))));
    let lines = input(&all);
    let run = Batch::new(echo.clone()).run_boxed(lines.as_bytes(), &mut output, tokio::io::sink());
    run.await.expect("memory can be read and written");
    done.read(&output[..]).await.expect("an output");

    let ticks = Arc::new(AtomicUsize::new(0));
    let ticker = tokio::spawn({
        let ticks = ticks.clone();
        async move {
            loop {
                ticks.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
        }
    });
    let batch = Batch::new(echo).resume(done);
    let run = batch.run_boxed(lines.as_bytes(), tokio::io::sink(), tokio::io::sink());
    let summary = run.await.expect("memory can be read and written");
    ticker.abort();
    assert_eq!(summary.skipped, 5_000);
    assert!(ticks.load(Ordering::SeqCst) >= 10, "the ticker was starved");
}
