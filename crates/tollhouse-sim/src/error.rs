//! Errors in OpenAI's words.

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::json;

use crate::go_duration;
use crate::limits::{Rejection, Shortfall};
use crate::memory::Full;
use crate::schema::Flaw;

/// An answer that is an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    message: Box<str>,
    kind: &'static str,
    param: Option<Box<str>>,
    code: Option<&'static str>,
    /// The delay that a 429 tells.
    pub(crate) wait: Option<Duration>,
}

const INVALID: &str = "invalid_request_error";
const LEARN_MORE: &str = "Visit https://platform.openai.com/account/rate-limits to learn more.";

impl ApiError {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<Box<str>>) -> Self {
        Self {
            status,
            message: message.into(),
            kind,
            param: None,
            code: None,
            wait: None,
        }
    }

    fn code(self, code: &'static str) -> Self {
        Self {
            code: Some(code),
            ..self
        }
    }

    pub(crate) fn param(self, param: impl Into<Box<str>>) -> Self {
        Self {
            param: Some(param.into()),
            ..self
        }
    }

    /// The body, laid out as OpenAI does.
    pub(crate) fn body(&self) -> Vec<u8> {
        let error = json!({"error": {
            "message": self.message,
            "type": self.kind,
            "param": self.param,
            "code": self.code,
        }});
        let mut body = serde_json::to_vec_pretty(&error).expect("strings are JSON");
        body.push(b'\n');
        body
    }
}

// ===== The request is at fault =====

