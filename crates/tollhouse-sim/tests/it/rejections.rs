//! What the limits refuse, in OpenAI's words, and what the headers tell.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tollhouse_sim::{ChargeRule, Claim, Enforcement, Headers, Limits, RequestEnforcement, Sim};

use crate::client::{Answer, call, chat, hello};

fn told(answer: &Answer, kind: &str) -> [String; 3] {
    ["limit", "remaining", "reset"].map(|what| {
        answer
            .header(&format!("x-ratelimit-{what}-{kind}"))
            .to_owned()
    })
}

#[tokio::test(start_paused = true)]
async fn tokens_used_up_is_told_in_numbers() {
    let sim = Sim::builder().build().unwrap();
    // 4 for the prompt.
    assert_eq!(chat(&sim, &hello(14_563)).await.status, 200);
    let answer = chat(&sim, &hello(24_750)).await;
    assert_eq!(answer.status, 429);
    assert_eq!(
        answer.message(),
        "Rate limit reached for gpt-4o in organization org-sim on tokens per min (TPM): Limit \
         30000, Used 14567, Requested 24754. Please try again in 18.642s. Visit \
         https://platform.openai.com/account/rate-limits to learn more."
    );
    let error = (json!("tokens"), Value::Null, json!("rate_limit_exceeded"));
    assert_eq!(answer.error(), error);
    assert_eq!(answer.header("retry-after"), "");
}

