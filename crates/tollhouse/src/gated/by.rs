use std::fmt;

use crate::ask::Ask;
use crate::gate::Gate;

/// A gate that is told who asks; made by `by` of each layer, as of
/// [`GateLayer::by`](super::GateLayer::by).
///
/// Of several around one gate, the innermost says it.
///
/// # Cloning
///
/// Clones share the gate's state.
///
/// # Examples
///
/// ```
/// use tollhouse::{Ask, Arrival, Caller, ConcurrencyLayer};
///
/// #[derive(Clone)]
/// struct Request {
///     user: &'static str,
///     since: Arrival,
/// }
///
/// // A retry of the request is served where it would have been at first.
/// let slots = ConcurrencyLayer::new(3)
///     .by(|request: &Request| Ask::from(Caller::new(request.user)).arrived(request.since));
/// assert_eq!(slots.get_ref().in_flight(), 0);
/// ```
#[derive(Clone)]
pub struct By<G, F> {
    gate: G,
    who: F,
}

impl<G, F> By<G, F> {
    /// Tells `gate` who asks, by `who`.
    pub fn new(gate: G, who: F) -> Self {
        By { gate, who }
    }

    /// The gate.
    pub fn get_ref(&self) -> &G {
        &self.gate
    }

    /// The gate, and nobody told of anything.
    pub fn into_inner(self) -> G {
        self.gate
    }
}

impl<Req, Res, G, F, A> Gate<Req, Res> for By<G, F>
where
    G: Gate<Req, Res>,
    F: Fn(&Req) -> A,
    A: Into<Ask>,
{
    type Pass = G::Pass;

    fn pass(&self, request: &Req) -> G::Pass {
        self.gate.pass_as(request, (self.who)(request).into())
    }

    fn pass_as(&self, request: &Req, _: Ask) -> G::Pass {
        self.pass(request)
    }

    fn is_at_rest(&self) -> bool {
        self.gate.is_at_rest()
    }
}

impl<G: fmt::Debug, F> fmt::Debug for By<G, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("By").field(&self.gate).finish()
    }
}
