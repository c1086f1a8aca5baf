//! An account goes by its file while that changes.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::sleep;
use tollhouse_openai::{Account, AccountConfig};
use tracing::Level;

use crate::failure::BoxError;
use crate::logging;
use crate::policy_args::PolicyArgs;

/// Between two looks at the file.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Whoever has written nothing for so long has written it to its end.
const AT_REST: Duration = Duration::from_millis(100);

/// A file that an account goes by.
pub(crate) struct Followed {
    path: PathBuf,
    seen: Contents,
    hang_up: HangUp,
}

/// What a file says; nothing where there is none at the moment. Neither its size nor its time
/// tells a change: who copies a file may keep both.
type Contents = Option<Vec<u8>>;

impl Followed {
    /// Follows the file, if there is one, from how it is now; to be made before it is
    /// read. From then on the signal to hang up ends the process no more.
    pub(crate) fn new(path: Option<PathBuf>) -> io::Result<Option<Self>> {
        let followed = |path: PathBuf| {
            Ok(Self {
                seen: contents(&path),
                hang_up: HangUp::listen()?,
                path,
            })
        };
        path.map(followed).transpose()
    }

    /// Waits until the file says something else, or somebody says that it does.
    async fn changed(&mut self) {
        loop {
            tokio::select! {
                () = self.hang_up.next() => {
                    self.seen = contents(&self.path);
                    return;
                }
                () = sleep(LOOK_EVERY) => {}
            }
            if !self.is_another(&contents(&self.path)) {
                continue;
            }
            let now = self.at_rest().await;
            if self.is_another(&now) {
                self.seen = now;
                return;
            }
        }
    }

    /// A file that is away may be on its way.
    fn is_another(&self, now: &Contents) -> bool {
        now.is_some() && *now != self.seen
    }

    /// What the file says once nobody writes it any more: the half of a file is an account, too.
    async fn at_rest(&self) -> Contents {
        let mut now = contents(&self.path);
        loop {
            sleep(AT_REST).await;
            let next = contents(&self.path);
            if next == now {
                return now;
            }
            now = next;
        }
    }
}

/// Has an account go by its file, as `read` reads it with whatever lies over it, until
/// this is dropped. `tell` hears what became of each change, `changed` that there was one.
/// A file that is wrong changes nothing.
pub(crate) async fn follow(
    followed: Option<Followed>,
    account: &Account,
    read: impl Fn() -> Result<AccountConfig, BoxError>,
    tell: impl Fn(Level, &str),
    changed: impl Fn(),
) -> Infallible {
    let Some(mut followed) = followed else {
        return pending().await;
    };
    loop {
        followed.changed().await;
        let file = followed.path.display();
        let config = read();
        let changes = config.and_then(|config| {
            let changes = account.update(|old| {
                // Read once, at the start.
                let shared = old.shared.clone();
                old.clone_from(&config);
                old.shared = shared;
            });
            changes.map_err(Into::into)
        });
        match changes {
            Ok(changes) if changes.is_empty() => {
                tell(Level::INFO, &format!("{file} says what it said"))
            }
            Ok(changes) => {
                changed();
                let changes = changes.to_string().replace('\n', "\n  ");
                tell(Level::INFO, &format!("{file} was read again:\n  {changes}"));
            }
            Err(error) => tell(Level::WARN, &format!("The account is as it was: {error}")),
        }
    }
}

/// What a server goes by, which says on stderr what becomes of it.
pub(crate) enum Heard {
    File(Followed),
    /// It is asked to read its file again, and has none: that is no reason to end.
    NoFile(HangUp),
}

impl Heard {
    /// To be made before the file is read. From then on the signal to hang up ends the process
    /// no more.
    pub(crate) fn new(path: Option<PathBuf>) -> io::Result<Self> {
        Ok(match Followed::new(path)? {
            Some(followed) => Heard::File(followed),
            None => Heard::NoFile(HangUp::listen()?),
        })
    }

    /// As [`follow`] does.
    pub(crate) async fn follow(self, account: &Account, policy: &PolicyArgs) -> Infallible {
        let tell = |level, told: &str| logging::tell(level, told);
        match self {
            Heard::File(file) => {
                follow(Some(file), account, || policy.account(), tell, || {}).await
            }
            Heard::NoFile(mut hang_up) => loop {
                hang_up.next().await;
                tell(
                    Level::WARN,
                    "There is no file to be read again: --config names one",
                );
            },
        }
    }
}

/// What can be read only once is not read here.
fn contents(path: &Path) -> Contents {
    let is_file = std::fs::metadata(path).is_ok_and(|found| found.is_file());
    is_file.then(|| std::fs::read(path).ok()).flatten()
}

/// The signal to hang up.
pub(crate) struct HangUp {
    #[cfg(unix)]
    signal: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl HangUp {
    fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let signal = signal(SignalKind::hangup())?;
        Ok(Self { signal })
    }

    async fn next(&mut self) {
        if self.signal.recv().await.is_none() {
            pending().await
        }
    }
}

#[cfg(not(unix))]
impl HangUp {
    fn listen() -> io::Result<Self> {
        Ok(Self {})
    }

    async fn next(&mut self) {
        pending().await
    }
}
