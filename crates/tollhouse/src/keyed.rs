//! A gate for each key: for each model, tenant or host that a request names.
//!
//! Keys come from outside, so they are bounded: beyond
//! [`at_most`](Keyed::at_most) of them, gates that are
//! [at rest](Gate::is_at_rest) are forgotten, and where none is, further keys
//! share one gate. Nobody is refused for his key, and nobody gets more by
//! having many, or by coming to one gate now and to another then.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use crate::answer::End;
use crate::ask::Ask;
use crate::error::Refused;
use crate::gate::{Gate, Launch, Now, Pass, PassFor};

/// As many as callers may have lanes.
const AT_MOST: usize = 1_024;

/// A gate for each key, made when the key first comes; itself a gate.
///
/// # Cloning
///
/// Clones share all gates.
///
/// # Panics
///
/// It panics where the functions it was made with do; nothing is half done then. They run
/// under no lock, and `make` now and then for nothing, where a key comes twice at once.
///
/// # Examples
///
/// A budget for each model, beside the slots that all models share:
///
/// ```
/// use std::convert::Infallible;
/// use tollhouse::{ConcurrencyLayer, GateLayer, Keyed, TokenBudget, TpmBudgetLayer};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), tollhouse::Error> {
/// struct Prompt {
///     model: &'static str,
///     text: &'static str,
/// }
///
/// let budgets = Keyed::new(
///     |prompt: &Prompt| prompt.model,
///     |model: &&str| {
///         let limit = if model.contains("mini") { 200_000 } else { 30_000 };
///         let budget = TokenBudget::per_minute(limit).build().expect("valid");
///         TpmBudgetLayer::new(budget, |prompt: &Prompt| prompt.text.len() as u64)
///     },
/// );
/// let client = GateLayer::new((ConcurrencyLayer::new(3), budgets.clone()))
///     .until_response()
///     .layer(service_fn(async |_: Prompt| Ok::<_, Infallible>(())));
///
/// let text = "How deep is the sea?";
/// client.clone().oneshot(Prompt { model: "gpt-4o", text }).await?;
/// client.oneshot(Prompt { model: "gpt-4o-mini", text }).await?;
/// let level = |model| budgets.get(&model).map(|gate| gate.budget().snapshot().level);
/// assert_eq!(level("gpt-4o"), Some(29_980));
/// assert_eq!(level("gpt-4o-mini"), Some(199_980));
/// assert_eq!(level("o3"), None);
/// # Ok(())
/// # }
/// ```
pub struct Keyed<F, M, K, G> {
    key: F,
    make: M,
    at_most: usize,
    /// Locked to read, and to replace, what is open; never while anybody's code runs.
    open: Arc<Mutex<Arc<Open<K, G>>>>,
}

/// The gates that are open at some instant.
struct Open<K, G> {
    by_key: HashMap<K, Arc<Kept<G>>>,
    rest: Option<Rest<G>>,
}

/// The gate of all keys that have none of their own.
struct Rest<G> {
    kept: Arc<Kept<G>>,
    /// Who came by it since it was made.
    marks: Arc<Marks>,
}

/// A set of keys in constant memory, that may hold others beside those that it was told of.
///
/// Whoever came by the gate of the rest stays there until that is at rest: with another
/// gate beside it he would have what two may have.
struct Marks([AtomicU64; 64]);

/// A gate that is open.
struct Kept<G> {
    gate: G,
    /// How many passes it was asked for; changes under the lock alone.
    asked: AtomicU64,
    /// Each pass has one of these, from before it is made to its end.
    in_use: InUse,
}

type InUse = Arc<()>;

/// What is to be open, in place of what is.
struct Next<K, G> {
    open: Arc<Open<K, G>>,
    /// The gates that were at rest, and how often they had been asked by then.
    forgotten: Vec<(Arc<Kept<G>>, u64)>,
}

/// Which gate is a key's.
struct Found<K, G> {
    kept: Arc<Kept<G>>,
    /// Whether it is the one that is all others'.
    is_rest: bool,
    next: Option<Next<K, G>>,
}

impl<F, M, K, G> Keyed<F, M, K, G> {
    /// Gates by what `key` says of a request, each made by `make`.
    ///
    /// A gate that was forgotten is made anew where its key comes again; what is to hold
    /// for it then, `make` must say.
    pub fn new<Req>(key: F, make: M) -> Self
    where
        F: Fn(&Req) -> K,
        M: Fn(&K) -> G,
    {
        let open = Open {
            by_key: HashMap::new(),
            rest: None,
        };
        Keyed {
            key,
            make,
            at_most: AT_MOST,
            open: Arc::new(Mutex::new(Arc::new(open))),
        }
    }

    /// So many keys at once have gates of their own; 1,024 unless said. All further ones
    /// share one gate, made for the first of them, until some gate is
    /// [at rest](Gate::is_at_rest); who came by that one, until it is at rest itself. With 0,
    /// all share one.
    ///
    /// Clones that were made before keep their number.
    #[must_use]
    pub fn at_most(mut self, keys: usize) -> Self {
        self.at_most = keys;
        self
    }

