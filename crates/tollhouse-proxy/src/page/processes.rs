//! All processes of an account that is shared.

use std::collections::BTreeMap;
use std::fmt;
use std::future::{Future, ready};
use std::pin::Pin;

use serde::Serialize;

/// Those of a page that are told to a browser.
const TOLD: usize = 40;

/// One of the processes that share an account.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Process {
    /// What tells it from the others.
    pub process: String,
    /// Whether it is the one that tells this.
    pub this: bool,
    /// How long it has been known here: it may have been there before.
    pub known_seconds: f64,
    /// How long ago it reported last.
    pub silent_seconds: f64,
    /// How many times it has reported.
    pub reports: u64,
    /// Whether it has said goodbye.
    pub left: bool,
    /// What it has of each pool.
    pub pools: Vec<Lease>,
}

/// What a process has of a pool; amounts are by the names of their units, such as `tokens`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Lease {
    /// `None` for what all pools of the account have in common.
    pub pool: Option<String>,
    /// Its weight among the processes.
    pub weight: u64,
    /// What it has drawn and not spent, or spent so lately that it is still on its way.
    pub held: BTreeMap<String, u64>,
    /// What of that nobody has taken yet.
    pub idle: BTreeMap<String, u64>,
    /// What it wants to draw beside that.
    pub wanted: BTreeMap<String, u64>,
    /// How many of its calls wait, up to 16.
    pub waiting: u64,
    /// Its slots.
    pub slots: u64,
}

/// The answer to who is there; `None` where nobody can tell.
pub(super) type Asked = Pin<Box<dyn Future<Output = Option<Vec<Process>>> + Send>>;

/// Asks who is there.
pub(super) struct Asking(Box<dyn Fn() -> Asked + Send + Sync>);

impl Asking {
    pub(super) fn new<F>(ask: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Option<Vec<Process>>> + Send + 'static,
    {
        Asking(Box::new(move || Box::pin(ask())))
    }

    /// Where there is nobody to ask, nobody answers.
    pub(super) fn ask(this: Option<&Self>) -> Asked {
        match this {
            Some(asking) => (asking.0)(),
            None => Box::pin(ready(None)),
        }
    }
}

impl fmt::Debug for Asking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asking").finish_non_exhaustive()
    }
}

/// As many as a page shows, and how many there are beside.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Processes {
    processes: Option<Vec<Process>>,
    more_processes: usize,
}

impl From<Option<Vec<Process>>> for Processes {
    fn from(mut processes: Option<Vec<Process>>) -> Self {
        let count = processes.as_ref().map_or(0, Vec::len);
        if let Some(processes) = &mut processes {
            processes.truncate(TOLD);
        }
        Processes {
            processes,
            more_processes: count.saturating_sub(TOLD),
        }
    }
}
