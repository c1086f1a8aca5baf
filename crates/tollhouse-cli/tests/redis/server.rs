//! A `redis-server` of a test's own.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

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
    let server = Command::new("redis-server")
        .args(arguments)
        .arg(text(&folder))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn();
    server.unwrap_or_else(|error| {
        panic!("redis-server could not be started ({error}): `apt-get install redis-server` has it")
    })
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may have been killed already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
