//! The job: 600 mixed chat calls against every kind of provider, over sockets
//! and in real time.
//!
//! `cargo bench --bench job` takes five minutes once it is built, prints a
//! table and fails if a promise is not kept. `-- --quick` makes a twentieth of
//! the calls, in a quarter of a minute, and does not judge the time.
//!
//! *Ideal* is what the provider's own sums allow: the larger of (tokens -
//! burst) / tokens a minute and (calls - burst) / requests a minute, plus what
//! an answer takes on average; for fixed minutes, the fewest whole ones.

mod load;
mod rows;
mod run;
mod verdict;

use std::error::Error;
use std::process::ExitCode;

use tokio::runtime::{Builder, Handle, Runtime};
use tollgate_openai::OpenAi;
use tollgate_sim::{Report, Served, Sim};

use rows::Row;
use verdict::Verdict;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Result<ExitCode> {
    let quick = std::env::args().any(|arg| arg == "--quick");
    let calls = if quick { load::CALLS / 20 } else { load::CALLS };
    // The other side has a runtime, and so a thread, of its own.
    let (ours, theirs) = (runtime()?, runtime()?);
    let kept = ours.block_on(bench(theirs.handle(), calls, quick))?;
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
    println!(
        "{calls} calls, {} tokens and {} requests a minute, headroom 0.01\n",
        rows::TOKENS_PER_MINUTE,
        rows::REQUESTS_PER_MINUTE
    );
    let jobs: Vec<_> = rows::all(seed)
        .into_iter()
        .map(|row| tokio::spawn(job(theirs.clone(), row, seed, calls)))
        .collect();
    let shared = tokio::spawn(share(theirs.clone(), rows::plain(seed), calls / 2));
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
    let (lost, report) = shared.await??;
    kept &= fair(lost, &report, quick);
    Ok(kept)
}

/// One row.
async fn job(theirs: Handle, row: Row, seed: u64, calls: usize) -> Result<Verdict> {
    let provider = Provider::start(&theirs, &row).await?;
    let load = load::calls(seed, calls);
    let outcome = run::run(&row.policy(), provider.client()?, load).await;
    Ok(Verdict::new(&row, calls, &outcome, provider.stop().await?))
}

/// Two policies that know nothing of each other, with one key; says how many
/// calls were lost, too.
async fn share(theirs: Handle, row: Row, calls: usize) -> Result<(u64, Report)> {
    let provider = Provider::start(&theirs, &row).await?;
    let (one, two) = (row.policy(), row.policy());
    let (one, two) = tokio::join!(
        run::run(&one, provider.client()?, load::calls(2, calls)),
        run::run(&two, provider.client()?, load::calls(3, calls)),
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
