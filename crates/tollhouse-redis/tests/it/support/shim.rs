//! What stands between a process and its server: it delays, cuts and swallows.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;
use tollhouse_redis::RedisLedger;

#[derive(Clone, Copy, Debug, Default)]
struct Weather {
    /// Requests arrive so much later.
    requests_late: Duration,
    /// Answers do.
    answers_late: Duration,
    /// Where the server answers, the connection is closed instead.
    cuts_answers: bool,
    /// Nobody is let through.
    refuses: bool,
}

/// Ends with its runtime.
pub(crate) struct Shim {
    port: u16,
    weather: Arc<Mutex<Weather>>,
    /// Where it leads to.
    server: Arc<AtomicU16>,
    /// Raised to close all connections.
    closes: watch::Sender<u64>,
}

impl Shim {
    pub(crate) async fn before(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let weather = Arc::new(Mutex::new(Weather::default()));
        let closes = watch::Sender::new(0);
        let server = Arc::new(AtomicU16::new(server));
        let (sky, closing, leads) = (weather.clone(), closes.clone(), server.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if now(&sky).refuses {
                    continue;
                }
                let server = SocketAddr::from(([127, 0, 0, 1], leads.load(Ordering::Relaxed)));
                let Ok(server) = TcpStream::connect(server).await else {
                    continue;
                };
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                let (up, down) = (sky.clone(), sky.clone());
                let (mut closed, mut closed_too) = (closing.subscribe(), closing.subscribe());
                tokio::spawn(async move {
                    tokio::select! {
                        () = pass(from_client, to_server, move || Some(now(&up).requests_late)) => {}
                        _ = closed.changed() => {}
                    }
                });
                tokio::spawn(async move {
                    let late = move || {
                        let now = now(&down);
                        (!now.cuts_answers).then_some(now.answers_late)
                    };
                    tokio::select! {
                        () = pass(from_server, to_client, late) => {}
                        _ = closed_too.changed() => {}
                    }
                });
            }
        });
        Shim {
            port,
            weather,
            server,
            closes,
        }
    }

    /// From now on it leads to another server, as an address does after a failover.
    pub(crate) fn lead_to(&self, server: u16) {
        self.server.store(server, Ordering::Relaxed);
        self.close(false);
    }

    pub(crate) fn ledger(&self) -> RedisLedger {
        let url = format!("redis://127.0.0.1:{}", self.port);
        RedisLedger::open(&url, "test").expect("an address")
    }

    pub(crate) fn delay_requests(&self, late: Duration) {
        self.change(|it| it.requests_late = late);
    }

    pub(crate) fn delay_answers(&self, late: Duration) {
        self.change(|it| it.answers_late = late);
    }

    /// Whether answers are cut off: what was asked is done, and nobody hears of it.
    pub(crate) fn cut_answers(&self, cuts: bool) {
        self.change(|it| it.cuts_answers = cuts);
    }

    /// Closes all connections, and whether new ones are let through.
    pub(crate) fn close(&self, refuses: bool) {
        self.change(|it| it.refuses = refuses);
        self.closes.send_modify(|count| *count += 1);
    }

    fn change(&self, how: impl FnOnce(&mut Weather)) {
        how(&mut self.weather.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

fn now(weather: &Mutex<Weather>) -> Weather {
    *weather.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Passes bytes on, `late` after they came; `None` closes.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    late: impl Fn() -> Option<Duration>,
) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut bytes).await {
        let Some(late) = late() else {
            return;
        };
        if !late.is_zero() {
            sleep(late).await;
        }
        if to.write_all(&bytes[..length]).await.is_err() {
            return;
        }
    }
}
