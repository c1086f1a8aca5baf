//! The metrics of a whole story: what a recorder is told of calls that pass, wait,
//! are refused and are asked again.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use metrics::{
    Counter, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use tokio::time::{sleep, timeout};
use tokio_test::task;
use tollhouse::TpmBudgetLayer;
use tollhouse_openai::{Account, AccountConfig, Caller, Limit, Policy, TokenBudget};
use tower::{Layer, ServiceExt, service_fn};

/// Costs so many tokens more than the 8 of its text and form.
fn chat(max_tokens: u64) -> Request<Bytes> {
    let body =
        format!(r#"{{"messages":[{{"role":"user","content":"Hi"}}],"max_tokens":{max_tokens}}}"#);
    let request = Request::post("/v1/chat/completions");
    request.body(Bytes::from(body)).expect("a request")
}

/// What a page says of a metric, by its labels.
fn read(page: &str, metric: &str) -> Option<f64> {
    let value = page.lines().find_map(|line| line.strip_prefix(metric));
    value.map(|value| value.trim().parse().expect("a number"))
}

fn in_virtual_time<F: Future>(recorder: &PrometheusRecorder, story: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    metrics::with_local_recorder(recorder, || runtime.block_on(story))
}

#[test]
fn a_story_is_told_in_numbers() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let page = recorder.handle();
    in_virtual_time(&recorder, async {
        let policy = Policy::default()
            .name("story")
            .tpm_limit(Limit::per_minute(60_000))
            .headroom(0.0)
            .stagger(Duration::ZERO)
            .max_concurrency(2)
            .cautious_start(false);
        // The first is refused for a second; all others are answered after one.
        let asked = Arc::new(AtomicUsize::new(0));
        let client = policy.layer().layer(service_fn(move |_: Request<Bytes>| {
            let number = asked.fetch_add(1, Ordering::Relaxed);
            async move {
                sleep(Duration::from_secs(1)).await;
                let (status, body) = match number {
                    0 => (
                        429,
                        r#"{"error":{"code":"rate_limit_exceeded","type":"tokens","message":"Please try again in 1s."}}"#,
                    ),
                    _ => (200, r#"{"usage":{"prompt_tokens":8,"completion_tokens":42,"total_tokens":50}}"#),
                };
                let answer = Response::builder().status(status);
                let answer = answer.header("content-type", "application/json");
                Ok::<_, Infallible>(answer.body(Full::from(body)).expect("an answer"))
            }
        }));
        let calls = (0..3).map(|_| {
            let call = client.clone().oneshot(chat(100));
            tokio::spawn(async {
                let answer = call.await.expect("an answer");
                assert_eq!(answer.status(), 200);
                answer.into_body().collect().await.expect("a body");
            })
        });
        let calls: Vec<_> = calls.collect();
        sleep(Duration::from_millis(500)).await;
        let too_large = timeout(Duration::ZERO, client.oneshot(chat(100_000))).await;
        let too_large = too_large.expect("it does not wait for a slot");
        assert!(too_large.expect_err("it can never fit").refused().is_some());
        let told = page.render();
        for (metric, value) in [
            (r#"tollhouse_in_flight{policy="story"}"#, 2.0),
            (r#"tollhouse_slots{policy="story"}"#, 2.0),
            (r#"tollhouse_waiting{policy="story",gate="budget"}"#, 1.0),
            (r#"tollhouse_budget_limit_tokens{policy="story"}"#, 60_000.0),
            (
                r#"tollhouse_budget_level_tokens{policy="story"}"#,
                60_000.0 - 216.0,
            ),
            (
                r#"tollhouse_budget_in_transit_tokens{policy="story"}"#,
                216.0,
            ),
            (
                r#"tollhouse_budget_outstanding_tokens{policy="story"}"#,
                216.0,
            ),
        ] {
            assert_eq!(read(&told, metric), Some(value), "{metric}\n{told}");
        }

        for call in join_all(calls).await {
            call.expect("no panic");
        }
    });

    let told = page.render();
    for (metric, value) in [
        (r#"tollhouse_launches_total{policy="story"}"#, 4.0),
        (
            r#"tollhouse_reserved_tokens_total{policy="story"}"#,
            4.0 * 108.0,
        ),
        // Three told what they used, and one ended with what it had reserved.
        (
            r#"tollhouse_settled_tokens_total{policy="story"}"#,
            3.0 * 50.0 + 108.0,
        ),
        (
            r#"tollhouse_denials_total{policy="story",scope="tokens"}"#,
            1.0,
        ),
        (
            r#"tollhouse_retries_total{policy="story",scope="tokens"}"#,
            1.0,
        ),
        (
            r#"tollhouse_refusals_total{policy="story",gate="budget",reason="too_large"}"#,
            1.0,
        ),
        (
            r#"tollhouse_wait_seconds_count{policy="story",gate="budget"}"#,
            4.0,
        ),
        // The third waited for the first, a second long, and another one as the
        // refusal told; the refused one followed as soon as that was refilled.
        (
            r#"tollhouse_wait_seconds_sum{policy="story",gate="budget"}"#,
            2.108,
        ),
        (r#"tollhouse_in_flight{policy="story"}"#, 0.0),
        (r#"tollhouse_waiting{policy="story",gate="budget"}"#, 0.0),
        (r#"tollhouse_budget_in_transit_tokens{policy="story"}"#, 0.0),
        (
            r#"tollhouse_budget_outstanding_tokens{policy="story"}"#,
            0.0,
        ),
    ] {
        assert_eq!(read(&told, metric), Some(value), "{metric}\n{told}");
    }
}

/// A recorder that looks at the budget whenever it is told a level.
#[derive(Clone)]
struct Looks {
    budget: TokenBudget,
    told: Arc<AtomicUsize>,
}

impl GaugeFn for Looks {
    fn increment(&self, _: f64) {}

    fn decrement(&self, _: f64) {}

    fn set(&self, _: f64) {
        self.told.fetch_add(1, Ordering::Relaxed);
        self.budget.snapshot();
    }
}

impl Recorder for Looks {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        self.budget.snapshot();
        Counter::noop()
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        self.budget.snapshot();
        Gauge::from_arc(Arc::new(self.clone()))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        self.budget.snapshot();
        Histogram::noop()
    }
}

#[test]
fn a_recorder_may_look_at_the_budget_that_it_is_told_of() {
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let budget = TokenBudget::per_minute(30_000).build().expect("a budget");
        let told = Arc::default();
        let recorder = Looks { budget, told };
        metrics::with_local_recorder(&recorder, || {
            let reservation = recorder.budget.try_reserve(100).expect("room");
            reservation.launched();
            reservation.settle(120);
            recorder.budget.try_reserve(100_000).expect_err("no room");
        });
        done.send(recorder.told.load(Ordering::Relaxed))
    });
    let told = ended.recv_timeout(Duration::from_secs(20));
    let told = told.expect("neither a deadlock nor a loop");
    assert!((5..100).contains(&told), "{told}");
}

/// Handles belong to a recorder; those of the one before are not kept.
#[test]
fn a_recorder_that_comes_later_is_told_how_all_stands() {
    let budget = TokenBudget::per_minute(30_000).build().expect("a budget");
    drop(budget.try_reserve(100).expect("room"));
    let recorder = || PrometheusBuilder::new().build_recorder();
    let recorders = [(recorder(), 29_000.0), (recorder(), 28_000.0)];
    for (recorder, level) in &recorders {
        metrics::with_local_recorder(recorder, || {
            let reservation = budget.try_reserve(1_000).expect("room");
            reservation.launched();
            drop(reservation);
            let page = recorder.handle().render();
            let told = read(&page, r#"tollhouse_budget_level_tokens{policy="default"}"#);
            let told = told.expect("a level");
            // It refills 500 a second, in real time here.
            assert!((*level..level + 900.0).contains(&told), "{page}");
        });
    }
}

/// Of many threads, the last one's level is what stands.
#[test]
fn no_older_level_is_left_standing() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let page = recorder.handle();
    for _ in 0..50 {
        let budget = TokenBudget::per_minute(1_000_000)
            .build()
            .expect("a budget");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    metrics::with_local_recorder(&recorder, || {
                        for _ in 0..20 {
                            budget.try_reserve(7).expect("room").settle(7);
                        }
                    });
                });
            }
        });
        let told = page.render();
        let outstanding = r#"tollhouse_budget_outstanding_tokens{policy="default"}"#;
        assert_eq!(read(&told, outstanding), Some(0.0), "{told}");
        let transit = r#"tollhouse_budget_in_transit_tokens{policy="default"}"#;
        assert_eq!(read(&told, transit), Some(0.0), "{told}");
    }
}

/// An account tells of each pool by its name, a hundred strangers' and then `other`; and of
/// the callers that a section names, by that section.
#[test]
fn an_account_is_told_by_pool_and_by_caller() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let page = recorder.handle();
    in_virtual_time(&recorder, async {
        let file = r#"
            [defaults]
            stagger_seconds = 0
            max_concurrency = 1

            [models."gpt-4o*"]
            tokens_per_minute = 1_000_000

            [callers.web]
            weight = 8
            [callers."batch-*"]
            weight = 2
        "#;
        let mut config = AccountConfig::from_toml(file).expect("a good file");
        config.defaults.name = Some("prod".to_owned());
        let account = Account::from_config(config).expect("a good config");
        let client = account.layer().layer(service_fn(async |_: Request<Bytes>| {
            sleep(Duration::from_secs(2)).await;
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("{}")))
        }));
        let ask = |model: &str, caller: &str| {
            let body = format!(r#"{{"model":{model:?},"input":"Hi","max_output_tokens":9}}"#);
            let mut request = Request::post("/v1/responses").body(Bytes::from(body));
            let request = request.as_mut().expect("a request");
            request.extensions_mut().insert(Caller::new(caller));
            let call = client.clone().oneshot(std::mem::take(request));
            async {
                let answer = call.await.expect("an answer");
                answer.into_body().collect().await.expect("a body");
            }
        };
        let named = ["web", "batch-1", "batch-2", "somebody"];
        join_all(named.map(|caller| ask("gpt-4o", caller))).await;
        let strangers: Vec<_> = (0..103).map(|n| format!("model-{n}")).collect();
        join_all(strangers.iter().map(|model| ask(model, "web"))).await;
    });
    let told = page.render();
    let of = |metric: &str| read(&told, metric);
    let in_pool = r#"policy="prod",pool="gpt-4o*""#;
    let launches = format!("tollhouse_launches_total{{{in_pool}}}");
    assert_eq!(of(&launches), Some(4.0), "{told}");
    let others = r#"tollhouse_launches_total{policy="prod",pool="other"}"#;
    assert_eq!(of(others), Some(3.0));

    let waited = |caller: &str, what: &str| {
        let labels = format!("{in_pool},caller={caller:?}");
        of(&format!("tollhouse_caller_wait_seconds_{what}{{{labels}}}"))
    };
    // One at a time, two seconds each: a section is one caller, whoever it names.
    let sections: Vec<_> = ["web", "batch-*", "batch-1", "somebody"]
        .map(|caller| waited(caller, "count"))
        .into();
    assert_eq!(sections, [Some(1.0), Some(2.0), None, None]);
    assert_eq!(waited("web", "sum"), Some(0.0));
    let all = of(&format!(
        "tollhouse_wait_seconds_sum{{{in_pool},gate=\"budget\"}}"
    ));
    assert_eq!(all, Some(2.0 + 4.0 + 6.0));
}

