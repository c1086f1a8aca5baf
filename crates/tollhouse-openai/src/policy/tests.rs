use proptest::prelude::*;

use std::time::Duration;

use super::config::Key;
use super::*;
use crate::wire::cost::ChargeRule;

/// The variables, in the order of their table.
fn ours() -> [&'static str; 9] {
    let names: Vec<_> = Key::with_variables().map(|(_, name)| name).collect();
    names.try_into().expect("nine")
}

/// Looks variables up in a list.
fn vars<'v>(pairs: &'v [(&'v str, &'v str)]) -> impl Fn(&str) -> Option<String> + 'v {
    move |name| {
        let pair = pairs.iter().find(|(n, _)| *n == name);
        pair.map(|(_, value)| (*value).to_owned())
    }
}

#[test]
fn defaults_are_those_of_the_table() {
    let policy = Policy::from_vars(|_| None).expect("defaults");
    assert_eq!(policy.config, Policy::default().config);
    assert_eq!(policy.config().max_concurrency, 3);
    assert_eq!(policy.config().stagger, Duration::from_secs(15));
    assert_eq!(policy.config().tokens_per_minute, Limit::per_minute(30_000));
    assert_eq!(policy.config().requests_per_minute, Limit::Unlimited);
    assert_eq!(policy.config().headroom, 0.15);
    assert_eq!(policy.config().est_tokens_per_run, 7_000);
    assert_eq!(policy.config().charge_rule, ChargeRule::Safe);
    assert_eq!(policy.config().retry_max_attempts, 5);
    assert_eq!(policy.config().backoff_base, Duration::from_secs(2));
}

#[test]
fn every_variable_is_read() {
    let pairs = [
        ("OPENAI_MAX_CONCURRENCY", " 12 "),
        ("OPENAI_STAGGER_SECONDS", "0.25"),
        ("OPENAI_TPM_LIMIT", "auto"),
        ("OPENAI_RPM_LIMIT", "500"),
        ("OPENAI_TPM_HEADROOM", "0"),
        ("OPENAI_EST_TOKENS_PER_RUN", "1"),
        ("OPENAI_RETRY_MAX_ATTEMPTS", "1"),
        ("OPENAI_BACKOFF_BASE_SECONDS", "0.5"),
        ("OPENAI_MAX_WAITING", "40"),
    ];
    let policy = Policy::from_vars(vars(&pairs)).expect("good values");
    assert_eq!(policy.config().max_concurrency, 12);
    assert_eq!(policy.config().stagger, Duration::from_millis(250));
    assert_eq!(policy.config().tokens_per_minute, Limit::Auto);
    assert_eq!(policy.config().requests_per_minute, Limit::per_minute(500));
    assert_eq!(policy.config().headroom, 0.0);
    assert_eq!(policy.charge(), ChargeRule::Safe.with_est_tokens(1));
    assert_eq!(policy.config().retry_max_attempts, 1);
    assert_eq!(policy.config().backoff_base, Duration::from_millis(500));
    assert_eq!(policy.config().max_waiting, Some(40));
    let unbounded = Policy::from_vars(vars(&[("OPENAI_MAX_WAITING", "unlimited")]));
    assert_eq!(unbounded.expect("a good value").config().max_waiting, None);
}

#[test]
fn an_empty_variable_is_not_set() {
    let pairs = ours().map(|name| (name, " "));
    let policy = Policy::from_vars(vars(&pairs)).expect("defaults");
    assert_eq!(policy.config, Policy::default().config);
}

#[test]
fn all_bad_variables_are_named_at_once() {
    let pairs = ours().map(|name| (name, "-3"));
    let error = Policy::from_vars(vars(&pairs)).expect_err("bad values");
    let named: Vec<&str> = error.settings().iter().map(BadSetting::name).collect();
    assert_eq!(named, ours());
    let said = error.to_string();
    assert!(!said.contains('\n'));
    for name in ours() {
        assert!(
            said.contains(&format!("{name}=\"-3\": allowed is a ")),
            "{said}"
        );
    }
}

