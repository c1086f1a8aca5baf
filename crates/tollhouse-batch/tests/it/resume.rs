//! A run that was broken off anywhere goes on where it was.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use crate::common::{Log, RunBoxed, answer, by_id, id_of, ids, input, respond, service_fn, slow};
use bytes::Bytes;
use http::Request;
use serde_json::Value;
use tokio::time::timeout;
use tollhouse_batch::{Batch, Done, Summary, Tail};

const NAMES: [&str; 5] = ["alpha", "bêta", "gamma-γ", "δ", "5"];

/// A file that is removed with its owner.
struct TempFile(PathBuf);

impl TempFile {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("tollhouse-batch-{}-{count}.jsonl", process::id());
        Self(std::env::temp_dir().join(name))
    }

    fn with(content: &[u8]) -> Self {
        let file = Self::new();
        fs::write(&file.0, content).expect("the directory can be written");
        file
    }

    fn content(&self) -> Vec<u8> {
        fs::read(&self.0).expect("the file is there")
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        // A test that failed early may not have made it.
        let _ = fs::remove_file(&self.0);
    }
}

/// An output by its ids, without how long each answer took: these runs are in
/// real time, for files are read and written.
fn answers(output: &[u8]) -> BTreeMap<String, Value> {
    let mut answers = by_id(output);
    for record in answers.values_mut() {
        let told = record["tollhouse"].as_object_mut().expect("every line");
        let elapsed = told.remove("elapsed_seconds").expect("every line");
        assert!(elapsed.as_f64().is_some(), "{elapsed}");
    }
    answers
}

/// Runs the five requests onto the file, and notes which are sent.
async fn run_onto(path: &Path, sent: &Log<String>) -> Summary {
    let mut done = Done::new();
    let output = done.open(path).await.expect("the file can be repaired");
    let sent = sent.clone();
    let service = service_fn(move |request: Request<Bytes>| {
        let id = id_of(&request);
        sent.push(id.clone());
        async move { Ok::<_, Infallible>(answer(&id)) }
    });
    let lines = input(NAMES);
    let batch = Batch::new(service).look_ahead(2).resume(done);
    let run = batch.run_boxed(lines.as_bytes(), output, tokio::io::sink());
    run.await.expect("the file can be written")
}

#[tokio::test]
async fn run_goes_on_after_a_cut_at_every_byte() {
    let sent = Log::new();
    let undisturbed = TempFile::new();
    run_onto(&undisturbed.0, &sent).await;
    let whole = undisturbed.content();
    let expected = answers(&whole);
    assert_eq!(expected.len(), 5);
    sent.take();

    for cut in 0..=whole.len() {
        let file = TempFile::with(&whole[..cut]);
        let summary = run_onto(&file.0, &sent).await;

        assert_eq!(answers(&file.content()), expected, "cut at byte {cut}");
        // A line that only lacks its line feed is whole.
        let feeds = whole[..cut].iter().filter(|&&byte| byte == b'\n').count();
        let answered = feeds + usize::from(whole.get(cut) == Some(&b'\n'));
        let sent = sent.take();
        assert_eq!(sent.len(), 5 - answered, "sent after a cut at byte {cut}");
        let kept = ids(&whole).into_iter().take(answered).collect::<Vec<_>>();
        assert!(
            sent.iter().all(|id| !kept.contains(id)),
            "{sent:?} sent twice"
        );
        assert_eq!(summary.skipped, answered as u64);
        assert!(summary.is_complete());
    }
}

#[tokio::test]
async fn tail_is_known_at_every_byte() {
    let mut whole = Vec::new();
    let echo =
        service_fn(async |request: Request<Bytes>| Ok::<_, Infallible>(answer(&id_of(&request))));
    let lines = input(NAMES);
    let run = Batch::new(echo).run_boxed(lines.as_bytes(), &mut whole, tokio::io::sink());
    run.await.expect("memory can be read and written");

    for cut in 0..=whole.len() {
        let start = whole[..cut].iter().rposition(|&byte| byte == b'\n');
        let start = start.map_or(0, |feed| feed + 1);
        let expected = match whole.get(cut) {
            _ if start == cut => Tail::Whole,
            Some(b'\n') => Tail::Unended,
            _ => Tail::Torn {
                whole_bytes: start as u64,
            },
        };
        let tail = Done::new().read(&whole[..cut]).await.expect("an output");
        assert_eq!(tail, expected, "cut at byte {cut}");
    }
}

