//! The gate before a pool, or before several of which each request has one.

use std::fmt::Debug;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use tollhouse::budget::BudgetPass;
use tollhouse::gate::{Launch, Now};
use tollhouse::{
    Arrival, Ask, Caller, Charge, Deadline, End, Gate, Pass, PassFor, Refused, TokenBudget, Unit,
};

use super::PolicyConfig;
use super::draft::{Draft, Rest};
use super::told::{ToldLimits, Watched};
use crate::call::{Call, CallBody};
use crate::policy::AnswerReader;
use crate::wire::cost::{Estimate, Estimator};
use crate::wire::learned::Learned;
use crate::wire::request::Endpoint;
use crate::wire::usage::{Asked, UsageMeter};

/// Reserves what a request may be charged, and settles with what its answer
/// says was used.
///
/// A [`TpmBudgetLayer`](tollhouse::TpmBudgetLayer) knows a request by its cost
/// alone. This gate asks what was read of the request and keeps what its answer is to be
/// held against: the prompt, which is the least that a call can have used, and
/// the factor that is learned from the real usage.
///
/// # Cloning
///
/// Clones share the budget and what was learned.
///
/// Slots and spacing are the budget's, too: one queue, so that whoever waits holds
/// nothing. `Policy::budget` has it.
#[derive(Clone, Debug)]
pub(crate) struct BudgetGate {
    pub(crate) budget: TokenBudget,
    pub(crate) estimator: Estimator,
    pub(crate) learned: Option<Learned>,
    /// Whether any of its limits is of something else than tokens and requests.
    pub(crate) splits: bool,
}

type OfPool = BudgetPass<Asked, AnswerReader, UsageMeter>;

impl BudgetGate {
    pub(crate) fn new(budget: TokenBudget, config: &PolicyConfig) -> Self {
        BudgetGate {
            budget,
            estimator: config.estimator(),
            learned: config.learn_factor.then(Learned::default),
            splits: config.splits(),
        }
    }

    /// The same budget as another config describes its calls; what was learned of them
    /// stays.
    pub(crate) fn under(&self, config: &PolicyConfig) -> Self {
        let learned = config.learn_factor.then(|| self.learned.clone());
        BudgetGate {
            learned: learned.map(Option::unwrap_or_default),
            ..BudgetGate::new(self.budget.clone(), config)
        }
    }

    /// The budget.
    pub(crate) fn budget(&self) -> &TokenBudget {
        &self.budget
    }

    /// Whether a new one would have to learn from answers what this one knows.
    pub(crate) fn has_learned(&self) -> bool {
        self.budget.has_learned() || self.learned.as_ref().is_some_and(Learned::knows_anything)
    }

    /// Begins the way of one call, for whoever asks.
    pub(crate) fn enter(&self, call: &Call, ask: Ask) -> OfPool {
        self.enter_with_charge(call, ask).0
    }

    /// As [`enter`](Self::enter), and the ask with what the call is charged.
    pub(crate) fn enter_with_charge(&self, call: &Call, ask: Ask) -> (OfPool, Ask) {
        let Some(estimate) = self.estimator.estimate(call.facts()) else {
            let charge = images(call, Charge::tokens(0));
            return self.begin(ask.charge(charge), Asked::default());
        };
        let learned = self.learned.as_ref();
        let tokens = match learned {
            Some(learned) => learned.cost(&estimate, || {
                self.budget.most(Unit::Tokens).unwrap_or(u64::MAX)
            }),
            None => estimate.tokens,
        };
        let charge = match self.splits {
            true => split(&estimate, tokens, call),
            false => Charge::tokens(tokens),
        };
        self.begin(ask.charge(charge), Asked::new(&estimate, learned))
    }

    fn begin(&self, ask: Ask, asked: Asked) -> (OfPool, Ask) {
        let pass = BudgetPass::new(&self.budget, ask.clone(), asked, AnswerReader);
        (pass, ask)
    }
}

