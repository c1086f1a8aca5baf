//! One line at the end: how long COMMAND's calls waited.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use serde::Deserialize;
use tollhouse_openai::OpenAi;
use tower::ServiceExt;

use crate::failure::{self, BoxError};
use crate::print::{Counted, Span};

/// A daemon of this machine's has answered by then, or will not.
const PATIENCE: Duration = Duration::from_secs(5);

/// What `GET /tollhouse/me` tells of a token.
#[derive(Debug, Deserialize)]
pub(super) struct Told {
    calls: u64,
    waited_seconds: f64,
    longest_wait_seconds: f64,
}

/// Those of a token's calls, as the daemon at this URL tells them, if one is there.
pub(super) async fn of(daemon: Option<&str>, token: &str) -> String {
    let told = match daemon {
        Some(url) => told(url, token).await,
        None => Err(Untold::because("its daemon has ended")),
    };
    match told {
        Ok(told) => told.in_words(),
        Err(Untold { why, .. }) => {
            let why = failure::with_causes(&*why);
            format!("tollhouse: how long its calls waited is not known: {why}")
        }
    }
}

/// Why nothing was told.
#[derive(Debug)]
pub(super) struct Untold {
    why: BoxError,
    /// Whether somebody is there, who has not answered in time or to the end.
    pub(super) is_silent: bool,
}

impl Untold {
    fn because(why: impl Into<BoxError>) -> Self {
        Untold {
            why: why.into(),
            is_silent: false,
        }
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for Untold {
    fn from(error: E) -> Self {
        Untold::because(error)
    }
}

/// # Errors
///
/// Whoever is at this URL does not tell, or is no daemon that knows the token.
pub(super) async fn told(url: &str, token: &str) -> Result<Told, Untold> {
    let daemon = OpenAi::builder()
        .base_url(url.trim_end_matches("/v1"))
        .api_key(token)
        .attempt_timeout(PATIENCE)
        .build()?;
    let request = Request::get("/tollhouse/me").body(Bytes::new())?;
    // The client would speak of a provider.
    let answer = daemon.oneshot(request).await;
    let answer = answer.map_err(|error| Untold {
        is_silent: !error.is_connect(),
        ..Untold::because("its daemon does not answer")
    })?;
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
