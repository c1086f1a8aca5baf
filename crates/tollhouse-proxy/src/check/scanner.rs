//! Follows a connection's requests byte by byte, so that each head is seen before it
//! is read.
//!
//! ```text
//! Start -> Opaque                           HTTP/2, which frames itself
//! Head -> Opaque                            what an upgrade has made of the connection
//! Start -> Head -> Length -> Head ..
//!          Head -> Size -> Chunk -> ChunkEnd -> Size ..
//!                  Size (the last) -> Trailers -> Head ..
//! ```

use memchr::{memchr, memchr_iter};

use super::Flaw;
use super::head::{Framing, Head, plain};

/// How HTTP/2 begins.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The longest line that tells the size of a chunk, its extensions included.
const LONGEST_SIZE: usize = 256;

#[derive(Debug)]
pub(super) struct Scanner {
    state: State,
    /// The longest head, and all trailers of a request together, in bytes.
    longest_head: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Start,
    Opaque,
    Head(Looked),
    /// So many bytes of a body are still to come.
    Length(u64),
    Size,
    Chunk(u64),
    ChunkEnd,
    /// So many bytes of trailers were seen.
    Trailers(usize),
}

/// What was seen of a head that is not complete yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Looked {
    /// So many bytes of it are lines that were looked at.
    bytes: usize,
    /// After an empty line before it.
    blank: bool,
    head: Head,
}

impl Looked {
    fn nothing(blank: bool) -> Self {
        Looked {
            bytes: 0,
            blank,
            head: Head::default(),
        }
    }
}

/// How a head's lines ended.
enum End {
    /// There are no more of them yet.
    Open,
    /// By an empty line before any other.
    Blank,
    Whole(Framing),
}

impl State {
    fn head() -> Self {
        State::Head(Looked::nothing(false))
    }
}

impl Scanner {
    pub(super) fn new(longest_head: usize) -> Self {
        Scanner {
            state: State::Start,
            longest_head,
        }
    }

    /// What comes from now on is no HTTP.
    pub(super) fn open(&mut self) {
        self.state = State::Opaque;
    }

    /// Whether what comes next is a head, or the rest of one.
    pub(super) fn is_at_head(&self) -> bool {
        matches!(self.state, State::Start | State::Head(_))
    }

    /// Whether the rest of a request is still to come.
    pub(super) fn is_in_body(&self) -> bool {
        !self.is_at_head() && self.state != State::Opaque
    }

    /// How many of the bytes at the front may be read. None where more must be seen
    /// first; what was said to be readable is not shown again.
    pub(super) fn clear(&mut self, bytes: &[u8]) -> Result<usize, Flaw> {
        if bytes.is_empty() {
            return Ok(0);
        }
        match self.state {
            State::Start => self.start(bytes),
            State::Opaque => Ok(bytes.len()),
            State::Head(looked) => self.head(bytes, looked),
            State::Length(left) => Ok(self.skip(bytes, left, State::Length, State::head())),
            State::Size => self.size(bytes),
            State::Chunk(left) => Ok(self.skip(bytes, left, State::Chunk, State::ChunkEnd)),
            State::ChunkEnd => self.chunk_end(bytes),
            State::Trailers(seen) => self.trailers(bytes, seen),
        }
    }

    fn start(&mut self, bytes: &[u8]) -> Result<usize, Flaw> {
        if PREFACE.starts_with(bytes) && bytes.len() < PREFACE.len() {
            return Ok(0);
        }
        self.state = match bytes.starts_with(PREFACE) {
            true => State::Opaque,
            false => State::head(),
        };
        self.clear(bytes)
    }

    fn head(&mut self, bytes: &[u8], before: Looked) -> Result<usize, Flaw> {
        let mut looked = before;
        let end = self.lines(bytes, &mut looked);
        // What is wrong inside of lines stands before what is wrong with the next one.
        plain(&bytes[before.bytes..looked.bytes])?;
        match end? {
            End::Open if bytes.len() > self.longest_head => Err(Flaw::HeadTooLong),
            End::Open => {
                self.state = State::Head(looked);
                Ok(0)
            }
            End::Blank => {
                self.state = State::Head(Looked::nothing(true));
                Ok(CRLF.len())
            }
            // What is there of the body goes with the head, so that both are read at once,
            // into one buffer.
            End::Whole(Framing::Length(length)) => {
                let body = &bytes[looked.bytes..];
                Ok(looked.bytes + self.skip(body, length, State::Length, State::head()))
            }
            End::Whole(Framing::Chunked) => {
                self.state = State::Size;
                Ok(looked.bytes)
            }
        }
    }

