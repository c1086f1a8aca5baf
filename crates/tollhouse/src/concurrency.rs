//! So many calls at once, streams until their last byte.
//!
//! [`ConcurrencyLayer`] hands out slots, first come, first served. Unlike
//! tower's own `ConcurrencyLimit`, readiness holds no slot, so an idle ready
//! clone starves nobody; and a slot lasts until the end of the answer's body.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower_layer::Layer;

use crate::answer::End;
use crate::ask::Ask;
use crate::charge::Charge;
use crate::error::Refused;
use crate::gate::{Gate, Launch, Now, Pass, PassFor};
use crate::gated::{By, Gated, UntilBodyEnd, UntilResponse};
use crate::queue::{Bounds, Queue, Ticket};
use crate::rules::Slots;

/// A service with a bounded number of calls in flight; made by
/// [`ConcurrencyLayer`].
pub type Concurrency<S, H = UntilBodyEnd> = Gated<S, ConcurrencyLayer<H>, H>;

/// Lets at most `max` calls be in flight.
///
/// # Cloning
///
/// Clones of the layer, and all services made from them, share its slots.
///
/// # Cancellation
///
/// A call that is dropped while it waits leaves the line; one that is dropped
/// in flight frees its slot at once.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tollhouse::ConcurrencyLayer;
/// use tokio::time::{Instant, sleep};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let slow = service_fn(|_: ()| async {
///     sleep(Duration::from_secs(1)).await;
///     Ok::<_, std::io::Error>(())
/// });
/// let two_at_once = ConcurrencyLayer::new(2).until_response().layer(slow);
///
/// let start = Instant::now();
/// let call = || two_at_once.clone().oneshot(());
/// let _ = tokio::join!(call(), call(), call(), call());
/// assert_eq!(start.elapsed(), Duration::from_secs(2));
/// # }
/// ```
pub struct ConcurrencyLayer<H = UntilBodyEnd> {
    queue: Arc<Queue<Slots>>,
    hold: PhantomData<fn() -> H>,
}

impl ConcurrencyLayer {
    /// `max` slots, held until the end of each answer's body.
    ///
    /// # Panics
    ///
    /// If `max` is 0.
    ///
    /// # Examples
    ///
    /// ```
    /// use http::Response;
    /// use http_body_util::BodyExt;
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
    ///
    /// let answer = client.oneshot(()).await?;
    /// assert_eq!(slots.in_flight(), 1, "its body is not read yet");
    /// let body = answer.into_body().collect().await?.to_bytes();
    /// assert_eq!(body, "Eleven kilometers.");
    /// assert_eq!(slots.in_flight(), 0);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn new(max: usize) -> Self {
        Self::bounded(max, usize::MAX)
    }

    /// `max` slots, and at most `waiting` calls in line for them: one more is
    /// refused at once with [`Refused::Overloaded`].
    ///
    /// The wait that the refusal speaks of is the line's length, the refused call
    /// with it, times the mean time between its latest moves; zero where it has not
    /// moved twice yet.
    ///
    /// # Panics
    ///
    /// If `max` is 0.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use std::time::Duration;
    /// use tokio::time::sleep;
    /// use tollhouse::{ConcurrencyLayer, Refused};
    /// use tower::{Layer, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let client = ConcurrencyLayer::bounded(1, 1)
    ///     .until_response()
    ///     .layer(service_fn(async |_: ()| {
    ///         sleep(Duration::from_secs(2)).await;
    ///         Ok::<_, Infallible>(())
    ///     }));
    ///
    /// let call = || client.clone().oneshot(());
    /// let (first, second, third) = tokio::join!(call(), call(), call());
    /// assert!(first.is_ok() && second.is_ok());
    /// let error = third.unwrap_err();
    /// assert!(matches!(
    ///     error.refused(),
    ///     Some(Refused::Overloaded { waiting: 1, .. })
    /// ));
    /// # }
    /// ```
    #[track_caller]
    pub fn bounded(max: usize, waiting: usize) -> Self {
        let bounds = Bounds {
            waiting,
            ..Bounds::NONE
        };
        ConcurrencyLayer {
            queue: Queue::new(Slots::new(max), bounds),
            hold: PhantomData,
        }
    }

    /// Names the policy that these slots belong to, as metrics tell it; once.
    ///
    /// # Examples
    ///
    /// With the feature `metrics`, and a recorder such as Prometheus's:
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # #[cfg(feature = "metrics")] {
    /// use metrics_exporter_prometheus::PrometheusBuilder;
    /// use std::convert::Infallible;
    /// use tollhouse::ConcurrencyLayer;
    /// use tower::{Layer, ServiceExt, service_fn};
    ///
    /// let recorder = PrometheusBuilder::new().build_recorder();
    /// let _guard = metrics::set_default_local_recorder(&recorder);
    ///
    /// let slots = ConcurrencyLayer::new(3).name("batch").until_response();
    /// let client = slots.layer(service_fn(async |_: ()| Ok::<_, Infallible>(())));
    /// client.oneshot(()).await?;
    /// let told = recorder.handle().render();
    /// assert!(told.contains(r#"tollhouse_slots{policy="batch"} 3"#));
    /// # }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn name(self, policy: &str) -> Self {
        self.queue.set_names(Some(policy), None);
        self
    }

    /// Frees the slot with the response instead of its body's end; needed
    /// where responses are not `http::Response`s.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use tollhouse::ConcurrencyLayer;
    /// use tower::{Layer, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = ConcurrencyLayer::new(3)
    ///     .until_response()
    ///     .layer(service_fn(async |n: u64| Ok::<_, Infallible>(n + 1)));
    /// assert_eq!(client.oneshot(1).await?, 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn until_response(self) -> ConcurrencyLayer<UntilResponse> {
        ConcurrencyLayer {
            queue: self.queue,
            hold: PhantomData,
        }
    }
}

