use std::time::Duration;

use http::HeaderValue;
use tollhouse_openai::{Account, OpenAi, Policy};

use super::accounts::FORGOTTEN_AFTER;
use super::tokens::Token;
use super::*;
use crate::names::LONGEST_CALLER;

fn gates() -> Gates {
    let openai = OpenAi::builder().base_url("http://127.0.0.1:1/v1").build();
    Gates::new(Account::new(Policy::default()), openai.unwrap())
}

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.insert(*name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn admitted(keys: &Keys, lines: &[(&'static str, &str)]) -> Result<String, Refusal> {
    let admitted = keys.admit(&headers(lines))?;
    Ok(admitted.caller.name().unwrap_or_default().to_owned())
}

fn own(file: &str, tokens: Tokens) -> Keys {
    let openai = OpenAi::builder().base_url("http://127.0.0.1:1/v1").build();
    let account = Account::from_toml(file).unwrap();
    Keys::Own {
        tokens,
        tallies: Tallies::new(),
        gates: Box::new(Gates::new(account, openai.unwrap())),
    }
}

fn token(secret: &str, caller: Option<&str>) -> Token {
    Token {
        secret: secret.to_owned(),
        caller: caller.map(Caller::new),
    }
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

#[tokio::test]
async fn tokens_name_their_caller_and_nothing_else_does() {
    let keys = own(
        "[tokens]\nbatch = [\"t-22\", \"t-23\"]\n",
        Tokens {
            given: vec![token("t-1", Some("web")), token("t-all", None)],
            vouch: Some(Arc::new(|shown| {
                let name = shown.strip_prefix("signed-")?;
                Some(Caller::new(name).weight(7))
            })),
            ..Tokens::default()
        },
    );
    for (lines, caller) in [
        (&[("authorization", "Bearer t-1")][..], Ok("web")),
        (
            &[
                ("authorization", "bearer t-22"),
                ("x-tollhouse-caller", "web"),
            ],
            Ok("batch"),
        ),
        (&[("api-key", "t-23")], Ok("batch")),
        (&[("authorization", "Bearer signed-me")], Ok("me")),
        (&[("authorization", "Bearer t-all")], Ok("")),
        (&[("x-tollhouse-token", "t-1")], Ok("web")),
        (
            &[
                ("x-tollhouse-token", "t-2"),
                ("authorization", "Bearer t-1"),
            ],
            Err(Refusal::WrongToken),
        ),
        (
            &[("api-key", "t-all"), ("x-tollhouse-caller", "mine")],
            Ok("mine"),
        ),
        (&[("authorization", "Bearer t-2")], Err(Refusal::WrongToken)),
        (&[("authorization", "Bearer ")], Err(Refusal::WrongToken)),
        (&[("authorization", "Basic t-1")], Err(Refusal::NoToken)),
        (&[("x-tollhouse-caller", "web")], Err(Refusal::NoToken)),
    ] {
        let caller = caller.map(str::to_owned);
        assert_eq!(admitted(&keys, lines), caller, "{lines:?}");
    }
    let signed = headers(&[("api-key", "signed-me")]);
    assert_eq!(keys.admit(&signed).unwrap().caller.get_weight(), 7);
    assert!(!format!("{keys:?}").contains("t-"), "{keys:?}");
}

#[tokio::test]
async fn a_token_beside_a_key_names_the_caller_where_it_names_one() {
    let openai = OpenAi::builder().base_url("http://127.0.0.1:1/v1").build();
    let keys = Keys::Theirs {
        tokens: Tokens {
            given: vec![token("t-1", Some("web")), token("t-all", None)],
            ..Tokens::default()
        },
        accounts: Box::new(Accounts::new(gates(), openai.unwrap(), 2)),
    };
    let key = ("authorization", "Bearer sk-own");
    let called = ("x-tollhouse-caller", "me");
    for (token, caller) in [
        ("t-1", Ok("web".to_owned())),
        ("t-all", Ok("me".to_owned())),
        ("t-2", Err(Refusal::NoTokenBesideKey)),
    ] {
        let shown = [key, called, ("x-tollhouse-token", token)];
        assert_eq!(admitted(&keys, &shown), caller, "{token}");
    }
    let keyless = [("x-tollhouse-token", "t-1")];
    assert_eq!(admitted(&keys, &keyless), Err(Refusal::NoKey));
}

/// A name with a weight, or with a token, is its bearer's.
#[tokio::test]
async fn nobody_claims_a_name_that_somebody_vouches_for() {
    let file = "[callers.\"heavy*\"]\nweight = 8\n[callers.light]\nweight = 1\n\
                [tokens]\nnamed = \"t-named\"\n";
    let given = vec![token("t-all", None), token("t-1", Some("given"))];
    let keys = own(
        file,
        Tokens {
            given,
            ..Tokens::default()
        },
    );
    let as_caller =
        |name: &str| admitted(&keys, &[("api-key", "t-all"), ("x-tollhouse-caller", name)]);
    for name in ["light", "anybody"] {
        assert_eq!(as_caller(name), Ok(name.to_owned()));
    }
    for name in ["heavy", "heavy-duty", " heavy ", "named", "given"] {
        let caller = name.trim().to_owned();
        assert_eq!(as_caller(name), Err(Refusal::NotVouched { caller }));
    }
    // Without any token nobody can vouch.
    let open = own("[callers.heavy]\nweight = 8\n", Tokens::default());
    let refused = admitted(&open, &[("x-tollhouse-caller", "heavy")]);
    assert!(matches!(refused, Err(Refusal::NotVouched { .. })));
}

/// An edit of the file adds and takes away, and opens nothing that was closed.
#[tokio::test]
async fn the_files_tokens_are_those_of_the_moment() {
    let openai = OpenAi::builder().base_url("http://127.0.0.1:1/v1").build();
    let openai = openai.unwrap();
    let account = Account::from_toml("[tokens]\nweb = \"t-1\"\n").unwrap();
    let keys = |is_guarded| Keys::Own {
        tokens: Tokens {
            is_guarded,
            ..Tokens::default()
        },
        tallies: Tallies::new(),
        gates: Box::new(Gates::new(account.clone(), openai.clone())),
    };
    let (closed, open) = (keys(true), keys(false));
    let ask = |keys: &Keys, token: &str| admitted(keys, &[("authorization", &bearer(token))]);
    assert_eq!(ask(&closed, "t-1"), Ok("web".to_owned()));
    account.reload_toml("[tokens]\nweb = \"t-2\"\n").unwrap();
    assert_eq!(ask(&closed, "t-1"), Err(Refusal::WrongToken));
    assert_eq!(ask(&closed, "t-2"), Ok("web".to_owned()));
    account.reload_toml("").unwrap();
    assert_eq!(ask(&closed, "t-2"), Err(Refusal::WrongToken));
    assert_eq!(ask(&open, "t-2"), Ok(String::new()));
}

#[tokio::test]
async fn without_tokens_anybody_may_call_by_any_name() {
    let keys = own("", Tokens::default());
    assert_eq!(admitted(&keys, &[]), Ok(String::new()));
    for name in ["x".repeat(LONGEST_CALLER), "me and you".to_owned()] {
        let caller = admitted(&keys, &[("x-tollhouse-caller", &name)]);
        assert_eq!(caller, Ok(name));
    }
    let caller = admitted(&keys, &[("x-tollhouse-caller", " ")]);
    assert_eq!(caller, Ok(String::new()));
}

/// Of two names that begin alike, and of one that cannot be read, none is another's.
#[tokio::test]
async fn a_name_that_cannot_be_kept_is_refused_and_nobody_elses() {
    let openai = OpenAi::builder().base_url("http://127.0.0.1:1/v1").build();
    let theirs = Keys::Theirs {
        tokens: Tokens::default(),
        accounts: Box::new(Accounts::new(gates(), openai.unwrap(), 2)),
    };
    let long = "x".repeat(LONGEST_CALLER + 1);
    for name in [&*long, "J\u{fc}rgen", "\u{fc}", "a\tb"] {
        let shown = [("api-key", "sk-1"), ("x-tollhouse-caller", name)];
        for keys in [&own("", Tokens::default()), &theirs] {
            assert_eq!(admitted(keys, &shown), Err(Refusal::BadCaller), "{name}");
        }
    }
    // A token says who it is, whatever else is said.
    let named = own("[tokens]\nweb = \"t-1\"\n", Tokens::default());
    let shown = [("api-key", "t-1"), ("x-tollhouse-caller", &*long)];
    assert_eq!(admitted(&named, &shown), Ok("web".to_owned()));
}

/// Accounts that are open go by the file's new numbers from their next call on.
#[tokio::test]
async fn the_account_of_a_key_follows_the_file() {
    let openai = OpenAi::builder().base_url("http://127.0.0.1:1/v1").build();
    let openai = openai.unwrap();
    let account = Account::from_toml("[defaults]\nmax_concurrency = 2\n").unwrap();
    let accounts = Accounts::new(Gates::new(account.clone(), openai.clone()), openai, 2);
    let slots = |gates: Gates| gates.config().defaults.max_concurrency;
    assert_eq!(slots(accounts.of(b"a").unwrap()), 2);
    account
        .reload_toml("[defaults]\nmax_concurrency = 5\n")
        .unwrap();
    assert_eq!(slots(accounts.of(b"a").unwrap()), 5);
    assert_eq!(slots(accounts.of(b"b").unwrap()), 5);
}

#[tokio::test(start_paused = true)]
async fn accounts_are_bounded_and_the_oldest_idle_one_is_forgotten() {
    let keys = bounded(2);
    let with = |key: &str| {
        let admitted = keys.admit(&headers(&[("authorization", &bearer(key))]))?;
        admitted.gates.prove();
        Ok(())
    };
    assert_eq!((with("a"), with("b"), with("a")), (Ok(()), Ok(()), Ok(())));
    assert_eq!(with("c"), Err(Refusal::TooManyKeys));
    tokio::time::advance(FORGOTTEN_AFTER - Duration::from_millis(1)).await;
    assert_eq!(with("a"), Ok(()));
    assert_eq!(with("c"), Err(Refusal::TooManyKeys));
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(with("c"), Ok(()));
    assert_eq!(with("a"), Ok(()), "b was the oldest");
    assert_eq!(with("b"), Err(Refusal::TooManyKeys));
    keys.close();
    assert_eq!(keys.snapshots().len(), 2);
    assert_eq!(with("d"), Err(Refusal::Closing));
    assert_eq!(admitted(&keys, &[]), Err(Refusal::NoKey));
}

/// Whoever makes keys up fills no place for long, and takes none that the provider knows.
#[tokio::test(start_paused = true)]
async fn a_key_that_the_provider_does_not_know_is_forgotten_first() {
    let keys = bounded(2);
    let with = |key: &str| keys.admit(&headers(&[("authorization", &bearer(key))]));
    with("good").unwrap().gates.prove();
    for made_up in ["a", "b", "c"] {
        assert!(with(made_up).is_ok(), "{made_up}");
    }
    let reading_its_body = with("d").unwrap();
    assert_eq!(with("e").err(), Some(Refusal::TooManyKeys));
    drop(reading_its_body);
    assert!(with("other").is_ok());
    assert!(with("good").unwrap().gates.are_proven(), "it was kept");
}

/// Or the gauges of one would be the other's.
#[tokio::test(start_paused = true)]
async fn metrics_tell_the_accounts_that_are_open() {
    let keys = bounded(2);
    let with = |key: &str| keys.admit(&headers(&[("authorization", &bearer(key))]));
    let name = |key| with(key).unwrap().gates.config().defaults.name.clone();
    assert_eq!(name("a").as_deref(), Some("key-1"));
    assert_eq!(name("b").as_deref(), Some("key-2"));
    assert_eq!(name("a").as_deref(), Some("key-1"));
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(name("b").as_deref(), Some("key-2"));
    assert_eq!(name("c").as_deref(), Some("key-1"), "in a's place");
}

fn bounded(most: usize) -> Keys {
    let openai = OpenAi::builder().base_url("http://127.0.0.1:1/v1").build();
    Keys::Theirs {
        tokens: Tokens::default(),
        accounts: Box::new(Accounts::new(gates(), openai.unwrap(), most)),
    }
}

/// Whatever stands beside it.
#[test]
fn another_key_among_protocols_is_seen() {
    let protocols: &[u8] = b"realtime, openai-insecure-api-key.other, \xff";
    let mut shown = headers(&[("authorization", "Bearer one")]);
    shown.insert(
        "sec-websocket-protocol",
        HeaderValue::from_bytes(protocols).unwrap(),
    );
    assert!(matches!(
        super::tokens::only_key(&shown),
        Err(Refusal::SeveralKeys)
    ));
}
