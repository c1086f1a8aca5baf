//! Server-sent events, read as they pass, in constant memory.
//!
//! Only what OpenAI-style streams use is told apart: the data of an event, and
//! its end. Names, ids, comments and retry hints are read over. Lines end in
//! CR, LF or CRLF and in nothing else (WHATWG HTML, section 9.2.6).

use http::HeaderValue;
use memchr::memchr2;

/// Whether a content type is that of an event stream.
pub(crate) fn is_event_stream(content_type: &HeaderValue) -> bool {
    const KIND: &[u8] = b"text/event-stream";
    let value = content_type.as_bytes();
    let kind = value.split(|b| *b == b';').next().unwrap_or(value);
    kind.trim_ascii().eq_ignore_ascii_case(KIND)
}

/// What the reader comes upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part<'c> {
    /// All of an event's data, where it is one line and lies in one chunk: the
    /// common case, told apart because it can be looked at as a whole. The
    /// event is over.
    Whole(&'c [u8]),
    /// Some of the event's data, wherever the chunks happened to be cut; a
    /// newline stands at the end of each data line.
    Data(&'c [u8]),
    /// A comment, of one line, is over.
    Comment,
    /// The event is over.
    End,
}

/// Reads a stream in chunks of any cut.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reader {
    line: Line,
    /// Something of an event was read; a comment is not of any.
    open: bool,
    /// Some of the event's data was handed on.
    begun: bool,
    /// A CR was the last byte, so an LF belongs to it.
    after_cr: bool,
    /// Bytes of the byte-order mark seen at the very start; 3 when that
    /// is over.
    mark: u8,
}

/// Where in a line the reader is.
#[derive(Clone, Copy, Debug)]
enum Line {
    /// So many bytes of `data:` have matched.
    Field(u8),
    /// Past the colon, where one space is skipped.
    Colon,
    /// Before the data's first byte.
    Start,
    /// Inside the data.
    Data,
    /// In a line that begins with a colon.
    Comment,
    /// In a line that is read over.
    Other,
}

impl Default for Line {
    fn default() -> Self {
        Line::Field(0)
    }
}

const FIELD: &[u8] = b"data:";
const MARK: [u8; 3] = [0xEF, 0xBB, 0xBF];

impl Reader {
    /// Takes in the next chunk and hands each part on as it is found.
    pub(crate) fn feed<'c>(&mut self, mut chunk: &'c [u8], mut part: impl FnMut(Part<'c>)) {
        while let Some(found) = self.next(&mut chunk) {
            part(found);
        }
    }

    /// Reads on to the end of the next part, and leaves in `chunk` what comes
    /// after it; `None` where the chunk is over before.
    pub(crate) fn next<'c>(&mut self, chunk: &mut &'c [u8]) -> Option<Part<'c>> {
        while let Some((first, rest)) = chunk.split_first() {
            if self.skips(*first) {
                *chunk = rest;
                continue;
            }
            let part = match self.line {
                Line::Field(matched) => self.field(usize::from(matched), chunk),
                Line::Colon => {
                    self.line = Line::Start;
                    *chunk = chunk.strip_prefix(b" ").unwrap_or(chunk);
                    None
                }
                Line::Start | Line::Data => Some(self.data(chunk)),
                Line::Comment | Line::Other => self.unread_line(chunk),
            };
            if part.is_some() {
                return part;
            }
        }
        None
    }

    /// Whether an event has begun and is not over.
    pub(crate) fn is_inside(&self) -> bool {
        self.open
    }

    /// Whether `chunk`, the next, begins with the second half of a CRLF.
    pub(crate) fn splits_line_end(&self, chunk: &[u8]) -> bool {
        self.after_cr && chunk.first() == Some(&b'\n')
    }

    /// How many bytes of the byte-order mark `chunk`, the next, begins with. They
    /// are of no event.
    pub(crate) fn mark_in(&self, chunk: &[u8]) -> usize {
        let mark = MARK.get(usize::from(self.mark)..).unwrap_or_default();
        let same = mark
            .iter()
            .zip(chunk)
            .take_while(|(mark, byte)| mark == byte);
        same.count()
    }

    /// Whether a byte stands outside every line: the LF of a CRLF, the
    /// byte-order mark.
    fn skips(&mut self, byte: u8) -> bool {
        if std::mem::take(&mut self.after_cr) && byte == b'\n' {
            return true;
        }
        if MARK.get(usize::from(self.mark)) == Some(&byte) {
            self.mark += 1;
            return true;
        }
        self.mark = MARK.len() as u8;
        false
    }

    fn field<'c>(&mut self, matched: usize, chunk: &mut &'c [u8]) -> Option<Part<'c>> {
        let expected = &FIELD[matched..];
        if chunk.starts_with(expected) {
            *chunk = &chunk[expected.len()..];
            self.line = Line::Colon;
            self.open = true;
            return None;
        }
        let byte = chunk[0];
        if matches!(byte, b'\r' | b'\n') {
            self.end_line(chunk);
            return (matched == 0).then(|| self.end_event(Part::End));
        }
        *chunk = &chunk[1..];
        self.line = match byte {
            b':' if matched == 0 => Line::Comment,
            byte if byte == expected[0] => Line::Field(matched as u8 + 1),
            _ => Line::Other,
        };
        self.open |= !matches!(self.line, Line::Comment);
        None
    }

    /// Reads data to the end of the line; and then that end.
    fn data<'c>(&mut self, chunk: &mut &'c [u8]) -> Part<'c> {
        let end = memchr2(b'\r', b'\n', chunk).unwrap_or(chunk.len());
        let (text, rest) = chunk.split_at(end);
        if matches!(self.line, Line::Start)
            && !self.begun
            && let Some(rest) = after_blank_line(rest)
        {
            *chunk = rest;
            return self.end_event(Part::Whole(text));
        }
        self.begun = true;
        self.line = Line::Data;
        *chunk = rest;
        if text.is_empty() {
            self.end_line(chunk);
            return Part::Data(b"\n");
        }
        Part::Data(text)
    }

    fn unread_line<'c>(&mut self, chunk: &mut &'c [u8]) -> Option<Part<'c>> {
        let end = memchr2(b'\r', b'\n', chunk).unwrap_or(chunk.len());
        *chunk = &chunk[end..];
        if chunk.is_empty() {
            return None;
        }
        let part = matches!(self.line, Line::Comment).then_some(Part::Comment);
        self.end_line(chunk);
        part
    }

    /// Reads the CR, LF or CRLF that stands first in the chunk.
    fn end_line(&mut self, chunk: &mut &[u8]) {
        self.line = Line::default();
        let cr = chunk[0] == b'\r';
        *chunk = &chunk[1..];
        match chunk.strip_prefix(b"\n") {
            Some(rest) if cr => *chunk = rest,
            _ => self.after_cr = cr && chunk.is_empty(),
        }
    }

    fn end_event<'c>(&mut self, last: Part<'c>) -> Part<'c> {
        self.line = Line::default();
        self.open = false;
        self.begun = false;
        last
    }
}

