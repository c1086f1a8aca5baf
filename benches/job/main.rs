//! The job: 600 mixed chat calls against every kind of provider, over sockets
//! and in real time.
//!
//! `cargo bench --bench job` takes five minutes once it is built, prints a
//! table and fails if a promise is not kept. `-- --quick` makes a twentieth of
//! the calls, in a quarter of a minute, and does not judge the time;
//! `-- --command` runs the rows through the command alone.
//!
//! Two of the rows go through the real `tollhouse batch`, from its start to its
//! end: a file, its plan, a process.
//!
//! *Ideal* is what the provider's own sums allow: the larger of (tokens -
//! burst) / tokens a minute and (calls - burst) / requests a minute, plus what
//! the answer of the last call takes; for fixed minutes, the fewest whole ones.

mod command;
mod load;
mod rows;
mod run;
mod verdict;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;
use tollhouse_openai::OpenAi;
use tollhouse_sim::{Report, Served, Sim};

use load::Load;
use rows::Row;
use verdict::Verdict;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<ExitCode> {
    let asked = |flag: &str| std::env::args().any(|arg| arg == flag);
    let quick = asked("--quick");
    let calls = if quick { load::CALLS / 20 } else { load::CALLS };
    // The other side has a runtime, and so a thread, of its own.
    let (ours, theirs) = (runtime()?, runtime()?);
    let kept = match asked("--command") {
        true => ours.block_on(command_alone(theirs.handle(), calls, quick))?,
        false => ours.block_on(bench(theirs.handle(), calls, quick))?,
    };
    Ok(if kept {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn runtime() -> Result<Runtime> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    Ok(runtime?)
}

/// Runs all rows at once, each against a provider of its own; says whether
/// every promise was kept.
async fn bench(theirs: &Handle, calls: usize, quick: bool) -> Result<bool> {
    let seed = 1;
    let command = command::build()?;
    announce(calls);
    let rows = rows::all(seed).into_iter();
    let mut jobs: Vec<_> = rows
        .map(|row| tokio::spawn(job(theirs.clone(), row, seed, calls)))
        .collect();
    jobs.extend(command_jobs(theirs, &command, seed, calls));
    let shared = tokio::spawn(share(theirs.clone(), rows::plain(seed), calls / 2));
    let kept = judge(jobs, quick).await?;
    let (lost, report) = shared.await??;
    Ok(kept & fair(lost, &report, quick))
}

/// Runs the rows of the command, and no others.
async fn command_alone(theirs: &Handle, calls: usize, quick: bool) -> Result<bool> {
    let command = command::build()?;
    announce(calls);
    judge(command_jobs(theirs, &command, 1, calls), quick).await
}

fn announce(calls: usize) {
    println!(
        "{calls} calls, {} tokens and {} requests a minute, headroom 0.01\n",
        rows::TOKENS_PER_MINUTE,
        rows::REQUESTS_PER_MINUTE
    );
}

type Job = JoinHandle<Result<Verdict>>;

fn command_jobs(theirs: &Handle, command: &Path, seed: u64, calls: usize) -> Vec<Job> {
    let rows = [
        ("plain, command", rows::plain(seed)),
        ("all sizes, command", rows::all_sizes(seed)),
    ];
    let start = |(name, row)| {
        let row = Row { name, ..row };
        let (theirs, command) = (theirs.clone(), command.to_owned());
        tokio::spawn(async move { by_command(theirs, &command, row, seed, calls).await })
    };
    rows.into_iter().map(start).collect()
}

/// Prints the table as its rows come in.
async fn judge(jobs: Vec<Job>, quick: bool) -> Result<bool> {
    println!("{}", Verdict::HEAD);
    let mut kept = true;
    for job in jobs {
        let mut verdict = job.await??;
        if quick {
            verdict.at_most = f64::INFINITY;
        }
        println!("{verdict}");
        kept &= verdict.misses().is_empty();
    }
    Ok(kept)
}

/// One row.
async fn job(theirs: Handle, row: Row, seed: u64, calls: usize) -> Result<Verdict> {
    let provider = Provider::start(&theirs, &row).await?;
    let load = row.load.calls(seed, calls);
    let calls = load.len();
    let outcome = run::run(&row.policy(), provider.client()?, load).await;
    Ok(Verdict::new(&row, calls, &outcome, provider.stop().await?))
}

/// One row through the command.
async fn by_command(
    theirs: Handle,
    command: &Path,
    row: Row,
    seed: u64,
    calls: usize,
) -> Result<Verdict> {
    let provider = Provider::start(&theirs, &row).await?;
    let load = row.load.calls(seed, calls);
    let outcome = command::run(command, &row, &provider.served.url(), &load).await?;
    Ok(Verdict::new(
        &row,
        load.len(),
        &outcome,
        provider.stop().await?,
    ))
}

/// Two policies that know nothing of each other, with one key; says how many
/// calls were lost, too.
async fn share(theirs: Handle, row: Row, calls: usize) -> Result<(u64, Report)> {
    let provider = Provider::start(&theirs, &row).await?;
    let (one, two) = (row.policy(), row.policy());
    let (one, two) = tokio::join!(
        run::run(&one, provider.client()?, Load::Mixed.calls(2, calls)),
        run::run(&two, provider.client()?, Load::Mixed.calls(3, calls)),
    );
    let lost = 2 * calls as u64 - one.answered - two.answered;
    Ok((lost, provider.stop().await?))
}

/// Less than 1 in 100 refused, at least 95 % used, none lost.
fn fair(lost: u64, report: &Report, quick: bool) -> bool {
    let (refused, arrived) = (report.total.rejected.total(), report.arrived);
    let used = report.total.utilisation.unwrap_or_default();
    let kept = refused * 100 < arrived && (quick || used >= 0.95) && lost == 0;
    println!(
        "\ntwo processes, one key: {refused} of {arrived} refused, {:.1} % used, {lost} lost: {}",
        used * 100.0,
        if kept {
            "kept"
        } else {
            "MISSED: less than 1 in 100, 95 %, none"
        },
    );
    kept
}

/// A simulated provider on a socket.
struct Provider {
    sim: Sim,
    served: Served,
}

impl Provider {
    async fn start(theirs: &Handle, row: &Row) -> Result<Self> {
        let sim = Sim::new(row.provider.clone())?;
        let serving = sim.clone();
        let served = theirs.spawn(async move { serving.spawn("127.0.0.1:0").await });
        Ok(Provider {
            sim,
            served: served.await??,
        })
    }

    fn client(&self) -> Result<OpenAi> {
        let client = OpenAi::builder().base_url(self.served.url());
        Ok(client.api_key("sk-simulated").build()?)
    }

    async fn stop(self) -> Result<Report> {
        self.served.shutdown().await?;
        Ok(self.sim.report())
    }
}
