//! What a batch will take, reckoned before anything is sent.
//!
//! A plan reads the input as a run does, one line at a time, and asks for the
//! cost of each request the function that the budget will ask. So it can tell
//! how long the limits make the batch, which of them binds, and which lines
//! cost more than the budget can ever hold.
//!
//! # Examples
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tollhouse_batch::Error> {
//! use std::time::Duration;
//! use bytes::Bytes;
//! use http::Request;
//! use tollhouse_batch::{Limits, Plan};
//!
//! let line = |id| {
//!     format!(
//!         r#"{{"custom_id":"{id}","method":"POST","url":"/v1/responses","body":{{"model":"gpt-4o"}}}}"#
//!     )
//! };
//! let input = ["a", "b", "c", "a"].map(line).join("\n");
//! let limits = Limits::new()
//!     .tokens_per_minute(6_000)
//!     .stagger(Duration::from_secs(15));
//!
//! let plan = Plan::read(input.as_bytes(), |_: &Request<Bytes>| 4_000, limits).await?;
//!
//! // 12,000 tokens, of which 6,000 may go at once; 2 gaps of 15 s.
//! assert_eq!((plan.requests, plan.tokens), (3, 12_000));
//! assert_eq!(plan.time, Duration::from_secs(60));
//! assert_eq!(plan.bad_lines.first[0].line, 4);
//! println!("{plan}");
//! # Ok(())
//! # }
//! ```
//!
//! # Admission
//!
//! [`Plan::admit`] decides whether a batch may begin: a handler that takes files
//! from others refuses up front what would hold up everybody else.

mod admit;
mod limit;
mod limits;
mod pools;
mod table;
mod work;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncRead;
use tokio::time::Duration;

use crate::error::Error;
use crate::format::as_seconds;
use crate::input::line::{BadLine, Line, Problem};
use crate::input::{Input, Item, MAX_LINE_BYTES};
use crate::output::completed::Done;
use pools::Pools;

pub use admit::NotAdmitted;
pub use limit::{Allowed, Limit, LimitTime};
pub use limits::Limits;
pub use pools::{PoolPlan, Share};
pub use work::Parts;

/// Of each kind of remark a plan keeps the first so many.
const KEPT: usize = 1_000;

/// What a batch will take. `Display` is a table for people; as JSON, times are
/// in seconds.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tollhouse_batch::{Limits, Plan};
///
/// let input = "{\"model\":\"gpt-4o\",\"messages\":[]}\n".repeat(11);
/// let limits = Limits::new().tokens_per_minute(6_000);
/// let plan = Plan::read(input.as_bytes(), |_| 1_000, limits).await?;
/// assert_eq!((plan.lines, plan.requests, plan.tokens), (11, 11, 11_000));
/// assert!(plan.to_string().contains("11 lines; 11 requests to send"));
/// assert_eq!(serde_json::to_value(&plan)?["seconds"], 50.0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Plan {
    /// Lines that are not blank.
    pub lines: u64,
    /// Requests that an earlier run has answered.
    pub skipped: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// Requests that will be sent.
    pub requests: u64,
    /// What they will cost together.
    pub tokens: u64,
    /// What the largest of them will cost, in tokens.
    pub largest_cost: u64,
    /// The same by model and endpoint, in the order of their names.
    pub loads: Vec<Load>,
    /// Lines that are not requests.
    pub bad_lines: Remarks<BadLine>,
    /// Those of them that have the `custom_id` of an earlier line.
    pub duplicates: Remarks<BadLine>,
    /// Those of them that were changed since an earlier run answered them.
    pub changed: Remarks<BadLine>,
    /// Requests that take more than a limit of their pool can ever hold. They count
    /// neither as requests nor as tokens.
    pub impossible: Remarks<Impossible>,
    /// What each limit of the pool that binds would take alone, and each that all pools
    /// share.
    pub times: Vec<LimitTime>,
    /// The limit that takes longest, if any takes time at all.
    pub binding: Option<Limit>,
    /// The pool that it belongs to; none where all pools share it.
    pub bound_pool: Option<String>,
    /// What each pool has to do, by name; they go on side by side.
    pub pools: Vec<PoolPlan>,
    /// What each limit that all pools share would take alone.
    pub shared: Vec<LimitTime>,
    /// How long the binding limit makes the batch. The time that the last
    /// answers take comes on top.
    #[serde(rename = "seconds", serialize_with = "as_seconds")]
    pub time: Duration,
}

