//! Cases 17 to 25 of the failures: what a server, the way to it and its clock can do to a process.

use std::time::Duration;

use redis::Value;
use tempfile::TempDir;
use tokio::time::Instant;
use tollhouse::shared::{Amounts, Away, Grant, MeterTerms, SharedLedger, Stamp};
use tollhouse::{Per, Unit};
use tollhouse_redis::{DEADLINE, RedisLedger};

use crate::support::clock::Clock;
use crate::support::process::{Process, patiently};
use crate::support::server::Server;
use crate::support::shim::Shim;
use crate::support::{ms, terms};

const BEGIN: u64 = 1_800_000_000_000_000;

fn tokens(amount: u64) -> Amounts {
    Amounts::of(Unit::Tokens, amount)
}

fn by_the_minute() -> [MeterTerms; 1] {
    [terms(Unit::Tokens, Per::Minute, 60_000)]
}

/// A process that has drawn a thousand tokens.
async fn one_that_holds(ledger: &RedisLedger) -> Process {
    let mut process = Process::new(1, &by_the_minute());
    process.settle(ledger).await;
    process.want(tokens(1_000));
    process.exchange(ledger).await;
    process.want(Amounts::NOTHING);
    assert_eq!(process.pool().idle, tokens(1_000));
    process
}

/// Fails, and in time.
async fn is_away(ledger: &RedisLedger, process: &mut Process) -> Away {
    let begun = Instant::now();
    let away = process.try_exchange(ledger).await;
    let away = away.expect_err("nothing can have come of it");
    let took = begun.elapsed();
    // The deadline, and what a busy machine adds.
    assert!(took < DEADLINE + ms(400), "{took:?}");
    away
}

/// The level as the next grant tells it.
async fn level(ledger: &RedisLedger, process: &mut Process) -> i64 {
    process.exchange(ledger).await.pools[0].levels[0]
}

// ===== the server =====

#[tokio::test]
async fn scripts_that_were_flushed_are_told_again() {
    let server = Server::start().await;
    let ledger = server.ledger();
    let mut process = one_that_holds(&ledger).await;
    server.run(&["SCRIPT", "FLUSH"]).await;
    let grant = process.exchange(&ledger).await;
    assert_eq!(grant.answered, process.report.number, "nothing was lost");
    assert!(ledger.status().await.is_ok());
}

#[tokio::test]
async fn a_hung_server_is_given_up_within_the_deadline_and_asked_again() {
    let server = Server::start().await;
    let ledger = server.ledger();
    let mut process = one_that_holds(&ledger).await;
    let known = process.report.number;
    server.pause();
    for _ in 0..3 {
        let away = is_away(&ledger, &mut process).await;
        assert!(away.to_string().ends_with("within 100 ms"), "{away}");
    }
    server.resume();
    let grant = process.exchange(&ledger).await;
    assert!(grant.taken);
    // What hung may have been run late; whatever it gave came back.
    assert!(grant.answered <= known + 4);
    assert_eq!(process.pool().idle, tokens(1_000));
}

#[tokio::test]
async fn a_server_that_hangs_from_the_start_does_not_hang_a_process() {
    let server = Server::start().await;
    server.pause();
    let ledger = server.ledger();
    let mut process = Process::new(1, &by_the_minute());
    let away = is_away(&ledger, &mut process).await;
    assert!(
        away.to_string().ends_with("no connection within 100 ms"),
        "{away}"
    );
    server.resume();
    process.exchange(&ledger).await;
}

#[tokio::test]
async fn a_server_that_is_down_is_told_at_once_and_found_when_it_comes() {
    let mut server = Server::start().await;
    server.kill();
    let ledger = server.ledger();
    let mut process = Process::new(1, &by_the_minute());
    let away = is_away(&ledger, &mut process).await;
    assert!(away.to_string().contains("refused"), "{away}");
    server.revive().await;
    process.exchange(&ledger).await;
}

