//! What reports for a process, and brings it what it is granted.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::sleep_until;

use super::books::{Exchanged, lease_of};
use super::member::{Pools, Reported};
use super::part::{Inner, Phase};
use super::{Away, Grant, Report, Seen, SharedLedger, Stamp};
use crate::charge::Per;
use crate::rules::{Bucket, Random, When};
use crate::telemetry;
use crate::time::{Moment, Now, Suspension};

const SECOND: Duration = Duration::from_secs(1);

/// How often one reports that has nothing to do.
const QUIET: Duration = SECOND;

/// A busy process reports so many times a second, in the mean; and three times at once at most,
/// the last of them only where there is something to tell or to hear that cannot wait.
const A_SECOND: u32 = 4;
const AT_ONCE: u64 = 3;

/// All processes together report so many times a second, unless they are more than that: what a
/// report costs the ledger grows with how many they are.
const IN_ALL: u32 = 200;

/// How long an answer is waited for. A ledger of one's own gives up sooner.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a process waits for a first answer, and for one after a pause, before it falls
/// back.
const GRACE: Duration = Duration::from_millis(100);

/// Reports for a process to the shared ledger, as long as it is polled: spawn it.
///
/// Made by [`Sharing::new`](super::Sharing::new). It ends when the process has
/// [left](super::Sharing::leave), or when nobody uses its `Sharing` or a pool under it any
/// more.
///
/// # Cancellation
///
/// Dropped before its end, all pools under it fall back at once, for good.
#[must_use = "futures do nothing unless polled"]
pub struct Agent {
    work: Pin<Box<dyn Future<Output = ()> + Send>>,
    inner: Arc<Inner>,
}

impl Agent {
    pub(super) fn new<L: SharedLedger>(ledger: L, inner: Arc<Inner>) -> Self {
        let work = Box::pin(Work::new(ledger, Arc::clone(&inner)).run());
        Agent { work, inner }
    }
}

impl Future for Agent {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.work.as_mut().poll(cx)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let is_over = self.inner.lock().phase == Phase::Left;
        if !is_over {
            fall_back(&self.inner, &Away::because("its agent was dropped"));
        }
        self.inner.left.notify_waiters();
    }
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent").finish_non_exhaustive()
    }
}

/// Why it woke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Woken {
    /// The instant has come.
    Time,
    /// Somebody lacks something, or tells something that cannot wait, or leaves.
    Bell,
    /// Another process told something.
    News,
}

struct Work<L> {
    ledger: L,
    inner: Arc<Inner>,
    number: u64,
    received: u64,
    seen: Option<Seen>,
    /// The ledger's clock, and when it was told.
    clock: Option<(Stamp, Moment)>,
    /// One is in it for each report that may be sent.
    pace: Bucket,
    random: Random,
    suspension: Suspension,
    /// Where nobody has answered since, this is waited for, however old the lease is.
    grace: Moment,
    is_busy: bool,
}

impl<L: SharedLedger> Work<L> {
    fn new(ledger: L, inner: Arc<Inner>) -> Self {
        let now = Now::unread().get();
        Work {
            ledger,
            inner,
            number: 0,
            received: 0,
            seen: None,
            clock: None,
            pace: Bucket::new(A_SECOND.into(), Per::Second, AT_ONCE, now),
            random: Random::from_entropy(),
            suspension: Suspension::default(),
            grace: Moment::NEVER,
            is_busy: false,
        }
    }

    /// How many reports a second are this process's part, at least one.
    fn reports_a_second(&self) -> u32 {
        let processes = self.inner.lock().processes.unwrap_or(1);
        (IN_ALL / processes.max(1)).clamp(1, A_SECOND)
    }

