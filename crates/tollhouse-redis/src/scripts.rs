//! The scripts, and how they are run.

use redis::Cmd;

/// A script that the server knows by its hash, or is told.
pub(crate) struct Script {
    text: &'static str,
    hash: String,
}

impl Script {
    /// One exchange of a process.
    pub(crate) fn exchange() -> Self {
        Script::of(include_str!("scripts/exchange.lua"))
    }

    /// How all stand; changes nothing.
    pub(crate) fn status() -> Self {
        Script::of(include_str!("scripts/status.lua"))
    }

    fn of(text: &'static str) -> Self {
        let hash = redis::Script::new(text).get_hash().to_owned();
        Script { text, hash }
    }

    /// Runs it if the server knows it; if not, that is its whole answer.
    pub(crate) fn by_hash(&self, key: &str, arguments: &[&str]) -> Cmd {
        run("EVALSHA", &self.hash, key, arguments)
    }

    /// Runs it; from then on the server knows it.
    pub(crate) fn in_full(&self, key: &str, arguments: &[&str]) -> Cmd {
        run("EVAL", self.text, key, arguments)
    }
}

fn run(how: &str, script: &str, key: &str, arguments: &[&str]) -> Cmd {
    let mut command = redis::cmd(how);
    command.arg(script).arg(1).arg(key).arg(arguments);
    command
}