/// What follows the end of a line and an empty line, in the two usual forms.
fn after_blank_line(ends: &[u8]) -> Option<&[u8]> {
    let unix = ends.strip_prefix(b"\n\n");
    unix.or_else(|| ends.strip_prefix(b"\r\n\r\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(stream: &[u8], cut: usize) -> Vec<Vec<u8>> {
        let mut reader = Reader::default();
        let mut events = vec![Vec::new()];
        for chunk in stream.chunks(cut) {
            reader.feed(chunk, |part| match part {
                Part::Whole(data) => {
                    assert_eq!(events.last(), Some(&Vec::new()), "nothing came before it");
                    events.last_mut().unwrap().extend_from_slice(data);
                    events.last_mut().unwrap().push(b'\n');
                    events.push(Vec::new());
                }
                Part::Data(data) => events.last_mut().unwrap().extend_from_slice(data),
                Part::Comment => {}
                Part::End => events.push(Vec::new()),
            });
        }
        events.retain(|event| !event.is_empty());
        events
    }

    #[test]
    fn events_are_the_same_however_they_are_cut() {
        let stream = b"\xEF\xBB\xBFdata: a\r\n\r\n: hi\r\n\r\nevent: x\rdata:b\rdata:  c\r\rid\ndata\ndatax: no\ndata: \xE6\x9D\xB1\n\ndata: cut";
        let expected: [&[u8]; 4] = [b"a\n", b"b\n c\n", b"\xE6\x9D\xB1\n", b"cut"];
        for cut in 1..=stream.len() {
            assert_eq!(read(stream, cut), expected, "cut every {cut}");
        }
    }

    #[test]
    fn an_event_in_one_piece_is_handed_on_in_one_piece() {
        for stream in [
            "event: a\ndata: b\n\ndata:c\n\n",
            "event: a\r\ndata: b\r\n\r\ndata:c\r\n\r\n",
        ] {
            let mut parts = Vec::new();
            Reader::default().feed(stream.as_bytes(), |part| parts.push(part));
            assert_eq!(parts, [Part::Whole(b"b"), Part::Whole(b"c")], "{stream:?}");
        }
    }

    #[test]
    fn comments_are_of_no_event() {
        let mut reader = Reader::default();
        let mut chunk: &[u8] = b": hi\n\n:\ndata: a";
        let mut next = || {
            let part = reader.next(&mut chunk);
            (part, reader.is_inside())
        };
        assert_eq!(next(), (Some(Part::Comment), false));
        assert_eq!(next(), (Some(Part::End), false));
        assert_eq!(next(), (Some(Part::Comment), false));
        assert_eq!(next(), (Some(Part::Data(b"a")), true));
        assert_eq!(next(), (None, true));
    }

    #[test]
    fn content_types_are_compared_without_case_and_parameters() {
        for yes in ["text/event-stream", "Text/Event-Stream ; charset=utf-8"] {
            assert!(is_event_stream(&HeaderValue::from_static(yes)));
        }
        for no in ["text/event-streams", "application/json", ""] {
            assert!(!is_event_stream(&HeaderValue::from_static(no)));
        }
    }
}
