//! What `tollhouse proxy` costs, beside nginx and a bare proxy of axum's in the same run.
//!
//! `benches/proxy/run` installs what it needs and starts it. Each subject is a process
//! alone on one core; the clients and the provider are on the other. Rounds are
//! interleaved, numbers are medians, and what is demanded is demanded of ratios and
//! differences within a round, so that they mean something on any machine. CPU time is
//! what the scheduler has counted for the subject's threads, and bears other load best.
//! All that is ours is built by the profile `dist`, as whoever installs the command builds it.
//!
//! To look at one subject for longer: `-- upstream ADDRESS`, `-- bare ADDRESS UPSTREAM`
//! and `-- load ADDRESS plain|burst|paced CONNECTIONS SECONDS` are the parts alone.
//!
//! `-- --rounds N` makes more or fewer than 7 rounds; `-- --only rounds`, `idle` or
//! `waiting` leaves the rest out; `-- --command PATH` measures a command that was built
//! otherwise.

mod bare;
mod crowd;
mod load;
mod rounds;
mod subject;
mod table;
mod upstream;
mod wire;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use tokio::runtime::Builder;

use crowd::Waited;
use rounds::Part;
use subject::{CORE, OTHER_CORE, Subject, nginx, ourselves, tollhouse};
use table::{Bound, Demand, HEAD, Rounds, Row};
use upstream::Kind;

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Result<T, E = Failure> = std::result::Result<T, E>;

const UPSTREAM: &str = "127.0.0.1:18700";

fn main() -> Result<ExitCode> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    // What is compared has a runtime of the same kind as the proxy has on its one core.
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(role(&arguments))
}

async fn role(arguments: &[&str]) -> Result<ExitCode> {
    match arguments[..] {
        ["upstream", address] => upstream::serve(address).await?,
        ["bare", address, upstream] => bare::serve(address, upstream).await?,
        ["load", address, kind, connections, seconds] => {
            let kind = Kind::named(kind).ok_or("no kind of call")?;
            let time = Duration::from_secs_f64(seconds.parse()?);
            let answered = load::ask_for(address, kind, connections.parse()?, time).await?;
            println!("{} were answered", answered.len());
        }
        _ => return bench(arguments).await,
    }
    Ok(ExitCode::SUCCESS)
}

