//! COMMAND: what it finds in its environment, what it hears, and how it ends.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;
use tokio::signal::unix::{self, SignalKind, signal};

use crate::failure::{self, BoxError};
use crate::logging;

/// As shells say it.
const NOT_FOUND: u8 = 127;
const NOT_RUNNABLE: u8 = 126;
const BY_SIGNAL: i32 = 128;

const KEY: &str = "OPENAI_API_KEY";

/// What is to be run.
pub(super) struct Child<'a> {
    pub(super) command: &'a [OsString],
    /// Of the proxy.
    pub(super) url: &'a str,
    /// In place of the key.
    pub(super) token: &'a str,
}

impl Child<'_> {
    /// Runs it, passes on what we are told, and says with which code it ended.
    ///
    /// # Errors
    ///
    /// The operating system does not tell.
    pub(super) async fn run(&self) -> Result<u8, BoxError> {
        // From here on none is lost.
        let mut heard = Heard::listen()?;
        let mut child = match self.ready().spawn() {
            Ok(child) => child,
            Err(error) => return Ok(self.not_run(error)),
        };
        let pid = child
            .id()
            .and_then(|pid| Pid::from_raw(pid.try_into().ok()?));
        loop {
            // While it was not waited for, its number is no other's.
            let signal = tokio::select! {
                status = child.wait() => return Ok(code(status?)),
                signal = heard.next() => signal,
            };
            if let Some(pid) = pid.filter(|_| !has_heard_itself(signal)) {
                let _ = kill_process(pid, signal);
            }
        }
    }

    fn ready(&self) -> Command {
        let program = self.command.first().map_or(OsStr::new(""), |it| it);
        let mut command = Command::new(program);
        command.args(self.command.iter().skip(1));
        command.envs(without_key(std::env::vars_os(), self.token));
        command
            .env(KEY, self.token)
            .env("OPENAI_BASE_URL", self.url)
            .env("OPENAI_API_BASE", self.url);
        command
    }

    fn not_run(&self, error: io::Error) -> u8 {
        let program = self.command.first().cloned().unwrap_or_default();
        let error = failure::because(format!("cannot run {}", program.display()), error);
        logging::say(format_args!("error: {}", failure::with_causes(&*error)));
        let is_there = error.source().and_then(|it| it.downcast_ref::<io::Error>());
        match is_there.map(io::Error::kind) {
            Some(io::ErrorKind::NotFound) => NOT_FOUND,
            _ => NOT_RUNNABLE,
        }
    }
}

/// Every variable whose value is the key, under whatever name, with the token in its place.
fn without_key(
    variables: impl Iterator<Item = (OsString, OsString)>,
    token: &str,
) -> Vec<(OsString, OsString)> {
    let variables: Vec<_> = variables.collect();
    let key = variables.iter().find(|(name, _)| name == KEY);
    let key = key.map_or(&[][..], |(_, key)| trimmed(key));
    let has_key = |(_, value): &&(OsString, OsString)| trimmed(value) == key && !key.is_empty();
    let names = variables.iter().filter(has_key).map(|(name, _)| name);
    names.map(|name| (name.clone(), token.into())).collect()
}

/// As clients send it: space around a key is none of it.
pub(super) fn trimmed(key: &OsStr) -> &[u8] {
    key.as_encoded_bytes().trim_ascii()
}

fn code(status: ExitStatus) -> u8 {
    let by_signal = || status.signal().map(|signal| BY_SIGNAL + signal);
    let code = status.code().or_else(by_signal).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}

/// Whether the terminal has told COMMAND, too: what is typed there goes to all that run in
/// its foreground, and twice would be once too often.
fn has_heard_itself(signal: Signal) -> bool {
    if signal != Signal::INT && signal != Signal::QUIT {
        return false;
    }
    let Ok(terminal) = File::open("/dev/tty") else {
        return false;
    };
    rustix::termios::tcgetpgrp(terminal) == Ok(rustix::process::getpgrp())
}

/// What somebody may want to tell COMMAND, and tells us.
struct Heard {
    hang_up: unix::Signal,
    interrupt: unix::Signal,
    quit: unix::Signal,
    terminate: unix::Signal,
    user_1: unix::Signal,
    user_2: unix::Signal,
}

impl Heard {
    fn listen() -> io::Result<Self> {
        Ok(Heard {
            hang_up: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
            user_1: signal(SignalKind::user_defined1())?,
            user_2: signal(SignalKind::user_defined2())?,
        })
    }

    /// Safe to give up.
    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.hang_up.recv() => Signal::HUP,
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.quit.recv() => Signal::QUIT,
            _ = self.terminate.recv() => Signal::TERM,
            _ = self.user_1.recv() => Signal::USR1,
            _ = self.user_2.recv() => Signal::USR2,
        }
    }
}
