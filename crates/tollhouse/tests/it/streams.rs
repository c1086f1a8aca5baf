//! A pass lasts as long as the answer's body, and the body passes unchanged.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::channel::{Channel, Item, data, of_length, streamed};
use bytes::{Buf, Bytes};
use http::{HeaderMap, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Full};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Instant, advance, timeout};
use tollhouse::concurrency::Slot;
use tollhouse::gated::body::HeldBody;
use tollhouse::{
    Accounting, ConcurrencyLayer, End, GateLayer, Meter, TokenBudget, TpmBudgetLayer, Usage,
};
use tower::{Layer, Service, ServiceExt, service_fn};

const SEC: Duration = Duration::from_secs(1);

/// A service that answers its one call with `body`.
fn once(
    body: Channel,
) -> impl Service<(), Response = Response<Channel>, Error = std::io::Error> + Clone {
    let body = Arc::new(Mutex::new(Some(body)));
    service_fn(move |()| {
        let body = body.lock().unwrap().take().expect("one call");
        async { Ok(Response::new(body)) }
    })
}

/// One call through one slot, answered with `body`.
async fn answered(slots: &ConcurrencyLayer, body: Channel) -> HeldBody<Channel, Slot> {
    let response = slots.layer(once(body)).oneshot(()).await;
    response.unwrap().into_body()
}

async fn stream(slots: &ConcurrencyLayer) -> (UnboundedSender<Item>, HeldBody<Channel, Slot>) {
    let (sender, body) = streamed();
    (sender, answered(slots, body).await)
}

