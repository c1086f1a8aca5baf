//! JSON read as it passes, in chunks of any cut, in constant memory.
//!
//! An embeddings answer has megabytes before its usage, and a stream has no end
//! in sight, so nothing is kept but the place: how deep, whether inside a
//! string, and the last short key. Who [visits](Visit) says of each object and
//! array whether to be told what is directly in it; all else is read over, and
//! so is what is no JSON.

mod short;
mod skip;

#[cfg(test)]
mod tests;

pub(crate) use short::Short;
use skip::{after_plain_string, string_end};

/// How many levels can be told of; what is deeper is read over.
const MOST_TOLD: u32 = u32::BITS;

/// What somebody wants to know of a document. The key is empty in an array, at
/// the outermost level, and where it is too long to be of interest.
pub(crate) trait Visit {
    /// An object, or an array, opens. Whether to tell what is directly in it.
    fn open(&mut self, key: &[u8], object: bool) -> bool;

    /// What was told of is over.
    fn close(&mut self) {}

    /// A string opens that is no key. Whether to tell its text.
    fn string(&mut self, key: &[u8]) -> bool;

    /// Some of a string's text, as it is written, up to its end or an escape.
    fn text(&mut self, _plain: &[u8]) {}

    /// One character of a string's text that is escaped.
    fn escape(&mut self) {}

    /// The string that was told is over.
    fn end_string(&mut self) {}

    /// A number without sign, fraction and exponent, or `None` for any other word.
    fn word(&mut self, _key: &[u8], _number: Option<u64>) {}
}

/// A place in a document.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tokens {
    /// Open objects and arrays.
    depth: u32,
    /// So many of them, from the outermost, are told of.
    told: u32,
    /// Which of those are objects; the innermost has the lowest bit.
    objects: u32,
    string: Option<Text>,
    /// The last key of the innermost that is told of.
    key: Short,
    /// A key comes next.
    expects_key: bool,
    word: Option<Word>,
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
    Told,
    Other,
}

/// An open word: the number that it is so far.
#[derive(Clone, Copy, Debug)]
struct Word(Option<u64>);

impl Tokens {
    /// How many objects and arrays are open.
    pub(crate) fn depth(&self) -> u32 {
        self.depth
    }

    pub(crate) fn is_in_string(&self) -> bool {
        self.string.is_some()
    }

    /// Whether nothing is open.
    pub(crate) fn is_outside(&self) -> bool {
        self.depth == 0 && self.string.is_none() && self.word.is_none()
    }

    /// Reads on a little and returns the rest. A string is never read in the step
    /// in which it opens.
    pub(crate) fn step<'c>(&mut self, chunk: &'c [u8], visitor: &mut impl Visit) -> &'c [u8] {
        match (self.string, chunk.split_first()) {
            (_, None) => chunk,
            (Some(text), Some((_, rest))) if text.escaped => {
                self.end_escape(text, visitor);
                rest
            }
            (Some(text), Some(_)) => self.text(text, chunk, visitor),
            (None, Some((byte, rest))) if self.is_told() => {
                self.token(*byte, visitor);
                rest
            }
            (None, Some(_)) => self.skip(chunk),
        }
    }

    /// Whether what is directly in the innermost is told of.
    fn is_told(&self) -> bool {
        self.depth == self.told
    }

    fn is_in_object(&self) -> bool {
        self.told > 0 && self.objects & 1 == 1
    }

    fn end_escape(&mut self, text: Text, visitor: &mut impl Visit) {
        let escaped = false;
        self.string = Some(Text { escaped, ..text });
        match text.is {
            // No key of interest is written with escapes.
            Role::Key => self.key.spoil(),
            Role::Told => visitor.escape(),
            Role::Other => {}
        }
    }

    /// Reads on in a string, up to its end or an escape.
    fn text<'c>(&mut self, text: Text, chunk: &'c [u8], visitor: &mut impl Visit) -> &'c [u8] {
        let end = string_end(chunk).unwrap_or(chunk.len());
        let (plain, rest) = chunk.split_at(end);
        match text.is {
            Role::Key => self.key.extend(plain),
            Role::Told => visitor.text(plain),
            Role::Other => {}
        }
        let Some((byte, rest)) = rest.split_first() else {
            return rest;
        };
        let escaped = *byte == b'\\';
        self.string = escaped.then_some(Text { escaped, ..text });
        if !escaped && text.is == Role::Told {
            visitor.end_string();
        }
        rest
    }

    /// Reads over what is not told of, up to its end or a string that is not
    /// plain; most of an answer is this.
    fn skip<'c>(&mut self, mut chunk: &'c [u8]) -> &'c [u8] {
        while let Some((byte, rest)) = chunk.split_first() {
            chunk = rest;
            match byte {
                b'"' => match after_plain_string(rest) {
                    Some(after) => chunk = after,
                    None => {
                        self.string = Some(Text {
                            is: Role::Other,
                            escaped: false,
                        });
                        return rest;
                    }
                },
                b'{' | b'[' => self.depth = self.depth.saturating_add(1),
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.is_told() {
                        return rest;
                    }
                }
                _ => {}
            }
        }
        chunk
    }

    /// Reads a token, or a letter of one, that is told of.
    fn token(&mut self, byte: u8, visitor: &mut impl Visit) {
        match byte {
            b'"' => self.open_string(visitor),
            b'{' | b'[' => self.open(byte == b'{', visitor),
            b'}' | b']' => self.close(visitor),
            b',' => {
                self.end_word(visitor);
                self.expects_key = self.is_in_object();
            }
            b':' => self.expects_key = false,
            byte if byte.is_ascii_whitespace() => self.end_word(visitor),
            _ if self.expects_key => {}
            byte => self.letter(byte),
        }
    }

    fn open_string(&mut self, visitor: &mut impl Visit) {
        let is = if self.expects_key {
            self.key = Short::default();
            Role::Key
        } else if visitor.string(self.key.as_bytes()) {
            Role::Told
        } else {
            Role::Other
        };
        let escaped = false;
        self.string = Some(Text { is, escaped });
    }

    fn open(&mut self, object: bool, visitor: &mut impl Visit) {
        let told = visitor.open(self.key.as_bytes(), object);
        self.depth = self.depth.saturating_add(1);
        if told && self.told < MOST_TOLD {
            self.told += 1;
            self.objects = (self.objects << 1) | u32::from(object);
            self.expects_key = object;
            self.key = Short::default();
        }
    }

    fn close(&mut self, visitor: &mut impl Visit) {
        self.end_word(visitor);
        self.depth = self.depth.saturating_sub(1);
        if self.told > 0 {
            self.told -= 1;
            self.objects >>= 1;
            self.expects_key = false;
            self.key = Short::default();
            visitor.close();
        }
    }

    fn letter(&mut self, byte: u8) {
        let so_far = self.word.map_or(Some(0), |word| word.0);
        let digit = char::from(byte).to_digit(10).map(u64::from);
        let next = so_far
            .zip(digit)
            .and_then(|(so_far, digit)| so_far.checked_mul(10)?.checked_add(digit));
        self.word = Some(Word(next));
    }

    fn end_word(&mut self, visitor: &mut impl Visit) {
        if let Some(Word(number)) = self.word.take() {
            visitor.word(self.key.as_bytes(), number);
        }
    }
}
