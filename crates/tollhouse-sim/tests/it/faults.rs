//! What goes wrong on the provider's side.

use std::io::ErrorKind;
use std::time::Duration;

use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tollhouse_sim::{Faults, Sim};

use crate::client::{chat, chat_request, head, hello, streamed};

fn only(faults: Faults) -> Sim {
    let builder = Sim::builder().requests_per_minute(None);
    builder.faults(faults).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_server_error_is_500_and_was_charged() {
    let sim = only(Faults {
        server_error: 1.0,
        ..Faults::default()
    });
    let answer = chat(&sim, &hello(100)).await;
    assert_eq!(answer.status, 500);
    assert_eq!(
        answer.error(),
        (json!("server_error"), Value::Null, Value::Null)
    );
    assert!(answer.message().contains(answer.header("x-request-id")));
    let total = sim.report().total;
    assert_eq!(
        (total.faults.server_error, total.admitted, total.completed),
        (1, 1, 0)
    );
    assert_eq!((total.tokens_charged, total.tokens_used), (104, 0));
}

#[tokio::test(start_paused = true)]
async fn an_overloaded_provider_is_503_and_charges_nothing_where_so_configured() {
    let sim = only(Faults {
        unavailable: 1.0,
        charged: false,
        ..Faults::default()
    });
    let answer = chat(&sim, &hello(100)).await;
    assert_eq!(answer.status, 503);
    let (kind, _, code) = answer.error();
    assert_eq!(
        (kind, code),
        (
            json!("service_unavailable_error"),
            json!("server_is_overloaded")
        )
    );
    let total = sim.report().total;
    assert_eq!((total.faults.unavailable, total.tokens_charged), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_fault_is_refunded_where_charges_are_trued_up() {
    let faults = Faults {
        server_error: 1.0,
        ..Faults::default()
    };
    let sim = Sim::builder().faults(faults).true_up(true).build().unwrap();
    chat(&sim, &hello(29_000)).await;
    assert_eq!(chat(&sim, &hello(29_000)).await.status, 500);
    assert_eq!(sim.report().total.tokens_charged, 0);
}

#[tokio::test(start_paused = true)]
async fn a_reset_is_an_error_of_the_service() {
    let sim = only(Faults {
        reset: 1.0,
        ..Faults::default()
    });
    let error = head(&sim, chat_request(&hello(10))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let report = sim.report();
    assert_eq!((report.total.faults.reset, report.in_flight), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_reset_behind_a_router_is_a_body_that_fails_at_once() {
    let sim = only(Faults {
        reset: 1.0,
        ..Faults::default()
    });
    let request = chat_request(&hello(10)).map(axum::body::Body::from);
    let response = tower::ServiceExt::oneshot(sim.router(), request)
        .await
        .unwrap();
    assert!(response.into_body().collect().await.is_err());
    assert_eq!(sim.report().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn a_cut_stream_breaks_off_half_way_and_keeps_its_charge() {
    let sim = only(Faults {
        cut: 1.0,
        ..Faults::default()
    });
    let whole = chat(&sim, &hello(200)).await.json();
    let tokens = whole["usage"]["completion_tokens"].as_u64().unwrap();
    let before = sim.report().total.tokens_used;

    let response = head(&sim, chat_request(&streamed(hello(200))))
        .await
        .unwrap();
    let mut body = response.into_body();
    let mut frames = 0;
    let error = loop {
        match body.frame().await.expect("it breaks off before its end") {
            Ok(_) => frames += 1,
            Err(error) => break error,
        }
    };
    assert!(
        error.to_string().contains("reset the connection"),
        "{error}"
    );
    // The role, then half of the tokens.
    assert_eq!(frames, 1 + tokens / 2);
    assert!(body.frame().await.is_none());
    let report = sim.report();
    assert_eq!((report.total.faults.cut, report.in_flight), (1, 0));
    assert_eq!((report.total.completed, report.total.abandoned), (1, 0));
    assert_eq!(report.total.tokens_used - before, 9 + tokens / 2);
    assert_eq!(report.total.tokens_charged, 2 * 204);
}

#[tokio::test(start_paused = true)]
async fn faults_come_as_often_as_configured_and_the_same_every_time() {
    let run = async || {
        let sim = Sim::builder()
            .seed(11)
            .tokens_per_minute(None)
            .requests_per_minute(None)
            .faults(Faults::hard())
            .build()
            .unwrap();
        for _ in 0..2_000 {
            if let Ok(response) = head(&sim, chat_request(&hello(2))).await {
                response.into_body().collect().await.unwrap();
            }
        }
        sim.report().total.faults
    };
    let faults = run().await;
    assert!((10..=32).contains(&faults.server_error), "{faults}");
    assert!((10..=32).contains(&faults.unavailable), "{faults}");
    assert!((3..=18).contains(&faults.reset), "{faults}");
    assert_eq!(faults, run().await);
}

#[tokio::test(start_paused = true)]
async fn a_storm_refuses_everybody_while_it_lasts() {
    let sim = Sim::builder()
        .storm(Duration::from_secs(5), Duration::from_secs(25))
        .build()
        .unwrap();
    let start = Instant::now();
    let mut refused = vec![];
    for _ in 0..30 {
        let answer = chat(&sim, &hello(1)).await;
        if answer.status == 429 {
            assert_eq!(answer.error().0, "requests");
            assert!(!answer.message().contains("try again in"));
            refused.push(start.elapsed().as_secs());
        }
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(refused, (5..25).collect::<Vec<_>>());
    assert_eq!(sim.report().total.rejected.storm, 20);
}

#[tokio::test(start_paused = true)]
async fn hard_is_what_the_real_side_has() {
    let sim = Sim::builder().hard().build().unwrap();
    let config = sim.config();
    assert_eq!((config.start_level, config.others), (0.0, 0.15));
    assert_eq!(config.faults, Faults::hard());
    // Empty at first, and filled by 85 % of the limit: 25,500 a minute.
    assert_eq!(chat(&sim, &hello(10)).await.status, 429);
    sleep(Duration::from_secs(60)).await;
    let answer = chat(&sim, &hello(25_597)).await;
    assert!(
        answer.message().contains("Used 4500, Requested 25601"),
        "{}",
        answer.message()
    );
}
