use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::Extensions;

/// Says whether a next attempt was left to whoever called: it was worth making, and could only
/// have been launched after the call's [`Deadline`](tollhouse::Deadline).
///
/// For who stands between a policy and a client that may try again by itself. It is put in a
/// request's extensions, and asked when the call is over.
///
/// # Cloning
///
/// Clones are the same call's.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::Empty;
/// use tollhouse_openai::policy::LeftToCaller;
/// use tollhouse_openai::{Deadline, Policy};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let busy = service_fn(async |_: Request<Bytes>| {
///     let answer = Response::builder().status(429).header("retry-after", "30");
///     answer.body(Empty::<Bytes>::new())
/// });
/// let client = Policy::default().layer().layer(busy);
///
/// let left = LeftToCaller::default();
/// let mut request = Request::post("/v1/responses").body(Bytes::from("{}"))?;
/// request.extensions_mut().insert(Deadline::within(Duration::from_secs(5)));
/// request.extensions_mut().insert(left.clone());
/// assert_eq!(client.oneshot(request).await?.status(), 429);
/// assert!(left.is_said());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct LeftToCaller(Arc<AtomicBool>);

impl LeftToCaller {
    /// Whether it was.
    pub fn is_said(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Says it where a request asks for it.
    pub(super) fn say(extensions: &Extensions) {
        if let Some(left) = extensions.get::<LeftToCaller>() {
            left.0.store(true, Ordering::Relaxed);
        }
    }
}
