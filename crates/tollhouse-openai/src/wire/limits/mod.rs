//! The provider's own count, as its answers' headers tell it.

mod read;
mod window;

#[cfg(test)]
mod tests;

use std::time::Duration;

use http::HeaderMap;

use read::{Bucket, Found};
use window::MINUTE;

/// The account's limits and what is left of them, as one answer's headers tell
/// it; `None` where a header is absent, unreadable or says "unknown" (`-1`).
///
/// OpenAI's names are read, and those of Azure, Groq, Anthropic, Mistral,
/// Cerebras, Together and xAI. A header does not say which **window** it counts:
/// `limit-requests: 10000` may be a minute's or a day's. As every bucket
/// refills at a constant rate, `limit x reset / (limit - remaining)` tells it;
/// [`window_requests`](Self::window_requests) and
/// [`window_tokens`](Self::window_tokens) do that sum.
///
/// `retry-after` plays no part: some providers send it with a success.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tollhouse_openai::RateLimits;
///
/// let mut headers = http::HeaderMap::new();
/// for (name, value) in [
///     ("x-ratelimit-limit-requests", "10000"),
///     ("x-ratelimit-remaining-requests", "9999"),
///     ("x-ratelimit-reset-requests", "8.64s"),
///     ("x-ratelimit-limit-tokens", "200000"),
///     ("x-ratelimit-remaining-tokens", "199967"),
///     ("x-ratelimit-reset-tokens", "9ms"),
/// ] {
///     headers.insert(name, value.parse().unwrap());
/// }
///
/// let limits = RateLimits::from_headers(&headers);
/// assert_eq!(limits.remaining_tokens, Some(199_967));
/// assert_eq!(limits.window_tokens(), Some(Duration::from_secs(60)));
/// assert_eq!(limits.window_requests(), Some(Duration::from_secs(86_400)));
///
/// // A day's requests never pass for a minute's.
/// let by_the_minute = tollhouse_openai::answer::RateLimits::from(&limits);
/// assert_eq!(by_the_minute.limit_tokens, Some(200_000));
/// assert_eq!(by_the_minute.limit_requests, None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RateLimits {
    /// Requests allowed in a window; never zero.
    pub limit_requests: Option<u64>,
    /// Tokens allowed in a window; never zero.
    pub limit_tokens: Option<u64>,
    /// Requests left now.
    pub remaining_requests: Option<u64>,
    /// Tokens left now.
    pub remaining_tokens: Option<u64>,
    /// Time until the requests are full again.
    pub reset_requests: Option<Duration>,
    /// Time until the tokens are full again.
    pub reset_tokens: Option<Duration>,
    /// Tokens allowed the project, where that is counted apart from the
    /// organization; the tighter of the two binds.
    pub limit_project_tokens: Option<u64>,
    /// Tokens left to the project now.
    pub remaining_project_tokens: Option<u64>,
    /// Time until the project's tokens are full again.
    pub reset_project_tokens: Option<Duration>,
    requests_window: Option<Duration>,
    tokens_window: Option<Duration>,
    project_window: Option<Duration>,
}

impl RateLimits {
    /// Reads the headers of one answer, of any status. Whatever they hold, this
    /// neither fails nor panics.
    ///
    /// Instants (Anthropic's) count from the answer's own `date` header, and
    /// from the local wall clock where there is none.
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let found = Found::among(headers);
        let requests = read::requests(&found);
        let tokens = read::tokens(&found);
        let project = read::project_tokens(&found);
        RateLimits {
            limit_requests: requests.limit,
            limit_tokens: tokens.limit,
            remaining_requests: requests.remaining,
            remaining_tokens: tokens.remaining,
            reset_requests: requests.reset,
            reset_tokens: tokens.reset,
            limit_project_tokens: project.limit,
            remaining_project_tokens: project.remaining,
            reset_project_tokens: project.reset,
            requests_window: requests.window,
            tokens_window: tokens.window,
            project_window: project.window,
        }
    }

    /// The time over which `limit_requests` are allowed: a minute, a day or 30
    /// days; `None` where the headers do not tell, as when nothing has been
    /// used yet.
    pub fn window_requests(&self) -> Option<Duration> {
        self.requests_window
    }

    /// The time over which `limit_tokens` are allowed, as
    /// [`window_requests`](Self::window_requests).
    pub fn window_tokens(&self) -> Option<Duration> {
        self.tokens_window
    }

    /// Whether the headers told nothing at all.
    pub fn is_empty(&self) -> bool {
        *self == RateLimits::default()
    }

    fn requests(&self) -> Bucket {
        Bucket {
            limit: self.limit_requests,
            remaining: self.remaining_requests,
            reset: self.reset_requests,
            window: self.requests_window,
        }
    }

    fn tokens(&self) -> Bucket {
        Bucket {
            limit: self.limit_tokens,
            remaining: self.remaining_tokens,
            reset: self.reset_tokens,
            window: self.tokens_window,
        }
    }

    fn project_tokens(&self) -> Bucket {
        Bucket {
            limit: self.limit_project_tokens,
            remaining: self.remaining_project_tokens,
            reset: self.reset_project_tokens,
            window: self.project_window,
        }
    }
}

/// Passes on only what is counted by the minute.
///
/// Tokens of an unknown window pass for a minute's, as nearly all are. Requests
/// of an unknown window are left out, since `10000` may as well be a day's.
/// Where the project's tokens are tighter, they stand in.
impl From<&RateLimits> for tollhouse::RateLimits {
    fn from(limits: &RateLimits) -> Self {
        let requests = Some(limits.requests()).filter(|b| b.window == Some(MINUTE));
        let by_the_minute = |b: &Bucket| b.window.is_none_or(|window| window == MINUTE);
        let tokens = [limits.tokens(), limits.project_tokens()]
            .into_iter()
            .filter(by_the_minute)
            .filter(|b| *b != Bucket::default())
            .min_by_key(|b| b.remaining.or(b.limit).unwrap_or(u64::MAX));
        let (requests, tokens) = (requests.unwrap_or_default(), tokens.unwrap_or_default());
        tollhouse::RateLimits {
            limit_requests: requests.limit,
            limit_tokens: tokens.limit,
            remaining_requests: requests.remaining,
            remaining_tokens: tokens.remaining,
            reset_requests: requests.reset,
            reset_tokens: tokens.reset,
        }
    }
}
