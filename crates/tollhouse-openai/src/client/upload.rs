//! How far an upload has come.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::time::Instant;

use crate::call::{CallBody, RequestBody};

/// When the last piece of a streamed body was taken to be sent: its answer is waited for from
/// then on, however long all of it takes.
#[derive(Clone, Debug)]
pub(super) struct Upload(Arc<Mutex<Instant>>);

impl Upload {
    /// Watches the request's body, if that is streamed.
    pub(super) fn of(request: Request<RequestBody>) -> (Request<RequestBody>, Option<Self>) {
        if request.body().whole().is_some() {
            return (request, None);
        }
        let upload = Upload(Arc::new(Mutex::new(Instant::now())));
        let watch = upload.clone();
        let goes_on = move |_: &Frame<Bytes>| watch.goes_on();
        let watched = |body: RequestBody| RequestBody::streamed(body.inspect_frame(goes_on));
        (request.map(watched), Some(upload))
    }

    /// When it has stood still for so long.
    pub(super) fn stands_still_at(&self, patience: Duration) -> Option<Instant> {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.checked_add(patience)
    }

    fn goes_on(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}