#[tokio::test]
async fn zeros_left_by_a_power_loss_are_cut() {
    let sent = Log::new();
    let file = TempFile::new();
    run_onto(&file.0, &sent).await;
    let whole = file.content();
    for (kept, zeros) in [(whole.len() - 20, 4096), (whole.len(), 512), (0, 10)] {
        let file = TempFile::with(&[&whole[..kept], &vec![0; zeros]].concat());
        run_onto(&file.0, &sent).await;
        assert_eq!(answers(&file.content()), answers(&whole));
    }
}

/// Another run makes the file, writes to it and ends, just when this one has
/// looked for it.
#[tokio::test]
async fn file_that_appears_meanwhile_is_read_and_repaired() {
    let file = TempFile::new();
    let mut done = Done::new();
    let mut opening = Box::pin(done.open(&file.0));
    let once = std::future::poll_fn(|cx| Poll::Ready(opening.as_mut().poll(cx)));
    let only_looks = once.await.is_pending() && !file.0.exists();
    assert!(only_looks, "at first");
    tokio::time::sleep(Duration::from_millis(20)).await;

    let whole = "{\"id\":\"batch_req_1\",\"custom_id\":\"a\",\"response\":{},\"error\":null}\n";
    let torn = format!("{whole}{{\"id\":\"batch_req_2");
    fs::write(&file.0, torn).expect("it can be written");
    opening.await.expect("an output");
    assert_eq!(done.len(), 1);
    assert_eq!(file.content(), whole.as_bytes());
}

#[tokio::test]
async fn file_of_a_run_under_way_is_left_alone() {
    let file = TempFile::with(b"{\"id\":\"batch_req_1\",\"custom_id\":\"a\",\"resp");
    let first = Done::new().open(&file.0).await.expect("it is repaired");
    assert_eq!(file.content(), b"");

    // As the first run may have left it in the middle of a write.
    let torn = b"{\"id\":\"batch_req_2\",\"cust";
    fs::write(&file.0, torn).expect("the file can be written");
    let refused = Done::new().open(&file.0).await.expect_err("it is in use");
    let said = format!(
        "{}: another run is writing to it; wait for its end, or choose another file",
        file.0.display()
    );
    assert_eq!(refused.to_string(), said);
    assert_eq!(file.content(), torn, "nothing is repaired in it");

    drop(first);
    let opened = Done::new().open(&file.0).await;
    opened.expect("the first run is over");
    assert_eq!(file.content(), b"");
}

#[tokio::test]
async fn file_that_is_no_output_is_left_alone() {
    let request = input(["a"]);
    let foreign = [
        request.as_bytes(),
        request.trim_end().as_bytes(),
        b"my novel\n",
        b"my novel",
        b"{\"id\":\"batch_req_1\",\"custom_id\":\"a\"}\n",
        b"{\"id\":\"batch_req_1\",\"custom_\n",
    ];
    for content in foreign {
        let file = TempFile::with(content);
        let error = Done::new().open(&file.0).await.expect_err("a foreign file");
        assert_eq!(
            error.to_string(),
            format!(
                "{}: line 1 is not an answer of a batch, so nothing is written here; \
                 choose another file",
                file.0.display()
            )
        );
        assert_eq!(file.content(), content);
    }
}

#[tokio::test]
async fn output_of_the_batch_api_itself_is_understood() {
    let line = r#"{"id": "batch_req_123", "custom_id": "alpha", "response": {"status_code": 200, "request_id": "req_1", "body": {"id": "chatcmpl-1"}}, "error": null}"#;
    let file = TempFile::with(line.as_bytes());
    let sent = Log::new();
    let summary = run_onto(&file.0, &sent).await;
    assert_eq!((summary.skipped, summary.ok), (1, 4));
    assert!(file.content().starts_with(format!("{line}\n").as_bytes()));
}

#[tokio::test]
async fn file_that_cannot_be_opened_is_named() {
    let path = Path::new("/nonexistent/out.jsonl");
    let error = Done::new().open(path).await.expect_err("no such directory");
    assert_eq!(
        error.to_string(),
        "/nonexistent/out.jsonl: cannot be opened for appending"
    );
    assert!(std::error::Error::source(&error).is_some());
}

