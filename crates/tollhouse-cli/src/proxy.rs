//! `tollhouse proxy`: the same limits for clients in any language.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tollhouse_openai::{Account, OpenAi};
use tollhouse_proxy::{Bounds, Proxy, Served};
use tracing::Level;

use crate::failure::{self, BoxError, Ended, Exit};
use crate::flags::{address, at_least_one, host, seconds, some_seconds, whole};
use crate::logging;
use crate::metrics;
use crate::policy_args::{ClientArgs, PolicyArgs, TOKEN};
use crate::reload::Heard;
use crate::shared;
use crate::signals::Signals;

/// Serve one account to clients in any language: set their base URL to this proxy
///
/// The key in OPENAI_API_KEY is put in; clients need any key, or a token where there
/// are any: TOLLHOUSE_TOKEN, or those that the file gives to callers. It is shown as the
/// API key or, beside one, in x-tollhouse-token. Calls wait here for their turn.
///
/// SIGTERM or Ctrl-C turns away who waits and lets calls in flight end; a second
/// one ends at once. One line a call is logged to stderr; with RUST_LOG=off none.
///
/// https://github.com/tollhouse-rs/tollhouse/blob/main/docs/guide/proxy.md
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to listen; port 0 takes a free one. Beyond loopback a token is demanded
    #[arg(long, value_name = "ADDRESS", value_parser = address, default_value = "127.0.0.1:8787")]
    listen: SocketAddr,

    /// A name that clients call this proxy by, beside addresses and localhost; repeatable
    #[arg(long = "host", value_name = "NAME", value_parser = host)]
    hosts: Vec<String>,

    /// Send each client's own key to the provider, each under limits of its own; a token, where
    /// there is one, is shown beside it in x-tollhouse-token
    #[arg(long)]
    pass_through_keys: bool,

    /// Longest wait for a launch; who would wait for longer gets a 429 at once
    /// [default: no limit]
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_negative_numbers = true)]
    max_wait: Option<Duration>,

    /// Tell streams that wait for longer than this so, by comments, and as often again; a call
    /// with a longest wait is never begun so [default: off]
    #[arg(long, value_name = "SECONDS", value_parser = some_seconds, allow_negative_numbers = true)]
    stream_comments: Option<Duration>,

    /// Longest head of a request, in bytes [default: 65536]
    #[arg(
        long,
        value_name = "BYTES",
        value_parser = at_least_one::<usize>,
        allow_negative_numbers = true
    )]
    max_head: Option<usize>,

    /// Longest body that is read, in bytes [default: 33554432]
    #[arg(
        long,
        value_name = "BYTES",
        value_parser = at_least_one::<usize>,
        allow_negative_numbers = true
    )]
    max_body: Option<usize>,

    /// Longest upload, in bytes; it is passed on as it comes [default: 1073741824]
    #[arg(
        long,
        value_name = "BYTES",
        value_parser = whole::<usize>,
        allow_negative_numbers = true
    )]
    max_upload: Option<usize>,

    /// What all calls together may hold of bodies, in bytes [default: 536870912]
    #[arg(
        long,
        value_name = "BYTES",
        value_parser = at_least_one::<usize>,
        allow_negative_numbers = true
    )]
    max_held: Option<usize>,

    /// Connections at once; further ones wait to be accepted [default: 16384]
    #[arg(
        long,
        value_name = "N",
        value_parser = at_least_one::<usize>,
        allow_negative_numbers = true
    )]
    max_connections: Option<usize>,

    /// Calls at once over one connection of HTTP/2 [default: 256]
    #[arg(
        long,
        value_name = "N",
        value_parser = at_least_one::<u32>,
        allow_negative_numbers = true
    )]
    max_streams: Option<u32>,

    /// Keys at once, with --pass-through-keys [default: 100]
    #[arg(
        long,
        value_name = "N",
        value_parser = at_least_one::<usize>,
        allow_negative_numbers = true
    )]
    max_keys: Option<usize>,

    /// How long a head may take, and a connection be idle before the next [default: 75]
    #[arg(long, value_name = "SECONDS", value_parser = some_seconds, allow_negative_numbers = true)]
    head_seconds: Option<Duration>,

    /// Longest pause between two pieces of a request's body [default: 30]
    #[arg(long, value_name = "SECONDS", value_parser = some_seconds, allow_negative_numbers = true)]
    body_idle_seconds: Option<Duration>,

    /// How long a client may read nothing of what is ready for it [default: 300]
    #[arg(long, value_name = "SECONDS", value_parser = some_seconds, allow_negative_numbers = true)]
    write_seconds: Option<Duration>,

    /// How long calls in flight may go on after the first signal
    #[arg(
        long,
        value_name = "SECONDS",
        value_parser = seconds,
        allow_negative_numbers = true,
        default_value = "60"
    )]
    drain_seconds: Duration,

    /// How the log is written
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,

    #[command(flatten)]
    policy: PolicyArgs,

    #[command(flatten)]
    client: ClientArgs,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Serves until a signal.
