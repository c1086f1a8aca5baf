use std::fmt;
use std::marker::PhantomData;

use tower_layer::Layer;

use super::{By, Gated, UntilBodyEnd, UntilResponse};
use crate::gate::Launch;

/// Puts a gate, or a tuple of gates fused into one, around a service.
///
/// The fused gates share one service and one future, and know the true moment
/// of launch: a caller who gives up while waiting at *any* of them gets
/// everything back, and what is reserved counts as in transit from the launch
/// for two seconds at most. So put this layer **directly around the
/// transport**. The single layers, stacked, count a request as launched once
/// they have called the next service, which may be another gate.
///
/// # Ordering
///
/// A request passes the gates from left to right. Put slots before budget, so
/// that only requests about to go out hold tokens, and spacing last, so that
/// launches are exactly spaced.
///
/// # Cloning
///
/// Clones, and all services made from them, share the gates' state.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tollhouse::{ConcurrencyLayer, GateLayer, StaggerLayer, TokenBudget, TpmBudgetLayer};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), tollhouse::Error> {
/// let budget = TokenBudget::per_minute(30_000).build().unwrap();
/// let gates = GateLayer::new((
///     ConcurrencyLayer::new(3),
///     TpmBudgetLayer::new(budget.clone(), |prompt: &String| prompt.len() as u64),
///     StaggerLayer::new(Duration::from_secs(15)),
/// ))
/// .until_response();
///
/// let echo = service_fn(|prompt: String| async move { Ok::<_, std::io::Error>(prompt) });
/// let client = gates.layer(echo);
/// let start = tokio::time::Instant::now();
/// client.clone().oneshot("first".to_owned()).await?;
/// client.clone().oneshot("second".to_owned()).await?;
/// assert_eq!(start.elapsed(), Duration::from_secs(15));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct GateLayer<G, H = UntilBodyEnd> {
    gate: G,
    hold: PhantomData<fn() -> H>,
}

impl<G> GateLayer<G> {
    /// Fuses the gates of a tuple, or takes a single one.
    ///
    /// # Examples
    ///
    /// A single gate needs no tuple:
    ///
    /// ```
    /// use http::Response;
    /// use std::convert::Infallible;
    /// use tollhouse::{ConcurrencyLayer, GateLayer};
    /// use tower::{Layer, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let slots = ConcurrencyLayer::new(3);
    /// let client = GateLayer::new(slots.clone()).layer(service_fn(async |_: ()| {
    ///     Ok::<_, Infallible>(Response::new("Hi".to_owned()))
    /// }));
    /// let answer = client.oneshot(()).await?;
    /// assert_eq!(slots.in_flight(), 1, "until the end of its body");
    /// # drop(answer);
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(gate: G) -> Self {
        GateLayer {
            gate,
            hold: PhantomData,
        }
    }

    /// Ends the passes with the response instead of its body; needed where
    /// responses are not `http::Response`s.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use tollhouse::{ConcurrencyLayer, GateLayer};
    /// use tower::{Layer, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = GateLayer::new(ConcurrencyLayer::new(3))
    ///     .until_response()
    ///     .layer(service_fn(async |n: u64| Ok::<_, Infallible>(n + 1)));
    /// assert_eq!(client.oneshot(1).await?, 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn until_response(self) -> GateLayer<G, UntilResponse> {
        GateLayer {
            gate: self.gate,
            hold: PhantomData,
        }
    }
}

impl<G, H> GateLayer<G, H> {
    /// Is fair between callers, at every gate that can be: `who` says of each request
    /// who asks, as a [`Caller`](crate::Caller), or as an [`Ask`](crate::Ask) with a
    /// deadline or a first arrival. See [`Gate::pass_as`](crate::Gate::pass_as) for a
    /// gate of one's own.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use std::time::Duration;
    /// use tokio::time::Instant;
    /// use tollhouse::{Caller, ConcurrencyLayer, GateLayer, StaggerLayer};
    /// use tower::{Layer, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = GateLayer::new((
    ///     ConcurrencyLayer::new(3),
    ///     StaggerLayer::new(Duration::from_secs(1)),
    /// ))
    /// .by(|who: &&'static str| Caller::new(*who))
    /// .until_response()
    /// .layer(service_fn(async |_: &str| Ok::<_, Infallible>(())));
    ///
    /// let start = Instant::now();
    /// for _ in 0..100 {
    ///     tokio::spawn(client.clone().oneshot("batch"));
    /// }
    /// tokio::task::yield_now().await;
    /// // Ninety-odd are in line, and all of them somebody else's.
    /// client.oneshot("web").await?;
    /// assert!(start.elapsed() <= Duration::from_secs(4));
    /// # Ok(())
    /// # }
    /// ```
    pub fn by<F>(self, who: F) -> GateLayer<By<G, F>, H> {
        GateLayer {
            gate: By::new(self.gate, who),
            hold: PhantomData,
        }
    }

    /// The gates.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tollhouse::{ConcurrencyLayer, GateLayer, StaggerLayer};
    ///
    /// let gates = GateLayer::new((
    ///     ConcurrencyLayer::new(3),
    ///     StaggerLayer::new(Duration::from_secs(15)),
    /// ));
    /// let (slots, spacing) = gates.get_ref();
    /// assert_eq!((slots.in_flight(), spacing.waiting()), (0, 0));
    /// ```
    pub fn get_ref(&self) -> &G {
        &self.gate
    }
}

impl<G: Clone, S, H> Layer<S> for GateLayer<G, H> {
    type Service = Gated<S, G, H>;

    fn layer(&self, inner: S) -> Self::Service {
        Gated::new(inner, self.gate.clone(), Launch::ToWire)
    }
}

impl<G: fmt::Debug, H> fmt::Debug for GateLayer<G, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GateLayer").field(&self.gate).finish()
    }
}