#[tokio::test(start_paused = true)]
async fn failure_04_a_stream_holds_its_slot_until_its_last_byte() {
    let slots = ConcurrencyLayer::new(1);
    let (sender, mut body) = stream(&slots).await;
    assert_eq!(slots.in_flight(), 1, "the head alone frees nothing");
    sender.send(data("one")).unwrap();
    body.frame().await.unwrap().unwrap();
    advance(600 * SEC).await;
    assert_eq!(slots.in_flight(), 1);
    drop(sender);
    assert_eq!(slots.in_flight(), 1, "nobody has seen the end yet");
    assert!(body.frame().await.is_none());
    assert_eq!(slots.in_flight(), 0, "though the body is still around");
    drop(body);
    assert_eq!(slots.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn failure_04_an_error_in_a_stream_frees_its_slot() {
    let slots = ConcurrencyLayer::new(1);
    let (sender, mut body) = stream(&slots).await;
    sender.send(Err(std::io::Error::other("reset"))).unwrap();
    let error = body.frame().await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "reset");
    assert_eq!(slots.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn failure_04_a_dropped_stream_frees_its_slot() {
    let slots = ConcurrencyLayer::new(1);
    let (sender, body) = stream(&slots).await;
    drop(body);
    assert_eq!(slots.in_flight(), 0);
    assert!(sender.is_closed(), "and upstream is told");
}

#[tokio::test(start_paused = true)]
async fn failure_04_the_next_call_waits_for_the_streams_end() {
    let slots = ConcurrencyLayer::new(1);
    let (sender, body) = stream(&slots).await;
    let start = Instant::now();
    let reading = async {
        tokio::time::sleep(5 * SEC).await;
        drop(sender);
        body.collect().await.unwrap();
    };
    let next = async {
        stream(&slots).await;
        start.elapsed()
    };
    assert_eq!(tokio::join!(reading, next).1, 5 * SEC);
}

#[tokio::test(start_paused = true)]
async fn a_known_length_ends_the_pass_with_its_last_byte() {
    let slots = ConcurrencyLayer::new(1);
    let (sender, body) = of_length(6);
    let mut body = answered(&slots, body).await;
    assert_eq!(body.size_hint().exact(), Some(6));
    assert!(!body.is_end_stream());
    sender.send(data("abc")).unwrap();
    body.frame().await.unwrap().unwrap();
    assert_eq!(slots.in_flight(), 1);
    sender.send(data("def")).unwrap();
    body.frame().await.unwrap().unwrap();
    assert!(body.is_end_stream());
    assert_eq!(slots.in_flight(), 0, "many readers never ask for the end");
}

#[tokio::test(start_paused = true)]
async fn an_empty_body_frees_its_slot_with_the_head() {
    let slots = ConcurrencyLayer::new(1);
    let (_sender, body) = of_length(0);
    let body = answered(&slots, body).await;
    assert_eq!(slots.in_flight(), 0);
    drop(body);
    assert_eq!(slots.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn frames_pass_unchanged_with_their_trailers() {
    let slots = ConcurrencyLayer::new(1);
    let (sender, mut body) = stream(&slots).await;
    let chunk = Bytes::from(vec![7; 1024]);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    sender.send(Ok(Frame::data(chunk.clone()))).unwrap();
    sender.send(data("")).unwrap();
    sender.send(Ok(Frame::trailers(trailers.clone()))).unwrap();
    drop(sender);

    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first.as_ptr(), chunk.as_ptr(), "not even copied");
    assert_eq!(first, chunk);
    assert_eq!(
        body.frame().await.unwrap().unwrap().into_data().unwrap(),
        ""
    );
    let last = body.frame().await.unwrap().unwrap();
    assert_eq!(last.into_trailers().unwrap(), trailers);
    assert_eq!(slots.in_flight(), 1);
    assert!(body.frame().await.is_none());
    assert_eq!(slots.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_parts_of_the_head_pass_unchanged() {
    let slots = ConcurrencyLayer::new(1);
    let response = slots
        .layer(service_fn(|()| async {
            let response = Response::builder().status(207).header("x-request-id", "r1");
            let mut response = response
                .body(http_body_util::Empty::<Bytes>::new())
                .unwrap();
            response.extensions_mut().insert("verdict");
            Ok::<_, std::io::Error>(response)
        }))
        .oneshot(())
        .await
        .unwrap();
    assert_eq!(response.status(), 207);
    assert_eq!(response.headers()["x-request-id"], "r1");
    assert_eq!(response.extensions().get(), Some(&"verdict"));
}

#[tokio::test(start_paused = true)]
async fn until_response_frees_the_slot_with_the_head() {
    let slots = ConcurrencyLayer::new(1);
    let (_sender, body) = streamed();
    let client = slots.clone().until_response().layer(once(body));
    let response = client.oneshot(()).await.unwrap();
    assert_eq!(slots.in_flight(), 0);
    // The body is the service's own, not one of ours around it.
    let _: Channel = response.into_body();
}

// ===== usage that comes in the body =====

/// Counts bytes as tokens, and notes how the body ended; says nothing of an
/// answer that was cut.
#[derive(Clone, Default)]
struct Bytewise(Arc<Mutex<Vec<End>>>);

struct Counting {
    bytes: u64,
    ends: Arc<Mutex<Vec<End>>>,
}

impl<Res> Usage<Res> for Bytewise {
    type Meter = Counting;

    fn meter(&self, _: &Res) -> Counting {
        Counting {
            bytes: 0,
            ends: Arc::clone(&self.0),
        }
    }
}

impl Meter for Counting {
    fn chunk(&mut self, data: &[u8]) {
        self.bytes += data.len() as u64;
    }

    fn used(&mut self, end: End) -> Option<u64> {
        self.ends.lock().unwrap().push(end);
        (end == End::Complete).then_some(self.bytes)
    }
}

/// A stream that reserved 100 tokens of 1,000.
async fn metered(
    accounting: Accounting,
) -> (
    TokenBudget,
    Bytewise,
    UnboundedSender<Item>,
    impl Body<Data = Bytes, Error = std::io::Error>,
) {
    let budget = TokenBudget::per_minute(1_000)
        .accounting(accounting)
        .build()
        .unwrap();
    let usage = Bytewise::default();
    let gate = TpmBudgetLayer::new(budget.clone(), |_: &()| 100).usage(usage.clone());
    let (sender, body) = streamed();
    let response = GateLayer::new(gate).layer(once(body)).oneshot(()).await;
    let body = response.unwrap().into_body().boxed_unsync();
    (budget, usage, sender, body)
}

#[tokio::test(start_paused = true)]
async fn a_stream_settles_with_what_it_used() {
    let (budget, usage, sender, body) = metered(Accounting::AsUsed).await;
    sender.send(data("ten tokens")).unwrap();
    sender.send(data("five.")).unwrap();
    drop(sender);
    assert_eq!(budget.snapshot().outstanding, 100);
    body.collect().await.unwrap();
    assert_eq!(*usage.0.lock().unwrap(), [End::Complete]);
    let snapshot = budget.snapshot();
    assert_eq!((snapshot.level, snapshot.outstanding), (985, 0));
}

#[tokio::test(start_paused = true)]
async fn failure_05_a_stream_cut_short_or_without_usage_is_never_free() {
    for accounting in [Accounting::AsUsed, Accounting::AsRequested] {
        let (budget, usage, sender, mut body) = metered(accounting).await;
        sender.send(data("ten tokens")).unwrap();
        body.frame().await.unwrap().unwrap();
        drop(body);
        assert_eq!(*usage.0.lock().unwrap(), [End::Cut], "{accounting:?}");
        let snapshot = budget.snapshot();
        assert_eq!((snapshot.level, snapshot.outstanding), (900, 0));

        let (budget, usage, sender, mut body) = metered(accounting).await;
        sender.send(Err(std::io::Error::other("reset"))).unwrap();
        body.frame().await.unwrap().unwrap_err();
        assert_eq!(*usage.0.lock().unwrap(), [End::Cut], "{accounting:?}");
        assert_eq!(budget.snapshot().level, 900);
    }
}

#[tokio::test(start_paused = true)]
async fn failure_05_usage_that_is_missing_leaves_the_reserved_cost() {
    let budget = TokenBudget::per_minute(1_000)
        .accounting(Accounting::AsUsed)
        .build()
        .unwrap();
    let client = TpmBudgetLayer::new(budget.clone(), |_: &()| 100)
        .usage(|_: &()| None)
        .until_response()
        .layer(service_fn(|()| async { Ok::<_, std::io::Error>(()) }));
    client.oneshot(()).await.unwrap();
    assert_eq!(budget.snapshot().level, 900);
}

/// It waits inside a call that never answers, and its charge stands.
#[tokio::test(start_paused = true)]
async fn a_call_that_is_never_answered_is_charged() {
    let budget = TokenBudget::per_minute(1_000).build().unwrap();
    let gate = TpmBudgetLayer::new(budget.clone(), |_: &()| 100);
    let client = GateLayer::new(gate)
        .until_response()
        .layer(service_fn(|()| {
            std::future::pending::<Result<(), std::io::Error>>()
        }));
    assert!(timeout(SEC, client.oneshot(())).await.is_err());
    let snapshot = budget.snapshot();
    assert_eq!((snapshot.outstanding, snapshot.in_transit), (0, 100));
    advance(SEC).await;
    assert_eq!(budget.snapshot().in_transit, 0);
    assert_eq!(budget.snapshot().level, 900);
}

/// A buffer that is one after another is seen whole, not its first alone.
#[tokio::test(start_paused = true)]
async fn all_pieces_of_a_chunk_are_counted() {
    let budget = TokenBudget::per_minute(1_000).build().unwrap();
    let gate = TpmBudgetLayer::new(budget.clone(), |_: &()| 100).usage(Bytewise::default());
    let answer = service_fn(|()| async {
        let pieces = [b'a'; 60].as_slice().chain([b'b'; 90].as_slice());
        Ok::<_, std::io::Error>(Response::new(Full::new(pieces)))
    });
    let response = GateLayer::new(gate).layer(answer).oneshot(()).await;
    response.unwrap().into_body().collect().await.unwrap();
    assert_eq!(budget.snapshot().level, 850);
}
