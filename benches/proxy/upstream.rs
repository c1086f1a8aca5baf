//! A provider that costs as little as possible: what it says, it has ready.
//!
//! What is asked for stands in the model's name; see [`Kind`]. `GET /order` tells in which
//! order the held calls came, and lets them all be answered.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;

use super::Result;
use super::wire::{find, message, number_after};

/// Events in a stream; the last one is its end.
pub(crate) const EVENTS: usize = 20;

/// Between two events of a stream that takes its time.
pub(crate) const PACE: Duration = Duration::from_millis(5);

/// What a call asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An answer as a whole.
    Plain,
    /// All events one after the other, each a write of its own.
    Burst,
    /// The same, [`PACE`] apart.
    Paced,
    /// One event and then nothing, until the client leaves.
    Idle,
    /// A plain answer, once somebody has asked for the order.
    Held,
}

impl Kind {
    const ALL: [Kind; 5] = [
        Kind::Plain,
        Kind::Burst,
        Kind::Paced,
        Kind::Idle,
        Kind::Held,
    ];

    pub(crate) fn model(self) -> &'static str {
        match self {
            Kind::Plain => "plain",
            Kind::Burst => "burst",
            Kind::Paced => "paced",
            Kind::Idle => "idle",
            Kind::Held => "held",
        }
    }

    pub(crate) fn streams(self) -> bool {
        matches!(self, Kind::Burst | Kind::Paced | Kind::Idle)
    }

    pub(crate) fn named(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.model() == name)
    }

    fn of(request: &[u8]) -> Kind {
        let named = |kind: &Kind| {
            let name = format!(r#""model":"{}""#, kind.model());
            find(request, name.as_bytes()).is_some()
        };
        Kind::ALL.into_iter().find(named).unwrap_or(Kind::Plain)
    }
}

/// Serves for ever.
pub(crate) async fn serve(address: &str) -> Result<()> {
    let listener = TcpListener::bind(address).await?;
    let said = Arc::new(Said::new());
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let said = Arc::clone(&said);
        // Who leaves in the middle is nobody's concern here.
        tokio::spawn(async move { drop(connection(socket, &said).await) });
    }
}

/// What is said, and which held calls came.
struct Said {
    plain: Vec<u8>,
    head: Vec<u8>,
    events: Vec<Vec<u8>>,
    held: Mutex<Vec<u64>>,
    released: watch::Sender<bool>,
}

impl Said {
    fn new() -> Self {
        let mut events: Vec<_> = (1..EVENTS).map(event).collect();
        events.push(chunk("data: [DONE]\n\n"));
        Said {
            plain: plain(),
            head: head("text/event-stream", "transfer-encoding: chunked"),
            events,
            held: Mutex::default(),
            released: watch::Sender::new(false),
        }
    }

    fn note(&self, number: u64) {
        self.held.lock().expect("nobody panics").push(number);
    }

    fn order(&self) -> Vec<u8> {
        let held = std::mem::take(&mut *self.held.lock().expect("nobody panics"));
        let lines: Vec<_> = held.iter().map(u64::to_string).collect();
        whole("text/plain", &lines.join("\n"))
    }
}

async fn connection(mut socket: TcpStream, said: &Said) -> Result<()> {
    let mut inbox = Vec::new();
    loop {
        let length = loop {
            match message(&inbox) {
                Some(length) => break length,
                None if socket.read_buf(&mut inbox).await? == 0 => return Ok(()),
                None => {}
            }
        };
        let request: Vec<u8> = inbox.drain(..length).collect();
        answer(&mut socket, &request, said).await?;
    }
}

async fn answer(socket: &mut TcpStream, request: &[u8], said: &Said) -> Result<()> {
    if request.starts_with(b"GET /order") {
        said.released.send_replace(true);
        let order = said.order();
        return Ok(socket.write_all(&order).await?);
    }
    match Kind::of(request) {
        Kind::Plain => socket.write_all(&said.plain).await?,
        Kind::Held => {
            said.note(number_after(request, b"\"user\":\"").unwrap_or_default());
            let _ = said.released.subscribe().wait_for(|is| *is).await;
            socket.write_all(&said.plain).await?;
        }
        kind => stream(socket, kind, said).await?,
    }
    Ok(())
}

async fn stream(socket: &mut TcpStream, kind: Kind, said: &Said) -> Result<()> {
    socket.write_all(&said.head).await?;
    for (n, event) in said.events.iter().enumerate() {
        if n > 0 {
            match kind {
                Kind::Paced => sleep(PACE).await,
                Kind::Idle => drop(socket.read_u8().await?),
                _ => tokio::task::yield_now().await,
            }
        }
        socket.write_all(event).await?;
    }
    Ok(socket.write_all(b"0\r\n\r\n").await?)
}

/// As many headers as OpenAI sends, and as long ones.
fn head(kind: &str, framing: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\ndate: Fri, 28 Nov 2025 12:00:00 GMT\r\ncontent-type: {kind}\r\n\
         {framing}\r\nopenai-organization: org-0123456789\r\nopenai-processing-ms: 412\r\n\
         openai-version: 2020-10-01\r\nx-ratelimit-limit-requests: 10000000\r\n\
         x-ratelimit-limit-tokens: 10000000000\r\nx-ratelimit-remaining-requests: 9999999\r\n\
         x-ratelimit-remaining-tokens: 9999999000\r\nx-ratelimit-reset-requests: 1ms\r\n\
         x-ratelimit-reset-tokens: 6ms\r\n\
         x-request-id: req_0123456789abcdef0123456789abcdef\r\n\
         strict-transport-security: max-age=31536000; includeSubDomains; preload\r\n\
         cf-cache-status: DYNAMIC\r\nx-content-type-options: nosniff\r\nserver: cloudflare\r\n\
         cf-ray: 0123456789abcdef-FRA\r\nalt-svc: h3=\":443\"; ma=86400\r\n\r\n"
    )
    .into_bytes()
}

fn whole(kind: &str, body: &str) -> Vec<u8> {
    let mut whole = head(kind, &format!("content-length: {}", body.len()));
    whole.extend_from_slice(body.as_bytes());
    whole
}

fn plain() -> Vec<u8> {
    let words = "a word or two ".repeat(20);
    let body = format!(
        r#"{{"id":"chatcmpl-0123456789","object":"chat.completion","created":1764331200,"model":"plain","choices":[{{"index":0,"message":{{"role":"assistant","content":"{words}","refusal":null}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":19,"completion_tokens":81,"total_tokens":100}}}}"#
    );
    whole("application/json", &body)
}

fn event(n: usize) -> Vec<u8> {
    let is_last = n + 1 == EVENTS;
    let rest = match is_last {
        true => {
            r#""choices":[],"usage":{"prompt_tokens":19,"completion_tokens":18,"total_tokens":37}"#
        }
        false => {
            r#""choices":[{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":null}],"usage":null"#
        }
    };
    chunk(&format!(
        "data: {{\"id\":\"chatcmpl-0123456789\",\"object\":\"chat.completion.chunk\",\"created\":1764331200,\"model\":\"burst\",\"system_fingerprint\":\"fp_0123456789\",{rest}}}\n\n"
    ))
}

fn chunk(text: &str) -> Vec<u8> {
    format!("{:x}\r\n{text}\r\n", text.len()).into_bytes()
}
