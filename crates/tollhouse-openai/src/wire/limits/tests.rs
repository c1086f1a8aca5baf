use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use super::window::{DAY, window};
use super::*;

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        let name: HeaderName = name.parse().expect("a header name");
        let value: HeaderValue = value.parse().expect("a header value");
        (name, value)
    };
    pairs.iter().map(pair).collect()
}

fn millis(reset: Option<Duration>) -> Option<u128> {
    reset.map(|reset| reset.as_nanos().div_ceil(1_000_000))
}

#[test]
fn a_days_requests_never_pass_for_a_minutes() {
    for (remaining, reset) in [
        ("9999", "8.64s"),
        ("9988", "1m40.31s"),
        ("9524", "1h8m25.745s"),
    ] {
        let limits = RateLimits::from_headers(&headers(&[
            ("x-ratelimit-limit-requests", "10000"),
            ("x-ratelimit-remaining-requests", remaining),
            ("x-ratelimit-reset-requests", reset),
        ]));
        assert_eq!(limits.window_requests(), Some(DAY), "{reset}");
        assert_eq!(tollhouse::RateLimits::from(&limits).limit_requests, None);
    }
}

#[test]
fn an_untouched_or_untold_request_bucket_stays_out() {
    for reset in ["0s", "nonsense", ""] {
        let limits = RateLimits::from_headers(&headers(&[
            ("x-ratelimit-limit-requests", "10000"),
            ("x-ratelimit-remaining-requests", "10000"),
            ("x-ratelimit-reset-requests", reset),
        ]));
        assert_eq!(limits.limit_requests, Some(10_000));
        assert_eq!(limits.window_requests(), None);
        assert!(
            tollhouse::RateLimits::from(&limits)
                .limit_requests
                .is_none()
        );
    }
}

#[test]
fn a_month_of_tokens_is_not_a_minutes() {
    let limits = RateLimits::from_headers(&headers(&[
        ("x-ratelimit-limit-tokens", "100000"),
        ("x-ratelimit-remaining-tokens", "88447"),
        ("x-ratelimit-reset-tokens", "83h10m39.057s"),
    ]));
    assert_eq!(limits.window_tokens(), Some(DAY * 30));
    assert_eq!(
        tollhouse::RateLimits::from(&limits),
        tollhouse::RateLimits::default()
    );
}

#[test]
fn the_tighter_of_project_and_organization_binds() {
    let limits = RateLimits::from_headers(&headers(&[
        ("x-ratelimit-limit-tokens", "1000000"),
        ("x-ratelimit-remaining-tokens", "900000"),
        ("x-ratelimit-reset-tokens", "6s"),
        ("x-ratelimit-limit-project-tokens", "50000"),
        ("x-ratelimit-remaining-project-tokens", "25000"),
        ("x-ratelimit-reset-project-tokens", "30s"),
    ]));
    let told = tollhouse::RateLimits::from(&limits);
    assert_eq!(told.limit_tokens, Some(50_000));
    assert_eq!(told.remaining_tokens, Some(25_000));
    assert_eq!(told.reset_tokens, Some(Duration::from_secs(30)));
    assert_eq!(limits.limit_tokens, Some(1_000_000));
}

#[test]
fn groq_counts_requests_by_the_day_even_untouched() {
    let limits = RateLimits::from_headers(&headers(&[
        ("x-groq-region", "us-west-1"),
        ("x-ratelimit-limit-requests", "14400"),
        ("x-ratelimit-remaining-requests", "14400"),
        ("x-ratelimit-limit-tokens", "18000"),
        ("x-ratelimit-remaining-tokens", "17997"),
        ("x-ratelimit-reset-tokens", "7.66s"),
    ]));
    assert_eq!(limits.window_requests(), Some(DAY));
    assert_eq!(limits.window_tokens(), Some(MINUTE));
}

#[test]
fn azures_bare_integers_take_the_unit_that_fits() {
    let cases = [
        ("120", "119", "500", Some(500)),
        ("120000", "119986", "7", Some(7)),
        ("120", "60", "30", Some(30_000)),
        ("2500", "2499", "0", Some(0)),
        ("120", "120", "60", None),
    ];
    for (limit, remaining, reset, expected) in cases {
        let limits = RateLimits::from_headers(&headers(&[
            ("x-ratelimit-limit-tokens", limit),
            ("x-ratelimit-remaining-tokens", remaining),
            ("x-ratelimit-reset-tokens", reset),
            ("x-ratelimit-renewalperiod-tokens", "60"),
        ]));
        assert_eq!(millis(limits.reset_tokens), expected, "{limit} {reset}");
        assert_eq!(limits.window_tokens(), Some(MINUTE));
    }
}

