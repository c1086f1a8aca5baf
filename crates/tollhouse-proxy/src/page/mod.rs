//! A page to look at: how an account stands and stood, live in a browser.
//!
//! One file of our own, without anything from outside, is the same for
//! everybody and tells nothing. What there is to see comes as server-sent events, which a
//! browser takes with the proxy's token in a header, or stands in the file itself where
//! nobody serves it any more ([`Page::report`]).
//!
//! ```text
//! calls --launched, ended--> history <--a look each second-- account
//!                               |
//!                               +--> told, as JSON --> each watcher at his own pace
//! ```
//!
//! All that is kept is bounded: five minutes of samples of 32 pools, the last calls, the last
//! things that happened. Nothing is kept for a watcher: who is slow gets what is true
//! when he reads on.
//!
//! # Examples
//!
//! A program of its own that shows what it spends:
//!
//! ```
//! use tokio::net::TcpListener;
//! use tollhouse_openai::{Account, Policy};
//! use tollhouse_proxy::page::{Ended, Kind, Look, Page};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let account = Account::new(Policy::default());
//! let page = Page::new(Kind::Batch);
//! let look = {
//!     let account = account.clone();
//!     move || Look::of(vec![account.snapshot()])
//! };
//!
//! let listener = TcpListener::bind("127.0.0.1:0").await?;
//! println!("http://{}/tollhouse/", listener.local_addr()?);
//! let serving = tokio::spawn({
//!     let (page, look) = (page.clone(), look.clone());
//!     async move { page.serve(listener, look).await }
//! });
//!
//! // Whoever launches a call and hears its end tells of both.
//! page.launched("gpt-4o", 1_200);
//! let mut ended = Ended::default();
//! ended.what = "chat".to_owned();
//! ended.status = Some(200);
//! page.ended(ended);
//!
//! page.close();
//! serving.await??;
//! assert!(page.report(look(), 0).starts_with("<!doctype html>"));
//! # Ok(())
//! # }
//! ```

mod document;
mod history;
mod look;
mod processes;
mod serve;
mod told;
mod watch;

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, watch as flag};
use tokio::time::{Instant, MissedTickBehavior, interval};

pub(crate) use document::document;
pub use history::Ended;
use history::History;
pub use look::{Look, Progress};
use processes::{Asked, Asking};
pub use processes::{Lease, Process};
use told::{Cursor, Told};

/// Between two samples.
const EVERY: Duration = Duration::from_secs(1);
/// Watchers at once.
const WATCHERS: usize = 16;

/// What is seen on it.
///
/// # Cloning
///
/// Clones are the same page.
#[derive(Clone)]
pub struct Page {
    shared: Arc<Shared>,
}

/// What stands behind a page.
struct Shared {
    kind: Kind,
    since: Instant,
    history: Mutex<History>,
    processes: OnceLock<Asking>,
    seats: Arc<Semaphore>,
    over: flag::Sender<bool>,
}

/// Whose page it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Kind {
    /// A proxy's.
    Proxy,
    /// A batch's.
    Batch,
}

impl Page {
    /// An empty one, whose time begins now.
    pub fn new(kind: Kind) -> Self {
        Page {
            shared: Arc::new(Shared {
                kind,
                since: Instant::now(),
                history: Mutex::default(),
                processes: OnceLock::new(),
                seats: Arc::new(Semaphore::new(WATCHERS)),
                over: flag::Sender::new(false),
            }),
        }
    }

    /// Shows all processes of a shared account, too, as `ask` answers while somebody looks:
    /// once a second for each who does. It must answer soon, `None` where it cannot. What was
    /// said first counts.
    pub fn processes<F>(&self, ask: impl Fn() -> F + Send + Sync + 'static)
    where
        F: Future<Output = Option<Vec<Process>>> + Send + 'static,
    {
        // Whoever says it twice has two pages in mind.
        let _ = self.shared.processes.set(Asking::new(ask));
    }

    /// Who is there.
    pub(crate) fn ask_processes(&self) -> Asked {
        Asking::ask(self.shared.processes.get())
    }

    /// An attempt was launched that takes so many tokens of this pool.
    pub fn launched(&self, pool: &str, tokens: u64) {
        self.launched_at(Instant::now(), pool, tokens);
    }

    pub(crate) fn launched_at(&self, now: Instant, pool: &str, tokens: u64) {
        self.history().launched(pool, tokens, self.second(now));
    }

    /// One that was launched never reached the provider, so that it takes nothing.
    pub fn never_left(&self, pool: &str, tokens: u64) {
        self.history().never_left(pool, tokens);
    }

    /// A call is over.
    pub fn ended(&self, call: Ended) {
        self.ended_at(Instant::now(), call);
    }

    pub(crate) fn ended_at(&self, now: Instant, call: Ended) {
        self.history().ended(call, self.second(now));
    }

    /// Something happened that a person would like to read.
    pub fn note(&self, text: &str) {
        let now = self.now();
        self.history().note(text, now);
    }

    /// Looks once a second, so that there is a history once somebody comes; never ends.
    pub async fn follow(&self, look: impl Fn() -> Look) -> std::convert::Infallible {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            self.sample(&look);
        }
    }

    /// Looks, unless somebody did within this second.
    fn sample(&self, look: impl Fn() -> Look) {
        let now = self.now();
        if !self.history().is_due(now) {
            return;
        }
        self.look_again(look);
    }

    /// Looks, whoever did before.
    fn look_again(&self, look: impl Fn() -> Look) {
        // It takes locks of the account's.
        let seen = look();
        let now = self.now();
        self.history().sample(seen, now);
    }

    /// Says to whoever watches that this was all.
    pub fn close(&self) {
        self.shared.over.send_replace(true);
    }

    /// How it ended, as a file that needs no server: the page with all that it knows,
    /// after a last look. `written` is when, in seconds since 1970.
    pub fn report(&self, last: Look, written: u64) -> String {
        let now = self.now();
        self.history().sample(last, now);
        let mut told = self.told(&mut Cursor::default());
        (told.over, told.written) = (true, Some(written));
        document::with(&told.to_json())
    }

    /// All that came since.
    fn told(&self, since: &mut Cursor) -> Told {
        let (kind, now) = (self.shared.kind, self.shared.since.elapsed());
        let over = *self.shared.over.borrow();
        self.history().since(since, kind, now, over)
    }

    /// In whole seconds since its beginning.
    fn now(&self) -> u32 {
        self.second(Instant::now())
    }

    fn second(&self, at: Instant) -> u32 {
        let since = at.saturating_duration_since(self.shared.since);
        u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
    }

    /// Nothing of it is ever half written.
    fn history(&self) -> MutexGuard<'_, History> {
        let history = &self.shared.history;
        history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Page")
            .field("kind", &self.shared.kind)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
