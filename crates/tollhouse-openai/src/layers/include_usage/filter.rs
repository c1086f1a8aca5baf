//! Takes the usage's own event out of a stream.

use std::collections::VecDeque;
use std::sync::LazyLock;

use bytes::{Bytes, BytesMut};
use memchr::memmem::Finder;

use crate::wire::sse::{Part, Reader};
use crate::wire::usage::{Choices, Scanner, is_marked};

/// The most bytes of one event that are held back. A usage has some hundred.
const MOST: usize = 16 * 1024;

/// What an event with choices says, as most write it.
static CHOICES: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(r#""choices":[{"#));

/// Passes a stream on in pieces of the very bytes that came, but for the events
/// that consist of a usage.
#[derive(Debug, Default)]
pub(super) struct Filter {
    reader: Reader,
    /// Reads the present event.
    scanner: Scanner,
    /// It has read something.
    scanned: bool,
    /// The present event is surely not one to hide.
    passes: bool,
    /// What came of it in earlier chunks, while that is open.
    held: Held,
    /// The event before it was hidden, and so is the rest of its line end.
    hid: bool,
}

/// A chunk, and what is still to be done with it.
struct Run {
    chunk: Bytes,
    /// What stands before was handed on or hidden.
    begin: usize,
    /// The present event begins here, or began in an earlier chunk.
    event: usize,
}

impl Run {
    /// Hands on all that stands before `end`.
    fn pass(&mut self, end: usize, passed: &mut VecDeque<Bytes>) {
        if self.begin < end {
            passed.push_back(self.chunk.slice(self.begin..end));
        }
        self.begin = end;
    }
}

impl Filter {
    /// Takes in the next chunk and hands on what passes of it and of what was
    /// held. Most chunks pass whole, and in the memory that they came in.
    pub(super) fn feed(&mut self, chunk: Bytes, passed: &mut VecDeque<Bytes>) {
        let mut run = Run {
            chunk: chunk.clone(),
            begin: 0,
            event: self.reader.mark_in(&chunk),
        };
        let mut rest = &*chunk;
        if self.reader.splits_line_end(rest) && !self.reader.is_inside() {
            run.begin = usize::from(self.hid);
            run.event = 1;
        }
        let marked = is_marked(rest);
        while let Some(part) = self.reader.next(&mut rest) {
            let at = chunk.len() - rest.len();
            match part {
                Part::Data(data) => self.read(data, passed),
                Part::Whole(data) => {
                    if marked && is_marked(data) {
                        self.read(data, passed);
                    }
                    self.end_event(&mut run, at, passed);
                }
                Part::End => self.end_event(&mut run, at, passed),
                Part::Comment if self.reader.is_inside() => {}
                Part::Comment => {
                    self.hid = false;
                    run.event = at;
                }
            }
        }
        self.end_chunk(run, passed);
    }

    /// The stream is over: what is held, and is no usage, passes.
    pub(super) fn finish(&mut self, passed: &mut VecDeque<Bytes>) {
        if self.is_usage() {
            self.held.clear();
        }
        self.let_go(passed);
    }

    /// Whether nothing is held.
    pub(super) fn is_empty(&self) -> bool {
        self.held.bytes == 0
    }

    fn read(&mut self, data: &[u8], passed: &mut VecDeque<Bytes>) {
        if self.passes {
            return;
        }
        // Spares most events the reading.
        let has_choices = CHOICES.find(data).is_some();
        if !has_choices {
            self.scanner.feed(data);
            self.scanned = true;
        }
        if has_choices || self.scanner.choices() == Choices::Some {
            self.passes = true;
            // Of the present event, so nothing of the chunk goes before it.
            self.let_go(passed);
        }
    }

    fn is_usage(&self) -> bool {
        !self.passes && self.scanner.choices() == Choices::None && self.scanner.found().is_some()
    }

    /// The present event ends at `at`, and all before it has its way.
    fn end_event(&mut self, run: &mut Run, at: usize, passed: &mut VecDeque<Bytes>) {
        self.hid = self.is_usage();
        if self.hid {
            self.held.clear();
            run.pass(run.event, passed);
            run.begin = at;
        } else {
            self.let_go(passed);
        }
        run.event = at;
        self.passes = false;
        if std::mem::take(&mut self.scanned) {
            self.scanner = Scanner::default();
        }
    }

    fn end_chunk(&mut self, mut run: Run, passed: &mut VecDeque<Bytes>) {
        let end = run.chunk.len();
        if self.reader.is_inside() && !self.passes {
            run.pass(run.event, passed);
            let open = run.chunk.slice(run.event..);
            if self.held.bytes + open.len() <= MOST {
                self.held.push(open);
                return;
            }
            self.passes = true;
            self.let_go(passed);
        }
        run.pass(end, passed);
    }

    fn let_go(&mut self, passed: &mut VecDeque<Bytes>) {
        if !self.is_empty() {
            self.held.move_to(passed);
        }
    }
}

/// The pieces of an event, as they came; after the first few, copied together,
/// so that they weigh no more than their bytes.
#[derive(Debug, Default)]
struct Held {
    pieces: VecDeque<Bytes>,
    more: BytesMut,
    bytes: usize,
}

impl Held {
    const PIECES: usize = 4;

    fn push(&mut self, piece: Bytes) {
        self.bytes += piece.len();
        if self.pieces.len() < Self::PIECES {
            self.pieces.push_back(piece);
        } else {
            self.more.extend_from_slice(&piece);
        }
    }

    fn move_to(&mut self, passed: &mut VecDeque<Bytes>) {
        passed.append(&mut self.pieces);
        if !self.more.is_empty() {
            passed.push_back(self.more.split().freeze());
        }
        self.bytes = 0;
    }

    fn clear(&mut self) {
        self.pieces.clear();
        self.more.clear();
        self.bytes = 0;
    }
}
