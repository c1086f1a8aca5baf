//! Tokens taken by hand.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use crate::charge::{Charge, Unit};
use crate::error::Refused;
use crate::queue::Ticket;
use crate::rules::{Launch, Pool};
use crate::time::Now;

/// Waits for a [`Reservation`]; made by
/// [`TokenBudget::reserve`](super::TokenBudget::reserve).
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Reserve {
    ticket: Option<Ticket<Pool>>,
}

impl Reserve {
    pub(super) fn new(ticket: Ticket<Pool>) -> Self {
        Reserve {
            ticket: Some(ticket),
        }
    }
}

impl Future for Reserve {
    type Output = Result<Reservation, Refused>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let ticket = self.ticket.as_mut().expect("polled after it was ready");
        // Whoever lets somebody in out of the line knows when that was. What is had at once
        // may be handed on much later, and counts from now on.
        let mut now = match ticket.is_in_line() {
            true => Now::unread(),
            false => Now::read(),
        };
        ready!(ticket.poll_admitted(cx, &mut now))?;
        let ticket = self.ticket.take().expect("it was there just now");
        Poll::Ready(Ok(Reservation::new(ticket)))
    }
}

/// Tokens taken from a budget for one request.
///
/// Say [`launched`](Self::launched) when the request leaves and
/// [`settle`](Self::settle) when its real usage is known.
///
/// # Cancellation
///
/// Dropped before the launch, everything is refunded. Dropped after it, the
/// reserved cost stands as charged.
///
/// # Examples
///
/// ```
/// use tollhouse::TokenBudget;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let budget = TokenBudget::per_minute(30_000).build()?;
/// let reservation = budget.reserve(1_000).await?;
/// assert_eq!(reservation.cost(), 1_000);
/// reservation.launched();
/// // The call itself goes here; it used more.
/// reservation.settle(1_500);
/// assert_eq!(budget.snapshot().level, 28_500);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "dropping a reservation gives it back"]
pub struct Reservation {
    ticket: Ticket<Pool>,
}

impl Reservation {
    pub(super) fn new(ticket: Ticket<Pool>) -> Self {
        Reservation { ticket }
    }

    /// What was reserved, in tokens.
    pub fn cost(&self) -> u64 {
        self.ticket.charge().get(Unit::Tokens)
    }

    /// The request is handed to the transport now: from here on the charge
    /// stands. Saying it again changes nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// use tollhouse::TokenBudget;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let budget = TokenBudget::per_minute(30_000).build()?;
    /// drop(budget.reserve(1_000).await?);
    /// assert_eq!(budget.snapshot().level, 30_000);
    ///
    /// let reservation = budget.reserve(1_000).await?;
    /// reservation.launched();
    /// drop(reservation);
    /// assert_eq!(budget.snapshot().level, 29_000);
    /// # Ok(())
    /// # }
    /// ```
    pub fn launched(&self) {
        self.ticket.launch(Launch::ToWire, &mut Now::unread());
    }

    /// Replaces the reserved cost by the real one, in tokens.
    ///
    /// More than reserved becomes debt, which later requests wait off. Less is
    /// refunded with [`Accounting::AsUsed`](super::Accounting::AsUsed) alone.
    ///
    /// # Examples
    ///
    /// ```
    /// use tollhouse::TokenBudget;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let budget = TokenBudget::per_minute(30_000).build()?;
    /// let reservation = budget.reserve(29_000).await?;
    /// reservation.launched();
    /// reservation.settle(30_500);
    /// assert_eq!(budget.snapshot().level, -500);
    /// # Ok(())
    /// # }
    /// ```
    pub fn settle(mut self, actual: impl Into<Charge>) {
        let actual = actual.into();
        let mut now = Now::unread();
        self.ticket.finish(&mut now, |pool, held, now| {
            pool.end(held, None, Some(&actual), now)
        });
    }
}