    /// Looks at the lines that are there; those in which nothing is wrong are counted.
    fn lines(&self, bytes: &[u8], looked: &mut Looked) -> Result<End, Flaw> {
        let lines = &bytes[looked.bytes..];
        let (mut begin, from) = (0, looked.bytes);
        for end in memchr_iter(b'\n', lines) {
            let line = lines[begin..end].strip_suffix(b"\r").ok_or(Flaw::BareLf)?;
            begin = end + 1;
            if from + begin > self.longest_head {
                return Err(Flaw::HeadTooLong);
            }
            match (line.is_empty(), looked.bytes, looked.blank) {
                (false, ..) => looked.head.line(line)?,
                // One before a request is forgiven, as RFC 9112, section 2.2, asks.
                (true, 0, false) => return Ok(End::Blank),
                (true, 0, true) => return Err(Flaw::Malformed),
                (true, ..) => {
                    looked.bytes = from + begin;
                    return looked.head.framing().map(End::Whole);
                }
            }
            looked.bytes = from + begin;
        }
        Ok(End::Open)
    }

    fn skip(&mut self, bytes: &[u8], left: u64, more: fn(u64) -> State, then: State) -> usize {
        let taken = left.min(bytes.len() as u64);
        self.state = match left - taken {
            0 => then,
            left => more(left),
        };
        taken as usize
    }

    fn size(&mut self, bytes: &[u8]) -> Result<usize, Flaw> {
        let Some(line) = line(bytes)? else {
            return not_too_long(bytes, LONGEST_SIZE);
        };
        not_too_long(line, LONGEST_SIZE)?;
        self.state = match size(line)? {
            0 => State::Trailers(0),
            size => State::Chunk(size),
        };
        Ok(line.len() + CRLF.len())
    }

    fn chunk_end(&mut self, bytes: &[u8]) -> Result<usize, Flaw> {
        match bytes {
            [b'\r', b'\n', ..] => {
                self.state = State::Size;
                Ok(CRLF.len())
            }
            [b'\r'] => Ok(0),
            _ => Err(Flaw::BadChunk),
        }
    }

    fn trailers(&mut self, bytes: &[u8], seen: usize) -> Result<usize, Flaw> {
        let left = self.longest_head.saturating_sub(seen);
        let Some(line) = line(bytes)? else {
            return not_too_long(bytes, left);
        };
        let length = line.len() + CRLF.len();
        not_too_long(&bytes[..length], left)?;
        self.state = match line.is_empty() {
            true => State::head(),
            false => State::Trailers(seen.saturating_add(length)),
        };
        Ok(length)
    }
}

const CRLF: &[u8] = b"\r\n";

/// The first line without its end, once it is there.
fn line(bytes: &[u8]) -> Result<Option<&[u8]>, Flaw> {
    let Some(end) = memchr(b'\n', bytes) else {
        return Ok(None);
    };
    let line = bytes[..end].strip_suffix(b"\r").ok_or(Flaw::BareLf)?;
    match memchr(b'\r', line) {
        Some(_) => Err(Flaw::BareCr),
        None => Ok(Some(line)),
    }
}

/// Nothing is readable yet, and not too much is kept for it.
fn not_too_long(bytes: &[u8], longest: usize) -> Result<usize, Flaw> {
    match bytes.len() > longest {
        true => Err(Flaw::BadChunk),
        false => Ok(0),
    }
}

