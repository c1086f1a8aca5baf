//! Where lines stand until there is a place for them in their pool's own line.
//!
//! A pool may bound its line (`max_waiting`), and refuses whoever finds it full, so that
//! callers hear of it at once. A batch has the next request in hand already and nobody to
//! tell, and taken for the provider's refusal that would be an outage. So no more of its
//! requests go to a bounded pool than may stand in line there; a further one follows as
//! soon as one of them is launched. Each pool has an anteroom of its own, so that none holds
//! up another.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::Request;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Duration, sleep};
use tollhouse::Refused;
use tollhouse_openai::{Call, error::Error};
use tower::{Service, ServiceExt, service_fn};

use crate::pools::Pools;

/// Between two tries of whoever was refused all the same.
const SHORTEST: Duration = Duration::from_millis(5);
const LONGEST: Duration = Duration::from_secs(1);

/// The anterooms of all pools.
///
/// # Cloning
///
/// Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Anteroom {
    pools: Pools,
    lines: Arc<Mutex<HashMap<Line, Places>>>,
}

/// A pool's line, by the pool's number and how many may stand there: a file that is read
/// again may say otherwise.
type Line = (usize, usize);

/// The places in one.
type Places = Arc<Semaphore>;

/// A place in line, which its request keeps until it is launched for the first time.
#[derive(Clone, Debug, Default)]
struct Place(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl Anteroom {
    pub(super) fn new(pools: Pools) -> Self {
        Self {
            pools,
            lines: Arc::default(),
        }
    }

    /// A service whose requests wait here, and not in more than the places that there are.
    /// Whatever is launched must pass [`leave`] on its way.
    pub(super) fn before<S>(
        &self,
        gates: S,
    ) -> impl Service<Request<Bytes>, Response = S::Response, Error = Error, Future: Send> + Clone + use<S>
    where
        S: Service<Request<Bytes>, Error = Error> + Clone + Send,
        S::Future: Send,
    {
        let anteroom = self.clone();
        service_fn(move |request| {
            let gates = gates.clone();
            let places = anteroom.places_for(&request);
            async move {
                match places {
                    None => gates.oneshot(request).await,
                    Some(places) => pass(gates, request, &places).await,
                }
            }
        })
    }

    /// The places in the line of a request's pool, if that is bounded.
    fn places_for(&self, request: &Request<Bytes>) -> Option<Places> {
        if !self.pools.bound_lines() {
            // Most runs; the request need not be read.
            return None;
        }
        let call = Call::of(request);
        let number = self.pools.number_of(&call);
        // Where nobody may wait, one at a time tries.
        let places = self.pools.of(&call).config.max_waiting?;
        let places = places.clamp(1, Semaphore::MAX_PERMITS);
        let mut known = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Semaphore::new(places));
        let places = known.entry((number, places)).or_insert_with(new);
        Some(Arc::clone(places))
    }
}

/// Tells that a request is launched, whose place in line is free from here on.
pub(super) fn leave<B>(mut request: Request<B>) -> Request<B> {
    if let Some(place) = request.extensions_mut().remove::<Place>() {
        place.give_back();
    }
    request
}

/// Takes a place and goes on. Whoever finds the line full all the same (attempts that are
/// made again stand there, too) keeps the place and tries again.
async fn pass<S>(gates: S, request: Request<Bytes>, places: &Places) -> Result<S::Response, Error>
where
    S: Service<Request<Bytes>, Error = Error> + Clone,
{
    let place = Place::default();
    loop {
        place.take(places).await;
        let expected = {
            let mut asked = request.clone();
            asked.extensions_mut().insert(place.clone());
            let ended = gates.clone().oneshot(asked).await;
            match ended.as_ref().err().and_then(Error::refused) {
                Some(Refused::Overloaded { expected_wait, .. }) => *expected_wait,
                _ => return ended,
            }
        };
        sleep(expected.clamp(SHORTEST, LONGEST)).await;
    }
}

impl Place {
    /// Waits for one, unless it is there still.
    async fn take(&self, places: &Places) {
        if self.lock().is_none() {
            // Nobody closes them.
            let place = Arc::clone(places).acquire_owned().await.ok();
            *self.lock() = place;
        }
    }

    fn give_back(&self) {
        // Not under the lock: it wakes the next.
        let place = self.lock().take();
        drop(place);
    }

    /// Nothing is ever half done, so a panic elsewhere does not matter.
    fn lock(&self) -> MutexGuard<'_, Option<OwnedSemaphorePermit>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
