//! The account as a file, variables and flags describe it.
//!
//! There is one way for a value to be checked: flags stand in for the variables
//! of the same meaning, and [`AccountConfig::lay_vars`] lays them all over the file's
//! defaults.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use tollhouse_openai::account::SharedLedgerConfig;
use tollhouse_openai::policy::BadSetting;
use tollhouse_openai::{AccountConfig, OpenAi, OpenAiBuilder, Policy, PolicyConfig, PolicyError};

use crate::failure::{self, BoxError};
use crate::flags::{some_seconds, something};

/// The account's limits; a flag goes before its variable. The key is read from
/// OPENAI_API_KEY alone.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Policy")]
pub(crate) struct PolicyArgs {
    #[command(flatten)]
    places: Places,

    /// Requests in flight, streams until their last byte [env: OPENAI_MAX_CONCURRENCY] [default: 3]
    #[arg(long, value_name = "N", value_parser = something, allow_hyphen_values = true)]
    max_concurrency: Option<String>,

    /// Least time between two launches, 0 for none [env: OPENAI_STAGGER_SECONDS] [default: 15]
    #[arg(long, value_name = "SECONDS", value_parser = something, allow_hyphen_values = true)]
    stagger_seconds: Option<String>,

    /// Tokens a minute, `auto` or `unlimited` [env: OPENAI_TPM_LIMIT] [default: 30000]
    #[arg(long, value_name = "TOKENS", value_parser = something, allow_hyphen_values = true)]
    tpm_limit: Option<String>,

    /// Requests a minute, `auto` or `unlimited` [env: OPENAI_RPM_LIMIT] [default: unlimited]
    #[arg(long, value_name = "REQUESTS", value_parser = something, allow_hyphen_values = true)]
    rpm_limit: Option<String>,

    /// Share of the limits never used, 0 to 0.9 [env: OPENAI_TPM_HEADROOM] [default: 0.15]
    #[arg(long, value_name = "SHARE", value_parser = something, allow_hyphen_values = true)]
    tpm_headroom: Option<String>,

    /// Cost of a request that does not say how long its answer may be
    /// [env: OPENAI_EST_TOKENS_PER_RUN] [default: 7000]
    #[arg(long, value_name = "TOKENS", value_parser = something, allow_hyphen_values = true)]
    est_tokens_per_run: Option<String>,

    /// Attempts in all, the first included [env: OPENAI_RETRY_MAX_ATTEMPTS] [default: 5]
    #[arg(long, value_name = "N", value_parser = something, allow_hyphen_values = true)]
    retry_max_attempts: Option<String>,

    /// First backoff; doubles, with jitter, up to 60 s; a told delay goes first
    /// [env: OPENAI_BACKOFF_BASE_SECONDS] [default: 2]
    #[arg(long, value_name = "SECONDS", value_parser = something, allow_hyphen_values = true)]
    backoff_base_seconds: Option<String>,

    /// How many may wait in each pool before others are refused, or `unlimited`
    /// [env: OPENAI_MAX_WAITING] [default: unlimited]
    #[arg(long, value_name = "N", value_parser = something, allow_hyphen_values = true)]
    max_waiting: Option<String>,
}

/// Where the account is described, and where it is shared.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Policy")]
pub(crate) struct Places {
    /// A file that describes the account, a pool for each model; flags and variables are laid
    /// over its defaults [env: TOLLHOUSE_CONFIG] [default: one pool for all models]
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,

    /// Shares the account with other processes through this Redis: redis://HOST[:PORT]; its name there
    /// and what is done without it are said under [shared] of the file [env: TOLLHOUSE_REDIS]
    /// [default: not shared]
    #[arg(long, value_name = "URL", value_parser = something)]
    redis: Option<String>,
}

/// Where the provider is.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Policy")]
pub(crate) struct ClientArgs {
    /// The API, its version included [env: OPENAI_BASE_URL] [default: OpenAI's own]
    #[arg(long, value_name = "URL", value_parser = something)]
    base_url: Option<String>,

    /// Longest wait for the head of an answer, and again for each further piece of its body
    #[arg(
        long,
        value_name = "SECONDS",
        value_parser = some_seconds,
        allow_negative_numbers = true,
        default_value = "600"
    )]
    timeout_seconds: Option<Duration>,

    /// Whether bodies take as long as they go on.
    #[arg(skip)]
    passes_on: bool,
}

const BASE_URL: &str = "OPENAI_BASE_URL";

