//! Bad configuration is named at once, before anything is opened or sent.

use std::fs;

use crate::common::{directory, run, text, tollhouse};

fn refused(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let mut command = tollhouse(arguments);
    command.envs(variables.iter().copied());
    let ran = run(command);
    assert_eq!(ran.code, Some(2), "{arguments:?}: {}", ran.stderr);
    assert_eq!(ran.stdout, "");
    ran.stderr
}

#[test]
fn every_bad_variable_and_flag_is_named_in_one_line() {
    let arguments = [
        "batch",
        "no-such.jsonl",
        "--output",
        "out",
        "--tpm-headroom",
        "1.5",
    ];
    let variables = [
        ("OPENAI_TPM_LIMIT", "many"),
        ("OPENAI_TPM_HEADROOM", "0.2"),
        ("OPENAI_MAX_CONCURRENCY", "0"),
        ("OPENAI_BASE_URL", "ftp://example.com"),
        ("OPENAI_API_KEY", "secret"),
    ];
    assert_eq!(
        refused(&arguments, &variables),
        "error: OPENAI_MAX_CONCURRENCY is \"0\", allowed is a whole number from 1 to 1000000; \
         OPENAI_TPM_LIMIT is \"many\", allowed is a whole number from 1 to 1000000000000, auto or unlimited; \
         --tpm-headroom is \"1.5\", allowed is a number from 0 to 0.9; \
         base URL \"ftp://example.com\": not an http:// or https:// URL without user, query and \
         fragment\n"
    );
}

#[test]
fn missing_key_is_named() {
    let said = refused(&["batch", "no-such.jsonl", "--output", "out"], &[]);
    assert_eq!(said, "error: OPENAI_API_KEY is not set\n");
}

#[test]
fn plan_checks_its_policy_and_needs_no_key() {
    let said = refused(&["plan", "no-such.jsonl", "--stagger-seconds", "-1"], &[]);
    assert!(
        said.starts_with("error: --stagger-seconds is \"-1\", allowed is"),
        "{said}"
    );
    let said = refused(&["plan", "no-such.jsonl"], &[]);
    assert!(
        said.starts_with("error: no-such.jsonl: No such file"),
        "{said}"
    );
}

#[test]
fn simulator_and_demo_name_what_is_wrong() {
    let cases: [(&[&str], &str); 5] = [
        (
            &["sim", "--speed", "-1"],
            "speed is -1; allowed: 0.001 to 60000",
        ),
        (&["sim", "--speed=0"], "speed is 0; allowed: 0.001 to 60000"),
        (
            &["sim", "--tpm", "lots"],
            "a whole number from 1 to 1000000000000, or `none`, is allowed",
        ),
        (
            &["sim", "--config", "no-such.json"],
            "no-such.json: No such file",
        ),
        (
            &["demo", "--speed", "1000"],
            "a number from 0.1 to 100 is allowed",
        ),
    ];
    for (arguments, message) in cases {
        let said = refused(arguments, &[]);
        assert!(said.contains(message), "{said}");
        assert!(said.starts_with("error: "), "{said}");
    }
}

#[test]
fn log_filter_that_is_none_is_named() {
    let said = refused(
        &["plan", "no-such.jsonl"],
        &[("RUST_LOG", "tollhouse=loud")],
    );
    assert!(
        said.starts_with("error: RUST_LOG is \"tollhouse=loud\""),
        "{said}"
    );
}

#[test]
fn a_variable_that_is_one_slip_from_a_known_one_is_named() {
    let mut command = tollhouse(&["plan", "-"]);
    command.env("OPENAI_TPM_LIMITS", "90000");
    command.env("OPENAI_ORG_ID", "org-1");
    let ran = run(command);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    let said = "OPENAI_TPM_LIMITS is not known: OPENAI_TPM_LIMIT is meant, perhaps";
    assert!(ran.stderr.contains(said), "{}", ran.stderr);
}

/// What is found in the environment by no flag is named, or it might be anybody's.
#[test]
fn a_variable_of_the_commands_own_is_named_where_it_is_misspelt_or_names_no_file() {
    let key = ("OPENAI_API_KEY", "key");
    let open = ["proxy", "--listen", "127.0.0.1:0"];
    let status = ["account", "status", "--redis", "redis://127.0.0.1:1"];
    let plan = ["plan", "-"];
    let slips: [(&[&str], _, _); 4] = [
        (&open, "TOLLHOUSE_TOKN", "TOLLHOUSE_TOKEN"),
        (&plan, "TOLLHOUSE_CONFG", "TOLLHOUSE_CONFIG"),
        (&plan, "TOLLHOUSE_RADIS", "TOLLHOUSE_REDIS"),
        (&status, "TOLLHOUSE_CONFIGS", "TOLLHOUSE_CONFIG"),
    ];
    for (arguments, name, meant) in slips {
        let said = refused(arguments, &[key, (name, "x")]);
        let told = format!("error: {name} is not known: {meant} is meant, perhaps\n");
        assert_eq!(said, told);
    }

    let nowhere = ("TOLLHOUSE_CONFIG", "no-such.toml");
    let said = refused(&plan, &[nowhere]);
    let told = "error: TOLLHOUSE_CONFIG: no-such.toml: No such file";
    assert!(said.starts_with(told), "{said}");
    let said = refused(&["plan", "-", "--config", "none.toml"], &[nowhere]);
    assert!(said.starts_with("error: none.toml: No such file"), "{said}");
}

