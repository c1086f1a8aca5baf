//! Who may call, and by whose account.

mod accounts;
#[cfg(test)]
mod tests;
mod tokens;

use std::borrow::Cow;
use std::sync::Arc;

use http::HeaderMap;
use tollhouse_openai::account::AccountSnapshot;
use tollhouse_openai::shared::Sharing;
use tollhouse_openai::{AccountConfig, Caller};

use crate::counts::{Tallies, Tally};
use crate::error::Refusal;
use crate::upstream::gates::Gates;
pub(crate) use accounts::Accounts;
pub(crate) use tokens::{Token, Tokens, Vouch};
use tokens::{beside_key, claimed, only_key, token};

/// Whose key goes to the provider.
#[derive(Debug)]
pub(crate) enum Keys {
    /// The proxy's own; clients show a token, if there are any.
    Own {
        tokens: Tokens,
        tallies: Tallies,
        gates: Box<Gates>,
    },
    /// The clients' own, each an account; a token is shown beside them, if there are any.
    Theirs {
        tokens: Tokens,
        accounts: Box<Accounts>,
    },
}

/// A call that may pass.
pub(crate) struct Admitted<'k> {
    /// Those that all calls have in common are not cloned for each.
    pub(crate) gates: Cow<'k, Gates>,
    pub(crate) caller: Caller,
    /// Where a token was shown.
    pub(crate) tally: Option<Arc<Tally>>,
    /// Whether the client's key is the provider's business.
    pub(crate) keeps_key: bool,
}

impl Keys {
    pub(crate) fn admit(&self, headers: &HeaderMap) -> Result<Admitted<'_>, Refusal> {
        match self {
            Keys::Own {
                tokens,
                tallies,
                gates,
            } => {
                let (config, token) = (gates.config(), token(headers));
                let caller = caller(tokens, gates, &config, headers, token)?;
                let token = token.filter(|_| tokens.are_demanded(&config));
                Ok(Admitted {
                    caller,
                    tally: token.map(|token| tallies.of(token)),
                    gates: Cow::Borrowed(gates),
                    keeps_key: false,
                })
            }
            // Whoever has the key has the account, and may call himself what he likes unless his
            // token names him. Who has no token opens no account.
            Keys::Theirs { tokens, accounts } => {
                let config = accounts.pattern.config();
                let vouched = tokens.admit(&config, beside_key(headers));
                let vouched = vouched.map_err(|_| Refusal::NoTokenBesideKey)?;
                let caller = match vouched {
                    Some(caller) => caller,
                    None => claimed(headers)?.map_or_else(Caller::default, Caller::new),
                };
                let opened = accounts.of(only_key(headers)?)?;
                Ok(Admitted {
                    gates: Cow::Owned(opened),
                    caller,
                    tally: None,
                    keeps_key: true,
                })
            }
        }
    }

    /// What the calls of whoever sends these headers came to, if anybody counts them.
    pub(crate) fn tally(&self, headers: &HeaderMap) -> Result<Option<Arc<Tally>>, Refusal> {
        match self {
            Keys::Own { .. } => Ok(self.admit(headers)?.tally),
            // No account is opened by looking.
            Keys::Theirs { .. } if self.may_look(headers) => Ok(None),
            Keys::Theirs { .. } => Err(Refusal::WrongToken),
        }
    }

    /// Whether whoever sends these headers may look at the proxy.
    pub(crate) fn may_look(&self, headers: &HeaderMap) -> bool {
        let (tokens, gates) = self.tokens();
        tokens.admit(&gates.config(), token(headers)).is_ok()
    }

    /// Whether nobody but this machine's own programs may look: where clients bring keys of
    /// their own and there is no token to be shown.
    pub(crate) fn are_seen_from_here_alone(&self) -> bool {
        let (tokens, gates) = self.tokens();
        matches!(self, Keys::Theirs { .. }) && !tokens.are_demanded(&gates.config())
    }

    fn tokens(&self) -> (&Tokens, &Gates) {
        match self {
            Keys::Own { tokens, gates, .. } => (tokens, gates),
            Keys::Theirs { tokens, accounts } => (tokens, &accounts.pattern),
        }
    }

    pub(crate) fn base_path(&self) -> &str {
        self.tokens().1.base_path()
    }

    /// As [`Gates::has_tasks`].
    pub(crate) fn upstream_has_tasks(&self) -> bool {
        self.tokens().1.has_tasks()
    }

    /// The account's part in a shared ledger, if it has one.
    pub(crate) fn sharing(&self) -> Option<Sharing> {
        match self {
            Keys::Own { gates, .. } => gates.sharing(),
            Keys::Theirs { .. } => None,
        }
    }

    pub(crate) fn snapshots(&self) -> Vec<AccountSnapshot> {
        match self {
            Keys::Own { gates, .. } => vec![gates.snapshot()],
            Keys::Theirs { accounts, .. } => {
                let opened = accounts.all();
                opened.iter().map(Gates::snapshot).collect()
            }
        }
    }

    pub(crate) fn close(&self) {
        match self {
            Keys::Own { gates, .. } => gates.close(),
            Keys::Theirs { accounts, .. } => accounts.close(),
        }
    }
}

/// Who calls: as the token says; or, where it says nothing, as the client does. A name to
/// which the file gives a weight, or some token a bearer, is nobody's to claim.
fn caller(
    tokens: &Tokens,
    gates: &Gates,
    config: &AccountConfig,
    headers: &HeaderMap,
    token: Option<&[u8]>,
) -> Result<Caller, Refusal> {
    if let Some(caller) = tokens.admit(config, token)? {
        return Ok(caller);
    }
    let Some(name) = claimed(headers)? else {
        return Ok(Caller::default());
    };
    let is_heavy = gates.weight_of(&name).is_some_and(|weight| weight > 1);
    match is_heavy || tokens.name(config, &name) {
        true => Err(Refusal::NotVouched { caller: name }),
        false => Ok(Caller::new(name)),
    }
}
