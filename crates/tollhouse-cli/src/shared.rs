//! An account that processes share through Redis.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tollhouse_openai::Account;
use tollhouse_openai::account::SharedLedgerConfig;
use tollhouse_openai::shared::{Sharing, Status};
use tollhouse_proxy::Proxy;
use tollhouse_redis::RedisLedger;

use crate::failure::{self, BoxError};
use crate::policy_args::REDIS;
use crate::print::Counted;
use crate::processes::Processes;

/// How long a command waits to say whether Redis answers; it goes on in any case.
const FIRST_WORD: Duration = Duration::from_millis(300);

/// How often a command looks whether Redis is there.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How long a command that ends waits to say goodbye.
const LAST_WORD: Duration = Duration::from_secs(1);

/// The ledger of an account.
///
/// # Errors
///
/// None is named, or by no address.
pub(crate) fn ledger(shared: &SharedLedgerConfig) -> Result<RedisLedger, BoxError> {
    let Some(address) = &shared.redis else {
        return Err(failure::error(format!(
            "no Redis is named: --redis URL, {REDIS} or redis under [shared] of the file is meant"
        )));
    };
    Ok(RedisLedger::open(address, &shared.name)?)
}

/// A command's part in an account that is shared; nothing where it is not.
#[derive(Debug, Default)]
pub(crate) struct Part(Option<Joined>);

#[derive(Debug)]
struct Joined {
    sharing: Sharing,
    processes: Processes,
    /// As what, and where.
    place: String,
}

/// Puts an account under the ledger that its config names, if it names one.
pub(crate) fn join(account: Account) -> Result<(Account, Part), BoxError> {
    let config = account.config();
    let shared = config.shared.as_ref();
    let Some((shared, place)) = shared.and_then(|it| Some((it, it.place()?))) else {
        return Ok((account, Part::default()));
    };
    let ledger = ledger(shared)?;
    let (sharing, agent) = Sharing::new(ledger.clone(), shared.fallback);
    let processes = Processes::new(ledger, sharing.process());
    tokio::spawn(agent);
    let account = account.shared(&sharing);
    let place = format!("{:?} at {place}", shared.name);
    let joined = Joined {
        sharing,
        processes,
        place,
    };
    Ok((account, Part(Some(joined))))
}

impl Part {
    /// In one line how it begins, once Redis has answered or should have.
    pub(crate) async fn greeting(&self) -> Option<String> {
        let Joined { sharing, place, .. } = self.0.as_ref()?;
        let patience = Instant::now() + FIRST_WORD;
        let mut status = sharing.status();
        while !status.is_up && status.why.is_none() && Instant::now() < patience {
            sleep(Duration::from_millis(5)).await;
            status = sharing.status();
        }
        Some(in_words(place, status))
    }

    /// Says when Redis is away, and when it is back.
    pub(crate) async fn follow(&self, say: impl Fn(&str)) -> Infallible {
        let Some(Joined { sharing, place, .. }) = &self.0 else {
            return pending().await;
        };
        let mut was_up = sharing.status().is_up;
        loop {
            sleep(LOOK_EVERY).await;
            let status = sharing.status();
            if was_up != status.is_up {
                was_up = status.is_up;
                say(&in_words(place, status));
            }
        }
    }

    /// All that share the account.
    pub(crate) fn processes(&self) -> Option<Processes> {
        Some(self.0.as_ref()?.processes.clone())
    }

    /// A proxy whose page and status tell of all that share the account, where it is shared.
    pub(crate) fn shown_by(&self, proxy: Proxy) -> Proxy {
        match self.processes() {
            Some(processes) => proxy.processes(move || processes.clone().all()),
            None => proxy,
        }
    }

    /// What is leased goes back at once, and not only when the lease ends.
    pub(crate) async fn leave(&self) {
        if let Some(joined) = &self.0 {
            // Gone without a word, the others have it some seconds later.
            let _ = timeout(LAST_WORD, joined.sharing.leave()).await;
        }
    }
}

fn in_words(place: &str, status: Status) -> String {
    if status.is_up {
        let others = u64::from(status.processes).saturating_sub(1);
        let others = Counted(others, "other process");
        return format!("Sharing the account {place} with {others}");
    }
    let why = status.why.map(|why| why.to_string());
    let why = why.unwrap_or_else(|| "no answer yet".to_owned());
    format!("The account {place} is not shared for now: {why}")
}
