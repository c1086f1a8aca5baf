//! An account that changes while it is in use.

use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response};
use http_body_util::Full;
use tokio::time::{Instant, sleep};
use tollhouse_openai::call::Endpoint;
use tollhouse_openai::{Account, AccountConfig, Limit, PolicyConfig, Window};
use tollhouse_sim::Sim;
use tower::{Layer, Service, ServiceExt, service_fn};

use super::{SEC, call, chat, wide};

/// Every call takes so long.
fn answers(
    after: Duration,
) -> impl Service<Request<Bytes>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ Sync
+ 'static {
    service_fn(move |_: Request<Bytes>| async move {
        sleep(after).await;
        Ok(Response::new(Full::from("{}")))
    })
}

/// Nothing but so many tokens a minute.
fn plain(tokens: u64) -> PolicyConfig {
    let mut config = wide();
    config.tokens_per_minute = Limit::per_minute(tokens);
    config.headroom = 0.0;
    config.window = Window::Off;
    config.cautious_start = false;
    config
}

fn account(defaults: PolicyConfig) -> Account {
    let mut config = AccountConfig::default();
    config.defaults = defaults;
    Account::from_config(config).expect("a good config")
}

fn seconds(start: Instant) -> Duration {
    start.elapsed()
}

/// 600 tokens a minute until 10 s, 6,000 from then on: 100 are there by then, and the
/// other 500 take 5 s.
#[tokio::test(start_paused = true)]
async fn who_waits_sees_a_raised_limit_at_once() {
    let account = account(plain(600));
    let client = account.layer().layer(answers(Duration::ZERO));
    let start = Instant::now();
    call(&client, chat("gpt-4o", 600)).await;
    let waiter = tokio::spawn({
        let client = client.clone();
        async move {
            call(&client, chat("gpt-4o", 600)).await;
            seconds(start)
        }
    });
    sleep(10 * SEC).await;
    let changes = account
        .update(|config| config.defaults.tokens_per_minute = Limit::per_minute(6_000))
        .expect("a good change");
    assert_eq!(
        changes.to_string(),
        "[defaults] tokens_per_minute: 6000, until now 600"
    );
    assert_eq!(waiter.await.expect("no panic"), 15 * SEC);
}

/// Fewer slots cancel nobody, and let nobody in until enough are free; the account's as
/// well as a pool's.
#[tokio::test(start_paused = true)]
async fn fewer_slots_drain() {
    for of_account in [false, true] {
        let account = account(plain(1_000_000));
        let set = |slots: usize| {
            account.update(|config| match of_account {
                true => config.max_concurrency = Some(slots),
                false => config.defaults.max_concurrency = slots,
            })
        };
        set(3).expect("a good change");
        let client = account.layer().layer(answers(10 * SEC));
        let start = Instant::now();
        let ask = || {
            let client = client.clone();
            tokio::spawn(async move {
                call(&client, chat("gpt-4o", 100)).await;
                seconds(start).as_secs()
            })
        };
        let first: Vec<_> = (0..3).map(|_| ask()).collect();
        sleep(SEC).await;
        set(1).expect("a good change");
        let later: Vec<_> = (0..2).map(|_| ask()).collect();
        let ended = join_all(first.into_iter().chain(later)).await;
        let ended: Vec<_> = ended.into_iter().map(Result::unwrap).collect();
        assert_eq!(ended, [10, 10, 10, 20, 30], "of the account: {of_account}");
    }
}

/// Who is in flight when slots of the account are first limited counts among them.
#[tokio::test(start_paused = true)]
async fn slots_of_the_account_that_come_late_count_who_is_in_flight() {
    let account = account(plain(1_000_000));
    let client = account.layer().layer(answers(10 * SEC));
    let start = Instant::now();
    let ask = |model: &'static str| {
        let client = client.clone();
        tokio::spawn(async move {
            call(&client, chat(model, 100)).await;
            seconds(start).as_secs()
        })
    };
    let first = [ask("gpt-4o"), ask("another")];
    sleep(SEC).await;
    let changed = account.update(|config| config.max_concurrency = Some(2));
    changed.expect("a good change");
    let later = ask("a third");
    let ended = join_all(first.into_iter().chain([later])).await;
    let ended: Vec<_> = ended.into_iter().map(Result::unwrap).collect();
    assert_eq!(ended, [10, 10, 20]);
}