/// A flag by which nothing could be done is a mistake, and the message says what is allowed.
#[test]
fn numbers_that_can_only_be_a_mistake_are_refused() {
    const SMALL: &str = "a whole number from 1 to 4294967295 is allowed";
    let number = &*format!("a whole number from 1 to {} is allowed", usize::MAX);
    const TIME: &str = "a number of seconds from 0.000000001 to 3162240000 is allowed";
    let proxy = [
        ("--max-connections", number),
        ("--max-streams", SMALL),
        ("--max-head", number),
        ("--max-body", number),
        ("--max-held", number),
        ("--max-keys", number),
        ("--timeout-seconds", TIME),
        ("--head-seconds", TIME),
        ("--body-idle-seconds", TIME),
        ("--write-seconds", TIME),
        ("--stream-comments", TIME),
    ];
    for (flag, allowed) in proxy {
        for value in ["0", "-1", "many", "99999999999999999999"] {
            let said = refused(&["proxy", flag, value], &[]);
            let first = said.lines().next().unwrap_or_default();
            let told = format!("error: invalid value '{value}' for '{flag} <");
            assert!(first.starts_with(&told), "{said}");
            assert!(first.ends_with(allowed), "{said}");
        }
    }
    let batch = |flag, value| refused(&["batch", "in", "-o", "out", flag, value], &[]);
    for (flag, value, allowed) in [
        ("--answer-megabytes", "0", SMALL),
        ("--timeout-seconds", "0", TIME),
        ("--weight", "0", "0 is not in 1..=1000000"),
        (
            "--give-up-after",
            "-1",
            "a time such as 90s, 10m, 2h or 1h30m, at most 36600d, is allowed",
        ),
        ("--max-told-delay", "366d", "at most 365d, is allowed"),
        ("--max-failures", "-1", "a number from 0 to 1 is allowed"),
        (
            "--url",
            "http://elsewhere/v1/x",
            "a path such as /v1/chat/completions is allowed",
        ),
        (
            "--url",
            "//elsewhere/v1/x",
            "a path such as /v1/chat/completions is allowed",
        ),
        ("--errors", "-", "a file is allowed"),
        ("--summary", "-", "a file is allowed"),
        ("--report", "-", "a file is allowed"),
        (
            "--url",
            "/v1/../x",
            "a path such as /v1/chat/completions is allowed",
        ),
    ] {
        let said = batch(flag, value);
        assert!(said.contains(&format!("invalid value '{value}'")), "{said}");
        assert!(said.contains(allowed), "{said}");
    }
    let said = refused(&["account", "show", "--model", ""], &[]);
    assert!(
        said.contains("a value is required for '--model <NAME>'"),
        "{said}"
    );
    let said = refused(&["proxy", "--max-wait", "-1"], &[]);
    assert!(
        said.contains("a number of seconds from 0 to 3162240000 is allowed"),
        "{said}"
    );
    // It gets to what comes after its flags.
    for time in ["1h30m", "1h 30m", "2.0s"] {
        let said = batch("--give-up-after", time);
        assert_eq!(said, "error: OPENAI_API_KEY is not set\n");
    }
}

#[test]
fn an_address_that_is_none_is_told_what_is_one() {
    for command in ["sim", "proxy"] {
        for address in ["8788", "localhost:8788", ":8788", "127.0.0.1"] {
            let said = refused(&[command, "--listen", address], &[]);
            let told = format!(
                "error: invalid value '{address}' for '--listen <ADDRESS>': an address and a port, \
                 such as 127.0.0.1:8788, are allowed\n"
            );
            assert!(said.starts_with(&told), "{said}");
        }
    }
}

