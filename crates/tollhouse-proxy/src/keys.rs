//! Who may call, and by whose account.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use tokio::time::Instant;
use tollhouse_openai::account::AccountSnapshot;
use tollhouse_openai::shared::Sharing;
use tollhouse_openai::{AccountConfig, Caller, OpenAi};

use crate::error::Refusal;
use crate::gates::Gates;
use crate::tally::{Tallies, Tally};
use crate::tokens::{Tokens, beside_key, claimed, shown, token};

/// Whose key goes to the provider.
#[derive(Debug)]
pub(crate) enum Keys {
    /// The proxy's own; clients show a token, if there are any.
    Own {
        tokens: Tokens,
        tallies: Tallies,
        gates: Box<Gates>,
    },
    /// The clients' own, each an account; a token is shown beside them, if there are any.
    Theirs {
        tokens: Tokens,
        accounts: Box<Accounts>,
    },
}

/// A call that may pass.
pub(crate) struct Admitted {
    pub(crate) gates: Gates,
    pub(crate) caller: Caller,
    /// Where a token was shown.
    pub(crate) tally: Option<Arc<Tally>>,
    /// Whether the client's key is the provider's business.
    pub(crate) keeps_key: bool,
}

impl Keys {
    pub(crate) fn admit(&self, headers: &HeaderMap) -> Result<Admitted, Refusal> {
        match self {
            Keys::Own {
                tokens,
                tallies,
                gates,
            } => {
                let config = gates.config();
                let caller = caller(tokens, gates, &config, headers)?;
                let token = token(headers).filter(|_| tokens.are_demanded(&config));
                Ok(Admitted {
                    caller,
                    tally: token.map(|token| tallies.of(token)),
                    gates: Gates::clone(gates),
                    keeps_key: false,
                })
            }
            // Whoever has the key has the account, and may call himself what he likes unless his
            // token names him. Who has no token opens no account.
            Keys::Theirs { tokens, accounts } => {
                let config = accounts.pattern.config();
                let vouched = tokens.admit(&config, beside_key(headers));
                let vouched = vouched.map_err(|_| Refusal::NoTokenBesideKey)?;
                let named = || claimed(headers).map_or_else(Caller::default, Caller::new);
                Ok(Admitted {
                    gates: accounts.of(shown(headers).ok_or(Refusal::NoKey)?)?,
                    caller: vouched.unwrap_or_else(named),
                    tally: None,
                    keeps_key: true,
                })
            }
        }
    }

    /// Whether whoever sends these headers may look at the proxy.
    pub(crate) fn may_look(&self, headers: &HeaderMap) -> bool {
        let (tokens, gates) = self.tokens();
        tokens.admit(&gates.config(), token(headers)).is_ok()
    }

    /// Whether nobody but this machine's own programs may look: where clients bring keys of
    /// their own and there is no token to be shown.
    pub(crate) fn are_seen_from_here_alone(&self) -> bool {
        let (tokens, gates) = self.tokens();
        matches!(self, Keys::Theirs { .. }) && !tokens.are_demanded(&gates.config())
    }

    fn tokens(&self) -> (&Tokens, &Gates) {
        match self {
            Keys::Own { tokens, gates, .. } => (tokens, gates),
            Keys::Theirs { tokens, accounts } => (tokens, &accounts.pattern),
        }
    }

    pub(crate) fn base_path(&self) -> &str {
        self.tokens().1.base_path()
    }

    /// As [`Gates::has_tasks`].
    pub(crate) fn upstream_has_tasks(&self) -> bool {
        self.tokens().1.has_tasks()
    }

    /// The account's part in a shared ledger, if it has one.
    pub(crate) fn sharing(&self) -> Option<Sharing> {
        match self {
            Keys::Own { gates, .. } => gates.sharing(),
            Keys::Theirs { .. } => None,
        }
    }

    pub(crate) fn snapshots(&self) -> Vec<AccountSnapshot> {
        match self {
            Keys::Own { gates, .. } => vec![gates.snapshot()],
            Keys::Theirs { accounts, .. } => {
                let opened = accounts.all();
                opened.iter().map(Gates::snapshot).collect()
            }
        }
    }

    pub(crate) fn close(&self) {
        match self {
            Keys::Own { gates, .. } => gates.close(),
            Keys::Theirs { accounts, .. } => accounts.close(),
        }
    }
}