    async fn run(mut self) {
        self.grace = Now::unread().get() + GRACE;
        let mut due = Now::unread().get();
        while !self.is_over() {
            self.wait(due).await;
            if self.is_over() {
                break;
            }
            let sent = Now::unread().get();
            let most = self.reports_a_second();
            self.pace.resize(most.into(), AT_ONCE, sent);
            self.pace.spend(1, sent);
            self.inner.has_word.store(false, Ordering::Relaxed);
            let is_urgent = self.exchange(sent, false).await;
            let is_up = matches!(self.inner.lock().phase, Phase::Up(_));
            telemetry::shared_ledger(is_up);
            due = match is_urgent {
                true => sent,
                false => sent + self.interval(),
            };
        }
        self.leave().await;
    }

    /// Whether everything has been reported that ever will be.
    fn is_over(&self) -> bool {
        // Pools have it, too, by their bell.
        let users = Arc::strong_count(&self.inner) - 2;
        users == 0 || self.inner.lock().is_leaving
    }

    /// Until the next report; a little less at random, so that processes that began at once
    /// do not come at once for ever.
    fn interval(&mut self) -> Duration {
        let interval = match self.is_busy {
            true => SECOND / self.reports_a_second(),
            false => QUIET,
        };
        interval.mul_f64(1.0 - 0.1 * self.random.fraction())
    }

    /// Waits until it is time to report, falling back meanwhile where the lease ends.
    async fn wait(&mut self, due: Moment) {
        let (mut due, mut has_news) = (due, false);
        loop {
            let now = Now::unread().get();
            let is_urgent = has_news || self.inner.has_word.load(Ordering::Relaxed);
            let may = match self.pace.when(if is_urgent { 1 } else { 2 }, now) {
                When::At(at) => at,
                _ => now,
            };
            let next = due.max(may);
            self.notice_a_pause(now);
            let ends = self.falls_back_at();
            if next <= now {
                return;
            }
            match self.sleep(next.min(ends)).await {
                // It may be sooner now than it was.
                Woken::Bell => due = now,
                Woken::News => (due, has_news) = (now, true),
                Woken::Time => {
                    // Why it was silent until now is known better, perhaps.
                    let why = self.inner.lock().why.clone();
                    self.fall_back_if_due(&why.unwrap_or_else(silent));
                }
            }
            if self.is_over() {
                return;
            }
        }
    }

