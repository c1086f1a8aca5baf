//! What each setter of a policy does to calls.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use tokio::time::Instant;
use tollhouse_openai::testing::{Recorder, Reply, ScriptedProvider};
use tollhouse_openai::{Accounting, ChargeRule, Cost, Limit, Policy, Refused, Window};
use tollhouse_sim::Sim;
use tower::{Layer, ServiceExt, service_fn};

use crate::support::events::Events;

type Outcome = Result<(), Box<dyn std::error::Error + Send + Sync>>;

#[tokio::test(start_paused = true)]
async fn so_many_are_in_flight() -> Outcome {
    let policy = Policy::default().max_concurrency(2).stagger(Duration::ZERO);
    let provider = ScriptedProvider::new(|_, _: &Request<Bytes>| {
        Reply::ok(Response::new(Empty::<Bytes>::new())).after(Duration::from_secs(2))
    });
    let recorder = Recorder::new();
    let client = policy.layer().layer(recorder.layer(provider));

    let call = || client.clone().oneshot(Request::default());
    tokio::try_join!(call(), call(), call(), call(), call())?;
    recorder.assert_in_flight_at_most(2);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn launches_are_spaced() -> Outcome {
    let policy = Policy::default().stagger(Duration::from_millis(50));
    let client = policy.layer().layer(service_fn(async |_: Request<Bytes>| {
        Ok::<_, std::io::Error>(Response::new(Empty::<Bytes>::new()))
    }));
    let start = Instant::now();
    for _ in 0..3 {
        client.clone().oneshot(Request::default()).await?;
    }
    assert_eq!(start.elapsed(), Duration::from_millis(100));
    Ok(())
}

#[test]
fn tokens_are_limited() {
    let policy = Policy::default()
        .headroom(0.0)
        .tpm_limit(Limit::per_minute(125_000));
    assert_eq!(policy.budget().snapshot().capacity, 125_000);
}

#[test]
fn requests_are_limited() {
    let policy = Policy::default().rpm_limit(Limit::per_minute(500));
    assert_eq!(policy.budget().snapshot().requests_limit, Some(500));
}

#[test]
fn a_share_is_never_used() {
    // Of 30,000 tokens a minute.
    let policy = Policy::default().headroom(0.5);
    assert_eq!(policy.budget().snapshot().capacity, 15_000);
}

#[test]
fn answers_of_unknown_length_are_estimated() {
    let policy = Policy::default().est_tokens(1_200);
    let request = Request::post("/v1/responses").body(Bytes::from(r#"{"input": "Hi"}"#));
    assert_eq!(policy.charge().cost(&request.unwrap()), 1_200);
}

#[test]
fn requests_are_charged_by_the_rule() {
    let policy = Policy::default().charge_rule(ChargeRule::Fixed(500));
    let request = Request::post("/v1/responses").body(Bytes::from(r#"{"input": "Hi"}"#));
    assert_eq!(policy.charge().cost(&request.unwrap()), 500);
}

#[tokio::test(start_paused = true)]
async fn attempts_are_counted() -> Outcome {
    let provider = ScriptedProvider::new(|_, _: &Request<Bytes>| {
        let down = Response::builder().status(503).body(Empty::<Bytes>::new());
        Reply::ok(down.unwrap())
    });
    let client = Policy::default()
        .max_attempts(2)
        .layer()
        .layer(provider.clone());
    assert_eq!(client.oneshot(Request::default()).await?.status(), 503);
    assert_eq!(provider.count(), 2);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn backoffs_begin_with_the_base() -> Outcome {
    let policy = Policy::default()
        .stagger(Duration::ZERO)
        .backoff_base(Duration::from_millis(100));
    let client = policy
        .max_attempts(3)
        .layer()
        .layer(service_fn(async |_: Request<Bytes>| {
            Response::builder().status(503).body(Empty::<Bytes>::new())
        }));
    // At most 100 ms and then 200 ms.
    let start = Instant::now();
    client.oneshot(Request::default()).await?;
    assert!(start.elapsed() < Duration::from_millis(310));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn attempts_end_with_the_deadline() -> Outcome {
    let policy = Policy::default()
        .stagger(Duration::ZERO)
        .retry_deadline(Duration::from_secs(10));
    let client = policy.layer().layer(service_fn(async |_: Request<Bytes>| {
        let busy = Response::builder().status(429).header("retry-after", "7");
        busy.body(Empty::<Bytes>::new())
    }));
    // A third attempt could start after 14 s only.
    let start = Instant::now();
    assert_eq!(client.oneshot(Request::default()).await?.status(), 429);
    assert_eq!(start.elapsed(), Duration::from_secs(7));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_longer_delay_is_handed_back() -> Outcome {
    let policy = Policy::default().max_told_delay(Duration::from_secs(30));
    let client = policy.layer().layer(service_fn(async |_: Request<Bytes>| {
        let busy = Response::builder()
            .status(429)
            .header("retry-after", "3600");
        busy.body(Empty::<Bytes>::new())
    }));
    let answer = client.clone().oneshot(Request::default()).await?;
    assert_eq!(answer.headers()["retry-after"], "3600");
    let error = client.oneshot(Request::default()).await.unwrap_err();
    assert!(matches!(error.refused(), Some(Refused::Exhausted { .. })));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn all_retries_share_a_budget() -> Outcome {
    let provider = ScriptedProvider::new(|_, _: &Request<Bytes>| {
        let down = Response::builder().status(503).body(Empty::<Bytes>::new());
        Reply::ok(down.unwrap())
    });
    // Three retries a minute, whatever is asked.
    let policy = Policy::default()
        .stagger(std::time::Duration::ZERO)
        .retry_budget(0.0, 3);
    let client = policy.layer().layer(provider.clone());
    for _ in 0..2 {
        client.clone().oneshot(Request::default()).await?;
    }
    assert_eq!(provider.count(), 2 + 3);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn every_call_may_use_up_its_attempts() -> Outcome {
    let provider = ScriptedProvider::new(|_, _: &Request<Bytes>| {
        let down = Response::builder().status(503).body(Empty::<Bytes>::new());
        Reply::ok(down.unwrap())
    });
    let policy = Policy::default().stagger(Duration::ZERO).max_attempts(3);
    let client = policy
        .without_retry_budget()
        .layer()
        .layer(provider.clone());
    for _ in 0..20 {
        client.clone().oneshot(Request::default()).await?;
    }
    assert_eq!(provider.count(), 20 * 3);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn one_more_than_may_wait_is_refused() -> Outcome {
    let policy = Policy::default().max_concurrency(1).max_waiting(0);
    let client = policy.layer().layer(service_fn(async |_: Request<Bytes>| {
        Ok::<_, std::io::Error>(Response::new(Full::<Bytes>::from("{}")))
    }));
    let answer = client.clone().oneshot(Request::default()).await?;
    let error = client.oneshot(Request::default()).await.unwrap_err();
    assert!(matches!(error.refused(), Some(Refused::Overloaded { .. })));
    drop(answer);
    Ok(())
}

#[test]
fn a_burst_is_the_most_at_once() {
    let policy = Policy::default().burst(8_000);
    let refused = policy.budget().try_reserve(9_000).unwrap_err();
    assert_eq!(
        refused,
        Refused::TooLarge {
            cost: 9_000,
            limit: 8_000
        }
    );
}

#[tokio::test(start_paused = true)]
async fn streams_are_made_to_tell_their_usage() -> Outcome {
    let provider = ScriptedProvider::new(|_, _: &Request<Bytes>| {
        Reply::ok(Response::new(Empty::<Bytes>::new()))
    });
    let client = Policy::default()
        .ask_for_usage(true)
        .layer()
        .layer(provider.clone());
    let request = Request::post("/v1/chat/completions").body(r#"{"stream":true}"#.into())?;
    client.oneshot(request).await?;
    assert_eq!(
        provider.requests()[0].body(),
        r#"{"stream_options":{"include_usage":true},"stream":true}"#,
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn factors_are_learned() -> Outcome {
    let policy = Policy::default().stagger(Duration::ZERO).learn_factor(true);
    let client = policy.layer().layer(Sim::builder().build()?.service());
    for _ in 0..20 {
        // Estimated at 7,000 tokens, for its answer has no asked length.
        let request = Request::post("/v1/responses")
            .body(Bytes::from(r#"{"model": "gpt-4o", "input": "Hi"}"#))?;
        client
            .clone()
            .oneshot(request)
            .await?
            .into_body()
            .collect()
            .await?;
    }
    assert!(policy.learned()[0].factor.unwrap() < 1.0);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_was_not_used_is_given_back() -> Outcome {
    let policy = Policy::default().accounting(Accounting::AsUsed);
    let client = policy.layer().layer(service_fn(async |_: Request<Bytes>| {
        let told = r#"{"usage": {"total_tokens": 300}}"#;
        Ok::<_, std::io::Error>(Response::new(Full::<Bytes>::from(told)))
    }));
    let request = Request::post("/v1/responses").body(Bytes::from(r#"{"input": "Hi"}"#))?;
    client.oneshot(request).await?.into_body().collect().await?;
    assert_eq!(policy.budget().snapshot().level, 25_500 - 300);
    Ok(())
}

#[test]
fn the_window_can_be_off() {
    let policy = Policy::default().window(Window::Off);
    assert!(!policy.budget().snapshot().windowed);
}

#[test]
fn a_start_is_cautious() {
    for (cautious, both) in [(true, false), (false, true)] {
        let policy = Policy::default().stagger(Duration::ZERO);
        let budget = policy.cautious_start(cautious).budget();
        let first = budget.try_reserve(7_000);
        let second = budget.try_reserve(7_000);
        assert_eq!(first.is_ok() && second.is_ok(), both);
    }
}

/// One table of ranges: a setter refuses what a variable and a file do, with the same
/// sentence.
#[test]
fn a_setter_refuses_what_a_variable_refuses() {
    type Set = fn(Policy) -> Policy;
    let table: [(&str, &str, Set); 9] = [
        ("OPENAI_MAX_CONCURRENCY", "0", |p| p.max_concurrency(0)),
        ("OPENAI_MAX_CONCURRENCY", "1000001", |p| {
            p.max_concurrency(1_000_001)
        }),
        ("OPENAI_STAGGER_SECONDS", "86401", |p| {
            p.stagger(Duration::from_secs(86_401))
        }),
        ("OPENAI_TPM_LIMIT", "1000000000001", |p| {
            p.tpm_limit(Limit::per_minute(1_000_000_000_001))
        }),
        ("OPENAI_TPM_HEADROOM", "0.91", |p| p.headroom(0.91)),
        ("OPENAI_EST_TOKENS_PER_RUN", "0", |p| p.est_tokens(0)),
        ("OPENAI_RETRY_MAX_ATTEMPTS", "1001", |p| {
            p.max_attempts(1_001)
        }),
        ("OPENAI_BACKOFF_BASE_SECONDS", "0", |p| {
            p.backoff_base(Duration::ZERO)
        }),
        ("OPENAI_BACKOFF_BASE_SECONDS", "61", |p| {
            p.backoff_base(Duration::from_secs(61))
        }),
    ];
    for (variable, value, set) in table {
        let read = Policy::from_vars(|name| (name == variable).then(|| value.to_owned()));
        let error = read.expect_err(variable).to_string();
        let (_, allowed) = error.split_once(": ").expect("what is allowed");
        let panic = std::panic::catch_unwind(|| set(Policy::default())).expect_err(variable);
        let said = panic.downcast::<String>().expect("a sentence");
        assert!(said.ends_with(&format!("is {value}: {allowed}")), "{said}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_setter_on_a_policy_in_use_warns_that_it_makes_another() {
    let (events, _guard) = Events::hear();
    let told = || events.count("WARN message=a policy in use was set");
    let policy = Policy::default().headroom(0.0).stagger(Duration::ZERO);
    let clone = policy.clone();
    policy
        .budget()
        .try_reserve(3_000)
        .expect("a free one")
        .launched();
    assert_eq!(told(), 0);
    let other = clone.max_concurrency(2);
    assert_eq!(told(), 1);
    assert_eq!(other.budget().snapshot().level, 30_000);
    assert_eq!(policy.budget().snapshot().level, 27_000);
}

/// Each model's answers tell its own limits.
mod limits_of_models {
    use super::*;
    use std::convert::Infallible;
    use tollhouse_openai::Account;
    use tollhouse_openai::policy::PolicyLayer;

    const WARNS: &str = "WARN message=models of one pool have limits of their own";

    /// Asks these models in turn, whose answers tell so many tokens a minute.
    async fn ask(layer: &PolicyLayer, calls: &[(&str, u64)]) {
        for &(model, limit) in calls {
            let client = layer.layer(service_fn(async |request: Request<Bytes>| {
                let limit = request.headers()["limit"].clone();
                let answer = Response::builder().header("x-ratelimit-limit-tokens", limit);
                Ok::<_, Infallible>(answer.body(Empty::<Bytes>::new()).expect("an answer"))
            }));
            let body = format!(r#"{{"model":{model:?},"input":"Hi"}}"#);
            let request = Request::post("/v1/responses").header("limit", limit);
            let request = request.body(Bytes::from(body)).expect("a request");
            client.oneshot(request).await.expect("an answer");
        }
    }

    fn policy() -> Policy {
        Policy::default().stagger(Duration::ZERO).est_tokens(10)
    }

    #[tokio::test(start_paused = true)]
    async fn one_policy_for_models_with_limits_of_their_own_warns_once() {
        let (events, _guard) = Events::hear();
        let policy = policy();
        ask(&policy.layer(), &[("gpt-4o", 30_000), ("gpt-4o", 30_000)]).await;
        assert_eq!(events.count(WARNS), 0);
        let others = [("embeddings", 1_000_000), ("gpt-4o", 30_000), ("o3", 7)];
        ask(&policy.clone().layer(), &others).await;
        assert_eq!(events.count(WARNS), 1);
        assert_eq!(events.count("Use an Account"), 1);
    }

    /// One model's limit that is raised is no other model's, and models may have the same.
    #[tokio::test(start_paused = true)]
    async fn models_that_tell_the_same_limits_warn_of_nothing() {
        let (events, _guard) = Events::hear();
        let calls = [("gpt-4o", 30_000), ("gpt-4o", 60_000), ("o3", 60_000)];
        ask(&policy().layer(), &calls).await;
        let account = Account::new(policy().tpm_limit(Limit::Auto));
        let calls = [("gpt-4o", 30_000), ("embeddings", 1_000_000)];
        ask(&account.layer(), &calls).await;
        assert_eq!(events.count(WARNS), 0);
    }

    /// Nor is an account any better where its models share a pool.
    #[tokio::test(start_paused = true)]
    async fn an_account_warns_of_each_pool_whose_models_differ() {
        let (events, _guard) = Events::hear();
        let file = r#"
            [defaults]
            stagger_seconds = 0
            est_tokens_per_run = 10

            [models."gpt-*"]
            tokens_per_minute = 30_000
        "#;
        let account = Account::from_toml(file).expect("a good file");
        let calls = [("gpt-4o", 30_000), ("o3", 7_000), ("gpt-4o-mini", 200_000)];
        ask(&account.layer(), &calls).await;
        assert_eq!(events.count(WARNS), 1);
        assert_eq!(events.count("Give each a section"), 1);
    }
}
