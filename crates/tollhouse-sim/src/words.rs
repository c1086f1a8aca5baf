//! Everyday words.

use crate::random::Rng;

const WORDS: [&str; 64] = [
    "the", "a", "river", "stone", "light", "under", "over", "and", "slow", "quick", "bridge",
    "garden", "winter", "summer", "paper", "letter", "window", "door", "open", "closed", "with",
    "without", "many", "few", "number", "answer", "question", "known", "before", "after", "while",
    "water", "fire", "house", "street", "market", "morning", "evening", "people", "child", "story",
    "song", "clear", "quiet", "north", "south", "east", "west", "small", "large", "round", "long",
    "first", "last", "every", "other", "often", "never", "between", "among", "near", "far", "made",
    "found",
];

/// One of them.
pub(crate) fn word(rng: &mut Rng) -> &'static str {
    WORDS[rng.below(WORDS.len() as u64) as usize]
}
