use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use tollhouse::BoxError;

/// A request's body as a policy sees it: [`Bytes`], which can be read and sent
/// again, or a [`RequestBody`], which may be a stream.
///
/// Sealed: a policy goes by what these two promise.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no body that a policy can read and send again",
    label = "this request's body is neither `Bytes` nor a `RequestBody`",
    note = "make requests of `Bytes`, or put a `WholeBodyLayer` around the policy",
    note = "around a client with a body of its own, inside the policy, put a `FromBytesLayer`"
)]
pub trait CallBody: From<Bytes> + Send + sealed::Sealed + 'static {
    /// All of it, where it is there.
    fn whole(&self) -> Option<&Bytes>;
}

impl CallBody for Bytes {
    fn whole(&self) -> Option<&Bytes> {
        Some(self)
    }
}

/// A request's body that is there as a whole, or is sent on as it comes.
///
/// A streamed one is never collected: nobody reads it, its request costs no
/// tokens, only the one request, slot and turn, and is **not asked again**
/// when it fails. It is for uploads: files, sounds, pictures.
///
/// # Cloning
///
/// Clones of a whole body are the same. Clones of a stream share it: the first
/// that is polled has it, and the others fail with [`AlreadySent`].
///
/// # Examples
///
/// ```
/// use bytes::Bytes;
/// use http_body::Body;
/// use http_body_util::{BodyExt, Full};
/// use tollhouse_openai::call::{AlreadySent, CallBody, RequestBody};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let whole = RequestBody::from(Bytes::from("{}"));
/// assert_eq!(whole.whole().unwrap(), "{}");
///
/// let upload = RequestBody::streamed(Full::<Bytes>::from("a file"));
/// assert!(upload.whole().is_none());
/// assert_eq!(upload.size_hint().exact(), Some(6));
/// let second = upload.clone();
/// assert_eq!(upload.collect().await?.to_bytes(), "a file");
/// assert!(second.collect().await.unwrap_err().is::<AlreadySent>());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RequestBody {
    kind: Kind,
    /// Of a whole one, to be sent.
    trailers: Option<Box<HeaderMap>>,
}

/// Takes no more room than the bytes alone.
#[derive(Clone)]
enum Kind {
    Whole(Bytes),
    Other(Other),
}

#[derive(Clone)]
enum Other {
    /// What was whole.
    Sent,
    /// Boxed: few bodies are.
    Streamed(Box<Streamed>),
}

type Stream = UnsyncBoxBody<Bytes, BoxError>;

struct Streamed {
    shared: Arc<Mutex<Option<Stream>>>,
    /// Taken at the first poll.
    mine: Option<Stream>,
    /// As long as nobody took it.
    size: SizeHint,
}

impl RequestBody {
    /// A body that is sent on as it comes.
    pub fn streamed<B>(body: B) -> RequestBody
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let size = body.size_hint();
        let stream = body.map_err(Into::into).boxed_unsync();
        RequestBody {
            kind: Kind::Other(Other::Streamed(Box::new(Streamed {
                shared: Arc::new(Mutex::new(Some(stream))),
                mine: None,
                size,
            }))),
            trailers: None,
        }
    }

    /// Whether something is said behind it, for which it is sent in chunks.
    pub(crate) fn has_trailers(&self) -> bool {
        self.trailers.is_some()
    }

    /// A body that is there as a whole, with what is said behind it. It is sent in chunks
    /// over HTTP/1.1, and of the trailers those that the request's `trailer` names.
    ///
    /// # Examples
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::HeaderMap;
    /// use http_body_util::BodyExt;
    /// use tollhouse_openai::call::{CallBody, RequestBody};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// let mut trailers = HeaderMap::new();
    /// trailers.insert("x-checksum", "7".parse()?);
    /// let body = RequestBody::with_trailers(Bytes::from("{}"), trailers.clone());
    /// assert_eq!(body.whole().unwrap(), "{}");
    /// assert_eq!(body.collect().await?.trailers(), Some(&trailers));
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_trailers(whole: Bytes, trailers: HeaderMap) -> RequestBody {
        RequestBody {
            kind: Kind::Whole(whole),
            trailers: Some(Box::new(trailers)),
        }
    }

    fn poll_trailers(&mut self) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let trailers = self.trailers.take();
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(*trailers))))
    }
}

impl From<Bytes> for RequestBody {
    fn from(whole: Bytes) -> RequestBody {
        RequestBody {
            kind: Kind::Whole(whole),
            trailers: None,
        }
    }
}

impl CallBody for RequestBody {
    fn whole(&self) -> Option<&Bytes> {
        match &self.kind {
            Kind::Whole(whole) => Some(whole),
            Kind::Other(_) => None,
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.kind {
            Kind::Whole(whole) if whole.is_empty() => self.poll_trailers(),
            Kind::Whole(whole) => {
                let data = std::mem::take(whole);
                self.kind = Kind::Other(Other::Sent);
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Kind::Other(Other::Sent) => self.poll_trailers(),
            Kind::Other(Other::Streamed(streamed)) => streamed.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Whole(whole) => whole.is_empty() && self.trailers.is_none(),
            Kind::Other(Other::Sent) => self.trailers.is_none(),
            Kind::Other(Other::Streamed(streamed)) => streamed.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        // What has a length has no chunks, which trailers come behind.
        if self.trailers.is_some() {
            return SizeHint::new();
        }
        match &self.kind {
            Kind::Whole(whole) => SizeHint::with_exact(whole.len() as u64),
            Kind::Other(Other::Sent) => SizeHint::with_exact(0),
            Kind::Other(Other::Streamed(streamed)) => streamed.size_hint(),
        }
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.kind {
            Kind::Whole(_) => "whole",
            Kind::Other(Other::Sent) => "sent",
            Kind::Other(Other::Streamed(_)) => "streamed",
        };
        f.debug_struct("RequestBody")
            .field("kind", &kind)
            .field("size", &self.size_hint())
            .finish()
    }
}

// ===== impl Streamed =====

impl Streamed {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.mine.is_none() {
            // Whoever comes first has it; what is polled is under no lock.
            self.mine = self
                .shared
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
        }
        match &mut self.mine {
            Some(stream) => Pin::new(stream).poll_frame(cx),
            None => Poll::Ready(Some(Err(Box::new(AlreadySent { private: () })))),
        }
    }

    /// One that is empty from the beginning is a stream nevertheless.
    fn is_end_stream(&self) -> bool {
        self.mine.as_ref().is_some_and(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.mine {
            Some(stream) => stream.size_hint(),
            None => self.size,
        }
    }
}

impl Clone for Streamed {
    /// Shares the stream, as long as nobody took it.
    fn clone(&self) -> Self {
        Streamed {
            shared: Arc::clone(&self.shared),
            mine: None,
            size: self.size,
        }
    }
}

/// A streamed [`RequestBody`], which shows it, was sent already: it is not kept
/// and cannot be sent a second time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlreadySent {
    private: (),
}

impl fmt::Display for AlreadySent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request's body is a stream that was sent already")
    }
}

impl StdError for AlreadySent {}

impl sealed::Sealed for Bytes {
    fn put(&mut self, whole: Bytes) {
        *self = whole;
    }
}

impl sealed::Sealed for RequestBody {
    fn put(&mut self, whole: Bytes) {
        self.kind = Kind::Whole(whole);
    }
}

mod sealed {
    use bytes::Bytes;

    pub trait Sealed {
        /// Puts other bytes in the place of all of it; what is said behind it stays.
        fn put(&mut self, whole: Bytes);
    }
}
