//! `tollhouse batch`: sends the requests of a file, within the limits.

mod anteroom;
pub(crate) mod args;
mod board;
pub(crate) mod files;
mod judge;
mod notes;
mod outlook;
mod page;
mod preflight;
mod rescue;
mod status;
mod summary;
mod terms;

use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use tokio::time::{Duration, Instant, MissedTickBehavior, interval};
use tollhouse_batch::{Batch, SentLayer, Stop, Summary};
use tollhouse_openai::{Account, OpenAi};
use tower::{Layer, ServiceExt};

use anteroom::Anteroom;
pub(crate) use args::Args;
pub(crate) use board::Board;
use files::{Outputs, Requests};
use judge::Judge;
use notes::Notes;
use page::Paged;
use preflight::{Scope, preflight};
use status::View;
use summary::Conclusion;

use crate::failure::{self, Ended, Exit};
use crate::pools::Pools;
use crate::prices::{PriceTable, Priced};
use crate::print::{Count, Counted, Span};
use crate::progress::Screen;
use crate::reload::{self, Followed};
use crate::shared::{self, Part};
use crate::signals::Signals;
use crate::wire::Watch;

const MINUTE: Duration = Duration::from_secs(60);

/// Enough to fill the slots again while some requests wait out a backoff.
const AHEAD_OF_SLOTS: usize = 2;
const LEAST_AHEAD: usize = 64;
/// Where models have pools of their own, one may have a long stretch of the file to itself:
/// so far past it others are looked for. What the lines hold in bytes is bounded besides.
const AHEAD_OF_POOLS: usize = 4_096;

/// Between two looks at how many answers a stopping run still waits for.
const COUNT_DOWN_EVERY: Duration = Duration::from_secs(1);

/// What a run works with.
struct Run {
    args: Args,
    account: Account,
    part: Part,
    pools: Pools,
    client: OpenAi,
    watch: Watch,
    board: Board,
    screen: Screen,
    errors: PathBuf,
    deadline: Option<Instant>,
    prices: Option<Priced>,
    followed: Option<Followed>,
    paged: Option<Paged>,
}

/// Runs the batch.
pub(crate) async fn run(args: Args) -> Ended {
    // Heard from the beginning: reading a long input takes its time.
    let mut signals = Signals::listen()?;
    let screen = Screen::new(args.quiet);
    let prepared = tokio::select! {
        prepared = prepare(args, screen.clone()) => prepared?,
        () = signals.next() => {
            screen.note("Interrupted before anything was sent");
            return Ok(Exit::Interrupted);
        }
    };
    let (run, input, outputs, scope) = prepared;
    run.send(input, outputs, scope, signals).await
}

async fn prepare(
    args: Args,
    screen: Screen,
) -> Result<(Run, Requests, Outputs, Scope), failure::BoxError> {
    // From the command's start: reading a long input takes its time.
    let deadline = args
        .deadline
        .and_then(|time| Instant::now().checked_add(time));
    let followed = Followed::new(args.policy.file())?;
    let (config, client) = args.policy.account_and_client(&args.client)?;
    let (account, part) = shared::join(Account::from_config(args.over(config))?)?;
    let pools = Pools::new(account.clone());
    let prices = match &args.prices {
        Some(path) => Some(Priced {
            table: PriceTable::read(path)?,
            pools: pools.clone(),
        }),
        None => None,
    };
    let errors = args.errors()?;
    let input = Requests::find(&args.input).await?;
    let mut outputs = Outputs::open(&args.output, &errors, args.retry_errors).await?;
    let again = args.retry_errors;
    let taken = rescue::take_in(args.output.file(), &errors, &mut outputs, again).await?;
    outputs.done = outputs.done.changed(args.changed.into());
    let scope = preflight(&args, &input, outputs.done.clone(), &pools).await?;
    if let (Some(prices), Some(_)) = (&prices, args.cost_limit) {
        preflight::all_have_prices(&scope.plan, &prices.table)?;
    }
    let paged = Paged::prepare(args.page, args.report.as_deref()).await?;
    if args.retry_errors {
        files::empty(&errors).await?;
    }
    let page = paged.as_ref().map(|paged| paged.page().clone());
    if let (Some(page), Some(processes)) = (&page, part.processes()) {
        page.processes(move || processes.clone().all());
    }
    let run = Run {
        watch: Watch::new(pools.clone(), MINUTE).telling(page),
        board: Board::default(),
        screen,
        errors,
        deadline,
        prices,
        followed,
        paged,
        account,
        part,
        pools,
        client,
        args,
    };
    if let Some(greeting) = run.part.greeting().await {
        run.screen.note(&greeting);
    }
    if taken > 0 {
        let taken = Counted(taken, "line");
        run.screen.remark(&format!(
            "Taking in {taken} that an earlier run could not save"
        ));
    }
    run.announce(&scope);
    Ok((run, input, outputs, scope))
}

