//! Errors as responses to one's own callers. Feature `axum`.

use std::time::Duration;

use axum_core::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use tollhouse::Refused;

use crate::api_error::ApiError;

/// What a handler may return: `Result<_, ApiError>`.
///
/// | what happened | status |
/// |---|---|
/// | a limit is used up, by the provider's word | 429 |
/// | a gate turned the call away | 503; 413 for one that can never fit |
/// | quota exhausted, or the key not accepted: nothing that a caller can mend | 503 |
/// | the provider is overloaded or cannot be reached | 503 |
/// | any other refusal of the provider's | its own status |
/// | no answer for another reason | 502 |
///
/// With `retry-after`, in whole seconds, where a delay is known, and of 1 second where too
/// many wait and nobody knows yet for how long; never of less. The body is the
/// provider's own where the status is, else an OpenAI-style error of one line.
///
/// # Examples
///
/// ```
/// use axum_core::response::IntoResponse;
/// use tollhouse_openai::{ApiError, Refused, error};
///
/// let refused = Refused::TooLarge {
///     cost: 45_411,
///     limit: 30_000,
/// };
/// let error = ApiError::from(error::Error::from(refused));
/// assert_eq!(error.into_response().status(), 413);
/// ```
impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = status(&self);
        let passed_on = self.status() == Some(status) && !self.body().is_empty();
        let body = match passed_on {
            true => self.body().clone(),
            false => own_body(&self, status).into(),
        };
        let mut response = Response::new(axum_core::body::Body::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, json);
        if let Some(seconds) = retry_after(&self) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// In whole seconds. Whoever was told 0 would ask again at once, and be refused again.
fn retry_after(error: &ApiError) -> Option<u64> {
    let is_full = matches!(error.refused(), Some(Refused::Overloaded { .. }));
    let after = error.retry_after().or(is_full.then_some(Duration::ZERO))?;
    let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
    Some(seconds.max(1))
}

fn status(error: &ApiError) -> StatusCode {
    if let Some(refused) = error.refused() {
        return match refused {
            Refused::TooLarge { .. } | Refused::TooMany { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
    }
    let told = error.status();
    let ours = told == Some(StatusCode::UNAUTHORIZED) || error.is_quota_exhausted();
    match told {
        _ if error.is_overloaded() || ours => StatusCode::SERVICE_UNAVAILABLE,
        _ if error.is_rate_limited() => StatusCode::TOO_MANY_REQUESTS,
        Some(status) if status.is_client_error() => status,
        _ => StatusCode::BAD_GATEWAY,
    }
}

/// Says what is wrong without the provider's words, which are about our account.
fn own_body(error: &ApiError, status: StatusCode) -> String {
    let message = match error.refused() {
        Some(refused) => refused.to_string(),
        None => status.canonical_reason().unwrap_or_default().to_lowercase(),
    };
    let error = serde_json::json!({"message": message, "type": "tollhouse", "code": null});
    serde_json::json!({"error": error}).to_string()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::{BodyExt, Full};
    use tollhouse::{Error, Unit};

    use super::*;

    async fn answered(status: u16, body: &'static str) -> ApiError {
        let answer = http::Response::builder().status(status);
        let answer = answer.body(Full::<Bytes>::from(body)).expect("an answer");
        ApiError::check(answer).await.expect_err("an error")
    }

    async fn told(error: ApiError) -> (u16, Option<String>, String) {
        let response = error.into_response();
        let after = response.headers().get("retry-after");
        let after = after.map(|after| after.to_str().expect("text").to_owned());
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.expect("a body");
        let body = String::from_utf8(body.to_bytes().to_vec()).expect("text");
        (status, after, body)
    }

    #[tokio::test(start_paused = true)]
    async fn limits_are_passed_on_with_their_delay() {
        let body = r#"{"error":{"code":"rate_limit_exceeded","type":"tokens","message":"Please try again in 644ms."}}"#;
        let (status, after, passed) = told(answered(429, body).await).await;
        assert_eq!((status, after.as_deref()), (429, Some("1")));
        assert_eq!(passed, body);
    }

    #[tokio::test(start_paused = true)]
    async fn what_callers_cannot_mend_is_no_fault_of_theirs() {
        let spent = r#"{"error":{"code":"insufficient_quota","message":"pay"}}"#;
        for (status, body) in [(429, spent), (401, "{}"), (500, "<html>")] {
            let (status, after, body) = told(answered(status, body).await).await;
            assert_eq!((status, after), (503, None));
            let own = body.contains("service unavailable") && !body.contains("pay");
            assert!(own, "{body}");
        }
        assert_eq!(told(answered(400, "{}").await).await.0, 400);
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_of_the_gates_say_when() {
        let busy = Refused::Overloaded {
            waiting: 9,
            expected_wait: Duration::from_secs(12),
        };
        let (status, after, _) = told(Error::from(busy).into()).await;
        assert_eq!((status, after.as_deref()), (503, Some("12")));
        let large = Refused::TooLarge { cost: 9, limit: 4 };
        let (status, after, body) = told(Error::from(large).into()).await;
        assert_eq!((status, after), (413, None));
        assert!(body.contains("9"), "{body}");
        let many = Refused::TooMany {
            unit: Unit::Images,
            amount: 9,
            limit: 4,
        };
        let (status, after, _) = told(Error::from(many).into()).await;
        assert_eq!((status, after), (413, None));
    }

    /// It was "retry-after: 0", and "the expected wait is 0.0s".
    #[tokio::test(start_paused = true)]
    async fn nobody_is_told_to_come_again_at_once() {
        for (wait, after, words) in [
            (Duration::ZERO, "1", "nobody knows yet for how long"),
            (Duration::from_millis(40), "1", "less than 0.1s"),
        ] {
            let busy = Refused::Overloaded {
                waiting: 2,
                expected_wait: wait,
            };
            let error = ApiError::from(Error::from(busy));
            assert_eq!(error.retry_after(), Some(wait).filter(|it| !it.is_zero()));
            let (status, told, body) = told(error).await;
            assert_eq!((status, told.as_deref()), (503, Some(after)));
            assert!(body.contains(words), "{body}");
        }
    }
}
