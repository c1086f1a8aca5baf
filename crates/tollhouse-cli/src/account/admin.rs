//! The limits of a project, as OpenAI's admin API tells them.
//!
//! `GET /organization/projects/{id}/rate_limits`, in pages; the fields are those of the
//! official SDK's `ProjectRateLimit`.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;
use tollhouse_openai::{ApiError, OpenAi};
use tower::ServiceExt;

use crate::failure::{self, BoxError};

/// The most that a page is allowed to have.
const PAGE: usize = 100;

/// No account has so many pages.
const PAGES: usize = 1_000;

/// No page is so long.
const LONGEST: usize = 16 * 1024 * 1024;

/// What one model may use. What an API leaves out is not limited there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(super) struct RateLimit {
    #[serde(default)]
    pub(super) id: String,
    pub(super) model: String,
    #[serde(rename = "max_tokens_per_1_minute")]
    pub(super) tokens_per_minute: Option<u64>,
    #[serde(rename = "max_requests_per_1_minute")]
    pub(super) requests_per_minute: Option<u64>,
    #[serde(rename = "max_requests_per_1_day")]
    pub(super) requests_per_day: Option<u64>,
    #[serde(rename = "max_images_per_1_minute")]
    pub(super) images_per_minute: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Page {
    data: Vec<RateLimit>,
    #[serde(default)]
    has_more: bool,
    last_id: Option<String>,
}

/// All limits of a project.
///
/// # Errors
///
/// What could not be reached, was refused, or is no such list.
pub(super) async fn rate_limits(
    client: &OpenAi,
    project: &str,
) -> Result<Vec<RateLimit>, BoxError> {
    let mut all: Vec<RateLimit> = Vec::new();
    let mut after: Option<String> = None;
    for _ in 0..PAGES {
        let page = page(client, project, after.as_deref()).await?;
        let last = page.last_id.or_else(|| Some(page.data.last()?.id.clone()));
        all.extend(page.data);
        match last.filter(|last| page.has_more && !last.is_empty()) {
            None => return Ok(all),
            // A list that stands still has no end.
            Some(last) if Some(&last) == after.as_ref() => break,
            last => after = last,
        }
    }
    let what = format!("the list of limits has no end at {}", client.base_url());
    Err(failure::error(what))
}

async fn page(client: &OpenAi, project: &str, after: Option<&str>) -> Result<Page, BoxError> {
    let mut path = format!(
        "/v1/organization/projects/{}/rate_limits?limit={PAGE}",
        encoded(project)
    );
    if let Some(after) = after {
        path += &format!("&after={}", encoded(after));
    }
    let because = |error: BoxError| {
        let url = client.base_url();
        failure::because(
            format!("cannot read the limits of {project} from {url}"),
            error,
        )
    };
    let request = Request::get(path).body(Bytes::new())?;
    let response = client.clone().oneshot(request).await;
    let response = response.map_err(|error| because(error.into()))?;
    let response = ApiError::check(response).await;
    let response = response.map_err(|error| because(error.into()))?;
    let body = Limited::new(response.into_body(), LONGEST).collect().await;
    let body = body.map_err(because)?.to_bytes();
    serde_json::from_slice(&body).map_err(|error| because(error.into()))
}

/// As part of a path or a query.
fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
            char::from(byte).to_string()
        }
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_no_part_of_a_path() {
        assert_eq!(encoded("proj_a-1"), "proj_a-1");
        assert_eq!(encoded("../a?b&c é"), "..%2Fa%3Fb%26c%20%C3%A9");
    }

    #[test]
    fn what_an_api_leaves_out_is_not_limited_there() {
        let text = r#"{"object":"list","data":[{"model":"o3","max_requests_per_1_minute":5,
            "batch_1_day_max_input_tokens":9}],"has_more":false}"#;
        let page: Page = serde_json::from_str(text).expect("a page");
        let expected = RateLimit {
            model: "o3".to_owned(),
            requests_per_minute: Some(5),
            ..RateLimit::default()
        };
        assert_eq!(page.data, [expected]);
    }
}
