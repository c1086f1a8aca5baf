//! Lines of a log that are written together.
//!
//! A server writes a line for each call. Written by whoever has it to say, that is a system call
//! in the call's own time, and a slow reader of the log stands still for all. So lines are
//! gathered, and a thread writes them some milliseconds later, all at once:
//!
//! ```text
//! calls -> gathered, at most 1 MiB -> thread -> stderr
//! ```

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Between two writes.
const PAUSE: Duration = Duration::from_millis(10);

/// Bytes that are gathered; what comes beyond them before they are written is dropped.
const MOST: usize = 1024 * 1024;

/// How long the end waits for a reader of the log.
const LAST: Duration = Duration::from_secs(2);

/// Where lines are gathered.
#[derive(Debug, Default)]
pub(super) struct Lines {
    gathered: Mutex<Gathered>,
    /// The first line is there, or it is the end.
    woken: Condvar,
}

#[derive(Debug, Default)]
struct Gathered {
    bytes: Vec<u8>,
    /// Lines for which there was no room.
    dropped: u64,
    is_over: bool,
}

/// The thread that writes. Dropping it waits until all is written, two seconds at most:
/// who reads no log keeps nobody from ending.
#[derive(Debug)]
pub(crate) struct Writing {
    lines: Arc<Lines>,
    /// Nothing ever comes of it; the thread drops its end when it ends.
    ended: Receiver<()>,
    patience: Duration,
}

impl Lines {
    /// Gathers lines from now on, for `out`.
    /// How many were dropped is told in a line that `dropped` makes.
    pub(super) fn start(
        out: impl Write + Send + 'static,
        dropped: fn(u64) -> String,
    ) -> io::Result<(Arc<Lines>, Writing)> {
        Lines::start_ending_within(LAST, out, dropped)
    }

    fn start_ending_within(
        patience: Duration,
        out: impl Write + Send + 'static,
        dropped: fn(u64) -> String,
    ) -> io::Result<(Arc<Lines>, Writing)> {
        let lines = Arc::<Lines>::default();
        let writes = Arc::clone(&lines);
        let (ends, ended) = channel();
        let thread = thread::Builder::new().name("log".to_owned());
        thread.spawn(move || {
            let _ends = ends;
            writes.write_to(out, dropped);
        })?;
        let writing = Writing {
            lines: Arc::clone(&lines),
            ended,
            patience,
        };
        Ok((lines, writing))
    }

    fn add(&self, line: &[u8]) {
        let mut gathered = self.lock();
        let is_first = gathered.bytes.is_empty();
        if !is_first && gathered.bytes.len() + line.len() > MOST {
            gathered.dropped += 1;
            return;
        }
        gathered.bytes.extend_from_slice(line);
        drop(gathered);
        if is_first {
            self.woken.notify_one();
        }
    }

    fn write_to(&self, mut out: impl Write, tell: fn(u64) -> String) {
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            let (dropped, is_over) = self.take(&mut bytes);
            if dropped > 0 {
                bytes.extend_from_slice(tell(dropped).as_bytes());
                bytes.push(b'\n');
            }
            // Where nobody reads it, there is nobody to be told of that.
            let _ = out.write_all(&bytes).and_then(|()| out.flush());
            if is_over {
                return;
            }
            self.pause();
        }
    }

    /// Waits for something to write, and changes it for an empty buffer. What is said at the
    /// end is the last.
    fn take(&self, bytes: &mut Vec<u8>) -> (u64, bool) {
        let gathered = self.lock();
        let is_empty = |gathered: &mut Gathered| gathered.bytes.is_empty() && !gathered.is_over;
        let waited = self.woken.wait_while(gathered, is_empty);
        let mut gathered = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(bytes, &mut gathered.bytes);
        (std::mem::take(&mut gathered.dropped), gathered.is_over)
    }

    /// Lets more lines come, unless none will.
    fn pause(&self) {
        let gathered = self.lock();
        let waited = (self.woken).wait_timeout_while(gathered, PAUSE, |it| !it.is_over);
        drop(waited);
    }

    /// No line is ever half in it.
    fn lock(&self) -> MutexGuard<'_, Gathered> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A line comes in one piece.
impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.add(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.lines.lock().is_over = true;
        self.lines.woken.notify_one();
        // It ends by an error in any case: that it took too long, or that the thread has ended;
        // and who panicked there has written to stderr himself.
        let _ = self.ended.recv_timeout(self.patience);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Tells what is written, and takes it once it is let.
    struct Reader {
        written: Sender<Vec<u8>>,
        lets: Receiver<()>,
    }

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.written.send(bytes.to_vec());
            let _ = self.lets.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn told(dropped: u64) -> String {
        format!("{dropped} dropped")
    }

    fn say(lines: &Lines, text: &str) {
        let mut lines = lines;
        lines.write_all(text.as_bytes()).expect("it is gathered");
    }

    #[test]
    fn what_comes_while_one_is_written_is_written_together_and_nothing_is_lost() {
        let (written, sees) = channel();
        let (lets, waits) = channel();
        let reader = Reader {
            written,
            lets: waits,
        };
        let (lines, writing) = Lines::start(reader, told).expect("a thread");
        say(&lines, "first\n");
        assert_eq!(sees.recv().unwrap(), b"first\n");
        for line in ["second\n", "third\n"] {
            say(&lines, line);
        }
        // Whoever reads goes away; what was said is handed to him all the same.
        drop(lets);
        drop(writing);
        assert_eq!(sees.recv().unwrap(), b"second\nthird\n");
        assert!(sees.recv().is_err(), "that was all");
    }

    #[test]
    fn a_reader_that_stands_still_keeps_nobody_from_ending() {
        let (written, sees) = channel();
        let (lets, waits) = channel();
        let reader = Reader {
            written,
            lets: waits,
        };
        let (lines, writing) = Lines::start_ending_within(PAUSE, reader, told).expect("a thread");
        say(&lines, "first\n");
        sees.recv().unwrap();
        drop(writing);
        // Still there, and still not reading.
        lets.send(()).expect("it waits");
    }

    #[test]
    fn what_nobody_takes_is_dropped_and_told() {
        let (written, sees) = channel();
        let (lets, waits) = channel();
        let reader = Reader {
            written,
            lets: waits,
        };
        let (lines, writing) = Lines::start(reader, told).expect("a thread");
        say(&lines, "first\n");
        sees.recv().unwrap();
        let long = "x".repeat(MOST / 2);
        for _ in 0..5 {
            say(&lines, &long);
        }
        drop(lets);
        drop(writing);
        let rest = String::from_utf8(sees.recv().unwrap()).unwrap();
        assert_eq!(rest.matches('x').count(), MOST);
        assert!(rest.ends_with("x3 dropped\n"));
    }
}
