//! Tokens that vouch for callers' names.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use super::error::Problem;

pub(super) const SECTION: &str = "[tokens]";

/// The longest token, in bytes.
const LONGEST: usize = 512;

/// What clients of a proxy show to be a caller; several of one caller are as good as each
/// other, so that one can follow another.
///
/// Nothing that is displayed of them has a token in it.
#[derive(Clone, Default, PartialEq)]
pub(crate) struct Tokens {
    by_caller: BTreeMap<String, Vec<String>>,
}

impl Tokens {
    pub(crate) fn put(&mut self, caller: impl Into<String>, secret: impl Into<String>) {
        let of_caller = self.by_caller.entry(caller.into()).or_default();
        of_caller.push(secret.into());
    }

    /// Each token with its caller.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        let by_caller = self.by_caller.iter();
        by_caller.flat_map(|(caller, secrets)| {
            let secrets = secrets.iter();
            secrets.map(move |secret| (caller.as_str(), secret.as_str()))
        })
    }

    /// What is wrong, in words that repeat no token.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut callers: HashMap<&str, &str> = HashMap::new();
        let mut problems = Vec::new();
        for (caller, secret) in self.all() {
            let other = callers.insert(secret, caller);
            if let Some(what) = wrong(secret, other) {
                let problem = Problem::said(SECTION, format!("{caller:?} has {what}"));
                problems.push(problem.at_key(caller.to_owned()));
            }
        }
        problems
    }

    /// What became of each caller's tokens, in words that repeat none.
    pub(super) fn changes<'t>(
        &'t self,
        after: &'t Tokens,
    ) -> impl Iterator<Item = (&'t str, Option<String>, Option<String>)> {
        let new = after.by_caller.keys();
        let new = new.filter(|caller| !self.by_caller.contains_key(*caller));
        let callers = self.by_caller.keys().chain(new);
        callers.filter_map(|caller| {
            let (before, after) = (self.by_caller.get(caller), after.by_caller.get(caller));
            let after_said = match (before, after) {
                (Some(before), Some(after)) if before == after => return None,
                (Some(before), Some(after)) if before.len() == after.len() => {
                    Some("another".to_owned())
                }
                (_, after) => after.map(|secrets| counted(secrets)),
            };
            Some((
                caller.as_str(),
                before.map(|secrets| counted(secrets)),
                after_said,
            ))
        })
    }
}

fn counted(secrets: &[String]) -> String {
    match secrets.len() {
        1 => "1 token".to_owned(),
        count => format!("{count} tokens"),
    }
}

/// `other` is who has the same token.
fn wrong(secret: &str, other: Option<&str>) -> Option<String> {
    if let Some(other) = other {
        return Some(format!("the token of {other:?}: each names one caller"));
    }
    let is_sendable = secret.bytes().all(|byte| byte.is_ascii_graphic());
    let is_long = !(1..=LONGEST).contains(&secret.len());
    (is_long || !is_sendable)
        .then(|| format!("a token that cannot be sent: allowed is visible ASCII, 1 to {LONGEST}"))
}

impl fmt::Debug for Tokens {
    /// How many there are, and of whom.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by_caller = self.by_caller.iter();
        let counts = by_caller.map(|(caller, secrets)| (caller, secrets.len()));
        f.debug_map().entries(counts).finish()
    }
}
