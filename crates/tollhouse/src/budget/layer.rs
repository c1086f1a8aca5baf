use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower_layer::Layer;

use super::TokenBudget;
use crate::answer::{
    Cost, End, Meter, Observation, Observe, RateLimits, Unmetered, Unobserved, Usage,
};
use crate::ask::Ask;
use crate::error::Refused;
use crate::gate::{Gate, Launch, Now, Pass, PassFor};
use crate::gated::{By, Gated, UntilBodyEnd, UntilResponse};
use crate::queue::Ticket;
use crate::rules::Pool;

/// A service whose calls are paid for from a budget; made by
/// [`TpmBudgetLayer`].
pub type TpmBudget<S, C, U = Unmetered, O = Unobserved, H = UntilBodyEnd> =
    Gated<S, TpmBudgetLayer<C, U, O, H>, H>;

/// Reserves the cost of every call from a [`TokenBudget`] before it is sent.
///
/// # Ordering
///
/// Stacked with `ServiceBuilder`, this gate counts a request as launched, and
/// its charge as standing, once the next service was called, even if that is a
/// gate that keeps it waiting; and the request counts as in transit until the
/// head of its answer. Fused by a [`GateLayer`](crate::GateLayer), it knows
/// the true moment.
///
/// # Cloning
///
/// Clones of the layer, and all services made from them, share the budget.
///
/// # Cancellation
///
/// A call that is dropped before its launch gets everything back; after it,
/// the charge stands.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tollhouse::{TokenBudget, TpmBudgetLayer};
/// use tokio::time::Instant;
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let budget = TokenBudget::per_minute(6_000).build()?;
/// let layer = TpmBudgetLayer::new(budget.clone(), |prompt: &String| prompt.len() as u64)
///     .usage(|answer: &u64| Some(*answer))
///     .until_response();
///
/// // A service that says what it used: more than was reserved.
/// let costly = service_fn(|_: String| async { Ok::<_, std::io::Error>(6_100) });
/// layer.layer(costly).oneshot("x".repeat(6_000)).await?;
/// assert_eq!(budget.snapshot().level, -100);
/// # Ok(())
/// # }
/// ```
pub struct TpmBudgetLayer<C, U = Unmetered, O = Unobserved, H = UntilBodyEnd> {
    budget: TokenBudget,
    cost: C,
    usage: U,
    observe: O,
    hold: PhantomData<fn() -> H>,
}

impl<C> TpmBudgetLayer<C> {
    /// Takes from `budget` what `cost` says of each request; any
    /// `Fn(&Req) -> u64` is a [`Cost`]. The reserved cost stands unless
    /// [`usage`](Self::usage) is given.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use tollhouse::{TokenBudget, TpmBudgetLayer};
    /// use tower::{Layer, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let budget = TokenBudget::per_minute(30_000).build()?;
    /// let client = TpmBudgetLayer::new(budget.clone(), |prompt: &&str| prompt.len() as u64)
    ///     .until_response()
    ///     .layer(service_fn(async |_: &str| Ok::<_, Infallible>(())));
    /// client.oneshot("How deep is the sea?").await?;
    /// assert_eq!(budget.snapshot().level, 30_000 - 20);
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(budget: TokenBudget, cost: C) -> Self {
        TpmBudgetLayer {
            budget,
            cost,
            usage: Unmetered,
            observe: Unobserved,
            hold: PhantomData,
        }
    }
}

impl<C, U, O, H> TpmBudgetLayer<C, U, O, H> {
    /// Settles each call with the real usage; any `Fn(&Res) -> Option<u64>`
    /// is a [`Usage`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use tollhouse::{Accounting, TokenBudget, TpmBudgetLayer};
    /// use tower::{Layer, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let budget = TokenBudget::per_minute(30_000)
    ///     .accounting(Accounting::AsUsed)
    ///     .build()?;
    /// let client = TpmBudgetLayer::new(budget.clone(), |_: &()| 7_000)
    ///     .usage(|answer: &u64| Some(*answer))
    ///     .until_response()
    ///     .layer(service_fn(async |_: ()| Ok::<_, Infallible>(1_200)));
    /// client.oneshot(()).await?;
    /// assert_eq!(budget.snapshot().level, 30_000 - 1_200);
    /// # Ok(())
    /// # }
    /// ```
    pub fn usage<V>(self, usage: V) -> TpmBudgetLayer<C, V, O, H> {
        TpmBudgetLayer {
            budget: self.budget,
            cost: self.cost,
            usage,
            observe: self.observe,
            hold: PhantomData,
        }
    }

