//! The pools that an account's description names.

use super::callers::Callers;
use super::config::{AccountConfig, ModelSection};
use crate::call::Endpoint;
use crate::policy::PolicyConfig;

/// A pool that is described, whether or not it is in use; from
/// [`AccountConfig::described_pools`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct DescribedPool {
    /// Its name.
    pub name: String,
    /// The section with its numbers, as it is written in the file.
    pub section: String,
    /// The names and globs of the models that belong to it; of a section that speaks of an
    /// endpoint, what that is called.
    pub models: Vec<String>,
    /// Its numbers.
    pub policy: PolicyConfig,
}

impl AccountConfig {
    /// Every pool that has a section, those of `[pools]` first, each kind by name. What
    /// `[defaults]` says of all other models is in [`defaults`](Self::defaults).
    ///
    /// # Examples
    ///
    /// ```
    /// use tollhouse_openai::AccountConfig;
    ///
    /// let config = AccountConfig::from_toml(
    ///     r#"
    ///     [models."gpt-4o*"]
    ///     pool = "big"
    ///     [models.o3]
    ///     pool = "big"
    ///     [pools.big]
    ///     tokens_per_minute = 30_000
    ///     "#,
    /// )?;
    /// let pool = &config.described_pools()[0];
    /// assert_eq!((pool.name.as_str(), pool.section.as_str()), ("big", "[pools.\"big\"]"));
    /// assert_eq!(pool.models, ["gpt-4o*", "o3"]);
    /// # Ok::<(), tollhouse_openai::account::AccountError>(())
    /// ```
    pub fn described_pools(&self) -> Vec<DescribedPool> {
        let named = self.pools.iter().map(|(name, own)| {
            let belongs = |section: &&ModelSection| section.pool.as_deref() == Some(name);
            let all = self.models.iter();
            let models = all.filter(|(_, section)| belongs(section));
            DescribedPool {
                name: name.clone(),
                section: format!("[pools.{name:?}]"),
                models: models
                    .map(|(name, section)| called(name, section))
                    .collect(),
                policy: own.over(&self.defaults),
            }
        });
        let apart = self.models.iter();
        let apart = apart.filter(|(_, section)| section.pool.is_none());
        let apart = apart.map(|(name, section)| DescribedPool {
            name: name.clone(),
            section: format!("[models.{name:?}]"),
            models: vec![called(name, section)],
            policy: section.own.over(&self.defaults),
        });
        named.chain(apart).collect()
    }

    /// The weight of a caller: that of its own name, else of the longest glob that matches
    /// it; `None` where no section of `[callers]` does.
    ///
    /// # Examples
    ///
    /// ```
    /// use tollhouse_openai::AccountConfig;
    ///
    /// let mut config = AccountConfig::default();
    /// config.set_caller("night*", 2);
    /// config.set_caller("nightly", 5);
    /// assert_eq!(config.weight_of("nightly"), Some(5));
    /// assert_eq!(config.weight_of("nightly-2"), Some(2));
    /// assert_eq!(config.weight_of("web"), None);
    /// ```
    pub fn weight_of(&self, caller: &str) -> Option<u32> {
        Callers::new(self).weight_of(caller)
    }
}

fn called(name: &str, section: &ModelSection) -> String {
    let endpoint = section.endpoint.map(Endpoint::name);
    endpoint.map_or_else(
        || name.to_owned(),
        |endpoint| format!("endpoint {endpoint}"),
    )
}
