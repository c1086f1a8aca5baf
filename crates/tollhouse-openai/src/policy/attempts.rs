use std::hash::{BuildHasher, RandomState};

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use tollhouse::retry::{Attempts, Mark};
use tollhouse::{Arrival, Deadline};

use super::draft::Draft;
use super::left::LeftToCaller;
use crate::call::CallBody;

/// As the official SDKs call it; 0 on a first attempt.
const RETRY_COUNT: HeaderName = HeaderName::from_static("x-stainless-retry-count");

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Writes in the headers of every attempt which one it is, and on what the
/// caller gets how many there were.
///
/// * `x-stainless-retry-count` is the number of attempts before this one, as in
///   the official SDKs. One that comes in from an SDK in front is the number of
///   attempts that are spent already; see [`Policy`](super::Policy#clients-that-retry).
/// * `idempotency-key` is the same in all attempts of a call, and made up from
///   128 random bits where the caller has none. Reads (`GET`, `HEAD`, ..) go
///   without.
/// * A call whose request has a [`Deadline`] in its extensions gets what an attempt came to
///   at once, where the next one could only come later; a [`LeftToCaller`] that is there, too,
///   says so.
/// * An answer has [`Attempts`] in its extensions, an error
///   [`attempts`](tollhouse::Error::attempts).
///
/// # Examples
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::Empty;
/// use tollhouse_openai::policy::AttemptHeaders;
/// use tollhouse_openai::{Attempts, Backoff, ConcurrencyLayer, RetryLayer, AnswerReader};
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let client = ServiceBuilder::new()
///     .layer(RetryLayer::new(Backoff::default(), AnswerReader).mark(AttemptHeaders::default()))
///     .layer(ConcurrencyLayer::new(3))
///     .service(service_fn(async |request: Request<Bytes>| {
///         assert!(request.headers().contains_key("idempotency-key"));
///         // Fails once.
///         let first = request.headers()["x-stainless-retry-count"] == "0";
///         let status = if first { 503 } else { 200 };
///         Response::builder()
///             .status(status)
///             .body(Empty::<Bytes>::new())
///     }));
/// let request = Request::post("/v1/responses").body(Bytes::from("{}"))?;
/// let answer = client.oneshot(request).await?;
/// assert_eq!(answer.extensions().get(), Some(&Attempts(2)));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct AttemptHeaders {}

impl<B, R> Mark<Request<B>, Result<Response<R>, tollhouse::Error>> for AttemptHeaders {
    fn spent(&self, request: &Request<B>) -> u32 {
        retry_count(request.headers())
    }

    fn deadline(&self, request: &Request<B>) -> Option<Deadline> {
        request.extensions().get().copied()
    }

    fn leave(&self, request: &Request<B>) {
        LeftToCaller::say(request.extensions());
    }

    fn mark(&self, request: &mut Request<B>, attempt: u32) {
        let is_read = request.method().is_safe();
        write(is_read, request.headers_mut(), attempt);
    }

    fn count(&self, outcome: &mut Result<Response<R>, tollhouse::Error>, attempts: u32) {
        tell(outcome, attempts);
    }
}

fn write(is_read: bool, headers: &mut HeaderMap, attempt: u32) {
    let count = match attempt {
        0 | 1 => HeaderValue::from_static("0"),
        more => HeaderValue::from(more - 1),
    };
    headers.insert(RETRY_COUNT, count);
    if !is_read {
        headers.entry(IDEMPOTENCY_KEY).or_insert_with(new_key);
    }
}

fn tell<R>(outcome: &mut Result<Response<R>, tollhouse::Error>, attempts: u32) {
    match outcome {
        Ok(response) => {
            response.extensions_mut().insert(Attempts(attempts));
        }
        Err(error) => error.set_attempts(attempts),
    }
}

/// A policy's mark: the headers, and no second attempt of what is streamed.
#[derive(Clone, Copy, Debug)]
pub(super) struct PolicyMark;

impl<B, R> Mark<Draft<B>, Result<Response<R>, tollhouse::Error>> for PolicyMark
where
    B: CallBody,
{
    fn spent(&self, draft: &Draft<B>) -> u32 {
        draft.read(retry_count)
    }

    fn deadline(&self, draft: &Draft<B>) -> Option<Deadline> {
        draft.look(|request| request.extensions().get().copied())
    }

    fn leave(&self, draft: &Draft<B>) {
        draft.look(|request| LeftToCaller::say(request.extensions()));
    }

    fn mark(&self, draft: &mut Draft<B>, attempt: u32) {
        let is_read = draft.look(|request| request.method().is_safe());
        draft.edit(|headers| write(is_read, headers, attempt));
    }

    const TELLS_ARRIVAL: bool = true;

    /// Says in its extensions when a call came for the first time, if nobody did, so
    /// that a retry keeps its place in line. A first attempt comes when it comes, and
    /// needs no word of it, which would have to be allocated.
    fn came(&self, draft: &mut Draft<B>, first: Arrival) {
        draft.note(|extensions| {
            if extensions.get::<Arrival>().is_none() {
                extensions.insert(first);
            }
        });
    }

    fn repeats(&self, draft: &Draft<B>) -> bool {
        draft.look(|request| request.body().whole().is_some())
    }

    fn count(&self, outcome: &mut Result<Response<R>, tollhouse::Error>, attempts: u32) {
        tell(outcome, attempts);
    }
}

