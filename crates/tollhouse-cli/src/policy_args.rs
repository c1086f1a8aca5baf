//! The account's policy as flags, laid over the environment.
//!
//! There is one way for a value to be checked: flags stand in for the variables
//! of the same meaning, and [`Policy::from_vars`] reads them all.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use tollhouse_openai::policy::BadSetting;
use tollhouse_openai::{Account, AccountConfig, OpenAi, OpenAiBuilder, Policy};

use crate::failure::{self, BoxError};
use crate::sim::seconds;

/// The account's limits; a flag goes before its variable. The key is read from
/// OPENAI_API_KEY alone.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Policy")]
pub(crate) struct PolicyArgs {
    /// Requests in flight, streams until their last byte [env: OPENAI_MAX_CONCURRENCY] [default: 3]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    max_concurrency: Option<String>,

    /// Least time between two launches, 0 for none [env: OPENAI_STAGGER_SECONDS] [default: 15]
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true)]
    stagger_seconds: Option<String>,

    /// Tokens a minute, or `auto` [env: OPENAI_TPM_LIMIT] [default: 30000]
    #[arg(long, value_name = "TOKENS", allow_hyphen_values = true)]
    tpm_limit: Option<String>,

    /// Requests a minute, or `auto` [env: OPENAI_RPM_LIMIT] [default: no limit]
    #[arg(long, value_name = "REQUESTS", allow_hyphen_values = true)]
    rpm_limit: Option<String>,

    /// Share of the limits never used, 0 to 0.9 [env: OPENAI_TPM_HEADROOM] [default: 0.15]
    #[arg(long, value_name = "SHARE", allow_hyphen_values = true)]
    tpm_headroom: Option<String>,

    /// Cost of a request that does not say how long its answer may be
    /// [env: OPENAI_EST_TOKENS_PER_RUN] [default: 7000]
    #[arg(long, value_name = "TOKENS", allow_hyphen_values = true)]
    est_tokens_per_run: Option<String>,

    /// Attempts in all, the first included [env: OPENAI_RETRY_MAX_ATTEMPTS] [default: 5]
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    retry_max_attempts: Option<String>,

    /// First backoff; doubles, with jitter, up to 60 s; a told delay goes first
    /// [env: OPENAI_BACKOFF_BASE_SECONDS] [default: 2]
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true)]
    backoff_base_seconds: Option<String>,
}

/// Where the provider is.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Policy")]
pub(crate) struct ClientArgs {
    /// The API, its version included [env: OPENAI_BASE_URL] [default: OpenAI's own]
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,

    /// Longest wait for the head of an answer, and again for each further piece of its body
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "600")]
    timeout_seconds: Option<Duration>,
}

const BASE_URL: &str = "OPENAI_BASE_URL";
const CONFIG: &str = "TOLLHOUSE_CONFIG";

/// What was read, unless a variable looks like a misspelt one.
fn known(policy: Result<Policy, String>) -> Result<Policy, String> {
    let names = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
    match (Policy::known_names(names), policy) {
        (Ok(()), policy) => policy,
        (Err(misspelt), Ok(_)) => Err(misspelt.to_string()),
        (Err(misspelt), Err(what)) => Err(format!("{what}; {misspelt}")),
    }
}

impl PolicyArgs {
    /// The policy of these flags and the environment.
    ///
    /// # Errors
    ///
    /// Names every value that is not allowed, where it stands, and what is.
    pub(crate) fn policy(&self) -> Result<Policy, BoxError> {
        known(self.policy_over(&environment)).map_err(failure::error)
    }

    /// The policy, and a client of the account that it is for.
    ///
    /// # Errors
    ///
    /// As [`policy`](Self::policy), and what the client lacks in the same line.
    pub(crate) fn account(&self, client: &ClientArgs) -> Result<(Policy, OpenAi), BoxError> {
        let policy = known(self.policy_over(&environment));
        let client = client.client_over(&environment);
        match (policy, client) {
            (Ok(policy), Ok(client)) => Ok((policy, client)),
            (Err(one), Err(other)) => Err(failure::error(format!("{one}; {other}"))),
            (Err(what), Ok(_)) | (Ok(_), Err(what)) => Err(failure::error(what)),
        }
    }

    /// The account of a file, if there is one, with these flags and the environment laid
    /// over its defaults.
    ///
    /// # Errors
    ///
    /// Names every value that is not allowed.
    pub(crate) fn described(&self, file: Option<&Path>) -> Result<Account, BoxError> {
        // Says of flags that they are flags.
        self.policy()?;
        let file = file.map(|file| file.to_string_lossy().into_owned());
        let config = AccountConfig::from_vars(|name| match (name, &file) {
            (CONFIG, Some(file)) => Some(file.clone()),
            _ => self.given(name).or_else(|| environment(name)),
        })?;
        Ok(Account::from_config(config)?)
    }

    /// What the flag of a variable says.
    fn given(&self, name: &str) -> Option<String> {
        let flag = self.flags().into_iter().find(|flag| flag.0 == name);
        flag.and_then(|(_, _, value)| value.clone())
    }

