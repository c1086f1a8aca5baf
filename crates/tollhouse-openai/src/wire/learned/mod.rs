//! How far estimates are off, learned per model and endpoint.
//!
//! A prompt's real size depends on the model's own tokens, on schemas that some
//! providers count and others do not, and on tools that the provider hosts,
//! whose input nobody sees beforehand. What a call really used is told with its
//! answer; here the ratio of the two is remembered, and a high quantile of it
//! makes the next costs.

mod quantile;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::wire::cost::Estimate;
use crate::wire::request::Endpoint;
use quantile::Quantile;

/// The most models and endpoints that are kept apart; of more, the one that
/// was learned of least recently is forgotten.
const MOST_KEYS: usize = 256;

/// A longer name of a model is not worth remembering; none is known.
const MOST_NAME_BYTES: usize = 128;

/// What was learned of one model at one endpoint; see
/// [`Policy::learned`](crate::Policy::learned).
///
/// # Examples
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::{BodyExt, Full};
/// use std::time::Duration;
/// use tollhouse_openai::Policy;
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let policy = Policy::default().stagger(Duration::ZERO).learn_factor(true);
/// let client = policy.layer().layer(service_fn(async |_: Request<Bytes>| {
///     let told = r#"{"usage": {"total_tokens": 300}}"#;
///     Ok::<_, std::io::Error>(Response::new(Full::<Bytes>::from(told)))
/// }));
/// for _ in 0..20 {
///     // Estimated at 600.
///     let body = Bytes::from(r#"{"model": "gpt-4o", "messages": [], "max_tokens": 597}"#);
///     let request = Request::post("/v1/chat/completions").body(body)?;
///     client
///         .clone()
///         .oneshot(request)
///         .await?
///         .into_body()
///         .collect()
///         .await?;
/// }
///
/// let learned = &policy.learned()[0];
/// assert_eq!(
///     (learned.endpoint, learned.model.as_str()),
///     ("chat/completions", "gpt-4o")
/// );
/// assert_eq!(learned.calls, 20);
/// assert!((0.5..0.55).contains(&learned.factor.unwrap()));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LearnedFactor {
    /// The end of the path: `chat/completions`, `responses`.
    pub endpoint: &'static str,
    /// The model as requests name it.
    pub model: String,
    /// What estimates are multiplied by, from 0.25 to 20; `None` until 20 calls
    /// have told their usage.
    pub factor: Option<f64>,
    /// How many calls have told their usage.
    pub calls: u64,
}

/// The factors of all models and endpoints.
///
/// # Cloning
///
/// Clones share everything.
#[derive(Clone, Debug, Default)]
pub(crate) struct Learned {
    keys: Arc<Mutex<Keys>>,
}

/// Tells one call's real usage to the factor of its model and endpoint.
#[derive(Debug)]
pub(crate) struct Lesson {
    learned: Learned,
    key: Key,
    estimate: u64,
}

type Key = (Endpoint, Box<str>);

#[derive(Debug, Default)]
struct Keys {
    tracks: HashMap<Key, Track>,
    /// All calls learned of, which is the time here.
    calls: u64,
}

#[derive(Debug, Default)]
struct Track {
    quantile: Quantile,
    calls: u64,
    latest: u64,
}

impl Learned {
    /// The cost of a request: its estimate times the factor, and never less
    /// than what the provider charges up front. A factor above 1 stops at
    /// `most`, so that it never makes a request too large for the budget.
    pub(crate) fn cost(&self, estimate: &Estimate<'_>, most: impl FnOnce() -> u64) -> u64 {
        let Some(factor) = self.factor(estimate) else {
            return estimate.tokens;
        };
        let cost = ((estimate.tokens as f64 * factor).ceil() as u64).max(estimate.upfront);
        if cost > estimate.tokens {
            return cost.min(most()).max(estimate.tokens);
        }
        cost
    }

    fn factor(&self, estimate: &Estimate<'_>) -> Option<f64> {
        let key = key(estimate)?;
        self.keys().tracks.get(&key)?.quantile.get()
    }

    /// For the meter of a call's answer.
    pub(crate) fn lesson(&self, estimate: &Estimate<'_>) -> Option<Lesson> {
        Some(Lesson {
            learned: self.clone(),
            key: key(estimate)?,
            estimate: estimate.tokens,
        })
    }

    /// What is known, in the order of endpoints and models.
    pub(crate) fn snapshot(&self) -> Vec<LearnedFactor> {
        let keys = self.keys();
        let known = keys.tracks.iter();
        let known = known.map(|((endpoint, model), track)| LearnedFactor {
            endpoint: endpoint.name(),
            model: model.to_string(),
            factor: track.quantile.get(),
            calls: track.calls,
        });
        let mut known: Vec<LearnedFactor> = known.collect();
        known.sort_by(|a, b| (a.endpoint, &a.model).cmp(&(b.endpoint, &b.model)));
        known
    }

    /// Counts are counts, whoever panicked while holding them.
    fn keys(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lesson {
    pub(crate) fn learn(&self, used: u64) {
        let ratio = used as f64 / self.estimate as f64;
        self.learned.keys().learn(&self.key, ratio);
    }
}

impl Keys {
    fn learn(&mut self, key: &Key, ratio: f64) {
        if !self.tracks.contains_key(key) {
            self.make_room();
            self.tracks.insert(key.clone(), Track::default());
        }
        self.calls += 1;
        if let Some(track) = self.tracks.get_mut(key) {
            track.quantile.add(ratio);
            track.calls += 1;
            track.latest = self.calls;
        }
    }

    fn make_room(&mut self) {
        if self.tracks.len() < MOST_KEYS {
            return;
        }
        let stalest = self.tracks.iter().min_by_key(|(_, track)| track.latest);
        if let Some(key) = stalest.map(|(key, _)| key.clone()) {
            self.tracks.remove(&key);
        }
    }
}

/// The key of a request, if it is one to learn of.
fn key(estimate: &Estimate<'_>) -> Option<Key> {
    let model = estimate.model?;
    let worth = estimate.tokens > 0 && model.len() <= MOST_NAME_BYTES;
    worth.then(|| (estimate.endpoint, model.into()))
}

#[cfg(test)]
mod tests;
