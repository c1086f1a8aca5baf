//! One call, from its arrival to the last byte of its answer.

use std::sync::Arc;
use std::time::Duration;

use crate::ask::Ask;
use crate::config::{Config, Limits};
use crate::draw::Draw;
use crate::limits::{Charge, Levels, Rejection};
use crate::provider::Provider;
use crate::recorder::Fault;

/// A call that is in flight until this is dropped.
#[derive(Debug)]
pub(crate) struct Visit {
    provider: Arc<Provider>,
    number: u64,
    stay: Option<Stay>,
}

/// What an admitted call has used so far.
#[derive(Debug)]
struct Stay {
    model: String,
    request: u64,
    charge: Charge,
    prompt_tokens: u64,
    answer_tokens: u64,
    /// Set once the books know what it used.
    settled: bool,
}

/// What chance has in store for a call.
#[derive(Clone, Debug)]
pub(crate) struct Fate {
    pub(crate) fault: Option<Fault>,
    /// Whether its stream, if it is one, breaks off half way.
    pub(crate) cut: bool,
    pub(crate) headers_missing: bool,
    /// In the client's time.
    pub(crate) first_token: Duration,
    /// In the client's time.
    pub(crate) per_token: Duration,
}

impl Visit {
    pub(crate) fn new(provider: Arc<Provider>, number: u64) -> Self {
        Self {
            provider,
            number,
            stay: None,
        }
    }

    pub(crate) fn config(&self) -> &Config {
        &self.provider.config
    }

    pub(crate) fn request_id(&self) -> String {
        let mut draw = Draw::nth(self.config().seed, self.number);
        format!("req_{:016x}{:016x}", draw.next(), draw.next())
    }

    pub(crate) fn fate(&self) -> Fate {
        Fate::draw(self.config(), self.number)
    }

    /// Whether everybody is refused now.
    pub(crate) fn is_in_storm(&self) -> bool {
        let config = self.config();
        let Some(storm) = config.storm else {
            return false;
        };
        let from = config.in_client_time(storm.from);
        let until = config.in_client_time(storm.until);
        self.provider.with_books(|books, now| {
            let since = now.saturating_duration_since(books.epoch);
            from <= since && since < until
        })
    }

    // ===== Refusals =====

    /// It was wrong in itself, and counts as an unsuccessful request where its
    /// model is known.
    pub(crate) fn invalid(&self, model: Option<(&str, Limits)>) {
        self.provider.with_books(|books, now| {
            books.recorder.invalid();
            if let Some((model, limits)) = model {
                let rules = self.provider.rules();
                books.account(model, limits, rules, now).refuse(now);
            }
        });
    }

    pub(crate) fn storm(&self, model: &str) {
        self.provider.with_books(|books, _| {
            books
                .recorder
                .tally(model, |tally| tally.rejected.storm += 1);
        });
    }

    /// Charges it, or refuses it.
    pub(crate) fn admit(&mut self, ask: &Ask, limits: Limits) -> Result<(), Rejection> {
        let tokens = ask.charge(self.config().charge);
        let rules = self.provider.rules();
        let charge = self.provider.with_books(|books, now| {
            let account = books.account(&ask.model, limits, rules, now);
            let result = account.admit(now, tokens);
            let counted = result.as_ref().map(|charge| charge.tokens);
            books.recorder.judged(&ask.model, now, counted);
            result
        })?;
        self.stay = Some(Stay {
            model: ask.model.clone(),
            request: ask.hash,
            charge,
            prompt_tokens: ask.prompt_tokens(),
            answer_tokens: 0,
            settled: false,
        });
        Ok(())
    }

    pub(crate) fn levels(&self, model: &str) -> Levels {
        self.provider
            .with_books(|books, now| books.levels(model, now))
    }

    // ===== Endings =====

    /// So many more tokens of the answer were generated.
    pub(crate) fn generated(&mut self, tokens: u64) {
        if let Some(stay) = &mut self.stay {
            stay.answer_tokens += tokens;
        }
    }

