//! What an account says, as plain data.

use std::collections::BTreeMap;
use std::fmt;

use super::AccountError;
use super::error::Problem;
use super::shared::SharedLedgerConfig;
use super::tokens::Tokens;
use crate::call::Endpoint;
use crate::policy::config::{KEYS, Key, read_vars};
use crate::policy::nearest::nearest;
use crate::policy::value::{Allowed, Value};
use crate::policy::{Policy, PolicyConfig, PolicyError};

/// The most slots that an account may have over all pools.
pub(crate) const SLOTS: Allowed = Allowed::WholeOrUnlimited(1, 1_000_000);

/// The weight that a caller may have.
pub(crate) const WEIGHT: Allowed = Allowed::Whole(1, 1_000_000);

/// What an [`Account`](super::Account) says: plain data, from a file, from variables or
/// from code.
///
/// # Examples
///
/// ```
/// use tollhouse_openai::{Account, AccountConfig, Limit};
///
/// let mut config = AccountConfig::default();
/// config.set_pool("gpt-4o", |pool| {
///     pool.tokens_per_minute = Limit::per_minute(30_000);
///     pool.requests_per_day = Some(10_000);
/// });
/// config.share("gpt-4o*", "gpt-4o");
/// config.set_model("text-embedding-*", |pool| {
///     pool.tokens_per_minute = Limit::per_minute(1_000_000);
/// });
/// let account = Account::from_config(config)?;
/// assert_eq!(account.explain(Some("gpt-4o-mini"), None).pool, "gpt-4o");
/// # Ok::<(), tollhouse_openai::account::AccountError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct AccountConfig {
    /// The policy of every model that no section names, and what sections do not say
    /// themselves.
    pub defaults: PolicyConfig,
    /// The most requests in flight over all pools; unlimited unless set.
    pub max_concurrency: Option<usize>,
    /// Whether everything passes, and what would have waited or been refused is told
    /// instead; off unless set.
    pub dry_run: bool,
    /// Which models share a pool where no section says it.
    pub sharing: Sharing,
    /// The ledger that its processes share; `None` where each has the account for itself.
    pub shared: Option<SharedLedgerConfig>,
    pub(crate) models: BTreeMap<String, ModelSection>,
    pub(crate) pools: BTreeMap<String, Overrides>,
    pub(crate) callers: BTreeMap<String, u32>,
    pub(crate) tokens: Tokens,
}

/// Which models that no section names share a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sharing {
    /// Each has one of its own, with its dated snapshots and what was made of it by fine
    /// tuning.
    #[default]
    EachModel,
    /// All are one pool, as variables describe it. Where one of its limits is
    /// [`auto`](crate::Limit::Auto), each has its own nevertheless, because each model's
    /// headers speak of its own limits; slots and spacing are then the account's.
    OnePool,
}

/// What is said of the models that a pattern names.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ModelSection {
    /// Whose numbers are theirs, instead of numbers of their own.
    pub(crate) pool: Option<String>,
    /// Names an endpoint and not models.
    pub(crate) endpoint: Option<Endpoint>,
    pub(crate) own: Overrides,
}

/// What a section says itself; all else is as in `[defaults]`.
#[derive(Clone, Default, PartialEq)]
pub(crate) struct Overrides {
    values: BTreeMap<&'static str, Value>,
}

impl Overrides {
    pub(crate) fn put(&mut self, key: &'static Key, value: Value) {
        self.values.insert(key.name, value);
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.values.keys().copied()
    }

    /// Each of them.
    pub(crate) fn each(&self, mut see: impl FnMut(&'static str, &Value)) {
        self.values
            .iter()
            .for_each(|(name, value)| see(name, value));
    }

    /// The whole policy.
    pub(crate) fn over(&self, defaults: &PolicyConfig) -> PolicyConfig {
        let mut config = defaults.clone();
        for (name, value) in &self.values {
            let key = Key::named(name).expect("only what is known is put");
            key.put(&mut config, value);
        }
        config
    }

    /// Keeps what a change made different.
    fn change(&mut self, defaults: &PolicyConfig, change: impl FnOnce(&mut PolicyConfig)) {
        let before = self.over(defaults);
        let mut after = before.clone();
        change(&mut after);
        for key in KEYS
            .iter()
            .filter(|key| key.get(&before) != key.get(&after))
        {
            // What has no value any more is unlimited.
            let unlimited = || Value::Text("unlimited".into());
            self.put(key, key.get(&after).unwrap_or_else(unlimited));
        }
    }

    fn bad(&self, section: &str) -> impl Iterator<Item = Problem> {
        let bad = self.values.iter().filter_map(|(name, value)| {
            let key = Key::named(name)?;
            (!key.allows(value)).then(|| Problem::value(section, name, value, key.allowed))
        });
        bad.collect::<Vec<_>>().into_iter()
    }
}

impl fmt::Debug for Overrides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs = self.values.iter();
        f.debug_map()
            .entries(pairs.map(|(name, value)| (name, format!("{value}"))))
            .finish()
    }
}

