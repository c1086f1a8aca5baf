//! How far a run has come: bars on a terminal, a line now and then elsewhere.

mod echo;

use std::io::{IsTerminal, stderr};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::task::JoinHandle;
use tokio::time::{Duration, MissedTickBehavior, interval};

use self::echo::NoEcho;
use crate::logging;
use crate::print::{Count, colours};

/// Bars are redrawn so often, and no oftener.
const REDRAW_HZ: u8 = 4;
/// Elsewhere a line is written once in so long.
const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// Where notes and progress are shown.
///
/// # Cloning
///
/// Clones write to the same place.
#[derive(Clone, Debug)]
pub(crate) struct Screen {
    look: Look,
}

#[derive(Clone, Debug)]
enum Look {
    Bars(MultiProgress),
    Plain,
    Quiet,
}

/// How far one of the things shown has come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Status {
    /// What it is called; nothing where there is only one.
    pub(crate) name: String,
    /// How many are done.
    pub(crate) done: u64,
    /// Of how many, if that is known.
    pub(crate) total: Option<u64>,
    /// All else, in short lines.
    pub(crate) details: Vec<String>,
}

/// Tells a status when it is asked.
pub(crate) type Tell = Box<dyn Fn() -> Status + Send>;

/// Progress that is being shown, until it is dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    showing: Option<JoinHandle<()>>,
    bars: Option<(MultiProgress, Vec<ProgressBar>)>,
    _no_echo: Option<NoEcho>,
}

impl Screen {
    /// Standard error, as fits it. A quiet one shows notes alone.
    pub(crate) fn new(quiet: bool) -> Self {
        let look = if quiet {
            Look::Quiet
        } else if stderr().is_terminal() {
            let target = ProgressDrawTarget::stderr_with_hz(REDRAW_HZ);
            Look::Bars(MultiProgress::with_draw_target(target))
        } else {
            Look::Plain
        };
        Self { look }
    }

    /// Writes a line that stays.
    pub(crate) fn note(&self, line: &str) {
        if let Look::Bars(bars) = &self.look
            && bars.println(line).is_ok()
        {
            return;
        }
        logging::say(line);
    }

    /// Writes a line that stays, unless this is to be quiet.
    pub(crate) fn remark(&self, line: &str) {
        if !matches!(self.look, Look::Quiet) {
            self.note(line);
        }
    }

    /// Shows how far things have come.
    pub(crate) fn show(&self, things: Vec<Tell>) -> Progress {
        match &self.look {
            Look::Bars(all) => {
                let new = |_: &Tell| all.add(ProgressBar::no_length());
                let bars: Vec<ProgressBar> = things.iter().map(new).collect();
                let shown = bars.iter().cloned().zip(things).collect();
                Progress {
                    showing: Some(tokio::spawn(show_bars(shown))),
                    bars: Some((all.clone(), bars)),
                    _no_echo: Some(NoEcho::begin()),
                }
            }
            Look::Plain => Progress {
                showing: Some(tokio::spawn(show_lines(things))),
                bars: None,
                _no_echo: None,
            },
            Look::Quiet => Progress {
                showing: None,
                bars: None,
                _no_echo: None,
            },
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(showing) = &self.showing {
            showing.abort();
        }
        // What is removed is not drawn again, whatever is written later.
        if let Some((all, bars)) = &self.bars {
            for bar in bars {
                bar.finish_and_clear();
                all.remove(bar);
            }
        }
    }
}

async fn show_bars(things: Vec<(ProgressBar, Tell)>) {
    let mut ticks = interval(Duration::from_secs(1) / u32::from(REDRAW_HZ));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        for (bar, tell) in &things {
            draw(bar, tell());
        }
    }
}

fn draw(bar: &ProgressBar, status: Status) {
    if bar.length() != status.total || bar.position() == 0 {
        bar.set_style(style(status.total.is_some(), !status.name.is_empty()));
    }
    if let Some(total) = status.total {
        bar.set_length(total);
    }
    bar.set_prefix(status.name);
    bar.set_message(status.details.join("\n  "));
    bar.set_position(status.done);
    bar.tick();
}

fn style(bounded: bool, named: bool) -> ProgressStyle {
    let name = if named { "{prefix:>17}  " } else { "" };
    let template = match (bounded, colours(&stderr())) {
        (true, true) => {
            format!(
                "{name}{{bar:32.cyan/black.bright}} {{human_pos}} of {{human_len}}  {{percent}}%\n  {{msg:.dim}}"
            )
        }
        (true, false) => {
            format!("{name}{{bar:32}} {{human_pos}} of {{human_len}}  {{percent}}%\n  {{msg}}")
        }
        (false, true) => format!("{name}{{human_pos}} done\n  {{msg:.dim}}"),
        (false, false) => format!("{name}{{human_pos}} done\n  {{msg}}"),
    };
    ProgressStyle::with_template(&template)
        .expect("the template is well-formed")
        .progress_chars("━━╌")
}

async fn show_lines(things: Vec<Tell>) {
    let mut ticks = interval(PLAIN_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    // The first tick is at once, when there is nothing to tell.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        for tell in &things {
            logging::say(tell());
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.name.is_empty() {
            write!(f, "{}: ", self.name)?;
        }
        write!(f, "{}", Count(self.done))?;
        if let Some(total) = self.total {
            write!(f, " of {}", Count(total))?;
        }
        write!(f, " done, {}", self.details.join("  "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_style_is_well_formed() {
        for (bounded, named) in [(true, true), (true, false), (false, true), (false, false)] {
            let _ = style(bounded, named);
        }
    }

    #[test]
    fn plain_line_says_how_far_it_is() {
        let mut status = Status {
            done: 1_204,
            total: Some(2_000),
            details: vec!["3 in flight".to_owned(), "1 waiting".to_owned()],
            ..Status::default()
        };
        assert_eq!(
            status.to_string(),
            "1,204 of 2,000 done, 3 in flight  1 waiting"
        );
        (status.name, status.total) = ("without".to_owned(), None);
        assert_eq!(
            status.to_string(),
            "without: 1,204 done, 3 in flight  1 waiting"
        );
    }
}
