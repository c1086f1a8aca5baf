//! What one request wants: its charge, who asks, and until when.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::charge::Charge;
use crate::time::Moment;

/// Who asks: a name and a weight. What is fair is fair between callers.
///
/// While several callers wait, each gets a share in proportion to its weight;
/// within one caller it is first come, first served. Whoever is not named is one
/// caller, the [default](Caller::default).
///
/// A weight belongs to a name that somebody vouches for (code, a file, a token),
/// never to a name that a client merely claims. The weight of a name is the one that
/// its latest request came with. Beyond 1,024 names at once, further names share
/// what one caller of weight 1 would get.
///
/// # Cloning
///
/// Cheap: a clone shares the name.
///
/// # Examples
///
/// ```
/// use tollhouse::Caller;
///
/// let web = Caller::new("web").weight(8);
/// assert_eq!(web.name(), Some("web"));
/// assert_eq!(Caller::default().name(), None);
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Caller {
    name: Option<Arc<str>>,
    /// As wide as all else, so that there is no gap, which costs more to copy.
    weight: u64,
}

impl Caller {
    /// The largest weight.
    const HEAVIEST: u32 = 1_000_000;

    /// The one of this name, of weight 1.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Caller {
            name: Some(name.into()),
            weight: 1,
        }
    }

    /// How much of a share is its due, from 1 to 1,000,000; 1 unless set.
    ///
    /// # Panics
    ///
    /// If `weight` is not from 1 to 1,000,000.
    #[must_use]
    #[track_caller]
    pub fn weight(mut self, weight: u32) -> Self {
        assert!(
            (1..=Caller::HEAVIEST).contains(&weight),
            "a caller's weight must be from 1 to 1000000, not {weight}"
        );
        self.weight = u64::from(weight);
        self
    }

    /// Its name; `None` where nobody named it.
    #[inline]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Its weight.
    #[inline]
    pub fn get_weight(&self) -> u32 {
        u32::try_from(self.weight).unwrap_or(Caller::HEAVIEST)
    }

    pub(crate) fn shared_name(&self) -> Option<&Arc<str>> {
        self.name.as_ref()
    }
}

/// The one that nobody named, of weight 1.
impl Default for Caller {
    #[inline]
    fn default() -> Self {
        Caller {
            name: None,
            weight: 1,
        }
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller")
            .field("name", &self.name())
            .field("weight", &self.weight)
            .finish()
    }
}

/// Until when a request must be launched; one that cannot be is
/// [refused](crate::Refused::TooLate): at once where that is sure as it comes to wait, those
/// who stand before it taken to stay, else when the deadline comes. What is changed while it
/// waits refuses it no sooner than that.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tokio::time::Instant;
/// use tollhouse::Deadline;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let in_a_minute = Duration::from_secs(60);
/// let deadline = Deadline::within(in_a_minute);
/// assert_eq!(deadline, Deadline::at(Instant::now() + in_a_minute));
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Deadline(Instant);

impl Deadline {
    /// At this instant.
    pub fn at(instant: Instant) -> Self {
        Deadline(instant)
    }

    /// So long from now on; what is longer than a century is a century.
    pub fn within(time: Duration) -> Self {
        const CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);
        Deadline(Instant::now() + time.min(CENTURY))
    }

    /// The instant.
    pub fn instant(self) -> Instant {
        self.0
    }
}

/// When a request came for the first time. A retry that carries it keeps its place
/// in its caller's line.
///
/// In an `http::Request`'s extensions, where the gates of `tollhouse-openai` look for
/// it; who stacks layers by hand hands it on in an [`Ask`].
///
/// # Examples
///
/// ```
/// use tollhouse::{Arrival, Ask, Caller};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let first = Arrival::now();
/// let again = Ask::from(Caller::new("web")).arrived(first);
/// # let _ = again;
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Arrival(Instant);

impl Arrival {
    /// The present.
    pub fn now() -> Self {
        Arrival(Instant::now())
    }

    /// This instant.
    pub fn at(instant: Instant) -> Self {
        Arrival(instant)
    }

    /// The instant.
    pub fn instant(self) -> Instant {
        self.0
    }
}

