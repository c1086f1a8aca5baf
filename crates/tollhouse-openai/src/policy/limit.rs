use std::num::NonZeroU64;

/// A limit by the minute.
///
/// # Examples
///
/// ```
/// use bytes::Bytes;
/// use http::Request;
/// use tollhouse_openai::{Limit, Policy};
/// use tollhouse_sim::Sim;
/// use tower::{Layer, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let policy = Policy::default()
///     .tpm_limit(Limit::Auto)
///     .rpm_limit(Limit::Unlimited);
/// let sim = Sim::builder().tokens_per_minute(125_000).build()?;
/// let client = policy.layer().layer(sim.service());
///
/// let request = Request::post("/v1/responses")
///     .body(Bytes::from(r#"{"model": "gpt-4o", "input": "Hi"}"#))?;
/// client.oneshot(request).await?;
/// assert_eq!(policy.budget().snapshot().limit, 125_000);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limit {
    /// So many a minute.
    PerMinute(NonZeroU64),
    /// As many as the provider's first answer says.
    Auto,
    /// Nothing is limited here.
    Unlimited,
}

impl Limit {
    /// So many a minute.
    ///
    /// # Panics
    ///
    /// If `number` is zero: nothing would ever pass.
    ///
    /// # Examples
    ///
    /// ```
    /// use tollhouse_openai::Limit;
    ///
    /// assert_eq!(Limit::per_minute(125_000).amount(), Some(125_000));
    /// assert_eq!(Limit::Auto.amount(), None);
    /// ```
    #[track_caller]
    pub const fn per_minute(number: u64) -> Limit {
        match NonZeroU64::new(number) {
            Some(number) => Limit::PerMinute(number),
            None => panic!("a limit of 0 a minute lets nothing pass"),
        }
    }

    /// The number, where there is one.
    pub fn amount(self) -> Option<u64> {
        match self {
            Limit::PerMinute(number) => Some(number.get()),
            Limit::Auto | Limit::Unlimited => None,
        }
    }
}
