//! The ledger's rules once more, as slowly and plainly as can be: everything is
//! added up anew from the log of events at every question. Time is in
//! milliseconds, levels in sixty-thousandths of a token.

use super::schedule::{Event, Happened, Plan};

const MINUTE: u64 = 60_000;
const TRANSIT: u64 = 2_000;

/// A budget's numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) limit: u64,
    pub(crate) rate: u64,
    pub(crate) capacity: u64,
    pub(crate) windowed: bool,
    pub(crate) refunds: bool,
}

/// What becomes of one reservation.
#[derive(Clone, Copy, Debug)]
struct Life {
    cost: u64,
    reserved: u64,
    /// When it surely had been counted, or was taken back.
    ended: Option<u64>,
    refunded: bool,
    /// When its real usage was known, and what it was.
    settled: Option<(u64, u64)>,
}

fn lives(events: &[Event], plans: &[Plan], now: u64) -> Vec<Life> {
    let of = |id: usize, what: Happened| {
        let found = events
            .iter()
            .find(|event| event.id == id && event.what == what);
        found.map(|event| event.at)
    };
    let reserved = events
        .iter()
        .filter(|event| event.what == Happened::Reserved);
    reserved
        .map(|&Event { id, at, .. }| {
            let refunded = of(id, Happened::Refunded);
            let settled = of(id, Happened::Settled);
            let allowance = of(id, Happened::Launched).map(|at| at + TRANSIT);
            let landed = [settled, allowance].into_iter().flatten().min();
            Life {
                cost: plans[id].cost,
                reserved: at,
                ended: refunded.or(landed).filter(|at| *at <= now),
                refunded: refunded.is_some(),
                settled: settled.map(|at| (at, plans[id].uses)),
            }
        })
        .collect()
}

impl Rules {
    /// Whether `cost` is admitted at `now`, after `events`.
    pub(crate) fn admit(&self, events: &[Event], plans: &[Plan], cost: u64, now: u64) -> bool {
        let lives = lives(events, plans, now);
        self.level(&lives, now) >= i128::from(cost * MINUTE)
            && (!self.windowed || self.minute(&lives, now) + cost <= self.limit)
    }

    /// Rule 2, with 4.
    ///
    /// A refund counts as far as there was room for it when its request landed,
    /// less all that the level has risen since: the provider gave it back at
    /// some instant between, and a full bucket loses it.
    fn level(&self, lives: &[Life], now: u64) -> i128 {
        let capacity = i128::from(self.capacity * MINUTE);
        let units = |tokens: i64| i128::from(tokens) * i128::from(MINUTE);
        let mut level = capacity;
        let mut risen = 0;
        let mut transit = 0;
        let mut since = 0;
        let mut rooms = vec![0; lives.len()];
        for (at, life, change) in self.changes(lives) {
            let refilled = self.refilled(level, capacity - transit, at - since);
            risen += refilled - level;
            level = refilled;
            since = at;
            match change {
                Change::Reserved(cost) => {
                    level -= units(cost);
                    transit += units(cost);
                }
                Change::Refunded(cost) => {
                    level += units(cost);
                    transit -= units(cost);
                }
                Change::Landed(cost) => {
                    transit -= units(cost);
                    rooms[life] = capacity - transit - level + risen;
                }
                Change::Owed(extra) => level -= units(extra),
                Change::GivenBack(unused) => {
                    let room = (rooms[life] - risen).min(capacity - transit - level);
                    let credit = units(unused).min(room.max(0));
                    level += credit;
                    risen += credit;
                }
            }
        }
        self.refilled(level, capacity - transit, now - since)
    }

    fn refilled(&self, level: i128, ceiling: i128, time: u64) -> i128 {
        let refilled = level + i128::from(self.rate) * i128::from(time);
        refilled.min(ceiling.max(level))
    }

    /// What changes the level and what is in transit, by time, and whose it is.
    fn changes(&self, lives: &[Life]) -> Vec<(u64, usize, Change)> {
        let mut changes = Vec::new();
        for (n, life) in lives.iter().enumerate() {
            let cost = life.cost as i64;
            changes.push((life.reserved, n, Change::Reserved(cost)));
            match life.ended {
                Some(ended) if life.refunded => changes.push((ended, n, Change::Refunded(cost))),
                Some(ended) => changes.push((ended, n, Change::Landed(cost))),
                None => {}
            }
            if let Some((at, actual)) = life.settled {
                match cost - actual as i64 {
                    unused if unused < 0 => changes.push((at, n, Change::Owed(-unused))),
                    unused if self.refunds => changes.push((at, n, Change::GivenBack(unused))),
                    _ => {}
                }
            }
        }
        changes.sort_by_key(|change| change.0);
        changes
    }

    /// Rule 3: what counts in the 60 seconds that end at `now`.
    fn minute(&self, lives: &[Life], now: u64) -> u64 {
        let counts = |at: u64| at + MINUTE > now;
        let mut sum = 0;
        for life in lives.iter().filter(|life| !life.refunded) {
            let actual = life.settled.map_or(life.cost, |settled| settled.1);
            if life.ended.is_none_or(counts) {
                sum += if self.refunds {
                    life.cost.min(actual)
                } else {
                    life.cost
                };
            }
            if life.settled.is_some_and(|(at, _)| counts(at)) {
                sum += actual.saturating_sub(life.cost);
            }
        }
        sum
    }
}

/// In tokens.
enum Change {
    Reserved(i64),
    Refunded(i64),
    Landed(i64),
    Owed(i64),
    GivenBack(i64),
}

/// Checks that each request was let in at the first millisecond at which it was
/// the head of the line and the rules allowed it, and in the order of asking.
///
/// Between two events the rules can only come to allow what they did not, so
/// it is enough to look at every event and just before it.
pub(crate) fn check(rules: &Rules, events: &[Event], plans: &[Plan]) -> Result<(), String> {
    let mut line: Vec<usize> = Vec::new();
    for (n, event) in events.iter().enumerate() {
        if let (Some(&head), Some(previous)) = (line.first(), n.checked_sub(1)) {
            let cost = plans[head].cost;
            let same = event.id == head && event.what == Happened::Reserved;
            let late = event.at > events[previous].at
                && rules.admit(&events[..n], plans, cost, event.at - 1);
            let later = event.at > events[previous].at
                && rules.admit(&events[..n], plans, cost, events[previous].at);
            if late || later {
                return Err(format!("{head} could have passed before {event:?}"));
            }
            if same && !rules.admit(&events[..n], plans, cost, event.at) {
                return Err(format!("{head} passed too soon: {event:?}"));
            }
        }
        match event.what {
            Happened::Asked => line.push(event.id),
            Happened::LeftQueue => line.retain(|id| *id != event.id),
            Happened::Reserved if line.first() == Some(&event.id) => drop(line.remove(0)),
            Happened::Reserved => return Err(format!("passed out of turn: {event:?}")),
            _ => {}
        }
    }
    if line.is_empty() {
        Ok(())
    } else {
        Err(format!("never let in: {line:?}"))
    }
}
