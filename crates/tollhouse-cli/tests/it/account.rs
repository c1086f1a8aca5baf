//! The commands with an account of several pools.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::common::{
    Files, Provider, answers, directory, line, run, run_with_stdin, text, tollhouse,
};
use serde_json::Value;
use tollhouse_sim::{Limits, Sim};

const CHATS: usize = 117;
const EMBEDDINGS: usize = 300;

fn file(test: &str, text: &str) -> PathBuf {
    let path = directory(test).join("tollhouse.toml");
    fs::write(&path, text).expect("a file");
    path
}

fn tokens(tokens: u64) -> Limits {
    Limits {
        tokens_per_minute: Some(tokens),
        requests_per_minute: None,
    }
}

/// Chats have a fifth of what embeddings have.
fn provider() -> tollhouse_sim::Builder {
    Sim::builder()
        .model("gpt-4o", tokens(120_000))
        .model("text-embedding-3-small", tokens(600_000))
}

/// Of 1,000 tokens each.
fn chats() -> String {
    (0..CHATS)
        .map(|n| line(&format!("r{n}"), 989) + "\n")
        .collect()
}

/// Of about 1,000 tokens each.
fn embeddings() -> String {
    let text = "the sea ".repeat(490);
    let line = |n| {
        format!(
            r#"{{"custom_id":"e{n}","method":"POST","url":"/v1/embeddings","body":{{"model":"text-embedding-3-small","input":"{text}"}}}}"#
        ) + "\n"
    };
    (0..EMBEDDINGS).map(line).collect()
}

/// What a run takes, by its own count.
async fn seconds(test: &str, input: &str, config: &str) -> f64 {
    let provider = Provider::start(provider()).await;
    let files = Files::new(test, input);
    let (config, summary) = (
        file(&format!("{test}-file"), config),
        files.output.with_extension("json"),
    );
    let more = ["--config", text(&config), "--summary", text(&summary)];
    let ran = run(provider.tollhouse(&files.arguments(&more)));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let lines = input.lines().count();
    assert_eq!(answers(&files.output).len(), lines, "{}", ran.stderr);
    let report = provider.sim.report();
    assert_eq!(report.total.rejected.total(), 0, "{report}\n{}", ran.stderr);
    assert_eq!(report.arrived, lines as u64);
    let summary = fs::read_to_string(summary).expect("a summary");
    let summary: Value = serde_json::from_str(&summary).expect("JSON");
    summary["elapsed_seconds"].as_f64().expect("a time")
}

