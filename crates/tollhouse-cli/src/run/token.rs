//! Tokens that say whom they vouch for, and are believed because they are signed.
//!
//! Whoever can read a room's secret can sign for any caller, and nobody else can. A daemon
//! that was started again knows the tokens of its forerunner without having heard of one.

use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use tollhouse_openai::Caller;

use crate::failure::{self, BoxError};

/// Stands before every token.
const MARK: &str = "th-";

/// The weight and what makes a token another one.
const HEAD: usize = 4 + 16;

/// Signs tokens; as text it is a token itself, that vouches for nobody.
pub(super) struct Secret {
    text: String,
    key: hmac::Key,
}

/// Whom a token vouches for.
#[derive(Debug)]
pub(super) struct Signed {
    pub(super) caller: String,
    pub(super) weight: u32,
}

impl Secret {
    pub(super) fn new(text: &str) -> Self {
        Secret {
            text: text.to_owned(),
            key: hmac::Key::new(hmac::HMAC_SHA256, text.as_bytes()),
        }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// A token that is like no other, for the same caller or not.
    ///
    /// # Errors
    ///
    /// The operating system has no randomness.
    pub(super) fn sign(&self, signed: &Signed) -> Result<String, BoxError> {
        let mut said = signed.weight.to_be_bytes().to_vec();
        said.extend_from_slice(&random::<16>()?);
        said.extend_from_slice(signed.caller.as_bytes());
        let tag = hmac::sign(&self.key, &said);
        Ok(format!("{MARK}{}-{}", hex(&said), hex(tag.as_ref())))
    }

    /// The caller that a token vouches for, if it was signed with this.
    pub(super) fn vouch(&self, token: &str) -> Option<Caller> {
        let (said, tag) = token.strip_prefix(MARK)?.split_once('-')?;
        let (said, tag) = (bytes(said)?, bytes(tag)?);
        hmac::verify(&self.key, &said, &tag).ok()?;
        let (head, caller) = said.split_at_checked(HEAD)?;
        let weight = u32::from_be_bytes(head[..4].try_into().ok()?);
        let caller = str::from_utf8(caller).ok()?;
        Some(Caller::new(caller).weight(weight.clamp(1, 1_000_000)))
    }
}

/// Bytes that nobody can guess.
pub(super) fn random<const N: usize>() -> Result<[u8; N], BoxError> {
    let mut bytes = [0; N];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| failure::error("the operating system has no randomness"))?;
    Ok(bytes)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let pairs = hex.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
    pairs.map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_vouches_for_whom_it_was_signed_for_and_no_other() {
        let (ours, other) = (Secret::new("ours"), Secret::new("other"));
        let signed = Signed {
            caller: "naïve -name".to_owned(),
            weight: 7,
        };
        let token = ours.sign(&signed).unwrap();
        assert!(token.bytes().all(|byte| byte.is_ascii_graphic()), "{token}");
        let caller = ours.vouch(&token).expect("our own");
        assert_eq!(
            (caller.name(), caller.get_weight()),
            (Some("naïve -name"), 7)
        );
        assert_ne!(ours.sign(&signed).unwrap(), token, "each is another one");
        assert!(other.vouch(&token).is_none());
        // Whatever letter is another one.
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(ours.vouch(&changed).is_none(), "{at}: {changed}");
        }
        for none in ["", "th-", "th--", "ours", "th-00-00", "th-é-00"] {
            assert!(ours.vouch(none).is_none(), "{none}");
        }
    }
}
