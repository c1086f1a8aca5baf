//! A wall clock that a test sets.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use redis::Value;

use super::ms;
use super::server::Server;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/support/clock.c");

/// Stands still between two settings.
pub(crate) struct Clock {
    file: File,
    environment: [(String, String); 2],
}

impl Clock {
    /// In this folder; a server that is started with its [environment](Self::environment) shows it.
    pub(crate) fn within(folder: &Path) -> Self {
        let (library, path) = (folder.join("clock.so"), folder.join("clock"));
        let compiler = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&library)
            .arg(SOURCE)
            .status()
            .expect("a C compiler, which the cryptography needs, too");
        assert!(compiler.success());
        let file = File::create(&path).expect("a file");
        file.set_len(8).expect("room");
        Clock {
            file,
            environment: [
                ("LD_PRELOAD".into(), library.display().to_string()),
                ("CLOCK".into(), path.display().to_string()),
            ],
        }
    }

    /// One that shows this, and a server that goes by it; `None`, and said, where the server counts time by
    /// itself between its looks at the clock, as Valkey 9 does.
    pub(crate) async fn with_server(folder: &Path, micros: u64) -> Option<(Self, Server)> {
        let clock = Clock::within(folder);
        clock.set(micros);
        let server = Server::within(&[], &clock.environment()).await;
        let second = 1_000_000;
        let shown = [micros / second, micros % second];
        let shown = shown.map(|it| Value::BulkString(it.to_string().into()));
        tokio::time::sleep(ms(20)).await;
        if server.run(&["TIME"]).await != Value::Array(shown.into()) {
            eprintln!("NOT TRIED: this server counts time by itself");
            return None;
        }
        Some((clock, server))
    }

    pub(crate) fn environment(&self) -> [(&str, &str); 2] {
        let [one, other] = &self.environment;
        [(&one.0, &one.1), (&other.0, &other.1)]
    }

    /// Microseconds since 1970.
    pub(crate) fn set(&self, micros: u64) {
        let written = self.file.write_at(&micros.to_ne_bytes(), 0);
        assert_eq!(written.expect("the file"), 8);
    }
}
