//! `tollhouse batch`, as its users run it.

use std::fs;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::Duration;

use crate::common::{
    Files, Provider, Started, answers, assert_each_once, directory, ended, interrupt, line,
    line_count, lines, records, run, run_with_stdin, signal, start, text, tollhouse, until,
};
use tokio::time::Instant;
use tollhouse_sim::{Answers, Faults, Limits, Sim};

/// Answers after 0.1 s.
fn slow() -> tollhouse_sim::Builder {
    Sim::builder().latency(Duration::from_millis(100), Duration::ZERO)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_is_answered_once_and_none_is_refused() {
    // 106 requests of 50,011 tokens; the budget holds 5,100,000 of them at
    // first and regains 85,000 a second.
    let provider = Provider::start(
        Sim::builder()
            .tokens_per_minute(6_000_000)
            .requests_per_minute(None)
            .answers(Answers {
                share: 0.001,
                tokens: 10,
                ..Answers::default()
            }),
    )
    .await;
    let files = Files::new("each-once", lines(106, 50_000));
    let policy = ["--tpm-limit", "6000000", "--max-concurrency", "5"];
    let ran = run(provider.tollhouse(&files.arguments(&policy)));

    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(ran.stdout, "");
    assert_each_once(&files.output, 106);
    assert_eq!(line_count(&files.errors), 0);
    let report = provider.sim.report();
    assert_eq!(report.total.rejected.total(), 0, "{report}");
    assert_eq!((report.arrived, report.repeated), (106, 0));
    assert!(report.peak_in_flight <= 5, "{report}");
    // 2.4 s by our own count, which regains 85,000 a second, and no less than
    // 2.0 s by the provider's, which regains 100,000 and corrects ours on the way.
    assert!(report.elapsed_seconds > 1.99, "{report}");
    for said in ["answered   106", "429s       0, 0 retries"] {
        assert!(ran.stderr.contains(said), "{}", ran.stderr);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_requests_are_in_the_errors_and_sent_again_on_demand() {
    let only = Limits {
        tokens_per_minute: None,
        requests_per_minute: None,
    };
    let provider = Provider::start(Sim::builder().model("gpt-4o", only)).await;
    let unknown = line("r1", 10).replace("gpt-4o", "gpt-none");
    let too_large = line("r2", 1_000_000);
    let input = [line("r0", 10), unknown, too_large].join("\n");
    let files = Files::new("failed", &input);

    let refused = run(provider.tollhouse(&files.arguments(&[])));
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    let said = "in.jsonl has 1 line that can never be sent, so nothing was sent: line 3, custom_id \"r2\": \
                costs 1,000,011 tokens; at most 25,500 can ever be admitted; --skip-impossible";
    assert!(refused.stderr.contains(said), "{}", refused.stderr);
    assert_eq!(provider.sim.report().arrived, 0);

    let ran = run(provider.tollhouse(&files.arguments(&["--skip-impossible"])));
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert_each_once(&files.output, 1);
    let errors = fs::read_to_string(&files.errors).expect("errors");
    assert!(errors.contains(r#""code":"model_not_found""#), "{errors}");
    assert!(errors.contains("request_failed"), "{errors}");
    assert!(ran.stderr.contains("failed     2, in "), "{}", ran.stderr);

    // What failed is not sent again, and still makes the batch incomplete.
    let again = run(provider.tollhouse(&files.arguments(&[])));
    assert_eq!(again.code, Some(1), "{}", again.stderr);
    let said = "3 requests done in earlier runs are skipped (2 of them failed";
    assert!(again.stderr.contains(said), "{}", again.stderr);
    assert_eq!(provider.sim.report().arrived, 2);

    // A run that is refused leaves them as they were.
    let refused = run(provider.tollhouse(&files.arguments(&["--retry-errors"])));
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert_eq!(fs::read_to_string(&files.errors).expect("errors"), errors);

    fs::write(&files.input, lines(3, 10)).expect("a file");
    let retried = run(provider.tollhouse(&files.arguments(&["--retry-errors"])));
    assert_eq!(retried.code, Some(0), "{}", retried.stderr);
    assert_each_once(&files.output, 3);
    assert_eq!(line_count(&files.errors), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_lines_are_named_and_do_not_stop_the_rest() {
    let provider = Provider::start(Sim::builder()).await;
    let bad = r#"{"custom_id":"x","method":"GET","url":"/v1/models","body":{}}"#;
    let input = [&line("r0", 10), "nonsense", "", bad, &line("r1", 10)].join("\n");
    let files = Files::new("bad-lines", &input);
    let ran = run(provider.tollhouse(&files.arguments(&["--quiet"])));
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    assert_each_once(&files.output, 2);
    assert_eq!(
        ran.stderr,
        "bad line 2: not a JSON object: it does not begin with `{`\n\
         bad line 4, custom_id \"x\": `method` is \"GET\"; it must be \"POST\"\n"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_batch_goes_on_and_answers_each_once() {
    let provider = Provider::start(slow()).await;
    let files = Files::new("killed", lines(60, 10));
    let command = || provider.tollhouse(&files.arguments(&["--max-concurrency", "6"]));
    for lines in [10, 30] {
        let mut child = start(command(), &files.stderr);
        until("some answers", || line_count(&files.output) >= lines).await;
        child.kill().expect("it is running");
        child.wait().expect("it ends");
    }
    let ran = run(command());
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("done in earlier runs are skipped"));
    assert_each_once(&files.output, 60);
    let report = provider.sim.report();
    // Asked for again was only what was in flight when it was killed, and what
    // had just freed its slot and was not written yet.
    assert!(report.arrived <= 60 + 2 * (6 + 6), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_waits_for_what_is_under_way_and_can_be_resumed() {
    stops_in_order("interrupted", "-INT").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn service_managers_stop_it_in_order_too() {
    stops_in_order("terminated", "-TERM").await;
}

async fn stops_in_order(test: &str, by: &str) {
    let provider = Provider::start(slow()).await;
    let files = Files::new(test, lines(40, 10));
    let command = || provider.tollhouse(&files.arguments(&["--max-concurrency", "4"]));
    let child = start(command(), &files.stderr);
    until("an answer", || line_count(&files.output) >= 4).await;
    signal(&child, by);
    assert_eq!(ended(child).await, Some(130));

    let said = fs::read_to_string(&files.stderr).expect("a file");
    assert!(said.contains("Stopping: waiting for the answers"), "{said}");
    let answered = answers(&files.output).len();
    let left = 40 - answered;
    let end = format!("Interrupted; {left} lines are left, the same command goes on from here\n");
    assert!(said.ends_with(&end), "{said}");
    assert!(answered < 40, "it was too late to interrupt");
    assert_eq!(provider.sim.report().arrived, answered as u64);

    assert_eq!(run(command()).code, Some(0));
    assert_each_once(&files.output, 40);
    assert_eq!(provider.sim.report().arrived, 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn second_ctrl_c_stops_at_once() {
    let hour = Sim::builder().latency(Duration::from_secs(3_600), Duration::ZERO);
    let provider = Provider::start(hour).await;
    let files = Files::new("stopped", lines(4, 10));
    let child = start(provider.tollhouse(&files.arguments(&[])), &files.stderr);
    let said = || fs::read_to_string(&files.stderr).expect("a file");
    until("a request", || provider.sim.report().in_flight == 3).await;
    interrupt(&child);
    until("the stop to be heard", || said().contains("Stopping")).await;
    until("the count down", || said().contains("3 answers under way")).await;
    interrupt(&child);
    assert_eq!(ended(child).await, Some(130));
    let end = "Stopped at once; 4 lines are left, the same command goes on from here\n";
    assert!(said().ends_with(end), "{}", said());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standard_streams_carry_requests_and_answers() {
    let provider = Provider::start(Sim::builder()).await;
    let errors = directory("standard").join("errors.jsonl");
    let command = provider.tollhouse(&["batch", "-", "--output", "-", "--errors", text(&errors)]);
    let ran = run_with_stdin(command, &lines(5, 10));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(ran.stdout.lines().count(), 5);
    assert!(
        ran.stdout
            .lines()
            .all(|line| line.starts_with(r#"{"id":"batch_req_"#))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transient_faults_are_retried() {
    let faults = Faults {
        server_error: 0.2,
        ..Faults::default()
    };
    let provider = Provider::start(Sim::builder().faults(faults).seed(3)).await;
    let files = Files::new("faults", lines(30, 10));
    let policy = [
        "--backoff-base-seconds",
        "0.01",
        "--retry-max-attempts",
        "9",
    ];
    let ran = run(provider.tollhouse(&files.arguments(&policy)));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_each_once(&files.output, 30);
    let retries = provider.sim.report().total.faults.total();
    assert!(retries > 0, "there was nothing to retry");
    let said = format!("429s       0, {retries} retr");
    assert!(ran.stderr.contains(&said), "{}", ran.stderr);
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let files = Files::new("unusable", lines(1, 10));
    let input = text(&files.input);
    let cases = [
        (
            vec!["batch", "no-such.jsonl", "--output", "o.jsonl"],
            "error: no-such.jsonl: No such file",
        ),
        (
            vec!["batch", input, "--output", "-"],
            "error: --errors is missing",
        ),
        (
            vec!["batch", input, "--output", input],
            "error: --output and IN.jsonl are both",
        ),
        (
            vec!["batch", input, "--output", "o.jsonl", "--errors", input],
            "error: --errors and IN.jsonl are both",
        ),
        (
            vec!["batch", "-", "--output", "o.jsonl"],
            "error: standard input: cannot be copied into no-folder: No such file",
        ),
    ];
    for (arguments, message) in cases {
        let mut command = tollhouse(&arguments);
        command
            .env("OPENAI_API_KEY", "k")
            .env("TMPDIR", "no-folder");
        command.current_dir(files.input.parent().expect("a directory"));
        let ran = run(command);
        assert_eq!(ran.code, Some(2), "{arguments:?}");
        assert!(ran.stderr.contains(message), "{}", ran.stderr);
        assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
    }
    assert_eq!(
        fs::read_to_string(&files.input).expect("a file"),
        lines(1, 10)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn duplicate_ids_are_named_before_anything_is_sent() {
    let provider = Provider::start(Sim::builder()).await;
    let input = [
        &line("r0", 10),
        "nonsense",
        &line("r1", 10),
        &line("r0", 20),
    ]
    .join("\n");
    let files = Files::new("duplicates", &input);
    let said = "with the custom_id of an earlier line, so nothing was sent: line 4, \
                custom_id \"r0\": the same custom_id as line 1; each must be unique\n";
    let ran = run(provider.tollhouse(&files.arguments(&[])));
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    assert!(ran.stderr.ends_with(said), "{}", ran.stderr);

    let errors = files.errors.clone();
    let arguments = ["batch", "-", "--output", "-", "--errors", text(&errors)];
    let piped = run_with_stdin(provider.tollhouse(&arguments), &input);
    assert_eq!(piped.code, Some(2), "{}", piped.stderr);
    let said = format!("error: standard input has 1 line {said}");
    assert_eq!(piped.stderr, said);
    assert_eq!(provider.sim.report().arrived, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bare_bodies_in_a_packed_file_are_answered_in_order() {
    let provider = Provider::start(slow().latency_spread(0.9)).await;
    let body = r#"{"model":"gpt-4o","max_tokens":5,"messages":[{"role":"user","content":"Hi"}]}"#;
    let plain = [body; 20].join("\n");
    let files = Files::new("packed", &plain);
    let packed = std::process::Command::new("gzip")
        .arg(&files.input)
        .status();
    assert!(packed.expect("gzip is there").success());
    let input = files.input.with_extension("jsonl.gz");

    let command = ["batch", text(&input), "--output", text(&files.output)];
    let ran = run(provider.tollhouse(&[&command[..], &["--ordered"]].concat()));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let ids: Vec<_> = records(&files.output)
        .iter()
        .map(|record| record["custom_id"].as_str().expect("an id").to_owned())
        .collect();
    let expected: Vec<_> = (1..=20).map(|n| format!("line-{n}")).collect();
    assert_eq!(ids, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_line_and_the_summary_tell_how_it_went() {
    let provider = Provider::start(Sim::builder()).await;
    let files = Files::new("told", lines(10, 20));
    let summary = files.stderr.with_file_name("summary.json");
    let ran = run(provider.tollhouse(&files.arguments(&["--summary", text(&summary)])));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);

    let mut used = 0;
    for record in records(&files.output) {
        let told = &record["tollhouse"];
        assert_eq!(told["attempts"], 1);
        assert_eq!(
            told["tokens"],
            record["response"]["body"]["usage"]["total_tokens"]
        );
        assert_eq!(told["request_id"], record["response"]["request_id"]);
        assert!(told["waited_seconds"].as_f64() <= told["elapsed_seconds"].as_f64());
        used += told["tokens"].as_u64().expect("a count");
    }
    let told = fs::read_to_string(&summary).expect("a summary");
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!((&told["ok"], &told["launches"]), (&10.into(), &10.into()));
    assert_eq!(
        (&told["retries"], &told["rejected"]),
        (&0.into(), &0.into())
    );
    assert_eq!(
        (&told["tokens"], &told["tokens_reserved"]),
        (&used.into(), &310.into())
    );
    assert!(
        told["utilisation"]
            .as_f64()
            .is_some_and(|share| share > 0.0)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_not_accepted_ends_the_run_and_everything_is_left_to_do() {
    let provider = Provider::start(Sim::builder().api_key("another-key")).await;
    let files = Files::new("wrong-key", lines(50, 10));
    let ran = run(provider.tollhouse(&files.arguments(&[])));
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    let said = "Given up: the API key is not accepted: ";
    assert!(ran.stderr.contains(said), "{}", ran.stderr);
    let end = "; 50 lines are left, the same command goes on from here\n";
    assert!(ran.stderr.ends_with(end), "{}", ran.stderr);
    assert_eq!(
        (line_count(&files.output), line_count(&files.errors)),
        (0, 0)
    );
    // Those that had left before the first answer was read.
    let arrived = provider.sim.report().arrived;
    assert!(arrived < 30, "{arrived}");

    let mut command = provider.tollhouse(&files.arguments(&[]));
    command.env("OPENAI_API_KEY", "another-key");
    let ran = run(command);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_each_once(&files.output, 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_was_changed_is_not_taken_for_done() {
    let provider = Provider::start(Sim::builder()).await;
    let files = Files::new("changed", lines(3, 20));
    let ran = run(provider.tollhouse(&files.arguments(&[])));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(
        records(&files.output)[0]["tollhouse"]["request_hash"]
            .as_str()
            .map(str::len),
        Some(16)
    );

    let edited = lines(3, 20).replace("Tell me of    r1", "Sing to me of r1");
    fs::write(&files.input, &edited).expect("a file");
    let ran = run(provider.tollhouse(&files.arguments(&[])));
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    for said in [
        "has 1 line that was changed since an earlier run answered it, so nothing was sent: line 2, custom_id \"r1\"",
        "--changed send sends them again",
    ] {
        assert!(ran.stderr.contains(said), "{}", ran.stderr);
    }
    assert_eq!(line_count(&files.output), 3);

    let ran = run(provider.tollhouse(&files.arguments(&["--changed", "keep"])));
    assert_eq!(
        (ran.code, line_count(&files.output)),
        (Some(0), 3),
        "{}",
        ran.stderr
    );
    let ran = run(provider.tollhouse(&files.arguments(&["--changed", "send"])));
    assert_eq!(
        (ran.code, line_count(&files.output)),
        (Some(0), 4),
        "{}",
        ran.stderr
    );
    // The last answer counts, so all of them are done now.
    let ran = run(provider.tollhouse(&files.arguments(&[])));
    assert_eq!(
        (ran.code, line_count(&files.output)),
        (Some(0), 4),
        "{}",
        ran.stderr
    );
    assert_eq!(provider.sim.report().arrived, 4);
}

/// An output and its errors may know two requests of one id. Each is done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_line_that_was_mended_is_sent_once() {
    let provider = Provider::start(Sim::builder()).await;
    let (good, bad) = (lines(2, 20), lines(2, 20).replace("20", r#""no""#));
    for (test, before, after, code) in [("mended", &bad, &good, 0), ("spoilt", &good, &bad, 1)] {
        let files = Files::new(test, before);
        run(provider.tollhouse(&files.arguments(&[])));
        fs::write(&files.input, after).expect("a file");
        let send = || run(provider.tollhouse(&files.arguments(&["--changed", "send"])));
        let plain = || run(provider.tollhouse(&files.arguments(&[])));
        assert_eq!(send().code, Some(code));

        let arrived = provider.sim.report().arrived;
        for again in [send(), plain()] {
            let said = "Nothing is left to send";
            assert!(again.stderr.contains(said), "{}", again.stderr);
            assert_eq!(again.code, Some(code), "{}", again.stderr);
        }
        assert_eq!(provider.sim.report().arrived, arrived);
        assert_eq!(
            (line_count(&files.output), line_count(&files.errors)),
            (2, 2)
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_output_without_hashes_still_resumes() {
    let provider = Provider::start(Sim::builder()).await;
    let files = Files::new("no-hashes", lines(3, 20));
    let ran = run(provider.tollhouse(&files.arguments(&[])));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let older: String = records(&files.output)
        .into_iter()
        .map(|mut record| {
            let fields = record["tollhouse"].as_object_mut().expect("fields");
            assert!(fields.remove("request_hash").is_some());
            format!("{record}\n")
        })
        .collect();
    fs::write(&files.output, older).expect("a file");
    fs::write(&files.input, lines(4, 30)).expect("a file");
    let ran = run(provider.tollhouse(&files.arguments(&[])));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_each_once(&files.output, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_ends_a_run_that_the_same_command_goes_on_with() {
    let provider = Provider::start(Sim::builder()).await;
    let files = Files::new("deadline", lines(200, 20));
    let summary = files.stderr.with_file_name("summary.json");
    // Twenty a second.
    let spaced = ["--stagger-seconds", "0.05", "--summary", text(&summary)];
    let arguments = [&spaced[..], &["--deadline", "2s"]].concat();
    let ran = run(provider.tollhouse(&files.arguments(&arguments)));
    assert_eq!(ran.code, Some(130), "{}", ran.stderr);
    let said = "The deadline is reached; ";
    assert!(ran.stderr.contains(said), "{}", ran.stderr);
    assert!(
        ran.stderr
            .ends_with(" lines are left, the same command goes on from here\n"),
        "{}",
        ran.stderr
    );
    let answered = line_count(&files.output);
    assert!((1..=41).contains(&answered), "{answered}");
    let told: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&summary).expect("a summary")).expect("JSON");
    assert_eq!(told["ended_by"], "deadline");
    for times in ["waiting", "answers"] {
        let [p50, p95, p99] = ["p50", "p95", "p99"].map(|p| told[times][p].as_f64());
        assert!(p50 <= p95 && p95 <= p99 && p99.is_some(), "{told}");
    }
    assert!(ran.stderr.contains("\nwaiting    p50 "), "{}", ran.stderr);
    assert!(ran.stderr.contains("\nanswers    p50 "), "{}", ran.stderr);

    let ran = run(provider.tollhouse(&files.arguments(&[])));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_each_once(&files.output, 200);
    let report = provider.sim.report();
    assert_eq!(
        report.arrived, 200,
        "none was sent twice: {report}{}",
        ran.stderr
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cost_limit_is_kept_and_the_rest_is_left() {
    let provider = Provider::start(Sim::builder()).await;
    let files = Files::new("cost", lines(100, 100));
    let prices = files.stderr.with_file_name("prices.toml");
    fs::write(&prices, "[prices.\"gpt-4o\"]\ninput = 2.5\noutput = 10\n").expect("a file");
    let summary = files.stderr.with_file_name("summary.json");
    let priced = ["--prices", text(&prices), "--summary", text(&summary)];
    let cost = |summary| -> (f64, serde_json::Value) {
        let told = fs::read_to_string(summary).expect("a summary");
        let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
        (told["cost"].as_f64().expect("a cost"), told)
    };

    // A request may cost a little more than 0.001.
    let arguments = [&priced[..], &["--cost-limit", "0.02"]].concat();
    let ran = run(provider.tollhouse(&files.arguments(&arguments)));
    assert_eq!(ran.code, Some(130), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("The cost limit is reached; "),
        "{}",
        ran.stderr
    );
    let (first, told) = cost(&summary);
    assert!(first <= 0.02 && first > 0.018, "{told}");
    assert_eq!(told["ended_by"], "cost_limit");
    let answered = line_count(&files.output);
    assert!((18..100).contains(&answered), "{answered}");

    let ran = run(provider.tollhouse(&files.arguments(&priced)));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_each_once(&files.output, 100);
    // What the answers say they used, at those prices.
    let used = |field: &str, price: f64| -> f64 {
        let tokens = records(&files.output).into_iter().map(|record| {
            let tokens = &record["response"]["body"]["usage"][field];
            tokens.as_f64().expect("a count") * price / 1e6
        });
        tokens.sum()
    };
    let expected = used("prompt_tokens", 2.5) + used("completion_tokens", 10.0);
    let told = first + cost(&summary).0;
    assert!((told - expected).abs() < 1e-9, "{told} for {expected}");

    fs::write(&prices, "[prices.o3]\ninput = 1\n").expect("a file");
    let files = Files::new("cost-unknown", lines(1, 100));
    let arguments = ["--prices", text(&prices), "--cost-limit", "1"];
    let ran = run(provider.tollhouse(&files.arguments(&arguments)));
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    let said = "--prices has no price for gpt-4o, so --cost-limit cannot be kept";
    assert!(ran.stderr.contains(said), "{}", ran.stderr);
}

/// A full line of the batch's own is no outage of the provider's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_is_bounded_is_kept_and_is_no_outage() {
    for (waiting, concurrency) in [("0", "1"), ("1", "1"), ("2", "4")] {
        let latency = Duration::from_millis(20);
        let provider = Provider::start(Sim::builder().latency(latency, Duration::ZERO)).await;
        let files = Files::new(&format!("bounded-line-{waiting}"), lines(60, 10));
        let policy = ["--max-waiting", waiting, "--max-concurrency", concurrency];
        let begin = Instant::now();
        let ran = run(provider.tollhouse(&files.arguments(&policy)));

        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert_each_once(&files.output, 60);
        for said in ["Waiting for", "answers again", "overloaded"] {
            assert!(!ran.stderr.contains(said), "{}", ran.stderr);
        }
        // One after the other they take 1.2 s, and an outage half a second at least.
        let took = begin.elapsed();
        assert!(took < Duration::from_secs(8), "{took:?}: {}", ran.stderr);
        let report = provider.sim.report();
        assert_eq!((report.arrived, report.repeated), (60, 0));
    }
}

/// Where one pool's line is bounded, the others go on beside it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_line_holds_up_no_other_pool() {
    let latency = Duration::from_millis(50);
    let provider = Provider::start(Sim::builder().latency(latency, Duration::ZERO)).await;
    let other = line("other", 10).replace("gpt-4o", "gpt-none");
    let files = Files::new("bounded-pool", lines(100, 10) + &other);
    let config = files.input.with_file_name("tollhouse.toml");
    let slow = "[models.\"gpt-4o\"]\nmax_waiting = 1\nmax_concurrency = 1\n[models.gpt-none]\n";
    fs::write(&config, slow).expect("a file");
    let ran = run(provider.tollhouse(&files.arguments(&["--config", text(&config)])));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let ids = records(&files.output).into_iter();
    let ids: Vec<_> = ids.map(|it| it["custom_id"].to_string()).collect();
    let place = ids.iter().position(|id| id == "\"other\"");
    assert!(
        place.is_some_and(|place| place < 50),
        "{place:?} of {ids:?}"
    );
    assert!(!ran.stderr.contains("Waiting for"), "{}", ran.stderr);
}

/// Of what earlier runs have done, only what is in this input and as it was is skipped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_to_be_skipped_is_skipped() {
    let provider = Provider::start(Sim::builder()).await;
    let files = Files::new("skipped", lines(3, 10));
    let ran = run(provider.tollhouse(&files.arguments(&[])));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    for (input, said) in [
        (
            lines(2, 10),
            "Resuming: 2 requests done in earlier runs are skipped\n",
        ),
        (
            line("r0", 10) + "\n" + &line("r1", 11),
            "Resuming: 1 request done in earlier runs is skipped\n",
        ),
    ] {
        fs::write(&files.input, input).expect("a file");
        let ran = run(provider.tollhouse(&files.arguments(&["--changed", "send"])));
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert!(ran.stderr.contains(said), "{}", ran.stderr);
    }
    fs::write(&files.input, lines(1, 10)).expect("a file");
    let ran = run(provider.tollhouse(&files.arguments(&["--changed", "keep"])));
    let said = "1 request done in earlier runs is skipped\nNothing is left to send\n";
    assert!(ran.stderr.contains(said), "{}", ran.stderr);
}

/// Nobody reads what is said and logged, or it finds no room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_goes_on_where_nobody_hears_of_it() {
    let provider = Provider::start(Sim::builder()).await;
    let (read, gone) = std::io::pipe().unwrap();
    drop(read);
    let full = fs::OpenOptions::new().write(true).open("/dev/full");
    let (gone, full) = (OwnedFd::from(gone), OwnedFd::from(full.unwrap()));
    for (name, stderr) in [("gone", gone), ("full", full)] {
        let files = Files::new(&format!("unheard-{name}"), lines(3, 10));
        let mut command = provider.tollhouse(&files.arguments(&["-vv"]));
        command.stdout(Stdio::null()).stderr(stderr);
        let child = Started::from(command.spawn().expect("it starts"));
        assert_eq!(ended(child).await, Some(0), "{name}");
        assert_each_once(&files.output, 3);
    }
}

/// They are read where a first one connects by TLS. Of a pipe that nobody writes to, whoever reads it
/// waits for ever.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_tls_nobody_reads_certificates() {
    let provider = Provider::start(Sim::builder()).await;
    let pipe = directory("no-certificates").join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("mkfifo").success());
    let files = Files::new("without-tls", lines(1, 10));
    let mut command = provider.tollhouse(&files.arguments(&[]));
    command
        .env("SSL_CERT_FILE", &pipe)
        .env_remove("SSL_CERT_DIR");
    let stderr = files.output.with_extension("stderr");
    assert_eq!(ended(start(command, &stderr)).await, Some(0));
    assert_each_once(&files.output, 1);
}