impl Run {
    fn announce(&self, scope: &Scope) {
        // Of what earlier runs have done some may be none of this input, or have changed.
        let (errors, skipped) = (self.errors.display(), scope.plan.skipped);
        self.screen
            .remark(&format!("Failed requests go to {errors}"));
        if skipped > 0 {
            let are = if skipped == 1 { "is" } else { "are" };
            let skipped = Counted(skipped, "request");
            let failed = match scope.plan.failed {
                0 => String::new(),
                failed => format!(
                    " ({} of them failed; --retry-errors sends those again)",
                    Count(failed)
                ),
            };
            self.screen.remark(&format!(
                "Resuming: {skipped} done in earlier runs {are} skipped{failed}"
            ));
        }
        if let Some(url) = self.paged.as_ref().and_then(Paged::url) {
            self.screen.note(&format!("Page at {url}"));
        }
        let plan = &scope.plan;
        if plan.requests == 0 {
            self.screen.remark("Nothing is left to send");
            return;
        }
        for line in terms::lines(&self.pools, plan) {
            self.screen.remark(&line);
        }
        self.screen.remark(&format!(
            "{} to send, {}, {}",
            Counted(plan.requests, "request"),
            Counted(plan.tokens, "token"),
            match plan.binding {
                Some(_) => format!("in about {}", Span(plan.time)),
                None => "at once".to_owned(),
            },
        ));
    }

    async fn send(
        mut self,
        input: Requests,
        outputs: Outputs,
        scope: Scope,
        signals: Signals,
    ) -> Ended {
        let input = input.open().await?;
        let base_url = self.client.base_url().to_string();
        let notes = Notes::new(self.screen.clone(), self.errors.clone(), base_url);
        let board = self.board.clone();
        let client = self.watch.around(self.client.clone());
        let page = self.paged.as_ref();
        let page = page.map(|paged| Arc::new(paged.listener(&self.args.caller, &self.pools)));
        let shown = page.clone();
        let client = SentLayer.layer(client.map_request(move |request| {
            if let Some(page) = &shown {
                page.leaves(&request);
            }
            anteroom::leave(request)
        }));
        let caller = self.args.caller(&self.account);
        let client = self.account.layer().layer(client);
        let client = Anteroom::new(self.pools.clone()).before(client);
        let client = client.map_request(move |mut request: Request<Bytes>| {
            request.extensions_mut().insert(caller.clone());
            request
        });
        let batch = self
            .configure(Batch::new(client), &scope)
            .resume(outputs.done)
            .on_event(move |event| {
                board.hear(&event);
                notes.hear(&event);
                if let Some(page) = &page {
                    page.hear(&event);
                }
            });
        let stop = batch.stop_handle();
        let view = Arc::new(View {
            board: self.board.clone(),
            watch: self.watch.clone(),
            pools: self.pools.clone(),
            scope,
        });
        let mut paged = self.paged.take();
        if let Some(paged) = &mut paged {
            paged.serve(&view);
        }
        let (lines, failed_before) = (view.scope.plan.lines, view.scope.plan.failed);
        let progress = self.screen.show(vec![view.tell()]);
        let followed = self.followed.take();
        let follow = self.follow(followed);
        let sampling = page::follow(paged.as_ref(), &view);
        let sharing = self.part.follow(|line| self.screen.note(line));
        let running = batch.run(input, outputs.output, outputs.errors);
        let running = async {
            tokio::select! {
                ended = running => ended,
                never = follow => match never {},
                never = sampling => match never {},
                never = sharing => match never {},
            }
        };
        let ended = self.until_stopped(running, stop, signals).await;
        drop(progress);
        self.part.leave().await;
        let report = match paged {
            Some(paged) => paged.end(&view).await,
            None => Ok(()),
        };
        let ended = self.concluded(ended, failed_before, lines);
        // What became of the answers matters more.
        ended.and_then(|exit| report.map(|()| exit))
    }

    fn concluded(
        &self,
        ended: Option<Result<Summary, tollhouse_batch::Error>>,
        failed_before: u64,
        lines: u64,
    ) -> Ended {
        match ended {
            Some(Ok(summary)) => self.conclude(&summary, failed_before, lines),
            Some(Err(error)) => {
                if let Some(summary) = error.summary() {
                    self.save(&self.conclusion(summary))?;
                }
                Err(rescue::rescue(error, self.args.output.file(), &self.errors))
            }
            None => {
                let left = lines.saturating_sub(self.board.standing().done);
                self.screen
                    .note(&self.how_to_go_on("Stopped at once", left, 0));
                Ok(Exit::Interrupted)
            }
        }
    }

