//! Random schedules in which calls are cancelled and come too late, and weights and all
//! limits change at any moment.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::time::{advance, timeout};
use tollhouse::{Accounting, Window};

use super::play::{Call, Change, Limits, Play, Schedule};
use crate::ledger_proof::provider::{Counting, Meter};
use crate::ledger_proof::schedule::{self, Event, Happened, Reached, Shape, Uses, pick};
use crate::ledger_proof::{ALL, for_seeds};
use crate::support::random::{Random, schedules};

const MINUTE: u64 = 60_000;
const CALLERS: u64 = 4;

/// How many are played.
const SCHEDULES: u64 = 40;

fn weight(random: &mut Random) -> u32 {
    pick(random, &[1, 1, 2, 5, 8, 1_000])
}

/// What the limits of one schedule are drawn from.
struct Draw {
    windows: &'static [Window],
    /// Requests a minute that there always are, if any.
    requests: Option<u64>,
    uses: Uses,
}

impl Draw {
    fn limits(&self, random: &mut Random) -> Limits {
        let requests = self
            .requests
            .map(|most| most * pick(random, &[1, 1, 2, 20]));
        let accountings = [Accounting::AsRequested, Accounting::AsUsed];
        Limits {
            tokens: pick(random, &[6_000, 12_000, 30_000, 120_000]),
            requests,
            slots: pick(random, &[None, None, Some(1), Some(3), Some(10)]),
            interval: pick(random, &[0, 0, 0, 100, 1_500]),
            headroom: pick(random, &[0.0, 0.15]),
            window: pick(random, self.windows),
            accounting: pick(random, &accountings),
        }
    }

    fn calls(&self, random: &mut Random, count: usize) -> Vec<Call> {
        let shape = Shape {
            limit: pick(random, &[6_000, 30_000]),
            largest: pick(random, &[300, 1_500, 5_000]),
            load: 400,
            uses: self.uses,
        };
        let mut plans = schedule::draw(random, shape, count);
        // No two come together, now or before, so that it is clear who came first.
        for (n, plan) in plans.iter_mut().enumerate() {
            plan.asks += 2 * n as u64 + 1;
        }
        let mut arrivals: HashSet<u64> = plans.iter().map(|plan| plan.asks).collect();
        let calls = plans.into_iter().map(|plan| {
            let before = plan.asks - random.within(0..plan.asks.min(20_000));
            Call {
                plan,
                caller: random.within(0..CALLERS) as usize,
                patience: match random.within(0..5) {
                    0 => Some(random.within(1..60_000)),
                    _ => None,
                },
                since: (random.within(0..6) == 0 && arrivals.insert(before)).then_some(before),
            }
        });
        calls.collect()
    }

    fn schedule(&self, random: &mut Random, count: usize) -> Schedule {
        let calls = self.calls(random, count);
        let longest = calls.last().expect("some").plan.asks + MINUTE;
        let mut changes: Vec<_> = (0..random.within(0..12))
            .map(|_| {
                let at = random.within(0..longest);
                let change = match random.within(0..2) {
                    0 => Change::Weight(random.within(0..CALLERS) as usize, weight(random)),
                    _ => Change::Limits(self.limits(random)),
                };
                (at, change)
            })
            .collect();
        changes.sort_by_key(|change| change.0);
        Schedule {
            weights: (0..CALLERS).map(|_| weight(random)).collect(),
            limits: self.limits(random),
            calls,
            changes,
        }
    }
}

/// The provider, whose limits go up before ours and down after.
struct Provider<'a> {
    schedule: &'a Schedule,
    tokens: Meter,
    requests: Option<Meter>,
}

impl<'a> Provider<'a> {
    fn new(schedule: &'a Schedule, counting: Counting) -> Self {
        let Limits {
            tokens, requests, ..
        } = schedule.limits;
        Provider {
            schedule,
            tokens: Meter::new(tokens, MINUTE, counting),
            requests: requests.map(|limit| Meter::new(limit, MINUTE, counting)),
        }
    }

