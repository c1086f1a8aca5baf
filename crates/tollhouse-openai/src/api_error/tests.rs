use std::error::Error as _;
use std::io;

use http::Response;
use http_body_util::channel::Channel;
use http_body_util::{BodyExt, Empty, Full};
use tokio::time::{Instant, sleep};
use tollhouse::retry::Attempts;

use super::*;

const SEC: Duration = Duration::from_secs(1);

fn answer(status: u16, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let builder = Response::builder().status(status);
    let builder = builder.header("x-request-id", "req_123");
    builder.body(Full::new(body.into())).expect("a response")
}

async fn error(status: u16, body: &'static str) -> ApiError {
    let checked = ApiError::check(answer(status, body)).await;
    checked.expect_err("an unsuccessful answer")
}

const TPM: &str = r#"{"error":{"message":"Rate limit reached for gpt-4o in organization org-x on tokens per min (TPM):\nLimit 30000, Used 29937, Requested 385. Please try again in 644ms.","type":"tokens","param":null,"code":"rate_limit_exceeded"}}"#;

#[tokio::test(start_paused = true)]
async fn a_rate_limit_tells_all_that_was_told() {
    let mut refused = answer(429, TPM);
    refused.extensions_mut().insert(Attempts(5));
    let error = ApiError::check(refused).await.unwrap_err();
    assert!(error.is_rate_limited() && error.is_retryable());
    assert!(!error.is_quota_exhausted() && !error.is_overloaded());
    assert_eq!(error.status(), Some(StatusCode::TOO_MANY_REQUESTS));
    assert_eq!(error.scope(), Scope::Tokens);
    assert_eq!(error.retry_after(), Some(Duration::from_millis(644)));
    assert_eq!(error.request_id(), Some("req_123"));
    assert_eq!(error.attempts(), 5);
    assert_eq!(error.code(), Some("rate_limit_exceeded"));
    assert!(error.message().expect("words").contains("(TPM):\nLimit"));
    assert_eq!(error.body(), TPM, "byte for byte");
    assert_eq!(error.refused(), None);
    assert_eq!(
        error.to_string(),
        "429 rate_limit_exceeded: Rate limit reached for gpt-4o in organization org-x on tokens \
         per min (TPM): Limit 30000, Used 29937, Requested 385. Please try again in 644ms. \
         (request req_123, 5 attempts)"
    );
    assert!(error.source().is_none());
}

#[tokio::test(start_paused = true)]
async fn each_kind_of_refusal_answers_its_own_question() {
    const QUOTA: &str = r#"{"error":{"message":"You exceeded your current quota.","type":"insufficient_quota","code":"insufficient_quota"}}"#;
    let quota = error(429, QUOTA).await;
    assert!(quota.is_quota_exhausted() && !quota.is_rate_limited() && !quota.is_retryable());
    assert_eq!(
        quota.to_string(),
        "429 insufficient_quota: You exceeded your current quota. (request req_123)"
    );

    let down = error(503, "<html>Service Unavailable</html>").await;
    assert!(down.is_overloaded() && down.is_retryable() && !down.is_rate_limited());
    assert_eq!(
        down.to_string(),
        "503 Service Unavailable (request req_123)"
    );

    const LARGE: &str = r#"{"error":{"message":"Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 31538. Please try again in 9s.","type":"tokens","code":"rate_limit_exceeded"}}"#;
    let large = error(429, LARGE).await;
    assert!(!large.is_rate_limited() && !large.is_retryable());
    assert_eq!(large.scope(), Scope::Tokens);
    assert_eq!(large.retry_after(), None, "no wait helps");
}