/// The requests for one model at one endpoint.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tollhouse_batch::{Limits, Plan};
///
/// let input = r#"{"model":"gpt-4o","messages":[]}
/// {"model":"gpt-4o","messages":[]}
/// {"model":"text-embedding-3-small","input":"Hi"}"#;
/// let plan = Plan::read(input.as_bytes(), |_| 10, Limits::new()).await?;
/// let chats = &plan.loads[0];
/// assert_eq!(chats.model.as_deref(), Some("gpt-4o"));
/// assert_eq!(chats.endpoint, "/v1/chat/completions");
/// assert_eq!((chats.requests, chats.tokens), (2, 20));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Load {
    /// The `model` of the bodies, if they name one.
    pub model: Option<String>,
    /// The url of the lines.
    pub endpoint: String,
    /// How many requests.
    pub requests: u64,
    /// What they will cost together.
    pub tokens: u64,
}

/// A request that can never be sent.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tollhouse_batch::{Limits, Plan};
///
/// let input = r#"{"model":"gpt-4o","messages":[]}"#;
/// let limits = Limits::new().tokens_per_minute(6_000);
/// let plan = Plan::read(input.as_bytes(), |_| 9_000, limits).await?;
/// let never = &plan.impossible.first[0];
/// assert_eq!(never.custom_id, "line-1");
/// assert_eq!((never.cost, never.limit), (9_000, 6_000));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Impossible {
    /// The number of its line, counted from 1.
    pub line: u64,
    /// Its `custom_id`.
    pub custom_id: String,
    /// The limit that it exceeds; the first of its pool's that it does.
    pub meter: Limit,
    /// What it would take of that: tokens, images.
    pub cost: u64,
    /// The most that can be admitted.
    pub limit: u64,
    /// Its pool, where the requests take from more than one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
}

/// Remarks about lines: all are counted, the first 1,000 kept.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tollhouse_batch::{Limits, Plan};
///
/// let input = "not JSON\n".repeat(2_500);
/// let plan = Plan::read(input.as_bytes(), |_| 0, Limits::new()).await?;
/// assert_eq!(plan.bad_lines.count, 2_500);
/// assert_eq!(plan.bad_lines.first.len(), 1_000);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Remarks<T> {
    /// How many there are.
    pub count: u64,
    /// The first of them.
    pub first: Vec<T>,
}

impl Plan {
    /// Plans a whole batch. The cost is in tokens, and asked of the request as
    /// it will be handed to the service.
    ///
    /// # Errors
    ///
    /// [`Error`] when the input cannot be read.
    ///
    /// # Cancellation
    ///
    /// Dropping the future only forgets what was read.
    ///
    /// # Examples
    ///
    /// The cost may look at the request, as that of a budget does:
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use bytes::Bytes;
    /// use http::Request;
    /// use tollhouse_batch::{Limits, Plan};
    ///
    /// let cost = |request: &Request<Bytes>| request.body().len() as u64 / 4;
    /// let input = r#"{"model":"gpt-4o","messages":[]}"#;
    /// let plan = Plan::read(input.as_bytes(), cost, Limits::new()).await?;
    /// assert_eq!(plan.tokens, 8);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn read<R, C>(input: R, cost: C, limits: Limits) -> Result<Self, Error>
    where
        R: AsyncRead + Unpin,
        C: Fn(&Request<Bytes>) -> u64,
    {
        Self::read_rest(input, Done::new(), cost, limits).await
    }

