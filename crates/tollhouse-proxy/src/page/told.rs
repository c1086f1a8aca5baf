//! What a watcher is told.

use std::time::Duration;

use serde::Serialize;

use super::Kind;
use super::history::{Call, Happening, History, Point, PoolHistory};
use super::look::{Overview, PoolNow};
use super::processes::Processes;

/// How far a watcher has read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cursor {
    has_begun: bool,
    /// Samples before this second are known.
    at: u32,
    calls: u64,
    happenings: u64,
}

/// How all stands, and what came since.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Told {
    version: &'static str,
    kind: Kind,
    /// Seconds since the beginning.
    at: f64,
    /// Whether this is all there is, and no sequel.
    whole: bool,
    /// Whether nothing comes after this.
    pub(super) over: bool,
    /// When this was written down, in seconds since 1970.
    pub(super) written: Option<u64>,
    calls: u64,
    #[serde(flatten)]
    overview: Overview,
    /// Where they share the account.
    #[serde(flatten)]
    pub(super) processes: Processes,
    pools: Vec<Pool>,
    more_pools: usize,
    recent: Vec<Call>,
    happened: Vec<Happening>,
}

#[derive(Clone, Debug, Serialize)]
struct Pool {
    #[serde(flatten)]
    now: PoolNow,
    /// Whether nobody knows of it at the moment.
    at_rest: bool,
    points: Vec<Point>,
}

impl Told {
    /// On one line.
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("it is but numbers and names")
    }
}

impl History {
    /// What came since, and how all stands.
    pub(super) fn since(&self, cursor: &mut Cursor, kind: Kind, now: Duration, over: bool) -> Told {
        // The last second may have gone on since it was told.
        let at = cursor.at.saturating_sub(u32::from(over));
        let mut pools: Vec<_> = self
            .pools
            .iter()
            .map(|(name, pool)| Pool::since(name, pool, at))
            .collect();
        pools.sort_by(|one, other| one.now.name.cmp(&other.now.name));
        let told = Told {
            version: env!("CARGO_PKG_VERSION"),
            kind,
            at: now.as_secs_f64(),
            whole: !cursor.has_begun,
            over,
            written: None,
            calls: self.calls.count,
            overview: self.overview.clone(),
            processes: Processes::default(),
            more_pools: self.more_pools,
            recent: self.calls.since(cursor.calls),
            happened: self.happenings.since(cursor.happenings),
            pools,
        };
        let last = told.pools.iter().filter_map(|pool| pool.points.last());
        let next = last.map(|last| last.0.saturating_add(1)).max();
        *cursor = Cursor {
            has_begun: true,
            at: next.unwrap_or(cursor.at),
            calls: self.calls.count,
            happenings: self.happenings.count,
        };
        told
    }
}

impl Pool {
    fn since(name: &str, pool: &PoolHistory, at: u32) -> Self {
        let rest = || PoolNow {
            name: name.to_owned(),
            pace_percent: 100,
            ..PoolNow::default()
        };
        Pool {
            at_rest: pool.now.is_none(),
            now: pool.now.clone().unwrap_or_else(rest),
            points: pool
                .points
                .iter()
                .skip_while(|point| point.0 < at)
                .copied()
                .collect(),
        }
    }
}
