//! What a record is asked.

use std::time::Duration;

use super::Recorder;
use super::recorder::Call;

impl<C, H> Recorder<C, H> {
    /// Never more than `max` calls were in flight.
    ///
    /// # Panics
    ///
    /// If more were, or no call was noted.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tollhouse::ConcurrencyLayer;
    /// use tollhouse::testing::{Recorder, Reply, ScriptedProvider};
    /// use tower::{Layer, ServiceExt};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let provider =
    ///     ScriptedProvider::new(|_, _: &&str| Reply::ok("fine").after(Duration::from_secs(2)));
    /// let recorder = Recorder::new().until_response();
    /// let client = ConcurrencyLayer::new(1)
    ///     .until_response()
    ///     .layer(recorder.layer(provider));
    /// tokio::try_join!(client.clone().oneshot("Why?"), client.oneshot("How?"))?;
    /// recorder.assert_in_flight_at_most(1);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn assert_in_flight_at_most(&self, max: usize) {
        let calls = self.some_calls();
        if let Some(n) = calls.iter().position(|call| call.in_flight > max) {
            panic!(
                "call {n} made {} in flight at {:?}; at most {max} are allowed, and these were: {:?}",
                calls[n].in_flight,
                calls[n].launched,
                in_flight_at(&calls, n),
            );
        }
    }

    /// Every launch came at least `interval` after the one before.
    ///
    /// # Panics
    ///
    /// If two came closer, or no call was noted.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tollhouse::StaggerLayer;
    /// use tollhouse::testing::{Recorder, Reply, ScriptedProvider};
    /// use tower::{Layer, ServiceExt};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let provider = ScriptedProvider::new(|_, _: &&str| Reply::ok("fine"));
    /// let recorder = Recorder::new().until_response();
    /// let client = StaggerLayer::new(Duration::from_secs(15)).layer(recorder.layer(provider));
    /// tokio::try_join!(client.clone().oneshot("Why?"), client.oneshot("How?"))?;
    /// recorder.assert_spaced_by(Duration::from_secs(15));
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn assert_spaced_by(&self, interval: Duration) {
        let calls = self.some_calls();
        for (n, pair) in calls.windows(2).enumerate() {
            let gap = pair[1].launched - pair[0].launched;
            assert!(
                gap >= interval,
                "calls {n} and {} were launched {gap:?} apart, at {:?} and {:?}; at least {interval:?} is allowed",
                n + 1,
                pair[0].launched,
                pair[1].launched,
            );
        }
    }

    /// No stretch of time as long as `window`, however aligned, saw launches
    /// that cost more than `tokens` together. What a request costs is told by
    /// [`cost`](Self::cost).
    ///
    /// # Panics
    ///
    /// If one did, no call was noted, or none cost anything.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tollhouse::testing::{Recorder, Reply, ScriptedProvider};
    /// use tollhouse::{TokenBudget, TpmBudgetLayer};
    /// use tower::{Layer, ServiceExt};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cost = |tokens: &u64| *tokens;
    /// let provider = ScriptedProvider::new(|_, _: &u64| Reply::ok("fine"));
    /// let recorder = Recorder::new().cost(cost).until_response();
    /// let budget = TokenBudget::per_minute(30_000).build()?;
    /// let client = TpmBudgetLayer::new(budget, cost)
    ///     .until_response()
    ///     .layer(recorder.layer(provider));
    /// for _ in 0..10 {
    ///     client.clone().oneshot(7_000).await?;
    /// }
    /// recorder.assert_tokens_at_most(30_000, Duration::from_secs(60));
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn assert_tokens_at_most(&self, tokens: u64, window: Duration) {
        let calls = self.some_calls();
        assert!(
            calls.iter().any(|call| call.cost > 0),
            "{} calls were noted and none cost anything; tell the recorder what they cost with `Recorder::cost`",
            calls.len(),
        );
        let (mut first, mut sum) = (0, 0);
        for (last, call) in calls.iter().enumerate() {
            sum += call.cost;
            while call.launched - calls[first].launched >= window {
                sum -= calls[first].cost;
                first += 1;
            }
            assert!(
                sum <= tokens,
                "calls {first} to {last}, launched from {:?} to {:?}, cost {sum} tokens; at most {tokens} in any {window:?} are allowed",
                calls[first].launched,
                call.launched,
            );
        }
    }

    #[track_caller]
    fn some_calls(&self) -> Vec<Call> {
        let calls = self.calls();
        assert!(
            !calls.is_empty(),
            "no call was noted; is the recorder around the provider, and was it called?"
        );
        calls
    }
}

/// When those were launched that were in flight just after the launch of call
/// `n`.
fn in_flight_at(calls: &[Call], n: usize) -> Vec<Duration> {
    let there = |call: &&Call| call.launched_before_end.is_none_or(|launched| launched > n);
    let calls = calls[..=n].iter().filter(there);
    calls.map(|call| call.launched).collect()
}
