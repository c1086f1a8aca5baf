//! Who may call, and by whose account.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use subtle::{Choice, ConstantTimeEq};
use tokio::time::Instant;
use tollhouse_openai::OpenAi;
use tollhouse_openai::account::AccountSnapshot;

use crate::error::Refusal;
use crate::gates::Gates;
use crate::headers::{API_KEY, CALLER};

/// A token of the proxy's and the caller that it names.
#[derive(Clone)]
pub(crate) struct Token {
    pub(crate) secret: String,
    pub(crate) caller: String,
}

/// Whose key goes to the provider.
#[derive(Debug)]
pub(crate) enum Keys {
    /// The proxy's own; clients show a token, if there are any.
    Own {
        tokens: Vec<Token>,
        gates: Box<Gates>,
    },
    /// The clients' own, each an account.
    Theirs(Box<Accounts>),
}

/// A call that may pass.
pub(crate) struct Admitted {
    pub(crate) gates: Gates,
    pub(crate) caller: String,
    /// Whether the client's key is the provider's business.
    pub(crate) keeps_key: bool,
}

impl Keys {
    pub(crate) fn admit(&self, headers: &HeaderMap) -> Result<Admitted, Refusal> {
        let (gates, vouched, keeps_key) = match self {
            Keys::Own { tokens, gates } => (Gates::clone(gates), known(tokens, headers)?, false),
            Keys::Theirs(accounts) => {
                let key = shown(headers).ok_or(Refusal::NoKey)?;
                (accounts.of(key)?, None, true)
            }
        };
        let caller = vouched.map_or_else(|| claimed(headers), str::to_owned);
        Ok(Admitted {
            gates,
            caller,
            keeps_key,
        })
    }

    /// Whether whoever sends these headers may look at the proxy.
    pub(crate) fn may_look(&self, headers: &HeaderMap) -> bool {
        match self {
            Keys::Own { tokens, .. } => known(tokens, headers).is_ok(),
            Keys::Theirs(_) => true,
        }
    }

    pub(crate) fn base_path(&self) -> &str {
        match self {
            Keys::Own { gates, .. } => gates.base_path(),
            Keys::Theirs(accounts) => accounts.pattern.base_path(),
        }
    }

    pub(crate) fn snapshots(&self) -> Vec<AccountSnapshot> {
        match self {
            Keys::Own { gates, .. } => vec![gates.snapshot()],
            Keys::Theirs(accounts) => {
                let opened = accounts.all();
                opened.iter().map(Gates::snapshot).collect()
            }
        }
    }

    pub(crate) fn close(&self) {
        match self {
            Keys::Own { gates, .. } => gates.close(),
            Keys::Theirs(accounts) => accounts.close(),
        }
    }
}

/// What a client shows: a bearer token, or an `api-key` as Azure's clients send it.
fn shown(headers: &HeaderMap) -> Option<&[u8]> {
    let bearer = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
    let bearer = bearer.and_then(|value| {
        let (kind, token) = value.split_at_checked(BEARER.len())?;
        kind.eq_ignore_ascii_case(BEARER).then_some(token)
    });
    bearer.or_else(|| headers.get(API_KEY).map(HeaderValue::as_bytes))
}

const BEARER: &[u8] = b"Bearer ";

/// Which caller the shown token names; none where nobody needs one.
fn known<'t>(tokens: &'t [Token], headers: &HeaderMap) -> Result<Option<&'t str>, Refusal> {
    if tokens.is_empty() {
        return Ok(None);
    }
    let shown = shown(headers).ok_or(Refusal::NoToken)?;
    let mut found = None;
    // All of them are compared, each in a time that tells nothing but lengths.
    for token in tokens {
        let same: Choice = token.secret.as_bytes().ct_eq(shown);
        if bool::from(same) {
            found = Some(token.caller.as_str());
        }
    }
    found.map(Some).ok_or(Refusal::WrongToken)
}

/// What a client calls itself where nobody vouches for it: for the log alone.
fn claimed(headers: &HeaderMap) -> String {
    let name = headers.get(CALLER).and_then(|name| name.to_str().ok());
    let name = name.unwrap_or_default();
    name.chars().take(LONGEST_NAME).collect()
}

const LONGEST_NAME: usize = 64;

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("caller", &self.caller)
            .finish_non_exhaustive()
    }
}

// ===== impl Accounts =====

/// An account for each key that clients bring; the keys themselves are not kept.
pub(crate) struct Accounts {
    pattern: Gates,
    openai: OpenAi,
    most: usize,
    /// The operating system's randomness, twice: 128 bits that nobody can aim at.
    hashers: [RandomState; 2],
    opened: Mutex<Opened>,
}

#[derive(Default)]
struct Opened {
    by_key: HashMap<[u64; 2], (Gates, Instant)>,
    is_closed: bool,
}

/// After so long all limits by the minute are full again, so that forgetting an account
/// makes nobody go above one.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(150);

impl Accounts {
    pub(crate) fn new(pattern: Gates, openai: OpenAi, most: usize) -> Self {
        Accounts {
            pattern,
            openai,
            most,
            hashers: [RandomState::new(), RandomState::new()],
            opened: Mutex::default(),
        }
    }

