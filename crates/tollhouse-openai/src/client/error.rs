use std::fmt;

use tollhouse::error::NeverSent;

use super::peer::Kept;
use crate::wire::transport_error::{broke_off, chain, io_kinds};

/// Why there was no response, or no end of one.
///
/// An unsuccessful status is no error: it is a response, with the provider's
/// own words as its body. Neither key nor prompt appears here.
///
/// # Examples
///
/// Before the first call, and at it:
///
/// ```
/// use bytes::Bytes;
/// use http::Request;
/// use tollhouse_openai::OpenAi;
/// use tower::ServiceExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let error = OpenAi::builder().base_url("localhost").build().unwrap_err();
/// assert!(error.is_config());
/// assert_eq!(
///     error.to_string(),
///     r#"base URL "localhost": not an http:// or https:// URL without user, query and fragment"#,
/// );
///
/// // A port at which nobody listens: nothing was sent, nothing is charged.
/// let openai = OpenAi::builder().base_url("http://127.0.0.1:1/v1").build()?;
/// let request = Request::get("/v1/models").body(Bytes::new())?;
/// let error = openai.oneshot(request).await.unwrap_err();
/// assert!(error.is_connect() && !error.is_timeout());
/// # Ok(())
/// # }
/// ```
pub struct Error {
    kind: Kind,
    source: Option<BoxError>,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Config(String),
    Request(String),
    Connect,
    ConnectTimeout,
    NoStreams,
    AttemptTimeout,
    Closed,
    Protocol,
    BodyTimeout,
    Body,
}

impl Error {
    /// Whether the client could not be built: an unusable setting.
    pub fn is_config(&self) -> bool {
        matches!(self.kind, Kind::Config(_))
    }

    /// Whether the request could not be sent as it is; nothing was.
    pub fn is_request(&self) -> bool {
        matches!(self.kind, Kind::Request(_))
    }

    /// Whether no connection could be made (a connect timeout included);
    /// nothing was sent.
    pub fn is_connect(&self) -> bool {
        matches!(
            self.kind,
            Kind::Connect | Kind::ConnectTimeout | Kind::NoStreams
        )
    }

    /// Whether one of the timeouts ran out: connecting, waiting for the head,
    /// or waiting for more of the body.
    pub fn is_timeout(&self) -> bool {
        matches!(
            self.kind,
            Kind::ConnectTimeout | Kind::AttemptTimeout | Kind::BodyTimeout
        )
    }

    /// Whether the connection broke before the head of a response came. The
    /// provider may have seen the request.
    pub fn is_closed(&self) -> bool {
        matches!(self.kind, Kind::Closed)
    }

    /// Whether the response had begun and its body broke off or stood still.
    pub fn is_body(&self) -> bool {
        matches!(self.kind, Kind::Body | Kind::BodyTimeout)
    }

    /// Whether the same request can be sent again with nothing having reached
    /// the caller: no connection, or none that brought a head.
    pub(crate) fn is_transient(&self) -> bool {
        self.is_connect() || self.is_closed() || self.kind == Kind::AttemptTimeout
    }

    pub(super) fn config(message: String) -> Error {
        Kind::Config(message).into()
    }

    pub(super) fn request(message: String) -> Error {
        Error::from(Kind::Request(message)).because(NeverSent::default())
    }

    pub(super) fn attempt_timeout() -> Error {
        Kind::AttemptTimeout.into()
    }

    /// The other end never let the request out of the door.
    pub(super) fn kept(kept: Kept) -> Error {
        let (kind, why) = match kept {
            Kept::Untold => (Kind::ConnectTimeout, "the peer sent no HTTP/2 SETTINGS"),
            Kept::Shut => (Kind::NoStreams, "the peer allows no HTTP/2 stream"),
        };
        Error::from(kind).because(NeverSent::new(why))
    }

    pub(crate) fn body_timeout() -> Error {
        Kind::BodyTimeout.into()
    }

    /// The stream was reset before its end, and nobody said that it was an error.
    pub(super) fn body_cut() -> Error {
        Error::from(Kind::Body).because("its stream was reset before its end")
    }

    pub(super) fn body(error: hyper::Error) -> Error {
        Error::from(Kind::Body).because(error)
    }

    /// An error of hyper-util's client before a head came.
    pub(super) fn sending(error: hyper_util::client::legacy::Error, is_never_sent: bool) -> Error {
        match error.is_connect() {
            true => Error::connecting(error.into()),
            false => Error::broken(error, is_never_sent),
        }
    }

    /// No connection could be made.
    pub(super) fn connecting(error: BoxError) -> Error {
        let kind = match is_timeout(&*error) {
            true => Kind::ConnectTimeout,
            false => Kind::Connect,
        };
        Error::from(kind).because(NeverSent::new(error))
    }

    /// There was a connection, and no head came over it.
    pub(super) fn broken<E>(error: E, is_never_sent: bool) -> Error
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let kind = match broke_off(&error) {
            true => Kind::Closed,
            false => Kind::Protocol,
        };
        match is_never_sent {
            true => Error::from(kind).because(NeverSent::new(error)),
            false => Error::from(kind).because(error),
        }
    }

    pub(super) fn because(self, source: impl Into<BoxError>) -> Error {
        Error {
            source: Some(source.into()),
            ..self
        }
    }
}

fn is_timeout(error: &(dyn std::error::Error + 'static)) -> bool {
    io_kinds(error).any(|kind| kind == std::io::ErrorKind::TimedOut)
}

impl From<Kind> for Error {
    fn from(kind: Kind) -> Self {
        Error { kind, source: None }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.kind {
            Kind::Config(message) | Kind::Request(message) => message,
            Kind::Connect => "no connection to the provider could be made",
            Kind::ConnectTimeout => "connecting to the provider took too long",
            Kind::NoStreams => "the provider took a connection and no request on it",
            Kind::AttemptTimeout => "the provider did not begin to answer in time",
            Kind::Closed => "the connection broke before the provider answered",
            Kind::Protocol => "the provider's answer could not be understood",
            Kind::BodyTimeout => "the provider's answer stood still for too long",
            Kind::Body => "the provider's answer broke off",
        })
    }
}

impl fmt::Debug for Error {
    /// The sentence, and those of what is behind it: it is what a `main` prints that returns
    /// its errors.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        chain(self)
            .skip(1)
            .try_for_each(|cause| write!(f, ": {cause}"))
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let source = self.source.as_deref();
        source.map(|source| source as &(dyn std::error::Error + 'static))
    }
}
