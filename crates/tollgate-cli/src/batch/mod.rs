//! `tollgate batch`: sends the requests of a file, within the limits.

mod board;
pub(crate) mod files;
mod notes;
mod outlook;
mod summary;

use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;

use tokio::time::Duration;
use tollgate_batch::{Batch, Done, SentLayer, Stop, Summary};
use tollgate_openai::{OpenAi, Policy};
use tower::Layer;

use crate::failure::{self, BoxError, Ended, Exit};
use crate::plan::{plan, tokens_a_minute};
use crate::policy_args::{ClientArgs, PolicyArgs};
use crate::print::{Count, Percent, Span, counted};
use crate::progress::{Screen, Status, Tell};
use crate::signals::Signals;
use crate::wire::{Seen, Watch};
pub(crate) use board::Board;
use board::Standing;
use files::{Input, Outputs, Place};
use notes::Notes;
use outlook::Outlook;
use summary::Conclusion;

const MINUTE: Duration = Duration::from_secs(60);

/// Enough to fill the slots again while some requests wait out a backoff.
const AHEAD_OF_SLOTS: usize = 2;
const LEAST_AHEAD: usize = 64;

/// Send the requests of a file, within the limits, and write the answers as they come
///
/// Input and output are in the form of the OpenAI Batch API. A run that was
/// interrupted or killed goes on when the same command is given again: what
/// the output or the errors file holds is not sent again.
///
/// Ctrl-C sends nothing more and waits for the answers under way; a second one
/// stops at once.
///
/// Exit code: 0 all answered, 1 some failed (also in an earlier run), 2 some
/// lines are no requests, 130 interrupted.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Requests in the form of the OpenAI Batch API, `-` for standard input
    #[arg(value_name = "IN.jsonl")]
    input: Place,

    /// Where answers go, `-` for standard output
    #[arg(short, long, value_name = "OUT.jsonl")]
    output: Place,

    /// Where failed requests go [default: OUT.errors.jsonl]
    #[arg(long, value_name = "ERR.jsonl")]
    errors: Option<PathBuf>,

    /// Send again what failed in an earlier run
    #[arg(long)]
    retry_errors: bool,

    /// Show neither progress nor summary
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    client: ClientArgs,

    #[command(flatten)]
    policy: PolicyArgs,
}

/// What a run works with.
struct Run {
    policy: Policy,
    client: OpenAi,
    watch: Watch,
    board: Board,
    screen: Screen,
    /// What is said of it: `None` for standard output.
    output: Option<PathBuf>,
    errors: PathBuf,
}

/// Runs the batch.
pub(crate) async fn run(args: Args) -> Ended {
    let (policy, client) = args.policy.account(&args.client)?;
    let errors = args.errors()?;
    let input = Input::open(&args.input).await?;
    let outputs = Outputs::open(&args.output, &errors, args.retry_errors).await?;
    let run = Run {
        watch: Watch::new(policy.charge(), MINUTE),
        board: Board::default(),
        screen: Screen::new(args.quiet),
        output: args.output.file().map(PathBuf::from),
        errors,
        policy,
        client,
    };
    run.announce(&outputs);
    let outlook = run.look_ahead(&args.input, outputs.done.clone()).await?;
    run.send(input, outputs, outlook).await
}

impl Args {
    /// The errors file, which must be neither of the other two.
    fn errors(&self) -> Result<PathBuf, BoxError> {
        let errors = match (&self.errors, self.output.file()) {
            (Some(errors), _) => errors.clone(),
            (None, Some(output)) => files::errors_beside(output),
            (None, None) => {
                return Err(failure::error(
                    "--errors is missing: with --output - it must name a file for failed requests",
                ));
            }
        };
        let input = ("IN.jsonl", self.input.file());
        let output = ("--output", self.output.file());
        for (name, path) in [input, output] {
            if let Some(path) = path.filter(|path| files::is_same_file(path, &errors)) {
                let path = path.display();
                return Err(failure::error(format!(
                    "--errors and {name} are both {path}; they must be different files"
                )));
            }
        }
        Ok(errors)
    }
}

impl Run {
    fn announce(&self, outputs: &Outputs) {
        let (errors, known) = (self.errors.display(), outputs.done.len() as u64);
        self.screen
            .remark(&format!("Failed requests go to {errors}"));
        if known > 0 {
            let known = counted(known, "request");
            let failed = match outputs.failed_before {
                0 => String::new(),
                failed => format!(
                    " ({} of them failed; --retry-errors sends those again)",
                    Count(failed)
                ),
            };
            self.screen.remark(&format!(
                "Resuming: {known} done in earlier runs are skipped{failed}"
            ));
        }
    }

