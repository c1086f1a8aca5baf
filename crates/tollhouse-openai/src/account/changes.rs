//! What a change of an account changed.

use std::collections::BTreeMap;
use std::fmt;

use super::config::{AccountConfig, Overrides};
use super::{shared, tokens};
use crate::policy::config::KEYS;

/// What became different, in the order of the file; made by
/// [`Account::update`](super::Account::update). It displays one change a line.
///
/// # Examples
///
/// ```
/// use tollhouse_openai::Account;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let account = Account::from_toml("[defaults]\nheadroom = 0.1")?;
/// let changes = account.reload_toml("[defaults]\nheadroom = 0.2\n[callers.web]\nweight = 8")?;
/// assert_eq!(
///     changes.to_string(),
///     "[callers.\"web\"] weight: 8, until now not said\n[defaults] headroom: 0.2, until now 0.1",
/// );
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    changes: Vec<Change>,
}

/// One thing that became different.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// The section, as it is written in the file.
    pub section: String,
    /// The key; empty for the section itself.
    pub key: String,
    /// What it said before, if anything.
    pub before: Option<String>,
    /// What it says now, if anything.
    pub after: Option<String>,
}

/// All that a config says, by section and key.
type Said = BTreeMap<(String, String), String>;

impl Changes {
    pub(super) fn between(before: &AccountConfig, after: &AccountConfig) -> Self {
        let tokens = before.tokens.changes(&after.tokens);
        let tokens = tokens.map(|(caller, before, after)| Change {
            section: tokens::SECTION.to_owned(),
            key: caller.to_owned(),
            before,
            after,
        });
        let (before, after) = (said(before), said(after));
        let gone = before.keys().filter(|key| !after.contains_key(*key));
        let mut keys: Vec<_> = after.keys().chain(gone).collect();
        keys.sort();
        let differs = |key: &&&(String, String)| before.get(**key) != after.get(**key);
        let changes = keys.iter().filter(differs).map(|key| Change {
            section: key.0.clone(),
            key: key.1.clone(),
            before: before.get(*key).cloned(),
            after: after.get(*key).cloned(),
        });
        Changes {
            changes: changes.chain(tokens).collect(),
        }
    }

    /// Whether nothing became different.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Each change.
    pub fn iter(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter()
    }
}

fn said(config: &AccountConfig) -> Said {
    let mut said = Said::new();
    let mut say = |section: &str, key: &str, value: String| {
        said.insert((section.to_owned(), key.to_owned()), value);
    };
    for key in KEYS {
        if let Some(value) = key.get(&config.defaults) {
            say("[defaults]", key.name, value.to_string());
        }
    }
    if let Some(slots) = config.max_concurrency {
        say("[account]", "max_concurrency", slots.to_string());
    }
    say("[account]", "dry_run", config.dry_run.to_string());
    let own = |section: &str, own: &Overrides, say: &mut dyn FnMut(&str, &str, String)| {
        say(section, "", String::new());
        own.each(|key, value| say(section, key, value.to_string()));
    };
    for (pattern, model) in &config.models {
        let section = format!("[models.{pattern:?}]");
        own(&section, &model.own, &mut say);
        if let Some(pool) = &model.pool {
            say(&section, "pool", format!("{pool:?}"));
        }
        if let Some(endpoint) = model.endpoint {
            say(&section, "endpoint", format!("{endpoint:?}"));
        }
    }
    for (name, pool) in &config.pools {
        own(&format!("[pools.{name:?}]"), pool, &mut say);
    }
    if let Some(shared) = &config.shared {
        shared.each(|key, value| say(shared::SECTION, key, value));
    }
    for (name, weight) in &config.callers {
        say(&format!("[callers.{name:?}]"), "weight", weight.to_string());
    }
    said
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, change) in self.changes.iter().enumerate() {
            if n > 0 {
                writeln!(f)?;
            }
            change.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Change {
            section,
            key,
            before,
            after,
        } = self;
        match (key.is_empty(), before, after) {
            (true, None, _) => write!(f, "{section} is new"),
            (true, Some(_), _) => write!(f, "{section} is gone"),
            (false, before, after) => {
                let word = |said: &Option<String>| said.as_deref().unwrap_or("not said").to_owned();
                write!(
                    f,
                    "{section} {key}: {}, until now {}",
                    word(after),
                    word(before)
                )
            }
        }
    }
}
