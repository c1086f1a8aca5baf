//! What each setting does, where no other test has it.

use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;
use tollhouse_sim::{Answers, Config, Enforcement, Limits, Sim};

use crate::client::{chat, get, hello};

#[tokio::test(start_paused = true)]
async fn seeds_decide_what_is_drawn() {
    let mut ids = Vec::new();
    for seed in [1, 1, 2] {
        let sim = Sim::builder().seed(seed).build().unwrap();
        ids.push(
            chat(&sim, &hello(10))
                .await
                .header("x-request-id")
                .to_owned(),
        );
    }
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[0], ids[2]);
}

#[tokio::test(start_paused = true)]
async fn clones_are_one_provider() {
    let sim = Sim::builder().requests_per_minute(1).build().unwrap();
    assert_eq!(chat(&sim, &hello(10)).await.status, 200);
    assert_eq!(chat(&sim.clone(), &hello(10)).await.status, 429);
    assert_eq!(sim.report().arrived, 2);
}

#[tokio::test(start_paused = true)]
async fn refused_requests_count_unless_switched_off() {
    for (count, last) in [(true, 429), (false, 200)] {
        let builder = Sim::builder().requests_per_minute(1).count_refused(count);
        let sim = builder.build().unwrap();
        let mut answer = chat(&sim, &hello(10)).await;
        for _ in 0..60 {
            sleep(Duration::from_secs(1)).await;
            answer = chat(&sim, &hello(10)).await;
        }
        assert_eq!(answer.status, last);
    }
}

