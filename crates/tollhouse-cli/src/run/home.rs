//! Where this user's daemons are found.
//!
//! ```text
//! tollhouse/        0700, in XDG_RUNTIME_DIR or else in the state directory
//!   lock            held by whoever starts or ends a daemon; its bytes key the names of rooms
//!   0f3a9c.../      0700: a room, for one account
//!     users         held, shared, by each run for as long as it lives
//!     daemon        held by the daemon for as long as it lives; its port and process
//!     token         0600: what the daemon believes
//!     log           what it said
//! ```
//!
//! The locks are the kernel's: whoever dies, in whatever way, has let go. Rooms are made and
//! removed under `lock` alone, so that nobody holds on to a file that is gone. But a login that
//! ends takes all of XDG_RUNTIME_DIR away, and runs may outlive it: so each keeps open what it
//! looks at.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ring::hmac;

use super::token::{Secret, hex, random};
use crate::failure::{self, BoxError};

/// All rooms of this user.
#[derive(Clone, Debug)]
pub(super) struct Home {
    path: PathBuf,
}

/// Nobody else starts or ends a daemon until this is dropped.
#[derive(Debug)]
pub(super) struct Locked {
    _file: File,
    key: String,
}

/// The files of one daemon.
#[derive(Clone, Debug)]
pub(super) struct Room {
    path: PathBuf,
}

/// What a daemon holds and says, as others see it.
#[derive(Debug)]
pub(super) struct Sign {
    file: File,
}

/// What says that the daemon lives, until it is dropped.
#[derive(Debug)]
pub(super) struct Alive {
    file: File,
}

impl Home {
    /// # Errors
    ///
    /// There is no place for it, or others may write there.
    pub(super) fn open() -> Result<Self, BoxError> {
        let path = place().ok_or_else(|| {
            failure::error("neither XDG_RUNTIME_DIR nor HOME is a directory of this user's")
        })?;
        let home = Home {
            path: path.join("tollhouse"),
        };
        private(&home.path)
            .map_err(|error| failure::because(home.path.display().to_string(), error))?;
        Ok(home)
    }

    /// That of a room of this user's.
    pub(super) fn of(room: &Room) -> Option<Self> {
        let path = room.path.parent()?.to_owned();
        Some(Home { path })
    }

    /// Waits until nobody else starts or ends a daemon.
    pub(super) fn lock(&self) -> Result<Locked, BoxError> {
        let path = self.path.join("lock");
        let file = ours(&path);
        let mut file = file.map_err(|error| failure::because(path.display().to_string(), error))?;
        file.lock()?;
        let key = drawn(&mut file)?;
        Ok(Locked { _file: file, key })
    }

    /// The room of the account that this describes, made where it is not there.
    pub(super) fn room(&self, locked: &Locked, account: &[u8]) -> Result<Room, BoxError> {
        let room = Room {
            path: self.path.join(locked.name(account)),
        };
        private(&room.path)?;
        drawn(&mut ours(&room.path.join("token"))?)?;
        Ok(room)
    }

    /// Those that are there.
    pub(super) fn rooms(&self) -> impl Iterator<Item = Room> + use<> {
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        let rooms = entries.map(|entry| Room { path: entry.path() });
        rooms.filter(|room| room.path.is_dir())
    }

    /// Removes rooms that have neither users nor a daemon: those of daemons that were killed.
    pub(super) fn sweep(&self) {
        // What cannot be removed now is removed by somebody else.
        let Ok(_locked) = self.lock() else {
            return;
        };
        for room in self.rooms() {
            let is_dead = room.sign().is_ok_and(|sign| !sign.is_alive());
            if is_dead && room.users().is_ok_and(|users| nobody_holds(&users)) {
                let _ = fs::remove_dir_all(&room.path);
            }
        }
    }
}

impl Locked {
    /// A keyed hash: what it was made from cannot be found by trying.
    fn name(&self, account: &[u8]) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.key.as_bytes());
        hex(&hmac::sign(&key, account).as_ref()[..16])
    }
}

