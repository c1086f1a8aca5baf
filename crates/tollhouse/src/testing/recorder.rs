//! A gate that lets everybody pass and notes when.

use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;
use tower_layer::Layer;

use crate::answer::{Cost, End};
use crate::error::Refused;
use crate::gate::{Gate, Launch, Now, Pass, PassFor};
use crate::gated::{Gated, UntilBodyEnd, UntilResponse};

/// A service whose calls are noted; made by [`Recorder`].
pub type Recorded<S, C = Free, H = UntilBodyEnd> = Gated<S, Recorder<C, H>, H>;

/// Notes when each call was launched and when it ended, a stream with its last
/// byte, and can be asked whether a limit was kept.
///
/// The `assert_` methods panic at the line that calls them, name the calls and
/// instants that broke the limit, and panic too where no call was noted: an
/// empty record proves nothing.
///
/// # Ordering
///
/// Put it directly around the provider. Outside of a gate it would note when
/// calls came to the gate.
///
/// # Cloning
///
/// Clones, and all services made from them, keep one record.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tollhouse::StaggerLayer;
/// use tollhouse::testing::{Recorder, Reply, ScriptedProvider};
/// use tower::{Layer, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let provider = ScriptedProvider::new(|_, _: &&str| Reply::ok("fine"));
/// let recorder = Recorder::new().until_response();
/// let client = StaggerLayer::new(Duration::from_secs(15)).layer(recorder.layer(provider));
///
/// for _ in 0..3 {
///     client.clone().oneshot("Why?").await?;
/// }
/// recorder.assert_spaced_by(Duration::from_secs(15));
/// assert_eq!(recorder.launches().last(), Some(&Duration::from_secs(30)));
/// # Ok(())
/// # }
/// ```
pub struct Recorder<C = Free, H = UntilBodyEnd> {
    record: Arc<Record>,
    cost: C,
    hold: PhantomData<fn() -> H>,
}

impl Recorder {
    /// An empty record. Its instants count from now.
    ///
    /// # Examples
    ///
    /// Around a provider whose answers are `http::Response`s:
    ///
    /// ```
    /// use http::Response;
    /// use std::time::Duration;
    /// use tollhouse::testing::{Recorder, Reply, ScriptedProvider};
    /// use tower::{Layer, ServiceExt};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let provider = ScriptedProvider::new(|_, _: &()| Reply::ok(Response::new("Hi".to_owned())));
    /// let recorder = Recorder::new();
    /// let answer = recorder.layer(provider).oneshot(()).await?;
    /// tokio::time::sleep(Duration::from_secs(2)).await;
    /// drop(answer);
    /// assert_eq!(recorder.calls()[0].ended, Some(Duration::from_secs(2)));
    /// # Ok(())
    /// # }
    /// ```
    #[expect(clippy::new_without_default, reason = "it starts a clock")]
    pub fn new() -> Self {
        Recorder {
            record: Arc::new(Record {
                start: Instant::now(),
                notes: Mutex::default(),
            }),
            cost: Free,
            hold: PhantomData,
        }
    }
}

impl<C, H> Recorder<C, H> {
    /// What each request costs, for
    /// [`assert_tokens_at_most`](Self::assert_tokens_at_most).
    ///
    /// # Examples
    ///
    /// ```
    /// use tollhouse::testing::{Recorder, Reply, ScriptedProvider};
    /// use tower::{Layer, ServiceExt};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let recorder = Recorder::new()
    ///     .cost(|tokens: &u64| *tokens)
    ///     .until_response();
    /// let provider = ScriptedProvider::new(|_, _: &u64| Reply::ok("fine"));
    /// recorder.layer(provider).oneshot(700).await?;
    /// assert_eq!(recorder.calls()[0].cost, 700);
    /// # Ok(())
    /// # }
    /// ```
    pub fn cost<D>(self, cost: D) -> Recorder<D, H> {
        Recorder {
            record: self.record,
            cost,
            hold: PhantomData,
        }
    }