/// Hexadecimal digits, then nothing or extensions.
fn size(line: &[u8]) -> Result<u64, Flaw> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
    let is_hex = !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit);
    let text = str::from_utf8(digits).ok().filter(|_| is_hex);
    text.and_then(|text| u64::from_str_radix(text, 16).ok())
        .ok_or(Flaw::BadChunk)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LONGEST: usize = 4_096;

    /// All that may be read of what comes in pieces, and why no more.
    fn cleared(pieces: &[&[u8]]) -> (usize, Option<Flaw>) {
        let (mut scanner, mut seen, mut cleared) = (Scanner::new(LONGEST), Vec::new(), 0);
        for piece in pieces {
            seen.extend_from_slice(piece);
            loop {
                match scanner.clear(&seen[cleared..]) {
                    Ok(0) => break,
                    Ok(more) => cleared += more,
                    Err(flaw) => return (cleared, Some(flaw)),
                }
            }
        }
        (cleared, None)
    }

    fn all(text: &str) -> (usize, Option<Flaw>) {
        cleared(&[text.as_bytes()])
    }

    const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    const CHUNKED: &str = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";

    #[test]
    fn whole_requests_pass_one_after_the_other() {
        let post = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\na\nb";
        let chunks = "3;ext=1\r\na\nb\r\nA\r\n0123456789\r\n0\r\nx: y\r\n\r\n";
        let text = format!("\r\n{GET}{post}{GET}{CHUNKED}{chunks}\r\n{GET}");
        assert_eq!(all(&text), (text.len(), None));
    }

    #[test]
    fn a_body_passes_with_its_head_as_far_as_it_is_there() {
        let head = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\n";
        for (body, passes) in [("", 0), ("ab", 2), ("abc", 3), ("abcGET /", 3)] {
            let mut scanner = Scanner::new(LONGEST);
            let sent = format!("{head}{body}");
            let cleared = scanner.clear(sent.as_bytes());
            assert_eq!(cleared, Ok(head.len() + passes), "{body}");
            assert_eq!(scanner.is_at_head(), passes == 3, "{body}");
        }
    }

    #[test]
    fn http_2_passes_as_it_is() {
        let text = format!("{}\n\n\n", str::from_utf8(PREFACE).unwrap());
        assert_eq!(all(&text), (text.len(), None));
        assert_eq!(all("PRI * HTTP/2.0\r\n\r\nSM\r"), (0, None));
        assert_eq!(
            all("PRI * HTTP/2.0\r\n\r\nSN\r\n\r\n").1,
            Some(Flaw::Malformed)
        );
        assert_eq!(
            all(&format!("{GET}PRI * HTTP/2.0\r\n\r\n")).1,
            Some(Flaw::Malformed)
        );
    }

    #[test]
    fn nothing_of_a_flawed_head_is_read() {
        let long = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}", "y".repeat(LONGEST));
        for (text, flaw) in [
            ("GET / HTTP/1.1\nhost: a\r\n\r\n", Flaw::BareLf),
            ("GET / HTTP/1.1\r\nhost: a\n", Flaw::BareLf),
            ("GET / HTTP/1.1\r\nhost: a\r\n\n", Flaw::BareLf),
            ("\n", Flaw::BareLf),
            ("GET / HTTP/1.1\r\nhost: a\rb\r\n", Flaw::BareCr),
            ("\r\n\r\n", Flaw::Malformed),
            (&long, Flaw::HeadTooLong),
        ] {
            let blank = usize::from(text == "\r\n\r\n") * 2;
            assert_eq!(all(text), (blank, Some(flaw)), "{text:?}");
            let second = format!("{GET}{text}");
            assert_eq!(all(&second), (GET.len() + blank, Some(flaw)), "{text:?}");
        }
    }

    #[test]
    fn chunks_are_read_strictly() {
        let long = format!("1;{}", "x".repeat(LONGEST_SIZE));
        let trailers = format!("0\r\n{}", "x: y\r\n".repeat(LONGEST / 6 + 1));
        for (chunks, flaw) in [
            ("1\nx\r\n", Flaw::BareLf),
            ("1;a\rb\r\nx\r\n", Flaw::BareCr),
            ("\r\n", Flaw::BadChunk),
            (" 1\r\n", Flaw::BadChunk),
            ("1 \r\n", Flaw::BadChunk),
            ("0x1\r\n", Flaw::BadChunk),
            ("-1\r\n", Flaw::BadChunk),
            ("+1\r\n", Flaw::BadChunk),
            ("10000000000000000\r\n", Flaw::BadChunk),
            ("1\r\nxy", Flaw::BadChunk),
            ("1\r\nx\n", Flaw::BadChunk),
            ("0\r\nx: y\n", Flaw::BareLf),
            (&long, Flaw::BadChunk),
            (&trailers, Flaw::BadChunk),
        ] {
            assert_eq!(
                all(&format!("{CHUNKED}{chunks}")).1,
                Some(flaw),
                "{chunks:?}"
            );
        }
    }

    fn pieces(bytes: &[u8], cuts: &[prop::sample::Index]) -> Vec<Vec<u8>> {
        let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        at.extend([0, bytes.len()]);
        at.sort_unstable();
        at.windows(2)
            .map(|pair| bytes[pair[0]..pair[1]].to_vec())
            .collect()
    }

    /// What is nearly HTTP: valid requests with some bytes exchanged.
    fn nearly_http() -> impl Strategy<Value = Vec<u8>> {
        let parts = prop::sample::select(vec![
            GET,
            CHUNKED,
            "3\r\nabc\r\n",
            "0\r\n\r\n",
            "\r\n",
            "\n",
            "a: b\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n",
            "12345",
        ]);
        let text = prop::collection::vec(parts, 0..8).prop_map(|parts| parts.concat().into_bytes());
        let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
        (text, changes).prop_map(|(mut text, changes)| {
            for (at, byte) in changes
                .iter()
                .filter(|_| !text.is_empty())
                .collect::<Vec<_>>()
            {
                let at = at.index(text.len());
                text[at] = *byte;
            }
            text
        })
    }

    proptest! {
        /// However the bytes come, the same of them are read, and the same is wrong.
        #[test]
        fn pieces_make_no_difference(
            bytes in nearly_http(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let pieces = pieces(&bytes, &cuts);
            let pieces: Vec<_> = pieces.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(cleared(&pieces), cleared(&[&bytes]));
        }

        /// Nor is more let through than came.
        #[test]
        fn no_bytes_at_all_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let (length, _) = cleared(&[&bytes]);
            prop_assert!(length <= bytes.len());
        }
    }
}
