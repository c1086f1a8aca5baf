//! A proxy, a provider, and a client that says exactly what it is told to.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tollhouse_openai::{Account, Limit, OpenAi, Policy};
use tollhouse_proxy::{Proxy, Served};
use tollhouse_sim::{Served as ServedSim, Sim};
use tracing_subscriber::fmt::MakeWriter;

/// Long enough for any machine; nothing waits for so long where all is well.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// Gates that let through whatever comes.
pub(crate) fn wide() -> Policy {
    Policy::default()
        .stagger(Duration::ZERO)
        .max_concurrency(1_000)
        .tpm_limit(Limit::per_minute(100_000_000))
        .backoff_base(Duration::from_millis(1))
}

pub(crate) async fn sim() -> (Sim, ServedSim) {
    let sim = Sim::builder()
        .tokens_per_minute(100_000_000)
        .requests_per_minute(1_000_000)
        .build()
        .expect("a simulator");
    let served = sim.spawn("127.0.0.1:0").await.expect("a socket");
    (sim, served)
}

pub(crate) fn client(url: &str) -> OpenAi {
    let openai = OpenAi::builder().base_url(url).api_key("sk-of-the-account");
    openai.build().expect("a client")
}

pub(crate) async fn serve(proxy: Proxy) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    proxy.serve(listener).expect("a proxy")
}

/// A proxy with wide gates before a provider at this URL.
pub(crate) async fn before(url: &str) -> Served {
    serve(Proxy::new(Account::new(wide()), client(url))).await
}

/// An answer as it came over the wire.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1);
        lines.find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }

    pub(crate) fn code(&self) -> String {
        let error = &self.json()["error"];
        error["code"].as_str().expect("a code").to_owned()
    }
}

pub(crate) async fn connect(served: &Served) -> TcpStream {
    TcpStream::connect(served.address())
        .await
        .expect("a connection")
}

/// Sends bytes as they are, and reads all answers to the connection's end.
pub(crate) async fn raw(served: &Served, sent: &str) -> String {
    let mut socket = connect(served).await;
    // The proxy may have refused already.
    let _ = socket.write_all(sent.as_bytes()).await;
    let mut seen = Vec::new();
    let read = timeout(LONG, socket.read_to_end(&mut seen)).await;
    let _ = read.expect("an end");
    String::from_utf8_lossy(&seen).into_owned()
}

/// One request, one answer. The body must come with a length or none.
pub(crate) async fn ask(served: &Served, request: &str) -> Answer {
    parsed(&raw(served, request).await)
}

pub(crate) fn parsed(answer: &str) -> Answer {
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("a head: {answer:?}"));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    Answer {
        status: status.expect("a status"),
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

pub(crate) fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n")
}

pub(crate) fn post(path: &str, headers: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
}

pub(crate) fn chat(more: &str) -> String {
    format!(
        r#"{{"model":"gpt-4o","max_tokens":20,"messages":[{{"role":"user","content":"Hi"}}]{more}}}"#
    )
}

pub(crate) async fn status(served: &Served) -> Value {
    ask(served, &get("/tollhouse/status", "")).await.json()
}

/// Sends a request as it is; its answer is the caller's to read.
pub(crate) async fn sent(served: &Served, request: &str) -> TcpStream {
    let mut socket = connect(served).await;
    let written = socket.write_all(request.as_bytes()).await;
    written.expect("it reads");
    socket
}

/// A proxy with one slot, the chat that has it, and that one's provider.
pub(crate) async fn busy() -> (Served, TcpStream, TcpStream) {
    let (provider, url) = by_hand().await;
    let one_slot = Account::new(wide().max_concurrency(1));
    let served = serve(Proxy::new(one_slot, client(&url))).await;
    let first = sent(&served, &post("/v1/chat/completions", "", &chat(""))).await;
    let (_, upstream) = request_at(&provider, "Hi").await;
    (served, first, upstream)
}

/// Until the account says that so many are that.
pub(crate) async fn until(served: &Served, what: &str, count: u64) {
    let comes = async {
        while status(served).await["accounts"][0][what] != count {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(LONG, comes)
        .await
        .unwrap_or_else(|_| panic!("{what} is never {count}"));
}

/// Until nothing is in flight, waits or is held any more.
pub(crate) async fn at_rest(served: &Served) {
    let rest = async {
        loop {
            let now = status(served).await;
            let account = &now["accounts"][0];
            let all = [
                &now["calls_in_flight"],
                &now["held_bytes"],
                &account["in_flight"],
                &account["waiting"],
            ];
            // The one that asks is a connection, too.
            if all.iter().all(|number| **number == 0) && now["connections"] == 1 {
                return;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    if timeout(LONG, rest).await.is_err() {
        panic!("not at rest: {}", status(served).await);
    }
}

/// A provider made by hand: one connection, its request up to `until`.
pub(crate) async fn request_at(provider: &TcpListener, until: &str) -> (String, TcpStream) {
    let (mut socket, _) = provider.accept().await.expect("a connection");
    let seen = read_until(&mut socket, until).await;
    (seen, socket)
}

pub(crate) async fn read_until(socket: &mut TcpStream, until: &str) -> String {
    let mut seen = Vec::new();
    let read = async {
        while !String::from_utf8_lossy(&seen).contains(until) {
            let mut piece = [0; 4_096];
            let length = socket.read(&mut piece).await.expect("bytes");
            assert!(length > 0, "it ended: {}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&piece[..length]);
        }
    };
    timeout(LONG, read).await.expect("in time");
    String::from_utf8_lossy(&seen).into_owned()
}

pub(crate) async fn by_hand() -> (TcpListener, String) {
    let provider = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let url = format!("http://{}/v1", provider.local_addr().expect("an address"));
    (provider, url)
}

/// What is logged.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Hears this thread for as long as what it returns is kept. Where there is a single
    /// subscriber, tracing asks no other than the thread that logs a kind of line first, which may
    /// be another test's, whether anybody wants it: so there are two.
    pub(crate) fn hear(&self) -> impl Sized + use<> {
        let subscriber = || {
            let subscriber = tracing_subscriber::fmt().with_writer(self.clone());
            tracing::Dispatch::new(subscriber.with_ansi(false).finish())
        };
        let other = subscriber();
        (tracing::dispatcher::set_default(&subscriber()), other)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).expect("text")
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for Log {
    type Writer = Log;

    fn make_writer(&'w self) -> Log {
        self.clone()
    }
}
