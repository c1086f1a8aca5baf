//! Start-time fair queueing once more, as the design describes it and as plainly as can
//! be: every question looks at all who wait. Knows nothing of the lanes.

use super::fraction::Fraction;

/// What has passed a head comes to at most so many times its own cost.
const PASSING: i128 = 4;

/// One that waits. Times are in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    id: usize,
    tokens: u64,
    arrival: u64,
}

#[derive(Clone, Debug)]
struct Caller {
    weight: u64,
    start: Fraction,
    /// By first arrival.
    line: Vec<Waiting>,
    /// What has passed its firsts, since one of them was let in.
    passed: Fraction,
    /// By how much those may be passed who stood first and stand behind another now.
    most: Option<Fraction>,
    /// Whether it was the head's since then.
    leads: bool,
}

impl Caller {
    /// Nothing has passed its first.
    fn forgive(&mut self) {
        self.passed = Fraction::ZERO;
        self.most = None;
        self.leads = false;
    }
}

/// By what a launch moved its caller's tag, and at which weight.
#[derive(Clone, Copy, Debug)]
struct Tagged {
    id: usize,
    caller: usize,
    weight: u64,
    cost: Fraction,
}

/// What a request costs: the time in which what it takes of the scarcest thing refills.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prices {
    pub(super) tokens_per_minute: u64,
    pub(super) requests_per_minute: Option<u64>,
    /// In milliseconds.
    pub(super) interval: u64,
}

impl Prices {
    /// In seconds.
    fn of(&self, tokens: u64) -> Fraction {
        let meter = |amount: u64, limit: u64| Fraction::of(i128::from(60 * amount), limit.into());
        let requests = self.requests_per_minute.map(|limit| meter(1, limit));
        let interval = Fraction::of(self.interval.into(), 1_000);
        let tokens = meter(tokens, self.tokens_per_minute);
        tokens.max(interval).max(requests.unwrap_or(Fraction::ZERO))
    }
}

/// Who may be launched next, and what has been.
#[derive(Clone, Debug)]
pub(super) struct Oracle {
    prices: Prices,
    callers: Vec<Caller>,
    virtual_time: Fraction,
    flying: Vec<Tagged>,
}

/// The house reckons in picoseconds: what is nearer than this may go either way.
fn is_close(a: Fraction, b: Fraction) -> bool {
    (a - b).abs() < Fraction::of(1, 1_000_000_000)
}

