//! `tollhouse run`, as processes that share one account before a simulated provider.

mod nested;
mod signals;

use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::time::Duration;

use axum::Router;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;
use tollhouse_sim::Sim;

use crate::common::{
    Files, Provider, Ran, Started, Upstream, answers, assert_each_once, directory, ended, lines,
    run, signal, start, text, tollhouse_at, until,
};

const KEY: &str = "sk-PLANTED-KEY";

/// A user's directories, empty.
struct User {
    directory: PathBuf,
}

impl User {
    fn new(test: &str) -> Self {
        User {
            directory: directory(test),
        }
    }

    /// The command as this user's, with a shell's script as COMMAND.
    fn run(&self, provider: &Provider, arguments: &[&str], script: &str) -> Command {
        let arguments = [&["run"], arguments, &["--", "sh", "-c", script]].concat();
        let mut command = provider.tollhouse(&arguments);
        self.is(&mut command);
        command
    }

    /// A shell's script as this user's, which finds the command in `TOLLHOUSE`.
    fn shell(&self, provider: &Provider, script: &str) -> Command {
        let mut command = Command::new("sh");
        let plain = provider.tollhouse(&[]);
        let variables = plain.get_envs();
        command
            .args(["-c", script])
            .env_clear()
            .envs(variables.filter_map(|(name, value)| Some((name, value?))));
        self.is(&mut command);
        command
    }

    fn is(&self, command: &mut Command) {
        command
            .env("XDG_RUNTIME_DIR", &self.directory)
            .env("PATH", std::env::var_os("PATH").expect("a path"))
            .env("TOLLHOUSE", env!("CARGO_BIN_EXE_tollhouse"))
            .env("OPENAI_API_KEY", KEY)
            .current_dir(&self.directory);
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The rooms of daemons.
    fn rooms(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.directory.join("tollhouse"));
        let entries = entries.into_iter().flatten().flatten();
        let paths = entries.map(|entry| entry.path());
        paths.filter(|path| path.is_dir()).collect()
    }

    /// The process of the only daemon, once it listens.
    async fn daemon(&self) -> String {
        let mut process = None;
        until("a daemon", || {
            let said = self.rooms().first().map(|room| room.join("daemon"));
            let said = said.and_then(|path| fs::read_to_string(path).ok());
            process = said.and_then(|said| Some(said.split_once(' ')?.1.to_owned()));
            process.as_ref().is_some_and(|process| !process.is_empty())
        })
        .await;
        process.expect("it is there")
    }

    /// Until no daemon is there any more, and nothing of one.
    async fn is_left(&self) {
        until("the daemon to end", || self.rooms().is_empty()).await;
        let left: Vec<_> = fs::read_dir(self.directory.join("tollhouse"))
            .expect("it was made")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        assert_eq!(left, ["lock"]);
    }
}

/// A batch of so many requests that goes where its environment says.
fn batch(files: &Files, more: &str) -> String {
    format!(
        "\"$TOLLHOUSE\" batch {} --output {} --quiet {more}",
        text(&files.input),
        text(&files.output)
    )
}

/// Whether any thread of a process runs. A killed one's first thread may be a zombie while others
/// have still to end, and until then its sockets are open and its locks held.
fn is_running(process: &str) -> bool {
    let threads = fs::read_dir(Path::new("/proc").join(process).join("task"));
    let mut threads = threads.into_iter().flatten().flatten();
    threads.any(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat"));
        stat.is_ok_and(|stat| !stat.contains(") Z ") && !stat.contains(") X "))
    })
}

fn kill(process: &str, name: &str) {
    let status = Command::new("kill").args([name, process]).status();
    assert!(status.expect("kill is there").success());
}

#[tokio::test]
async fn it_ends_as_its_command_did() {
    let provider = Provider::start(Sim::builder()).await;
    let user = User::new("run_codes");
    for (script, code) in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("exit 255", 255),
        ("kill -KILL $$", 137),
        ("kill -TERM $$", 143),
    ] {
        let ran = run(user.run(&provider, &[], script));
        assert_eq!(ran.code, Some(code), "{script}: {ran:?}");
        assert_eq!(ran.stderr, "tollhouse: no calls\n", "{script}");
    }
    fs::write(user.file("data"), "no program").unwrap();
    for (program, code) in [("./nowhere", 127), ("./data", 126)] {
        let mut command = provider.tollhouse(&["run", program, "--flag"]);
        user.is(&mut command);
        let ran = run(command);
        assert_eq!(ran.code, Some(code), "{ran:?}");
        assert!(
            ran.stderr
                .contains(&format!("error: cannot run {program}: ")),
            "{ran:?}"
        );
    }
    user.is_left().await;
}

