//! What earlier runs have answered, read from the files they left.

use std::fmt;
use std::fs::TryLockError;
use std::path::Path;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncRead, AsyncWriteExt};

use crate::error::Error;
use crate::input::Changed;
use crate::input::ids::{Ids, Seen};
use crate::input::lines::{Lines, RawLine};
use crate::output::record::LINE_START;

/// Longer than any line a run writes: answers are bounded, too.
const MAX_ANSWER_BYTES: usize = 1 << 30;

/// The requests that earlier runs have answered, which need not be sent again.
///
/// Read from the output (and the errors, unless the failed ones are to be sent
/// again), then given to [`Batch::resume`](crate::Batch::resume). About 20 MB
/// for a million requests.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tollhouse_batch::Error> {
/// use tollhouse_batch::{Done, Tail};
///
/// // The run that wrote this was killed while it wrote its second line.
/// let output = concat!(
///     r#"{"id":"batch_req_1","custom_id":"a","response":{"body":{}},"error":null}"#,
///     "\n",
///     r#"{"id":"batch_req_2","custom_"#,
/// );
/// let mut done = Done::new();
/// let tail = done.read(output.as_bytes()).await?;
/// assert_eq!(done.len(), 1);
/// assert_eq!(tail, Tail::Torn { whole_bytes: 73 });
/// # Ok(())
/// # }
/// ```
///
/// # Cloning
///
/// A clone is independent.
#[derive(Clone, Default)]
pub struct Done {
    ids: Ids,
    changed: Changed,
}

/// How an output file ends.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tollhouse_batch::{Done, Tail};
///
/// let mut output =
///     Vec::from(r#"{"id":"batch_req_1","custom_id":"a","response":{"body":{}},"error":null}"#);
/// match Done::new().read(&*output).await? {
///     Tail::Whole => {}
///     Tail::Unended => output.push(b'\n'),
///     Tail::Torn { whole_bytes } => output.truncate(whole_bytes as usize),
/// }
/// assert_eq!(Done::new().read(&*output).await?, Tail::Whole);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// With a whole line, or it is empty.
    Whole,
    /// With a whole line that only lacks its line feed. It counts as answered;
    /// the line feed must be added before more is written.
    Unended,
    /// With a half-written line, which must be cut off before more is written.
    Torn {
        /// The length in bytes to cut to.
        whole_bytes: u64,
    },
}

/// What must stand in a line of output.
#[derive(Deserialize)]
struct Answered<'a> {
    #[serde(borrow)]
    custom_id: std::borrow::Cow<'a, str>,
    // Said like this, a field that is not there is an error.
    #[serde(deserialize_with = "Option::deserialize")]
    response: Option<Answer>,
    #[serde(deserialize_with = "Option::deserialize")]
    error: Option<IgnoredAny>,
    /// Other programs write none.
    #[serde(borrow)]
    tollhouse: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Answer {
    /// Whatever other programs make of it.
    #[serde(default)]
    status_code: Value,
}

impl Answered<'_> {
    /// Whether it is one of the errors.
    fn is_failure(&self) -> bool {
        let status = self.response.as_ref();
        let status = status.and_then(|answer| answer.status_code.as_u64());
        self.error.is_some() || status.is_some_and(|status| !(200..300).contains(&status))
    }

    /// The hash of the request, where the line tells it.
    fn request_hash(&self) -> Option<u64> {
        #[derive(Deserialize)]
        struct Told<'a> {
            #[serde(borrow)]
            request_hash: &'a str,
        }
        let told: Told<'_> = serde_json::from_str(self.tollhouse?.get()).ok()?;
        u64::from_str_radix(told.request_hash, 16).ok()
    }
}

