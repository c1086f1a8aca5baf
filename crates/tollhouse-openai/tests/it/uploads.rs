//! Uploads pass a policy as they come.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::ETAG;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tollhouse_openai::adapters::WholeBodyLayer;
use tollhouse_openai::call::AlreadySent;
use tollhouse_openai::{Attempts, Limit, OpenAi, Policy, RequestBody, Snapshot, Unit};
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};

const PIECE: usize = 64 * 1024;
const PIECES: u64 = 200 * 16;
/// Far more than sockets and their libraries hold, far less than the upload.
const MOST_UNDER_WAY: u64 = 32 * 1024 * 1024;

/// What went in and what arrived.
#[derive(Debug, Default)]
struct Flow {
    produced: AtomicU64,
    arrived: AtomicU64,
    most_under_way: AtomicU64,
    first_arrived: Notify,
}

impl Flow {
    fn produce(&self) {
        let produced = self.produced.fetch_add(PIECE as u64, Ordering::SeqCst) + PIECE as u64;
        let under_way = produced - self.arrived.load(Ordering::SeqCst);
        self.most_under_way.fetch_max(under_way, Ordering::SeqCst);
    }
}

/// Produces its first piece, and all others once that has arrived.
struct Upload {
    flow: Arc<Flow>,
    left: u64,
    arrival: Pin<Box<dyn Future<Output = ()> + Send>>,
    goes_on: bool,
}

impl Upload {
    fn new(flow: &Arc<Flow>) -> Upload {
        let waits = Arc::clone(flow);
        Upload {
            flow: Arc::clone(flow),
            left: PIECES,
            arrival: Box::pin(async move { waits.first_arrived.notified().await }),
            goes_on: false,
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        if self.left < PIECES && !self.goes_on {
            std::task::ready!(self.arrival.as_mut().poll(cx));
            self.goes_on = true;
        }
        self.left -= 1;
        self.flow.produce();
        let piece = Bytes::from_static(&[b'x'; PIECE]);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left * PIECE as u64)
    }
}

/// Counts what arrives, and tells of the first of it.
async fn count(
    flow: Arc<Flow>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let length = request.headers().get("content-length").cloned();
    let mut body = request.into_body();
    while let Some(Ok(frame)) = body.frame().await {
        let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
        flow.arrived.fetch_add(bytes, Ordering::SeqCst);
        flow.first_arrived.notify_one();
    }
    let mut answer = Response::new(Full::from("{}"));
    if let Some(length) = length {
        answer.headers_mut().insert("x-told-length", length);
    }
    Ok(answer)
}

async fn server(flow: &Arc<Flow>) -> (String, AbortHandle) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let flow = Arc::clone(flow);
    let accepting = tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.expect("a connection");
            let flow = Arc::clone(&flow);
            let service =
                hyper::service::service_fn(move |request| count(Arc::clone(&flow), request));
            tokio::spawn(async move {
                // Clients leave when their test is over.
                let _ = auto::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(socket), service)
                    .await;
            });
        }
    });
    (
        format!("http://127.0.0.1:{port}/v1"),
        accepting.abort_handle(),
    )
}

/// So many pieces, one after each pause; then it stands still, if it is to.
fn slow(pieces: u32, stands_still: bool) -> RequestBody {
    const PAUSE: Duration = Duration::from_millis(150);
    let piece = move |left: u32| async move {
        if left == 0 && stands_still {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(PAUSE).await;
        let next = left.checked_sub(1)?;
        Some((
            Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"x"))),
            next,
        ))
    };
    RequestBody::streamed(StreamBody::new(futures_util::stream::unfold(pieces, piece)))
}

/// The head of an answer is waited for once its request was sent, however long that took.
#[tokio::test]
async fn an_upload_takes_as_long_as_it_goes_on() {
    let flow = Arc::new(Flow::default());
    let (url, server) = server(&flow).await;
    let patience = Duration::from_millis(600);
    let client = OpenAi::builder()
        .base_url(&url)
        .api_key("sk-test")
        .attempt_timeout(patience);
    let client = client.build().unwrap().streaming();
    let answer = client.clone().oneshot(upload(slow(8, false))).await;
    assert_eq!(
        answer.expect("it goes on for twice that time").status(),
        200
    );
    let error = client.oneshot(upload(slow(2, true))).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert_eq!(flow.arrived.load(Ordering::SeqCst), 10);
    server.abort();
}

