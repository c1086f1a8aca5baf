use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

use super::target::Target;
use super::transport::Transport;
use super::{Account, Error, OpenAi};
use crate::answered::Answered;

const BASE_URL: &str = "https://api.openai.com/v1";

/// Describes an [`OpenAi`] client.
#[derive(Clone)]
#[must_use = "a builder does nothing until it is built"]
pub struct OpenAiBuilder {
    base_url: String,
    api_key: Option<String>,
    extra_roots: Vec<u8>,
    connect_timeout: Duration,
    attempt_timeout: Duration,
}

impl Default for OpenAiBuilder {
    fn default() -> Self {
        OpenAiBuilder {
            base_url: BASE_URL.to_owned(),
            api_key: None,
            extra_roots: Vec::new(),
            connect_timeout: Duration::from_secs(10),
            attempt_timeout: Duration::from_secs(600),
        }
    }
}

impl OpenAiBuilder {
    /// A builder from `OPENAI_API_KEY` and `OPENAI_BASE_URL` as `var` finds
    /// them; an empty value counts as none.
    ///
    /// # Errors
    ///
    /// [`Error::is_config`] where there is no key.
    pub fn from_vars(var: impl Fn(&str) -> Option<String>) -> Result<OpenAiBuilder, Error> {
        let set = |name| var(name).filter(|value| !value.trim().is_empty());
        let key = set("OPENAI_API_KEY")
            .ok_or_else(|| Error::config("OPENAI_API_KEY is not set".to_owned()))?;
        let builder = OpenAi::builder().api_key(key.trim());
        Ok(match set("OPENAI_BASE_URL") {
            Some(url) => builder.base_url(url.trim()),
            None => builder,
        })
    }

    /// What paths are resolved against; `https://api.openai.com/v1` by default.
    /// `http://` is allowed, for simulators and proxies nearby.
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = url.into();
        self
    }

    /// The key sent as a bearer token, to the base URL's origin alone. Without
    /// one, requests go out with whatever `authorization` they bring.
    pub fn api_key(mut self, key: impl Into<String>) -> Self {
        self.api_key = Some(key.into());
        self
    }

    /// Certificates in PEM, one or more, that are trusted as roots beside the
    /// system's: of a company's own gateway, or of a test. Said again, they are
    /// added to those said before.
    pub fn root_certificates(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.extra_roots.extend_from_slice(pem.as_ref());
        self.extra_roots.push(b'\n');
        self
    }

    /// The longest a connection may take to stand, name lookup and TLS
    /// included; 10 seconds by default.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// The longest wait for the head of an answer, and again for each further
    /// piece of its body; 10 minutes by default.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = timeout;
        self
    }

    /// Builds the client. No connection is made yet.
    ///
    /// # Errors
    ///
    /// [`Error::is_config`] where the base URL is none, the key cannot be part
    /// of a header, [root certificates](Self::root_certificates) were added
    /// that are none, or there are no root certificates at all and the base URL
    /// is an `https://` one.
    pub fn build(self) -> Result<OpenAi, Error> {
        let base = Target::parse(&self.base_url)?;
        let authorization = self.api_key.as_deref().map(bearer).transpose()?;
        let roots_needed = base.is_https();
        let transport = Transport::new(
            roots_needed,
            &self.extra_roots,
            self.connect_timeout,
            self.attempt_timeout,
        )?;
        Ok(OpenAi {
            account: Arc::new(Account {
                base,
                authorization,
            }),
            transport: Answered::new(transport),
        })
    }
}

fn bearer(key: &str) -> Result<HeaderValue, Error> {
    let unusable = |why| Error::config(format!("the API key {why}; visible ASCII is allowed"));
    if key.is_empty() {
        return Err(unusable("is empty"));
    }
    if !key.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(unusable("has characters that no header can carry"));
    }
    let value = HeaderValue::try_from(format!("Bearer {key}"));
    let mut value = value.map_err(|_| unusable("cannot be part of a header"))?;
    value.set_sensitive(true);
    Ok(value)
}

impl fmt::Debug for OpenAiBuilder {
    /// Tells whether there is a key, never the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenAiBuilder")
            .field("has_key", &self.api_key.is_some())
            .field("extra_root_bytes", &self.extra_roots.len())
            .field("connect_timeout", &self.connect_timeout)
            .field("attempt_timeout", &self.attempt_timeout)
            .finish_non_exhaustive()
    }
}
