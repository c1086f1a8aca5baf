//! What the head of an HTTP/1 request says of its body, read strictly.
//!
//! hyper reads each head again, and refuses what is none. So this reader has to find out
//! two things alone: that hyper sees the same lines, and how the body is framed. It looks
//! at each line once, and of most no further than to the end of the name.

use http::Uri;

use super::Flaw;

/// As many as hyper takes.
const MOST_HEADERS: usize = 100;

/// How a body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
}

/// What the lines of a head have said so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    lines: usize,
    is_http_11: bool,
    is_connect: bool,
    hosts: usize,
    lengths: usize,
    /// What the first of them says; `None` where that is no number.
    length: Option<u64>,
    codings: usize,
    /// Whether the first of them is the only one that there may be.
    is_chunked: bool,
}

impl Head {
    /// Takes in the next line, which is without its end and not empty.
    pub(super) fn line(&mut self, line: &[u8]) -> Result<(), Flaw> {
        self.lines += 1;
        match self.lines {
            1 => self.request(line),
            2.. if self.lines > MOST_HEADERS + 1 => Err(Flaw::TooManyHeaders),
            _ => self.header(line),
        }
    }

    fn request(&mut self, line: &[u8]) -> Result<(), Flaw> {
        let mut parts = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Flaw::Malformed);
        };
        if method.is_empty() || token(method) < method.len() {
            return Err(Flaw::Malformed);
        }
        if !is_plain(target) {
            doubted(target)?;
        }
        self.is_connect = method == b"CONNECT";
        self.is_http_11 = match version {
            b"HTTP/1.1" => true,
            b"HTTP/1.0" => false,
            _ => return Err(Flaw::Malformed),
        };
        Ok(())
    }

    fn header(&mut self, line: &[u8]) -> Result<(), Flaw> {
        let (name, rest) = line.split_at(token(line));
        // Neither a space before the colon nor a line that goes on with the one before.
        let value = rest.strip_prefix(b":").filter(|_| !name.is_empty());
        let value = value.ok_or(Flaw::Malformed)?;
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => self.hosts += 1,
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                self.length = number(value.trim_ascii());
                self.lengths += 1;
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                self.is_chunked = value.trim_ascii().eq_ignore_ascii_case(b"chunked");
                self.codings += 1;
            }
            _ => {}
        }
        Ok(())
    }

    /// How the body is framed, of a head whose lines are all there.
    pub(super) fn framing(&self) -> Result<Framing, Flaw> {
        match self.hosts {
            _ if self.is_connect => Err(Flaw::Connect),
            0 => Err(Flaw::NoHost),
            1 => self.body(),
            _ => Err(Flaw::DoubleHost),
        }
    }

    fn body(&self) -> Result<Framing, Flaw> {
        match (self.lengths, self.codings) {
            (2.., _) => Err(Flaw::DoubleLength),
            (0, 0) => Ok(Framing::Length(0)),
            (_, 0) => self.length.map(Framing::Length).ok_or(Flaw::BadLength),
            _ if !self.is_http_11 => Err(Flaw::CodingInHttp10),
            (1, _) => Err(Flaw::LengthAndCoding),
            (_, 1) if self.is_chunked => Ok(Framing::Chunked),
            _ => Err(Flaw::OtherCoding),
        }
    }
}

/// Whether lines hold nothing but what may stand in a head; each of them ends with CR LF. Names
/// are looked at one by one; this is for what stands behind them.
pub(super) fn plain(lines: &[u8]) -> Result<(), Flaw> {
    let [controls, ends] = controls(lines);
    match controls == 2 * ends {
        true => Ok(()),
        false => doubted_lines(lines),
    }
}

