//! What can end a run.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::format::Counted;
use crate::summary::Summary;

/// Why a run could not go on: its input could not be read, or its output could
/// not be written.
///
/// A line that is bad or a request that fails ends no run and is no `Error`.
/// `Display` is one line; [`source`](StdError::source) has the system's reason.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tollhouse_batch::Batch;
/// # let service = tower::service_fn(async |_: http::Request<bytes::Bytes>| {
/// #     let body = http_body_util::Full::new(bytes::Bytes::from("{}"));
/// #     Ok::<_, std::io::Error>(http::Response::new(body))
/// # });
///
/// // A gzip file that was cut off after its first two bytes.
/// let input: &[u8] = &[0x1f, 0x8b];
/// let run = Batch::new(service).run(input, Vec::new(), Vec::new());
/// let error = run.await.unwrap_err();
/// assert_eq!(error.to_string(), "cannot read the input at line 1");
/// assert!(!error.is_write());
/// assert_eq!(error.summary().unwrap().total, 0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Error {
    inner: Box<Inner>,
}

#[derive(Debug)]
struct Inner {
    kind: Kind,
    path: Option<PathBuf>,
    source: Option<io::Error>,
    summary: Option<Summary>,
}

#[derive(Debug)]
enum Kind {
    Open,
    InUse,
    Repair,
    NotOutput {
        line: u64,
    },
    Read {
        what: &'static str,
        line: u64,
    },
    Write {
        what: &'static str,
        unwritten: Unwritten,
    },
}

/// Answers that could not be written, in whole lines.
#[derive(Debug, Default)]
pub(crate) struct Unwritten {
    pub(crate) lines: u64,
    /// The answers, and after them the failures.
    pub(crate) text: Vec<u8>,
    /// How much of it are answers.
    pub(crate) answers: usize,
}

impl Error {
    pub(crate) fn open(source: io::Error) -> Self {
        Self::new(Kind::Open, Some(source))
    }

    pub(crate) fn in_use() -> Self {
        Self::new(Kind::InUse, None)
    }

    pub(crate) fn repair(source: io::Error) -> Self {
        Self::new(Kind::Repair, Some(source))
    }

    pub(crate) fn not_output(line: u64) -> Self {
        Self::new(Kind::NotOutput { line }, None)
    }

    pub(crate) fn read(what: &'static str, line: u64, source: io::Error) -> Self {
        Self::new(Kind::Read { what, line }, Some(source))
    }

    pub(crate) fn write(what: &'static str, unwritten: Unwritten, source: io::Error) -> Self {
        Self::new(Kind::Write { what, unwritten }, Some(source))
    }

    fn new(kind: Kind, source: Option<io::Error>) -> Self {
        Self {
            inner: Box::new(Inner {
                kind,
                path: None,
                source,
                summary: None,
            }),
        }
    }

    pub(crate) fn at(mut self, path: &Path) -> Self {
        self.inner.path = Some(path.to_owned());
        self
    }

    pub(crate) fn after(mut self, summary: Summary) -> Self {
        self.inner.summary = Some(summary);
        self
    }

    /// Whether the output or the errors could not be written.
    pub fn is_write(&self) -> bool {
        matches!(self.inner.kind, Kind::Write { .. })
    }

    /// The answers that arrived and could not be written: whole lines, to be
    /// put somewhere else. Empty unless [`is_write`](Self::is_write).
    ///
    /// A writer that fails in the middle does not say how far it came, so the
    /// first of these lines may also stand in the output.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use tollhouse_batch::Batch;
    /// # let service = tower::service_fn(async |_: http::Request<bytes::Bytes>| {
    /// #     let body = http_body_util::Full::new(bytes::Bytes::from("{}"));
    /// #     Ok::<_, std::io::Error>(http::Response::new(body))
    /// # });
    ///
    /// // A pipe whose other end is gone.
    /// let (output, _) = tokio::io::duplex(1);
    /// let input = r#"{"model":"gpt-4o","messages":[]}"#;
    /// let run = Batch::new(service).run(input.as_bytes(), output, Vec::new());
    /// let error = run.await.unwrap_err();
    /// assert!(error.is_write());
    ///
    /// let mut rescued = Vec::new();
    /// rescued.extend_from_slice(error.unwritten());
    /// assert!(String::from_utf8(rescued)?.contains(r#""custom_id":"line-1""#));
    /// # Ok(())
    /// # }
    /// ```
    pub fn unwritten(&self) -> &[u8] {
        match &self.inner.kind {
            Kind::Write { unwritten, .. } => &unwritten.text,
            _ => &[],
        }
    }

    /// Of [`unwritten`](Self::unwritten), the lines that were meant for the output.
    /// A part of the first may be in it already.
    pub fn unwritten_answers(&self) -> &[u8] {
        match &self.inner.kind {
            Kind::Write { unwritten, .. } => &unwritten.text[..unwritten.answers],
            _ => &[],
        }
    }

    /// Of [`unwritten`](Self::unwritten), the lines that were meant for the errors.
    pub fn unwritten_failures(&self) -> &[u8] {
        match &self.inner.kind {
            Kind::Write { unwritten, .. } => &unwritten.text[unwritten.answers..],
            _ => &[],
        }
    }

    /// What the run had done until then; `None` where no run had begun.
    pub fn summary(&self) -> Option<&Summary> {
        self.inner.summary.as_ref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.inner.path {
            write!(f, "{}: ", path.display())?;
        }
        match &self.inner.kind {
            Kind::Open => write!(f, "cannot be opened for appending"),
            Kind::InUse => write!(
                f,
                "another run is writing to it; wait for its end, or choose another file"
            ),
            Kind::Repair => write!(f, "its half-written last line cannot be repaired"),
            Kind::NotOutput { line } => write!(
                f,
                "line {line} is not an answer of a batch, so nothing is written here; \
                 choose another file"
            ),
            Kind::Read { what, line } => write!(f, "cannot read {what} at line {line}"),
            Kind::Write { what, unwritten } => {
                let answers = Counted(unwritten.lines, "answer");
                write!(f, "cannot write {what}; {answers} not saved")
            }
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        let source = self.inner.source.as_ref();
        source.map(|source| source as _)
    }
}
