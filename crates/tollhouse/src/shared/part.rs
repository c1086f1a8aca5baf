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
        }
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
