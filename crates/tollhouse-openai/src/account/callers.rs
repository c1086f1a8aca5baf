//! The weights that the account vouches for.

use std::collections::HashMap;
use std::sync::Arc;

use tollhouse::Ask;

use super::config::AccountConfig;
use super::models::{by_length, matches};

/// Callers by name, then by glob, the longer ones first.
#[derive(Debug, Default)]
pub(super) struct Callers {
    exact: HashMap<String, Said>,
    globs: Vec<(String, Said)>,
}

/// What a section of `[callers]` says.
#[derive(Debug)]
struct Said {
    weight: u32,
    /// What metrics call everybody whom the section names: that is as many as there are
    /// sections.
    label: Arc<str>,
}

impl Callers {
    pub(super) fn new(config: &AccountConfig) -> Self {
        let mut callers = Callers::default();
        for (name, weight) in config.callers() {
            let label = name.into();
            let said = Said { weight, label };
            match name.contains(['*', '?']) {
                true => callers.globs.push((name.to_owned(), said)),
                false => drop(callers.exact.insert(name.to_owned(), said)),
            }
        }
        by_length(&mut callers.globs);
        callers
    }

    /// What the account says of this name.
    pub(super) fn weight_of(&self, name: &str) -> Option<u32> {
        Some(self.said_of(name)?.weight)
    }

    fn said_of(&self, name: &str) -> Option<&Said> {
        let globbed = || self.globs.iter().find(|(glob, _)| matches(glob, name));
        let exact = self.exact.get(name);
        exact.or_else(|| globbed().map(|(_, said)| said))
    }

    /// The same, with the caller's weight as the account says it, and as metrics tell of
    /// it; where it says nothing, the caller keeps its own.
    pub(super) fn weigh(&self, ask: Ask) -> Ask {
        let caller = ask.who();
        let Some(said) = caller.name().and_then(|name| self.said_of(name)) else {
            return ask;
        };
        let weighed =
            (said.weight != caller.get_weight()).then(|| caller.clone().weight(said.weight));
        let ask = ask.told_as(Arc::clone(&said.label));
        match weighed {
            Some(caller) => ask.caller(caller),
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