impl ApiError {
    pub(crate) fn not_json() -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            INVALID,
            "We could not parse the JSON body of your request. (HINT: This likely means you \
             aren't using your HTTP library correctly. The OpenAI API expects a JSON payload, \
             but what was sent was not valid JSON. If you have trouble figuring out how to fix \
             this, please contact us through our help center at help.openai.com.)",
        )
    }

    pub(crate) fn missing(param: &str) -> Self {
        let message = format!("Missing required parameter: '{param}'.");
        Self::new(StatusCode::BAD_REQUEST, INVALID, message)
            .param(param)
            .code("missing_required_parameter")
    }

    pub(crate) fn no_model() -> Self {
        let message = "you must provide a model parameter";
        Self::new(StatusCode::BAD_REQUEST, INVALID, message)
    }

    pub(crate) fn wrong_type(param: &str, expected: &str, got: &str) -> Self {
        let message =
            format!("Invalid type for '{param}': expected {expected}, but got {got} instead.");
        Self::new(StatusCode::BAD_REQUEST, INVALID, message)
            .param(param)
            .code("invalid_type")
    }

    pub(crate) fn below(param: &str, least: u64, got: u64) -> Self {
        let message = format!(
            "Invalid '{param}': integer below minimum value. Expected a value >= {least}, but \
             got {got} instead."
        );
        Self::new(StatusCode::BAD_REQUEST, INVALID, message)
            .param(param)
            .code("integer_below_min_value")
    }

    pub(crate) fn above(param: &str, most: u64, got: u64) -> Self {
        let message = format!(
            "Invalid '{param}': integer above maximum value. Expected a value <= {most}, but \
             got {got} instead."
        );
        Self::new(StatusCode::BAD_REQUEST, INVALID, message)
            .param(param)
            .code("integer_above_max_value")
    }

    pub(crate) fn empty(param: &str) -> Self {
        let message = format!(
            "Invalid '{param}': empty array. Expected an array with minimum length 1, but got \
             an empty array instead."
        );
        Self::new(StatusCode::BAD_REQUEST, INVALID, message)
            .param(param)
            .code("empty_array")
    }

    pub(crate) fn too_many(param: &str, most: usize, got: usize) -> Self {
        let message = format!(
            "Invalid '{param}': array too long. Expected an array with maximum length {most}, \
             but got an array with length {got} instead."
        );
        Self::new(StatusCode::BAD_REQUEST, INVALID, message)
            .param(param)
            .code("array_above_max_length")
    }

    pub(crate) fn too_long_text(param: &str, most: usize, got: usize) -> Self {
        let message = format!(
            "Invalid '{param}': string too long. Expected a string with maximum length {most}, \
             but got a string with length {got} instead."
        );
        Self::new(StatusCode::BAD_REQUEST, INVALID, message)
            .param(param)
            .code("string_above_max_length")
    }

    pub(crate) fn bad_value(param: &str, got: &str, allowed: &str) -> Self {
        // What came from outside is repeated, but not at any length.
        let got: String = got.chars().take(100).collect();
        let message = format!("Invalid value: '{got}'. Supported values are: {allowed}.");
        Self::new(StatusCode::BAD_REQUEST, INVALID, message)
            .param(param)
            .code("invalid_value")
    }

    pub(crate) fn bad_name(param: &str) -> Self {
        let message = format!(
            "Invalid '{param}': string does not match pattern. Expected a string that matches \
             the pattern '^[a-zA-Z0-9_-]+$' and has at most 64 characters."
        );
        Self::new(StatusCode::BAD_REQUEST, INVALID, message)
            .param(param)
            .code("invalid_value")
    }

    /// `what` is `response_format` or `function`.
    pub(crate) fn bad_schema(what: &str, name: &str, param: &str, flaw: &Flaw) -> Self {
        let message = format!("Invalid schema for {what} '{name}': {flaw}");
        let error = Self::new(StatusCode::BAD_REQUEST, INVALID, message).param(param);
        error.code(match what {
            "function" => "invalid_function_parameters",
            _ => "invalid_json_schema",
        })
    }

    pub(crate) fn json_not_asked(messages: &str, format: &str) -> Self {
        let message = format!(
            "'{messages}' must contain the word 'json' in some form, to use '{format}' of type \
             'json_object'."
        );
        Self::new(StatusCode::BAD_REQUEST, INVALID, message).param(messages)
    }

    pub(crate) fn no_tools() -> Self {
        let message = "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' \
                       are specified. (This simulated provider calls function tools alone.)";
        Self::new(StatusCode::BAD_REQUEST, INVALID, message).param("tool_choice")
    }

    pub(crate) fn unknown_tool(name: &str) -> Self {
        let name: String = name.chars().take(100).collect();
        let message = format!("Tool choice '{name}' not found in 'tools' parameter.");
        Self::new(StatusCode::BAD_REQUEST, INVALID, message).param("tool_choice")
    }

    pub(crate) fn bad_query() -> Self {
        let message = "Invalid query: 'limit' is a whole number, 'after' and 'before' are ids.";
        Self::new(StatusCode::BAD_REQUEST, INVALID, message)
    }

    pub(crate) fn unreadable() -> Self {
        let message = "The body of your request broke off.";
        Self::new(StatusCode::BAD_REQUEST, INVALID, message)
    }

    pub(crate) fn no_key() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            INVALID,
            "You didn't provide an API key. You need to provide your API key in an \
             Authorization header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY). You \
             can obtain an API key from https://platform.openai.com/account/api-keys.",
        )
    }

    /// Does not repeat the key, not even in part.
    pub(crate) fn wrong_key() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            INVALID,
            "Incorrect API key provided. You can find your API key at \
             https://platform.openai.com/account/api-keys.",
        )
        .code("invalid_api_key")
    }

    pub(crate) fn no_route(method: &str, path: &str) -> Self {
        let message = format!("Invalid URL ({method} {path})");
        Self::new(StatusCode::NOT_FOUND, INVALID, message)
    }

    pub(crate) fn wrong_method(method: &str, path: &str) -> Self {
        let message = format!(
            "Not allowed to {method} on {path}. (HINT: Perhaps you meant to use a different HTTP method?)"
        );
        Self::new(StatusCode::METHOD_NOT_ALLOWED, INVALID, message)
    }

    pub(crate) fn unknown_model(model: &str) -> Self {
        let message =
            format!("The model `{model}` does not exist or you do not have access to it.");
        Self::new(StatusCode::NOT_FOUND, INVALID, message).code("model_not_found")
    }

    /// `/v1/responses` answers 400 where the others answer 404.
    pub(crate) fn unknown_model_for_responses(model: &str) -> Self {
        let message = format!("The requested model '{model}' does not exist.");
        Self::new(StatusCode::BAD_REQUEST, INVALID, message)
            .param("model")
            .code("model_not_found")
    }
}

