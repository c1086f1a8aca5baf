//! One call, from its arrival to the last byte of its answer.

use std::sync::Arc;
use std::time::Duration;

use crate::ask::{Ask, Endpoint};
use crate::config::{Config, Limits};
use crate::error::ApiError;
use crate::limits::{Charge, Levels, Rejection};
use crate::memory::Hold;
use crate::provider::Provider;
use crate::random::Rng;
use crate::tallies::Fault;

/// The longest name of a model, in bytes.
const LONGEST_NAME: usize = 256;

/// A call that is in flight until this is dropped.
#[derive(Debug)]
pub(crate) struct Call {
    provider: Arc<Provider>,
    number: u64,
    /// What it makes the provider hold, until it ends.
    pub(crate) hold: Hold,
    admitted: Option<Admitted>,
}

/// What an admitted call has used so far.
#[derive(Debug)]
struct Admitted {
    model: String,
    request: u64,
    charge: Charge,
    prompt_tokens: u64,
    answer_tokens: u64,
    /// Set once the state has what it used.
    settled: bool,
}

/// What chance has in store for a call.
#[derive(Clone, Debug)]
pub(crate) struct Draws {
    pub(crate) fault: Option<Fault>,
    /// Whether its stream, if it is one, breaks off half way.
    pub(crate) cut: bool,
    pub(crate) headers_missing: bool,
    /// In the client's time.
    pub(crate) first_token: Duration,
    /// In the client's time.
    pub(crate) per_token: Duration,
}

impl Call {
    /// Lets a call in.
    pub(crate) fn arrive(provider: Arc<Provider>) -> Self {
        let number = provider.with_state(|state, now| state.tallies.arrive(now));
        Self {
            hold: provider.memory.hold(),
            provider,
            number,
            admitted: None,
        }
    }

    pub(crate) fn config(&self) -> &Config {
        &self.provider.config
    }

    pub(crate) fn request_id(&self) -> String {
        let mut rng = Rng::nth(self.config().seed, self.number);
        format!("req_{:016x}{:016x}", rng.next(), rng.next())
    }

    pub(crate) fn draws(&self) -> Draws {
        Draws::of(self.config(), self.number)
    }

    /// Whether everybody is refused now.
    pub(crate) fn is_in_storm(&self) -> bool {
        let config = self.config();
        let Some(storm) = config.storm else {
            return false;
        };
        let from = config.in_client_time(storm.from);
        let until = config.in_client_time(storm.until);
        self.provider.with_state(|state, now| {
            let since = now.saturating_duration_since(state.epoch);
            from <= since && since < until
        })
    }

    /// The limits of a model.
    pub(crate) fn limits_of(&self, endpoint: Endpoint, model: &str) -> Result<Limits, ApiError> {
        // Before any error repeats it.
        if model.len() > LONGEST_NAME {
            return Err(ApiError::too_long_text("model", LONGEST_NAME, model.len()));
        }
        let config = self.config();
        let limits = config.limits_of(model);
        let limits = limits.ok_or_else(|| endpoint.unknown_model(model))?;
        let bound = config.bounds.models;
        let named = !config.models.is_empty();
        if named
            || self
                .provider
                .with_state(|state, _| state.meets(model, bound))
        {
            Ok(limits)
        } else {
            Err(ApiError::too_many_models(model, bound))
        }
    }

    // ===== Refusals =====

    /// It was wrong in itself, and counts as an unsuccessful request where its
    /// model is known.
    pub(crate) fn invalid(&self, model: Option<(&str, Limits)>) {
        self.provider.with_state(|state, now| {
            state.tallies.invalid();
            if let Some((model, limits)) = model {
                let rules = self.provider.rules();
                state.account(model, limits, rules, now).refuse(now);
            }
        });
    }

    /// There was no room to hold it.
    pub(crate) fn overloaded(&self) {
        self.provider
            .with_state(|state, _| state.tallies.overloaded());
    }

    pub(crate) fn storm(&self, model: &str) {
        self.provider.with_state(|state, _| {
            state
                .tallies
                .tally(model, |tally| tally.rejected.storm += 1);
        });
    }

