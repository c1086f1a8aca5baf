//! What one pool is out of keeps nobody from using another.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;
use tollhouse_openai::{Account, Limit, Policy};
use tollhouse_sim::{Limits, Sim};
use tower::Layer;

use super::{SEC, call, chat, embedding, wide};

const CHATS: u64 = 300;
const EMBEDDINGS: u64 = 3_000;

fn sim() -> Sim {
    let limits = |tokens| Limits {
        tokens_per_minute: Some(tokens),
        requests_per_minute: None,
    };
    let sim = Sim::builder()
        .model("gpt-4o", limits(30_000))
        .model("text-embedding-3-small", limits(1_000_000));
    sim.build().expect("a simulator")
}

/// How long so many chats and embeddings take together; none is refused.
async fn time_for(account: Account, chats: u64, embeddings: u64) -> Duration {
    let sim = sim();
    let client = account.layer().layer(sim.service());
    let start = Instant::now();
    let chats = (0..chats).map(|_| chat("gpt-4o", 600));
    // One body for all of them: what is tried is not how it is written.
    let one = embedding("text-embedding-3-small", 900);
    let embeddings = (0..embeddings).map(|_| one.clone());
    // Mixed in one file, as they come.
    let all = embeddings
        .chain(chats)
        .map(|request| call(&client, request));
    let statuses = join_all(all).await;
    assert!(statuses.iter().all(|status| *status == 200));
    assert_eq!(sim.report().total.rejected.total(), 0);
    start.elapsed()
}

/// The chats are the slower: 180,000 tokens at 25,500 a minute. If the embeddings were,
/// both would take longer than they do alone, and this would fail.
async fn takes_as_long_as_the_slower_alone(account: impl Fn() -> Account) {
    let chats = time_for(account(), CHATS, 0).await;
    let both = time_for(account(), CHATS, EMBEDDINGS).await;
    assert!(chats > 2 * 60 * SEC, "{chats:?}");
    assert!(both <= chats.mul_f64(1.01), "{both:?} beside {chats:?}");
}

#[tokio::test(start_paused = true)]
async fn a_mixed_job_takes_as_long_as_the_slower_part_with_numbers_of_a_file() {
    takes_as_long_as_the_slower_alone(|| {
        let file = r#"
            [defaults]
            max_concurrency = 1000
            stagger_seconds = 0

            [models."gpt-4o*"]
            tokens_per_minute = 30_000

            [models."text-embedding-*"]
            tokens_per_minute = 1_000_000
        "#;
        Account::from_toml(file).expect("a good file")
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_mixed_job_takes_as_long_as_the_slower_part_with_auto() {
    takes_as_long_as_the_slower_alone(|| {
        let mut config = wide();
        config.tokens_per_minute = Limit::Auto;
        Account::new(Policy::new(config).expect("a good policy"))
    })
    .await;
}

/// Variables speak of one pool, as they always did.
#[tokio::test(start_paused = true)]
async fn without_a_file_all_models_are_one_pool() {
    let account = Account::new(Policy::new(wide()).expect("a good policy"));
    let client = account.layer().layer(sim().service());
    call(&client, chat("gpt-4o", 600)).await;
    call(&client, embedding("text-embedding-3-small", 900)).await;
    let pools = account.snapshot().pools;
    assert_eq!(pools.len(), 1);
    // The provider counts a few tokens less, and says so.
    let spent = 25_500 - pools[0].meters[0].level;
    assert!((1_490..=1_500).contains(&spent), "{spent}");
}

/// Where they must be learned model by model, slots and spacing stay the account's.
#[tokio::test(start_paused = true)]
async fn with_auto_slots_and_spacing_are_the_accounts() {
    let policy = Policy::default().tpm_limit(Limit::Auto).stagger(7 * SEC);
    let account = Account::new(policy.max_concurrency(1));
    let sim = sim();
    let client = account.layer().layer(sim.service());
    let start = Instant::now();
    call(&client, chat("gpt-4o", 600)).await;
    call(&client, embedding("text-embedding-3-small", 900)).await;
    assert!(start.elapsed() >= 7 * SEC);
    let both = join_all([
        call(&client, chat("gpt-4o", 600)),
        call(&client, embedding("text-embedding-3-small", 900)),
    ]);
    let _: Vec<_> = async { vec![both.await] }.await;
    let report = sim.report();
    assert_eq!(report.peak_in_flight, 1);
    assert!(
        report.least_gap() >= Some(7 * SEC),
        "{:?}",
        report.least_gap()
    );
    let names: Vec<_> = account
        .snapshot()
        .pools
        .into_iter()
        .map(|it| it.name)
        .collect();
    assert_eq!(names, ["gpt-4o", "text-embedding-3-small"]);
}

/// P1: who waits for the spacing that is the account's holds no tokens of its pool, and
/// no slot.
#[tokio::test(start_paused = true)]
async fn with_auto_who_waits_for_the_accounts_spacing_holds_nothing() {
    let policy = Policy::default().tpm_limit(Limit::Auto).stagger(7 * SEC);
    let account = Account::new(policy.max_concurrency(4).headroom(0.0));
    let client = account.layer().layer(sim().service());
    call(&client, chat("gpt-4o", 600)).await;
    let embedded = call(&client, embedding("text-embedding-3-small", 900)).await;
    assert_eq!(embedded, 200);
    let outstanding = || {
        let pools = account.snapshot().pools;
        pools
            .iter()
            .map(|pool| pool.meters[0].outstanding)
            .sum::<u64>()
    };
    assert_eq!(outstanding(), 0);
    let both = [
        chat("gpt-4o", 600),
        embedding("text-embedding-3-small", 900),
    ];
    let waiting = both.map(|request| {
        let client = client.clone();
        tokio::spawn(async move { call(&client, request).await })
    });
    tokio::task::yield_now().await;
    let now = account.snapshot();
    assert_eq!((now.waiting, now.in_flight, outstanding()), (2, 0, 0));
    let mut pools = now.pools.iter();
    assert!(pools.all(|pool| pool.next_launch_in_seconds.is_some_and(|time| time > 0.0)));
    assert!(
        join_all(waiting)
            .await
            .iter()
            .all(|status| *status.as_ref().unwrap() == 200)
    );
}

/// P2: a pool that is out of tokens holds no slot of the account's.
#[tokio::test(start_paused = true)]
async fn a_pool_that_is_out_of_tokens_delays_no_call_of_another() {
    let file = r#"
        [defaults]
        max_concurrency = 1000
        stagger_seconds = 0
        cautious_start = false

        [account]
        max_concurrency = 4

        [models."gpt-4o"]
        tokens_per_minute = 30_000

        [models."text-embedding-*"]
        tokens_per_minute = 1_000_000
    "#;
    let account = Account::from_toml(file).expect("a good file");
    let client = account.layer().layer(sim().service());
    call(&client, chat("gpt-4o", 25_000)).await;
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { call(&client, chat("gpt-4o", 25_000)).await })
        })
        .collect();
    tokio::task::yield_now().await;
    assert_eq!(account.snapshot().waiting, 20);
    let alone = {
        let client = Account::from_toml(file)
            .expect("a good file")
            .layer()
            .layer(sim().service());
        let start = Instant::now();
        call(&client, embedding("text-embedding-3-small", 900)).await;
        start.elapsed()
    };
    let start = Instant::now();
    call(&client, embedding("text-embedding-3-small", 900)).await;
    assert!(
        start.elapsed() <= alone.mul_f64(1.5),
        "{:?}, {alone:?}",
        start.elapsed()
    );
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
}
