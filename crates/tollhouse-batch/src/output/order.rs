//! Requests that are over, held back until those of earlier lines are.

use std::collections::{HashMap, VecDeque};

use crate::run::task::Finished;

/// Lets requests go in the order in which they were started. How many it may
/// hold is bounded by how many are started before the first of them is over.
#[derive(Debug, Default)]
pub(crate) struct Order {
    /// The lines that were started and not let go.
    started: VecDeque<u64>,
    over: HashMap<u64, Finished>,
}

impl Order {
    /// A request was started.
    pub(crate) fn start(&mut self, line: u64) {
        self.started.push_back(line);
    }

    /// A request is over.
    pub(crate) fn finish(&mut self, finished: Finished) {
        self.over.insert(finished.line(), finished);
    }

    /// How many are over and wait for others.
    pub(crate) fn held(&self) -> usize {
        self.over.len()
    }

    /// The next one whose turn it is.
    pub(crate) fn next(&mut self) -> Option<Finished> {
        let first = self.over.remove(self.started.front()?)?;
        self.started.pop_front();
        Some(first)
    }
}
