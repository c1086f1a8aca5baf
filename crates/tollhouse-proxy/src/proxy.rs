use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tollhouse_openai::{Account, Caller, OpenAi};

use crate::bounds::Bounds;
use crate::check::request::Hosts;
use crate::counts::Counts;
use crate::counts::Held;
use crate::counts::Tallies;
use crate::keys::{Accounts, Keys};
use crate::keys::{Token, Tokens, Vouch};
use crate::names;
use crate::page::{self, Page, Process};
use crate::serve::{self, Served};
use crate::shared::Shared;
use crate::upstream::gates::Gates;

/// An account and a client as a reverse proxy.
///
/// # Examples
///
/// A router, to be served, nested or called by whoever has one:
///
/// ```
/// use axum::body::Body;
/// use http::Request;
/// use tollhouse_openai::{Account, OpenAi, Policy};
/// use tollhouse_proxy::Proxy;
/// use tollhouse_sim::Sim;
/// use tower::ServiceExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let provider = Sim::builder().build()?.spawn("127.0.0.1:0").await?;
/// let openai = OpenAi::builder().base_url(provider.url()).build()?;
/// let proxy = Proxy::new(Account::new(Policy::default()), openai).token("t-of-ours", "web");
///
/// let call = Request::get("/v1/models").header("host", "localhost");
/// let call = call.header("authorization", "Bearer t-of-ours");
/// let answer = proxy.router().oneshot(call.body(Body::empty())?).await?;
/// assert_eq!(answer.status(), 200);
/// assert_eq!(answer.headers()["x-tollhouse-attempts"], "1");
/// # Ok(())
/// # }
/// ```
#[must_use = "a proxy does nothing until it is served"]
pub struct Proxy {
    account: Account,
    openai: OpenAi,
    passes_keys: bool,
    tokens: Tokens,
    hosts: Vec<String>,
    max_wait: Option<Duration>,
    comments: Option<Duration>,
    bounds: Bounds,
    metrics: Option<PrometheusHandle>,
    page: Page,
}

/// Why a proxy is not served.
#[derive(Debug)]
#[non_exhaustive]
pub enum ProxyError {
    /// Others than this machine's programs could call it, by its own key, and it has no
    /// token.
    OpenToAll(SocketAddr),
    /// The socket cannot be used.
    Io(std::io::Error),
}

impl Proxy {
    /// Passes calls through the account's gates to the client, whose key it uses.
    pub fn new(account: Account, openai: OpenAi) -> Self {
        Proxy {
            account,
            openai,
            passes_keys: false,
            tokens: Tokens::default(),
            hosts: Vec::new(),
            max_wait: None,
            comments: None,
            bounds: Bounds::default(),
            metrics: None,
            page: Page::new(page::Kind::Proxy),
        }
    }

    /// Lets in whoever shows this token, as its API key or in `x-tollhouse-token`, by the name
    /// of `caller`; said again, it is another one, and so are those of the account's config,
    /// as they are at the moment. Without any, everybody is let in.
    ///
    /// The weight is the one that the account's `[callers]` gives the name, or 1; nobody
    /// else can call itself by a name that has a token, or a weight above 1.
    pub fn token(self, secret: impl Into<String>, caller: impl Into<String>) -> Self {
        let caller: String = caller.into();
        self.with(secret.into(), Some(Caller::new(caller)))
    }

    /// As [`token`](Self::token), for clients that name themselves by `x-tollhouse-caller`,
    /// if at all.
    pub fn shared_token(self, secret: impl Into<String>) -> Self {
        self.with(secret.into(), None)
    }

    /// Lets in whoever shows what `vouch` knows, as the caller that it tells: for tokens
    /// that nobody lists, because they are signed or kept elsewhere. It is asked at each
    /// call that shows no listed token, and should compare in constant time.
    pub fn vouch(mut self, vouch: impl Fn(&str) -> Option<Caller> + Send + Sync + 'static) -> Self {
        self.tokens.vouch = Some(Arc::new(vouch) as Vouch);
        self
    }

    fn with(mut self, secret: String, caller: Option<Caller>) -> Self {
        self.tokens.given.push(Token { secret, caller });
        self
    }

    /// Passes the clients' own keys on, each an account with limits as the account
    /// states them. The client must have no key then.
    ///
    /// A key is the provider's to judge, and opens nothing here: where there are tokens, clients
    /// show one beside it, in `x-tollhouse-token`, which goes no further. Without any, what is
    /// to be looked at is for programs of this machine.
    pub fn pass_through_keys(mut self) -> Self {
        self.passes_keys = true;
        self
    }

