//! How many bytes of answers a run holds at once.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::common::{RunBoxed, id_of, ids, input, service_fn};
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use tokio::time::{Sleep, sleep};
use tollhouse_batch::Batch;

const CHUNK: usize = 1_000;

/// What is held of all answers: given, and not yet written.
#[derive(Debug, Default)]
struct Held {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Held {
    fn add(&self, bytes: usize) {
        let now = self.now.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.most.fetch_max(now, Ordering::Relaxed);
    }
}

/// A JSON string of so many chunks, one in 10 ms.
struct Long {
    left: usize,
    pause: Pin<Box<Sleep>>,
    held: Arc<Held>,
}

impl Body for Long {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        std::task::ready!(self.pause.as_mut().poll(cx));
        self.pause.set(sleep(Duration::from_millis(10)));
        self.left -= 1;
        self.held.add(CHUNK);
        let quote = |at: bool| if at { "\"" } else { "x" };
        let text = format!("{}{}", "x".repeat(CHUNK - 1), quote(self.left == 0));
        Poll::Ready(Some(Ok(Frame::data(text.into()))))
    }
}

/// Answers of so many chunks after as many, and the most that was held of them.
async fn most_held(answer_bytes: usize, chunks: usize, ordered: bool) -> (usize, Vec<String>) {
    let held = Arc::new(Held::default());
    let gives = held.clone();
    let service = service_fn(move |request: Request<Bytes>| {
        // The quotation mark that a whole answer begins with.
        let left = chunks + id_of(&request).len();
        let begin = Bytes::from_static(b"\"");
        let long = Long {
            left,
            pause: Box::pin(sleep(Duration::ZERO)),
            held: gives.clone(),
        };
        std::future::ready(Ok::<_, Infallible>(Response::new(Quoted(
            Some(begin),
            long,
        ))))
    });
    let writes = held.clone();
    let batch = Batch::new(service)
        .look_ahead(40)
        .answer_bytes(answer_bytes)
        .ordered(ordered)
        .on_event(move |event| {
            if let tollhouse_batch::Event::Finished { request, .. } = event {
                let bytes = (chunks + request.custom_id.len()) * CHUNK;
                writes.now.fetch_sub(bytes, Ordering::Relaxed);
            }
        });
    let lines = input((0..100).map(|n| n.to_string()));
    let mut output = Vec::new();
    let run = batch.run_boxed(lines.as_bytes(), &mut output, tokio::io::sink());
    let summary = run.await.expect("memory can be read and written");
    assert_eq!(summary.ok, 100);
    assert_eq!(held.now.load(Ordering::Relaxed), 0);
    (held.most.load(Ordering::Relaxed), ids(&output))
}

/// A body with something before it.
struct Quoted(Option<Bytes>, Long);

impl Body for Quoted {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.0.take() {
            Some(begin) => Poll::Ready(Some(Ok(Frame::data(begin)))),
            None => Pin::new(&mut self.1).poll_frame(cx),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn answers_in_hand_stay_within_their_bytes_and_one_answer() {
    // Forty at once of 60 kB each would hold 2.4 MB.
    let (unbounded, _) = most_held(usize::MAX, 60, false).await;
    assert!(unbounded > 2_000_000, "{unbounded}");
    for ordered in [false, true] {
        let (most, ids) = most_held(256_000, 60, ordered).await;
        // And each that waits has a chunk in its hand.
        assert!(
            most <= 256_000 + 62_000 + 40 * CHUNK,
            "{most}, ordered: {ordered}"
        );
        assert!(most >= 200_000, "{most}");
        assert_eq!(ids.len(), 100);
        assert!(!ordered || ids.windows(2).all(|two| two[0].len() <= two[1].len()));
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_longer_than_all_the_room_still_comes() {
    let (most, ids) = most_held(10_000, 60, false).await;
    assert_eq!(ids.len(), 100);
    assert!(most <= 10_000 + 62_000 + 40 * CHUNK, "{most}");
}
