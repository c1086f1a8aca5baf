//! Whether the provider is well, as a run has seen it: each attempt feels its
//! [`pulse`], each [`round`] that came to nothing tells of an [`outage`], or that
//! the request is a [`case`] by itself.

pub(crate) mod case;
mod outage;
pub(crate) mod pulse;
pub(crate) mod round;

use std::sync::Arc;

use tokio::time::{Duration, Instant};

use crate::format::Span;
use outage::Outage;
use pulse::Pulse;
use round::Round;

/// So long after it began, an outage that is told by answers, with no other line
/// to ask with, is taken for the fault of the lines that draw them.
const STUCK: Duration = Duration::from_secs(600);

/// How long a run waits for its provider.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// How long an outage may last.
    pub(crate) outage: Option<Duration>,
    /// How long an outage may last before anything has ever been answered.
    pub(crate) first_answer: Duration,
}

/// What is known of the provider.
#[derive(Debug)]
pub(crate) struct Health {
    pub(crate) pulse: Arc<Pulse>,
    pub(crate) outage: Option<Outage>,
    patience: Patience,
    /// Whether an answer has come back to the run.
    answered: bool,
    /// When the request left that was answered and left last.
    last_good: Option<Instant>,
}

/// An outage that is over.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) lasted: Duration,
    /// The line that is to blame for it, as far as can be seen.
    pub(crate) suspect: Option<u64>,
}

impl Health {
    pub(crate) fn new(patience: Patience) -> Self {
        Self {
            pulse: Arc::default(),
            outage: None,
            patience,
            answered: false,
            last_good: None,
        }
    }

    /// An answer came to a request that left at `sent`.
    pub(crate) fn good(&mut self, sent: Instant, probe: bool, now: Instant) -> Option<Recovered> {
        self.answered = true;
        self.last_good = self.last_good.max(Some(sent));
        let outage = self
            .outage
            .take_if(|outage| probe || sent >= outage.noticed)?;
        Some(Recovered {
            lasted: now.saturating_duration_since(outage.since),
            suspect: outage.suspect.filter(|_| outage.is_unproven()),
        })
    }

    /// Whether another request was answered although it left after this instant.
    pub(crate) fn was_good_since(&self, first: Instant) -> bool {
        self.last_good.is_some_and(|sent| sent > first)
    }

    /// Whether an outage has gone on for so long that a probe uses all of its
    /// attempts: what draws answers may be the lines' own fault.
    pub(crate) fn is_stuck(&self, now: Instant) -> bool {
        let outage = self.outage.as_ref();
        outage.is_some_and(|outage| now.saturating_duration_since(outage.since) >= STUCK)
    }

    /// Begins an outage, which a failure has shown, unless there is one.
    pub(crate) fn begin(
        &mut self,
        reason: &str,
        suspect: Option<u64>,
        round: Option<Round>,
        now: Instant,
    ) -> bool {
        if self.outage.is_some() {
            return false;
        }
        let silent = self.pulse.silence().map(|silence| silence.since);
        let failed = round.map(|round| round.last);
        let since = silent.or(failed).unwrap_or(now);
        self.outage = Some(Outage::new(since, reason, suspect, now));
        true
    }

    /// Begins an outage if the attempts alone show one.
    pub(crate) fn begin_if_silent(&mut self, now: Instant) -> bool {
        match self.pulse.silence() {
            Some(silence) if silence.is_outage(now) => self.begin(&silence.reason, None, None, now),
            _ => false,
        }
    }

    /// When it is no longer waited for, and the reason to give then.
    pub(crate) fn deadline(&self) -> Option<(Instant, String)> {
        let lasts = self.outage_deadline();
        let never = self.first_answer_deadline();
        [lasts, never]
            .into_iter()
            .flatten()
            .min_by_key(|(at, _)| *at)
    }

    fn outage_deadline(&self) -> Option<(Instant, String)> {
        let (outage, longest) = (self.outage.as_ref()?, self.patience.outage?);
        let reason = format!(
            "the provider has been away for {}: {}",
            Span(longest),
            outage.reason
        );
        Some((outage.since.checked_add(longest)?, reason))
    }

    fn first_answer_deadline(&self) -> Option<(Instant, String)> {
        if self.answered || self.pulse.has_answered() {
            return None;
        }
        let longest = self.patience.first_answer;
        let (since, why) = match (&self.outage, self.pulse.silence()) {
            (_, Some(silence)) => (silence.since, silence.reason),
            (Some(outage), None) => (outage.since, outage.reason.to_string()),
            (None, None) => return None,
        };
        let reason = format!("nothing has answered in the first {}: {why}", Span(longest));
        Some((since.checked_add(longest)?, reason))
    }
}
