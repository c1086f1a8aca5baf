//! What an exchange comes to.

use redis::Value;
use tollhouse::shared::{Amounts, SharedLedger};
use tollhouse::{Per, Unit};
use tollhouse_redis::RedisLedger;

use crate::support::process::Process;
use crate::support::server::Server;
use crate::support::terms;

fn tokens(amount: u64) -> Amounts {
    Amounts::of(Unit::Tokens, amount)
}

#[tokio::test]
async fn a_first_report_learns_the_clock_and_later_ones_draw() {
    let server = Server::start().await;
    let ledger = server.ledger();
    let mut process = Process::new(1, &[terms(Unit::Tokens, Per::Minute, 60_000)]);
    process.want(tokens(1_000));

    let hello = process.exchange(&ledger).await;
    assert!(hello.taken);
    assert_eq!((hello.answered, hello.processes), (1, 1));
    assert_eq!(hello.learning.as_secs(), 4);
    assert!(hello.pools[0].drawn.is_nothing());

    process.settle(&ledger).await;
    let grant = process.exchange(&ledger).await;
    assert_eq!(grant.life, hello.life);
    assert!(grant.at > hello.at);
    // The one that ended the learning granted the first thousand.
    assert_eq!(process.pool().idle, tokens(2_000));
    assert_eq!(grant.pools[0].levels, [58_000]);
    assert_eq!(grant.pools[0].meters, process.pool().meters);
}

#[tokio::test]
async fn accounts_of_one_server_are_apart() {
    let server = Server::start().await;
    let one = RedisLedger::open(&server.url(), "one").expect("an address");
    let other = RedisLedger::open(&server.url(), "other").expect("an address");
    let mut process = Process::new(1, &[terms(Unit::Tokens, Per::Minute, 100)]);
    let mut another = Process::new(2, &[terms(Unit::Tokens, Per::Minute, 100)]);
    process.exchange(&one).await;
    let grant = another.exchange(&other).await;
    assert_eq!((grant.answered, grant.processes), (1, 1));
    assert!(one.status().await.expect("it answers").is_some());
    let nobody = RedisLedger::open(&server.url(), "nobody").expect("an address");
    assert_eq!(nobody.status().await.expect("it answers"), None);
}

#[tokio::test]
async fn a_ledger_is_one_key_that_expires_after_two_days() {
    let server = Server::start().await;
    let mut process = Process::new(1, &[terms(Unit::Tokens, Per::Minute, 100)]);
    process.exchange(&server.ledger()).await;
    let keys = server.run(&["KEYS", "*"]).await;
    let name = Value::BulkString(server.key().into());
    assert_eq!(keys, Value::Array(vec![name]));
    let left = server.run(&["TTL", server.key()]).await;
    assert_eq!(left, Value::Int(2 * 86_400));
}

#[tokio::test]
async fn status_shows_processes_leases_levels_and_changes_nothing() {
    let server = Server::start().await;
    let ledger = server.ledger();
    let mut process = Process::new(0xab, &[terms(Unit::Tokens, Per::Minute, 60_000)]);
    process.pool().max_slots = Some(5);
    process.pool().slots_wanted = 2;
    process.settle(&ledger).await;
    process.want(tokens(1_000));
    process.exchange(&ledger).await;

    let before = server.run(&["HGETALL", server.key()]).await;
    let status = ledger
        .status()
        .await
        .expect("it answers")
        .expect("a ledger");
    assert_eq!(server.run(&["HGETALL", server.key()]).await, before);
    assert_eq!(status.processes.len(), 1);
    assert_eq!(status.processes[0].process, format!("{:032x}", 0xab));
    assert!(!status.processes[0].left);
    let pool = &status.pools[0];
    assert_eq!(
        (pool.name.as_deref(), pool.max_slots, pool.held),
        (None, Some(5), None)
    );
    let meter = &pool.meters[0];
    assert_eq!(
        (meter.level, meter.held, meter.limit),
        (59_000, 1_000, 60_000)
    );
    let lease = &pool.leases[0];
    assert_eq!(
        (lease.held, lease.idle, lease.slots),
        (tokens(1_000), tokens(1_000), 4)
    );
}

#[tokio::test]
async fn a_hold_is_news_to_all_and_closes_the_pool() {
    let server = Server::start().await;
    let (ledger, other) = (server.ledger(), server.ledger());
    let meters = [terms(Unit::Tokens, Per::Minute, 60_000)];
    let (mut process, mut another) = (Process::new(1, &meters), Process::new(2, &meters));
    process.settle(&ledger).await;
    another.settle(&other).await;
    other.news().await;

    process.pool().held = Some(std::time::Duration::from_secs(10));
    process.exchange(&ledger).await;
    let told = tokio::time::timeout(std::time::Duration::from_millis(250), other.news());
    told.await.expect("within a quarter of a second");
    another.want(tokens(1));
    let grant = another.exchange(&other).await;
    assert!(grant.pools[0].drawn.is_nothing());
    let held = grant.pools[0].held.expect("a hold");
    assert!(held.as_millis() > 9_500, "{held:?}");

    // Told once more it is no news.
    process.exchange(&ledger).await;
    let told = tokio::time::timeout(std::time::Duration::from_millis(250), other.news());
    assert!(told.await.is_err());
}
