//! The numbers of a pool, for people.

use std::fmt::Write;

use tollhouse_openai::account::Sharing;
use tollhouse_openai::{AccountConfig, Limit, PolicyConfig};

use crate::print::{Count, Percent, Span};

/// A line for each pool that a description names, and one for all others.
pub(super) fn of_pools(config: &AccountConfig) -> String {
    let mut rows: Vec<_> = config
        .described_pools()
        .into_iter()
        .map(|pool| {
            let named = pool.models == [&*pool.name];
            let models = match named {
                true => String::new(),
                false if pool.models.is_empty() => " (no models)".to_owned(),
                false => format!(" ({})", pool.models.join(", ")),
            };
            (
                format!("pool {}{models}", pool.name),
                in_words(&pool.policy),
            )
        })
        .collect();
    let others = match (config.sharing, rows.is_empty()) {
        (Sharing::OnePool, true) => "one pool for all models",
        (Sharing::OnePool, false) => "one pool for all other models",
        (_, true) => "a pool for each model",
        (_, false) => "a pool for each other model",
    };
    rows.push((others.to_owned(), in_words(&config.defaults)));
    let mut text = table(&rows);
    if let Some(slots) = config.max_concurrency {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "over all pools: {} requests at once",
            Count(slots as u64)
        );
    }
    if config.dry_run {
        text += "a dry run: nothing waits, nothing is refused\n";
    }
    for (caller, weight) in config.callers() {
        let _ = writeln!(text, "caller {caller}: weight {}", Count(u64::from(weight)));
    }
    text
}

fn table(rows: &[(String, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.chars().count()).max();
    let width = width.unwrap_or(0);
    let lines = rows.iter();
    let lines = lines.map(|(name, numbers)| format!("{name:width$}  {numbers}\n"));
    lines.collect()
}

/// `30,000 tokens a minute, 3 at once, launches 15.0s apart, headroom 15%`: what the
/// provider allows, and what is kept to of it.
pub(super) fn in_words(policy: &PolicyConfig) -> String {
    let a_minute = |limit: Limit| match limit {
        Limit::PerMinute(amount) => Some(Count(amount.get()).to_string()),
        Limit::Auto => Some("auto".to_owned()),
        _ => None,
    };
    let number = |amount: Option<u64>| amount.map(|amount| Count(amount).to_string());
    let limits = [
        (a_minute(policy.tokens_per_minute), "tokens a minute"),
        (a_minute(policy.requests_per_minute), "requests a minute"),
        (
            number(policy.input_tokens_per_minute),
            "input tokens a minute",
        ),
        (
            number(policy.output_tokens_per_minute),
            "output tokens a minute",
        ),
        (number(policy.images_per_minute), "images a minute"),
        (number(policy.tokens_per_day), "tokens a day"),
        (number(policy.requests_per_day), "requests a day"),
    ];
    let limits = limits.into_iter();
    let mut words: Vec<_> = limits
        .filter_map(|(amount, what)| Some(format!("{} {what}", amount?)))
        .collect();
    if words.is_empty() {
        words.push("no limit".to_owned());
    }
    words.push(format!("{} at once", Count(policy.max_concurrency as u64)));
    if !policy.stagger.is_zero() {
        words.push(format!("launches {} apart", Span(policy.stagger)));
    }
    words.push(format!("headroom {}", Percent(policy.headroom)));
    words.join(", ")
}
