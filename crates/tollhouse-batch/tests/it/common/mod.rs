//! What the tests share: lines, and a reading of what was written.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tollhouse_batch::{Batch, Client, Error, Event, Summary};
use tower::util::BoxCloneService;

/// The body of every response here.
pub(crate) type Body = Full<Bytes>;

/// As tower's, boxed: so that a runner is not compiled for each closure.
pub(crate) fn service_fn<F, R, B, E>(f: F) -> BoxCloneService<Request<Bytes>, Response<B>, E>
where
    F: FnMut(Request<Bytes>) -> R + Clone + Send + 'static,
    R: Future<Output = Result<Response<B>, E>> + Send + 'static,
{
    BoxCloneService::new(tower::service_fn(f))
}

/// [`Batch::run`] on boxed files, so that it is not compiled for each kind of them.
pub(crate) trait RunBoxed {
    fn run_boxed<'a>(
        self,
        input: impl AsyncRead + Unpin + 'a,
        output: impl AsyncWrite + Unpin + 'a,
        errors: impl AsyncWrite + Unpin + 'a,
    ) -> Pin<Box<dyn Future<Output = Result<Summary, Error>> + 'a>>;
}

impl<S: Client> RunBoxed for Batch<S> {
    fn run_boxed<'a>(
        self,
        input: impl AsyncRead + Unpin + 'a,
        output: impl AsyncWrite + Unpin + 'a,
        errors: impl AsyncWrite + Unpin + 'a,
    ) -> Pin<Box<dyn Future<Output = Result<Summary, Error>> + 'a>> {
        let input: Box<dyn AsyncRead + Unpin + 'a> = Box::new(input);
        let output: Box<dyn AsyncWrite + Unpin + 'a> = Box::new(output);
        let errors: Box<dyn AsyncWrite + Unpin + 'a> = Box::new(errors);
        Box::pin(self.run(input, output, errors))
    }
}

/// An input of one line for each id; the body names the id.
pub(crate) fn input<I: AsRef<str>>(ids: impl IntoIterator<Item = I>) -> String {
    ids.into_iter().map(|id| line(id.as_ref()) + "\n").collect()
}

pub(crate) fn line(id: &str) -> String {
    format!(
        r#"{{"custom_id":"{id}","method":"POST","url":"/v1/chat/completions","body":{{"user":"{id}"}}}}"#
    )
}

/// The id that `input` put in the body.
pub(crate) fn id_of(request: &Request<Bytes>) -> String {
    let body: Value = serde_json::from_slice(request.body()).expect("the body is JSON");
    body["user"]
        .as_str()
        .expect("the body names its id")
        .to_owned()
}

/// A good answer that depends on the id alone.
pub(crate) fn answer(id: &str) -> Response<Body> {
    let body = format!(
        r#"{{"echo":"{id}","usage":{{"total_tokens":{}}}}}"#,
        id.len()
    );
    respond(200, body)
}

pub(crate) fn respond(status: u16, body: impl Into<Bytes>) -> Response<Body> {
    Response::builder()
        .status(status)
        .header("x-request-id", "req_1")
        .body(Full::new(body.into()))
        .expect("a valid response")
}

/// A service that answers after as many seconds as the id says.
pub(crate) async fn slow(request: Request<Bytes>) -> Result<Response<Body>, Infallible> {
    let id = id_of(&request);
    let seconds = id.parse().expect("the id is a number");
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    Ok(answer(&id))
}

/// The lines of an output, each of which must be whole.
pub(crate) fn records(output: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(output).expect("the output is text");
    assert!(
        text.is_empty() || text.ends_with('\n'),
        "a line is torn: {text}"
    );
    text.lines()
        .map(|line| serde_json::from_str(line).expect("a line is JSON"))
        .collect()
}

fn custom_id(record: &Value) -> String {
    record["custom_id"].as_str().expect("an id").to_owned()
}

/// The custom ids of an output, in its order.
pub(crate) fn ids(output: &[u8]) -> Vec<String> {
    records(output).iter().map(custom_id).collect()
}

/// An output by its ids, each of which must be there once.
pub(crate) fn by_id(output: &[u8]) -> BTreeMap<String, Value> {
    let records = records(output);
    let count = records.len();
    let with_id = |record: Value| (custom_id(&record), record);
    let map: BTreeMap<_, _> = records.into_iter().map(with_id).collect();
    assert_eq!(map.len(), count, "an id is answered twice");
    map
}

/// A list that services and observers append to.
#[derive(Debug)]
pub(crate) struct Log<T>(Arc<Mutex<Vec<T>>>);

impl<T> Log<T> {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    pub(crate) fn push(&self, entry: T) {
        self.0.lock().expect("no test panics here").push(entry);
    }

    pub(crate) fn take(&self) -> Vec<T> {
        std::mem::take(&mut *self.0.lock().expect("no test panics here"))
    }
}

impl<T> Clone for Log<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// An event in a word and its id.
pub(crate) fn word(event: &Event) -> String {
    match event {
        Event::Started(request) => format!("started {}", request.custom_id),
        Event::Sent(request) => format!("sent {}", request.custom_id),
        Event::Finished { request, .. } => format!("finished {}", request.custom_id),
        Event::Failed { request, code, .. } => format!("failed {} {code}", request.custom_id),
        Event::Withdrawn(request) => format!("withdrawn {}", request.custom_id),
        Event::Unwritten(request) => format!("unwritten {}", request.custom_id),
        Event::Skipped(request) => format!("skipped {}", request.custom_id),
        Event::BadLine(bad) => format!("bad {}", bad.line),
        Event::PutBack(request) => format!("put back {}", request.custom_id),
        Event::Outage { reason, .. } => format!("outage: {reason}"),
        Event::Recovered { lasted } => format!("recovered after {lasted:?}"),
        Event::Stopping { in_flight } => format!("stopping {in_flight}"),
        Event::Ending(ended_by) => format!("ending: {ended_by}"),
        Event::GivingUp { reason } => format!("giving up: {reason}"),
        other => panic!("an event the tests do not know: {other:?}"),
    }
}
