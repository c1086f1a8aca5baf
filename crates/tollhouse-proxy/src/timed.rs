//! A body that must not stand still.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};

pin_project! {
    /// A body between whose pieces no more than a time may pass. It says how long it is, as
    /// the provider is to know of an upload.
    pub(crate) struct Timed<B> {
        #[pin]
        body: B,
        longest: Duration,
        // Made where something is waited for: most bodies are there with their head.
        pause: Option<Pin<Box<Sleep>>>,
    }
}

/// Nothing came of a body for as long as it may stand still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoodStill;

impl<B> Timed<B> {
    pub(crate) fn new(body: B, longest: Duration) -> Self {
        Timed {
            body,
            longest,
            pause: None,
        }
    }
}

impl<B> Body for Timed<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<axum::BoxError>,
{
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        let this = self.project();
        if let Poll::Ready(frame) = this.body.poll_frame(cx) {
            *this.pause = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let longest = *this.longest;
        let pause = this.pause.get_or_insert_with(|| Box::pin(sleep(longest)));
        ready!(pause.as_mut().poll(cx));
        Poll::Ready(Some(Err(StoodStill.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl fmt::Display for StoodStill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing came of the body for too long")
    }
}

impl std::error::Error for StoodStill {}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream::unfold;
    use http_body_util::{BodyExt, StreamBody};
    use tokio::time::Instant;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn each_piece_has_its_own_time() {
        let pieces = unfold(1, |seconds| async move {
            sleep(seconds * SECOND).await;
            let piece = Frame::data(Bytes::from("piece"));
            Some((Ok::<_, Infallible>(piece), seconds + 1))
        });
        let mut body = Box::pin(Timed::new(StreamBody::new(pieces), 3 * SECOND));
        let start = Instant::now();
        // The last of them is there in the moment in which the time is over.
        for came in [1, 1 + 2, 1 + 2 + 3] {
            let frame = body.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), "piece");
            assert_eq!(start.elapsed(), came * SECOND);
        }
        let error = body.frame().await.unwrap().unwrap_err();
        assert!(error.is::<StoodStill>());
        assert_eq!(start.elapsed(), 9 * SECOND);
    }
}
