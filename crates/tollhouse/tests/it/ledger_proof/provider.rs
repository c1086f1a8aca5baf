//! The other side: three ways in which a provider may count a minute, or any other
//! period. Knows
//! nothing of the ledger. Time is in milliseconds.

const MINUTE: u64 = 60_000;

/// How a provider counts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Counting {
    /// A bucket of a period's worth that refills all the time.
    Continuous,
    /// Any stretch of the period's length.
    Sliding,
    /// Periods of a clock that began `phase` ago.
    Fixed { phase: u64 },
}

/// One limit, counted one way.
#[derive(Debug)]
pub(crate) struct Meter {
    limit: u64,
    period: u64,
    count: Count,
}

#[derive(Debug)]
enum Count {
    /// In fractions of a unit, as many as the period has milliseconds, so that a
    /// limit of one refills one a millisecond.
    Level { level: i128, at: u64 },
    /// Who was admitted when, at what charge.
    Log(Vec<(usize, u64, u64)>),
    /// What this period has seen.
    Minute { phase: u64, minute: u64, used: u64 },
}

impl Meter {
    pub(crate) fn new(limit: u64, period: u64, counting: Counting) -> Self {
        let count = match counting {
            Counting::Continuous => Count::Level {
                level: i128::from(limit * period),
                at: 0,
            },
            Counting::Sliding => Count::Log(Vec::new()),
            Counting::Fixed { phase } => Count::Minute {
                phase,
                minute: 0,
                used: 0,
            },
        };
        Meter {
            limit,
            period,
            count,
        }
    }

    pub(crate) fn left(&mut self, now: u64) -> i128 {
        let period = self.period;
        match &mut self.count {
            Count::Level { level, at } => {
                let refilled = i128::from(self.limit) * i128::from(now - *at);
                *level = (*level + refilled).min(i128::from(self.limit * period));
                *at = now;
                level.div_euclid(i128::from(period))
            }
            Count::Log(log) => {
                log.retain(|(_, at, _)| at + period > now);
                let used: u64 = log.iter().map(|entry| entry.2).sum();
                i128::from(self.limit) - i128::from(used)
            }
            Count::Minute {
                phase,
                minute,
                used,
            } => {
                let present = (now + *phase) / period;
                if present != *minute {
                    (*minute, *used) = (present, 0);
                }
                i128::from(self.limit) - i128::from(*used)
            }
        }
    }

    /// From `now` on another limit; a level above it falls to it.
    pub(crate) fn set_limit(&mut self, limit: u64, now: u64) {
        self.left(now);
        self.limit = limit;
        if let Count::Level { level, .. } = &mut self.count {
            *level = (*level).min(i128::from(limit * self.period));
        }
    }

    pub(crate) fn charge(&mut self, id: usize, amount: u64, now: u64) {
        let period = self.period;
        match &mut self.count {
            Count::Level { level, .. } => *level -= i128::from(amount * period),
            Count::Log(log) => log.push((id, now, amount)),
            Count::Minute { used, .. } => *used += amount,
        }
    }

    /// Replaces what `id` was charged at `charged` by what it really used.
    pub(crate) fn true_up(
        &mut self,
        id: usize,
        charged: u64,
        reserved: u64,
        actual: u64,
        now: u64,
    ) {
        self.left(now);
        let extra = actual.saturating_sub(reserved);
        let unused = reserved.saturating_sub(actual);
        self.charge(id, extra, now);
        let period = self.period;
        match &mut self.count {
            Count::Level { level, .. } => {
                let full = i128::from(self.limit * period);
                *level = (*level + i128::from(unused * period)).min(full.max(*level));
            }
            Count::Log(log) => {
                if let Some(entry) = log.iter_mut().find(|entry| entry.0 == id) {
                    entry.2 -= unused.min(entry.2);
                }
            }
            Count::Minute {
                phase,
                minute,
                used,
            } => {
                // A minute that is over gives nothing back to the next one.
                if (charged + *phase) / period == *minute {
                    *used -= unused;
                }
            }
        }
    }
}

/// What reaches the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Arrival {
    /// When.
    pub(crate) at: u64,
    /// Whose.
    pub(crate) id: usize,
    pub(crate) what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    /// A request of this cost.
    Request(u64),
    /// The end of its work: what it really used, where the provider minds.
    Done(u64),
}

/// A provider's account with its limits.
#[derive(Debug)]
pub(crate) struct Provider {
    tokens: Meter,
    requests: Option<Meter>,
}

impl Provider {
    pub(crate) fn new(counting: Counting, tokens: u64, requests: Option<u64>) -> Self {
        Provider {
            tokens: Meter::new(tokens, MINUTE, counting),
            requests: requests.map(|limit| Meter::new(limit, MINUTE, counting)),
        }
    }

    /// Takes what arrives, of one instant in the order given, and returns what it rejected.
    pub(crate) fn rejections(mut self, mut arrivals: Vec<Arrival>) -> Vec<Arrival> {
        arrivals.sort_by_key(|arrival| arrival.at);
        let mut charged = std::collections::HashMap::new();
        let mut rejected = Vec::new();
        for arrival in arrivals {
            let Arrival { at, id, what } = arrival;
            match what {
                What::Request(cost) if self.admits(cost, at) => {
                    self.charge(id, cost, at);
                    charged.insert(id, (at, cost));
                }
                What::Request(_) => rejected.push(arrival),
                What::Done(actual) => {
                    if let Some(&(since, cost)) = charged.get(&id) {
                        self.tokens.true_up(id, since, cost, actual, at);
                    }
                }
            }
        }
        rejected
    }

    fn admits(&mut self, cost: u64, now: u64) -> bool {
        self.tokens.left(now) >= i128::from(cost)
            && self
                .requests
                .as_mut()
                .is_none_or(|meter| meter.left(now) >= 1)
    }

    fn charge(&mut self, id: usize, cost: u64, now: u64) {
        self.tokens.charge(id, cost, now);
        if let Some(requests) = &mut self.requests {
            requests.charge(id, 1, now);
        }
    }
}
