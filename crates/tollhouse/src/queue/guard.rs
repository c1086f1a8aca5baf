//! The lock of a queue, and what is told once it is gone.

use std::ops::{Deref, DerefMut};

use super::Queue;
use super::moved::Moved;
use super::state::{Admitted, News, State};
use super::sync::MutexGuard;
use crate::ask::Ask;
use crate::error::Refused;
use crate::rules::Rule;
use crate::rules::stats::{Note, Stats};
use crate::telemetry;
use crate::time::Now;

/// The lock of a queue.
///
/// When it is dropped, what happened under it is told: events to the tracing
/// subscriber, levels and counts to the metrics recorder. Both are a user's,
/// and may look at the very queue, so they are told after the lock is gone. So are
/// the other queues that are granted a slot which this one gave back.
pub(super) struct Guard<'q, R: Rule> {
    queue: &'q Queue<R>,
    /// `None` only while it is dropped.
    state: Option<MutexGuard<'q, State<R>>>,
    /// Whether who was let in under it is handed on in this very poll: then that tells of him as
    /// well.
    is_handed_on: bool,
}

impl<'q, R: Rule> Guard<'q, R> {
    #[inline]
    pub(super) fn new(queue: &'q Queue<R>) -> Self {
        let state = Some(queue.lock_untold());
        Guard {
            queue,
            state,
            is_handed_on: false,
        }
    }

    /// Lets a newcomer in as [`State::let_in`] does; that is told, too.
    #[inline(always)]
    pub(super) fn let_in(&mut self, ask: &Ask, now: &mut Now) -> Option<Admitted<R::Held>> {
        let admitted = State::let_in(self, ask, now);
        if telemetry::ON && admitted.is_some() {
            self.untold += 1;
            self.is_handed_on = R::IS_TIMED && !now.is_read();
        }
        admitted
    }

    /// Lets a newcomer in, where nobody waits and the rule allows it.
    pub(super) fn enter(
        &mut self,
        ask: &Ask,
        now: &mut Now,
    ) -> Result<Option<Admitted<R::Held>>, Refused> {
        match self.is_open_to(ask, now)? {
            true => Ok(self.let_in(ask, now)),
            false => Ok(None),
        }
    }

    /// Lets a newcomer in as [`State::pass`] does; that is told, too.
    pub(super) fn pass(
        &mut self,
        ask: &Ask,
        moved: &mut Moved,
        now: &mut Now,
    ) -> Result<Option<Admitted<R::Held>>, Refused> {
        let admitted = State::pass(self, ask, moved, now)?;
        self.untold += usize::from(telemetry::ON && admitted.is_some());
        Ok(admitted)
    }
}

impl<R: Rule> Deref for Guard<'_, R> {
    type Target = State<R>;

    #[inline]
    fn deref(&self) -> &State<R> {
        self.state.as_ref().expect(LOCKED)
    }
}

impl<R: Rule> DerefMut for Guard<'_, R> {
    #[inline]
    fn deref_mut(&mut self) -> &mut State<R> {
        self.state.as_mut().expect(LOCKED)
    }
}

const LOCKED: &str = "a guard holds the lock until it is dropped";

impl<R: Rule> Drop for Guard<'_, R> {
    /// Mostly there is nothing to tell, and the lock goes by itself.
    #[inline]
    fn drop(&mut self) {
        if (telemetry::ON && !self.is_handed_on) || self.has_news() {
            self.let_go();
        }
    }
}

/// Lets go of the lock, then tells what happened under it.
#[cold]
fn tell_news<R: Rule>(mut state: MutexGuard<'_, State<R>>, pool: Option<&str>) {
    let News { calls, bell, notes } = state.take_news();
    drop(state);
    // First: whom a slot was granted must come to use it, whatever a subscriber does.
    drop(calls);
    if let Some((bell, need)) = bell {
        bell.ring(need);
    }
    notes.into_iter().for_each(|note| event::<R>(note, pool));
}

impl<R: Rule> Guard<'_, R> {
    /// Lets go of the lock, then tells what happened under it and how it stands.
    fn let_go(&mut self) {
        let Some(mut state) = self.state.take() else {
            return;
        };
        let tells = telemetry::ON && !self.is_handed_on;
        let stats = tells.then(|| (state.stats(), std::mem::take(&mut state.untold)));
        match state.has_news() {
            true => tell_news(state, self.queue.pool()),
            false => drop(state),
        }
        if let Some((stats, let_in)) = stats {
            self.tell(stats, let_in);
        }
    }

    fn tell(&self, stats: Stats, let_in: usize) {
        let queue = self.queue;
        let again = || queue.lock_untold().stats();
        queue.desk.tell(queue.name(), R::NAME, stats, let_in, again);
    }
}

/// Writes the event of a note.
fn event<R: Rule>(note: Note, pool: Option<&str>) {
    let gate = R::NAME;
    match note {
        Note::Learned {
            tokens_per_minute,
            requests_per_minute,
        } => tracing::info!(
            gate,
            pool,
            tokens_per_minute,
            requests_per_minute,
            "limits learned"
        ),
        Note::NoTokenLimit { fallback } => tracing::warn!(
            gate,
            pool,
            tokens_per_minute = fallback,
            "the answer names no limit of tokens; going on with the fallback"
        ),
        Note::NoRequestLimit => tracing::warn!(
            gate,
            pool,
            "the answer names no limit of requests a minute; going on with the fallback"
        ),
        Note::Slowed { percent } => tracing::debug!(gate, pool, percent, "slowed"),
        Note::Held { delay } => tracing::debug!(gate, pool, ?delay, "held"),
        Note::UsageCapped {
            reserved,
            told,
            believed,
        } => tracing::warn!(
            gate,
            pool,
            reserved,
            told,
            believed,
            "the answer tells more usage than its request can have cost"
        ),
        Note::Disbelieved { meter } => tracing::warn!(
            gate,
            pool,
            meter,
            "the provider says again and again that nothing is left, and admits the next \
             request all the same; its count is not believed until it changes"
        ),
    }
}
