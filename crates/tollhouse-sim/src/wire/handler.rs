//! From a call to its answer.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use axum::http::{Response, StatusCode};
use bytes::Bytes;
use tokio::time::{Instant, sleep_until};

use super::body::AnswerBody;
use super::headers::{put, put_levels, put_retry_after};
use super::receive::receive;
use crate::answer::{Reply, Whole};
use crate::ask::{self, Ask, Endpoint};
use crate::call::{Call, Draws};
use crate::config::Limits;
use crate::error::ApiError;
use crate::provider::Provider;
use crate::tallies::Fault;

/// Marks the response that stands for a connection reset.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reset;

/// Why a call is not answered.
enum Refusal {
    Error {
        error: ApiError,
        /// The model whose limits the answer's headers tell.
        model: Option<String>,
    },
    Fault {
        fault: Fault,
        model: String,
    },
}

/// Answers a call, and makes it take its time.
pub(super) async fn handle(
    provider: Arc<Provider>,
    endpoint: Endpoint,
    request: Request,
) -> Response<Body> {
    let mut exchange = Exchange::new(Call::arrive(provider));
    let (head, body) = request.into_parts();
    let bounds = exchange.call.config().bounds;
    let judged = match receive(body, &bounds, &mut exchange.call.hold).await {
        Ok(body) => exchange.judge(endpoint, &head.headers, &body),
        Err(error) => Err(exchange.invalid(error)),
    };
    // The body is gone, and what was parsed of it.
    let answer = judged.as_ref().map_or(0, Reply::weight);
    exchange.call.hold.shrink_to(answer);
    match judged {
        Ok(reply) => exchange.answer(reply).await,
        Err(Refusal::Error { error, model }) => exchange.error(&error, model.as_deref()),
        Err(Refusal::Fault { fault, model }) => exchange.fault(fault, &model).await,
    }
}

struct Exchange {
    call: Call,
    draws: Draws,
    arrived: Instant,
}

// ===== Judging =====

impl Exchange {
    fn new(call: Call) -> Self {
        Self {
            draws: call.draws(),
            call,
            arrived: Instant::now(),
        }
    }

    fn judge(
        &mut self,
        endpoint: Endpoint,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Reply, Refusal> {
        let (model, body) = check_key(self.call.config().api_key.as_deref(), headers)
            .and_then(|()| ask::open(endpoint, body))
            .map_err(|error| self.invalid(error))?;
        let limits = self.call.limits_of(endpoint, &model);
        let limits = limits.map_err(|error| self.invalid(error))?;
        self.meet_storm(&model)?;
        self.meet_fault(&model, false)?;
        let config = self.call.config();
        let reply = Ask::read(endpoint, model.clone(), &body)
            .and_then(|ask| Reply::new(ask, config.seed, &config.answers))
            .map_err(|error| self.invalid_for(&model, limits, error))?;
        self.hold(reply.weight())?;
        self.admit(reply.ask(), limits)?;
        self.meet_fault(&model, true)?;
        Ok(reply)
    }

    /// Holds what the answer will take.
    fn hold(&mut self, bytes: u64) -> Result<(), Refusal> {
        let bound = self.call.config().bounds.memory_bytes;
        let held = self.call.hold.grow(bytes);
        held.map_err(|full| self.invalid(ApiError::full(full, bound)))
    }

    fn admit(&mut self, ask: &Ask, limits: Limits) -> Result<(), Refusal> {
        self.call.admit(ask, limits).map_err(|rejection| {
            let told = self.call.config().headers.on_rejection;
            Refusal::Error {
                error: ApiError::rejected(&ask.model, &rejection),
                model: told.then(|| ask.model.clone()),
            }
        })
    }

    fn meet_storm(&self, model: &str) -> Result<(), Refusal> {
        if !self.call.is_in_storm() {
            return Ok(());
        }
        self.call.storm(model);
        Err(Refusal::Error {
            error: ApiError::storm(model),
            model: None,
        })
    }

    /// Faults strike before the limits or after them.
    fn meet_fault(&self, model: &str, charged: bool) -> Result<(), Refusal> {
        match self.draws.fault {
            Some(fault) if self.call.config().faults.charged == charged => Err(Refusal::Fault {
                fault,
                model: model.to_owned(),
            }),
            _ => Ok(()),
        }
    }

    fn invalid_for(&self, model: &str, limits: Limits, error: ApiError) -> Refusal {
        self.call.invalid(Some((model, limits)));
        let model = Some(model.to_owned());
        Refusal::Error { error, model }
    }

    fn invalid(&self, error: ApiError) -> Refusal {
        match error.status {
            StatusCode::SERVICE_UNAVAILABLE => self.call.overloaded(),
            _ => self.call.invalid(None),
        }
        Refusal::Error { error, model: None }
    }
}

fn check_key(wanted: Option<&str>, headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(wanted) = wanted else {
        return Ok(());
    };
    let given = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
    match given.and_then(|given| given.strip_prefix(b"Bearer ")) {
        Some(key) if key == wanted.as_bytes() => Ok(()),
        Some(_) => Err(ApiError::wrong_key()),
        None => Err(ApiError::no_key()),
    }
}

// ===== Answering =====

impl Exchange {
    async fn answer(self, reply: Reply) -> Response<Body> {
        if reply.is_streamed() {
            self.stream(reply).await
        } else {
            self.whole(reply).await
        }
    }

