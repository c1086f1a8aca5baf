//! The body that carries a pass to its last byte.

use std::fmt;
use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::answer::End;
use crate::gate::{Now, Pass};

pin_project! {
    /// An answer's body, with the pass of its call inside.
    ///
    /// The pass sees every piece go by, unchanged and uncopied, and ends with
    /// the body: at its last frame, at an error, or when the body is dropped.
    ///
    /// # Examples
    ///
    /// A caller who leaves gives back the slot:
    ///
    /// ```
    /// use http::Response;
    /// use std::convert::Infallible;
    /// use tollhouse::ConcurrencyLayer;
    /// use tower::{Layer, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let slots = ConcurrencyLayer::new(3);
    /// let client = slots.layer(service_fn(async |_: ()| {
    ///     Ok::<_, Infallible>(Response::new("Eleven kilometers.".to_owned()))
    /// }));
    /// let answer = client.oneshot(()).await?;
    /// assert_eq!(answer.body().get_ref(), "Eleven kilometers.");
    /// assert_eq!(slots.in_flight(), 1);
    /// drop(answer);
    /// assert_eq!(slots.in_flight(), 0);
    /// # Ok(())
    /// # }
    /// ```
    pub struct HeldBody<B, P: Pass> {
        #[pin]
        body: B,
        pass: Held<P>,
    }
}

impl<B: Body, P: Pass> HeldBody<B, P> {
    pub(super) fn new(body: B, pass: P, now: &mut Now) -> Self {
        let mut pass = Held(Some(pass));
        if body.is_end_stream() {
            pass.end(End::Complete, now);
        }
        HeldBody { body, pass }
    }
}

impl<B, P: Pass> HeldBody<B, P> {
    /// The body.
    pub fn get_ref(&self) -> &B {
        &self.body
    }
}

/// Ends as cut unless it ended before.
struct Held<P: Pass>(Option<P>);

impl<P: Pass> Held<P> {
    fn end(&mut self, end: End, now: &mut Now) {
        if let Some(mut pass) = self.0.take() {
            pass.ended(end, now);
        }
    }
}

impl<P: Pass> Drop for Held<P> {
    fn drop(&mut self) {
        self.end(End::Cut, &mut Now::unread());
    }
}

impl<B, P> Body for HeldBody<B, P>
where
    B: Body,
    P: Pass,
{
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let frame = ready!(this.body.as_mut().poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let (Some(data), Some(pass)) = (frame.data_ref(), &mut this.pass.0) {
                    each_chunk(data, |chunk| pass.chunk(chunk));
                }
                // Who knows the length may never ask for the end.
                if this.body.is_end_stream() {
                    this.pass.end(End::Complete, &mut Now::unread());
                }
            }
            Some(Err(_)) => this.pass.end(End::Cut, &mut Now::unread()),
            None => this.pass.end(End::Complete, &mut Now::unread()),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Looks at all of a buffer without consuming it. One that is in more than 64
/// pieces is seen in part only; none of the usual transports makes such.
fn each_chunk(data: &impl Buf, mut see: impl FnMut(&[u8])) {
    let first = data.chunk();
    if first.len() == data.remaining() {
        return see(first);
    }
    let mut pieces = [IoSlice::new(&[]); 64];
    let filled = data.chunks_vectored(&mut pieces);
    pieces[..filled].iter().for_each(|piece| see(piece));
}

impl<B: fmt::Debug, P: Pass> fmt::Debug for HeldBody<B, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeldBody")
            .field("body", &self.body)
            .field("held", &self.pass.0.is_some())
            .finish()
    }
}
