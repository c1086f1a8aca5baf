//! So long between two launches.
//!
//! [`StaggerLayer`] spaces calls out: whoever comes too early waits, first
//! come, first served. The interval counts from launch to launch.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tower_layer::Layer;

use crate::answer::End;
use crate::ask::Ask;
use crate::charge::Charge;
use crate::error::Refused;
use crate::gate::{Gate, Launch, Now, Pass, PassFor};
use crate::gated::{By, Gated, UntilResponse};
use crate::queue::{Bounds, Queue, Ticket};
use crate::rules::Random;
use crate::rules::{Charged, Rule, Spacing};

/// A service whose calls are spaced out; made by [`StaggerLayer`].
pub type Stagger<S> = Gated<S, StaggerLayer, UntilResponse>;

/// Lets a call start no sooner than an interval after the one before.
///
/// It holds nothing while a call is in flight, so it works with any response.
///
/// # Cloning
///
/// Clones of the layer, and all services made from them, share its spacing.
///
/// # Cancellation
///
/// A call that is dropped while it waits leaves no gap: the next one takes its
/// place.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tollhouse::StaggerLayer;
/// use tokio::time::Instant;
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let service = service_fn(|_: ()| async { Ok::<_, std::io::Error>(Instant::now()) });
/// let spaced = StaggerLayer::new(Duration::from_secs(15)).layer(service);
///
/// let call = || spaced.clone().oneshot(());
/// let (first, second, third) = tokio::join!(call(), call(), call());
/// let first = first.unwrap();
/// assert_eq!(second.unwrap() - first, Duration::from_secs(15));
/// assert_eq!(third.unwrap() - first, Duration::from_secs(30));
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct StaggerLayer {
    queue: Arc<Queue<Spacing>>,
}

impl StaggerLayer {
    /// At least `interval` between two launches; zero switches it off.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use std::time::Duration;
    /// use tokio::time::Instant;
    /// use tollhouse::StaggerLayer;
    /// use tower::{Layer, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let start = Instant::now();
    /// for (interval, elapsed) in [(Duration::ZERO, 0), (Duration::from_secs(15), 30)] {
    ///     let client = StaggerLayer::new(interval)
    ///         .layer(service_fn(async |_: ()| Ok::<_, Infallible>(())));
    ///     for _ in 0..3 {
    ///         client.clone().oneshot(()).await?;
    ///     }
    ///     assert_eq!(start.elapsed(), Duration::from_secs(elapsed));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(interval: Duration) -> Self {
        Self::with(Spacing::new(interval, 0.0, Random::from_entropy()))
    }

    /// Lengthens each interval at random by up to `fraction` of it, to keep
    /// several processes from marching in step. The interval is never
    /// shortened. **Starts a spacing of its own**, without the name and whatever was
    /// launched so far: a clone made before goes on with the old one, apart from
    /// this. So set it right after [`new`](Self::new).
    ///
    /// # Panics
    ///
    /// If `fraction` is not from 0 to 1.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use std::time::Duration;
    /// use tokio::time::Instant;
    /// use tollhouse::StaggerLayer;
    /// use tower::{Layer, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = StaggerLayer::new(Duration::from_secs(10))
    ///     .jitter(0.5)
    ///     .layer(service_fn(
    ///         async |_: ()| Ok::<_, Infallible>(Instant::now()),
    ///     ));
    ///
    /// let first = client.clone().oneshot(()).await?;
    /// let second = client.oneshot(()).await?;
    /// assert!((10..=15).contains(&(second - first).as_secs()));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    #[track_caller]
    pub fn jitter(self, fraction: f64) -> Self {
        let interval = self.queue.read(|spacing, _| spacing.interval());
        Self::with(Spacing::new(interval, fraction, Random::from_entropy()))
    }

    /// Names the policy that this spacing belongs to, as metrics tell it; once.
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
    /// use std::time::Duration;
    /// use tollhouse::StaggerLayer;
    /// use tower::{Layer, ServiceExt, service_fn};
    ///
    /// let recorder = PrometheusBuilder::new().build_recorder();
    /// let _guard = metrics::set_default_local_recorder(&recorder);
    ///
    /// let spacing = StaggerLayer::new(Duration::from_secs(15)).name("batch");
    /// let client = spacing.layer(service_fn(async |_: ()| Ok::<_, Infallible>(())));
    /// client.oneshot(()).await?;
    /// let told = recorder.handle().render();
    /// assert!(told.contains(r#"tollhouse_waiting{policy="batch",gate="stagger"} 0"#));
    /// # }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn name(self, policy: &str) -> Self {
        self.queue.set_names(Some(policy), None);
        self
    }

    /// Changes the interval, for all clones; zero switches it off. Whoever waits keeps
    /// the new distance from the last launch, at once.
    pub fn set_interval(&self, interval: Duration) {
        self.queue.update(&mut Now::unread(), |spacing, now| {
            spacing.set_interval(interval, spacing.jitter(), now);
        });
    }

    /// Is fair between callers: `who` says of each request who asks, as a
    /// [`Caller`](crate::Caller), or as an [`Ask`] with a deadline or a first arrival.
    /// While callers wait, each gets turns in proportion to its weight. Comes last.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tollhouse::{Caller, StaggerLayer};
    ///
    /// let spacing = StaggerLayer::new(Duration::from_secs(15))
    ///     .by(|request: &(&'static str, String)| Caller::new(request.0));
    /// assert_eq!(spacing.get_ref().waiting(), 0);
    /// ```
    pub fn by<F>(self, who: F) -> By<Self, F> {
        By::new(self, who)
    }

    fn with(spacing: Spacing) -> Self {
        StaggerLayer {
            queue: Queue::new(spacing, Bounds::NONE),
        }
    }

    /// How many calls wait.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use std::time::Duration;
    /// use tollhouse::StaggerLayer;
    /// use tower::{Layer, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let spacing = StaggerLayer::new(Duration::from_secs(15));
    /// let client = spacing.layer(service_fn(async |_: ()| Ok::<_, Infallible>(())));
    /// for _ in 0..5 {
    ///     tokio::spawn(client.clone().oneshot(()));
    /// }
    /// // Three were launched by now, at 0 s, 15 s and 30 s.
    /// tokio::time::sleep(Duration::from_secs(31)).await;
    /// assert_eq!(spacing.waiting(), 2);
    /// # }
    /// ```
    pub fn waiting(&self) -> usize {
        self.queue.read(|_, ahead| ahead.waiting)
    }

    /// Turns away whoever waits and whoever comes from now on, with
    /// [`Refused::Closed`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use std::time::Duration;
    /// use tollhouse::{Refused, StaggerLayer};
    /// use tower::{Layer, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let spacing = StaggerLayer::new(Duration::from_secs(15));
    /// let client = spacing.layer(service_fn(async |_: ()| Ok::<_, Infallible>(())));
    /// client.clone().oneshot(()).await?;
    /// let waits = tokio::spawn(client.oneshot(()));
    /// tokio::task::yield_now().await;
    ///
    /// spacing.close();
    /// let error = waits.await?.unwrap_err();
    /// assert_eq!(error.refused(), Some(&Refused::Closed));
    /// # Ok(())
    /// # }
    /// ```
    pub fn close(&self) {
        self.queue.close();
    }
}