    async fn sleep(&self, until: Moment) -> Woken {
        let mut timer = pin!(sleep_until(until.into()));
        let mut bell = pin!(self.inner.bell.notified());
        let mut news = pin!(self.ledger.news());
        poll_fn(|cx| {
            if bell.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Woken::Bell);
            }
            if news.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Woken::News);
            }
            timer.as_mut().poll(cx).map(|()| Woken::Time)
        })
        .await
    }

    /// A machine that slept, by which no clock but the wall's has gone on, has no lease any
    /// more.
    fn notice_a_pause(&mut self, now: Moment) {
        let was_suspended = self.suspension.was_noticed();
        let phase = self.inner.lock().phase;
        let Phase::Up(until) = phase else { return };
        if was_suspended {
            self.inner.enter(Phase::Up(now), None, None);
            for member in self.inner.members() {
                member.go_alone(None);
            }
        }
        // Once for each lease: where it is woken again and again, it would ask for ever.
        let has_ended = until <= now && self.grace <= until;
        if was_suspended || has_ended {
            // It may be there all the same: ask first.
            self.grace = now + GRACE;
        }
    }

    /// When the process goes on alone, unless a grant comes.
    fn falls_back_at(&self) -> Moment {
        match self.inner.lock().phase {
            Phase::Beginning => self.grace,
            Phase::Up(until) => until.max(self.grace),
            Phase::Away(_) | Phase::Left => Moment::NEVER,
        }
    }

    fn fall_back_if_due(&self, why: &Away) {
        if self.falls_back_at() <= Now::unread().get() {
            fall_back(&self.inner, why);
        }
    }

    /// One report against one grant; says whether the next one is due at once.
    async fn exchange(&mut self, sent: Moment, leaving: bool) -> bool {
        self.number += 1;
        let report = self.report(sent, leaving);
        let answer = self.ask(&report, sent + PATIENCE).await;
        let came = Now::unread().get();
        match answer {
            Ok(grant) => {
                let when = Exchanged {
                    sent,
                    came,
                    processes: grant.processes,
                    learning: grant.learning,
                };
                self.take_in(&report, &grant, when)
            }
            Err(why) => {
                tracing::debug!(%why, "the shared ledger did not answer");
                self.inner.lock().why = Some(why.clone());
                self.fall_back_if_due(&why);
                // Tried again as if it was busy.
                self.is_busy = true;
                false
            }
        }
    }

    /// Asks the ledger, and falls back while it is silent where the lease ends.
    async fn ask(&self, report: &Report, until: Moment) -> Result<Grant, Away> {
        let mut answer = pin!(self.ledger.exchange(report));
        loop {
            let next = until.min(self.falls_back_at());
            let mut timer = pin!(sleep_until(next.into()));
            let answered = poll_fn(|cx| match answer.as_mut().poll(cx) {
                Poll::Ready(answer) => Poll::Ready(Some(answer)),
                Poll::Pending => timer.as_mut().poll(cx).map(|()| None),
            });
            if let Some(answer) = answered.await {
                return answer;
            }
            let silent = silent();
            self.fall_back_if_due(&silent);
            if until <= Now::unread().get() {
                return Err(silent);
            }
        }
    }

    fn report(&mut self, sent: Moment, leaving: bool) -> Report {
        let members = self.inner.members();
        let now = &mut Now::at(sent);
        let mut all = Pools::default();
        let mut reports = Vec::new();
        self.is_busy = false;
        let (pools, account): (Vec<_>, Vec<_>) = members.iter().partition(|it| it.name().is_some());
        for member in pools.into_iter().chain(account) {
            let Reported {
                report,
                is_busy,
                pools,
            } = member.report(&all, now);
            reports.extend(report);
            self.is_busy |= is_busy;
            all.waiting += pools.waiting;
            all.weight = all.weight.saturating_add(pools.weight);
        }
        Report {
            process: self.inner.process,
            number: self.number,
            received: self.received,
            seen: self.seen,
            expires: self
                .clock
                .map(|(at, told)| at.after((sent - told) + PATIENCE)),
            leaving,
            pools: reports,
        }
    }

    fn take_in(&mut self, report: &Report, grant: &Grant, when: Exchanged) -> bool {
        let is_first = self.seen.is_none();
        let is_another = self.seen.is_some_and(|seen| seen.life != grant.life);
        self.clock = Some((grant.at, when.came));
        self.seen = Some(Seen {
            life: grant.life,
            answered: grant.answered,
        });
        let members = self.inner.members();
        if is_another {
            members.iter().for_each(|member| member.begin_anew());
        }
        if !grant.taken {
            return true;
        }
        self.received = report.number;
        let until = lease_of(grant, when.sent);
        let was_away = !matches!(self.inner.lock().phase, Phase::Up(_));
        if was_away {
            tracing::info!(
                processes = grant.processes,
                "spending from the shared ledger"
            );
        }
        self.inner
            .enter(Phase::Up(until), None, Some(grant.processes));
        for member in &members {
            let mut grants = grant.pools.iter();
            let mine = grants.find(|it| it.name.as_ref() == member.name());
            member.renew(mine, when, until);
        }
        is_first
    }

    /// Tells the others that what is left is theirs.
    async fn leave(&mut self) {
        self.inner.enter(Phase::Left, None, None);
        self.inner.tell_all();
        let sent = Now::unread().get();
        self.number += 1;
        let report = self.report(sent, true);
        let told = self.ask(&report, sent + PATIENCE).await;
        if let Err(why) = told {
            tracing::debug!(%why, "left the shared ledger without a word");
        }
        self.inner.left.notify_waiters();
    }
}

fn silent() -> Away {
    Away::because("no answer in time")
}

/// The lease is over, or there never was one.
fn fall_back(inner: &Inner, why: &Away) {
    let (share, processes) = inner.share();
    inner.enter(Phase::Away(share), Some(why.clone()), None);
    telemetry::shared_ledger(false);
    tracing::warn!(
        %why,
        fallback = ?inner.fallback,
        processes,
        "going on without the shared ledger"
    );
    inner.tell_all();
}
