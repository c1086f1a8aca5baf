//! Reads the real usage out of an answer's body while it passes.

mod scan;

#[cfg(test)]
mod tests;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use memchr::memmem;
use tollgate::{End, Meter};

use crate::sse::{Part, Reader, is_event_stream};
use scan::Scanner;

/// Sees one answer's body go by and knows the tokens it says were used.
///
/// Whole JSON bodies tell them in `usage`, chat streams in the `usage` of a late
/// chunk (Groq's in `x_groq.usage`), Responses streams in the `response.usage`
/// of their last event. What is found are all tokens, input and output
/// together; a stream that was cut short before it told its usage has none.
///
/// Constant memory, whatever the size of the body; nothing is copied, and any
/// cut into chunks gives the same.
#[derive(Clone, Debug)]
pub struct UsageMeter {
    form: Form,
    scanner: Scanner,
}

#[derive(Clone, Debug)]
enum Form {
    /// A body that cannot tell: an error's, or one that is compressed.
    Mute,
    Json,
    Events(Reader),
}

/// Every count of a usage has it in its name, and hardly anything else has: an
/// event without it need not be parsed.
const MARK: &[u8] = b"_tokens";

impl UsageMeter {
    /// A meter for the body of an answer with this head.
    pub fn new(status: StatusCode, headers: &HeaderMap) -> Self {
        let compressed = headers
            .get(CONTENT_ENCODING)
            .is_some_and(|coding| coding != "identity");
        let form = if !status.is_success() || compressed {
            Form::Mute
        } else if headers.get(CONTENT_TYPE).is_some_and(is_event_stream) {
            Form::Events(Reader::default())
        } else {
            // DeepSeek sends JSON as application/octet-stream.
            Form::Json
        };
        UsageMeter {
            form,
            scanner: Scanner::default(),
        }
    }
}

impl Meter for UsageMeter {
    fn chunk(&mut self, data: &[u8]) {
        let scanner = &mut self.scanner;
        match &mut self.form {
            Form::Mute => {}
            Form::Json => scanner.feed(data),
            Form::Events(reader) => reader.feed(data, |part| match part {
                Part::Whole(event) if memmem::find(event, MARK).is_none() => {}
                Part::Whole(event) => {
                    scanner.feed(event);
                    scanner.restart();
                }
                Part::Data(data) => scanner.feed(data),
                Part::End => scanner.restart(),
            }),
        }
    }

    /// The usage holds once it was told, even if the body is cut after it.
    fn used(&mut self, _: End) -> Option<u64> {
        self.scanner.found()
    }
}
