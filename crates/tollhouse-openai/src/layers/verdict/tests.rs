use std::convert::Infallible;
use std::future::poll_fn;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, channel::Channel};
use tokio::time::{Duration, Instant};
use tollhouse::Scope;
use tower::{Layer, ServiceExt, service_fn};

use super::*;
use crate::{RateLimits, Verdict};

type AnyBody = UnsyncBoxBody<Bytes, BoxError>;
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Asks a client that answers once with this.
async fn ask(answer: Response<AnyBody>) -> Response<VerdictBody<AnyBody>> {
    let mut answer = Some(answer);
    let client = service_fn(move |_: Request<()>| {
        let answer = answer.take().expect("one call");
        async move { Ok::<_, Infallible>(answer) }
    });
    let client = VerdictLayer::new().layer(client);
    client.oneshot(Request::new(())).await.expect("an answer")
}

fn answer(
    status: u16,
    body: impl Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
) -> Response<AnyBody> {
    let body = body.map_err(Into::into).boxed_unsync();
    let builder = Response::builder().status(status);
    let builder = builder.header("x-ratelimit-limit-tokens", "30000");
    builder.body(body).expect("a response")
}

fn verdict<B>(response: &Response<B>) -> Option<Verdict> {
    response.extensions().get().copied()
}

const TPM: &str = r#"{"error":{"type":"tokens","code":"rate_limit_exceeded","message":"Please try again in 644ms."}}"#;

#[tokio::test]
async fn an_unsuccessful_answer_is_judged_and_handed_on_unchanged() {
    let response = ask(answer(429, Full::from(TPM))).await;
    let expected = Verdict {
        retry: true,
        after: Some(Duration::from_millis(644)),
        scope: Scope::Tokens,
    };
    assert_eq!(verdict(&response), Some(expected));
    let limits = response.extensions().get::<RateLimits>().expect("limits");
    assert_eq!(limits.limit_tokens, Some(30_000));
    assert_eq!(response.body().size_hint().exact(), Some(TPM.len() as u64));
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        TPM
    );
}

#[tokio::test]
async fn a_successful_answer_is_not_read() {
    let (_sender, body) = Channel::<Bytes, Infallible>::new(1);
    let response = ask(answer(200, body)).await;
    assert_eq!(verdict(&response), None);
    assert!(response.extensions().get::<RateLimits>().is_some());
}

#[tokio::test]
async fn a_verdict_that_is_there_stands() {
    let theirs = Verdict {
        retry: false,
        after: None,
        scope: Scope::Quota,
    };
    let (_sender, body) = Channel::<Bytes, Infallible>::new(1);
    let mut inner = answer(429, body);
    inner.extensions_mut().insert(theirs);
    assert_eq!(verdict(&ask(inner).await), Some(theirs));
}

#[tokio::test(start_paused = true)]
async fn a_dawdling_error_is_judged_by_what_came_and_the_rest_streams_on() {
    let (mut sender, body) = Channel::<Bytes, Infallible>::new(4);
    sender
        .send_data(Bytes::from_static(b"{\"error\":"))
        .await
        .unwrap();
    let begun = Instant::now();
    let response = ask(answer(503, body)).await;
    assert_eq!(begun.elapsed(), Duration::from_secs(10));
    assert_eq!(verdict(&response).map(|v| v.scope), Some(Scope::Overload));
    sender
        .send_data(Bytes::from_static(b"\"late\"}"))
        .await
        .unwrap();
    drop(sender);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, r#"{"error":"late"}"#);
}

#[tokio::test]
async fn no_more_than_a_mebibyte_is_read_ahead() {
    let chunk = Bytes::from(vec![b'x'; 600 * 1024]);
    let (mut sender, body) = Channel::<Bytes, Infallible>::new(2);
    sender.send_data(chunk.clone()).await.unwrap();
    sender.send_data(chunk.clone()).await.unwrap();
    // The body has not ended, and yet the head is handed on.
    let response = ask(answer(500, body)).await;
    assert_eq!(verdict(&response).map(|v| v.retry), Some(true));
    sender.send_data(chunk.clone()).await.unwrap();
    drop(sender);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body.len(), 3 * chunk.len());
}

#[tokio::test]
async fn a_failing_body_fails_at_the_same_place_for_the_caller() {
    let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(2);
    sender.send_data(Bytes::from_static(b"half")).await.unwrap();
    sender.abort(std::io::Error::other("reset"));
    let mut body = ask(answer(502, body)).await.into_body();
    assert!(!body.is_end_stream());
    let mut next = async || poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await;
    let first = next().await.expect("a frame").expect("data");
    assert_eq!(first.into_data().expect("data"), "half");
    let error = next().await.expect("a frame").expect_err("the failure");
    assert_eq!(error.to_string(), "reset");
    assert!(next().await.is_none());
}

#[tokio::test]
async fn trailers_come_through() {
    let trailers = http::HeaderMap::from_iter([(http::header::ETAG, "x".parse().unwrap())]);
    let body = Full::from("{}").with_trailers(std::future::ready(Some(Ok(trailers.clone()))));
    let collected = ask(answer(400, body))
        .await
        .into_body()
        .collect()
        .await
        .unwrap();
    assert_eq!(collected.trailers(), Some(&trailers));
}

#[tokio::test]
async fn dropping_the_future_drops_the_half_read_body() {
    let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
    let mut asked = Box::pin(ask(answer(500, body)));
    assert!(futures_pending(&mut asked).await);
    drop(asked);
    assert!(sender.send_data(Bytes::new()).await.is_err());
}

async fn futures_pending<F: Future + Unpin>(future: &mut F) -> bool {
    poll_fn(|cx| std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx).is_pending()))
        .await
}