    /// How many keys have a gate of their own now.
    pub fn keys(&self) -> usize {
        self.now_open().by_key.len()
    }

    /// The key's own gate, if it has one.
    ///
    /// As long as the clone is there, the built-in gates are not forgotten.
    pub fn get(&self, key: &K) -> Option<G>
    where
        K: Eq + Hash,
        G: Clone,
    {
        loop {
            let seen = self.now_open();
            let found = Found::own(seen.by_key.get(key)?);
            // In use until the clone is there.
            if let Some(_in_use) = self.take(&seen, &found, 0) {
                return Some(found.kept.gate.clone());
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Open<K, G>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_open(&self) -> Arc<Open<K, G>> {
        Arc::clone(&self.lock())
    }

    /// Marks the gate that was found as in use, and opens what is next, if all is as it was
    /// seen; what was open is dropped under no lock. `mark` is the key's among those of the
    /// rest.
    fn take(
        &self,
        seen: &Arc<Open<K, G>>,
        Found {
            kept,
            is_rest,
            next,
        }: &Found<K, G>,
        mark: u64,
    ) -> Option<InUse> {
        let mut open = self.lock();
        if !Arc::ptr_eq(&open, seen) {
            return None;
        }
        let mut replaced = None;
        if let Some(next) = next {
            let rest = open.rest.as_ref().filter(|rest| next.open.keeps(rest));
            let came_by_it = rest.is_some_and(|rest| rest.marks.has(mark));
            if (came_by_it && !is_rest) || next.forgotten.iter().any(Kept::was_asked) {
                return None;
            }
            replaced = Some(std::mem::replace(&mut *open, Arc::clone(&next.open)));
        }
        if let Some(rest) = open.rest.as_ref().filter(|_| *is_rest) {
            rest.marks.put(mark);
        }
        kept.asked.fetch_add(1, Ordering::Relaxed);
        let in_use = Arc::clone(&kept.in_use);
        drop(open);
        drop(replaced);
        Some(in_use)
    }
}

impl<F, M, K, G> Keyed<F, M, K, G>
where
    M: Fn(&K) -> G,
    K: Clone + Eq + Hash,
{
    /// The gate of a key, in use from now on.
    fn gate(&self, key: K, is_at_rest: impl Fn(&G) -> bool) -> (Arc<Kept<G>>, InUse) {
        let mut made = None;
        loop {
            let seen = self.now_open();
            // The maps that follow one another have one hasher.
            let mut mark = 0;
            let found = match seen.by_key.get(&key) {
                Some(kept) => Found::own(kept),
                None => {
                    mark = seen.by_key.hasher().hash_one(&key);
                    let make = || Arc::new(Kept::new((self.make)(&key)));
                    let made = made.get_or_insert_with(make);
                    self.open(&seen, (&key, mark), made, &is_at_rest)
                }
            };
            if let Some(in_use) = self.take(&seen, &found, mark) {
                return (found.kept, in_use);
            }
        }
    }

    /// Which gate a new key gets, and what is to be open for that.
    fn open(
        &self,
        seen: &Open<K, G>,
        (key, mark): (&K, u64),
        made: &Arc<Kept<G>>,
        is_at_rest: impl Fn(&G) -> bool,
    ) -> Found<K, G> {
        let mut forgotten = Vec::new();
        let mut stays = |kept: &Arc<Kept<G>>| {
            let asked = kept.asked.load(Ordering::Relaxed);
            let rests = Arc::strong_count(&kept.in_use) == 1 && is_at_rest(&kept.gate);
            if rests {
                forgotten.push((Arc::clone(kept), asked));
            }
            !rests
        };
        let rest = seen.rest.as_ref().filter(|rest| stays(&rest.kept)).cloned();
        if let Some(rest) = rest.as_ref().filter(|rest| rest.marks.has(mark)) {
            return Found::of_rest(rest);
        }
        let mut by_key = seen.by_key.clone();
        if by_key.len() >= self.at_most {
            by_key.retain(|_, kept| stays(kept));
        }
        let is_rest = by_key.len() >= self.at_most;
        let rest = match rest {
            Some(rest) if is_rest => return Found::of_rest(&rest),
            None if is_rest => Some(Rest::new(made)),
            rest => {
                by_key.insert(key.clone(), Arc::clone(made));
                rest
            }
        };
        let open = Arc::new(Open { by_key, rest });
        Found {
            kept: Arc::clone(made),
            is_rest,
            next: Some(Next { open, forgotten }),
        }
    }
}

impl<K, G> Found<K, G> {
    fn of_rest(rest: &Rest<G>) -> Self {
        Found {
            kept: Arc::clone(&rest.kept),
            is_rest: true,
            next: None,
        }
    }

    fn own(kept: &Arc<Kept<G>>) -> Self {
        Found {
            kept: Arc::clone(kept),
            is_rest: false,
            next: None,
        }
    }
}

impl<K, G> Open<K, G> {
    /// Whether this gate of the rest is still that.
    fn keeps(&self, rest: &Rest<G>) -> bool {
        let mine = self.rest.as_ref();
        mine.is_some_and(|mine| Arc::ptr_eq(&mine.kept, &rest.kept))
    }
}

impl<G> Rest<G> {
    fn new(kept: &Arc<Kept<G>>) -> Self {
        Rest {
            kept: Arc::clone(kept),
            marks: Arc::new(Marks::none()),
        }
    }
}

impl<G> Clone for Rest<G> {
    fn clone(&self) -> Self {
        Rest {
            kept: Arc::clone(&self.kept),
            marks: Arc::clone(&self.marks),
        }
    }
}

impl Marks {
    fn none() -> Self {
        Marks([const { AtomicU64::new(0) }; 64])
    }

    fn has(&self, mark: u64) -> bool {
        let (word, bit) = Marks::place(mark);
        self.0[word].load(Ordering::Relaxed) & bit != 0
    }

    /// Put under the lock alone.
    fn put(&self, mark: u64) {
        let (word, bit) = Marks::place(mark);
        self.0[word].fetch_or(bit, Ordering::Relaxed);
    }

    /// One of 4,096.
    fn place(mark: u64) -> (usize, u64) {
        ((mark >> 58) as usize, 1 << (mark & 63))
    }
}

impl<G> Kept<G> {
    fn new(gate: G) -> Self {
        Kept {
            gate,
            asked: AtomicU64::new(0),
            in_use: Arc::new(()),
        }
    }

    /// Whether anybody has come since it was seen at rest. Asked under the lock.
    fn was_asked((kept, asked): &(Arc<Self>, u64)) -> bool {
        kept.asked.load(Ordering::Relaxed) != *asked
    }
}

impl<Req, Res, F, M, K, G> Gate<Req, Res> for Keyed<F, M, K, G>
where
    F: Fn(&Req) -> K,
    M: Fn(&K) -> G,
    K: Clone + Eq + Hash,
    G: Gate<Req, Res>,
{
    type Pass = KeyedPass<G::Pass>;

    fn pass(&self, request: &Req) -> Self::Pass {
        let (kept, in_use) = self.gate((self.key)(request), G::is_at_rest);
        let pass = kept.gate.pass(request);
        KeyedPass { pass, in_use }
    }

    fn pass_as(&self, request: &Req, ask: Ask) -> Self::Pass {
        let (kept, in_use) = self.gate((self.key)(request), G::is_at_rest);
        let pass = kept.gate.pass_as(request, ask);
        KeyedPass { pass, in_use }
    }

    fn is_at_rest(&self) -> bool {
        let open = self.now_open();
        let rest = open.rest.as_ref().map(|rest| &rest.kept);
        let mut all = open.by_key.values().chain(rest);
        Arc::strong_count(&self.open) == 1
            && all.all(|kept| Arc::strong_count(&kept.in_use) == 1 && kept.gate.is_at_rest())
    }
}

impl<F: Clone, M: Clone, K, G> Clone for Keyed<F, M, K, G> {
    fn clone(&self) -> Self {
        Keyed {
            key: self.key.clone(),
            make: self.make.clone(),
            at_most: self.at_most,
            open: Arc::clone(&self.open),
        }
    }
}

impl<F, M, K, G> fmt::Debug for Keyed<F, M, K, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyed")
            .field("at_most", &self.at_most)
            .field("keys", &self.keys())
            .finish_non_exhaustive()
    }
}

/// The [pass](Gate::pass) of a [`Keyed`] gate: that of the key's own.
#[derive(Debug)]
pub struct KeyedPass<P> {
    pass: P,
    /// Dropped after the pass.
    #[expect(dead_code, reason = "its being there is what counts")]
    in_use: InUse,
}

impl<P: Pass> Pass for KeyedPass<P> {
    fn poll_admitted(&mut self, cx: &mut Context<'_>, now: &mut Now) -> Poll<Result<(), Refused>> {
        self.pass.poll_admitted(cx, now)
    }

    fn never(&mut self, now: &mut Now) -> Option<Refused> {
        self.pass.never(now)
    }

    fn launched(&mut self, to: Launch, now: &mut Now) {
        self.pass.launched(to, now);
    }

    fn chunk(&mut self, data: &[u8]) {
        self.pass.chunk(data);
    }

    fn ended(&mut self, end: End, now: &mut Now) {
        self.pass.ended(end, now);
    }
}

impl<Res, P: PassFor<Res>> PassFor<Res> for KeyedPass<P> {
    fn answered(&mut self, response: &Res, now: &mut Now) {
        self.pass.answered(response, now);
    }

    fn completed(&mut self, response: &Res, now: &mut Now) {
        self.pass.completed(response, now);
    }
}
