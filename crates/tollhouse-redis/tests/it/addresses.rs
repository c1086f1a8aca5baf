//! Every kind of address leads somewhere: clusters, sentinels, TLS, sockets.

use tollhouse::shared::{Amounts, SharedLedger};
use tollhouse::{Per, Unit};
use tollhouse_redis::{RedisLedger, Status};

use crate::support::process::Process;
use crate::support::server::Server;
use crate::support::{ms, terms};

/// Draws over this address, and hears news.
async fn is_of_use(url: &str) {
    let (ledger, other) = (ledger(url), ledger(url));
    let meters = [terms(Unit::Tokens, Per::Minute, 60_000)];
    let mut process = Process::new(1, &meters);
    process.settle(&ledger).await;
    process.want(Amounts::of(Unit::Tokens, 1_000));
    process.exchange(&ledger).await;
    assert_eq!(process.pool().idle, Amounts::of(Unit::Tokens, 1_000));
    let status = looked(&other).await;
    assert_eq!(status.pools[0].meters[0].held, 1_000);
    // That it listens from now on.
    other.news().await;
    process.pool().held = Some(ms(5_000));
    process.exchange(&ledger).await;
    let told = tokio::time::timeout(ms(1_000), other.news()).await;
    told.expect("a hold is news");
}

/// Connecting may take longer than a look waits.
async fn looked(ledger: &RedisLedger) -> Status {
    let mut away = None;
    for _ in 0..200 {
        match ledger.status().await {
            Ok(status) => return status.expect("a ledger"),
            Err(why) => away = Some(why),
        }
        tokio::time::sleep(ms(20)).await;
    }
    panic!("{away:?}");
}

fn ledger(url: &str) -> RedisLedger {
    RedisLedger::open(url, "test").expect("an address")
}

#[tokio::test]
async fn a_socket() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let socket = folder.path().join("redis.sock").display().to_string();
    let _server = Server::with(&["--unixsocket", &socket]).await;
    is_of_use(&format!("unix://{socket}")).await;
}

#[tokio::test]
#[cfg(feature = "cluster")]
async fn a_cluster() {
    // Three nodes, of which the account's slot is on one.
    let nodes = [
        Server::with(&["--cluster-enabled", "yes"]).await,
        Server::with(&["--cluster-enabled", "yes"]).await,
        Server::with(&["--cluster-enabled", "yes"]).await,
    ];
    let slots = [(0, 5_460), (5_461, 10_922), (10_923, 16_383)];
    for (node, (from, to)) in nodes.iter().zip(slots) {
        let mut words = vec!["CLUSTER".to_owned(), "ADDSLOTS".to_owned()];
        words.extend((from..=to).map(|slot| slot.to_string()));
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        node.run(&words).await;
    }
    for node in &nodes[1..] {
        let port = nodes[0].port().to_string();
        node.run(&["CLUSTER", "MEET", "127.0.0.1", &port]).await;
    }
    for node in &nodes {
        let is_up = async || {
            let told = format!("{:?}", node.run(&["CLUSTER", "INFO"]).await);
            told.contains("cluster_state:ok") && told.contains("cluster_known_nodes:3")
        };
        while !is_up().await {
            tokio::time::sleep(ms(50)).await;
        }
    }
    let [a, b, c] = [nodes[0].port(), nodes[1].port(), nodes[2].port()];
    let url = format!("redis-cluster://127.0.0.1:{a},127.0.0.1:{b},127.0.0.1:{c}");
    is_of_use(&url).await;

    // A node alone says where the slot is, and whoever was told one address is told so.
    let mut told = Vec::new();
    for node in &nodes {
        let mut process = Process::new(2, &[]);
        told.push(process.try_exchange(&node.ledger()).await.err());
    }
    let told: Vec<_> = told.into_iter().flatten().collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told.iter()
            .all(|away| away.to_string().to_uppercase().contains("MOVED")),
        "{told:?}"
    );
}

#[tokio::test]
#[cfg(feature = "sentinel")]
async fn sentinels() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let master = Server::start().await;
    let file = folder.path().join("sentinel.conf");
    let watches = format!("sentinel monitor main 127.0.0.1 {} 1\n", master.port());
    std::fs::write(&file, watches).expect("a file");
    let sentinel = Server::sentinel(&file).await;
    let port = sentinel.port();
    is_of_use(&format!("redis-sentinel://127.0.0.1:{port}/0#main")).await;

    // Both want passwords, each another one.
    let guarded = Server::with(&["--requirepass", "of-the-master"]).await;
    let file = folder.path().join("guarded.conf");
    let watches = format!(
        "sentinel monitor main 127.0.0.1 {} 1\nsentinel auth-pass main of-the-master\n\
         requirepass of-the-sentinel\n",
        guarded.port()
    );
    std::fs::write(&file, watches).expect("a file");
    let guard = Server::sentinel(&file).await;
    let url = |before: &str, query: &str| {
        format!(
            "redis-sentinel://{before}127.0.0.1:{}/0{query}#main",
            guard.port()
        )
    };
    is_of_use(&url(":of-the-master@", "?sentinel=:of-the-sentinel")).await;
    for (before, query, said) in [
        (":of-the-master@", "", "a password is wanted"),
        (":of-the-master@", "?sentinel=:wrong", "a password is wrong"),
        ("", "?sentinel=:of-the-sentinel", "a password is wanted"),
        (
            ":wrong@",
            "?sentinel=:of-the-sentinel",
            "a password is wrong",
        ),
    ] {
        let mut process = Process::new(3, &[]);
        let away = process.try_exchange(&ledger(&url(before, query))).await;
        let away = away.expect_err("it asks for a password").to_string();
        assert!(away.contains(said), "{away}");
        assert!(!away.contains("of-the"), "{away}");
    }

    let mut process = Process::new(2, &[]);
    let unknown = ledger(&format!("redis-sentinel://127.0.0.1:{port}/0#other"));
    process
        .try_exchange(&unknown)
        .await
        .expect_err("no such master");
}

