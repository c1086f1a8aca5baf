//! A hostile day: what is wrong is said with its place, and in words that help.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tollhouse_redis::RedisLedger;

use crate::support::ms;
use crate::support::process::Process;
use crate::support::server::Server;

/// What a process hears that asks at this address for long enough.
async fn told(url: &str) -> String {
    let ledger = RedisLedger::open(url, "test").expect("an address");
    let mut process = Process::new(1, &[]);
    let mut last = String::new();
    // On a busy machine an answer may take longer than a ledger waits; connecting goes on.
    for _ in 0..20 {
        let away = process.try_exchange(&ledger).await;
        last = away.expect_err("nothing can come of it").to_string();
        if !last.contains("within 100 ms") {
            break;
        }
        tokio::time::sleep(ms(50)).await;
    }
    last
}

async fn is_told(url: &str, words: &str) {
    let told = told(url).await;
    let start = "the shared ledger is away: Redis at 127.0.0.1:";
    assert!(
        told.starts_with(start) && told.contains(words),
        "{url}: {told}"
    );
    assert!(!told.contains("s3cret"), "{told}");
}

fn with_user(server: &Server, user: &str) -> String {
    format!("redis://{user}@127.0.0.1:{}", server.port())
}

async fn allow(server: &Server, user: &str, rules: &str) {
    let words = format!("ACL SETUSER {user} on >s3cret {rules}");
    let words: Vec<_> = words.split_whitespace().collect();
    server.run(&words).await;
}

#[tokio::test]
async fn passwords_databases_and_rights() {
    let server = Server::start().await;
    allow(&server, "nokeys", "~other:* allchannels +@all").await;
    allow(&server, "noeval", "~* allchannels +@all -evalsha -eval").await;
    allow(&server, "nonews", "~* resetchannels +@all").await;
    // What the guide gives.
    let enough = "~tollhouse:* resetchannels &tollhouse:* -@all +eval +evalsha +hget +hmget +hset +hdel \
                  +exists +del +expire +time +info +publish +subscribe +hello";
    allow(&server, "enough", enough).await;
    server
        .run(&["CONFIG", "SET", "requirepass", "s3cret"])
        .await;
    let wanted = "a password is wanted: USER:PASSWORD@ before the host";
    is_told(&server.url(), wanted).await;
    let wrong = "the user or the password is wrong";
    is_told(&with_user(&server, "enough:wrong"), wrong).await;
    for user in ["nokeys:s3cret", "noeval:s3cret", "nonews:s3cret"] {
        let rights = "its user may do too little: ~tollhouse:*";
        is_told(&with_user(&server, user), rights).await;
    }
    let database = format!("{}/99", with_user(&server, ":s3cret"));
    is_told(&database, "it has no database of that number; 0 is there").await;

    let ledger = RedisLedger::open(&with_user(&server, "enough:s3cret"), "test");
    let ledger = ledger.expect("an address");
    Process::new(1, &[]).exchange(&ledger).await;
    assert!(ledger.status().await.expect("it may look").is_some());
}

#[tokio::test]
async fn servers_that_cannot_do_it() {
    let full = Server::with(&["--maxmemory", "1", "--maxmemory-policy", "noeviction"]).await;
    is_told(&full.url(), "it is full: it needs a higher maxmemory").await;

    let none = [
        "--rename-command",
        "EVALSHA",
        "EVALSHA-OF-OURS",
        "--rename-command",
        "EVAL",
        "EVAL-OF-OURS",
    ];
    let renamed = Server::with(&none).await;
    is_told(&renamed.url(), "it has no EVAL and EVALSHA").await;

    let master = Server::start().await;
    let port = master.port().to_string();
    let replica = Server::with(&["--replicaof", "127.0.0.1", &port]).await;
    let meant = "it is a replica: the address of its master is meant";
    is_told(&replica.url(), meant).await;
}

/// Where something answers as a server of the web does.
async fn web() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut bytes = [0; 1024];
                let answer = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
                // It hangs up after that, whatever was asked.
                let _ = socket.read(&mut bytes).await;
                let _ = socket.write_all(answer).await;
            });
        }
    });
    format!("127.0.0.1:{port}")
}

#[tokio::test]
async fn what_is_no_redis() {
    let place = web().await;
    let protocol = "it does not speak the protocol of Redis";
    is_told(&format!("redis://{place}"), protocol).await;
    #[cfg(feature = "tls")]
    is_told(
        &format!("rediss://{place}"),
        "it speaks no TLS: redis:// is meant",
    )
    .await;
}

#[tokio::test]
#[cfg(feature = "tls")]
async fn tls_where_there_is_none_and_none_where_there_is() {
    let folder = tempfile::TempDir::new().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    std::fs::write(at("own.pem"), own.cert.pem()).expect("a file");
    std::fs::write(at("key.pem"), own.signing_key.serialize_pem()).expect("a file");
    let port = Server::free_port().to_string();
    let (cert, key) = (at("own.pem"), at("key.pem"));
    let server = Server::with(&[
        "--tls-port",
        &port,
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &cert,
        "--tls-auth-clients",
        "no",
    ])
    .await;
    let plain = "it hung up: where it speaks TLS, rediss:// is meant";
    is_told(&format!("redis://127.0.0.1:{port}"), plain).await;
    let unknown = "its certificate is not trusted: a CA of your own is named by SSL_CERT_FILE";
    is_told(&format!("rediss://127.0.0.1:{port}"), unknown).await;
    let none = format!("rediss://127.0.0.1:{}", server.port());
    is_told(&none, "where it speaks no TLS, redis:// is meant").await;
}