#[test]
fn settings_of_the_simulator_stand_by_their_names() {
    let file = directory("sim-lists").join("sim.json");
    for (settings, place) in [
        ("[]", "it"),
        (r#"{"limits": [1, 2]}"#, "limits"),
        (r#"{"limits": {"it": []}}"#, "limits.it"),
        (
            r#"{"enforcement": {"fixed-minute": [1]}}"#,
            "enforcement.fixed-minute",
        ),
    ] {
        fs::write(&file, settings).expect("a file");
        let said = refused(&["sim", "--config", text(&file)], &[]);
        let told = format!(
            "error: {}: {place} is a list; an object of settings by their names is allowed\n",
            file.display()
        );
        assert_eq!(said, told, "{settings}");
    }
}

#[test]
fn keys_of_their_own_and_one_account_exclude_each_other_and_both_are_named() {
    let file = directory("shared-keys").join("tollhouse.toml");
    fs::write(&file, "[shared]\nredis = \"redis://127.0.0.1:1\"\n").expect("a file");
    let in_file = format!("[shared] of {}", file.display());
    let config = ["--config", text(&file)];
    let redis = ["--redis", "redis://127.0.0.1:1"];
    let variable = ("TOLLHOUSE_REDIS", "redis://127.0.0.1:1");
    let cases: [(&[&str], &[_], &str); 3] = [
        (&config, &[], &in_file),
        (&redis, &[variable], "--redis"),
        (&config, &[variable], "TOLLHOUSE_REDIS"),
    ];
    for (more, variables, named) in cases {
        let said = refused(
            &[&["proxy", "--pass-through-keys"], more].concat(),
            variables,
        );
        let told = format!(
            "error: --pass-through-keys gives each key an account of its own, and {named} shares \
             one: one of them is meant\n"
        );
        assert_eq!(said, told);
    }
}

/// A name that no client can call the proxy by would turn them all away, and `*` nobody.
#[test]
fn a_host_that_is_none_is_named_with_what_is_allowed() {
    for host in ["x:80", "", "a b", "http://x", "*", "*.corp", "a..b", "::1"] {
        let said = refused(&["proxy", "--host", host], &[]);
        let told = format!("invalid value '{host}' for '--host <NAME>': ");
        assert!(said.contains(&told), "{said}");
        assert!(said.contains("proxy.internal, without a port"), "{said}");
    }
}

/// Where a number is too large, it would be told that it is allowed.
#[test]
fn what_is_too_large_is_refused_with_the_largest() {
    let any = format!("a whole number from 0 to {} is allowed", usize::MAX);
    let seconds = "a number of seconds from 0 to 3162240000 is allowed";
    let batch = ["batch", "in", "--output", "out"];
    for (command, flag, allowed) in [
        (&["proxy"][..], "--max-upload", &*any),
        (&["proxy"], "--max-wait", seconds),
        (&["proxy"], "--drain-seconds", seconds),
        (&["plan", "in"], "--answer-seconds", seconds),
        (
            &batch,
            "--answer-megabytes",
            "a whole number from 1 to 4294967295 is allowed",
        ),
        (&batch, "--deadline", "at most 36600d, is allowed"),
        (&batch, "--max-told-delay", "at most 365d, is allowed"),
        (
            &["sim"],
            "--tpm",
            "a whole number from 1 to 1000000000000, or `none`, is allowed",
        ),
        (
            &["sim"],
            "--seed",
            "a whole number from 0 to 18446744073709551615 is allowed",
        ),
        (&["sim"], "--latency", seconds),
        (
            &["demo"],
            "--seed",
            "a whole number from 0 to 18446744073709551615 is allowed",
        ),
    ] {
        let said = refused(&[command, &[flag, "99999999999999999999"]].concat(), &[]);
        assert!(said.contains(allowed), "{said}");
    }
}

/// An empty variable is one that is not set; an empty flag is one whose value got lost.
#[test]
fn a_flag_that_says_nothing_is_refused() {
    for flag in ["--base-url", "--tpm-limit", "--max-waiting", "--redis"] {
        for nothing in ["", " "] {
            let said = refused(&["proxy", flag, nothing], &[]);
            let told = format!("error: invalid value '{nothing}' for '{flag} <");
            assert!(said.starts_with(&told), "{said}");
            assert!(said.contains("leave the flag out"), "{said}");
        }
    }
}

/// As the header `x-tollhouse-caller` does; nobody is told of a name that cannot be shown.
#[test]
fn a_callers_name_that_is_none_is_named_with_what_is_allowed() {
    let long = "a".repeat(65);
    let run = ["run", "--caller"];
    let batch = ["batch", "-", "--output", "x", "--caller"];
    for name in ["", " ", &long, "J\u{fc}rgen", "a\nb"] {
        for (command, rest) in [(&run[..], &["true"][..]), (&batch, &[])] {
            let said = refused(&[command, &[name], rest].concat(), &[]);
            assert!(said.contains("for '--caller <NAME>': "), "{said}");
            let told = "a name of visible ASCII and spaces, of 1 to 64 characters, is allowed";
            assert!(said.contains(told), "{said}");
        }
    }
}
