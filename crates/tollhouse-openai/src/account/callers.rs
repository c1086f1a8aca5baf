//! The weights that the account vouches for.

use std::collections::HashMap;

use tollhouse::Ask;

use super::config::AccountConfig;
use super::models::{by_length, matches};

/// Callers by name, then by glob, the longer ones first.
#[derive(Debug, Default)]
pub(super) struct Callers {
    exact: HashMap<String, u32>,
    globs: Vec<(String, u32)>,
}

impl Callers {
    pub(super) fn new(config: &AccountConfig) -> Self {
        let mut callers = Callers::default();
        for (name, weight) in config.callers() {
            match name.contains(['*', '?']) {
                true => callers.globs.push((name.to_owned(), weight)),
                false => drop(callers.exact.insert(name.to_owned(), weight)),
            }
        }
        by_length(&mut callers.globs);
        callers
    }

    /// What the account says of this name.
    pub(super) fn weight_of(&self, name: &str) -> Option<u32> {
        let globbed = || self.globs.iter().find(|(glob, _)| matches(glob, name));
        let exact = self.exact.get(name).copied();
        exact.or_else(|| globbed().map(|(_, weight)| *weight))
    }

    /// The same, with the caller's weight as the account says it; where it says nothing,
    /// the caller keeps its own.
    pub(super) fn weigh(&self, ask: Ask) -> Ask {
        let caller = ask.who();
        let said = caller.name().and_then(|name| self.weight_of(name));
        match said.filter(|weight| *weight != caller.get_weight()) {
            Some(weight) => {
                let caller = caller.clone().weight(weight);
                ask.caller(caller)
            }
            None => ask,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollhouse::Caller;

    #[test]
    fn names_go_before_globs_and_longer_globs_before_shorter() {
        let mut config = AccountConfig::default();
        for (name, weight) in [("web", 8), ("batch*", 2), ("*", 5), ("batch-night", 1)] {
            config.set_caller(name, weight);
        }
        let callers = Callers::new(&config);
        let weigh = |caller: Caller| callers.weigh(Ask::from(caller)).who().get_weight();
        for (name, weight) in [("web", 8), ("batch-night", 1), ("batch-day", 2), ("me", 5)] {
            assert_eq!(weigh(Caller::new(name).weight(100)), weight, "{name}");
        }
        assert_eq!(weigh(Caller::default()), 1, "who has no name has no weight");
        let none = Callers::new(&AccountConfig::default());
        let kept = none.weigh(Ask::from(Caller::new("web").weight(3)));
        assert_eq!(kept.who().get_weight(), 3);
    }
}