    /// Plans what is left of a batch after earlier runs.
    ///
    /// # Errors
    ///
    /// [`Error`] when the input cannot be read.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use tollhouse_batch::{Done, Limits, Plan};
    ///
    /// let input = "{\"model\":\"gpt-4o\",\"messages\":[]}\n".repeat(3);
    /// let output = r#"{"id":"batch_req_1","custom_id":"line-1","response":{},"error":null}"#;
    /// let mut done = Done::new();
    /// done.read(output.as_bytes()).await?;
    /// let plan = Plan::read_rest(input.as_bytes(), done, |_| 500, Limits::new()).await?;
    /// assert_eq!((plan.skipped, plan.requests, plan.tokens), (1, 2, 1_000));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn read_rest<R, C>(
        input: R,
        done: Done,
        cost: C,
        limits: Limits,
    ) -> Result<Self, Error>
    where
        R: AsyncRead + Unpin,
        C: Fn(&Request<Bytes>) -> u64,
    {
        let pool: Arc<str> = ONLY_POOL.into();
        let mut shared = Limits::new();
        shared.url.clone_from(&limits.url);
        let limits = Arc::new(limits);
        let mut tally = Tally::default();
        // Its limits are told even where nothing is sent.
        tally.pools.open(&pool, &limits);
        let share = |request: &Request<Bytes>| Share {
            pool: Arc::clone(&pool),
            limits: Arc::clone(&limits),
            cost: cost(request),
            parts: Parts::default(),
        };
        tally.read(input, done, share, shared).await
    }

    /// Plans what is left of a batch whose requests take from several pools, each with
    /// limits of its own, as those of an account do: they go on side by side, and the
    /// slowest makes the batch as long as it is. `shared` limits all of them together.
    ///
    /// # Errors
    ///
    /// [`Error`] when the input cannot be read.
    ///
    /// # Cancellation
    ///
    /// Dropping the future only forgets what was read.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::sync::Arc;
    /// use std::time::Duration;
    /// use bytes::Bytes;
    /// use http::Request;
    /// use tollhouse_batch::plan::{Limits, Parts, Plan, Share};
    /// use tollhouse_batch::Done;
    ///
    /// let of = |pool: &str, tokens| (Arc::from(pool), Arc::new(Limits::new().tokens_per_minute(tokens)));
    /// let (chats, embeddings) = (of("chats", 6_000), of("embeddings", 60_000));
    /// let share = |request: &Request<Bytes>| {
    ///     let is_embedding = request.uri().path().ends_with("/embeddings");
    ///     let (pool, limits) = if is_embedding { embeddings.clone() } else { chats.clone() };
    ///     Share { pool, limits, cost: 6_000, parts: Parts::default() }
    /// };
    /// let input = "{\"model\":\"gpt-4o\",\"messages\":[]}\n".repeat(3)
    ///     + &"{\"model\":\"text-embedding-3-small\",\"input\":\"Hi\"}\n".repeat(15);
    /// let plan = Plan::read_pools(input.as_bytes(), Done::new(), share, Limits::new()).await?;
    /// assert_eq!(plan.bound_pool.as_deref(), Some("chats"));
    /// assert_eq!(plan.time, Duration::from_secs(120));
    /// assert_eq!(plan.pools[1].time, Duration::from_secs(30));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn read_pools<R, F>(
        input: R,
        done: Done,
        share: F,
        shared: Limits,
    ) -> Result<Self, Error>
    where
        R: AsyncRead + Unpin,
        F: FnMut(&Request<Bytes>) -> Share,
    {
        Tally::default().read(input, done, share, shared).await
    }
}

/// What the pool is called where there is only one.
const ONLY_POOL: &str = "default";

/// A plan in the making.
#[derive(Default)]
struct Tally {
    lines: u64,
    skipped: u64,
    failed: u64,
    largest_cost: u64,
    loads: BTreeMap<(Option<String>, String), (u64, u64)>,
    bad_lines: Remarks<BadLine>,
    duplicates: Remarks<BadLine>,
    changed: Remarks<BadLine>,
    impossible: Remarks<Impossible>,
    pools: Pools,
}

impl Tally {
    async fn read(
        mut self,
        input: impl AsyncRead + Unpin,
        done: Done,
        mut share: impl FnMut(&Request<Bytes>) -> Share,
        shared: Limits,
    ) -> Result<Plan, Error> {
        let mut input = Input::new(input, done.into_parts(), MAX_LINE_BYTES, shared.url.clone());
        loop {
            let number = input.line_number();
            let item = input.next().await;
            match item.map_err(|source| Error::read("the input", number, source))? {
                Some(item) => self.take(item, &mut share),
                None => return Ok(self.plan(&shared)),
            }
        }
    }

