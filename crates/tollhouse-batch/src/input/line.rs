//! One line of the input: a request, or what is wrong with it.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Uri, header};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::input::bare;
use crate::input::ids::request_hash;

/// Shown of a value that is not allowed; the rest is of no help.
const SHOWN_CHARS: usize = 60;

/// A request of the input.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) number: u64,
    pub(crate) custom_id: Arc<str>,
    pub(crate) uri: Uri,
    /// The body byte for byte as it stood in the line.
    pub(crate) body: Bytes,
    /// What tells it from another request of its id.
    pub(crate) hash: u64,
}

/// Which request an [`Event`](crate::Event) is about.
///
/// The batch's service finds it in each request's extensions, to name its line in a span, say.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use futures_util::StreamExt;
/// use tollhouse_batch::{Batch, Event};
/// # let service = tower::service_fn(async |_: http::Request<bytes::Bytes>| {
/// #     let body = http_body_util::Full::new(bytes::Bytes::from("{}"));
/// #     Ok::<_, std::io::Error>(http::Response::new(body))
/// # });
///
/// let mut batch = Batch::new(service);
/// let mut events = batch.events();
/// let input = r#"
/// {"custom_id":"row-7","method":"POST","url":"/v1/responses","body":{"model":"gpt-4o"}}"#;
/// batch.run(input.as_bytes(), Vec::new(), Vec::new()).await?;
/// let Some(Event::Started(request)) = events.next().await else {
///     panic!()
/// };
/// assert_eq!((request.line, &*request.custom_id), (2, "row-7"));
/// # Ok(())
/// # }
/// ```
///
/// In a service:
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tollhouse_batch::{Batch, Request};
///
/// let service = tower::service_fn(async |request: http::Request<bytes::Bytes>| {
///     let of: &Request = request.extensions().get().expect("the batch's own");
///     let body = format!(r#"{{"echo":"{}"}}"#, of.custom_id);
///     let body = http_body_util::Full::new(bytes::Bytes::from(body));
///     Ok::<_, std::io::Error>(http::Response::new(body))
/// });
/// let input = r#"{"custom_id":"row-7","method":"POST","url":"/v1/responses","body":{}}"#;
/// let mut output = Vec::new();
/// Batch::new(service).run(input.as_bytes(), &mut output, Vec::new()).await?;
/// let record: serde_json::Value = serde_json::from_slice(&output)?;
/// assert_eq!(record["response"]["body"]["echo"], "row-7");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The number of its line, counted from 1.
    pub line: u64,
    /// Its `custom_id`.
    pub custom_id: Arc<str>,
}

/// A line of the input that is not a request.
///
/// Its `Display` is one line that names the place, the value and what is
/// allowed.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tollhouse_batch::{Limits, Plan};
///
/// let input = r#"{"custom_id":"a","method":"GET","url":"/v1/models"}"#;
/// let plan = Plan::read(input.as_bytes(), |_| 0, Limits::new()).await?;
/// let bad = &plan.bad_lines.first[0];
/// assert_eq!((bad.line, bad.custom_id.as_deref()), (1, Some("a")));
/// assert_eq!(
///     bad.to_string(),
///     r#"line 1, custom_id "a": `method` is "GET"; it must be "POST""#
/// );
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BadLine {
    /// The number of the line, counted from 1, blank lines included.
    pub line: u64,
    /// The `custom_id`, where it could be read.
    pub custom_id: Option<String>,
    /// What is wrong with it; in JSON its sentence.
    #[serde(serialize_with = "as_sentence")]
    pub problem: Problem,
}

/// What is wrong with a line of the input.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tollhouse_batch::{Limits, Plan, Problem};
///
/// let line = r#"{"custom_id":"a","method":"POST","url":"/v1/responses","body":{}}"#;
/// let input = format!("{line}\n{line}\n{{}}\nHello\n");
/// let plan = Plan::read(input.as_bytes(), |_| 0, Limits::new()).await?;
/// let problems: Vec<_> = plan
///     .bad_lines
///     .first
///     .into_iter()
///     .map(|bad| bad.problem)
///     .collect();
/// assert_eq!(problems[0], Problem::Duplicate { first: 1 });
/// assert_eq!(problems[1], Problem::Missing { field: "custom_id" });
/// assert_eq!(
///     problems[2].to_string(),
///     "not a JSON object: it does not begin with `{`"
/// );
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// It is not a JSON object; the text says where it breaks.
    Malformed(String),
    /// A field that must be there is not.
    Missing {
        /// The name of the field.
        field: &'static str,
    },
    /// A field holds what is not allowed.
    NotAllowed {
        /// The name of the field.
        field: &'static str,
        /// What it holds, shortened.
        found: String,
        /// What it may hold.
        allowed: &'static str,
    },
    /// An earlier line has the same `custom_id`.
    Duplicate {
        /// The number of the earlier line.
        first: u64,
    },
    /// An earlier run has answered another request of the same `custom_id`; see
    /// [`Done::changed`](crate::Done::changed).
    Changed,
    /// It is longer than is allowed.
    TooLong {
        /// Its length in bytes.
        bytes: u64,
        /// The greatest length in bytes.
        max_bytes: usize,
    },
}