    /// The answer is complete: what it used is known, though not yet
    /// delivered.
    pub(crate) fn settle(&mut self) {
        let true_up = self.config().true_up;
        let Some(stay) = self.stay.as_mut().filter(|stay| !stay.settled) else {
            return;
        };
        stay.settled = true;
        let used = stay.prompt_tokens + stay.answer_tokens;
        stay.book(&self.provider, used, true_up);
    }

    /// The answer was delivered to the last byte.
    pub(crate) fn complete(mut self) {
        self.settle();
        if let Some(stay) = self.stay.take() {
            self.provider.with_books(|books, _| {
                books.recorder.answered(stay.request);
                books.recorder.tally(&stay.model, |t| t.completed += 1);
            });
        }
    }

    /// The provider failed it: before it was admitted, or after.
    pub(crate) fn fail(&mut self, model: &str, fault: Fault) {
        if let Some(stay) = self.stay.take() {
            let true_up = self.config().true_up;
            match fault {
                Fault::Cut => stay.book(&self.provider, stay.used(), false),
                _ => stay.book(&self.provider, 0, true_up),
            }
        }
        self.provider.with_books(|books, _| {
            books.recorder.tally(model, |tally| match fault {
                Fault::ServerError => tally.faults.server_error += 1,
                Fault::Unavailable => tally.faults.unavailable += 1,
                Fault::Reset => tally.faults.reset += 1,
                Fault::Cut => tally.faults.cut += 1,
            });
        });
    }

    /// The stream broke off.
    pub(crate) fn cut(mut self) {
        if let Some(model) = self.stay.as_ref().map(|stay| stay.model.clone()) {
            self.fail(&model, Fault::Cut);
        }
    }
}

/// Whoever is still here leaves before the last byte.
impl Drop for Visit {
    fn drop(&mut self) {
        let stay = self.stay.take();
        if let Some(stay) = stay.as_ref().filter(|stay| !stay.settled) {
            stay.book(&self.provider, stay.used(), false);
        }
        self.provider.with_books(|books, _| {
            books.recorder.leave();
            if let Some(stay) = stay {
                books.recorder.tally(&stay.model, |t| t.abandoned += 1);
            }
        });
    }
}

impl Stay {
    fn used(&self) -> u64 {
        self.prompt_tokens + self.answer_tokens
    }

    /// Tells the books what was used, and corrects the charge by it.
    fn book(&self, provider: &Provider, used: u64, true_up: bool) {
        let charged = self.charge.tokens;
        provider.with_books(|books, now| {
            books.recorder.tally(&self.model, |tally| {
                tally.tokens_used += used;
                if true_up {
                    tally.tokens_charged = tally.tokens_charged + used - charged;
                }
            });
            if let (true, Some(account)) = (true_up, books.opened(&self.model)) {
                account.true_up(now, self.charge, used);
            }
        });
    }
}

impl Fate {
    /// Draws what happens to the call of this number. Every call draws as
    /// often, whatever is switched on, so that a setting changes what it is
    /// about and nothing else.
    fn draw(config: &Config, number: u64) -> Self {
        let mut draw = Draw::nth(!config.seed, number);
        let (fault, cut, missing) = (draw.share(), draw.share(), draw.share());
        let latency = config.latency;
        let pace = 1.0 + latency.spread * (2.0 * draw.share() - 1.0);
        let paced = |time: Duration| config.in_client_time(time).mul_f64(pace);
        Self {
            fault: Self::fault(config, fault),
            cut: cut < config.faults.cut,
            headers_missing: missing < config.headers.missing,
            first_token: paced(latency.first_token),
            per_token: paced(latency.per_token),
        }
    }

    fn fault(config: &Config, drawn: f64) -> Option<Fault> {
        let faults = config.faults;
        let errors = faults.server_error;
        let unavailable = errors + faults.unavailable;
        let resets = unavailable + faults.reset;
        match drawn {
            drawn if drawn < errors => Some(Fault::ServerError),
            drawn if drawn < unavailable => Some(Fault::Unavailable),
            drawn if drawn < resets => Some(Fault::Reset),
            _ => None,
        }
    }
}
