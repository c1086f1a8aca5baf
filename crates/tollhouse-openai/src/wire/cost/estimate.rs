//! What one request may be charged.

use crate::wire::request::Endpoint;

/// What one request asks for and may be charged, in tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Estimate<'c> {
    pub(crate) endpoint: Endpoint,
    pub(crate) model: Option<&'c str>,
    /// All that is sent.
    pub(crate) prompt: u64,
    /// The least that the provider charges when it admits the request.
    pub(crate) upfront: u64,
    /// What it is safe to expect.
    pub(crate) tokens: u64,
}
