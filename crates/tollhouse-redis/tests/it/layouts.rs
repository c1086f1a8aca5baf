//! What is under the account's key may be of another version, of somebody else, or damaged: it is left
//! alone, and said.

use std::time::Duration;

use redis::Value;
use tempfile::TempDir;
use tollhouse::shared::{Amounts, Away, Stamp};
use tollhouse::{Per, Unit};

use crate::support::clock::Clock;
use crate::support::process::{Process, patiently};
use crate::support::server::Server;
use crate::support::{ms, terms};

/// Microseconds since 1970.
const BEGIN: u64 = 1_800_000_000_000_000;
const SECOND: u64 = 1_000_000;

fn process(number: u128) -> Process {
    Process::new(number, &[terms(Unit::Tokens, Per::Minute, 60_000)])
}

/// What whoever asks is told, and whoever only looks.
async fn told(server: &Server) -> String {
    let ledger = server.ledger();
    let mut process = process(1);
    let asked = in_time(async || process.try_exchange(&ledger).await.err()).await;
    let looked = in_time(async || ledger.status().await.err()).await;
    // What follows are the server's own words.
    let ours = |told: &str| told.split(" (").next().map(str::to_owned);
    assert_eq!(ours(&looked), ours(&asked));
    asked
}

/// Why it is left alone, once a busy machine answers in time.
async fn in_time(mut ask: impl AsyncFnMut() -> Option<Away>) -> String {
    for _ in 0..50 {
        let away = ask().await.expect("it is left alone").to_string();
        if !away.contains("within 100 ms") {
            return away;
        }
        tokio::time::sleep(ms(50)).await;
    }
    panic!("no answer");
}

async fn kept(server: &Server) -> Value {
    server.run(&["DUMP", server.key()]).await
}

/// The number of the layout, and when it was written last, as the server's clock has it.
async fn layout(server: &Server) -> (u64, u64) {
    let Value::BulkString(text) = server.run(&["HGET", server.key(), "layout"]).await else {
        panic!("the field that every layout has");
    };
    let text = String::from_utf8(text).expect("digits");
    let (number, written) = text.split_once(' ').expect("two numbers");
    let [number, written] = [number, written].map(|it| it.parse().expect("a number"));
    (number, written)
}

async fn set_layout(server: &Server, number: u64, written: u64) {
    let layout = format!("{number} {written}");
    server.run(&["HSET", server.key(), "layout", &layout]).await;
}

#[tokio::test]
async fn a_newer_layout_is_named_and_left_alone() {
    let server = Server::start().await;
    process(2).exchange(&server.ledger()).await;
    let (known, written) = layout(&server).await;
    // However long nobody has come to it.
    for written in [written, 0] {
        set_layout(&server, known + 1, written).await;
        let before = kept(&server).await;
        let told = told(&server).await;
        let said = format!(
            "the shared ledger is away: Redis at 127.0.0.1:{}: the account's key {} has layout {} of \
             a newer Tollhouse, and this one knows layout {known}: give all processes one version",
            server.port(),
            server.key(),
            known + 1
        );
        assert!(told.starts_with(&said), "{told}");
        assert_eq!(kept(&server).await, before);
    }

    // As it says.
    server.run(&["DEL", server.key()]).await;
    process(1).exchange(&server.ledger()).await;
    assert_eq!(layout(&server).await.0, known);
}

#[tokio::test]
async fn an_older_layout_is_replaced_once_nobody_comes_to_it() {
    let folder = TempDir::new().expect("a folder");
    let Some((clock, server)) = Clock::with_server(folder.path(), BEGIN).await else {
        return;
    };
    let ledger = server.ledger();
    process(2).exchange(&ledger).await;
    let (known, written) = layout(&server).await;
    assert_eq!(written, BEGIN);
    set_layout(&server, known - 1, BEGIN).await;
    server.run(&["HSET", server.key(), "of-old", "x"]).await;

    // Its lease and transit may last until then.
    clock.set(BEGIN + 4 * SECOND);
    let before = kept(&server).await;
    let told = told(&server).await;
    let said = format!(
        "has layout {} of an older Tollhouse, and this one knows layout {known}: it is replaced four \
         seconds after the last process of that one has gone",
        known - 1
    );
    assert!(told.contains(&said), "{told}");
    assert_eq!(kept(&server).await, before);

    clock.set(BEGIN + 4 * SECOND + 1);
    let mut process = process(1);
    let grant = process.exchange(&ledger).await;
    assert_eq!(grant.learning, Duration::from_secs(4));
    assert_eq!(layout(&server).await, (known, BEGIN + 4 * SECOND + 1));
    let left = server.run(&["HEXISTS", server.key(), "of-old"]).await;
    assert_eq!(left, Value::Int(0));

    // It begins with nothing, as after a loss, and five seconds' refill: what was spent before is
    // not known.
    process.want(Amounts::of(Unit::Tokens, 40_000));
    let mut drawn = Amounts::NOTHING;
    for seconds in [6, 8, 9] {
        clock.set(BEGIN + seconds * SECOND + 1);
        let mut report = process.next().clone();
        // The clock of the test is not that of the process.
        report.expires = Some(Stamp(BEGIN * 2));
        let grant = patiently(&ledger, &report).await;
        process.take_in(&grant);
        drawn = drawn.plus(&grant.pools[0].drawn);
    }
    assert_eq!(drawn, Amounts::of(Unit::Tokens, 5_000));
}

#[tokio::test]
async fn what_is_not_ours_is_left_alone() {
    let server = Server::start().await;
    let key = server.key();
    for words in [
        ["SET", key, "mine", ""],
        ["HSET", key, "mine", "1"],
        ["HSET", key, "layout", "mine"],
        ["HSET", key, "layout", "2"],
    ] {
        server.run(&["DEL", key]).await;
        server
            .run(words.split(|it| it.is_empty()).next().expect("words"))
            .await;
        let before = kept(&server).await;
        let told = told(&server).await;
        let said = format!("something else has the account's key {key}: another name is meant");
        assert!(told.ends_with(&said), "{words:?}: {told}");
        assert_eq!(kept(&server).await, before);
        let left = server.run(&["TTL", key]).await;
        assert_eq!(left, Value::Int(-1), "it does not expire");
    }
}

#[tokio::test]
async fn what_is_damaged_is_left_alone() {
    let server = Server::start().await;
    process(2).exchange(&server.ledger()).await;
    let key = server.key();
    for damage in ["x", "", "\u{1}"] {
        server.run(&["HSET", key, "ledger", damage]).await;
        let before = kept(&server).await;
        let told = told(&server).await;
        let said = format!("what the account's key {key} has cannot be read: it is damaged");
        assert!(told.contains(&said), "{damage:?}: {told}");
        assert_eq!(kept(&server).await, before);
    }
}
