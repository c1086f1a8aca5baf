//! What a batch sends through.

use std::error::Error as StdError;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

/// An error of whoever makes the service.
pub(crate) type BoxError = Box<dyn StdError + Send + Sync>;

/// Every `tower` service from `http::Request<Bytes>` to a `http::Response` that
/// can be cloned and sent between threads; nothing else can implement it.
///
/// The service's error must turn into a boxed one, and so must that of the
/// response's body, whose data must be [`Send`].
///
/// # Examples
///
/// A function over whatever a [`Batch`](crate::Batch) runs through:
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tollhouse_batch::{Batch, Client, Error};
///
/// async fn count(service: impl Client, input: &str) -> Result<u64, Error> {
///     let run = Batch::new(service).run(input.as_bytes(), Vec::new(), Vec::new());
///     Ok(run.await?.ok)
/// }
/// # let service = tower::service_fn(async |_: http::Request<bytes::Bytes>| {
/// #     let body = http_body_util::Full::new(bytes::Bytes::from("{}"));
/// #     Ok::<_, std::io::Error>(http::Response::new(body))
/// # });
///
/// assert_eq!(count(service, r#"{"model":"gpt-4o","messages":[]}"#).await?, 1);
/// # Ok(())
/// # }
/// ```
pub trait Client: sealed::Client {}

impl<S: sealed::Client> Client for S {}

pub(crate) mod sealed {
    use super::{Body, BoxError, Bytes, Request, Response, Service};

    pub trait Client:
        Service<
            Request<Bytes>,
            Response = Response<<Self as Client>::Body>,
            Error: Into<BoxError> + Send,
            Future: Send,
        > + Clone
        + Send
        + 'static
    {
        type Body: Body<Data: Send, Error: Into<BoxError>> + Send + 'static;
    }

    impl<S, B> Client for S
    where
        S: Service<Request<Bytes>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<BoxError> + Send,
        B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    {
        type Body = B;
    }
}
