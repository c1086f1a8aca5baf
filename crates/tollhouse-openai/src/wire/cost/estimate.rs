//! All that can be told of a request beforehand.

use std::borrow::Cow;

use super::Endpoint;

/// What one request asks for and may be charged, in tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Estimate<'r> {
    pub(crate) endpoint: Endpoint,
    /// The model's name in the body, in JSON.
    pub(super) model: Option<&'r str>,
    /// The model's deployment in the path, where the body names none.
    pub(super) deployment: Option<&'r str>,
    /// All that is sent.
    pub(crate) prompt: u64,
    /// The longest answer that was asked for.
    #[cfg_attr(not(feature = "spans"), expect(dead_code, reason = "spans tell it"))]
    pub(crate) longest: Option<u64>,
    /// The least that the provider charges when it admits the request.
    pub(crate) upfront: u64,
    /// What it is safe to expect.
    pub(crate) tokens: u64,
}

impl<'r> Estimate<'r> {
    /// The model's name.
    pub(crate) fn model(&self) -> Option<Cow<'r, str>> {
        match self.model {
            Some(json) => serde_json::from_str(json).ok().map(Cow::Owned),
            None => self.deployment.map(Cow::Borrowed),
        }
    }
}

/// Azure's name of a model in a path: `/openai/deployments/NAME/...`.
pub(super) fn deployment(path: &str) -> Option<&str> {
    let mut segments = path.split('/');
    segments.find(|segment| *segment == "deployments")?;
    segments.next()
}

#[cfg(test)]
impl<'r> Estimate<'r> {
    /// For tests that need no request.
    pub(crate) fn new(
        endpoint: Endpoint,
        model: Option<&'r str>,
        upfront: u64,
        tokens: u64,
    ) -> Self {
        Estimate {
            endpoint,
            model: None,
            deployment: model,
            prompt: upfront,
            longest: None,
            upfront,
            tokens,
        }
    }
}
