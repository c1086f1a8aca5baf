//! One account for many processes: what a file says of the ledger that they share.

use std::borrow::Cow;
use std::fmt;

use serde::Serialize;
use tokio::time::Instant;
use tollhouse::shared::{Fallback, Sharing};

use super::error::Problem;
use crate::policy::value::{Allowed, Setting, Value};

pub(super) const SECTION: &str = "[shared]";

pub(super) const KEYS: [&str; 4] = ["redis", "name", "fallback", "floor"];

/// What is written for a [`Fallback`].
pub(super) const FALLBACK: Allowed = Allowed::Words(&["share", "closed", "open"]);

/// The least share.
pub(super) const FLOOR: Allowed = Allowed::Real(0.0, 1.0);

const SCHEMES: [&str; 10] = [
    "redis",
    "rediss",
    "redis-cluster",
    "redis-sentinel",
    "redis+unix",
    "unix",
    "valkey",
    "valkeys",
    "valkey-cluster",
    "valkey-sentinel",
];

/// The longest name of an account: it is a part of every key.
const LONGEST: usize = 200;

/// Which ledger the account's processes share, and what each does while that is away.
///
/// It is plain data: an [`Account`](super::Account) comes under a ledger by
/// [`Account::shared`](super::Account::shared), and whoever connects to it looks here. What
/// is changed of it while the account is in use is for the next start.
///
/// # Examples
///
/// ```
/// use tollhouse::shared::Fallback;
/// use tollhouse_openai::AccountConfig;
///
/// let config = AccountConfig::from_toml(
///     r#"
///     [shared]
///     redis = "redis://:secret@10.0.0.7:6379/0"
///     name = "production"
///     fallback = "closed"
///     "#,
/// )?;
/// let shared = config.shared.expect("it says so");
/// assert_eq!(shared.name, "production");
/// assert_eq!(shared.fallback, Fallback::Closed);
/// // The password is in no message.
/// assert!(!format!("{shared:?}").contains("secret"));
/// # Ok::<(), tollhouse_openai::account::AccountError>(())
/// ```
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct SharedLedgerConfig {
    /// Where the Redis is, or a Valkey, as a URL; `None` where somebody else says it.
    pub redis: Option<String>,
    /// The account's name there: all processes of one account say the same, and those of
    /// another another; `default` unless set.
    pub name: String,
    /// What a process does while it is away; a [share](Fallback::Share) unless set.
    pub fallback: Fallback,
}

impl Default for SharedLedgerConfig {
    fn default() -> Self {
        SharedLedgerConfig {
            redis: None,
            name: "default".to_owned(),
            fallback: Fallback::default(),
        }
    }
}

impl fmt::Debug for SharedLedgerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedLedgerConfig")
            .field("redis", &self.redis.as_deref().map(without_password))
            .field("name", &self.name)
            .field("fallback", &self.fallback)
            .finish()
    }
}

impl SharedLedgerConfig {
    /// Where it is, without a password, to be displayed.
    pub fn place(&self) -> Option<String> {
        let redis = self.redis.as_deref();
        redis.map(|redis| without_password(redis).into_owned())
    }

    /// All that is wrong with it.
    pub(super) fn problems(&self) -> impl Iterator<Item = Problem> {
        let is_known = |url: &&str| {
            let scheme = url.split_once("://").map(|(scheme, _)| scheme);
            scheme.is_some_and(|scheme| SCHEMES.contains(&scheme))
        };
        let redis = self.redis.as_deref().filter(|url| !is_known(url));
        let redis = redis.map(|_| {
            // What stands there may have a password in it.
            let what = format!(
                "redis is no URL of a Redis: {}:// is meant, perhaps",
                SCHEMES[0]
            );
            Problem::said(SECTION, what).at_key("redis")
        });
        let is_fine = (1..=LONGEST).contains(&self.name.len())
            && self
                .name
                .chars()
                .all(|c| c.is_ascii_graphic() && !"{}".contains(c));
        let name = (!is_fine).then(|| {
            let what = format!(
                "name is {:?}: allowed is a text from 1 to {LONGEST} visible ASCII letters \
                 without braces",
                self.name
            );
            Problem::said(SECTION, what).at_key("name")
        });
        let floor = match self.fallback {
            Fallback::Share { floor } if !FLOOR.allows(&Value::Real(floor)) => {
                Some(Problem::value(SECTION, "floor", &Value::Real(floor), FLOOR))
            }
            _ => None,
        };
        [redis, name, floor].into_iter().flatten()
    }

    /// By key, as it is written, without a password.
    pub(super) fn each(&self, mut say: impl FnMut(&'static str, String)) {
        if let Some(redis) = &self.redis {
            say("redis", format!("{:?}", without_password(redis)));
        }
        say("name", format!("{:?}", self.name));
        if let Some(value) = self.fallback.to_value() {
            say("fallback", value.to_string());
        }
        if let Fallback::Share { floor } = self.fallback {
            say("floor", floor.to_string());
        }
    }
}

/// A floor is said apart.
impl Setting for Fallback {
    fn from_value(value: &Value) -> Option<Self> {
        let Value::Text(text) = value else {
            return None;
        };
        match text.to_ascii_lowercase().as_str() {
            "share" => Some(Fallback::default()),
            "closed" => Some(Fallback::Closed),
            "open" => Some(Fallback::Open),
            _ => None,
        }
    }

    fn to_value(&self) -> Option<Value> {
        let text = match self {
            Fallback::Share { .. } => "share",
            Fallback::Closed => "closed",
            Fallback::Open => "open",
            _ => return None,
        };
        Some(Value::Text(Cow::Borrowed(text)))
    }
}

/// How an account stands with the ledger that it shares.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SharedSnapshot {
    /// Whether it spends from the shared ledger; if not, it goes on with its fallback, or has
    /// not been answered yet.
    pub up: bool,
    /// Since when that has been so, in seconds.
    pub since_seconds: f64,
    /// Why not.
    pub why: Option<String>,
    /// How many processes there were at the last answer.
    pub processes: u32,
}

impl SharedSnapshot {
    pub(super) fn of(sharing: &Sharing, now: Instant) -> Self {
        let status = sharing.status();
        SharedSnapshot {
            up: status.is_up,
            since_seconds: (now - status.since).as_secs_f64(),
            why: status.why.map(|why| why.to_string()),
            processes: status.processes,
        }
    }
}

/// A URL, with dots in the place of its user's name and password.
fn without_password(url: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = url.split_once("://") else {
        // Whatever it is, it may be a secret.
        return Cow::Borrowed("...");
    };
    // Secrets may stand behind the last @ that is before a path, or in a query.
    let rest = rest.split_once('?').map_or(rest, |(rest, _)| rest);
    match rest.rsplit_once('@') {
        Some((_, place)) => format!("{scheme}://...@{place}").into(),
        None => format!("{scheme}://{rest}").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_told() {
        let table = [
            ("redis://10.0.0.7:6379/0", "redis://10.0.0.7:6379/0"),
            ("rediss://:p@ss@host/0", "rediss://...@host/0"),
            ("redis://me:secret@host", "redis://...@host"),
            (
                "redis+unix:///run/redis?pass=secret",
                "redis+unix:///run/redis",
            ),
            ("secret", "..."),
        ];
        for (url, told) in table {
            assert_eq!(without_password(url), told, "{url}");
        }
    }
}