    /// A name that clients call this proxy by, beside addresses and `localhost`.
    ///
    /// # Panics
    ///
    /// If no client can call it so ([`names::is_host`]): with a port, for example.
    #[track_caller]
    pub fn host(mut self, name: impl Into<String>) -> Self {
        let name = name.into();
        if !names::is_host(&name) {
            panic!("{name:?} is no host; allowed is a name such as proxy.internal, without a port");
        }
        self.hosts.push(name);
        self
    }

    /// The longest that a call may wait for its launch; no limit by default. One that
    /// would wait for longer is answered 429 at once, and an attempt that would be launched
    /// later is left to the client. A client asks for a shorter one by
    /// `x-tollhouse-max-wait`, in seconds.
    pub fn max_wait(mut self, longest: Duration) -> Self {
        self.max_wait = Some(longest);
        self
    }

    /// Lets streams that wait for longer than this begin with comments, as often again:
    /// `: waiting, place 3, about 12 s`, so that nobody in between gives up; off by
    /// default.
    ///
    /// The first one says status 200, for good. So a failure that comes later is an event
    /// `error` in the stream; neither `x-tollhouse-wait-ms` and `-attempts` nor the
    /// provider's own headers can be sent; and a call that has a longest wait, its own or
    /// this proxy's, is never begun so. Some seconds are right: few calls wait for as long.
    pub fn comments(mut self, every: Duration) -> Self {
        self.comments = Some(every);
        self
    }

    /// What clients may make it hold.
    ///
    /// # Panics
    ///
    /// If one of them is 0 (no bytes, no connection, no time) by which nothing could be
    /// served; `upload_bytes` alone may be.
    #[track_caller]
    pub fn bounds(mut self, bounds: Bounds) -> Self {
        if let Some(name) = bounds.none_at_all() {
            panic!("{name} is 0, by which nothing could be served; allowed is what is above 0");
        }
        self.bounds = bounds.within_reason();
        self
    }

    /// What `GET /metrics` shows.
    pub fn metrics(mut self, handle: PrometheusHandle) -> Self {
        self.metrics = Some(handle);
        self
    }

    /// Shows all processes of a shared account on its page and in `/tollhouse/status`, as `ask`
    /// answers while somebody looks ([`Page::processes`]).
    pub fn processes<F>(self, ask: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Option<Vec<Process>>> + Send + 'static,
    {
        self.page.processes(ask);
        self
    }

    /// All its routes. The bytes of connections are not checked here: what hyper
    /// accepts leniently is refused by [`serve`](Self::serve) alone.
    pub fn router(self) -> Router {
        serve::router(Arc::new(self.shared()))
    }

    /// Serves on this socket, in tasks of the present runtime.
    ///
    /// # Errors
    ///
    /// [`ProxyError::OpenToAll`] where the socket is not on loopback and there is no
    /// token.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn serve(self, listener: TcpListener) -> Result<Served, ProxyError> {
        let address = listener.local_addr().map_err(ProxyError::Io)?;
        let is_guarded = self.tokens.are_demanded(&self.account.config());
        if !address.ip().is_loopback() && !is_guarded {
            return Err(ProxyError::OpenToAll(address));
        }
        Ok(serve::serve(listener, address, Arc::new(self.shared())))
    }

    fn shared(mut self) -> Shared {
        self.tokens.is_guarded = self.tokens.are_demanded(&self.account.config());
        let gates = Gates::new(self.account, self.openai.clone());
        let keys = match self.passes_keys {
            true => Keys::Theirs {
                tokens: self.tokens,
                accounts: Box::new(Accounts::new(gates, self.openai, self.bounds.accounts)),
            },
            false => Keys::Own {
                tokens: self.tokens,
                tallies: Tallies::new(),
                gates: Box::new(gates),
            },
        };
        Shared {
            keys,
            hosts: Hosts::new(self.hosts),
            max_wait: self.max_wait,
            comments: self.comments,
            bounds: self.bounds,
            held: Held::new(self.bounds.held_bytes),
            counts: Counts::from_now(),
            metrics: self.metrics,
            page: self.page,
        }
    }
}

impl fmt::Debug for Proxy {
    /// Tells no token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("account", &self.account)
            .field("openai", &self.openai)
            .field("tokens", &self.tokens)
            .field("bounds", &self.bounds)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProxyError::OpenToAll(address) => write!(
                f,
                "{address} can be reached from other machines, and there is no token: set \
                 TOLLHOUSE_TOKEN or [tokens] in the file, or listen at 127.0.0.1"
            ),
            ProxyError::Io(error) => write!(f, "the socket cannot be used: {error}"),
        }
    }
}

impl std::error::Error for ProxyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ProxyError::OpenToAll(_) => None,
            ProxyError::Io(error) => Some(error),
        }
    }
}
