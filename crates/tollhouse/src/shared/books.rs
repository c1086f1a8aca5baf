//! What a process keeps of one pool between two reports.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::{Amounts, Grant, MeterTerms, PoolGrant, PoolReport, Told};
use crate::charge::{Per, Unit};
use crate::rules::ledger::{Collected, Heard, Unused};
use crate::rules::{Agreed, Common, Granted, Limited, Wish};
use crate::time::Moment;

/// What so many grants said is kept, for answers that come later: about two minutes' worth.
const REMEMBERED: usize = 512;

/// No more of what answers told is kept while the ledger is away.
const TOLD: usize = 64;

/// When a report was sent and its grant came, and to how many processes beside.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exchanged {
    pub(super) sent: Moment,
    pub(super) came: Moment,
    /// How many processes there are.
    pub(super) processes: u32,
    /// How long nothing is granted yet.
    pub(super) learning: Duration,
}

/// See the [module's documentation](self).
#[derive(Debug, Default)]
pub(super) struct Books {
    /// The earliest first.
    grants: VecDeque<Remembered>,
    /// Told since a grant last came.
    heard: Vec<Heard>,
    /// Given back by the provider, of what landed after the last grant's report.
    landed: Vec<Unused>,
    /// All that the provider gave back and was reported, and what of its requests cost most,
    /// with it and without.
    unused: Amounts,
    before: Amounts,
    after: Amounts,
    /// The least rooms for what of it is new since a grant last came.
    rooms: Option<Vec<i64>>,
    /// The sums as they were reported last, and as they were when a grant came last.
    sent: Sums,
    known: Sums,
}

#[derive(Debug)]
struct Remembered {
    when: Exchanged,
    meters: Vec<(Unit, Per)>,
    marks: Vec<u64>,
    rooms: Vec<i64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sums {
    returned: Amounts,
    owed: Amounts,
    unused: Amounts,
    dominant: Amounts,
    launches: u64,
}

/// How the process stands in a pool, as the pool itself tells.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) meters: Vec<MeterTerms>,
    pub(super) limited: Limited,
    pub(super) wish: Wish,
    pub(super) collected: Collected,
    pub(super) weight: u64,
    /// Whether anybody waits, or was let in within the last two seconds.
    pub(super) is_busy: bool,
}

impl Books {
    /// What is to be reported, if there is anything.
    pub(super) fn report(
        &mut self,
        name: Option<&Arc<str>>,
        standing: Standing,
        now: Moment,
    ) -> Option<PoolReport> {
        let Standing {
            meters,
            limited,
            wish,
            collected,
            weight,
            is_busy,
        } = standing;
        self.heard.extend(collected.heard);
        let excess = self.heard.len().saturating_sub(TOLD);
        self.heard.drain(..excess);
        self.landed.extend(collected.unused);
        self.claim();
        let dominant = collected.dominant.plus(&self.after).minus(&self.before);
        self.sent = Sums {
            returned: wish.returned,
            owed: collected.owed,
            unused: self.unused,
            dominant,
            launches: wish.launches_returned,
        };
        let holds_nothing = wish.idle.plus(&collected.in_transit).is_nothing()
            && limited.taken + wish.slots_idle + wish.launches_idle == 0;
        let has_told = self.heard.is_empty() && self.landed.is_empty() && self.sent == self.known;
        let is_quiet = holds_nothing && has_told && !is_busy && collected.held_until.is_none();
        (!is_quiet).then(|| PoolReport {
            name: name.cloned(),
            meters,
            max_slots: limited.max_slots,
            interval: limited.interval,
            weight: weight.max(1),
            idle: wish.idle,
            in_transit: collected.in_transit,
            returned: wish.returned,
            owed: collected.owed,
            unused: self.unused,
            unused_rooms: self.rooms.clone().unwrap_or_default(),
            dominant,
            line: wish.line,
            wanted: wish.wanted,
            slots_used: limited.taken,
            slots_idle: wish.slots_idle,
            slots_wanted: wish.slots_wanted,
            launches_idle: wish.launches_idle,
            launches_returned: wish.launches_returned,
            launches_wanted: wish.launches_wanted,
            told: self.heard.iter().map(|heard| self.tell(*heard)).collect(),
            held: collected.held_until.map(|until| until - now),
        })
    }

