//! A wall clock that a test sets.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

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
