//! A provider that streams what a test tells it to.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::BodyExt;
use http_body_util::channel::{Channel, Sender};
use tokio::time::Instant;
use tollhouse_openai::{Limit, Policy};
use tower::Service;
use tower::util::BoxCloneSyncService;

pub(crate) type Upstream = Sender<Bytes, &'static str>;
pub(crate) type Provider =
    BoxCloneSyncService<Request<Bytes>, Response<Channel<Bytes, &'static str>>, Infallible>;

pub(crate) const SEC: Duration = Duration::from_secs(1);

/// 600 tokens a minute, none of them kept back, and nothing else in the way.
pub(crate) fn policy() -> Policy {
    Policy::default()
        .tpm_limit(Limit::per_minute(600))
        .headroom(0.0)
        .stagger(Duration::ZERO)
        .cautious_start(false)
}

/// A prompt of 40 bytes: 10 tokens of text, 4 for the message and 3 for the
/// reply make 17; the answer may have 83.
pub(crate) fn chat() -> Request<Bytes> {
    let text = "x".repeat(40);
    let body = format!(
        r#"{{"model":"m","stream":true,"max_tokens":83,"messages":[{{"role":"user","content":"{text}"}}]}}"#
    );
    let request = Request::post("/v1/chat/completions").body(Bytes::from(body));
    request.expect("a request")
}

pub(crate) const PROMPT: i64 = 17;
pub(crate) const COST: i64 = 100;

/// One token of an answer.
pub(crate) fn token() -> Bytes {
    Bytes::from_static(b"data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n")
}

/// The requests that came, when, and what their answers are written with.
#[derive(Clone, Default)]
pub(crate) struct Calls(Arc<Mutex<Vec<Call>>>);

pub(crate) struct Call {
    pub(crate) at: Instant,
    pub(crate) body: Bytes,
    pub(crate) upstream: Option<Upstream>,
}

impl Calls {
    /// A provider whose streams are written by the test.
    pub(crate) fn provider(&self) -> Provider {
        self.provider_with(|_| 200)
    }

    /// The same, with the status of each call by its number.
    pub(crate) fn provider_with(
        &self,
        status: impl Fn(usize) -> u16 + Clone + Send + Sync + 'static,
    ) -> Provider {
        let calls = self.clone();
        BoxCloneSyncService::new(tower::service_fn(move |request: Request<Bytes>| {
            let (upstream, body) = Channel::new(64);
            let mut all = calls.0.lock().expect("calls");
            let status = status(all.len());
            all.push(Call {
                at: Instant::now(),
                body: request.into_body(),
                upstream: (status == 200).then_some(upstream),
            });
            let answer = Response::builder()
                .status(status)
                .header("content-type", "text/event-stream");
            std::future::ready(Ok(answer.body(body).expect("a response")))
        }))
    }

    pub(crate) fn upstream(&self, call: usize) -> Upstream {
        let mut calls = self.0.lock().expect("calls");
        calls[call].upstream.take().expect("not taken before")
    }

    pub(crate) fn bodies(&self) -> Vec<Bytes> {
        let calls = self.0.lock().expect("calls");
        calls.iter().map(|call| call.body.clone()).collect()
    }

    pub(crate) fn arrivals(&self) -> Vec<Instant> {
        let calls = self.0.lock().expect("calls");
        calls.iter().map(|call| call.at).collect()
    }
}

/// Asks once.
pub(crate) async fn ask<S, B>(client: &S) -> B
where
    S: Service<Request<Bytes>, Response = Response<B>> + Clone,
    S::Error: std::fmt::Debug,
{
    let answer = tower::ServiceExt::oneshot(client.clone(), chat()).await;
    answer.expect("an answer").into_body()
}

/// Reads so many frames.
pub(crate) async fn read<B>(body: &mut B, frames: usize) -> String
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Debug,
{
    let mut text = String::new();
    for _ in 0..frames {
        let frame = body.frame().await.expect("a frame").expect("no failure");
        let data = frame.into_data().expect("data");
        text += std::str::from_utf8(&data).expect("text");
    }
    text
}