/// Who calls: as the token says; or, where it says nothing, as the client does. A name to
/// which the file gives a weight, or some token a bearer, is nobody's to claim.
fn caller(
    tokens: &Tokens,
    gates: &Gates,
    config: &AccountConfig,
    headers: &HeaderMap,
) -> Result<Caller, Refusal> {
    if let Some(caller) = tokens.admit(config, token(headers))? {
        return Ok(caller);
    }
    let Some(name) = claimed(headers) else {
        return Ok(Caller::default());
    };
    let is_heavy = gates.weight_of(&name).is_some_and(|weight| weight > 1);
    match is_heavy || tokens.name(config, &name) {
        true => Err(Refusal::NotVouched { caller: name }),
        false => Ok(Caller::new(name)),
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
    by_key: HashMap<[u64; 2], Open>,
    is_closed: bool,
}

/// One key's account.
struct Open {
    gates: Gates,
    number: usize,
    used: Instant,
    /// What it goes by.
    config: Arc<AccountConfig>,
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

    /// The account of a key, as the pattern is now.
    fn of(&self, key: &[u8]) -> Result<Gates, Refusal> {
        let key = [0, 1].map(|half: usize| self.hashers[half].hash_one(key));
        let config = self.pattern.config();
        let (gates, before) = self.open(key, &config)?;
        // Changing an account wakes whoever waits, which is done under no lock.
        if !Arc::ptr_eq(&before, &config) {
            gates.go_by(&config);
        }
        Ok(gates)
    }

    /// The account, and what it went by until now.
    fn open(
        &self,
        key: [u64; 2],
        config: &Arc<AccountConfig>,
    ) -> Result<(Gates, Arc<AccountConfig>), Refusal> {
        let now = Instant::now();
        let mut opened = self.lock();
        if let Some(open) = opened.by_key.get_mut(&key) {
            open.used = now;
            let before = std::mem::replace(&mut open.config, Arc::clone(config));
            return Ok((open.gates.clone(), before));
        }
        if opened.is_closed {
            return Err(Refusal::Closing);
        }
        if opened.by_key.len() >= self.most {
            opened.forget_one(now)?;
        }
        let number = opened.free_number();
        let open = Open {
            gates: self.pattern.apart(number, self.openai.clone()),
            number,
            used: now,
            config: Arc::clone(config),
        };
        let gates = open.gates.clone();
        opened.by_key.insert(key, open);
        Ok((gates, Arc::clone(config)))
    }

    fn all(&self) -> Vec<Gates> {
        let opened = self.lock();
        let opened = opened.by_key.values();
        opened.map(|open| open.gates.clone()).collect()
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
    /// By which metrics tell an account from all others that are open.
    fn free_number(&self) -> usize {
        let is_free = |number: &usize| self.by_key.values().all(|open| open.number != *number);
        (1..).find(is_free).expect("fewer are open")
    }

    /// Forgets the account that was not used for the longest time: of those whose keys the
    /// provider never knew at once, or whoever makes keys up would keep all others out; of the
    /// others after some time.
    fn forget_one(&mut self, now: Instant) -> Result<(), Refusal> {
        let unproven = self.oldest_idle(|open| !open.gates.are_proven());
        let is_old = |open: &Open| now.saturating_duration_since(open.used) >= FORGOTTEN_AFTER;
        let oldest = unproven.or_else(|| self.oldest_idle(is_old));
        let oldest = oldest.ok_or(Refusal::TooManyKeys)?;
        self.by_key.remove(&oldest);
        Ok(())
    }

    fn oldest_idle(&self, may_go: impl Fn(&Open) -> bool) -> Option<[u64; 2]> {
        let all = self.by_key.iter();
        let idle = all.filter(|(_, open)| may_go(open) && open.gates.is_idle());
        let oldest = idle.min_by_key(|(_, open)| open.used);
        oldest.map(|(key, _)| *key)
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
    use http::HeaderValue;
    use tollhouse_openai::{Account, Policy};

    use super::*;
    use crate::tokens::{LONGEST_NAME, Token};

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
        let admitted = keys.admit(&headers(lines))?;
        Ok(admitted.caller.name().unwrap_or_default().to_owned())
    }

    fn own(file: &str, tokens: Tokens) -> Keys {
        let openai = OpenAi::builder().base_url("http://127.0.0.1:1/v1").build();
        let account = Account::from_toml(file).unwrap();
        Keys::Own {
            tokens,
            tallies: Tallies::new(),
            gates: Box::new(Gates::new(account, openai.unwrap())),
        }
    }

    fn token(secret: &str, caller: Option<&str>) -> Token {
        Token {
            secret: secret.to_owned(),
            caller: caller.map(Caller::new),
        }
    }

    fn bearer(token: &str) -> String {
        format!("Bearer {token}")
    }

    #[tokio::test]
    async fn tokens_name_their_caller_and_nothing_else_does() {
        let keys = own(
            "[tokens]\nbatch = [\"t-22\", \"t-23\"]\n",
            Tokens {
                given: vec![token("t-1", Some("web")), token("t-all", None)],
                vouch: Some(Arc::new(|shown| {
                    let name = shown.strip_prefix("signed-")?;
                    Some(Caller::new(name).weight(7))
                })),
                ..Tokens::default()
            },
        );
        for (lines, caller) in [
            (&[("authorization", "Bearer t-1")][..], Ok("web")),
            (
                &[
                    ("authorization", "bearer t-22"),
                    ("x-tollhouse-caller", "web"),
                ],
                Ok("batch"),
            ),
            (&[("api-key", "t-23")], Ok("batch")),
            (&[("authorization", "Bearer signed-me")], Ok("me")),
            (&[("authorization", "Bearer t-all")], Ok("")),
            (&[("x-tollhouse-token", "t-1")], Ok("web")),
            (
                &[
                    ("x-tollhouse-token", "t-2"),
                    ("authorization", "Bearer t-1"),
                ],
                Err(Refusal::WrongToken),
            ),
            (
                &[("api-key", "t-all"), ("x-tollhouse-caller", "mine")],
                Ok("mine"),
            ),
            (&[("authorization", "Bearer t-2")], Err(Refusal::WrongToken)),
            (&[("authorization", "Bearer ")], Err(Refusal::WrongToken)),
            (&[("authorization", "Basic t-1")], Err(Refusal::NoToken)),
            (&[("x-tollhouse-caller", "web")], Err(Refusal::NoToken)),
        ] {
            let caller = caller.map(str::to_owned);
            assert_eq!(admitted(&keys, lines), caller, "{lines:?}");
        }
        let signed = headers(&[("api-key", "signed-me")]);
        assert_eq!(keys.admit(&signed).unwrap().caller.get_weight(), 7);
        assert!(!format!("{keys:?}").contains("t-"), "{keys:?}");
    }

    #[tokio::test]
    async fn a_token_beside_a_key_names_the_caller_where_it_names_one() {
        let openai = OpenAi::builder().base_url("http://127.0.0.1:1/v1").build();
        let keys = Keys::Theirs {
            tokens: Tokens {
                given: vec![token("t-1", Some("web")), token("t-all", None)],
                ..Tokens::default()
            },
            accounts: Box::new(Accounts::new(gates(), openai.unwrap(), 2)),
        };
        let key = ("authorization", "Bearer sk-own");
        let called = ("x-tollhouse-caller", "me");
        for (token, caller) in [
            ("t-1", Ok("web".to_owned())),
            ("t-all", Ok("me".to_owned())),
            ("t-2", Err(Refusal::NoTokenBesideKey)),
        ] {
            let shown = [key, called, ("x-tollhouse-token", token)];
            assert_eq!(admitted(&keys, &shown), caller, "{token}");
        }
        let keyless = [("x-tollhouse-token", "t-1")];
        assert_eq!(admitted(&keys, &keyless), Err(Refusal::NoKey));
    }

    /// A name with a weight, or with a token, is its bearer's.
    #[tokio::test]
    async fn nobody_claims_a_name_that_somebody_vouches_for() {
        let file = "[callers.\"heavy*\"]\nweight = 8\n[callers.light]\nweight = 1\n\
                    [tokens]\nnamed = \"t-named\"\n";
        let given = vec![token("t-all", None), token("t-1", Some("given"))];
        let keys = own(
            file,
            Tokens {
                given,
                ..Tokens::default()
            },
        );
        let as_caller =
            |name: &str| admitted(&keys, &[("api-key", "t-all"), ("x-tollhouse-caller", name)]);
        for name in ["light", "anybody"] {
            assert_eq!(as_caller(name), Ok(name.to_owned()));
        }
        for name in ["heavy", "heavy-duty", " heavy ", "named", "given"] {
            let caller = name.trim().to_owned();
            assert_eq!(as_caller(name), Err(Refusal::NotVouched { caller }));
        }
        // Without any token nobody can vouch.
        let open = own("[callers.heavy]\nweight = 8\n", Tokens::default());
        let refused = admitted(&open, &[("x-tollhouse-caller", "heavy")]);
        assert!(matches!(refused, Err(Refusal::NotVouched { .. })));
    }

    /// An edit of the file adds and takes away, and opens nothing that was closed.
    #[tokio::test]
    async fn the_files_tokens_are_those_of_the_moment() {
        let openai = OpenAi::builder().base_url("http://127.0.0.1:1/v1").build();
        let openai = openai.unwrap();
        let account = Account::from_toml("[tokens]\nweb = \"t-1\"\n").unwrap();
        let keys = |is_guarded| Keys::Own {
            tokens: Tokens {
                is_guarded,
                ..Tokens::default()
            },
            tallies: Tallies::new(),
            gates: Box::new(Gates::new(account.clone(), openai.clone())),
        };
        let (closed, open) = (keys(true), keys(false));
        let ask = |keys: &Keys, token: &str| admitted(keys, &[("authorization", &bearer(token))]);
        assert_eq!(ask(&closed, "t-1"), Ok("web".to_owned()));
        account.reload_toml("[tokens]\nweb = \"t-2\"\n").unwrap();
        assert_eq!(ask(&closed, "t-1"), Err(Refusal::WrongToken));
        assert_eq!(ask(&closed, "t-2"), Ok("web".to_owned()));
        account.reload_toml("").unwrap();
        assert_eq!(ask(&closed, "t-2"), Err(Refusal::WrongToken));
        assert_eq!(ask(&open, "t-2"), Ok(String::new()));
    }

    #[tokio::test]
    async fn without_tokens_anybody_may_call_by_any_name() {
        let keys = own("", Tokens::default());
        assert_eq!(admitted(&keys, &[]), Ok(String::new()));
        let long = "x".repeat(100);
        let caller = admitted(&keys, &[("x-tollhouse-caller", &long)]);
        assert_eq!(caller, Ok("x".repeat(LONGEST_NAME)));
    }

    /// Accounts that are open go by the file's new numbers from their next call on.
    #[tokio::test]
    async fn the_account_of_a_key_follows_the_file() {
        let openai = OpenAi::builder().base_url("http://127.0.0.1:1/v1").build();
        let openai = openai.unwrap();
        let account = Account::from_toml("[defaults]\nmax_concurrency = 2\n").unwrap();
        let accounts = Accounts::new(Gates::new(account.clone(), openai.clone()), openai, 2);
        let slots = |gates: Gates| gates.config().defaults.max_concurrency;
        assert_eq!(slots(accounts.of(b"a").unwrap()), 2);
        account
            .reload_toml("[defaults]\nmax_concurrency = 5\n")
            .unwrap();
        assert_eq!(slots(accounts.of(b"a").unwrap()), 5);
        assert_eq!(slots(accounts.of(b"b").unwrap()), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn accounts_are_bounded_and_the_oldest_idle_one_is_forgotten() {
        let keys = bounded(2);
        let with = |key: &str| {
            let admitted = keys.admit(&headers(&[("authorization", &bearer(key))]))?;
            admitted.gates.prove();
            Ok(())
        };
        assert_eq!((with("a"), with("b"), with("a")), (Ok(()), Ok(()), Ok(())));
        assert_eq!(with("c"), Err(Refusal::TooManyKeys));
        tokio::time::advance(FORGOTTEN_AFTER - Duration::from_millis(1)).await;
        assert_eq!(with("a"), Ok(()));
        assert_eq!(with("c"), Err(Refusal::TooManyKeys));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(with("c"), Ok(()));
        assert_eq!(with("a"), Ok(()), "b was the oldest");
        assert_eq!(with("b"), Err(Refusal::TooManyKeys));
        keys.close();
        assert_eq!(keys.snapshots().len(), 2);
        assert_eq!(with("d"), Err(Refusal::Closing));
        assert_eq!(admitted(&keys, &[]), Err(Refusal::NoKey));
    }

    /// Whoever makes keys up fills no place for long, and takes none that the provider knows.
    #[tokio::test(start_paused = true)]
    async fn a_key_that_the_provider_does_not_know_is_forgotten_first() {
        let keys = bounded(2);
        let with = |key: &str| keys.admit(&headers(&[("authorization", &bearer(key))]));
        with("good").unwrap().gates.prove();
        for made_up in ["a", "b", "c"] {
            assert!(with(made_up).is_ok(), "{made_up}");
        }
        let reading_its_body = with("d").unwrap();
        assert_eq!(with("e").err(), Some(Refusal::TooManyKeys));
        drop(reading_its_body);
        assert!(with("other").is_ok());
        assert!(with("good").unwrap().gates.are_proven(), "it was kept");
    }

    /// Or the gauges of one would be the other's.
    #[tokio::test(start_paused = true)]
    async fn metrics_tell_the_accounts_that_are_open() {
        let keys = bounded(2);
        let with = |key: &str| keys.admit(&headers(&[("authorization", &bearer(key))]));
        let name = |key| with(key).unwrap().gates.config().defaults.name.clone();
        assert_eq!(name("a").as_deref(), Some("key-1"));
        assert_eq!(name("b").as_deref(), Some("key-2"));
        assert_eq!(name("a").as_deref(), Some("key-1"));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(name("b").as_deref(), Some("key-2"));
        assert_eq!(name("c").as_deref(), Some("key-1"), "in a's place");
    }

    fn bounded(most: usize) -> Keys {
        let openai = OpenAi::builder().base_url("http://127.0.0.1:1/v1").build();
        Keys::Theirs {
            tokens: Tokens::default(),
            accounts: Box::new(Accounts::new(gates(), openai.unwrap(), most)),
        }
    }
}
