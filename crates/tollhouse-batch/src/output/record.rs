//! The line that records what became of one request.

use std::borrow::Cow;
use std::io::{self, Write};

use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::ser::{Formatter, Serializer};
use serde_json::value::RawValue;
use tokio::time::Duration;

use crate::input::ids;
use crate::input::line::Line;
use crate::output::outcome::{Answer, Failure, Outcome};

/// How every line of output begins; [`RecordLine`] has its fields in this order.
pub(crate) const LINE_START: &str = r#"{"id":"batch_req_"#;

/// A success whose body is not what an API of this kind answers: a proxy's
/// page, or a body that was cut short.
const RESPONSE_NOT_JSON: &str = "response_not_json";

/// An outcome as it is written.
#[derive(Debug)]
pub(crate) struct Record {
    /// One whole line, its line feed included.
    pub(crate) text: Vec<u8>,
    pub(crate) status: Option<StatusCode>,
    /// `usage.total_tokens` of the answer.
    pub(crate) tokens: Option<u64>,
    /// Set where the request failed.
    pub(crate) failure: Option<Failure>,
}

/// A line of the Batch API's output form.
#[derive(Serialize)]
struct RecordLine<'a> {
    id: String,
    custom_id: &'a str,
    response: Option<Response<'a>>,
    error: Option<&'a Failure>,
    tollhouse: Facts<'a>,
}

/// What became of the request on its way; no part of the Batch API's form.
#[derive(Serialize)]
struct Facts<'a> {
    attempts: Option<u32>,
    waited_seconds: Option<f64>,
    elapsed_seconds: f64,
    tokens: Option<u64>,
    request_id: Option<&'a str>,
    /// Of what was asked, in hexadecimal.
    request_hash: String,
}

/// How a request went, but for its answer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Timing {
    /// How often it was sent, and how long after its start the last time was,
    /// where that is known.
    pub(crate) sent: Option<(u32, Duration)>,
    /// From its start to the end of its answer.
    pub(crate) elapsed: Duration,
}

#[derive(Serialize)]
struct Response<'a> {
    status_code: u16,
    request_id: Option<&'a str>,
    body: Body<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Body<'a> {
    Json(&'a RawValue),
    Text(Cow<'a, str>),
}

impl Outcome {
    /// Writes the line for it.
    pub(crate) fn write(&self, request: &Line, timing: Timing) -> Record {
        match self {
            Self::Answered(answer) => answer.write(request, timing),
            Self::Failed(failure, _) => Record {
                text: line(
                    request,
                    None,
                    Some(failure),
                    timing.facts(request, None, None),
                ),
                status: None,
                tokens: None,
                failure: Some(failure.clone()),
            },
        }
    }
}

impl Record {
    /// Why the request failed, in one line.
    pub(crate) fn reason(&self) -> String {
        let message = self.failure.as_ref().map(|failure| &*failure.message);
        let message = message.unwrap_or_default();
        match self.status.map(in_words) {
            // An answer that gave no reason has its status for one.
            Some(status) if message.is_empty() || message == status => status,
            Some(status) => format!("{status}: {message}"),
            None => message.to_owned(),
        }
    }
}

impl Timing {
    fn facts<'a>(
        self,
        request: &Line,
        tokens: Option<u64>,
        request_id: Option<&'a str>,
    ) -> Facts<'a> {
        Facts {
            attempts: self.sent.map(|(attempts, _)| attempts),
            waited_seconds: self.sent.map(|(_, waited)| in_millis(waited)),
            elapsed_seconds: in_millis(self.elapsed),
            tokens,
            request_id,
            request_hash: format!("{:016x}", request.hash),
        }
    }
}

/// Seconds, to the millisecond.
fn in_millis(time: Duration) -> f64 {
    time.as_millis() as f64 / 1_000.0
}

impl Answer {
    fn write(&self, request: &Line, timing: Timing) -> Record {
        let request_id = self.request_id.as_deref();
        let body = Body::read(&self.body);
        let failure = self.failure(&body);
        let response = Response {
            status_code: self.status.as_u16(),
            request_id,
            body,
        };
        let tokens = total_tokens(&self.body);
        // An unsuccessful status says it all, as in the Batch API's own lines.
        let error = failure.as_ref().filter(|_| self.status.is_success());
        let facts = timing.facts(request, tokens, request_id);
        Record {
            text: line(request, Some(response), error, facts),
            status: Some(self.status),
            tokens,
            failure,
        }
    }

