//! Retries through a whole policy: what must not go wrong with them.
//!
//! The numbers are those of the list of failures that systems of this kind
//! have met.

mod support;

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::channel::Channel;
use http_body_util::{BodyExt, Full};
use support::{Provider, answer, chat, headers, policy, provider};
use tokio::time::{Instant, sleep};
use tollhouse::testing::{Recorder, Reply};
use tollhouse_openai::{ApiError, Attempts, Deadline, Limit, Refused, Scope};
use tollhouse_sim::{Faults, Sim};
use tower::{Layer, Service, ServiceExt, service_fn};

const SEC: Duration = Duration::from_secs(1);

const DOWN: &str = r#"{"error":{"message":"The server is overloaded","type":"service_unavailable_error","code":"server_is_overloaded"}}"#;

/// Neither headers nor text tell a delay.
const UNTOLD: &str =
    r#"{"error":{"message":"Rate limit reached","type":"requests","code":"rate_limit_exceeded"}}"#;

fn down() -> Response<Full<Bytes>> {
    answer(503, DOWN)
}

fn fine() -> Response<Full<Bytes>> {
    answer(200, "{}")
}

/// Where nothing is told, each wait is drawn anew, from a range that doubles.
#[tokio::test(start_paused = true)]
async fn failure_10_a_429_without_headers_backs_off_with_jitter() {
    let mut waits = Vec::new();
    for _ in 0..300 {
        let recorder = Recorder::new();
        let provider = recorder.layer(provider(|_| answer(429, UNTOLD)));
        let client = policy().max_attempts(4).layer().layer(provider);
        let answer = client.oneshot(chat(1)).await.expect("an answer");
        assert_eq!(answer.status(), 429);
        let at = recorder.launches();
        waits.push([0, 1, 2].map(|n| at[n + 1] - at[n]));
    }
    for (n, bound) in [2.0, 4.0, 8.0].into_iter().enumerate() {
        let waits: Vec<f64> = waits.iter().map(|wait| wait[n].as_secs_f64()).collect();
        // The budget is held as well, for half that time at most and a
        // quarter at least, and refills for a moment after it.
        assert!(
            waits
                .iter()
                .all(|wait| (bound / 4.0..bound + 0.1).contains(wait)),
            "{waits:?}"
        );
        let part = |range: std::ops::Range<f64>| {
            let range = range.start * bound..range.end * bound;
            waits.iter().filter(|wait| range.contains(wait)).count()
        };
        // Full jitter: the upper half of the range has half of the waits.
        assert!((105..195).contains(&part(0.5..1.02)), "{}", part(0.5..1.02));
        assert!(part(0.75..1.02) > 40 && part(0.5..0.75) > 40);
    }
}

/// A provider that allows less than was configured and never says so: the pace
/// falls until it fits, and is felt back up.
#[tokio::test(start_paused = true)]
async fn failure_10_a_429_without_headers_slows_the_pace() {
    const MINUTES: u32 = 30;
    // A bucket of 600 requests a minute where we believe in 1,200.
    let level = Mutex::new((60.0, Instant::now()));
    let provider = provider(move |_| {
        let mut level = level.lock().expect("no panic");
        let now = Instant::now();
        let refilled = level.0 + (now - level.1).as_secs_f64() * 10.0;
        *level = (refilled.min(60.0), now);
        if level.0 < 1.0 {
            return answer(429, UNTOLD);
        }
        level.0 -= 1.0;
        fine()
    });
    let policy = policy()
        .tpm_limit(Limit::per_minute(100_000_000))
        .rpm_limit(Limit::per_minute(1_200))
        .max_attempts(20);
    let client = policy.layer().layer(provider.clone());
    let start = Instant::now();
    let callers = (0..40).map(|_| {
        let client = client.clone();
        tokio::spawn(async move {
            let mut answered = 0;
            while start.elapsed() < MINUTES * 60 * SEC {
                let answer = client.clone().oneshot(chat(1)).await.expect("an answer");
                answered += u32::from(answer.status().is_success());
            }
            answered
        })
    });
    let callers: Vec<_> = callers.collect();
    let mut paces = Vec::new();
    for _ in 0..MINUTES {
        sleep(60 * SEC).await;
        paces.push(policy.budget().snapshot().pace_percent);
    }
    let mut answered = 0;
    for caller in callers {
        answered += caller.await.expect("no panic");
    }
    let refused = provider.count() - answered as usize;
    // Around the half that is allowed: felt up to more again and again.
    assert!(
        paces.iter().all(|pace| (35..65).contains(pace)),
        "{paces:?}"
    );
    assert!(
        paces.iter().filter(|&&pace| pace > 50).count() > 5,
        "{paces:?}"
    );
    // Those of the first burst and then one in two minutes; without a slower
    // pace, as many as are answered.
    assert!(refused <= 20 + MINUTES as usize / 2, "{refused}");
    assert!(answered >= 19 * MINUTES * 600 / 20, "{answered}");
}