#[tokio::test]
async fn slow_answers_are_not_waited_for() {
    let server = Server::start().await;
    let shim = Shim::before(server.port()).await;
    let ledger = shim.ledger();
    let mut process = one_that_holds(&ledger).await;
    shim.delay_answers(ms(500));
    is_away(&ledger, &mut process).await;
    is_away(&ledger, &mut process).await;
    shim.delay_answers(Duration::ZERO);
    process.exchange(&ledger).await;
    assert_eq!(process.pool().idle, tokens(1_000));
}

#[tokio::test]
async fn a_server_far_away_is_connected_to_over_several_asks() {
    let server = Server::start().await;
    let shim = Shim::before(server.port()).await;
    // Several round trips to connect, one to ask.
    shim.delay_answers(ms(40));
    let ledger = shim.ledger();
    let mut process = Process::new(1, &by_the_minute());
    process.exchange(&ledger).await;
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_costs_no_exchange() {
    let server = Server::start().await;
    let shim = Shim::before(server.port()).await;
    let ledger = shim.ledger();
    let mut process = one_that_holds(&ledger).await;
    for _ in 0..3 {
        shim.close(false);
        tokio::time::sleep(ms(20)).await;
        process.exchange(&ledger).await;
    }
    assert_eq!(process.pool().idle, tokens(1_000));
}

#[tokio::test]
async fn a_replica_that_was_promoted_is_a_ledger_that_may_have_lost_something() {
    let mut master = Server::start().await;
    let port = master.port().to_string();
    let replica = Server::with(&["--replicaof", "127.0.0.1", &port]).await;
    let shim = Shim::before(master.port()).await;
    let ledger = shim.ledger();
    let mut process = one_that_holds(&ledger).await;
    let level_before = level(&ledger, &mut process).await;
    assert!(level_before > 50_000, "{level_before}");
    while replica.run(&["EXISTS", replica.key()]).await != Value::Int(1) {
        tokio::time::sleep(ms(20)).await;
    }
    // Let the last write come through.
    master.run(&["WAIT", "1", "1000"]).await;

    // A replica says READONLY; the connection is given up, since the address may lead elsewhere.
    shim.lead_to(replica.port());
    let away = is_away(&ledger, &mut process).await;
    assert!(
        away.to_string().to_lowercase().contains("readonly"),
        "{away}"
    );
    master.kill();
    replica.run(&["REPLICAOF", "NO", "ONE"]).await;

    process.want(tokens(1_000));
    let grant = process.exchange(&ledger).await;
    assert!(!grant.learning.is_zero());
    assert!(grant.pools[0].drawn.is_nothing());
    assert_eq!(
        grant.pools[0].levels,
        [0],
        "whatever was spent last may be missing here"
    );
    assert_eq!(
        process.pool().idle,
        tokens(1_000),
        "who holds keeps what it holds"
    );
}

#[tokio::test]
async fn a_server_that_restarts_empty_learns_first() {
    let mut server = Server::start().await;
    let ledger = server.ledger();
    let mut process = one_that_holds(&ledger).await;
    let life = process.report.seen.expect("it has seen it").life;
    server.restart().await;
    begins_with_nothing(&ledger, &mut process, life).await;
}

#[tokio::test]
async fn a_flushed_database_learns_first() {
    let server = Server::start().await;
    let ledger = server.ledger();
    let mut process = one_that_holds(&ledger).await;
    let life = process.report.seen.expect("it has seen it").life;
    server.run(&["FLUSHALL"]).await;
    begins_with_nothing(&ledger, &mut process, life).await;
}

#[tokio::test]
async fn an_evicted_ledger_learns_first() {
    let server = Server::with(&["--maxmemory-policy", "allkeys-random"]).await;
    let ledger = server.ledger();
    let mut process = one_that_holds(&ledger).await;
    let life = process.report.seen.expect("it has seen it").life;
    server.run(&["CONFIG", "SET", "maxmemory", "1mb"]).await;
    // Any other write makes room.
    while server.run(&["EXISTS", server.key()]).await == Value::Int(1) {
        let client = redis::Client::open(server.url()).expect("an address");
        let mut connection = client
            .get_multiplexed_async_connection()
            .await
            .expect("a connection");
        let set = redis::cmd("SET").arg("other").arg("x").to_owned();
        let _ = set.query_async::<Value>(&mut connection).await;
    }
    server.run(&["CONFIG", "SET", "maxmemory", "0"]).await;
    begins_with_nothing(&ledger, &mut process, life).await;
}

/// Another life, four seconds without a grant, and then what has been refilled since.
async fn begins_with_nothing(ledger: &RedisLedger, process: &mut Process, life: u64) {
    process.want(tokens(1_000));
    let grant = process.exchange(ledger).await;
    assert_ne!(grant.life, life);
    assert!(grant.pools[0].drawn.is_nothing());
    assert_eq!(
        process.pool().idle,
        tokens(1_000),
        "who holds keeps what it holds"
    );
    assert!(grant.learning > Duration::from_secs(3));
    let begun = Instant::now();
    process.settle(ledger).await;
    assert!(begun.elapsed() > Duration::from_secs(3));
    let left = level(ledger, process).await;
    // The thousand that it holds, and what a thousand a second refill while it was granted.
    assert!(left < 4_000, "{left}");
}

#[tokio::test]
async fn an_older_state_is_noticed_by_who_saw_a_newer_one() {
    let mut server = Server::with(&["--dbfilename", "dump.rdb"]).await;
    let ledger = server.ledger();
    let mut process = one_that_holds(&ledger).await;
    server.run(&["SAVE"]).await;
    process.want(tokens(30_000));
    process.exchange(&ledger).await;
    process.send(tokens(31_000));
    server.restart().await;
    process.want(tokens(20_000));
    let grant = process.exchange(&ledger).await;
    assert_eq!(grant.life, process.report.seen.expect("seen").life);
    assert!(!grant.learning.is_zero());
    assert!(grant.pools[0].drawn.is_nothing());
    assert!(grant.pools[0].levels[0] <= 0, "{grant:?}");
}

#[tokio::test]
async fn a_server_that_loads_is_away_until_it_is_done() {
    if Server::version().starts_with("6.") {
        // It answers nobody within the first two megabytes.
        return eprintln!("NOT TRIED: a server before Redis 7 loads too fast to be seen at it");
    }
    let slowly = [
        "--key-load-delay",
        "200",
        "--loading-process-events-interval-bytes",
        "1024",
    ];
    let mut server = Server::with(&slowly).await;
    let ledger = server.ledger();
    let mut process = one_that_holds(&ledger).await;
    let many = "for i = 1, 10000 do redis.call('SET', 'k' .. i, i) end";
    server.run(&["EVAL", many, "0"]).await;
    server.run(&["SAVE"]).await;
    server.kill();
    server.begin();
    let mut told = Vec::new();
    let grant = loop {
        match process.try_exchange(&ledger).await {
            Ok(grant) => break grant,
            Err(away) => told.push(away.to_string().to_lowercase()),
        }
        assert!(told.len() < 2_000, "{told:?}");
        tokio::time::sleep(ms(10)).await;
    };
    assert!(told.iter().any(|away| away.contains("loading")), "{told:?}");
    assert!(
        !grant.learning.is_zero(),
        "whatever came after it was saved is lost"
    );
}

#[tokio::test]
async fn a_password_is_asked_for_and_never_told() {
    let server = Server::with(&["--requirepass", "open-sesame"]).await;
    let port = server.port();
    let right = format!("redis://:open-sesame@127.0.0.1:{port}");
    let wrong = format!("redis://:shut-sesame@127.0.0.1:{port}");
    let ledger = RedisLedger::open(&right, "test").expect("an address");
    let mut process = Process::new(1, &by_the_minute());
    process.exchange(&ledger).await;
    assert!(!format!("{ledger:?}").contains("sesame"));

    let ledger = RedisLedger::open(&wrong, "test").expect("an address");
    let away = is_away(&ledger, &mut process).await.to_string();
    assert!(
        away.contains("assword") && !away.contains("sesame"),
        "{away}"
    );
}

#[tokio::test]
async fn a_user_with_what_the_crates_page_names_may_do_everything() {
    let rules = "on >secret ~tollhouse:* resetchannels &tollhouse:* -@all +eval +evalsha +hget +hmget +hset \
                 +hdel +exists +del +expire +time +info +publish +subscribe +hello +client|setinfo";
    let server = Server::start().await;
    let mut words = vec!["ACL", "SETUSER", "toll"];
    words.extend(rules.split(' ').filter(|it| !it.is_empty()));
    words.retain(|it| *it != "+client|setinfo");
    server.run(&words).await;
    let url = format!("redis://toll:secret@127.0.0.1:{}", server.port());
    let ledger = RedisLedger::open(&url, "test").expect("an address");
    let mut process = one_that_holds(&ledger).await;
    process.pool().held = Some(ms(1_000));
    process.exchange(&ledger).await;
    assert!(ledger.status().await.is_ok());

    server.run(&["ACL", "SETUSER", "toll", "-evalsha"]).await;
    let away = is_away(&ledger, &mut process).await.to_string();
    assert!(away.to_lowercase().contains("noperm"), "{away}");
}

#[tokio::test]
async fn databases_of_one_server_are_apart() {
    let server = Server::start().await;
    let url = format!("{}/3", server.url());
    let ledger = RedisLedger::open(&url, "test").expect("an address");
    Process::new(1, &by_the_minute()).exchange(&ledger).await;
    assert_eq!(server.ledger().status().await, Ok(None));
    assert!(ledger.status().await.expect("it answers").is_some());
}

// ===== the way to it =====

#[tokio::test]
async fn a_report_whose_answer_was_cut_off_counts_once() {
    let server = Server::start().await;
    let shim = Shim::before(server.port()).await;
    let ledger = shim.ledger();
    let mut process = one_that_holds(&ledger).await;
    process.want(tokens(2_000));
    let report = process.next().clone();
    shim.cut_answers(true);
    ledger.exchange(&report).await.expect_err("cut off");
    shim.cut_answers(false);
    let grant = patiently(&ledger, &report).await;
    assert_eq!(grant.pools[0].drawn, tokens(2_000));
    process.take_in(&grant);
    process.want(Amounts::NOTHING);
    process.exchange(&ledger).await;
    let status = ledger
        .status()
        .await
        .expect("it answers")
        .expect("a ledger");
    assert_eq!(status.pools[0].meters[0].held, 3_000);
}

#[tokio::test]
async fn a_report_that_is_run_late_charges_nothing() {
    let server = Server::start().await;
    let shim = Shim::before(server.port()).await;
    let ledger = shim.ledger();
    let mut process = one_that_holds(&ledger).await;
    let answered = process.exchange(&ledger).await.answered;
    process.want(tokens(2_000));
    // Beyond the half second that its reports are waited for.
    shim.delay_requests(ms(900));
    is_away(&ledger, &mut process).await;
    tokio::time::sleep(ms(1_200)).await;
    let status = server.ledger().status().await.expect("it answers");
    let status = status.expect("a ledger");
    assert_eq!(status.answered, answered, "it came, and was not taken in");
    assert_eq!(status.pools[0].meters[0].held, 1_000);
}

// ===== the clock =====

async fn on_a_clock() -> Option<(TempDir, Clock, Server)> {
    let folder = TempDir::new().expect("a folder");
    let (clock, server) = Clock::with_server(folder.path(), BEGIN).await?;
    Some((folder, clock, server))
}

/// An exchange while the machine's clock shows this many milliseconds since it was set first.
async fn at(
    millis: i64,
    clock: &Clock,
    process: &mut Process,
    ledger: &RedisLedger,
    last: Stamp,
) -> Grant {
    clock.set(BEGIN.saturating_add_signed(millis * 1_000));
    let mut report = process.next().clone();
    let is_known = report.seen.is_some();
    report.expires = is_known.then(|| last.after(Duration::from_secs(3_600)));
    process.report.expires = report.expires;
    let grant = patiently(ledger, &report).await;
    process.take_in(&grant);
    grant
}

/// Lets the ledger learn of these for five seconds, each reporting every second.
async fn known<const N: usize>(
    clock: &Clock,
    mut processes: [&mut Process; N],
    ledger: &RedisLedger,
) -> Stamp {
    let mut last = Stamp(0);
    for second in 0..6 {
        for process in &mut processes {
            last = at(second * 1_000, clock, process, ledger, last).await.at;
        }
    }
    last
}

#[tokio::test]
async fn a_clock_that_is_set_back_credits_nothing_twice() {
    let Some((_folder, clock, server)) = on_a_clock().await else {
        return;
    };
    let ledger = server.ledger();
    let mut process = Process::new(1, &by_the_minute());
    let last = known(&clock, [&mut process], &ledger).await;
    process.want(tokens(40_000));
    let grant = at(6_000, &clock, &mut process, &ledger, last).await;
    assert_eq!(grant.pools[0].levels, [20_000]);
    process.want(Amounts::NOTHING);
    process.send(tokens(40_000));
    process.land();

    // An hour back: the ledger's clock stands still for that instant, and goes on.
    let back = at(6_000 - 3_600_000, &clock, &mut process, &ledger, grant.at).await;
    assert_eq!((back.at, back.pools[0].levels[0]), (grant.at, 20_000));
    let later = at(7_000 - 3_600_000, &clock, &mut process, &ledger, back.at).await;
    assert_eq!(later.at, grant.at.after(Duration::from_secs(1)));
    assert_eq!(later.pools[0].levels, [21_000]);
}

#[tokio::test]
async fn a_clock_that_is_set_ahead_credits_nothing() {
    let Some((_folder, clock, server)) = on_a_clock().await else {
        return;
    };
    let ledger = server.ledger();
    let mut process = Process::new(1, &by_the_minute());
    let mut last = known(&clock, [&mut process], &ledger).await;
    process.want(tokens(40_000));
    last = at(6_000, &clock, &mut process, &ledger, last).await.at;
    process.send(tokens(40_000));
    process.want(Amounts::NOTHING);
    process.land();
    at(6_000, &clock, &mut process, &ledger, last).await;

    let ahead = at(3_606_000, &clock, &mut process, &ledger, last).await;
    assert!(
        !ahead.learning.is_zero(),
        "as if nobody had come for an hour"
    );
    assert_eq!(ahead.pools[0].levels, [20_000]);
}

#[tokio::test]
async fn what_a_silent_process_held_comes_back_by_time() {
    let Some((_folder, clock, server)) = on_a_clock().await else {
        return;
    };
    let ledger = server.ledger();
    let (mut process, mut other) = (
        Process::new(1, &by_the_minute()),
        Process::new(2, &by_the_minute()),
    );
    let last = known(&clock, [&mut process, &mut other], &ledger).await;
    process.want(tokens(10_000));
    process.pool().max_slots = Some(4);
    process.pool().slots_wanted = 4;
    let grant = at(6_000, &clock, &mut process, &ledger, last).await;
    assert_eq!((grant.pools[0].slots, grant.pools[0].slots_leased), (4, 4));
    // It is killed. Its slots come back when its lease has ended, two seconds later.
    other.pool().max_slots = Some(4);
    for (millis, leased, held) in [(7_000, 4, 10_000), (8_001, 0, 10_000), (10_001, 0, 0)] {
        let grant = at(millis, &clock, &mut other, &ledger, last).await;
        assert_eq!(grant.pools[0].slots_leased, leased, "at {millis} ms");
        let status = ledger
            .status()
            .await
            .expect("it answers")
            .expect("a ledger");
        assert_eq!(status.pools[0].meters[0].held, held, "at {millis} ms");
    }
}