impl AccountConfig {
    /// One pool for all models, with this policy.
    pub fn one_pool(defaults: PolicyConfig) -> Self {
        AccountConfig {
            defaults,
            sharing: Sharing::OnePool,
            ..AccountConfig::default()
        }
    }

    /// Sets numbers of a pool that models [share](Self::share); the change begins with
    /// what the pool has, and what it leaves alone stays as in the defaults.
    pub fn set_pool(&mut self, name: impl Into<String>, change: impl FnOnce(&mut PolicyConfig)) {
        let own = self.pools.entry(name.into()).or_default();
        own.change(&self.defaults, change);
    }

    /// Sets numbers of the models that a name or a glob (`*`, `?`) matches, which are one
    /// pool; as [`set_pool`](Self::set_pool).
    pub fn set_model(
        &mut self,
        pattern: impl Into<String>,
        change: impl FnOnce(&mut PolicyConfig),
    ) {
        let section = self.models.entry(pattern.into()).or_default();
        section.own.change(&self.defaults, change);
    }

    /// Puts the models that a name or a glob matches into a pool that
    /// [`set_pool`](Self::set_pool) describes.
    pub fn share(&mut self, pattern: impl Into<String>, pool: impl Into<String>) {
        self.models.entry(pattern.into()).or_default().pool = Some(pool.into());
    }

    /// Makes a section speak of an endpoint and not of models: its name is only its
    /// pool's. Two of one endpoint are refused, unless they [share](Self::share) a pool.
    pub fn of_endpoint(&mut self, section: impl Into<String>, endpoint: Endpoint) {
        self.models.entry(section.into()).or_default().endpoint = Some(endpoint);
    }

    /// Gives a caller, or those whose names a glob matches, a weight from 1 to 1,000,000.
    pub fn set_caller(&mut self, name: impl Into<String>, weight: u32) {
        self.callers.insert(name.into(), weight);
    }

    /// The callers' names and globs, with their weights.
    pub fn callers(&self) -> impl Iterator<Item = (&str, u32)> {
        self.callers.iter().map(|(name, weight)| (&**name, *weight))
    }

    /// Gives a caller a token, from 1 to 512 visible ASCII letters, that a proxy's client
    /// shows to be it; said again, it has another one beside.
    pub fn set_token(&mut self, caller: impl Into<String>, secret: impl Into<String>) {
        self.tokens.put(caller, secret);
    }

    /// The callers that have tokens, with each token of theirs.
    pub fn tokens(&self) -> impl Iterator<Item = (&str, &str)> {
        self.tokens.all()
    }

