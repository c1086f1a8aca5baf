//! Finds the usage in JSON as it passes, in constant memory.
//!
//! An embeddings answer has megabytes before its usage, and a stream has no
//! end in sight, so nothing is kept but the place: how deep, whether inside a
//! string, and the last short key on the way to a usage.

use memchr::memchr2;

/// The longest key of interest is `completion_tokens`.
const KEY_BYTES: usize = 17;

/// Reads JSON in chunks of any cut. What is not JSON is read over.
#[derive(Clone, Debug, Default)]
pub(super) struct Scanner {
    /// Open objects and arrays.
    depth: usize,
    /// The open objects, from the outermost, that lie on a way to a usage;
    /// the first `on_way` of them are in force.
    way: [Place; 3],
    on_way: usize,
    string: Option<Text>,
    key: Key,
    /// A key comes next; meaningful on the way only.
    expects_key: bool,
    number: Option<Number>,
    counts: Counts,
    /// The total of the last usage that was read to its end.
    found: Option<u64>,
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
    is_key: bool,
    escaped: bool,
}

/// A number of a usage. A sign, a fraction or an exponent spoils it.
#[derive(Clone, Copy, Debug)]
struct Number(Option<u64>);

/// The last key on the way, as far as it can be one of interest.
#[derive(Clone, Copy, Debug, Default)]
struct Key {
    bytes: [u8; KEY_BYTES],
    /// More than [`KEY_BYTES`] where it is none.
    length: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    input: Option<u64>,
    output: Option<u64>,
    total: Option<u64>,
}

impl Counts {
    /// All tokens. Where a provider counts thinking in the total alone, the
    /// total is larger than the sum.
    fn all(self) -> Option<u64> {
        let sum = match (self.input, self.output) {
            (None, None) => None,
            (input, output) => Some(input.unwrap_or(0).saturating_add(output.unwrap_or(0))),
        };
        sum.max(self.total)
    }
}

impl Scanner {
    /// The tokens of the last usage so far, if there was one.
    pub(super) fn found(&self) -> Option<u64> {
        self.found
    }

    /// Begins a new document; what was found stays.
    pub(super) fn restart(&mut self) {
        *self = Scanner {
            found: self.found,
            ..Scanner::default()
        };
    }

    /// Takes in the next chunk.
    pub(super) fn feed(&mut self, mut chunk: &[u8]) {
        while let Some((byte, rest)) = chunk.split_first() {
            chunk = match self.string {
                Some(text) => self.inside(text, chunk),
                None if self.depth > self.on_way => self.off_the_way(chunk),
                None => {
                    self.outside(*byte);
                    rest
                }
            };
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
        if text.is_key {
            self.key.extend(plain);
        }
        match rest.split_first() {
            None => rest,
            Some((b'\\', rest)) => {
                // No key of interest is written with escapes.
                self.key.length = KEY_BYTES + 1;
                self.string = Some(Text {
                    escaped: true,
                    ..text
                });
                rest
            }
            Some((_, rest)) => {
                self.string = None;
                rest
            }
        }
    }

    /// Reads over what cannot hold a usage, up to its end or the next string;
    /// most of an answer is this.
    fn off_the_way<'c>(&mut self, chunk: &'c [u8]) -> &'c [u8] {
        for (at, byte) in chunk.iter().enumerate() {
            match byte {
                b'"' => self.open_string(),
                b'{' | b'[' => {
                    self.depth = self.depth.saturating_add(1);
                    continue;
                }
                b'}' | b']' => self.depth -= 1,
                _ => continue,
            }
            if self.string.is_some() || self.depth == self.on_way {
                return &chunk[at + 1..];
            }
        }
        &[]
    }

    /// Reads one byte of an object on the way.
    fn outside(&mut self, byte: u8) {
        match byte {
            b'"' => self.open_string(),
            b'{' | b'[' => self.open(byte == b'{'),
            b'}' | b']' => self.close(),
            b',' => {
                self.end_number();
                self.expects_key = true;
            }
            b':' => self.expects_key = false,
            _ => self.digit(byte),
        }
    }

    fn open_string(&mut self) {
        let is_key = self.depth == self.on_way && self.expects_key;
        if is_key {
            self.key.length = 0;
        }
        self.string = Some(Text {
            is_key,
            escaped: false,
        });
    }

    fn open(&mut self, object: bool) {
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
            if self.way[self.on_way] == Place::Usage {
                self.found = self.counts.all().or(self.found);
            }
            self.expects_key = false;
        }
        self.depth = self.depth.saturating_sub(1);
    }

    fn digit(&mut self, byte: u8) {
        let Some(here) = self.on_way.checked_sub(1) else {
            return;
        };
        if self.way[here] != Place::Usage || self.expects_key {
            return;
        }
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

/// Where a string may end. Most are short, and for those the plain loop is
/// twice as fast as the search that is made for long ones.
fn string_end(chunk: &[u8]) -> Option<usize> {
    let (near, far) = chunk.split_at(chunk.len().min(24));
    match near.iter().position(|byte| matches!(byte, b'"' | b'\\')) {
        Some(at) => Some(at),
        None => memchr2(b'"', b'\\', far).map(|at| near.len() + at),
    }
}

impl Key {
    fn extend(&mut self, more: &[u8]) {
        let end = self.length.saturating_add(more.len());
        if let Some(place) = self.bytes.get_mut(self.length..end) {
            place.copy_from_slice(more);
        }
        self.length = end.min(KEY_BYTES + 1);
    }

    /// The key, or nothing where it is too long to be of interest.
    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}
