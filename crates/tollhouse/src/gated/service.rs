use std::fmt;
use std::marker::PhantomData;
use std::task::{Context, Poll};

use tower_service::Service;

use super::body::HeldBody;
use super::future::{POLLED_AFTER_READY, ResponseFuture};
use crate::error::{BoxError, Error};
use crate::gate::{Gate, Launch, Now, PassFor};

/// A service behind a gate; see the [module's story](super).
///
/// # Cloning
///
/// Clones share the gate's state. Anything held starts empty in a clone.
///
/// # Examples
///
/// ```
/// use std::convert::Infallible;
/// use std::time::Duration;
/// use tollhouse::StaggerLayer;
/// use tower::{Layer, Service, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let provider = service_fn(async |n: u64| Ok::<_, Infallible>(n + 1));
/// let mut client = StaggerLayer::new(Duration::from_secs(15)).layer(provider);
/// assert_eq!(client.ready().await?.call(1).await?, 2);
/// assert_eq!(client.gate().waiting(), 0);
///
/// // Past the gate, for what costs nothing.
/// assert_eq!(client.get_mut().call(2).await?, 3);
/// # Ok(())
/// # }
/// ```
pub struct Gated<S, G, H = UntilBodyEnd> {
    inner: S,
    gate: G,
    launch: Launch,
    hold: PhantomData<fn() -> H>,
}

impl<S, G, H> Gated<S, G, H> {
    /// Puts `gate` before `inner`. With [`Launch::ToWire`] a request counts as
    /// on the wire once `inner` was called, so `inner` must be the transport.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use tollhouse::gate::Launch;
    /// use tollhouse::{ConcurrencyLayer, Gated, UntilResponse};
    /// use tower::{ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let transport = service_fn(async |n: u64| Ok::<_, Infallible>(n + 1));
    /// let slots = ConcurrencyLayer::new(3);
    /// let client: Gated<_, _, UntilResponse> = Gated::new(transport, slots, Launch::ToWire);
    /// assert_eq!(client.oneshot(1).await?, 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(inner: S, gate: G, launch: Launch) -> Self {
        Gated {
            inner,
            gate,
            launch,
            hold: PhantomData,
        }
    }

    inner_accessors!();

    /// The gate.
    pub fn gate(&self) -> &G {
        &self.gate
    }
}

impl<S, G, H, Req> Service<Req> for Gated<S, G, H>
where
    S: Service<Req> + Clone,
    S::Error: Into<BoxError>,
    G: Gate<Req, S::Response>,
    H: Hold<S::Response, G::Pass>,
{
    type Response = H::Held;
    type Error = Error;
    type Future = ResponseFuture<S, Req, G::Pass, H>;

    /// Always ready: whether there is room depends on the request.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let pass = self.gate.pass(&request);
        ResponseFuture::new(self.inner.clone(), request, pass, self.launch)
    }
}

impl<S: Clone, G: Clone, H> Clone for Gated<S, G, H> {
    fn clone(&self) -> Self {
        Gated::new(self.inner.clone(), self.gate.clone(), self.launch)
    }
}

impl<S: fmt::Debug, G: fmt::Debug, H> fmt::Debug for Gated<S, G, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gated")
            .field("inner", &self.inner)
            .field("gate", &self.gate)
            .field("launch", &self.launch)
            .finish()
    }
}

/// How long a pass is held for answers of type `Res`: [`UntilBodyEnd`] or
/// [`UntilResponse`].
#[diagnostic::on_unimplemented(
    message = "`{Res}` has no body that could hold a gate's pass to its last byte",
    label = "this response is not an `http::Response`",
    note = "by default a gate holds its pass until the end of an `http::Response`'s body",
    note = "if the call is over with its response, say so on the layer: `.until_response()`"
)]
pub trait Hold<Res, P>: sealed::Sealed {
    /// What the caller gets.
    type Held;

    /// Shows the answer to its pass, and hands it on with the pass inside or
    /// ended: none is left where it was, unless whoever reads the answer panics.
    fn hold(response: Res, pass: &mut Option<P>, now: &mut Now) -> Self::Held;
}

/// The pass is held to the end of the body, so a stream holds its slot until
/// its last byte; for `http::Response`s, and the default.
///
/// What every layer begins with: see [`ConcurrencyLayer::new`](crate::ConcurrencyLayer::new)
/// for a call that is counted until its body was read.
#[derive(Clone, Copy, Debug)]
pub enum UntilBodyEnd {}

/// The pass ends with the response.
///
/// What [`GateLayer::until_response`](super::GateLayer::until_response) and those of
/// the single layers ask for.
#[derive(Clone, Copy, Debug)]
pub enum UntilResponse {}

impl<B, P> Hold<http::Response<B>, P> for UntilBodyEnd
where
    B: http_body::Body,
    P: PassFor<http::Response<B>>,
{
    type Held = http::Response<HeldBody<B, P>>;

    fn hold(response: http::Response<B>, pass: &mut Option<P>, now: &mut Now) -> Self::Held {
        let reading = pass.as_mut().expect(POLLED_AFTER_READY);
        reading.answered(&response, now);
        let pass = pass.take().expect(POLLED_AFTER_READY);
        response.map(|body| HeldBody::new(body, pass, now))
    }
}

/// Were an `http::Response` the only answer that can be held, the compiler would
/// expect one of every service, and call any other a type mismatch instead of
/// saying what [`Hold`] has to say.
impl<P> Hold<sealed::Nothing, P> for UntilBodyEnd {
    type Held = sealed::Nothing;

    fn hold(nothing: sealed::Nothing, _: &mut Option<P>, _: &mut Now) -> sealed::Nothing {
        nothing
    }
}

impl<Res, P: PassFor<Res>> Hold<Res, P> for UntilResponse {
    type Held = Res;

    #[inline(always)]
    fn hold(response: Res, pass: &mut Option<P>, now: &mut Now) -> Res {
        let reading = pass.as_mut().expect(POLLED_AFTER_READY);
        reading.completed(&response, now);
        // It ends where it is, since it is large to move.
        *pass = None;
        response
    }
}

mod sealed {
    pub trait Sealed {}

    /// No service answers it.
    #[derive(Debug)]
    pub enum Nothing {}

    impl Sealed for super::UntilBodyEnd {}
    impl Sealed for super::UntilResponse {}
}
