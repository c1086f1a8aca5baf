//! What a file says and an API does not, and the other way round.

use tollhouse_openai::{Account, AccountConfig, Limit};

use super::admin::RateLimit;
use super::file;
use crate::failure::BoxError;
use crate::print::Count;

/// A line for each difference.
///
/// # Errors
///
/// The description is none.
pub(super) fn drift(config: &AccountConfig, limits: &[RateLimit]) -> Result<Vec<String>, BoxError> {
    let account = Account::from_config(config.clone())?;
    let mut lines = Vec::new();
    let mut used = Vec::new();
    for (model, told) in file::models(limits) {
        let found = account.explain(Some(model), None);
        used.push(found.section.clone());
        if found.section == "[defaults]" {
            lines.push(format!(
                "{model}: told by the API, in no section of the file"
            ));
        }
        for ((key, api), says) in told.into_iter().zip(file::of_policy(&found.policy)) {
            let api = api.map_or(Limit::Unlimited, Limit::per_minute);
            // What answers tell cannot differ from what the API tells.
            if says != api && says != Limit::Auto {
                let (says, api) = (shown(says), shown(api));
                let section = &found.section;
                lines.push(format!(
                    "{model}: {key} is {says} by {section}, {api} by the API"
                ));
            }
        }
    }
    let models = config.described_pools().into_iter();
    let sections = models.flat_map(|pool| pool.models);
    let unknown = sections.filter(|model| {
        let section = format!("[models.{model:?}]");
        !model.starts_with("endpoint ") && !used.contains(&section)
    });
    lines.extend(unknown.map(|model| format!("{model}: in the file, matches no model of the API")));
    Ok(lines)
}

fn shown(limit: Limit) -> String {
    match limit.amount() {
        Some(amount) => Count(amount).to_string(),
        None => "unlimited".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(model: &str, tokens: u64) -> RateLimit {
        RateLimit {
            model: model.to_owned(),
            tokens_per_minute: Some(tokens),
            ..RateLimit::default()
        }
    }

    #[test]
    fn both_sides_are_told() {
        let config = AccountConfig::from_toml(
            r#"
            [models."gpt-4o*"]
            tokens_per_minute = 30000
            [models.o3]
            tokens_per_minute = "auto"
            [models.old]
            tokens_per_minute = 1
            "#,
        );
        let limits = [
            limit("gpt-4o", 30_000),
            limit("gpt-4o-mini", 200_000),
            limit("o3", 9_000),
            limit("new", 30_000),
        ];
        assert_eq!(
            drift(&config.expect("a file"), &limits).expect("an account"),
            [
                "gpt-4o-mini: tokens_per_minute is 30,000 by [models.\"gpt-4o*\"], 200,000 by the API",
                "new: told by the API, in no section of the file",
                "old: in the file, matches no model of the API",
            ]
        );
    }
}
