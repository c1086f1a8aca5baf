//! Reads the real usage out of an answer's body while it passes.

mod asked;
mod counts;
mod excerpt;
mod scan;
mod seen;

#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use memchr::memmem::Finder;
use tollhouse::{Charge, Denial, End, Meter, Unit};

use crate::wire::sse::{Part, Reader, is_event_stream};
use crate::wire::verdict::classify;
pub use asked::Asked;
pub(crate) use counts::Counts;
pub(crate) use scan::{Choices, Scanner};
use seen::Seen;

/// Sees one answer's body go by and knows the tokens it says were used.
///
/// Whole JSON bodies tell them in `usage`, chat streams in the `usage` of a late
/// chunk (Groq's in `x_groq.usage`), Responses streams in the `response.usage`
/// of their last event. What is found are all tokens, input and output
/// together.
///
/// A body that ends without telling its usage has none. So has one that is
/// cut, unless it is a stream and what was [`Asked`] is known: then it is the
/// prompt and what was seen of the answer, a token for every four bytes of text
/// and at least one for every event. What a model thinks to itself cannot be
/// seen.
///
/// An error inside a body that began with a success is judged as one in the
/// head is, and is its [`denial`](Meter::denial).
///
/// Constant memory, whatever the size of the body; nothing is copied but an
/// error, and any cut into chunks gives the same.
///
/// # Examples
///
/// A stream, in pieces as they came:
///
/// ```
/// use http::{HeaderMap, StatusCode};
/// use tollhouse_openai::{End, Meter, UsageMeter};
///
/// let mut headers = HeaderMap::new();
/// headers.insert("content-type", "text/event-stream".parse().unwrap());
/// let mut meter = UsageMeter::new(StatusCode::OK, &headers);
/// meter.chunk(b"data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\n");
/// meter.chunk(b"data: {\"choices\":[],\"usage\":{\"total_to");
/// meter.chunk(b"kens\":12}}\n\ndata: [DONE]\n\n");
/// assert_eq!(meter.used(End::Complete), Some(12));
/// ```
#[derive(Clone, Debug)]
pub struct UsageMeter {
    form: Form,
    pub(crate) scanner: Scanner,
    asked: Asked,
}

#[derive(Clone, Debug)]
enum Form {
    /// A body that cannot tell: an error's, or one that is compressed.
    Mute,
    Json,
    Events(Reader, Seen),
}

/// Every count of a usage has the first in its name, every error is named by
/// the second, and hardly anything else has either: an event without them need
/// not be parsed.
static MARKS: LazyLock<[Finder<'static>; 2]> =
    LazyLock::new(|| ["_tokens", "\"error\""].map(Finder::new));

impl UsageMeter {
    /// A meter for the body of an answer with this head.
    ///
    /// # Examples
    ///
    /// ```
    /// use http::{HeaderMap, StatusCode};
    /// use tollhouse_openai::{End, Meter, UsageMeter};
    ///
    /// let mut meter = UsageMeter::new(StatusCode::OK, &HeaderMap::new());
    /// meter.chunk(br#"{"usage": {"input_tokens": 5, "output_tokens": 7, "total_tokens": 12}}"#);
    /// assert_eq!(meter.used(End::Complete), Some(12));
    /// ```
    pub fn new(status: StatusCode, headers: &HeaderMap) -> Self {
        let form = if !status.is_success() || is_compressed(headers) {
            Form::Mute
        } else if headers.get(CONTENT_TYPE).is_some_and(is_event_stream) {
            Form::Events(Reader::default(), Seen::default())
        } else {
            // DeepSeek sends JSON as application/octet-stream.
            Form::Json
        };
        UsageMeter {
            form,
            scanner: Scanner::default(),
            asked: Asked::default(),
        }
    }

    /// The least that was used by a stream that broke off: the prompt, and what was
    /// seen of its answer.
    fn seen(&self) -> Option<Charge> {
        let Form::Events(_, seen) = &self.form else {
            return None;
        };
        let (prompt, answer) = (self.asked.prompt()?, seen.tokens());
        let all = Charge::tokens(prompt.checked_add(answer)?);
        Some(all.and(Unit::Input, prompt).and(Unit::Output, answer))
    }
}

/// Whether a body is not what its content type says.
pub(crate) fn is_compressed(headers: &HeaderMap) -> bool {
    let coding = headers.get(CONTENT_ENCODING);
    coding.is_some_and(|coding| coding != "identity")
}

/// Whether there may be a usage or an error in a whole document, or in some of
/// those that lie in here.
pub(crate) fn is_marked(data: &[u8]) -> bool {
    MARKS.iter().any(|mark| mark.find(data).is_some())
}

impl Meter for UsageMeter {
    fn chunk(&mut self, data: &[u8]) {
        let scanner = &mut self.scanner;
        match &mut self.form {
            Form::Mute => {}
            Form::Json => scanner.feed(data),
            Form::Events(reader, seen) => {
                let marked = is_marked(data);
                reader.feed(data, |part| match part {
                    Part::Whole(event) => {
                        if marked && is_marked(event) {
                            scanner.feed(event);
                            scanner.restart();
                        }
                        seen.feed(event);
                        seen.end_event();
                    }
                    Part::Data(data) => {
                        scanner.feed(data);
                        seen.feed(data);
                    }
                    Part::Comment => {}
                    Part::End => {
                        scanner.restart();
                        seen.end_event();
                    }
                })
            }
        }
    }

    fn denial(&mut self) -> Option<Denial> {
        // Headers that came with a success say nothing of a refusal.
        let verdict = classify(StatusCode::OK, &HeaderMap::new(), self.scanner.error()?);
        verdict.denial()
    }

    fn used(&mut self, end: End) -> Option<u64> {
        self.charged(end).map(|charge| charge.get(Unit::Tokens))
    }

    /// The usage holds once it was told, even if the body is cut after it.
    fn charged(&mut self, end: End) -> Option<Charge> {
        match (self.scanner.found().and_then(Counts::charge), end) {
            (Some(used), _) => {
                self.asked.learn(used.get(Unit::Tokens));
                Some(used)
            }
            (None, End::Cut) => self.seen(),
            (None, _) => None,
        }
    }
}
