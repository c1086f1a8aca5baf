//! Where a request goes: its URI, resolved against the base URL.

use http::Uri;
use http::uri::{Authority, Parts, PathAndQuery, Scheme};

use super::Error;

/// A base URL, taken apart.
#[derive(Debug)]
pub(super) struct Target {
    url: Uri,
    scheme: Scheme,
    authority: Authority,
    /// Without a slash at its end; empty where there is no path.
    path: String,
    /// The path's last segment, where it is a version.
    version: Option<String>,
}

/// Where a request goes.
#[derive(Debug)]
pub(super) enum Resolved {
    /// To the base URL's origin, by this path.
    Here(PathAndQuery),
    /// To the base URL's origin, as its URI says.
    Origin,
    /// To another origin, as its URI says.
    Elsewhere,
}

impl Target {
    /// Reads a base URL.
    pub(super) fn parse(url: &str) -> Result<Target, Error> {
        const ALLOWED: &str = "an http:// or https:// URL without user, query and fragment";
        // A query may have a key in it.
        let shown = match url.split_once('?') {
            Some((shown, _)) => format!("{shown}?…"),
            None => url.to_owned(),
        };
        let refuse = || Error::config(format!("base URL {shown:?}: not {ALLOWED}"));
        // A user in it may be a secret, so the value is not repeated.
        if url.contains('@') {
            return Err(Error::config(format!("base URL: not {ALLOWED}")));
        }
        if url.contains('#') {
            return Err(refuse());
        }
        let parsed: Uri = url.parse().map_err(|_| refuse())?;
        let (scheme, authority) = parsed
            .scheme()
            .zip(parsed.authority())
            .filter(|(scheme, _)| is_http(scheme))
            .filter(|(_, authority)| !authority.host().is_empty())
            .filter(|_| parsed.query().is_none())
            .ok_or_else(refuse)?;
        let path = parsed.path().trim_end_matches('/');
        let version = path.rsplit('/').next().filter(|last| is_version(last));
        Ok(Target {
            scheme: scheme.clone(),
            authority: authority.clone(),
            path: path.to_owned(),
            version: version.map(str::to_owned),
            url: parsed,
        })
    }

    pub(super) fn url(&self) -> &Uri {
        &self.url
    }

    pub(super) fn is_https(&self) -> bool {
        self.scheme == Scheme::HTTPS
    }

    /// Where a request goes.
    pub(super) fn resolve(&self, uri: &Uri) -> Result<Resolved, Error> {
        let Some(scheme) = uri.scheme() else {
            return self.join(uri).map(Resolved::Here);
        };
        if !is_http(scheme) {
            return Err(Error::request(format!(
                "cannot send a request to a {scheme}:// URI; http, https or a path is allowed"
            )));
        }
        Ok(match self.is_origin_of(uri) {
            true => Resolved::Origin,
            false => Resolved::Elsewhere,
        })
    }

    /// The full URI of a path at the base URL's origin.
    pub(super) fn absolute(&self, path: PathAndQuery) -> Uri {
        let mut parts = Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(path);
        Uri::from_parts(parts).expect("it has all parts")
    }

    fn join(&self, uri: &Uri) -> Result<PathAndQuery, Error> {
        let known = uri.path_and_query().filter(|_| uri.authority().is_none());
        // `models` alone parses as a host; it can only mean a path here.
        let word = uri.authority().map(|word| format!("/{word}"));
        let relative = match (&word, known) {
            (Some(word), _) => word,
            (None, known) => known.map_or("/", PathAndQuery::as_str),
        };
        let tail = self.without_shared_version(relative);
        let head = &relative[..relative.len() - tail.len()];
        match known {
            // Mostly: nothing is to be written anew.
            Some(known) if *head == self.path => Ok(known.clone()),
            _ => PathAndQuery::try_from(format!("{}{tail}", self.path)).map_err(|error| {
                Error::request(format!("no URI can be made of {uri}")).because(error)
            }),
        }
    }

    /// Takes the version off a path where the base URL ends in the same one.
    fn without_shared_version<'p>(&self, path: &'p str) -> &'p str {
        let Some(version) = &self.version else {
            return path;
        };
        let rest = path
            .strip_prefix('/')
            .and_then(|path| path.strip_prefix(&**version));
        match rest {
            Some(rest) if rest.is_empty() || rest.starts_with(['/', '?']) => rest,
            _ => path,
        }
    }

    /// Whether an absolute URI is at the base URL's origin.
    fn is_origin_of(&self, uri: &Uri) -> bool {
        let same_host = uri
            .host()
            .is_some_and(|host| host.eq_ignore_ascii_case(self.authority.host()));
        same_host && uri.scheme() == Some(&self.scheme) && port(uri) == port(&self.url)
    }
}