#[tokio::test(start_paused = true)]
async fn failure_13_an_outage_is_not_doubled_by_retries() {
    let provider = provider(|_| down());
    let client = policy().layer().layer(provider.clone());
    let start = Instant::now();
    let calls: Vec<_> = (0..200)
        .map(|_| tokio::spawn(client.clone().oneshot(chat(1))))
        .collect();
    for call in calls {
        let answer = call.await.expect("no panic").expect("an answer");
        assert_eq!(answer.status(), 503, "the last answer, as it was");
        let body = answer.into_body().collect().await.expect("a body");
        assert_eq!(body.to_bytes(), DOWN);
    }
    let sent = provider.count();
    assert!(sent <= 200 + 40 + 10, "{sent} for 200 calls");
    assert!(sent > 200 + 40, "{sent}: what is there is used");

    // Who comes later in the same minute fails at once.
    assert!(start.elapsed() < 40 * SEC, "{:?}", start.elapsed());
    let late = Instant::now();
    let answer = client.clone().oneshot(chat(1)).await.expect("an answer");
    assert_eq!(answer.extensions().get(), Some(&Attempts(1)));
    assert_eq!(late.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn failure_13_without_a_retry_budget_an_outage_is_multiplied() {
    let provider = provider(|_| down());
    let client = policy()
        .without_retry_budget()
        .layer()
        .layer(provider.clone());
    let calls: Vec<_> = (0..200)
        .map(|_| tokio::spawn(client.clone().oneshot(chat(1))))
        .collect();
    for call in calls {
        drop(call.await.expect("no panic").expect("an answer"));
    }
    assert_eq!(provider.count(), 1_000);
}

/// An outage of the connections is one as well; services of one policy share
/// the budget, and it is there again when the outage is over.
#[tokio::test(start_paused = true)]
async fn failure_13_the_budget_is_the_whole_policys_and_comes_back() {
    let policy = policy().retry_budget(0.0, 3);
    let broken = service_fn(|_: Request<Bytes>| async {
        Err::<Response<Full<Bytes>>, _>(io::Error::from(io::ErrorKind::ConnectionReset))
    });
    let mut attempts = 0;
    for _ in 0..10 {
        let client = policy.layer().layer(broken);
        let error = ApiError::from(client.oneshot(chat(1)).await.map(drop).unwrap_err());
        assert!(error.is_overloaded() && error.is_retryable());
        attempts += error.attempts();
    }
    assert_eq!(attempts, 10 + 3);

    sleep(120 * SEC).await;
    let provider = provider(|n| if n < 2 { down() } else { fine() });
    let client = policy.layer().layer(provider.clone());
    let answer = client.oneshot(chat(1)).await.expect("an answer");
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.extensions().get(), Some(&Attempts(3)));
}

/// Waiting for a limit is no retry that an outage would be doubled by.
#[tokio::test(start_paused = true)]
async fn limits_are_waited_for_with_an_empty_retry_budget() {
    const SOON: &str = r#"{"error":{"message":"Rate limit reached on tokens per min (TPM). Please try again in 1s.","type":"tokens","code":"rate_limit_exceeded"}}"#;
    let provider = provider(|n| if n < 4 { answer(429, SOON) } else { fine() });
    let client = policy().retry_budget(0.0, 0).layer();
    let client = client.layer(provider.clone());
    let start = Instant::now();
    let answer = client.oneshot(chat(1)).await.expect("an answer");
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.extensions().get(), Some(&Attempts(5)));
    assert_eq!(start.elapsed(), 4 * SEC);
}

/// An SDK as the official ones: so many retries of its own, each with its count.
async fn sdk<S>(client: &S, max_retries: u32) -> u16
where
    S: Service<Request<Bytes>, Response = Response<support::Body>, Error: std::fmt::Debug> + Clone,
{
    let mut status = 0;
    for retry in 0..=max_retries {
        let mut request = chat(1);
        let count = retry.to_string().parse().expect("digits");
        request
            .headers_mut()
            .insert("x-stainless-retry-count", count);
        let answer = client.clone().oneshot(request).await.expect("an answer");
        status = answer.status().as_u16();
    }
    status
}

