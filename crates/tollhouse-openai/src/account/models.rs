//! Which pool a model's calls belong to.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::config::{AccountConfig, Sharing};
use crate::call::Endpoint;
use crate::policy::{Limit, PolicyConfig};

/// The sections of an account, in the order in which they are asked.
#[derive(Debug)]
pub(super) struct Rules {
    exact: HashMap<String, Target>,
    endpoints: Vec<(Endpoint, Target)>,
    /// In the order in which they are asked.
    globs: Vec<(String, Target)>,
    defaults: Arc<PolicyConfig>,
    one_pool: bool,
}

/// The pool of a section.
#[derive(Clone, Debug)]
struct Target {
    section: Arc<str>,
    pool: PoolId,
    config: Arc<PolicyConfig>,
}

/// What makes a pool another than one of the same name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct PoolId {
    pub(super) kind: Kind,
    pub(super) name: Arc<str>,
}

/// What a pool is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    /// One of `[pools]`.
    Named,
    /// What a section of `[models]` matches.
    Section,
    /// A model that no section names.
    Model,
    /// All models alike, where one pool is for all; else calls without a model, and
    /// strangers beyond number.
    Shared,
}

/// Where a call belongs, and why.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) id: PoolId,
    pub(super) config: Arc<PolicyConfig>,
    /// The section that says so, as it is written in the file.
    pub(super) section: Arc<str>,
}

/// The name of the pool that no model has.
pub(super) const SHARED: &str = "default";

impl Rules {
    pub(super) fn new(config: &AccountConfig) -> Self {
        let pools: BTreeMap<_, _> = config
            .pools
            .iter()
            .map(|(name, own)| (&**name, Arc::new(own.over(&config.defaults))))
            .collect();
        let mut rules = Rules {
            exact: HashMap::new(),
            endpoints: Vec::new(),
            globs: Vec::new(),
            defaults: Arc::new(config.defaults.clone()),
            one_pool: config.sharing == Sharing::OnePool && !learns(&config.defaults),
        };
        for (pattern, section) in &config.models {
            let shared = section.pool.as_deref();
            let shared = shared.and_then(|pool| Some((pool, Arc::clone(pools.get(pool)?))));
            let (pool, config) = match shared {
                Some((pool, config)) => (PoolId::new(Kind::Named, pool), config),
                None => {
                    let own = section.own.over(&config.defaults);
                    (PoolId::new(Kind::Section, pattern), Arc::new(own))
                }
            };
            let target = Target {
                section: format!("[models.{pattern:?}]").into(),
                pool,
                config,
            };
            match section.endpoint {
                Some(endpoint) => rules.endpoints.push((endpoint, target)),
                None if pattern.contains(['*', '?']) => {
                    rules.globs.push((pattern.clone(), target));
                }
                None => drop(rules.exact.insert(pattern.clone(), target)),
            }
        }
        by_length(&mut rules.globs);
        rules
    }

    /// Where a call belongs: exact names go before endpoints, these before globs, longer
    /// globs before shorter.
    pub(super) fn route(&self, model: Option<&str>, endpoint: Option<Endpoint>) -> Route {
        let family = model.map(family);
        let names = || model.into_iter().chain(family);
        let exact = names().find_map(|name| self.exact.get(name));
        let of_endpoint = || self.endpoints.iter().find(|(it, _)| Some(*it) == endpoint);
        let globbed = || {
            let matching = |(glob, _): &&(String, Target)| names().any(|name| matches(glob, name));
            self.globs.iter().find(matching)
        };
        let target = exact
            .or_else(|| of_endpoint().map(|(_, target)| target))
            .or_else(|| globbed().map(|(_, target)| target));
        match target {
            Some(target) => target.route(),
            None => self.unnamed(family),
        }
    }

    /// What is said now of a pool that was made under other rules; `None` where nothing
    /// leads to it any more.
    pub(super) fn still(&self, id: &PoolId) -> Option<Route> {
        let endpoints = self.endpoints.iter().map(|(_, target)| target);
        let globs = self.globs.iter().map(|(_, target)| target);
        let mut sections = self.exact.values().chain(endpoints).chain(globs);
        let route = match id.kind {
            Kind::Named | Kind::Section => sections.find(|target| target.pool == *id)?.route(),
            Kind::Model => self.route(Some(&id.name), None),
            Kind::Shared => self.shared(),
        };
        (route.id == *id).then_some(route)
    }

