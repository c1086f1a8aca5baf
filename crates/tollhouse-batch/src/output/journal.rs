//! The two files of a run, written in whole lines.

use std::io;

use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::error::{Error, Unwritten};
use crate::output::record::Record;

/// What a buffer may keep once its lines are written.
const KEPT_BYTES: usize = 1024 * 1024;

/// The output and the errors. What finishes together is written together: one
/// write and one flush for each file.
///
/// Once a write has failed nothing more is written, since a half-written line
/// may stand at the end. Further lines are kept to be handed back.
#[derive(Debug)]
pub(crate) struct Journal<W, X> {
    output: Lane<W>,
    errors: Lane<X>,
    failed: Option<(&'static str, io::Error)>,
}

/// One file.
#[derive(Debug)]
struct Lane<W> {
    writer: W,
    /// Whole lines that are not known to be written.
    text: Vec<u8>,
    lines: u64,
}

impl<W, X> Journal<W, X>
where
    W: AsyncWrite + Unpin,
    X: AsyncWrite + Unpin,
{
    pub(crate) fn new(output: W, errors: X) -> Self {
        Self {
            output: Lane::new(output),
            errors: Lane::new(errors),
            failed: None,
        }
    }

    /// Puts a line down for the next [`commit`](Self::commit).
    pub(crate) fn push(&mut self, record: &Record) {
        if record.failure.is_some() {
            self.errors.push(&record.text);
        } else {
            self.output.push(&record.text);
        }
    }

    /// Writes what was put down; `false` when it cannot be written, now or
    /// since an earlier time.
    pub(crate) async fn commit(&mut self) -> bool {
        if self.failed.is_none() {
            self.failed = self.write().await.err();
        }
        self.failed.is_none()
    }

    async fn write(&mut self) -> Result<(), (&'static str, io::Error)> {
        let output = self.output.write().await;
        // Tried in any case: what can be saved is saved.
        let errors = self.errors.write().await;
        output.map_err(|error| ("the output", error))?;
        errors.map_err(|error| ("the errors", error))
    }

    /// The failure that happened, with all that is not written.
    pub(crate) fn into_failure(self) -> Option<Error> {
        let (what, source) = self.failed?;
        let mut text = self.output.text;
        let answers = text.len();
        text.extend_from_slice(&self.errors.text);
        let unwritten = Unwritten {
            lines: self.output.lines + self.errors.lines,
            text,
            answers,
        };
        Some(Error::write(what, unwritten, source))
    }
}

impl<W: AsyncWrite + Unpin> Lane<W> {
    fn new(writer: W) -> Self {
        Self {
            writer,
            text: Vec::new(),
            lines: 0,
        }
    }

    fn push(&mut self, line: &[u8]) {
        self.text.extend_from_slice(line);
        self.lines += 1;
    }

    async fn write(&mut self) -> io::Result<()> {
        if self.text.is_empty() {
            return Ok(());
        }
        self.writer.write_all(&self.text).await?;
        // Tokio's files report a failed write only now.
        self.writer.flush().await?;
        self.text.clear();
        self.text.shrink_to(KEPT_BYTES);
        self.lines = 0;
        Ok(())
    }
}