/// Nobody reads what is said at the end, or it finds no room.
#[tokio::test]
async fn it_ends_as_its_command_did_where_nobody_hears_of_it() {
    let provider = Provider::start(Sim::builder()).await;
    let user = User::new("run_unheard");
    let (read, gone) = std::io::pipe().unwrap();
    drop(read);
    let full = fs::OpenOptions::new().write(true).open("/dev/full");
    let (gone, full) = (OwnedFd::from(gone), OwnedFd::from(full.unwrap()));
    for stderr in [gone, full] {
        for log in [&[][..], &["-vv"]] {
            let mut command = user.run(&provider, log, "exit 7");
            let stderr = stderr.try_clone().unwrap();
            command.stdout(Stdio::null()).stderr(stderr);
            let child = Started::from(command.spawn().expect("it starts"));
            assert_eq!(ended(child).await, Some(7), "{log:?}");
        }
    }
    user.is_left().await;
}

/// What is wrong is told before anything is started.
#[tokio::test]
async fn what_is_wrong_is_told_and_nothing_is_run() {
    let provider = Provider::start(Sim::builder()).await;
    let user = User::new("run_wrong");
    let mut command = user.run(&provider, &["--tpm-limit", "many"], "touch ran");
    command.env_remove("OPENAI_API_KEY");
    let ran = run(command);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(
        ran.stderr.contains("--tpm-limit") && ran.stderr.contains("OPENAI_API_KEY is not set"),
        "{ran:?}"
    );
    let mut command = user.run(&provider, &[], "touch ran");
    command.env_remove("XDG_RUNTIME_DIR");
    let ran = run(command);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.stderr.contains("XDG_RUNTIME_DIR nor HOME"), "{ran:?}");
    // Where others may write, no secret is put.
    fs::create_dir(user.file("tollhouse")).unwrap();
    fs::set_permissions(user.file("tollhouse"), fs::Permissions::from_mode(0o755)).unwrap();
    let ran = run(user.run(&provider, &[], "touch ran"));
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(
        ran.stderr.contains("of this user's alone (0700)"),
        "{ran:?}"
    );
    assert!(!user.file("ran").exists());
}

