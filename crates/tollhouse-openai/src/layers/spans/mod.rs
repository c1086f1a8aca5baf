//! Each call in a span, with OpenTelemetry's attributes for generative AI.
//!
//! [`SpanLayer`] opens a `tracing` span for every call that asks a model for
//! something, and closes it with the last byte of the answer. Its fields are
//! those of the [semantic conventions for OpenAI clients][openai], so a
//! subscriber that exports to OpenTelemetry (`tracing-opentelemetry`) needs no
//! mapping; any other sees fields with long names.
//!
//! | field | value |
//! |---|---|
//! | `otel.name`, `otel.kind` | `chat gpt-4o`, `client` |
//! | `gen_ai.operation.name` | `chat` (chat completions and responses), `text_completion`, `embeddings` |
//! | `gen_ai.provider.name` | what the layer was made with |
//! | `gen_ai.request.model` | as the request names it, or Azure's deployment |
//! | `gen_ai.request.max_tokens` | where the request says how long its answer may be |
//! | `gen_ai.usage.input_tokens`, `gen_ai.usage.output_tokens` | as the answer tells, in its body or its stream |
//! | `http.response.status_code` | the status |
//! | `server.address`, `server.port` | where the request has an absolute URI |
//! | `tollhouse.pool`, `tollhouse.caller` | around or inside of an [`Account`](crate::Account): the pool of the call's model, and the section of `[callers]` that names its caller, if one does |
//! | `error.type`, `otel.status_code` | where there is no good answer; see [`SpanLayer`] |
//!
//! Neither prompts nor answers are in it. Requests for anything else (files,
//! models, moderations) pass without a span.
//!
//! With the feature `spans`; nothing of it is compiled without.
//!
//! [openai]: https://opentelemetry.io/docs/specs/semconv/gen-ai/openai/

mod body;
mod error;
mod service;
mod span;
#[cfg(test)]
mod tests;

pub use body::SpannedBody;
pub use service::{SpanFuture, SpanLayer, Spanned};
