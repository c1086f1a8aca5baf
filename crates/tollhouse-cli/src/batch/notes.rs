//! What is said while a batch runs: of lines that are bad, of requests that
//! fail, and of a provider that is away.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tollhouse_batch::Event;

use crate::print::Span;
use crate::progress::Screen;

/// Of each kind so many are said; the rest is counted in the summary.
const BAD_LINES: u64 = 100;
const FAILURES: u64 = 10;

/// Hears a batch's events.
#[derive(Debug)]
pub(super) struct Notes {
    screen: Screen,
    errors: PathBuf,
    base_url: String,
    bad_lines: AtomicU64,
    failures: AtomicU64,
    /// Whether the outage that lasts has been said.
    outage: AtomicBool,
}

impl Notes {
    pub(super) fn new(screen: Screen, errors: PathBuf, base_url: String) -> Self {
        Self {
            screen,
            errors,
            base_url,
            bad_lines: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            outage: AtomicBool::new(false),
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
            Event::Outage { reason, .. } if !self.outage.swap(true, Ordering::Relaxed) => {
                let base_url = &self.base_url;
                self.screen.remark(&format!(
                    "Waiting for {base_url}, and going on when it answers: {reason}"
                ));
            }
            Event::Recovered { lasted } => {
                self.outage.store(false, Ordering::Relaxed);
                let (base_url, lasted) = (&self.base_url, Span(*lasted));
                self.screen.remark(&format!(
                    "{base_url} answers again, after {lasted}; going on"
                ));
            }
            _ => {}
        }
    }
}
