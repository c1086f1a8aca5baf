//! What the errors of a server and of the way to it mean, and what to do about them.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::address::Address;

/// An error in the server's words, and in ours where those say little.
pub(crate) fn in_words(error: &RedisError, address: &Address) -> String {
    let told = error.to_string();
    match meaning(error, &told, address) {
        Some(meaning) => format!("{meaning} ({told})"),
        None => told,
    }
}

/// What is wrong with what is kept under the account's key, if that is it: `exchange.lua` says which.
pub(crate) fn of_what_is_kept(error: &RedisError, key: &str) -> Option<String> {
    let told = error.to_string();
    let is_foreign = error.code() == Some("FOREIGN") || told.contains("WRONGTYPE");
    match error.detail().filter(|_| error.code() == Some("LAYOUT")) {
        Some(numbers) => of_another_layout(numbers, key),
        None if is_foreign => Some(format!(
            "something else has the account's key {key}: another name is meant"
        )),
        None if is_of_values(&told) => Some(format!(
            "what the account's key {key} has cannot be read: it is damaged, and DEL of it lets all \
             begin anew ({told})"
        )),
        None => None,
    }
}

/// Whether a script came upon values that are none: in Lua's own words, and those of its reader of
/// MessagePack.
fn is_of_values(told: &str) -> bool {
    let words = ["attempt to ", "bad argument", "in input"];
    told.contains("user_script") && words.iter().any(|it| told.contains(it))
}

/// The number that was found, and the one that is known.
fn of_another_layout(numbers: &str, key: &str) -> Option<String> {
    let (found, known) = numbers.split_once(' ')?;
    let [number, other] = [found, known].map(|it| it.parse::<u64>().ok());
    let (whose, what_now) = match number? > other? {
        true => (
            "a newer",
            "give all processes one version; if no newer one is to come again, DEL of that key lets \
             older ones begin anew",
        ),
        false => (
            "an older",
            "it is replaced four seconds after the last process of that one has gone",
        ),
    };
    Some(format!(
        "the account's key {key} has layout {found} of {whose} Tollhouse, and this one knows \
         layout {known}: {what_now}"
    ))
}

/// The same of an attempt to connect, in which a server that hangs up may have been spoken to in
/// the wrong way.
pub(crate) fn while_connecting(error: &RedisError, address: &Address) -> String {
    if error.is_connection_refusal() {
        return format!("nobody listens there ({error})");
    }
    if error.is_connection_dropped() && !address.is_tls() {
        return format!("it hung up: where it speaks TLS, rediss:// is meant ({error})");
    }
    in_words(error, address)
}

/// The same where nothing came.
pub(crate) fn silent(told: &str, address: &Address) -> String {
    match address.is_tls() {
        true => format!("{told}: where it speaks no TLS, redis:// is meant"),
        false => told.to_owned(),
    }
}

/// Whether this one may not write, and another one may.
pub(crate) fn is_of_a_replica(error: &RedisError, told: &str) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly) || told.contains("READONLY")
}

fn meaning(error: &RedisError, told: &str, address: &Address) -> Option<&'static str> {
    let is_asked_elsewhere = address.has_sentinels();
    let meaning = match error.kind() {
        // Redis 6 tells in its own words what went wrong within a script.
        _ if is_of_a_replica(error, told) => "it is a replica: the address of its master is meant",
        ErrorKind::Server(ServerErrorKind::NoPerm) => {
            "its user may do too little: ~tollhouse:* &tollhouse:* and the commands of the guide \
             are needed"
        }
        ErrorKind::RESP3NotSupported => "it is older than Redis 6",
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => {
            "it does not speak the protocol of Redis"
        }
        _ if told.contains("NOAUTH") => match is_asked_elsewhere {
            true => {
                "a password is wanted: USER:PASSWORD@ before the hosts for the master, and \
                 ?sentinel=USER:PASSWORD for the sentinels"
            }
            false => "a password is wanted: USER:PASSWORD@ before the host",
        },
        _ if told.contains("WRONGPASS") || error.kind() == ErrorKind::AuthenticationFailed => {
            match is_asked_elsewhere {
                true => {
                    "a password is wrong, the master's before the hosts or the sentinels' in \
                     ?sentinel=USER:PASSWORD"
                }
                false => "the user or the password is wrong",
            }
        }
        _ if told.contains("DB index is out of range") => {
            "it has no database of that number; 0 is there"
        }
        _ if told.contains("OOM") => {
            "it is full: it needs a higher maxmemory, or a maxmemory-policy that evicts"
        }
        _ if told.contains("unknown command") => "it has no EVAL and EVALSHA, which are needed",
        _ if told.contains("InvalidContentType") => "it speaks no TLS: redis:// is meant",
        _ if told.contains("peer certificate") => {
            "its certificate is not trusted: a CA of your own is named by SSL_CERT_FILE"
        }
        _ => return None,
    };
    Some(meaning)
}