fn policy(requests_per_minute: u64) -> Policy {
    Policy::default()
        .stagger(Duration::ZERO)
        .rpm_limit(Limit::per_minute(requests_per_minute))
        .headroom(0.0)
}

fn upload<B>(body: B) -> Request<B> {
    Request::post("/v1/audio/transcriptions")
        .header("content-type", "multipart/form-data; boundary=x")
        .body(body)
        .expect("a request")
}

#[tokio::test]
async fn two_hundred_megabytes_pass_unread_and_unbuffered_under_requests_alone() {
    let flow = Arc::<Flow>::default();
    let (url, accepting) = server(&flow).await;
    let policy = policy(1);
    let openai = OpenAi::builder().base_url(url).build().expect("a client");
    let client = ServiceBuilder::new()
        .layer(WholeBodyLayer::new(PIECE).streaming_multipart())
        .layer(policy.layer())
        .service(openai.streaming());
    let before = policy.budget().snapshot();
    let call = client.oneshot(upload(Upload::new(&flow)));
    // Whoever collects first waits here for ever.
    let answer = timeout(Duration::from_secs(120), call).await;
    let answer = answer.expect("it flows").expect("an answer");

    let all = PIECES * PIECE as u64;
    assert_eq!(flow.arrived.load(Ordering::SeqCst), all);
    assert_eq!(answer.headers()["x-told-length"], all.to_string());
    let most = flow.most_under_way.load(Ordering::SeqCst);
    assert!(most <= MOST_UNDER_WAY, "{most} bytes were under way");
    let after = policy.budget().snapshot();
    assert_eq!(after.level, before.level, "no tokens");
    let requests = |snapshot: &Snapshot| {
        let meters = &mut snapshot.meters.iter();
        meters
            .find(|meter| meter.unit == Unit::Requests)
            .map(|meter| meter.level)
    };
    assert_eq!((requests(&before), requests(&after)), (Some(1), Some(0)));
    accepting.abort();
}

#[tokio::test(start_paused = true)]
async fn an_upload_is_not_asked_again_and_json_beside_it_is() {
    let provider = service_fn(async |request: Request<RequestBody>| {
        request.into_body().collect().await?;
        Response::builder()
            .status(503)
            .body(Full::<Bytes>::default())
            .map_err(tollhouse_openai::BoxError::from)
    });
    let client = WholeBodyLayer::new(PIECE)
        .streaming_multipart()
        .layer(policy(60).layer().layer(provider));
    let attempts = async |request| {
        let answer = client.clone().oneshot(request).await.expect("an answer");
        assert_eq!(answer.status(), 503);
        answer.extensions().get::<Attempts>().copied()
    };
    let body = || Full::<Bytes>::from(r#"{"model": "m", "input": "Hi"}"#);
    assert_eq!(attempts(upload(body())).await, Some(Attempts(1)));
    let json = Request::post("/v1/responses")
        .body(body())
        .expect("a request");
    assert_eq!(attempts(json).await, Some(Attempts(5)));
}

/// Of uploads and of what is collected beside them.
#[tokio::test(start_paused = true)]
async fn what_is_said_behind_a_body_passes() {
    let provider = service_fn(async |request: Request<RequestBody>| {
        let body = request.into_body().collect().await?;
        let answer = Response::builder().header("x-said", format!("{:?}", body.trailers()));
        answer
            .body(Full::<Bytes>::default())
            .map_err(tollhouse_openai::BoxError::from)
    });
    let client = WholeBodyLayer::new(PIECE)
        .streaming_multipart()
        .layer(policy(60).layer().layer(provider));
    let trailers = HeaderMap::from_iter([(ETAG, HeaderValue::from_static("x"))]);
    let said = format!("{:?}", Some(&trailers));
    let body = || RequestBody::with_trailers(Bytes::from("{}"), trailers.clone());
    for request in [upload(body()), Request::new(body())] {
        let answer = client.clone().oneshot(request).await.expect("an answer");
        assert_eq!(answer.headers()["x-said"], said);
    }
}

#[tokio::test(start_paused = true)]
async fn a_clone_of_a_streamed_body_fails_where_the_first_was_sent() {
    let first = RequestBody::streamed(Full::<Bytes>::from("a file"));
    let second = first.clone();
    assert_eq!(second.collect().await.expect("sent").to_bytes(), "a file");
    let error = first.collect().await.expect_err("sent already");
    assert!(error.is::<AlreadySent>());
}