impl<H> ConcurrencyLayer<H> {
    /// Is fair between callers: `who` says of each request who asks, as a
    /// [`Caller`](crate::Caller), or as an [`Ask`] with a deadline or a first arrival.
    /// While callers wait, each gets slots in proportion to its weight. Comes last.
    ///
    /// # Examples
    ///
    /// ```
    /// use tollhouse::{Caller, ConcurrencyLayer};
    ///
    /// let slots = ConcurrencyLayer::new(3).by(|request: &http::Request<()>| {
    ///     match request.headers().contains_key("x-interactive") {
    ///         true => Caller::new("web").weight(8),
    ///         false => Caller::new("batch"),
    ///     }
    /// });
    /// assert_eq!(slots.get_ref().waiting(), 0);
    /// ```
    pub fn by<F>(self, who: F) -> By<Self, F> {
        By::new(self, who)
    }

    /// How many calls hold a slot.
    pub fn in_flight(&self) -> usize {
        self.queue.read(|slots, _| slots.taken())
    }

    /// Changes how many calls may be in flight, for all clones. Whoever waits sees it
    /// at once; where more are in flight already, they go on, and nobody follows until
    /// enough of them are done.
    ///
    /// # Panics
    ///
    /// If `max` is 0.
    #[track_caller]
    pub fn set_max(&self, max: usize) {
        assert!(max > 0, "a concurrency limit must be at least 1, not 0");
        self.queue
            .update(&mut Now::unread(), |slots, _| slots.set_max(Some(max)));
    }

    /// How many calls wait for a slot.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tollhouse::ConcurrencyLayer;
    /// use tower::{Layer, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let slots = ConcurrencyLayer::new(3).until_response();
    /// let client = slots.layer(service_fn(async |_: ()| {
    ///     tokio::time::sleep(Duration::from_secs(2)).await;
    ///     Ok::<_, std::io::Error>(())
    /// }));
    /// for _ in 0..5 {
    ///     tokio::spawn(client.clone().oneshot(()));
    /// }
    /// tokio::time::sleep(Duration::from_secs(1)).await;
    /// assert_eq!((slots.in_flight(), slots.waiting()), (3, 2));
    /// # }
    /// ```
    pub fn waiting(&self) -> usize {
        self.queue.read(|_, ahead| ahead.waiting)
    }