/// What one request wants: a charge, and for whom, until when, since when.
///
/// Made once, before the first line. A [`Charge`], or a number of tokens, is one of
/// the caller that nobody named.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tollhouse::{Ask, Caller, Deadline, TokenBudget};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let budget = TokenBudget::per_minute(30_000).build()?;
/// let ask = Ask::of(1_000)
///     .caller(Caller::new("web").weight(8))
///     .deadline(Deadline::within(Duration::from_secs(10)));
/// let reservation = budget.reserve(ask).await?;
/// assert_eq!(reservation.cost(), 1_000);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Ask {
    charge: Charge,
    caller: Caller,
    deadline: Option<Moment>,
    arrival: Option<Moment>,
    told_as: Option<Arc<str>>,
}

impl Ask {
    /// Asks for this charge.
    #[inline]
    pub fn of(charge: impl Into<Charge>) -> Self {
        Ask {
            charge: charge.into(),
            caller: Caller::default(),
            deadline: None,
            arrival: None,
            told_as: None,
        }
    }

    /// Asks for another charge.
    #[inline]
    #[must_use]
    pub fn charge(mut self, charge: impl Into<Charge>) -> Self {
        self.charge = charge.into();
        self
    }

    /// For this caller; the one that nobody named unless set.
    #[inline]
    #[must_use]
    pub fn caller(mut self, caller: Caller) -> Self {
        self.caller = caller;
        self
    }

    /// To be launched until then; for ever unless set.
    #[inline]
    #[must_use]
    pub fn deadline(mut self, deadline: Deadline) -> Self {
        self.deadline = Some(deadline.0.into());
        self
    }

    /// Came for the first time at this instant; now, unless set.
    #[inline]
    #[must_use]
    pub fn arrived(mut self, arrival: Arrival) -> Self {
        self.arrival = Some(arrival.0.into());
        self
    }

    /// What metrics call its caller; nothing unless set. Each is a time series, so let them
    /// be few, and names that somebody vouches for: beyond 100 at one gate, further ones are
    /// told as `other`.
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
    /// use tollhouse::{Ask, Caller, TokenBudget};
    ///
    /// let recorder = PrometheusBuilder::new().build_recorder();
    /// let _guard = metrics::set_default_local_recorder(&recorder);
    ///
    /// let budget = TokenBudget::per_minute(30_000).pool("gpt-4o").build()?;
    /// let web = Caller::new("web").weight(8);
    /// budget.reserve(Ask::of(100).caller(web).told_as("web")).await?;
    /// let told = recorder.handle().render();
    /// let labels = r#"policy="default",pool="gpt-4o",caller="web""#;
    /// let count = format!("tollhouse_caller_wait_seconds_count{{{labels}}} 1");
    /// assert!(told.contains(&count), "{told}");
    /// # }
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    #[must_use]
    pub fn told_as(mut self, name: impl Into<Arc<str>>) -> Self {
        self.told_as = Some(name.into());
        self
    }

    /// What metrics call its caller, where [`told_as`](Self::told_as) said it.
    #[inline]
    pub fn label(&self) -> Option<&Arc<str>> {
        self.told_as.as_ref()
    }

    #[inline]
    pub(crate) fn wants(&self) -> &Charge {
        &self.charge
    }

    /// The caller.
    #[inline]
    pub fn who(&self) -> &Caller {
        &self.caller
    }

    #[inline]
    pub(crate) fn since(&self) -> Option<Moment> {
        self.arrival
    }

    #[inline]
    pub(crate) fn until(&self) -> Option<Moment> {
        self.deadline
    }
}

/// By the caller that nobody named.
impl From<Charge> for Ask {
    #[inline]
    fn from(charge: Charge) -> Self {
        Ask::of(charge)
    }
}

/// Tokens, by the caller that nobody named.
impl From<u64> for Ask {
    #[inline]
    fn from(tokens: u64) -> Self {
        Ask::of(tokens)
    }
}

/// Of one request and nothing else.
impl From<Caller> for Ask {
    #[inline]
    fn from(caller: Caller) -> Self {
        Ask::default().caller(caller)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_outside_its_range_is_a_mistake() {
        for weight in [0, 1_000_001] {
            let heavy = std::panic::catch_unwind(|| Caller::new("web").weight(weight));
            assert!(heavy.is_err(), "{weight}");
        }
        assert_eq!(Caller::new("web").weight(1_000_000).get_weight(), 1_000_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_of_for_ever_is_one() {
        let ever = Deadline::within(Duration::MAX);
        assert!(ever > Deadline::within(Duration::from_secs(86_400 * 365)));
    }
}
