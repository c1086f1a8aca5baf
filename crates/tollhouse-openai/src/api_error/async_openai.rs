//! What async-openai's error says, in the words of an [`ApiError`].

use std::sync::Arc;

use ::async_openai::error::{ApiErrorResponse, OpenAIError, StreamError};
use bytes::Bytes;
use http::HeaderMap;
use serde_json::json;
use tollhouse::Scope;

use super::{Answer, ApiError, Cause};
use crate::wire::verdict::{Fault, Verdict, judge};

/// From whatever a client of async-openai fails with, whether or not it is behind a
/// [policy](crate::Policy::async_openai).
///
/// The provider's refusal keeps its status and its words; its headers, and so the
/// request's name and a delay told by them alone, did not come this far. A policy's
/// refusal is what it was. Arguments that async-openai refuses, files and answers
/// that it cannot read, and streams that break are no answer: of them a stream alone,
/// and what [`AnswerReader`](crate::AnswerReader) would send again, is retryable.
impl From<OpenAIError> for ApiError {
    fn from(error: OpenAIError) -> Self {
        match error {
            OpenAIError::ApiError(refusal) => of_refusal(&refusal),
            OpenAIError::Boxed(error) => error.into(),
            OpenAIError::StreamError(error) if is_broken(&error) => broken(*error),
            error => tollhouse::Error::inner(error).into(),
        }
    }
}

/// As [`check`](ApiError::check) would have read it.
fn of_refusal(refusal: &ApiErrorResponse) -> ApiError {
    let body = Bytes::from(json!({"error": refusal.api_error}).to_string());
    let no_headers = HeaderMap::new();
    let fault = Fault::read(&no_headers, &body);
    let verdict = judge(refusal.status_code, &no_headers, fault.as_ref());
    let answer = Answer {
        status: refusal.status_code,
        request_id: None,
        fault: fault.map(Arc::new),
        body,
        cut: None,
    };
    ApiError::new(verdict, 1, Cause::Answer(answer))
}

fn is_broken(error: &StreamError) -> bool {
    matches!(error, StreamError::EventStream(_))
}

/// As a body of our own client's that broke off: whoever has the half of it decides.
fn broken(error: StreamError) -> ApiError {
    let verdict = Verdict {
        retry: true,
        after: None,
        scope: Scope::Overload,
    };
    ApiError::new(verdict, 1, Cause::NoAnswer(error.into()))
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;
    use std::time::Duration;

    use ::async_openai::error::ApiError as Refusal;
    use http::StatusCode;
    use tollhouse::Refused;

    use super::*;

    fn refusal(status: u16, code: &str, message: &str) -> ApiError {
        let api_error = Refusal {
            message: message.to_owned(),
            code: Some(code.to_owned()),
            ..Refusal::default()
        };
        let status_code = StatusCode::from_u16(status).expect("a status");
        OpenAIError::ApiError(ApiErrorResponse {
            status_code,
            api_error,
        })
        .into()
    }

    #[test]
    fn the_providers_refusal_is_read_as_an_answer() {
        let message = "Rate limit reached on tokens per min (TPM). Please try again in 644ms.";
        let error = refusal(429, "rate_limit_exceeded", message);
        assert!(error.is_rate_limited());
        assert_eq!(error.scope(), Scope::Tokens);
        assert_eq!(error.retry_after(), Some(Duration::from_millis(644)));
        assert_eq!(error.status(), Some(StatusCode::TOO_MANY_REQUESTS));
        assert_eq!(error.code(), Some("rate_limit_exceeded"));
        assert_eq!(error.message(), Some(message));

        let spent = refusal(429, "insufficient_quota", "Check your plan.");
        assert!(spent.is_quota_exhausted() && !spent.is_retryable());
        let wrong = refusal(400, "invalid_prompt", "No.");
        assert!(!wrong.is_retryable());
        assert_eq!(wrong.to_string(), "400 invalid_prompt");
    }

    #[test]
    fn a_policys_refusal_is_what_it_was() {
        let too_large = Refused::TooLarge {
            cost: 45_411,
            limit: 25_500,
        };
        let error = tollhouse::Error::from(too_large);
        let error = ApiError::from(OpenAIError::Boxed(error.into()));
        assert_eq!(error.refused(), Some(&too_large));
    }

    #[tokio::test]
    async fn no_connection_is_an_overload() {
        let refused = ::reqwest::get("http://127.0.0.1:1/").await;
        let error = refused.expect_err("nobody listens");
        let error = ApiError::from(OpenAIError::Reqwest(error));
        assert!(error.is_overloaded() && error.is_retryable());
        let source = error.source().expect("a source");
        assert!(source.is::<OpenAIError>(), "{source:?}");
    }

    #[test]
    fn what_the_client_cannot_do_is_not_retried() {
        let broken = serde_json::from_str::<u8>("x").expect_err("not a number");
        for error in [
            OpenAIError::JSONDeserialize(broken, "my secret".to_owned()),
            OpenAIError::FileSaveError("full".to_owned()),
            OpenAIError::FileReadError("gone".to_owned()),
            OpenAIError::InvalidArgument("model".to_owned()),
        ] {
            let error = ApiError::from(error);
            assert!(
                !error.is_retryable() && error.status().is_none(),
                "{error:?}"
            );
            assert_eq!(error.to_string(), "no whole answer came");
            assert!(error.source().expect("a source").is::<OpenAIError>());
        }
    }

    #[test]
    fn a_stream_that_breaks_may_be_asked_again() {
        let broken = StreamError::EventStream("connection reset".to_owned());
        let error = ApiError::from(OpenAIError::StreamError(Box::new(broken)));
        assert!(error.is_retryable() && error.is_overloaded());
        assert!(error.source().expect("a source").is::<StreamError>());
    }
}
