//! What a policy says, as plain data.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use tollhouse::{Accounting, Per, Unit, Window};

use super::error::BadSetting;
use super::nearest::nearest;
use super::value::{ACCOUNTINGS, Allowed, CHARGE_RULES, MOST, Setting, Value, WINDOWS};
use super::{Limit, PolicyError};
use crate::wire::cost::{ChargeRule, DEFAULT_EST_TOKENS, Estimator};

/// The longest time that a setting may name.
const YEAR: f64 = 31_536_000.0;

/// One setting: its name in files, its variable, and what is allowed.
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) variable: Option<&'static str>,
    pub(crate) allowed: Allowed,
    /// Whether it is one of a pool's numbers, which each pool may have its own of.
    pub(crate) place: Place,
    get: fn(&PolicyConfig) -> Option<Value>,
    put: fn(&mut PolicyConfig, &Value) -> bool,
}

/// Where a file may say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In any section.
    Pool,
    /// Under `[defaults]` alone: the account has one of it.
    Account,
    /// Nowhere: sections have names of their own.
    Nowhere,
}

macro_rules! settings {
    ($(
        $(#[$doc:meta])*
        $field:ident: $kind:ty = $default:expr;
        $place:ident $name:literal $variable:expr, $allowed:expr;
    )+) => {
        /// What a [`Policy`](super::Policy) says: plain data, that variables, files and
        /// setters fill alike and that is checked alike, wherever it comes from.
        ///
        /// Its form in files is one of plain keys, with units in their names; a key that
        /// is not known is an error.
        ///
        /// # Examples
        ///
        /// ```
        /// use std::time::Duration;
        /// use tollhouse_openai::{Limit, Policy, PolicyConfig};
        ///
        /// let mut config = PolicyConfig::default();
        /// config.tokens_per_minute = Limit::per_minute(125_000);
        /// config.stagger = Duration::from_millis(50);
        /// let policy = Policy::new(config)?;
        /// assert_eq!(policy.config().max_concurrency, 3);
        ///
        /// let json = r#"{"tokens_per_minute": "auto", "stagger_seconds": 0.05}"#;
        /// let config: PolicyConfig = serde_json::from_str(json)?;
        /// assert_eq!(config.stagger, Duration::from_millis(50));
        ///
        /// let mut wrong = PolicyConfig::default();
        /// wrong.headroom = 1.0;
        /// assert_eq!(
        ///     wrong.validate().unwrap_err().to_string(),
        ///     "headroom is 1: allowed is a number from 0 to 0.9",
        /// );
        /// # Ok::<(), Box<dyn std::error::Error>>(())
        /// ```
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        pub struct PolicyConfig {
            $($(#[$doc])* pub $field: $kind,)+
        }

        impl Default for PolicyConfig {
            fn default() -> Self {
                PolicyConfig { $($field: $default,)+ }
            }
        }

        /// Every setting; those that have variables in the order of their table.
        pub(crate) static KEYS: &[Key] = &[$(Key {
            name: $name,
            variable: $variable,
            allowed: $allowed,
            place: Place::$place,
            get: |config| config.$field.to_value(),
            put: |config, value| match Setting::from_value(value) {
                Some(read) => {
                    config.$field = read;
                    true
                }
                None => false,
            },
        },)+];
    };
}

settings! {
    /// The most requests in flight, a stream until its last byte; 3 unless set.
    max_concurrency: usize = 3;
    Pool "max_concurrency" Some("OPENAI_MAX_CONCURRENCY"), Allowed::Whole(1, 1_000_000);

    /// The least time between two launches, up to a day; 15 s unless set, and zero
    /// switches it off. `stagger_seconds` in files.
    stagger: Duration = Duration::from_secs(15);
    Pool "stagger_seconds" Some("OPENAI_STAGGER_SECONDS"), Allowed::Real(0.0, 86_400.0);

    /// Tokens a minute; 30,000 unless set.
    tokens_per_minute: Limit = Limit::per_minute(30_000);
    Pool "tokens_per_minute" Some("OPENAI_TPM_LIMIT"), Allowed::Limit;

    /// Requests a minute; unlimited unless set.
    requests_per_minute: Limit = Limit::Unlimited;
    Pool "requests_per_minute" Some("OPENAI_RPM_LIMIT"), Allowed::Limit;

    /// The share of all limits that is never used, 0 to 0.9; 0.15 unless set.
    headroom: f64 = 0.15;
    Pool "headroom" Some("OPENAI_TPM_HEADROOM"), Allowed::Real(0.0, 0.9);

    /// Tokens charged to a request whose answer's length cannot be told; 7,000 unless
    /// set.
    est_tokens_per_run: u64 = DEFAULT_EST_TOKENS;
    Pool "est_tokens_per_run" Some("OPENAI_EST_TOKENS_PER_RUN"), Allowed::Whole(1, MOST);

    /// Attempts in all, the first included, at most 1,000; 5 unless set.
    retry_max_attempts: u32 = 5;
    Account "retry_max_attempts" Some("OPENAI_RETRY_MAX_ATTEMPTS"), Allowed::Whole(1, 1_000);

    /// The first backoff, from 1 ms to 60 s, which doubles from attempt to attempt; 2 s
    /// unless set. `backoff_base_seconds` in files.
    backoff_base: Duration = Duration::from_secs(2);
    Account "backoff_base_seconds" Some("OPENAI_BACKOFF_BASE_SECONDS"), Allowed::Real(0.001, 60.0);

    /// The most calls that may wait; unlimited unless set.
    max_waiting: Option<usize> = None;
    Pool "max_waiting" Some("OPENAI_MAX_WAITING"), Allowed::WholeOrUnlimited(0, MOST);

    /// Input tokens a minute; unlimited unless set.
    input_tokens_per_minute: Option<u64> = None;
    Pool "input_tokens_per_minute" None, Allowed::WholeOrUnlimited(1, MOST);

    /// Output tokens a minute; unlimited unless set.
    output_tokens_per_minute: Option<u64> = None;
    Pool "output_tokens_per_minute" None, Allowed::WholeOrUnlimited(1, MOST);

    /// Images a minute; unlimited unless set.
    images_per_minute: Option<u64> = None;
    Pool "images_per_minute" None, Allowed::WholeOrUnlimited(1, MOST);

    /// Tokens a day; unlimited unless set.
    tokens_per_day: Option<u64> = None;
    Pool "tokens_per_day" None, Allowed::WholeOrUnlimited(1, MOST);

    /// Requests a day; unlimited unless set.
    requests_per_day: Option<u64> = None;
    Pool "requests_per_day" None, Allowed::WholeOrUnlimited(1, MOST);

    /// The most tokens at once after a quiet time; what the headroom leaves of a minute
    /// unless set. `burst_tokens` in files.
    burst: Option<u64> = None;
    Pool "burst_tokens" None, Allowed::WholeOrUnlimited(1, MOST);

    /// How requests are charged; [`ChargeRule::Safe`] unless set. In files `"safe"`,
    /// `"openai"` or a number of tokens.
    charge_rule: ChargeRule = ChargeRule::Safe;
    Pool "charge_rule" None, Allowed::WordsOrWhole(CHARGE_RULES, 0, MOST);

    /// Whether the provider gives back what a request did not use;
    /// [`Accounting::AsRequested`], it does not, unless set. In files `"as_requested"`
    /// or `"as_used"`.
    accounting: Accounting = Accounting::AsRequested;
    Pool "accounting" None, Allowed::Words(ACCOUNTINGS);

    /// Whether a sliding minute is kept beside the bucket; [`Window::Auto`] unless set.
    /// In files `"auto"`, `"on"` or `"off"`.
    window: Window = Window::Auto;
    Pool "window" None, Allowed::Words(WINDOWS);

    /// Whether at most a tenth of the burst is spent until a first answer; on unless
    /// set.
    cautious_start: bool = true;
    Pool "cautious_start" None, Allowed::Flag;

    /// Whether costs are made of what calls really used; off unless set.
    learn_factor: bool = false;
    Pool "learn_factor" None, Allowed::Flag;

    /// Whether chat streams are made to tell their usage; off unless set.
    ask_for_usage: bool = false;
    Account "ask_for_usage" None, Allowed::Flag;

    /// The longest time over all attempts of a call, from 1 ms to a year; unlimited
    /// unless set. `retry_deadline_seconds` in files.
    retry_deadline: Option<Duration> = None;
    Account "retry_deadline_seconds" None, Allowed::RealOrUnlimited(0.001, YEAR);

    /// The longest delay told by the provider that is waited for, up to a year; 120 s
    /// unless set. `max_told_delay_seconds` in files.
    max_told_delay: Duration = Duration::from_secs(120);
    Account "max_told_delay_seconds" None, Allowed::Real(0.0, YEAR);

    /// How many retries each request adds to those that all calls together may make in
    /// a minute, up to 1,000; 0.2 unless set. Unlimited lets every call use up its
    /// attempts.
    retry_budget_share: Option<f64> = Some(0.2);
    Account "retry_budget_share" None, Allowed::RealOrUnlimited(0.0, 1_000.0);

    /// How many retries all calls together may make in a minute besides; 10 unless set.
    retry_budget_reserve: u32 = 10;
    Account "retry_budget_reserve" None, Allowed::Whole(0, u32::MAX as u64);

    /// A name for its metrics; none unless set.
    name: Option<String> = None;
    Nowhere "name" None, Allowed::Name;
}

impl Key {
    /// The one of this name in files.
    pub(crate) fn named(name: &str) -> Option<&'static Key> {
        KEYS.iter().find(|key| key.name == name)
    }

    /// The one of which this is the variable's name, or the flag's.
    fn elsewhere(name: &str) -> Option<&'static Key> {
        let name = name.to_ascii_uppercase().replace('-', "_");
        let bare = |name: &'static str| name.strip_prefix("OPENAI_").unwrap_or(name);
        let mut all = Key::with_variables();
        let found = all.find(|(_, variable)| [*variable, bare(variable)].contains(&&*name));
        found.map(|(key, _)| key)
    }

    /// Those that have variables, in the order of their table.
    pub(crate) fn with_variables() -> impl Iterator<Item = (&'static Key, &'static str)> {
        KEYS.iter()
            .filter_map(|key| key.variable.map(|variable| (key, variable)))
    }

    /// Whether a value may be put here.
    pub(crate) fn allows(&self, value: &Value) -> bool {
        self.allowed.allows(value) && (self.put)(&mut PolicyConfig::default(), value)
    }

    /// Puts a value that is allowed, and leaves alone what is not.
    pub(crate) fn put(&self, config: &mut PolicyConfig, value: &Value) -> bool {
        self.allowed.allows(value) && (self.put)(config, value)
    }

    pub(crate) fn get(&self, config: &PolicyConfig) -> Option<Value> {
        (self.get)(config)
    }
}

impl PolicyConfig {
    /// Checks every number against its range.
    ///
    /// # Errors
    ///
    /// Names every setting whose value is not allowed, its value and what is.
    pub fn validate(&self) -> Result<(), PolicyError> {
        let bad = KEYS.iter().filter_map(|key| {
            let value = key.get(self).filter(|value| !key.allowed.allows(value))?;
            Some(BadSetting::of_key(key.name, &value, key.allowed))
        });
        match bad.collect::<Vec<_>>() {
            bad if bad.is_empty() => Ok(()),
            bad => Err(PolicyError::new(bad)),
        }
    }

    /// Its limits beside those of tokens and requests by the minute.
    pub(crate) fn meters(&self) -> impl Iterator<Item = (Unit, Per, u64)> {
        let meters = [
            (Unit::Input, Per::Minute, self.input_tokens_per_minute),
            (Unit::Output, Per::Minute, self.output_tokens_per_minute),
            (Unit::Images, Per::Minute, self.images_per_minute),
            (Unit::Tokens, Per::Day, self.tokens_per_day),
            (Unit::Requests, Per::Day, self.requests_per_day),
        ];
        let limited = |(unit, per, amount): (_, _, Option<u64>)| Some((unit, per, amount?));
        meters.into_iter().filter_map(limited)
    }

    /// Whether any limit is of something else than tokens and requests.
    pub(crate) fn splits(&self) -> bool {
        self.meters()
            .any(|(unit, ..)| !matches!(unit, Unit::Tokens | Unit::Requests))
    }

    /// How its requests are charged.
    pub(crate) fn estimator(&self) -> Estimator {
        self.charge_rule.with_est_tokens(self.est_tokens_per_run)
    }

    /// As the variables describe it; what is not set or empty has its default.
    pub(crate) fn from_vars(
        var: impl Fn(&str) -> Option<String>,
    ) -> Result<PolicyConfig, PolicyError> {
        let mut config = PolicyConfig::default();
        for (key, value) in read_vars(var)? {
            key.put(&mut config, &value);
        }
        Ok(config)
    }
}

/// What the variables say, and nothing of those that are not set or empty.
///
/// # Errors
///
/// Names every variable whose value is not allowed.
pub(crate) fn read_vars(
    var: impl Fn(&str) -> Option<String>,
) -> Result<Vec<(&'static Key, Value)>, PolicyError> {
    let (mut read, mut bad) = (Vec::new(), Vec::new());
    for (key, variable) in Key::with_variables() {
        let text = var(variable).unwrap_or_default();
        let text = text.trim();
        if text.is_empty() {
            continue;
        }
        match key.allowed.parse(text) {
            value if key.allows(&value) => read.push((key, value)),
            _ => bad.push(BadSetting::of_variable(variable, text, key.allowed)),
        }
    }
    match bad.is_empty() {
        true => Ok(read),
        false => Err(PolicyError::new(bad)),
    }
}

// ===== its form in files =====

impl Serialize for PolicyConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for key in KEYS {
            // Whoever has no such limit may have had it by default.
            let value = key.get(self).or_else(|| key.unlimited());
            if let Some(value) = value {
                map.serialize_entry(key.name, &value)?;
            }
        }
        map.end()
    }
}

