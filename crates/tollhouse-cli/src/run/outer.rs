//! The run around this one, where this one was started by another's COMMAND.
//!
//! The provider that such a run finds in its environment is a door, and the key a token. A
//! daemon of its own would put its limits, which nobody set for that, in front of the account
//! that the door leads to; so it has none, and its COMMAND goes through the door that is there.

use tollhouse_openai::Caller;

use super::home::Home;
use super::token::Secret;
use super::waits;

/// A run whose daemon is spoken to.
pub(super) struct Outer {
    secret: Secret,
    token: String,
    caller: Caller,
}

impl Outer {
    /// That of whoever finds this token and this URL in its environment, if the token was signed
    /// for one of this user's daemons and that daemon is who answers there.
    pub(super) async fn find(home: &Home, base_url: &str, token: &str) -> Option<Self> {
        // The token is shown to nobody else.
        let on_loopback = base_url.starts_with("http://127.0.0.1:");
        let secrets = home.rooms().filter_map(|room| room.secret().ok());
        let mut vouched = secrets.filter_map(|secret| Some((secret.vouch(token)?, secret)));
        let (caller, secret) = vouched.next().filter(|_| on_loopback)?;
        waits::told(base_url, token).await.ok()?;
        Some(Outer {
            secret,
            token: token.to_owned(),
            caller,
        })
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
