//! How far an upload has come.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use crate::BoxError;
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
        let watched = |body| {
            RequestBody::streamed(Watched {
                body,
                upload: watch,
            })
        };
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

struct Watched {
    body: RequestBody,
    upload: Upload,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.upload.goes_on();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
