//! `tollhouse.toml`: an account's description as a file.
//!
//! It is read key by key, with the place of each, so that everything that is wrong is
//! told at once and every message names its line.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use tollhouse::shared::Fallback;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::config::{AccountConfig, Overrides, SLOTS, WEIGHT};
use super::error::{AccountError, Problem};
use super::shared::{self, SharedLedgerConfig};
use super::tokens;
use crate::call::Endpoint;
use crate::policy::config::{KEYS, Key, Place, not_known};
use crate::policy::value::{Allowed, Setting, Value};

/// A file is small; what is larger is another file.
const LONGEST: u64 = 16 * 1024 * 1024;

const SECTIONS: [&str; 7] = [
    "defaults", "account", "models", "pools", "callers", "tokens", "shared",
];

impl AccountConfig {
    /// The account that a `tollhouse.toml` describes; reads no environment.
    ///
    /// # Errors
    ///
    /// Names everything that is wrong at once: line, section, key, value and what is
    /// allowed; for a key that is not known, the nearest known one.
    pub fn from_toml(text: &str) -> Result<Self, AccountError> {
        let (table, errors) = DeTable::parse_recoverable(text);
        let mut reader = Reader {
            text,
            problems: Vec::new(),
            places: BTreeMap::new(),
            has_all_pools: true,
        };
        if !errors.is_empty() {
            // What stands beside them may have been read otherwise than it was meant.
            for error in errors {
                let line = reader.line(error.span().unwrap_or_default());
                reader
                    .problems
                    .push(Problem::said("", error.message()).at_line(line));
            }
            return Err(reader.into_error());
        }
        let config = reader.file(table.get_ref());
        let problems = config.problems(reader.has_all_pools);
        let problems = problems.into_iter().map(|problem| reader.placed(problem));
        let problems: Vec<_> = problems.collect();
        reader.problems.extend(problems);
        match reader.problems.is_empty() {
            true => Ok(config),
            false => Err(reader.into_error()),
        }
    }

    /// As [`from_toml`](Self::from_toml), from a file.
    ///
    /// # Errors
    ///
    /// As [`from_toml`](Self::from_toml), with the file's name; or why it cannot be read. An empty
    /// file is one that somebody is about to write, and describes no account; a comment in it does.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, AccountError> {
        let path = path.as_ref();
        let read = read(path).map_err(|error| AccountError::new(vec![Problem::said("", error)]));
        let config = read.and_then(|text| AccountConfig::from_toml(&text));
        config.map_err(|error| error.of_file(path))
    }
}

const EMPTY: &str = "it is empty; where all is to be as by default, a comment says so";

fn read(path: &Path) -> Result<String, String> {
    use std::io::Read;

    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    let read = file.take(LONGEST + 1).read_to_end(&mut bytes);
    read.map_err(|error| error.to_string())?;
    match bytes.len() as u64 > LONGEST {
        true => Err(format!("it is longer than {LONGEST} bytes")),
        false if bytes.trim_ascii().is_empty() => Err(EMPTY.to_owned()),
        false => String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned()),
    }
}

/// Reads a file, and remembers all that is wrong.
struct Reader<'t> {
    text: &'t str,
    problems: Vec<Problem>,
    /// The line of every section and key that was seen.
    places: BTreeMap<(String, String), usize>,
    /// Whether every section that may be one of a pool could be read, so that a pool that
    /// is not there is none.
    has_all_pools: bool,
}

/// A key and what stands behind it.
struct Entry<'e, 't> {
    name: &'e str,
    line: usize,
    value: &'e DeValue<'t>,
}

