//! The ledger's face: one round trip, within a deadline.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::{ErrorKind, RedisError, ServerErrorKind, Value};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tollhouse::shared::{Away, Grant, Report, SharedLedger};

use crate::address::{Address, AddressError};
use crate::keeper::Keeper;
use crate::link::Link;
use crate::scripts::Script;
use crate::status::Status;
use crate::{why, wire};

/// How long anything may take, connecting included. Then the ledger is [`Away`].
pub const DEADLINE: Duration = Duration::from_millis(100);

/// An account's ledger in Redis.
///
/// # Cloning
///
/// Clones share the connection. Each hears all [news](SharedLedger::news) once, also of
/// what was told through another clone; give each process its own.
///
/// # Cancellation
///
/// Whatever is dropped, the connection stays, and a command that was sent is run.
pub struct RedisLedger {
    inner: Arc<Inner>,
    news: watch::Receiver<u64>,
    /// The news that were told.
    told: AtomicU64,
}

struct Inner {
    keeper: Keeper,
    account: String,
    key: String,
    channel: String,
    exchange: Script,
    status: Script,
}

impl RedisLedger {
    /// The ledger of the account of this name. Connects when it is first asked.
    ///
    /// `redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]`; `rediss://` with TLS (feature
    /// `tls`); `redis-cluster://HOST:PORT,HOST:PORT` (feature `cluster`);
    /// `redis-sentinel://HOST:PORT,HOST:PORT[/DATABASE][?sentinel=USER:PASSWORD]#MASTER` (feature
    /// `sentinel`), where user and password before the hosts are those of the master, and the
    /// sentinels are shown the others; `unix:///PATH`. `valkey` does for `redis`.
    ///
    /// # Errors
    ///
    /// [`AddressError`] for an address that cannot be one.
    pub fn open(address: &str, account: &str) -> Result<Self, AddressError> {
        let address = Address::parse(address)?;
        #[cfg(feature = "tls")]
        name_the_cryptography();
        // The same for every layout: each version finds what another one keeps.
        let key = format!("tollhouse:{{{account}}}");
        let channel = format!("{key}:news");
        let keeper = Keeper::new(address, &channel);
        let news = keeper.news();
        Ok(RedisLedger {
            inner: Arc::new(Inner {
                keeper,
                account: account.to_owned(),
                key,
                channel,
                exchange: Script::exchange(),
                status: Script::status(),
            }),
            news,
            told: AtomicU64::new(0),
        })
    }

    /// The account's name.
    pub fn account(&self) -> &str {
        &self.inner.account
    }

    /// How all processes stand, without being one of them. Changes nothing. `None` where no
    /// process has ever come to this account, or all have been gone for two days.
    ///
    /// # Errors
    ///
    /// [`Away`] within [`DEADLINE`].
    pub async fn status(&self) -> Result<Option<Status>, Away> {
        let inner = &self.inner;
        let answer = inner.run(&inner.status, &[]).await?;
        wire::status(&answer).ok_or_else(|| inner.strange())
    }
}

impl SharedLedger for RedisLedger {
    /// Takes one round trip, a second one where the server does not know the script yet or has
    /// closed the connection since.
    async fn exchange(&self, report: &Report) -> Result<Grant, Away> {
        let inner = &self.inner;
        let told = wire::report(report);
        let answer = inner.run(&inner.exchange, &[&told, &inner.channel]).await?;
        wire::grant(&answer, report).ok_or_else(|| inner.strange())
    }

    /// Also comes once after each new connection: what was told before it, nobody heard.
    async fn news(&self) {
        let mut news = self.news.clone();
        let is_new = |count: &u64| *count != self.told.load(Ordering::Relaxed);
        // It ends with the ledger, not before.
        if let Ok(count) = news.wait_for(is_new).await {
            self.told.store(*count, Ordering::Relaxed);
        }
    }
}

