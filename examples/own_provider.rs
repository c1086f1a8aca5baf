//! A provider of your own: Anthropic's Messages API, which meters requests, input
//! tokens and output tokens apart, limited on the public traits alone.
//!
//! Run it with `cargo run --example own_provider`, and its tests with `cargo test
//! --example own_provider`. Neither needs a key: the provider is a small model of the
//! real one, in the process and in virtual time.
//!
//! One budget may have both kinds of tokens as meters (`TokenBudgetBuilder::meter`), but
//! what an answer tells to be left is of one kind (`RateLimits`). So here each is a budget of
//! its own, and a budget in front of a service is a gate; two gates in a tuple are one gate,
//! whose pass is admitted when both are. What is left to write is what the provider's
//! answers mean: four traits, for one small type.

use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tollhouse::{
    Accounting, Backoff, BoxError, ConcurrencyLayer, Cost, Decision, Denial, End, Error, GateLayer,
    Meter, Observation, Observe, RateLimits, RetryLayer, Scope, TokenBudget, TpmBudgetLayer, Usage,
    Window, budget::ConfigError,
};
use tower::{Service, ServiceBuilder, ServiceExt};

/// What the account has, by the minute.
#[derive(Clone, Copy)]
struct Limits {
    requests: u64,
    input: u64,
    output: u64,
}

/// One of the two meters, and how it reads requests and answers.
#[derive(Clone, Copy, PartialEq)]
enum Side {
    Input,
    Output,
}

type Gate = TpmBudgetLayer<Side, Side, Side>;

impl Side {
    fn gate(self, limits: Limits) -> Result<Gate, ConfigError> {
        let tokens = match self {
            Side::Input => limits.input,
            Side::Output => limits.output,
        };
        // It refills all the time and gives back what an answer did not use.
        let mut budget = TokenBudget::per_minute(tokens)
            .accounting(Accounting::AsUsed)
            .window(Window::Off);
        // Requests are counted once, by one of the two.
        if self == Side::Input {
            budget = budget.requests_per_minute(limits.requests);
        }
        Ok(TpmBudgetLayer::new(budget.build()?, self)
            .usage(self)
            .observe(self))
    }

    /// `usage` of an answer: cached input is read for nothing, and not in here.
    fn of(self, usage: &Value) -> Option<u64> {
        match self {
            Side::Input => {
                let written = usage["cache_creation_input_tokens"].as_u64();
                Some(usage["input_tokens"].as_u64()? + written.unwrap_or(0))
            }
            Side::Output => usage["output_tokens"].as_u64(),
        }
    }
}

impl Cost<Request<Bytes>> for Side {
    fn cost(&self, request: &Request<Bytes>) -> u64 {
        match self {
            // Four bytes a token, JSON's own included: rather too many than too few.
            Side::Input => request.body().len() as u64 / 4 + 1,
            Side::Output => {
                let body = serde_json::from_slice::<Value>(request.body()).unwrap_or_default();
                body["max_tokens"].as_u64().unwrap_or(0)
            }
        }
    }
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

fn retry_after<B>(answer: &Response<B>) -> Option<Duration> {
    number(answer.headers(), "retry-after").map(Duration::from_secs)
}

impl<B> Observe<Response<B>> for Side {
    fn observe(&self, answer: &Response<B>) -> Observation {
        let told = |meter: &str, what: &str| {
            number(
                answer.headers(),
                &format!("anthropic-ratelimit-{meter}-{what}"),
            )
        };
        let meter = if *self == Side::Input {
            "input-tokens"
        } else {
            "output-tokens"
        };
        let limits = RateLimits {
            limit_tokens: told(meter, "limit"),
            remaining_tokens: told(meter, "remaining"),
            // Nobody asks the output's budget about requests.
            limit_requests: told("requests", "limit"),
            remaining_requests: told("requests", "remaining"),
            ..RateLimits::default()
        };
        // Which of the meters it was stands in the body. That both wait is safe.
        let denial = (answer.status() == StatusCode::TOO_MANY_REQUESTS).then(|| Denial {
            scope: Scope::Tokens,
            after: retry_after(answer),
        });
        Observation { limits, denial }
    }
}

impl<B> Usage<Response<B>> for Side {
    type Meter = Body;

    fn meter(&self, _: &Response<B>) -> Body {
        Body {
            side: *self,
            seen: Vec::new(),
        }
    }
}

/// An answer's body, kept until its end: JSON, or a stream of events that tell the
/// input first and the output last.
struct Body {
    side: Side,
    seen: Vec<u8>,
}

impl Meter for Body {
    fn chunk(&mut self, data: &[u8]) {
        self.seen.extend_from_slice(data);
    }

