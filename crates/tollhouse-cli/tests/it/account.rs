//! The commands with an account of several pools.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::common::{
    Files, Provider, answers, directory, line, run, run_with_stdin, text, tollhouse,
};
use serde_json::Value;
use tollhouse_sim::{Limits, Sim};

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

fn provider() -> tollhouse_sim::Builder {
    Sim::builder()
        .model("gpt-4o", tokens(30_000))
        .model("text-embedding-3-small", tokens(1_000_000))
}

/// So many, of 108 tokens each.
fn chats(count: usize) -> String {
    (0..count)
        .map(|n| line(&format!("r{n}"), 97) + "\n")
        .collect()
}

/// So many, of about so many tokens each; the answers are short, since it is not tried how
/// they are written.
fn embeddings(count: usize, tokens: usize) -> String {
    let text = "the sea ".repeat(tokens / 2);
    let line = |n| {
        format!(
            r#"{{"custom_id":"e{n}","method":"POST","url":"/v1/embeddings","body":{{"model":"text-embedding-3-small","dimensions":2,"input":"{text}"}}}}"#
        ) + "\n"
    };
    (0..count).map(line).collect()
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
    let command = provider.tollhouse(&files.arguments(&more));
    // The provider's tasks must not wait behind it in this thread's line.
    let ran = tokio::task::spawn_blocking(|| run(command)).await;
    let ran = ran.expect("no panic");
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

/// 300 chats at 30,000 tokens a minute beside embeddings at 1,000,000: 1,000 of them would
/// take 10 times as long from one pool.
///
/// Real time, on a machine that may be busy with other tests: so the chats alone go side by
/// side with both, each with a provider of its own. The library's own test asserts one
/// percent, in virtual time.
async fn a_mixed_file_takes_what_its_slower_half_takes(
    test: &'static str,
    config: &'static str,
    embedded: usize,
) {
    // As files are: what is alike stands together, the slow ones first.
    let both = chats(300) + &embeddings(embedded, 300);
    let alone = tokio::spawn(async move {
        let test = format!("{test}-alone");
        seconds(&test, &chats(300), config).await
    });
    let mixed = seconds(test, &both, config).await;
    let alone = alone.await.expect("no panic");
    println!("{test}: alone {alone:.2} s, mixed {mixed:.2} s");
    assert!(mixed < alone * 2.0, "{alone} s alone, {mixed} s mixed");
    // 5,400 tokens more than there are at first, at 450 a second, less what the provider
    // counts less.
    assert!(alone > 5.0, "nothing bound: {alone} s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mixed_file_takes_no_longer_than_its_slower_half() {
    let config = r#"
        [defaults]
        headroom = 0.1
        max_concurrency = 8
        [models."gpt-4o*"]
        tokens_per_minute = 30000
        [models."text-embedding-*"]
        tokens_per_minute = 1000000
    "#;
    a_mixed_file_takes_what_its_slower_half_takes("mixed", config, 1_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_with_limits_that_answers_tell() {
    let config = r#"
        [defaults]
        headroom = 0.1
        max_concurrency = 8
        tokens_per_minute = "auto"
    "#;
    a_mixed_file_takes_what_its_slower_half_takes("mixed-auto", config, 300).await;
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
    let input = input + &embeddings(300, 980);
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

/// What the provider limits by the day, or of prompts and answers apart.
const OTHER_LIMITS: &str = r#"
    [defaults]
    headroom = 0
    stagger_seconds = 0
    [models."gpt-4o*"]
    tokens_per_minute = 60000
    output_tokens_per_minute = 5000
    requests_per_day = 8
    [models."text-embedding-*"]
    tokens_per_minute = 600000
"#;

#[test]
fn plan_reckons_with_limits_of_the_day_and_of_answers() {
    let config = file("plan-day", OTHER_LIMITS);
    let input: String = (0..10)
        .map(|n| line(&format!("r{n}"), 989) + "\n")
        .collect();
    let input = input + &embeddings(300, 980);
    let arguments = ["plan", "-", "--config", text(&config)];
    let ran = run_with_stdin(tollhouse(&arguments), &input);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let row = |limit: &str| {
        let line = ran.stdout.lines().find(|line| line.contains(limit));
        let line = line.unwrap_or_else(|| panic!("{limit}: {}", ran.stdout));
        let (_, rest) = line.split_once(limit).expect("it is there");
        rest.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    // 8 may go at once, and 2 more in a quarter of a day.
    let day = ["8", "6h", "00m", "9", "<-", "binds"];
    assert_eq!(row("requests a day"), day, "{}", ran.stdout);
    // 9,890 tokens of answers, 4,890 of them after the first minute's.
    let answers = ["5,000", "58.6s", "-"];
    assert_eq!(row("output tokens a minute"), answers, "{}", ran.stdout);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_can_never_fit_names_its_pool_and_the_limit() {
    let provider = Provider::start(Sim::builder()).await;
    let config = file("never-part-file", OTHER_LIMITS);
    let files = Files::new("never-part", embeddings(300, 980) + &line("r1", 7_000));
    let more = ["--config", text(&config)];
    let ran = run(provider.tollhouse(&files.arguments(&more)));
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    let said = "custom_id \"r1\": costs 7,000 output tokens; at most 5,000 can ever be \
                admitted to gpt-4o*";
    assert!(ran.stderr.contains(said), "{}", ran.stderr);
    assert_eq!(provider.sim.report().arrived, 0);
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

#[test]
fn check_names_every_fault_with_its_line_and_else_every_pool() {
    let faulty = file(
        "check",
        "[defaults]\nheadroom = 2\n\n[models.\"gpt-4o*\"]\ntoken_per_minute = 30000\npool = \"big\"\n",
    );
    let ran = run(tollhouse(&["account", "check", text(&faulty)]));
    assert_eq!(ran.code, Some(2));
    assert_eq!(ran.stdout, "");
    let name = text(&faulty);
    for said in [
        format!("{name}:2: [defaults]: headroom is 2: allowed is a number from 0 to 0.9\n"),
        format!(
            "{name}:5: [models.\"gpt-4o*\"]: token_per_minute is not known: tokens_per_minute is \
             meant, perhaps\n"
        ),
        format!("{name}:6: [models.\"gpt-4o*\"]: there is no [pools.\"big\"]\n"),
        format!("error: {name} has 3 faults\n"),
    ] {
        assert!(ran.stderr.contains(&said), "{}", ran.stderr);
    }

    let nowhere = file("check-nowhere", "[shared]\nredis = \"redis://h:secret\"\n");
    let ran = run(tollhouse(&["account", "check", text(&nowhere)]));
    assert_eq!((ran.code, &*ran.stdout), (Some(2), ""));
    let said = format!(
        "{}: [shared]: redis: the address of Redis is wrong",
        text(&nowhere)
    );
    assert!(ran.stderr.starts_with(&said), "{}", ran.stderr);
    assert!(!ran.stderr.contains("secret"), "{}", ran.stderr);

    let good = file("check-good", TWO_POOLS);
    let mut command = tollhouse(&["account", "check", text(&good)]);
    command.env("OPENAI_TPM_LIMIT", "many");
    let ran = run(command);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let rest = "3 at once, launches 15.0s apart, headroom 0%";
    let row = |name, tokens| format!("{name:27}  {tokens} tokens a minute, {rest}\n");
    let expected = [
        row("pool gpt-4o*", "6,000"),
        row("pool text-embedding-*", "60,000"),
        row("a pool for each other model", "30,000"),
    ];
    assert_eq!(ran.stdout, expected.concat());
    let ran = run(tollhouse(&["account", "check", "no-such.toml"]));
    assert_eq!(ran.code, Some(2));
    assert!(
        ran.stderr.starts_with("no-such.toml: No such file"),
        "{}",
        ran.stderr
    );
}

#[test]
fn show_tells_the_section_the_pool_and_the_numbers_that_result() {
    let config = file("show", TWO_POOLS);
    let arguments = [
        "account",
        "show",
        "--model",
        "gpt-4o-mini",
        "--config",
        text(&config),
    ];
    let mut command = tollhouse(&arguments);
    command.env("OPENAI_MAX_CONCURRENCY", "7");
    let ran = run(command);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    for said in [
        "gpt-4o-mini is in pool gpt-4o*, as [models.\"gpt-4o*\"] says\n",
        "\ntokens_per_minute = 6000\n",
        "\nmax_concurrency = 7\n",
        "\nrequests_per_minute = \"unlimited\"\n",
    ] {
        assert!(ran.stdout.contains(said), "{}", ran.stdout);
    }
    let ran = run(tollhouse(&["account", "show", "--model", "o3"]));
    let said = "o3 is in pool default, as [defaults] says";
    assert!(ran.stdout.contains(said), "{}", ran.stdout);
    let ran = run(tollhouse(&["account", "show"]));
    assert!(
        ran.stdout
            .contains("one pool for all models  30,000 tokens"),
        "{}",
        ran.stdout
    );
}

/// A section of an endpoint holds whatever the model.
#[test]
fn show_tells_where_calls_to_a_path_belong() {
    let sections = "[models.gpt-4o]\n[models.embeddings]\nendpoint = \"embeddings\"\n\
                    tokens_per_minute = 5000\n";
    let config = file("show-path", sections);
    let show = |more: &[&str]| {
        let arguments = ["account", "show", "--config", text(&config)];
        run(tollhouse(&[&arguments, more].concat()))
    };
    for more in [
        &["--url", "/v1/embeddings"][..],
        &["--url", "/v1/embeddings", "--model", "any"],
    ] {
        let ran = show(more);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        let said = "is in pool embeddings, as [models.\"embeddings\"] says\n";
        assert!(ran.stdout.contains(said), "{}", ran.stdout);
        assert!(ran.stdout.contains("\ntokens_per_minute = 5000\n"));
    }
    for path in [
        "/openai/deployments/gpt-4o/chat/completions",
        "/v1/realtime?model=gpt-4o",
    ] {
        let ran = show(&["--url", path]);
        let said = "gpt-4o is in pool gpt-4o, as [models.\"gpt-4o\"] says\n";
        assert!(ran.stdout.contains(said), "{path}: {}", ran.stdout);
    }
    let ran = show(&["--url", "/v1/responses"]);
    for said in [
        "\na call to /v1/responses without a model is",
        ", as [defaults] says\n",
    ] {
        assert!(ran.stdout.contains(said), "{}", ran.stdout);
    }
    let ran = show(&["--url", "embeddings"]);
    assert_eq!(ran.code, Some(2), "{}", ran.stdout);
    assert!(ran.stderr.contains("a path such as"), "{}", ran.stderr);
}

#[test]
fn a_redis_at_which_nobody_listens_is_told_as_that() {
    let status = ["account", "status", "--redis", "redis://127.0.0.1:1"];
    let ran = run(tollhouse(&status));
    assert_eq!(ran.code, Some(2), "{}", ran.stdout);
    assert!(
        ran.stderr.contains(": nobody listens there ("),
        "{}",
        ran.stderr
    );
    assert!(!ran.stderr.contains("rediss"), "{}", ran.stderr);
}

/// More than a page of them.
fn many_models() -> tollhouse_sim::Builder {
    let models = (0..230).map(|n| (format!("m{n:03}"), tokens(1_000 + n)));
    models.fold(provider(), |sim, (model, limits)| sim.model(model, limits))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn import_writes_every_page_into_a_file_that_can_be_read() {
    let provider = Provider::start(many_models()).await;
    let output = directory("import").join("tollhouse.toml");
    let arguments = [
        "account",
        "import",
        "--project",
        "proj_1",
        "--output",
        text(&output),
    ];
    let import = |more: &[&str]| {
        let mut command = provider.tollhouse(&[&arguments[..], more].concat());
        command.env("OPENAI_ADMIN_KEY", "admin-key");
        run(command)
    };
    let ran = import(&[]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("Wrote the limits of 232 models to"),
        "{}",
        ran.stderr
    );
    let written = fs::read_to_string(&output).expect("a file");
    assert!(
        written.contains("[models.\"m229\"]\ntokens_per_minute = 1229\n"),
        "{written}"
    );
    let checked = run(tollhouse(&["account", "check", text(&output)]));
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);

    // One that is there already stays, unless it is to go.
    fs::write(&output, "# mine\n").expect("a file");
    let ran = import(&[]);
    assert_eq!(ran.code, Some(2));
    let said = "is there already, and was left as it is; --force replaces it";
    assert!(ran.stderr.contains(said), "{}", ran.stderr);
    assert_eq!(fs::read_to_string(&output).expect("a file"), "# mine\n");
    assert_eq!(import(&["--force"]).code, Some(0));
    assert_eq!(fs::read_to_string(&output).expect("a file"), written);
    let folder = output.parent().expect("a folder");
    assert_eq!(
        fs::read_dir(folder).expect("a folder").count(),
        1,
        "nothing else is left"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn import_shows_drift_both_ways_and_writes_nothing_then() {
    let provider = Provider::start(provider()).await;
    let config = file(
        "drift",
        "[models.\"gpt-4o*\"]\ntokens_per_minute = 90000\n[models.old]\n",
    );
    let arguments = [
        "account",
        "import",
        "--project",
        "p",
        "--config",
        text(&config),
    ];
    let mut command = provider.tollhouse(&arguments);
    command
        .env("OPENAI_ADMIN_KEY", "admin-key")
        .current_dir(config.parent().expect("a folder"));
    let ran = run(command);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    for said in [
        "gpt-4o: tokens_per_minute is 90,000 by [models.\"gpt-4o*\"], 30,000 by the API\n",
        "text-embedding-3-small: told by the API, in no section of the file\n",
        "old: in the file, matches no model of the API\n",
    ] {
        assert!(ran.stdout.contains(said), "{}", ran.stdout);
    }
    let text = fs::read_to_string(&config).expect("a file");
    assert!(text.contains("90000"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn import_names_what_it_lacks_and_what_was_refused() {
    let arguments = ["account", "import", "--project", "p"];
    let ran = run(tollhouse(&arguments));
    assert_eq!(ran.code, Some(2));
    assert_eq!(ran.stderr, "error: OPENAI_ADMIN_KEY is not set\n");

    let refusal =
        r#"{"error":{"message":"not yours","type":"invalid_request_error","code":"forbidden"}}"#;
    let answer = move || async move { (axum::http::StatusCode::FORBIDDEN, refusal) };
    let upstream = crate::common::Upstream::start(axum::Router::new().fallback(answer)).await;
    let mut command = crate::common::tollhouse_at(&upstream.url, &arguments);
    command.env("OPENAI_ADMIN_KEY", "admin-secret");
    let ran = tokio::task::spawn_blocking(move || run(command))
        .await
        .expect("it runs");
    assert_eq!(ran.code, Some(2));
    assert!(
        ran.stderr.contains("cannot read the limits of p from"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("403 forbidden"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("admin-secret"), "{}", ran.stderr);
}

/// How many tokens a file has is told, and never which.
#[test]
fn a_check_counts_tokens() {
    let text = "[tokens]\nweb = \"t-PLANTED-1\"\nnight = [\"t-PLANTED-2\", \"t-PLANTED-3\"]\n";
    let good = file("check_tokens", text);
    let ran = run(tollhouse(&["account", "check", good.to_str().unwrap()]));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.ends_with("3 tokens of 2 callers\n"), "{ran:?}");
    let bad = file("check_tokens_bad", "[tokens]\nweb = \"PLANTED one\"\n");
    let refused = run(tollhouse(&["account", "check", bad.to_str().unwrap()]));
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(
        refused.stderr.contains(":2: [tokens]: \"web\" has a token"),
        "{refused:?}"
    );
    assert!(!format!("{ran:?}{refused:?}").contains("PLANTED"));
}

#[test]
fn an_empty_variable_names_no_redis() {
    let mut command = tollhouse(&["account", "status"]);
    command
        .env("TOLLHOUSE_REDIS", "")
        .env("TOLLHOUSE_CONFIG", " ");
    let ran = run(command);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    assert!(ran.stderr.contains("no Redis is named"), "{}", ran.stderr);
}
