//! One line at the end: how long COMMAND's calls waited.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use serde::Deserialize;
use tollhouse_openai::OpenAi;
use tower::ServiceExt;

use super::seat::Seat;
use crate::failure::{self, BoxError};
use crate::print::{Counted, Span};

/// A daemon of this machine's has answered by then, or will not.
const PATIENCE: Duration = Duration::from_secs(5);

/// What `GET /tollhouse/me` tells of a token.
#[derive(Debug, Deserialize)]
struct Told {
    calls: u64,
    waited_seconds: f64,
    longest_wait_seconds: f64,
}

pub(super) async fn of(seat: &Seat, token: &str) -> String {
    match told(seat, token).await {
        Ok(told) => told.in_words(),
        Err(error) => {
            let why = failure::with_causes(&*error);
            format!("tollhouse: how long its calls waited is not known: {why}")
        }
    }
}

async fn told(seat: &Seat, token: &str) -> Result<Told, BoxError> {
    let port = seat.port().ok_or("its daemon has ended")?;
    let daemon = OpenAi::builder()
        .base_url(format!("http://127.0.0.1:{port}"))
        .api_key(token)
        .attempt_timeout(PATIENCE)
        .build()?;
    let request = Request::get("/tollhouse/me").body(Bytes::new())?;
    // The client would speak of a provider.
    let answer = daemon.oneshot(request).await;
    let answer = answer.map_err(|_| "its daemon does not answer")?;
    let told = answer.into_body().collect().await?.to_bytes();
    Ok(serde_json::from_slice(&told)?)
}

impl Told {
    fn in_words(&self) -> String {
        let span = |seconds| Span(Duration::try_from_secs_f64(seconds).unwrap_or_default());
        match self.calls {
            0 => "tollhouse: no calls".to_owned(),
            1 => format!("tollhouse: 1 call waited {}", span(self.waited_seconds)),
            calls => format!(
                "tollhouse: {} waited {} in all, {} the longest",
                Counted(calls, "call"),
                span(self.waited_seconds),
                span(self.longest_wait_seconds),
            ),
        }
    }
}
