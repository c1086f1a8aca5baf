//! What the head of an HTTP/1 request says of its body, read strictly.

use httparse::{EMPTY_HEADER, Error, Header, Request, Status};

use super::Flaw;

/// As many as hyper takes.
const MOST_HEADERS: usize = 100;

/// How a body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
}

/// Reads a complete head.
pub(super) fn framing(head: &[u8]) -> Result<Framing, Flaw> {
    let mut headers = [EMPTY_HEADER; MOST_HEADERS];
    let mut request = Request::new(&mut headers);
    match request.parse(head) {
        Ok(Status::Complete(length)) if length == head.len() => {}
        Err(Error::TooManyHeaders) => return Err(Flaw::TooManyHeaders),
        _ => return Err(Flaw::Malformed),
    }
    if request.method == Some("CONNECT") {
        return Err(Flaw::Connect);
    }
    one_host(request.headers)?;
    body(request.headers, request.version == Some(1))
}

fn one_host(headers: &[Header<'_>]) -> Result<(), Flaw> {
    let mut hosts = values(headers, "host");
    match (hosts.next(), hosts.next()) {
        (None, _) => Err(Flaw::NoHost),
        (Some(_), Some(_)) => Err(Flaw::DoubleHost),
        (Some(_), None) => Ok(()),
    }
}

fn body(headers: &[Header<'_>], is_http_11: bool) -> Result<Framing, Flaw> {
    let mut lengths = values(headers, "content-length");
    let length = lengths.next();
    if lengths.next().is_some() {
        return Err(Flaw::DoubleLength);
    }
    let mut codings = values(headers, "transfer-encoding");
    let Some(coding) = codings.next() else {
        return length.map_or(Ok(0), number).map(Framing::Length);
    };
    match () {
        () if !is_http_11 => Err(Flaw::CodingInHttp10),
        () if length.is_some() => Err(Flaw::LengthAndCoding),
        () if codings.next().is_some() => Err(Flaw::OtherCoding),
        () if !coding.eq_ignore_ascii_case(b"chunked") => Err(Flaw::OtherCoding),
        () => Ok(Framing::Chunked),
    }
}

/// Digits and nothing else: no sign, no list, no space.
fn number(digits: &[u8]) -> Result<u64, Flaw> {
    let text = str::from_utf8(digits).map_err(|_| Flaw::BadLength)?;
    let all_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(number) if all_digits => Ok(number),
        _ => Err(Flaw::BadLength),
    }
}

fn values<'h>(headers: &'h [Header<'h>], name: &'h str) -> impl Iterator<Item = &'h [u8]> {
    let named = move |header: &&Header<'h>| header.name.eq_ignore_ascii_case(name);
    headers.iter().filter(named).map(|header| header.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &str) -> Result<Framing, Flaw> {
        let lines = lines.replace('|', "\r\n");
        framing(format!("{lines}\r\n\r\n").as_bytes())
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
        ] {
            assert_eq!(of(lines), read, "{lines}");
        }
        let many = "|x: y".repeat(100);
        assert_eq!(
            of(&format!("GET / HTTP/1.1|host: a{many}")),
            Err(Flaw::TooManyHeaders)
        );
    }
}
