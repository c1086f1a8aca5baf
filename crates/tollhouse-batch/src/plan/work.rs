//! What requests take of the limits.

use super::limit::Limit;

/// What requests take together, or one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Work {
    pub(super) requests: u64,
    pub(super) tokens: u64,
    pub(super) parts: Parts,
}

/// What of a request is limited apart, where a pool limits it so: nothing, unless it is
/// said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Tokens of its prompt.
    pub input_tokens: u64,
    /// Tokens of its answer.
    pub output_tokens: u64,
    /// Images that it asks for.
    pub images: u64,
}

impl Work {
    pub(super) fn add(&mut self, one: &Work) {
        let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more);
        add(&mut self.requests, one.requests);
        add(&mut self.tokens, one.tokens);
        add(&mut self.parts.input_tokens, one.parts.input_tokens);
        add(&mut self.parts.output_tokens, one.parts.output_tokens);
        add(&mut self.parts.images, one.parts.images);
    }

    /// What a limit counts of it.
    pub(super) fn of(&self, limit: Limit) -> u64 {
        match limit {
            Limit::Tokens | Limit::TokensPerDay => self.tokens,
            Limit::InputTokens => self.parts.input_tokens,
            Limit::OutputTokens => self.parts.output_tokens,
            Limit::Images => self.parts.images,
            Limit::Requests | Limit::RequestsPerDay => self.requests,
            Limit::Stagger | Limit::Concurrency => self.requests,
        }
    }
}
