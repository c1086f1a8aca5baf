//! The provider's books: the accounts of all models, and who is there.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::config::{Config, Limits};
use crate::limits::{Account, Levels, Rules};
use crate::recorder::Recorder;
use crate::report::Report;
use crate::visit::Visit;

/// One provider, shared by all its faces.
#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) config: Config,
    rules: Rules,
    /// Opened by the first call, so that a run does not depend on how long
    /// before it the provider was made.
    books: Mutex<Option<Books>>,
}

/// Everything that calls change.
#[derive(Debug)]
pub(crate) struct Books {
    /// The moment of the first call.
    pub(crate) epoch: Instant,
    accounts: HashMap<String, Account>,
    pub(crate) recorder: Recorder,
}

impl Provider {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            rules: config.rules(),
            config,
            books: Mutex::new(None),
        }
    }

    /// Lets a call in.
    pub(crate) fn arrive(self: Arc<Self>) -> Visit {
        let number = self.with_books(|books, now| books.recorder.arrive(now));
        Visit::new(self, number)
    }

    /// Works on the books. The time is read once they are locked, so that it
    /// never runs backwards in them.
    pub(crate) fn with_books<T>(&self, work: impl FnOnce(&mut Books, Instant) -> T) -> T {
        let mut books = self.lock();
        let now = Instant::now();
        let books = books.get_or_insert_with(|| Books {
            epoch: now,
            accounts: HashMap::new(),
            recorder: Recorder::new(self.rules.clock(now)),
        });
        work(books, now)
    }

    /// A panic in a caller's thread leaves the books in order: no sum is ever
    /// half made.
    fn lock(&self) -> MutexGuard<'_, Option<Books>> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn report(&self) -> Report {
        let books = self.lock();
        let Some(books) = &*books else {
            return Report::default();
        };
        books.recorder.report(|model, first, last| {
            let account = books.accounts.get(model)?;
            account.allowance(first, last)
        })
    }

    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }
}

impl Books {
    /// The account of a model, which its first call opens.
    pub(crate) fn account(
        &mut self,
        model: &str,
        limits: Limits,
        rules: &Rules,
        now: Instant,
    ) -> &mut Account {
        if !self.accounts.contains_key(model) {
            let account = Account::new(limits, rules, self.epoch, now);
            self.accounts.insert(model.to_owned(), account);
        }
        self.opened(model).expect("it was just opened")
    }

    /// The account of a model that was called before.
    pub(crate) fn opened(&mut self, model: &str) -> Option<&mut Account> {
        self.accounts.get_mut(model)
    }

    pub(crate) fn levels(&mut self, model: &str, now: Instant) -> Levels {
        self.opened(model)
            .map_or_else(Levels::default, |account| account.levels(now))
    }
}
