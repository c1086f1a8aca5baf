//! What a process's handles, its pools and its agent have in common.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::Away;
use super::books::Exchanged;
use super::fallback::Fallback;
use super::member::Member;
use crate::queue::Bell;
use crate::rules::Need;
use crate::rules::ledger::Share;
use crate::time::{Moment, Now};

/// A process's part in a shared ledger.
pub(super) struct Inner {
    pub(super) process: u128,
    pub(super) fallback: Fallback,
    /// Rung when something cannot wait.
    pub(super) bell: Notify,
    /// Whether it was for something that is to be told.
    pub(super) has_word: AtomicBool,
    /// Told when the last report is through, or there is nobody to send it.
    pub(super) left: Notify,
    state: Mutex<State>,
}

pub(super) struct State {
    pub(super) members: Vec<Arc<dyn Member>>,
    pub(super) phase: Phase,
    /// Counts the changes of phase.
    pub(super) changes: u64,
    pub(super) processes: Option<u32>,
    most: Most,
    pub(super) since: Instant,
    pub(super) why: Option<Away>,
    pub(super) is_leaving: bool,
}

/// By what right a process spends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Phase {
    /// Nobody has answered yet.
    Beginning,
    /// On leases, until then.
    Up(Moment),
    /// On its fallback.
    Away(Option<Share>),
    /// By none, any more.
    Left,
}

/// The most processes that were told of within the last one to two minutes.
#[derive(Clone, Copy, Debug, Default)]
struct Most {
    /// When the present minute began; `None` where nothing was ever told.
    since: Option<Moment>,
    present: u32,
    /// In the minute before.
    before: u32,
}

impl Most {
    const MINUTE: Duration = Duration::from_secs(60);

    fn note(&mut self, processes: u32, now: Moment) {
        let is_new = self.since.is_none_or(|since| since + Self::MINUTE <= now);
        if is_new {
            let is_next = self
                .since
                .is_some_and(|since| since + 2 * Self::MINUTE > now);
            self.before = if is_next { self.present } else { 0 };
            (self.since, self.present) = (Some(now), 0);
        }
        self.present = self.present.max(processes);
    }

    fn lately(&self) -> Option<u32> {
        self.since.map(|_| self.present.max(self.before))
    }
}

impl Bell for Inner {
    fn ring(&self, need: Need) {
        if need == Need::Word {
            self.has_word.store(true, Ordering::Relaxed);
        }
        self.bell.notify_one();
    }
}

impl Inner {
    pub(super) fn new(fallback: Fallback) -> Self {
        let half = || u128::from(RandomState::new().hash_one(0));
        Inner {
            process: half() << 64 | half(),
            fallback,
            bell: Notify::new(),
            has_word: AtomicBool::new(false),
            left: Notify::new(),
            state: Mutex::new(State {
                members: Vec::new(),
                phase: Phase::Beginning,
                changes: 0,
                processes: None,
                most: Most::default(),
                since: Instant::now(),
                why: None,
                is_leaving: false,
            }),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All who are under it and still there, the first one of each name.
    pub(super) fn members(&self) -> Vec<Arc<dyn Member>> {
        let mut state = self.lock();
        let all = std::mem::take(&mut state.members);
        let (gone, there): (Vec<_>, Vec<_>) = all.into_iter().partition(|it| it.is_gone());
        state.members = there;
        let mut members: Vec<Arc<dyn Member>> = Vec::new();
        for member in &state.members {
            if !members.iter().any(|it| it.name() == member.name()) {
                members.push(Arc::clone(member));
            }
        }
        drop(state);
        drop(gone);
        members
    }

    /// Another one is under it: it begins, and spends by the same right as the others; one
    /// of the name of another, once that is gone.
    pub(super) fn admit(&self, member: Arc<dyn Member>, begin: impl FnOnce()) {
        self.lock().members.push(Arc::clone(&member));
        begin();
        let mut seen = None;
        // The phase may change while it is told of one; never is it told under the lock.
        loop {
            let (changes, phase) = {
                let state = self.lock();
                (state.changes, state.phase)
            };
            let is_first = self.members().iter().any(|it| Arc::ptr_eq(it, &member));
            if seen == Some(changes) || !is_first {
                return;
            }
            seen = Some(changes);
            tell(&*member, phase);
        }
    }

    /// From now on all spend by another right.
    pub(super) fn enter(&self, phase: Phase, why: Option<Away>, processes: Option<u32>) {
        {
            let mut state = self.lock();
            let was_up = matches!(state.phase, Phase::Up(_));
            if was_up != matches!(phase, Phase::Up(_)) {
                state.since = Instant::now();
            }
            state.phase = phase;
            state.changes += 1;
            state.why = why;
            state.processes = processes.or(state.processes);
            if let Some(processes) = processes {
                state.most.note(processes, Now::unread().get());
            }
        }
    }

    /// The share that is this process's while the ledger is away: by the most processes that it was
    /// told of lately. Others that were cut off before it are not told of any more, and spend
    /// their shares all the same.
    pub(super) fn share(&self) -> (Option<Share>, u32) {
        let most = self.lock().most.lately();
        (self.fallback.share(most), most.unwrap_or(0))
    }

    /// Tells everybody by what right they spend.
    pub(super) fn tell_all(&self) {
        let phase = self.lock().phase;
        for member in self.members() {
            tell(&*member, phase);
        }
    }
}

fn tell(member: &dyn Member, phase: Phase) {
    match phase {
        Phase::Beginning => {}
        Phase::Up(until) => {
            let now = Now::unread().get();
            let when = Exchanged {
                sent: now,
                came: now,
                processes: 1,
                learning: Duration::ZERO,
            };
            member.renew(None, when, until);
        }
        Phase::Away(share) => member.go_alone(share),
        Phase::Left => member.close(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_is_that_of_the_last_minutes() {
        let mut most = Most::default();
        assert_eq!(most.lately(), None);
        for (second, told, lately) in [
            (0, 3, 3),
            (59, 2, 3),
            (60, 1, 3),
            (119, 2, 3),
            (120, 1, 2),
            (180, 1, 1),
            (200, 7, 7),
            // Nothing was told for long.
            (300, 2, 2),
        ] {
            most.note(told, Moment::default() + Duration::from_secs(second));
            assert_eq!(most.lately(), Some(lately), "at {second} s");
        }
    }
}