    fn policy_over(&self, environment: &impl Fn(&str) -> Option<String>) -> Result<Policy, String> {
        let flag = |name: &str| self.flags().into_iter().find(|flag| flag.0 == name);
        let value = |name: &str| self.given(name);
        Policy::from_vars(|name| value(name).or_else(|| environment(name))).map_err(|error| {
            let mut line = String::new();
            for bad in error.settings() {
                let given = value(bad.name()).and(flag(bad.name()));
                say(&mut line, bad, given.map(|(_, flag, _)| flag));
            }
            line
        })
    }

    /// Each variable with its flag.
    fn flags(&self) -> [(&'static str, &'static str, &Option<String>); 8] {
        [
            (
                "OPENAI_MAX_CONCURRENCY",
                "--max-concurrency",
                &self.max_concurrency,
            ),
            (
                "OPENAI_STAGGER_SECONDS",
                "--stagger-seconds",
                &self.stagger_seconds,
            ),
            ("OPENAI_TPM_LIMIT", "--tpm-limit", &self.tpm_limit),
            ("OPENAI_RPM_LIMIT", "--rpm-limit", &self.rpm_limit),
            ("OPENAI_TPM_HEADROOM", "--tpm-headroom", &self.tpm_headroom),
            (
                "OPENAI_EST_TOKENS_PER_RUN",
                "--est-tokens-per-run",
                &self.est_tokens_per_run,
            ),
            (
                "OPENAI_RETRY_MAX_ATTEMPTS",
                "--retry-max-attempts",
                &self.retry_max_attempts,
            ),
            (
                "OPENAI_BACKOFF_BASE_SECONDS",
                "--backoff-base-seconds",
                &self.backoff_base_seconds,
            ),
        ]
    }
}

impl ClientArgs {
    /// A client with the key of the environment.
    pub(crate) fn client(&self) -> Result<OpenAi, BoxError> {
        self.client_over(&environment).map_err(failure::error)
    }

    /// A client without a key, for callers who bring their own.
    pub(crate) fn keyless(&self) -> Result<OpenAi, BoxError> {
        self.keyless_over(&environment).map_err(failure::error)
    }

    fn client_over(&self, environment: &impl Fn(&str) -> Option<String>) -> Result<OpenAi, String> {
        let given = |name: &str| self.base_url.clone().filter(|_| name == BASE_URL);
        let builder = OpenAiBuilder::from_vars(|name| given(name).or_else(|| environment(name)));
        let client = builder.and_then(|builder| self.timed(builder).build());
        client.map_err(|error| error.to_string())
    }

    fn keyless_over(
        &self,
        environment: &impl Fn(&str) -> Option<String>,
    ) -> Result<OpenAi, String> {
        let set = |url: &String| !url.trim().is_empty();
        let url = self.base_url.clone().or_else(|| environment(BASE_URL));
        let builder = match url.filter(set) {
            Some(url) => OpenAi::builder().base_url(url.trim()),
            None => OpenAi::builder(),
        };
        let client = self.timed(builder).build();
        client.map_err(|error| error.to_string())
    }

    fn timed(&self, builder: OpenAiBuilder) -> OpenAiBuilder {
        match self.timeout_seconds {
            Some(timeout) => builder.attempt_timeout(timeout),
            None => builder,
        }
    }
}

/// What is not Unicode is neither a number nor a URL, and is named as such.
fn environment(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

fn say(line: &mut String, bad: &BadSetting, flag: Option<&str>) {
    if !line.is_empty() {
        line.push_str("; ");
    }
    match flag {
        Some(flag) => line.push_str(flag),
        None => line.push_str(bad.name()),
    }
    // Writing to a string cannot fail.
    let _ = write!(line, " is {:?}, allowed is {}", bad.value(), bad.allowed());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str) -> Option<String> {
        let value = match name {
            "OPENAI_TPM_LIMIT" => "90000",
            "OPENAI_STAGGER_SECONDS" => "soon",
            _ => return None,
        };
        Some(value.to_owned())
    }

    #[test]
    fn flag_goes_before_its_variable() {
        let args = PolicyArgs {
            stagger_seconds: Some("0.5".to_owned()),
            ..PolicyArgs::default()
        };
        let policy = args.policy_over(&environment).expect("a good policy");
        assert_eq!(policy.config().stagger.as_secs_f64(), 0.5);
        assert_eq!(policy.config().tokens_per_minute.amount(), Some(90_000));
    }

    #[test]
    fn every_bad_value_is_named_where_it_stands() {
        let args = PolicyArgs {
            rpm_limit: Some("-3".to_owned()),
            ..PolicyArgs::default()
        };
        assert_eq!(
            args.policy_over(&environment).expect_err("a bad policy"),
            "OPENAI_STAGGER_SECONDS is \"soon\", allowed is a number from 0 to 86400; \
             --rpm-limit is \"-3\", allowed is a whole number from 1 to 1000000000000, auto or unlimited"
        );
    }

    #[test]
    fn every_variable_has_a_flag() {
        let wrong = |_: &str| Some("wrong".to_owned());
        let error = Policy::from_vars(wrong).expect_err("a bad policy");
        let args = PolicyArgs::default();
        let flags = args.flags().map(|(name, _, _)| name);
        let names: Vec<&str> = error.settings().iter().map(BadSetting::name).collect();
        assert_eq!(names, flags);
    }
}