    /// Claims what the provider gave back, where it is known how much room there was.
    fn claim(&mut self) {
        let Some(last) = self.grants.back() else {
            return;
        };
        let meters = last.meters.clone();
        let mut waiting = Vec::new();
        for unused in std::mem::take(&mut self.landed) {
            // The report that told of its landing is the first one sent after it.
            let mut grants = self.grants.iter();
            let Some(grant) = grants.find(|grant| grant.when.sent >= unused.landed) else {
                waiting.push(unused);
                continue;
            };
            self.unused = self.unused.plus(&unused.amounts);
            self.before = self.before.plus(&unused.before);
            self.after = self.after.plus(&unused.after);
            let rooms = meters.iter().map(|meter| grant.room_of(meter));
            self.rooms = Some(match &self.rooms {
                Some(least) => least
                    .iter()
                    .copied()
                    .zip(rooms)
                    .map(|(a, b)| a.min(b))
                    .collect(),
                None => rooms.collect(),
            });
        }
        self.landed = waiting;
    }

    fn tell(&self, heard: Heard) -> Told {
        match heard {
            Heard::Remaining {
                unit,
                per,
                remaining,
                reserved,
            } => Told::Remaining {
                unit,
                per,
                remaining,
                mark: reserved.and_then(|reserved| self.mark_before(reserved, (unit, per))),
            },
            Heard::After {
                unit,
                per,
                amount,
                delay,
            } => Told::After {
                unit,
                per,
                amount,
                delay,
            },
        }
    }

    fn mark_before(&self, reserved: Moment, meter: (Unit, Per)) -> Option<u64> {
        let mut grants = self.grants.iter().rev();
        let last = grants.find(|grant| grant.when.came <= reserved)?;
        let at = last.meters.iter().position(|it| *it == meter)?;
        last.marks.get(at).copied()
    }

    /// Another ledger knows nothing of what was said by the one before.
    pub(super) fn begin_anew(&mut self) {
        self.grants.clear();
        self.rooms = None;
    }

    /// A grant came for the last report.
    pub(super) fn note(&mut self, granted: &PoolGrant, when: Exchanged) {
        self.heard.clear();
        self.rooms = None;
        self.known = self.sent;
        if self.grants.len() >= REMEMBERED {
            self.grants.pop_front();
        }
        let meters = granted.meters.iter();
        self.grants.push_back(Remembered {
            when,
            meters: meters.map(|terms| (terms.unit, terms.per)).collect(),
            marks: granted.marks.clone(),
            rooms: granted.rooms.clone(),
        });
    }
}

impl Remembered {
    fn room_of(&self, meter: &(Unit, Per)) -> i64 {
        let at = self.meters.iter().position(|it| it == meter);
        let room = at.and_then(|at| self.rooms.get(at));
        // Nothing is given back where it is not known.
        room.copied().unwrap_or(i64::MIN)
    }
}

/// What a pool's leases are given by a grant that came at that instant.
pub(super) fn granted(of: &PoolGrant, when: &Exchanged) -> Granted {
    let leased = of.slots_leased;
    Granted {
        drawn: of.drawn,
        slots: of.slots,
        // Late by at most the way back, and never early.
        launches: of.launches.iter().map(|ahead| when.came + *ahead).collect(),
        recalled: of.recalled,
        agreed: Agreed {
            meters: common(of),
            max_slots: of.max_slots,
            has_free_slots: of.max_slots.is_none_or(|max| leased < max),
            processes: when.processes,
        },
    }
}

fn common(of: &PoolGrant) -> Vec<Common> {
    let meters = of.meters.iter().zip(&of.levels);
    meters
        .map(|(terms, level)| Common {
            unit: terms.unit,
            per: terms.per,
            rate: terms.rate,
            capacity: terms.capacity,
            level: *level,
        })
        .collect()
}

/// When what a report had with it may be spent no longer.
pub(super) fn lease_of(grant: &Grant, sent: Moment) -> Moment {
    sent + grant.lease.min(Duration::from_secs(60))
}