/// The fields of a line, unread.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    custom_id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<&'a RawValue>,
    #[serde(borrow)]
    url: Option<&'a RawValue>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
}

impl Envelope<'_> {
    /// Whether the object has none of the fields: then it is a body alone.
    fn is_empty(&self) -> bool {
        let fields = [self.custom_id, self.method, self.url, self.body];
        fields.iter().all(Option::is_none)
    }
}

impl Line {
    /// Reads one line: of the Batch API's input form, or a body alone, which
    /// goes to `url` or else to where its fields say.
    pub(crate) fn parse(number: u64, text: &Bytes, url: Option<&Uri>) -> Result<Self, BadLine> {
        let bad = |custom_id: Option<&str>, problem| BadLine {
            line: number,
            custom_id: custom_id.map(str::to_owned),
            problem,
        };
        let envelope = envelope(text).map_err(|problem| bad(None, problem))?;
        if envelope.is_empty()
            && let Some(uri) = url.cloned().or_else(|| bare::endpoint(text))
        {
            let body = text.slice_ref(text.trim_ascii());
            return Ok(Self::new(number, bare::custom_id(number).into(), uri, body));
        }
        let custom_id = custom_id(&envelope).map_err(|problem| bad(None, problem))?;
        let (uri, body) = target(&envelope).map_err(|problem| bad(Some(&custom_id), problem))?;
        let body = text.slice_ref(body.get().as_bytes());
        Ok(Self::new(number, custom_id.into(), uri, body))
    }

    pub(crate) fn new(number: u64, custom_id: Arc<str>, uri: Uri, body: Bytes) -> Self {
        Self {
            number,
            custom_id,
            hash: request_hash(&uri, &body),
            uri,
            body,
        }
    }

    /// Which request it is.
    pub(crate) fn name(&self) -> Request {
        Request {
            line: self.number,
            custom_id: self.custom_id.clone(),
        }
    }

    /// Why it is not to be sent.
    pub(crate) fn bad(&self, problem: Problem) -> BadLine {
        BadLine {
            line: self.number,
            custom_id: Some(self.custom_id.to_string()),
            problem,
        }
    }

    /// The request that the line asks for.
    pub(crate) fn request(&self) -> http::Request<Bytes> {
        let mut request = http::Request::new(self.body.clone());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(header::CONTENT_TYPE, json);
        request
    }
}

fn envelope(text: &[u8]) -> Result<Envelope<'_>, Problem> {
    // Serde would read an array as the fields in their order.
    match text.trim_ascii_start().first() {
        Some(b'{') => serde_json::from_slice(text).map_err(|error| malformed(&error)),
        _ => Err(Problem::Malformed("it does not begin with `{`".to_owned())),
    }
}

/// Serde counts lines inside the value, which would read as the file's.
fn malformed(error: &serde_json::Error) -> Problem {
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or_default();
    Problem::Malformed(format!("{what} at column {}", error.column()))
}

fn custom_id<'a>(envelope: &Envelope<'a>) -> Result<Cow<'a, str>, Problem> {
    const ALLOWED: &str = "a string that is not empty";
    let raw = present("custom_id", envelope.custom_id)?;
    match string(raw) {
        Some(id) if !id.is_empty() => Ok(id),
        _ => Err(not_allowed("custom_id", raw, ALLOWED)),
    }
}

fn target<'a>(envelope: &Envelope<'a>) -> Result<(Uri, &'a RawValue), Problem> {
    let method = present("method", envelope.method)?;
    if string(method).as_deref() != Some("POST") {
        return Err(not_allowed("method", method, "\"POST\""));
    }
    let url = present("url", envelope.url)?;
    let uri = string(url)
        .and_then(|url| endpoint(&url))
        .ok_or_else(|| not_allowed("url", url, "a path such as \"/v1/chat/completions\""))?;
    let body = present("body", envelope.body)?;
    if body.get().starts_with('{') {
        Ok((uri, body))
    } else {
        Err(not_allowed("body", body, "an object"))
    }
}

