//! What a gate is: something that hands each request a pass.
//!
//! A gate stands in front of one scarce thing. It gives every request a
//! [`Pass`], which is at first a place in the gate's queue and, once admitted,
//! the right to go on; dropping it gives back what can be given back. The
//! layers of this crate are gates, and **a tuple of gates is a gate**: its
//! pass is admitted when each of its passes is, one after the other, and refused
//! as soon as one of them is bound to be: what a later one can never let in does not wait
//! at an earlier one.
//!
//! [`GateLayer`](crate::GateLayer) puts any gate around a service.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::answer::End;
use crate::ask::Ask;
use crate::error::Refused;

pub use crate::rules::Launch;
pub use crate::time::Now;

/// Hands out passes for requests of type `Req`, answered by a `Res`.
///
/// Clones share the scarce thing that the gate stands in front of.
///
/// # Examples
///
/// A gate of one's own, with a budget for each of two models:
///
/// ```
/// use std::convert::Infallible;
/// use tollhouse::budget::BudgetPass;
/// use tollhouse::{Gate, GateLayer, TokenBudget, Unmetered, Unobserved};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// #[derive(Clone)]
/// struct ByModel {
///     small: TokenBudget,
///     large: TokenBudget,
/// }
///
/// impl<Res> Gate<(&str, u64), Res> for ByModel {
///     type Pass = BudgetPass<Unmetered, Unobserved, Option<u64>>;
///
///     fn pass(&self, &(model, cost): &(&str, u64)) -> Self::Pass {
///         let budget = match model {
///             "small" => &self.small,
///             _ => &self.large,
///         };
///         BudgetPass::new(budget, cost, Unmetered, Unobserved)
///     }
/// }
///
/// let gate = ByModel {
///     small: TokenBudget::per_minute(100_000).build()?,
///     large: TokenBudget::per_minute(10_000).build()?,
/// };
/// let client = GateLayer::new(gate.clone())
///     .until_response()
///     .layer(service_fn(async |_| Ok::<_, Infallible>(())));
/// client.oneshot(("large", 4_000)).await?;
/// assert_eq!(gate.large.snapshot().level, 6_000);
/// assert_eq!(gate.small.snapshot().level, 100_000);
/// # Ok(())
/// # }
/// ```
pub trait Gate<Req, Res> {
    /// One request's way through the gate.
    type Pass: PassFor<Res>;

    /// Begins the way of one request. It stands in line from the first poll of
    /// its pass on.
    fn pass(&self, request: &Req) -> Self::Pass;

    /// Begins the way of one request for somebody: `ask` says who asks, until when and
    /// since when; its charge is the gate's own affair.
    ///
    /// [`By`](crate::By) calls it. A gate that is fair between callers does as `ask`
    /// says; one that does not override this serves everybody as one caller.
    fn pass_as(&self, request: &Req, ask: Ask) -> Self::Pass {
        let _ = ask;
        self.pass(request)
    }

    /// Whether it is now as if it had been made anew: nobody has or may yet begin a way
    /// through it, and all that was taken is given back or has refilled.
    ///
    /// [`Keyed`](crate::Keyed) forgets such a gate. One that does not override this is
    /// never forgotten.
    fn is_at_rest(&self) -> bool {
        false
    }
}

/// One request's way through a gate: a place in line, then what was admitted.
///
/// # Cancellation
///
/// Dropped before [`launched`](Pass::launched), it leaves no trace: what was
/// taken is given back in full and the next in line is let in. Dropped later,
/// it gives back what does not outlast the call, such as a slot.
///
/// # Examples
///
/// By hand, around a call that is no tower service:
///
/// ```
/// use tollhouse::gate::{Launch, Now};
/// use tollhouse::{ConcurrencyLayer, End, Gate, Pass};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let slots = ConcurrencyLayer::new(1);
/// let mut pass = Gate::<(), ()>::pass(&slots, &());
/// pass.admitted().await?;
/// assert_eq!(slots.in_flight(), 1);
///
/// pass.launched(Launch::ToWire, &mut Now::unread());
/// pass.chunk(b"Eleven kilometers.");
/// pass.ended(End::Complete, &mut Now::unread());
/// assert_eq!(slots.in_flight(), 0);
/// # Ok(())
/// # }
/// ```
pub trait Pass {
    /// Waits for admission; ready with `Ok` ever after.
    ///
    /// Where `now` is still unread when it is ready, the caller is to hand the request on
    /// at once, in the same poll; who does not know that reads `now` before, or polls again
    /// with one that is read.
    ///
    /// # Errors
    ///
    /// [`Refused`], where waiting is pointless or too long.
    fn poll_admitted(&mut self, cx: &mut Context<'_>, now: &mut Now) -> Poll<Result<(), Refused>>;

    /// Waits for admission, for whoever uses a pass by hand; see
    /// [`poll_admitted`](Self::poll_admitted). Dropped, it leaves the pass in line.
    fn admitted(&mut self) -> Admitted<'_, Self>
    where
        Self: Sized,
    {
        Admitted(self)
    }

    /// Why it will never be admitted, whatever is given back, where that shows before it
    /// stands in line; it is refused then, as if
    /// [`poll_admitted`](Self::poll_admitted) had said so.
    ///
    /// A tuple asks its passes while one of them waits, so that nobody waits at one gate
    /// for what another refuses in the end. A gate that refuses nobody for good, or does not
    /// override this, is asked in its turn.
    fn never(&mut self, now: &mut Now) -> Option<Refused> {
        let _ = now;
        None
    }

    /// The request is handed on; from here on, what it was charged stands.
    fn launched(&mut self, to: Launch, now: &mut Now);

    /// A piece of the answer's body goes by.
    fn chunk(&mut self, data: &[u8]);

    /// The answer is over. What is left of the pass is given back now.
    fn ended(&mut self, end: End, now: &mut Now);
}

/// Waits for a pass to be admitted; made by [`Pass::admitted`].
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Admitted<'p, P>(&'p mut P);

