//! A `redis-server` of a test's own.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::common::{directory, text};

/// Killed when it is dropped, also by a panic. It keeps nothing on its disk.
pub(crate) struct Redis {
    child: Child,
    port: u16,
}

impl Redis {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let redis = Redis {
            child: spawn(port),
            port,
        };
        redis.answers().await;
        redis
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// What it answers to this line, as it comes.
    pub(crate) async fn ask(&self, line: &str) -> String {
        let address = ("127.0.0.1", self.port);
        let mut socket = TcpStream::connect(address).await.expect("it listens");
        // After `QUIT` it closes the connection.
        let asked = format!("{line}\r\nQUIT\r\n");
        socket.write_all(asked.as_bytes()).await.expect("it reads");
        let mut told = String::new();
        socket.read_to_string(&mut told).await.expect("text");
        told
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it ran");
        self.child.wait().expect("it ends");
    }

    /// Starts it again, empty, where it was.
    pub(crate) async fn revive(&mut self) {
        self.child = spawn(self.port);
        self.answers().await;
    }

    async fn answers(&self) {
        let patience = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
            assert!(Instant::now() < patience, "redis-server does not listen");
            sleep(Duration::from_millis(5)).await;
        }
    }
}

fn spawn(port: u16) -> Child {
    let folder = directory(&format!("redis-{port}"));
    let port = port.to_string();
    let arguments = [
        "--port",
        &port,
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--dir",
    ];
    let program = std::env::var("TOLLHOUSE_REDIS_SERVER");
    let program = program.unwrap_or_else(|_| "redis-server".into());
    let server = Command::new(&program)
        .args(arguments)
        .arg(text(&folder))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn();
    server.unwrap_or_else(|error| {
        panic!("{program} could not be started ({error}): .ci/redis installs it")
    })
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may have been killed already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
