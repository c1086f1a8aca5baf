//! The command over a real Redis: several processes, one account.

#[path = "../it/common/mod.rs"]
mod common;
mod promises;
mod server;
mod way;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};
use tollhouse_sim::Sim;

use common::{
    Files, Provider, Started, directory, ended, records, run, signal, start, text, tollhouse, until,
};
use server::Redis;

/// 20,000 tokens a second, none of them saved up, of which 19,000 are used.
const FILE: &str = r#"
[defaults]
tokens_per_minute = 1200000
headroom = 0.05
burst_tokens = 10000
max_concurrency = 50
stagger_seconds = 0
cautious_start = false
window = "off"
"#;

const LINES: usize = 60;

/// So many lines of about a thousand tokens each.
fn lines(name: &str, count: usize) -> String {
    let line = |n| {
        format!(
            r#"{{"custom_id":"{name}-{n}","method":"POST","url":"/v1/chat/completions","body":{{"model":"gpt-4o","max_tokens":1000,"messages":[{{"role":"user","content":"Hi"}}]}}}}"#
        ) + "\n"
    };
    (0..count).map(line).collect()
}

async fn provider() -> Provider {
    Provider::start(Sim::builder().tokens_per_minute(1_200_000)).await
}

/// What the processes of a test share.
struct Shared<'t> {
    provider: &'t Provider,
    redis: &'t Redis,
    file: String,
}