/// A model that a section comes to name, or no longer does, or that is described elsewhere, has
/// spent what it has spent.
#[tokio::test(start_paused = true)]
async fn a_pool_that_is_called_otherwise_is_the_same_pool() {
    let defaults = "[defaults]\nheadroom = 0\nwindow = \"off\"\n";
    let account = Account::from_toml(defaults).expect("a good config");
    let budget = || account.budget("gpt-4o", Endpoint::Chat);
    let held = budget().reserve(3_000).await.expect("a full budget");
    held.launched();
    held.settle(30_000);
    let until = Instant::now() + 60 * SEC;
    budget().hold(until);
    assert_eq!(budget().snapshot().level, 0);
    for sections in [
        "[models.gpt-4o]\nmax_concurrency = 9\n",
        "[models.\"gpt-4o*\"]\n",
        "[models.gpt-4o]\npool = \"big\"\n[pools.big]\nmax_concurrency = 4\n",
        "",
    ] {
        let changed = account.reload_toml(&format!("{defaults}{sections}"));
        changed.expect("a good config");
        let now = budget().snapshot();
        assert_eq!((now.level, now.held_until), (0, Some(until)), "{sections}");
        assert_eq!(account.snapshot().pools.len(), 1, "{sections}");
    }
}

/// Models that had a pool each come into one, in which one of them goes on; who is in the others
/// is not forgotten.
#[tokio::test(start_paused = true)]
async fn pools_that_are_left_are_closed_and_waited_for() {
    let account = Account::from_toml("[defaults]\nmax_concurrency = 1\nstagger_seconds = 0\n");
    let account = account.expect("a good config");
    let client = account.layer().layer(answers(10 * SEC));
    let ask = |model: &'static str| {
        let client = client.clone();
        tokio::spawn(async move { client.oneshot(chat(model, 100)).await.is_ok() })
    };
    let calls = ["a-1", "a-1", "a-2", "a-2"].map(ask);
    sleep(SEC).await;
    let changed = account.reload_toml("[models.\"a-*\"]\nmax_concurrency = 1\n");
    changed.expect("a good config");
    let now = account.snapshot();
    assert_eq!((now.in_flight, now.waiting, now.pools.len()), (2, 2, 1));
    let start = Instant::now();
    account.close();
    account.idle().await;
    assert_eq!(seconds(start), 9 * SEC);
    let let_in = join_all(calls).await.into_iter().map(Result::unwrap);
    assert_eq!(let_in.collect::<Vec<_>>(), [true, false, true, false]);
    assert_eq!(account.snapshot().in_flight, 0);
}

/// It would be made again for ever, each time finding that another one came in between.
#[tokio::test(start_paused = true)]
async fn a_change_within_a_change_of_the_same_account_is_refused() {
    let (account, other) = (account(plain(600)), account(plain(600)));
    let mut runs = 0;
    let changed = account.update(|config| {
        runs += 1;
        config.max_concurrency = Some(2);
        // Whatever does not change it may be asked.
        assert_eq!(account.config().max_concurrency, None);
        assert!(account.snapshot().pools.is_empty());
        account.budget("gpt-4o", Endpoint::Chat);
        let mut changed = other.update(|config| config.max_concurrency = Some(3));
        changed.expect("a change of another one");
        for clone in [&account, &account.clone()] {
            changed = clone.update(|config| config.max_concurrency = Some(runs));
            assert_eq!(
                changed.unwrap_err().to_string(),
                "Account::update was called within a change of the same account"
            );
            let read = clone.reload_toml("[account]\nmax_concurrency = 5");
            assert!(read.is_err());
        }
    });
    assert_eq!(
        changed.expect("a good change").to_string(),
        "[account] max_concurrency: 2, until now not said"
    );
    assert_eq!((runs, account.config().max_concurrency), (1, Some(2)));
    assert_eq!(other.config().max_concurrency, Some(3));
    // One that panics leaves nothing behind.
    let unwinds = catch_unwind(AssertUnwindSafe(|| account.update(|_| panic!("a user's"))));
    assert!(unwinds.is_err());
    let changed = account.update(|config| config.max_concurrency = None);
    assert_eq!(changed.expect("a good change").iter().count(), 1);
}

