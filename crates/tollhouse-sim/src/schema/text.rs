//! Strings in the formats that are known.

use crate::random::Rng;
use crate::words::word;

/// A text in a format; `None` for one that is not known, which demands nothing.
pub(super) fn formatted(format: &str, rng: &mut Rng) -> Option<String> {
    let mut number = |from: u64, to: u64| from + rng.below(to - from + 1);
    let date = format!("2026-{:02}-{:02}", number(1, 12), number(1, 28));
    let time = format!(
        "{:02}:{:02}:{:02}Z",
        number(0, 23),
        number(0, 59),
        number(0, 59)
    );
    Some(match format {
        "date" => date,
        "time" => time,
        "date-time" => format!("{date}T{time}"),
        "duration" => format!("PT{}M", number(1, 59)),
        "email" => format!("{}@example.com", word(rng)),
        "hostname" => format!("{}.example.com", word(rng)),
        "uri" | "url" => format!("https://example.com/{}", word(rng)),
        "ipv4" => format!("192.0.2.{}", number(1, 254)),
        "ipv6" => format!("2001:db8::{:x}", number(1, 0xffff)),
        "uuid" => uuid(rng),
        _ => return None,
    })
}

/// Version 4, variant 1.
fn uuid(rng: &mut Rng) -> String {
    let (high, low) = (rng.next(), rng.next());
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xfff,
        low >> 48 & 0xfff,
        low & 0xffff_ffff_ffff,
    )
}

/// Words, from `least` to `most` characters of them.
pub(super) fn words(least: usize, most: usize, rng: &mut Rng) -> String {
    let mut text = word(rng).to_owned();
    let wanted = 1 + rng.below(4);
    for _ in 1..wanted {
        text = format!("{text} {}", word(rng));
    }
    while text.len() < least {
        text.push(' ');
        text.push_str(word(rng));
    }
    // They are ASCII. A space at the end is trimmed by some readers.
    text.truncate(most.max(least));
    if text.ends_with(' ') {
        text.pop();
        text.push('s');
    }
    text
}
