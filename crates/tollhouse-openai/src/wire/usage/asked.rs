//! What is known of a call before its answer.

use std::num::NonZeroU64;

use http::Response;
use tollhouse::Usage;

use super::UsageMeter;
use crate::wire::cost::Estimate;
use crate::wire::learned::{Learned, Lesson};

/// What was asked, for the meter of the answer: the prompt's tokens, which are
/// the least that a call can have used, and whom to tell the real usage.
///
/// The default knows nothing, and a call that was cut keeps its charge.
///
/// # Cloning
///
/// Clones tell the same learner.
///
/// # Examples
///
/// ```
/// use http::Response;
/// use tollhouse_openai::{Asked, End, Meter, Usage};
///
/// let mut meter = Asked::default().meter(&Response::new(()));
/// meter.chunk(br#"{"usage": {"total_tokens": 300}}"#);
/// assert_eq!(meter.used(End::Complete), Some(300));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// In tokens; every prompt has one.
    prompt: Option<NonZeroU64>,
    lesson: Option<Lesson>,
}

impl Asked {
    pub(crate) fn new(estimate: &Estimate<'_>, learned: Option<&Learned>) -> Self {
        Asked {
            prompt: NonZeroU64::new(estimate.prompt.max(1)),
            lesson: learned.and_then(|learned| learned.lesson(estimate)),
        }
    }

    pub(super) fn prompt(&self) -> Option<u64> {
        self.prompt.map(NonZeroU64::get)
    }

    pub(super) fn learn(&self, used: u64) {
        if let Some(lesson) = &self.lesson {
            lesson.learn(used);
        }
    }
}

impl<B> Usage<Response<B>> for Asked {
    type Meter = UsageMeter;

    fn meter(&self, response: &Response<B>) -> UsageMeter {
        UsageMeter {
            asked: self.clone(),
            ..UsageMeter::new(response.status(), response.headers())
        }
    }
}
