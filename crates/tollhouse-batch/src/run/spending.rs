//! What a run has spent, and what it may yet have to pay.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use http::Request;

use crate::money::Money;

/// What requests cost; for [`Batch::prices`](crate::Batch::prices).
///
/// Both are asked of the request as it is handed to the service, must be quick,
/// and are asked from several threads at once.
pub trait Prices: Send + Sync {
    /// About the most that a request may cost; `None` where nobody knows its price.
    fn estimate(&self, request: &Request<Bytes>) -> Option<Money>;

    /// What its answer says that it cost; `None` where it does not say.
    fn cost(&self, request: &Request<Bytes>, answer: &[u8]) -> Option<Money>;
}

/// What one request that came back cost.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Charged {
    /// It was refused, or never sent.
    Nothing,
    /// The answer says so.
    Told(Money),
    /// It was sent, and nobody said what it cost: its estimate counts.
    Untold,
}

/// Pure: told what is handed out and what came of it.
pub(crate) struct Spending {
    pub(crate) prices: Arc<dyn Prices>,
    limit: Option<Money>,
    spent: Money,
    /// The estimates of what is handed out, together and by line.
    reserved: Money,
    estimates: HashMap<u64, Money>,
}

impl Spending {
    pub(crate) fn new(prices: Arc<dyn Prices>, limit: Option<Money>) -> Self {
        Self {
            prices,
            limit,
            spent: Money::ZERO,
            reserved: Money::ZERO,
            estimates: HashMap::new(),
        }
    }

    pub(crate) fn spent(&self) -> Money {
        self.spent
    }

    /// Reserves the estimate of a line's request; `false` where it does not fit beside
    /// what is spent and reserved.
    pub(crate) fn reserve(&mut self, line: u64, request: &Request<Bytes>) -> bool {
        let estimate = self.prices.estimate(request).unwrap_or(Money::ZERO);
        let total = self.spent + self.reserved + estimate;
        if self.limit.is_some_and(|limit| total > limit) {
            return false;
        }
        self.reserved = self.reserved + estimate;
        self.estimates.insert(line, estimate);
        true
    }

    /// Replaces the estimate of a line's request by what it cost.
    pub(crate) fn settle(&mut self, line: u64, charged: Charged) {
        let estimate = self.estimates.remove(&line).unwrap_or_default();
        self.reserved = self.reserved - estimate;
        self.spent = self.spent
            + match charged {
                Charged::Nothing => Money::ZERO,
                Charged::Told(cost) => cost,
                Charged::Untold => estimate,
            };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A unit for each byte of the request.
    struct ByLength;

    impl Prices for ByLength {
        fn estimate(&self, request: &Request<Bytes>) -> Option<Money> {
            Money::new(request.body().len() as f64)
        }

        fn cost(&self, _: &Request<Bytes>, answer: &[u8]) -> Option<Money> {
            Money::new(answer.len() as f64)
        }
    }

    #[test]
    fn what_is_spent_and_reserved_never_exceeds_the_limit() {
        let units = |units| Money::new(units).expect("an amount");
        let request = |length| Request::new(Bytes::from(vec![b'x'; length]));
        let mut spending = Spending::new(Arc::new(ByLength), Some(units(10.0)));
        assert!(spending.reserve(1, &request(4)));
        assert!(spending.reserve(2, &request(6)));
        assert!(!spending.reserve(3, &request(1)), "all is reserved");
        spending.settle(1, Charged::Told(units(1.0)));
        assert!(spending.reserve(3, &request(3)));
        spending.settle(2, Charged::Nothing);
        assert!(!spending.reserve(4, &request(7)));
        assert!(spending.reserve(4, &request(6)));
        spending.settle(3, Charged::Untold);
        spending.settle(4, Charged::Untold);
        assert_eq!(spending.spent(), units(10.0));
        assert!(!spending.reserve(5, &request(1)));
        assert!(spending.reserve(5, &request(0)));
    }
}
