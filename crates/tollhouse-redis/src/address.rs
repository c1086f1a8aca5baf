//! Where the ledger is.

use std::fmt;

use redis::{
    ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo,
};

/// One server, several that are one, or several that know of one.
#[derive(Clone)]
pub(crate) enum Address {
    /// One server.
    Server(ConnectionInfo),
    /// Some nodes of a cluster.
    #[cfg(feature = "cluster")]
    Cluster(Vec<ConnectionInfo>),
    /// Sentinels, which know who is the master of that name.
    #[cfg(feature = "sentinel")]
    Sentinels {
        sentinels: Vec<ConnectionInfo>,
        master: String,
        /// How to introduce ourselves to the master.
        node: RedisConnectionInfo,
        /// Whether the master is spoken to by TLS, as the sentinels are.
        tls: bool,
    },
}

/// An address that cannot be used; says why, and never repeats it, since it may have a
/// password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressError {
    why: String,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the address of Redis is wrong: {}; it is one of redis://HOST:PORT/DATABASE, \
             rediss:// for TLS, redis-cluster://HOST:PORT,HOST:PORT, \
             redis-sentinel://HOST:PORT,HOST:PORT/DATABASE?sentinel=USER:PASSWORD#MASTER (rediss- \
             for TLS), with USER:PASSWORD@ before the host, or unix:///PATH",
            self.why
        )
    }
}

impl std::error::Error for AddressError {}

fn wrong(why: impl fmt::Display) -> AddressError {
    AddressError {
        why: why.to_string(),
    }
}

impl Address {
    /// Reads one.
    pub(crate) fn parse(url: &str) -> Result<Self, AddressError> {
        let (scheme, _) = url
            .split_once("://")
            .ok_or_else(|| wrong("it has no scheme"))?;
        if !cfg!(feature = "tls") && ["rediss", "valkeys"].contains(&base(scheme)) {
            return Err(wrong("this build has no TLS (feature `tls`)"));
        }
        match kind(scheme) {
            None => Ok(Address::Server(server(url)?)),
            #[cfg(feature = "cluster")]
            Some("cluster") => {
                let nodes = Nodes::of(url);
                let urls = nodes.urls(base(scheme), nodes.tail);
                let nodes = urls.iter().map(|url| server(url));
                Ok(Address::Cluster(nodes.collect::<Result<_, _>>()?))
            }
            #[cfg(feature = "sentinel")]
            Some("sentinel") => sentinels(base(scheme), url),
            Some(_) => Err(wrong(
                "its scheme is not known here (features `cluster` and `sentinel`)",
            )),
        }
    }
}

/// `redis` of `redis-cluster`.
fn base(scheme: &str) -> &str {
    scheme.split_once('-').map_or(scheme, |(base, _)| base)
}

/// `cluster` of `redis-cluster`.
fn kind(scheme: &str) -> Option<&str> {
    scheme.split_once('-').map(|(_, kind)| kind)
}

fn server(url: &str) -> Result<ConnectionInfo, AddressError> {
    let info = url.into_connection_info().map_err(|error| {
        // What is behind the dash are details, which may quote the address.
        let told = error.to_string();
        wrong(told.split(" - ").next().unwrap_or_default())
    })?;
    let redis = resp3(info.redis_settings());
    Ok(info.set_redis_settings(redis))
}

/// Pushes news on the one connection.
fn resp3(settings: &RedisConnectionInfo) -> RedisConnectionInfo {
    settings.clone().set_protocol(ProtocolVersion::RESP3)
}

/// Several hosts, with what is before and behind them.
#[cfg(any(feature = "cluster", feature = "sentinel"))]
struct Nodes<'a> {
    user: &'a str,
    hosts: Vec<&'a str>,
    tail: &'a str,
}

#[cfg(any(feature = "cluster", feature = "sentinel"))]
impl<'a> Nodes<'a> {
    fn of(url: &'a str) -> Self {
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        let (user, rest) = rest.rsplit_once('@').unwrap_or(("", rest));
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (hosts, tail) = rest.split_at(end);
        Nodes {
            user,
            hosts: hosts.split(',').map(str::trim).collect(),
            tail,
        }
    }