impl Room {
    pub(super) fn at(path: PathBuf) -> Self {
        Room { path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn secret(&self) -> io::Result<Secret> {
        Ok(Secret::new(&fs::read_to_string(self.path.join("token"))?))
    }

    /// As long as this is held, the daemon does not end.
    pub(super) fn enter(&self) -> io::Result<File> {
        let users = self.users()?;
        users.lock_shared()?;
        Ok(users)
    }

    /// What its runs hold.
    pub(super) fn users(&self) -> io::Result<File> {
        ours(&self.path.join("users"))
    }

    /// What tells of its daemon, of this one and the next.
    pub(super) fn sign(&self) -> io::Result<Sign> {
        let file = ours(&self.path.join("daemon"))?;
        Ok(Sign { file })
    }

    /// What the next daemon says, beginning anew; the port of the last one is forgotten.
    pub(super) fn prepare(&self) -> io::Result<File> {
        ours(&self.path.join("daemon"))?.set_len(0)?;
        let log = ours(&self.path.join("log"))?;
        log.set_len(0)?;
        Ok(log)
    }

    /// What the last daemon said last.
    pub(super) fn last_words(&self) -> String {
        let log = fs::read_to_string(self.path.join("log")).unwrap_or_default();
        let last = log.lines().rfind(|line| !line.trim().is_empty());
        last.unwrap_or("it said nothing").trim().to_owned()
    }

    /// Says that a daemon lives. Who asks at this moment is waited for.
    pub(super) fn live(&self) -> io::Result<Alive> {
        let file = ours(&self.path.join("daemon"))?;
        file.lock()?;
        Ok(Alive { file })
    }

    /// Removes the room, if no run holds its `users` any more; whoever comes then makes another.
    pub(super) fn remove_if_empty(&self, users: &File) -> bool {
        // Most of the time this is all that is looked at.
        if !nobody_holds(users) {
            return false;
        }
        let Some(home) = Home::of(self) else {
            return false;
        };
        let Ok(_locked) = home.lock() else {
            // Where somebody has removed all of it, nobody comes any more.
            return !home.path.exists();
        };
        let is_empty = nobody_holds(users);
        if is_empty && self.has(users) {
            let _ = fs::remove_dir_all(&self.path);
        }
        is_empty
    }

    /// Whether these are still its users, and not those of a later room in its place.
    fn has(&self, users: &File) -> bool {
        let found = fs::metadata(self.path.join("users"));
        let identity = |file: fs::Metadata| (file.dev(), file.ino());
        match (found.map(identity), users.metadata().map(identity)) {
            (Ok(found), Ok(users)) => found == users,
            _ => false,
        }
    }
}

impl Sign {
    /// Whether the daemon lives, whether it listens yet or not.
    pub(super) fn is_alive(&self) -> bool {
        let locked = self.file.try_lock_shared();
        let _ = self.file.unlock();
        matches!(locked, Err(TryLockError::WouldBlock))
    }

    /// Where the daemon listens, if it lives and does.
    pub(super) fn port(&self) -> Option<u16> {
        if !self.is_alive() {
            return None;
        }
        let mut said = [0; 32];
        let length = self.file.read_at(&mut said, 0).ok()?;
        let said = std::str::from_utf8(&said[..length]).ok()?;
        said.split_whitespace().next()?.parse().ok()
    }
}

impl Alive {
    /// Says where the daemon listens.
    pub(super) fn listens_at(&mut self, port: u16) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        write!(self.file, "{port} {}", std::process::id())
    }
}

/// What a file says that nobody can guess; drawn where nobody has done it to its end.
fn drawn(file: &mut File) -> Result<String, BoxError> {
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    if text.len() != 64 {
        text = hex(&random::<32>()?);
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(text.as_bytes())?;
    }
    Ok(text)
}

/// What lasts as long as this user is here; else what stays. A path that is not absolute is
/// ignored, as XDG has it: the daemon's directory is another one.
fn place() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|path| Path::new(path).is_absolute());
    let is_ours = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|found| found.is_dir() && found.uid() == uid())
    };
    let runtime = set("XDG_RUNTIME_DIR").map(PathBuf::from).filter(is_ours);
    runtime.or_else(|| {
        let state = set("XDG_STATE_HOME").map(PathBuf::from);
        state.or_else(|| Some(PathBuf::from(set("HOME")?).join(".local/state")))
    })
}

/// Makes a directory that is this user's alone; one that is not is refused.
fn private(path: &Path) -> Result<(), BoxError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made?;
    let found = fs::symlink_metadata(path)?;
    match found.is_dir() && found.uid() == uid() && found.mode() & 0o077 == 0 {
        true => Ok(()),
        false => Err(failure::error(
            "it is not a directory of this user's alone (0700)",
        )),
    }
}

fn ours(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.mode(0o600).open(path)
}

/// Whether no run is in the room of these users.
fn nobody_holds(users: &File) -> bool {
    let is_free = users.try_lock().is_ok();
    let _ = users.unlock();
    is_free
}

fn uid() -> u32 {
    rustix::process::geteuid().as_raw()
}
