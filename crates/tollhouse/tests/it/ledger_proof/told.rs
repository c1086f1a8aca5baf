//! Rule 5 under the same promise: whatever a provider's answers tell, and
//! however late, out of order or overtaken, the level never rises above what the
//! provider has.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tollhouse::{
    Accounting, GateLayer, Observation, RateLimits, StaggerLayer, TokenBudget, TpmBudgetLayer,
    Window,
};
use tower::{Layer, ServiceExt, service_fn};

use super::for_seeds;
use super::schedule::pick;
use crate::support::random::Random;

/// An account that refills all the time, in sixty-thousandths of a token, of which
/// it refills its limit every millisecond.
struct Account {
    limit: u64,
    level: u64,
    at: Instant,
    /// Costs, of which it takes a share.
    charges: f64,
    rejected: Vec<u64>,
    counted: usize,
}

const UNIT: u64 = 60_000;

impl Account {
    fn new(limit: u64, charges: f64) -> Account {
        Account {
            limit,
            level: limit * UNIT,
            at: Instant::now(),
            charges,
            rejected: Vec::new(),
            counted: 0,
        }
    }

    fn refill(&mut self) {
        let now = Instant::now();
        let elapsed = (now - std::mem::replace(&mut self.at, now)).as_millis() as u64;
        self.level = (self.level + elapsed * self.limit).min(self.limit * UNIT);
    }

    /// Takes what a request costs here; what is left is told.
    fn count(&mut self, cost: u64) -> u64 {
        self.refill();
        self.counted += 1;
        let charge = (cost as f64 * self.charges) as u64;
        match self.level.checked_sub(charge * UNIT) {
            Some(left) => self.level = left,
            None => self.rejected.push(cost),
        }
        self.left()
    }

    fn left(&mut self) -> u64 {
        self.refill();
        self.level / UNIT
    }

    /// Gives back what an answer did not use.
    fn return_unused(&mut self, unused: u64) {
        self.refill();
        self.level = (self.level + unused * UNIT).min(self.limit * UNIT);
    }
}

/// One call, with all its times in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Call {
    asks: u64,
    cost: u64,
    /// So many others are reserved, counted and answered between the moment at
    /// which this one is handed on and the one at which its launch is told, as on
    /// another thread; it is counted before them.
    overtaken_by: usize,
    travels: u64,
    works: u64,
    returns: u64,
    uses: u64,
    /// Whether the answer tells what was left as it was counted, or as it ended.
    tells_at_the_end: bool,
}

impl Call {
    fn draw(random: &mut Random, asks: u64, largest: u64) -> Call {
        let cost = 1 + random.within(0..largest);
        let overtaken_by = pick(random, &[0, 0, 0, 1, 3]);
        Call {
            asks,
            cost,
            overtaken_by,
            travels: match overtaken_by {
                0 => pick(random, &[0, 1, 30, 500, 1_999]),
                _ => 0,
            },
            works: pick(random, &[0, 100, 1_000, 20_000]),
            returns: pick(random, &[0, 1, 50, 3_000]),
            uses: random.within(0..cost + 1),
            tells_at_the_end: random.within(0..2) == 0,
        }
    }
}

/// Plays calls against an account; how many were counted, and what was rejected.
async fn play(mut random: Random) -> (usize, Vec<u64>) {
    let limit = pick(&mut random, &[600, 6_000, 30_000]);
    let trues_up = random.within(0..3) == 0;
    let charges = match trues_up {
        true => 1.0,
        false => pick(&mut random, &[1.0, 1.0, 0.9, 0.5]),
    };
    let account = Rc::new(RefCell::new(Account::new(limit, charges)));
    let accounting = match trues_up {
        true => Accounting::AsUsed,
        false => Accounting::AsRequested,
    };
    let headroom = pick(&mut random, &[0.0, 0.01, 0.15]);
    let budget = TokenBudget::per_minute(limit)
        .headroom(headroom)
        .window(Window::Off)
        .accounting(accounting)
        .build()
        .expect("allowed");
    let largest = limit / pick(&mut random, &[2, 10, 40]);
    let mut asks = 0;
    let gap = 2 * largest * 60_000 / limit / pick(&mut random, &[2, 4, 8]);
    let calls: Vec<_> = (0..60)
        .map(|_| {
            asks += random.within(0..gap.max(1));
            Call::draw(&mut random, asks, largest)
        })
        .collect();

    let provider = service_fn({
        let (account, budget) = (account.clone(), budget.clone());
        move |call: Call| {
            let account = account.clone();
            let counted = (call.overtaken_by > 0).then(|| account.borrow_mut().count(call.cost));
            for _ in 0..call.overtaken_by {
                let Ok(other) = budget.try_reserve(call.cost) else {
                    break;
                };
                other.launched();
                account.borrow_mut().count(call.cost);
                other.settle(call.cost);
            }
            async move {
                sleep(Duration::from_millis(call.travels)).await;
                let counted = match counted {
                    Some(left) => left,
                    None => account.borrow_mut().count(call.cost),
                };
                sleep(Duration::from_millis(call.works)).await;
                if trues_up {
                    account.borrow_mut().return_unused(call.cost - call.uses);
                }
                let left = match call.tells_at_the_end {
                    true => account.borrow_mut().left(),
                    false => counted,
                };
                sleep(Duration::from_millis(call.returns)).await;
                Ok::<_, std::io::Error>((left, call.uses))
            }
        }
    });
    // What was reserved waits for its turn.
    let interval = pick(&mut random, &[0, 0, 200, 5_000]);
    let budget = TpmBudgetLayer::new(budget, |call: &Call| call.cost)
        .observe(move |(left, _): &(u64, u64)| Observation {
            limits: RateLimits {
                limit_tokens: Some(limit),
                remaining_tokens: Some(*left),
                ..RateLimits::default()
            },
            denial: None,
        })
        .usage(|(_, used): &(u64, u64)| Some(*used));
    let stagger = StaggerLayer::new(Duration::from_millis(interval));
    let client = GateLayer::new((budget, stagger))
        .until_response()
        .layer(provider);
    let calls = calls.into_iter().map(|call| {
        let client = client.clone();
        async move {
            sleep(Duration::from_millis(call.asks)).await;
            client.oneshot(call).await.expect("every call fits");
        }
    });
    futures_util::future::join_all(calls).await;
    let account = account.borrow();
    (account.counted, account.rejected.clone())
}

#[test]
fn no_answer_lets_in_more_than_the_provider_has() {
    for_seeds(600, async |random| {
        let (counted, rejected) = play(random).await;
        assert!(counted >= 60, "{counted}");
        assert!(rejected.is_empty(), "{rejected:?}");
    });
}
