//! Requests that are refused before they are calls, in the log.

use axum::body::Body;
use http::{Method, Request, Response};

use crate::check::Flaw;
use crate::error::Why;
use crate::headers::REQUEST_ID;

/// A request that is no call: one line of the log if it is refused, in the shape of a call's.
///
/// It has nothing of a header or a query but the request's id, and is no longer than a call's.
/// The page knows calls alone, so that nobody drives them out of it by what is none.
#[derive(Debug)]
pub(super) struct NoCall {
    /// What another head stands for is not known.
    what: Option<(Method, String)>,
    request_id: String,
}

impl NoCall {
    pub(super) fn of<B>(request: &Request<B>) -> Self {
        let is_known = request.extensions().get::<Flaw>().is_none();
        let what = || (request.method().clone(), request.uri().path().to_owned());
        let id = request.headers().get(REQUEST_ID);
        let id = id.and_then(|id| id.to_str().ok());
        NoCall {
            what: is_known.then(what),
            request_id: id.unwrap_or_default().to_owned(),
        }
    }

    /// Writes the line, if this is a refusal.
    pub(super) fn answered(self, answer: &Response<Body>) {
        let Some(Why(why)) = answer.extensions().get() else {
            return;
        };
        let what = self.what.as_ref();
        tracing::info!(
            method = what.map(|(method, _)| display(method)),
            path = what.map(|(_, path)| path.as_str()),
            status = answer.status().as_u16(),
            refused = why,
            request_id = self.request_id,
            "refused"
        );
    }
}
