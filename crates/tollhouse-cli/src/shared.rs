//! An account that processes share through Redis.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tollhouse_openai::account::SharedLedgerConfig;
use tollhouse_openai::shared::Sharing;
use tollhouse_openai::{Account, AccountConfig};
use tollhouse_redis::RedisLedger;

use crate::failure::{self, BoxError};
use crate::policy_args::{CONFIG, REDIS, environment};
use crate::print::Counted;

/// How long a command waits to say whether Redis answers; it goes on in any case.
const FIRST_WORD: Duration = Duration::from_millis(300);

/// How long a command that ends waits to say goodbye.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Where the account is that processes share.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct SharedArgs {
    /// Where the account is shared: redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE], rediss:// for
    /// TLS [env: TOLLHOUSE_REDIS] [default: what the file says]
    #[arg(long, value_name = "URL")]
    redis: Option<String>,

    /// The file whose [shared] says where, and by what name [env: TOLLHOUSE_CONFIG]
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
}

impl SharedArgs {
    /// What the flags, the variables and the file say together.
    pub(crate) fn said(&self) -> Result<SharedLedgerConfig, BoxError> {
        let file = self.config.clone();
        let file = file.or_else(|| environment(CONFIG).map(PathBuf::from));
        let mut shared = match file {
            Some(file) => AccountConfig::open(file)?.shared.unwrap_or_default(),
            None => SharedLedgerConfig::default(),
        };
        if let Some(address) = self.redis.clone().or_else(|| environment(REDIS)) {
            shared.redis = Some(address);
        }
        Ok(shared)
    }
}

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
pub(crate) struct Part {
    sharing: Option<Sharing>,
    place: String,
}

/// Puts an account under the ledger that its config names, if it names one.
pub(crate) fn join(account: Account) -> Result<(Account, Part), BoxError> {
    let config = account.config();
    let shared = config.shared.as_ref();
    let Some((shared, place)) = shared.and_then(|it| Some((it, it.place()?))) else {
        let alone = Part {
            sharing: None,
            place: String::new(),
        };
        return Ok((account, alone));
    };
    let (sharing, agent) = Sharing::new(ledger(shared)?, shared.fallback);
    tokio::spawn(agent);
    let part = Part {
        place: format!("{:?} at {place}", shared.name),
        sharing: Some(sharing.clone()),
    };
    Ok((account.shared(&sharing), part))
}

impl Part {
    /// In one line how it begins, once Redis has answered or should have.
    pub(crate) async fn greeting(&self) -> Option<String> {
        let sharing = self.sharing.as_ref()?;
        let patience = Instant::now() + FIRST_WORD;
        while !sharing.status().is_up && sharing.status().why.is_none() {
            if Instant::now() >= patience {
                break;
            }
            sleep(Duration::from_millis(5)).await;
        }
        let place = &self.place;
        let status = sharing.status();
        Some(match (status.is_up, status.why) {
            (true, _) => {
                let others = u64::from(status.processes).saturating_sub(1);
                let others = Counted(others, "other process").to_string();
                format!("Sharing the account {place} with {others}")
            }
            (false, Some(why)) => format!("The account {place} is not shared for now: {why}"),
            (false, None) => {
                format!("The account {place} is not shared for now: no answer yet")
            }
        })
    }

    /// What is leased goes back at once, and not only when the lease ends.
    pub(crate) async fn leave(&self) {
        if let Some(sharing) = &self.sharing {
            // Gone without a word, the others have it some seconds later.
            let _ = timeout(LAST_WORD, sharing.leave()).await;
        }
    }

    /// Whether there is one.
    pub(crate) fn is_shared(&self) -> bool {
        self.sharing.is_some()
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}