async fn a_mixed_file_takes_what_its_slower_half_takes(test: &str, config: &str) {
    let alone = seconds(&format!("{test}-alone"), &chats(), config).await;
    // As files are: what is alike stands together, the slow ones first.
    let mixed = seconds(test, &(chats() + &embeddings()), config).await;
    println!("{test}: alone {alone:.2} s, mixed {mixed:.2} s");
    assert!(
        mixed < alone * 1.05 + 0.5,
        "alone {alone} s, mixed {mixed} s"
    );
    // 9,000 tokens more than there are at first, at 1,800 a second.
    assert!(alone > 3.0, "nothing bound: {alone} s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mixed_file_takes_no_longer_than_its_slower_half() {
    let config = r#"
        [defaults]
        headroom = 0.1
        max_concurrency = 8
        [models."gpt-4o*"]
        tokens_per_minute = 120000
        [models."text-embedding-*"]
        tokens_per_minute = 600000
    "#;
    a_mixed_file_takes_what_its_slower_half_takes("mixed", config).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_with_limits_that_answers_tell() {
    let config = r#"
        [defaults]
        headroom = 0.1
        max_concurrency = 8
        tokens_per_minute = "auto"
    "#;
    a_mixed_file_takes_what_its_slower_half_takes("mixed-auto", config).await;
}

const TWO_POOLS: &str = r#"
    [defaults]
    headroom = 0
    [models."gpt-4o*"]
    tokens_per_minute = 6000
    [models."text-embedding-*"]
    tokens_per_minute = 60000
"#;

#[test]
fn plan_reckons_pool_by_pool_and_names_the_one_that_binds() {
    let config = file("plan-pools", TWO_POOLS);
    let input: String = (0..10)
        .map(|n| line(&format!("r{n}"), 989) + "\n")
        .collect();
    let input = input + &embeddings();
    let mut arguments = vec![
        "plan",
        "-",
        "--config",
        text(&config),
        "--stagger-seconds",
        "0",
    ];
    let ran = run_with_stdin(tollhouse(&arguments), &input);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let rows: Vec<Vec<&str>> = ran
        .stdout
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let row = |name: &str| {
        rows.iter()
            .find(|row| row.first() == Some(&name) && row.contains(&"minute"))
            .expect(name)
    };
    // 4,000 tokens more than there are at first, at 100 a second, which may stay.
    let (chats, embeddings) = (row("gpt-4o*"), row("text-embedding-*"));
    assert_eq!(chats[4..], ["6,000", "40.0s", "-"], "{}", ran.stdout);
    // 234,000 more, at 1,000 a second.
    let binds = ["60,000", "3m", "54s", "99,662", "<-", "binds"];
    assert_eq!(embeddings[4..], binds, "{}", ran.stdout);

    arguments.push("--json");
    let ran = run_with_stdin(tollhouse(&arguments), &input);
    let plan: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(plan["bound_pool"], "text-embedding-*", "{plan:#}");
    assert_eq!(plan["pools"][0]["seconds"], 40.0, "{plan:#}");
}

#[test]
fn variables_and_flags_lie_over_the_files_defaults() {
    let config = file(
        "plan-over",
        "[defaults]\ntokens_per_minute = 6000\nheadroom = 0\nstagger_seconds = 9",
    );
    let mut command = tollhouse(&["plan", "-", "--json", "--tpm-limit", "60000"]);
    command
        .env("TOLLHOUSE_CONFIG", &config)
        .env("OPENAI_STAGGER_SECONDS", "1");
    let input: String = (0..3).map(|n| line(&format!("r{n}"), 989) + "\n").collect();
    let ran = run_with_stdin(command, &input);
    let plan: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(plan["times"][0]["allowed"], 60_000, "{plan:#}");
    assert_eq!(plan["seconds"], 2.0);
    assert_eq!(plan["bound_pool"], "gpt-4o");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_can_never_fit_its_pool_is_refused() {
    let provider = Provider::start(Sim::builder()).await;
    let config = file("never-file", TWO_POOLS);
    let files = Files::new("never", line("r0", 10) + "\n" + &line("r1", 7_000));
    let more = ["--config", text(&config)];
    let ran = run(provider.tollhouse(&files.arguments(&more)));
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    let said = "line 2, custom_id \"r1\": costs 7,011 tokens; at most 6,000 can ever be admitted";
    assert!(ran.stderr.contains(said), "{}", ran.stderr);
    assert_eq!(provider.sim.report().arrived, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_waits_for_nothing_and_tells_what_would_have_waited() {
    let provider = Provider::start(Sim::builder().tokens_per_minute(None)).await;
    let config = file("dry-file", TWO_POOLS);
    let files = Files::new(
        "dry",
        (0..12)
            .map(|n| line(&format!("r{n}"), 989) + "\n")
            .collect::<String>(),
    );
    let more = ["--config", text(&config), "--dry-run"];
    let begin = tokio::time::Instant::now();
    let ran = run(provider.tollhouse(&files.arguments(&more)));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(
        begin.elapsed() < Duration::from_secs(20),
        "a minute's tokens were waited for"
    );
    assert_eq!(answers(&files.output).len(), 12);
    assert!(ran.stderr.contains("would have waited"), "{}", ran.stderr);
}

#[test]
fn every_fault_of_file_and_flags_is_named_at_once() {
    let config = file(
        "faults",
        "[defaults]\nheadroom = 2\n[modles.a]\nheadroom = 0\n",
    );
    let ran = run(tollhouse(&[
        "plan",
        "-",
        "--config",
        text(&config),
        "--tpm-limit",
        "many",
    ]));
    assert_eq!(ran.code, Some(2));
    for said in [
        "line 2, [defaults]: headroom is 2: allowed is a number from 0 to 0.9",
        "line 3: modles is not known: models is meant, perhaps",
        "--tpm-limit is \"many\", allowed is",
    ] {
        assert!(ran.stderr.contains(said), "{}", ran.stderr);
    }
}
