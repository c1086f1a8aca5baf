//! Whether the models of one pool turn out to have limits of their own.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use crate::call::Call;
use crate::wire::limits::RateLimits;

/// The limits that answers tell; warns, once, where those of two models differ.
///
/// Most answers tell what the first one told, and are done with two loads.
#[derive(Debug)]
pub(crate) struct ToldLimits {
    /// What to do about it.
    advice: &'static str,
    has_warned: AtomicBool,
    /// Those of the first answer, or of the last one of its model that told others.
    first: (AtomicU64, AtomicU64),
    /// Its model.
    model: Mutex<Option<Box<str>>>,
}

/// Tokens and requests a minute.
type Told = (Option<u64>, Option<u64>);

/// A call whose answer is looked at.
pub(crate) struct Watched {
    limits: Arc<ToldLimits>,
    /// Kept until the answer is here, and no longer: it keeps the request's body.
    call: Call,
}

impl ToldLimits {
    pub(crate) fn new(advice: &'static str) -> Arc<Self> {
        Arc::new(ToldLimits {
            advice,
            has_warned: AtomicBool::new(false),
            first: (AtomicU64::new(0), AtomicU64::new(0)),
            model: Mutex::new(None),
        })
    }

    /// Has the answer of a call looked at, unless there is nothing more to say.
    pub(crate) fn watch(self: &Arc<Self>, call: &Call) -> Option<Watched> {
        (!self.has_warned.load(Relaxed)).then(|| Watched {
            limits: Arc::clone(self),
            call: call.clone(),
        })
    }

    fn note(&self, model: &str, told: Told) {
        let (tokens, requests) = (told.0.unwrap_or(0), told.1.unwrap_or(0));
        let first = (self.first.0.load(Relaxed), self.first.1.load(Relaxed));
        if (tokens, requests) == first {
            return;
        }
        let other = self.differs_from(model, (tokens, requests));
        if let Some((other, other_told)) = other
            && !self.has_warned.swap(true, Relaxed)
        {
            tracing::warn!(
                model,
                tokens_per_minute = tokens,
                requests_per_minute = requests,
                other_model = &*other,
                other_tokens_per_minute = other_told.0,
                other_requests_per_minute = other_told.1,
                "models of one pool have limits of their own, and share what each of them is \
                 allowed alone: work for all takes many times as long. {}",
                self.advice
            );
        }
    }

    /// The model that told other limits, with those. Of the same model they are its new
    /// ones, and of the first answer of all the first.
    fn differs_from(&self, model: &str, told: (u64, u64)) -> Option<(Box<str>, (u64, u64))> {
        let mut known = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some(other) if **other != *model => {
                let first = (self.first.0.load(Relaxed), self.first.1.load(Relaxed));
                return (first != told).then(|| (other.clone(), first));
            }
            Some(_) => {}
            None => *known = Some(model.into()),
        }
        self.first.0.store(told.0, Relaxed);
        self.first.1.store(told.1, Relaxed);
        None
    }
}

impl Watched {
    /// The head of its answer is here.
    pub(crate) fn answered(self, limits: Option<&RateLimits>) {
        let Some(limits) = limits else { return };
        let told = (limits.limit_tokens, limits.limit_requests);
        if let Some(model) = self.call.model()
            && told != (None, None)
        {
            self.limits.note(model, told);
        }
    }
}