/// Case 11 of the failures: absurd or malformed resets.
#[test]
fn case_11_senseless_values_are_unknown() {
    for value in [
        "-1",
        "",
        "NaN",
        "1e9",
        "+5",
        "0x10",
        "12abc",
        "99999999999999999999999",
        "1.5",
    ] {
        let limits = RateLimits::from_headers(&headers(&[
            ("x-ratelimit-limit-tokens", value),
            ("x-ratelimit-remaining-tokens", "0"),
            ("x-ratelimit-reset-tokens", "0"),
        ]));
        assert!(limits.is_empty(), "{value}");
    }
    let zero = headers(&[("x-ratelimit-limit-tokens", "0")]);
    assert_eq!(RateLimits::from_headers(&zero).limit_tokens, None);

    for (reset, expected) in [
        ("-5s", None),
        ("87600h", Some(crate::wire::time::LONGEST)),
        ("soon", None),
    ] {
        let limits = RateLimits::from_headers(&headers(&[
            ("x-ratelimit-limit-tokens", "1000"),
            ("x-ratelimit-remaining-tokens", "10"),
            ("x-ratelimit-reset-tokens", reset),
        ]));
        assert_eq!(limits.reset_tokens, expected, "{reset}");
        assert_eq!(limits.remaining_tokens, Some(10));
    }
}

/// Any of the three may be missing, so each is read alone.
#[test]
fn a_reset_alone_is_read_where_its_unit_is_told() {
    for (reset, expected) in [
        ("6m0s", Some(360_000)),
        ("20ms", Some(20)),
        ("1m12.172s", Some(72_172)),
        ("17h3m", Some(61_380_000)),
        ("30.5", Some(30_500)),
        // Azure's, which may be seconds or milliseconds.
        ("30", None),
    ] {
        let limits = RateLimits::from_headers(&headers(&[("x-ratelimit-reset-tokens", reset)]));
        assert_eq!(millis(limits.reset_tokens), expected, "{reset}");
        assert_eq!(limits.window_tokens(), None);
    }
}

#[test]
fn an_epoch_in_a_plain_reset_counts_from_the_date() {
    for reset in ["1795435230", "1795435230000"] {
        let limits = RateLimits::from_headers(&headers(&[
            ("date", "Mon, 23 Nov 2026 12:00:00 GMT"),
            ("x-ratelimit-limit", "50"),
            ("x-ratelimit-remaining", "0"),
            ("x-ratelimit-reset", reset),
        ]));
        assert_eq!(limits.reset_requests, Some(Duration::from_secs(30)));
        assert_eq!(limits.window_requests(), None);
    }
}

#[test]
fn retry_after_on_a_success_means_nothing() {
    let limits = RateLimits::from_headers(&headers(&[("retry-after", "63")]));
    assert!(limits.is_empty());
}

#[test]
fn a_resolution_too_coarse_for_one_window_tells_none() {
    let millisecond = Duration::from_millis(1);
    let unknown = window(100_000_000, 99_999_999, millisecond, millisecond);
    assert_eq!(unknown, None);
    let clear = window(30_000_000, 29_999_921, Duration::ZERO, millisecond);
    assert_eq!(clear, Some(MINUTE));
}

proptest! {
    /// A bucket's own arithmetic always leads back to its window, or to none.
    #[test]
    fn the_window_of_a_bucket_is_found_or_unknown(
        limit in 1_u64..200_000_000,
        share in 0.0_f64..1.0,
        window in prop::sample::select(vec![60_u64, 86_400, 2_592_000]),
    ) {
        let used = ((limit as f64 * share) as u64).max(1);
        let reset = (u128::from(used) * u128::from(window) * 1_000 / u128::from(limit)) as u64;
        let reset = Duration::from_millis(reset);
        let found = super::window::window(limit, limit - used, reset, Duration::from_millis(1));
        prop_assert!(found.is_none_or(|found| found.as_secs() == window), "{found:?}");
    }

    #[test]
    fn hostile_headers_never_panic(
        values in prop::collection::vec("[ -~]{0,24}", 6),
        period in "[ -~]{0,6}",
    ) {
        let names = [
            "x-ratelimit-limit-requests", "x-ratelimit-remaining-requests",
            "x-ratelimit-reset-requests", "x-ratelimit-limit-tokens",
            "x-ratelimit-remaining-tokens", "anthropic-ratelimit-tokens-reset",
        ];
        let mut pairs: Vec<(&str, &str)> = names.into_iter().zip(values.iter().map(String::as_str)).collect();
        pairs.push(("x-ratelimit-renewalperiod-requests", &period));
        let limits = RateLimits::from_headers(&headers(&pairs));
        prop_assert_ne!(limits.limit_requests, Some(0));
        prop_assert_ne!(limits.limit_tokens, Some(0));
    }

    /// Numbers of every size, in every place, overflow nothing.
    #[test]
    fn hostile_numbers_never_panic(numbers in prop::collection::vec(any::<u64>(), 4), unit in "(ms|s|m|h|)") {
        let texts: Vec<String> = numbers.iter().map(u64::to_string).collect();
        let reset = format!("{}{unit}", texts[2]);
        RateLimits::from_headers(&headers(&[
            ("x-ratelimit-limit-requests", &texts[0]),
            ("x-ratelimit-remaining-requests", &texts[1]),
            ("x-ratelimit-reset-requests", &reset),
            ("x-ratelimit-renewalperiod-requests", &texts[3]),
            ("x-ratelimit-reset", &reset),
        ]));
    }
}