pub(crate) async fn run(args: Args) -> Ended {
    let heard = Heard::new(args.policy.file())?;
    let config = args.policy.account()?;
    let is_shared = config.shared.as_ref().is_some_and(|it| it.redis.is_some());
    if args.pass_through_keys && is_shared {
        let sharing = args.policy.sharing_said_by();
        return Err(failure::error(format!(
            "--pass-through-keys gives each key an account of its own, and {sharing} shares one: \
             one of them is meant"
        )));
    }
    let (account, part) = shared::join(Account::from_config(config)?)?;
    let client = args.client.passing_on();
    let openai = match args.pass_through_keys {
        true => client.keyless()?,
        false => client.client()?,
    };
    let upstream = openai.base_url().to_string();
    let proxy = part.shown_by(args.proxy(account.clone(), openai)?);
    let mut signals = Signals::listen()?;
    let listener = TcpListener::bind(args.listen)
        .await
        .map_err(|error| failure::because(format!("cannot listen at {}", args.listen), error))?;
    let served = proxy.serve(listener)?;
    args.greet(&account, &served, &upstream);
    if let Some(greeting) = part.greeting().await {
        logging::tell(Level::INFO, greeting);
    }
    let follow = heard.follow(&account, &args.policy);
    tokio::select! {
        () = signals.next() => {}
        never = follow => match never {},
    }
    logging::tell(
        Level::INFO,
        "Stopping; calls in flight may end. A second signal ends at once.",
    );
    tokio::select! {
        drained = served.drain(args.drain_seconds) => {
            part.leave().await;
            match drained.cut_off {
                0 => {}
                1 => logging::tell(Level::WARN, "1 call was cut off."),
                more => logging::tell(Level::WARN, format_args!("{more} calls were cut off.")),
            }
            Ok(Exit::Done)
        }
        () = signals.next() => Ok(Exit::Interrupted),
    }
}

impl Args {
    fn proxy(&self, account: Account, openai: OpenAi) -> Result<Proxy, BoxError> {
        let mut proxy = Proxy::new(account, openai)
            .bounds(self.bounds())
            .metrics(metrics::count()?);
        for host in &self.hosts {
            proxy = proxy.host(host);
        }
        if let Some(longest) = self.max_wait {
            proxy = proxy.max_wait(longest);
        }
        if let Some(every) = self.stream_comments {
            proxy = proxy.comments(every);
        }
        if let Some(token) = token()? {
            proxy = proxy.shared_token(token);
        }
        if self.pass_through_keys {
            proxy = proxy.pass_through_keys();
        }
        Ok(proxy)
    }

    fn bounds(&self) -> Bounds {
        let mut bounds = Bounds::default();
        let given = [
            (&mut bounds.head_bytes, self.max_head),
            (&mut bounds.body_bytes, self.max_body),
            (&mut bounds.upload_bytes, self.max_upload),
            (&mut bounds.held_bytes, self.max_held),
            (&mut bounds.connections, self.max_connections),
            (&mut bounds.accounts, self.max_keys),
        ];
        for (bound, given) in given {
            *bound = given.unwrap_or(*bound);
        }
        bounds.streams = self.max_streams.unwrap_or(bounds.streams);
        let given = [
            (&mut bounds.head_time, self.head_seconds),
            (&mut bounds.body_idle, self.body_idle_seconds),
            (&mut bounds.write_time, self.write_seconds),
        ];
        for (bound, given) in given {
            *bound = given.unwrap_or(*bound);
        }
        bounds
    }

    /// Says where it listens: for people, with what a client needs.
    fn greet(&self, account: &Account, served: &Served, upstream: &str) {
        if !logging::is_json() {
            return logging::say(self.greeting(account, served, upstream).trim_end());
        }
        let address = served.address();
        tracing::info!(
            target: logging::SAID,
            %address,
            url = served.url(),
            page = format!("http://{address}/tollhouse/"),
            upstream,
            "the proxy listens"
        );
    }

    fn greeting(&self, account: &Account, served: &Served, upstream: &str) -> String {
        let (url, address) = (served.url(), served.address());
        let has_tokens = account.config().tokens().next().is_some();
        let key = match (self.pass_through_keys, token(), has_tokens) {
            (true, Ok(Some(_)), _) => "\n  and the header x-tollhouse-token: $TOLLHOUSE_TOKEN",
            (true, _, true) => "\n  and the header x-tollhouse-token: one of the file",
            (true, _, false) => "",
            (false, Ok(Some(_)), _) => " OPENAI_API_KEY=$TOLLHOUSE_TOKEN",
            (false, _, true) => " OPENAI_API_KEY='one of the file'",
            (false, _, false) => " OPENAI_API_KEY=any",
        };
        format!(
            "Proxy at {url}, before {upstream}\nPage at http://{address}/tollhouse/\n\n  \
             export OPENAI_BASE_URL={url}{key}\n\n"
        )
    }
}

/// The token in the environment; an empty one is none.
fn token() -> Result<Option<String>, BoxError> {
    let Some(token) = std::env::var_os(TOKEN).filter(|token| !token.is_empty()) else {
        return Ok(None);
    };
    let visible = |text: &String| text.bytes().all(|byte| byte.is_ascii_graphic());
    match token.into_string().ok().filter(visible) {
        Some(token) => Ok(Some(token)),
        // Its value is not repeated.
        None => Err(failure::error(format!(
            "{TOKEN} cannot be sent; visible ASCII is allowed"
        ))),
    }
}