/// A lock, or the end of a pipe, that the caller has is COMMAND's, as with any other program. The
/// daemon may outlive both.
#[tokio::test]
async fn what_the_caller_has_open_is_the_commands_and_not_the_daemons() {
    let provider = Provider::start(Sim::builder()).await;
    let user = User::new("run_descriptors");
    let script = "exec 9>held; exec \"$TOLLHOUSE\" run -- \
                  sh -c 'echo kept >&9; : > ready; until test -e done; do sleep 0.02; done'";
    let child = start(user.shell(&provider, script), &user.file("said"));
    until("COMMAND", || user.file("ready").exists()).await;
    let daemon = user.daemon().await;
    let open = fs::read_dir(Path::new("/proc").join(&daemon).join("fd")).expect("it lives");
    let open = open.flatten().map(|entry| fs::read_link(entry.path()));
    let open: Vec<_> = open.flatten().collect();
    assert!(!open.contains(&user.file("held")), "{open:?}");
    assert_eq!(fs::read_to_string(user.file("held")).unwrap(), "kept\n");
    fs::write(user.file("done"), "").unwrap();
    assert_eq!(ended(child).await, Some(0));
    user.is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_is_not_handed_on() {
    let provider = Provider::start(Sim::builder().api_key(KEY)).await;
    let user = User::new("run_key");
    let files = Files::new("run_key_batch", lines(3, 20));
    let script = format!("env > environment; {}", batch(&files, ""));
    let mut command = user.run(&provider, &[], &script);
    // As keys come from files: clients take the end of the line off.
    command.env("OPENAI_API_KEY", format!("{KEY}\n"));
    command.env("MY_OWN_COPY", KEY).env("ANOTHER", "value");
    let ran = run(command);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_each_once(&files.output, 3);
    assert!(
        ran.stderr.starts_with("tollhouse: 3 calls waited "),
        "{ran:?}"
    );

    let environment = fs::read_to_string(user.file("environment")).unwrap();
    assert!(!environment.contains("PLANTED"), "{environment}");
    let value = |name: &str| {
        let mut lines = environment.lines();
        lines
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
            .expect(name)
    };
    let (url, token) = (value("OPENAI_BASE_URL"), value("OPENAI_API_KEY"));
    assert!(
        url.starts_with("http://127.0.0.1:") && url.ends_with("/v1"),
        "{url}"
    );
    assert_eq!(value("OPENAI_API_BASE"), url);
    assert_eq!((value("MY_OWN_COPY"), value("ANOTHER")), (token, "value"));
    user.is_left().await;
}

/// An HTTP proxy of the machine's does not reach the daemon, and would see the token and all
/// prompts. Which of the two lists a client reads is its own matter.
#[tokio::test]
async fn calls_go_past_the_machines_http_proxy() {
    let provider = Provider::start(Sim::builder()).await;
    let user = User::new("run_no_proxy");
    let ours = "127.0.0.1,localhost";
    let with_ours = |list: &str| format!("{list},{ours}");
    for (lower, upper, lower_is, upper_is) in [
        (None, None, ours.to_owned(), ours.to_owned()),
        // Whoever reads the other one first is not to lose what stands in this.
        (Some("a, .b"), None, with_ours("a, .b"), with_ours("a, .b")),
        (None, Some("a"), with_ours("a"), with_ours("a")),
        (Some(""), Some("a"), with_ours("a"), with_ours("a")),
        (Some("a"), Some("b"), with_ours("a"), with_ours("b")),
        (Some("a,"), Some("b "), with_ours("a"), with_ours("b ")),
        (Some("*"), Some("b"), "*".to_owned(), with_ours("b")),
        (None, Some("*"), "*".to_owned(), "*".to_owned()),
        (
            Some("127.0.0.1:80,LocalHost"),
            Some("localhost 127.0.0.1"),
            "127.0.0.1:80,LocalHost,127.0.0.1".to_owned(),
            // Python's clients take it for one name.
            with_ours("localhost 127.0.0.1"),
        ),
    ] {
        let mut command = user.run(&provider, &[], "env > environment");
        for (name, list) in [("no_proxy", lower), ("NO_PROXY", upper)] {
            command.envs(list.map(|list| (name, list)));
        }
        command.env("http_proxy", "http://127.0.0.1:9");
        let ran = run(command);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let environment = fs::read_to_string(user.file("environment")).unwrap();
        for (name, is) in [("no_proxy", lower_is), ("NO_PROXY", upper_is)] {
            let line = format!("{name}={is}");
            assert!(
                environment.lines().any(|it| it == line),
                "{line}: {environment}"
            );
        }
    }
    // A run inside a run finds all of it there, and makes nothing longer.
    let mut command = user.run(&provider, &[], "\"$TOLLHOUSE\" run -- env > environment");
    command.env("no_proxy", "a");
    let ran = run(command);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let environment = fs::read_to_string(user.file("environment")).unwrap();
    let line = format!("NO_PROXY=a,{ours}");
    assert!(environment.lines().any(|it| it == line), "{environment}");
    user.is_left().await;
}

#[tokio::test]
async fn files_are_this_users_alone() {
    let provider = Provider::start(Sim::builder()).await;
    let user = User::new("run_modes");
    let script = "while ! test -e done; do sleep 0.02; done";
    let child = start(user.run(&provider, &[], script), &user.file("said"));
    user.daemon().await;
    let mode = |path: &Path| fs::metadata(path).expect("it is there").mode() & 0o777;
    let home = user.file("tollhouse");
    let room = user.rooms().pop().expect("a room");
    for directory in [&home, &room] {
        assert_eq!(mode(directory), 0o700, "{directory:?}");
    }
    let name = room.file_name().unwrap().to_str().unwrap();
    assert_eq!(name.len(), 32, "{name}");
    for file in [
        home.join("lock"),
        room.join("token"),
        room.join("daemon"),
        room.join("users"),
        room.join("log"),
    ] {
        assert_eq!(mode(&file), 0o600, "{file:?}");
    }
    let texts = [room.join("token"), room.join("daemon"), room.join("log")];
    let texts = texts.map(|file| fs::read_to_string(file).unwrap());
    assert!(!format!("{texts:?}").contains("PLANTED"), "{texts:?}");
    fs::write(user.file("done"), "").unwrap();
    assert_eq!(ended(child).await, Some(0));
    user.is_left().await;
}

/// Two slots are two slots, whoever asks.
#[tokio::test]
async fn two_at_once_share_one_account() {
    let slow = Sim::builder().latency(Duration::from_millis(20), Duration::ZERO);
    let provider = Provider::start(slow).await;
    let user = User::new("run_two");
    let all: Vec<_> = (0..2)
        .map(|n| {
            let files = Files::new(&format!("run_two_{n}"), lines(10, 20));
            // Each batch's own slots are no bound.
            let script = batch(&files, "--max-concurrency 10");
            let mut command = user.run(&provider, &[], &script);
            command.env("OPENAI_MAX_CONCURRENCY", "2");
            (start(command, &files.stderr), files)
        })
        .collect();
    let mut said = Vec::new();
    for (child, files) in all {
        let code = ended(child).await;
        said.push(fs::read_to_string(&files.stderr).unwrap());
        assert_eq!(code, Some(0), "{said:?}");
        assert_eq!(answers(&files.output).len(), 10, "{said:?}");
    }
    let report = provider.sim.report();
    assert_eq!(
        (report.total.completed, report.peak_in_flight),
        (20, 2),
        "{report}"
    );
    for said in said {
        assert!(said.contains("tollhouse: 10 calls waited "), "{said}");
    }
    user.is_left().await;
}

/// A second one never spends another's key, nor speaks to another provider.
#[tokio::test]
async fn another_key_is_another_account() {
    let provider = Provider::start(Sim::builder()).await;
    let user = User::new("run_accounts");
    let script = "while ! test -e done; do sleep 0.02; done";
    let others = [
        ("OPENAI_API_KEY", "sk-other"),
        ("OPENAI_BASE_URL", "http://127.0.0.1:1/v1"),
        ("OPENAI_ORG_ID", "org-other"),
        ("OPENAI_PROJECT_ID", "project-other"),
        ("OPENAI_TPM_LIMIT", "7777"),
    ];
    let same_url = format!("{}/", provider.url());
    let same = [
        ("ANYTHING", "else"),
        ("OPENAI_MAX_CONCURRENCY", ""),
        ("OPENAI_RETRY_MAX_ATTEMPTS", "5"),
        ("OPENAI_BASE_URL", &same_url),
    ];
    let mut children = Vec::new();
    for (name, value) in others.into_iter().chain(same) {
        let mut command = user.run(&provider, &[], script);
        command.env(name, value);
        let said = user.file(&format!("said-{}", children.len()));
        children.push(start(command, &said));
    }
    let rooms_of = others.len() + 1;
    until("all daemons", || user.rooms().len() == rooms_of).await;
    fs::write(user.file("done"), "").unwrap();
    for child in children {
        assert_eq!(ended(child).await, Some(0));
    }
    user.is_left().await;
}

/// COMMAND's port and token stay what they were.
async fn a_daemon_that_ends_is_started_again(test: &str, name: &str) {
    let provider = Provider::start(Sim::builder()).await;
    let user = User::new(test);
    let (before, after) = (
        Files::new(&format!("{test}_before"), lines(2, 20)),
        Files::new(&format!("{test}_after"), lines(3, 20)),
    );
    let script = format!(
        "{} && touch half && while ! test -e go; do sleep 0.02; done && {}",
        batch(&before, ""),
        batch(&after, "")
    );
    let child = start(user.run(&provider, &[], &script), &user.file("said"));
    until("the first half", || user.file("half").exists()).await;
    let first = user.daemon().await;
    kill(&first, name);
    until("its end", || !is_running(&first)).await;
    fs::write(user.file("go"), "").unwrap();
    let said = || fs::read_to_string(user.file("said")).unwrap();
    assert_eq!(ended(child).await, Some(0), "{}", said());
    assert_each_once(&before.output, 2);
    assert_each_once(&after.output, 3);
    let said = said();
    assert!(said.contains("tollhouse: 3 calls waited "), "{said}");
    assert!(
        said.ends_with("the longest, since its daemon was started again\n"),
        "{said}"
    );
    user.is_left().await;
}

#[tokio::test]
async fn a_killed_daemon_is_started_again_by_the_next_call() {
    a_daemon_that_ends_is_started_again("run_killed", "-KILL").await;
}

#[tokio::test]
async fn an_ended_daemon_is_started_again_by_the_next_call() {
    a_daemon_that_ends_is_started_again("run_ended", "-TERM").await;
}

/// What a killed daemon had sent, the next one cannot know: until a first answer says how
/// much is left, it spends no faster than tokens come.
#[tokio::test]
async fn a_killed_daemons_next_one_starts_cautiously() {
    let released = watch::Sender::new(true);
    let upstream = Upstream::start(answers_once(&released)).await;
    let user = User::new("run_cautious");
    let script = "echo $OPENAI_BASE_URL $OPENAI_API_KEY > told; \
                  while ! test -e done; do sleep 0.02; done";
    let mut command = tollhouse_at(&upstream.url, &["run", "--", "sh", "-c", script]);
    user.is(&mut command);
    command.env("OPENAI_TPM_LIMIT", "6000");
    command.env("OPENAI_MAX_CONCURRENCY", "10");
    let child = start(command, &user.file("said"));
    let mut told = String::new();
    until("its environment", || {
        told = fs::read_to_string(user.file("told")).unwrap_or_default();
        told.ends_with('\n')
    })
    .await;
    let (url, token) = told.trim().split_once(' ').expect("both");
    let address = url["http://".len()..].split('/').next().expect("a host");
    let call = |max_tokens| {
        let request = chat(token, max_tokens);
        tokio::spawn(asked(address.to_owned(), request))
    };
    assert!(call(10).await.unwrap().starts_with("HTTP/1.1 200"));

    // Five that fit: at once where an answer was seen, and one by one where none was.
    for (in_flight, waiting) in [(5, 0), (1, 4)] {
        released.send_replace(false);
        let calls: Vec<_> = (0..5).map(|_| call(1_000)).collect();
        let mut seen = (0, 0);
        until("all five", || {
            seen = standing(&user, token);
            seen.0 + seen.1 == 5
        })
        .await;
        assert_eq!(seen, (in_flight, waiting));
        if waiting == 0 {
            let daemon = user.daemon().await;
            kill(&daemon, "-KILL");
            until("its end", || !is_running(&daemon)).await;
            for call in calls {
                call.await.unwrap();
            }
            continue;
        }
        released.send_replace(true);
        for call in calls {
            let answer = call.await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        }
    }
    fs::write(user.file("done"), "").unwrap();
    assert_eq!(ended(child).await, Some(0));
    user.is_left().await;
}

/// A provider that answers once it is let.
fn answers_once(released: &watch::Sender<bool>) -> Router {
    let released = released.clone();
    Router::new().fallback(move || {
        let mut released = released.subscribe();
        async move {
            let _ = released.wait_for(|is| *is).await;
            let used = r#"{"usage":{"prompt_tokens":8,"completion_tokens":1,"total_tokens":9}}"#;
            ([("content-type", "application/json")], used)
        }
    })
}

fn chat(token: &str, max_tokens: u64) -> String {
    let body = format!(
        r#"{{"model":"gpt-4o","max_tokens":{max_tokens},"messages":[{{"role":"user","content":"Hi"}}]}}"#
    );
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         authorization: Bearer {token}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// All that comes back, to the connection's end, whatever ends it.
async fn asked(address: String, request: String) -> String {
    let mut socket = TcpStream::connect(&address).await.expect("it listens");
    socket
        .write_all(request.as_bytes())
        .await
        .expect("it reads");
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// How many calls are in flight and wait at the daemon, if it is there.
fn standing(user: &User, token: &str) -> (u64, u64) {
    let room = user.rooms().pop().expect("a room");
    let said = fs::read_to_string(room.join("daemon")).unwrap_or_default();
    // Whoever has the port of one that was killed may be anybody.
    let living = said
        .split_once(' ')
        .filter(|(_, daemon)| is_running(daemon));
    let port = living.and_then(|(port, _)| port.parse().ok());
    let Some(status) = port.and_then(|port| try_to_look_at(port, token)) else {
        return (0, 0);
    };
    let (_, body) = status.split_once("\r\n\r\n").expect("a body");
    let status: Value = serde_json::from_str(body).expect("JSON");
    let number = |name: &str| status["accounts"][0][name].as_u64().expect("a number");
    (number("in_flight"), number("waiting"))
}

/// Nobody is there to remove what a killed daemon left, but for the last run.
#[tokio::test]
async fn what_a_killed_daemon_leaves_is_removed_by_the_last_run() {
    let provider = Provider::start(Sim::builder()).await;
    let user = User::new("run_swept");
    let script = "touch begun; while ! test -e done; do sleep 0.02; done";
    let child = start(user.run(&provider, &[], script), &user.file("said"));
    until("the command", || user.file("begun").exists()).await;
    let daemon = user.daemon().await;
    kill(&daemon, "-KILL");
    until("its end", || !is_running(&daemon)).await;
    fs::write(user.file("done"), "").unwrap();
    let ended = ended(child).await;
    let said = fs::read_to_string(user.file("said")).unwrap();
    assert_eq!(ended, Some(0), "{said}");
    assert_eq!(user.rooms(), Vec::<PathBuf>::new());
    assert!(said.contains("not known: its daemon has ended"), "{said}");
}

/// The end of a login takes the runtime directory away, and what was begun there may go on.
#[tokio::test]
async fn a_run_outlives_its_directories_and_its_daemon_does_not_outlive_the_run() {
    let provider = Provider::start(Sim::builder()).await;
    let user = User::new("run_logged_out");
    let files = Files::new("run_logged_out_batch", lines(1, 20));
    let wait = "while ! test -e over; do sleep 0.02; done";
    let script = format!("{wait}; rm -r tollhouse; {}", batch(&files, ""));
    let child = start(user.run(&provider, &[], &script), &files.stderr);
    let daemon = user.daemon().await;
    fs::write(user.file("over"), "").unwrap();
    let code = ended(child).await;
    let said = fs::read_to_string(&files.stderr).unwrap();
    assert_eq!(code, Some(0), "{said}");
    assert_each_once(&files.output, 1);
    assert!(said.contains("tollhouse: 1 call waited "), "{said}");
    until("its end", || !is_running(&daemon)).await;
}

/// A run that is killed holds nothing any more.
#[tokio::test]
async fn a_killed_run_does_not_keep_the_daemon() {
    let provider = Provider::start(Sim::builder()).await;
    let user = User::new("run_gone");
    let child = start(user.run(&provider, &[], "sleep 0.3"), &user.file("said"));
    let daemon = user.daemon().await;
    signal(&child, "-KILL");
    assert_eq!(ended(child).await, None);
    user.is_left().await;
    until("its end", || !is_running(&daemon)).await;
}

/// A daemon that lives and does not listen yet, whose run was killed before it did: it is waited
/// for, and not started a second time.
#[tokio::test]
async fn a_daemon_that_was_left_before_it_listened_is_joined() {
    let provider = Provider::start(Sim::builder()).await;
    let user = User::new("run_half_begun");
    let first = start(user.run(&provider, &[], "sleep 5"), &user.file("first"));
    let process = user.daemon().await;
    let port = user.rooms()[0].join("daemon");
    let said = fs::read_to_string(&port).unwrap();
    fs::write(&port, "").unwrap();
    let second = start(user.run(&provider, &[], "exit 7"), &user.file("second"));
    tokio::time::sleep(Duration::from_millis(200)).await;
    fs::write(&port, &said).unwrap();
    let code = ended(second).await;
    assert_eq!(
        code,
        Some(7),
        "{:?}",
        fs::read_to_string(user.file("second"))
    );
    assert_eq!(user.daemon().await, process);
    signal(&first, "-KILL");
    assert_eq!(ended(first).await, None);
    user.is_left().await;
}

/// Beginnings and ends meet in every order; each run's calls pass.
#[tokio::test]
async fn runs_that_come_and_go_at_once_never_miss_a_daemon() {
    let provider = Provider::start(Sim::builder()).await;
    let user = User::new("run_races");
    let strand = async |strand: usize| {
        for turn in 0..5 {
            let files = Files::new(&format!("run_race_{strand}_{turn}"), lines(1, 20));
            let mut command = user.run(&provider, &[], &batch(&files, ""));
            command.stdout(Stdio::null());
            let code = ended(start(command, &files.stderr)).await;
            let said = fs::read_to_string(&files.stderr).unwrap();
            assert_eq!(code, Some(0), "{said}");
            assert_each_once(&files.output, 1);
            assert!(said.contains("tollhouse: 1 call waited "), "{said}");
        }
    };
    tokio::join!(strand(0), strand(1), strand(2), strand(3));
    assert_eq!(provider.sim.report().total.completed, 20);
    user.is_left().await;
}

/// `--caller` and `--weight` reach the account; a run's name is its command's otherwise.
#[tokio::test]
async fn callers_are_named_after_the_command_or_as_told() {
    let slow = Sim::builder().latency(Duration::from_millis(400), Duration::ZERO);
    let provider = Provider::start(slow).await;
    let user = User::new("run_callers");
    let files = [0, 1].map(|n| Files::new(&format!("run_callers_{n}"), lines(1, 20)));
    let children = [
        user.run(&provider, &[], &batch(&files[0], "")),
        user.run(
            &provider,
            &["--caller", "web", "--weight", "8"],
            &batch(&files[1], ""),
        ),
    ];
    let children = children.map(|command| start(command, &user.file("said")));
    let mut seen = String::new();
    user.daemon().await;
    let room = user.rooms().pop().unwrap();
    let port = fs::read_to_string(room.join("daemon")).unwrap();
    let port: u16 = port.split(' ').next().unwrap().parse().unwrap();
    let token = fs::read_to_string(room.join("token")).unwrap();
    let names = |seen: &str| seen.contains(r#""name":"sh""#) && seen.contains(r#""name":"web""#);
    until("both callers", || {
        seen = looked_at(port, &token);
        names(&seen)
    })
    .await;
    let web = seen.split(r#""name":"web""#).nth(1).unwrap();
    assert!(
        web.split('}').next().unwrap().contains(r#""weight":8"#),
        "{seen}"
    );
    for child in children {
        assert_eq!(ended(child).await, Some(0));
    }
    user.is_left().await;
}

/// The status as whoever can read the token sees it.
fn looked_at(port: u16, token: &str) -> String {
    try_to_look_at(port, token).expect("it listens")
}

/// `None` where nobody listens.
fn try_to_look_at(port: u16, token: &str) -> Option<String> {
    use std::io::Read;

    let mut socket = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
    let request = format!(
        "GET /tollhouse/status HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         authorization: Bearer {token}\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).expect("it reads");
    let mut seen = String::new();
    socket.read_to_string(&mut seen).expect("text");
    assert!(seen.starts_with("HTTP/1.1 200"), "{seen}");
    Some(seen)
}

/// Without a runtime directory, the state directory is as good.
#[tokio::test(flavor = "multi_thread")]
async fn the_state_directory_serves_where_there_is_no_runtime_directory() {
    let provider = Provider::start(Sim::builder()).await;
    let user = User::new("run_state");
    let files = Files::new("run_state_batch", lines(1, 20));
    let mut command = user.run(&provider, &[], &batch(&files, ""));
    command.env("XDG_RUNTIME_DIR", user.file("nowhere"));
    // No path of anybody's but who stands where we do.
    command.env("XDG_STATE_HOME", "state");
    command.env("HOME", &user.directory);
    let ran = run(command);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_each_once(&files.output, 1);
    let home = user.file(".local/state/tollhouse");
    assert_eq!(fs::metadata(&home).unwrap().mode() & 0o777, 0o700);
    until("its end", || fs::read_dir(&home).unwrap().count() == 1).await;
}
