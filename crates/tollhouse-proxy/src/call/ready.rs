//! What is read of a request before it waits.

use axum::body::Body;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request};
use http_body::Body as _;
use http_body_util::{BodyExt, Limited};
use tollhouse_openai::{Call, RequestBody};
use tower_http::timeout::TimeoutBody;

use super::with_size::WithSize;
use crate::counts::{Counted, Share};
use crate::error::Refusal;
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
        request: Box<Request<Body>>,
        share: &mut Share,
    ) -> Result<Self, Refusal> {
        let bounds = &shared.bounds;
        let upload = is_multipart(request.headers()).then_some(bounds.upload_bytes);
        let (head, body) = request.into_parts();
        let size = body.size_hint();
        let most = upload.unwrap_or(bounds.body_bytes);
        // Nobody is told to go on with it.
        if size.lower() > most as u64 {
            return Err(Refusal::TooLong { most });
        }
        let body = WithSize::new(TimeoutBody::new(bounds.body_idle, body), size);
        let body = match upload {
            Some(most) => RequestBody::streamed(Box::pin(Limited::new(body, most))),
            None => whole(body, bounds.body_bytes, share).await?,
        };
        let mut request = Box::new(Request::from_parts(head, body));
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

async fn whole<B>(body: B, most: usize, share: &mut Share) -> Result<RequestBody, Refusal>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<axum::BoxError>,
{
    let body = Limited::new(Counted::new(Box::pin(body), share), most);
    let whole = body.collect().await;
    let whole = whole.map_err(|error| Refusal::of_body(&*error, most))?;
    let trailers = whole.trailers().cloned();
    let whole = detached(whole.to_bytes());
    Ok(match trailers {
        Some(trailers) => RequestBody::with_trailers(whole, trailers),
        None => RequestBody::from(whole),
    })
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
