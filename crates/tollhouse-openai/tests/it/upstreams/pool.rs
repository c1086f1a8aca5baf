//! What is kept, for whom, and for how long.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tollhouse_openai::OpenAi;

use super::support::{LONG, Peer, SECOND, Upstream, ask, request, send};

/// An upstream on a thread of its own, which answers whoever comes.
struct Threaded {
    address: SocketAddr,
    counts: Arc<Counts>,
    runtime: Runtime,
}

#[derive(Debug, Default)]
struct Counts {
    accepted: AtomicUsize,
    open: AtomicUsize,
    /// How often the connections on which there is nobody were ended, each of them also if it
    /// is still to hear of it.
    closings: watch::Sender<u32>,
}

impl Threaded {
    fn start() -> Threaded {
        let runtime = on_a_thread();
        let listening = TcpListener::bind("127.0.0.1:0");
        let listener = runtime.block_on(listening).expect("a port");
        let address = listener.local_addr().expect("its address");
        let counts = Arc::new(Counts::default());
        let counting = Arc::clone(&counts);
        runtime.spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.expect("a connection");
                counting.accepted.fetch_add(1, Ordering::SeqCst);
                counting.open.fetch_add(1, Ordering::SeqCst);
                let counting = Arc::clone(&counting);
                let mut closings = counting.closings.subscribe();
                tokio::spawn(async move {
                    let mut peer = Peer { socket };
                    let mut next = async |peer: &mut Peer| {
                        tokio::select! {
                            asked = peer.next() => asked,
                            _ = closings.changed() => None,
                        }
                    };
                    while next(&mut peer).await.is_some() {
                        sleep(Duration::from_millis(5)).await;
                        peer.say(SECOND).await;
                    }
                    drop(peer);
                    counting.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Threaded {
            address,
            counts,
            runtime,
        }
    }

    fn client(&self) -> OpenAi {
        let client = OpenAi::builder().base_url(format!("http://{}/v1", self.address));
        client.build().expect("a client")
    }

    fn accepted(&self) -> usize {
        self.counts.accepted.load(Ordering::SeqCst)
    }

    /// Once so many connections are open.
    fn opened(&self, expected: usize) {
        let open = || self.counts.open.load(Ordering::SeqCst);
        let waiting = async {
            while open() != expected {
                sleep(Duration::from_millis(1)).await;
            }
        };
        let opened = self
            .runtime
            .block_on(async { timeout(LONG, waiting).await });
        assert!(opened.is_ok(), "{} are open", open());
    }
}

fn on_a_thread() -> Runtime {
    let mut runtime = Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build();
    runtime.expect("a runtime")
}

fn current() -> Runtime {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime")
}

fn read(runtime: &Runtime, client: &OpenAi) -> Bytes {
    runtime.block_on(ask(client)).expect("an answer").1
}

#[test]
fn a_connection_of_a_runtime_that_has_ended_is_not_used() {
    let upstream = Threaded::start();
    let client = upstream.client();
    for turn in 1..=3 {
        let runtime = current();
        assert_eq!(read(&runtime, &client), "second");
        assert_eq!(read(&runtime, &client), "second");
        assert_eq!(upstream.accepted(), turn);
    }
    drop(client);
    upstream.opened(0);
}

/// Nobody would tell that something has come on a connection of one that does not run.
#[test]
fn a_connection_is_used_in_its_own_runtime_alone() {
    let upstream = Threaded::start();
    let client = upstream.client();
    let (first, second) = (current(), current());
    for _ in 0..3 {
        assert_eq!(read(&first, &client), "second");
        assert_eq!(read(&second, &client), "second");
    }
    assert_eq!(upstream.accepted(), 2);
}

#[test]
fn what_was_begun_in_one_runtime_can_be_read_in_another() {
    let upstream = Threaded::start();
    let client = upstream.client();
    let running = on_a_thread();
    let asked = client.clone();
    let call = running.spawn(async move {
        use tower::ServiceExt;
        asked.oneshot(request(Method::POST, "question")).await
    });
    let reading = current();
    let answer = running.block_on(call).expect("no panic");
    let body = answer.expect("an answer").into_body();
    let body = reading.block_on(http_body_util::BodyExt::collect(body));
    assert_eq!(body.expect("a whole one").to_bytes(), "second");
    assert_eq!(read(&reading, &client), "second");
    assert_eq!(read(&running, &client), "second");
    assert_eq!(upstream.accepted(), 2);
}

/// With the last clone, nothing is left that waits for the connections' end.
#[test]
fn a_client_that_is_dropped_leaves_neither_connection_nor_task() {
    let upstream = Threaded::start();
    let runtime = current();
    let client = upstream.client();
    read(&runtime, &client);
    upstream.opened(1);
    // Outside of the runtime.
    drop(client);
    upstream.opened(0);
    let tasks = || runtime.metrics().num_alive_tasks();
    runtime.block_on(async {
        let none = async {
            while tasks() > 0 {
                sleep(Duration::from_millis(1)).await
            }
        };
        timeout(LONG, none).await.expect("no task is left");
    });
}

/// A body outlives its client, and is read to its end.
#[test]
fn a_body_can_be_dropped_after_its_client_and_after_its_runtime() {
    for whole in [false, true] {
        let upstream = Threaded::start();
        let runtime = current();
        let client = upstream.client();
        let body = runtime.block_on(async {
            use http_body_util::BodyExt;
            use tower::ServiceExt;
            let call = client.oneshot(request(Method::POST, "question"));
            let mut body = call.await.expect("an answer").into_body();
            if whole {
                body.frame().await.expect("a frame").expect("data");
            }
            body
        });
        drop(runtime);
        drop(body);
        upstream.opened(0);
    }
}

/// As many connections as calls at once, and none once they were idle for long enough.
#[test]
fn a_thousand_calls_at_once_leave_no_connection_behind() {
    const CALLS: usize = 1_000;
    let upstream = Threaded::start();
    let client = upstream.client();
    let runtime = current();
    runtime.block_on(async {
        for _ in 0..2 {
            let asking = (0..CALLS).map(|_| ask(&client));
            for answer in futures_util::future::join_all(asking).await {
                assert_eq!(answer.expect("an answer").1, "second");
            }
            assert!(upstream.accepted() <= CALLS, "{}", upstream.accepted());
        }
        // From here on no socket is waited for by the clock.
        tokio::time::pause();
        sleep(Duration::from_secs(91)).await;
    });
    upstream.opened(0);
}

/// One after the other they are found to be over, by whoever comes next; also where the
/// runtime has not run since then.
#[test]
fn a_call_passes_by_a_thousand_connections_that_have_ended() {
    const CALLS: usize = 1_000;
    let upstream = Threaded::start();
    let client = upstream.client();
    let runtime = current();
    runtime.block_on(async {
        let asking = (0..CALLS).map(|_| ask(&client));
        for answer in futures_util::future::join_all(asking).await {
            answer.expect("an answer");
        }
    });
    let before = upstream.accepted();
    upstream
        .counts
        .closings
        .send_modify(|closings| *closings += 1);
    upstream.opened(0);
    let idle = async { sleep(Duration::from_millis(200)).await };
    upstream.runtime.block_on(idle);
    assert_eq!(read(&runtime, &client), "second");
    assert_eq!(upstream.accepted(), before + 1);
    assert_eq!(read(&runtime, &client), "second");
    assert_eq!(upstream.accepted(), before + 1);
}

/// By what names the upstream is called.
#[tokio::test]
async fn the_host_is_named_as_everybody_names_it() {
    for (base, host, path) in [
        ("http://127.0.0.1:PORT", "127.0.0.1:PORT", "/v1/x"),
        ("http://127.0.0.1:PORT/", "127.0.0.1:PORT", "/v1/x"),
        ("http://127.0.0.1:PORT/v1", "127.0.0.1:PORT", "/v1/x"),
        (
            "http://127.0.0.1:PORT/openai/v1/",
            "127.0.0.1:PORT",
            "/openai/v1/x",
        ),
        (
            "http://127.0.0.1:PORT/a%20b",
            "127.0.0.1:PORT",
            "/a%20b/v1/x",
        ),
        ("http://LocalHost:PORT/v1", "localhost:PORT", "/v1/x"),
    ] {
        let upstream = Upstream::start().await;
        let port = upstream.port().to_string();
        let client = OpenAi::builder().base_url(base.replace("PORT", &port));
        let client = client.build().expect("a client");
        let answering = async {
            let mut peer = upstream.accept().await;
            let request = peer.request().await;
            peer.say(SECOND).await;
            request
        };
        let (read, request) = tokio::join!(ask(&client), answering);
        read.expect("an answer");
        let line = format!("post {path} http/1.1\r\n");
        assert!(request.starts_with(&line), "{base}: {request}");
        let hosts: Vec<_> = request.lines().filter(|l| l.starts_with("host:")).collect();
        assert_eq!(
            hosts,
            [format!("host: {}", host.replace("PORT", &port))],
            "{base}"
        );
    }
}

#[tokio::test]
async fn an_upstream_can_be_called_by_its_address_of_ipv6() {
    let Ok(listener) = TcpListener::bind("[::1]:0").await else {
        println!("this machine has no IPv6");
        return;
    };
    let port = listener.local_addr().expect("its address").port();
    let client = OpenAi::builder().base_url(format!("http://[::1]:{port}/v1"));
    let client = client.build().expect("a client");
    let answering = async {
        let (socket, _) = listener.accept().await.expect("a connection");
        let mut peer = Peer { socket };
        let request = peer.request().await;
        peer.say(SECOND).await;
        request
    };
    let question: Request<Bytes> = request(Method::POST, "question");
    let (read, request) = tokio::join!(send(&client, question), answering);
    read.expect("an answer");
    assert!(
        request.contains(&format!("\r\nhost: [::1]:{port}\r\n")),
        "{request}"
    );
}
