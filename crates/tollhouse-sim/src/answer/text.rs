//! Text made of everyday words, one token each.

use crate::draw::Draw;

const WORDS: [&str; 64] = [
    "the", "a", "river", "stone", "light", "under", "over", "and", "slow", "quick", "bridge",
    "garden", "winter", "summer", "paper", "letter", "window", "door", "open", "closed", "with",
    "without", "many", "few", "number", "answer", "question", "known", "before", "after", "while",
    "water", "fire", "house", "street", "market", "morning", "evening", "people", "child", "story",
    "song", "clear", "quiet", "north", "south", "east", "west", "small", "large", "round", "long",
    "first", "last", "every", "other", "often", "never", "between", "among", "near", "far", "made",
    "found",
];
/// Tokens in a sentence.
const SENTENCE: u64 = 11;

/// A text that is made token by token, and is the same every time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text {
    pub(super) seed: u64,
    /// Its length.
    pub(super) tokens: u64,
    /// Whether it would have been longer than was asked.
    pub(super) cut_off: bool,
}

impl Text {
    /// The token at `step`, or `None` past the end.
    pub(super) fn token(&self, step: u64) -> Option<String> {
        if step >= self.tokens {
            return None;
        }
        let pick = Draw::nth(self.seed, step).next() % WORDS.len() as u64;
        let word = WORDS[pick as usize];
        let space = if step == 0 { "" } else { " " };
        let ends =
            (step + 1).is_multiple_of(SENTENCE) || (step + 1 == self.tokens && !self.cut_off);
        let stop = if ends { "." } else { "" };
        Some(if step.is_multiple_of(SENTENCE) {
            let (first, rest) = word.split_at(1);
            format!("{space}{}{rest}{stop}", first.to_ascii_uppercase())
        } else {
            format!("{space}{word}{stop}")
        })
    }

    pub(super) fn whole(&self) -> String {
        (0..self.tokens)
            .filter_map(|step| self.token(step))
            .collect()
    }

    /// Why it ended, in the words of chats and completions.
    pub(super) fn finish_reason(&self) -> &'static str {
        if self.cut_off { "length" } else { "stop" }
    }
}
