//! Raw lines out of a reader, each with its number and its place, none longer
//! than is allowed.

use std::io;
use std::mem;

use bytes::Bytes;
use tokio::io::AsyncRead;
use tokio::task::coop::consume_budget;

use crate::input::unpack::Unpacked;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// One line as it stands in the file, without its line feed.
#[derive(Debug)]
pub(crate) struct RawLine {
    /// Counted from 1, blank lines included.
    pub(crate) number: u64,
    /// The offset of its first byte.
    pub(crate) start: u64,
    /// Its bytes, or how many there were when they were too many to keep.
    pub(crate) text: Result<Bytes, u64>,
    /// Whether a line feed followed; only the last line may lack it.
    pub(crate) ended: bool,
}

impl RawLine {
    /// Whether there is nothing in it to read.
    pub(crate) fn is_blank(&self) -> bool {
        matches!(&self.text, Ok(text) if text.trim_ascii().is_empty())
    }
}

/// Reads lines, of which it keeps one at a time.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    reader: Unpacked<R>,
    current: Current,
    /// The number of the line being read.
    number: u64,
    /// The offset at which the line being read starts.
    start: u64,
}

/// The line being read. It outlives a read that is given up half-way, so that
/// [`Lines::next`] can stand in a `select!`.
#[derive(Debug)]
struct Current {
    text: Vec<u8>,
    /// All bytes of the line, kept or not.
    bytes: u64,
    max_bytes: usize,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// Reads the file as it is.
    pub(crate) fn new(reader: R, max_bytes: usize) -> Self {
        Self::from(Unpacked::plain(reader), max_bytes)
    }

    /// Unpacks the file first where it is packed; places are those of the
    /// unpacked text.
    pub(crate) fn unpacking(reader: R, max_bytes: usize) -> Self {
        Self::from(Unpacked::new(reader), max_bytes)
    }

    fn from(reader: Unpacked<R>, max_bytes: usize) -> Self {
        Self {
            reader,
            current: Current {
                text: Vec::new(),
                bytes: 0,
                max_bytes,
            },
            number: 1,
            start: 0,
        }
    }

    /// The number of the line that [`next`](Self::next) reads.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The next line, or `None` at the end.
    ///
    /// # Cancellation
    ///
    /// Safe: what was read of the line is kept for the next call.
    pub(crate) async fn next(&mut self) -> io::Result<Option<RawLine>> {
        loop {
            // A reader that is always ready must not keep others from the
            // thread, however many lines are only skipped.
            consume_budget().await;
            let chunk = self.reader.fill_buf().await?;
            if chunk.is_empty() {
                return Ok((self.current.bytes > 0).then(|| self.take(false)));
            }
            let feed = chunk.iter().position(|&byte| byte == b'\n');
            let length = feed.unwrap_or(chunk.len());
            self.current.push(&chunk[..length]);
            self.reader.consume(length + usize::from(feed.is_some()));
            if feed.is_some() {
                return Ok(Some(self.take(true)));
            }
        }
    }

    fn take(&mut self, ended: bool) -> RawLine {
        let (number, start) = (self.number, self.start);
        self.number += 1;
        self.start += self.current.bytes + u64::from(ended);
        let text = self.current.take().map(|text| match number {
            1 => without_mark(text),
            _ => text,
        });
        RawLine {
            number,
            start,
            text,
            ended,
        }
    }
}

impl Current {
    fn push(&mut self, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        if self.bytes <= self.max_bytes as u64 {
            self.text.extend_from_slice(piece);
        } else {
            self.text = Vec::new();
        }
    }

    fn take(&mut self) -> Result<Bytes, u64> {
        let bytes = mem::take(&mut self.bytes);
        let text = mem::take(&mut self.text);
        if bytes <= self.max_bytes as u64 {
            Ok(Bytes::from(text))
        } else {
            Err(bytes)
        }
    }
}

/// Some editors open a file with a byte order mark, which is not JSON.
fn without_mark(text: Bytes) -> Bytes {
    match text.strip_prefix(BYTE_ORDER_MARK) {
        Some(rest) => text.slice_ref(rest),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(input: &[u8], max_bytes: usize) -> Vec<RawLine> {
        let mut lines = Lines::new(input, max_bytes);
        let mut all = Vec::new();
        while let Some(line) = lines.next().await.expect("a slice reads") {
            all.push(line);
        }
        all
    }

    fn texts(lines: &[RawLine]) -> Vec<Option<&[u8]>> {
        lines.iter().map(|line| line.text.as_deref().ok()).collect()
    }

    #[tokio::test]
    async fn lines_know_their_number_and_place() {
        let lines = read(b"one\n\nthree", 10).await;
        assert_eq!(
            texts(&lines),
            [Some(&b"one"[..]), Some(b""), Some(b"three")]
        );
        let places: Vec<_> = lines.iter().map(|l| (l.number, l.start, l.ended)).collect();
        assert_eq!(places, [(1, 0, true), (2, 4, true), (3, 5, false)]);
    }

    #[tokio::test]
    async fn byte_order_mark_is_left_out_but_counted() {
        let lines = read(b"\xEF\xBB\xBFone\ntwo\n", 10).await;
        assert_eq!(texts(&lines), [Some(&b"one"[..]), Some(b"two")]);
        assert_eq!(lines[1].start, 7);
    }

    #[tokio::test]
    async fn long_line_is_measured_and_let_go() {
        let lines = read(b"12345\n123456\n1234\n", 5).await;
        assert_eq!(texts(&lines), [Some(&b"12345"[..]), None, Some(b"1234")]);
        assert_eq!(lines[1].text, Err(6));
        assert_eq!(lines[2].start, 13);
    }

    #[tokio::test]
    async fn long_line_without_end_is_measured() {
        let lines = read(&[b'x'; 200_000], 70_000).await;
        assert_eq!(lines[0].text, Err(200_000));
        assert!(!lines[0].ended);
    }

    #[tokio::test(start_paused = true)]
    async fn given_up_read_loses_nothing() {
        use tokio::io::AsyncWriteExt;
        use tokio::time::{Duration, timeout};

        let (mut far, near) = tokio::io::duplex(64);
        let mut lines = Lines::new(near, 100);
        far.write_all(b"half").await.expect("the pipe is open");
        let early = timeout(Duration::from_millis(5), lines.next()).await;
        assert!(early.is_err(), "no line has ended yet");
        far.write_all(b" whole\n").await.expect("the pipe is open");
        let line = lines.next().await.expect("the pipe reads").expect("a line");
        assert_eq!(line.text.as_deref(), Ok(&b"half whole"[..]));
    }
}
