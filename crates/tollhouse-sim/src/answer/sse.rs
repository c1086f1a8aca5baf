//! Server-sent events.

use bytes::Bytes;
use serde_json::Value;

use super::Frame;

/// An event without a name, as chats and completions send them.
pub(super) fn data(step: u64, tokens: u64, data: &Value) -> Frame {
    Frame {
        step,
        tokens,
        data: format!("data: {data}\n\n").into(),
    }
}

/// A named event, as responses send them.
pub(super) fn event(step: u64, tokens: u64, name: &str, data: &Value) -> Frame {
    Frame {
        step,
        tokens,
        data: format!("event: {name}\ndata: {data}\n\n").into(),
    }
}

/// The end of a chat's or a completion's stream.
pub(super) fn done(step: u64) -> Frame {
    Frame {
        step,
        tokens: 0,
        data: Bytes::from_static(b"data: [DONE]\n\n"),
    }
}