    /// Why it is no success, if it is none.
    fn failure(&self, body: &Body<'_>) -> Option<Failure> {
        match (self.status.is_success(), body) {
            (true, Body::Json(_)) => None,
            (true, Body::Text(text)) => Some(Failure {
                code: Cow::Borrowed(RESPONSE_NOT_JSON),
                message: format!("the answer is no JSON; it begins with {:?}", shown(text)),
            }),
            (false, _) => Some(self.reason()),
        }
    }

    /// The reason that an unsuccessful answer gives.
    fn reason(&self) -> Failure {
        let told = serde_json::from_slice::<Told>(&self.body);
        let told = told.map(|told| told.error).unwrap_or_default();
        Failure {
            code: match told.code.as_ref().and_then(|code| code.as_str()) {
                Some(code) => Cow::Owned(code.to_owned()),
                None => Cow::Borrowed("http_error"),
            },
            message: told.message.unwrap_or_else(|| in_words(self.status)),
        }
    }
}

/// With its reason, if it has one: 520 and the like have none.
pub(crate) fn in_words(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}

impl<'a> Body<'a> {
    fn read(body: &'a [u8]) -> Self {
        match serde_json::from_slice(body) {
            Ok(json) => Self::Json(json),
            Err(_) => Self::Text(String::from_utf8_lossy(body)),
        }
    }
}

/// `{"error":{"code","message"}}`, as far as it is there.
#[derive(Deserialize)]
struct Told {
    error: ToldError,
}

#[derive(Default, Deserialize)]
struct ToldError {
    /// Some providers write a number.
    code: Option<serde_json::Value>,
    message: Option<String>,
}

fn total_tokens(body: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Used {
        usage: Usage,
    }
    #[derive(Deserialize)]
    struct Usage {
        total_tokens: u64,
    }
    let used = serde_json::from_slice::<Used>(body).ok()?;
    Some(used.usage.total_tokens)
}

/// So much of a text that people recognise it.
fn shown(text: &str) -> &str {
    let end = text.char_indices().nth(40).map_or(text.len(), |(at, _)| at);
    &text[..end]
}

fn line(
    request: &Line,
    response: Option<Response<'_>>,
    error: Option<&Failure>,
    tollhouse: Facts<'_>,
) -> Vec<u8> {
    let record = RecordLine {
        id: format!("batch_req_{:032x}", ids::hash(&request.custom_id)),
        custom_id: &request.custom_id,
        response,
        error,
        tollhouse,
    };
    let mut text = Vec::with_capacity(256);
    record
        .serialize(&mut Serializer::with_formatter(&mut text, OneLine))
        .expect("strings and numbers always serialise, and a vector takes them");
    text.push(b'\n');
    text
}

/// Writes JSON on one line. Providers send theirs on many; a body that is on
/// one line already stays as it is, byte for byte.
struct OneLine;

impl Formatter for OneLine {
    fn write_raw_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if fragment.contains(['\n', '\r']) {
            write_compact(writer, fragment)
        } else {
            writer.write_all(fragment.as_bytes())
        }
    }
}