    /// Learns from the head of each answer what the provider says of the
    /// account; any `Fn(&Res) -> Observation` is an [`Observe`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use tollhouse::{Observation, RateLimits, TokenBudget, TpmBudgetLayer};
    /// use tower::{Layer, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let budget = TokenBudget::per_minute(30_000).build()?;
    /// let client = TpmBudgetLayer::new(budget.clone(), |_: &()| 100)
    ///     .observe(|left: &u64| {
    ///         let remaining_tokens = Some(*left);
    ///         let limits = RateLimits {
    ///             remaining_tokens,
    ///             ..RateLimits::default()
    ///         };
    ///         Observation {
    ///             limits,
    ///             denial: None,
    ///         }
    ///     })
    ///     .until_response()
    ///     .layer(service_fn(async |_: ()| Ok::<_, Infallible>(1_200)));
    /// client.oneshot(()).await?;
    /// assert_eq!(budget.snapshot().level, 1_200);
    /// # Ok(())
    /// # }
    /// ```
    pub fn observe<P>(self, observe: P) -> TpmBudgetLayer<C, U, P, H> {
        TpmBudgetLayer {
            budget: self.budget,
            cost: self.cost,
            usage: self.usage,
            observe,
            hold: PhantomData,
        }
    }

    /// Settles with the response instead of its body's end; needed where
    /// responses are not `http::Response`s.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use tollhouse::{TokenBudget, TpmBudgetLayer};
    /// use tower::{Layer, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let budget = TokenBudget::per_minute(30_000).build()?;
    /// let layer = TpmBudgetLayer::new(budget, |_: &u64| 100).until_response();
    /// let client = layer.layer(service_fn(async |n: u64| Ok::<_, Infallible>(n + 1)));
    /// assert_eq!(client.oneshot(1).await?, 2);
    /// assert_eq!(layer.budget().snapshot().outstanding, 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn until_response(self) -> TpmBudgetLayer<C, U, O, UntilResponse> {
        TpmBudgetLayer {
            budget: self.budget,
            cost: self.cost,
            usage: self.usage,
            observe: self.observe,
            hold: PhantomData,
        }
    }

    /// Is fair between callers: `who` says of each request who asks, as a
    /// [`Caller`](crate::Caller), or as an [`Ask`] with a deadline or a first arrival.
    /// While callers wait, each gets what is spent in proportion to its weight. Comes last.
    ///
    /// # Examples
    ///
    /// ```
    /// use tollhouse::{Caller, TokenBudget, TpmBudgetLayer};
    ///
    /// let budget = TokenBudget::per_minute(30_000).build()?;
    /// let layer = TpmBudgetLayer::new(budget, |prompt: &(&str, u64)| prompt.1)
    ///     .by(|&(who, _): &(&'static str, u64)| Caller::new(who));
    /// assert_eq!(layer.get_ref().budget().snapshot().waiting, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn by<F>(self, who: F) -> By<Self, F> {
        By::new(self, who)
    }

    /// The budget.
    pub fn budget(&self) -> &TokenBudget {
        &self.budget
    }
}

impl<S, C: Clone, U: Clone, O: Clone, H> Layer<S> for TpmBudgetLayer<C, U, O, H> {
    type Service = TpmBudget<S, C, U, O, H>;

    fn layer(&self, inner: S) -> Self::Service {
        Gated::new(inner, self.clone(), Launch::ToService)
    }
}

impl<S, C: Clone, U: Clone, O: Clone, H, F: Clone> Layer<S> for By<TpmBudgetLayer<C, U, O, H>, F> {
    type Service = Gated<S, Self, H>;

    fn layer(&self, inner: S) -> Self::Service {
        Gated::new(inner, self.clone(), Launch::ToService)
    }
}

impl<C: Clone, U: Clone, O: Clone, H> Clone for TpmBudgetLayer<C, U, O, H> {
    fn clone(&self) -> Self {
        TpmBudgetLayer {
            budget: self.budget.clone(),
            cost: self.cost.clone(),
            usage: self.usage.clone(),
            observe: self.observe.clone(),
            hold: PhantomData,
        }
    }
}

impl<C, U, O, H> fmt::Debug for TpmBudgetLayer<C, U, O, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TpmBudgetLayer")
            .field("budget", &self.budget)
            .finish_non_exhaustive()
    }
}

