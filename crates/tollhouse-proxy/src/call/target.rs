//! Where a call goes at the provider.

use http::Uri;
use http::uri::PathAndQuery;

use crate::error::Refusal;

/// Where the API stands for clients.
const VERSION: &str = "/v1";

/// A path alone, for nothing that a client sends
/// chooses a host.
pub(super) fn provider_path(base: &str, uri: &Uri) -> Result<Uri, Refusal> {
    let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let below = |prefix: &str| {
        let rest = path.strip_prefix(prefix)?;
        // The root alone is nothing of the API's, whatever it is asked.
        rest.starts_with('/').then_some(rest)
    };
    let is_prefix = !base.is_empty() && base != VERSION;
    // What clients call the API's root is the base URL, whatever version that ends in, if any.
    // A host alone is no base URL of an SDK's, and has the version still to come.
    let ends_here = base.is_empty() || base.ends_with(VERSION);
    let path = match (below(base).filter(|_| is_prefix), below(VERSION)) {
        (Some(rest), _) => rest,
        // The client makes the base URL's version of this one.
        (None, Some(_)) if ends_here => path,
        (None, Some(rest)) => rest,
        (None, None) => return Err(Refusal::NotHere),
    };
    // A copy: what it came in is the connection's.
    let path = PathAndQuery::try_from(path).map_err(|_| Refusal::NotHere)?;
    Ok(Uri::from(path))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn path(base: &str, uri: &str) -> Result<String, Refusal> {
        provider_path(base, &uri.parse().unwrap()).map(|uri| uri.to_string())
    }

    #[test]
    fn paths_are_the_apis_or_below_the_base_urls() {
        for (base, uri, there) in [
            ("/v1", "/v1/models?a=b", "/v1/models?a=b"),
            ("/v1", "http://evil.example/v1/models", "/v1/models"),
            ("", "/v1/models", "/v1/models"),
            ("/openai/v1", "/v1/models", "/v1/models"),
            ("/openai/v1", "/openai/v1/models", "/models"),
            ("/v1beta/openai", "/v1/models?a=b", "/models?a=b"),
            ("/v1beta/openai", "/v1beta/openai/models", "/models"),
            ("/api/paas/v4", "/v1/chat/completions", "/chat/completions"),
        ] {
            assert_eq!(path(base, uri).as_deref(), Ok(there), "{base} {uri}");
        }
        for uri in [
            "/",
            "/models",
            "/v1x",
            "/v1",
            "/v1?x=1",
            "/favicon.ico",
            "/openai/v1/x",
        ] {
            assert_eq!(path("/v1", uri), Err(Refusal::NotHere), "{uri}");
        }
    }

    /// What a call is read from is used again while it waits.
    #[test]
    fn a_path_is_no_part_of_what_it_came_in() {
        for base in ["/v1", "", "/openai/v1"] {
            let buffer = Bytes::from(b"/v1/models".to_vec());
            let uri = Uri::from_maybe_shared(buffer.clone()).unwrap();
            let path = provider_path(base, &uri).unwrap();
            drop(uri);
            assert!(buffer.is_unique(), "{base}");
            assert_eq!(path, "/v1/models");
        }
    }
}