/// Where a test that was started once more finds what it is to reach.
#[cfg(feature = "tls")]
const INSIDE: &str = "TOLLHOUSE_TEST_REDISS";

/// The system's roots are what this variable says, so a test runs itself once more with a root of its own, and
/// once with one that is of no use.
#[cfg(feature = "tls")]
fn is_trusted_by_its_root_alone(test: &str, url: &str, root: &str) {
    let trusted = [
        ("right", root, true),
        ("wrong", "/etc/ssl/certs/ca-certificates.crt", false),
    ];
    for (which, roots, works) in trusted {
        let again = std::process::Command::new(std::env::current_exe().expect("this"))
            .args(["--exact", test])
            .env(INSIDE, url)
            .env("SSL_CERT_FILE", roots)
            .env("TOLLHOUSE_PATIENCE_MS", if works { "20000" } else { "500" })
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&again.stdout);
        assert_eq!(again.status.success(), works, "{which}: {said}");
        assert!(works || said.contains("certificate"), "{which}: {said}");
    }
}

/// Files of a certificate for this machine, and what a server or a sentinel is told to use them.
#[cfg(feature = "tls")]
struct Certified {
    folder: tempfile::TempDir,
    port: u16,
}

#[cfg(feature = "tls")]
impl Certified {
    fn new() -> Self {
        let folder = tempfile::TempDir::new().expect("a folder");
        let names = ["localhost", "127.0.0.1"].map(str::to_owned);
        let own = rcgen::generate_simple_self_signed(names).expect("a certificate");
        let certified = Certified {
            folder,
            port: Server::free_port(),
        };
        let files = [
            ("own.pem", own.cert.pem()),
            ("key.pem", own.signing_key.serialize_pem()),
        ];
        for (name, text) in files {
            std::fs::write(certified.at(name), text).expect("a file");
        }
        certified
    }

    fn at(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn settings(&self) -> [(&'static str, String); 5] {
        [
            ("tls-port", self.port.to_string()),
            ("tls-cert-file", self.at("own.pem")),
            ("tls-key-file", self.at("key.pem")),
            ("tls-ca-cert-file", self.at("own.pem")),
            ("tls-auth-clients", "no".to_owned()),
        ]
    }

    /// A server of them, with these options beside.
    async fn server(&self, more: &[&str]) -> Server {
        let settings = self.settings();
        let named = settings.map(|(name, value)| [format!("--{name}"), value]);
        let mut options: Vec<_> = named.iter().flatten().map(String::as_str).collect();
        options.extend(more);
        Server::with(&options).await
    }
}

#[tokio::test]
#[cfg(feature = "tls")]
async fn tls() {
    if let Ok(url) = std::env::var(INSIDE) {
        return is_of_use(&url).await;
    }
    let certified = Certified::new();
    let _server = certified.server(&[]).await;
    let url = format!("rediss://localhost:{}", certified.port);
    is_trusted_by_its_root_alone("addresses::tls", &url, &certified.at("own.pem"));
}

/// Sentinels and master speak TLS alone to whoever comes this way, and each wants a password.
#[tokio::test]
#[cfg(all(feature = "sentinel", feature = "tls"))]
async fn sentinels_over_tls() {
    if let Ok(url) = std::env::var(INSIDE) {
        return is_of_use(&url).await;
    }
    let (of_master, of_sentinel) = (Certified::new(), Certified::new());
    let _master = of_master.server(&["--requirepass", "of-the-master"]).await;
    // One root for both.
    std::fs::copy(of_master.at("own.pem"), of_sentinel.at("own.pem")).expect("a file");
    std::fs::copy(of_master.at("key.pem"), of_sentinel.at("key.pem")).expect("a file");
    let settings = of_sentinel.settings();
    let settings = settings.map(|(name, value)| format!("{name} {value}\n"));
    let file = of_sentinel.folder.path().join("sentinel.conf");
    let watches = format!(
        "{}tls-replication yes\nsentinel monitor main 127.0.0.1 {} 1\n\
         sentinel auth-pass main of-the-master\nrequirepass of-the-sentinel\n",
        settings.concat(),
        of_master.port
    );
    std::fs::write(&file, watches).expect("a file");
    let _sentinel = Server::sentinel(&file).await;
    let url = format!(
        "rediss-sentinel://:of-the-master@localhost:{}/0?sentinel=:of-the-sentinel#main",
        of_sentinel.port
    );
    is_trusted_by_its_root_alone(
        "addresses::sentinels_over_tls",
        &url,
        &of_master.at("own.pem"),
    );
}