impl Key {
    /// As absence is written, where it can be.
    fn unlimited(&self) -> Option<Value> {
        let unlimited = Value::Text("unlimited".into());
        Some(unlimited).filter(|value| self.allowed.allows(value) && self.place != Place::Nowhere)
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Whole(number) => serializer.serialize_u64(*number),
            Value::Real(number) => serializer.serialize_f64(*number),
            Value::Flag(flag) => serializer.serialize_bool(*flag),
            Value::Text(text) => serializer.serialize_str(text),
            Value::Other(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for PolicyConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Settings;

        impl<'de> Visitor<'de> for Settings {
            type Value = PolicyConfig;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a policy's settings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<PolicyConfig, A::Error> {
                let mut config = PolicyConfig::default();
                while let Some(name) = map.next_key::<String>()? {
                    let key = Key::named(&name).ok_or_else(|| {
                        A::Error::custom(not_known(&name, KEYS.iter().map(|key| key.name)))
                    })?;
                    let value = map.next_value()?;
                    if !key.put(&mut config, &value) {
                        let bad = BadSetting::of_key(key.name, &value, key.allowed);
                        return Err(A::Error::custom(bad));
                    }
                }
                Ok(config)
            }
        }

        deserializer.deserialize_map(Settings)
    }
}

/// What is said of a key that is none of those allowed: which one is meant, if it is the name
/// of a variable or a flag, or near to a key; else all of them.
pub(crate) fn not_known<'k>(name: &str, allowed: impl Iterator<Item = &'k str>) -> String {
    let allowed: Vec<_> = allowed.collect();
    let is_allowed = |key: &&Key| allowed.contains(&key.name);
    let elsewhere = Key::elsewhere(name).filter(is_allowed).map(|key| key.name);
    let meant = elsewhere.or_else(|| nearest(name, allowed.iter().copied()));
    // A name in a message is no longer than a line.
    let name = match name.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &name[..end]),
        None => name.to_owned(),
    };
    match (meant, &allowed[..]) {
        (Some(meant), _) => format!("{name} is not known: {meant} is meant, perhaps"),
        (None, [only]) => format!("{name} is not known: {only} is all that is allowed"),
        (None, all) => format!("{name} is not known: allowed are {}", all.join(", ")),
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Plain;

        impl Visitor<'_> for Plain {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, a text, true or false")
            }

            fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
                Ok(Value::Flag(flag))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
                Ok(Value::Whole(number))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
                Ok(match u64::try_from(number) {
                    Ok(number) => Value::Whole(number),
                    Err(_) => Value::Other(number.to_string()),
                })
            }

            fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
                Ok(Value::Real(number))
            }

            fn visit_str<E>(self, text: &str) -> Result<Value, E> {
                Ok(Value::Text(text.to_owned().into()))
            }
        }

        deserializer.deserialize_any(Plain)
    }
}
