//! Counts what a stream has let its reader see, for the case that it is cut
//! before it tells.

use std::sync::LazyLock;

use memchr::memchr2;
use memchr::memmem::Finder;

/// The text of a chat's and of a response's events stands in their `delta`.
const KEY: [u8; 8] = *b"\"delta\":";

static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(&KEY));

/// Counts the tokens of a stream by what can be seen of them: a token for every
/// four bytes of text, and at least one for every event.
///
/// Text is every string inside an event's `delta` that is no key, in bytes of JSON. Four
/// bytes are a token by the same measure as in a prompt; an event is mostly
/// one token and never less. Thinking that is not streamed cannot be seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    events: u64,
    text_bytes: u64,
    /// The event has data.
    open: bool,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Before the `delta`; the last bytes, where the key may have begun.
    Before {
        last: u64,
    },
    Inside(Value),
    /// An event has one.
    After,
}

/// A place in a value of JSON.
#[derive(Clone, Copy, Debug, Default)]
struct Value {
    /// Open objects and arrays.
    depth: u32,
    string: bool,
    escaped: bool,
    /// Bytes of the last string, which may turn out to be a key.
    last: u64,
}

impl Default for State {
    fn default() -> Self {
        State::Before { last: 0 }
    }
}

impl Seen {
    /// The tokens seen.
    pub(super) fn tokens(&self) -> u64 {
        self.events.max(self.text_bytes.div_ceil(4))
    }

    /// Takes in the next piece of an event's data.
    pub(super) fn feed(&mut self, mut data: &[u8]) {
        self.open = true;
        while !data.is_empty() {
            data = match self.state {
                State::Before { last } => self.before(last, data),
                State::Inside(value) => self.inside(value, data),
                State::After => return,
            };
        }
    }

    /// The event is over.
    pub(super) fn end_event(&mut self) {
        self.events += u64::from(std::mem::take(&mut self.open));
        self.state = State::default();
    }

    /// Looks for the key, which may have begun in an earlier piece.
    fn before<'d>(&mut self, mut last: u64, data: &'d [u8]) -> &'d [u8] {
        let key = u64::from_be_bytes(KEY);
        // Mostly nothing came before, and the key can only be in here.
        let is_first = last == 0 && data.len() >= KEY.len();
        let near = if is_first { 0 } else { KEY.len() - 1 };
        for (at, byte) in data.iter().enumerate().take(near) {
            last = (last << 8) | u64::from(*byte);
            if last == key {
                self.state = State::Inside(Value::default());
                return &data[at + 1..];
            }
        }
        if let Some(at) = FINDER.find(data) {
            self.state = State::Inside(Value::default());
            return &data[at + KEY.len()..];
        }
        if let Some(end) = data.last_chunk() {
            last = u64::from_be_bytes(*end);
        }
        self.state = State::Before { last };
        &[]
    }

    fn inside<'d>(&mut self, mut value: Value, data: &'d [u8]) -> &'d [u8] {
        if value.string {
            return self.text(value, data);
        }
        for (at, byte) in data.iter().enumerate() {
            let rest = &data[at + 1..];
            match byte {
                b'"' => {
                    self.text_bytes += std::mem::take(&mut value.last);
                    value.string = true;
                    self.state = State::Inside(value);
                    return rest;
                }
                b'{' | b'[' => value.depth = value.depth.saturating_add(1),
                b':' => value.last = 0,
                b'}' | b']' if value.depth > 1 => value.depth -= 1,
                _ if value.depth > 0 && !matches!(byte, b'}' | b']') => {}
                byte if byte.is_ascii_whitespace() => {}
                // Its own end, or a number: no text.
                _ => {
                    self.text_bytes += value.last;
                    self.state = State::After;
                    return rest;
                }
            }
        }
        self.state = State::Inside(value);
        &[]
    }

    fn text<'d>(&mut self, mut value: Value, data: &'d [u8]) -> &'d [u8] {
        if std::mem::take(&mut value.escaped) {
            value.last += 1;
            self.state = State::Inside(value);
            return &data[1..];
        }
        let end = memchr2(b'"', b'\\', data).unwrap_or(data.len());
        value.last += end as u64;
        match data.get(end) {
            Some(b'"') => value.string = false,
            Some(_) => value.escaped = true,
            None => {}
        }
        self.state = State::Inside(value);
        if value.depth == 0 && !value.string {
            self.text_bytes += value.last;
            self.state = State::After;
        }
        data.get(end + 1..).unwrap_or_default()
    }
}
