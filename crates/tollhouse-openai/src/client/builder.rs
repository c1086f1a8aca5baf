use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

use super::patience::Patience;
use super::target::Target;
use super::transport::Transport;
use super::{Account, Error, OpenAi};
use crate::layers::verdict::WithVerdict;

const BASE_URL: &str = "https://api.openai.com/v1";

/// Describes an [`OpenAi`] client.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tollhouse_openai::OpenAi;
///
/// let openai = OpenAi::builder()
///     .base_url("http://127.0.0.1:8788/v1")
///     .api_key("sk-simulated")
///     .connect_timeout(Duration::from_secs(2))
///     .attempt_timeout(Duration::from_secs(60))
///     .build()?;
/// // The key is never shown.
/// assert!(format!("{openai:?}").contains("has_key: true"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[must_use = "a builder does nothing until it is built"]
pub struct OpenAiBuilder {
    base_url: String,
    api_key: Option<String>,
    organization: Option<String>,
    project: Option<String>,
    extra_roots: Vec<u8>,
    patience: Patience,
}

impl Default for OpenAiBuilder {
    fn default() -> Self {
        OpenAiBuilder {
            base_url: BASE_URL.to_owned(),
            api_key: None,
            organization: None,
            project: None,
            extra_roots: Vec::new(),
            patience: Patience {
                connect: Duration::from_secs(10),
                attempt: Duration::from_secs(600),
                body_idle: None,
                body: Duration::from_secs(600),
                keep_alive: Duration::from_secs(20),
            },
        }
    }
}

impl OpenAiBuilder {
    /// A builder from `OPENAI_API_KEY`, `OPENAI_BASE_URL`, `OPENAI_ORG_ID` and
    /// `OPENAI_PROJECT_ID`, which the official SDKs read, too, as `var` finds them; an empty
    /// value counts as none.
    ///
    /// # Errors
    ///
    /// [`Error::is_config`] where there is no key.
    pub fn from_vars(var: impl Fn(&str) -> Option<String>) -> Result<OpenAiBuilder, Error> {
        let set = |name| var(name).filter(|value| !value.trim().is_empty());
        let key = set("OPENAI_API_KEY")
            .ok_or_else(|| Error::config("OPENAI_API_KEY is not set".to_owned()))?;
        let mut builder = OpenAi::builder().api_key(key.trim());
        if let Some(url) = set("OPENAI_BASE_URL") {
            builder = builder.base_url(url.trim());
        }
        if let Some(id) = set("OPENAI_ORG_ID") {
            builder = builder.organization(id.trim());
        }
        if let Some(id) = set("OPENAI_PROJECT_ID") {
            builder = builder.project(id.trim());
        }
        Ok(builder)
    }

    /// What paths are [resolved against](OpenAi), without a second `/v1`;
    /// `https://api.openai.com/v1` by default. `http://` is allowed, for
    /// simulators and proxies nearby.
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = url.into();
        self
    }

    /// The key sent as a bearer token, to the base URL's origin alone; none by
    /// default. Without one, requests go out with whatever `authorization` they
    /// bring.
    pub fn api_key(mut self, key: impl Into<String>) -> Self {
        self.api_key = Some(key.into());
        self
    }

    /// The organization that is charged, where the key belongs to several: sent with the key as
    /// `openai-organization`, unless the request brings one; none by default.
    pub fn organization(mut self, id: impl Into<String>) -> Self {
        self.organization = Some(id.into());
        self
    }

    /// The project that is charged, where the key belongs to several: sent with the key as
    /// `openai-project`, unless the request brings one; none by default.
    ///
    /// # Examples
    ///
    /// ```
    /// use tollhouse_openai::OpenAi;
    ///
    /// let openai = OpenAi::builder()
    ///     .api_key("sk-simulated")
    ///     .organization("org-0123")
    ///     .project("proj_4567")
    ///     .build()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn project(mut self, id: impl Into<String>) -> Self {
        self.project = Some(id.into());
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
    /// included; 10 seconds by default. Then the error is
    /// [`is_connect`](Error::is_connect) and [`is_timeout`](Error::is_timeout).
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.patience.connect = timeout;
        self
    }

    /// The longest wait for the head of an answer, connecting included; 10 minutes
    /// by default. Where a streamed body is sent, from the last piece of it on that was
    /// taken. Then the error is [`is_timeout`](Error::is_timeout).
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.patience.attempt = timeout;
        self
    }

    /// The longest that a body may stand still, events of a stream included; the
    /// [attempt timeout](Self::attempt_timeout) by default. Then the error
    /// [is of the body](Error::is_body), the connection is not used again, and a
    /// gate's slot comes back.
    pub fn body_idle_timeout(mut self, timeout: Duration) -> Self {
        self.patience.body_idle = Some(timeout);
        self
    }

    /// The longest that a whole body may take from the head on, however it trickles;
    /// 10 minutes by default. A stream of events may take as long as it likes, and with
    /// [`Duration::MAX`] any body.
    pub fn body_timeout(mut self, timeout: Duration) -> Self {
        self.patience.body = timeout;
        self
    }

    /// The time after which a silent connection is asked for a sign of life, and
    /// given up where it gives none for as long again; 20 seconds by default. HTTP/2
    /// connections are pinged, idle ones too; others have TCP's own probes.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[track_caller]
    pub fn keep_alive(mut self, interval: Duration) -> Self {
        assert!(
            !interval.is_zero(),
            "a keep-alive interval must not be zero"
        );
        self.patience.keep_alive = interval;
        self
    }

    /// Builds the client. No connection is made yet.
    ///
    /// # Errors
    ///
    /// [`Error::is_config`] where the base URL is none, the key, the organization or the
    /// project cannot be part of a header, [root certificates](Self::root_certificates) were added
    /// that are none, or there are no root certificates at all and the base URL
    /// is an `https://` one.
    pub fn build(self) -> Result<OpenAi, Error> {
        let base = Target::parse(&self.base_url)?;
        let authorization = self.api_key.as_deref().map(bearer).transpose()?;
        let organization = self.organization.as_deref();
        let organization = organization.map(|id| value_of("organization", id, "org-0123"));
        let project = self.project.as_deref();
        let project = project.map(|id| value_of("project", id, "proj_0123"));
        let transport = Transport::new(&base, &self.extra_roots, self.patience)?;
        Ok(OpenAi {
            account: Arc::new(Account {
                base,
                authorization,
                organization: organization.transpose()?,
                project: project.transpose()?,
            }),
            transport: WithVerdict::new(transport),
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

fn value_of(what: &str, id: &str, like: &str) -> Result<HeaderValue, Error> {
    let is_usable = !id.is_empty() && id.bytes().all(|b| b.is_ascii_graphic());
    let value = HeaderValue::try_from(id).ok().filter(|_| is_usable);
    value.ok_or_else(|| {
        Error::config(format!(
            "the {what} is {id:?}; visible ASCII is allowed, such as {like}"
        ))
    })
}

impl fmt::Debug for OpenAiBuilder {
    /// Tells whether there is a key, never the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenAiBuilder")
            .field("has_key", &self.api_key.is_some())
            .field("extra_root_bytes", &self.extra_roots.len())
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}