/// Reads where a request goes, as the `url` of a line says it: a path that names no host and
/// leads nowhere else. `None` where it is none.
///
/// Where a line is sent is for whoever runs the file to say, not for whoever wrote it.
///
/// # Examples
///
/// ```
/// use tollhouse_batch::endpoint;
///
/// assert_eq!(endpoint("/v1/responses").unwrap(), "/v1/responses");
/// for url in ["https://elsewhere.example/v1/responses", "//elsewhere.example/", "/v1/../admin"] {
///     assert_eq!(endpoint(url), None, "{url}");
/// }
/// ```
pub fn endpoint(url: &str) -> Option<Uri> {
    // `http` would read a bare word as a host, browsers `//host/path`.
    let is_path = url.starts_with('/') && !url.starts_with("//");
    let uri: Option<Uri> = url.parse().ok().filter(|_| is_path);
    uri.filter(|uri| uri.authority().is_none() && !has_dots(uri.path()))
}

/// Whether a segment leads out of where the API stands, or to another endpoint than it seems
/// to and is charged for; for one server or another, who decodes it first.
fn has_dots(path: &str) -> bool {
    if !path.contains(['.', '%']) {
        return false;
    }
    let path = path.to_ascii_lowercase();
    let path = path
        .replace("%2e", ".")
        .replace("%2f", "/")
        .replace("%5c", "\\");
    path.split(['/', '\\'])
        .any(|segment| matches!(segment.split(';').next(), Some("." | "..")))
}

fn present<'a>(field: &'static str, raw: Option<&'a RawValue>) -> Result<&'a RawValue, Problem> {
    raw.ok_or(Problem::Missing { field })
}

fn string(raw: &RawValue) -> Option<Cow<'_, str>> {
    /// `Cow<str>` alone would always copy.
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    serde_json::from_str::<Text<'_>>(raw.get())
        .ok()
        .map(|text| text.0)
}

fn not_allowed(field: &'static str, raw: &RawValue, allowed: &'static str) -> Problem {
    let mut found: String = raw.get().chars().take(SHOWN_CHARS).collect();
    if found.len() < raw.get().len() {
        found.push('…');
    }
    Problem::NotAllowed {
        field,
        found,
        allowed,
    }
}

