//! `tollhouse demo`: the same load with and without Tollhouse, side by side.
//!
//! Three simulated providers on sockets of this machine get the same batch and
//! the same direct callers at the same time: one from a plain client that does
//! what the official SDKs do, the others through an account, first come, first served, and
//! with callers that have weights.

mod account;
mod load;
mod sdk;
mod side;
mod table;

use std::io;
use std::path::PathBuf;

use tokio::time::Instant;
use tower::Layer;

use crate::failure::{self, BoxError, Ended, Exit};
use crate::flags::whole;
use crate::print::{colours, to_stdout};
use crate::progress::Screen;
use account::Account;
use load::Load;
use side::{Order, Outcome, Side};
use table::Table;

/// Watch the difference: one load with and without Tollhouse, on the simulator
///
/// With Tollhouse once first come, first served, and once with direct callers that weigh 8
/// where the batch weighs 1. Needs no key and no network. Exit code 1 if with Tollhouse a call was
/// answered 429 or failed.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Requests of the batch
    #[arg(long, value_name = "N", default_value = "120",
          value_parser = clap::value_parser!(u32).range(1..=10_000), allow_negative_numbers = true)]
    requests: u32,

    /// Callers beside the batch, eight calls each
    #[arg(long, value_name = "N", default_value = "5",
          value_parser = clap::value_parser!(u32).range(0..=100), allow_negative_numbers = true)]
    direct_callers: u32,

    /// How many times faster than real the simulated provider lives
    #[arg(long, default_value = "4", value_parser = speed, allow_negative_numbers = true)]
    speed: f64,

    /// What all that is random is drawn from
    #[arg(long, default_value = "7", value_parser = whole::<u64>,
          allow_negative_numbers = true)]
    seed: u64,
}

/// Runs both sides, then shows what they came to.
pub(crate) async fn run(args: Args) -> Ended {
    let account = Account::new(args.speed, args.seed);
    let load = Load::new(args.requests, args.direct_callers, args.seed)?;
    let directory = directory()
        .map_err(|error| failure::because("cannot make a directory for the answers", error))?;
    let colours = colours(&io::stdout());
    to_stdout(table::header(&account, &load, colours))?;

    let [without, with, weighed] = side_by_side(&account, &load, &directory).await?;
    let table = Table {
        account: &account,
        without: &without,
        with: &with,
        weighed: &weighed,
        directory: &directory,
        colours,
    };
    to_stdout(&table)?;
    Ok(match with.is_clean() && weighed.is_clean() {
        true => Exit::Done,
        false => Exit::SomeFailed,
    })
}

async fn side_by_side(
    account: &Account,
    load: &Load,
    directory: &std::path::Path,
) -> Result<[Outcome; 3], BoxError> {
    let open = |name, order| Side::open(name, order, account, directory);
    let without = open("without", Order::FirstCome).await?;
    let with = open("first come", Order::FirstCome).await?;
    let weighed = open("weighed", Order::Weighed).await?;
    let plain = sdk::retrying(without.client(), account.speed(), account.seed());
    let gated = |side: &Side| account.described().layer().layer(side.client());

    let begin = Instant::now();
    let screen = Screen::new(false);
    let progress = screen.show(
        [&without, &with, &weighed]
            .map(|side| side.tell(load))
            .into(),
    );
    let (plain, first_come, by_weight) = tokio::join!(
        without.run(plain, load, begin),
        with.run(gated(&with), load, begin),
        weighed.run(gated(&weighed), load, begin),
    );
    drop(progress);
    Ok([plain?, first_come?, by_weight?])
}

/// A new directory of this run's own.
fn directory() -> io::Result<PathBuf> {
    let mut number = 0;
    loop {
        let name = format!("tollhouse-demo-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        match std::fs::create_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            made => return made.map(|()| path),
        }
    }
}

fn speed(text: &str) -> Result<f64, &'static str> {
    let speed = text.parse().ok();
    speed
        .filter(|speed| (0.1..=100.0).contains(speed))
        .ok_or("a number from 0.1 to 100 is allowed")
}