fn is_http(scheme: &Scheme) -> bool {
    *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS
}

/// `v1`, `v2beta`, and the like.
fn is_version(segment: &str) -> bool {
    let number = segment.strip_prefix('v');
    number.is_some_and(|number| number.starts_with(|c: char| c.is_ascii_digit()))
}

fn port(uri: &Uri) -> u16 {
    let default = if uri.scheme() == Some(&Scheme::HTTPS) {
        443
    } else {
        80
    };
    uri.port_u16().unwrap_or(default)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(base: &str, uri: &str) -> (String, bool) {
        let target = Target::parse(base).expect("a base URL");
        let uri = uri.parse().expect("a URI");
        match target.resolve(&uri).expect("a target") {
            Resolved::Here(path) => (target.absolute(path).to_string(), true),
            Resolved::Origin => (uri.to_string(), true),
            Resolved::Elsewhere => (uri.to_string(), false),
        }
    }

    #[test]
    fn paths_resolve_as_in_the_batch_api() {
        let openai = "https://api.openai.com/v1";
        let chat = "https://api.openai.com/v1/chat/completions";
        let cases = [
            (openai, "/v1/chat/completions", chat),
            (openai, "/chat/completions", chat),
            ("https://api.openai.com/v1/", "/v1/chat/completions", chat),
            ("https://api.openai.com", "/v1/chat/completions", chat),
            ("https://api.openai.com/", "/v1/chat/completions", chat),
            (openai, "/v1", "https://api.openai.com/v1"),
            (openai, "/v1?x=1", "https://api.openai.com/v1?x=1"),
            (
                openai,
                "/v1beta/models",
                "https://api.openai.com/v1/v1beta/models",
            ),
            (
                openai,
                "/models?after=a",
                "https://api.openai.com/v1/models?after=a",
            ),
            (openai, "models", "https://api.openai.com/v1/models"),
            (
                "https://h/openai/v1",
                "/v1/responses",
                "https://h/openai/v1/responses",
            ),
            (
                "http://h/chat",
                "/chat/completions",
                "http://h/chat/chat/completions",
            ),
            (
                "http://[::1]:8788",
                "/v1/models",
                "http://[::1]:8788/v1/models",
            ),
        ];
        for (base, uri, expected) in cases {
            assert_eq!(
                resolved(base, uri),
                (expected.to_owned(), true),
                "{base} {uri}"
            );
        }
    }

    #[test]
    fn only_the_same_origin_is_ours() {
        let base = "https://api.openai.com/v1";
        for (uri, ours) in [
            ("https://api.openai.com/v1/models", true),
            ("https://API.openai.com:443/other", true),
            ("http://api.openai.com/v1/models", false),
            ("https://api.openai.com:8443/v1/models", false),
            ("https://api.openai.com.evil.example/v1/models", false),
            ("https://evil.example/v1/models", false),
        ] {
            assert_eq!(resolved(base, uri).1, ours, "{uri}");
        }
        assert!(resolved("http://h:80", "http://h/x").1);
    }

    #[test]
    fn a_bad_base_url_is_named_with_what_is_allowed() {
        for url in [
            "",
            "api.openai.com",
            "/v1",
            "ftp://h/v1",
            "http://h/#x",
            "http://h h/",
        ] {
            let error = Target::parse(url).expect_err(url);
            assert!(error.is_config());
            let said = error.to_string();
            assert!(
                said.contains(&format!("{url:?}")) && said.contains("https://"),
                "{said}"
            );
        }
        for url in ["https://user:hunter2@h/v1", "https://h/v1?key=hunter2"] {
            let secret = Target::parse(url).expect_err(url);
            assert!(!format!("{secret:?} {secret}").contains("hunter2"));
        }
        let query = Target::parse("https://h/v1?key=hunter2").expect_err("a query");
        assert!(query.to_string().contains(r#""https://h/v1?…""#), "{query}");
    }

    #[test]
    fn other_schemes_are_refused() {
        let target = Target::parse("http://h").expect("a base URL");
        let error = target.resolve(&"ftp://h/x".parse().expect("a URI"));
        assert!(error.expect_err("ftp").is_request());
    }
}