impl<'t> Reader<'t> {
    fn file(&mut self, table: &DeTable<'t>) -> AccountConfig {
        let mut config = AccountConfig::default();
        for entry in self.entries("", table) {
            match entry.name {
                "defaults" => self.defaults(&entry, &mut config),
                "account" => self.account(&entry, &mut config),
                "models" => self.each("models", &entry, |reader, name, section, table| {
                    let model = config.models.entry(name.to_owned()).or_default();
                    for entry in reader.entries(section, table) {
                        match entry.name {
                            "pool" => model.pool = reader.text(section, "pool", &entry),
                            "endpoint" => model.endpoint = reader.endpoint(section, &entry),
                            _ => reader.number(
                                section,
                                &entry,
                                &["pool", "endpoint"],
                                &mut model.own,
                            ),
                        }
                    }
                }),
                "pools" => self.each("pools", &entry, |reader, name, section, table| {
                    let own = config.pools.entry(name.to_owned()).or_default();
                    for entry in reader.entries(section, table) {
                        reader.number(section, &entry, &[], own);
                    }
                }),
                "callers" => self.each("callers", &entry, |reader, name, section, table| {
                    for entry in reader.entries(section, table) {
                        match entry.name {
                            "weight" => {
                                let weight = reader.value(section, "weight", &entry, WEIGHT);
                                config.callers.insert(name.to_owned(), weight.unwrap_or(1));
                            }
                            _ => reader.unknown(section, &entry, ["weight"].into_iter()),
                        }
                    }
                }),
                "tokens" => self.tokens(&entry, &mut config),
                "shared" => self.shared(&entry, &mut config),
                _ => {
                    self.has_all_pools = false;
                    self.unknown("", &entry, SECTIONS.into_iter());
                }
            }
        }
        config
    }

    fn defaults(&mut self, entry: &Entry<'_, 't>, config: &mut AccountConfig) {
        let section = "[defaults]";
        let Some(table) = self.table(section, entry) else {
            return;
        };
        for entry in self.entries(section, table) {
            match Key::named(entry.name).filter(|key| key.place != Place::Nowhere) {
                Some(key) => {
                    let value = value_of(entry.value);
                    if !key.put(&mut config.defaults, &value) {
                        self.bad(section, key.name, &value, key.allowed, entry.line);
                    }
                }
                None => {
                    let known = KEYS.iter().filter(|key| key.place != Place::Nowhere);
                    self.unknown(section, &entry, known.map(|key| key.name));
                }
            }
        }
    }

    fn account(&mut self, entry: &Entry<'_, 't>, config: &mut AccountConfig) {
        let section = "[account]";
        let Some(table) = self.table(section, entry) else {
            return;
        };
        for entry in self.entries(section, table) {
            match entry.name {
                "max_concurrency" => {
                    let slots = self.value(section, "max_concurrency", &entry, SLOTS);
                    config.max_concurrency = slots.unwrap_or_default();
                }
                "dry_run" => {
                    let dry_run = self.value(section, "dry_run", &entry, Allowed::Flag);
                    config.dry_run = dry_run.unwrap_or_default();
                }
                _ => self.unknown(section, &entry, ["max_concurrency", "dry_run"].into_iter()),
            }
        }
    }

    /// What stands behind a name is a secret, and is repeated in no message.
    fn tokens(&mut self, entry: &Entry<'_, 't>, config: &mut AccountConfig) {
        let Some(table) = self.table(tokens::SECTION, entry) else {
            return;
        };
        for entry in self.entries(tokens::SECTION, table) {
            match (texts(entry.value), wrong_with(entry.name)) {
                (Some(secrets), None) => {
                    for secret in secrets {
                        config.tokens.put(entry.name, secret);
                    }
                }
                (Some(_), Some(wrong)) => {
                    let what = format!("{:?}: {wrong}", entry.name);
                    let problem = Problem::said(tokens::SECTION, what);
                    self.problems.push(problem.at_line(entry.line));
                }
                (None, _) => {
                    let what = format!(
                        "{:?} is {}: a token or a list of tokens is meant, each in quotes",
                        entry.name,
                        no_texts(entry.value)
                    );
                    let problem = Problem::said(tokens::SECTION, what);
                    self.problems.push(problem.at_line(entry.line));
                }
            }
        }
    }

