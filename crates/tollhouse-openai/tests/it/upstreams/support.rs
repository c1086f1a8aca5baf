//! An upstream that says exactly what it is told to, byte by byte.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;
use tollhouse_openai::client::Error;
use tollhouse_openai::{OpenAi, OpenAiBuilder};
use tower::ServiceExt;

/// Long enough for any machine; nothing waits for so long where all is well.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// What a call reads that nobody disturbs.
pub(crate) const SECOND: &str = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecond";

pub(crate) struct Upstream {
    listener: TcpListener,
}

impl Upstream {
    pub(crate) async fn start() -> Upstream {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        Upstream { listener }
    }

    /// One whose connections hold little of what it says, in bytes.
    pub(crate) async fn narrow(held: u32) -> Upstream {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_send_buffer_size(held).expect("a size");
        let any = "127.0.0.1:0".parse().expect("an address");
        socket.bind(any).expect("a port");
        Upstream {
            listener: socket.listen(16).expect("it listens"),
        }
    }

    pub(crate) fn builder(&self) -> OpenAiBuilder {
        OpenAi::builder().base_url(format!("http://127.0.0.1:{}/v1", self.port()))
    }

    pub(crate) fn port(&self) -> u16 {
        let address = self.listener.local_addr();
        address.expect("its address").port()
    }

    pub(crate) fn client(&self) -> OpenAi {
        self.builder().build().expect("a client")
    }

    pub(crate) async fn accept(&self) -> Peer {
        let accepted = timeout(LONG, self.listener.accept()).await;
        let (socket, _) = accepted.expect("in time").expect("a connection");
        // What is said in two pieces is sent in two.
        socket.set_nodelay(true).expect("it is a connection");
        Peer { socket }
    }
}

/// The upstream's end of a connection.
pub(crate) struct Peer {
    pub(crate) socket: TcpStream,
}

impl Peer {
    /// Reads one request to its end.
    pub(crate) async fn request(&mut self) -> String {
        let request = timeout(LONG, self.read_request()).await;
        request.expect("in time").expect("a request")
    }

    /// None where the connection ended instead, in whatever way.
    pub(crate) async fn next(&mut self) -> Option<String> {
        let request = timeout(LONG, self.read_request()).await;
        request.expect("in time")
    }

    async fn read_request(&mut self) -> Option<String> {
        let mut seen = Vec::new();
        loop {
            if let Some(request) = whole(&seen) {
                return Some(request);
            }
            match self.socket.read_buf(&mut seen).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return None,
            }
        }
    }

    pub(crate) async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        let said = self.socket.write_all(bytes.as_ref()).await;
        said.expect("it is taken");
    }

    /// Closes its half, and reads on.
    pub(crate) async fn says_no_more(&mut self) {
        let closed = self.socket.shutdown().await;
        closed.expect("its half is closed");
    }

    /// Once the client has closed it; what it still sends is thrown away.
    pub(crate) async fn closed(&mut self) {
        let mut thrown = vec![0; 64 * 1024];
        let ended = async { while let Ok(1..) = self.socket.read(&mut thrown).await {} };
        timeout(LONG, ended).await.expect("it is closed");
    }

    /// Takes a request and answers what nobody disturbs.
    pub(crate) async fn second(&mut self) {
        self.request().await;
        self.say(SECOND).await;
    }

    /// So that what was said before ends with a reset.
    pub(crate) fn reset(self) {
        self.socket.set_zero_linger().expect("it can be reset");
    }
}

fn whole(seen: &[u8]) -> Option<String> {
    let head = seen.windows(4).position(|at| at == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&seen[..head]).to_ascii_lowercase();
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let length = length.map_or(0, |length| length.parse().expect("a length"));
    (seen.len() >= head + length).then_some(text)
}

pub(crate) fn request(method: Method, body: impl Into<Bytes>) -> Request<Bytes> {
    let request = Request::builder().method(method).uri("/v1/x");
    request.body(body.into()).expect("a request")
}

/// A call read to its end.
pub(crate) async fn ask(client: &OpenAi) -> Result<(StatusCode, Bytes), Error> {
    send(client, request(Method::POST, "question")).await
}

pub(crate) async fn send(
    client: &OpenAi,
    request: Request<Bytes>,
) -> Result<(StatusCode, Bytes), Error> {
    let read = async {
        let answer = client.clone().oneshot(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?;
        Ok((status, body.to_bytes()))
    };
    timeout(LONG, read).await.expect("in time")
}

/// A call that is answered over the connection or over a new one, by what the upstream
/// says there and nothing else.
pub(crate) async fn second_over(upstream: &Upstream, client: &OpenAi, peer: &mut Peer) -> Over {
    let answering = async {
        tokio::select! {
            biased;
            request = peer.next() => match request {
                Some(_) => {
                    peer.say(SECOND).await;
                    Over::Same
                }
                None => {
                    upstream.accept().await.second().await;
                    Over::New
                }
            },
            mut new = upstream.accept() => {
                new.second().await;
                Over::New
            }
        }
    };
    let (read, over) = tokio::join!(ask(client), answering);
    let (status, body) = read.expect("a second answer");
    assert_eq!((status, &body[..]), (StatusCode::OK, &b"second"[..]));
    over
}

/// Which connection a call went over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    Same,
    New,
}