#[tokio::test(start_paused = true)]
async fn failure_14_an_sdks_retries_have_fewer_of_ours() {
    for (max_retries, counts) in [
        (0, vec!["0", "1", "2", "3", "4"]),
        (
            2,
            vec!["0", "1", "2", "3", "4", "1", "2", "3", "4", "2", "3", "4"],
        ),
        (
            6,
            vec![
                "0", "1", "2", "3", "4", "1", "2", "3", "4", "2", "3", "4", "3", "4", "4", "5", "6",
            ],
        ),
    ] {
        let provider = provider(|_| down());
        let policy = policy().without_retry_budget();
        let client = policy.layer().layer(provider.clone());
        assert_eq!(sdk(&client, max_retries).await, 503);
        assert_eq!(headers(&provider, "x-stainless-retry-count"), counts);
    }
}

/// A body that breaks off after its head is the caller's: nobody asks again.
#[tokio::test(start_paused = true)]
async fn failure_15_nothing_is_asked_again_once_the_answer_has_begun() {
    let calls = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&calls);
    let client = policy().layer().layer(service_fn(move |_: Request<Bytes>| {
        *counted.lock().expect("no panic") += 1;
        async {
            let (mut sender, body) = Channel::<Bytes, io::Error>::new(2);
            tokio::spawn(async move {
                sender
                    .send_data("data: {\"choices\":[".into())
                    .await
                    .expect("a reader");
                sleep(SEC).await;
                sender.abort(io::Error::from(io::ErrorKind::ConnectionReset));
            });
            let response = Response::builder().header("content-type", "text/event-stream");
            Ok::<_, io::Error>(response.body(body).expect("a response"))
        }
    }));
    let answer = client.oneshot(chat(1)).await.expect("a head");
    assert_eq!(answer.status(), 200);
    let mut body = answer.into_body();
    let first = body.frame().await.expect("a frame").expect("data");
    assert_eq!(first.into_data().expect("data"), "data: {\"choices\":[");
    let error = body.frame().await.expect("a frame").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    sleep(600 * SEC).await;
    assert_eq!(*calls.lock().expect("no panic"), 1);
}