impl<S> Layer<S> for StaggerLayer {
    type Service = Stagger<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Gated::new(inner, self.clone(), Launch::ToService)
    }
}

impl<S, F: Clone> Layer<S> for By<StaggerLayer, F> {
    type Service = Gated<S, Self, UntilResponse>;

    fn layer(&self, inner: S) -> Self::Service {
        Gated::new(inner, self.clone(), Launch::ToService)
    }
}

impl<Req, Res> Gate<Req, Res> for StaggerLayer {
    type Pass = Turn;

    fn pass(&self, request: &Req) -> Turn {
        Gate::<Req, Res>::pass_as(self, request, Ask::default())
    }

    fn pass_as(&self, _: &Req, ask: Ask) -> Turn {
        let ask = ask.charge(Charge::default());
        Turn(Ticket::new(Arc::clone(&self.queue), ask))
    }

    fn is_at_rest(&self) -> bool {
        Arc::strong_count(&self.queue) == 1
            && !self.queue.is_closed()
            && self.queue.read(|spacing, ahead| {
                ahead.waiting == 0 && spacing.next(Now::unread().get()).is_none()
            })
    }
}

/// A call's turn to launch.
///
/// The [pass](Gate::pass) of a [`StaggerLayer`]. See [`Pass`] for one that is used by
/// hand.
#[derive(Debug)]
pub struct Turn(Ticket<Spacing>);

impl Pass for Turn {
    #[inline]
    fn poll_admitted(&mut self, cx: &mut Context<'_>, now: &mut Now) -> Poll<Result<(), Refused>> {
        self.0.poll_admitted(cx, now)
    }

    fn never(&mut self, now: &mut Now) -> Option<Refused> {
        self.0.never(now)
    }

    #[inline]
    fn launched(&mut self, to: Launch, now: &mut Now) {
        self.0.launch(to, now);
    }

    fn chunk(&mut self, _: &[u8]) {}

    #[inline]
    fn ended(&mut self, end: End, now: &mut Now) {
        match end {
            End::NeverSent => self.0.unsend(now),
            _ => self.0.give_back(now),
        }
    }
}

impl<Res> PassFor<Res> for Turn {
    fn answered(&mut self, _: &Res, now: &mut Now) {
        if self.0.held().is_some_and(|turn| !turn.is_launched()) {
            self.0.launch(Launch::ToWire, now);
        }
    }

    #[inline]
    fn completed(&mut self, _: &Res, now: &mut Now) {
        self.0.finish(now, |spacing, turn, now| {
            spacing.launch(&turn, Launch::ToWire, now);
            Charged::Whole
        });
    }
}