    fn urls(&self, scheme: &str, tail: &str) -> Vec<String> {
        let before = match self.user {
            "" => String::new(),
            user => format!("{user}@"),
        };
        let hosts = self.hosts.iter();
        hosts
            .map(|host| format!("{scheme}://{before}{host}{tail}"))
            .collect()
    }
}

#[cfg(feature = "sentinel")]
fn sentinels(scheme: &str, url: &str) -> Result<Address, AddressError> {
    const PORT: u16 = 26_379;
    const CREDENTIALS: &str = "sentinel=";
    let nodes = Nodes::of(url);
    let (tail, master) = nodes.tail.rsplit_once('#').unwrap_or((nodes.tail, ""));
    if master.is_empty() {
        return Err(wrong("it does not name the master, after a #"));
    }
    let (database, query) = tail.split_once('?').unwrap_or((tail, ""));
    let (own, others) = query
        .split('&')
        .partition::<Vec<_>, _>(|pair| pair.starts_with(CREDENTIALS));
    let user = own.first().map_or("", |pair| &pair[CREDENTIALS.len()..]);
    if own.len() > 1 || !(own.is_empty() || user.contains(':')) {
        return Err(wrong(
            "what the sentinels are to be shown is sentinel=USER:PASSWORD, or \
             sentinel=:PASSWORD, once",
        ));
    }
    let node = nodes.urls(scheme, &format!("{database}?{}", others.join("&")));
    let node = server(&node[0])?;
    // They know of a master what they know, by names and passwords of their own.
    let theirs = Nodes {
        user,
        hosts: nodes.hosts,
        tail: "",
    };
    let urls = theirs.urls(scheme, "");
    let sentinels = urls.iter().zip(&theirs.hosts).map(|(url, host)| {
        let with_port = match host.rsplit_once(':') {
            Some((_, port)) if port.parse::<u16>().is_ok() => url.clone(),
            _ => format!("{url}:{PORT}"),
        };
        server(&with_port)
    });
    Ok(Address::Sentinels {
        sentinels: sentinels.collect::<Result<_, _>>()?,
        master: master.to_owned(),
        node: node.redis_settings().clone(),
        tls: scheme.ends_with('s') && scheme != "redis",
    })
}

impl Address {
    pub(crate) fn is_tls(&self) -> bool {
        match self {
            Address::Server(info) => matches!(info.addr(), ConnectionAddr::TcpTls { .. }),
            #[cfg(feature = "cluster")]
            Address::Cluster(nodes) => {
                let mut nodes = nodes.iter();
                nodes.any(|info| matches!(info.addr(), ConnectionAddr::TcpTls { .. }))
            }
            #[cfg(feature = "sentinel")]
            Address::Sentinels { tls, .. } => *tls,
        }
    }

    pub(crate) fn has_sentinels(&self) -> bool {
        match self {
            #[cfg(feature = "sentinel")]
            Address::Sentinels { .. } => true,
            _ => false,
        }
    }
}

/// As it is written in a URL.
fn shown(info: &ConnectionInfo) -> String {
    match info.addr() {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. }
            if host.contains(':') =>
        {
            format!("[{host}]:{port}")
        }
        addr => addr.to_string(),
    }
}

