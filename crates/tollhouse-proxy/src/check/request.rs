//! What is checked of a request that hyper has read, whatever its version.

use std::net::IpAddr;

use http::header::{HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use memchr::memchr2;

use super::Flaw;

/// The names that this proxy answers to, beside addresses and `localhost`.
///
/// A page of somebody else's can let its own name point to this machine, and so be of
/// the same origin as the proxy in the eyes of a browser. It cannot do that with an
/// address or with `localhost`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hosts {
    names: Vec<String>,
}

impl Hosts {
    pub(crate) fn new(names: impl IntoIterator<Item = String>) -> Self {
        Hosts {
            names: names.into_iter().collect(),
        }
    }

    /// Refuses what no caller of this proxy sends.
    pub(crate) fn check<B>(&self, request: &Request<B>) -> Result<(), Flaw> {
        if request.method() == Method::CONNECT {
            return Err(Flaw::Connect);
        }
        let host = host(request)?;
        if !self.is_ours(host.host()) {
            return Err(Flaw::ForeignHost);
        }
        if has_dots(request.uri().path()) {
            return Err(Flaw::DotsInPath);
        }
        own_origin(request.headers(), &host)
    }

    fn is_ours(&self, host: &str) -> bool {
        let address = host.trim_start_matches('[').trim_end_matches(']');
        is_localhost(host)
            || address.parse::<IpAddr>().is_ok()
            || self
                .names
                .iter()
                .any(|name| name.eq_ignore_ascii_case(host))
    }
}

/// `localhost`, or a name below it.
fn is_localhost(host: &str) -> bool {
    const NAME: &[u8] = b"localhost";
    let host = host.as_bytes();
    let (before, end) = host.split_at(host.len().saturating_sub(NAME.len()));
    end.eq_ignore_ascii_case(NAME) && matches!(before.last(), None | Some(b'.'))
}

/// What `Host` says; under HTTP/2 the authority may stand in its place. The host of
/// an absolute-form target counts for nothing.
fn host<B>(request: &Request<B>) -> Result<Authority, Flaw> {
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(_), Some(_)) => Err(Flaw::DoubleHost),
        (Some(host), None) => Authority::try_from(host.as_bytes()).map_err(|_| Flaw::ForeignHost),
        (None, _) => request.uri().authority().cloned().ok_or(Flaw::NoHost),
    }
}

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// A browser tells where a page is from that calls; one of another origin may not.
fn own_origin(headers: &HeaderMap, host: &Authority) -> Result<(), Flaw> {
    let site = headers.get(FETCH_SITE).map(HeaderValue::as_bytes);
    let is_other_site = site.is_some_and(|site| site == b"cross-site" || site == b"same-site");
    let is_other_origin = headers.get_all(ORIGIN).iter().any(|origin| {
        let origin = origin.to_str().unwrap_or_default();
        let there = origin.split_once("://").map(|(_, there)| there);
        !there.is_some_and(|there| there.eq_ignore_ascii_case(host.as_str()))
    });
    match is_other_site || is_other_origin {
        true => Err(Flaw::ForeignOrigin),
        false => Ok(()),
    }
}

/// Whether a segment is `.` or `..`, written out or not: the provider would resolve
/// it to a path that this proxy has not seen.
fn has_dots(path: &str) -> bool {
    if memchr2(b'.', b'%', path.as_bytes()).is_none() {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(uri: &str, headers: &[(&str, &str)]) -> Result<(), Flaw> {
        let mut request = Request::get(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Hosts::new(["Proxy.Internal".to_owned()]).check(&request.body(()).unwrap())
    }

    #[test]
    fn hosts_that_no_page_can_pretend_to_be_are_ours() {
        for host in [
            "127.0.0.1:8787",
            "[::1]:1",
            "10.1.2.3",
            "localhost:8787",
            "LOCALHOST",
            "a.localhost",
            "proxy.internal:80",
        ] {
            assert_eq!(checked("/v1/models", &[("host", host)]), Ok(()), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "internal",
            "",
            "a b",
        ] {
            assert_eq!(
                checked("/v1/models", &[("host", host)]),
                Err(Flaw::ForeignHost),
                "{host}"
            );
        }
        assert_eq!(checked("/", &[]), Err(Flaw::NoHost));
        assert_eq!(
            checked("/", &[("host", "a"), ("host", "a")]),
            Err(Flaw::DoubleHost)
        );
        // An absolute-form target's own host counts for nothing.
        assert_eq!(
            checked("http://evil.example/v1", &[("host", "localhost")]),
            Ok(())
        );
        assert_eq!(
            checked("http://localhost/v1", &[("host", "evil.example")]),
            Err(Flaw::ForeignHost)
        );
        assert_eq!(
            checked("http://evil.example/v1", &[]),
            Err(Flaw::ForeignHost)
        );
    }

    #[test]
    fn pages_of_other_origins_are_refused() {
        let host = ("host", "127.0.0.1:8787");
        for (header, refused) in [
            (("origin", "http://127.0.0.1:8787"), false),
            (("origin", "http://127.0.0.1:8788"), true),
            (("origin", "https://evil.example"), true),
            (("origin", "null"), true),
            (("sec-fetch-site", "same-origin"), false),
            (("sec-fetch-site", "none"), false),
            (("sec-fetch-site", "cross-site"), true),
            (("sec-fetch-site", "same-site"), true),
        ] {
            let expected = if refused {
                Err(Flaw::ForeignOrigin)
            } else {
                Ok(())
            };
            assert_eq!(
                checked("/v1/models", &[host, header]),
                expected,
                "{header:?}"
            );
        }
    }

    #[test]
    fn segments_of_dots_are_refused() {
        for path in [
            "/v1/../x",
            "/..",
            "/v1/%2e%2E/x",
            "/v1/.%2e",
            "/v1/./x",
            "/v1/..%2fx",
            "/v1/..\\x",
            "/v1/..%5cx",
            "/v1/..;a/x",
        ] {
            assert_eq!(
                checked(path, &[("host", "localhost")]),
                Err(Flaw::DotsInPath),
                "{path}"
            );
        }
        for path in [
            "/v1/models/a..b",
            "/v1/...",
            "/v1/.x",
            "/v1/x.",
            "/v1/x?y=/../z",
        ] {
            assert_eq!(checked(path, &[("host", "localhost")]), Ok(()), "{path}");
        }
    }
}
