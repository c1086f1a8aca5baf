//! A text that matches a regular expression.

use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, Hir, HirKind};

use crate::random::Rng;

/// The longest text that is made.
const LONGEST: usize = 10_000;

/// A matching text, or what is wrong with the expression. Anchors and word
/// boundaries are taken to hold.
pub(super) fn matching(pattern: &str, rng: &mut Rng) -> Result<String, String> {
    // As JavaScript has it, `\d` and `\w` are ASCII.
    let parser = ParserBuilder::new()
        .unicode(false)
        .utf8(false)
        .nest_limit(50)
        .build();
    let hir = { parser }.parse(pattern).map_err(|error| match error {
        regex_syntax::Error::Parse(error) => error.kind().to_string(),
        regex_syntax::Error::Translate(error) => error.kind().to_string(),
        error => error.to_string(),
    })?;
    let mut text = Vec::new();
    write(&hir, rng, &mut text);
    if text.len() > LONGEST {
        return Err(format!("what matches is longer than {LONGEST} bytes"));
    }
    String::from_utf8(text).map_err(|_| "what matches is no text".to_owned())
}

fn write(hir: &Hir, rng: &mut Rng, text: &mut Vec<u8>) {
    if text.len() > LONGEST {
        return;
    }
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => {}
        HirKind::Literal(literal) => text.extend_from_slice(&literal.0),
        HirKind::Class(class) => text.push(pick(class, rng)),
        HirKind::Capture(capture) => write(&capture.sub, rng, text),
        HirKind::Concat(parts) => parts.iter().for_each(|part| write(part, rng, text)),
        HirKind::Alternation(parts) => {
            write(&parts[rng.below(parts.len() as u64) as usize], rng, text);
        }
        HirKind::Repetition(repetition) => {
            let least = repetition.min;
            let more = repetition.max.map_or(3, |most| (most - least).min(3));
            let count = least.saturating_add(rng.below(u64::from(more) + 1) as u32);
            for _ in 0..count {
                if text.len() > LONGEST {
                    return;
                }
                write(&repetition.sub, rng, text);
            }
        }
    }
}

/// One of a class, by preference a letter or a digit.
fn pick(class: &Class, rng: &mut Rng) -> u8 {
    let has = |byte: &u8| match class {
        Class::Bytes(class) => class
            .ranges()
            .iter()
            .any(|r| (r.start()..=r.end()).contains(byte)),
        Class::Unicode(class) => {
            let one = char::from(*byte);
            class
                .ranges()
                .iter()
                .any(|r| (r.start()..=r.end()).contains(&one))
        }
    };
    for wanted in [
        u8::is_ascii_alphanumeric,
        u8::is_ascii_graphic,
        u8::is_ascii,
    ] {
        let found: Vec<u8> = (0..128).filter(wanted).filter(has).collect();
        if !found.is_empty() {
            return found[rng.below(found.len() as u64) as usize];
        }
    }
    // Only bytes that are no text of their own; it is found out later.
    0xff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_match_their_patterns() {
        let rng = &mut Rng::seeded(1);
        let phone = matching(r"^\+\d{2}-\d{3,5}$", rng).unwrap();
        let (country, number) = phone.strip_prefix('+').unwrap().split_once('-').unwrap();
        assert!(
            country.len() == 2 && (3..=5).contains(&number.len()),
            "{phone}"
        );
        assert!(number.bytes().all(|b| b.is_ascii_digit()), "{phone}");
        assert!(["red", "blue"].contains(&&*matching("^(red|blue)$", rng).unwrap()));
        assert_eq!(matching("^é{2}$", rng).unwrap(), "éé");
        let none = matching("^[^a-z]$", rng).unwrap();
        assert!(!none.bytes().any(|b| b.is_ascii_lowercase()));
    }

    #[test]
    fn what_no_text_can_match_is_told() {
        let rng = &mut Rng::seeded(1);
        assert_eq!(matching("(", rng).unwrap_err(), "unclosed group");
        assert!(matching("(?=a)b", rng).is_err());
        assert!(matching("(a{1000}){1000}", rng).is_err());
    }
}