    /// Lays variables over the defaults, as `var` finds them: a command lays its flags
    /// over the environment here, and both over a file.
    ///
    /// # Errors
    ///
    /// Names every variable whose value is not allowed; nothing is changed then.
    ///
    /// # Examples
    ///
    /// ```
    /// use tollhouse_openai::AccountConfig;
    ///
    /// let mut config = AccountConfig::from_toml("[defaults]\nheadroom = 0.2")?;
    /// config.lay_vars(|name| (name == "OPENAI_MAX_CONCURRENCY").then(|| "8".to_owned()))?;
    /// assert_eq!(config.defaults.headroom, 0.2);
    /// assert_eq!(config.defaults.max_concurrency, 8);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn lay_vars(&mut self, var: impl Fn(&str) -> Option<String>) -> Result<(), PolicyError> {
        self.lay(read_vars(var)?);
        Ok(())
    }

    fn lay(&mut self, vars: Vec<(&'static Key, Value)>) {
        for (key, value) in vars {
            key.put(&mut self.defaults, &value);
        }
    }

    /// The account that variables describe: the file that `TOLLHOUSE_CONFIG` names, with
    /// the policy's variables laid over its defaults; or without one, one pool.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open) and [`lay_vars`](Self::lay_vars).
    pub fn from_vars(var: impl Fn(&str) -> Option<String>) -> Result<Self, AccountError> {
        let path = var("TOLLHOUSE_CONFIG").filter(|path| !path.trim().is_empty());
        let config = match path {
            Some(path) => AccountConfig::open(path),
            None => Ok(AccountConfig::one_pool(PolicyConfig::default())),
        };
        match (config, read_vars(var)) {
            (Ok(mut config), Ok(vars)) => {
                config.lay(vars);
                Ok(config)
            }
            (Err(bad), Ok(_)) => Err(bad),
            (Ok(_), Err(bad)) => Err(bad.into()),
            (Err(bad), Err(vars)) => Err(bad.and(vars.into())),
        }
    }

    /// As [`from_vars`](Self::from_vars), from the environment.
    ///
    /// # Errors
    ///
    /// As [`from_vars`](Self::from_vars), and names every variable that looks like a
    /// misspelt one.
    pub fn from_env() -> Result<Self, AccountError> {
        let names = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
        let known = Policy::known_names(names).map_err(AccountError::from);
        let read = AccountConfig::from_vars(|name| {
            std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
        });
        match (known, read) {
            (Ok(()), read) => read,
            (Err(misspelt), Ok(_)) => Err(misspelt),
            (Err(misspelt), Err(bad)) => Err(bad.and(misspelt)),
        }
    }

    /// Checks every number, and that sections fit together.
    ///
    /// # Errors
    ///
    /// Names everything that is wrong at once.
    pub fn validate(&self) -> Result<(), AccountError> {
        let problems = self.problems(true);
        match problems.is_empty() {
            true => Ok(()),
            false => Err(AccountError::new(problems)),
        }
    }

    /// All that is wrong. That a pool is not there is wrong only where all that are there are
    /// known.
    pub(super) fn problems(&self, has_all_pools: bool) -> Vec<Problem> {
        let mut problems = Vec::new();
        if let Err(error) = self.defaults.validate() {
            let bad = error.settings().iter();
            problems.extend(bad.map(|bad| Problem::said("[defaults]", bad.to_string())));
        }
        if let Some(slots) = self
            .max_concurrency
            .filter(|slots| !(1..=1_000_000).contains(slots))
        {
            let slots = Value::Whole(slots as u64);
            problems.push(Problem::value(
                "[account]",
                "max_concurrency",
                &slots,
                SLOTS,
            ));
        }
        for (name, own) in &self.pools {
            problems.extend(own.bad(&format!("[pools.{name:?}]")));
        }
        for (pattern, section) in &self.models {
            self.check_model(pattern, section, has_all_pools, &mut problems);
        }
        problems.extend(self.endpoints_of_two());
        for (name, weight) in &self.callers {
            let weight = Value::Whole(u64::from(*weight));
            if !WEIGHT.allows(&weight) {
                let section = format!("[callers.{name:?}]");
                problems.push(Problem::value(&section, "weight", &weight, WEIGHT));
            }
        }
        problems.extend(self.tokens.problems());
        let shared = self.shared.iter();
        problems.extend(shared.flat_map(SharedLedgerConfig::problems));
        problems
    }

    /// Sections of one endpoint, whose calls can be only one pool's.
    fn endpoints_of_two(&self) -> Vec<Problem> {
        let mut first: BTreeMap<&str, (&str, &ModelSection)> = BTreeMap::new();
        let mut problems = Vec::new();
        for (name, section) in &self.models {
            let Some(endpoint) = section.endpoint else {
                continue;
            };
            let (other, of) = *first.entry(endpoint.name()).or_insert((name, section));
            let is_one_pool = section.pool.is_some() && section.pool == of.pool;
            if other != name && !is_one_pool {
                let what = format!(
                    "endpoint is {:?} as in [models.{other:?}]: its calls belong to one pool",
                    endpoint.name()
                );
                let problem = Problem::said(format!("[models.{name:?}]"), what);
                problems.push(problem.at_key("endpoint"));
            }
        }
        problems
    }

    fn check_model(
        &self,
        pattern: &str,
        section: &ModelSection,
        has_all_pools: bool,
        problems: &mut Vec<Problem>,
    ) {
        let place = format!("[models.{pattern:?}]");
        problems.extend(section.own.bad(&place));
        let Some(pool) = &section.pool else { return };
        if let Some(own) = section.own.names().next() {
            let what = format!(
                "pool and {own} exclude each other: the numbers of pool {pool:?} belong under [pools.{pool:?}]"
            );
            problems.push(Problem::said(&place, what).at_key("pool"));
        }
        if has_all_pools && !self.pools.contains_key(pool) {
            let known = nearest(pool, self.pools.keys().map(String::as_str));
            let meant = known.map(|known| format!(": {known:?} is meant, perhaps"));
            let what = format!("there is no [pools.{pool:?}]{}", meant.unwrap_or_default());
            problems.push(Problem::said(&place, what).at_key("pool"));
        }
    }
}