    /// What is no text behind `redis` is repeated in no message either.
    fn shared(&mut self, entry: &Entry<'_, 't>, config: &mut AccountConfig) {
        let section = shared::SECTION;
        let Some(table) = self.table(section, entry) else {
            return;
        };
        let mut said = SharedLedgerConfig::default();
        let mut floor = None;
        for entry in self.entries(section, table) {
            match entry.name {
                "redis" => said.redis = Some(entry.value.as_str().unwrap_or_default().to_owned()),
                "name" => said.name = self.text(section, "name", &entry).unwrap_or(said.name),
                "fallback" => {
                    let value = self.value(section, "fallback", &entry, shared::FALLBACK);
                    said.fallback = value.unwrap_or(said.fallback);
                }
                "floor" => {
                    floor = Some((
                        self.value(section, "floor", &entry, shared::FLOOR),
                        entry.line,
                    ));
                }
                _ => self.unknown(section, &entry, shared::KEYS.into_iter()),
            }
        }
        match (&mut said.fallback, floor) {
            (_, None | Some((None, _))) => {}
            (Fallback::Share { floor }, Some((Some(least), _))) => *floor = least,
            (_, Some((Some(_), line))) => {
                let what = "floor is the least share, and fallback is none";
                self.problems
                    .push(Problem::said(section, what).at_line(line));
            }
        }
        config.shared = Some(said);
    }

    /// Reads the sections that have names of their own.
    fn each(
        &mut self,
        kind: &str,
        entry: &Entry<'_, 't>,
        mut read: impl FnMut(&mut Self, &str, &str, &DeTable<'t>),
    ) {
        let Some(table) = self.table(&format!("[{kind}]"), entry) else {
            self.has_all_pools &= kind != "pools";
            return;
        };
        for entry in self.entries(kind, table) {
            let section = format!("[{kind}.{:?}]", entry.name);
            if let Some(wrong) = wrong_with(entry.name) {
                let problem = Problem::said(section, wrong);
                self.problems.push(problem.at_line(entry.line));
            } else if let Some(table) = self.table(&section, &entry) {
                self.places
                    .insert((section.clone(), String::new()), entry.line);
                read(self, entry.name, &section, table);
            } else {
                self.has_all_pools &= kind != "pools";
            }
        }
    }

    /// A pool's number.
    fn number(
        &mut self,
        section: &str,
        entry: &Entry<'_, 't>,
        others: &[&'static str],
        own: &mut Overrides,
    ) {
        let key = Key::named(entry.name);
        match key.map(|key| (key, key.place)) {
            Some((key, Place::Pool)) => {
                let value = value_of(entry.value);
                match key.allows(&value) {
                    true => own.put(key, value),
                    false => self.bad(section, key.name, &value, key.allowed, entry.line),
                }
            }
            Some((key, Place::Account)) => {
                let what = format!("{} belongs under [defaults]: the account has one", key.name);
                self.problems
                    .push(Problem::said(section, what).at_line(entry.line));
            }
            _ => {
                let known = KEYS.iter().filter(|key| key.place == Place::Pool);
                let known = known.map(|key| key.name);
                self.unknown(section, entry, known.chain(others.iter().copied()));
            }
        }
    }

    fn endpoint(&mut self, section: &str, entry: &Entry<'_, 't>) -> Option<Endpoint> {
        let names = Endpoint::ALL.map(Endpoint::name);
        let value = value_of(entry.value);
        let read = match &value {
            Value::Text(text) => Endpoint::ALL.into_iter().find(|it| it.name() == &**text),
            _ => None,
        };
        if read.is_none() {
            let what = format!("endpoint is {value}: allowed is {}", names.join(", "));
            self.problems
                .push(Problem::said(section, what).at_line(entry.line));
        }
        read
    }

    fn text(&mut self, section: &str, name: &'static str, entry: &Entry<'_, 't>) -> Option<String> {
        self.value(section, name, entry, Allowed::Name)
    }

    fn value<T: Setting>(
        &mut self,
        section: &str,
        name: &'static str,
        entry: &Entry<'_, 't>,
        allowed: Allowed,
    ) -> Option<T> {
        let value = value_of(entry.value);
        let read = Some(&value).filter(|value| allowed.allows(value));
        let read = read.and_then(T::from_value);
        if read.is_none() {
            self.bad(section, name, &value, allowed, entry.line);
        }
        read
    }

    fn table<'e>(&mut self, section: &str, entry: &Entry<'e, 't>) -> Option<&'e DeTable<'t>> {
        let table = entry.value.as_table();
        if table.is_none() {
            let what = format!("it is {}, and a section is meant", entry.value.type_str());
            self.problems
                .push(Problem::said(section, what).at_line(entry.line));
        }
        table
    }

    /// In the order of the file, and not of the alphabet.
    fn entries<'e>(&mut self, section: &str, table: &'e DeTable<'t>) -> Vec<Entry<'e, 't>> {
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        let entries = entries.into_iter().map(|(name, value)| Entry {
            name: name.get_ref(),
            line: self.line(name.span()),
            value: Spanned::get_ref(value),
        });
        let entries: Vec<_> = entries.collect();
        for entry in &entries {
            let place = (section.to_owned(), entry.name.to_owned());
            self.places.insert(place, entry.line);
        }
        entries
    }