    fn used(&mut self, end: End) -> Option<u64> {
        if end == End::Cut {
            return None; // What was reserved stands.
        }
        let read = |json: &[u8]| {
            let json = serde_json::from_slice::<Value>(json).ok()?;
            let usage = [&json["usage"], &json["message"]["usage"]];
            usage.into_iter().find_map(|usage| self.side.of(usage))
        };
        let events = || {
            let lines = self.seen.split(|byte| *byte == b'\n');
            let data = lines.filter_map(|line| line.strip_prefix(b"data: "));
            data.filter_map(read).max()
        };
        read(&self.seen).or_else(events)
    }
}

/// What may be asked again: refusals, overload, and calls that got no answer.
fn classify<B>(result: Result<&Response<B>, &Error>) -> Decision {
    let (scope, after) = match result {
        Ok(answer) => match answer.status().as_u16() {
            429 => (Scope::Tokens, retry_after(answer)),
            500..=599 => (Scope::Overload, retry_after(answer)),
            _ => return Decision::GiveUp,
        },
        Err(error) if error.refused().is_some() => return Decision::GiveUp,
        Err(_) => (Scope::None, None),
    };
    Decision::Retry { after, scope }
}

type Gates = GateLayer<(ConcurrencyLayer, Gate, Gate)>;

/// Slots, then both meters: whoever waits for a slot holds no tokens.
fn gates(limits: Limits) -> Result<Gates, ConfigError> {
    let (input, output) = (Side::Input.gate(limits)?, Side::Output.gate(limits)?);
    Ok(GateLayer::new((ConcurrencyLayer::new(50), input, output)))
}

/// Asks so often at once, and reads every answer; says how many seconds it took.
async fn ask_all(
    provider: Provider,
    gates: &Gates,
    calls: usize,
    request: Request<Bytes>,
) -> Result<u64, BoxError> {
    let start = Instant::now();
    let client = ServiceBuilder::new()
        // Every attempt passes the gates again, and a backoff holds nothing.
        .layer(RetryLayer::new(Backoff::default(), classify))
        .layer(gates)
        .service(provider);
    let call = async || {
        let answer = client.clone().oneshot(request.clone()).await?;
        let (status, body) = (answer.status(), answer.into_body().collect().await);
        body.map_err(BoxError::from).map(|_| status)
    };
    for status in join_all((0..calls).map(|_| call())).await {
        assert_eq!(status?, StatusCode::OK);
    }
    Ok(start.elapsed().as_secs())
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), BoxError> {
    for (what, request) in [("input", ask(1_480, 10)), ("output", ask(20, 1_000))] {
        let provider = Provider::with(LIMITS.input, LIMITS.output);
        let gates = gates(LIMITS)?;
        let seconds = ask_all(provider.clone(), &gates, 30, request).await?;
        let refused = provider.refused();
        println!("{what} binds: 30 calls in {seconds} virtual seconds, {refused} refused");
    }
    Ok(())
}

/// What a request asks for, as this example's callers write it.
fn ask(prompt: usize, max_tokens: u64) -> Request<Bytes> {
    let body = json!({
        "model": "claude",
        "max_tokens": max_tokens,
        "messages": [{"role": "user", "content": "word".repeat(prompt)}],
    });
    let body = Bytes::from(body.to_string());
    Request::post("/v1/messages")
        .body(body)
        .expect("a valid request")
}

const LIMITS: Limits = Limits {
    requests: 6_000,
    input: 30_000,
    output: 8_000,
};

/// A model of the provider. It admits a request if both meters have what it may cost,
/// answers after a second with a stream of as many tokens as it may be long (or of
/// `used`), and gives back what it did not use.
#[derive(Clone)]
struct Provider {
    used: u64,
    account: Arc<Mutex<Account>>,
}

/// What is left of input and output, as of an instant; and how often it refused.
struct Account {
    left: [f64; 2],
    at: Instant,
    refused: u32,
}

impl Account {
    /// Takes both or none; an error is the seconds to wait.
    fn admit(&mut self, wanted: [u64; 2]) -> Result<(), u64> {
        let seconds = self.at.elapsed().as_secs_f64();
        self.at = Instant::now();
        let mut wait = 0.0_f64;
        for (meter, limit) in [LIMITS.input, LIMITS.output].into_iter().enumerate() {
            let (limit, wanted) = (limit as f64, wanted[meter] as f64);
            self.left[meter] = (self.left[meter] + seconds * limit / 60.0).min(limit);
            // A millionth of a token is the arithmetic's, not the caller's.
            wait = wait.max((wanted - self.left[meter] - 1e-6) * 60.0 / limit);
        }
        if wait > 0.0 {
            self.refused += 1;
            return Err(wait.ceil() as u64);
        }
        self.left[0] -= wanted[0] as f64;
        self.left[1] -= wanted[1] as f64;
        Ok(())
    }
}

impl Provider {
    fn with(input: u64, output: u64) -> Provider {
        let (left, at) = ([input as f64, output as f64], Instant::now());
        let account = Account {
            left,
            at,
            refused: 0,
        };
        Provider {
            used: u64::MAX,
            account: Arc::new(Mutex::new(account)),
        }
    }