    /// A call ends with its response instead of its body's end; needed where
    /// responses are not `http::Response`s.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tollhouse::testing::{Recorder, Reply, ScriptedProvider};
    /// use tower::{Layer, ServiceExt};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let provider =
    ///     ScriptedProvider::new(|_, _: &&str| Reply::ok("fine").after(Duration::from_secs(2)));
    /// let recorder = Recorder::new().until_response();
    /// recorder.layer(provider).oneshot("Why?").await?;
    /// assert_eq!(recorder.calls()[0].ended, Some(Duration::from_secs(2)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn until_response(self) -> Recorder<C, UntilResponse> {
        Recorder {
            record: self.record,
            cost: self.cost,
            hold: PhantomData,
        }
    }

    /// Every call so far, in the order of their launches.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tollhouse::testing::{Recorder, Reply, ScriptedProvider};
    /// use tower::{Layer, ServiceExt};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let provider =
    ///     ScriptedProvider::new(|_, _: &&str| Reply::ok("fine").after(Duration::from_secs(2)));
    /// let recorder = Recorder::new().until_response();
    /// let client = recorder.layer(provider);
    /// tokio::try_join!(client.clone().oneshot("Why?"), client.oneshot("How?"))?;
    /// assert!(
    ///     recorder
    ///         .calls()
    ///         .iter()
    ///         .all(|call| call.ended == Some(Duration::from_secs(2)))
    /// );
    /// # Ok(())
    /// # }
    /// ```
    pub fn calls(&self) -> Vec<Call> {
        self.record.lock().calls.clone()
    }

    /// When each call was launched, since the recorder was made.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tollhouse::ConcurrencyLayer;
    /// use tollhouse::testing::{Recorder, Reply, ScriptedProvider};
    /// use tower::{Layer, ServiceExt};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let provider =
    ///     ScriptedProvider::new(|_, _: &&str| Reply::ok("fine").after(Duration::from_secs(2)));
    /// let recorder = Recorder::new().until_response();
    /// let client = ConcurrencyLayer::new(1)
    ///     .until_response()
    ///     .layer(recorder.layer(provider));
    /// tokio::try_join!(client.clone().oneshot("Why?"), client.oneshot("How?"))?;
    /// assert_eq!(
    ///     recorder.launches(),
    ///     [Duration::ZERO, Duration::from_secs(2)]
    /// );
    /// # Ok(())
    /// # }
    /// ```
    pub fn launches(&self) -> Vec<Duration> {
        let notes = self.record.lock();
        notes.calls.iter().map(|call| call.launched).collect()
    }
}

/// One call, as a [`Recorder`] saw it. Instants count from the making of the
/// recorder.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tollhouse::testing::{Recorder, Reply, ScriptedProvider};
/// use tower::{Layer, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let provider = ScriptedProvider::new(|_, _: &u64| Reply::ok("fine"));
/// let recorder = Recorder::new()
///     .cost(|tokens: &u64| *tokens)
///     .until_response();
/// recorder.layer(provider).oneshot(700).await?;
///
/// let call = &recorder.calls()[0];
/// assert_eq!(call.launched, Duration::ZERO);
/// assert_eq!(call.ended, Some(Duration::ZERO));
/// assert_eq!((call.cost, call.in_flight), (700, 1));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Call {
    /// When it was launched.
    pub launched: Duration,
    /// When it ended: with the last byte of its answer, with an error, or
    /// because the caller left. `None` while it is in flight.
    pub ended: Option<Duration>,
    /// What it cost, in tokens.
    pub cost: u64,
    /// How many calls were in flight just after its launch, itself included.
    pub in_flight: usize,
    /// How many calls had been launched when it ended: at one instant, the
    /// order tells who was in flight with whom.
    pub(super) launched_before_end: Option<usize>,
}