impl<Req, Res, C, U, O, H> Gate<Req, Res> for TpmBudgetLayer<C, U, O, H>
where
    C: Cost<Req>,
    U: Usage<Res> + Clone,
    O: Observe<Res> + Clone,
{
    type Pass = BudgetPass<U, O, U::Meter>;

    #[inline]
    fn pass(&self, request: &Req) -> Self::Pass {
        let ask = Ask::of(self.cost.charge(request));
        BudgetPass::new(&self.budget, ask, self.usage.clone(), self.observe.clone())
    }

    fn pass_as(&self, request: &Req, ask: Ask) -> Self::Pass {
        let ask = ask.charge(self.cost.charge(request));
        BudgetPass::new(&self.budget, ask, self.usage.clone(), self.observe.clone())
    }

    fn is_at_rest(&self) -> bool {
        self.budget.is_at_rest() && !self.budget.has_learned()
    }
}

/// A call's reservation, and what settles it.
///
/// The [pass](Gate::pass) of a [`TpmBudgetLayer`]. See [`Gate`] for a gate of one's
/// own that hands it out, and [`PassFor`] for one that is used by hand.
pub struct BudgetPass<U, O, M> {
    ticket: Ticket<Pool>,
    usage: U,
    observe: O,
    /// Reads the answer, once there is one.
    /// Boxed: it is there once the call is answered, and thousands may wait.
    meter: Option<Box<M>>,
}

impl<U, O, M> BudgetPass<U, O, M> {
    /// Begins the way of a request that asks for so much: a number of tokens, a
    /// [`Charge`](crate::Charge), or an [`Ask`] with all that is to be known of it. For
    /// gates of one's own, whose `usage` is to know more of the request than its cost.
    ///
    /// # Examples
    ///
    /// ```
    /// use tollhouse::budget::BudgetPass;
    /// use tollhouse::gate::{Launch, Now};
    /// use tollhouse::{Pass, PassFor, TokenBudget, Unobserved};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let budget = TokenBudget::per_minute(30_000).build()?;
    /// // The answer tells how long it is itself, and the prompt is known here.
    /// let prompt = 400;
    /// let usage = move |answer: &u64| Some(prompt + answer);
    /// let mut pass: BudgetPass<_, _, Option<u64>> =
    ///     BudgetPass::new(&budget, 1_000, usage, Unobserved);
    ///
    /// pass.admitted().await?;
    /// pass.launched(Launch::ToWire, &mut Now::unread());
    /// pass.completed(&1_100, &mut Now::unread());
    /// assert_eq!(budget.snapshot().level, 30_000 - 1_500);
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(budget: &TokenBudget, ask: impl Into<Ask>, usage: U, observe: O) -> Self {
        BudgetPass {
            ticket: Ticket::new(Arc::clone(&budget.queue), ask.into()),
            usage,
            observe,
            meter: None,
        }
    }
}

impl<U, O, M: Meter> Pass for BudgetPass<U, O, M> {
    #[inline]
    fn poll_admitted(&mut self, cx: &mut Context<'_>, now: &mut Now) -> Poll<Result<(), Refused>> {
        self.ticket.poll_admitted(cx, now)
    }

    fn never(&mut self, now: &mut Now) -> Option<Refused> {
        self.ticket.never(now)
    }

    #[inline]
    fn launched(&mut self, to: Launch, now: &mut Now) {
        self.ticket.launch(to, now);
    }

    #[inline]
    fn chunk(&mut self, data: &[u8]) {
        if let Some(meter) = &mut self.meter {
            meter.chunk(data);
        }
    }

    #[inline]
    fn ended(&mut self, end: End, now: &mut Now) {
        if end == End::NeverSent {
            return self.ticket.unsend(now);
        }
        let (denial, used) = match &mut self.meter.take() {
            Some(meter) => (meter.denial(), meter.charged(end)),
            None => (None, None),
        };
        let told = denial.map(|denial| Observation {
            limits: RateLimits::default(),
            denial: Some(denial),
        });
        self.ticket.finish(now, |pool, held, now| {
            pool.end(held, told.as_ref(), used.as_ref(), now)
        });
    }
}

impl<Res, U, O> PassFor<Res> for BudgetPass<U, O, U::Meter>
where
    U: Usage<Res>,
    O: Observe<Res>,
{
    fn answered(&mut self, response: &Res, now: &mut Now) {
        let told = self.observe.observe(response);
        self.ticket.update(now, |pool, held, now| {
            pool.answered(*held, told.news(), now);
        });
        self.meter = Some(Box::new(self.usage.meter(response)));
    }

    /// Both at once, under one lock.
    fn completed(&mut self, response: &Res, now: &mut Now) {
        let told = self.observe.observe(response);
        let told = told.news();
        let used = self.usage.meter(response).charged(End::Complete);
        self.ticket.finish(now, |pool, held, now| {
            pool.completed(held, told, used.as_ref(), now)
        });
    }
}

impl<U, O, M> fmt::Debug for BudgetPass<U, O, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BudgetPass")
            .field("ticket", &self.ticket)
            .finish_non_exhaustive()
    }
}