impl Done {
    /// Nothing yet.
    ///
    /// # Examples
    ///
    /// Output and errors together tell what was answered; without the errors, what
    /// failed is sent again:
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use tollhouse_batch::Done;
    ///
    /// let output = r#"{"id":"batch_req_1","custom_id":"a","response":{},"error":null}"#;
    /// let errors = r#"{"id":"batch_req_2","custom_id":"b","response":null,"error":{}}"#;
    /// let mut done = Done::new();
    /// assert!(done.is_empty());
    /// done.read(output.as_bytes()).await?;
    /// done.read(errors.as_bytes()).await?;
    /// assert_eq!(done.len(), 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// What becomes of a line that has the `custom_id` of an answer and was changed
    /// since: another body, or another url. Answers tell a hash of what was asked;
    /// those that do not, of an earlier version or another program, count for
    /// whatever the line asks now. Default: [`Changed::Refuse`].
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use tollhouse_batch::{Batch, Changed, Done};
    /// # let service = tower::service_fn(async |_: http::Request<bytes::Bytes>| {
    /// #     let body = http_body_util::Full::new(bytes::Bytes::from("{}"));
    /// #     Ok::<_, std::io::Error>(http::Response::new(body))
    /// # });
    ///
    /// let mut output = Vec::new();
    /// let first = r#"{"model":"gpt-4o","input":"Tell me of a bird"}"#;
    /// let run = Batch::new(service).run(first.as_bytes(), &mut output, Vec::new());
    /// assert_eq!(run.await?.ok, 1);
    ///
    /// let mut done = Done::new();
    /// done.read(&*output).await?;
    /// let edited = r#"{"model":"gpt-4o","input":"Tell me of two birds"}"#;
    /// for (changed, counts) in [
    ///     (Changed::Refuse, (0, 0, 1)),
    ///     (Changed::Send, (1, 0, 0)),
    ///     (Changed::Keep, (0, 1, 0)),
    /// ] {
    ///     let batch = Batch::new(service).resume(done.clone().changed(changed));
    ///     let run = batch.run(edited.as_bytes(), Vec::new(), Vec::new());
    ///     let summary = run.await?;
    ///     assert_eq!((summary.ok, summary.skipped, summary.bad_lines), counts);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn changed(mut self, changed: Changed) -> Self {
        self.changed = changed;
        self
    }

    /// For whoever reads lines by it.
    pub(crate) fn into_parts(self) -> (Ids, Changed) {
        (self.ids, self.changed)
    }

    /// Whether a request still has to be sent. Remembers it, as the one of `line`.
    pub(crate) fn is_to_do(&mut self, custom_id: &str, line: u64, hash: u64) -> bool {
        match self.ids.meet(custom_id, line, hash) {
            Seen::New => true,
            Seen::Changed { .. } => self.changed == Changed::Send,
            Seen::Answered { .. } | Seen::Before { .. } => false,
        }
    }

    /// The number of requests that are known to be answered.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether nothing was answered yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a line of output says what is known: the last answer of this id, or its last
    /// failure, is to the same request.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use tollhouse_batch::Done;
    ///
    /// let [old, new] = ["0a", "0b"].map(|hash| {
    ///     let told = format!(r#""tollhouse":{{"request_hash":"{hash}"}}"#);
    ///     format!(r#"{{"id":"batch_req_1","custom_id":"a","response":{{}},"error":null,{told}}}"#)
    /// });
    /// let mut done = Done::new();
    /// done.read(old.as_bytes()).await?;
    /// assert!(done.knows(old.as_bytes()));
    /// assert!(!done.knows(new.as_bytes()));
    /// # Ok(())
    /// # }
    /// ```
    pub fn knows(&self, line: &[u8]) -> bool {
        serde_json::from_slice::<Answered<'_>>(line).is_ok_and(|answered| {
            let request = answered.request_hash();
            let failed = answered.is_failure();
            self.ids.has(&answered.custom_id, request, failed)
        })
    }

    /// Reads what an earlier run has written and says how it ends.
    ///
    /// # Errors
    ///
    /// [`Error`] when it cannot be read, or holds a line that no run would
    /// write: then it is some other file, and must not be written to.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use tollhouse_batch::{Done, Tail};
    ///
    /// let mut done = Done::new();
    /// let output = r#"{"id":"batch_req_1","custom_id":"a","response":{},"error":null}"#;
    /// assert_eq!(done.read(output.as_bytes()).await?, Tail::Unended);
    ///
    /// // The input, given in the place of the output.
    /// let input = r#"{"custom_id":"a","method":"POST","url":"/v1/responses","body":{}}"#;
    /// let refused = done.read(input.as_bytes()).await.unwrap_err();
    /// assert!(
    ///     refused
    ///         .to_string()
    ///         .starts_with("line 1 is not an answer of a batch")
    /// );
    /// # Ok(())
    /// # }
    /// ```
    pub async fn read<R: AsyncRead + Unpin>(&mut self, output: R) -> Result<Tail, Error> {
        let mut lines = Lines::new(output, MAX_ANSWER_BYTES);
        let mut tail = Tail::Whole;
        loop {
            let number = lines.number();
            let line = lines.next().await;
            let Some(line) = line.map_err(|source| Error::read("the output", number, source))?
            else {
                return Ok(tail);
            };
            tail = self.learn(&line)?;
        }
    }

    /// Opens the output of an earlier run for more, or creates it: learns what
    /// it answers and repairs its end. Everything is written at the end.
    ///
    /// The file is locked until it is closed, so that no two runs write to it at
    /// once; the system unlocks it for a process that is killed. What is not a
    /// regular file (a pipe, a device) is only opened.
    ///
    /// # Errors
    ///
    /// [`Error`] naming `path` when the file cannot be opened, read or
    /// repaired, is open for another run, or is not the output of a run.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let name = format!("tollhouse-batch-open-{}.jsonl", std::process::id());
    /// # let path = std::env::temp_dir().join(name);
    /// use tollhouse_batch::Done;
    ///
    /// // The run was killed while it wrote its second line.
    /// let whole = r#"{"id":"batch_req_1","custom_id":"a","response":{},"error":null}"#;
    /// std::fs::write(&path, format!("{whole}\n{{\"id\":\"batch_req_2\",\"cust"))?;
    ///
    /// let mut done = Done::new();
    /// let output = done.open(&path).await?;
    /// assert_eq!(done.len(), 1);
    /// assert_eq!(std::fs::read_to_string(&path)?, format!("{whole}\n"));
    /// # drop(output);
    /// # std::fs::remove_file(&path)?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn open(&mut self, path: impl AsRef<Path>) -> Result<File, Error> {
        let path = path.as_ref();
        self.open_file(path).await.map_err(|error| error.at(path))
    }

    async fn open_file(&mut self, path: &Path) -> Result<File, Error> {
        // A pipe that is opened for reading, too, would wait for nobody. What is
        // not there yet will be a file.
        let metadata = tokio::fs::metadata(path).await;
        let reads = metadata.map_or(true, |metadata| metadata.is_file());
        let mut options = OpenOptions::new();
        let opened = options.append(true).create(true).read(reads).open(path);
        let mut file = opened.await.map_err(Error::open)?;
        if reads {
            file = lock(file).await?;
            match self.read(&mut file).await? {
                Tail::Whole => {}
                Tail::Unended => end_line(&mut file).await.map_err(Error::repair)?,
                Tail::Torn { whole_bytes } => {
                    file.set_len(whole_bytes).await.map_err(Error::repair)?;
                }
            }
        }
        Ok(file)
    }

    fn learn(&mut self, line: &RawLine) -> Result<Tail, Error> {
        if line.is_blank() {
            return Ok(Tail::Whole);
        }
        let text = line.text.as_deref().unwrap_or_default();
        match serde_json::from_slice::<Answered<'_>>(text) {
            Ok(answered) => {
                let request = answered.request_hash();
                match answered.is_failure() {
                    true => self.ids.insert_failed(&answered.custom_id, request),
                    false => self.ids.insert_answered(&answered.custom_id, request),
                }
                Ok(if line.ended {
                    Tail::Whole
                } else {
                    Tail::Unended
                })
            }
            Err(_) if !line.ended && is_torn(text) => Ok(Tail::Torn {
                whole_bytes: line.start,
            }),
            Err(_) => Err(Error::not_output(line.number)),
        }
    }
}

/// Whether `text` is the beginning of a line that a run was writing. A machine
/// that lost its power may have left zeros in the place of what came last.
fn is_torn(text: &[u8]) -> bool {
    let zeros = text.iter().rev().take_while(|&&byte| byte == 0).count();
    let written = &text[..text.len() - zeros];
    let common = written.len().min(LINE_START.len());
    written[..common] == LINE_START.as_bytes()[..common]
}

/// Locks the file until it is closed, by whatever end. Where files cannot be
/// locked, nothing is lost that was there before.
async fn lock(file: File) -> Result<File, Error> {
    let file = file.into_std().await;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(Error::in_use()),
        Ok(()) | Err(TryLockError::Error(_)) => Ok(File::from_std(file)),
    }
}

async fn end_line(file: &mut File) -> std::io::Result<()> {
    file.write_all(b"\n").await?;
    file.flush().await
}

impl fmt::Debug for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Done").field("len", &self.len()).finish()
    }
}
