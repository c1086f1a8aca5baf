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

/// The same of an attempt to connect, in which a server that hangs up may have been spoken to in
/// the wrong way.
pub(crate) fn while_connecting(error: &RedisError, address: &Address) -> String {
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
        _ if told.contains("WRONGTYPE") => {
            "something else has the account's key: another name is meant"
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
