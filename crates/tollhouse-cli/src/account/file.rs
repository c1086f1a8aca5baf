//! A file made of a project's limits.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;

use tollhouse_openai::{AccountConfig, Limit, PolicyConfig};

use super::admin::RateLimit;
use crate::failure::{self, BoxError};

/// Above it a number stands for no limit.
const MOST: u64 = 1_000_000_000_000;

/// The keys that an API tells, with what each says of a model.
pub(super) type Told = Vec<(&'static str, Option<u64>)>;

/// What a project's limits say of each model, by name. A dated model that is limited as its
/// family is left out: it shares the family's pool.
pub(super) fn models(limits: &[RateLimit]) -> BTreeMap<&str, Told> {
    let all: BTreeMap<_, _> = limits
        .iter()
        .map(|limit| (&*limit.model, told(limit)))
        .collect();
    let is_apart = |(model, told): &(&&str, &Told)| {
        let family = family(model);
        family == **model || all.get(family) != Some(told)
    };
    let apart = all.iter().filter(is_apart);
    apart.map(|(model, told)| (*model, told.clone())).collect()
}

fn told(limit: &RateLimit) -> Told {
    // Zero is told of what a model does not have at all, as tokens of an image model.
    let known = |number: Option<u64>| number.filter(|number| (1..=MOST).contains(number));
    vec![
        ("tokens_per_minute", known(limit.tokens_per_minute)),
        ("requests_per_minute", known(limit.requests_per_minute)),
        ("requests_per_day", known(limit.requests_per_day)),
        ("images_per_minute", known(limit.images_per_minute)),
    ]
}

/// The same numbers, in the same order, as a description has them.
pub(super) fn of_policy(policy: &PolicyConfig) -> [Limit; 4] {
    let number = |number: Option<u64>| number.map_or(Limit::Unlimited, Limit::per_minute);
    [
        policy.tokens_per_minute,
        policy.requests_per_minute,
        number(policy.requests_per_day),
        number(policy.images_per_minute),
    ]
}

/// A model without the date of its snapshot.
fn family(model: &str) -> &str {
    let date = |text: &str| {
        let digit = |(n, byte): (usize, u8)| match n {
            0 | 5 | 8 => byte == b'-',
            _ => byte.is_ascii_digit(),
        };
        text.len() == "-2024-08-06".len() && text.bytes().enumerate().all(digit)
    };
    let start = model.len().checked_sub("-2024-08-06".len());
    let split = start.and_then(|start| model.split_at_checked(start));
    split
        .filter(|(name, rest)| !name.is_empty() && date(rest))
        .map_or(model, |(name, _)| name)
}

/// The file's text.
///
/// # Errors
///
/// A name or number that no file may have: what is written can be read.
pub(super) fn text(
    project: &str,
    base_url: &str,
    limits: &[RateLimit],
) -> Result<String, BoxError> {
    let mut text = format!(
        "# The limits of project {project:?}, as {base_url} told them.\n\
         # What is not said here is as in [defaults].\n\n\
         [defaults]\n\
         # max_concurrency = 3\n\
         # stagger_seconds = 15\n"
    );
    for (model, told) in models(limits) {
        // What is quoted in JSON is in TOML.
        writeln!(text, "\n[models.{}]", serde_json::to_string(model)?)?;
        for (key, number) in told {
            // What is left out would be as in the defaults.
            match (number, key) {
                (Some(number), _) => writeln!(text, "{key} = {number}")?,
                (None, "tokens_per_minute") => writeln!(text, "{key} = \"unlimited\"")?,
                (None, _) => {}
            }
        }
    }
    AccountConfig::from_toml(&text)
        .map_err(|error| failure::because("what the API tells makes no file", error))?;
    Ok(text)
}

/// Writes a file as a whole, or not at all.
///
/// # Errors
///
/// It is there already and is not to be replaced, or cannot be written.
pub(super) fn write(path: &Path, text: &str, replace: bool) -> Result<(), BoxError> {
    let because = |error: io::Error| failure::because(path.display().to_string(), error);
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    let mut new = tempfile::NamedTempFile::new_in(directory).map_err(because)?;
    new.write_all(text.as_bytes()).map_err(because)?;
    new.as_file().sync_all().map_err(because)?;
    let kept = match replace {
        true => new.persist(path),
        false => new.persist_noclobber(path),
    };
    kept.map(drop).map_err(|error| match error.error.kind() {
        io::ErrorKind::AlreadyExists => failure::error(format!(
            "{} is there already, and was left as it is; --force replaces it",
            path.display()
        )),
        _ => because(error.error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(model: &str, tokens: u64) -> RateLimit {
        RateLimit {
            model: model.to_owned(),
            tokens_per_minute: Some(tokens),
            requests_per_minute: Some(500),
            ..RateLimit::default()
        }
    }

    #[test]
    fn snapshots_that_are_limited_as_their_family_are_one_with_it() {
        let limits = [
            limit("gpt-4o", 30_000),
            limit("gpt-4o-2024-08-06", 30_000),
            limit("gpt-4o-2024-05-13", 10_000),
            limit("o3-2025-04-16", 30_000),
        ];
        let models: Vec<_> = models(&limits).into_keys().collect();
        assert_eq!(models, ["gpt-4o", "gpt-4o-2024-05-13", "o3-2025-04-16"]);
    }

    #[test]
    fn what_is_written_says_what_was_told() {
        let image = RateLimit {
            tokens_per_minute: Some(0),
            images_per_minute: Some(5),
            requests_per_day: Some(200),
            ..limit("dall-e-3", 0)
        };
        let none = RateLimit {
            requests_per_minute: Some((1 << 53) - 1),
            ..limit("odd \"name\"", (1 << 53) - 1)
        };
        let text = text("p", "http://x/v1", &[image, none, limit("gpt-4o", 30_000)]);
        let config = AccountConfig::from_toml(&text.expect("a file")).expect("it can be read");
        let pools = config.described_pools();
        let [image, gpt, none] = &pools[..] else {
            panic!("{pools:?}");
        };
        assert_eq!(image.policy.tokens_per_minute, Limit::Unlimited);
        assert_eq!(image.policy.images_per_minute, Some(5));
        assert_eq!(image.policy.requests_per_day, Some(200));
        assert_eq!(gpt.policy.tokens_per_minute.amount(), Some(30_000));
        assert_eq!(gpt.policy.requests_per_minute.amount(), Some(500));
        assert_eq!(none.name, "odd \"name\"");
        assert_eq!(none.policy.tokens_per_minute, Limit::Unlimited);
    }
}