/// How many control bytes there are, and how many of them end a line. Counted in blocks of a
/// size that is known, which are compiled to be looked at as a whole.
fn controls(lines: &[u8]) -> [usize; 2] {
    let (blocks, rest) = lines.as_chunks::<64>();
    let blocks = blocks.iter().map(|block| counted(block));
    blocks.fold(counted(rest), |[controls, ends], [more, more_ends]| {
        [controls + more, ends + more_ends]
    })
}

/// Of fewer than 256 bytes.
#[inline]
fn counted(bytes: &[u8]) -> [usize; 2] {
    let [mut controls, mut ends] = [0_u8; 2];
    for byte in bytes {
        controls += u8::from((*byte < b' ') | (*byte == 0x7f));
        ends += u8::from(*byte == b'\n');
    }
    [controls.into(), ends.into()]
}

/// Lines in which there are other control bytes than their ends.
#[cold]
fn doubted_lines(lines: &[u8]) -> Result<(), Flaw> {
    let mut pairs = lines.windows(2);
    if pairs.any(|pair| pair[0] == b'\r' && pair[1] != b'\n') {
        return Err(Flaw::BareCr);
    }
    let mut others = lines.iter().filter(|byte| is_control(**byte));
    match others.next() {
        Some(_) => Err(Flaw::Malformed),
        None => Ok(()),
    }
}

/// Whether a target is the path of a call, of letters that nobody doubts.
fn is_plain(target: &[u8]) -> bool {
    target.first() == Some(&b'/') && target.iter().all(|byte| PLAIN[usize::from(*byte)])
}

/// Another target. What hyper makes of it, and that it refuses some without a word, is asked of
/// whom hyper asks.
fn doubted(target: &[u8]) -> Result<(), Flaw> {
    if target.is_empty() || target.contains(&b'\t') || str::from_utf8(target).is_err() {
        return Err(Flaw::Malformed);
    }
    match Uri::try_from(target) {
        Ok(_) => Ok(()),
        Err(_) => Err(Flaw::BadTarget),
    }
}

/// But for those that end a line, and the tab.
fn is_control(byte: u8) -> bool {
    ((byte < b' ') & !matches!(byte, b'\t' | b'\r' | b'\n')) | (byte == 0x7f)
}

/// Digits and nothing else: no sign, no list, no space.
fn number(digits: &[u8]) -> Option<u64> {
    let text = str::from_utf8(digits).ok()?;
    let all_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| all_digits)
}

/// How many bytes at the front may stand in a name or a method (RFC 9110, section 5.6.2).
fn token(line: &[u8]) -> usize {
    let end = line.iter().position(|byte| !TOKEN[usize::from(*byte)]);
    end.unwrap_or(line.len())
}

static TOKEN: [bool; 256] = alphanumeric_or(b"!#$%&'*+-.^_`|~");
static PLAIN: [bool; 256] = alphanumeric_or(b"/-._~?&=%");

