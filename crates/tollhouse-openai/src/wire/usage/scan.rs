//! Finds the usage in JSON as it passes, in constant memory.
//!
//! An embeddings answer has megabytes before its usage, and a stream has no
//! end in sight, so nothing is kept but the place: how deep, whether inside a
//! string, and the last short key on the way to a usage. An error met on that
//! way is kept too, up to a bound, to be judged as a whole.

use tollhouse::{Charge, Unit};

use super::excerpt::{Excerpt, Span};
use super::skip::{after_plain_string, after_word, string_end};

/// The longest key of interest is `completion_tokens`.
const KEY_BYTES: u8 = 17;

/// Reads JSON in chunks of any cut. What is not JSON is read over.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scanner {
    /// Open objects and arrays.
    depth: usize,
    /// The open objects, from the outermost, that lie on a way to a usage;
    /// the first `on_way` of them are in force.
    way: [Place; 3],
    on_way: usize,
    string: Option<Text>,
    key: Key,
    /// What the document's own `type` is, as far as it can be of interest.
    kind: Key,
    /// A key comes next; meaningful on the way only.
    expects_key: bool,
    number: Option<Number>,
    counts: Counts,
    /// The last usage that was read to its end.
    found: Option<Counts>,
    error: Excerpt,
    choices: Choices,
}

/// What a chat chunk's `choices` hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Choices {
    /// They were not come upon yet.
    #[default]
    Unknown,
    /// Their array is open and nothing in it was read yet.
    Open,
    /// Nothing.
    None,
    /// Something.
    Some,
}

/// An object on a way to a usage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// The document itself.
    #[default]
    Top,
    /// `response` (Responses streams) or `x_groq` (Groq's chat streams).
    Wrapper,
    /// The usage.
    Usage,
}

/// An open string.
#[derive(Clone, Copy, Debug)]
struct Text {
    is: Role,
    escaped: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Key,
    /// The document's own `type`.
    Kind,
    Other,
}

/// A number of a usage. A sign, a fraction or an exponent spoils it.
#[derive(Clone, Copy, Debug)]
struct Number(Option<u64>);

/// The last key on the way, as far as it can be one of interest.
#[derive(Clone, Copy, Debug, Default)]
struct Key {
    bytes: [u8; KEY_BYTES as usize],
    /// More than [`KEY_BYTES`] where it is none.
    length: u8,
}

/// The tokens that a usage tells.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) input: Option<u64>,
    pub(crate) output: Option<u64>,
    total: Option<u64>,
}

impl Counts {
    /// All tokens. Where a provider counts thinking in the total alone, the
    /// total is larger than the sum.
    pub(crate) fn all(self) -> Option<u64> {
        let sum = match (self.input, self.output) {
            (None, None) => None,
            (input, output) => Some(input.unwrap_or(0).saturating_add(output.unwrap_or(0))),
        };
        sum.max(self.total)
    }

    /// All tokens, and input and output as far as they are told. What the total has
    /// beyond the input is output, thinking among it; of a total alone nobody knows which
    /// is which.
    pub(super) fn charge(self) -> Option<Charge> {
        let all = self.all()?;
        let charge = Charge::tokens(all);
        Some(match (self.input, self.output) {
            (Some(input), _) => charge
                .and(Unit::Input, input)
                .and(Unit::Output, all.saturating_sub(input)),
            (None, Some(output)) => charge.and(Unit::Output, output),
            (None, None) => charge,
        })
    }
}

impl Scanner {
    /// The last usage so far, if there was one that told anything.
    pub(crate) fn found(&self) -> Option<Counts> {
        self.found
    }

    /// What this document's `choices` hold.
    pub(crate) fn choices(&self) -> Choices {
        self.choices
    }

    /// The last document's error, as a document of its own, if there was one
    /// and it was not too long.
    pub(super) fn error(&self) -> Option<&[u8]> {
        self.error.whole()
    }

    /// Begins a new document; what was found stays.
    pub(super) fn restart(&mut self) {
        *self = Scanner {
            found: self.found,
            error: std::mem::take(&mut self.error).kept(),
            ..Scanner::default()
        };
    }

