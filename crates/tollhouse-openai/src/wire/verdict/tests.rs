use http::{HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&'static str, &str)| {
        let value: HeaderValue = value.parse().expect("a header value");
        (HeaderName::from_static(name), value)
    };
    pairs.iter().map(pair).collect()
}

fn judge(status: u16, pairs: &[(&'static str, &str)], body: &str) -> Verdict {
    let status = StatusCode::from_u16(status).expect("a status");
    classify(status, &headers(pairs), body.as_bytes())
}

fn verdict_of(retry: bool, after_ms: Option<u64>, scope: Scope) -> Verdict {
    Verdict {
        retry,
        after: after_ms.map(Duration::from_millis),
        scope,
    }
}

#[test]
fn a_success_is_never_retried_whatever_it_says() {
    let pairs = [("retry-after", "63"), ("x-should-retry", "true")];
    let bodies = [
        "",
        "rate limit, try again in 5s",
        r#"{"message":"overloaded"}"#,
    ];
    for body in bodies {
        assert_eq!(judge(200, &pairs, body), Verdict::default(), "{body}");
    }
}

/// Case 8 of the failures: a told delay is the least wait.
#[test]
fn case_8_told_delays_take_their_order() {
    let text = r#"{"error":{"message":"Please try again in 9s","code":"rate_limit_exceeded"}}"#;
    let date = ("date", "Mon, 23 Nov 2026 12:00:00 GMT");
    let cases: [(&[(&str, &str)], u64); 9] = [
        (&[("retry-after-ms", "1500"), ("retry-after", "2")], 1_500),
        (&[("retry-after-ms", "0"), ("retry-after", "2")], 2_000),
        (&[("retry-after", "0.5")], 500),
        (&[("retry-after", "0")], 9_000),
        (&[("retry-after", "-3")], 9_000),
        (&[("retry-after", "NaN"), ("retry-after-ms", "inf")], 9_000),
        (
            &[date, ("retry-after", "Mon, 23 Nov 2026 12:00:30 GMT")],
            30_000,
        ),
        (&[date, ("retry-after", "Mon, 23 Nov 2026 11:00:00 GMT")], 0),
        (&[("x-rate-limit-reset-tokens", "55")], 9_000),
    ];
    for (pairs, millis) in cases {
        let pairs: Vec<(&'static str, &str)> = pairs
            .iter()
            .map(|(name, value)| (HEADERS.iter().copied().find(|n| n == name).unwrap(), *value))
            .collect();
        let told = judge(429, &pairs, text).after;
        assert_eq!(told, Some(Duration::from_millis(millis)), "{pairs:?}");
    }
}

const HEADERS: [&str; 4] = [
    "date",
    "retry-after",
    "retry-after-ms",
    "x-rate-limit-reset-tokens",
];

/// Case 9 of the failures: no retry, no pause.
#[test]
fn case_9_spent_money_is_not_waited_for() {
    for code in [
        "insufficient_quota",
        "credit_balance_exhausted",
        "organization_spend_limit_exceeded",
        "project_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "some_code_of_next_year",
    ] {
        let body = format!(r#"{{"error":{{"type":"insufficient_quota","code":"{code}"}}}}"#);
        let verdict = judge(429, &[], &body);
        assert_eq!(verdict, verdict_of(false, None, Scope::Quota), "{code}");
    }
    let deepseek = r#"{"error":{"message":"Insufficient Balance","type":"unknown_error","param":null,"code":"invalid_request_error"}}"#;
    assert_eq!(judge(402, &[], deepseek).scope, Scope::Quota);
    let xai = r#"{"code":"Some resource has been exhausted","error":"Your team has either used all available credits or reached its monthly spending limit."}"#;
    assert_eq!(judge(429, &[], xai), verdict_of(false, None, Scope::Quota));
    let anthropic = r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the API."}}"#;
    assert_eq!(judge(400, &[], anthropic).scope, Scope::Quota);
}

/// Case 10 of the failures: nothing but the status.
#[test]
fn case_10_a_bare_429_is_a_limit_on_requests() {
    for body in [
        "",
        "{}",
        "null",
        "[]",
        "Too Many Requests",
        "<html>429</html>",
    ] {
        let verdict = judge(429, &[], body);
        assert_eq!(verdict, verdict_of(true, None, Scope::Requests), "{body}");
    }
}

/// Case 6 of the failures: what is larger than the limit never fits.
#[test]
fn case_6_a_request_above_the_limit_never_fits() {
    let body = |text: &str| {
        format!(
            r#"{{"error":{{"message":"{text}","type":"tokens","code":"rate_limit_exceeded"}}}}"#
        )
    };
    let limit = |limit: &str, requested: &str| {
        body(&format!(
            "Rate limit reached on tokens per min (TPM): Limit {limit}, Used 0, Requested {requested}. Please try again in 30s."
        ))
    };
    for (most, requested) in [
        ("30000", "45411"),
        ("30,000", "45,411"),
        ("9,000", "1,000,000"),
    ] {
        let above = judge(429, &[], &limit(most, requested));
        assert!(!above.retry, "{most} {requested}");
        assert_eq!(above.denial(), None);
    }
    let apart = judge(429, &[], &limit("12,000", "900"));
    assert!(apart.retry, "twelve thousand, not twelve");
    let within = limit("30000", "5411");
    assert_eq!(
        judge(429, &[], &within),
        verdict_of(true, Some(30_000), Scope::Tokens)
    );
    assert!(judge(429, &[], &within).denial().is_some());
}

#[test]
fn an_offer_of_requests_per_day_does_not_make_a_day_limit() {
    let body = r#"{"error":{"message":"Rate limit exceeded: free-models-per-min. Add 10 credits to unlock 1000 free model requests per day","code":429}}"#;
    assert_eq!(
        judge(429, &[], body),
        verdict_of(true, None, Scope::Requests)
    );
}

#[test]
fn googles_quota_names_tell_unit_and_window() {
    let body = |id: &str| {
        format!(
            r#"[{{"error":{{"code":429,"message":"You exceeded your current quota, please check your plan and billing details. Please retry in 5.5s.","status":"RESOURCE_EXHAUSTED","details":[{{"violations":[{{"quotaId":"{id}"}}]}},{{"retryDelay":"6s"}}]}}}}]"#
        )
    };
    let cases = [
        (
            "GenerateRequestsPerDayPerProjectPerModel-FreeTier",
            Scope::RequestsPerDay,
        ),
        (
            "GenerateRequestsPerMinutePerProjectPerModel-FreeTier",
            Scope::Requests,
        ),
        (
            "GenerateContentInputTokensPerModelPerDay-FreeTier",
            Scope::TokensPerDay,
        ),
        (
            "GenerateContentInputTokensPerModelPerMinute-FreeTier",
            Scope::Tokens,
        ),
    ];
    for (id, scope) in cases {
        let verdict = judge(429, &[], &body(id));
        assert_eq!(verdict, verdict_of(true, Some(6_000), scope), "{id}");
    }
}

#[test]
fn the_text_tells_unit_window_and_money_where_codes_do_not() {
    let limited = |after, scope| verdict_of(true, after, scope);
    let cases = [
        (
            "Token limit is exceeded. Try again in 5 seconds.",
            limited(Some(5_000), Scope::Tokens),
        ),
        (
            "Requests to the X Operation have exceeded call rate limit. Please retry after 2 seconds.",
            limited(Some(2_000), Scope::Requests),
        ),
        (
            "Number of request tokens has exceeded your daily rate limit",
            limited(None, Scope::TokensPerDay),
        ),
        (
            "This would exceed your rate limit of 40,000 input tokens per minute",
            limited(None, Scope::Tokens),
        ),
        (
            "Rate limit of 150 per 86400s exceeded for UserByModelByDay. Please wait 46127 seconds before retrying.",
            limited(Some(46_127_000), Scope::RequestsPerDay),
        ),
        (
            "Quota exceeded for metric: generate_requests_per_model_per_day, limit: 50",
            limited(None, Scope::RequestsPerDay),
        ),
        (
            "limited to 1000 API calls / month",
            limited(None, Scope::RequestsPerDay),
        ),
        (
            "reached organization max RPM: 3, please try again after 1 seconds",
            limited(Some(1_000), Scope::Requests),
        ),
        (
            "exceed your maximum usage increase rate for input tokens per minute",
            limited(None, Scope::Overload),
        ),
        (
            "Extra usage is required for long context requests",
            verdict_of(false, None, Scope::Quota),
        ),
        (
            "the 10ktpm-model is on requests per min",
            limited(None, Scope::Requests),
        ),
    ];
    for (text, expected) in cases {
        let body = serde_json::json!({"error": {"type": "rate_limit_error", "message": text}});
        assert_eq!(judge(429, &[], &body.to_string()), expected, "{text}");
    }
}

#[test]
fn the_header_of_the_sdks_goes_before_all_else() {
    let stop = judge(503, &[("x-should-retry", "false")], "");
    assert_eq!(stop, verdict_of(false, None, Scope::Overload));
    let go = judge(400, &[("x-should-retry", "true")], "");
    assert_eq!(go, verdict_of(true, None, Scope::Overload));
    assert!(judge(503, &[("x-should-retry", "maybe")], "").retry);
}

#[test]
fn statuses_decide_where_nothing_else_does() {
    for status in [408, 409, 500, 501, 502, 503, 504, 520, 524, 529, 599] {
        let verdict = judge(status, &[], "<html>busy</html>");
        assert_eq!(verdict, verdict_of(true, None, Scope::Overload), "{status}");
    }
    for status in [400, 401, 403, 404, 405, 413, 422] {
        let verdict = judge(status, &[], "Please retry");
        assert_eq!(verdict, verdict_of(false, None, Scope::None), "{status}");
    }
}

#[test]
fn an_error_inside_a_stream_is_judged_by_what_it_says() {
    let stream = |data: &str| format!("data: {{\"choices\":[]}}\r\n\r\ndata: {data}\r\n\r\n");
    let cases = [
        (
            r#"{"type":"error","code":"server_error","message":"x"}"#,
            verdict_of(true, None, Scope::Overload),
        ),
        (
            r#"{"error":{"code":502,"message":"x"},"choices":[{"finish_reason":"error"}]}"#,
            verdict_of(true, None, Scope::Overload),
        ),
        (
            r#"{"type":"response.failed","response":{"error":{"code":"invalid_prompt","message":"x"}}}"#,
            verdict_of(false, None, Scope::None),
        ),
        (
            r#"{"type":"response.failed","response":{"error":{"code":"server_is_overloaded","message":"x"}}}"#,
            verdict_of(true, None, Scope::Overload),
        ),
        (
            r#"{"type":"response.completed","response":{"error":null}}"#,
            Verdict::default(),
        ),
    ];
    for (data, expected) in cases {
        let verdict = judge(200, &[("content-type", "text/event-stream")], &stream(data));
        assert_eq!(verdict, expected, "{data}");
    }
}

/// Case 11 of the failures: no answer closes an account for longer than a day, however
/// it says so; it once could for 366.
#[test]
fn case_11_an_absurd_delay_is_capped() {
    let day = Some(Duration::from_secs(86_400));
    let date = [
        ("date", "Mon, 23 Nov 2026 12:00:00 GMT"),
        ("retry-after", "Fri, 31 Dec 9999 23:59:59 GMT"),
    ];
    for headers in [
        &[("retry-after", "99999999999")][..],
        &[("retry-after-ms", "99999999999999")],
        &[("x-rate-limit-reset-tokens", "99999999999")],
        &date,
    ] {
        assert_eq!(judge(429, headers, "").after, day, "{headers:?}");
    }
    for body in [
        r#"{"error":"please try again in 99999999999999999999h"}"#,
        r#"{"error":"please try again in 31 days"}"#,
        r#"{"error":{"code":429,"details":[{"retryDelay":"99999999999s"}]}}"#,
        r#"{"error":{"metadata":{"headers":{"X-RateLimit-Reset":9999999999999999}}}}"#,
    ] {
        assert_eq!(judge(429, &[], body).after, day, "{body}");
    }
    assert_eq!(judge(503, &[("retry-after-ms", "1e99")], "").after, None);
}

proptest! {
    #[test]
    fn hostile_answers_never_panic(
        status in 100_u16..1000,
        after in "[ -~]{0,20}",
        millis in "[ -~]{0,20}",
        body in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let status = StatusCode::from_u16(status).expect("a status");
        let headers = headers(&[("retry-after", &after), ("retry-after-ms", &millis)]);
        let verdict = classify(status, &headers, &body);
        prop_assert!(verdict.after.is_none_or(|after| after <= Duration::from_secs(86_400)));
    }

    /// In every place, of every size, in every unit.
    #[test]
    fn no_told_delay_is_longer_than_a_day(
        number in any::<u64>(),
        unit in "( days| hours|h|m|s|ms|)",
        place in 0_usize..7,
    ) {
        let number = number.to_string();
        let delay = format!("{number}{unit}");
        let headers = ["retry-after", "retry-after-ms", "x-rate-limit-reset-tokens",
            "x-rate-limit-reset-requests"];
        let verdict = match (headers.get(place), place) {
            (Some(name), _) => judge(429, &[(name, &number)], ""),
            (None, 4) => judge(429, &[], &format!("Please try again in {delay}.")),
            (None, 5) => judge(429, &[], &serde_json::json!({"error": {
                "details": [{"retryDelay": delay}]}}).to_string()),
            (None, _) => judge(429, &[], &serde_json::json!({"error": {
                "metadata": {"headers": {"X-RateLimit-Reset": number}}}}).to_string()),
        };
        prop_assert!(verdict.after.is_none_or(|after| after <= Duration::from_secs(86_400)));
    }

    #[test]
    fn hostile_texts_never_panic(
        text in "((limit|requested|try again in|retry after|tpm|per day|東京|İ)[: .0-9hms]{0,6}){0,8}",
        detail in "[0-9.hms-]{0,12}",
    ) {
        let body = serde_json::json!({"error": {
            "message": text, "code": 429,
            "details": [{"retryDelay": detail, "violations": [{"quotaId": text}]}],
            "metadata": {"raw": text, "headers": {"X-RateLimit-Reset": u64::MAX}},
        }});
        judge(429, &[], &body.to_string());
        judge(200, &[], &format!("data: {body}\n\n"));
    }
}

#[test]
fn deep_nesting_is_read_over() {
    let deep = "[".repeat(100_000);
    assert!(judge(429, &[], &deep).retry);
    assert!(judge(429, &[], &format!("{{\"error\":{deep}")).retry);
}

#[test]
fn what_every_shape_says_to_people_is_read_as_far_as_it_goes() {
    for (status, body, code, message) in [
        (
            429,
            r#"{"error":{"code":"rate_limit_exceeded","type":"tokens","message":"Wait."}}"#,
            Some("rate_limit_exceeded"),
            Some("Wait."),
        ),
        (
            500,
            r#"{"error":{"code":null,"type":"server_error","message":"Oops."}}"#,
            Some("server_error"),
            Some("Oops."),
        ),
        (
            429,
            r#"[{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"Wait."}}]"#,
            Some("RESOURCE_EXHAUSTED"),
            Some("Wait."),
        ),
        (
            429,
            r#"{"object":"error","code":1300,"type":null,"message":"Wait."}"#,
            Some("1300"),
            Some("Wait."),
        ),
        (
            429,
            r#"{"code":"limit","error":"Wait."}"#,
            Some("limit"),
            Some("Wait."),
        ),
        (404, r#"{"detail":"Not Found"}"#, None, Some("Not Found")),
        (403, r#"{"code":"blocked"}"#, Some("blocked"), None),
        (429, r#"{"error":null,"type":"busy"}"#, Some("busy"), None),
        (400, r#"{"error":{"code":"400","message":""}}"#, None, None),
        (500, "[]", None, None),
        (500, "null", None, None),
        (502, "<html>Bad gateway</html>", None, None),
        (503, "", None, None),
        (
            500,
            "event: error\r\rdata: {\"error\":{\"code\":\"oops\",\"message\":\"Cut.\"}}\r\r",
            Some("oops"),
            Some("Cut."),
        ),
        (500, r#"{"error":{"mess"#, None, None),
    ] {
        let status = StatusCode::from_u16(status).expect("a status");
        let fault = Fault::read(&HeaderMap::new(), body.as_bytes());
        let fault = fault.unwrap_or_default();
        assert_eq!(fault.code(status), code, "{body}");
        assert_eq!(fault.message(), message, "{body}");
    }
}

/// A gateway's word of its own, and the first event of whatever else has a message.
#[test]
fn an_error_is_found_behind_events_that_are_none() {
    let error = r#"{"error":{"code":"insufficient_quota","message":"Pay."}}"#;
    for first in [
        r#"{"message":"Welcome."}"#,
        r#"{"detail":[]}"#,
        r#"{"x":1}"#,
    ] {
        let body = format!("data: {first}\n\ndata: {error}\n\n");
        for status in [200, 429] {
            assert_eq!(judge(status, &[], &body).scope, Scope::Quota, "{body}");
        }
        assert_eq!(
            judge(200, &[], &format!("data: {first}\n\n")),
            Verdict::default()
        );
    }
}

/// Whoever asked for a stream is told that one comes, and is refused by a document.
#[test]
fn an_error_that_is_called_a_stream_is_read_as_what_it_is() {
    let headers = [("content-type", "text/event-stream")];
    let body = r#"{"error":{"code":"insufficient_quota","message":"Pay."}}"#;
    let verdict = judge(429, &headers, body);
    assert_eq!((verdict.retry, verdict.scope), (false, Scope::Quota));
}
