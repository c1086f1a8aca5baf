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
    /// common case, told apart because it can be looked at as a whole.
    Whole(&'c [u8]),
    /// Some of the event's data, wherever the chunks happened to be cut; a
    /// newline stands at the end of each data line.
    Data(&'c [u8]),
    /// The event is over.
    End,
}

/// Reads a stream in chunks of any cut.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reader {
    line: Line,
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
        while let Some(first) = chunk.first() {
            if self.skips(*first) {
                chunk = &chunk[1..];
                continue;
            }
            chunk = match self.line {
                Line::Colon => {
                    self.line = Line::Start;
                    chunk.strip_prefix(b" ").unwrap_or(chunk)
                }
                Line::Field(_) => {
                    self.field(*first, &mut part);
                    &chunk[1..]
                }
                Line::Start | Line::Data | Line::Other => self.rest_of_line(chunk, &mut part),
            };
        }
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

    fn field<'c>(&mut self, byte: u8, part: &mut impl FnMut(Part<'c>)) {
        let Line::Field(matched) = self.line else {
            return;
        };
        match byte {
            b'\r' | b'\n' => {
                if matched == 0 {
                    self.begun = false;
                    part(Part::End);
                }
                self.end_line(byte);
            }
            byte if byte == FIELD[usize::from(matched)] => {
                let matched = matched + 1;
                self.line = if usize::from(matched) == FIELD.len() {
                    Line::Colon
                } else {
                    Line::Field(matched)
                };
            }
            _ => self.line = Line::Other,
        }
    }

    fn rest_of_line<'c>(&mut self, chunk: &'c [u8], part: &mut impl FnMut(Part<'c>)) -> &'c [u8] {
        let end = memchr2(b'\r', b'\n', chunk);
        let (text, rest) = chunk.split_at(end.unwrap_or(chunk.len()));
        if matches!(self.line, Line::Start)
            && !self.begun
            && let Some(rest) = after_blank_line(rest)
        {
            part(Part::Whole(text));
            self.line = Line::default();
            return rest;
        }
        let is_data = !matches!(self.line, Line::Other);
        if is_data {
            self.begun = true;
            self.line = Line::Data;
            part(Part::Data(text));
        }
        match rest.split_first() {
            None => rest,
            Some((end, rest)) => {
                if is_data {
                    part(Part::Data(b"\n"));
                }
                self.end_line(*end);
                rest
            }
        }
    }

    fn end_line(&mut self, end: u8) {
        self.line = Line::default();
        self.after_cr = end == b'\r';
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
    fn content_types_are_compared_without_case_and_parameters() {
        for yes in ["text/event-stream", "Text/Event-Stream ; charset=utf-8"] {
            assert!(is_event_stream(&HeaderValue::from_static(yes)));
        }
        for no in ["text/event-streams", "application/json", ""] {
            assert!(!is_event_stream(&HeaderValue::from_static(no)));
        }
    }
}