    /// What it rejected that could have been prevented, and how many it let in.
    fn rejections(mut self, events: &[Event]) -> (Vec<(u64, usize)>, u64) {
        let changes = self.changes();
        let mut to_come = changes.iter().peekable();
        let mut charged = HashMap::new();
        let mut rejected = Vec::new();
        let plan = |id: usize| self.schedule.calls[id].plan;
        for Reached {
            at, id, is_done, ..
        } in schedule::reached(events, plan)
        {
            while let Some((at, _, to)) = to_come.next_if(|change| change.0 <= at) {
                self.set(to, *at);
            }
            let plan = &self.schedule.calls[id].plan;
            if is_done {
                if let Some(since) = charged.get(&id) {
                    self.tokens.true_up(id, *since, plan.cost, plan.uses, at);
                }
            } else if self.admits(plan.cost, at) {
                self.tokens.charge(id, plan.cost, at);
                self.requests.iter_mut().for_each(|it| it.charge(id, 1, at));
                charged.insert(id, at);
            } else if !is_overtaken(&changes, events, id, at) {
                rejected.push((at, id));
            }
        }
        (rejected, charged.len() as u64)
    }

    fn admits(&mut self, cost: u64, at: u64) -> bool {
        let has_tokens = self.tokens.left(at) >= i128::from(cost);
        has_tokens && self.requests.as_mut().is_none_or(|it| it.left(at) >= 1)
    }

    fn set(&mut self, to: &Limits, at: u64) {
        self.tokens.set_limit(to.tokens, at);
        if let (Some(meter), Some(limit)) = (&mut self.requests, to.requests) {
            meter.set_limit(limit, at);
        }
    }

    /// When its limits change, and from what to what.
    fn changes(&self) -> Vec<(u64, Limits, Limits)> {
        let mut from = self.schedule.limits;
        let changes = self.schedule.changes.iter();
        let limits = changes.filter_map(|(at, change)| match change {
            Change::Limits(to) => Some((*at, std::mem::replace(&mut from, *to), *to)),
            Change::Weight(..) => None,
        });
        limits.collect()
    }
}

/// Whether it was on its way already when a limit fell: then nothing could have prevented
/// that it was rejected.
fn is_overtaken(
    changes: &[(u64, Limits, Limits)],
    events: &[Event],
    id: usize,
    arrived: u64,
) -> bool {
    let is_reserved = |event: &&Event| event.id == id && event.what == Happened::Reserved;
    let reserved = events.iter().find(is_reserved).expect("it was sent").at;
    changes.iter().any(|(at, from, to)| {
        let falls = to.tokens < from.tokens || to.requests < from.requests;
        falls && (reserved..=arrived).contains(at)
    })
}

/// What many schedules came to.
#[derive(Debug, Default)]
struct Seen {
    admitted: u64,
    refused: usize,
    looks: u64,
}

fn prove(windows: &'static [Window], providers: &[Counting]) -> Seen {
    let mut seen = Seen::default();
    for_seeds(SCHEDULES, async |mut random| {
        let draw = Draw {
            windows,
            requests: pick(&mut random, &[None, Some(60), Some(500)]),
            uses: pick(&mut random, &[Uses::Exact, Uses::Less]),
        };
        let schedule = draw.schedule(&mut random, 60);
        let mut play = Play::new(&schedule);
        let day = Duration::from_secs(86_400);
        timeout(day, play.run()).await.expect("nobody is forgotten");
        for counting in providers {
            let provider = Provider::new(&schedule, *counting);
            let (rejected, admitted) = provider.rejections(&play.events);
            assert!(
                rejected.is_empty(),
                "{counting:?}, {schedule:#?}: {rejected:?}"
            );
            seen.admitted += admitted;
        }
        seen.refused += play.refused;
        seen.looks += play.looks;
        advance(Duration::from_secs(200)).await;
        let rest = play.budget.snapshot();
        assert_eq!((rest.waiting, rest.in_flight, rest.outstanding), (0, 0, 0));
        assert!(rest.callers.len() == 1, "all are forgotten: {rest:?}");
        let is_full = |level: i64, capacity: u64| level >= i64::try_from(capacity).unwrap();
        let mut meters = rest.meters.iter();
        assert!(
            meters.all(|it| it.in_transit == 0 && is_full(it.level, it.capacity)),
            "{rest:?}"
        );
    });
    assert!(
        seen.admitted > schedules(SCHEDULES) * 30 && seen.refused > 0,
        "{seen:?}"
    );
    seen
}

#[test]
fn whatever_changes_nobody_is_lost_nor_out_of_turn_nor_rejected() {
    prove(&[Window::On], &ALL);
}

/// Here the levels tell all, so that it shows whether anybody waits in vain.
#[test]
fn whatever_changes_nobody_waits_in_vain() {
    let windows = &[Window::Off, Window::Off, Window::On, Window::Auto];
    let seen = prove(windows, &[Counting::Continuous]);
    assert!(seen.looks > seen.admitted / 20, "{seen:?}");
}
