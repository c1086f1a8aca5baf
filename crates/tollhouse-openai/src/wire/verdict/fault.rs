//! What an error's body tells, whatever its shape.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value};

use crate::wire::sse::{Part, Reader, is_event_stream};
use crate::wire::time::go_duration;

/// How much text is searched. The longest recorded message has 2 KiB; a
/// failing prompt quoted back must not be combed through by the megabyte.
const TEXT_CHARS: usize = 16 * 1024;

/// An error as its body tells it: to people in the provider's own spelling, to
/// the [verdict](super::classify) in words and phrases.
#[derive(Debug, Default)]
pub(crate) struct Fault {
    structured: bool,
    /// The code, the type and the status word, in the order of their weight.
    names: Vec<String>,
    message: Option<String>,
    /// The message and what upstream said, in lower case.
    text: String,
    status: Option<u16>,
    /// Google's names of the quotas that ran out, lower case.
    quotas: Vec<String>,
    /// Google's `details[].retryDelay`.
    retry_delay: Option<Duration>,
    /// OpenRouter's reset, an instant in milliseconds since 1970.
    reset_epoch_ms: Option<u64>,
}

impl Fault {
    /// Reads a body; `None` where it holds no error.
    pub(crate) fn read(headers: &HeaderMap, body: &[u8]) -> Option<Fault> {
        // As of most answers, that have no fault: the parser would allocate its own.
        if body.is_empty() {
            return None;
        }
        let is_stream = is_stream(headers, body);
        match serde_json::from_slice(body) {
            // Some say of a refused stream's error that it is a stream.
            Ok(json) => Fault::of_json(&json).or_else(|| Fault::of_names(&json)),
            Err(_) if is_stream => Fault::of_events(events(body)),
            Err(_) => Fault::of_text(body),
        }
    }

    /// Whether this was a body made to tell an error, not mere text.
    pub(super) fn is_structured(&self) -> bool {
        self.structured
    }

    /// The error's code, or what comes nearest to one; many repeat the status as
    /// the code.
    pub(crate) fn code(&self, status: StatusCode) -> Option<&str> {
        let mut names = self.names.iter().map(String::as_str);
        names.find(|name| *name != status.as_str())
    }

    /// What is said to people.
    pub(crate) fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// The code, the type and the status word, weightiest first: lower case,
    /// letters and digits only; numbers are left out.
    pub(super) fn words(&self) -> impl Iterator<Item = String> {
        let words = self.names.iter().map(|name| word(name));
        words.filter(|word| !word.bytes().all(|b| b.is_ascii_digit()))
    }

    /// What is said in words, in lower case.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The status that the body names.
    pub(super) fn status(&self) -> Option<u16> {
        self.status
    }

    pub(super) fn quotas(&self) -> &[String] {
        &self.quotas
    }

    pub(super) fn retry_delay(&self) -> Option<Duration> {
        self.retry_delay
    }

    pub(super) fn reset_epoch_ms(&self) -> Option<u64> {
        self.reset_epoch_ms
    }

    fn of_json(json: &Value) -> Option<Fault> {
        // Gemini's compatible endpoint puts an array around it.
        let root = match json {
            Value::Array(items) => items.first()?.as_object()?,
            json => json.as_object()?,
        };
        let inner = root.get("response").and_then(|inner| inner.get("error"));
        match root.get("error").or(inner) {
            Some(Value::Object(error)) => Some(Fault::of_fields(error, root)),
            Some(Value::String(message)) => Some(Fault::of_string(message, root)),
            _ if says_error(root) => Some(Fault::of_fields(root, root)),
            _ => Fault::of_unmarked(root),
        }
    }

