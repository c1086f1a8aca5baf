//! Records that are ready, held back until those of earlier lines are.

use std::collections::{HashMap, VecDeque};

/// Lets what was started go in the order in which it was. How much it may hold
/// is bounded by how many are started before the first of them is ready.
#[derive(Debug)]
pub(crate) struct Order<T> {
    /// The lines that were started and not let go.
    started: VecDeque<u64>,
    ready: HashMap<u64, T>,
}

impl<T> Order<T> {
    /// The request of this line was started.
    pub(crate) fn start(&mut self, line: u64) {
        self.started.push_back(line);
    }

    /// What became of it is ready.
    pub(crate) fn finish(&mut self, line: u64, ready: T) {
        self.ready.insert(line, ready);
    }

    /// How many are ready and wait for others.
    pub(crate) fn held(&self) -> usize {
        self.ready.len()
    }

    /// The next one whose turn it is.
    pub(crate) fn next(&mut self) -> Option<T> {
        let first = self.ready.remove(self.started.front()?)?;
        self.started.pop_front();
        Some(first)
    }
}

impl<T> Default for Order<T> {
    fn default() -> Self {
        Self {
            started: VecDeque::new(),
            ready: HashMap::new(),
        }
    }
}
