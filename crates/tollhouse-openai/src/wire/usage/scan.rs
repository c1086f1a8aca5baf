//! Finds in an answer, as it passes, its usage, its error, and whether a chat
//! chunk has choices.

use super::counts::Counts;
use super::excerpt::{Excerpt, Span};
use crate::wire::json::{Short, Telling, Tokens, Visit};

/// Reads documents in chunks of any cut, in constant memory. What is not JSON
/// is read over.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scanner {
    tokens: Tokens,
    found: Found,
}

/// What a chat chunk's `choices` hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Choices {
    /// They were not come upon yet, or not to their end.
    #[default]
    Unknown,
    /// Nothing.
    None,
    /// Something.
    Some,
}

/// An object or array that may lead to something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// The document itself.
    #[default]
    Top,
    /// `response` (Responses streams) or `x_groq` (Groq's chat streams).
    Wrapper,
    Usage,
    Choices,
}

/// What was found so far, and the way to where the reader is.
#[derive(Clone, Debug, Default)]
struct Found {
    /// The open places, from the outermost; the first `on_way` are in force.
    way: [Place; 3],
    on_way: u8,
    /// The usage that is read.
    counts: Counts,
    /// The last usage that was read to its end.
    usage: Option<Counts>,
    /// What the document's own `type` is, as far as it can be of interest.
    kind: Short,
    error: Excerpt,
    choices: Choices,
}

impl Scanner {
    /// The last usage so far, if there was one that told anything.
    pub(crate) fn found(&self) -> Option<Counts> {
        self.found.usage
    }

    /// What this document's `choices` hold.
    pub(crate) fn choices(&self) -> Choices {
        self.found.choices
    }

    /// The last document's error, as a document of its own, if there was one
    /// and it was not too long.
    pub(super) fn error(&self) -> Option<&[u8]> {
        self.found.error.whole()
    }

    /// Begins a new document; what was found stays.
    pub(super) fn restart(&mut self) {
        *self = Scanner {
            found: Found {
                usage: self.found.usage,
                error: std::mem::take(&mut self.found.error).kept(),
                ..Found::default()
            },
            ..Scanner::default()
        };
    }

    /// Takes in the next chunk.
    pub(crate) fn feed(&mut self, mut chunk: &[u8]) {
        let Scanner { tokens, found } = self;
        while !chunk.is_empty() {
            let before = chunk;
            let copied = found.error.is_open();
            chunk = tokens.step(chunk, found);
            if copied {
                let read = &before[..before.len() - chunk.len()];
                let in_string = tokens.is_in_string();
                found.error.extend(read, tokens.depth(), in_string);
            }
        }
    }
}

impl Found {
    fn place(&self) -> Option<Place> {
        let here = self.on_way.checked_sub(1)?;
        Some(self.way[usize::from(here)])
    }

    fn enter(&mut self, place: Place) -> bool {
        self.way[usize::from(self.on_way)] = place;
        self.on_way += 1;
        true
    }

    /// Begins to keep the error that opens here.
    fn keep_error(&mut self, head: &'static [u8]) -> bool {
        self.error.begin(Span {
            head,
            ends_at: self.on_way.into(),
            tail: b"}",
        });
        false
    }

    /// What stands beside `"type": "error"`: its code and message.
    fn keep_rest_of_document(&mut self) {
        self.error.begin(Span {
            head: br#"{"type":"error""#,
            ends_at: 0,
            tail: b"",
        });
    }
}

impl Visit for Found {
    fn open(&mut self, key: &[u8], object: bool) -> bool {
        match (self.place(), key, object) {
            (None, _, true) => self.enter(Place::Top),
            (Some(Place::Top | Place::Wrapper), b"error", true) => {
                self.keep_error(br#"{"error":{"#)
            }
            (Some(Place::Top | Place::Wrapper), b"usage", true) => {
                self.counts = Counts::default();
                self.enter(Place::Usage)
            }
            (Some(Place::Top), b"response" | b"x_groq", true) => self.enter(Place::Wrapper),
            (Some(Place::Top), b"choices", false) => self.enter(Place::Choices),
            (Some(Place::Choices), ..) => {
                self.choices = Choices::Some;
                false
            }
            _ => false,
        }
    }

    fn close(&mut self) {
        self.on_way -= 1;
        match self.way[usize::from(self.on_way)] {
            Place::Usage if self.counts.all().is_some() => self.usage = Some(self.counts),
            Place::Choices if self.choices == Choices::Unknown => self.choices = Choices::None,
            _ => {}
        }
    }

    fn string(&mut self, key: &[u8]) -> Telling {
        match (self.place(), key) {
            (Some(Place::Top | Place::Wrapper), b"error") => {
                self.keep_error(br#"{"error":""#);
                // It is copied from its start.
                return Telling::Apart;
            }
            (Some(Place::Top), b"type") => {
                self.kind = Short::default();
                return Telling::Text;
            }
            (Some(Place::Choices), _) => self.choices = Choices::Some,
            _ => {}
        }
        Telling::Nothing
    }

    fn text(&mut self, plain: &[u8]) {
        self.kind.extend(plain);
    }

    fn escape(&mut self) {
        self.kind.spoil();
    }

    fn end_string(&mut self) {
        if self.kind.as_bytes() == b"error" {
            self.keep_rest_of_document();
        }
    }

    fn word(&mut self, key: &[u8], number: Option<u64>) {
        match (self.place(), number) {
            (Some(Place::Usage), Some(number)) => self.counts.tell(key, number),
            (Some(Place::Choices), _) => self.choices = Choices::Some,
            _ => {}
        }
    }
}
