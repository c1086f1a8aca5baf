use std::time::Duration;

use tokio::sync::Semaphore;

/// Longer than anything is waited for, and short enough to be added to an instant.
const CENTURY: Duration = Duration::from_secs(100 * 366 * 86_400);

/// What clients may make a proxy hold, and how long they may take.
///
/// # Examples
///
/// ```
/// use tollhouse_proxy::Bounds;
///
/// let mut bounds = Bounds::default();
/// bounds.body_bytes = 1024 * 1024;
/// assert_eq!(bounds.head_bytes, 65_536);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bounds {
    /// The longest head of a request, in bytes; 64 KiB by default.
    pub head_bytes: usize,
    /// The longest body that is read, in bytes; 32 MiB by default.
    pub body_bytes: usize,
    /// The longest upload, in bytes; 1 GiB by default. It is passed on as it comes.
    pub upload_bytes: usize,
    /// What all calls together may hold of bodies, in bytes; 512 MiB by default.
    pub held_bytes: usize,
    /// Connections at once; 16,384 by default. Further ones wait to be accepted.
    pub connections: usize,
    /// Calls at once over one connection of HTTP/2; 256 by default.
    pub streams: u32,
    /// How long a head may take, and a connection be idle before the next; 75 s by
    /// default.
    pub head_time: Duration,
    /// The longest pause between two pieces of a request's body; 30 s by default.
    pub body_idle: Duration,
    /// How long a client may read nothing of what is ready for it; 5 minutes by
    /// default. Over HTTP/2 each answer has this time of its own.
    pub write_time: Duration,
    /// Accounts at once where clients bring their own keys; 100 by default.
    pub accounts: usize,
}

impl Bounds {
    /// The first of them that is 0 where nothing could be served by that. An upload may
    /// well be none at all.
    pub(crate) fn none_at_all(&self) -> Option<&'static str> {
        let bounds = [
            ("head_bytes", self.head_bytes == 0),
            ("body_bytes", self.body_bytes == 0),
            ("held_bytes", self.held_bytes == 0),
            ("connections", self.connections == 0),
            ("streams", self.streams == 0),
            ("head_time", self.head_time.is_zero()),
            ("body_idle", self.body_idle.is_zero()),
            ("write_time", self.write_time.is_zero()),
            ("accounts", self.accounts == 0),
        ];
        let none = bounds.into_iter().find(|(_, is_none)| *is_none);
        none.map(|(name, _)| name)
    }

    /// The same where none is greater than what can be reckoned with. Nobody comes near that.
    pub(crate) fn within_reason(self) -> Self {
        Bounds {
            connections: self.connections.min(Semaphore::MAX_PERMITS),
            head_time: self.head_time.min(CENTURY),
            body_idle: self.body_idle.min(CENTURY),
            write_time: self.write_time.min(CENTURY),
            ..self
        }
    }
}

impl Default for Bounds {
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        Bounds {
            head_bytes: 64 * 1024,
            body_bytes: 32 * MIB,
            upload_bytes: 1024 * MIB,
            held_bytes: 512 * MIB,
            connections: 16_384,
            streams: 256,
            head_time: Duration::from_secs(75),
            body_idle: Duration::from_secs(30),
            write_time: Duration::from_secs(300),
            accounts: 100,
        }
    }
}
