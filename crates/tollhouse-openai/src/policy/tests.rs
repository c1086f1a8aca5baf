use proptest::prelude::*;

use std::time::Duration;

use super::vars::OURS;
use super::*;
use crate::wire::cost::ChargeRule;

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
    assert_eq!(policy.settings, Policy::default().settings);
    assert_eq!(policy.get_max_concurrency(), 3);
    assert_eq!(policy.get_stagger(), Duration::from_secs(15));
    assert_eq!(policy.get_tpm_limit(), Limit::per_minute(30_000));
    assert_eq!(policy.get_rpm_limit(), Limit::Unlimited);
    assert_eq!(policy.get_headroom(), 0.15);
    assert_eq!(policy.get_est_tokens(), 7_000);
    assert_eq!(policy.get_charge_rule(), ChargeRule::Safe);
    assert_eq!(policy.get_max_attempts(), 5);
    assert_eq!(policy.get_backoff_base(), Duration::from_secs(2));
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
    ];
    let policy = Policy::from_vars(vars(&pairs)).expect("good values");
    assert_eq!(policy.get_max_concurrency(), 12);
    assert_eq!(policy.get_stagger(), Duration::from_millis(250));
    assert_eq!(policy.get_tpm_limit(), Limit::Auto);
    assert_eq!(policy.get_rpm_limit(), Limit::per_minute(500));
    assert_eq!(policy.get_headroom(), 0.0);
    assert_eq!(policy.charge(), ChargeRule::Safe.with_est_tokens(1));
    assert_eq!(policy.get_max_attempts(), 1);
    assert_eq!(policy.get_backoff_base(), Duration::from_millis(500));
}

#[test]
fn an_empty_variable_is_not_set() {
    let pairs = OURS.map(|name| (name, " "));
    let policy = Policy::from_vars(vars(&pairs)).expect("defaults");
    assert_eq!(policy.settings, Policy::default().settings);
}

#[test]
fn all_bad_variables_are_named_at_once() {
    let pairs = OURS.map(|name| (name, "-3"));
    let error = Policy::from_vars(vars(&pairs)).expect_err("bad values");
    let named: Vec<&str> = error.variables().iter().map(BadVariable::name).collect();
    assert_eq!(named, OURS);
    let said = error.to_string();
    assert!(!said.contains('\n'));
    for name in OURS {
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
        for name in OURS {
            let pairs = [(name, value)];
            let error = Policy::from_vars(vars(&pairs)).expect_err(name);
            assert_eq!(error.variables().len(), 1, "{name}={value}");
            assert_eq!(error.variables()[0].value(), value);
        }
    }
    for (name, value) in [
        ("OPENAI_MAX_CONCURRENCY", "0"),
        ("OPENAI_MAX_CONCURRENCY", "1.5"),
        ("OPENAI_MAX_CONCURRENCY", "auto"),
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
    assert_eq!(first.get_max_concurrency(), 3);
    assert_eq!(second.get_max_concurrency(), 9);
    assert!(Arc::ptr_eq(&second.settings, &second.clone().settings));
}

#[test]
#[should_panic(expected = "headroom NaN: 0 to 0.9 is allowed")]
fn a_setter_refuses_what_a_variable_would_be_refused() {
    let _ = Policy::default().headroom(f64::NAN);
}

#[test]
#[should_panic(expected = "a retry budget of -0.1 retries for each request")]
fn a_retry_budget_is_checked_where_it_is_set() {
    let _ = Policy::default().retry_budget(-0.1, 10);
}

proptest! {
    #[test]
    fn hostile_values_never_panic(value in "\\PC{0,12}", name in prop::sample::select(OURS.to_vec())) {
        if let Err(error) = Policy::from_vars(vars(&[(name, &value)])) {
            prop_assert_eq!(error.variables().len(), 1);
        }
    }
}
