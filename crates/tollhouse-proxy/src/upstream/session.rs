//! The body of an answer, which may be a session.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tollhouse_openai::{Error, ResponseBody};

pin_project! {
    /// The provider's own; or, where the connection becomes another protocol's, one that
    /// is over when somebody asks for more of it: until then the gates hold what they hold.
    #[project = Proj]
    pub(crate) enum AnswerBody {
        Whole { #[pin] body: ResponseBody },
        Session { is_over: bool },
    }
}

impl AnswerBody {
    pub(crate) fn of(response: Response<ResponseBody>) -> Response<AnswerBody> {
        let is_session = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        response.map(|body| match is_session {
            true => AnswerBody::Session { is_over: false },
            false => AnswerBody::Whole { body },
        })
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match self.project() {
            Proj::Whole { body } => body.poll_frame(cx),
            Proj::Session { is_over } => {
                *is_over = true;
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            AnswerBody::Whole { body } => body.is_end_stream(),
            AnswerBody::Session { is_over } => *is_over,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            AnswerBody::Whole { body } => body.size_hint(),
            AnswerBody::Session { .. } => SizeHint::with_exact(0),
        }
    }
}