/// Without user and password.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[cfg(any(feature = "cluster", feature = "sentinel"))]
        let list = |nodes: &[ConnectionInfo]| {
            let nodes: Vec<_> = nodes.iter().map(shown).collect();
            nodes.join(",")
        };
        match self {
            Address::Server(info) => f.write_str(&shown(info)),
            #[cfg(feature = "cluster")]
            Address::Cluster(nodes) => write!(f, "the cluster at {}", list(nodes)),
            #[cfg(feature = "sentinel")]
            Address::Sentinels {
                sentinels, master, ..
            } => write!(f, "{master} of the sentinels at {}", list(sentinels)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(url: &str) -> String {
        Address::parse(url).map_or_else(|error| error.why, |address| address.to_string())
    }

    #[test]
    fn addresses_are_read_and_shown_without_passwords() {
        for (url, said) in [
            ("redis://10.0.0.5", "10.0.0.5:6379"),
            ("redis://me:s3cret@10.0.0.5:7000/3", "10.0.0.5:7000"),
            ("valkey://:s3cret@host", "host:6379"),
            ("redis://:s3cret@[::1]:7000", "[::1]:7000"),
            ("unix:///run/redis.sock", "/run/redis.sock"),
            ("redis://host/x", "Invalid database number"),
            ("host:6379", "it has no scheme"),
            ("http://host", "Redis URL did not parse"),
        ] {
            assert_eq!(told(url), said);
        }
    }

    #[test]
    fn user_password_and_database_reach_the_server() {
        let Ok(Address::Server(info)) = Address::parse("redis://me:p%40ss@host/3") else {
            panic!("one server");
        };
        let settings = info.redis_settings();
        assert_eq!(settings.username(), Some("me"));
        assert_eq!(settings.password(), Some("p@ss"));
        assert_eq!(settings.db(), 3);
    }

    #[test]
    #[cfg(feature = "cluster")]
    fn a_cluster_has_several_nodes() {
        assert_eq!(told("redis-cluster://:p@a:1,b:2"), "the cluster at a:1,b:2");
    }

    #[test]
    #[cfg(feature = "sentinel")]
    fn sentinels_name_a_master() {
        assert_eq!(
            told("redis-sentinel://:p@a,b:2/1#main"),
            "main of the sentinels at a:26379,b:2"
        );
        assert_eq!(
            told("redis-sentinel://a"),
            "it does not name the master, after a #"
        );
        for (url, user, password) in [
            ("redis-sentinel://me:p@a/1#main", None, None),
            (
                "redis-sentinel://me:p@a/1?sentinel=you:q%40%26#main",
                Some("you"),
                Some("q@&"),
            ),
            (
                "redis-sentinel://me:p@a/1?protocol=resp2&sentinel=:q#main",
                None,
                Some("q"),
            ),
        ] {
            let Ok(Address::Sentinels {
                node,
                tls,
                sentinels,
                ..
            }) = Address::parse(url)
            else {
                panic!("sentinels");
            };
            assert_eq!((node.db(), node.password(), tls), (1, Some("p"), false));
            assert_eq!(node.username(), Some("me"));
            let theirs = sentinels[0].redis_settings();
            assert_eq!((theirs.username(), theirs.password()), (user, password));
        }
        for url in [
            "redis-sentinel://a?sentinel=s3cret#main",
            "redis-sentinel://a?sentinel=:s3cret&sentinel=:q#main",
        ] {
            let said = told(url);
            assert!(said.starts_with("what the sentinels are"), "{said}");
        }
    }

    #[test]
    #[cfg(all(feature = "sentinel", feature = "tls"))]
    fn tls_is_for_sentinels_and_master_alike() {
        for (url, is_tls) in [
            ("redis-sentinel://:p@a,b:2?sentinel=:q#main", false),
            ("valkey-sentinel://a,b:2#main", false),
            ("rediss-sentinel://:p@a,b:2?sentinel=:q#main", true),
            ("valkeys-sentinel://a,b:2#main", true),
        ] {
            let address = Address::parse(url).expect("an address");
            assert_eq!(address.is_tls(), is_tls, "{url}");
            assert_eq!(address.to_string(), "main of the sentinels at a:26379,b:2");
            let Address::Sentinels { sentinels, .. } = address else {
                panic!("sentinels");
            };
            let by_tls =
                |info: &ConnectionInfo| matches!(info.addr(), ConnectionAddr::TcpTls { .. });
            assert!(sentinels.iter().all(|it| by_tls(it) == is_tls), "{url}");
        }
    }

    #[test]
    #[cfg(not(feature = "tls"))]
    fn tls_is_named_where_it_is_missing() {
        assert!(told("rediss://host").contains("feature `tls`"));
    }
}