/// What a call takes of every unit, as far as that can be told before anything is
/// learned of such calls.
pub(crate) fn charge_of(call: &Call, estimator: &Estimator) -> Charge {
    match estimator.estimate(call.facts()) {
        Some(estimate) => split(&estimate, estimate.tokens, call),
        None => images(call, Charge::tokens(0)),
    }
}

/// What a call takes of every unit.
fn split(estimate: &Estimate<'_>, tokens: u64, call: &Call) -> Charge {
    let input = estimate.prompt.min(tokens);
    let charge = Charge::tokens(tokens)
        .and(Unit::Input, input)
        .and(Unit::Output, tokens - input);
    images(call, charge)
}

/// With the images that a call asks for, one where it cannot be read: providers count
/// what is asked for, so no answer's usage takes from it or adds to it.
fn images(call: &Call, charge: Charge) -> Charge {
    let facts = call.facts();
    match facts.endpoint {
        Endpoint::Images if !facts.is_read => {
            let asked = call.shape().map_or(1, |shape| shape.answers);
            charge.and(Unit::Images, asked)
        }
        _ => charge,
    }
}

/// Tells which pool a call belongs to.
pub(crate) trait FindPool: Debug + Send + Sync {
    /// Begins the way of one call.
    fn enter(&self, call: &Call, headers: &HeaderMap, ask: Ask) -> CallPass;
}

/// Stands before one pool, or before all of an account's.
#[derive(Clone, Debug)]
pub(crate) enum PoolGate {
    /// With what its answers told of their limits.
    One(BudgetGate, Arc<ToldLimits>),
    Each(Arc<dyn FindPool>),
}

impl<Q: CallBody + Clone, B> Gate<Draft<Q>, Response<B>> for PoolGate {
    type Pass = CallPass;

    fn pass(&self, draft: &Draft<Q>) -> CallPass {
        Gate::<_, Response<B>>::pass_as(self, draft, draft.look(ask_of))
    }

    fn pass_as(&self, draft: &Draft<Q>, ask: Ask) -> CallPass {
        let call = draft.look(Call::of);
        let pass = match self {
            PoolGate::One(pool, told) => {
                CallPass::new(pool.enter(&call, ask)).watched(told.watch(&call))
            }
            PoolGate::Each(pools) => draft.show(|headers| pools.enter(&call, headers, ask)),
        };
        pass.of(draft.resting())
    }
}

/// Who asks, until when, and since when, as far as a request's extensions say it.
pub(crate) fn ask_of<Q>(request: &Request<Q>) -> Ask {
    let said = request.extensions();
    let mut ask = Ask::default();
    if let Some(caller) = said.get::<Caller>() {
        ask = ask.caller(caller.clone());
    }
    if let Some(deadline) = said.get::<Deadline>() {
        ask = ask.deadline(*deadline);
    }
    if let Some(first) = said.get::<Arrival>() {
        ask = ask.arrived(*first);
    }
    ask
}

/// Hears what a call would have met that is let pass.
pub(crate) trait Watch: Send + Sync {
    /// It would have waited as long in this pool, or been refused.
    fn passed(&self, pool: &Arc<str>, met: Result<Duration, Refused>);
}

/// A call's way through its pool.
pub(crate) struct CallPass {
    /// Dropped where a dry run lets the call pass without.
    pool: Option<OfPool>,
    /// Boxed: most calls have none, and thousands may wait.
    dry: Option<Box<DryRun>>,
    /// Where its answer's limits may be news.
    watched: Option<Watched>,
    /// What is packed once it waits; nothing once it was launched.
    resting: Option<Weak<dyn Rest>>,
}

/// Who is told, and what to ask for the wait.
struct DryRun {
    watch: Arc<dyn Watch>,
    pool: Arc<str>,
    budget: TokenBudget,
    ask: Ask,
}