impl<'t> Shared<'t> {
    fn new(test: &str, provider: &'t Provider, redis: &'t Redis, more: &str) -> Self {
        let file = directory(test).join("tollhouse.toml");
        fs::write(&file, format!("{FILE}{more}")).expect("a file");
        Shared {
            provider,
            redis,
            file: text(&file).to_owned(),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let more = ["--config", &self.file, "--redis", &self.redis.url()].map(str::to_owned);
        let mut command = self.provider.tollhouse(arguments);
        command.env_remove("OPENAI_STAGGER_SECONDS").args(more);
        command
    }

    fn batch(&self, files: &Files) -> Started {
        start(self.command(&files.arguments(&[])), &files.stderr)
    }

    fn status(&self) -> Value {
        let url = self.redis.url();
        let ran = run(tollhouse(&["account", "status", "--json", "--redis", &url]));
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        serde_json::from_str(&ran.stdout).expect("JSON")
    }
}

/// Whole lines of the output, which may be being written.
fn answered(files: &Files) -> usize {
    let written = fs::read(&files.output).unwrap_or_default();
    written.iter().filter(|byte| **byte == b'\n').count()
}

fn said(files: &Files) -> String {
    fs::read_to_string(&files.stderr).expect("it was written")
}

async fn is_answered(files: &Files, child: Started) {
    let code = ended(child).await;
    assert_eq!(code, Some(0), "{}", said(files));
    let [asked, answered] = [&files.input, &files.output].map(|path| records(path).len());
    assert_eq!(asked, answered);
}

#[tokio::test]
async fn two_batches_spend_one_limit() {
    let (redis, provider) = (Redis::start().await, provider().await);
    let shared = Shared::new("redis-two", &provider, &redis, "");
    let files = ["redis-two-a", "redis-two-b"].map(|name| Files::new(name, lines(name, LINES)));
    let begin = Instant::now();
    let [a, b] = [&files[0], &files[1]].map(|files| shared.batch(files));
    until("both to be there", || {
        answered(&files[0]).min(answered(&files[1])) > 3
    })
    .await;
    let status = shared.status();
    assert_eq!(status["account"], "default");
    assert_eq!(status["processes"].as_array().map(Vec::len), Some(2));
    is_answered(&files[0], a).await;
    is_answered(&files[1], b).await;
    assert_eq!(provider.sim.report().total.rejected.total(), 0);
    // 120 lines of 1,008 tokens, of which 10 are there at once.
    assert!(
        begin.elapsed() >= Duration::from_secs(5),
        "{:?}",
        begin.elapsed()
    );
    let said = said(&files[0]);
    assert!(
        said.contains("Sharing the account \"default\" at redis://127.0.0.1"),
        "{said}"
    );
    // They have left, and nobody waits for their leases to end.
    let status = shared.status();
    let all = status["processes"].as_array().expect("a list");
    assert!(
        all.iter().all(|process| process["left"] == true),
        "{status}"
    );
}

#[tokio::test]
async fn failure_19_a_killed_process_gives_all_back() {
    let (redis, provider) = (Redis::start().await, provider().await);
    let shared = Shared::new("redis-kill", &provider, &redis, "");
    let files = ["redis-kill-a", "redis-kill-b"].map(|name| Files::new(name, lines(name, LINES)));
    let [a, mut b] = [&files[0], &files[1]].map(|files| shared.batch(files));
    until("both to be there", || {
        answered(&files[0]).min(answered(&files[1])) > 3
    })
    .await;
    b.kill().expect("it ran");
    b.wait().expect("it ends");
    let killed = Instant::now();
    is_answered(&files[0], a).await;
    // The same command goes on where it was killed, as another process.
    is_answered(&files[1], shared.batch(&files[1])).await;
    assert_eq!(provider.sim.report().total.rejected.total(), 0);
    let left = Duration::from_secs(5).saturating_sub(killed.elapsed());
    sleep(left).await;
    let status = shared.status();
    for lease in status["pools"][0]["leases"].as_array().expect("a list") {
        assert_eq!(lease["slots"], 0, "{status}");
        assert_eq!(lease["held"], serde_json::json!({}), "{status}");
    }
}

#[tokio::test]
async fn failure_23_a_redis_that_is_killed_and_comes_back_empty_loses_nothing() {
    let (mut redis, provider) = (Redis::start().await, provider().await);
    let url = redis.url();
    let names = ["redis-empty-a", "redis-empty-b"];
    let files = names.map(|name| Files::new(name, lines(name, 3 * LINES)));
    let children = {
        let shared = Shared::new("redis-empty", &provider, &redis, "");
        [&files[0], &files[1]].map(|files| shared.batch(files))
    };
    until("both to be there", || {
        answered(&files[0]).min(answered(&files[1])) > 3
    })
    .await;
    redis.kill();
    let before = answered(&files[0]) + answered(&files[1]);
    // Each goes on with its half, and says so.
    for files in &files {
        until("it to be told", || {
            said(files).contains("is not shared for now: the shared ledger is away: Redis at")
        })
        .await;
    }
    until("more answers without Redis", || {
        answered(&files[0]) + answered(&files[1]) > before + 20
    })
    .await;
    redis.revive().await;
    assert_eq!(redis.url(), url);
    for files in &files {
        until("it to be told", || {
            said(files).matches("Sharing the account").count() == 2
        })
        .await;
    }
    for (files, child) in files.iter().zip(children) {
        is_answered(files, child).await;
    }
    assert_eq!(provider.sim.report().total.rejected.total(), 0);
}

/// A share is for as long as Redis is away, and a plan is for the whole batch.
#[tokio::test]
async fn failure_21_a_batch_that_begins_without_redis_waits_with_what_its_share_is_too_small_for() {
    let (mut redis, provider) = (Redis::start().await, provider().await);
    redis.kill();
    // Its least share is 500 of 10,000 tokens.
    let files = Files::new("redis-later", lines("later", 2));
    let child = Shared::new("redis-later-file", &provider, &redis, "").batch(&files);
    until("it to go on alone", || {
        said(&files).contains("is not shared for now")
    })
    .await;
    redis.revive().await;
    assert_eq!(ended(child).await, Some(0), "{}", said(&files));
    assert_eq!(records(&files.output).len(), 2);
}

/// What a proxy answers to this path.
async fn ask(address: &str, path: &str) -> String {
    ask_with(address, path, "").await
}

/// With headers, each with its end of the line.
async fn ask_with(address: &str, path: &str, headers: &str) -> String {
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n");
    let mut socket = TcpStream::connect(address).await.expect("it listens");
    socket
        .write_all(request.as_bytes())
        .await
        .expect("it reads");
    let mut seen = String::new();
    socket.read_to_string(&mut seen).await.expect("it answers");
    seen
}

async fn address(stderr: &Path) -> String {
    let mut address = None;
    until("the proxy's address", || {
        let said = fs::read_to_string(stderr).unwrap_or_default();
        let url = said.split("OPENAI_BASE_URL=http://").nth(1);
        address = url.and_then(|url| Some(url.split_once('/')?.0.to_owned()));
        address.is_some()
    })
    .await;
    address.expect("it was waited for")
}

async fn is_said(address: &str, status: u16, what: &str) {
    let begin = Instant::now();
    loop {
        let seen = ask(address, "/readyz").await;
        if seen.starts_with(&format!("HTTP/1.1 {status}")) && seen.contains(what) {
            return;
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "{seen}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// The gauge, as it stands on a line of its own.
const UP: &str = "\ntollhouse_shared_ledger_up 1\n";
const DOWN: &str = "\ntollhouse_shared_ledger_up 0\n";

async fn gauge_is(address: &str, line: &str) {
    let begin = Instant::now();
    loop {
        let seen = ask(address, "/metrics").await;
        if seen.contains(line) {
            return;
        }
        assert!(begin.elapsed() < Duration::from_secs(5), "{seen}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_proxy_tells_whether_redis_is_there() {
    for (fallback, status, what) in [
        ("share", 200, "ready, alone: "),
        ("closed", 503, "nothing is sent: "),
    ] {
        let (mut redis, provider) = (Redis::start().await, provider().await);
        let test = format!("redis-proxy-{fallback}");
        let stderr = directory(&test).join("stderr");
        let child = {
            let more = format!("[shared]\nfallback = {fallback:?}");
            let shared = Shared::new(&format!("{test}-file"), &provider, &redis, &more);
            let command = shared.command(&["proxy", "--listen", "127.0.0.1:0"]);
            start(command, &stderr)
        };
        let address = address(&stderr).await;
        let warned = || {
            let said = fs::read_to_string(&stderr).expect("it was written");
            let of = |words: &str| said.matches(words).count();
            (
                of("WARN tollhouse::shared::agent: going on without the shared ledger"),
                of("INFO tollhouse::shared::agent: spending from the shared ledger"),
            )
        };
        is_said(&address, 200, "ready\n").await;
        gauge_is(&address, UP).await;
        // What is logged is written some milliseconds later.
        until("word of the ledger", || warned() == (0, 1)).await;
        redis.kill();
        is_said(&address, status, what).await;
        let told = ask(&address, "/tollhouse/status").await;
        assert!(told.contains(r#""up":false"#), "{told}");
        gauge_is(&address, DOWN).await;
        // Once, however long it lasts and however often it is asked.
        sleep(Duration::from_secs(1)).await;
        assert_eq!(warned(), (1, 1));
        redis.revive().await;
        is_said(&address, 200, "ready\n").await;
        gauge_is(&address, UP).await;
        until("word of its return", || warned() == (1, 2)).await;
        signal(&child, "-TERM");
        assert_eq!(ended(child).await, Some(0));
    }
}

#[tokio::test]
async fn a_proxy_leaves_alone_what_a_newer_version_keeps_and_says_so() {
    let (redis, provider) = (Redis::start().await, provider().await);
    redis
        .ask(r#"HSET tollhouse:{default} layout "999 0""#)
        .await;
    let stderr = directory("redis-newer").join("stderr");
    let child = {
        let shared = Shared::new("redis-newer-file", &provider, &redis, "");
        let command = shared.command(&["proxy", "--listen", "127.0.0.1:0"]);
        start(command, &stderr)
    };
    let address = address(&stderr).await;
    let found = "the account's key tollhouse:{default} has layout 999 of a newer Tollhouse";
    is_said(&address, 200, "ready, alone: ").await;
    is_said(&address, 200, found).await;
    gauge_is(&address, DOWN).await;
    let told = ask(&address, "/tollhouse/status").await;
    assert!(told.contains(found), "{told}");
    let warning = "WARN tollhouse::shared::agent: going on without the shared ledger";
    until("a warning of what is there", || {
        let warned = fs::read_to_string(&stderr).expect("it was written");
        let line = warned.lines().find(|line| line.contains(warning));
        line.is_some_and(|line| line.contains(found))
    })
    .await;
    let ran = run(tollhouse(&["account", "status", "--redis", &redis.url()]));
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    assert!(ran.stderr.contains(found), "{}", ran.stderr);
    let left = redis.ask("HGETALL tollhouse:{default}").await;
    assert_eq!(left, "*2\r\n$6\r\nlayout\r\n$5\r\n999 0\r\n+OK\r\n");

    redis.ask("DEL tollhouse:{default}").await;
    is_said(&address, 200, "ready\n").await;
    gauge_is(&address, UP).await;
    signal(&child, "-TERM");
    assert_eq!(ended(child).await, Some(0));
}

/// What `/tollhouse/status` says.
async fn state(address: &str) -> Value {
    in_body(&ask(address, "/tollhouse/status").await)
}

/// The same to whoever has this token.
async fn state_as(address: &str, token: &str) -> Value {
    let header = format!("authorization: Bearer {token}\r\n");
    in_body(&ask_with(address, "/tollhouse/status", &header).await)
}

fn in_body(seen: &str) -> Value {
    let (_, body) = seen.split_once("\r\n\r\n").expect("a body");
    serde_json::from_str(body).expect("JSON")
}

/// Waits until so many are there who have not left.
async fn until_there(address: &str, many: usize) -> Value {
    let begin = Instant::now();
    loop {
        let seen = state(address).await;
        let all = seen["processes"].as_array().into_iter().flatten();
        if all.filter(|it| it["left"] == false).count() == many {
            return seen;
        }
        assert!(begin.elapsed() < Duration::from_secs(20), "{seen}");
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_proxy_shows_all_processes() {
    let (mut redis, provider) = (Redis::start().await, provider().await);
    let (proxies, addresses) = {
        let shared = Shared::new("redis-all-file", &provider, &redis, "");
        let (mut proxies, mut addresses) = (Vec::new(), Vec::new());
        for n in 0..3 {
            let stderr = directory(&format!("redis-all-{n}")).join("stderr");
            let command = shared.command(&["proxy", "--listen", "127.0.0.1:0"]);
            proxies.push(start(command, &stderr));
            addresses.push(address(&stderr).await);
        }
        (proxies, addresses)
    };
    for address in &addresses {
        is_said(address, 200, "ready\n").await;
    }
    let mut numbers = Vec::new();
    for address in &addresses {
        let status = state(address).await;
        let all = status["processes"].as_array().expect("a list");
        assert_eq!(all.len(), 3, "{status}");
        let this: Vec<_> = all.iter().filter(|it| it["this"] == true).collect();
        assert_eq!(this.len(), 1, "{status}");
        numbers.push(this[0]["process"].as_str().expect("a number").to_owned());
    }
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 3, "each is another one");

    // Who says goodbye is told for a while, and who is killed until nobody can hope any more.
    let [mut killed, ends, _stays]: [Started; 3] = proxies.try_into().ok().expect("three");
    signal(&ends, "-TERM");
    assert_eq!(ended(ends).await, Some(0));
    let seen = until_there(&addresses[2], 2).await;
    let mut all = seen["processes"].as_array().expect("a list").iter();
    assert!(all.any(|it| it["left"] == true), "{seen}");
    killed.kill().expect("it ran");
    let seen = until_there(&addresses[2], 1).await;
    assert_eq!(seen["processes"][0]["this"], true);
    assert!(seen["processes"][0]["known_seconds"].as_f64() > Some(3.0));
    redis.kill();
    is_said(&addresses[2], 200, "ready, alone: ").await;
    assert_eq!(state(&addresses[2]).await["processes"], Value::Null);
}

#[tokio::test]
async fn a_run_shares_its_daemons_account_and_the_daemon_shows_all_processes() {
    let (redis, provider) = (Redis::start().await, provider().await);
    let shared = Shared::new("redis-run", &provider, &redis, "");
    let stderr = directory("redis-run-proxy").join("stderr");
    let proxy = start(
        shared.command(&["proxy", "--listen", "127.0.0.1:0"]),
        &stderr,
    );
    is_said(&address(&stderr).await, 200, "ready\n").await;

    let home = directory("redis-run-home");
    let seen = home.join("seen");
    let waits = format!("until [ -e {} ]; do sleep 0.05; done", text(&seen));
    let mut command = shared.command(&["run"]);
    command
        .args(["--", "sh", "-c", &waits])
        .env("XDG_RUNTIME_DIR", &home)
        .env("PATH", std::env::var_os("PATH").expect("a path"));
    let run = start(command, &home.join("stderr"));
    let (address, token) = daemon(&home.join("tollhouse")).await;
    let is_there = |status: &Value| {
        let all = status["processes"].as_array().into_iter().flatten();
        let (this, others): (Vec<_>, Vec<_>) = all.partition(|it| it["this"] == true);
        (this.len(), others.len()) == (1, 1)
    };
    let mut told = state_as(&address, &token).await;
    let begin = Instant::now();
    while !is_there(&told) {
        assert!(begin.elapsed() < Duration::from_secs(20), "{told}");
        sleep(Duration::from_millis(100)).await;
        told = state_as(&address, &token).await;
    }
    let status = shared.status();
    assert_eq!(status["processes"].as_array().map(Vec::len), Some(2));
    fs::write(&seen, "").expect("a file");
    assert_eq!(ended(run).await, Some(0));
    signal(&proxy, "-TERM");
    assert_eq!(ended(proxy).await, Some(0));
}

/// Where the daemon of the one room listens, and the token that opens it.
async fn daemon(rooms: &Path) -> (String, String) {
    let mut found = None;
    until("the daemon", || {
        let rooms = fs::read_dir(rooms).into_iter().flatten().flatten();
        found = rooms.map(|room| room.path()).find_map(|room| {
            let port = fs::read_to_string(room.join("daemon")).ok()?;
            let port: u16 = port.split(' ').next()?.parse().ok()?;
            let token = fs::read_to_string(room.join("token")).ok()?;
            Some((format!("127.0.0.1:{port}"), token))
        });
        found.is_some()
    })
    .await;
    found.expect("it was waited for")
}

#[tokio::test]
async fn what_is_wrong_is_said_in_one_line_without_a_password() {
    let redis = Redis::start().await;
    for (arguments, code, said) in [
        (
            vec!["account", "status"],
            2,
            "no Redis is named: --redis URL",
        ),
        (
            vec!["account", "status", "--redis", "http://me:s3cret@localhost"],
            2,
            "redis://",
        ),
        (
            vec![
                "account",
                "status",
                "--redis",
                "redis://me:s3cret@127.0.0.1:1",
            ],
            2,
            "127.0.0.1:1",
        ),
        (
            vec!["account", "status", "--redis", &redis.url()],
            1,
            "no process has come to the account \"default\"",
        ),
        (
            vec![
                "proxy",
                "--listen",
                "127.0.0.1:0",
                "--pass-through-keys",
                "--redis",
                &redis.url(),
            ],
            2,
            "--pass-through-keys gives each key an account of its own",
        ),
    ] {
        let ran = run(tollhouse(&arguments));
        assert_eq!(ran.code, Some(code), "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(said), "{arguments:?}: {}", ran.stderr);
        assert_eq!(ran.stderr.trim_end().lines().count(), 1, "{}", ran.stderr);
        assert!(!ran.stderr.contains("s3cret"), "{}", ran.stderr);
    }
}
