//! The daemon that runs share: a proxy on loopback that ends with the last of them.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::sleep;
use tollhouse_openai::Account;
use tollhouse_proxy::Proxy;

use super::home::Room;
use crate::failure::{self, BoxError, Ended, Exit};
use crate::metrics;
use crate::policy_args::{ClientArgs, PolicyArgs};
use crate::print::to_stdout;
use crate::reload::Heard;
use crate::shared;
use crate::signals::Signals;

/// Between two looks whether anybody is there.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long calls in flight may go on after a signal.
const DRAIN: Duration = Duration::from_secs(60);

/// What `tollhouse run` starts; not for people
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub(crate) struct Args {
    #[command(flatten)]
    policy: PolicyArgs,

    #[command(flatten)]
    client: ClientArgs,

    /// Whether it keeps nothing open that its caller has
    #[arg(long)]
    alone: bool,

    /// Its room
    room: PathBuf,
}

/// Serves until the last run is over, or a signal.
pub(crate) async fn run(args: Args) -> Ended {
    if !args.alone {
        return Err(alone());
    }
    // What is typed in the terminal of the run that started it is not meant for it.
    let _ = rustix::process::setsid();
    let mut signals = Signals::listen()?;
    let room = Room::at(args.room.clone());
    let mut alive = room.live()?;
    let users = Arc::new(room.users()?);
    let heard = Heard::new(args.policy.file())?;
    let (config, openai) = args.policy.account_and_client(&args.client.passing_on())?;
    let (account, part) = shared::join(Account::from_config(config)?)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let secret = room.secret()?;
    let served = part
        .shown_by(Proxy::new(account.clone(), openai))
        .shared_token(secret.text())
        .vouch(move |token| secret.vouch(token))
        .metrics(metrics::count()?)
        .serve(listener)?;
    alive.listens_at(port)?;
    to_stdout(format_args!("{port}\n"))?;
    let follow = heard.follow(&account, &args.policy);
    tokio::select! {
        () = deserted(&room, &users) => {}
        () = signals.next() => {}
        never = follow => match never {},
    }
    // Until it has ended there is no other one: `alive` is held.
    tokio::select! {
        _ = served.drain(DRAIN) => {
            part.leave().await;
            Ok(Exit::Done)
        }
        () = signals.next() => Ok(Exit::Interrupted),
    }
}

/// Begins again without what was open when the run was started: locks and pipes of somebody's,
/// which are COMMAND's business and which the daemon may outlive. Nothing of it can be closed here,
/// for nobody knows what it is; but the next program gets none of it.
///
/// Returns where it cannot.
fn alone() -> BoxError {
    close_fds::set_fds_cloexec_threadsafe(AFTER_STDERR, &[]);
    let again = own_program().map(|own| {
        let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
        let mut again = Command::new(own);
        again.arg0("tollhouse").args(arguments).arg("--alone");
        again.exec()
    });
    let (Ok(error) | Err(error)) = again;
    failure::because("the daemon cannot be started alone", error)
}

/// The first that is nobody's by convention.
const AFTER_STDERR: i32 = 3;

/// The same program, even where another one was installed meanwhile.
pub(super) fn own_program() -> io::Result<PathBuf> {
    match cfg!(target_os = "linux") {
        true => Ok("/proc/self/exe".into()),
        false => std::env::current_exe(),
    }
}

/// Waits until no run is there any more, and removes the room.
async fn deserted(room: &Room, users: &Arc<File>) {
    loop {
        sleep(LOOK_EVERY).await;
        let (room, users) = (room.clone(), Arc::clone(users));
        let removed = tokio::task::spawn_blocking(move || room.remove_if_empty(&users)).await;
        if removed.unwrap_or(false) {
            return;
        }
    }
}
