//! A budget in virtual time, and calls whose answers tell what a test wants.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tollhouse::{
    Error, GateLayer, Observation, RateLimits, TokenBudget, TokenBudgetBuilder, TpmBudgetLayer,
    Window,
};
use tower::{Layer, ServiceExt, service_fn};

pub(crate) const SEC: Duration = Duration::from_secs(1);

/// A budget with callers, and when they began.
pub(crate) struct Account {
    pub(crate) budget: TokenBudget,
    pub(crate) start: Instant,
}

/// 60 tokens a minute: one a second.
pub(crate) fn one_a_second() -> TokenBudget {
    TokenBudget::per_minute(60)
        .window(Window::Off)
        .build()
        .unwrap()
}

/// Six hundred a minute, ten a second.
pub(crate) fn ten_a_second() -> TokenBudgetBuilder {
    TokenBudget::per_minute(600).window(Window::Off)
}

pub(crate) fn account(builder: TokenBudgetBuilder) -> Account {
    Account {
        budget: builder.build().unwrap(),
        start: Instant::now(),
    }
}

impl Account {
    /// Makes a call whose answer comes after `takes` and tells `told`; says in
    /// which second it was launched.
    pub(crate) async fn call(
        &self,
        cost: u64,
        takes: Duration,
        told: Observation,
    ) -> Result<u64, Error> {
        let gate = TpmBudgetLayer::new(self.budget.clone(), |cost: &u64| *cost)
            .observe(|answer: &(Duration, Observation)| answer.1);
        let client = GateLayer::new(gate)
            .until_response()
            .layer(service_fn(|_| async {
                let launched = self.start.elapsed();
                sleep(takes).await;
                Ok::<_, std::io::Error>((launched, told))
            }));
        let (launched, _) = client.oneshot(cost).await?;
        assert_eq!(launched.subsec_nanos(), 0, "{launched:?}");
        Ok(launched.as_secs())
    }

    /// A call that is answered at once, and well.
    pub(crate) async fn quick(&self, cost: u64) -> u64 {
        self.call(cost, Duration::ZERO, silence()).await.unwrap()
    }

    /// Spends down to `level`.
    pub(crate) async fn spend_to(&self, level: u64) {
        let left = self.budget.snapshot().level.unsigned_abs() - level;
        self.budget.reserve(left).await.unwrap().settle(left);
    }

    pub(crate) fn level(&self) -> i64 {
        self.budget.snapshot().level
    }
}

pub(crate) fn silence() -> Observation {
    Observation::default()
}

pub(crate) fn remaining(limit: u64, tokens: u64) -> Observation {
    Observation {
        limits: RateLimits {
            limit_tokens: Some(limit),
            remaining_tokens: Some(tokens),
            ..RateLimits::default()
        },
        denial: None,
    }
}
