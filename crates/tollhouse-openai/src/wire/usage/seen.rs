//! Counts what a stream has let its reader see, for the case that it is cut
//! before it tells.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::wire::json::{Telling, Tokens, Visit};

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
    Inside(Tokens),
    /// An event has one.
    After,
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
                State::Inside(tokens) => self.inside(tokens, data),
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
                self.state = State::Inside(Tokens::default());
                return &data[at + 1..];
            }
        }
        if let Some(at) = FINDER.find(data) {
            self.state = State::Inside(Tokens::default());
            return &data[at + KEY.len()..];
        }
        if let Some(end) = data.last_chunk() {
            last = u64::from_be_bytes(*end);
        }
        self.state = State::Before { last };
        &[]
    }

    /// Reads on in the `delta`, to its end.
    fn inside<'d>(&mut self, mut tokens: Tokens, mut data: &'d [u8]) -> &'d [u8] {
        let mut text = Text(0);
        self.state = loop {
            if data.is_empty() {
                break State::Inside(tokens);
            }
            let rest = tokens.step(data, &mut text);
            let last = data[data.len() - rest.len() - 1];
            data = rest;
            if tokens.is_outside() && !last.is_ascii_whitespace() {
                break State::After;
            }
        };
        self.text_bytes += text.0;
        data
    }
}

/// Bytes of text in all strings that are no keys.
struct Text(u64);

impl Visit for Text {
    fn open(&mut self, _key: &[u8], _object: bool) -> bool {
        true
    }

    fn string(&mut self, _key: &[u8]) -> Telling {
        Telling::Text
    }

    fn text(&mut self, plain: &[u8]) {
        self.0 += plain.len() as u64;
    }

    fn escape(&mut self) {
        self.0 += 1;
    }
}
