//! Pools whose provider counts input, output or images apart.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response};
use http_body_util::Full;
use tokio::time::{Instant, sleep};
use tollhouse_openai::Account;
use tollhouse_openai::account::PoolMeter;
use tower::{Layer, Service, service_fn};

use super::{SEC, call, chat};

/// Answers after a second, with this body.
fn answers(
    body: &'static str,
) -> impl Service<Request<Bytes>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send>
+ Clone {
    service_fn(move |_: Request<Bytes>| async move {
        sleep(SEC).await;
        Ok(Response::new(Full::from(body)))
    })
}

/// A pool of these limits and nothing else.
fn account(limits: &str) -> Account {
    let text = format!(
        r#"
        [defaults]
        max_concurrency = 1000
        stagger_seconds = 0
        headroom = 0
        window = "off"
        cautious_start = false
        tokens_per_minute = "unlimited"
        {limits}
        "#
    );
    Account::from_toml(&text).expect("a good file")
}

fn meter(account: &Account, unit: &str) -> PoolMeter {
    let pools = account.snapshot().pools;
    let mut meters = pools.into_iter().flat_map(|pool| pool.meters);
    meters.find(|meter| meter.unit == unit).expect("a meter")
}

const SPLIT: &str = "input_tokens_per_minute = 6_000
        output_tokens_per_minute = 6_000";

/// Input of 8 and output of 992 are reserved, and 500 and 2,000 used: both are owed. What
/// is in transit is not refilled, so the levels are those of the answer's instant.
#[tokio::test(start_paused = true)]
async fn what_was_used_above_the_charge_is_owed_to_each_units_meter() {
    let account = account(SPLIT);
    let used = r#"{"usage":{"prompt_tokens":500,"completion_tokens":2000,"total_tokens":2500}}"#;
    let client = account.layer().layer(answers(used));
    assert_eq!(call(&client, chat("o3", 1_000)).await, 200);
    assert_eq!(meter(&account, "input tokens").level, 6_000 - 500);
    assert_eq!(meter(&account, "output tokens").level, 6_000 - 2_000);
}

/// Thinking that the total alone tells is output.
#[tokio::test(start_paused = true)]
async fn thinking_that_only_the_total_tells_is_output() {
    let account = account(SPLIT);
    let used = r#"{"usage":{"prompt_tokens":8,"completion_tokens":10,"total_tokens":2008}}"#;
    let client = account.layer().layer(answers(used));
    call(&client, chat("o3", 1_000)).await;
    assert_eq!(meter(&account, "output tokens").level, 6_000 - 2_000);
}

/// An answer that tells a total alone does not say which part was output: what was
/// reserved of each stands.
#[tokio::test(start_paused = true)]
async fn a_total_alone_leaves_the_parts_as_they_were_reserved() {
    let account = account(SPLIT);
    let client = account
        .layer()
        .layer(answers(r#"{"usage":{"total_tokens":5000}}"#));
    call(&client, chat("o3", 1_000)).await;
    assert_eq!(meter(&account, "output tokens").level, 6_000 - 992);
}

/// A provider that counts 100 tokens of output a second, up to 6,000, and gives back what
/// a call promised and did not write. It refuses nobody: it tells whether it would have.
#[derive(Clone, Default)]
struct CountsOutput(Arc<Mutex<Counted>>);

#[derive(Default)]
struct Counted {
    spent: u64,
    begun: Option<Instant>,
    overdrawn: bool,
}

impl CountsOutput {
    fn take(&self, promised: u64) {
        let mut counted = self.0.lock().unwrap();
        let begun = *counted.begun.get_or_insert_with(Instant::now);
        let refilled = begun.elapsed().as_millis() as u64 / 10;
        // No more than the bucket holds is ever there.
        counted.spent = counted.spent.max(refilled) + promised;
        counted.overdrawn |= counted.spent > refilled + 6_000;
    }

    fn give_back(&self, unused: u64) {
        self.0.lock().unwrap().spent -= unused;
    }

    fn service(
        &self,
    ) -> impl Service<
        Request<Bytes>,
        Response = Response<Full<Bytes>>,
        Error = Infallible,
        Future: Send,
    > + Clone {
        let provider = self.clone();
        service_fn(move |_: Request<Bytes>| {
            let provider = provider.clone();
            async move {
                provider.take(992);
                sleep(SEC).await;
                provider.give_back(992 - 100);
                let told = r#"{"usage":{"prompt_tokens":8,"completion_tokens":100}}"#;
                Ok(Response::new(Full::from(told)))
            }
        })
    }
}

/// Forty calls that promise 39,680 tokens and write 4,000: six at once, each second six
/// more. By what they promise they would take 337 s.
#[tokio::test(start_paused = true)]
async fn output_that_was_not_written_is_given_back_where_the_provider_does() {
    let account = account(&format!("{SPLIT}\n        accounting = \"as_used\""));
    let provider = CountsOutput::default();
    let client = account.layer().layer(provider.service());
    let start = Instant::now();
    join_all((0..40).map(|_| call(&client, chat("o3", 1_000)))).await;
    assert!(!provider.0.lock().unwrap().overdrawn);
    let took = start.elapsed();
    assert!(took <= Duration::from_secs(20), "{took:?}");
}

fn images(n: u64) -> Request<Bytes> {
    let body = format!(r#"{{"model":"gpt-image-1","prompt":"The sea","n":{n}}}"#);
    let request = Request::post("/v1/images/generations");
    request.body(body.into()).unwrap()
}

/// Six a minute: those that were asked for are taken, and an answer's tokens give none
/// of them back.
#[tokio::test(start_paused = true)]
async fn images_are_counted_as_they_were_asked_for() {
    let account = account("images_per_minute = 6\n        accounting = \"as_used\"");
    let used = r#"{"data":[{},{}],"usage":{"input_tokens":9,"output_tokens":9,"total_tokens":18}}"#;
    let client = account.layer().layer(answers(used));
    let start = Instant::now();
    call(&client, images(4)).await;
    call(&client, images(2)).await;
    assert_eq!(start.elapsed(), 2 * SEC);
    // Nothing was left when the second call was sent, at 1 s; two are there again 20 s
    // after that, and the answer takes one.
    call(&client, images(2)).await;
    assert_eq!(start.elapsed(), 22 * SEC);
}

/// An upload says how many only inside its form: it is charged one.
#[tokio::test(start_paused = true)]
async fn an_upload_is_charged_one_image() {
    let account = account("images_per_minute = 6");
    let client = account.layer().layer(answers("{}"));
    let request = Request::post("/v1/images/edits").header("content-type", "multipart/form-data");
    call(&client, request.body(Bytes::from("--x")).unwrap()).await;
    assert_eq!(meter(&account, "images").level, 5);
    // Who only reads is charged nothing.
    call(
        &client,
        Request::get("/v1/images/1").body(Bytes::new()).unwrap(),
    )
    .await;
    assert_eq!(meter(&account, "images").level, 5);
}