    async fn whole(mut self, reply: Reply) -> Response<Body> {
        let gaps = u32::try_from(reply.steps().saturating_sub(1)).unwrap_or(u32::MAX);
        let takes = self.draws.first_token + self.draws.per_token.saturating_mul(gaps);
        self.pass(takes).await;
        self.call.generated(reply.tokens());
        self.call.settle();
        let head = self.head(StatusCode::OK, JSON, Some(reply.model()));
        let body = match reply.whole() {
            Whole::Bytes(bytes) => AnswerBody::whole(bytes, self.call),
            Whole::Pieces(pieces) => AnswerBody::stream(pieces, self.call, Duration::ZERO),
        };
        head.map(|()| Body::new(body))
    }

    async fn stream(self, reply: Reply) -> Response<Body> {
        self.pass(self.draws.first_token).await;
        let head = self.head(StatusCode::OK, EVENTS, Some(reply.model()));
        let half = reply.steps() / 2;
        let body = AnswerBody::stream(reply.stream(), self.call, self.draws.per_token);
        head.map(|()| match self.draws.cut {
            true => Body::new(body.cut_at(half)),
            false => Body::new(body),
        })
    }

    fn error(self, error: &ApiError, model: Option<&str>) -> Response<Body> {
        let mut head = self.head(error.status, JSON, model);
        if let (true, Some(wait)) = (self.call.config().headers.retry_after, error.wait) {
            put_retry_after(head.headers_mut(), wait);
        }
        let body = Bytes::from(error.body());
        head.map(|()| Body::new(AnswerBody::whole(body, self.call)))
    }

    async fn fault(mut self, fault: Fault, model: &str) -> Response<Body> {
        self.pass(self.draws.first_token).await;
        self.call.fail(model, fault);
        match fault {
            Fault::ServerError => {
                let error = ApiError::server_error(&self.call.request_id());
                self.error(&error, None)
            }
            Fault::Unavailable => self.error(&ApiError::overloaded(), None),
            Fault::Reset | Fault::Cut => {
                let mut head = self.head(StatusCode::OK, JSON, None);
                head.extensions_mut().insert(Reset);
                head.map(|()| Body::new(AnswerBody::lost(self.call)))
            }
        }
    }

    /// Waits until so much time has passed since the arrival.
    async fn pass(&self, time: Duration) {
        let until = self.arrived + time;
        if until > Instant::now() {
            sleep_until(until).await;
        }
    }

    fn head(
        &self,
        status: StatusCode,
        content_type: &'static str,
        model: Option<&str>,
    ) -> Response<()> {
        let config = self.call.config();
        let mut head = Response::new(());
        *head.status_mut() = status;
        let headers = head.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        put(headers, "x-request-id", &self.call.request_id());
        let millis = self.arrived.elapsed().as_millis();
        put(headers, "openai-processing-ms", &millis.to_string());
        if let (Some(model), false) = (model, self.draws.headers_missing) {
            let levels = self.call.levels(model);
            let minute = config.in_client_time(Duration::from_secs(60));
            put_levels(headers, levels, config.headers.claim, minute);
        }
        head
    }
}

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream; charset=utf-8";
