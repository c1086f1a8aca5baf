//! When pools come and go.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response};
use http_body_util::Full;
use tokio::time::{advance, sleep, timeout};
use tollhouse_openai::call::Endpoint;
use tollhouse_openai::{Account, AccountConfig, Limit, Policy, Refused, Window};
use tower::{Layer, Service, ServiceExt, service_fn};

use super::{SEC, call, chat, wide};
use crate::support::events::Events;

fn answers(
    used: u64,
    after: Duration,
) -> impl Service<Request<Bytes>, Response = Response<Full<Bytes>>, Error = std::io::Error, Future: Send>
+ Clone {
    service_fn(move |_: Request<Bytes>| async move {
        sleep(after).await;
        let told = format!(r#"{{"usage": {{"total_tokens": {used}}}}}"#);
        Ok(Response::new(Full::from(told)))
    })
}

/// A pool for each model.
fn account() -> Account {
    let mut config = AccountConfig::default();
    config.defaults = wide();
    Account::from_config(config).expect("a good config")
}

fn names(account: &Account) -> Vec<String> {
    let pools = account.snapshot().pools.into_iter();
    pools.map(|pool| pool.name).collect()
}

/// FAILURES 38: a stranger's model names cost no memory.
#[tokio::test(start_paused = true)]
async fn failure_38_strangers_beyond_a_thousand_share_a_pool() {
    let account = account();
    let client = account.layer().layer(answers(10, Duration::ZERO));
    for n in 0..2_000 {
        call(&client, chat(&format!("stranger-{n}"), 10)).await;
    }
    let snapshot = account.snapshot();
    assert_eq!(snapshot.pools.len(), 1_001);
    let shared = snapshot.pools.iter().find(|pool| pool.name == "default");
    let meter = &shared.expect("a shared pool").meters[0];
    // The thousand that found no pool of their own.
    assert_eq!(meter.level, 25_500 - 1_000 * 10);
    // A name as long as a letter from home is none's.
    call(&client, chat(&"x".repeat(100_000), 10)).await;
    assert_eq!(account.snapshot().pools.len(), 1_001);
    // Once they are at rest there is room again.
    advance(600 * SEC).await;
    assert_eq!(names(&account), [""; 0]);
    call(&client, chat("stranger-1999", 10)).await;
    assert_eq!(names(&account), ["stranger-1999"]);
}

#[tokio::test(start_paused = true)]
async fn a_pool_is_dropped_when_its_window_is_empty() {
    let account = account();
    let client = account.layer().layer(answers(600, Duration::ZERO));
    call(&client, chat("gpt-4o", 600)).await;
    advance(60 * SEC - Duration::from_millis(1)).await;
    assert_eq!(names(&account), ["gpt-4o"]);
    advance(Duration::from_millis(1)).await;
    assert_eq!(names(&account), [""; 0]);
}

/// Where limits are to be learned, answers tell one.
fn learning() -> (
    Account,
    impl Service<Request<Bytes>, Response = impl Sized, Error = tollhouse::Error> + Clone,
) {
    let mut config = AccountConfig::default();
    config.defaults = wide();
    config.defaults.tokens_per_minute = Limit::Auto;
    let account = Account::from_config(config).expect("a good config");
    let client = account.layer().layer(service_fn(async |_: Request<Bytes>| {
        let told = Response::builder().header("x-ratelimit-limit-tokens", 70_000);
        let answer = told.body(Full::from(r#"{"usage": {"total_tokens": 600}}"#));
        Ok::<_, std::io::Error>(answer.expect("an answer"))
    }));
    (account, client)
}

/// A new one would have to learn them again, and let one call at a time in until then.
#[tokio::test(start_paused = true)]
async fn a_pool_that_has_learned_its_limits_is_not_dropped() {
    let (account, client) = learning();
    drop(
        client
            .oneshot(chat("gpt-4o", 600))
            .await
            .expect("an answer"),
    );
    advance(24 * 3_600 * SEC).await;
    let pools = account.snapshot().pools;
    assert_eq!((pools.len(), pools[0].meters[0].limit), (1, 70_000));
}

/// Those that were used last stay longest.
#[tokio::test(start_paused = true)]
async fn what_was_learned_is_dropped_where_there_is_no_room() {
    let (account, client) = learning();
    let ask = async |model: String| {
        let answer = client.clone().oneshot(chat(&model, 600)).await;
        drop(answer.expect("an answer"));
        advance(SEC).await;
    };
    for n in 0..1_000 {
        ask(format!("stranger-{n}")).await;
    }
    ask("stranger-0".into()).await;
    advance(600 * SEC).await;
    assert_eq!(names(&account).len(), 1_000);
    for n in 1_000..1_050 {
        ask(format!("stranger-{n}")).await;
        assert!(names(&account).len() <= 1_000);
    }
    let names = names(&account);
    assert!(!names.contains(&"default".to_owned()));
    for n in [0, 999, 1_000, 1_049] {
        assert!(names.contains(&format!("stranger-{n}")), "{n}");
    }
    assert!(!names.contains(&"stranger-1".to_owned()));
}

/// How far estimates are off is learned, too.
#[tokio::test(start_paused = true)]
async fn a_pool_that_has_learned_a_factor_is_not_dropped() {
    let mut config = AccountConfig::default();
    config.defaults = wide();
    config.defaults.learn_factor = true;
    let account = Account::from_config(config).expect("a good config");
    let client = account.layer().layer(answers(600, Duration::ZERO));
    call(&client, chat("gpt-4o", 600)).await;
    advance(600 * SEC).await;
    assert_eq!(names(&account), ["gpt-4o"]);
}

#[tokio::test(start_paused = true)]
async fn a_pool_is_not_dropped_in_debt() {
    let mut config = AccountConfig::default();
    config.defaults = wide();
    config.defaults.window = Window::Off;
    let account = Account::from_config(config).expect("a good config");
    let client = account.layer().layer(answers(2 * 25_500, Duration::ZERO));
    call(&client, chat("gpt-4o", 600)).await;
    // Two minutes of debt, and the full bucket.
    advance(119 * SEC).await;
    assert_eq!(names(&account), ["gpt-4o"]);
    advance(2 * SEC).await;
    assert_eq!(names(&account), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_pool_is_not_dropped_while_it_is_held_or_in_use() {
    let account = account();
    let budget = account.budget("gpt-4o", Endpoint::Chat);
    budget.hold(tokio::time::Instant::now() + 300 * SEC);
    advance(100 * SEC).await;
    assert_eq!(names(&account), ["gpt-4o"]);
    drop(budget);
    advance(199 * SEC).await;
    assert_eq!(names(&account), ["gpt-4o"], "held");
    advance(59 * SEC).await;
    assert_eq!(names(&account), ["gpt-4o"], "held a moment ago");
    advance(3 * SEC).await;
    assert_eq!(names(&account), [""; 0]);

    let client = account.layer().layer(answers(600, 1_000 * SEC));
    let busy = tokio::spawn(async move { call(&client, chat("gpt-4o", 600)).await });
    sleep(500 * SEC).await;
    assert_eq!(names(&account), ["gpt-4o"], "in flight");
    busy.abort();
}

#[tokio::test(start_paused = true)]
async fn close_turns_away_and_idle_waits_for_those_in_flight() {
    let account = account();
    let client = account.layer().layer(answers(10, 7 * SEC));
    let start = tokio::time::Instant::now();
    let first = client.clone();
    let first = tokio::spawn(async move { call(&first, chat("gpt-4o", 100)).await });
    tokio::task::yield_now().await;
    account.close();
    for model in ["gpt-4o", "another"] {
        let error = client.clone().oneshot(chat(model, 100)).await.unwrap_err();
        assert_eq!(error.refused(), Some(&Refused::Closed), "{model}");
    }
    timeout(30 * SEC, account.idle()).await.expect("in time");
    assert_eq!(start.elapsed(), 7 * SEC);
    assert_eq!(first.await.expect("no panic"), 200);
}

/// Nobody is kept at a shutdown by the wait for a next attempt.
#[tokio::test(start_paused = true)]
async fn close_turns_away_who_waits_for_a_next_attempt() {
    let busy = service_fn(async |_: Request<Bytes>| {
        Response::builder()
            .status(429)
            .header("retry-after", "60")
            .body(Full::from("{}"))
    });
    let account = account();
    let policy = Policy::default().stagger(Duration::ZERO);
    let start = tokio::time::Instant::now();
    for (client, close) in [
        (
            account.layer().layer(busy),
            &(|| account.close()) as &dyn Fn(),
        ),
        (policy.layer().layer(busy), &|| policy.close()),
    ] {
        let begun = start.elapsed();
        let closes = async {
            sleep(10 * SEC).await;
            close();
        };
        let (ended, ()) = tokio::join!(client.oneshot(chat("gpt-4o", 100)), closes);
        let error = ended.unwrap_err();
        assert_eq!(error.refused(), Some(&Refused::Closed));
        assert_eq!(start.elapsed() - begun, 10 * SEC);
    }
}

/// P1: who waits for a slot of the account's stands in its pool's line, and holds nothing.
#[tokio::test(start_paused = true)]
async fn who_waits_for_a_slot_of_the_account_holds_nothing_and_is_turned_away_at_close() {
    let mut config = AccountConfig::default();
    config.defaults = wide();
    config.max_concurrency = Some(1);
    let account = Account::from_config(config).expect("a good config");
    let client = account.layer().layer(answers(10, 7 * SEC));
    let ask = |model: &'static str| {
        let client = client.clone();
        tokio::spawn(async move { client.oneshot(chat(model, 100)).await })
    };
    let first = ask("gpt-4o");
    tokio::task::yield_now().await;
    let waits = ["gpt-4o", "another"].map(ask);
    sleep(SEC).await;
    let now = account.snapshot();
    assert_eq!((now.in_flight, now.waiting), (1, 2));
    let held: Vec<_> = now
        .pools
        .iter()
        .map(|pool| (pool.in_flight, pool.waiting))
        .collect();
    assert_eq!(held, [(0, 1), (1, 1)], "another, gpt-4o");
    let spent: u64 = now.pools[0]
        .meters
        .iter()
        .map(|meter| meter.outstanding)
        .sum();
    assert_eq!(spent, 0, "no tokens while it waits for a slot");

    account.close();
    for call in waits {
        let error = call.await.expect("no panic").unwrap_err();
        assert_eq!(error.refused(), Some(&Refused::Closed));
    }
    assert!(first.await.expect("no panic").is_ok());
    timeout(30 * SEC, account.idle()).await.expect("in time");
}

#[tokio::test(start_paused = true)]
async fn a_model_may_be_told_by_a_closure() {
    let account = account().model_by(|_, headers| {
        let team = headers.get("x-team")?.to_str().ok()?;
        Some(team.to_owned())
    });
    let client = account.layer().layer(answers(10, Duration::ZERO));
    let mut request = chat("gpt-4o", 100);
    request
        .headers_mut()
        .insert("x-team", "blue".parse().unwrap());
    assert_eq!(&*account.place(&request).pool, "blue");
    call(&client, request).await;
    call(&client, chat("gpt-4o-2024-08-06", 100)).await;
    let mut azure = chat("gpt-4o", 100);
    *azure.uri_mut() = "/openai/deployments/mine/chat/completions".parse().unwrap();
    *azure.body_mut() = Bytes::from(r#"{"messages":[],"max_tokens":5}"#);
    call(&client, azure).await;
    assert_eq!(names(&account), ["blue", "gpt-4o", "mine"]);
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_lets_everything_pass_and_tells_what_would_have_been() {
    let (events, _guard) = Events::hear();
    let mut config = AccountConfig::default();
    config.defaults = wide();
    config.dry_run = true;
    let account = Account::from_config(config).expect("a good config");
    let client = account.layer().layer(answers(20_000, Duration::ZERO));
    for tokens in [20_000, 20_000, 100_000] {
        let passed = client
            .clone()
            .oneshot(chat("gpt-4o", tokens))
            .now_or_never();
        assert!(passed.expect("at once").is_ok());
    }
    let told = account.snapshot().dry_run.expect("a dry run");
    assert_eq!(
        (told.would_have_waited, told.would_have_been_refused),
        (1, 1)
    );
    assert_eq!(events.count("would have waited"), 1);
    assert_eq!(events.count("would have been refused"), 1);
}

#[test]
fn an_account_is_made_of_a_policy() {
    let account = Account::new(Policy::default().name("batch"));
    assert_eq!(account.config().defaults.name.as_deref(), Some("batch"));
    let json = serde_json::to_value(account.snapshot()).expect("plain data");
    assert_eq!(json["pools"], serde_json::json!([]));
}