#[test]
fn values_that_make_no_sense_are_refused_by_every_variable() {
    for value in [
        "NaN",
        "inf",
        "-1",
        "1e3",
        "x",
        "99999999999999999999999",
        "0x10",
        "+1",
        "1,000",
    ] {
        for name in ours() {
            let pairs = [(name, value)];
            let error = Policy::from_vars(vars(&pairs)).expect_err(name);
            assert_eq!(error.settings().len(), 1, "{name}={value}");
            assert_eq!(error.settings()[0].value(), value);
        }
    }
    for (name, value) in [
        ("OPENAI_MAX_CONCURRENCY", "0"),
        ("OPENAI_MAX_CONCURRENCY", "1.5"),
        ("OPENAI_MAX_CONCURRENCY", "auto"),
        ("OPENAI_MAX_CONCURRENCY", "unlimited"),
        ("OPENAI_TPM_LIMIT", "0"),
        ("OPENAI_RPM_LIMIT", "0.5"),
        ("OPENAI_TPM_HEADROOM", "0.91"),
        ("OPENAI_TPM_HEADROOM", "15"),
        ("OPENAI_RETRY_MAX_ATTEMPTS", "0"),
        ("OPENAI_BACKOFF_BASE_SECONDS", "0"),
        ("OPENAI_BACKOFF_BASE_SECONDS", "61"),
        ("OPENAI_STAGGER_SECONDS", "86401"),
    ] {
        assert!(
            Policy::from_vars(vars(&[(name, value)])).is_err(),
            "{name}={value}"
        );
    }
}

#[test]
fn a_setter_makes_another_policy() {
    let first = Policy::default();
    let second = first.clone().max_concurrency(9).est_tokens(10);
    assert_eq!(first.config().max_concurrency, 3);
    assert_eq!(second.config().max_concurrency, 9);
    assert!(Arc::ptr_eq(&second.config, &second.clone().config));
}

#[test]
#[should_panic(expected = "headroom is NaN: allowed is a number from 0 to 0.9")]
fn a_setter_refuses_what_a_variable_would_be_refused() {
    let _ = Policy::default().headroom(f64::NAN);
}

#[test]
#[should_panic(
    expected = "retry_budget_share is -0.1: allowed is a number from 0 to 1000 or unlimited"
)]
fn a_retry_budget_is_checked_where_it_is_set() {
    let _ = Policy::default().retry_budget(-0.1, 10);
}

proptest! {
    #[test]
    fn hostile_values_never_panic(value in "\\PC{0,12}", name in prop::sample::select(ours().to_vec())) {
        if let Err(error) = Policy::from_vars(vars(&[(name, &value)])) {
            prop_assert_eq!(error.settings().len(), 1);
        }
    }
}

#[test]
fn a_config_is_written_and_read_again() {
    let config = PolicyConfig {
        stagger: Duration::from_millis(250),
        tokens_per_minute: Limit::Auto,
        requests_per_day: Some(10_000),
        retry_budget_share: None,
        charge_rule: ChargeRule::Fixed(12),
        ..PolicyConfig::default()
    };
    let json = serde_json::to_string(&config).expect("plain data");
    assert!(json.contains(r#""stagger_seconds":0.25"#), "{json}");
    let read: PolicyConfig = serde_json::from_str(&json).expect("as written");
    assert_eq!(read, config);
}

#[test]
fn a_key_that_is_not_known_is_named_with_the_nearest() {
    for (json, said) in [
        (
            r#"{"token_per_minute": 5}"#,
            "token_per_minute is not known: tokens_per_minute is meant, perhaps",
        ),
        (r#"{"colour": 5}"#, "colour is not known"),
        (
            r#"{"headroom": 0.95}"#,
            "headroom is 0.95: allowed is a number from 0 to 0.9",
        ),
        (
            r#"{"max_concurrency": 3.0}"#,
            "max_concurrency is 3.0: allowed is a whole number from 1 to 1000000",
        ),
        (
            r#"{"max_concurrency": -1}"#,
            "max_concurrency is -1: allowed is a whole number from 1 to 1000000",
        ),
    ] {
        let error = serde_json::from_str::<PolicyConfig>(json).expect_err(json);
        assert!(error.to_string().starts_with(said), "{error}");
    }
}

#[test]
fn a_config_that_is_wrong_makes_no_policy() {
    let config = PolicyConfig {
        est_tokens_per_run: 0,
        retry_deadline: Some(Duration::ZERO),
        ..PolicyConfig::default()
    };
    assert_eq!(
        Policy::new(config).expect_err("two faults").to_string(),
        "est_tokens_per_run is 0: allowed is a whole number from 1 to 1000000000000; \
         retry_deadline_seconds is 0: allowed is a number from 0.001 to 31536000 or unlimited",
    );
}
