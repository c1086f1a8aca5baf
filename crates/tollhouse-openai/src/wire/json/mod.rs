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
use skip::{plain_string, string_end};

/// How many levels can be told of; what is deeper is read over.
const MOST_TOLD: u32 = u32::BITS;

/// What somebody wants to know of a document. The key is empty in an array, at
/// the outermost level, and where it is too long to be of interest.
pub(crate) trait Visit {
    /// An object, or an array, opens. Whether to tell what is directly in it.
    fn open(&mut self, key: &[u8], object: bool) -> bool;

    /// What was told of is over.
    fn close(&mut self) {}

    /// A string opens that is no key.
    fn string(&mut self, key: &[u8]) -> Telling;

    /// Some of a string's text, as it is written, up to its end or an escape.
    fn text(&mut self, _plain: &[u8]) {}

    /// One character of a string's text that is escaped.
    fn escape(&mut self) {}

    /// The string that was told is over.
    fn end_string(&mut self) {}

    /// A number without sign, fraction and exponent, or `None` for any other word.
    fn word(&mut self, _key: &[u8], _number: Option<u64>) {}
}

/// How a string is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Telling {
    /// Over, and maybe on to what comes after it.
    Nothing,
    /// Over, in steps of its own.
    Apart,
    /// Its text is told, in steps of its own.
    Text,
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
    Apart,
    Other,
}

/// An open word: the number that it is so far.
#[derive(Clone, Copy, Debug)]
struct Word(Option<u64>);

impl Word {
    /// With one more letter.
    #[inline]
    fn and(self, letter: u8) -> Word {
        let digit = letter.is_ascii_digit().then(|| u64::from(letter - b'0'));
        let number = self.0.zip(digit);
        Word(number.and_then(|(number, digit)| number.checked_mul(10)?.checked_add(digit)))
    }
}

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

    /// Reads on a little and returns the rest: a byte or a word at the outermost level, else
    /// at the most to where an object or an array opens or closes, and no further than to the start
    /// of a string that is told or [apart](Telling::Apart).
    pub(crate) fn step<'c>(&mut self, chunk: &'c [u8], visitor: &mut impl Visit) -> &'c [u8] {
        match (self.string, chunk.split_first()) {
            (_, None) => chunk,
            (Some(text), Some((_, rest))) if text.escaped => {
                self.end_escape(text, visitor);
                rest
            }
            (Some(text), Some(_)) => self.text(text, chunk, visitor),
            (None, Some(_)) if self.is_told() => self.tokens(chunk, visitor),
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
            Role::Apart | Role::Other => {}
        }
    }

    /// Reads on in a string, up to its end or an escape.
    fn text<'c>(&mut self, text: Text, chunk: &'c [u8], visitor: &mut impl Visit) -> &'c [u8] {
        let end = string_end(chunk).unwrap_or(chunk.len());
        let (plain, rest) = chunk.split_at(end);
        match text.is {
            Role::Key => self.key.extend(plain),
            Role::Told => visitor.text(plain),
            Role::Apart | Role::Other => {}
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
                b'"' => match plain_string(rest) {
                    Some((_, after)) => chunk = after,
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

    /// Reads tokens that are told of.
    fn tokens<'c>(&mut self, mut chunk: &'c [u8], visitor: &mut impl Visit) -> &'c [u8] {
        while let Some((byte, rest)) = chunk.split_first() {
            chunk = rest;
            match byte {
                b'"' => match self.string_in(rest, visitor) {
                    Some(after) => chunk = after,
                    None => return rest,
                },
                b'{' | b'[' => {
                    self.open(*byte == b'{', visitor);
                    return rest;
                }
                b'}' | b']' => {
                    self.close(visitor);
                    return rest;
                }
                b',' => {
                    self.end_word(visitor);
                    self.expects_key = self.is_in_object();
                }
                b':' => self.expects_key = false,
                byte if byte.is_ascii_whitespace() => self.end_word(visitor),
                _ if self.expects_key => {}
                byte => chunk = self.word(*byte, rest),
            }
            if self.told == 0 {
                return chunk;
            }
        }
        chunk
    }

    /// Reads a string that opens before `chunk`, and returns what comes after it; `None`
    /// where its text is for another step: it is told, apart, or not plain and whole in here.
    fn string_in<'c>(&mut self, chunk: &'c [u8], visitor: &mut impl Visit) -> Option<&'c [u8]> {
        let is = self.role(visitor);
        let plain = match is {
            Role::Key | Role::Other => plain_string(chunk),
            Role::Told | Role::Apart => None,
        };
        let Some((text, after)) = plain else {
            let escaped = false;
            self.string = Some(Text { is, escaped });
            return None;
        };
        if is == Role::Key {
            self.key.extend(text);
        }
        Some(after)
    }

    /// What a string is that opens here.
    fn role(&mut self, visitor: &mut impl Visit) -> Role {
        if self.expects_key {
            self.key = Short::default();
            return Role::Key;
        }
        match visitor.string(self.key.as_bytes()) {
            Telling::Nothing => Role::Other,
            Telling::Apart => Role::Apart,
            Telling::Text => Role::Told,
        }
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

    /// Reads on in a word: a byte of it, and the letters and digits that follow.
    fn word<'c>(&mut self, first: u8, mut chunk: &'c [u8]) -> &'c [u8] {
        let mut word = self.word.unwrap_or(Word(Some(0))).and(first);
        while let Some((byte, rest)) = chunk.split_first()
            && byte.is_ascii_alphanumeric()
        {
            word = word.and(*byte);
            chunk = rest;
        }
        self.word = Some(word);
        chunk
    }

    fn end_word(&mut self, visitor: &mut impl Visit) {
        if let Some(Word(number)) = self.word.take() {
            visitor.word(self.key.as_bytes(), number);
        }
    }
}
