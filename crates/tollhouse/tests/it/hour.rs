//! An hour of conversations beside a batch that always has more to send.
//!
//! The hour is Azure's conversation trace of 2023 (CC-BY; Patel et al., "Splitwise", ISCA
//! 2024) where the file lies beside the repository, and always a synthetic one with its
//! statistics: 19,366 calls, 453,000 tokens a minute on average and 1.77 times that in the
//! busiest minute.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::{JoinSet, LocalSet, spawn_local};
use tokio::time::{Instant, sleep, sleep_until};
use tollhouse::{Ask, Caller, TokenBudget, Window};

use crate::support::random::Random;

const LIMIT: u64 = 906_000;

/// What a conversation's context and answer come to, and when it comes, in milliseconds.
struct Conversation {
    at: u64,
    tokens: u64,
}

/// Thousands of tokens of each minute of the trace.
const MINUTES: [u64; 58] = [
    216, 328, 417, 494, 440, 411, 417, 363, 480, 468, 467, 461, 506, 472, 373, 389, 373, 384, 457,
    479, 506, 492, 623, 626, 607, 633, 699, 757, 731, 696, 684, 801, 682, 490, 470, 400, 429, 345,
    391, 344, 354, 356, 466, 502, 504, 514, 465, 358, 293, 329, 327, 341, 300, 313, 299, 309, 293,
    288,
];

/// The tokens below which are so many hundredths of the trace's conversations.
const SIZES: [(u64, u64); 11] = [
    (0, 64),
    (10, 368),
    (25, 491),
    (50, 1_412),
    (60, 1_469),
    (75, 1_558),
    (85, 2_000),
    (90, 2_820),
    (95, 4_136),
    (99, 4_259),
    (100, 14_089),
];

fn size(random: &mut Random) -> u64 {
    let percent = random.within(0..10_000) as f64 / 100.0;
    let above = SIZES.iter().position(|(share, _)| *share as f64 > percent);
    let above = above.expect("less than a hundred");
    let ((from, least), (to, most)) = (SIZES[above - 1], SIZES[above]);
    let part = (percent - from as f64) / (to - from) as f64;
    least + (part * (most - least) as f64) as u64
}

/// Each minute's tokens, by calls that come at random.
fn synthetic() -> Vec<Conversation> {
    let mut random = Random::seeded(1);
    let mut conversations = Vec::new();
    for (minute, thousands) in (0..).zip(MINUTES) {
        let mut left = thousands * 1_000;
        while left > 0 {
            let tokens = size(&mut random).min(left.max(64));
            left = left.saturating_sub(tokens);
            let at = minute * 60_000 + random.within(0..60_000);
            conversations.push(Conversation { at, tokens });
        }
    }
    conversations.sort_by_key(|conversation| conversation.at);
    conversations
}

/// The real one; `None` where the file is not there.
fn real() -> Option<Vec<Conversation>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let file = root.join("../shared/traces/azure-2023-conversation.csv");
    let text = std::fs::read_to_string(file).ok()?;
    let millis = |stamp: &str| -> u64 {
        // `2023-11-16 18:15:46.6805900`, all of one day.
        let mut parts = stamp[11..]
            .split(':')
            .map(|part| part.parse::<f64>().expect(stamp));
        let mut next = || parts.next().expect(stamp);
        ((next() * 3_600.0 + next() * 60.0 + next()) * 1_000.0) as u64
    };
    let rows = text.lines().skip(1).filter(|line| !line.is_empty());
    let mut conversations: Vec<_> = rows
        .map(|row| {
            let columns: Vec<_> = row.trim().split(',').collect();
            let tokens = |n: usize| columns[n].parse::<u64>().expect(row);
            Conversation {
                at: millis(columns[0]),
                tokens: tokens(1) + tokens(2),
            }
        })
        .collect();
    let first = conversations[0].at;
    conversations.iter_mut().for_each(|it| it.at -= first);
    Some(conversations)
}

/// A provider that refills all the time, in sixty-thousandths of a token: it knows
/// nothing of the ledger.
struct Provider {
    level: u64,
    at: Instant,
    refused: u64,
    used: u64,
}

