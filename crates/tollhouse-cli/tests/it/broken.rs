//! What breaks around a batch: each gives one clear message, and nothing that
//! was answered is lost.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::common::{
    Files, Provider, Upstream, answers, assert_each_once, ended, line, line_count, lines, records,
    run, start, text, tollhouse_at, until,
};
use axum::Router;
use axum::http::{StatusCode, header};
use serde_json::Value;
use tollhouse_sim::Sim;

const GOOD: &str = r#"{"choices":[],"usage":{"total_tokens":9}}"#;
const SPENT: &str = r#"{"error":{"message":"You exceeded your current quota.","type":"insufficient_quota","code":"insufficient_quota"}}"#;

/// Answers the first `good` requests, and then as `rest` says.
async fn upstream<F>(good: usize, rest: impl Fn() -> F + Clone + Send + Sync + 'static) -> Upstream
where
    F: Future<Output = (StatusCode, &'static str)> + Send + 'static,
{
    let asked = Arc::new(AtomicUsize::new(0));
    let handler = move || {
        let (asked, rest) = (asked.clone(), rest.clone());
        async move {
            let (status, body) = match asked.fetch_add(1, Ordering::SeqCst) {
                n if n < good => (StatusCode::OK, GOOD),
                _ => rest().await,
            };
            (status, [(header::CONTENT_TYPE, "application/json")], body)
        }
    };
    Upstream::start(Router::new().fallback(handler)).await
}

/// One request at a time, so that the upstream knows how many it has answered;
/// which comes first is up to the threads.
const ONE: [&str; 2] = ["--max-concurrency", "1"];

/// What is said of the request in a line of errors.
fn about(failed: &Value, said: &str) -> String {
    let id = failed["custom_id"].as_str().expect("an id");
    let number: usize = id[1..].parse().expect("r0, r1 and so on");
    format!("failed line {}, custom_id {id:?}: {said}", number + 1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_run_onto_one_output_is_turned_away() {
    let slow = Sim::builder().latency(Duration::from_millis(300), Duration::ZERO);
    let provider = Provider::start(slow).await;
    let files = Files::new("twice", lines(6, 10));
    let said_first = files.output.with_extension("stderr");
    let first = start(provider.tollhouse(&files.arguments(&[])), &said_first);
    until("the first is under way", || {
        provider.sim.report().arrived > 0
    })
    .await;

    let second = run(provider.tollhouse(&files.arguments(&[])));
    assert_eq!(second.code, Some(2), "{}", second.stderr);
    let said = "out.jsonl: another run is writing to it; wait for its end, or choose another file";
    assert!(second.stderr.contains(said), "{}", second.stderr);

    assert_eq!(ended(first).await, Some(0));
    assert_each_once(&files.output, 6);
    assert_eq!(provider.sim.report().arrived, 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_costs_no_answer() {
    let slow = Sim::builder().latency(Duration::from_millis(20), Duration::ZERO);
    let provider = Provider::start(slow).await;
    let files = Files::new("full", lines(60, 10));
    let arguments = [
        "batch",
        text(&files.input),
        "--output",
        "/dev/full",
        "--errors",
        text(&files.errors),
        "--quiet",
    ];
    let ran = run(provider.tollhouse(&arguments));
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("No space left on device"),
        "{}",
        ran.stderr
    );

    let saved = place_named(&ran.stderr);
    let asked = provider.sim.report().total.completed as usize;
    assert!(asked > 0 && asked < 60, "it stops: {asked}");
    assert_eq!(answers(saved).len(), asked);
    // Put into the output, they are not asked for again.
    fs::rename(saved, &files.output).expect("a file");
    assert_eq!(run(provider.tollhouse(&files.arguments(&[]))).code, Some(0));
    assert_each_once(&files.output, 60);
    assert_eq!(provider.sim.report().arrived, 60);
}

/// Where the answers are that could not be saved.
fn place_named(said: &str) -> &Path {
    let place = said.split(" are in ").nth(1).expect("a place is named");
    Path::new(place.split("; ").next().expect("a path"))
}

/// A file may grow to so many KiB and no further: a disk that is full in the middle
/// of a line.
#[cfg(unix)]
fn in_room_for(kilobytes: u64, command: std::process::Command) -> std::process::Command {
    let mut limited = std::process::Command::new("bash");
    let script = format!(r#"trap "" XFSZ; ulimit -f {kilobytes}; exec "$@""#);
    limited
        .args(["-c", &script, "bash"])
        .arg(command.get_program());
    limited.args(command.get_args()).env_clear();
    for (name, value) in command.get_envs() {
        limited.env(name, value.expect("it is set"));
    }
    limited
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failure_34_a_disk_that_is_full_in_the_middle_of_a_line_costs_nothing() {
    use std::os::unix::fs::PermissionsExt;

    for kilobytes in [5, 9] {
        let slow = Sim::builder().latency(Duration::from_millis(20), Duration::ZERO);
        let provider = Provider::start(slow).await;
        // A line of the output takes a little less than 1 KiB. So half of them fit into
        // it, and the others into what is rescued, which has no more room; however many
        // a busy machine lets come together.
        let count = 2 * kilobytes as usize;
        let files = Files::new(&format!("torn{kilobytes}"), lines(count, 10));
        let folder = files.output.parent().expect("a folder");
        let command = || {
            let mut command = provider.tollhouse(&files.arguments(&["--quiet"]));
            command.env("TMPDIR", folder);
            command
        };
        let ran = run(in_room_for(kilobytes, command()));
        assert_eq!(ran.code, Some(2), "{}", ran.stderr);
        assert!(ran.stderr.contains("File too large"), "{}", ran.stderr);
        let saved = place_named(&ran.stderr);
        let mode = fs::metadata(saved)
            .expect("it is there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);

        // Each answer is in one of the two, once, and no line is torn.
        let (mut all, rescued) = (answers(&files.output), answers(saved));
        for (id, times) in rescued {
            *all.entry(id).or_default() += times;
        }
        assert!(all.values().all(|times| *times == 1), "{all:?}");
        let asked = provider.sim.report().total.completed as usize;
        assert_eq!(all.len(), asked);

        // The same command goes on; with no more room it changes nothing.
        let before = fs::read(&files.output).expect("it is there");
        let again = run(in_room_for(1, command()));
        assert_eq!(again.code, Some(2), "{}", again.stderr);
        assert_eq!(fs::read(&files.output).expect("it is there"), before);
        assert!(saved.exists());
        let again = run(command());
        assert_eq!(again.code, Some(0), "{}", again.stderr);
        assert_each_once(&files.output, count);
        assert!(!saved.exists());
        assert_eq!(provider.sim.report().arrived, count as u64);
    }
}

/// What is rescued may be the second answer of an id: its line was changed.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failure_34_a_full_disk_costs_no_answer_to_a_line_that_was_changed() {
    const COUNT: usize = 10;
    let provider = Provider::start(Sim::builder()).await;
    let files = Files::new("torn_change", lines(COUNT, 10));
    let folder = files.output.parent().expect("a folder");
    let command = || {
        let mut command = provider.tollhouse(&files.arguments(&["--changed", "send", "--quiet"]));
        command.env("TMPDIR", folder);
        command
    };
    assert_eq!(run(command()).code, Some(0));
    fs::write(&files.input, lines(COUNT, 11)).expect("a file");
    let ran = run(in_room_for(12, command()));
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    assert!(place_named(&ran.stderr).exists());

    let again = run(command());
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    let twice = answers(&files.output).into_values().all(|times| times == 2);
    assert!(twice, "{:?}", answers(&files.output));
    assert_eq!(provider.sim.report().arrived, 2 * COUNT as u64);
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failure_35_two_files_that_are_one_are_refused_before_anything_is_opened() {
    let provider = Provider::start(Sim::builder()).await;
    let files = Files::new("one_file", lines(3, 10));
    let folder = files.output.parent().expect("a folder");
    let path = |name: &str| folder.join(name);
    fs::write(&files.output, "").expect("a file");
    fs::hard_link(&files.output, path("hard")).expect("a link");
    std::os::unix::fs::symlink(&files.output, path("soft")).expect("a link");
    std::os::unix::fs::symlink("out.errors.jsonl", path("dangling")).expect("a link");
    let roundabout = folder.join("..").join(folder.file_name().expect("a name"));
    fs::write(path("account.toml"), "# as by default").expect("a file");
    fs::write(
        path("prices.toml"),
        "[prices.gpt-4o]\ninput = 1\noutput = 1",
    )
    .expect("a file");
    let cases = [
        ("--output", files.output.clone()),
        ("--output", path("hard")),
        ("--output", path("soft")),
        ("--output", roundabout.join("out.jsonl")),
        ("--errors", path("dangling")),
        ("--errors", roundabout.join("out.errors.jsonl")),
        ("IN.jsonl", files.input.clone()),
        ("--config", path("account.toml")),
        ("--prices", roundabout.join("prices.toml")),
    ];
    let (config, prices) = (path("account.toml"), path("prices.toml"));
    let read = ["--config", text(&config), "--prices", text(&prices)];
    for (other, summary) in cases {
        let more = [&read[..], &["--summary", text(&summary)]].concat();
        let ran = run(provider.tollhouse(&files.arguments(&more)));
        assert_eq!(ran.code, Some(2), "{}", ran.stderr);
        let said = format!("--summary and {other} are ");
        assert!(ran.stderr.contains(&said), "{}", ran.stderr);
        assert_eq!(fs::read(&files.output).expect("it is there"), b"");
        assert_eq!(provider.sim.report().arrived, 0);
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_signal_while_the_input_is_read_ends_it_as_an_interruption() {
    for name in ["-TERM", "-INT"] {
        let files = Files::new(&format!("early{name}"), "");
        let mut command = crate::common::tollhouse_at(
            "http://127.0.0.1:9/v1",
            &["batch", "-", "--output", text(&files.output)],
        );
        command.stdin(std::process::Stdio::piped());
        let child = start(command, &files.stderr);
        crate::common::until(
            "the output to be opened or the input to be waited for",
            || {
                let pid = child.id();
                let caught = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
                let mask = caught.lines().find_map(|line| line.strip_prefix("SigCgt:"));
                let mask = mask.map(|mask| u64::from_str_radix(mask.trim(), 16).unwrap_or(0));
                // SIGINT is 2, SIGTERM 15.
                mask.is_some_and(|mask| mask & (1 << 1) != 0 && mask & (1 << 14) != 0)
            },
        )
        .await;
        crate::common::signal(&child, name);
        assert_eq!(ended(child).await, Some(130), "{name}");
        let said = fs::read_to_string(&files.stderr).expect("it is there");
        assert!(
            said.contains("Interrupted before anything was sent"),
            "{said}"
        );
    }
}

#[test]
fn an_output_that_cannot_be_written_is_named() {
    let files = Files::new("unwritable", lines(1, 10));
    let nowhere = files.output.join("out.jsonl");
    let directory = files.output.parent().expect("a directory");
    let cases = [
        (nowhere.as_path(), "No such file or directory"),
        (directory, "Is a directory"),
    ];
    for (output, why) in cases {
        let errors = text(&files.errors);
        let arguments = [
            "batch",
            text(&files.input),
            "--output",
            text(output),
            "--errors",
            errors,
        ];
        let ran = run(tollhouse_at("http://127.0.0.1:9/v1", &arguments));
        assert_eq!(ran.code, Some(2), "{}", ran.stderr);
        let said = format!(
            "error: {}: cannot be opened for appending: {why}",
            output.display()
        );
        assert!(ran.stderr.starts_with(&said), "{}", ran.stderr);
        assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_cannot_be_read_is_named_and_the_others_are_sent() {
    let provider = Provider::start(Sim::builder()).await;
    let mut input = (line("r0", 10) + "\n").into_bytes();
    input.extend(b"{\"custom_id\":\"\xff\xfe\"}\n");
    input.extend(line("r1", 10).into_bytes());
    let files = Files::new("unreadable", input);
    let ran = run(provider.tollhouse(&files.arguments(&["--quiet"])));
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    assert!(
        ran.stderr.starts_with("bad line 2: not a JSON object: "),
        "{}",
        ran.stderr
    );
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    assert_each_once(&files.output, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_returns_rubbish_is_told_from_one_that_answers() {
    let upstream = upstream(2, async || {
        (StatusCode::OK, "<html>Welcome to nginx!</html>")
    })
    .await;
    let files = Files::new("rubbish", lines(3, 10));
    let ran = run(tollhouse_at(&upstream.url, &files.arguments(&ONE)));
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert_eq!(answers(&files.output).len(), 2);
    let said = "response_not_json: the answer is no JSON; it begins with \
                \"<html>Welcome to nginx!</html>\"";
    let failed = &records(&files.errors)[0];
    assert!(ran.stderr.contains(&about(failed, said)), "{}", ran.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exhausted_quota_ends_the_run_and_the_rest_is_left_to_do() {
    let poor = upstream(2, async || (StatusCode::TOO_MANY_REQUESTS, SPENT)).await;
    let files = Files::new("quota", lines(40, 10));
    let ran = run(tollhouse_at(&poor.url, &files.arguments(&ONE)));
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    let said = "Given up: the quota is exhausted: You exceeded your current quota.; 38 lines are \
                left, the same command goes on from here\n";
    assert!(ran.stderr.ends_with(said), "{}", ran.stderr);
    assert_eq!(
        (line_count(&files.output), line_count(&files.errors)),
        (2, 0)
    );

    let rich = upstream(usize::MAX, std::future::pending).await;
    let ran = run(tollhouse_at(&rich.url, &files.arguments(&[])));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_each_once(&files.output, 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_failures_end_the_run() {
    let failing = upstream(5, async || (StatusCode::BAD_REQUEST, "{}")).await;
    let files = Files::new("failing", lines(100, 10));
    let most = [&ONE[..], &["--max-failures", "0.5"]].concat();
    let ran = run(tollhouse_at(&failing.url, &files.arguments(&most)));
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    // From the twentieth on; how many end before the run hears of it is up to the
    // threads.
    let last = ran.stderr.lines().last().expect("a last word");
    let counts = last.strip_prefix("Given up: ");
    let counts = counts.and_then(|counts| counts.split_once(" requests failed, more than 50%; "));
    let (counts, rest) = counts.expect(last);
    let (failed, ended) = counts.split_once(" of ").expect(last);
    let (failed, ended): (u64, u64) = (failed.parse().unwrap(), ended.parse().unwrap());
    let how = format!(
        "{} lines are left, the same command goes on from here, and with --retry-errors it \
         sends what failed again",
        100 - line_count(&files.output) - line_count(&files.errors)
    );
    assert_eq!(rest, how);
    assert!(ended >= 20 && failed == ended - 5, "{last}");
    assert_eq!(line_count(&files.output), 5);
    // And what had left before the last of them was counted.
    let failed = line_count(&files.errors);
    assert!((15..95).contains(&failed), "{failed}");

    let well = upstream(usize::MAX, std::future::pending).await;
    let again = [&most[..], &["--retry-errors"]].concat();
    let ran = run(tollhouse_at(&well.url, &files.arguments(&again)));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_each_once(&files.output, 100);
    assert_eq!(line_count(&files.errors), 0);
}