fn as_sentence<S: Serializer>(problem: &Problem, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(problem)
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}", self.line)?;
        if let Some(custom_id) = &self.custom_id {
            write!(f, ", custom_id {custom_id:?}")?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(what) => write!(f, "not a JSON object: {what}"),
            Self::Missing { field } => write!(f, "`{field}` is missing"),
            Self::NotAllowed {
                field,
                found,
                allowed,
            } => write!(f, "`{field}` is {found}; it must be {allowed}"),
            Self::Duplicate { first } => {
                write!(f, "the same custom_id as line {first}; each must be unique")
            }
            Self::Changed => f.write_str(
                "the request was changed since an earlier run answered it under this custom_id",
            ),
            Self::TooLong { bytes, max_bytes } => {
                write!(f, "{bytes} bytes long; at most {max_bytes} are allowed")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &'static str) -> Result<Line, String> {
        Line::parse(7, &Bytes::from_static(text.as_bytes()), None).map_err(|bad| bad.to_string())
    }

    #[test]
    fn body_is_kept_byte_for_byte() {
        let line = parse(
            r#" {"url":"/v1/x","method":"POST", "custom_id":"a\u0041", "extra":1, "body": {"n" : 1.50, "s":"\u00e9"} }"#,
        )
        .expect("a good line");
        assert_eq!(&*line.custom_id, "aA");
        assert_eq!(line.body, r#"{"n" : 1.50, "s":"\u00e9"}"#);
    }

    #[test]
    fn request_is_what_the_line_asks_for() {
        let line = parse(r#"{"custom_id":"a","method":"POST","url":"/v1/embeddings","body":{}}"#);
        let request = line.expect("a good line").request();
        assert_eq!(request.method(), Method::POST);
        assert_eq!(request.uri(), "/v1/embeddings");
        assert_eq!(request.headers()["content-type"], "application/json");
        assert_eq!(request.body(), "{}");
    }

    #[test]
    fn a_path_leads_nowhere_else() {
        let with = |url: &str| {
            let line = format!(r#"{{"custom_id":"a","method":"POST","url":"{url}","body":{{}}}}"#);
            Line::parse(7, &Bytes::from(line), None).map(|line| line.uri)
        };
        for url in [
            "/v1/../../admin",
            "/v1/files/../chat/completions",
            "/v1/%2e%2E/x",
            "/v1/..%2fx",
            "/v1/..;a/x",
            "/v1/./x",
            "/..",
        ] {
            let told = with(url).expect_err(url).to_string();
            let allowed = "it must be a path such as \"/v1/chat/completions\"";
            assert!(told.ends_with(allowed), "{told}");
        }
        for url in ["/v1/models/a..b", "/v1/.x", "/v1/x?y=/../z", "/v1/50%25"] {
            assert_eq!(with(url).expect("a path"), url);
        }
    }

    #[test]
    fn a_body_alone_is_named_by_its_line() {
        let line = parse(r#" {"model":"gpt-4o","messages":[]} "#).expect("a body");
        assert_eq!(&*line.custom_id, "line-7");
        assert_eq!(line.uri, "/v1/chat/completions");
        assert_eq!(line.body, r#"{"model":"gpt-4o","messages":[]}"#);

        let url = Uri::from_static("/v1/rerank");
        let text = Bytes::from_static(br#"{"query":"a"}"#);
        let line = Line::parse(7, &text, Some(&url)).expect("a body");
        assert_eq!(line.uri, "/v1/rerank");
        let lost = Line::parse(7, &text, None).expect_err("nowhere to go");
        assert_eq!(lost.to_string(), "line 7: `custom_id` is missing");
    }

    #[test]
    fn each_problem_names_place_value_and_what_is_allowed() {
        let cases = [
            (
                "nonsense",
                "line 7: not a JSON object: it does not begin with `{`",
            ),
            (
                r#"["a","POST","/v1/x",{}]"#,
                "line 7: not a JSON object: it does not begin with `{`",
            ),
            (
                r#"{"custom_id":"a","method" "POST"}"#,
                "line 7: not a JSON object: expected `:` at column 27",
            ),
            (
                r#"{"custom_id":"a","custom_id":"b"}"#,
                "line 7: not a JSON object: duplicate field `custom_id` at column 28",
            ),
            (
                r#"{"method":"POST","url":"/v1/x","body":{}}"#,
                "line 7: `custom_id` is missing",
            ),
            (
                r#"{"custom_id":17,"method":"POST","url":"/v1/x","body":{}}"#,
                "line 7: `custom_id` is 17; it must be a string that is not empty",
            ),
            (
                r#"{"custom_id":"a","url":"/v1/x","body":{}}"#,
                "line 7, custom_id \"a\": `method` is missing",
            ),
            (
                r#"{"custom_id":"a","method":"GET","url":"/v1/x","body":{}}"#,
                "line 7, custom_id \"a\": `method` is \"GET\"; it must be \"POST\"",
            ),
            (
                r#"{"custom_id":"a","method":"POST","body":{}}"#,
                "line 7, custom_id \"a\": `url` is missing",
            ),
            (
                r#"{"custom_id":"a","method":"POST","url":"v1/x","body":{}}"#,
                "line 7, custom_id \"a\": `url` is \"v1/x\"; it must be a path such as \
                 \"/v1/chat/completions\"",
            ),
            (
                r#"{"custom_id":"a","method":"POST","url":"/v1/x"}"#,
                "line 7, custom_id \"a\": `body` is missing",
            ),
            (
                r#"{"custom_id":"a","method":"POST","url":"/v1/x","body":null}"#,
                "line 7, custom_id \"a\": `body` is missing",
            ),
            (
                r#"{"custom_id":"a","method":"POST","url":"/v1/x","body":[]}"#,
                "line 7, custom_id \"a\": `body` is []; it must be an object",
            ),
        ];
        for (text, message) in cases {
            assert_eq!(parse(text).expect_err(text), message);
        }
    }

    #[test]
    fn bytes_that_are_not_text_are_a_bad_line() {
        let text = Bytes::from_static(b"{\"custom_id\":\"\xFF\"}");
        let bad = Line::parse(1, &text, None).expect_err("not UTF-8");
        assert!(matches!(bad.problem, Problem::Malformed(_)));
    }
}
