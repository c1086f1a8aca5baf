//! Tokens of the proxy's own: who is let in, and by which name.

use std::fmt;
use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use subtle::{Choice, ConstantTimeEq};
use tollhouse_openai::{AccountConfig, Caller};

use crate::error::Refusal;
use crate::headers::{API_KEY, CALLER, TOKEN, ends_key, keys_among_protocols};
use crate::names;

/// Whoever it vouches for, of what a client shows.
pub(crate) type Vouch = Arc<dyn Fn(&str) -> Option<Caller> + Send + Sync>;

/// A token, and the caller that it names, if it names one.
pub(crate) struct Token {
    pub(crate) secret: String,
    pub(crate) caller: Option<Caller>,
}

/// All tokens beside those in the account's file.
#[derive(Default)]
pub(crate) struct Tokens {
    pub(crate) given: Vec<Token>,
    pub(crate) vouch: Option<Vouch>,
    /// Whether a token is demanded even where the file names none any more: what was
    /// closed when it began to listen is not opened by an edit.
    pub(crate) is_guarded: bool,
}

impl Tokens {
    /// Whether anybody needs one, as the account is now.
    pub(crate) fn are_demanded(&self, config: &AccountConfig) -> bool {
        self.is_guarded
            || !self.given.is_empty()
            || self.vouch.is_some()
            || config.tokens().next().is_some()
    }

    /// Lets in whoever shows a token, or needs none: with the caller that it names.
    pub(crate) fn admit(
        &self,
        config: &AccountConfig,
        shown: Option<&[u8]>,
    ) -> Result<Option<Caller>, Refusal> {
        if !self.are_demanded(config) {
            return Ok(None);
        }
        let shown = shown.ok_or(Refusal::NoToken)?;
        let known = self.known(config, shown);
        known.ok_or(Refusal::WrongToken)
    }

    /// All of them are compared, each in a time that tells nothing but lengths.
    fn known(&self, config: &AccountConfig, shown: &[u8]) -> Option<Option<Caller>> {
        let is_shown = |secret: &str| {
            let same: Choice = secret.as_bytes().ct_eq(shown);
            bool::from(same)
        };
        let mut found = None;
        for token in &self.given {
            if is_shown(&token.secret) {
                found = Some(token.caller.clone());
            }
        }
        for (caller, secret) in config.tokens() {
            if is_shown(secret) {
                found = Some(Some(Caller::new(caller)));
            }
        }
        found.or_else(|| self.vouched(shown).map(Some))
    }

    fn vouched(&self, shown: &[u8]) -> Option<Caller> {
        self.vouch.as_ref()?(str::from_utf8(shown).ok()?)
    }

    /// Whether a name is a caller's that some token names.
    pub(crate) fn name(&self, config: &AccountConfig, caller: &str) -> bool {
        let given = self.given.iter().filter_map(|token| token.caller.as_ref());
        let mut given = given.filter_map(Caller::name);
        given.any(|name| name == caller) || config.tokens().any(|(name, _)| name == caller)
    }
}

/// What a client shows as a token of this proxy's: beside a key, or in its place.
pub(crate) fn token(headers: &HeaderMap) -> Option<&[u8]> {
    beside_key(headers).or_else(|| shown(headers))
}

/// What a client shows beside a key of its own.
pub(crate) fn beside_key(headers: &HeaderMap) -> Option<&[u8]> {
    headers.get(TOKEN).map(HeaderValue::as_bytes)
}

/// What a client shows as its key: a bearer token, or an `api-key` as Azure's clients send it.
pub(crate) fn shown(headers: &HeaderMap) -> Option<&[u8]> {
    let bearer = headers.get(AUTHORIZATION).and_then(bearer);
    bearer.or_else(|| headers.get(API_KEY).map(HeaderValue::as_bytes))
}

/// The key that goes on with a call. The account is its, and the provider may go by whichever it
/// sees: so there is no other one.
pub(crate) fn only_key(headers: &HeaderMap) -> Result<&[u8], Refusal> {
    let key = shown(headers).ok_or(Refusal::NoKey)?;
    if ends_key(headers) {
        return Err(Refusal::KeyEndsHere);
    }
    let bearers = headers.get_all(AUTHORIZATION).iter().map(bearer);
    let others = headers.get_all(API_KEY).iter().map(HeaderValue::as_bytes);
    let others = others.chain(keys_among_protocols(headers));
    let mut all = bearers.chain(others.map(Some));
    match all.all(|named| named == Some(key)) {
        true => Ok(key),
        false => Err(Refusal::SeveralKeys),
    }
}

fn bearer(value: &HeaderValue) -> Option<&[u8]> {
    let (kind, token) = value.as_bytes().split_at_checked(BEARER.len())?;
    kind.eq_ignore_ascii_case(BEARER).then_some(token)
}

const BEARER: &[u8] = b"Bearer ";

/// What a client calls itself where no token names it; nothing that is long. A name that
/// were cut, or left out, would be somebody else's.
pub(crate) fn claimed(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let Some(name) = headers.get(CALLER) else {
        return Ok(None);
    };
    let name = name.to_str().map_err(|_| Refusal::BadCaller)?;
    match names::caller(name) {
        Some(name) => Ok(Some(name.to_owned())),
        None if name.trim().is_empty() => Ok(None),
        None => Err(Refusal::BadCaller),
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("caller", &self.caller)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("given", &self.given)
            .field("is_guarded", &self.is_guarded)
            .finish_non_exhaustive()
    }
}