    fn take(&mut self, item: Item, share: &mut impl FnMut(&Request<Bytes>) -> Share) {
        self.lines += 1;
        match item {
            Item::Answered { failed, .. } => {
                self.skipped += 1;
                self.failed += u64::from(failed);
            }
            Item::Bad(bad) => {
                match bad.problem {
                    Problem::Duplicate { .. } => self.duplicates.push(bad.clone()),
                    Problem::Changed => self.changed.push(bad.clone()),
                    _ => {}
                }
                self.bad_lines.push(bad);
            }
            Item::Request(line) => {
                let share = share(&line.request());
                let limits = self.pools.open(&share.pool, &share.limits);
                let takes = share.takes();
                match limits.forbids(&takes) {
                    Some((meter, limit)) => self.impossible.push(Impossible {
                        line: line.number,
                        custom_id: line.custom_id.to_string(),
                        meter,
                        cost: takes.of(meter),
                        limit,
                        pool: Some(share.pool.to_string()),
                    }),
                    None => self.add(&line, &share),
                }
            }
        }
    }

    fn add(&mut self, line: &Line, share: &Share) {
        let key = (model(&line.body), line.uri.to_string());
        let (requests, tokens) = self.loads.entry(key).or_default();
        *requests += 1;
        *tokens = tokens.saturating_add(share.cost);
        self.largest_cost = self.largest_cost.max(share.cost);
        self.pools.add(share);
    }

    fn plan(mut self, shared: &Limits) -> Plan {
        let loads: Vec<Load> = self.loads.into_iter().map(Load::from).collect();
        let requests = loads.iter().map(|load| load.requests).sum();
        let tokens = loads
            .iter()
            .fold(0_u64, |sum, load| sum.saturating_add(load.tokens));
        let reckoned = self.pools.reckon(shared);
        if reckoned.pools.len() == 1 {
            // One pool needs no name.
            let named = self.impossible.first.iter_mut();
            named.for_each(|impossible| impossible.pool = None);
        }
        let (binding, bound_pool) = reckoned.binding.unzip();
        let bound_pool = bound_pool.flatten();
        // Where nothing binds, one pool's limits are still worth a look.
        let is_shown = |pool: &&PoolPlan| match &bound_pool {
            Some(bound) => *bound == pool.pool,
            None => reckoned.pools.len() == 1,
        };
        let of_pool = reckoned.pools.iter().find(is_shown);
        let of_pool = of_pool.map(|pool| pool.times.clone());
        let mut times = of_pool.unwrap_or_default();
        times.extend(reckoned.shared.iter().cloned());
        Plan {
            lines: self.lines,
            skipped: self.skipped,
            failed: self.failed,
            requests,
            tokens,
            largest_cost: self.largest_cost,
            loads,
            bad_lines: self.bad_lines,
            duplicates: self.duplicates,
            changed: self.changed,
            impossible: self.impossible,
            binding,
            bound_pool,
            time: reckoned.time,
            pools: reckoned.pools,
            shared: reckoned.shared,
            times,
        }
    }
}

impl From<((Option<String>, String), (u64, u64))> for Load {
    fn from(
        ((model, endpoint), (requests, tokens)): ((Option<String>, String), (u64, u64)),
    ) -> Self {
        Self {
            model,
            endpoint,
            requests,
            tokens,
        }
    }
}

impl<T> Remarks<T> {
    fn push(&mut self, remark: T) {
        self.count += 1;
        if self.first.len() < KEPT {
            self.first.push(remark);
        }
    }
}

impl<T> Default for Remarks<T> {
    fn default() -> Self {
        Self {
            count: 0,
            first: Vec::new(),
        }
    }
}

fn model(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Named<'a> {
        #[serde(borrow)]
        model: Cow<'a, str>,
    }
    let named: Named<'_> = serde_json::from_slice(body).ok()?;
    Some(named.model.into_owned())
}
