//! What a plan says, in numbers, as a table and as JSON.

use std::sync::Arc;
use std::time::Duration;

use crate::common::{input, line};
use bytes::Bytes;
use http::Request;
use serde_json::json;
use tollhouse_batch::plan::{Allowed, Limit, Parts, Share};
use tollhouse_batch::{Done, Limits, Plan};

fn by_length(request: &Request<Bytes>) -> u64 {
    request.body().len() as u64
}

/// Three models at two endpoints; line 3 is larger than the budget, line 5 is
/// bad, line 6 a duplicate.
fn lines() -> String {
    let line = |id: &str, url: &str, body: &str| {
        format!(r#"{{"custom_id":"{id}","method":"POST","url":"{url}","body":{body}}}"#) + "\n"
    };
    [
        line(
            "a",
            "/v1/chat/completions",
            r#"{"model":"gpt-4o","messages":[]}"#,
        ),
        line(
            "b",
            "/v1/embeddings",
            r#"{"model":"text-embedding-3-small","input":"x"}"#,
        ),
        line(
            "big",
            "/v1/embeddings",
            &format!(r#"{{"model":"m","input":"{}"}}"#, "x".repeat(1_000)),
        ),
        line(
            "c",
            "/v1/chat/completions",
            r#"{"model":"gpt-4o","messages":[{}]}"#,
        ),
        "{\"custom_id\":\"d\"}\n".to_owned(),
        line("a", "/v1/chat/completions", "{}"),
        line("e", "/v1/chat/completions", r#"{"messages":[]}"#),
    ]
    .concat()
}

fn limits() -> Limits {
    Limits::new()
        .tokens_per_minute(600)
        .capacity(100)
        .requests_per_minute(60)
        .stagger(Duration::from_millis(500))
        .concurrency(2, Duration::from_secs(1))
}

async fn plan() -> Plan {
    let lines = lines();
    let plan = Plan::read(lines.as_bytes(), by_length, limits()).await;
    plan.expect("memory can be read")
}

#[tokio::test]
async fn plan_counts_what_is_sent_and_names_what_is_not() {
    let plan = plan().await;
    assert_eq!((plan.lines, plan.requests, plan.tokens), (7, 4, 127));
    assert_eq!(plan.largest_cost, 46);
    let loads: Vec<_> = plan
        .loads
        .iter()
        .map(|load| {
            (
                load.model.as_deref(),
                &*load.endpoint,
                load.requests,
                load.tokens,
            )
        })
        .collect();
    let expected = [
        (None, "/v1/chat/completions", 1, 15),
        (Some("gpt-4o"), "/v1/chat/completions", 2, 66),
        (Some("text-embedding-3-small"), "/v1/embeddings", 1, 46),
    ];
    assert_eq!(loads, expected);

    let impossible = &plan.impossible.first[0];
    assert_eq!((impossible.line, &*impossible.custom_id), (3, "big"));
    assert_eq!((impossible.cost, impossible.limit), (1_024, 100));
    let bad: Vec<_> = plan.bad_lines.first.iter().map(|bad| bad.line).collect();
    assert_eq!(bad, [5, 6]);
}

#[tokio::test]
async fn longest_limit_binds() {
    let plan = plan().await;
    let times: Vec<_> = plan
        .times
        .iter()
        .map(|t| (t.limit, t.time.as_secs_f64()))
        .collect();
    let expected = [
        // 27 of 127 tokens are above the burst, at 10 a second.
        (Limit::Tokens, 2.7),
        (Limit::Requests, 3.0),
        (Limit::Stagger, 1.5),
        (Limit::Concurrency, 2.0),
    ];
    assert_eq!(times, expected);
    assert_eq!(plan.binding, Some(Limit::Requests));
    assert_eq!(plan.time, Duration::from_secs(3));
}

#[tokio::test]
async fn plan_is_a_table() {
    let expected = "\
model                   endpoint                requests          tokens
-                       /v1/chat/completions           1              15
gpt-4o                  /v1/chat/completions           2              66
text-embedding-3-small  /v1/embeddings                 1              46
total                                                  4             127

limit                       allowed       takes   to halve it
tokens a minute                 600        2.7s           666
requests a minute                60        3.0s           120  <- binds
time between launches          0.5s        1.5s             -
requests at once                  2        2.0s             3

7 lines; 4 requests to send in about 3.0s

1 line that can never be sent:
  line 3, custom_id \"big\": costs 1,024 tokens; at most 100 can ever be admitted

2 lines without a valid request:
  line 5, custom_id \"d\": `method` is missing
  line 6, custom_id \"a\": the same custom_id as line 1; each must be unique
";
    assert_eq!(plan().await.to_string(), expected);
}

#[tokio::test]
async fn plan_is_json() {
    let json = serde_json::to_value(plan().await).expect("a plan is JSON");
    assert_eq!(json["requests"], 4);
    assert_eq!(json["seconds"], 3.0);
    assert_eq!(json["binding"], "requests");
    assert_eq!(
        json["times"][2],
        json!({"limit": "stagger", "allowed": 0.5, "seconds": 1.5, "to_halve": null})
    );
    assert_eq!(
        json["impossible"],
        json!({"count": 1, "first": [
            {"line": 3, "custom_id": "big", "meter": "tokens", "cost": 1024, "limit": 100}
        ]})
    );
    assert_eq!(
        json["bad_lines"]["first"][0],
        json!({"line": 5, "custom_id": "d", "problem": "`method` is missing"})
    );
}

#[tokio::test]
async fn plan_without_limits_takes_no_time() {
    let lines = input(["a", "b"]);
    let plan = Plan::read(lines.as_bytes(), by_length, Limits::new()).await;
    let plan = plan.expect("memory can be read");
    assert_eq!((plan.binding, plan.time), (None, Duration::ZERO));
    assert!(
        plan.to_string()
            .ends_with("\n2 lines; 2 requests to send at once\n")
    );
}

#[tokio::test]
async fn plan_of_the_rest_leaves_out_what_is_done() {
    let mut done = Done::new();
    let output = r#"{"id":"batch_req_1","custom_id":"a","response":{},"error":null}"#;
    done.read(output.as_bytes()).await.expect("an output");
    let lines = input(["a", "b"]);
    let plan = Plan::read_rest(lines.as_bytes(), done, by_length, Limits::new()).await;
    let plan = plan.expect("memory can be read");
    assert_eq!((plan.lines, plan.skipped, plan.requests), (2, 1, 1));
    assert!(
        plan.to_string()
            .contains("2 lines, 1 already done; 1 request to send")
    );
}

#[tokio::test]
async fn remarks_are_all_counted_and_some_kept() {
    let lines = "nonsense\n".repeat(1_500);
    let plan = Plan::read(lines.as_bytes(), by_length, Limits::new()).await;
    let plan = plan.expect("memory can be read");
    assert_eq!(
        (plan.bad_lines.count, plan.bad_lines.first.len()),
        (1_500, 1_000)
    );
    assert!(plan.to_string().ends_with("  and 1,490 more\n"));
}

/// With every limit at what the plan says, the batch takes half of its time;
/// with any of them one less, more.
#[tokio::test]
async fn limits_to_halve_it_halve_it() {
    for n in 1..60_u64 {
        let input: String = (0..n * 7).map(|id| line(&id.to_string()) + "\n").collect();
        let cost = move |request: &Request<Bytes>| request.body().len() as u64 + n * 13;
        let limits = |tokens, requests, stagger, slots| {
            Limits::new()
                .tokens_per_minute(tokens)
                .requests_per_minute(requests)
                .stagger(stagger)
                .concurrency(slots, Duration::from_secs(1 + n % 5))
        };
        let read = async |limits| {
            let plan = Plan::read(input.as_bytes(), cost, limits).await;
            plan.expect("memory can be read")
        };
        let spaced = Duration::from_millis(n * 40);
        let (rate, each, slots) = (30 + n * n, 4_000 + n * 101, 1 + n as usize % 9);
        let plan = read(limits(each, rate, spaced, slots)).await;
        let (mut tokens, mut requests, mut gap, mut at_once) = (each, rate, spaced, slots);
        for time in &plan.times {
            assert_eq!(time.to_halve.is_some(), time.time > plan.time / 2);
            match (time.limit, time.to_halve) {
                (Limit::Tokens, Some(Allowed::PerMinute(rate))) => tokens = rate,
                (Limit::Requests, Some(Allowed::PerMinute(rate))) => requests = rate,
                (Limit::Stagger, Some(Allowed::OneEach(each))) => gap = each,
                (Limit::Concurrency, Some(Allowed::AtOnce(slots))) => at_once = slots as usize,
                (_, told) => assert_eq!(told, None),
            }
        }
        let halved = read(limits(tokens, requests, gap, at_once)).await;
        let half = plan.time / 2;
        assert!(
            halved.time <= half + Duration::from_micros(1),
            "{n}: {half:?}"
        );
        if tokens > each {
            let less = read(limits(tokens - 1, requests, gap, at_once)).await;
            assert!(less.time > half, "{n}");
        }
    }
}

#[tokio::test]
async fn what_the_budget_holds_now_is_what_goes_at_once() {
    let input = line("a") + "\n" + &line("b");
    let limits = Limits::new().tokens_per_minute(600).available(-100);
    let plan = Plan::read(input.as_bytes(), |_: &Request<Bytes>| 300, limits).await;
    assert_eq!(plan.expect("a plan").time, Duration::from_secs(70));
}

/// What a pool limits apart: input, output, images, and what a day allows.
#[tokio::test]
async fn limits_of_the_day_and_of_parts_bind_and_forbid() {
    let body = |model: &str| format!(r#"{{"model":"{model}","messages":[]}}"#) + "\n";
    let input = body("chat").repeat(30) + &body("image").repeat(4) + &body("long");
    let chats = Limits::new()
        .tokens_per_minute(60_000)
        .input_tokens_per_minute(9_000)
        .output_tokens_per_minute(2_000)
        .tokens_per_day(20_000)
        .requests_per_day(25);
    let pools: [(Arc<str>, _); 2] = [
        ("chats".into(), Arc::new(chats)),
        (
            "images".into(),
            Arc::new(Limits::new().images_per_minute(3)),
        ),
    ];
    let share = |request: &Request<Bytes>| {
        let body = String::from_utf8_lossy(request.body());
        let is_image = body.contains("image");
        let (pool, limits) = pools[usize::from(is_image)].clone();
        let (input_tokens, output_tokens) = match body.contains("long") {
            true => (600, 9_001),
            false => (600, 400),
        };
        let parts = Parts {
            input_tokens,
            output_tokens,
            images: 2 * u64::from(is_image),
        };
        let cost = input_tokens + output_tokens;
        Share {
            pool,
            limits,
            cost,
            parts,
        }
    };
    let plan = Plan::read_pools(input.as_bytes(), Done::new(), share, Limits::new()).await;
    let plan = plan.expect("memory can be read");
    let times = |pool: usize| -> Vec<_> {
        let times = plan.pools[pool].times.iter();
        let times = times.map(|time| (time.limit, time.allowed, time.time.as_secs()));
        times.collect()
    };
    let day = 86_400;
    let chats = [
        (Limit::Tokens, Allowed::PerMinute(60_000), 0),
        (Limit::InputTokens, Allowed::PerMinute(9_000), 60),
        (Limit::OutputTokens, Allowed::PerMinute(2_000), 300),
        (Limit::TokensPerDay, Allowed::PerDay(20_000), day / 2),
        (Limit::RequestsPerDay, Allowed::PerDay(25), day / 5),
    ];
    assert_eq!(times(0), chats);
    // Eight images, three of them at once.
    assert_eq!(times(1), [(Limit::Images, Allowed::PerMinute(3), 100)]);
    let bound = (plan.binding, plan.bound_pool.as_deref());
    assert_eq!(bound, (Some(Limit::TokensPerDay), Some("chats")));
    let to_halve = plan
        .times
        .iter()
        .find(|time| time.limit == Limit::TokensPerDay);
    // 30,000 in a quarter of a day, and as many as that allows at once.
    assert_eq!(to_halve.unwrap().to_halve, Some(Allowed::PerDay(24_000)));

    let table = plan.to_string();
    for said in [
        "line 35, custom_id \"line-35\": costs 9,001 output tokens; at most 2,000 can ever be \
         admitted to chats",
        "        tokens a day                  20,000     12h 00m        24,000  <- binds",
        "images  images a minute                    3      1m 40s             -",
    ] {
        assert!(table.contains(said), "{table}");
    }
}
