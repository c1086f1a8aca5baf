//! What a request asks for, read once.
//!
//! A policy, the spans, whoever asks for usage and whoever counts all need to
//! know what a request is: its model, its endpoint, how long its answer may be.
//! That stands in its body, which may be megabytes. So whoever comes first
//! [attaches](Call::attach) what it read to the request, and everyone behind
//! [asks](Call::of) for that, over all attempts.
//!
//! A request whose body is streamed ([`RequestBody`]) is known by its head alone.

mod body;
#[cfg(feature = "spans")]
mod found;

#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Method, Request, Uri};
use tollhouse::Cost;

pub use body::{AlreadySent, CallBody, RequestBody};

use crate::wire::cost::{ChargeRule, DEFAULT_EST_TOKENS, Estimator};
use crate::wire::request::RequestFacts;
pub use crate::wire::request::{Endpoint, Shape};

/// What one request asks for, as its path and its body say.
///
/// # Cloning
///
/// A clone is cheap and shares what was read.
///
/// # Examples
///
/// A layer of one's own in front of a policy, for which the body is then not
/// read again:
///
/// ```
/// use bytes::Bytes;
/// use http::Request;
/// use tollhouse_openai::{Call, ChargeRule, Cost};
/// use tollhouse_openai::call::Endpoint;
///
/// let body = r#"{"model": "gpt-4o", "input": "Hi", "max_output_tokens": 50}"#;
/// let mut request = Request::post("/v1/responses").body(Bytes::from(body))?;
/// let call = Call::attach(&mut request);
/// assert_eq!(call.endpoint(), Endpoint::Responses);
/// assert_eq!(call.model(), Some("gpt-4o"));
/// assert_eq!(call.longest_answer(), Some(50));
/// assert!(!call.streams());
/// assert_eq!(ChargeRule::Safe.cost(&call), ChargeRule::Safe.cost(&request));
///
/// // Another body is another call.
/// *request.body_mut() = Bytes::from(r#"{"model": "o3", "input": "Hi"}"#);
/// assert_eq!(Call::of(&request).model(), Some("o3"));
/// # Ok::<(), http::Error>(())
/// ```
#[derive(Clone)]
pub struct Call {
    read: Arc<Read>,
}

/// What was read, and of what.
struct Read {
    facts: RequestFacts,
    method: Method,
    uri: Uri,
    /// Kept, so that no other body can come to lie in its place.
    body: Option<Bytes>,
    #[cfg(feature = "spans")]
    found: found::Found,
}

impl Call {
    /// What a request asks for: as it was attached, or read now.
    pub fn of<B: CallBody>(request: &Request<B>) -> Call {
        let attached = request.extensions().get::<Call>();
        match attached.filter(|call| call.is_of_body(request.body())) {
            Some(call) if call.is_of_head(request) => call.clone(),
            Some(call) => call.under(request),
            None => Call::read(request),
        }
    }

    /// What a request asks for, kept in its extensions for everyone behind.
    pub fn attach<B: CallBody>(request: &mut Request<B>) -> Call {
        let call = Call::of(request);
        let attached = request.extensions().get::<Call>();
        if !attached.is_some_and(|attached| Arc::ptr_eq(&attached.read, &call.read)) {
            request.extensions_mut().insert(call.clone());
        }
        call
    }

    /// The endpoint that its path names.
    pub fn endpoint(&self) -> Endpoint {
        self.facts().endpoint
    }

    /// The model that its body names; where it names none, Azure's deployment
    /// in the path, or what the query of a Realtime session names.
    pub fn model(&self) -> Option<&str> {
        self.facts().model()
    }

    /// Whether the answer is to come as a stream.
    pub fn streams(&self) -> bool {
        self.shape().is_some_and(|shape| shape.streams)
    }

    /// Whether a model works on it: it neither reads nor keeps things.
    #[cfg(feature = "spans")]
    pub(crate) fn runs_a_model(&self) -> bool {
        !self.facts().is_read && self.endpoint() != Endpoint::Storage
    }

    /// The longest answer asked for, in tokens.
    pub fn longest_answer(&self) -> Option<u64> {
        self.shape()?.longest_answer
    }

