//! A `redis-server` of its own, on a free port, in an empty folder.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use redis::{Cmd, Value};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use tollhouse_redis::RedisLedger;

/// Killed when it is dropped, also by a panic.
pub(crate) struct Server {
    child: Child,
    port: u16,
    folder: TempDir,
    options: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Server {
    /// One that keeps nothing on its disk.
    pub(crate) async fn start() -> Self {
        Server::with(&[]).await
    }

    /// With these options beside.
    pub(crate) async fn with(options: &[&str]) -> Self {
        Server::within(options, &[]).await
    }

    /// And within this environment.
    pub(crate) async fn within(options: &[&str], environment: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().expect("a folder");
        let options: Vec<_> = options.iter().map(|it| (*it).to_owned()).collect();
        let environment = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let environment: Vec<_> = environment.collect();
        let port = free_port();
        let child = spawn(port, &folder, &options, &environment);
        let server = Server {
            child,
            port,
            folder,
            options,
            environment,
        };
        server.answers().await;
        server
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn ledger(&self) -> RedisLedger {
        RedisLedger::open(&self.url(), "test").expect("an address")
    }

    /// The key that this crate's ledgers are under.
    pub(crate) fn key(&self) -> &'static str {
        "tollhouse:{test}"
    }

    /// Stops the process where it is: it accepts, and answers nothing.
    pub(crate) fn pause(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it ran");
        self.child.wait().expect("it ends");
    }

    /// Starts it again on the same port, with whatever is in its folder.
    pub(crate) async fn restart(&mut self) {
        self.kill();
        self.revive().await;
    }

    /// Starts it again after it was killed.
    pub(crate) async fn revive(&mut self) {
        self.begin();
        self.answers().await;
    }

    /// Starts it again, and does not wait until it answers.
    pub(crate) fn begin(&mut self) {
        self.child = spawn(self.port, &self.folder, &self.options, &self.environment);
    }

    /// A sentinel with this file, which it rewrites.
    pub(crate) async fn sentinel(file: &std::path::Path) -> Self {
        let file = file.display().to_string();
        Server::within(&[&file, "--sentinel"], &[]).await
    }

    pub(crate) fn free_port() -> u16 {
        free_port()
    }

    /// As the program tells it: `7.0.15`.
    pub(crate) fn version() -> String {
        let told = Command::new(program()).arg("--version").output();
        let told = String::from_utf8(told.expect("it runs").stdout).expect("text");
        let version = told
            .split_once("v=")
            .and_then(|(_, rest)| rest.split(' ').next());
        version.expect("a version").to_owned()
    }

    /// Runs a command over a connection of its own.
    pub(crate) async fn run(&self, words: &[&str]) -> Value {
        let client = redis::Client::open(self.url()).expect("an address");
        let patiently = redis::AsyncConnectionConfig::new()
            .set_response_timeout(Some(Duration::from_secs(20)))
            .set_connection_timeout(Some(Duration::from_secs(20)));
        let connection = client
            .get_multiplexed_async_connection_with_config(&patiently)
            .await;
        let mut connection = connection.expect("a connection");
        let mut command = Cmd::new();
        for word in words {
            command.arg(*word);
        }
        let answer = command.query_async(&mut connection);
        answer
            .await
            .unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        let kill = Command::new("kill").args([signal, &id]).status();
        assert!(kill.expect("kill runs").success());
    }

    async fn answers(&self) {
        let patience = Instant::now() + Duration::from_secs(20);
        while Instant::now() < patience {
            if let Ok(client) = redis::Client::open(self.url())
                && let Ok(mut connection) = client.get_multiplexed_async_connection().await
            {
                let ping = redis::cmd("PING");
                let pong = ping.query_async::<Value>(&mut connection).await;
                // One that asks for a password answers, too.
                let asks = |error: &redis::RedisError| error.code() == Some("NOAUTH");
                if pong.as_ref().err().is_none_or(asks) {
                    return;
                }
            } else if std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok()
                && self
                    .options
                    .iter()
                    .any(|it| it == "--requirepass" || it == "--tls-port")
            {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("redis-server did not answer on port {}", self.port);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    // A node of a cluster has another one, 10,000 higher.
    const HIGHEST: u16 = u16::MAX - 10_000;
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        if port <= HIGHEST {
            return port;
        }
    }
}

fn program() -> String {
    let program = std::env::var("TOLLHOUSE_REDIS_SERVER");
    program.unwrap_or_else(|_| "redis-server".into())
}

fn spawn(
    port: u16,
    folder: &TempDir,
    options: &[String],
    environment: &[(String, String)],
) -> Child {
    let program = program();
    let mut command = Command::new(&program);
    let is_sentinel = options.iter().any(|it| it == "--sentinel");
    if is_sentinel {
        // Its file comes first, and it keeps no data.
        command.args(options);
    }
    command
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--dir", &folder.path().display().to_string()]);
    if !is_sentinel {
        command
            .args(["--save", "", "--appendonly", "no"])
            .args(options);
    }
    command
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().unwrap_or_else(|error| {
        panic!(
            "{program} could not be started ({error}): these tests need it, and .ci/redis \
             installs it"
        )
    })
}
