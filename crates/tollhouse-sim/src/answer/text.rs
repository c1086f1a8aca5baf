//! What an answer says, token by token.

use std::sync::Arc;

use crate::random::Rng;
use crate::words::word;

/// Tokens in a sentence.
const SENTENCE: u64 = 11;

/// Characters in a token of JSON.
const TOKEN: usize = 4;

/// A text that is made token by token, and is the same every time.
#[derive(Clone, Debug)]
pub(super) struct Text {
    pub(super) seed: u64,
    /// Its length.
    pub(super) tokens: u64,
    /// Whether it would have been longer than was asked.
    pub(super) cut_off: bool,
    pub(super) kind: Kind,
}

/// What a text is made of.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// Everyday words, one a token.
    Words,
    /// JSON, in its tokens.
    Json(Arc<[Box<str>]>),
    /// The arguments of a function, in theirs.
    Call {
        name: Arc<str>,
        arguments: Arc<[Box<str>]>,
        /// What it is ended by.
        finish: &'static str,
    },
}

impl Text {
    /// The token at `step`, or `None` past the end.
    pub(super) fn token(&self, step: u64) -> Option<String> {
        if step >= self.tokens {
            return None;
        }
        match &self.kind {
            Kind::Words => Some(self.word(step)),
            Kind::Json(tokens)
            | Kind::Call {
                arguments: tokens, ..
            } => {
                let token = tokens.get(usize::try_from(step).ok()?)?;
                Some(String::from(&**token))
            }
        }
    }

    fn word(&self, step: u64) -> String {
        let word = word(&mut Rng::nth(self.seed, step));
        let space = if step == 0 { "" } else { " " };
        let ends =
            (step + 1).is_multiple_of(SENTENCE) || (step + 1 == self.tokens && !self.cut_off);
        let stop = if ends { "." } else { "" };
        if step.is_multiple_of(SENTENCE) {
            let (first, rest) = word.split_at(1);
            format!("{space}{}{rest}{stop}", first.to_ascii_uppercase())
        } else {
            format!("{space}{word}{stop}")
        }
    }

    pub(super) fn whole(&self) -> String {
        (0..self.tokens)
            .filter_map(|step| self.token(step))
            .collect()
    }

    /// The function it calls, and the id of the call.
    pub(super) fn call(&self) -> Option<(&str, String)> {
        match &self.kind {
            Kind::Call { name, .. } => Some((name, format!("call_{:016x}", self.seed))),
            Kind::Words | Kind::Json(_) => None,
        }
    }

    /// Why it ended, in the words of chats and completions.
    pub(super) fn finish_reason(&self) -> &'static str {
        match &self.kind {
            _ if self.cut_off => "length",
            Kind::Call { finish, .. } => finish,
            Kind::Words | Kind::Json(_) => "stop",
        }
    }
}

/// Cuts JSON into tokens.
pub(super) fn tokens_of(json: &str) -> Arc<[Box<str>]> {
    let mut rest = json;
    let mut tokens = Vec::new();
    while !rest.is_empty() {
        let end = rest
            .char_indices()
            .nth(TOKEN)
            .map_or(rest.len(), |(at, _)| at);
        let (token, after) = rest.split_at(end);
        tokens.push(Box::from(token));
        rest = after;
    }
    tokens.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_cut_between_characters() {
        let tokens = tokens_of("{\"ä\":\"öüß\"}");
        let tokens: Vec<_> = tokens.iter().map(|token| &**token).collect();
        assert_eq!(tokens, ["{\"ä\"", ":\"öü", "ß\"}"]);
    }
}
