//! How far estimates are off, learned per model and endpoint.
//!
//! A prompt's real size depends on the model's own tokens, on schemas that some
//! providers count and others do not, and on tools that the provider hosts,
//! whose input nobody sees beforehand. What a call really used is told with its
//! answer; here the ratio of the two is remembered, and a high quantile of it
//! makes the next costs.

mod quantile;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::wire::cost::Estimate;
use crate::wire::request::Endpoint;
use quantile::Quantile;

/// The most models and endpoints that are kept apart; of more, the one that
/// was learned of least recently is forgotten. Mostly there are few, and they are looked
/// through.
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
    tracks: Arc<Mutex<Tracks>>,
}

/// Tells one call's real usage to the factor of its model and endpoint.
///
/// It has a place in the meter of each answer, and is as small as it can be.
#[derive(Clone, Debug)]
pub(crate) struct Lesson {
    key: Arc<Key>,
    estimate: u64,
}

/// A model at an endpoint, and who learns of it. Lessons of what is known share one.
#[derive(Debug)]
struct Key {
    endpoint: Endpoint,
    model: Box<str>,
    learned: Weak<Mutex<Tracks>>,
}

#[derive(Debug, Default)]
struct Tracks {
    tracks: Vec<Track>,
    /// All calls learned of, which is the time here.
    calls: u64,
}

#[derive(Debug)]
struct Track {
    key: Arc<Key>,
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
        let model = model(estimate)?;
        let tracks = lock(&self.tracks);
        tracks.find(estimate.endpoint, model)?.quantile.get()
    }

    /// For the meter of a call's answer.
    pub(crate) fn lesson(&self, estimate: &Estimate<'_>) -> Option<Lesson> {
        Some(Lesson {
            key: self.key(estimate.endpoint, model(estimate)?),
            estimate: estimate.tokens,
        })
    }

    fn key(&self, endpoint: Endpoint, model: &str) -> Arc<Key> {
        match lock(&self.tracks).find(endpoint, model) {
            Some(known) => Arc::clone(&known.key),
            None => Arc::new(Key {
                endpoint,
                model: model.into(),
                learned: Arc::downgrade(&self.tracks),
            }),
        }
    }

    /// Whether any call has told its usage.
    pub(crate) fn knows_anything(&self) -> bool {
        lock(&self.tracks).calls > 0
    }

    /// What is known, in the order of endpoints and models.
    pub(crate) fn snapshot(&self) -> Vec<LearnedFactor> {
        let tracks = lock(&self.tracks);
        let known = tracks.tracks.iter().map(|track| LearnedFactor {
            endpoint: track.key.endpoint.name(),
            model: track.key.model.to_string(),
            factor: track.quantile.get(),
            calls: track.calls,
        });
        let mut known: Vec<LearnedFactor> = known.collect();
        known.sort_by(|a, b| (a.endpoint, &a.model).cmp(&(b.endpoint, &b.model)));
        known
    }
}

/// Counts are counts, whoever panicked while holding them.
fn lock(tracks: &Mutex<Tracks>) -> MutexGuard<'_, Tracks> {
    tracks.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lesson {
    pub(crate) fn learn(&self, used: u64) {
        let ratio = used as f64 / self.estimate as f64;
        // Where nobody learns any more, there is nobody to tell.
        if let Some(learned) = self.key.learned.upgrade() {
            lock(&learned).learn(&self.key, ratio);
        }
    }
}

impl Tracks {
    fn find(&self, endpoint: Endpoint, model: &str) -> Option<&Track> {
        let mut tracks = self.tracks.iter();
        tracks.find(|track| track.is_of(endpoint, model))
    }

    fn learn(&mut self, key: &Arc<Key>, ratio: f64) {
        self.calls += 1;
        let calls = self.calls;
        let track = self.track(key);
        track.quantile.add(ratio);
        track.calls += 1;
        track.latest = calls;
    }

    fn track(&mut self, key: &Arc<Key>) -> &mut Track {
        let mut tracks = self.tracks.iter();
        let known = tracks.position(|track| track.is_of(key.endpoint, &key.model));
        let at = known.unwrap_or_else(|| {
            self.make_room();
            self.tracks.push(Track::new(key));
            self.tracks.len() - 1
        });
        &mut self.tracks[at]
    }

    fn make_room(&mut self) {
        if self.tracks.len() < MOST_KEYS {
            return;
        }
        let tracks = self.tracks.iter().enumerate();
        let stalest = tracks.min_by_key(|(_, track)| track.latest);
        if let Some((at, _)) = stalest {
            self.tracks.swap_remove(at);
        }
    }
}

impl Track {
    fn new(key: &Arc<Key>) -> Self {
        Track {
            key: Arc::clone(key),
            quantile: Quantile::default(),
            calls: 0,
            latest: 0,
        }
    }

    fn is_of(&self, endpoint: Endpoint, model: &str) -> bool {
        self.key.endpoint == endpoint && *self.key.model == *model
    }
}

/// The model of a request, if it is one to learn of.
fn model<'e>(estimate: &Estimate<'e>) -> Option<&'e str> {
    let worth = |model: &&str| estimate.tokens > 0 && model.len() <= MOST_NAME_BYTES;
    estimate.model.filter(worth)
}

#[cfg(test)]
mod tests;