const UNIT: u64 = 60_000;

impl Provider {
    fn new() -> Provider {
        Provider {
            level: LIMIT * UNIT,
            at: Instant::now(),
            refused: 0,
            used: 0,
        }
    }

    fn count(&mut self, tokens: u64) {
        let now = Instant::now();
        let elapsed = (now - std::mem::replace(&mut self.at, now)).as_millis() as u64;
        self.level = (self.level + elapsed * LIMIT).min(LIMIT * UNIT);
        match self.level.checked_sub(tokens * UNIT) {
            Some(left) => {
                self.level = left;
                self.used += tokens;
            }
            None => self.refused += 1,
        }
    }
}

async fn call(budget: TokenBudget, provider: Rc<RefCell<Provider>>, ask: Ask) -> Duration {
    let start = Instant::now();
    let reservation = budget.reserve(ask).await.expect("nothing is refused");
    let waited = start.elapsed();
    provider.borrow_mut().count(reservation.cost());
    reservation.launched();
    sleep(Duration::from_millis(300)).await;
    let cost = reservation.cost();
    reservation.settle(cost);
    waited
}

/// Twenty callers of weight 8 share the conversations; fifty tasks of weight 1 send calls
/// of 1,500 tokens, one after the other, all the while.
async fn an_hour(name: &str, conversations: Vec<Conversation>) {
    let budget = TokenBudget::per_minute(LIMIT)
        .window(Window::Off)
        .build()
        .unwrap();
    let provider = Rc::new(RefCell::new(Provider::new()));
    let start = Instant::now();
    let tokens: u64 = conversations.iter().map(|it| it.tokens).sum();
    let count = conversations.len();
    let end = start + Duration::from_millis(conversations[count - 1].at);
    let batch = |budget: TokenBudget, provider: Rc<RefCell<Provider>>| async move {
        while Instant::now() < end {
            let ask = Ask::of(1_500).caller(Caller::new("batch"));
            call(budget.clone(), provider.clone(), ask).await;
        }
    };
    let mut waits = LocalSet::new()
        .run_until(async {
            for _ in 0..50 {
                spawn_local(batch(budget.clone(), provider.clone()));
            }
            let mut calls = JoinSet::new();
            for (n, Conversation { at, tokens }) in conversations.into_iter().enumerate() {
                sleep_until(start + Duration::from_millis(at)).await;
                let caller = Caller::new(format!("web-{}", n % 20)).weight(8);
                let ask = Ask::of(tokens).caller(caller);
                calls.spawn_local(call(budget.clone(), provider.clone(), ask));
            }
            calls.join_all().await
        })
        .await;
    waits.sort_unstable();
    let (median, p99) = (waits[count / 2], waits[count * 99 / 100]);
    let provider = provider.borrow();
    // A full bucket at the start, and what refills until the last one has come.
    let allowed = LIMIT as f64 * (1.0 + (end - start).as_secs_f64() / 60.0);
    let used = provider.used as f64 / allowed;
    println!(
        "{name}: {count} conversations of {tokens} tokens waited {median:?} at the median, \
         {p99:?} at p99, {:?} at most; {:.2} % used",
        waits[count - 1],
        used * 100.0,
    );
    assert_eq!(provider.refused, 0);
    assert!(used >= 0.99, "{used}");
    assert!(p99 <= Duration::from_millis(2_200), "{p99:?}");
}

#[tokio::test(start_paused = true)]
async fn an_hour_of_conversations_beside_a_batch() {
    let conversations = synthetic();
    let tokens: u64 = conversations.iter().map(|it| it.tokens).sum();
    assert!(
        (18_000..21_000).contains(&conversations.len()),
        "{}",
        conversations.len()
    );
    assert!(tokens.abs_diff(26_450_535) < 300_000, "{tokens}");
    an_hour("synthetic", conversations).await;
    match real() {
        Some(conversations) => an_hour("Azure 2023", conversations).await,
        None => println!("no trace beside the repository: the synthetic hour alone"),
    }
}