// ===== A bound is met =====

impl ApiError {
    pub(crate) fn too_long(bound: u64) -> Self {
        let message = format!(
            "The body of your request is longer than {bound} bytes, which is this simulated \
             provider's bounds.body_bytes."
        );
        Self::too_large(message)
    }

    /// What a call would make the provider hold is too much.
    pub(crate) fn full(full: Full, bound: u64) -> Self {
        match full {
            Full::Now => {
                let message = format!(
                    "This simulated provider holds as much as it may for other calls: \
                     bounds.memory_bytes is {bound}. Please try again later."
                );
                let kind = "service_unavailable_error";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, kind, message)
                    .code("server_is_overloaded")
            }
            Full::Ever { bytes } => Self::too_large(format!(
                "This simulated provider would have to hold {bytes} bytes for your request and \
                 its answer; its bounds.memory_bytes is {bound}. Send less, or ask for less."
            )),
        }
    }

    fn too_large(message: String) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, INVALID, message).code("request_too_large")
    }

    pub(crate) fn slow(bound: Duration) -> Self {
        let message = format!(
            "The body of your request took longer than {bound:?} to arrive, which is this \
             simulated provider's bounds.body_seconds."
        );
        Self::new(StatusCode::REQUEST_TIMEOUT, INVALID, message).code("request_timeout")
    }

    pub(crate) fn too_many_models(model: &str, bound: u64) -> Self {
        let message = format!(
            "The model `{model}` does not exist: this simulated provider was asked for {bound} \
             models already, and its bounds.models allows no more."
        );
        Self::new(StatusCode::NOT_FOUND, INVALID, message).code("model_not_found")
    }
}

// ===== The provider is at fault, or the limits =====

impl ApiError {
    pub(crate) fn server_error(request_id: &str) -> Self {
        let message = format!(
            "The server had an error processing your request. Sorry about that! You can retry \
             your request, or contact us through our help center at help.openai.com if you keep \
             seeing this error. (Please include the request ID {request_id} in your email.)"
        );
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
    }

    pub(crate) fn overloaded() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "service_unavailable_error",
            "Our servers are currently overloaded. Please try again later.",
        )
        .code("server_is_overloaded")
    }

    /// What everybody is told in a storm: no number, no delay.
    pub(crate) fn storm(model: &str) -> Self {
        let message = format!(
            "Rate limit reached for {model} in organization org-sim on requests per min (RPM). \
             {LEARN_MORE}"
        );
        Self::rate_limited("requests", message, None)
    }

    pub(crate) fn rejected(model: &str, rejection: &Rejection) -> Self {
        match rejection {
            Rejection::Tokens(short) => Self::short(model, "tokens", "TPM", short),
            Rejection::Requests(short) => Self::short(model, "requests", "RPM", short),
            Rejection::TooLarge { limit, requested } => {
                let message = format!(
                    "Request too large for {model} in organization org-sim on tokens per min \
                     (TPM): Limit {limit}, Requested {requested}. The input or output tokens \
                     must be reduced in order to run successfully. {LEARN_MORE}"
                );
                Self::rate_limited("tokens", message, None)
            }
        }
    }

    fn short(model: &str, kind: &'static str, unit: &str, short: &Shortfall) -> Self {
        let Shortfall {
            limit,
            used,
            requested,
            ..
        } = short;
        let wait = go_duration::round_up_to_millis(short.wait);
        let message = format!(
            "Rate limit reached for {model} in organization org-sim on {kind} per min ({unit}): \
             Limit {limit}, Used {used}, Requested {requested}. Please try again in {}. \
             {LEARN_MORE}",
            go_duration::format(wait),
        );
        Self::rate_limited(kind, message, Some(wait))
    }

    fn rate_limited(kind: &'static str, message: String, wait: Option<Duration>) -> Self {
        let error = Self::new(StatusCode::TOO_MANY_REQUESTS, kind, message);
        Self { wait, ..error }.code("rate_limit_exceeded")
    }
}