/// FAILURES 40: a file that is wrong changes nothing, and says what is wrong, where.
#[tokio::test(start_paused = true)]
async fn failure_40_a_wrong_file_changes_nothing() {
    let account = Account::from_toml("[models.\"gpt-4o*\"]\ntokens_per_minute = 600").unwrap();
    let client = account.layer().layer(answers(Duration::ZERO));
    call(&client, chat("gpt-4o", 100)).await;
    let (config, before) = (account.config(), account.snapshot());
    let error = account
        .reload_toml("[models.\"gpt-4o*\"]\ntokens_per_minute = 6000\nheadrom = 0.1")
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "line 3, [models.\"gpt-4o*\"]: headrom is not known: headroom is meant, perhaps"
    );
    let error = account.update(|config| {
        config.defaults.stagger = SEC;
        config.set_caller("web", 0);
    });
    assert_eq!(
        error.unwrap_err().to_string(),
        "[callers.\"web\"]: weight is 0: allowed is a whole number from 1 to 1000000"
    );
    assert_eq!(account.config(), config);
    assert_eq!(account.snapshot(), before);
}

/// Fails at once, always; tells the instants at which it was asked.
fn down(
    seen: &Arc<Mutex<Vec<Instant>>>,
) -> impl Service<Request<Bytes>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send>
+ Clone
+ use<> {
    let seen = Arc::clone(seen);
    service_fn(move |_: Request<Bytes>| {
        seen.lock().expect("no panic").push(Instant::now());
        let answer = Response::builder().status(503).body(Full::from("{}"));
        std::future::ready(Ok(answer.expect("an answer")))
    })
}

/// How often a call is sent, and after how long at most, is what the account says when the
/// call comes, whenever its layer was made; and the calls of all layers draw on one budget.
#[tokio::test(start_paused = true)]
async fn attempts_backoffs_and_their_budget_reach_layers_that_exist() {
    let account = account(plain(1_000_000));
    let seen = Arc::default();
    let client = account.layer().layer(down(&seen));
    let attempts = async || {
        let begun = Instant::now();
        seen.lock().expect("no panic").clear();
        assert_eq!(call(&client, chat("gpt-4o", 100)).await, 503);
        let seen = seen.lock().expect("no panic");
        (seen.len(), begun.elapsed())
    };
    assert_eq!(attempts().await.0, 5);
    let change = |max_attempts, base, reserve| {
        let changed = account.update(|config| {
            config.defaults.retry_max_attempts = max_attempts;
            config.defaults.backoff_base = base;
            (
                config.defaults.retry_budget_share,
                config.defaults.retry_budget_reserve,
            ) = reserve;
        });
        changed.expect("a good change");
    };
    change(8, Duration::from_millis(1), (None, 0));
    let (eight, elapsed) = attempts().await;
    assert_eq!(eight, 8);
    // 1 + 2 + 4 + .. ms, full jitter.
    assert!(elapsed <= Duration::from_millis(127), "{elapsed:?}");
    change(1, Duration::from_millis(1), (None, 0));
    assert_eq!(attempts().await.0, 1);

    change(8, Duration::from_millis(1), (Some(0.0), 6));
    // What was spent of it within the last minute stays spent.
    let left = account.layer().layer(down(&seen));
    seen.lock().expect("no panic").clear();
    assert_eq!(call(&left, chat("gpt-4o", 100)).await, 503);
    assert_eq!(seen.lock().expect("no panic").len(), 3);
    assert_eq!(attempts().await.0, 1);
}

/// So does whether usage is asked for.
#[tokio::test(start_paused = true)]
async fn asking_for_usage_reaches_layers_that_exist() {
    let account = account(plain(1_000_000));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&asked);
    let client = account
        .layer()
        .layer(service_fn(move |request: Request<Bytes>| {
            let body = String::from_utf8_lossy(request.body());
            notes
                .lock()
                .expect("no panic")
                .push(body.contains("include_usage"));
            std::future::ready(Ok::<_, Infallible>(Response::new(Full::from("{}"))))
        }));
    for asks in [false, true, false] {
        let changed = account.update(|config| config.defaults.ask_for_usage = asks);
        changed.expect("a good change");
        let body = r#"{"model":"gpt-4o","max_tokens":9,"stream":true,"messages":[]}"#;
        let request = Request::post("/v1/chat/completions").body(Bytes::from(body));
        call(&client, request.expect("a request")).await;
    }
    assert_eq!(*asked.lock().expect("no panic"), [false, true, false]);
}