/// Leaves out the white space between tokens. `json` must be valid.
fn write_compact<W: ?Sized + Write>(writer: &mut W, json: &str) -> io::Result<()> {
    let bytes = json.as_bytes();
    let (mut in_string, mut escaped, mut kept_from) = (false, false, 0);
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            b' ' | b'\t' | b'\n' | b'\r' if !in_string => {
                writer.write_all(&bytes[kept_from..at])?;
                kept_from = at + 1;
            }
            _ => {}
        }
    }
    writer.write_all(&bytes[kept_from..])
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderMap;

    use super::*;

    fn request(custom_id: &str) -> Line {
        let uri = http::Uri::from_static("/v1/responses");
        Line::new(1, custom_id.into(), uri, Bytes::from_static(b"{}"))
    }

    fn timing() -> Timing {
        Timing {
            sent: Some((2, Duration::from_millis(1_500))),
            elapsed: Duration::from_millis(2_250),
        }
    }

    fn answer(status: u16, body: &'static str) -> Record {
        let answer = Answer {
            status: StatusCode::from_u16(status).expect("a valid status"),
            request_id: Some("req_1".to_owned()),
            headers: HeaderMap::new(),
            body: Bytes::from_static(body.as_bytes()),
        };
        Outcome::Answered(answer).write(&request("a \"b\""), timing())
    }

    fn body_of(written: &Record) -> String {
        #[derive(Deserialize)]
        struct Line {
            response: Response,
        }
        #[derive(Deserialize)]
        struct Response {
            body: Box<RawValue>,
        }
        let line: Line = serde_json::from_slice(&written.text).expect("a line is JSON");
        line.response.body.get().to_owned()
    }

    #[test]
    fn answer_has_the_batch_form() {
        let written = answer(200, r#"{"usage":{"total_tokens":12}}"#);
        let line = format!(
            r#"{{"id":"batch_req_{:032x}","custom_id":"a \"b\"",{}"error":null,{}}}{}"#,
            ids::hash("a \"b\""),
            concat!(
                r#""response":{"status_code":200,"request_id":"req_1","#,
                r#""body":{"usage":{"total_tokens":12}}},"#
            ),
            concat!(
                r#""tollhouse":{"attempts":2,"waited_seconds":1.5,"#,
                r#""elapsed_seconds":2.25,"tokens":12,"request_id":"req_1","request_hash":"40f9b4eaf03f76b1"}"#
            ),
            "\n"
        );
        assert_eq!(String::from_utf8_lossy(&written.text), line);
        assert!(line.starts_with(LINE_START));
        assert_eq!(written.tokens, Some(12));
        assert!(written.failure.is_none());
    }

    #[test]
    fn failure_without_answer_has_the_batch_form() {
        let failure = Failure {
            code: Cow::Borrowed("request_failed"),
            message: "connection reset".to_owned(),
        };
        let written =
            Outcome::Failed(failure, "reset".into()).write(&request("x"), Timing::default());
        let text = String::from_utf8(written.text).expect("a line is text");
        assert!(text.starts_with(LINE_START));
        assert!(text.ends_with(
            "\"custom_id\":\"x\",\"response\":null,\"error\":{\"code\":\"request_failed\",\
             \"message\":\"connection reset\"},\"tollhouse\":{\"attempts\":null,\
             \"waited_seconds\":null,\"elapsed_seconds\":0.0,\"tokens\":null,\
             \"request_id\":null,\"request_hash\":\"40f9b4eaf03f76b1\"}}\n"
        ));
    }

    #[test]
    fn pretty_body_becomes_one_line() {
        let written = answer(
            200,
            "{\n  \"a b\" : [1.50,\t2e3],\r\n  \"c\\\" d\": \"e \\\\\" }\n",
        );
        assert_eq!(body_of(&written), r#"{"a b":[1.50,2e3],"c\" d":"e \\"}"#);
        assert_eq!(written.text.iter().filter(|&&b| b == b'\n').count(), 1);
    }

    #[test]
    fn body_on_one_line_is_kept_byte_for_byte() {
        let body = r#"{ "n": 1.500,  "s": "\u00e9" }"#;
        assert_eq!(body_of(&answer(200, body)), body);
    }

    #[test]
    fn body_that_is_not_json_becomes_a_string() {
        let written = answer(502, "<html>\n\"bad\" gateway</html>");
        assert_eq!(body_of(&written), r#""<html>\n\"bad\" gateway</html>""#);
        assert_eq!(body_of(&answer(200, "")), r#""""#);
    }

    #[test]
    fn a_success_that_is_no_json_is_a_failure() {
        let failure = answer(200, "<html>maintenance").failure.expect("it failed");
        assert_eq!(failure.code, "response_not_json");
        assert_eq!(
            failure.message,
            "the answer is no JSON; it begins with \"<html>maintenance\""
        );
        assert!(answer(200, "{}").failure.is_none());
    }

    #[test]
    fn unsuccessful_answer_gives_its_reason() {
        let failure = |status, body| {
            let failure = answer(status, body).failure.expect("it failed");
            (failure.code.into_owned(), failure.message)
        };
        let told = r#"{"error":{"code":"model_not_found","message":"no such model"}}"#;
        let expected = ("model_not_found".to_owned(), "no such model".to_owned());
        assert_eq!(failure(404, told), expected);
        let bare = ("http_error".to_owned(), "502 Bad Gateway".to_owned());
        for body in [
            "<html>",
            "{}",
            r#"{"error":"text"}"#,
            r#"{"error":{"code":7}}"#,
        ] {
            assert_eq!(failure(502, body), bare, "{body}");
        }
        assert_eq!(failure(302, "").1, "302 Found");
        assert_eq!(answer(404, told).reason(), "404 Not Found: no such model");
        assert_eq!(answer(502, "<html>").reason(), "502 Bad Gateway");
        assert_eq!(answer(520, "<html>").reason(), "520");
    }

    #[test]
    fn tokens_are_read_where_they_are_told() {
        for body in [
            "[]",
            "{}",
            r#"{"usage":null}"#,
            r#"{"usage":{"total_tokens":-1}}"#,
        ] {
            assert_eq!(answer(200, body).tokens, None, "{body}");
        }
    }
}