    fn of_fields(error: &Map<String, Value>, root: &Map<String, Value>) -> Fault {
        let mut fault = Fault {
            structured: true,
            names: names(error),
            message: message(error),
            status: status(error).or_else(|| status(root)),
            reset_epoch_ms: reset_epoch_ms(error),
            ..Fault::default()
        };
        let raw = error.get("metadata").and_then(|about| about.get("raw"));
        for said in [error.get("message"), error.get("detail"), raw] {
            fault.say(said.and_then(Value::as_str).unwrap_or_default());
        }
        for detail in error
            .get("details")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            fault.detail(detail);
        }
        fault
    }

    fn of_string(message: &str, root: &Map<String, Value>) -> Fault {
        let mut fault = Fault {
            structured: true,
            names: names(root),
            message: Some(message.to_owned()).filter(|message| !message.is_empty()),
            status: status(root),
            ..Fault::default()
        };
        fault.say(message);
        fault
    }

    /// The first error among them; where none calls itself one, the first that says
    /// something to people.
    fn of_events(events: impl Iterator<Item = Value>) -> Option<Fault> {
        let mut unmarked = None;
        for fault in events.filter_map(|data| Fault::of_json(&data)) {
            if fault.structured {
                return Some(fault);
            }
            unmarked = unmarked.or(Some(fault).filter(|fault| fault.message.is_some()));
        }
        unmarked
    }

    /// An object that is a whole body, calls itself no error, and has a name for one.
    fn of_names(json: &Value) -> Option<Fault> {
        let root = json.as_object()?;
        let fault = Fault {
            structured: false,
            ..Fault::of_fields(root, root)
        };
        Some(fault).filter(|fault| !fault.names.is_empty())
    }

    /// An object that does not call itself an error: one under an error's
    /// status, nothing under a success.
    fn of_unmarked(root: &Map<String, Value>) -> Option<Fault> {
        let tells = ["message", "detail"]
            .iter()
            .any(|key| root.contains_key(*key));
        tells.then(|| Fault {
            structured: false,
            ..Fault::of_fields(root, root)
        })
    }

    fn of_text(body: &[u8]) -> Option<Fault> {
        let text = String::from_utf8_lossy(&body[..body.len().min(4 * TEXT_CHARS)]);
        // A page speaks to people, at length, of many things.
        if text.trim().is_empty() || text.trim_start().starts_with('<') {
            return None;
        }
        let mut fault = Fault::default();
        fault.say(&text);
        Some(fault)
    }

    fn say(&mut self, said: &str) {
        let most = said.chars().take(TEXT_CHARS);
        self.text.extend(most.flat_map(char::to_lowercase));
        self.text.push('\n');
    }

    fn detail(&mut self, detail: &Value) {
        let delay = detail.get("retryDelay").and_then(Value::as_str);
        self.retry_delay = self.retry_delay.max(delay.and_then(go_duration));
        let violations = detail.get("violations").and_then(Value::as_array);
        for violation in violations.into_iter().flatten() {
            let id = violation
                .get("quotaId")
                .or_else(|| violation.get("quotaMetric"));
            self.quotas
                .extend(id.and_then(Value::as_str).map(str::to_lowercase));
        }
    }
}

/// Whether an object without an `error` field calls itself one: Mistral's
/// `"object": "error"`, a stream's `"type": "error"`.
fn says_error(root: &Map<String, Value>) -> bool {
    ["object", "type"]
        .iter()
        .any(|key| root.get(*key).and_then(Value::as_str) == Some("error"))
}

fn names(fields: &Map<String, Value>) -> Vec<String> {
    let name = |value: &Value| match value {
        Value::String(name) if !name.is_empty() => Some(name.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    ["code", "type", "status"]
        .iter()
        .filter_map(|key| name(fields.get(*key)?))
        .collect()
}

fn message(fields: &Map<String, Value>) -> Option<String> {
    ["message", "detail"]
        .iter()
        .filter_map(|key| fields.get(*key)?.as_str())
        .find(|text| !text.is_empty())
        .map(str::to_owned)
}

fn word(name: &str) -> String {
    let letters = name.chars().filter(char::is_ascii_alphanumeric);
    letters.map(|c| c.to_ascii_lowercase()).collect()
}

/// The HTTP status that the fields name: Groq's `status_code`, else a code or
/// status that is a number, or a string of one.
fn status(fields: &Map<String, Value>) -> Option<u16> {
    ["status_code", "code", "status"]
        .iter()
        .filter_map(|key| fields.get(*key))
        .filter_map(|value| match value {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        })
        .find(|status| (400..600).contains(status))
        .and_then(|status| u16::try_from(status).ok())
}

fn reset_epoch_ms(error: &Map<String, Value>) -> Option<u64> {
    let headers = error.get("metadata")?.get("headers")?.as_object()?;
    let named = |(name, _): &(&String, &Value)| name.eq_ignore_ascii_case("x-ratelimit-reset");
    match headers.iter().find(named)?.1 {
        Value::String(text) => text.parse().ok(),
        value => value.as_u64(),
    }
}

fn is_stream(headers: &HeaderMap, body: &[u8]) -> bool {
    let declared = headers.get(http::header::CONTENT_TYPE);
    declared.is_some_and(is_event_stream)
        || body.starts_with(b"data:")
        || body.starts_with(b"event:")
}

/// The data of each event that is JSON, of one that is cut too.
fn events(mut body: &[u8]) -> impl Iterator<Item = Value> {
    let (mut reader, mut data) = (Reader::default(), Vec::new());
    let event = std::iter::from_fn(move || {
        loop {
            match reader.next(&mut body) {
                Some(Part::Whole(event)) => return Some(serde_json::from_slice(event)),
                Some(Part::Data(more)) => data.extend_from_slice(more),
                Some(Part::Comment) => {}
                None if data.is_empty() => return None,
                Some(Part::End) | None => {
                    return Some(serde_json::from_slice(&std::mem::take(&mut data)));
                }
            }
        }
    });
    event.filter_map(Result::ok)
}
