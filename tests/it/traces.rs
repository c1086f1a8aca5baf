//! What the gates tell a tracing subscriber, and what they never tell.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use tollhouse_openai::Policy;
use tollhouse_sim::{Limits, Sim};
use tower::{Layer, ServiceExt};
use tracing_subscriber::fmt::MakeWriter;

#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Page {
    fn text(&self) -> String {
        let bytes = self.0.lock().expect("no panic while writing");
        String::from_utf8(bytes.clone()).expect("traces are text")
    }
}

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic while writing").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'p> MakeWriter<'p> for Page {
    type Writer = Page;

    fn make_writer(&'p self) -> Page {
        self.clone()
    }
}

fn chat(question: &str, max_tokens: u64) -> Request<Bytes> {
    let body = format!(
        r#"{{"model":"gpt-4o","max_tokens":{max_tokens},"messages":[{{"role":"user","content":"{question}"}}]}}"#
    );
    Request::post("/v1/chat/completions")
        .body(Bytes::from(body))
        .expect("a valid request")
}

#[tokio::test(start_paused = true)]
async fn every_step_is_told_and_never_the_prompt() {
    // Others run beside this test without a subscriber: a call site that one of
    // them reached first would be off for all.
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry());
    let page = Page::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .without_time()
        .with_writer(page.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);

    // The first call runs into the storm, and is asked again after it.
    let limits = Limits {
        tokens_per_minute: Some(30_000),
        requests_per_minute: None,
    };
    let sim = Sim::builder()
        .model("gpt-4o", limits)
        .storm(Duration::ZERO, Duration::from_secs(1))
        .build();
    let provider = sim.expect("a valid simulation").service();
    let policy = Policy::default().max_concurrency(1);
    let client = policy.layer().layer(provider);
    let secret = "the whereabouts of the treasure";
    let call = || async {
        let answer = client.clone().oneshot(chat(secret, 100)).await;
        let body = answer.expect("an answer").into_body();
        body.collect().await.expect("a whole body");
    };
    tokio::join!(call(), call());
    let too_large = client.clone().oneshot(chat(secret, 100_000)).await;
    assert!(too_large.is_err());

    let text = page.text();
    let ours: Vec<&str> = text
        .lines()
        .filter(|line| line.contains("tollhouse"))
        .collect();
    let told = |words: &[&str]| {
        let found = ours
            .iter()
            .any(|line| words.iter().all(|word| line.contains(word)));
        assert!(found, "{words:?} in\n{text}");
    };
    told(&["DEBUG", "waiting", "gate=\"budget\""]);
    told(&["DEBUG", "admitted", "gate=\"budget\"", "waited="]);
    told(&["TRACE", "admitted", "gate=\"budget\"", "cost="]);
    told(&["DEBUG", "held", "gate=\"budget\"", "delay="]);
    told(&["DEBUG", "retrying", "attempt=1", "delay="]);
    told(&[
        "DEBUG",
        "refused",
        "gate=\"budget\"",
        "cost=100015",
        "25500",
    ]);
    assert!(!text.contains("treasure"), "{text}");
}
