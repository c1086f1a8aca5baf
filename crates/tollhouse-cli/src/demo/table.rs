//! What the two sides came to, as a table people like to look at.

use std::fmt;
use std::path::Path;

use tokio::time::Duration;

use super::account::{AT_ONCE, Account, HEADROOM, REQUESTS, STAGGER, TOKENS, WEIGHT};
use super::load::Load;
use super::side::Outcome;
use crate::print::{Count, Counted, Percent, Span};

const BOLD: &str = "1";
const DIM: &str = "2";
const GREEN: &str = "32";
const RED: &str = "31";

const NAME: usize = 30;
const CELL: usize = 16;

/// The table and the verdict.
pub(super) struct Table<'a> {
    pub(super) account: &'a Account,
    pub(super) without: &'a Outcome,
    pub(super) with: &'a Outcome,
    pub(super) weighed: &'a Outcome,
    pub(super) directory: &'a Path,
    pub(super) colours: bool,
}

/// What is about to happen.
pub(super) fn header(account: &Account, load: &Load, colours: bool) -> String {
    let batch = Counted(load.requests() as u64, "batch request");
    let callers = Counted(load.callers.len() as u64, "direct caller");
    let calls = Counted(load.calls() as u64, "call");
    let title = format!("{batch} and {callers} ({calls}), without and with Tollhouse");
    let minute = Span(account.here(Duration::from_secs(60)));
    format!(
        "\n{}\n\n\
         provider  {tokens} tokens and {REQUESTS} requests a minute; its minute takes {minute} here\n\
         policy    at most {AT_ONCE} at once, {stagger:.2} between launches, headroom {headroom}\n\
         without   the plain client, with the official SDKs' two retries\n\
         weights   a direct caller weighs {WEIGHT}, the batch 1; else first come, first served\n\n",
        paint(&title, BOLD, colours),
        tokens = Count(TOKENS),
        stagger = Span(STAGGER),
        headroom = Percent(HEADROOM),
    )
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = format!(
            "{:NAME$}{:>CELL$}{:>CELL$}{:>CELL$}",
            "", "without", "with Tollhouse", "and weights"
        );
        writeln!(f, "{}", paint(&head, BOLD, self.colours))?;
        self.rule(f)?;
        self.judged(f, "429s", |side| {
            (Count(side.rejected()).to_string(), side.rejected())
        })?;
        self.judged(f, "failed calls", |side| {
            (
                format!("{} of {}", Count(side.failed()), Count(side.calls())),
                side.failed(),
            )
        })?;
        self.row(f, "tokens used of allowed", |side| {
            let share = side.utilisation;
            share.map_or_else(none, |share| Percent(share).to_string())
        })?;
        self.row(f, "least gap, as they left", |side| {
            self.time(side.seen.least_gap)
        })?;
        self.row(f, "peak concurrency", |side| {
            side.report.peak_in_flight.to_string()
        })?;
        self.row(f, "direct callers' wait, mean", |side| {
            let all: Duration = side.waits.iter().sum();
            self.time(all.checked_div(side.waits.len() as u32))
        })?;
        self.row(f, "direct callers' wait, median", |side| {
            self.time(side.waits.get(side.waits.len() / 2).copied())
        })?;
        self.row(f, "direct callers' wait, longest", |side| {
            self.time(side.waits.last().copied())
        })?;
        self.row(f, "time", |side| self.time(Some(side.elapsed)))?;
        self.rule(f)?;
        // The policy counts its spacing from the moment at which the call before was
        // handed on, so no gap that is seen at the client's door is shorter.
        let note = format!(
            "times are the provider's; 1s of it took {:.2} here\n\
             allowed is what the provider allows until the batch is done\n\
             gaps are measured as calls leave for the provider",
            Span(self.account.here(Duration::from_secs(1))),
        );
        writeln!(
            f,
            "{}\n\n{}",
            paint(&note, DIM, self.colours),
            self.verdict()
        )?;
        let answers = self.with.output.display();
        writeln!(
            f,
            "Answers: {answers}\nAll files: {}",
            self.directory.display()
        )
    }
}

impl Table<'_> {
    fn rule(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = "─".repeat(NAME + 3 * CELL);
        writeln!(f, "{}", paint(&rule, DIM, self.colours))
    }

    fn row(
        &self,
        f: &mut fmt::Formatter<'_>,
        name: &str,
        cell: impl Fn(&Outcome) -> String,
    ) -> fmt::Result {
        let [without, with, weighed] = self.sides().map(cell);
        writeln!(
            f,
            "{name:NAME$}{without:>CELL$}{with:>CELL$}{weighed:>CELL$}"
        )
    }

    /// A row in which any number but 0 is bad.
    fn judged(
        &self,
        f: &mut fmt::Formatter<'_>,
        name: &str,
        cell: impl Fn(&Outcome) -> (String, u64),
    ) -> fmt::Result {
        let painted = |side| {
            let (text, bad) = cell(side);
            let colour = if bad == 0 { GREEN } else { RED };
            // Padded first, since colours have no width.
            paint(&format!("{text:>CELL$}"), colour, self.colours)
        };
        let [without, with, weighed] = self.sides().map(painted);
        writeln!(f, "{name:NAME$}{without}{with}{weighed}")
    }

    fn sides(&self) -> [&Outcome; 3] {
        [self.without, self.with, self.weighed]
    }

    /// A time here as the provider's.
    fn time(&self, here: Option<Duration>) -> String {
        here.map_or_else(none, |here| {
            format!("{:.2}", Span(self.account.there(here)))
        })
    }

    fn verdict(&self) -> String {
        let said = |side: &Outcome| {
            let (rejected, failed) = (side.rejected(), side.failed());
            format!(
                "{} and {}",
                Counted(rejected, "429"),
                Counted(failed, "failed call")
            )
        };
        let [without, with, weighed] = self.sides().map(said);
        let (text, colour) = match self.with.is_clean() && self.weighed.is_clean() {
            true => (
                format!("With Tollhouse no 429 and no failed call; without it {without}."),
                GREEN,
            ),
            false => (
                format!(
                    "Tollhouse did not keep its promise: {with}, with weights {weighed}; \
                     without it {without}."
                ),
                RED,
            ),
        };
        paint(&text, colour, self.colours)
    }
}

fn none() -> String {
    "-".to_owned()
}

fn paint(text: &str, colour: &str, colours: bool) -> String {
    match colours {
        true => format!("\x1b[{colour}m{text}\x1b[0m"),
        false => text.to_owned(),
    }
}
