//! What was, as far back as it is shown: all of it bounded.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use serde::Serialize;

use super::look::{self, LETTERS, Look, Overview, PoolNow};

/// Samples of each pool, one a second: five minutes, and the minute before that the first
/// of them is about.
pub(super) const SAMPLES: usize = 360;
/// Pools whose samples are kept.
pub(super) const POOLS: usize = 32;
/// Calls that are kept.
pub(super) const CALLS: usize = 24;
/// Things that happened.
const HAPPENINGS: usize = 30;

/// A call that is over.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Ended {
    /// What it was: a path, or a line of a batch.
    pub what: String,
    /// Who asked; empty where nobody said.
    pub caller: String,
    /// What it was taken from; empty where that is not known.
    pub pool: String,
    /// The status of its answer, if one came.
    pub status: Option<u16>,
    /// How long it waited for its last launch; none where it was not launched.
    #[serde(rename = "wait_seconds", serialize_with = "seconds")]
    pub wait: Option<Duration>,
    /// From its coming to its end.
    #[serde(rename = "total_seconds", serialize_with = "seconds")]
    pub total: Option<Duration>,
    /// What was charged, in tokens.
    pub tokens: Option<u64>,
    /// How often it was sent.
    pub attempts: u32,
    /// Whether its caller left before the end.
    pub left: bool,
}

/// A call that is over, and when.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Call {
    at: u32,
    #[serde(flatten)]
    ended: Ended,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Happening {
    pub(super) at: u32,
    #[serde(flatten)]
    pub(super) what: What,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub(super) enum What {
    /// The provider closed a pool.
    Held {
        pool: String,
        seconds: f64,
    },
    /// It is open again.
    Opened {
        pool: String,
    },
    /// Refusals slowed a pool.
    Slowed {
        pool: String,
        percent: u8,
    },
    /// It goes at its full pace again.
    FullPace {
        pool: String,
    },
    Note {
        text: String,
    },
}

/// A pool in one second: when, the limit by the minute, what was left, launches, their
/// tokens, how many waited, whether it was held. As JSON a list of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Point(
    pub(super) u32,
    pub(super) u64,
    pub(super) i64,
    pub(super) u32,
    pub(super) u64,
    pub(super) u32,
    pub(super) u8,
);

/// What is kept of one pool.
#[derive(Debug, Default)]
pub(super) struct PoolHistory {
    /// None where the last look saw nothing of it.
    pub(super) now: Option<PoolNow>,
    pub(super) points: VecDeque<Point>,
    /// Since the last sample.
    launches: u32,
    tokens: u64,
    /// When somebody asked last.
    active: u32,
}

/// A list that forgets what is oldest; each of its things has a number.
#[derive(Debug)]
pub(super) struct Ring<T> {
    kept: VecDeque<T>,
    most: usize,
    /// How many there ever were.
    pub(super) count: u64,
}

/// All that is kept.
#[derive(Debug)]
pub(super) struct History {
    pub(super) overview: Overview,
    pub(super) pools: HashMap<String, PoolHistory>,
    /// Pools of the last look for which there was no room.
    pub(super) more_pools: usize,
    pub(super) calls: Ring<Call>,
    pub(super) happenings: Ring<Happening>,
    /// The second of the last sample, and one.
    sampled: u32,
}

impl<T: Clone> Ring<T> {
    fn of(most: usize) -> Self {
        Ring {
            kept: VecDeque::new(),
            most,
            count: 0,
        }
    }

    fn push(&mut self, thing: T) {
        if self.kept.len() == self.most {
            self.kept.pop_front();
        }
        self.kept.push_back(thing);
        self.count += 1;
    }

    /// Those that came after the first `count`, as far as they are kept.
    pub(super) fn since(&self, count: u64) -> Vec<T> {
        let new = usize::try_from(self.count.saturating_sub(count)).unwrap_or(usize::MAX);
        let known = self.kept.len().saturating_sub(new);
        self.kept.iter().skip(known).cloned().collect()
    }
}

impl Default for History {
    fn default() -> Self {
        History {
            overview: Overview::default(),
            pools: HashMap::new(),
            more_pools: 0,
            calls: Ring::of(CALLS),
            happenings: Ring::of(HAPPENINGS),
            sampled: 0,
        }
    }
}

impl History {
    pub(super) fn launched(&mut self, pool: &str, tokens: u64, now: u32) {
        // No name is made where the pool is known, which it is but for once.
        if let Some(known) = self.pools.get_mut(pool) {
            known.launched(tokens, now);
        } else if let Some(new) = self.room_for(look::short(pool), now) {
            new.launched(tokens, now);
        }
    }

    pub(super) fn never_left(&mut self, pool: &str, tokens: u64) {
        let known = match self.pools.contains_key(pool) {
            true => self.pools.get_mut(pool),
            false => self.pools.get_mut(&look::short(pool)),
        };
        if let Some(pool) = known {
            pool.take_back(tokens);
        }
    }

    pub(super) fn ended(&mut self, mut ended: Ended, at: u32) {
        for name in [&mut ended.what, &mut ended.caller, &mut ended.pool] {
            look::shorten(name);
        }
        self.calls.push(Call { at, ended });
    }