async fn bench(arguments: &[&str]) -> Result<ExitCode> {
    let after = |flag: &str| {
        let at = arguments.iter().position(|argument| *argument == flag)?;
        arguments.get(at + 1).copied()
    };
    let rounds = after("--rounds").map_or(Ok(7), str::parse)?;
    let is_asked = |part: &str| after("--only").is_none_or(|only| only == part);
    let command = after("--command").map_or_else(built, |path| Ok(path.into()))?;
    let bench = Bench::start(command).await?;
    let mut demands = Vec::new();
    if is_asked("rounds") {
        demands.extend(bench.rounds(rounds).await?);
    }
    if is_asked("idle") {
        demands.push(bench.idle().await?);
    }
    if is_asked("waiting") {
        demands.extend(bench.waiting().await?);
    }
    println!();
    for demand in &demands {
        println!("{demand}");
    }
    Ok(match demands.iter().all(Demand::is_kept) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

struct Bench {
    command: PathBuf,
    directory: PathBuf,
    _upstream: Subject,
}

impl Bench {
    /// The clients' core is this process's, and so the upstream's.
    async fn start(command: PathBuf) -> Result<Self> {
        let own = std::process::id().to_string();
        run(Command::new("taskset").args(["-a", "-c", "-p", OTHER_CORE, &own]))?;
        let directory = std::env::temp_dir().join(format!("tollhouse-bench-{own}"));
        std::fs::create_dir_all(&directory)?;
        read_anew(&command)?;
        let upstream = ourselves("upstream", &[UPSTREAM])?;
        let upstream = Subject::start("upstream", UPSTREAM, OTHER_CORE, &upstream, None).await?;
        Ok(Bench {
            command,
            directory,
            _upstream: upstream,
        })
    }

    async fn rounds(&self, rounds: usize) -> Result<Vec<Demand>> {
        let subjects = self.subjects().await?;
        let part = Part {
            time: Duration::from_secs(1),
        };
        let mut found = vec![Rounds::default(); subjects.len()];
        let mut direct = Rounds::default();
        for _ in 0..rounds {
            direct.0.push(part.of(UPSTREAM, None).await?);
            for (subject, rounds) in subjects.iter().zip(&mut found) {
                rounds
                    .0
                    .push(part.of(&subject.address, Some(subject)).await?);
            }
        }
        println!("{HEAD}\n{}", Row("no proxy", &direct));
        for (subject, rounds) in subjects.iter().zip(&found) {
            println!("{}", Row(subject.name, rounds));
        }
        let [nginx, bare, ours, nginx_logs, ours_logs] = &found[..] else {
            return Err("there are five subjects".into());
        };
        Ok(demands(&direct, nginx, bare, ours, [nginx_logs, ours_logs]))
    }

    async fn subjects(&self) -> Result<Vec<Subject>> {
        let log = self.directory.join("log");
        let nginx_log = self.directory.join("nginx.log").display().to_string();
        let [one, two, three, four, five] = [1, 2, 3, 4, 5].map(|n| format!("127.0.0.1:1870{n}"));
        let nginx = |address: &str, log: &str| nginx(&self.directory, address, UPSTREAM, log);
        let starts = [
            ("nginx", &one, nginx(&one, "off")?, None),
            (
                "bare axum",
                &two,
                ourselves("bare", &[&two, UPSTREAM])?,
                None,
            ),
            (
                "tollhouse",
                &three,
                self.tollhouse(&three, 1_000, "off"),
                None,
            ),
            ("nginx, log", &four, nginx(&four, &nginx_log)?, None),
            (
                "tollhouse, log",
                &five,
                self.tollhouse(&five, 1_000, ""),
                Some(&*log),
            ),
        ];
        let mut subjects = Vec::new();
        for (name, address, command, log) in &starts {
            subjects.push(Subject::start(name, address, CORE, command, *log).await?);
        }
        Ok(subjects)
    }

    fn tollhouse(&self, address: &str, slots: u32, log: &str) -> Command {
        let mut command = tollhouse(&self.command, address, UPSTREAM, slots);
        command.env("RUST_LOG", log);
        command
    }

    /// A proxy without a log.
    async fn alone(&self, address: &str, slots: u32) -> Result<Subject> {
        let command = self.tollhouse(address, slots, "off");
        Subject::start("tollhouse", address, CORE, &command, None).await
    }

    async fn idle(&self) -> Result<Demand> {
        let subject = self.alone("127.0.0.1:18706", 2_000).await?;
        let memory = crowd::idle(&subject, 1_000).await?;
        Ok(Demand {
            what: "1,000 open streams, idle: memory in MB",
            found: memory as f64 / 1e6,
            bound: Bound::AtMost(40.0),
        })
    }

    async fn waiting(&self) -> Result<[Demand; 3]> {
        const CALLS: usize = 10_000;
        let subject = self.alone("127.0.0.1:18707", 8).await?;
        let Waited {
            memory,
            answered,
            displaced,
            time,
        } = crowd::waiting(&subject, UPSTREAM, CALLS).await?;
        println!("10,000 calls that waited were answered within {time:.1?}");
        Ok([
            Demand {
                what: "10,000 calls that wait: memory in MB",
                found: memory as f64 / 1e6,
                bound: Bound::AtMost(150.0),
            },
            Demand {
                what: "... of which are answered",
                found: answered as f64,
                bound: Bound::AtLeast(CALLS as f64),
            },
            Demand {
                what: "... and overtaken, beyond the 8 that are under way, by at most",
                found: displaced.saturating_sub(8) as f64,
                bound: Bound::AtMost(0.0),
            },
        ])
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn demands(
    direct: &Rounds,
    nginx: &Rounds,
    bare: &Rounds,
    ours: &Rounds,
    [nginx_logs, ours_logs]: [&Rounds; 2],
) -> Vec<Demand> {
    let demand = |what, found, bound| Demand { what, found, bound };
    vec![
        demand(
            "plain requests a second over 16 connections, of nginx's",
            ours.ratio(nginx, |figures| figures.rate),
            Bound::AtLeast(0.72),
        ),
        demand(
            "... both with a line in a log for each",
            ours_logs.ratio(nginx_logs, |figures| figures.rate),
            Bound::AtLeast(0.72),
        ),
        demand(
            "... CPU, of bare axum's",
            ours.ratio(bare, |figures| figures.cpu),
            Bound::AtMost(1.25),
        ),
        demand(
            "plain requests over one connection: p50 added, ms",
            ours.added(direct, |figures| figures.p50),
            Bound::AtMost(0.10),
        ),
        demand(
            "... p99 added, ms",
            ours.added(direct, |figures| figures.p99),
            Bound::AtMost(0.25),
        ),
        demand(
            "a stream of 20 events: CPU us",
            ours.median(|figures| figures.burst_cpu),
            Bound::AtMost(120.0),
        ),
        demand(
            "... its first event later by, ms",
            ours.added(direct, |figures| figures.first),
            Bound::AtMost(0.20),
        ),
        demand(
            "... longest time in which nothing came, ms",
            ours.median(|figures| figures.gap) / 1_000.0,
            Bound::AtMost(40.0),
        ),
    ]
}

/// Builds the command by the profile that this bench was built by, and says where it is.
fn built() -> Result<PathBuf> {
    // target/dist/deps/proxy-0123
    let bench = std::env::current_exe()?;
    let built = bench.ancestors().nth(2).and_then(Path::file_name);
    let built = built.and_then(|name| name.to_str());
    let target = bench.ancestors().nth(3);
    let (built, target) = built.zip(target).ok_or("a bench without a target")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--package", "tollhouse-cli"]);
    build.args(["--profile", built]);
    run(build.arg("--target-dir").arg(target))?;
    Ok(target.join(built).join("tollhouse"))
}

/// Has the system read the program from the disk, as on any machine on which it was not just built. What a
/// linker wrote is cached in pieces of up to 2 MB, each of which counts as the process's as a
/// whole once anything of it was touched.
fn read_anew(program: &Path) -> Result<()> {
    run(Command::new("sync").arg(program))?;
    let program = format!("if={}", program.display());
    run(Command::new("dd").args([&program, "iflag=nocache", "count=0"]))
}

fn run(command: &mut Command) -> Result<()> {
    let ended = command.output()?;
    match ended.status.success() {
        true => Ok(()),
        false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&ended.stderr)).into()),
    }
}