#[cfg(unix)]
#[tokio::test]
async fn device_is_only_opened() {
    // Reading this one would never end.
    let open = timeout(Duration::from_secs(5), async {
        Done::new().open("/dev/full").await
    });
    let opened = open.await.expect("opening does not read");
    assert!(opened.is_ok());
}

#[tokio::test(start_paused = true)]
async fn failed_requests_are_sent_again_only_when_left_out() {
    let flaky = service_fn(async |request: Request<Bytes>| {
        let id = id_of(&request);
        Ok::<_, Infallible>(if id == "δ" {
            respond(500, "{}")
        } else {
            answer(&id)
        })
    });
    let lines = input(NAMES);
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let run = Batch::new(flaky.clone()).run_boxed(lines.as_bytes(), &mut output, &mut errors);
    assert_eq!(run.await.expect("memory can be written").failed, 1);

    let mut done = Done::new();
    done.read(&output[..]).await.expect("an output");
    assert_eq!(done.len(), 4);
    let again = Batch::new(flaky.clone()).resume(done.clone());
    let run = again.run_boxed(lines.as_bytes(), tokio::io::sink(), tokio::io::sink());
    let summary = run.await.expect("memory can be read");
    assert_eq!((summary.skipped, summary.failed), (4, 1));

    done.read(&errors[..]).await.expect("an output");
    let again = Batch::new(flaky).resume(done);
    let run = again.run_boxed(lines.as_bytes(), tokio::io::sink(), tokio::io::sink());
    assert_eq!(run.await.expect("memory can be read").skipped, 5);
}

#[tokio::test(start_paused = true)]
async fn duplicate_of_an_answered_request_is_still_a_bad_line() {
    let mut done = Done::new();
    let output = r#"{"id":"batch_req_1","custom_id":"1","response":{},"error":null}"#;
    done.read(output.as_bytes()).await.expect("an output");
    let lines = input(["1", "2", "1"]);
    let batch = Batch::new(service_fn(slow)).resume(done);
    let run = batch.run_boxed(lines.as_bytes(), tokio::io::sink(), tokio::io::sink());
    let summary = run.await.expect("memory can be read");
    assert_eq!((summary.skipped, summary.ok, summary.bad_lines), (1, 1, 1));
}

#[test]
fn killed_runs_lose_nothing_and_repeat_no_answered_request() {
    let names: Vec<_> = (0..200).map(|n| format!("r{n}")).collect();
    let lines = input(&names);
    let file = TempFile::with(b"");
    let mut runs = 0;
    // Killed after some number of polls that differs from run to run.
    while !killed_run(&file, &lines, 5 + runs * 3) {
        runs += 1;
        assert!(runs < 200, "the runs come to no end");
        // What is left of a process that was killed while it wrote.
        if runs % 3 == 0 {
            let mut torn = file.content();
            torn.extend_from_slice(b"{\"id\":\"batch_r");
            fs::write(&file.0, torn).expect("the file can be written");
        }
    }
    assert!(runs > 3, "the run was never broken off");
    assert_eq!(by_id(&file.content()).len(), names.len());
}

/// A run that is dropped after so many polls, and its runtime with it, as a
/// process would be; says whether it came to its end before.
fn killed_run(file: &TempFile, lines: &str, polls: usize) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime").block_on(async {
        let mut done = Done::new();
        let output = done.open(&file.0).await.expect("the file can be repaired");
        let answered = by_id(&file.content());
        let service = service_fn(move |request: Request<Bytes>| {
            let id = id_of(&request);
            assert!(!answered.contains_key(&id), "{id} is sent again");
            async move { Ok::<_, Infallible>(answer(&id)) }
        });
        let batch = Batch::new(service).look_ahead(3).resume(done);
        polled(
            batch.run_boxed(lines.as_bytes(), output, tokio::io::sink()),
            polls,
        )
        .await
    })
}

/// Polls so many times, then drops; says whether it ended.
async fn polled<F: Future>(future: F, polls: usize) -> bool {
    let mut future = Box::pin(future);
    let mut left = polls;
    std::future::poll_fn(move |cx| match future.as_mut().poll(cx) {
        Poll::Ready(_) => Poll::Ready(true),
        Poll::Pending if left == 0 => Poll::Ready(false),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}
