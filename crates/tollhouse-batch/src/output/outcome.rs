//! What the service gave for one request.

use std::borrow::Cow;
use std::error::Error as StdError;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::Serialize;

/// What the service gave for one request.
#[derive(Debug)]
pub(crate) enum Outcome {
    Answered(Answer),
    /// No answer, and what the service gave instead.
    Failed(Failure, Box<dyn StdError + Send + Sync>),
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) request_id: Option<String>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// No answer.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Failure {
    pub(crate) code: Cow<'static, str>,
    pub(crate) message: String,
}

impl Outcome {
    /// The length of the answer.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Answered(answer) => answer.body.len(),
            Self::Failed(..) => 0,
        }
    }
}