impl Oracle {
    pub(super) fn new(prices: Prices, weights: &[u32]) -> Self {
        let caller = |weight: &u32| Caller {
            weight: (*weight).into(),
            start: Fraction::ZERO,
            line: Vec::new(),
            passed: Fraction::ZERO,
            most: None,
            leads: false,
        };
        Oracle {
            prices,
            callers: weights.iter().map(caller).collect(),
            virtual_time: Fraction::ZERO,
            flying: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.callers.iter().all(|caller| caller.line.is_empty())
    }

    /// One stands in line, at the place of its first arrival.
    pub(super) fn join(&mut self, id: usize, caller: usize, tokens: u64, arrival: u64) {
        let virtual_time = self.virtual_time;
        let most = self.is_waiting(caller).then(|| self.most_may_pass(caller));
        let caller = &mut self.callers[caller];
        if caller.line.is_empty() {
            caller.start = caller.start.max(virtual_time);
        }
        let place = caller.line.partition_point(|it| it.arrival <= arrival);
        let waiting = Waiting {
            id,
            tokens,
            arrival,
        };
        caller.line.insert(place, waiting);
        if place == 0 {
            caller.most = most;
        }
        self.follow();
    }

    /// One leaves the line, for whatever reason.
    pub(super) fn leave(&mut self, id: usize) {
        for caller in &mut self.callers {
            let place = caller.line.iter().position(|it| it.id == id);
            if let Some(place) = place {
                caller.line.remove(place);
                if caller.line.is_empty() {
                    caller.forgive();
                }
            }
        }
        self.follow();
    }

    pub(super) fn weigh(&mut self, caller: usize, weight: u32) {
        self.callers[caller].weight = weight.into();
    }

    pub(super) fn set_prices(&mut self, prices: Prices) {
        self.prices = prices;
    }

    /// Lets in one of those who stand in line, if it may be its turn.
    pub(super) fn launch(&mut self, id: usize) -> Result<(), String> {
        let head = self.leader().ok_or("nobody waits")?;
        let is_first = |n: &usize| self.first(*n).is_some_and(|first| first.id == id);
        let who = (0..self.callers.len()).find(is_first);
        let who = who.ok_or_else(|| format!("{id} is nobody's first"))?;
        let (start, least) = (self.callers[who].start, self.callers[head].start);
        let may_pass = who != head && self.may_pass(who, head, true);
        // Of tags that are the same the house may have rounded one.
        let is_head = who == head || (is_close(start, least) && (start != least || !may_pass));
        if !is_head && !may_pass {
            let first = self.first(head);
            return Err(format!("{id} is out of turn: {first:?} is first"));
        }
        let cost = self.cost(who);
        if !is_head {
            for head in self.heads_before(who) {
                let ahead = &mut self.callers[head];
                ahead.passed = ahead.passed + cost;
            }
        }
        let caller = &mut self.callers[who];
        caller.forgive();
        let weight = caller.weight;
        caller.start = caller.start + cost.over(weight);
        self.flying.push(Tagged {
            id,
            caller: who,
            weight,
            cost,
        });
        self.leave(id);
        Ok(())
    }

    /// One that was let in is over, and of its charge so many tokens stand; nothing at all
    /// where it was never sent.
    pub(super) fn land(&mut self, id: usize, reserved: u64, stands: Option<u64>) {
        let Some(place) = self.flying.iter().position(|it| it.id == id) else {
            return; // It was let in while nobody waited.
        };
        let tagged = self.flying.swap_remove(place);
        let share = stands.map(|stands| self.share(stands, reserved));
        let stays = tagged.cost * share.unwrap_or(Fraction::ZERO);
        let caller = &mut self.callers[tagged.caller];
        caller.start = caller.start - (tagged.cost - stays).over(tagged.weight);
        self.follow();
    }

    /// Whose turn it is, and what it is charged.
    pub(super) fn head(&self) -> Option<(usize, u64)> {
        let first = self.first(self.leader()?)?;
        Some((first.id, first.tokens))
    }

    /// Who may surely go before the head as long as that waits.
    pub(super) fn passer(&self) -> Option<(usize, u64)> {
        let leader = self.leader()?;
        let passes = |n: &usize| *n != leader && self.may_pass(*n, leader, false);
        let mut waiting = (0..self.callers.len()).filter(|n| self.is_waiting(*n));
        let first = self.first(waiting.find(passes)?)?;
        Some((first.id, first.tokens))
    }

    /// Whether another one's tag is so near the head's that either may be the head.
    pub(super) fn is_close_call(&self) -> bool {
        let Some(leader) = self.leader() else {
            return false;
        };
        let least = self.callers[leader].start;
        let mut others = (0..self.callers.len()).filter(|n| *n != leader && self.is_waiting(*n));
        others.any(|n| is_close(self.callers[n].start, least))
    }

    /// By the prices of today.
    fn share(&self, part: u64, whole: u64) -> Fraction {
        self.prices.of(part) * self.prices.of(whole).inverse()
    }

    fn first(&self, caller: usize) -> Option<Waiting> {
        self.callers[caller].line.first().copied()
    }

    fn cost(&self, caller: usize) -> Fraction {
        let first = self.first(caller);
        self.prices.of(first.expect("it waits").tokens)
    }

    fn finish(&self, caller: usize) -> Fraction {
        let Caller { start, weight, .. } = self.callers[caller];
        start + self.cost(caller).over(weight)
    }

    fn is_waiting(&self, caller: usize) -> bool {
        !self.callers[caller].line.is_empty()
    }

    /// Whose the head is: of the least tag, and among equal ones who came first.
    fn leader(&self) -> Option<usize> {
        let waiting = (0..self.callers.len()).filter(|n| self.is_waiting(*n));
        waiting.min_by_key(|n| {
            let Caller {
                start, ref line, ..
            } = self.callers[*n];
            (start, line[0].arrival)
        })
    }

    /// Whether this one's first may go before the head: it would be over before all
    /// others, and not too much has passed the head. Where it is too close to tell, the
    /// answer is `doubt`.
    fn may_pass(&self, who: usize, head: usize, doubt: bool) -> bool {
        let is_less = |a: Fraction, b: Fraction| match is_close(a, b) {
            true => doubt,
            false => a < b,
        };
        let finish = self.finish(who);
        let mut others = (0..self.callers.len()).filter(|n| *n != who && self.is_waiting(*n));
        let is_first = others.all(|n| is_less(finish, self.finish(n)));
        let fits =
            |head: &usize| self.callers[*head].passed + self.cost(who) <= self.most_may_pass(*head);
        is_first && fits(&head) && self.heads_before(who).iter().all(fits)
    }

    /// By how much this one's first may be passed.
    fn most_may_pass(&self, caller: usize) -> Fraction {
        let most = self.cost(caller) * Fraction::of(PASSING, 1);
        let before = self.callers[caller].most;
        before.map_or(most, |before| if before < most { before } else { most })
    }

    /// Whose the head was, and who stand before this one still.
    fn heads_before(&self, who: usize) -> Vec<usize> {
        let rank = |n: usize| (self.callers[n].start, self.callers[n].line[0].arrival);
        let heads = (0..self.callers.len()).filter(|n| *n != who && self.callers[*n].leads);
        heads.filter(|head| rank(*head) < rank(who)).collect()
    }

    /// The virtual time follows the head, and all where nobody waits.
    fn follow(&mut self) {
        let latest = match self.leader() {
            Some(head) => {
                self.callers[head].leads = true;
                self.callers[head].start
            }
            None => {
                let starts = self.callers.iter().map(|caller| caller.start);
                starts.max().unwrap_or(Fraction::ZERO)
            }
        };
        self.virtual_time = self.virtual_time.max(latest);
    }
}