/// The retries that somebody in front has made; zero where nothing sensible is
/// said.
fn retry_count(headers: &HeaderMap) -> u32 {
    let said = headers.get(RETRY_COUNT).and_then(|n| n.to_str().ok());
    said.and_then(|n| n.trim().parse().ok()).unwrap_or(0)
}

/// A key that nobody else has. The hasher's own key is the operating system's
/// randomness, another one at every call.
fn new_key() -> HeaderValue {
    const START: &[u8] = b"tollhouse-";
    let random = RandomState::new();
    let mut key = Vec::with_capacity(START.len() + 32);
    key.extend_from_slice(START);
    for half in [0_u8, 1] {
        key.extend_from_slice(&hex(random.hash_one(half)));
    }
    HeaderValue::try_from(key).expect("letters, digits and a hyphen")
}

/// By hand: it is asked for by every call, and a formatter takes several times as long.
fn hex(number: u64) -> [u8; 16] {
    let nibbles = (0..16).rev().map(|place| number >> (4 * place) & 0xf);
    let mut digits = [0; 16];
    for (digit, nibble) in digits.iter_mut().zip(nibbles) {
        *digit = b"0123456789abcdef"[nibble as usize];
    }
    digits
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use http::Method;

    use super::*;

    type Outcome = Result<Response<()>, tollhouse::Error>;

    fn mark(request: &mut Request<()>, attempt: u32) {
        Mark::<_, Outcome>::mark(&AttemptHeaders {}, request, attempt);
    }

    fn spent(count: &str) -> u32 {
        let request = Request::builder().header("X-Stainless-Retry-Count", count);
        let request = request.body(()).expect("a request");
        Mark::<_, Outcome>::spent(&AttemptHeaders {}, &request)
    }

    #[test]
    fn attempts_are_counted_from_zero_and_share_a_key() {
        let mut request = Request::post("/v1/responses").body(()).expect("valid");
        let mut seen = Vec::new();
        for attempt in [1, 2, 12, u32::MAX] {
            mark(&mut request, attempt);
            let headers = request.headers();
            seen.push((
                headers["x-stainless-retry-count"].clone(),
                headers["idempotency-key"].clone(),
            ));
        }
        let counts: Vec<_> = seen.iter().map(|(count, _)| count).collect();
        assert_eq!(counts, ["0", "1", "11", "4294967294"]);
        assert!(seen.iter().all(|(_, key)| *key == seen[0].1));
    }

    #[test]
    fn keys_differ_between_calls_and_threads() {
        let make = || (0..500).map(|_| new_key()).collect::<Vec<_>>();
        let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(make)).collect();
        let keys: HashSet<HeaderValue> = threads
            .into_iter()
            .flat_map(|thread| thread.join().expect("no panic"))
            .collect();
        assert_eq!(keys.len(), 2_000);
        assert!(keys.iter().all(|key| key.len() == "tollhouse-".len() + 32));
    }

    #[test]
    fn a_key_is_written_in_digits_and_small_letters() {
        for number in [0, 1, 0xf, 0x0123_4567_89ab_cdef, u64::MAX] {
            assert_eq!(hex(number), *format!("{number:016x}").as_bytes());
        }
    }

    #[test]
    fn a_callers_own_key_is_kept_and_reads_need_none() {
        let mut own = Request::post("/")
            .header("idempotency-key", "mine")
            .body(())
            .expect("a request");
        mark(&mut own, 1);
        assert_eq!(own.headers()["idempotency-key"], "mine");
        for method in [Method::GET, Method::HEAD] {
            let mut read = Request::new(());
            *read.method_mut() = method;
            mark(&mut read, 1);
            assert!(!read.headers().contains_key("idempotency-key"));
            assert_eq!(read.headers()["x-stainless-retry-count"], "0");
        }
    }

    #[test]
    fn a_count_that_is_none_counts_as_zero() {
        for (said, count) in [
            ("0", 0),
            ("2", 2),
            (" 3 ", 3),
            ("4294967295", u32::MAX),
            ("4294967296", 0),
            ("-1", 0),
            ("1.5", 0),
            ("many", 0),
            ("", 0),
        ] {
            assert_eq!(spent(said), count, "{said:?}");
        }
        let plain = Request::new(());
        assert_eq!(Mark::<_, Outcome>::spent(&AttemptHeaders {}, &plain), 0);
    }
}
