//! `tollhouse run`: a command and its children share the account of this machine.
//!
//! ```text
//! COMMAND -> door (a port of this run's own) -> daemon -> provider
//!                   |                             |
//!                   +-- seat: starts it again     +-- one account for all runs
//! ```
//!
//! The daemon is a proxy of this user's that all runs of one account share. COMMAND never
//! speaks to it directly: its [`door`] stays where it is for as long as COMMAND lives, and
//! leads to whichever daemon is there, after one was killed to the next.

mod child;
pub(crate) mod daemon;
mod door;
mod home;
mod outer;
mod seat;
mod token;
mod waits;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::Arc;

use tollhouse_proxy::names;

use self::child::Child;
use self::door::Door;
use self::home::Home;
use self::outer::Outer;
use self::seat::{Recipe, Seat};
use self::token::{Secret, Signed};
use crate::failure::{BoxError, Ended, Exit};
use crate::flags::caller;
use crate::logging;
use crate::policy_args::{ClientArgs, PolicyArgs};

/// Run a command whose calls share this machine's account with all others
///
/// COMMAND and its children find a proxy in OPENAI_BASE_URL, and its token in place of the
/// key in OPENAI_API_KEY. Runs with the same configuration, base URL, organisation, project
/// and key share one account; its daemon ends with the last of them.
///
/// Inside another run it shares that one's account, whatever limits it is given itself.
///
/// Ends as COMMAND did, with a line that tells how long its calls waited.
///
/// https://github.com/tollhouse-rs/tollhouse/blob/main/docs/guide/run.md
#[derive(Debug, clap::Args)]
#[command(override_usage = "tollhouse run [OPTIONS] -- <COMMAND>...")]
pub(crate) struct Args {
    /// Who asks, where the account is shared [default: COMMAND's file name]
    #[arg(long, value_name = "NAME", value_parser = caller)]
    caller: Option<String>,

    /// The share of that caller against others'; what the file says of its name goes first
    /// [default: 1]
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000),
        allow_negative_numbers = true
    )]
    weight: Option<u32>,

    #[command(flatten)]
    policy: PolicyArgs,

    #[command(flatten)]
    client: ClientArgs,

    /// What to run
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true, num_args = 1..,
          allow_hyphen_values = true, help_heading = None)]
    command: Vec<OsString>,
}

/// Runs COMMAND to its end.
pub(crate) async fn run(args: Args) -> Ended {
    let recipe = args.recipe()?;
    let home = Home::open()?;
    let key = std::env::var("OPENAI_API_KEY").unwrap_or_default();
    match Outer::find(&home, &recipe.base_url, key.trim()).await? {
        Some(outer) => args.run_inside(&outer, &recipe.base_url).await,
        None => args.run_alone(home, recipe).await,
    }
}

impl Args {
    async fn run_alone(&self, home: Home, recipe: Recipe) -> Ended {
        let seat = Arc::new(Seat::take(home.clone(), recipe).await?);
        let caller = self.caller.clone().unwrap_or_else(|| self.file_name());
        let token = self.signed_by(seat.secret(), caller)?;
        let door = Door::open(Arc::clone(&seat)).await?;
        let exit = self.child(&door.url(), &token).run().await?;
        let waited = waits::of(seat.url().as_deref(), &token).await;
        let since = match seat.was_gone() {
            true => ", since its daemon was started again",
            false => "",
        };
        logging::say(format_args!("{waited}{since}"));
        door.close().await;
        drop(seat);
        home.sweep();
        Ok(Exit::As(exit))
    }

    /// With the limits of the run around it, and by its name unless told another.
    async fn run_inside(&self, outer: &Outer, url: &str) -> Ended {
        let not_minded = self.policy.given_flags().join(", ");
        if !not_minded.is_empty() {
            logging::say(format_args!(
                "tollhouse: the limits are those of the run around this one: not minded are \
                 {not_minded}"
            ));
        }
        if self.caller.is_none() && self.weight.is_none() {
            // Whoever was given the token tells what came of it.
            return Ok(Exit::As(self.child(url, outer.token()).run().await?));
        }
        let caller = self.caller.as_deref().unwrap_or(outer.caller());
        let token = self.signed_by(outer.secret(), caller.to_owned())?;
        let exit = self.child(url, &token).run().await?;
        logging::say(waits::of(Some(url), &token).await);
        Ok(Exit::As(exit))
    }

    fn child<'a>(&'a self, url: &'a str, token: &'a str) -> Child<'a> {
        Child {
            command: &self.command,
            url,
            token,
        }
    }

    fn signed_by(&self, secret: &Secret, caller: String) -> Result<String, BoxError> {
        secret.sign(&Signed {
            caller,
            weight: self.weight.unwrap_or(1),
        })
    }

    /// What a daemon goes by. What is wrong with it is told here, and not in a log.
    fn recipe(&self) -> Result<Recipe, BoxError> {
        let (config, openai) = self.policy.account_and_client(&self.client)?;
        let mut variables = self.policy.variables()?;
        // What is said in other words is the same, but for what lies over a file: that changes.
        let says = match self.policy.file() {
            Some(_) => format!("{variables:?}"),
            None => format!("{config:?}"),
        };
        variables.extend(self.client.variables());
        Ok(Recipe {
            says,
            base_url: openai
                .base_url()
                .to_string()
                .trim_end_matches('/')
                .to_owned(),
            variables,
            timeout: self.client.timeout(),
        })
    }

    /// COMMAND's, as a caller is called.
    fn file_name(&self) -> String {
        let name = Path::new(self.program()).file_name();
        as_caller(&name.unwrap_or_default().to_string_lossy())
    }

    fn program(&self) -> &OsStr {
        self.command.first().map_or(OsStr::new(""), |it| it)
    }
}

/// A caller's name after a program's, whatever that is: nobody chose it, so none is refused.
fn as_caller(program: &str) -> String {
    let visible = |letter| match letter {
        ' '..='~' => letter,
        _ => '_',
    };
    let name: String = program
        .trim()
        .chars()
        .map(visible)
        .take(names::LONGEST_CALLER)
        .collect();
    names::caller(&name).unwrap_or("command").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_program_is_called_it_names_a_caller() {
        let long = "x".repeat(80);
        for (program, name) in [
            ("nightly.py", "nightly.py"),
            ("my script", "my script"),
            ("na\u{ef}ve\n", "na_ve"),
            ("a\tb\u{7f}", "a_b_"),
            (&long, &long[..64]),
            (" \n", "command"),
            ("", "command"),
        ] {
            assert_eq!(as_caller(program), name);
        }
        let spaced = format!("{} y", &long[..63]);
        assert_eq!(as_caller(&spaced), long[..63], "no space at its end");
    }
}
