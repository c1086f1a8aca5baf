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
mod seat;
mod token;
mod waits;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::Arc;

use self::child::Child;
use self::door::Door;
use self::home::Home;
use self::seat::{Recipe, Seat};
use self::token::Signed;
use crate::failure::{Ended, Exit};
use crate::logging;
use crate::policy_args::{ClientArgs, PolicyArgs};

/// Run a command whose calls share this machine's account with all others
///
/// COMMAND and its children find a proxy in OPENAI_BASE_URL, and its token in place of the
/// key in OPENAI_API_KEY. Runs with the same configuration, base URL, organisation, project
/// and key share one account; its daemon ends with the last of them.
///
/// Ends as COMMAND did, with a line that tells how long its calls waited.
///
/// https://github.com/tollhouse-rs/tollhouse/blob/main/docs/guide/run.md
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Who asks, where the account is shared [default: COMMAND's file name]
    #[arg(long, value_name = "NAME")]
    caller: Option<String>,

    /// The share of that caller against others'; what the file says of its name goes first
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    weight: u32,

    #[command(flatten)]
    policy: PolicyArgs,

    #[command(flatten)]
    client: ClientArgs,

    /// What to run
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true, num_args = 1..,
          allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// Runs COMMAND to its end.
pub(crate) async fn run(args: Args) -> Ended {
    let recipe = args.recipe()?;
    let home = Home::open()?;
    let seat = Arc::new(Seat::take(home.clone(), recipe).await?);
    let signed = Signed {
        caller: args.caller(),
        weight: args.weight,
    };
    let token = seat.secret().sign(&signed)?;
    let door = Door::open(Arc::clone(&seat)).await?;
    let child = Child {
        command: &args.command,
        url: &door.url(),
        token: &token,
    };
    let exit = child.run().await?;
    logging::say(waits::of(&seat, &token).await);
    door.close().await;
    drop(seat);
    home.sweep();
    Ok(Exit::As(exit))
}

impl Args {
    /// What a daemon goes by. What is wrong with it is told here, and not in a log.
    fn recipe(&self) -> Result<Recipe, crate::failure::BoxError> {
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

    fn caller(&self) -> String {
        let named = || Path::new(self.program()).file_name();
        let named = || named().unwrap_or_default().to_string_lossy().into_owned();
        self.caller.clone().unwrap_or_else(named)
    }

    fn program(&self) -> &OsStr {
        self.command.first().map_or(OsStr::new(""), |it| it)
    }
}