    fn unnamed(&self, family: Option<&str>) -> Route {
        match family.filter(|_| !self.one_pool) {
            Some(family) => Route {
                id: PoolId::new(Kind::Model, family),
                ..self.shared()
            },
            None => self.shared(),
        }
    }

    /// The pool of those that have none of their own.
    pub(super) fn shared(&self) -> Route {
        Route {
            id: PoolId::new(Kind::Shared, SHARED),
            config: Arc::clone(&self.defaults),
            section: "[defaults]".into(),
        }
    }
}

impl Target {
    fn route(&self) -> Route {
        Route {
            id: self.pool.clone(),
            config: Arc::clone(&self.config),
            section: Arc::clone(&self.section),
        }
    }
}

impl PoolId {
    fn new(kind: Kind, name: &str) -> Self {
        PoolId {
            kind,
            name: name.into(),
        }
    }
}

/// Longer globs before shorter ones; of two as long the one with fewer stars, which is the
/// nearer; and else in the order of their bytes, so that it is the same one every time.
pub(super) fn by_length<T>(globs: &mut [(String, T)]) {
    let stars = |glob: &str| glob.bytes().filter(|byte| *byte == b'*').count();
    let rank = |glob: &str| (std::cmp::Reverse(glob.len()), stars(glob));
    globs.sort_by(|(a, _), (b, _)| rank(a).cmp(&rank(b)).then_with(|| a.cmp(b)));
}

/// Whether a limit is learned from answers, which speak of one model each.
pub(super) fn learns(config: &PolicyConfig) -> bool {
    [config.tokens_per_minute, config.requests_per_minute].contains(&Limit::Auto)
}

/// A model without the date of its snapshot; of one that was made by fine tuning
/// (`ft:BASE:...`), its base.
pub(super) fn family(model: &str) -> &str {
    let base = model.strip_prefix("ft:").unwrap_or(model);
    let base = match base.len() < model.len() {
        true => base.split(':').next().unwrap_or(base),
        false => base,
    };
    let Some(start) = base.len().checked_sub("-2024-08-06".len()) else {
        return base;
    };
    match base.is_char_boundary(start) && start > 0 && is_date(&base.as_bytes()[start..]) {
        true => &base[..start],
        false => base,
    }
}

/// `-YYYY-MM-DD`.
fn is_date(text: &[u8]) -> bool {
    text.len() == 11
        && text.iter().enumerate().all(|(n, byte)| match n {
            0 | 5 | 8 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}

/// Whether a name is what a glob means: `*` is any text, `?` any one byte.
///
/// Goes back to the last star alone, so no pattern takes longer than the product of both
/// lengths.
pub(super) fn matches(glob: &str, name: &str) -> bool {
    let (glob, name) = (glob.as_bytes(), name.as_bytes());
    let (mut g, mut n) = (0, 0);
    let mut star = None;
    while n < name.len() {
        match glob.get(g) {
            Some(b'*') => {
                star = Some((g, n));
                g += 1;
            }
            Some(byte) if *byte == b'?' || *byte == name[n] => {
                g += 1;
                n += 1;
            }
            _ => {
                let Some((at, from)) = star else { return false };
                star = Some((at, from + 1));
                g = at + 1;
                n = from + 1;
            }
        }
    }
    glob[g..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_models_without_dates() {
        for (model, name) in [
            ("gpt-4o", "gpt-4o"),
            ("gpt-4o-2024-08-06", "gpt-4o"),
            ("gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
            ("ft:gpt-4o-mini-2024-07-18:org::id", "gpt-4o-mini"),
            ("ft:gpt-3.5-turbo-0125:org", "gpt-3.5-turbo-0125"),
            ("-2024-08-06", "-2024-08-06"),
            ("gpt-4o-2024-8-06", "gpt-4o-2024-8-06"),
            ("modèle-2024-08-06", "modèle"),
            ("é2024-08-06", "é2024-08-06"),
            ("ft:", ""),
            ("", ""),
        ] {
            assert_eq!(family(model), name, "{model}");
        }
    }

    #[test]
    fn globs_match_whole_names() {
        for (glob, name, is) in [
            ("gpt-4o*", "gpt-4o", true),
            ("gpt-4o*", "gpt-4o-mini", true),
            ("gpt-4o*", "xgpt-4o", false),
            ("*", "", true),
            ("*mini*", "gpt-4o-mini-2024", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*a*b*c", "xxaxxbxxc", true),
            ("*a*b*c", "xxaxxbxxcd", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(glob, name), is, "{glob} {name}");
        }
        let long = "a".repeat(2_000);
        assert!(!matches(&format!("{}b", "a*".repeat(500)), &long));
    }
}
