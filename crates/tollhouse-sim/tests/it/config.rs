//! Which settings are allowed.

use std::time::Duration;

use tollhouse_sim::{Answers, Bounds, Builder, Config, Enforcement, Faults, Headers, Limits, Sim};

#[test]
fn what_is_not_allowed_is_named_with_its_value_and_what_is() {
    let limits = Limits {
        tokens_per_minute: Some(30_000),
        requests_per_minute: Some(0),
    };
    let faults = |reset| Faults {
        reset,
        server_error: 0.7,
        ..Faults::default()
    };
    let phase = Duration::from_secs(60);
    let missing = Headers {
        missing: f64::NAN,
        ..Headers::default()
    };
    let share = Answers {
        share: 0.0,
        ..Answers::default()
    };
    let tokens = Answers {
        tokens: 0,
        ..Answers::default()
    };
    let new = Sim::builder;
    let second = Duration::from_secs(1);
    let table: Vec<(Builder, &str)> = vec![
        (new().speed(0.0), "speed is 0; allowed: 0.001 to 60000"),
        (
            new().speed(f64::INFINITY),
            "speed is inf; allowed: 0.001 to 60000",
        ),
        (
            new().tokens_per_minute(0),
            "limits.tokens_per_minute is 0; allowed: 1 to 10^12, or none at all",
        ),
        (
            new().model("gpt-4o", limits),
            "models.gpt-4o.requests_per_minute is 0; allowed: 1 to 10^12, or none at all",
        ),
        (
            new().model("", Limits::default()),
            "models is \"\"; allowed: names that are not empty",
        ),
        (
            new().start_level(-0.5),
            "start_level is -0.5; allowed: 0 to 1",
        ),
        (new().others(1.0), "others is 1; allowed: 0 up to but not 1"),
        (
            new().faults(faults(1.5)),
            "faults.reset is 1.5; allowed: 0 to 1",
        ),
        (
            new().faults(faults(0.5)),
            "the sum of faults.server_error, faults.unavailable and faults.reset is 1.2; \
             allowed: at most 1",
        ),
        (
            new().headers(missing),
            "headers.missing is NaN; allowed: 0 to 1",
        ),
        (
            new().enforcement(Enforcement::FixedMinute { phase }),
            "enforcement.fixed-minute.phase is 60s; allowed: less than 60 s",
        ),
        (
            new().storm(second, second),
            "storm.until is 1s; allowed: later than storm.from, at most a day",
        ),
        (
            new().latency(second * 86_401, second),
            "latency.first_token is 86401s; allowed: at most a day",
        ),
        (
            new().latency_spread(2.0),
            "latency.spread is 2; allowed: 0 to 1",
        ),
        (
            new().answers(share),
            "answers.share is 0; allowed: above 0, at most 1",
        ),
        (
            new().answers(tokens),
            "answers.tokens is 0; allowed: 1 to 100000",
        ),
        (
            new().answers(Answers {
                tool_calls: 1.5,
                ..Answers::default()
            }),
            "answers.tool_calls is 1.5; allowed: 0 to 1",
        ),
        (
            new().bounds(Bounds {
                body_bytes: 0,
                ..Bounds::default()
            }),
            "bounds.body_bytes is 0; allowed: 1 to 10^12",
        ),
        (
            new().bounds(Bounds {
                memory_bytes: u64::MAX,
                ..Bounds::default()
            }),
            "bounds.memory_bytes is 18446744073709551615; allowed: 1 to 10^12",
        ),
        (
            new().bounds(Bounds {
                body_time: Duration::ZERO,
                ..Bounds::default()
            }),
            "bounds.body_seconds is 0ns; allowed: more than 0 s, at most a day",
        ),
        (
            new().bounds(Bounds {
                models: 0,
                ..Bounds::default()
            }),
            "bounds.models is 0; allowed: 1 to 1000000",
        ),
        (
            new().api_key(""),
            "api_key is empty; allowed: a key, or none at all",
        ),
    ];
    for (builder, message) in table {
        assert_eq!(builder.build().unwrap_err().to_string(), message);
    }
}

#[test]
fn configuration_survives_being_written_and_read() {
    let config = Sim::builder()
        .enforcement(Enforcement::FixedMinute {
            phase: Duration::from_millis(1_500),
        })
        .storm(Duration::ZERO, Duration::from_secs(20))
        .model("gpt-4o", Limits::default())
        .latency(Duration::from_millis(250), Duration::from_millis(8))
        .hard()
        .build()
        .unwrap()
        .config()
        .clone();
    let text = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<Config>(&text).unwrap(), config);
}

#[test]
fn unknown_settings_and_bad_times_are_refused() {
    let read = |text| {
        serde_json::from_str::<Config>(text)
            .unwrap_err()
            .to_string()
    };
    assert!(read(r#"{"sped": 2}"#).contains("unknown field `sped`"));
    let negative = read(r#"{"latency": {"first_token": -1}}"#);
    assert!(
        negative.contains("-1 is not a number of seconds from 0 up"),
        "{negative}"
    );
}
