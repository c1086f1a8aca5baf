//! The account's gates around the client: the only place that knows of what an account
//! is made.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use serde::Serialize;
use tokio::time::Instant;
use tollhouse_openai::client::StreamingOpenAi;
use tollhouse_openai::error::Error;
use tollhouse_openai::policy::{Limited, LimitedBody};
use tollhouse_openai::{Call, Cost, MeterSnapshot, OpenAi, Policy, RequestBody, ResponseBody};
use tower::util::MapRequest;
use tower::{Layer, Service, ServiceExt};

use crate::call::note_launch;

type Noted = MapRequest<StreamingOpenAi, fn(Request<RequestBody>) -> Request<RequestBody>>;

/// The body of an answer that came through the gates.
pub(crate) type Body = LimitedBody<ResponseBody>;

/// One account.
///
/// # Cloning
///
/// Clones are the same account.
#[derive(Clone)]
pub(crate) struct Gates {
    policy: Policy,
    client: Limited<Noted>,
    base_path: Arc<str>,
}

/// How long a call would wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outlook {
    /// How many wait already.
    pub(crate) waiting: usize,
    pub(crate) expected_wait: Duration,
}

impl Gates {
    pub(crate) fn new(policy: Policy, openai: OpenAi) -> Self {
        let base_path = openai.base_url().path().trim_end_matches('/').into();
        let noted = openai
            .streaming()
            .map_request(note_launch as fn(Request<RequestBody>) -> _);
        Gates {
            client: policy.layer().layer(noted),
            policy,
            base_path,
        }
    }

    /// The same limits with a state of their own.
    pub(crate) fn apart(&self, openai: OpenAi) -> Self {
        // A setter makes another policy, whatever it sets.
        let policy = self.policy.clone();
        let attempts = policy.config().retry_max_attempts;
        Gates::new(policy.max_attempts(attempts), openai)
    }

    /// The path before every other at the provider, without a slash at its end.
    pub(crate) fn base_path(&self) -> &str {
        &self.base_path
    }

    /// Waits, and sends.
    pub(crate) async fn call(
        mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Body>, Error> {
        self.client.call(request).await
    }

    pub(crate) fn charge(&self, call: &Call) -> u64 {
        self.policy.charge().cost(call)
    }

    pub(crate) fn outlook(&self, charge: u64) -> Outlook {
        let budget = self.policy.budget();
        Outlook {
            waiting: budget.snapshot().waiting,
            expected_wait: budget.eta(charge),
        }
    }

    /// Nobody waits and nothing is in flight.
    pub(crate) fn is_idle(&self) -> bool {
        let now = self.policy.budget().snapshot();
        now.waiting == 0 && now.in_flight == 0
    }

    /// Turns away whoever waits, and whoever comes.
    pub(crate) fn close(&self) {
        self.policy.close();
    }

    pub(crate) fn status(&self) -> GatesStatus {
        let (now, at) = (self.policy.budget().snapshot(), Instant::now());
        let seconds_to = |until: Option<Instant>| {
            let left = until.map(|until| until.saturating_duration_since(at));
            left.map(|left| left.as_secs_f64())
        };
        GatesStatus {
            waiting: now.waiting,
            in_flight: now.in_flight,
            max_concurrency: now.max_concurrency,
            next_launch_seconds: seconds_to(now.next_launch),
            held_seconds: seconds_to(now.held_until),
            pace_percent: now.pace_percent,
            meters: now.meters.iter().map(MeterStatus::of).collect(),
        }
    }
}

impl fmt::Debug for Gates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gates")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

/// An account as it is told to whoever looks.
#[derive(Debug, Serialize)]
pub(crate) struct GatesStatus {
    waiting: usize,
    in_flight: usize,
    max_concurrency: Option<usize>,
    next_launch_seconds: Option<f64>,
    held_seconds: Option<f64>,
    pace_percent: u8,
    meters: Vec<MeterStatus>,
}

#[derive(Debug, Serialize)]
struct MeterStatus {
    unit: String,
    per: String,
    limit: u64,
    capacity: u64,
    level: i64,
    in_transit: u64,
    outstanding: u64,
}

impl MeterStatus {
    fn of(meter: &MeterSnapshot) -> Self {
        MeterStatus {
            unit: meter.unit.to_string(),
            per: meter.per.to_string(),
            limit: meter.limit,
            capacity: meter.capacity,
            level: meter.level,
            in_transit: meter.in_transit,
            outstanding: meter.outstanding,
        }
    }
}