/// What nobody counts: every request costs 0.
///
/// # Examples
///
/// ```
/// use tollhouse::Cost;
/// use tollhouse::testing::Free;
///
/// assert_eq!(Free.cost(&"How deep is the sea?"), 0);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Free;

impl<Req> Cost<Req> for Free {
    fn cost(&self, _: &Req) -> u64 {
        0
    }
}

struct Record {
    start: Instant,
    notes: Mutex<Notes>,
}

#[derive(Default)]
struct Notes {
    calls: Vec<Call>,
    in_flight: usize,
}

impl Record {
    /// A failed assertion leaves the notes whole.
    fn lock(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn since_start(&self, now: &mut Now) -> Duration {
        now.instant().saturating_duration_since(self.start)
    }

    /// Notes a launch; says which it was.
    fn launch(&self, cost: u64, now: &mut Now) -> usize {
        let launched = self.since_start(now);
        let mut notes = self.lock();
        notes.in_flight += 1;
        let call = Call {
            launched,
            ended: None,
            cost,
            in_flight: notes.in_flight,
            launched_before_end: None,
        };
        notes.calls.push(call);
        notes.calls.len() - 1
    }

    fn end(&self, call: usize, now: &mut Now) {
        let ended = self.since_start(now);
        let notes = &mut *self.lock();
        let launched = notes.calls.len();
        let call = &mut notes.calls[call];
        call.ended = Some(ended);
        call.launched_before_end = Some(launched);
        notes.in_flight -= 1;
    }
}

impl<S, C: Clone, H> Layer<S> for Recorder<C, H> {
    type Service = Recorded<S, C, H>;

    fn layer(&self, inner: S) -> Self::Service {
        Gated::new(inner, self.clone(), Launch::ToWire)
    }
}

impl<Req, Res, C: Cost<Req>, H> Gate<Req, Res> for Recorder<C, H> {
    type Pass = Trace;

    fn pass(&self, request: &Req) -> Trace {
        Trace {
            record: Arc::clone(&self.record),
            cost: self.cost.cost(request),
            stage: Stage::Waiting,
        }
    }
}

/// A call on its way into the record.
///
/// The [pass](Gate::pass) of a [`Recorder`].
pub struct Trace {
    record: Arc<Record>,
    cost: u64,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing to note yet.
    Waiting,
    /// The call of this number.
    InFlight(usize),
    Ended,
}

impl Trace {
    fn launch(&mut self, now: &mut Now) {
        if self.stage == Stage::Waiting {
            self.stage = Stage::InFlight(self.record.launch(self.cost, now));
        }
    }

    fn end(&mut self, now: &mut Now) {
        if let Stage::InFlight(call) = self.stage {
            self.stage = Stage::Ended;
            self.record.end(call, now);
        }
    }
}

impl Pass for Trace {
    fn poll_admitted(&mut self, _: &mut Context<'_>, _: &mut Now) -> Poll<Result<(), Refused>> {
        Poll::Ready(Ok(()))
    }

    fn launched(&mut self, _: Launch, now: &mut Now) {
        self.launch(now);
    }

    fn chunk(&mut self, _: &[u8]) {}

    fn ended(&mut self, _: End, now: &mut Now) {
        self.end(now);
    }
}

impl<Res> PassFor<Res> for Trace {
    fn answered(&mut self, _: &Res, now: &mut Now) {
        self.launch(now);
    }
}

/// Whoever leaves, or meets an error, ends the call.
impl Drop for Trace {
    fn drop(&mut self) {
        self.end(&mut Now::unread());
    }
}

impl<C: Clone, H> Clone for Recorder<C, H> {
    fn clone(&self) -> Self {
        Recorder {
            record: Arc::clone(&self.record),
            cost: self.cost.clone(),
            hold: PhantomData,
        }
    }
}

impl<C, H> fmt::Debug for Recorder<C, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder")
            .field("calls", &self.record.lock().calls.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace")
            .field("cost", &self.cost)
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}
