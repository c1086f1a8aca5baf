//! What is said while a batch runs: of lines that are bad, and of requests
//! that fail.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use tollhouse_batch::Event;

use crate::progress::Screen;

/// Of each kind so many are said; the rest is counted in the summary.
const BAD_LINES: u64 = 100;
const FAILURES: u64 = 10;

/// Hears a batch's events.
#[derive(Debug)]
pub(super) struct Notes {
    screen: Screen,
    errors: PathBuf,
    bad_lines: AtomicU64,
    failures: AtomicU64,
}

impl Notes {
    pub(super) fn new(screen: Screen, errors: PathBuf) -> Self {
        Self {
            screen,
            errors,
            bad_lines: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
    }

    /// Says what is worth it.
    pub(super) fn hear(&self, event: &Event) {
        match event {
            Event::BadLine(bad) => match self.bad_lines.fetch_add(1, Ordering::Relaxed) {
                0..BAD_LINES => self.screen.note(&format!("bad {bad}")),
                BAD_LINES => self.screen.note("further bad lines are only counted"),
                _ => {}
            },
            Event::Failed {
                request,
                code,
                message,
                ..
            } => match self.failures.fetch_add(1, Ordering::Relaxed) {
                0..FAILURES => self.screen.remark(&format!(
                    "failed line {}, custom_id {:?}: {code}: {message}",
                    request.line, request.custom_id
                )),
                FAILURES => self.screen.remark(&format!(
                    "further failures are only written to {}",
                    self.errors.display()
                )),
                _ => {}
            },
            _ => {}
        }
    }
}