/// A provider may quote the prompt or the key; a log must not.
#[tokio::test(start_paused = true)]
async fn neither_key_nor_prompt_is_displayed() {
    let quotes = [
        (
            400,
            r#"{"error":{"message":"Invalid 'input': 'my secret prompt'","type":"invalid_request_error","code":null}}"#,
        ),
        (
            401,
            r#"{"error":{"message":"Incorrect API key: sk-secret1","code":"invalid_api_key"}}"#,
        ),
        (
            500,
            r#"{"error":{"message":"failed on: my secret prompt","type":"server_error"}}"#,
        ),
        (
            429,
            r#"{"error":{"message":"Rate limit reached for sk-secret1","code":"rate_limit_exceeded"}}"#,
        ),
        (503, "overloaded by: my secret prompt"),
    ];
    for (status, body) in quotes {
        let error = error(status, body).await;
        for said in [
            error.to_string(),
            format!("{error:?}"),
            format!("{error:#?}"),
        ] {
            assert!(!said.contains("secret"), "{said}");
        }
        assert!(!error.to_string().contains('\n'));
        assert_eq!(error.body(), body, "who asks gets it");
    }
}

#[tokio::test(start_paused = true)]
async fn the_verdict_of_the_stack_goes_first() {
    let mut refused = answer(429, "busy");
    let verdict = Verdict {
        retry: true,
        after: Some(7 * SEC),
        scope: Scope::RequestsPerDay,
    };
    refused.extensions_mut().insert(verdict);
    let error = ApiError::check(refused).await.unwrap_err();
    assert_eq!(error.scope(), Scope::RequestsPerDay);
    assert_eq!(error.retry_after(), Some(7 * SEC));
    assert!(error.is_rate_limited());
}

#[tokio::test(start_paused = true)]
async fn a_good_answer_is_handed_on_unread() {
    for status in [200, 204, 304, 399] {
        let checked = ApiError::check(answer(status, "{}")).await;
        let body = checked.expect("good").into_body().collect().await;
        assert_eq!(body.expect("a body").to_bytes(), "{}");
    }
    let status = StatusCode::BAD_REQUEST;
    let mut bad = Response::new(Empty::<Bytes>::new());
    *bad.status_mut() = status;
    let error = ApiError::check(bad).await.unwrap_err();
    assert_eq!(error.to_string(), "400 Bad Request");
    assert!(error.body().is_empty() && error.request_id().is_none());
}