    /// Charges it, or refuses it.
    pub(crate) fn admit(&mut self, ask: &Ask, limits: Limits) -> Result<(), Rejection> {
        let tokens = ask.charge(self.config().charge);
        let rules = self.provider.rules();
        let charge = self.provider.with_state(|state, now| {
            let account = state.account(&ask.model, limits, rules, now);
            let result = account.admit(now, tokens);
            let counted = result.as_ref().map(|charge| charge.tokens);
            state.tallies.judged(&ask.model, now, counted);
            result
        })?;
        self.admitted = Some(Admitted {
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
            .with_state(|state, now| state.levels(model, now))
    }

    // ===== Endings =====

    /// So many more tokens of the answer were generated.
    pub(crate) fn generated(&mut self, tokens: u64) {
        if let Some(admitted) = &mut self.admitted {
            admitted.answer_tokens += tokens;
        }
    }

    /// The answer is complete: what it used is known, though not yet
    /// delivered.
    pub(crate) fn settle(&mut self) {
        let true_up = self.config().true_up;
        let Some(admitted) = self.admitted.as_mut().filter(|admitted| !admitted.settled) else {
            return;
        };
        admitted.settled = true;
        let used = admitted.prompt_tokens + admitted.answer_tokens;
        admitted.book(&self.provider, used, true_up);
    }

    /// The answer was delivered to the last byte.
    pub(crate) fn complete(mut self) {
        self.settle();
        if let Some(admitted) = self.admitted.take() {
            self.provider.with_state(|state, _| {
                state.tallies.answered(admitted.request);
                state.tallies.tally(&admitted.model, |t| t.completed += 1);
            });
        }
    }

    /// The provider failed it: before it was admitted, or after.
    pub(crate) fn fail(&mut self, model: &str, fault: Fault) {
        if let Some(admitted) = self.admitted.take() {
            let true_up = self.config().true_up;
            match fault {
                Fault::Cut => admitted.book(&self.provider, admitted.used(), false),
                _ => admitted.book(&self.provider, 0, true_up),
            }
        }
        self.provider.with_state(|state, _| {
            state.tallies.tally(model, |tally| match fault {
                Fault::ServerError => tally.faults.server_error += 1,
                Fault::Unavailable => tally.faults.unavailable += 1,
                Fault::Reset => tally.faults.reset += 1,
                Fault::Cut => tally.faults.cut += 1,
            });
        });
    }

    /// The stream broke off.
    pub(crate) fn cut(mut self) {
        if let Some(model) = self
            .admitted
            .as_ref()
            .map(|admitted| admitted.model.clone())
        {
            self.fail(&model, Fault::Cut);
        }
    }
}

/// Whoever is still here leaves before the last byte.
impl Drop for Call {
    fn drop(&mut self) {
        let admitted = self.admitted.take();
        if let Some(admitted) = admitted.as_ref().filter(|admitted| !admitted.settled) {
            admitted.book(&self.provider, admitted.used(), false);
        }
        self.provider.with_state(|state, _| {
            state.tallies.leave();
            if let Some(admitted) = admitted {
                state.tallies.tally(&admitted.model, |t| t.abandoned += 1);
            }
        });
    }
}

impl Admitted {
    fn used(&self) -> u64 {
        self.prompt_tokens + self.answer_tokens
    }

    /// Books what was used, and corrects the charge by it.
    fn book(&self, provider: &Provider, used: u64, true_up: bool) {
        let charged = self.charge.tokens;
        provider.with_state(|state, now| {
            state.tallies.tally(&self.model, |tally| {
                tally.tokens_used += used;
                if true_up {
                    tally.tokens_charged = tally.tokens_charged + used - charged;
                }
            });
            if let (true, Some(account)) = (true_up, state.opened(&self.model)) {
                account.true_up(now, self.charge, used);
            }
        });
    }
}

impl Draws {
    /// Draws what happens to the call of this number. Every call draws as
    /// often, whatever is switched on, so that a setting changes what it is
    /// about and nothing else.
    fn of(config: &Config, number: u64) -> Self {
        let mut rng = Rng::nth(!config.seed, number);
        let (fault, cut, missing) = (rng.share(), rng.share(), rng.share());
        let latency = config.latency;
        let pace = 1.0 + latency.spread * (2.0 * rng.share() - 1.0);
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
