//! What is wrong with a request.

use std::fmt;

use http::StatusCode;

/// Why a request is refused before anybody reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    Malformed,
    BadTarget,
    BareLf,
    BareCr,
    HeadTooLong,
    SlowHead,
    TooManyHeaders,
    NoHost,
    DoubleHost,
    ForeignHost,
    ForeignOrigin,
    LengthAndCoding,
    DoubleLength,
    BadLength,
    CodingInHttp10,
    OtherCoding,
    BadChunk,
    Connect,
    DotsInPath,
}

impl Flaw {
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Flaw::HeadTooLong | Flaw::TooManyHeaders => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Flaw::SlowHead => StatusCode::REQUEST_TIMEOUT,
            Flaw::ForeignHost => StatusCode::MISDIRECTED_REQUEST,
            Flaw::ForeignOrigin => StatusCode::FORBIDDEN,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// What is wrong, in one sentence.
    pub(crate) fn says(self) -> &'static str {
        match self {
            Flaw::Malformed => "the request is not HTTP/1.1",
            Flaw::BadTarget => {
                "the request's target is no path as RFC 3986 has it, nor an absolute URI"
            }
            Flaw::BareLf => "a line ends in LF alone; CR LF is demanded",
            Flaw::BareCr => "a line has a CR in it that is not its end",
            Flaw::HeadTooLong => "the request's head is too long",
            Flaw::SlowHead => "the request's head took too long",
            Flaw::TooManyHeaders => "the request has more than 100 headers",
            Flaw::NoHost => "the request has no Host",
            Flaw::DoubleHost => "the request has more than one Host",
            Flaw::ForeignHost => {
                "the request's Host is no name of this proxy; --host NAME makes it one"
            }
            Flaw::ForeignOrigin => "pages of other origins may not call this proxy",
            Flaw::LengthAndCoding => "the request has both Content-Length and Transfer-Encoding",
            Flaw::DoubleLength => "the request has more than one Content-Length",
            Flaw::BadLength => "the request's Content-Length is no whole number",
            Flaw::CodingInHttp10 => "HTTP/1.0 has no Transfer-Encoding",
            Flaw::OtherCoding => "Transfer-Encoding may only be chunked",
            Flaw::BadChunk => "a chunk of the request's body is malformed",
            Flaw::Connect => "CONNECT is not offered: this is no tunnel",
            Flaw::DotsInPath => "the path has a segment of dots",
        }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.says())
    }
}

impl std::error::Error for Flaw {}