impl Inner {
    async fn run(&self, script: &Script, arguments: &[&str]) -> Result<Value, Away> {
        let deadline = Instant::now() + DEADLINE;
        let by_hash = script.by_hash(&self.key, arguments);
        let mut is_again = false;
        loop {
            let link = match timeout_at(deadline, self.keeper.link()).await {
                Ok(link) => link?,
                Err(_) => {
                    let late = Late("connection").to_string();
                    let late = why::silent(&late, self.keeper.address());
                    return Err(self.keeper.away(late));
                }
            };
            let error = match self.on(&link, &by_hash, deadline).await? {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if is(&error, ServerErrorKind::NoScript) {
                let in_full = script.in_full(&self.key, arguments);
                return match self.on(&link, &in_full, deadline).await? {
                    Ok(answer) => Ok(answer),
                    Err(error) => Err(self.give_up(&link, &error)),
                };
            }
            // Closed while nobody asked, most likely by a restart: that costs one attempt more.
            // Run twice it counts once.
            if !error.is_io_error() || is_again {
                return Err(self.give_up(&link, &error));
            }
            self.keeper.retire(&link);
            is_again = true;
        }
    }

    /// Waits no longer than the deadline. A server that hangs is not asked again on the same
    /// connection, where the answers would only pile up. But one that had only the rest of the
    /// deadline, because connecting took the most of it, keeps its connection for the next time:
    /// else a server that is far away would never be reached.
    async fn on(
        &self,
        link: &Arc<dyn Link>,
        command: &redis::Cmd,
        deadline: Instant,
    ) -> Result<Result<Value, RedisError>, Away> {
        let had = deadline.saturating_duration_since(Instant::now());
        match timeout_at(deadline, link.run(command)).await {
            Ok(answer) => Ok(answer),
            Err(_) => {
                if had >= DEADLINE.mul_f32(0.9) {
                    self.keeper.retire(link);
                }
                Err(self.keeper.away(Late("answer")))
            }
        }
    }

    fn give_up(&self, link: &Arc<dyn Link>, error: &RedisError) -> Away {
        if let Some(why) = why::of_what_is_kept(error, &self.key) {
            return self.keeper.away(why);
        }
        if !is_our_own(error) {
            self.keeper.retire(link);
        }
        self.keeper
            .away(why::in_words(error, self.keeper.address()))
    }

    fn strange(&self) -> Away {
        self.keeper
            .away("an answer that this version does not understand")
    }
}

/// Whether another connection would fare no better: what we ask is refused as such. Whatever
/// else a server says may be because it is not the right one any more (`READONLY`, `MOVED`,
/// `MASTERDOWN`, `LOADING`), and the address may lead to another by now.
fn is_our_own(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Server(ServerErrorKind::NoPerm | ServerErrorKind::CrossSlot) => true,
        ErrorKind::Server(ServerErrorKind::ResponseError) => {
            !why::is_of_a_replica(error, &error.to_string())
        }
        _ => false,
    }
}

fn is(error: &RedisError, kind: ServerErrorKind) -> bool {
    error.kind() == ErrorKind::Server(kind)
}

/// What did not come.
struct Late(&'static str);

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no {} within {} ms", self.0, DEADLINE.as_millis())
    }
}

/// The rest of the workspace uses ring; where another crate brings a second provider along,
/// rustls would not choose, and panic.
#[cfg(feature = "tls")]
fn name_the_cryptography() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Somebody else was faster: then that is the one.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

impl Clone for RedisLedger {
    fn clone(&self) -> Self {
        RedisLedger {
            inner: self.inner.clone(),
            news: self.news.clone(),
            told: AtomicU64::new(self.told.load(Ordering::Relaxed)),
        }
    }
}

impl fmt::Debug for RedisLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisLedger")
            .field("address", &self.inner.keeper.address().to_string())
            .field("account", &self.inner.account)
            .finish_non_exhaustive()
    }
}
