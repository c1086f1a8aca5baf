//! F: what one would write by hand.
//!
//! A token bucket behind a mutex, with reserve, settle and refund on drop: no
//! queue, no window, no requests, no fairness. It is the least that a correct
//! call can cost, and the unit in which everything else is measured.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Clones share the level.
#[derive(Clone)]
pub(crate) struct Bucket(Arc<Mutex<Level>>);

struct Level {
    tokens: f64,
    capacity: f64,
    per_second: f64,
    filled: Instant,
}

impl Bucket {
    pub(crate) fn per_minute(tokens: f64) -> Self {
        Bucket(Arc::new(Mutex::new(Level {
            tokens,
            capacity: tokens,
            per_second: tokens / 60.0,
            filled: Instant::now(),
        })))
    }

    pub(crate) async fn reserve(&self, cost: f64) -> Reserved {
        while let Err(wait) = self.change(|level| level.take(cost)) {
            sleep(wait).await;
        }
        Reserved {
            bucket: self.clone(),
            refund: cost,
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Level) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Level {
    fn take(&mut self, cost: f64) -> Result<(), Duration> {
        let now = Instant::now();
        let refilled = (now - self.filled).as_secs_f64() * self.per_second;
        self.tokens = (self.tokens + refilled).min(self.capacity);
        self.filled = now;
        if self.tokens < cost {
            let lacks = cost - self.tokens;
            return Err(Duration::from_secs_f64(lacks / self.per_second));
        }
        self.tokens -= cost;
        Ok(())
    }
}

/// Gives back on drop what was not used.
pub(crate) struct Reserved {
    bucket: Bucket,
    refund: f64,
}

impl Reserved {
    pub(crate) fn settle(mut self, actual: f64) {
        self.refund -= actual;
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.bucket.change(|level| level.tokens += self.refund);
    }
}