/// Names a Redis as `--redis` does.
pub(crate) const REDIS: &str = "TOLLHOUSE_REDIS";

/// Names a file as `--config` does.
const CONFIG: &str = "TOLLHOUSE_CONFIG";

/// What a client of the proxy shows as its API key or beside it, where that is asked for.
pub(crate) const TOKEN: &str = "TOLLHOUSE_TOKEN";

/// The variables that are the command's own.
const VARIABLES: [&str; 3] = [CONFIG, REDIS, TOKEN];

/// At most so many slips lead to a name that is meant, perhaps. What is further away is
/// another program's, or a test's.
const SLIPS: usize = 2;

/// Names the variables that look like misspelt ones.
fn known() -> Result<(), String> {
    let names = || std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
    let policys = Policy::known_names(names()).map_err(|misspelt| misspelt.to_string());
    both(policys, known_here(names())).map(|_| ())
}

/// The same of the command's own.
fn known_here(names: impl Iterator<Item = String>) -> Result<(), String> {
    let mut misspelt: Vec<_> = names
        .filter_map(|name| {
            let meant = meant_by(&name)?;
            Some(format!("{name} is not known: {meant} is meant, perhaps"))
        })
        .collect();
    misspelt.sort_unstable();
    match misspelt.is_empty() {
        true => Ok(()),
        false => Err(misspelt.join("; ")),
    }
}

/// The variable of ours that such a name is a slip of.
fn meant_by(name: &str) -> Option<&'static str> {
    if VARIABLES.contains(&name) {
        return None;
    }
    let upper = name.to_ascii_uppercase();
    let near = VARIABLES.into_iter().filter_map(|known| {
        // The environment has many that are far, and slips are counted in squares.
        let is_as_long = name.len().abs_diff(known.len()) <= SLIPS;
        let slips = is_as_long.then(|| strsim::osa_distance(&upper, known))?;
        (slips <= SLIPS).then_some((slips, known))
    });
    near.min().map(|(_, known)| known)
}

/// Both, or all that is wrong with either.
fn both<A, B>(one: Result<A, String>, other: Result<B, String>) -> Result<(A, B), String> {
    match (one, other) {
        (Ok(one), Ok(other)) => Ok((one, other)),
        (Err(one), Err(other)) => Err(format!("{one}; {other}")),
        (Err(what), Ok(_)) | (Ok(_), Err(what)) => Err(what),
    }
}

impl PolicyArgs {
    /// The account of the file, these flags and the environment.
    ///
    /// # Errors
    ///
    /// Names every value that is not allowed, where it stands, and what is.
    pub(crate) fn account(&self) -> Result<AccountConfig, BoxError> {
        let described = both(self.account_over(&environment), known());
        let (config, ()) = described.map_err(failure::error)?;
        Ok(config)
    }

    /// The account, and a client of it.
    ///
    /// # Errors
    ///
    /// As [`account`](Self::account), and what the client lacks in the same line.
    pub(crate) fn account_and_client(
        &self,
        client: &ClientArgs,
    ) -> Result<(AccountConfig, OpenAi), BoxError> {
        let described = both(self.account_over(&environment), known());
        let all = both(described, client.client_over(&environment));
        let ((config, ()), client) = all.map_err(failure::error)?;
        Ok((config, client))
    }

    /// What stands in the environment of a process that is to have the same account: flags
    /// as their variables.
    pub(crate) fn variables(&self) -> Result<Vec<(&'static str, String)>, BoxError> {
        let mut variables = Vec::new();
        for (name, _, given) in self.flags() {
            variables.extend(
                given
                    .clone()
                    .or_else(|| environment(name))
                    .map(|it| (name, it)),
            );
        }
        if let Some(redis) = self.places.redis(&environment) {
            variables.push((REDIS, redis));
        }
        if let Some(file) = self.file() {
            let file = std::path::absolute(file)?;
            let name = || failure::error(format!("{} is not UTF-8", file.display()));
            variables.push((CONFIG, file.to_str().ok_or_else(name)?.to_owned()));
        }
        Ok(variables)
    }

