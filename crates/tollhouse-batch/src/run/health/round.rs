use http::StatusCode;
use tokio::time::Instant;

/// What came of a request from its being handed out to its coming back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Round {
    pub(crate) attempts: u32,
    /// When the first of them left.
    pub(crate) first: Instant,
    /// When the last of them left.
    pub(crate) last: Instant,
    /// What the last of them drew; `None` where no answer came.
    pub(crate) status: Option<StatusCode>,
}