#[tokio::test(start_paused = true)]
async fn buckets_start_as_full_as_set() {
    let builder = Sim::builder().start_level(0.0).tokens_per_minute(1_000);
    let sim = builder.build().unwrap();
    assert_eq!(chat(&sim, &hello(496)).await.status, 429);
    sleep(Duration::from_secs(30)).await;
    assert_eq!(chat(&sim, &hello(496)).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn others_take_their_share_of_what_comes_back() {
    let sim = Sim::builder().tokens_per_minute(1_000).others(0.25);
    let sim = sim.build().unwrap();
    chat(&sim, &hello(996)).await;
    sleep(Duration::from_secs(60)).await;
    let answer = chat(&sim, &hello(696)).await;
    assert_eq!(answer.header("x-ratelimit-remaining-tokens"), "50");
}

#[tokio::test(start_paused = true)]
async fn delays_are_told_in_headers_where_switched_on() {
    for told in [false, true] {
        let builder = Sim::builder().tokens_per_minute(1_000).retry_after(told);
        let sim = builder.build().unwrap();
        chat(&sim, &hello(596)).await;
        let refused = chat(&sim, &hello(596)).await;
        // 200 tokens are missing.
        let expected = if told { ("12", "12000") } else { ("", "") };
        let headers = (
            refused.header("retry-after"),
            refused.header("retry-after-ms"),
        );
        assert_eq!(headers, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn answers_are_as_long_as_set() {
    let mut used = Vec::new();
    for share in [0.01, 0.9] {
        let answers = Answers {
            share,
            ..Answers::default()
        };
        let sim = Sim::builder().answers(answers).build().unwrap();
        chat(&sim, &hello(1_000)).await;
        used.push(sim.report().total.tokens_used);
    }
    assert!(used[0] < 100 && used[1] > 300, "{used:?}");
}

#[tokio::test(start_paused = true)]
async fn rate_limits_are_told_as_the_admin_api_does() {
    let limits = Limits {
        tokens_per_minute: Some(200_000),
        requests_per_minute: None,
    };
    let sim = Sim::builder().model("gpt-4o", limits).build().unwrap();
    let list = get(&sim, "/v1/organization/projects/proj_1/rate_limits")
        .await
        .json();
    assert_eq!(
        list,
        json!({
            "object": "list", "first_id": "rl-gpt-4o", "last_id": "rl-gpt-4o", "has_more": false,
            "data": [{
                "object": "project.rate_limit", "id": "rl-gpt-4o", "model": "gpt-4o",
                "max_requests_per_1_minute": 9_007_199_254_740_991_u64,
                "max_tokens_per_1_minute": 200_000,
            }],
        })
    );
    let sim = Sim::builder().build().unwrap();
    let list = get(&sim, "/v1/organization/projects/proj_1/rate_limits")
        .await
        .json();
    assert_eq!(list["data"].as_array().unwrap().len(), 4);
    assert_eq!(list["data"][1]["max_requests_per_1_minute"], 500);
}

/// The models of a page of limits, and whether there are more.
async fn page(sim: &Sim, query: &str) -> (Vec<String>, bool) {
    let path = format!("/v1/organization/projects/proj_1/rate_limits?{query}");
    let list = get(sim, &path).await.json();
    let limits = list["data"].as_array().expect("a list");
    let models = limits
        .iter()
        .map(|limit| limit["model"].as_str().expect("a name").to_owned())
        .collect();
    (models, list["has_more"].as_bool().expect("yes or no"))
}

#[tokio::test(start_paused = true)]
async fn rate_limits_come_in_pages() {
    let mut builder = Sim::builder();
    for model in ["a", "b", "c", "d"] {
        builder = builder.model(model, Limits::default());
    }
    let sim = builder.build().unwrap();
    for (query, models, has_more) in [
        ("limit=3", "a b c", true),
        ("limit=3&after=rl-c", "d", false),
        ("after=rl-d", "", false),
        ("limit=2&before=rl-d", "b c", true),
        ("limit=2&before=rl-c", "a b", false),
        ("after=rl-a&before=rl-d", "b c", false),
        ("limit=1&after=rl-a&before=rl-d", "b", true),
        ("after=rl-d&before=rl-a", "", false),
        ("colour=red", "a b c d", false),
    ] {
        let (found, more) = page(&sim, query).await;
        assert_eq!(
            (found.join(" "), more),
            (models.to_owned(), has_more),
            "{query}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_of_rate_limits_that_is_none_is_refused() {
    let sim = Sim::builder().build().unwrap();
    for query in [
        "limit=0",
        "limit=101",
        "limit=few",
        "after=rl-none",
        "before=",
    ] {
        let path = format!("/v1/organization/projects/proj_1/rate_limits?{query}");
        let answer = get(&sim, &path).await;
        assert_eq!(answer.status, 400, "{query}");
        assert_eq!(answer.error().0, "invalid_request_error", "{query}");
    }
}

/// As the flag of the same meaning is.
#[test]
fn a_way_to_count_may_be_its_name_alone() {
    let phase = Duration::ZERO;
    let later = Duration::from_millis(12_500);
    for (written, enforcement) in [
        (json!("continuous"), Enforcement::Continuous),
        (json!("sliding-minute"), Enforcement::SlidingMinute),
        (json!("fixed-minute"), Enforcement::FixedMinute { phase }),
        (
            json!({"fixed-minute": {}}),
            Enforcement::FixedMinute { phase },
        ),
        (
            json!({"fixed-minute": {"phase": 12.5}}),
            Enforcement::FixedMinute { phase: later },
        ),
    ] {
        let config: Config = serde_json::from_value(json!({"enforcement": written})).unwrap();
        assert_eq!(config.enforcement, enforcement);
        let again = serde_json::to_string(&config).unwrap();
        let again: Config = serde_json::from_str(&again).unwrap();
        assert_eq!(again.enforcement, enforcement);
    }
    for (written, said) in [
        (json!("hourly"), "unknown variant `hourly`"),
        (json!({"hourly": {}}), "unknown variant `hourly`"),
        (json!(7), "expected \"continuous\", \"fixed-minute\", {"),
    ] {
        let config = serde_json::from_value::<Config>(json!({"enforcement": written}));
        let error = config.unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}
