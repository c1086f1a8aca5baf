//! Names of variables that look like misspelt ones.

use strsim::osa_distance;

use super::config::Key;
use super::error::BadSetting;

/// Those that clients and SDKs know, which are no slips however close they come.
const OTHERS: [&str; 8] = [
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "OPENAI_API_BASE",
    "OPENAI_ORG_ID",
    "OPENAI_ORGANIZATION",
    "OPENAI_PROJECT_ID",
    "OPENAI_WEBHOOK_SECRET",
    "OPENAI_LOG",
];

/// The variables among `names` that are one slip away from one that is known: a
/// letter too many, one too few, another one, or two that changed places.
pub(super) fn misspelt(names: impl Iterator<Item = String>) -> Vec<BadSetting> {
    let mut bad: Vec<_> = names
        .filter(|name| known().all(|known| name != known) && !OTHERS.contains(&&**name))
        .filter_map(|name| {
            let meant = known().filter(|known| is_one_slip(&name, known)).min()?;
            Some(BadSetting::misspelt(name, meant))
        })
        .collect();
    bad.sort_by(|one, other| one.name().cmp(other.name()));
    bad
}

/// Those that a policy is made of, and those that a client needs.
fn known() -> impl Iterator<Item = &'static str> {
    let ours = Key::with_variables().map(|(_, variable)| variable);
    ours.chain(["OPENAI_API_KEY", "OPENAI_BASE_URL"])
}

fn is_one_slip(name: &str, known: &str) -> bool {
    // Few names come near; the environment has many.
    name.len().abs_diff(known.len()) <= 1 && osa_distance(name, known) == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_that_is_one_slip_away_is_named() {
        let names = [
            "OPENAI_TPM_LIMITS",
            "OPENAI_TPM_LIMT",
            "OPENAI_TMP_LIMIT",
            "OPENAI_RPN_LIMIT",
            "OPENAI_API_KEYS",
            "OPENAI_MAX_CONCURENCY",
            // Nothing of ours, or as it should be.
            "OPENAI_TPM_LIMIT",
            "OPENAI_API_KEY",
            "OPENAI_ORG_ID",
            "OPENAI_MODEL",
            "OPENAI_TIMEOUT",
            "PATH",
        ];
        let bad = misspelt(names.into_iter().map(str::to_owned));
        let said: Vec<_> = bad.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "OPENAI_API_KEYS is not known: OPENAI_API_KEY is meant, perhaps",
                "OPENAI_MAX_CONCURENCY is not known: OPENAI_MAX_CONCURRENCY is meant, perhaps",
                "OPENAI_RPN_LIMIT is not known: OPENAI_RPM_LIMIT is meant, perhaps",
                "OPENAI_TMP_LIMIT is not known: OPENAI_TPM_LIMIT is meant, perhaps",
                "OPENAI_TPM_LIMITS is not known: OPENAI_TPM_LIMIT is meant, perhaps",
                "OPENAI_TPM_LIMT is not known: OPENAI_TPM_LIMIT is meant, perhaps",
            ]
        );
    }
}