#[tokio::test(start_paused = true)]
async fn requests_used_up_is_told_in_numbers() {
    let sim = Sim::builder().requests_per_minute(3).build().unwrap();
    for _ in 0..3 {
        assert_eq!(chat(&sim, &hello(10)).await.status, 200);
    }
    let answer = chat(&sim, &hello(10)).await;
    assert_eq!(
        answer.message(),
        "Rate limit reached for gpt-4o in organization org-sim on requests per min (RPM): Limit \
         3, Used 3, Requested 1. Please try again in 20s. Visit \
         https://platform.openai.com/account/rate-limits to learn more."
    );
    let error = (json!("requests"), Value::Null, json!("rate_limit_exceeded"));
    assert_eq!(answer.error(), error);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_can_never_fit_is_told_so() {
    let sim = Sim::builder().build().unwrap();
    let answer = chat(&sim, &hello(31_534)).await;
    assert_eq!(answer.status, 429);
    assert_eq!(
        answer.message(),
        "Request too large for gpt-4o in organization org-sim on tokens per min (TPM): Limit \
         30000, Requested 31538. The input or output tokens must be reduced in order to run \
         successfully. Visit https://platform.openai.com/account/rate-limits to learn more."
    );
    assert_eq!(sim.report().total.rejected.too_large, 1);
}

#[tokio::test(start_paused = true)]
async fn who_waits_as_told_is_admitted_and_a_millisecond_less_is_not() {
    let table = [
        Enforcement::Continuous,
        Enforcement::FixedMinute {
            phase: Duration::from_millis(12_345),
        },
        Enforcement::SlidingMinute,
    ];
    for enforcement in table {
        for short_by in [0, 1] {
            let sim = Sim::builder()
                .enforcement(enforcement)
                .retry_after(true)
                .build()
                .unwrap();
            chat(&sim, &hello(20_000)).await;
            sleep(Duration::from_millis(777)).await;
            let refused = chat(&sim, &hello(20_000)).await;
            let wait: u64 = refused.header("retry-after-ms").parse().unwrap();
            let seconds = wait.div_ceil(1_000).to_string();
            assert_eq!(refused.header("retry-after"), seconds);
            sleep(Duration::from_millis(wait - short_by)).await;
            let status = chat(&sim, &hello(20_000)).await.status;
            assert_eq!(status == 200, short_by == 0, "{enforcement:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn headers_tell_the_limit_what_remains_and_when_it_is_full() {
    let sim = Sim::builder().requests_per_minute(60).build().unwrap();
    let answer = chat(&sim, &hello(5_996)).await;
    // 6,000 of 30,000 tokens and 1 of 60 requests.
    assert_eq!(told(&answer, "tokens"), ["30000", "24000", "12s"]);
    assert_eq!(told(&answer, "requests"), ["60", "59", "1s"]);

    sleep(Duration::from_secs(2)).await;
    let answer = chat(&sim, &hello(30_000)).await;
    assert_eq!(answer.status, 429);
    assert_eq!(told(&answer, "tokens"), ["30000", "25000", "10s"]);
    // The refused request counts.
    assert_eq!(told(&answer, "requests"), ["60", "59", "1s"]);
}

#[tokio::test(start_paused = true)]
async fn headers_are_left_out_where_there_is_no_limit() {
    let sim = Sim::builder().tokens_per_minute(None).build().unwrap();
    let answer = chat(&sim, &hello(10)).await;
    assert_eq!(told(&answer, "tokens"), ["", "", ""]);
    assert_eq!(told(&answer, "requests"), ["500", "499", "120ms"]);
}

#[tokio::test(start_paused = true)]
async fn headers_lie_as_configured() {
    let table = [
        (Claim::Untouched, ["30000", "30000", "0s"]),
        (Claim::Exhausted, ["30000", "0", "1m0s"]),
        (Claim::Rubbish, ["-1", "many", "soon"]),
    ];
    for (claim, expected) in table {
        let sim = Sim::builder().claim(claim).build().unwrap();
        let answer = chat(&sim, &hello(1_000)).await;
        assert_eq!(told(&answer, "tokens"), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn headers_are_missing_as_often_as_configured() {
    let headers = Headers {
        missing: 0.3,
        ..Headers::default()
    };
    let sim = Sim::builder()
        .requests_per_minute(None)
        .headers(headers)
        .build()
        .unwrap();
    let mut missing = 0;
    for _ in 0..1_000 {
        let answer = chat(&sim, &hello(1)).await;
        missing += u64::from(answer.header("x-ratelimit-limit-tokens").is_empty());
    }
    // 300, give or take four deviations of 14.5.
    assert!((242..=358).contains(&missing), "{missing}");
}

#[tokio::test(start_paused = true)]
async fn a_429_has_no_headers_where_switched_off() {
    let headers = Headers {
        on_rejection: false,
        ..Headers::default()
    };
    let sim = Sim::builder().headers(headers).build().unwrap();
    let answer = chat(&sim, &hello(29_000)).await;
    assert_eq!(answer.header("x-ratelimit-limit-tokens"), "30000");
    let answer = chat(&sim, &hello(29_000)).await;
    assert_eq!(answer.header("x-ratelimit-limit-tokens"), "");
}

#[tokio::test(start_paused = true)]
async fn requests_are_enforced_by_the_second() {
    let sim = Sim::builder()
        .requests_per_minute(120)
        .requests(RequestEnforcement::PerSecond)
        .build()
        .unwrap();
    let statuses = [
        chat(&sim, &hello(1)).await.status.as_u16(),
        chat(&sim, &hello(1)).await.status.as_u16(),
        chat(&sim, &hello(1)).await.status.as_u16(),
    ];
    assert_eq!(statuses, [200, 200, 429]);
    sleep(Duration::from_millis(500)).await;
    let answer = chat(&sim, &hello(1)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(told(&answer, "requests"), ["120", "118", "1s"]);
}

#[tokio::test(start_paused = true)]
async fn each_model_has_its_own_limits() {
    let limits = |tokens| Limits {
        tokens_per_minute: Some(tokens),
        requests_per_minute: None,
    };
    let sim = Sim::builder()
        .model("gpt-4o", limits(100))
        .model("gpt-4o-mini", limits(1_000))
        .build()
        .unwrap();
    assert_eq!(chat(&sim, &hello(96)).await.status, 200);
    assert_eq!(chat(&sim, &hello(96)).await.status, 429);
    let mut body = hello(96);
    body["model"] = json!("gpt-4o-mini");
    let answer = chat(&sim, &body).await;
    assert_eq!(told(&answer, "tokens"), ["1000", "900", "6s"]);
}

#[tokio::test(start_paused = true)]
async fn a_sped_up_minute_is_told_in_the_clients_time() {
    let sim = Sim::builder().speed(60.0).build().unwrap();
    // All of a minute's tokens, and the minute takes one second.
    let answer = chat(&sim, &hello(29_996)).await;
    assert_eq!(told(&answer, "tokens"), ["30000", "0", "1s"]);
    let answer = chat(&sim, &hello(14_996)).await;
    assert!(answer.message().contains("Please try again in 500ms."));
    sleep(Duration::from_millis(500)).await;
    assert_eq!(chat(&sim, &hello(14_996)).await.status, 200);
}

/// Sends to a fresh provider and says how many tokens were charged.
async fn charged(rule: ChargeRule, path: &str, body: Value) -> u64 {
    let sim = Sim::builder().charge(rule).build().unwrap();
    let answer = call(&sim, path, &body).await;
    assert_eq!(answer.status, 200, "{body}");
    let [_, remaining, _] = told(&answer, "tokens");
    30_000 - remaining.parse::<u64>().unwrap()
}

#[tokio::test(start_paused = true)]
async fn charges_are_as_measured() {
    let chat = "/v1/chat/completions";
    let message = |content: Value| json!({"role": "user", "content": content});
    let image = json!([
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
    ]);
    let tools = json!([{"type": "function", "name": "f", "parameters": {}}]);
    let chat_tools = json!([{"type": "function", "function": {"name": "f", "parameters": {}}}]);
    // (path, body, charged by the prompt alone, charged as requested)
    let table = [
        (
            chat,
            json!({"messages": [message(json!("Hi there"))]}),
            4,
            20,
        ),
        (
            chat,
            json!({"messages": [message(json!("Hi there"))], "tools": chat_tools}),
            4,
            20,
        ),
        (
            chat,
            json!({"messages": [message(json!("Zürich"))], "max_tokens": 50}),
            4,
            54,
        ),
        // Two messages of 9 bytes together.
        (
            chat,
            json!({
                "messages": [message(json!("Hello")), message(json!("Hiya"))],
                "n": 3, "max_tokens": 50, "max_completion_tokens": 20,
            }),
            6,
            66,
        ),
        (
            chat,
            json!({"messages": [message(image)], "max_tokens": 1}),
            770,
            771,
        ),
        // 4 for the message and 3 for the conversation; a guess of 19 or 217.
        (
            "/v1/responses",
            json!({"input": "Hi there"}),
            9 + 19,
            9 + 16,
        ),
        (
            "/v1/responses",
            json!({"input": "Hi there", "tools": tools, "max_output_tokens": 40}),
            // The schema has 47 bytes.
            9 + 12 + 217,
            9 + 12 + 40,
        ),
        (
            "/v1/completions",
            json!({"prompt": "Hi there", "max_tokens": 7}),
            2,
            9,
        ),
        (
            "/v1/completions",
            json!({"prompt": ["a", "b"], "n": 2, "max_tokens": 7}),
            1,
            29,
        ),
        (
            "/v1/embeddings",
            json!({"input": ["Hi there", "you"]}),
            3,
            3,
        ),
        ("/v1/embeddings", json!({"input": [[1, 2, 3], [4]]}), 4, 4),
    ];
    for (path, mut body, prompt, requested) in table {
        body["model"] = json!("gpt-4o");
        assert_eq!(
            charged(ChargeRule::OpenAi, path, body.clone()).await,
            prompt,
            "{body}"
        );
        assert_eq!(
            charged(ChargeRule::AsRequested, path, body.clone()).await,
            requested,
            "{body}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_complete_answer_is_trued_up_before_its_head() {
    let sim = Sim::builder().true_up(true).build().unwrap();
    let answer = chat(&sim, &hello(1_000)).await;
    let used = answer.json()["usage"]["total_tokens"].as_u64().unwrap();
    let remaining = (30_000 - used).to_string();
    assert_eq!(answer.header("x-ratelimit-remaining-tokens"), remaining);
    let total = sim.report().total;
    assert_eq!((total.tokens_charged, total.tokens_used), (used, used));
}

#[tokio::test(start_paused = true)]
async fn buckets_start_with_the_first_call() {
    let sim = Sim::builder().start_level(0.0).build().unwrap();
    // However long nobody calls, the first call finds them as configured.
    sleep(Duration::from_secs(600)).await;
    let start = Instant::now();
    let answer = chat(&sim, &hello(2_996)).await;
    assert!(
        answer
            .message()
            .contains("Requested 1. Please try again in 120ms.")
    );
    sleep(Duration::from_secs(6)).await;
    assert_eq!(chat(&sim, &hello(2_996)).await.status, 200);
    assert_eq!(start.elapsed(), Duration::from_secs(6));
}