impl CallPass {
    pub(crate) fn new(pool: OfPool) -> Self {
        CallPass {
            pool: Some(pool),
            dry: None,
            watched: None,
            resting: None,
        }
    }

    /// Has the headers packed if it waits.
    fn of(mut self, resting: Weak<dyn Rest>) -> Self {
        self.resting = Some(resting);
        self
    }

    /// Has its answer's limits looked at.
    pub(crate) fn watched(mut self, watched: Option<Watched>) -> Self {
        self.watched = watched;
        self
    }

    #[inline]
    fn look_at<B>(&mut self, response: &Response<B>) {
        if let Some(watched) = self.watched.take() {
            watched.answered(response.extensions().get());
        }
    }

    /// Lets it pass whatever its pool says, which is told instead.
    pub(crate) fn dry(
        mut self,
        watch: Arc<dyn Watch>,
        pool: Arc<str>,
        budget: TokenBudget,
        ask: Ask,
    ) -> Self {
        self.dry = Some(Box::new(DryRun {
            watch,
            pool,
            budget,
            ask,
        }));
        self
    }

    /// Waits, with as little as there must be, unless it goes on without.
    fn wait(&mut self) -> Poll<Result<(), Refused>> {
        let polled = self.pass_by(None);
        if polled.is_pending()
            && let Some(resting) = self.resting.take().and_then(|resting| resting.upgrade())
        {
            resting.rest();
        }
        polled
    }

    /// Goes on without, and tells what would have been.
    fn pass_by(&mut self, met: Option<Refused>) -> Poll<Result<(), Refused>> {
        let Some(dry) = self.dry.take() else {
            return met.map_or(Poll::Pending, |refused| Poll::Ready(Err(refused)));
        };
        // Out of line first, so that it does not wait for itself.
        self.pool = None;
        let DryRun {
            watch,
            pool,
            budget,
            ask,
        } = *dry;
        let met = met.map_or_else(|| Ok(budget.eta(ask)), Err);
        watch.passed(&pool, met);
        Poll::Ready(Ok(()))
    }
}

impl Pass for CallPass {
    #[inline]
    fn poll_admitted(&mut self, cx: &mut Context<'_>, now: &mut Now) -> Poll<Result<(), Refused>> {
        let polled = match &mut self.pool {
            Some(pool) => pool.poll_admitted(cx, now),
            None => Poll::Ready(Ok(())),
        };
        match polled {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
            Poll::Ready(Err(refused)) => self.pass_by(Some(refused)),
            Poll::Pending => self.wait(),
        }
    }

    /// A dry run refuses nobody.
    fn never(&mut self, now: &mut Now) -> Option<Refused> {
        let pool = self.pool.as_mut().filter(|_| self.dry.is_none());
        pool?.never(now)
    }

    #[inline]
    fn launched(&mut self, to: Launch, now: &mut Now) {
        // Or the place of what was sent would be kept for as long as its answer takes.
        self.resting = None;
        if let Some(pool) = &mut self.pool {
            pool.launched(to, now);
        }
    }

    #[inline]
    fn chunk(&mut self, data: &[u8]) {
        if let Some(pool) = &mut self.pool {
            pool.chunk(data);
        }
    }

    #[inline]
    fn ended(&mut self, end: End, now: &mut Now) {
        if let Some(pool) = &mut self.pool {
            pool.ended(end, now);
        }
    }
}

impl<B> PassFor<Response<B>> for CallPass {
    #[inline]
    fn answered(&mut self, response: &Response<B>, now: &mut Now) {
        self.look_at(response);
        if let Some(pool) = &mut self.pool {
            pool.answered(response, now);
        }
    }

    #[inline]
    fn completed(&mut self, response: &Response<B>, now: &mut Now) {
        self.look_at(response);
        if let Some(pool) = &mut self.pool {
            pool.completed(response, now);
        }
    }
}