    /// What the body holds; `None` where it is no JSON object or is streamed.
    pub fn shape(&self) -> Option<&Shape> {
        self.facts().shape.as_ref()
    }

    pub(crate) fn facts(&self) -> &RequestFacts {
        &self.read.facts
    }

    fn read<B: CallBody>(request: &Request<B>) -> Call {
        let body = request.body().whole();
        let (method, path) = (request.method(), request.uri().path());
        let facts = RequestFacts::read(method, path, body.map(|body| &body[..]));
        Call::new(facts, request, body.cloned())
    }

    /// The same body under another head.
    fn under<B>(&self, request: &Request<B>) -> Call {
        let facts = self.facts().under(request.method(), request.uri().path());
        Call::new(facts, request, self.read.body.clone())
    }

    fn new<B>(mut facts: RequestFacts, request: &Request<B>, body: Option<Bytes>) -> Call {
        // A session has no body to name it.
        if facts.deployment.is_none() && is_session(request.uri()) {
            facts.deployment = in_query(request.uri()).map(Box::from);
        }
        Call {
            read: Arc::new(Read {
                facts,
                method: request.method().clone(),
                uri: request.uri().clone(),
                body,
                #[cfg(feature = "spans")]
                found: found::Found::default(),
            }),
        }
    }

    fn is_of_body(&self, body: &impl CallBody) -> bool {
        match (&self.read.body, body.whole()) {
            (Some(read), Some(body)) => read.as_ptr() == body.as_ptr() && read.len() == body.len(),
            (read, body) => read.is_none() && body.is_none(),
        }
    }

    fn is_of_head<B>(&self, request: &Request<B>) -> bool {
        let (read, uri) = (&self.read.uri, request.uri());
        self.read.method == *request.method()
            && read.path() == uri.path()
            && (!is_session(uri) || read.query() == uri.query())
    }
}

/// Whether its query names the model.
fn is_session(uri: &Uri) -> bool {
    uri.path().ends_with("/realtime")
}

/// The model or Azure's deployment, as it is written plainly.
fn in_query(uri: &Uri) -> Option<&str> {
    let pairs = uri.query()?.split('&');
    let mut pairs = pairs.filter_map(|pair| pair.split_once('='));
    let named = pairs.find(|(name, _)| matches!(*name, "model" | "deployment"));
    named
        .map(|(_, value)| value)
        .filter(|value| !value.is_empty() && !value.contains(['%', '+']))
}

/// Asks for the usage of a chat stream that has not asked; `true` if it did.
/// What is known of the request stays known.
pub(crate) fn ask_for_usage<B: CallBody>(request: &mut Request<B>) -> bool {
    let call = Call::attach(request);
    let is_chat = call.endpoint() == Endpoint::Chat && *request.method() == Method::POST;
    let edit = call.facts().edit.as_deref().filter(|_| is_chat);
    let (Some(edit), Some(body)) = (edit, request.body().whole()) else {
        return false;
    };
    let body = edit.apply(body);
    if let Some(length) = request.headers_mut().get_mut(CONTENT_LENGTH) {
        *length = HeaderValue::from(body.len());
    }
    let facts = RequestFacts {
        bytes: Some(body.len() as u64),
        edit: None,
        ..call.facts().clone()
    };
    let asked = Call::new(facts, request, Some(body.clone()));
    request.extensions_mut().insert(asked);
    request.body_mut().put(body);
    true
}

impl Cost<Call> for Estimator {
    fn cost(&self, call: &Call) -> u64 {
        let estimate = self.estimate(call.facts());
        estimate.map_or(0, |estimate| estimate.tokens)
    }
}

impl Cost<Call> for ChargeRule {
    fn cost(&self, call: &Call) -> u64 {
        self.with_est_tokens(DEFAULT_EST_TOKENS).cost(call)
    }
}

impl<B: CallBody> Cost<Request<B>> for Estimator {
    fn cost(&self, request: &Request<B>) -> u64 {
        self.cost(&Call::of(request))
    }
}

impl<B: CallBody> Cost<Request<B>> for ChargeRule {
    fn cost(&self, request: &Request<B>) -> u64 {
        self.cost(&Call::of(request))
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("endpoint", &self.endpoint())
            .field("model", &self.model())
            .field("shape", &self.shape())
            .finish_non_exhaustive()
    }
}