const fn alphanumeric_or(others: &[u8]) -> [bool; 256] {
    let (mut table, mut byte) = ([false; 256], 0);
    while byte < 128 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(lines: &str) -> Result<Framing, Flaw> {
        let mut head = Head::default();
        for line in lines.split('|') {
            head.line(line.as_bytes())?;
        }
        head.framing()
    }

    #[test]
    fn heads_are_read_strictly() {
        for (lines, read) in [
            ("GET / HTTP/1.1|host: a", Ok(Framing::Length(0))),
            ("GET / HTTP/1.0|Host: a", Ok(Framing::Length(0))),
            (
                "POST / HTTP/1.1|host: a|content-length: 12",
                Ok(Framing::Length(12)),
            ),
            (
                "POST / HTTP/1.1|host: a|transfer-encoding: Chunked",
                Ok(Framing::Chunked),
            ),
            ("GET / HTTP/1.1|x: y", Err(Flaw::NoHost)),
            ("GET / HTTP/1.0|x: y", Err(Flaw::NoHost)),
            ("GET / HTTP/1.1|host: a|Host: a", Err(Flaw::DoubleHost)),
            (
                "POST / HTTP/1.1|host: a|content-length: 1|content-length: 1",
                Err(Flaw::DoubleLength),
            ),
            (
                "POST / HTTP/1.1|host: a|content-length: 1, 1",
                Err(Flaw::BadLength),
            ),
            (
                "POST / HTTP/1.1|host: a|content-length: +1",
                Err(Flaw::BadLength),
            ),
            (
                "POST / HTTP/1.1|host: a|content-length: -1",
                Err(Flaw::BadLength),
            ),
            (
                "POST / HTTP/1.1|host: a|content-length: 0x1",
                Err(Flaw::BadLength),
            ),
            (
                "POST / HTTP/1.1|host: a|content-length:",
                Err(Flaw::BadLength),
            ),
            (
                "POST / HTTP/1.1|host: a|content-length: 99999999999999999999",
                Err(Flaw::BadLength),
            ),
            (
                "POST / HTTP/1.1|host: a|content-length: 1|transfer-encoding: chunked",
                Err(Flaw::LengthAndCoding),
            ),
            (
                "POST / HTTP/1.1|host: a|transfer-encoding: chunked|content-length: 1",
                Err(Flaw::LengthAndCoding),
            ),
            (
                "POST / HTTP/1.0|host: a|transfer-encoding: chunked",
                Err(Flaw::CodingInHttp10),
            ),
            (
                "POST / HTTP/1.1|host: a|transfer-encoding: gzip, chunked",
                Err(Flaw::OtherCoding),
            ),
            (
                "POST / HTTP/1.1|host: a|transfer-encoding: chunked|transfer-encoding: identity",
                Err(Flaw::OtherCoding),
            ),
            (
                "POST / HTTP/1.1|host: a|transfer-encoding : chunked",
                Err(Flaw::Malformed),
            ),
            ("POST / HTTP/1.1|host: a| folded", Err(Flaw::Malformed)),
            ("GET / HTTP/2.0|host: a", Err(Flaw::Malformed)),
            ("GET /", Err(Flaw::Malformed)),
            ("CONNECT a:443 HTTP/1.1|host: a", Err(Flaw::Connect)),
            ("OPTIONS * HTTP/1.1|host: a", Ok(Framing::Length(0))),
            ("GET /{a}b:c+d HTTP/1.1|host: a", Ok(Framing::Length(0))),
            ("GET /<a> HTTP/1.1|host: a", Err(Flaw::BadTarget)),
            ("GET a/b HTTP/1.1|host: a", Err(Flaw::BadTarget)),
            ("GET http:/// HTTP/1.1|host: a", Err(Flaw::BadTarget)),
        ] {
            assert_eq!(of(lines), read, "{lines}");
        }
        let many = "|x: y".repeat(100);
        assert_eq!(
            of(&format!("GET / HTTP/1.1|host: a{many}")),
            Err(Flaw::TooManyHeaders)
        );
    }

    /// The same by hyper's own parser, of lines that end as they must.
    fn by_httparse(head: &[u8]) -> Option<Framing> {
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        let read = request.parse(head).ok()?;
        // What hyper does next.
        Uri::try_from(request.path?).ok()?;
        if read != httparse::Status::Complete(head.len()) || request.method == Some("CONNECT") {
            return None;
        }
        let values = |name: &str| -> Vec<&[u8]> {
            let named = |header: &&httparse::Header<'_>| header.name.eq_ignore_ascii_case(name);
            let headers = request.headers.iter().filter(named);
            headers.map(|header| header.value).collect()
        };
        let (lengths, codings) = (values("content-length"), values("transfer-encoding"));
        match (&values("host")[..], &lengths[..], &codings[..]) {
            ([_], [], []) => Some(Framing::Length(0)),
            ([_], [length], []) => number(length).map(Framing::Length),
            ([_], [], [coding]) if request.version == Some(1) => coding
                .eq_ignore_ascii_case(b"chunked")
                .then_some(Framing::Chunked),
            _ => None,
        }
    }

    /// By this reader, as the scanner has it read the lines.
    fn by_lines(head: &[u8]) -> Option<Framing> {
        let lines = head.strip_suffix(b"\r\n\r\n")?;
        plain(&head[..head.len() - 2]).ok()?;
        let mut read = Head::default();
        for line in lines.split(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            read.line(line).ok()?;
        }
        read.framing().ok()
    }

    fn heads() -> impl Strategy<Value = Vec<u8>> {
        let first = prop::sample::select(vec![
            "GET / HTTP/1.1",
            "POST /a?b=%20 HTTP/1.0",
            "CONNECT a:443 HTTP/1.1",
            "GET  / HTTP/1.1",
            "GET / HTTP/2.0",
            "G\tT / HTTP/1.1",
        ]);
        let names = prop::sample::select(vec![
            "host",
            "Content-Length",
            "transfer-encoding",
            "x-y",
            "accept",
            "",
            " x",
        ]);
        let colons = prop::sample::select(vec![":", ": ", ":\t", " : ", "", ":  "]);
        let values = prop::sample::select(vec![
            "a",
            "",
            "12",
            "+1",
            "chunked",
            "Chunked ",
            "gzip, chunked",
            "\u{e9}",
            "a\u{0}b",
            "a\tb",
        ]);
        let header =
            (names, colons, values).prop_map(|(name, colon, value)| [name, colon, value].concat());
        let headers = prop::collection::vec(header, 0..6);
        let change = prop::option::of((any::<prop::sample::Index>(), any::<u8>()));
        (first, headers, change).prop_map(|(first, headers, change)| {
            let lines = [&[first.to_owned(), "host: a".to_owned()], &headers[..]].concat();
            let mut head = lines.join("\r\n").into_bytes();
            if let Some((at, byte)) = change.filter(|(_, byte)| !matches!(byte, b'\r' | b'\n')) {
                let at = at.index(head.len());
                if !matches!(head[at], b'\r' | b'\n') {
                    head[at] = byte;
                }
            }
            [&head[..], b"\r\n\r\n"].concat()
        })
    }

    /// What `plain` says, byte by byte.
    fn plain_by_bytes(lines: &[u8]) -> Result<(), Flaw> {
        for (at, byte) in lines.iter().enumerate() {
            if *byte == b'\r' && lines.get(at + 1) != Some(&b'\n') {
                return Err(Flaw::BareCr);
            }
        }
        let may_stand = |byte: &u8| matches!(byte, b'\t' | b'\r' | b'\n' | b' '..=b'~' | 0x80..);
        lines
            .iter()
            .all(may_stand)
            .then_some(())
            .ok_or(Flaw::Malformed)
    }

    proptest! {
        /// Wherever in lines of whatever lengths there is one byte that may not be there.
        #[test]
        fn what_may_not_stand_in_a_line_is_seen(
            lengths in prop::collection::vec(0..200_usize, 1..4),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        ) {
            let mut lines: Vec<Vec<u8>> = lengths.iter().map(|length| vec![b'a'; *length]).collect();
            for (at, byte) in changes.iter().filter(|(_, byte)| *byte != b'\n') {
                let line = at.get_mut(&mut lines);
                let at = at.index(line.len() + 1);
                line.splice(at..at, [*byte]);
            }
            let lines: Vec<u8> = lines.iter().flat_map(|line| [line, &b"\r\n"[..]].concat()).collect();
            prop_assert_eq!(plain(&lines), plain_by_bytes(&lines));
        }

        /// What stands before hyper understands a head as hyper does, or not at all.
        #[test]
        fn heads_are_understood_as_hyper_understands_them(head in heads()) {
            prop_assert_eq!(by_lines(&head), by_httparse(&head), "{:?}", String::from_utf8_lossy(&head));
        }
    }
}
