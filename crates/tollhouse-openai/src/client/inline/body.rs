use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::pool::Pool;
use super::{Connection, exclusive};

/// The body of an answer, with the connection that brings it: given back when it is over,
/// closed when it is dropped before.
pub(in crate::client) struct InlineBody {
    body: Option<Incoming>,
    /// Never locked: like that a body can be shared between threads, as hyper's own can.
    connection: Mutex<Option<Box<Connection>>>,
    pool: Arc<Pool>,
}

impl InlineBody {
    pub(super) fn new(body: Incoming, connection: Box<Connection>, pool: Arc<Pool>) -> Self {
        let mut this = InlineBody {
            body: Some(body),
            connection: Mutex::new(Some(connection)),
            pool,
        };
        if this.is_end_stream() {
            this.give_back();
        }
        this
    }

    /// Closes the connection: nothing more comes.
    pub(in crate::client) fn close(&mut self) {
        self.body = None;
        *exclusive(&mut self.connection) = None;
    }

    /// What is over is seen at the connection's next poll; what is not by then is not waited
    /// for.
    fn give_back(&mut self) {
        let Some(mut connection) = exclusive(&mut self.connection).take() else {
            return;
        };
        if !connection.is_free() {
            connection.drive(&mut Context::from_waker(Waker::noop()));
        }
        if connection.is_free() {
            self.pool.give_back(connection);
        }
    }
}

impl Body for InlineBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        let Some(body) = &mut this.body else {
            return Poll::Ready(None);
        };
        // What it brings is put there by nobody but the connection, in this task.
        let mut unheard = Context::from_waker(Waker::noop());
        let mut polled = Pin::new(&mut *body).poll_frame(&mut unheard);
        if polled.is_pending()
            && let Some(connection) = exclusive(&mut this.connection)
        {
            connection.drive(cx);
            polled = Pin::new(&mut *body).poll_frame(&mut unheard);
        }
        let frame = ready!(polled);
        match &frame {
            Some(Ok(_)) if !body.is_end_stream() => {}
            Some(Ok(_)) | None => this.give_back(),
            Some(Err(_)) => *exclusive(&mut this.connection) = None,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Some(body) => body.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}

impl fmt::Debug for InlineBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InlineBody")
            .field("body", &self.body)
            .finish_non_exhaustive()
    }
}

impl Drop for InlineBody {
    fn drop(&mut self) {
        // Many read a stream no further than to its last event; its end may be there.
        self.body = None;
        self.give_back();
    }
}