    /// A runner as it was asked for.
    fn configure<S>(&self, batch: Batch<S>, scope: &Scope) -> Batch<S> {
        let mut batch = batch
            .look_ahead(self.look_ahead(scope))
            .withdraw_unsent(true)
            .ordered(self.args.ordered)
            .attempts(self.account.config().defaults.retry_max_attempts)
            .answer_bytes(self.args.answer_bytes());
        let judge = Judge {
            keep_going: self.args.keep_going,
            max_told_delay: self.args.max_told_delay,
        };
        batch = batch.judge(move |failed| judge.judge(failed));
        if let Some(outage) = self.args.give_up_after {
            batch = batch.give_up_after(outage);
        }
        if let Some(at) = self.deadline {
            batch = batch.deadline(at);
        }
        if let Some(prices) = &self.prices {
            batch = batch.prices(prices.clone());
        }
        if let Some(limit) = self.args.cost_limit {
            batch = batch.cost_limit(limit);
        }
        if let Some(url) = &self.args.url {
            batch = batch.url(url.clone());
        }
        match self.args.max_failures {
            Some(share) => batch.max_failures(share),
            None => batch,
        }
    }

    fn look_ahead(&self, scope: &Scope) -> usize {
        let slots = self.pools.all().into_iter();
        let slots = slots.map(|pool| pool.config.max_concurrency);
        let slots = slots.fold(0, usize::saturating_add);
        let least = match scope.plan.pools.len() {
            0 | 1 => LEAST_AHEAD,
            _ => AHEAD_OF_POOLS,
        };
        slots.saturating_mul(AHEAD_OF_SLOTS).max(least)
    }

    /// Goes by the account's file while that changes.
    async fn follow(&self, followed: Option<Followed>) -> std::convert::Infallible {
        let read = || Ok(self.args.over(self.args.policy.account()?));
        let tell = |_, told: &str| self.screen.note(told);
        let changed = || self.pools.refresh();
        reload::follow(followed, &self.account, read, tell, changed).await
    }

    /// Runs until the end, in order at a first signal and at once at a second:
    /// then there is no result.
    async fn until_stopped<T>(
        &self,
        running: impl Future<Output = T>,
        stop: Stop,
        mut signals: Signals,
    ) -> Option<T> {
        let mut running = pin!(running);
        tokio::select! {
            ended = &mut running => return Some(ended),
            () = signals.next() => {}
        }
        stop.stop();
        self.screen
            .note("Stopping: waiting for the answers under way; Ctrl-C again stops at once");
        tokio::select! {
            ended = &mut running => Some(ended),
            () = signals.next() => None,
            never = self.count_down() => match never {},
        }
    }

    /// Says how many answers are still under way, whenever it has changed.
    async fn count_down(&self) -> std::convert::Infallible {
        let mut ticks = interval(COUNT_DOWN_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut said = None;
        loop {
            ticks.tick().await;
            let now = self.board.standing().in_flight();
            if now > 0 && said.replace(now) != Some(now) {
                let answers = Counted(now, "answer");
                self.screen.remark(&format!("  {answers} under way"));
            }
        }
    }

    fn conclusion<'a>(&'a self, summary: &'a Summary) -> Conclusion<'a> {
        Conclusion {
            summary,
            seen: self.watch.seen(),
            retries: self.board.standing().retries,
            pools: &self.pools,
            errors: &self.errors,
        }
    }

    fn save(&self, conclusion: &Conclusion<'_>) -> Result<(), failure::BoxError> {
        match &self.args.summary {
            Some(path) => conclusion.save(path),
            None => Ok(()),
        }
    }

    /// Says what the run came to.
    fn conclude(&self, summary: &Summary, failed_before: u64, lines: u64) -> Ended {
        let conclusion = self.conclusion(summary);
        self.screen.remark(&conclusion.to_string());
        self.save(&conclusion)?;
        let failed = summary.failed + failed_before;
        let ended = summary.ok + summary.failed + summary.skipped + summary.bad_lines;
        let left = lines.saturating_sub(ended);
        if let Some(reason) = &summary.gave_up {
            let at = match summary.outage.is_zero() {
                true => String::new(),
                false => format!(" on {}", self.client.base_url()),
            };
            let what = format!("Given up{at}: {reason}");
            self.screen.note(&self.how_to_go_on(&what, left, failed));
            return Ok(Exit::SomeFailed);
        }
        if summary.interrupted {
            let what = match summary.ended_by {
                Some(ended_by) => first_upper(&ended_by.to_string()),
                None => "Interrupted".to_owned(),
            };
            self.screen.note(&self.how_to_go_on(&what, left, failed));
            return Ok(Exit::Interrupted);
        }
        Ok(match (summary.bad_lines, failed) {
            (0, 0) => Exit::Done,
            (0, _) => Exit::SomeFailed,
            _ => Exit::BadInput,
        })
    }

    fn how_to_go_on(&self, what: &str, left: u64, failed: u64) -> String {
        let are_left = match left {
            1 => "1 line is left".to_owned(),
            left => format!("{} are left", Counted(left, "line")),
        };
        let again = match failed {
            0 => "",
            _ => ", and with --retry-errors it sends what failed again",
        };
        match self.args.output.file() {
            Some(_) => format!("{what}; {are_left}, the same command goes on from here{again}"),
            None => format!("{what}; {are_left}, and standard output cannot be resumed"),
        }
    }
}

fn first_upper(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(char::to_uppercase);
    first.into_iter().flatten().chain(chars).collect()
}
