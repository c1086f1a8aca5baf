//! The input as it is worked through: lines, read one at a time, checked and
//! known by their ids.

pub(crate) mod bare;
pub(crate) mod ids;
pub(crate) mod line;
pub(crate) mod lines;
pub(crate) mod unpack;

use std::io;

use http::Uri;
use tokio::io::AsyncRead;

use crate::input::ids::{Ids, Seen};
use crate::input::line::Request;
use crate::input::line::{BadLine, Line, Problem};
use crate::input::lines::{Lines, RawLine};

/// The longest line that is read unless told otherwise: 16 MiB. A request with
/// a few photographs in it takes about 5.
pub(crate) const MAX_LINE_BYTES: usize = 16 * 1024 * 1024;

/// What becomes of a line whose request is not the one that an earlier run has
/// answered under its `custom_id`; for [`Done::changed`](crate::Done::changed).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Changed {
    /// It is a [bad line](Problem::Changed), and not sent.
    #[default]
    Refuse,
    /// It is sent, and has another answer; the last one counts.
    Send,
    /// The old answer counts as its own.
    Keep,
}

/// One line that is not blank.
#[derive(Debug)]
pub(crate) enum Item {
    /// A request to send.
    Request(Line),
    /// A request that an earlier run has answered, or that failed there.
    Answered { request: Request, failed: bool },
    /// Not a request.
    Bad(BadLine),
}

/// Reads items.
#[derive(Debug)]
pub(crate) struct Input<R> {
    lines: Lines<R>,
    ids: Ids,
    changed: Changed,
    max_line_bytes: usize,
    url: Option<Uri>,
}

impl<R: AsyncRead + Unpin> Input<R> {
    /// `ids` are those that were answered before, and what becomes of those that
    /// were changed since; `url` is where bodies alone go.
    pub(crate) fn new(
        reader: R,
        (ids, changed): (Ids, Changed),
        max_line_bytes: usize,
        url: Option<Uri>,
    ) -> Self {
        Self {
            lines: Lines::unpacking(reader, max_line_bytes),
            ids,
            changed,
            max_line_bytes,
            url,
        }
    }

    /// The number of the line that comes next.
    pub(crate) fn line_number(&self) -> u64 {
        self.lines.number()
    }

    /// The next line that is not blank, or `None` at the end. Safe to give up.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Item>> {
        while let Some(raw) = self.lines.next().await? {
            if !raw.is_blank() {
                return Ok(Some(self.item(raw)));
            }
        }
        Ok(None)
    }

    fn item(&mut self, raw: RawLine) -> Item {
        match self.parse(raw) {
            Ok(line) => self.meet(line),
            Err(bad) => Item::Bad(bad),
        }
    }

    fn parse(&self, raw: RawLine) -> Result<Line, BadLine> {
        match raw.text {
            Ok(text) => Line::parse(raw.number, &text, self.url.as_ref()),
            Err(bytes) => Err(BadLine {
                line: raw.number,
                custom_id: None,
                problem: Problem::TooLong {
                    bytes,
                    max_bytes: self.max_line_bytes,
                },
            }),
        }
    }

    fn meet(&mut self, line: Line) -> Item {
        let answered = |line: &Line, failed| Item::Answered {
            request: line.name(),
            failed,
        };
        match self.ids.meet(&line.custom_id, line.number, line.hash) {
            Seen::New => Item::Request(line),
            Seen::Answered { failed } => answered(&line, failed),
            Seen::Changed { failed } => match self.changed {
                Changed::Refuse => Item::Bad(line.bad(Problem::Changed)),
                Changed::Send => Item::Request(line),
                Changed::Keep => answered(&line, failed),
            },
            Seen::Before { line: first } => Item::Bad(line.bad(Problem::Duplicate { first })),
        }
    }
}
