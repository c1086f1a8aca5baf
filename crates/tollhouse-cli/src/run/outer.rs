//! The run around this one, where this one was started by another's COMMAND.
//!
//! The provider that such a run finds in its environment is a door, and the key a token. A
//! daemon of its own would put its limits, which nobody set for that, in front of the account
//! that the door leads to; so it has none, and its COMMAND goes through the door that is there.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tollhouse_openai::Caller;

use super::home::Home;
use super::token::Secret;
use super::waits;
use crate::failure::{self, BoxError};

/// Longer than a daemon's calls in flight may go on when it ends.
const PATIENCE: Duration = Duration::from_secs(120);

/// Before it is asked again.
const PAUSE: Duration = Duration::from_millis(100);

/// A run whose daemon is spoken to.
pub(super) struct Outer {
    secret: Secret,
    token: String,
    caller: Caller,
}

impl Outer {
    /// That of whoever finds this token and this URL in its environment, if the token was signed
    /// for one of this user's daemons and that daemon is who answers there. One that ends or
    /// is started again is waited for.
    ///
    /// # Errors
    ///
    /// Somebody is there and does not answer.
    pub(super) async fn find(
        home: &Home,
        base_url: &str,
        token: &str,
    ) -> Result<Option<Self>, BoxError> {
        // The token is shown to nobody else.
        let on_loopback = base_url.starts_with("http://127.0.0.1:");
        let secrets = home.rooms().filter_map(|room| room.secret().ok());
        let mut vouched = secrets.filter_map(|secret| Some((secret.vouch(token)?, secret)));
        let Some((caller, secret)) = vouched.next().filter(|_| on_loopback) else {
            return Ok(None);
        };
        Ok(is_there(base_url, token).await?.then(|| Outer {
            secret,
            token: token.to_owned(),
            caller,
        }))
    }

    pub(super) fn secret(&self) -> &Secret {
        &self.secret
    }

    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// Who it calls for.
    pub(super) fn caller(&self) -> &str {
        self.caller.name().unwrap_or_default()
    }
}

/// Whether the daemon that knows the token answers at this URL.
///
/// # Errors
///
/// Somebody is there and does not answer.
async fn is_there(url: &str, token: &str) -> Result<bool, BoxError> {
    let began = Instant::now();
    loop {
        match waits::told(url, token).await {
            Ok(_) => return Ok(true),
            Err(untold) if !untold.is_silent => return Ok(false),
            Err(_) if began.elapsed() < PATIENCE => sleep(PAUSE).await,
            Err(_) => {
                let message = format!("the run around this one does not answer at {url}");
                return Err(failure::error(message));
            }
        }
    }
}