    fn refused(&self) -> u32 {
        self.account.lock().expect("no panic").refused
    }

    async fn answer(self, request: Request<Bytes>) -> Result<Response<Full<Bytes>>, BoxError> {
        let asked: Value = serde_json::from_slice(request.body())?;
        let prompt = asked["messages"][0]["content"]
            .as_str()
            .ok_or("no prompt")?;
        let longest = asked["max_tokens"].as_u64().ok_or("no max_tokens")?;
        let (input, output) = (prompt.len() as u64 / 4, longest.min(self.used));
        let admitted = self
            .account
            .lock()
            .expect("no panic")
            .admit([input, longest]);
        if let Err(seconds) = admitted {
            let error = json!({"type": "error", "error": {"type": "rate_limit_error"}});
            let refused = Response::builder()
                .status(429)
                .header("retry-after", seconds);
            return Ok(refused.body(error.to_string().into())?);
        }
        sleep(Duration::from_secs(1)).await;
        let mut account = self.account.lock().expect("no panic");
        account.left[1] += (longest - output) as f64;
        let start = json!({"message": {"usage": {"input_tokens": input, "output_tokens": 1}}});
        let delta = json!({"usage": {"output_tokens": output}});
        let stream = format!(
            "event: message_start\ndata: {start}\n\nevent: message_delta\ndata: {delta}\n\n"
        );
        let left = account.left[0] as u64;
        let answer = Response::builder().header("anthropic-ratelimit-input-tokens-remaining", left);
        Ok(answer.body(stream.into())?)
    }
}

impl Service<Request<Bytes>> for Provider {
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        Box::pin(self.clone().answer(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn input_binds_and_nothing_is_refused() {
        let (provider, gates) = (Provider::with(30_000, 8_000), gates(LIMITS).unwrap());
        // 20 at once; each of the other ten waits for 1,500 tokens, 3 seconds' worth.
        let seconds = ask_all(provider.clone(), &gates, 30, ask(1_480, 10))
            .await
            .unwrap();
        assert_eq!(provider.refused(), 0);
        assert!((30..=32).contains(&seconds), "{seconds}");
    }

    #[tokio::test(start_paused = true)]
    async fn output_binds_and_nothing_is_refused() {
        let (provider, gates) = (Provider::with(30_000, 8_000), gates(LIMITS).unwrap());
        // 8 at once; each of the other eight waits for 1,000 tokens, 7.5 seconds' worth.
        let seconds = ask_all(provider.clone(), &gates, 16, ask(20, 1_000))
            .await
            .unwrap();
        assert_eq!(provider.refused(), 0);
        assert!((61..=63).contains(&seconds), "{seconds}");
    }

    /// The stream's last event tells it.
    #[tokio::test(start_paused = true)]
    async fn what_an_answer_did_not_use_comes_back() {
        let (mut provider, gates) = (Provider::with(30_000, 8_000), gates(LIMITS).unwrap());
        provider.used = 100;
        ask_all(provider, &gates, 8, ask(20, 1_000)).await.unwrap();
        let output = gates.get_ref().2.budget().snapshot();
        assert_eq!((output.level, output.outstanding), (8_000 - 8 * 100, 0));
    }

    /// Somebody else has used up the input before: one of twenty hears of it.
    #[tokio::test(start_paused = true)]
    async fn one_refusal_is_heard_by_all() {
        let (provider, gates) = (Provider::with(0, 8_000), gates(LIMITS).unwrap());
        let seconds = ask_all(provider.clone(), &gates, 20, ask(1_480, 10))
            .await
            .unwrap();
        assert_eq!(provider.refused(), 1);
        // 20 x 1,500 tokens at 500 a second, and the last one's answer.
        assert!((60..=63).contains(&seconds), "{seconds}");
    }
}