    pub(super) fn note(&mut self, text: &str, at: u32) {
        let text = text.chars().take(3 * LETTERS).collect();
        let what = What::Note { text };
        self.happenings.push(Happening { at, what });
    }

    /// Whether this second has no sample yet; whoever asks takes it.
    pub(super) fn is_due(&mut self, now: u32) -> bool {
        let due = now.saturating_add(1) > self.sampled;
        self.sampled = self.sampled.max(now.saturating_add(1));
        due
    }

    pub(super) fn sample(&mut self, mut look: Look, now: u32) {
        self.overview = look.overview();
        let before = self.take_nows();
        let pools = look.pools();
        self.more_pools = 0;
        for pool in pools {
            self.note_changes(before.get(&pool.name), &pool, now);
            self.sample_pool(pool, now);
        }
        let oldest = now.saturating_sub(SAMPLES as u32);
        self.pools.retain(|_, pool| {
            let has_points = pool.points.back().is_some_and(|last| last.0 >= oldest);
            pool.now.is_some() || has_points || pool.active >= oldest
        });
    }

    fn take_nows(&mut self) -> HashMap<String, PoolNow> {
        let pools = self.pools.iter_mut();
        pools
            .filter_map(|(name, pool)| Some((name.clone(), pool.now.take()?)))
            .collect()
    }

    fn sample_pool(&mut self, now: PoolNow, at: u32) {
        let asks = now.waiting + now.in_flight > 0;
        match self.room_for(now.name.clone(), at) {
            Some(pool) => {
                if asks {
                    pool.active = at;
                }
                pool.sample(now, at);
            }
            None => self.more_pools += 1,
        }
    }

    /// The place of a pool. For a new one, where all are taken, that of the one that nobody has asked
    /// for the longest time, if that was before this second.
    fn room_for(&mut self, name: String, now: u32) -> Option<&mut PoolHistory> {
        if self.pools.len() >= POOLS && !self.pools.contains_key(&name) {
            let idle = self.pools.iter().min_by_key(|(_, pool)| pool.active);
            let (oldest, _) = idle.filter(|(_, pool)| pool.active < now)?;
            let oldest = oldest.clone();
            self.pools.remove(&oldest);
        }
        Some(self.pools.entry(name).or_default())
    }

    fn note_changes(&mut self, before: Option<&PoolNow>, now: &PoolNow, at: u32) {
        let pool = || now.name.clone();
        let was_held = before.is_some_and(|before| before.held_for_seconds.is_some());
        let pace = before.map_or(100, |before| before.pace_percent);
        let held = match now.held_for_seconds {
            Some(seconds) if !was_held => Some(What::Held {
                pool: pool(),
                seconds,
            }),
            None if was_held => Some(What::Opened { pool: pool() }),
            _ => None,
        };
        let paced = match now.pace_percent {
            percent if percent < pace => Some(What::Slowed {
                pool: pool(),
                percent,
            }),
            100 if pace < 100 => Some(What::FullPace { pool: pool() }),
            _ => None,
        };
        for what in held.into_iter().chain(paced) {
            self.happenings.push(Happening { at, what });
        }
    }
}

impl PoolHistory {
    fn launched(&mut self, tokens: u64, now: u32) {
        self.launches = self.launches.saturating_add(1);
        self.tokens = self.tokens.saturating_add(tokens);
        self.active = now;
    }

    /// Takes a launch back, from the last ones that there were: its own second is one of
    /// them, or hardly before.
    fn take_back(&mut self, tokens: u64) {
        let mut owed = (1, tokens);
        let mut take = |launches: &mut u32, tokens: &mut u64| {
            let taken = (owed.0.min(*launches), owed.1.min(*tokens));
            (*launches, *tokens) = (*launches - taken.0, *tokens - taken.1);
            owed = (owed.0 - taken.0, owed.1 - taken.1);
            owed != (0, 0)
        };
        let mut goes_on = take(&mut self.launches, &mut self.tokens);
        let mut points = self.points.iter_mut().rev();
        while let Some(point) = points.next().filter(|_| goes_on) {
            goes_on = take(&mut point.3, &mut point.4);
        }
    }

    fn sample(&mut self, now: PoolNow, at: u32) {
        let meter = now.main_meter();
        let (limit, left) = meter.map_or((0, 0), |meter| (meter.limit, meter.left));
        let waiting = u32::try_from(now.waiting).unwrap_or(u32::MAX);
        let held = u8::from(now.held_for_seconds.is_some());
        let launched = (
            std::mem::take(&mut self.launches),
            std::mem::take(&mut self.tokens),
        );
        let (launches, tokens) = launched;
        let mut point = Point(at, limit, left, launches, tokens, waiting, held);
        // Somebody looked within this second.
        if let Some(same) = self.points.back().copied().filter(|last| last.0 == at) {
            self.points.pop_back();
            point.3 = point.3.saturating_add(same.3);
            point.4 = point.4.saturating_add(same.4);
        }
        self.points.push_back(point);
        if self.points.len() > SAMPLES {
            self.points.pop_front();
        }
        self.now = Some(now);
    }
}

fn seconds<S: serde::Serializer>(time: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
    time.map(|time| time.as_secs_f64()).serialize(to)
}