/// A section that is new takes the models that it names from then on, with what they have spent
/// and who waits for them: 10 tokens are there, 20 more come each second.
#[tokio::test(start_paused = true)]
async fn sections_come_and_go() {
    let account = account(plain(600));
    let client = account.layer().layer(answers(Duration::ZERO));
    let start = Instant::now();
    call(&client, chat("gpt-4o", 600)).await;
    let waiter = tokio::spawn({
        let client = client.clone();
        async move {
            call(&client, chat("gpt-4o", 300)).await;
            seconds(start)
        }
    });
    sleep(SEC).await;
    let changes = account.update(|config| {
        config.set_model("gpt-4o*", |pool| {
            pool.tokens_per_minute = Limit::per_minute(1_200);
        });
    });
    assert_eq!(
        changes.expect("a good change").to_string(),
        "[models.\"gpt-4o*\"] is new\n\
         [models.\"gpt-4o*\"] tokens_per_minute: 1200, until now not said"
    );
    call(&client, chat("gpt-4o", 1_200)).await;
    assert_eq!(seconds(start), Duration::from_millis(75_500));
    assert_eq!(account.snapshot().pools[0].name, "gpt-4o*");
    let waited = waiter.await.expect("no panic");
    assert_eq!(waited, Duration::from_millis(15_500));

    let changes = account.reload_toml("").expect("a good file");
    let gone = changes.iter().find(|change| change.key.is_empty());
    assert_eq!(gone.unwrap().to_string(), "[models.\"gpt-4o*\"] is gone");
    assert_eq!(account.config().defaults, PolicyConfig::default());
}

/// Whatever changes while calls go by, the provider refuses nothing, and at the end
/// everything is given back.
#[tokio::test(start_paused = true)]
async fn changes_at_any_moment_lose_nothing() {
    let mut random = 0x5eed_u64;
    let mut draw = |below: u64| {
        // A linear congruential generator: Knuth's constants.
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (random >> 33) % below
    };
    let sim = Sim::builder().build().expect("a simulator");
    let account = account(wide());
    let client = account.layer().layer(sim.service());
    let calls: Vec<_> = (0..400)
        .map(|n| {
            let (client, after) = (client.clone(), draw(400));
            let tokens = 50 + draw(1_500);
            tokio::spawn(async move {
                sleep(Duration::from_secs(after)).await;
                let model = if n % 3 == 0 { "gpt-4o-mini" } else { "gpt-4o" };
                call(&client, chat(model, tokens)).await
            })
        })
        .collect();
    for _ in 0..200 {
        sleep(Duration::from_millis(draw(4_000))).await;
        let (slots, headroom) = (1 + draw(20) as usize, draw(50) as f64 / 100.0);
        let (stagger, weight) = (Duration::from_millis(draw(300)), 1 + draw(9) as u32);
        let (of_account, section) = (draw(2) == 0, draw(2) == 0);
        let change = |config: &mut AccountConfig| {
            config.defaults.max_concurrency = slots;
            config.defaults.headroom = headroom;
            config.defaults.stagger = stagger;
            config.max_concurrency = of_account.then_some(slots);
            config.set_caller("web", weight);
            if section {
                config.set_model("gpt-4o-mini", |pool| pool.headroom = headroom);
            }
        };
        account.update(change).expect("a good change");
    }
    for call in calls {
        assert_eq!(call.await.expect("no panic"), 200);
    }
    assert_eq!(sim.report().total.rejected.total(), 0);
    let at_end = account.snapshot();
    assert_eq!((at_end.waiting, at_end.in_flight), (0, 0));
    let left = at_end.pools.iter().flat_map(|pool| &pool.meters);
    assert!(
        left.clone().all(|meter| meter.outstanding == 0),
        "{at_end:?}"
    );
}

/// Two who change at once do not undo each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_changes_at_once_are_both_made() {
    let account = account(plain(600));
    let client = account.layer().layer(answers(Duration::ZERO));
    call(&client, chat("gpt-4o", 100)).await;
    let tasks = (0..4).map(|n| {
        let account = account.clone();
        tokio::spawn(async move {
            for round in 1..=100 {
                let name = format!("caller-{n}");
                account
                    .update(|config| config.set_caller(&name, round))
                    .unwrap();
                account
                    .update(|config| config.defaults.est_tokens_per_run += 1)
                    .unwrap();
            }
        })
    });
    for task in join_all(tasks).await {
        task.expect("no panic");
    }
    let config = account.config();
    assert_eq!(config.defaults.est_tokens_per_run, 7_000 + 400);
    assert!(config.callers().all(|(_, weight)| weight == 100));
    assert_eq!(config.callers().count(), 4);
}