impl<P: Pass> Future for Admitted<'_, P> {
    type Output = Result<(), Refused>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll_admitted(cx, &mut Now::read())
    }
}

/// A [`Pass`] that can look at an answer of type `Res`.
///
/// # Examples
///
/// ```
/// use tollhouse::gate::{Launch, Now};
/// use tollhouse::{End, Gate, Pass, PassFor, TokenBudget, TpmBudgetLayer};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let budget = TokenBudget::per_minute(30_000).build()?;
/// let gate =
///     TpmBudgetLayer::new(budget.clone(), |_: &&str| 1_000).usage(|answer: &u64| Some(*answer));
///
/// let mut pass = gate.pass(&"How deep is the sea?");
/// pass.admitted().await?;
/// pass.launched(Launch::ToWire, &mut Now::unread());
/// pass.answered(&1_500, &mut Now::unread());
/// pass.ended(End::Complete, &mut Now::unread());
/// assert_eq!(budget.snapshot().level, 28_500);
/// # Ok(())
/// # }
/// ```
pub trait PassFor<Res>: Pass {
    /// The head of the answer is here, and its body follows. Where nobody said
    /// that the request was launched, it was launched at this very instant.
    fn answered(&mut self, response: &Res, now: &mut Now);

    /// The whole answer is here; as [`answered`](Self::answered) and
    /// [`ended`](Pass::ended) in one.
    fn completed(&mut self, response: &Res, now: &mut Now) {
        self.answered(response, now);
        self.ended(End::Complete, now);
    }
}

macro_rules! tuple_of_gates {
    ($($gate:ident $index:tt),+) => {
        impl<Req, Res, $($gate),+> Gate<Req, Res> for ($($gate,)+)
        where
            $($gate: Gate<Req, Res>,)+
        {
            type Pass = ($($gate::Pass,)+);

            fn pass(&self, request: &Req) -> Self::Pass {
                ($(self.$index.pass(request),)+)
            }

            fn pass_as(&self, request: &Req, ask: Ask) -> Self::Pass {
                ($(self.$index.pass_as(request, ask.clone()),)+)
            }

            fn is_at_rest(&self) -> bool {
                true $(&& self.$index.is_at_rest())+
            }
        }

        impl<$($gate: Pass),+> Pass for ($($gate,)+) {
            #[inline]
            fn poll_admitted(
                &mut self,
                cx: &mut Context<'_>,
                now: &mut Now,
            ) -> Poll<Result<(), Refused>> {
                // A later one may keep waiting what an earlier one let in now.
                now.get();
                $(
                    match self.$index.poll_admitted(cx, now) {
                        Poll::Ready(Ok(())) => {}
                        Poll::Ready(refused) => return Poll::Ready(refused),
                        Poll::Pending => {
                            let never = self.never(now);
                            return never.map_or(Poll::Pending, |refused| Poll::Ready(Err(refused)));
                        }
                    }
                )+
                Poll::Ready(Ok(()))
            }

            fn never(&mut self, now: &mut Now) -> Option<Refused> {
                None$(.or_else(|| self.$index.never(now)))+
            }

            #[inline]
            fn launched(&mut self, to: Launch, now: &mut Now) {
                $(self.$index.launched(to, now);)+
            }

            #[inline]
            fn chunk(&mut self, data: &[u8]) {
                $(self.$index.chunk(data);)+
            }

            #[inline]
            fn ended(&mut self, end: End, now: &mut Now) {
                $(self.$index.ended(end, now);)+
            }
        }

        impl<Res, $($gate: PassFor<Res>),+> PassFor<Res> for ($($gate,)+) {
            #[inline]
            fn answered(&mut self, response: &Res, now: &mut Now) {
                $(self.$index.answered(response, now);)+
            }

            #[inline]
            fn completed(&mut self, response: &Res, now: &mut Now) {
                $(self.$index.completed(response, now);)+
            }
        }
    };
}

tuple_of_gates!(A 0);
tuple_of_gates!(A 0, B 1);
tuple_of_gates!(A 0, B 1, C 2);
tuple_of_gates!(A 0, B 1, C 2, D 3);
tuple_of_gates!(A 0, B 1, C 2, D 3, E 4);
tuple_of_gates!(A 0, B 1, C 2, D 3, E 4, F 5);
