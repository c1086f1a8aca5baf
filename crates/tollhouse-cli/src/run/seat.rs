//! A run's place among those that share a daemon.

use std::fs::File;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

use super::child::trimmed;
use super::daemon::own_program;
use super::home::{Home, Locked, Room, Sign};
use super::token::Secret;
use crate::failure::{self, BoxError};

/// A daemon that does not listen by then is no daemon.
const START: Duration = Duration::from_secs(10);

/// Before the next look at a daemon that ends.
const PAUSE: Duration = Duration::from_millis(25);

/// Which rules for rooms and tokens these are; another number is another daemon.
const RULES: &str = "1";

/// What a daemon goes by.
#[derive(Debug)]
pub(super) struct Recipe {
    /// The account, as it was described.
    pub(super) says: String,
    /// Without a slash at its end.
    pub(super) base_url: String,
    /// What stands in its environment, whatever stands in ours.
    pub(super) variables: Vec<(&'static str, String)>,
    pub(super) timeout: Option<Duration>,
}

/// As long as it is held, the daemon does not end, or is started again when it is needed.
pub(super) struct Seat {
    home: Home,
    room: Room,
    sign: Sign,
    secret: Secret,
    recipe: Recipe,
    /// Whether the daemon was gone when it was needed.
    was_gone: AtomicBool,
    _users: File,
}

impl Seat {
    /// Joins the account's daemon, and starts it where it is not there.
    ///
    /// # Errors
    ///
    /// It cannot be started, with what it said.
    pub(super) async fn take(home: Home, recipe: Recipe) -> Result<Self, BoxError> {
        let locked = locked(&home).await?;
        let room = home.room(&locked, &recipe.account())?;
        let seat = Seat {
            _users: room.enter()?,
            sign: room.sign()?,
            secret: room.secret()?,
            home,
            room,
            recipe,
            was_gone: AtomicBool::new(false),
        };
        seat.start_if_needed(locked).await?;
        Ok(seat)
    }

    pub(super) fn secret(&self) -> &Secret {
        &self.secret
    }

    /// Where the daemon listens, if it lives.
    pub(super) fn url(&self) -> Option<String> {
        Some(format!("http://127.0.0.1:{}", self.sign.port()?))
    }

    /// Whether the daemon was started again, which knows nothing of the calls before.
    pub(super) fn was_gone(&self) -> bool {
        self.was_gone.load(Ordering::Relaxed)
    }

    /// A connection to the daemon, which is started again where it was killed. One that is
    /// about to end is waited for: two at once would spend the account twice.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub(super) async fn connect(&self) -> Result<TcpStream, BoxError> {
        loop {
            let Some(port) = self.sign.port() else {
                self.was_gone.store(true, Ordering::Relaxed);
                let locked = locked(&self.home).await?;
                self.start_if_needed(locked).await?;
                continue;
            };
            match TcpStream::connect(("127.0.0.1", port)).await {
                Ok(socket) => return Ok(socket),
                Err(_) => sleep(PAUSE).await,
            }
        }
    }

    /// Nobody else starts one while `_locked` is held.
    async fn start_if_needed(&self, _locked: Locked) -> Result<(), BoxError> {
        match self.sign.port() {
            Some(_) => Ok(()),
            None => self.start().await,
        }
    }

    /// One that somebody else began to start, and did not live to see it listen, is joined.
    async fn start(&self) -> Result<(), BoxError> {
        let began = Instant::now();
        while self.sign.is_alive() {
            if self.sign.port().is_some() {
                return Ok(());
            }
            if began.elapsed() > START {
                return Err(failure::error("the daemon lives and does not listen"));
            }
            sleep(PAUSE).await;
        }
        let mut daemon = self.recipe.daemon()?;
        daemon.arg(self.room.path());
        daemon.stderr(self.room.prepare()?);
        let mut daemon = daemon
            .spawn()
            .map_err(|error| failure::because("cannot start the daemon", error))?;
        let said = daemon.stdout.take().expect("it is piped");
        let mut ready = String::new();
        // It says its port, or ends. One that said it did start, whatever became of it since:
        // whoever needs it starts it again.
        let read = timeout(START, BufReader::new(said).read_line(&mut ready)).await;
        match read {
            Ok(Ok(_)) if ready.ends_with('\n') => Ok(()),
            _ => {
                let _ = daemon.kill().await;
                let said = self.room.last_words();
                Err(failure::because("the daemon did not start", said))
            }
        }
    }
}

/// Waiting for others is no matter for the runtime's own threads.
async fn locked(home: &Home) -> Result<Locked, BoxError> {
    let home = home.clone();
    tokio::task::spawn_blocking(move || home.lock()).await?
}

impl Recipe {
    /// All that makes an account another one. Organisation and project are the clients' own
    /// headers, and choose whose limits hold.
    fn account(&self) -> Vec<u8> {
        let own = [
            "OPENAI_ORG_ID",
            "OPENAI_ORGANIZATION",
            "OPENAI_PROJECT_ID",
            "OPENAI_API_KEY",
        ];
        let own = own.map(|name| (name, std::env::var_os(name).unwrap_or_default()));
        let own = own.map(|(name, value)| (name, trimmed(&value).to_vec()));
        let given = [
            ("says", self.says.clone()),
            ("base URL", self.base_url.clone()),
            ("timeout", format!("{:?}", self.timeout)),
            ("rules", RULES.to_owned()),
        ];
        let given = given.map(|(name, value)| (name, value.into_bytes()));
        let mut all = Vec::new();
        for (name, value) in own.into_iter().chain(given) {
            // With their lengths, so that no two accounts are written alike.
            for part in [name.as_bytes(), &value] {
                all.extend_from_slice(&(part.len() as u64).to_be_bytes());
                all.extend_from_slice(part);
            }
        }
        all
    }

    fn daemon(&self) -> Result<Command, BoxError> {
        let mut daemon = Command::new(own_program()?);
        daemon.arg0("tollhouse").arg("daemon");
        if let Some(timeout) = self.timeout {
            let seconds = timeout.as_secs_f64().to_string();
            daemon.args(["--timeout-seconds", &seconds]);
        }
        daemon.envs(self.variables.iter().map(|(name, value)| (name, value)));
        // It keeps no directory of ours busy.
        daemon.current_dir("/");
        daemon.stdin(Stdio::null()).stdout(Stdio::piped());
        Ok(daemon)
    }
}
