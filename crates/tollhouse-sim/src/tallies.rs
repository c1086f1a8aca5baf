//! Keeps count for the [`Report`].

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::limits::{Clock, Rejection};
use crate::report::{Report, Tally};

/// What can go wrong with a call on the provider's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    ServerError,
    Unavailable,
    Reset,
    Cut,
}

/// Requests that are told from their repetitions.
const MOST_REMEMBERED: usize = 1 << 20;

/// Keeps count from the first call on.
#[derive(Debug)]
pub(crate) struct Tallies {
    clock: Clock,
    report: Report,
    least_gap: Option<Duration>,
    first_arrival: Option<Instant>,
    last_arrival: Option<Instant>,
    /// Hashes of the requests that were answered in full.
    answered: HashSet<u64>,
    total: Running,
    models: BTreeMap<String, Running>,
}

/// A tally that is being made.
#[derive(Debug, Default)]
pub(crate) struct Running {
    pub(crate) tally: Tally,
    any_minute: Peak,
    clock_minute: u128,
    clock_minute_sum: u64,
    span: Option<(Instant, Instant)>,
}

impl Tallies {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            clock,
            report: Report::default(),
            least_gap: None,
            first_arrival: None,
            last_arrival: None,
            answered: HashSet::new(),
            total: Running::default(),
            models: BTreeMap::new(),
        }
    }

    /// Counts an arrival and says how many there were before.
    pub(crate) fn arrive(&mut self, now: Instant) -> u64 {
        let number = self.report.arrived;
        self.report.arrived += 1;
        self.report.in_flight += 1;
        self.report.peak_in_flight = self.report.peak_in_flight.max(self.report.in_flight);
        self.first_arrival.get_or_insert(now);
        if let Some(last) = self.last_arrival.replace(now) {
            let gap = now.saturating_duration_since(last);
            self.least_gap = Some(self.least_gap.map_or(gap, |least| least.min(gap)));
        }
        number
    }

    pub(crate) fn leave(&mut self) {
        self.report.in_flight -= 1;
    }

    pub(crate) fn overloaded(&mut self) {
        self.report.overloaded += 1;
    }

    pub(crate) fn invalid(&mut self) {
        self.report.invalid += 1;
    }

    pub(crate) fn answered(&mut self, request: u64) {
        let full = self.answered.len() >= MOST_REMEMBERED;
        if self.answered.contains(&request) {
            self.report.repeated += 1;
            return;
        }
        self.report.distinct += 1;
        if !full {
            self.answered.insert(request);
        }
    }

    /// Changes the tally of a model and that of all models alike.
    pub(crate) fn tally(&mut self, model: &str, change: impl Fn(&mut Tally)) {
        change(&mut self.total.tally);
        change(&mut self.of(model).tally);
    }

    fn of(&mut self, model: &str) -> &mut Running {
        if !self.models.contains_key(model) {
            self.models.insert(model.to_owned(), Running::default());
        }
        self.models.get_mut(model).expect("it was just put there")
    }

    /// Counts a call that asked the limits of its model.
    pub(crate) fn judged(&mut self, model: &str, now: Instant, result: Result<u64, &Rejection>) {
        let clock = self.clock;
        self.total.judged(&clock, now, result);
        self.of(model).judged(&clock, now, result);
    }

    /// The report; `allowance` knows what a model could have been charged
    /// between two instants.
    pub(crate) fn report(
        &self,
        allowance: impl Fn(&str, Instant, Instant) -> Option<u64>,
    ) -> Report {
        let models: BTreeMap<_, _> = (self.models.iter())
            .map(|(name, running)| {
                let allowed = running.span.and_then(|(a, b)| allowance(name, a, b));
                (name.clone(), running.finished(allowed))
            })
            .collect();
        let elapsed = match (self.first_arrival, self.last_arrival) {
            (Some(first), Some(last)) => last.saturating_duration_since(first),
            _ => Duration::ZERO,
        };
        Report {
            least_gap_seconds: self.least_gap.map(|gap| gap.as_secs_f64()),
            elapsed_seconds: elapsed.as_secs_f64(),
            elapsed_minutes: elapsed.as_secs_f64() / self.clock.minute.as_secs_f64(),
            total: self.total.finished(sum_of_allowed(&models)),
            models,
            ..self.report.clone()
        }
    }
}

/// `None` as soon as one model's tokens are not limited.
fn sum_of_allowed(models: &BTreeMap<String, Tally>) -> Option<u64> {
    let judged = models.values().filter(|tally| tally.was_judged());
    let mut allowed = judged.map(|tally| tally.tokens_allowed).peekable();
    allowed.peek()?;
    allowed.sum()
}

impl Tally {
    fn was_judged(&self) -> bool {
        self.admitted + self.rejected.total() > self.rejected.storm
    }
}

impl Running {
    fn judged(&mut self, clock: &Clock, now: Instant, result: Result<u64, &Rejection>) {
        self.span.get_or_insert((now, now)).1 = now;
        let rejected = &mut self.tally.rejected;
        match result {
            Ok(tokens) => self.admitted(clock, now, tokens),
            Err(Rejection::Tokens(_)) => rejected.tokens += 1,
            Err(Rejection::Requests(_)) => rejected.requests += 1,
            Err(Rejection::TooLarge { .. }) => rejected.too_large += 1,
        }
    }

    fn admitted(&mut self, clock: &Clock, now: Instant, tokens: u64) {
        self.tally.admitted += 1;
        self.tally.tokens_charged += tokens;
        let index = clock.index(now);
        if index != self.clock_minute {
            self.clock_minute = index;
            self.clock_minute_sum = 0;
        }
        self.clock_minute_sum += tokens;
        let peak = &mut self.tally.peak_tokens_clock_minute;
        *peak = self.clock_minute_sum.max(*peak);
        let sum = self.any_minute.add(now, tokens, clock.minute);
        let peak = &mut self.tally.peak_tokens_any_minute;
        *peak = sum.max(*peak);
    }

    fn finished(&self, tokens_allowed: Option<u64>) -> Tally {
        let charged = self.tally.tokens_charged as f64;
        Tally {
            tokens_allowed,
            utilisation: tokens_allowed.map(|allowed| charged / (allowed.max(1)) as f64),
            ..self.tally.clone()
        }
    }
}

/// The sum of the minute before now.
#[derive(Debug, Default)]
struct Peak {
    entries: VecDeque<(Instant, u64)>,
    sum: u64,
}

impl Peak {
    /// Adds to the minute that ends now, and says its sum.
    fn add(&mut self, now: Instant, tokens: u64, minute: Duration) -> u64 {
        while let Some(&(made, amount)) = self.entries.front() {
            if made + minute > now {
                break;
            }
            self.entries.pop_front();
            self.sum -= amount;
        }
        self.entries.push_back((now, tokens));
        self.sum += tokens;
        self.sum
    }
}
