//! A provider that is away: the batch waits, and writes nothing of it into the
//! errors.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::common::{
    Files, Upstream, assert_each_once, ended, line_count, lines, run, start, tollhouse,
    tollhouse_at, until,
};
use axum::Router;
use axum::http::{StatusCode, header};
use tokio::net::TcpSocket;
use tokio::time::{Instant, sleep};

/// The simulated provider as a process of its own, which can be killed.
struct Killable {
    address: String,
    child: Child,
}

impl Killable {
    async fn start(address: &str) -> Self {
        let child = Self::spawn(address);
        let this = Self {
            address: address.to_owned(),
            child,
        };
        until("the provider", || {
            std::net::TcpStream::connect(address).is_ok()
        })
        .await;
        this
    }

    fn spawn(address: &str) -> Child {
        let mut command: Command =
            tollhouse(&["sim", "--listen", address, "--rpm", "none", "--tpm", "none"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("the command starts")
    }

    fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it was killed");
    }
}

impl Drop for Killable {
    fn drop(&mut self) {
        // Killed already, perhaps.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address at which nobody listens, and that nobody else takes meanwhile.
fn nobody() -> (TcpSocket, String) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket
        .bind("127.0.0.1:0".parse().expect("an address"))
        .expect("a free port");
    let address = socket.local_addr().expect("its address").to_string();
    (socket, address)
}

/// A port that is free and that the children can listen on.
fn free() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_provider_is_waited_for_and_no_line_fails() {
    const LINES: usize = 600;
    let mut provider = Killable::start(&free()).await;
    let url = format!("http://{}/v1", provider.address);
    let files = Files::new("outage", lines(LINES, 10));
    let policy = ["--tpm-limit", "9000000", "--max-concurrency", "20"];
    let mut command = tollhouse_at(&url, &files.arguments(&policy));
    // So that it takes longer than the test needs to kill it.
    command.env("OPENAI_STAGGER_SECONDS", "0.003");
    let child = start(command, &files.stderr);
    until("some answers", || line_count(&files.output) >= 100).await;
    provider.kill();
    let said = || fs::read_to_string(&files.stderr).expect("a file");
    until("it to wait", || said().contains("Waiting for http://")).await;
    sleep(Duration::from_secs(1)).await;
    let answered = line_count(&files.output);
    assert!(answered < LINES, "it was too late to kill");
    assert_eq!(line_count(&files.errors), 0);

    provider.child = Killable::spawn(&provider.address);
    assert_eq!(ended(child).await, Some(0), "{}", said());
    assert_each_once(&files.output, LINES);
    assert_eq!(line_count(&files.errors), 0);
    let said = said();
    assert!(said.contains("answers again, after "), "{said}");
    assert!(said.contains("failed     0"), "{said}");
    assert!(said.contains("\n429s       0, "), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn patience_that_ends_leaves_the_rest_to_the_same_command() {
    let (_reserved, address) = nobody();
    let files = Files::new("patience", lines(30, 10));
    let arguments = files.arguments(&["--give-up-after", "2s"]);
    let begin = Instant::now();
    let ran = run(tollhouse_at(&format!("http://{address}/v1"), &arguments));
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(begin.elapsed() >= Duration::from_secs(2));
    assert_eq!(line_count(&files.output) + line_count(&files.errors), 0);
    let said = format!("Given up on http://{address}/v1: the provider has been away for 2.0s: ");
    assert!(ran.stderr.contains(&said), "{}", ran.stderr);
    assert!(ran.stderr.contains("refused"), "{}", ran.stderr);
    let end = "; 30 lines are left, the same command goes on from here\n";
    assert!(ran.stderr.ends_with(end), "{}", ran.stderr);
    // What never reached it was given back, and is no use of the limits.
    let none = "\ntokens     0 used, 0 reserved\n";
    assert!(ran.stderr.contains(none), "{}", ran.stderr);

    let provider = Killable::start(&free()).await;
    let url = format!("http://{}/v1", provider.address);
    let ran = run(tollhouse_at(&url, &files.arguments(&[])));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_each_once(&files.output, 30);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_hangs_is_timed_out_and_waited_for() {
    let hangs = Router::new().fallback(std::future::pending::<StatusCode>);
    let upstream = Upstream::start(hangs).await;
    let files = Files::new("hanging", lines(4, 10));
    let patience = ["--timeout-seconds", "0.5", "--give-up-after", "3s"];
    let ran = run(tollhouse_at(&upstream.url, &files.arguments(&patience)));
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert_eq!(line_count(&files.errors), 0);
    let said = "the provider has been away for 3.0s: the provider did not begin to answer in time; \
                4 lines are left";
    assert!(ran.stderr.contains(said), "{}", ran.stderr);
}

/// Told to wait for so long, once; good after that.
async fn busy_once(retry_after: &'static str) -> Upstream {
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let handler = move || {
        let asked = asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let (status, body) = match asked {
            0 => (StatusCode::SERVICE_UNAVAILABLE, "{}"),
            _ => (
                StatusCode::OK,
                r#"{"choices":[],"usage":{"total_tokens":9}}"#,
            ),
        };
        let headers = [
            (header::CONTENT_TYPE, "application/json"),
            (header::RETRY_AFTER, retry_after),
        ];
        async move { (status, headers, body) }
    };
    Upstream::start(Router::new().fallback(handler)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delay_above_two_minutes_is_waited_for_and_no_limit_by_the_day() {
    let upstream = busy_once("180").await;
    let files = Files::new("told-180", lines(60, 10));
    let child = start(
        tollhouse_at(&upstream.url, &files.arguments(&[])),
        &files.stderr,
    );
    let said = || fs::read_to_string(&files.stderr).expect("a file");
    // It waits, and tells the delay from the first line of progress on.
    let counts = || said().contains("the provider lets nothing through for another 2m 5");
    until("the count down", counts).await;
    crate::common::interrupt(&child);
    assert_eq!(ended(child).await, Some(130));
    assert!(!said().contains("exhausted"), "{}", said());
    assert!(!said().contains("day"), "{}", said());

    // What is longer than anybody wants to wait ends the run, and says what it is.
    let upstream = busy_once("180").await;
    let arguments = files.arguments(&["--max-told-delay", "1m"]);
    let ran = run(tollhouse_at(&upstream.url, &arguments));
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    let told = "Given up: the provider asks everybody to wait for another ";
    assert!(ran.stderr.contains(told), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("longer than --max-told-delay"),
        "{}",
        ran.stderr
    );
    assert!(!ran.stderr.contains("the day"), "{}", ran.stderr);
    assert_eq!(line_count(&files.errors), 0);
}