    /// Turns away whoever waits and whoever comes from now on, with
    /// [`Refused::Closed`]; calls in flight go on.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use tollhouse::{ConcurrencyLayer, Refused};
    /// use tower::{Layer, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let slots = ConcurrencyLayer::new(3).until_response();
    /// let client = slots.layer(service_fn(async |_: ()| Ok::<_, Infallible>(())));
    ///
    /// slots.close();
    /// let error = client.oneshot(()).await.unwrap_err();
    /// assert_eq!(error.refused(), Some(&Refused::Closed));
    /// # }
    /// ```
    pub fn close(&self) {
        self.queue.close();
    }

    /// Waits until no call is in flight and none waits. After
    /// [`close`](Self::close) that is the end of a shutdown; put a timeout
    /// around it for the deadline.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tokio::time::{Instant, sleep, timeout};
    /// use tollhouse::ConcurrencyLayer;
    /// use tower::{Layer, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let slots = ConcurrencyLayer::new(3).until_response();
    /// let client = slots.layer(service_fn(async |_: ()| {
    ///     sleep(Duration::from_secs(7)).await;
    ///     Ok::<_, std::io::Error>(())
    /// }));
    /// let start = Instant::now();
    /// tokio::spawn(client.oneshot(()));
    /// tokio::task::yield_now().await;
    ///
    /// slots.close();
    /// timeout(Duration::from_secs(30), slots.idle()).await?;
    /// assert_eq!(start.elapsed(), Duration::from_secs(7));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn idle(&self) {
        self.queue.idle().await;
    }
}

impl<S, H> Layer<S> for ConcurrencyLayer<H> {
    type Service = Concurrency<S, H>;

    fn layer(&self, inner: S) -> Self::Service {
        Gated::new(inner, self.clone(), Launch::ToService)
    }
}

impl<S, H, F: Clone> Layer<S> for By<ConcurrencyLayer<H>, F> {
    type Service = Gated<S, Self, H>;

    fn layer(&self, inner: S) -> Self::Service {
        Gated::new(inner, self.clone(), Launch::ToService)
    }
}

impl<H> Clone for ConcurrencyLayer<H> {
    fn clone(&self) -> Self {
        ConcurrencyLayer {
            queue: Arc::clone(&self.queue),
            hold: PhantomData,
        }
    }
}

impl<H> fmt::Debug for ConcurrencyLayer<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ConcurrencyLayer")
            .field(&self.queue)
            .finish()
    }
}

impl<Req, Res, H> Gate<Req, Res> for ConcurrencyLayer<H> {
    type Pass = Slot;

    fn pass(&self, request: &Req) -> Slot {
        Gate::<Req, Res>::pass_as(self, request, Ask::default())
    }

    fn pass_as(&self, _: &Req, ask: Ask) -> Slot {
        let ask = ask.charge(Charge::default());
        Slot(Ticket::new(Arc::clone(&self.queue), ask))
    }

    fn is_at_rest(&self) -> bool {
        Arc::strong_count(&self.queue) == 1
            && !self.queue.is_closed()
            && self.in_flight() == 0
            && self.waiting() == 0
    }
}

/// A call's slot.
///
/// The [pass](Gate::pass) of a [`ConcurrencyLayer`]. See [`Pass`] for one that is
/// used by hand.
#[derive(Debug)]
pub struct Slot(Ticket<Slots>);

impl Pass for Slot {
    #[inline]
    fn poll_admitted(&mut self, cx: &mut Context<'_>, now: &mut Now) -> Poll<Result<(), Refused>> {
        self.0.poll_admitted(cx, now)
    }

    fn never(&mut self, now: &mut Now) -> Option<Refused> {
        self.0.never(now)
    }

    /// A slot does not care when its call is launched.
    fn launched(&mut self, _: Launch, _: &mut Now) {}

    fn chunk(&mut self, _: &[u8]) {}

    #[inline]
    fn ended(&mut self, _: End, now: &mut Now) {
        self.0.give_back(now);
    }
}

impl<Res> PassFor<Res> for Slot {
    fn answered(&mut self, _: &Res, _: &mut Now) {}
}