    fn of(&self, key: &[u8]) -> Result<Gates, Refusal> {
        let key = [0, 1].map(|half: usize| self.hashers[half].hash_one(key));
        let now = Instant::now();
        let mut opened = self.lock();
        if let Some((gates, used)) = opened.by_key.get_mut(&key) {
            *used = now;
            return Ok(gates.clone());
        }
        if opened.is_closed {
            return Err(Refusal::Closing);
        }
        if opened.by_key.len() >= self.most {
            opened.forget_one(now)?;
        }
        let gates = self.pattern.apart(self.openai.clone());
        opened.by_key.insert(key, (gates.clone(), now));
        Ok(gates)
    }

    fn all(&self) -> Vec<Gates> {
        let opened = self.lock();
        opened
            .by_key
            .values()
            .map(|(gates, _)| gates.clone())
            .collect()
    }

    fn close(&self) {
        self.lock().is_closed = true;
        // Closing wakes whoever waits, which is done under no lock.
        for gates in self.all() {
            gates.close();
        }
    }

    /// No account is ever half opened.
    fn lock(&self) -> MutexGuard<'_, Opened> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Opened {
    /// Forgets the account that was not used for the longest time.
    fn forget_one(&mut self, now: Instant) -> Result<(), Refusal> {
        let old = |used: Instant| now.saturating_duration_since(used) >= FORGOTTEN_AFTER;
        let idle = self
            .by_key
            .iter()
            .filter(|(_, (gates, used))| old(*used) && gates.is_idle());
        let oldest = idle.min_by_key(|(_, (_, used))| *used).map(|(key, _)| *key);
        let oldest = oldest.ok_or(Refusal::TooManyKeys)?;
        self.by_key.remove(&oldest);
        Ok(())
    }
}

impl fmt::Debug for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accounts")
            .field("most", &self.most)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tollhouse_openai::{Account, Policy};

    use super::*;

    fn gates() -> Gates {
        let openai = OpenAi::builder().base_url("http://127.0.0.1:1/v1").build();
        Gates::new(Account::new(Policy::default()), openai.unwrap())
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.insert(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn admitted(keys: &Keys, lines: &[(&'static str, &str)]) -> Result<String, Refusal> {
        keys.admit(&headers(lines)).map(|admitted| admitted.caller)
    }

    #[tokio::test]
    async fn tokens_name_their_caller_and_nothing_else_does() {
        let token = |secret: &str, caller: &str| Token {
            secret: secret.to_owned(),
            caller: caller.to_owned(),
        };
        let tokens = vec![token("t-1", "web"), token("t-22", "batch")];
        let keys = Keys::Own {
            tokens,
            gates: Box::new(gates()),
        };
        for (lines, caller) in [
            (&[("authorization", "Bearer t-1")][..], Ok("web")),
            (
                &[
                    ("authorization", "bearer t-22"),
                    ("x-tollhouse-caller", "web"),
                ],
                Ok("batch"),
            ),
            (&[("api-key", "t-1")], Ok("web")),
            (&[("authorization", "Bearer t-2")], Err(Refusal::WrongToken)),
            (&[("authorization", "Bearer ")], Err(Refusal::WrongToken)),
            (&[("authorization", "Basic t-1")], Err(Refusal::NoToken)),
            (&[("x-tollhouse-caller", "web")], Err(Refusal::NoToken)),
        ] {
            let caller = caller.map(str::to_owned);
            assert_eq!(admitted(&keys, lines), caller, "{lines:?}");
        }
        assert!(!format!("{keys:?}").contains("t-1"));
    }

    #[tokio::test]
    async fn without_tokens_anybody_may_call_by_any_name() {
        let keys = Keys::Own {
            tokens: Vec::new(),
            gates: Box::new(gates()),
        };
        assert_eq!(admitted(&keys, &[]), Ok(String::new()));
        let long = "x".repeat(100);
        let caller = admitted(&keys, &[("x-tollhouse-caller", &long)]);
        assert_eq!(caller, Ok("x".repeat(LONGEST_NAME)));
    }

    #[tokio::test(start_paused = true)]
    async fn accounts_are_bounded_and_the_oldest_idle_one_is_forgotten() {
        let openai = OpenAi::builder().base_url("http://127.0.0.1:1/v1").build();
        let accounts = Accounts::new(gates(), openai.unwrap(), 2);
        let keys = Keys::Theirs(Box::new(accounts));
        let with = |key: &str| admitted(&keys, &[("authorization", &format!("Bearer {key}"))]);
        let none = Ok(String::new());
        assert_eq!(
            (with("a"), with("b"), with("a")),
            (none.clone(), none.clone(), none.clone())
        );
        assert_eq!(with("c"), Err(Refusal::TooManyKeys));
        tokio::time::advance(FORGOTTEN_AFTER - Duration::from_millis(1)).await;
        assert_eq!(with("a"), none);
        assert_eq!(with("c"), Err(Refusal::TooManyKeys));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(with("c"), none);
        assert_eq!(with("a"), none, "b was the oldest");
        assert_eq!(with("b"), Err(Refusal::TooManyKeys));
        keys.close();
        assert_eq!(keys.snapshots().len(), 2);
        assert_eq!(with("d"), Err(Refusal::Closing));
        assert_eq!(admitted(&keys, &[]), Err(Refusal::NoKey));
    }
}
