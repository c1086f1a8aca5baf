//! The span and what is written on it.

use http::{Request, Uri};
use tracing::Span;
use tracing::field::Empty;

use crate::call::{Call, CallBody, Endpoint};
use crate::wire::usage::Counts;

/// The conventions' word for what an endpoint does; `None` where they have
/// none.
fn operation(endpoint: Endpoint) -> Option<&'static str> {
    match endpoint {
        Endpoint::Chat | Endpoint::Responses => Some("chat"),
        Endpoint::Completions => Some("text_completion"),
        Endpoint::Embeddings => Some("embeddings"),
        Endpoint::Moderations
        | Endpoint::Storage
        | Endpoint::Images
        | Endpoint::Audio
        | Endpoint::Other => None,
    }
}

/// The span of a call; disabled where nobody listens or the conventions do not
/// apply.
pub(super) fn open<B: CallBody>(provider: &'static str, request: &mut Request<B>) -> Span {
    if !tracing::span_enabled!(tracing::Level::INFO) {
        return Span::none();
    }
    let call = Call::attach(request);
    match operation(call.endpoint()).filter(|_| call.runs_a_model()) {
        Some(operation) => describe(provider, operation, &call, request.uri()),
        None => Span::none(),
    }
}

fn describe(provider: &'static str, operation: &'static str, call: &Call, uri: &Uri) -> Span {
    let model = call.model();
    let name = match model {
        Some(model) => format!("{operation} {model}"),
        None => operation.to_owned(),
    };
    let span = tracing::info_span!(
        "gen_ai.client",
        otel.name = name,
        otel.kind = "client",
        otel.status_code = Empty,
        gen_ai.operation.name = operation,
        gen_ai.provider.name = provider,
        gen_ai.request.model = model,
        gen_ai.request.max_tokens = call.longest_answer().map(int),
        gen_ai.usage.input_tokens = Empty,
        gen_ai.usage.output_tokens = Empty,
        http.response.status_code = Empty,
        server.address = uri.host(),
        server.port = uri.port_u16().map(i64::from),
        "error.type" = Empty,
        tollhouse.pool = Empty,
        tollhouse.caller = Empty,
    );
    call.tell_found(&span);
    span
}

pub(super) fn status(span: &Span, status: http::StatusCode) {
    span.record("http.response.status_code", i64::from(status.as_u16()));
    if !status.is_success() {
        failure(span, status.as_str());
    }
}

pub(super) fn failure(span: &Span, kind: &str) {
    span.record("error.type", kind);
    span.record("otel.status_code", "ERROR");
}

pub(super) fn usage(span: &Span, told: Counts) {
    if let Some(tokens) = told.input {
        span.record("gen_ai.usage.input_tokens", int(tokens));
    }
    if let Some(tokens) = told.output {
        span.record("gen_ai.usage.output_tokens", int(tokens));
    }
}

/// The conventions' integers are signed, and exporters write unsigned ones as
/// text.
fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
