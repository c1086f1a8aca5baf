//! Three callers who always have something waiting.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, sleep, sleep_until};
use tollhouse::{Ask, Caller, TokenBudget, Window};

use super::fraction::Fraction;
use super::oracle::{Oracle, Prices};
use crate::support::random::Random;

const WEIGHTS: [u32; 3] = [1, 2, 5];
const MINUTES: u64 = 10;

/// One that was let in, so many milliseconds after the start.
#[derive(Clone, Copy, Debug)]
struct Launched {
    at: u64,
    id: usize,
}

/// Sizes for each caller in turn, more than can be served.
fn sizes(tokens_per_minute: u64) -> Vec<u64> {
    let mut random = Random::seeded(tokens_per_minute);
    let most = MINUTES * tokens_per_minute / 2_500 * 5 / 8 + 100;
    (0..3 * most).map(|_| random.within(50..5_001)).collect()
}

/// Who is let in when, of a budget that is spent at first. Each caller comes a
/// millisecond after the one before, so that nobody comes together with another's.
async fn play(tokens_per_minute: u64, sizes: &[u64]) -> Vec<Launched> {
    let builder = TokenBudget::per_minute(tokens_per_minute).window(Window::Off);
    let budget = builder.build().unwrap();
    let start = Instant::now();
    budget
        .reserve(tokens_per_minute)
        .await
        .unwrap()
        .settle(tokens_per_minute);
    let launched = Rc::new(RefCell::new(Vec::new()));
    let call = async |id: usize, tokens: u64| {
        let (budget, launched) = (budget.clone(), Rc::clone(&launched));
        let caller = Caller::new(format!("{}", id % 3)).weight(WEIGHTS[id % 3]);
        spawn_local(async move {
            let ask = Ask::of(tokens).caller(caller);
            let reservation = budget.reserve(ask).await.unwrap();
            reservation.launched();
            reservation.settle(tokens);
            let at = u64::try_from(start.elapsed().as_millis()).unwrap();
            launched.borrow_mut().push(Launched { at, id });
        });
    };
    LocalSet::new()
        .run_until(async {
            for caller in 0..3 {
                for (id, tokens) in sizes.iter().enumerate().skip(caller).step_by(3) {
                    call(id, *tokens).await;
                }
                sleep(Duration::from_millis(1)).await;
            }
            sleep_until(start + Duration::from_secs(60 * MINUTES)).await;
        })
        .await;
    launched.take()
}

/// A bucket that is never full, in sixty-thousandths of a token.
struct Bucket {
    tokens_per_minute: u64,
    spent: u64,
}

impl Bucket {
    fn holds(&self, tokens: u64, at: u64) -> bool {
        self.tokens_per_minute * at >= (self.spent + tokens) * 60_000
    }
}

/// What callers were given, and the most that each may take at once.
struct Given {
    tokens: [u64; 3],
    largest: [u64; 3],
}

impl Given {
    fn new(sizes: &[u64]) -> Self {
        let of = |caller| sizes.iter().skip(caller).step_by(3).copied();
        Given {
            tokens: [0; 3],
            largest: [0, 1, 2].map(|caller| of(caller).max().expect("some")),
        }
    }

    /// Of any two, what they were given over their weights is never further apart than
    /// the largest request of each over its weight.
    fn assert_fair(&self) {
        let over_weight =
            |tokens: [u64; 3], n: usize| Fraction::of(tokens[n].into(), WEIGHTS[n].into());
        for (a, b) in [(0, 1), (0, 2), (1, 2)] {
            let apart = over_weight(self.tokens, a) - over_weight(self.tokens, b);
            let bound = over_weight(self.largest, a) + over_weight(self.largest, b);
            assert!(apart.abs() <= bound, "{a} {b}: {:?}", self.tokens);
        }
    }
}

/// Checks that each one was let in at the first millisecond at which it was its turn and
/// there was enough for it, and that all are fair at every instant.
fn check(tokens_per_minute: u64, sizes: &[u64], launched: &[Launched]) -> Given {
    let prices = Prices {
        tokens_per_minute,
        requests_per_minute: None,
        interval: 0,
    };
    let mut oracle = Oracle::new(prices, &WEIGHTS);
    for (id, tokens) in sizes.iter().enumerate() {
        oracle.join(id, id % 3, *tokens, (id % 3) as u64);
    }
    let mut bucket = Bucket {
        tokens_per_minute,
        spent: 0,
    };
    let mut given = Given::new(sizes);
    let mut before = 0;
    for Launched { at, id } in launched.iter().copied() {
        assert!(bucket.holds(sizes[id], at), "{id} at {at}: too soon");
        if !oracle.is_close_call() {
            let head = oracle.head().expect("they wait");
            let could = |tokens: u64, at: u64| bucket.holds(tokens, at);
            let passer = oracle.passer().filter(|passer| could(passer.1, at - 1));
            let sooner = at > before && (could(head.1, at - 1) || passer.is_some());
            assert!(!sooner, "{id} at {at}: too late, {head:?} {passer:?}");
            assert!(
                id == head.0 || !could(head.1, at),
                "{id} at {at}: {head:?} first"
            );
        }
        oracle
            .launch(id)
            .unwrap_or_else(|fault| panic!("at {at}: {fault}"));
        bucket.spent += sizes[id];
        given.tokens[id % 3] += sizes[id];
        given.assert_fair();
        before = at;
    }
    given
}

#[tokio::test(start_paused = true)]
async fn a_line_that_never_ends_is_served_as_the_oracle_says() {
    for tokens_per_minute in [25_500, 225_000, 1_000_000] {
        let sizes = sizes(tokens_per_minute);
        let launched = play(tokens_per_minute, &sizes).await;
        let given = check(tokens_per_minute, &sizes, &launched);
        let all: u64 = given.tokens.iter().sum();
        assert!(all + 5_000 > MINUTES * tokens_per_minute, "{all}");
        if tokens_per_minute < 225_000 {
            continue;
        }
        for (tokens, weight) in given.tokens.into_iter().zip(WEIGHTS) {
            let due = all * u64::from(weight) / 8;
            assert!(tokens.abs_diff(due) <= due / 50, "{tokens} of {all}");
        }
    }
}