    /// The flags that were given, by name.
    pub(crate) fn given_flags(&self) -> Vec<&'static str> {
        let places = [
            ("--config", self.places.config.is_some()),
            ("--redis", self.places.redis.is_some()),
        ];
        let flags = self.flags();
        let flags = flags
            .iter()
            .map(|(_, flag, given)| (*flag, given.is_some()));
        let all = places.into_iter().chain(flags);
        all.filter(|(_, is_given)| *is_given)
            .map(|(flag, _)| flag)
            .collect()
    }

    /// What says where the account is shared.
    pub(crate) fn sharing_said_by(&self) -> String {
        let variable = environment(REDIS).filter(|address| !address.trim().is_empty());
        match (&self.places.redis, variable, self.file()) {
            (Some(_), ..) => "--redis".to_owned(),
            (None, None, Some(file)) => format!("[shared] of {}", file.display()),
            (None, ..) => REDIS.to_owned(),
        }
    }

    /// The file that describes the account, if there is one.
    pub(crate) fn file(&self) -> Option<PathBuf> {
        self.places.file(&environment)
    }

    fn account_over(
        &self,
        environment: &impl Fn(&str) -> Option<String>,
    ) -> Result<AccountConfig, String> {
        let read = self.places.read(environment);
        let var = |name: &str| self.given(name).or_else(|| environment(name));
        // What stands outside the file is wrong whatever the file says.
        let mut laid = AccountConfig::default();
        let vars = laid.lay_vars(var).map_err(|error| self.said(&error));
        let laid = both(vars, self.places.lay_over(&mut laid, environment));
        let (mut config, _) = both(read, laid)?;
        config.lay_vars(var).map_err(|error| self.said(&error))?;
        self.places.lay_over(&mut config, environment)?;
        Ok(config)
    }

    /// All that is wrong, a flag by its own name.
    fn said(&self, error: &PolicyError) -> String {
        let mut line = String::new();
        for bad in error.settings() {
            let flag = self
                .flag(bad.name())
                .filter(|(_, _, value)| value.is_some());
            say(&mut line, bad, flag.map(|(_, flag, _)| flag));
        }
        line
    }

    /// What the flag of a variable says.
    fn given(&self, name: &str) -> Option<String> {
        self.flag(name).and_then(|(_, _, value)| value.clone())
    }

    fn flag(&self, name: &str) -> Option<(&'static str, &'static str, &Option<String>)> {
        self.flags().into_iter().find(|flag| flag.0 == name)
    }

    /// Each variable with its flag.
    fn flags(&self) -> [(&'static str, &'static str, &Option<String>); 9] {
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
            ("OPENAI_MAX_WAITING", "--max-waiting", &self.max_waiting),
        ]
    }
}

impl Places {
    /// Where the account is shared; its other limits are not looked at.
    ///
    /// # Errors
    ///
    /// Names everything that is wrong with the file.
    pub(crate) fn shared(&self) -> Result<Option<SharedLedgerConfig>, BoxError> {
        let read = both(self.read(&environment), known());
        let (mut config, ()) = read.map_err(failure::error)?;
        let laid = self.lay_over(&mut config, &environment);
        laid.map_err(failure::error)?;
        Ok(config.shared)
    }

    fn read(&self, environment: &impl Fn(&str) -> Option<String>) -> Result<AccountConfig, String> {
        // Whoever gave no flag may not know of the file.
        let by = match &self.config {
            Some(_) => "",
            None => "TOLLHOUSE_CONFIG: ",
        };
        match self.file(environment) {
            Some(path) => AccountConfig::open(path).map_err(|error| format!("{by}{error}")),
            None => Ok(AccountConfig::one_pool(PolicyConfig::default())),
        }
    }

    fn lay_over(
        &self,
        config: &mut AccountConfig,
        environment: &impl Fn(&str) -> Option<String>,
    ) -> Result<(), String> {
        let Some(redis) = self.redis(environment) else {
            return Ok(());
        };
        let mut alone = AccountConfig::default();
        alone.shared.get_or_insert_default().redis = Some(redis.clone());
        // It would be told as a key of the file. It may have a password in it.
        if alone.validate().is_err() {
            let place = self.redis.as_ref().map_or(REDIS, |_| "--redis");
            return Err(format!(
                "{place} is no URL of a Redis, such as redis://HOST:PORT/DATABASE"
            ));
        }
        config.shared.get_or_insert_default().redis = Some(redis);
        Ok(())
    }

    fn file(&self, environment: &impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
        let variable = || environment(CONFIG).filter(|path| !path.trim().is_empty());
        self.config
            .clone()
            .or_else(|| variable().map(PathBuf::from))
    }

    fn redis(&self, environment: &impl Fn(&str) -> Option<String>) -> Option<String> {
        let address = self.redis.clone().or_else(|| environment(REDIS));
        address.filter(|address| !address.trim().is_empty())
    }
}

