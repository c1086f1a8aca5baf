//! COMMAND: what it finds in its environment, what it hears, and how it ends.

use std::ffi::{OsStr, OsString};
use std::future::pending;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::{io, thread};

use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::iterator::exfiltrator::origin::Origin;
use signal_hook::iterator::{Handle, SignalsInfo};
use tokio::process::Command;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::failure::{self, BoxError};
use crate::logging;
use crate::signals::is_ignored;

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
            let heard = tokio::select! {
                status = child.wait() => return Ok(code(status?)),
                heard = heard.next() => heard,
            };
            let signal = Signal::from_named_raw(heard.signal);
            if let (Some(pid), Some(signal)) = (pid, signal)
                && !has_heard_itself(&heard, pid)
            {
                let _ = kill_process(pid, signal);
            }
        }
    }

    fn ready(&self) -> Command {
        let program = self.command.first().map_or(OsStr::new(""), |it| it);
        let mut command = Command::new(program);
        command.args(self.command.iter().skip(1));
        command.envs(without_key(std::env::vars_os(), self.token));
        command.envs(past_proxies(|name| std::env::var_os(name)));
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

/// The lists of hosts that clients reach without an HTTP proxy. Which one is read where they
/// differ is each client's own matter.
const NO_PROXY: [&str; 2] = ["no_proxy", "NO_PROXY"];

/// What the door is called by.
const LOOPBACK: [&str; 2] = ["127.0.0.1", "localhost"];

/// Both lists with the door's host in them: an HTTP proxy of the machine's (`http_proxy`,
/// `ALL_PROXY`) does not reach it, and would see the token and all prompts.
///
/// They are made whether such a proxy is named or not: COMMAND may name one itself.
fn past_proxies(
    variable: impl Fn(&str) -> Option<OsString>,
) -> impl Iterator<Item = (&'static str, OsString)> {
    let lists = NO_PROXY.map(|name| variable(name).filter(|list| !list.is_empty()));
    let [lower, upper] = &lists;
    // Whoever reads one name first goes by the other where that one is not there; now that
    // both are, they must say the same.
    let lists = [
        lower.as_ref().or(upper.as_ref()),
        upper.as_ref().or(lower.as_ref()),
    ];
    let lists = lists.map(|list| with_loopback(list.map_or(OsStr::new(""), |it| it)));
    NO_PROXY.into_iter().zip(lists)
}

/// `*` names all hosts, but only where it stands alone.
fn with_loopback(list: &OsStr) -> OsString {
    let mut longer = list.as_bytes().to_vec();
    if longer == b"*" {
        return list.to_owned();
    }
    for host in LOOPBACK {
        // Some clients part hosts at spaces, too; others take what has one for a single name.
        let mut hosts = list.as_bytes().split(|byte| *byte == b',');
        if hosts.any(|it| it.trim_ascii().eq_ignore_ascii_case(host.as_bytes())) {
            continue;
        }
        if longer.last().is_some_and(|byte| *byte != b',') {
            longer.push(b',');
        }
        longer.extend_from_slice(host.as_bytes());
    }
    OsString::from_vec(longer)
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

/// Whether COMMAND has it already: what is typed in a terminal goes to all that run in its
/// foreground, and what COMMAND itself sends to its group it has sent to itself. Twice would be
/// once too often.
fn has_heard_itself(heard: &Origin, command: Pid) -> bool {
    match &heard.process {
        Some(process) => Pid::from_raw(process.pid) == Some(command),
        // Nobody else sends these without being a process.
        None => matches!(heard.signal, SIGINT | SIGQUIT),
    }
}

/// What somebody may want to tell COMMAND, and tells us.
const PASSED_ON: [i32; 6] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2];

/// Hears of them, with who sent them, until it is dropped.
struct Heard {
    origins: UnboundedReceiver<Origin>,
    listening: Handle,
}

impl Heard {
    /// What is ignored stays so, and is ignored by COMMAND: a program inherits that, where
    /// nobody has listened.
    fn listen() -> io::Result<Self> {
        let heard = PASSED_ON.into_iter().filter(|signal| !is_ignored(*signal));
        let mut signals = SignalsInfo::<WithOrigin>::new(heard)?;
        let listening = signals.handle();
        let (tells, origins) = unbounded_channel();
        let thread = thread::Builder::new().name("signals".to_owned());
        thread.spawn(move || {
            for origin in signals.forever() {
                // Nobody asks any more where all is over.
                let _ = tells.send(origin);
            }
        })?;
        Ok(Heard { origins, listening })
    }

    /// Safe to give up.
    async fn next(&mut self) -> Origin {
        match self.origins.recv().await {
            Some(origin) => origin,
            // The thread listens for as long as this is there.
            None => pending().await,
        }
    }
}

impl Drop for Heard {
    fn drop(&mut self) {
        self.listening.close();
    }
}