    /// Reads a file of requests beforehand, to know how much is to be done.
    async fn look_ahead(&self, input: &Place, done: Done) -> Result<Option<Scope>, BoxError> {
        let Some(path) = input.file().filter(|path| path.is_file()) else {
            return Ok(None);
        };
        let input = Input::open(&Place::File(path.to_owned())).await?;
        let plan = plan(input, done, &self.policy, None).await?;
        self.screen.remark(&format!(
            "{} to send, {}, {}",
            counted(plan.requests, "request"),
            counted(plan.tokens, "token"),
            match plan.binding {
                Some(_) => format!("in about {}", Span(plan.time)),
                None => "at once".to_owned(),
            },
        ));
        Ok(Some(Scope {
            lines: plan.lines,
            outlook: Outlook::new(&plan, self.policy.clone()),
        }))
    }

    async fn send(self, input: Input, outputs: Outputs, scope: Option<Scope>) -> Ended {
        let signals = Signals::listen()?;
        let notes = Notes::new(self.screen.clone(), self.errors.clone());
        let board = self.board.clone();
        let service = SentLayer.layer(self.watch.around(self.client.clone()));
        let slots = self.policy.get_max_concurrency();
        let batch = Batch::new(self.policy.layer().layer(service))
            .look_ahead(slots.saturating_mul(AHEAD_OF_SLOTS).max(LEAST_AHEAD))
            .withdraw_unsent(true)
            .resume(outputs.done)
            .on_event(move |event| {
                board.hear(&event);
                notes.hear(&event);
            });
        let stop = batch.stop_handle();
        let progress = self.screen.show(vec![self.tell(scope)]);
        let running = batch.run(input, outputs.output, outputs.errors);
        let ended = until_stopped(running, stop, signals, &self.screen).await;
        drop(progress);
        match ended {
            Some(summary) => {
                let summary = summary.map_err(summary::rescue)?;
                Ok(self.conclude(&summary, outputs.failed_before))
            }
            None => {
                self.screen.note(&self.how_to_go_on("Stopped at once"));
                Ok(Exit::Interrupted)
            }
        }
    }

    /// Says what the run came to.
    fn conclude(&self, summary: &Summary, failed_before: u64) -> Exit {
        let told = Conclusion {
            summary,
            seen: self.watch.seen(),
            retries: self.board.standing().retries,
            policy: &self.policy,
            errors: &self.errors,
        };
        self.screen.remark(&told.to_string());
        if summary.interrupted {
            self.screen.note(&self.how_to_go_on("Interrupted"));
            return Exit::Interrupted;
        }
        match (summary.bad_lines, summary.failed + failed_before) {
            (0, 0) => Exit::Done,
            (0, _) => Exit::SomeFailed,
            _ => Exit::BadInput,
        }
    }

    fn how_to_go_on(&self, what: &str) -> String {
        match &self.output {
            Some(_) => format!("{what}; the same command goes on from here"),
            None => format!("{what}; standard output cannot be resumed"),
        }
    }

    fn tell(&self, scope: Option<Scope>) -> Tell {
        let (board, watch, policy) = (self.board.clone(), self.watch.clone(), self.policy.clone());
        Box::new(move || {
            let now = board.standing();
            let mut details = details(&now, &watch.seen(), &policy);
            if let Some(scope) = &scope {
                details += &format!("  {} left", Span(scope.outlook.remaining(&now)));
            }
            Status {
                name: String::new(),
                done: now.done,
                total: scope.as_ref().map(|scope| scope.lines),
                details,
            }
        })
    }
}

fn details(now: &Standing, seen: &Seen, policy: &Policy) -> String {
    let allowed = tokens_a_minute(policy);
    let share = seen.tokens_this_minute as f64 / allowed as f64;
    let mut details = format!(
        "{} of {} tokens/min ({})  {} in flight  {} waiting  {} retries  {} 429s",
        Count(seen.tokens_this_minute),
        Count(allowed),
        Percent(share),
        now.in_flight(),
        now.waiting(),
        now.retries,
        seen.rejected,
    );
    if now.failed > 0 {
        details += &format!("  {} failed", Count(now.failed));
    }
    details
}

/// How much there is to be done.
struct Scope {
    lines: u64,
    outlook: Outlook,
}

/// Runs until the end, in order at a first signal and at once at a second:
/// then there is no result.
async fn until_stopped<T>(
    running: impl Future<Output = T>,
    stop: Stop,
    mut signals: Signals,
    screen: &Screen,
) -> Option<T> {
    let mut running = pin!(running);
    tokio::select! {
        ended = &mut running => return Some(ended),
        () = signals.next() => {}
    }
    stop.stop();
    screen.note("Stopping: waiting for the answers under way; Ctrl-C again stops at once");
    tokio::select! {
        ended = &mut running => Some(ended),
        () = signals.next() => None,
    }
}
