use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http_body_util::BodyExt;
use serde_json::Value;
use tokio::time::{Instant, advance, sleep};
use tollhouse_openai::call::Endpoint;
use tollhouse_openai::{Account, Limit, Policy};

use super::history::{CALLS, POOLS, SAMPLES};
use super::*;

const SEC: Duration = Duration::from_secs(1);

fn account() -> Account {
    let policy = Policy::default().tpm_limit(Limit::per_minute(30_000));
    Account::new(policy.headroom(0.0).stagger(Duration::ZERO))
}

/// What one who begins to watch now is told.
fn told(page: &Page) -> Value {
    read(&page.told(&mut Cursor::default()))
}

fn read(told: &Told) -> Value {
    serde_json::from_str(&told.to_json()).expect("JSON")
}

fn look(account: &Account) -> impl Fn() -> Look + use<> {
    let account = account.clone();
    move || Look::of(vec![account.snapshot()])
}

fn call(what: impl Into<String>) -> Ended {
    Ended {
        what: what.into(),
        ..Ended::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_has_one_sample_whoever_looks() {
    let (page, account) = (Page::new(Kind::Proxy), account());
    let budget = account.budget("gpt-4o", Endpoint::Chat);
    let reserved = budget.reserve(12_000).await.unwrap();
    page.launched(&account.snapshot().pools[0].name, 12_000);
    for _ in 0..3 {
        page.sample(look(&account));
    }
    advance(SEC).await;
    reserved.launched();
    reserved.settle(12_000);
    page.sample(look(&account));
    let now = told(&page);
    let pool = &now["pools"][0];
    // The minute's window still counts them.
    // When, limit, left, launches, their tokens, waiting, held.
    assert_eq!(
        pool["points"],
        serde_json::json!([
            [0, 30_000, 18_000, 1, 12_000, 0, 0],
            [1, 30_000, 18_000, 0, 0, 0, 0]
        ])
    );
    assert_eq!(pool["meters"][0]["left"], 18_000);
    assert_eq!((&now["at"], &now["whole"]), (&1.0.into(), &true.into()));
}

#[tokio::test(start_paused = true)]
async fn what_never_left_is_taken_back_from_what_was_launched_last() {
    let (page, account) = (Page::new(Kind::Proxy), account());
    let _budget = account.budget("gpt-4o", Endpoint::Chat);
    let pool = account.snapshot().pools[0].name.clone();
    let points = || {
        page.sample(look(&account));
        let points = told(&page)["pools"][0]["points"].clone();
        let launches = |point: &Value| [point[3].as_u64(), point[4].as_u64()].map(Option::unwrap);
        let points = points.as_array().unwrap().iter().map(launches);
        points.collect::<Vec<_>>()
    };
    page.launched(&pool, 100);
    page.launched(&pool, 30);
    assert_eq!(points(), [[2, 130]]);
    advance(SEC).await;
    page.launched(&pool, 20);
    page.never_left(&pool, 20);
    page.never_left(&pool, 30);
    assert_eq!(points(), [[1, 100], [0, 0]]);
    page.never_left(&pool, 1_000);
    page.never_left("unknown", 1_000);
    assert_eq!(points(), [[0, 0], [0, 0]]);
}

#[tokio::test(start_paused = true)]
async fn all_that_is_kept_is_bounded() {
    let (page, account) = (Page::new(Kind::Proxy), account());
    let long = "x".repeat(1_000_000);
    for n in 0..1_000 {
        page.ended(call(format!("{n}{long}")));
        page.note(&long);
    }
    // Whoever calls makes up the names of pools.
    for n in 0..10_000 {
        page.launched(&format!("model-{n}-{}", &long[..200]), 1);
    }
    let _kept = account.budget("gpt-4o", Endpoint::Chat);
    for _ in 0..3 * SAMPLES {
        page.sample(look(&account));
        advance(SEC).await;
    }
    let now = page.told(&mut Cursor::default()).to_json();
    assert!(now.len() < 64 * 1_024, "{} bytes", now.len());
    let now: Value = serde_json::from_str(&now).unwrap();
    assert_eq!(now["recent"].as_array().unwrap().len(), CALLS);
    assert_eq!(now["calls"], 1_000);
    let pools = now["pools"].as_array().unwrap();
    assert_eq!(pools.len(), 1, "the others are long at rest");
    assert_eq!(pools[0]["points"].as_array().unwrap().len(), SAMPLES);
}

#[tokio::test(start_paused = true)]
async fn a_new_pool_takes_the_place_of_the_one_that_rests_longest() {
    let page = Page::new(Kind::Proxy);
    for n in 0..POOLS {
        page.launched(&format!("model-{n}"), 1);
        advance(SEC).await;
    }
    page.launched("model-0", 1);
    page.launched("one more", 1);
    let kept = |name: &str| page.history().pools.contains_key(name);
    assert_eq!(page.history().pools.len(), POOLS);
    assert!(kept("one more") && kept("model-0") && !kept("model-1"));
    // All others were asked in this very second.
    for n in 0..POOLS {
        page.launched(&format!("busy-{n}"), 1);
    }
    page.launched("too many", 1);
    assert!(!kept("too many"));
    assert_eq!(page.history().pools.len(), POOLS);
}

#[tokio::test(start_paused = true)]
async fn a_pool_whose_name_is_cut_off_is_one_and_pushes_nobody_out() {
    let page = Page::new(Kind::Proxy);
    let long = "x".repeat(1_000);
    for n in 1..POOLS {
        page.launched(&format!("model-{n}"), 1);
    }
    for _ in 0..2 {
        advance(SEC).await;
        page.launched(&long, 1);
    }
    let history = page.history();
    let models = history
        .pools
        .keys()
        .filter(|name| name.starts_with("model"));
    assert_eq!((models.count(), history.pools.len()), (POOLS - 1, POOLS));
}

#[tokio::test(start_paused = true)]
async fn who_reads_on_is_told_what_came_since_however_late() {
    let (page, account) = (Page::new(Kind::Proxy), account());
    let _kept = account.budget("gpt-4o", Endpoint::Chat);
    let (mut quick, mut slow) = (Cursor::default(), Cursor::default());
    let mut heard = Vec::new();
    for n in 0..5 {
        page.ended(call(n.to_string()));
        page.sample(look(&account));
        let told = read(&page.told(&mut quick));
        heard.push(told["recent"][0]["what"].clone());
        assert_eq!(told["recent"].as_array().unwrap().len(), 1);
        assert_eq!(told["pools"][0]["points"].as_array().unwrap().len(), 1);
        assert_eq!(told["whole"], n == 0);
        if n == 1 {
            page.told(&mut slow);
        }
        advance(SEC).await;
    }
    assert_eq!(heard, ["0", "1", "2", "3", "4"]);
    let late = read(&page.told(&mut slow));
    let points = late["pools"][0]["points"].as_array().unwrap().len();
    assert_eq!((late["recent"].as_array().unwrap().len(), points), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn holds_are_news_and_who_waits_has_a_place() {
    let (page, account) = (Page::new(Kind::Proxy), account());
    let budget = account.budget("gpt-4o", Endpoint::Chat);
    page.sample(look(&account));
    advance(SEC).await;
    budget.hold(Instant::now() + 20 * SEC);
    let hostile = "<script>alert(1)</script>";
    let ask = tollhouse_openai::Ask::of(1_000).caller(tollhouse_openai::Caller::new(hostile));
    let waits = tokio::spawn(budget.reserve(ask));
    tokio::task::yield_now().await;
    page.sample(look(&account));
    let now = told(&page);
    let pool = &now["pools"][0];
    assert_eq!(
        (&pool["waiting"], &pool["held_for_seconds"]),
        (&1.into(), &20.0.into())
    );
    assert_eq!(pool["points"][1][6], 1);
    let caller = &pool["callers"][0];
    assert_eq!(
        (&caller["name"], &caller["place"]),
        (&hostile.into(), &1.into())
    );
    assert_eq!(caller["wait_seconds"], 20.0);
    assert_eq!(now["happened"][0]["what"], "held");
    assert_eq!(now["happened"][0]["seconds"], 20.0);

    drop(waits.await.unwrap().unwrap());
    advance(SEC).await;
    page.sample(look(&account));
    assert_eq!(told(&page)["happened"][1]["what"], "opened");
}

#[tokio::test(start_paused = true)]
async fn watchers_hear_once_a_second_are_bounded_and_hear_the_last() {
    let (page, account) = (Page::new(Kind::Proxy), account());
    let kept = account.budget("gpt-4o", Endpoint::Chat);
    let watch = || page.events(Arc::new(look(&account)));
    let mut watchers: Vec<_> = (0..WATCHERS).map(|_| watch().expect("a seat")).collect();
    assert!(watch().is_none());
    drop(watchers.pop());
    let mut watcher = watch().expect("a seat is free again").into_body();

    let start = Instant::now();
    let mut hear = async || {
        let frame = watcher.frame().await?.expect("no error");
        let text = String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap();
        let json = text.strip_prefix("data: ").unwrap().trim_end();
        Some(serde_json::from_str::<Value>(json).unwrap())
    };
    for n in 0..3 {
        let told = hear().await.expect("an event");
        assert_eq!(
            (start.elapsed(), &told["whole"]),
            (n * SEC, &(n == 0).into())
        );
        assert_eq!(told["pools"][0]["points"][0][0], n);
    }
    // In the midst of a second, of which there is a sample.
    advance(SEC / 4).await;
    page.launched(&account.snapshot().pools[0].name, 500);
    let _reserved = kept.reserve(500).await.unwrap();
    page.close();
    let last = hear().await.expect("an event");
    assert_eq!(
        (&last["in_flight"], &last["pools"][0]["in_flight"]),
        (&1.into(), &1.into())
    );
    let points = serde_json::json!([[2, 30_000, 29_500, 1, 500, 0, 0]]);
    assert_eq!(last["pools"][0]["points"], points);
    assert_eq!(
        (start.elapsed(), &last["over"]),
        (2 * SEC + SEC / 4, &true.into())
    );
    assert!(hear().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn pools_of_one_name_in_several_accounts_are_shown_as_one() {
    let accounts = [account(), account()];
    for account in &accounts {
        let budget = account.budget("gpt-4o", Endpoint::Chat);
        let reserved = budget.reserve(1_000).await.unwrap();
        reserved.launched();
        reserved.settle(1_000);
    }
    let page = Page::new(Kind::Proxy);
    page.sample(|| Look::of(accounts.iter().map(Account::snapshot).collect()));
    let now = told(&page);
    assert_eq!(
        (&now["accounts"], now["pools"].as_array().unwrap().len()),
        (&2.into(), 1)
    );
    let meter = &now["pools"][0]["meters"][0];
    assert_eq!(
        (&meter["limit"], &meter["left"]),
        (&60_000.into(), &58_000.into())
    );
}

#[tokio::test(start_paused = true)]
async fn a_report_has_the_last_state_and_says_when() {
    let (page, account) = (Page::new(Kind::Batch), account());
    let _kept = account.budget("gpt-4o", Endpoint::Chat);
    page.ended(call("</script>"));
    let report = page.report(look(&account)(), 1_800_000_000);
    let (_, inside) = report.split_once("id=\"told\">").unwrap();
    let (inside, _) = inside.split_once("</script>").unwrap();
    let told: Value = serde_json::from_str(inside).expect("JSON");
    assert_eq!(
        (&told["over"], &told["written"]),
        (&true.into(), &1_800_000_000.into())
    );
    assert_eq!(told["recent"][0]["what"], "</script>");
    assert_eq!(told["kind"], "batch");
}

/// One of these ids, which this is the first of.
fn processes(many: usize) -> Vec<Process> {
    let one = |n: usize| Process {
        process: format!("{n:032x}"),
        this: n == 0,
        ..Process::default()
    };
    (0..many).map(one).collect()
}

#[tokio::test(start_paused = true)]
async fn who_is_there_is_asked_while_somebody_watches() {
    let (page, account) = (Page::new(Kind::Proxy), account());
    let asked = Arc::new(AtomicUsize::new(0));
    page.processes({
        let asked = Arc::clone(&asked);
        move || {
            let many = asked.fetch_add(1, Ordering::Relaxed);
            async move {
                // Redis takes its time, and is away at the second look.
                sleep(SEC / 10).await;
                (many != 1).then(|| processes(42))
            }
        }
    });
    for _ in 0..3 {
        page.sample(look(&account));
        advance(SEC).await;
    }
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    let mut events = page.events(Arc::new(look(&account))).unwrap().into_body();
    let mut hear = async || {
        let frame = events.frame().await?.unwrap().into_data().unwrap();
        let json = frame.strip_prefix(b"data: ")?.strip_suffix(b"\n\n")?;
        Some(serde_json::from_slice::<Value>(json).unwrap())
    };
    let start = Instant::now();
    let first = hear().await.unwrap();
    assert_eq!(start.elapsed(), SEC / 10);
    assert_eq!(first["processes"].as_array().unwrap().len(), 40);
    assert_eq!(first["more_processes"], 2);
    assert_eq!(first["processes"][0]["this"], true);
    let second = hear().await.unwrap();
    assert_eq!(
        (&second["processes"], &second["more_processes"]),
        (&Value::Null, &0.into())
    );
    assert!(hear().await.unwrap()["processes"].is_array());
    page.close();
    let last = hear().await.unwrap();
    assert_eq!(
        (&last["over"], last["processes"].is_array()),
        (&true.into(), true)
    );
    assert!(hear().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_shared_account_tells_of_how_many() {
    use tollhouse_openai::shared::{Fallback, InMemory, Sharing};

    let (page, ledger) = (Page::new(Kind::Proxy), InMemory::new());
    let (other, agent) = Sharing::new(ledger.clone(), Fallback::default());
    tokio::spawn(agent);
    let (sharing, agent) = Sharing::new(ledger, Fallback::default());
    let account = account().shared(&sharing);
    page.sample(look(&account));
    assert_eq!(told(&page)["shared"]["up"], false);
    tokio::spawn(agent);
    advance(2 * SEC).await;
    page.sample(look(&account));
    let shared = &told(&page)["shared"];
    assert_eq!(
        (&shared["up"], &shared["processes"]),
        (&true.into(), &2.into())
    );
    drop(other);
}
