//! What a moderated text is flagged as.

use serde_json::Value;

use super::fields::Fields;
use crate::error::ApiError;

/// OpenAI's categories.
pub(crate) const CATEGORIES: [&str; 13] = [
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
];

/// For each category, whether its name stands in the text: no model is asked,
/// and whoever tries a client must be able to choose.
pub(crate) type Flags = [bool; CATEGORIES.len()];

/// One for each text; the parts of a message are one.
pub(super) fn read(fields: &Fields<'_>) -> Result<Vec<Flags>, ApiError> {
    Ok(match fields.required("input")? {
        Value::Array(elements) if elements.iter().all(Value::is_string) => {
            elements.iter().map(flags).collect()
        }
        input => vec![flags(input)],
    })
}

fn flags(value: &Value) -> Flags {
    match value {
        Value::String(text) => CATEGORIES.map(|category| names(text, category)),
        Value::Array(parts) => {
            let all = parts.iter().map(flags);
            all.fold(Flags::default(), |all, one| {
                std::array::from_fn(|index| all[index] || one[index])
            })
        }
        part => part.get("text").map_or_else(Flags::default, flags),
    }
}

/// Whether a category stands there as a word, and not as part of another one.
fn names(text: &str, category: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || "-/".contains(c);
    let mut words = text.split(|c| !inside(c));
    words.any(|word| word.eq_ignore_ascii_case(category))
}
