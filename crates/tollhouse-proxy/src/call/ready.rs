//! What is read of a request before it waits.

use std::time::Duration;

use axum::BoxError;
use axum::body::Body;
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt, BodyStream, Limited, StreamBody};
use tollhouse_openai::{Call, RequestBody};
use tower_http::timeout::TimeoutBody;

use super::with_size::WithSize;
use crate::counts::{Counted, Share};
use crate::error::Refusal;
use crate::headers::trailers_for_provider;
use crate::shared::Shared;
use crate::upstream::launches::Launches;

const MULTIPART: &[u8] = b"multipart/";

/// A request that may be sent.
pub(super) struct Ready {
    /// Boxed, or it would have a place in the future of each function that it is
    /// handed through.
    pub(super) request: Box<Request<RequestBody>>,
    pub(super) call: Call,
    pub(super) launches: Launches,
    /// The most bytes that may be passed on of an upload.
    pub(super) upload: Option<usize>,
}

impl Ready {
    /// Reads the body, unless it is an upload.
    pub(super) async fn of(
        shared: &Shared,
        mut request: Box<Request<Body>>,
        share: &mut Share,
    ) -> Result<Self, Refusal> {
        let bounds = &shared.bounds;
        let upload = is_multipart(request.headers()).then_some(bounds.upload_bytes);
        // Its head stays in the box, and has no place in this future.
        let body = std::mem::take(request.body_mut());
        let size = body.size_hint();
        let most = upload.unwrap_or(bounds.body_bytes);
        // Nobody is told to go on with it.
        if size.lower() > most as u64 {
            return Err(Refusal::TooLong { most });
        }
        let body = match upload {
            Some(most) => {
                let body = TimeoutBody::new(bounds.body_idle, body);
                let body = WithSize::new(body.map_frame(trimmed), size);
                RequestBody::streamed(Box::pin(Limited::new(body, most)))
            }
            None => {
                let body = Limited::new(Counted::new(body, share), most);
                let read = whole(body, bounds.body_idle).await;
                read.map_err(|error| Refusal::of_body(&*error, most))?
            }
        };
        let mut request = Box::new(request.map(|_| body));
        let launches = Launches::none_yet();
        request.extensions_mut().insert(launches.clone());
        let call = Call::attach(&mut request);
        Ok(Ready {
            request,
            call,
            launches,
            upload,
        })
    }
}

/// Reads a body to its end, of which no piece may take longer than `idle`. Most come with their
/// head in one piece, which is here already and needs no clock.
async fn whole<B>(mut body: B, idle: Duration) -> Result<RequestBody, BoxError>
where
    B: http_body::Body<Data = Bytes, Error = BoxError> + Unpin,
{
    let first = body.frame().now_or_never();
    // Not every body knows of itself that it is over, and then it is not to be asked again.
    let is_over = matches!(first, Some(None)) || body.is_end_stream();
    let first = first.flatten().transpose()?;
    if is_over && !first.as_ref().is_some_and(Frame::is_trailers) {
        let data = first.and_then(|frame| frame.into_data().ok());
        return Ok(RequestBody::from(detached(data.unwrap_or_default())));
    }
    let whole = first_and_rest(first, TimeoutBody::new(idle, body));
    // Boxed, or it would take room in all calls that have no more to read.
    let whole = Box::pin(whole.collect()).await?;
    let trailers = whole.trailers().cloned();
    let whole = detached(whole.to_bytes());
    Ok(match trailers {
        Some(mut trailers) => {
            trailers_for_provider(&mut trailers);
            RequestBody::with_trailers(whole, trailers)
        }
        None => RequestBody::from(whole),
    })
}

/// A frame of an upload, with nothing behind the body that is not let through before it.
fn trimmed(mut frame: Frame<Bytes>) -> Frame<Bytes> {
    if let Some(trailers) = frame.trailers_mut() {
        trailers_for_provider(trailers);
    }
    frame
}

/// A body of which a frame was taken.
fn first_and_rest<B>(
    first: Option<Frame<Bytes>>,
    rest: B,
) -> impl http_body::Body<Data = Bytes, Error = B::Error>
where
    B: http_body::Body<Data = Bytes>,
{
    StreamBody::new(stream::iter(first.map(Ok)).chain(BodyStream::new(rest)))
}

/// The same bytes without the buffer that they came in, if that is larger by much: what
/// came in one piece is a part of it.
fn detached(body: Bytes) -> Bytes {
    const SMALL: usize = 16 * 1024;
    match body.len() {
        1..SMALL => Bytes::copy_from_slice(&body),
        _ => body,
    }
}

fn is_multipart(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let start = kind.and_then(|kind| kind.get(..MULTIPART.len()));
    start.is_some_and(|start| start.eq_ignore_ascii_case(MULTIPART))
}
