//! Keeps one connection, made in the background while somebody asks for it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use tollhouse::shared::Away;

use crate::address::Address;
use crate::link::{Link, connect};
use crate::why;

/// An attempt to connect is given up after so long. Whoever asks waits less for it: a server
/// that is far away is connected to over several asks.
const CONNECTING: Duration = Duration::from_secs(1);

/// Nothing tries again by itself: an attempt begins when somebody asks and there is no
/// connection and no attempt. So a server that is away is asked as often as the ledger is, and
/// not at all where nobody needs it.
pub(crate) struct Keeper {
    address: Arc<Address>,
    channel: Arc<str>,
    /// How often something was told that cannot wait.
    news: watch::Sender<u64>,
    attempt: Mutex<Option<Attempt>>,
}

/// `None` while it is under way.
type Attempt = watch::Receiver<Option<Result<Arc<dyn Link>, Away>>>;

impl Keeper {
    pub(crate) fn new(address: Address, channel: &str) -> Self {
        Keeper {
            address: Arc::new(address),
            channel: channel.into(),
            news: watch::Sender::new(0),
            attempt: Mutex::new(None),
        }
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    pub(crate) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// The connection that is there, or comes.
    ///
    /// # Cancellation
    ///
    /// The attempt goes on.
    pub(crate) async fn link(&self) -> Result<Arc<dyn Link>, Away> {
        let mut attempt = self.current();
        match attempt.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().expect("it was waited for"),
            // Its runtime has ended, and the task with it.
            Err(_) => Err(self.away("the connection was not finished")),
        }
    }

    fn current(&self) -> Attempt {
        let mut current = self.attempt.lock().unwrap_or_else(PoisonError::into_inner);
        match &*current {
            Some(attempt) if is_of_use(attempt) => attempt.clone(),
            _ => current.insert(self.begin()).clone(),
        }
    }

    fn begin(&self) -> Attempt {
        let (told, attempt) = watch::channel(None);
        let (address, channel) = (self.address.clone(), self.channel.clone());
        let news = self.news.clone();
        tokio::spawn(async move {
            let heard = {
                let news = news.clone();
                move || news.send_modify(|count| *count += 1)
            };
            let outcome = match timeout(CONNECTING, connect(&address, &channel, heard)).await {
                Ok(Ok(link)) => Ok(link),
                Ok(Err(error)) => Err(away(&address, why::while_connecting(&error, &address))),
                Err(_) => {
                    let told = why::silent("no connection within a second", &address);
                    Err(away(&address, told))
                }
            };
            if outcome.is_ok() {
                // What was told while nobody listened.
                news.send_modify(|count| *count += 1);
            }
            told.send_replace(Some(outcome));
        });
        attempt
    }

    /// This connection is of no use any more.
    pub(crate) fn retire(&self, link: &Arc<dyn Link>) {
        let mut current = self.attempt.lock().unwrap_or_else(PoisonError::into_inner);
        let is_this = current.as_ref().is_some_and(
            |attempt| matches!(&*attempt.borrow(), Some(Ok(other)) if Arc::ptr_eq(other, link)),
        );
        let retired = if is_this { current.take() } else { None };
        drop(current);
        drop(retired);
    }

    pub(crate) fn away(&self, why: impl std::fmt::Display) -> Away {
        away(&self.address, why)
    }
}

/// Under way, or a connection.
fn is_of_use(attempt: &Attempt) -> bool {
    match &*attempt.borrow() {
        None => attempt.has_changed().is_ok(),
        Some(outcome) => outcome.is_ok(),
    }
}

/// In one line, and of a bearable length: a server's words may be anything.
fn away(address: &Address, why: impl std::fmt::Display) -> Away {
    let why = why.to_string();
    let words: String = why.split_whitespace().collect::<Vec<_>>().join(" ");
    let most = words
        .char_indices()
        .nth(300)
        .map_or(words.len(), |(at, _)| at);
    Away::because(format_args!("Redis at {address}: {}", &words[..most]))
}