    fn bad(
        &mut self,
        section: &str,
        name: &'static str,
        value: &Value,
        allowed: Allowed,
        line: usize,
    ) {
        let problem = Problem::value(section, name, value, allowed);
        self.problems.push(problem.at_line(line));
    }

    fn unknown<'k>(
        &mut self,
        section: &str,
        entry: &Entry<'_, 't>,
        known: impl Iterator<Item = &'k str>,
    ) {
        let what = match dotted(section, entry) {
            Some(meant) => format!("a name with a dot in it is quoted: {meant} is meant, perhaps"),
            None => not_known(entry.name, known),
        };
        self.problems
            .push(Problem::said(section, what).at_line(entry.line));
    }

    /// The line, the first being 1.
    fn line(&self, span: Range<usize>) -> usize {
        let before = self.text.as_bytes().get(..span.start);
        let before = before.unwrap_or(self.text.as_bytes());
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }

    /// Looks up the line of what was found wrong with the whole.
    fn placed(&self, problem: Problem) -> Problem {
        let section = problem.section().to_owned();
        let key = problem.key().unwrap_or_default().to_owned();
        match self.places.get(&(section, key)) {
            Some(line) => problem.at_line(*line),
            None => problem,
        }
    }

    fn into_error(mut self) -> AccountError {
        self.problems.sort_by_key(Problem::line);
        AccountError::new(self.problems)
    }
}

/// Why this is no name, if it is none: names are told to terminals and in logs.
fn wrong_with(name: &str) -> Option<&'static str> {
    match name {
        "" => Some("a name is not empty"),
        name if name.contains(char::is_control) => Some("a name has no control characters"),
        _ => None,
    }
}

/// A section within a section that has a name is what TOML makes of a name with a dot that nobody
/// quoted: what was meant.
fn dotted(section: &str, entry: &Entry<'_, '_>) -> Option<String> {
    let mut meant = format!("{}.{}", section.strip_suffix("\"]")?, entry.name);
    let mut table = entry.value.as_table()?;
    while let Some((name, within)) = table.iter().next()
        && let Some(within) = within.get_ref().as_table()
    {
        meant = format!("{meant}.{}", name.get_ref());
        table = within;
    }
    Some(meant + "\"]")
}

/// A text, or a list of nothing else.
fn texts<'v>(value: &'v DeValue<'_>) -> Option<Vec<&'v str>> {
    match value {
        DeValue::Array(values) if !values.is_empty() => values
            .iter()
            .map(|value| value.get_ref().as_str())
            .collect(),
        value => value.as_str().map(|text| vec![text]),
    }
}

/// What stands in the place of [texts], in words that repeat nothing of it.
fn no_texts(value: &DeValue<'_>) -> String {
    match value {
        DeValue::Array(values) if values.is_empty() => "an empty list".to_owned(),
        DeValue::Array(_) => "a list with something else in it".to_owned(),
        other => other.type_str().to_owned(),
    }
}

/// What is written, in the form of settings.
fn value_of(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::Boolean(flag) => Value::Flag(*flag),
        DeValue::String(text) => Value::Text(text.clone().into_owned().into()),
        DeValue::Integer(number) => {
            match u64::from_str_radix(number.as_str().trim_start_matches('+'), number.radix()) {
                Ok(number) => Value::Whole(number),
                Err(_) => Value::Other(number.as_str().to_owned()),
            }
        }
        DeValue::Float(number) => match number.as_str().parse::<f64>() {
            Ok(number) if number.is_finite() => Value::Real(number),
            _ => Value::Other(number.as_str().to_owned()),
        },
        other => Value::Other(other.type_str().to_owned()),
    }
}