/// An unsuccessful answer whose body is still being made.
fn unfinished(body: Channel<Bytes, io::Error>) -> Response<Channel<Bytes, io::Error>> {
    let mut refused = Response::new(body);
    *refused.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    refused
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_is_kept_as_far_as_it_came() {
    let (mut sender, body) = Channel::new(2);
    sender
        .send_data("try again in 7s".into())
        .await
        .expect("a reader");
    sender.abort(io::Error::other("reset"));
    let error = ApiError::check(unfinished(body)).await.unwrap_err();
    assert_eq!(error.body(), "try again in 7s");
    assert_eq!(error.retry_after(), Some(7 * SEC));
    assert_eq!(error.source().expect("the reset").to_string(), "reset");
}

#[tokio::test(start_paused = true)]
async fn a_body_without_end_is_bounded_in_time_and_size() {
    let (mut sender, body) = Channel::new(2);
    sender.send_data("half".into()).await.expect("a reader");
    let start = Instant::now();
    let error = ApiError::check(unfinished(body)).await.unwrap_err();
    assert_eq!(start.elapsed(), 10 * SEC);
    assert_eq!(error.body(), "half");
    assert!(error.source().is_some());

    let (mut sender, body) = Channel::new(2);
    let chunk = Bytes::from(vec![b'x'; 700 * 1024]);
    for chunk in [chunk.clone(), chunk] {
        sender.send_data(chunk).await.expect("a reader");
    }
    let error = ApiError::check(unfinished(body)).await.unwrap_err();
    assert_eq!(error.body().len(), 1024 * 1024);
}

#[tokio::test(start_paused = true)]
async fn a_gates_refusal_tells_not_yet_from_never() {
    let of = |refused: Refused| ApiError::from(tollhouse::Error::from(refused));

    let large = of(Refused::TooLarge {
        cost: 45_411,
        limit: 30_000,
    });
    assert!(!large.is_retryable() && !large.is_rate_limited());
    assert_eq!(large.scope(), Scope::Tokens);
    assert_eq!(
        large.to_string(),
        "request too large: it costs 45411 tokens, and at most 30000 can ever be spent at once"
    );

    let busy = of(Refused::Overloaded {
        waiting: 3,
        expected_wait: 9 * SEC,
    });
    assert!(busy.is_rate_limited());
    assert_eq!(busy.retry_after(), Some(9 * SEC));

    let until = Instant::now() + 60 * SEC;
    let exhausted = |scope| of(Refused::Exhausted { scope, until });
    let day = exhausted(Scope::TokensPerDay);
    sleep(SEC).await;
    assert!(day.is_rate_limited());
    assert_eq!(day.retry_after(), Some(60 * SEC));
    let money = exhausted(Scope::Quota);
    assert!(money.is_quota_exhausted() && !money.is_retryable());

    let closed = of(Refused::Closed);
    assert_eq!(closed.refused(), Some(&Refused::Closed));
    assert!(!closed.is_retryable());
    assert_eq!((closed.status(), closed.code()), (None, None));
    assert!(closed.body().is_empty() && closed.source().is_none());
}

#[test]
fn no_answer_keeps_its_reason_however_it_is_wrapped() {
    let reset = || io::Error::from(io::ErrorKind::ConnectionReset);
    let mut gated = tollhouse::Error::inner(reset());
    gated.set_attempts(3);
    for error in [
        ApiError::from(gated),
        ApiError::from(BoxError::from({
            let mut gated = tollhouse::Error::inner(reset());
            gated.set_attempts(3);
            gated
        })),
    ] {
        assert!(error.is_overloaded() && error.is_retryable());
        assert_eq!(error.to_string(), "no whole answer came (3 attempts)");
        let source = error.source().expect("the reset");
        assert!(source.is::<io::Error>());
    }

    let config = crate::OpenAi::builder().api_key("\n").build().unwrap_err();
    let error = ApiError::from(config);
    assert!(!error.is_retryable());
    assert!(error.source().expect("ours").is::<crate::Error>());
    assert!(!format!("{error:?}").contains("\\n"));
}

/// No layer asks again for what had begun, but whoever has the half of it may.
#[test]
fn an_answer_that_stood_still_is_worth_another_call() {
    let error = ApiError::from(crate::Error::body_timeout());
    assert!(error.is_retryable() && error.is_overloaded());
    let source = error.source().expect("ours");
    assert_eq!(
        source.to_string(),
        "the provider's answer stood still for too long"
    );
}

#[tokio::test(start_paused = true)]
async fn an_api_error_that_went_through_a_box_is_the_same() {
    let boxed: BoxError = error(429, TPM).await.into();
    let back = ApiError::from(tollhouse::Error::inner(boxed));
    assert_eq!(back.body(), TPM);
    assert_eq!(back.retry_after(), Some(Duration::from_millis(644)));
}

#[tokio::test(start_paused = true)]
async fn a_question_mark_makes_one_of_everything() {
    async fn ask(status: u16) -> Result<u16, ApiError> {
        let answered = Ok::<_, tollhouse::Error>(answer(status, TPM));
        let answer = ApiError::check(answered?).await?;
        let body = answer.into_body().collect().await;
        body.expect("infallible");
        Ok(status)
    }
    assert_eq!(ask(200).await.expect("good"), 200);
    assert!(ask(429).await.unwrap_err().is_rate_limited());

    fn spawns(future: impl Future<Output = Result<u16, ApiError>> + Send + 'static) {
        drop(tokio::spawn(future));
    }
    spawns(ask(200));
    assert!(size_of::<ApiError>() <= size_of::<usize>());
}
