//! What the tests of the command share: the binary, a provider, files.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use axum::Router;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tollhouse_sim::{Builder, Served, Sim};

/// Nothing here takes this long, unless it hangs.
const HANGS: Duration = Duration::from_secs(30);

/// A provider on a socket.
pub(crate) struct Provider {
    pub(crate) sim: Sim,
    served: Served,
}

impl Provider {
    pub(crate) async fn start(builder: Builder) -> Self {
        let sim = builder.build().expect("allowed settings");
        let served = sim.spawn("127.0.0.1:0").await.expect("a free port");
        Self { sim, served }
    }

    pub(crate) fn url(&self) -> String {
        self.served.url()
    }

    /// The command, knowing this provider and hardly spaced.
    pub(crate) fn tollhouse(&self, arguments: &[&str]) -> Command {
        tollhouse_at(&self.served.url(), arguments)
    }
}

/// The command, knowing this address and hardly spaced.
pub(crate) fn tollhouse_at(url: &str, arguments: &[&str]) -> Command {
    let mut command = tollhouse(arguments);
    command
        .env("OPENAI_BASE_URL", url)
        .env("OPENAI_API_KEY", "key-for-tests")
        .env("OPENAI_STAGGER_SECONDS", "0");
    command
}

/// Something on a socket that is no simulated provider, until it is dropped.
pub(crate) struct Upstream {
    pub(crate) url: String,
    serving: JoinHandle<()>,
}

impl Upstream {
    pub(crate) async fn start(router: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/v1", listener.local_addr().expect("an address"));
        let serving = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("it serves");
        });
        Self { url, serving }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// The files of one batch.
pub(crate) struct Files {
    pub(crate) input: PathBuf,
    pub(crate) output: PathBuf,
    pub(crate) errors: PathBuf,
    pub(crate) stderr: PathBuf,
}

impl Files {
    pub(crate) fn new(test: &str, input: impl AsRef<[u8]>) -> Self {
        let directory = directory(test);
        let path = |name: &str| directory.join(name);
        fs::write(path("in.jsonl"), input).expect("a file");
        Self {
            input: path("in.jsonl"),
            output: path("out.jsonl"),
            errors: path("out.errors.jsonl"),
            stderr: path("stderr"),
        }
    }

    pub(crate) fn arguments<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let (input, output) = (text(&self.input), text(&self.output));
        [&["batch", input, "--output", output], more].concat()
    }
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("a path of the tests is text")
}

/// The lines of a file, which must be JSON.
pub(crate) fn records(path: &Path) -> Vec<Value> {
    let lines = fs::read_to_string(path).unwrap_or_default();
    let record = |line| serde_json::from_str(line).expect("a whole line");
    lines.lines().map(record).collect()
}

/// The command in an environment that says nothing of policies.
pub(crate) fn tollhouse(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollhouse"));
    command
        .args(arguments)
        .env_clear()
        .env("TMPDIR", env!("CARGO_TARGET_TMPDIR"))
        .stdin(Stdio::null());
    command
}

/// Runs a command to its end.
pub(crate) fn run(mut command: Command) -> Ran {
    Ran::from(command.output().expect("the command starts"))
}

/// Runs a command to its end with something on its standard input.
pub(crate) fn run_with_stdin(mut command: Command, input: &str) -> Ran {
    command.stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the command starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    Ran::from(child.wait_with_output().expect("it ends"))
}

/// A command that was started. It is killed when this is dropped, also by a panic: whoever
/// waits for a provider that is gone would find another test's at the same port.
pub(crate) struct Started(Child);

impl From<Child> for Started {
    fn from(child: Child) -> Self {
        Started(child)
    }
}

impl Deref for Started {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Started {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a command whose standard error goes to a file.
pub(crate) fn start(mut command: Command, stderr: &Path) -> Started {
    let stderr = fs::File::create(stderr).expect("a file");
    command.stderr(stderr).stdout(Stdio::null());
    command.spawn().expect("the command starts").into()
}

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("text"),
            stderr: String::from_utf8(output.stderr).expect("text"),
        }
    }
}

/// Presses Ctrl-C.
pub(crate) fn interrupt(child: &Child) {
    signal(child, "-INT");
}

/// Sends a signal, as `kill` names it.
pub(crate) fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    let kill = Command::new("kill").args([name, &pid]).status();
    assert!(kill.expect("kill is there").success());
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < HANGS, "waited for {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until a child ends.
pub(crate) async fn ended(child: impl Into<Started>) -> Option<i32> {
    let mut child = child.into();
    let mut code = None;
    until("the command to end", || {
        code = child.try_wait().expect("a child");
        code.is_some()
    })
    .await;
    code.and_then(|code| code.code())
}

/// A directory of a test's own, empty.
pub(crate) fn directory(test: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    match fs::remove_dir_all(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
        _ => fs::create_dir_all(&path).expect("a directory"),
    }
    path
}

/// A chat request that asks for so many tokens: its text costs 4 more, its form
/// 7.
pub(crate) fn line(id: &str, max_tokens: u64) -> String {
    format!(
        r#"{{"custom_id":"{id}","method":"POST","url":"/v1/chat/completions","body":{{"model":"gpt-4o","max_tokens":{max_tokens},"messages":[{{"role":"user","content":"Tell me of {id:>5}"}}]}}}}"#
    )
}

/// So many of them, with ids from `r0` on.
pub(crate) fn lines(count: usize, max_tokens: u64) -> String {
    let lines = (0..count).map(|n| line(&format!("r{n}"), max_tokens) + "\n");
    lines.collect()
}

/// How often each id is answered in a file, if there is one. Every line must be
/// whole.
pub(crate) fn answers(path: &Path) -> BTreeMap<String, usize> {
    let mut answers = BTreeMap::new();
    for line in records(path) {
        let id = line["custom_id"].as_str().expect("an id").to_owned();
        *answers.entry(id).or_default() += 1;
    }
    answers
}

/// Asserts that a file answers `r0` to `r{count}` once each.
pub(crate) fn assert_each_once(path: &Path, count: usize) {
    let expected = (0..count).map(|n| (format!("r{n}"), 1)).collect();
    assert_eq!(answers(path), expected);
}

/// How many whole lines a file has until now. Asked again and again while something is
/// waited for; so by a search, which is not as slow as a loop where nothing is optimized.
pub(crate) fn line_count(path: &Path) -> usize {
    let text = fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&text).matches('\n').count()
}
