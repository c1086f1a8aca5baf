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
use crate::answer::Reply;
use crate::ask::{self, Ask, Endpoint};
use crate::config::Limits;
use crate::error::ApiError;
use crate::provider::Provider;
use crate::recorder::Fault;
use crate::visit::{Fate, Visit};

/// The longest request body, in bytes.
const LONGEST_BODY: usize = 64 << 20;

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
pub(super) async fn call(
    provider: Arc<Provider>,
    endpoint: Endpoint,
    request: Request,
) -> Response<Body> {
    let mut call = Call::new(provider.arrive());
    let (head, body) = request.into_parts();
    let judged = match axum::body::to_bytes(body, LONGEST_BODY).await {
        Ok(body) => call.judge(endpoint, &head.headers, &body),
        Err(_) => Err(call.invalid(ApiError::unreadable(LONGEST_BODY))),
    };
    match judged {
        Ok(reply) => call.answer(reply).await,
        Err(Refusal::Error { error, model }) => call.error(&error, model.as_deref()),
        Err(Refusal::Fault { fault, model }) => call.fault(fault, &model).await,
    }
}

struct Call {
    visit: Visit,
    fate: Fate,
    arrived: Instant,
}

// ===== Judging =====

impl Call {
    fn new(visit: Visit) -> Self {
        Self {
            fate: visit.fate(),
            visit,
            arrived: Instant::now(),
        }
    }

    fn judge(
        &mut self,
        endpoint: Endpoint,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Reply, Refusal> {
        let (model, body) = check_key(self.visit.config().api_key.as_deref(), headers)
            .and_then(|()| ask::open(body))
            .map_err(|error| self.invalid(error))?;
        let Some(limits) = self.visit.config().limits_of(&model) else {
            return Err(self.invalid(endpoint.unknown_model(&model)));
        };
        self.meet_storm(&model)?;
        self.meet_fault(&model, false)?;
        let ask = Ask::read(endpoint, model.clone(), &body)
            .map_err(|error| self.invalid_for(&model, limits, error))?;
        self.admit(&ask, limits)?;
        self.meet_fault(&model, true)?;
        let config = self.visit.config();
        Ok(Reply::new(ask, config.seed, &config.answers))
    }

    fn admit(&mut self, ask: &Ask, limits: Limits) -> Result<(), Refusal> {
        self.visit.admit(ask, limits).map_err(|rejection| {
            let told = self.visit.config().headers.on_rejection;
            Refusal::Error {
                error: ApiError::rejected(&ask.model, &rejection),
                model: told.then(|| ask.model.clone()),
            }
        })
    }

    fn meet_storm(&self, model: &str) -> Result<(), Refusal> {
        if !self.visit.is_in_storm() {
            return Ok(());
        }
        self.visit.storm(model);
        Err(Refusal::Error {
            error: ApiError::storm(model),
            model: None,
        })
    }

    /// Faults strike before the limits or after them.
    fn meet_fault(&self, model: &str, charged: bool) -> Result<(), Refusal> {
        match self.fate.fault {
            Some(fault) if self.visit.config().faults.charged == charged => Err(Refusal::Fault {
                fault,
                model: model.to_owned(),
            }),
            _ => Ok(()),
        }
    }

    fn invalid_for(&self, model: &str, limits: Limits, error: ApiError) -> Refusal {
        self.visit.invalid(Some((model, limits)));
        let model = Some(model.to_owned());
        Refusal::Error { error, model }
    }

    fn invalid(&self, error: ApiError) -> Refusal {
        self.visit.invalid(None);
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

impl Call {
    async fn answer(self, reply: Reply) -> Response<Body> {
        if reply.is_streamed() {
            self.stream(reply).await
        } else {
            self.whole(reply).await
        }
    }

    async fn whole(mut self, reply: Reply) -> Response<Body> {
        let gaps = u32::try_from(reply.steps().saturating_sub(1)).unwrap_or(u32::MAX);
        let takes = self.fate.first_token + self.fate.per_token.saturating_mul(gaps);
        self.pass(takes).await;
        self.visit.generated(reply.tokens());
        self.visit.settle();
        let head = self.head(StatusCode::OK, JSON, Some(reply.model()));
        head.map(|()| Body::new(AnswerBody::whole(reply.whole(), self.visit)))
    }

    async fn stream(self, reply: Reply) -> Response<Body> {
        self.pass(self.fate.first_token).await;
        let head = self.head(StatusCode::OK, EVENTS, Some(reply.model()));
        let half = reply.steps() / 2;
        let body = AnswerBody::stream(reply.stream(), self.visit, self.fate.per_token);
        head.map(|()| match self.fate.cut {
            true => Body::new(body.cut_at(half)),
            false => Body::new(body),
        })
    }

    fn error(self, error: &ApiError, model: Option<&str>) -> Response<Body> {
        let mut head = self.head(error.status, JSON, model);
        if let (true, Some(wait)) = (self.visit.config().headers.retry_after, error.wait) {
            put_retry_after(head.headers_mut(), wait);
        }
        let body = Bytes::from(error.body());
        head.map(|()| Body::new(AnswerBody::whole(body, self.visit)))
    }

    async fn fault(mut self, fault: Fault, model: &str) -> Response<Body> {
        self.pass(self.fate.first_token).await;
        self.visit.fail(model, fault);
        match fault {
            Fault::ServerError => {
                let error = ApiError::server_error(&self.visit.request_id());
                self.error(&error, None)
            }
            Fault::Unavailable => self.error(&ApiError::overloaded(), None),
            Fault::Reset | Fault::Cut => {
                let mut head = self.head(StatusCode::OK, JSON, None);
                head.extensions_mut().insert(Reset);
                head.map(|()| Body::new(AnswerBody::lost(self.visit)))
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
        let config = self.visit.config();
        let mut head = Response::new(());
        *head.status_mut() = status;
        let headers = head.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        put(headers, "x-request-id", &self.visit.request_id());
        let millis = self.arrived.elapsed().as_millis();
        put(headers, "openai-processing-ms", &millis.to_string());
        if let (Some(model), false) = (model, self.fate.headers_missing) {
            let levels = self.visit.levels(model);
            let minute = config.in_client_time(Duration::from_secs(60));
            put_levels(headers, levels, config.headers.claim, minute);
        }
        head
    }
}

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream; charset=utf-8";
