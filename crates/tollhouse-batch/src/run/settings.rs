//! The numbers of a run, and their defaults.

use tokio::time::{Duration, Instant};

use crate::input::MAX_LINE_BYTES;
use crate::money::Money;
use crate::run::health::Patience;

const LOOK_AHEAD: usize = 64;
const LOOK_AHEAD_BYTES: usize = 64 * 1024 * 1024;
/// The answer to an embeddings request of 2,048 texts takes about 70 MB.
const MAX_BODY_BYTES: usize = 128 * 1024 * 1024;
const ANSWER_BYTES: usize = 256 * 1024 * 1024;
const ATTEMPTS: u32 = 5;
const FIRST_ANSWER: Duration = Duration::from_secs(60);

/// The numbers of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) look_ahead: usize,
    pub(crate) look_ahead_bytes: usize,
    pub(crate) max_line_bytes: usize,
    pub(crate) max_body_bytes: usize,
    pub(crate) withdraw_unsent: bool,
    pub(crate) ordered: bool,
    pub(crate) answer_bytes: usize,
    pub(crate) attempts: u32,
    pub(crate) patience: Patience,
    pub(crate) max_failures: Option<f64>,
    pub(crate) deadline: Option<Instant>,
    pub(crate) cost_limit: Option<Money>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            look_ahead: LOOK_AHEAD,
            look_ahead_bytes: LOOK_AHEAD_BYTES,
            max_line_bytes: MAX_LINE_BYTES,
            max_body_bytes: MAX_BODY_BYTES,
            withdraw_unsent: false,
            ordered: false,
            answer_bytes: ANSWER_BYTES,
            attempts: ATTEMPTS,
            patience: Patience {
                outage: None,
                first_answer: FIRST_ANSWER,
            },
            max_failures: None,
            deadline: None,
            cost_limit: None,
        }
    }
}