impl ClientArgs {
    /// As [`PolicyArgs::variables`].
    pub(crate) fn variables(&self) -> Option<(&'static str, String)> {
        let url = self.base_url.clone().or_else(|| environment(BASE_URL));
        let url = url.filter(|url| !url.trim().is_empty())?;
        Some((BASE_URL, url))
    }

    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.timeout_seconds
    }

    /// The same for whoever passes on what comes: that takes as long as it goes on.
    pub(crate) fn passing_on(&self) -> Self {
        ClientArgs {
            passes_on: true,
            ..self.clone()
        }
    }

    /// A client with the key of the environment.
    pub(crate) fn client(&self) -> Result<OpenAi, BoxError> {
        self.client_over(&environment).map_err(failure::error)
    }

    /// A client without a key, for callers who bring their own.
    pub(crate) fn keyless(&self) -> Result<OpenAi, BoxError> {
        self.keyless_over(&environment).map_err(failure::error)
    }

    /// A client whose key is in this variable; it belongs to one organization, and to no
    /// project.
    ///
    /// # Errors
    ///
    /// Names the variable where it is not set, and a base URL that is none.
    pub(crate) fn with_key_of(&self, variable: &str) -> Result<OpenAi, BoxError> {
        let set = |value: &str| !value.trim().is_empty();
        if !environment(variable).is_some_and(|value| set(&value)) {
            return Err(failure::error(format!("{variable} is not set")));
        }
        let client = self.client_over(&|name| match name {
            "OPENAI_API_KEY" => environment(variable),
            "OPENAI_ORG_ID" | "OPENAI_PROJECT_ID" => None,
            name => environment(name),
        });
        client.map_err(failure::error)
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

    fn timed(&self, mut builder: OpenAiBuilder) -> OpenAiBuilder {
        if let Some(timeout) = self.timeout_seconds {
            builder = builder.attempt_timeout(timeout);
        }
        match self.passes_on {
            true => builder.body_timeout(Duration::MAX),
            false => builder,
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
        let defaults = args.account_over(&environment).expect("good ones").defaults;
        assert_eq!(defaults.stagger.as_secs_f64(), 0.5);
        assert_eq!(defaults.tokens_per_minute.amount(), Some(90_000));
    }

    #[test]
    fn a_slip_of_a_name_of_ours_is_named_and_what_is_far_is_not() {
        let said = |name: &str| known_here([name.to_owned()].into_iter());
        for (name, meant) in [
            ("TOLLHOUSE_CONFG", CONFIG),
            ("TOLLHOUSE_CONF", CONFIG),
            ("TOLLHOUSE_TOKN", TOKEN),
            ("TOLLHOUSE_TOKENS", TOKEN),
            ("TOLHOUSE_TOKEN", TOKEN),
            ("tollhouse_token", TOKEN),
            ("TOLLHOUSE_REDSI", REDIS),
        ] {
            let told = format!("{name} is not known: {meant} is meant, perhaps");
            assert_eq!(said(name), Err(told));
        }
        for name in [
            CONFIG,
            REDIS,
            TOKEN,
            "TOLLHOUSE_SCHEDULES",
            "TOLLHOUSE_REDIS_SERVER",
            "TOLLHOUSE_PATIENCE_MS",
            "TOLLHOUSE_PORT",
            "CONFIG",
            "PATH",
            "",
        ] {
            assert_eq!(said(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn every_bad_value_is_named_where_it_stands() {
        let args = PolicyArgs {
            rpm_limit: Some("-3".to_owned()),
            ..PolicyArgs::default()
        };
        assert_eq!(
            args.account_over(&environment).expect_err("a bad policy"),
            "OPENAI_STAGGER_SECONDS is \"soon\", allowed is a number from 0 to 86400; \
             --rpm-limit is \"-3\", allowed is a whole number from 1 to 1000000000000, auto or unlimited"
        );
    }

    /// By where it was said, and without what may be a password.
    #[test]
    fn an_address_of_no_redis_is_named_where_it_stands() {
        let environment = |name: &str| (name == REDIS).then(|| "secret@host".to_owned());
        for (flag, place) in [(None, REDIS), (Some("http://secret@host"), "--redis")] {
            let args = PolicyArgs {
                places: Places {
                    redis: flag.map(str::to_owned),
                    ..Places::default()
                },
                ..PolicyArgs::default()
            };
            let said = args.account_over(&environment).expect_err("no address");
            let told = "is no URL of a Redis, such as redis://HOST:PORT/DATABASE";
            assert_eq!(said, format!("{place} {told}"));
        }
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