/// Who is let in and handed on in one poll is told of once; who is not, at once: it may stand
/// before its service for long.
#[test]
fn whoever_was_let_in_is_told_of_wherever_it_stands() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let page = recorder.handle();
    let told = |metric: &str| read(&page.render(), &format!("{metric}{{policy=\"stands\"}}"));
    in_virtual_time(&recorder, async {
        let budget = TokenBudget::per_minute(1_000).name("stands").build();
        let budget = budget.expect("a valid budget");
        let layer = TpmBudgetLayer::new(budget, |cost: &u64| *cost).until_response();
        let (mut service, mut handle) = tower_test::mock::spawn_layer(layer);
        handle.allow(0);
        let outstanding = "tollhouse_budget_outstanding_tokens";

        // Its service is not ready.
        let mut standing = task::spawn(service.get_ref().clone().oneshot(100));
        assert!(standing.poll().is_pending());
        assert_eq!(told(outstanding), Some(100.0));
        drop(standing);
        assert_eq!(told(outstanding), Some(0.0));

        // It is, and has not answered.
        handle.allow(1);
        assert!(service.poll_ready().is_ready());
        let mut sent = task::spawn(service.call(200));
        assert!(sent.poll().is_pending());
        assert_eq!(told(outstanding), Some(200.0));
        let (_, respond) = handle.next_request().await.expect("it was sent");
        respond.send_response(());
        assert!(sent.poll().is_ready());
        assert_eq!(told(outstanding), Some(0.0));
        let waits = r#"tollhouse_wait_seconds_count{policy="stands",gate="budget"}"#;
        assert_eq!(read(&page.render(), waits), Some(2.0));
    });
}
