//! What an [`ApiError`] says of itself: nothing that may quote the request or a key.

use std::error::Error as StdError;
use std::fmt;

use super::text::OneLine;
use super::{Answer, ApiError, Cause, is_limit};

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.inner.cause {
            Cause::Answer(answer) => self.fmt_answer(answer, f)?,
            Cause::Refused(refused) => fmt::Display::fmt(refused, f)?,
            Cause::NoAnswer(_) => f.write_str("no whole answer came")?,
        }
        match (self.request_id().map(OneLine::short), self.attempts()) {
            (None, 0 | 1) => Ok(()),
            (None, attempts) => write!(f, " ({attempts} attempts)"),
            (Some(id), 0 | 1) => write!(f, " (request {id})"),
            (Some(id), attempts) => write!(f, " (request {id}, {attempts} attempts)"),
        }
    }
}

impl ApiError {
    fn fmt_answer(&self, answer: &Answer, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code() {
            Some(code) => write!(f, "{} {}", answer.status.as_u16(), OneLine::short(code))?,
            None => fmt::Display::fmt(&answer.status, f)?,
        }
        // Whatever else an error is about, it may quote the request.
        let is_about_account = is_limit(self.scope()) || self.is_quota_exhausted();
        match self.message().filter(|_| is_about_account) {
            Some(message) => write!(f, ": {}", OneLine::long(message)),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for ApiError {
    /// Tells how long the body is, not what is in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("ApiError");
        f.field("verdict", &self.inner.verdict);
        f.field("attempts", &self.attempts());
        match &self.inner.cause {
            Cause::Answer(answer) => f
                .field("status", &answer.status)
                .field("code", &answer.code())
                .field("request_id", &answer.request_id)
                .field("body_bytes", &answer.body.len())
                .field("cut", &answer.cut),
            Cause::Refused(refused) => f.field("refused", refused),
            Cause::NoAnswer(source) => f.field("source", source),
        };
        f.finish_non_exhaustive()
    }
}

impl StdError for ApiError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        let source = match &self.inner.cause {
            Cause::Answer(answer) => answer.cut.as_ref()?,
            Cause::Refused(_) => return None,
            Cause::NoAnswer(source) => source,
        };
        Some(&**source)
    }
}