    /// Takes in the next chunk.
    pub(crate) fn feed(&mut self, mut chunk: &[u8]) {
        while let Some((byte, rest)) = chunk.split_first() {
            let before = chunk;
            let copied = self.error.is_open();
            chunk = match self.string {
                Some(text) => self.inside(text, chunk),
                None if self.depth > self.on_way => self.off_the_way(chunk),
                None => self.outside(*byte, rest),
            };
            if copied {
                let read = &before[..before.len() - chunk.len()];
                self.error.extend(read, self.depth, self.string.is_some());
            }
        }
    }

    fn inside<'c>(&mut self, text: Text, chunk: &'c [u8]) -> &'c [u8] {
        if text.escaped {
            self.string = Some(Text {
                escaped: false,
                ..text
            });
            return &chunk[1..];
        }
        let end = string_end(chunk);
        let (plain, rest) = chunk.split_at(end.unwrap_or(chunk.len()));
        match text.is {
            Role::Key => self.key.extend(plain),
            Role::Kind => self.kind.extend(plain),
            Role::Other => {}
        }
        match rest.split_first() {
            None => rest,
            Some((b'\\', rest)) => {
                // No key of interest is written with escapes.
                match text.is {
                    Role::Key => self.key.length = Key::OTHER,
                    Role::Kind => self.kind.length = Key::OTHER,
                    Role::Other => {}
                }
                self.string = Some(Text {
                    escaped: true,
                    ..text
                });
                rest
            }
            Some((_, rest)) => {
                self.string = None;
                if text.is == Role::Kind && self.kind.as_bytes() == b"error" {
                    self.error.begin(self.rest_of_document());
                }
                rest
            }
        }
    }

    /// What stands beside `"type": "error"`: its code and message.
    fn rest_of_document(&self) -> Span {
        Span {
            head: br#"{"type":"error""#,
            ends_at: self.depth - 1,
            tail: b"",
        }
    }

    /// Reads over what cannot hold a usage, up to its end or a string that is
    /// not plain; most of an answer is this.
    fn off_the_way<'c>(&mut self, mut chunk: &'c [u8]) -> &'c [u8] {
        if self.choices == Choices::Open {
            self.look_into_choices(chunk);
        }
        while let Some((byte, rest)) = chunk.split_first() {
            chunk = rest;
            match byte {
                b'"' => match after_plain_string(rest) {
                    Some(after) => chunk = after,
                    None => {
                        self.open_string();
                        return rest;
                    }
                },
                b'{' | b'[' => self.depth = self.depth.saturating_add(1),
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == self.on_way {
                        return rest;
                    }
                }
                _ => {}
            }
        }
        chunk
    }

    /// Reads on in an object on the way.
    fn outside<'c>(&mut self, byte: u8, rest: &'c [u8]) -> &'c [u8] {
        match byte {
            b'"' => return self.string(rest),
            b'{' | b'[' => self.open(byte == b'{'),
            b'}' | b']' => self.close(),
            b',' => {
                self.end_number();
                self.expects_key = true;
            }
            b':' => self.expects_key = false,
            _ if self.counts_here() => self.digit(byte),
            _ => return after_word(rest),
        }
        rest
    }

    /// Reads a string that opens here, as far as it goes; one that is kept is
    /// read where it is copied.
    fn string<'c>(&mut self, rest: &'c [u8]) -> &'c [u8] {
        let was_open = self.error.is_open();
        self.open_string();
        match self.string {
            Some(text) if !rest.is_empty() && was_open == self.error.is_open() => {
                self.inside(text, rest)
            }
            _ => rest,
        }
    }

    /// Whether a number here is one of a usage.
    fn counts_here(&self) -> bool {
        let here = self.on_way.checked_sub(1).map(|here| self.way[here]);
        here == Some(Place::Usage) && !self.expects_key
    }

    fn look_into_choices(&mut self, chunk: &[u8]) {
        match chunk.trim_ascii_start().first() {
            None => {}
            Some(b']') => self.choices = Choices::None,
            Some(_) => self.choices = Choices::Some,
        }
    }

    fn open_string(&mut self) {
        let is = self.role();
        match is {
            Role::Key => self.key.length = 0,
            Role::Kind => self.kind.length = 0,
            Role::Other => self.begin_error(br#"{"error":""#),
        }
        let escaped = false;
        self.string = Some(Text { is, escaped });
    }

    /// What a string that opens here is.
    fn role(&self) -> Role {
        if self.depth != self.on_way || self.on_way == 0 {
            Role::Other
        } else if self.expects_key {
            Role::Key
        } else if self.on_way == 1 && self.key.as_bytes() == b"type" {
            Role::Kind
        } else {
            Role::Other
        }
    }

    /// Begins to keep the value that opens here, if it is an error.
    fn begin_error(&mut self, head: &'static [u8]) {
        let here = self.on_way.checked_sub(1).map(|here| self.way[here]);
        if self.depth == self.on_way
            && matches!(here, Some(Place::Top | Place::Wrapper))
            && self.key.as_bytes() == b"error"
        {
            let (ends_at, tail) = (self.depth, &b"}"[..]);
            self.error.begin(Span {
                head,
                ends_at,
                tail,
            });
        }
    }

    fn open(&mut self, object: bool) {
        if object {
            self.begin_error(br#"{"error":{"#);
        } else if self.depth == 1 && self.on_way == 1 && self.key.as_bytes() == b"choices" {
            self.choices = Choices::Open;
        }
        let place = (object && self.depth == self.on_way)
            .then(|| self.leads_to())
            .flatten();
        self.depth = self.depth.saturating_add(1);
        if let Some(place) = place {
            self.way[self.on_way] = place;
            self.on_way += 1;
            self.expects_key = true;
            if place == Place::Usage {
                self.counts = Counts::default();
            }
        }
    }

    /// The place that an object opened here would be, if it is on a way.
    fn leads_to(&self) -> Option<Place> {
        let Some(here) = self.on_way.checked_sub(1) else {
            return Some(Place::Top);
        };
        match (self.way[here], self.key.as_bytes()) {
            (Place::Top | Place::Wrapper, b"usage") => Some(Place::Usage),
            (Place::Top, b"response" | b"x_groq") => Some(Place::Wrapper),
            _ => None,
        }
    }

    fn close(&mut self) {
        if self.depth == self.on_way && self.on_way > 0 {
            self.end_number();
            self.on_way -= 1;
            if self.way[self.on_way] == Place::Usage && self.counts.all().is_some() {
                self.found = Some(self.counts);
            }
            self.expects_key = false;
        }
        self.depth = self.depth.saturating_sub(1);
    }

    fn digit(&mut self, byte: u8) {
        if byte.is_ascii_whitespace() {
            return self.end_number();
        }
        let so_far = self.number.map_or(Some(0), |number| number.0);
        let digit = char::from(byte).to_digit(10).map(u64::from);
        let next = so_far
            .zip(digit)
            .and_then(|(so_far, digit)| so_far.checked_mul(10)?.checked_add(digit));
        self.number = Some(Number(next));
    }

    fn end_number(&mut self) {
        let Some(Number(Some(number))) = self.number.take() else {
            return;
        };
        let count = match self.key.as_bytes() {
            b"prompt_tokens" | b"input_tokens" => &mut self.counts.input,
            b"completion_tokens" | b"output_tokens" => &mut self.counts.output,
            b"total_tokens" => &mut self.counts.total,
            _ => return,
        };
        *count = Some(number);
    }
}

impl Key {
    /// No key of interest.
    const OTHER: u8 = KEY_BYTES + 1;

    fn extend(&mut self, more: &[u8]) {
        let start = usize::from(self.length);
        let end = start.saturating_add(more.len());
        match self.bytes.get_mut(start..end) {
            Some(place) => {
                place.copy_from_slice(more);
                self.length = end as u8;
            }
            None => self.length = Key::OTHER,
        }
    }

    /// The key, or nothing where it is none of interest.
    fn as_bytes(&self) -> &[u8] {
        let length = usize::from(self.length);
        self.bytes.get(..length).unwrap_or_default()
    }
}
