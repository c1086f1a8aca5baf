//! `tollhouse plan`: its numbers, for people and for machines.

use std::fs;
use std::process::Stdio;

use crate::common::{directory, line, lines, run, run_with_stdin, tollhouse};
use serde_json::Value;

/// 4 tokens of text, 7 of form and 989 asked.
fn thousands(count: usize) -> String {
    lines(count, 989)
}

#[test]
fn plan_tells_tokens_time_and_the_binding_limit() {
    // 100,000 tokens: 6,000 are there at first, the rest comes at 6,000 a
    // minute. 100 launches have 99 gaps of 5 s.
    let arguments = [
        "plan",
        "-",
        "--json",
        "--tpm-limit",
        "10000",
        "--tpm-headroom",
        "0.4",
        "--stagger-seconds",
        "5",
    ];
    let ran = run_with_stdin(tollhouse(&arguments), &thousands(100));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(ran.stderr, "");
    let plan: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(plan["requests"], 100);
    assert_eq!(plan["tokens"], 100_000);
    assert_eq!(plan["binding"], "tokens");
    assert_eq!(plan["seconds"], 940.0);
    assert_eq!(plan["times"][1]["limit"], "stagger");
    assert_eq!(plan["times"][1]["seconds"], 495.0);
    assert_eq!(plan["loads"][0]["model"], "gpt-4o");
    assert_eq!(plan["loads"][0]["endpoint"], "/v1/chat/completions");
}

#[test]
fn lines_that_can_never_fit_and_bad_lines_are_named() {
    let input = format!("{}\nnonsense\n{}\n", line("big", 45_400), line("ok", 10));
    let ran = run_with_stdin(tollhouse(&["plan", "-"]), &input);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    for said in [
        "line 1, custom_id \"big\": costs 45,411 tokens; at most 25,500 can ever be admitted",
        "line 2: not a JSON object",
        "3 lines; 1 request to send",
    ] {
        assert!(ran.stdout.contains(said), "{}", ran.stdout);
    }
}

#[test]
fn requests_in_flight_count_where_their_time_is_given() {
    let arguments = [
        "plan",
        "-",
        "--json",
        "--stagger-seconds",
        "0",
        "--answer-seconds",
        "6",
        "--tpm-limit",
        "1000000",
        "--rpm-limit",
        "600",
    ];
    let ran = run_with_stdin(tollhouse(&arguments), &thousands(100));
    let plan: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(plan["binding"], "concurrency");
    assert_eq!(plan["seconds"], 200.0);
}

#[test]
fn what_an_output_answers_is_left_out_and_the_output_unchanged() {
    let output = directory("plan-rest").join("out.jsonl");
    let torn = concat!(
        r#"{"id":"batch_req_1","custom_id":"r3","response":{},"error":null}"#,
        "\n",
        r#"{"id":"batch_req_2","cus"#
    );
    fs::write(&output, torn).expect("a file");
    let path = output.to_str().expect("text");
    let command = tollhouse(&["plan", "-", "--output", path, "--json"]);
    let ran = run_with_stdin(command, &thousands(10));
    let plan: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(
        (&plan["requests"], &plan["skipped"]),
        (&9.into(), &1.into())
    );
    assert_eq!(fs::read_to_string(&output).expect("a file"), torn);
}

#[test]
fn reader_that_leaves_is_no_error() {
    let input = directory("plan-pipe").join("in.jsonl");
    fs::write(&input, lines(3, 10)).expect("a file");
    let mut command = tollhouse(&["plan", input.to_str().expect("text")]);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    command.stdout(Stdio::from(writer)).stderr(Stdio::piped());
    let child = command.spawn().expect("it starts");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn help_names_every_command() {
    let ran = run(tollhouse(&["--help"]));
    assert_eq!(ran.code, Some(0));
    for command in ["account", "batch", "plan", "sim", "demo"] {
        assert!(
            ran.stdout.contains(&format!("\n  {command} ")),
            "{}",
            ran.stdout
        );
    }
}