/// The same reset before the head is asked again for.
#[tokio::test(start_paused = true)]
async fn failure_15_before_the_answer_has_begun_it_is_asked_again() {
    let broken_once = Provider::new(|n, _| match n {
        0 => Reply::error(io::ErrorKind::ConnectionReset),
        _ => Reply::ok(fine()),
    });
    let client = policy().layer().layer(broken_once.clone());
    let answer = client.oneshot(chat(1)).await.expect("an answer");
    assert_eq!(answer.extensions().get(), Some(&Attempts(2)));
    assert_eq!(broken_once.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn every_attempt_of_a_call_has_its_number_and_the_calls_key() {
    let provider = provider(|n| if n % 3 < 2 { down() } else { fine() });
    let client = policy().layer().layer(provider.clone());
    for _ in 0..2 {
        let answer = client.clone().oneshot(chat(1)).await.expect("an answer");
        assert_eq!(answer.extensions().get(), Some(&Attempts(3)));
    }
    let counts = headers(&provider, "x-stainless-retry-count");
    assert_eq!(counts, ["0", "1", "2", "0", "1", "2"]);
    let keys = headers(&provider, "idempotency-key");
    assert!(keys[..3].iter().all(|key| *key == keys[0]), "{keys:?}");
    assert!(keys[3..].iter().all(|key| *key == keys[3]), "{keys:?}");
    assert_ne!(keys[0], keys[3]);

    let mut own = chat(1);
    own.headers_mut()
        .insert("idempotency-key", "mine".parse().expect("ascii"));
    client.oneshot(own).await.expect("an answer");
    assert_eq!(headers(&provider, "idempotency-key")[6..], ["mine"; 3]);
}

/// A limit by the day: the caller has the answer at once and the delay in it,
/// and whoever comes next is not sent at all.
#[tokio::test(start_paused = true)]
async fn a_delay_told_too_long_is_the_callers_to_decide_about() {
    const DAY: &str = r#"{"error":{"message":"Rate limit reached on requests per day (RPD): Limit 200, Used 200, Requested 1. Please try again in 7m12s.","type":"requests","code":"rate_limit_exceeded"}}"#;
    let provider = provider(|_| answer(429, DAY));
    let policy = policy();
    let client = policy.layer().layer(provider.clone());
    let start = Instant::now();

    let refused = client.clone().oneshot(chat(1)).await.expect("an answer");
    let refused = ApiError::check(refused).await.unwrap_err();
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(refused.status(), Some(StatusCode::TOO_MANY_REQUESTS));
    assert_eq!(refused.retry_after(), Some(432 * SEC));
    assert_eq!(refused.scope(), Scope::RequestsPerDay);
    assert_eq!(
        (refused.attempts(), refused.body().as_ref()),
        (1, DAY.as_bytes())
    );

    sleep(32 * SEC).await;
    let known = ApiError::from(client.oneshot(chat(1)).await.map(drop).unwrap_err());
    assert!(known.is_rate_limited());
    assert!(matches!(known.refused(), Some(Refused::Exhausted { .. })));
    assert_eq!(known.retry_after(), Some(400 * SEC));
    assert_eq!(provider.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_longer_told_delay_is_waited_for_where_that_is_wanted() {
    const LATER: &str = r#"{"error":{"message":"Overloaded. Please retry after 150 seconds"}}"#;
    let provider = provider(|n| if n == 0 { answer(503, LATER) } else { fine() });
    let client = policy().max_told_delay(150 * SEC).layer();
    let start = Instant::now();
    let answer = client.layer(provider).oneshot(chat(1)).await;
    assert_eq!(answer.expect("an answer").status(), 200);
    assert_eq!(start.elapsed(), 150 * SEC);
}

/// Against a provider with faults: every call is answered well, and what the
/// callers are told of attempts is what the provider saw.
/// The next attempt could only come too late: the caller hears what this one came to, and at
/// once.
#[tokio::test(start_paused = true)]
async fn a_call_with_a_deadline_is_not_asked_again_after_it() {
    for (status, body) in [(503, DOWN), (429, UNTOLD)] {
        let told = move || {
            let mut told = answer(status, body);
            let delay = "10".parse().expect("digits");
            told.headers_mut().insert("retry-after", delay);
            told
        };
        for (seconds, attempts) in [(9, 1), (11, 2)] {
            let client = policy().max_attempts(2).layer();
            let client = client.layer(provider(move |_| told()));
            let mut call = chat(1);
            let deadline = Deadline::within(seconds * SEC);
            call.extensions_mut().insert(deadline);
            let start = Instant::now();
            let answer = client.oneshot(call).await.expect("an answer");
            assert_eq!(answer.status(), status);
            assert_eq!(answer.extensions().get(), Some(&Attempts(attempts)));
            assert_eq!(start.elapsed(), (attempts - 1) * 10 * SEC);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn attempts_told_are_attempts_seen() {
    let faults = Faults {
        server_error: 0.04,
        unavailable: 0.04,
        reset: 0.02,
        ..Faults::default()
    };
    let sim = Sim::builder()
        .tokens_per_minute(1_000_000)
        .faults(faults)
        .seed(7)
        .build()
        .expect("a valid provider");
    let policy = policy().tpm_limit(Limit::per_minute(1_000_000));
    let client = policy.layer().layer(sim.service());
    let calls: Vec<_> = (0..300)
        .map(|_| tokio::spawn(client.clone().oneshot(chat(10))))
        .collect();
    let mut attempts = 0;
    for call in calls {
        let answer = call.await.expect("no panic").expect("an answer");
        let Attempts(made) = *answer.extensions().get().expect("a count");
        attempts += u64::from(made);
        let answer = ApiError::check(answer).await.expect("a good answer");
        answer.into_body().collect().await.expect("a whole body");
    }
    let seen = sim.report();
    assert!(attempts > 315 && attempts < 370, "{attempts}");
    assert_eq!(seen.arrived, attempts);
}

/// A provider that is wholly down, with statuses and resets mixed.
#[tokio::test(start_paused = true)]
async fn failure_13_a_provider_that_is_down_sees_a_fifth_more_and_ten() {
    let faults = Faults {
        server_error: 0.3,
        unavailable: 0.3,
        reset: 0.4,
        ..Faults::default()
    };
    let sim = Sim::builder().faults(faults).build().expect("valid");
    let client = policy().layer().layer(sim.service());
    for _ in 0..100 {
        match client.clone().oneshot(chat(1)).await {
            Ok(answer) => assert!(ApiError::check(answer).await.unwrap_err().is_overloaded()),
            Err(error) => assert!(ApiError::from(error).is_overloaded()),
        }
    }
    // One after another, the calls fill several minutes.
    let seen = sim.report().arrived;
    assert!((120..200).contains(&seen), "{seen}");
}
