//! Clients that keep their connection and ask again as soon as they are answered.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::upstream::Kind;
use super::wire::{find, message};
use super::{Failure, Result};

/// What clients show to whoever asks for a token.
pub(crate) const TOKEN: &str = "t-of-the-bench";

/// One connection.
pub(crate) struct Client {
    socket: TcpStream,
    inbox: Vec<u8>,
}

/// What became of one call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    /// To the end of the answer.
    pub(crate) whole: Duration,
    /// To its first event.
    pub(crate) first: Duration,
    /// The longest time in which nothing came.
    pub(crate) gap: Duration,
}

impl Client {
    pub(crate) async fn connect(address: &str) -> Result<Self> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        Ok(Client {
            socket,
            inbox: Vec::with_capacity(16 * 1024),
        })
    }

    pub(crate) async fn send(&mut self, request: &[u8]) -> Result<()> {
        self.inbox.clear();
        Ok(self.socket.write_all(request).await?)
    }

    /// Reads on until there is something of these words.
    pub(crate) async fn until(&mut self, words: &[u8]) -> Result<()> {
        while find(&self.inbox, words).is_none() {
            self.more().await?;
        }
        Ok(())
    }

    /// Reads the answer to its end; what came is in the inbox.
    pub(crate) async fn whole(&mut self) -> Result<&[u8]> {
        while message(&self.inbox).is_none() {
            self.more().await?;
        }
        if !self.inbox.starts_with(b"HTTP/1.1 200") {
            return Err(String::from_utf8_lossy(&self.inbox).into());
        }
        Ok(&self.inbox)
    }

    pub(crate) async fn ask(&mut self, request: &[u8]) -> Result<Answered> {
        let asked = Instant::now();
        self.send(request).await?;
        let (mut first, mut gap, mut last) = (None, Duration::ZERO, asked);
        while message(&self.inbox).is_none() {
            self.more().await?;
            let now = Instant::now();
            gap = gap.max(now - last);
            last = now;
            if first.is_none() && find(&self.inbox, b"data: ").is_some() {
                first = Some(now - asked);
            }
        }
        self.whole().await?;
        let whole = last - asked;
        let first = first.unwrap_or(whole);
        Ok(Answered { whole, first, gap })
    }

    async fn more(&mut self) -> Result<()> {
        match self.socket.read_buf(&mut self.inbox).await? {
            0 => Err("the connection ended before the answer".into()),
            _ => Ok(()),
        }
    }
}

/// A call as the official SDKs send it.
pub(crate) fn call(kind: Kind, user: u64) -> Vec<u8> {
    let (model, words) = (kind.model(), "Say something. ".repeat(20));
    let stream = match kind.streams() {
        true => r#","stream":true,"stream_options":{"include_usage":true}"#,
        false => "",
    };
    let body = format!(
        r#"{{"model":"{model}","user":"{user}","max_tokens":81{stream},"messages":[{{"role":"user","content":"{words}"}}]}}"#
    );
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n\
         Accept: application/json\r\nContent-Type: application/json\r\n\
         User-Agent: OpenAI/Python 2.8.1\r\nX-Stainless-Lang: python\r\n\
         X-Stainless-Package-Version: 2.8.1\r\nX-Stainless-OS: Linux\r\n\
         X-Stainless-Arch: x64\r\nX-Stainless-Runtime: CPython\r\n\
         X-Stainless-Runtime-Version: 3.12.3\r\nX-Stainless-Async: false\r\n\
         x-stainless-retry-count: 0\r\nx-stainless-read-timeout: 600\r\n\
         Authorization: Bearer {TOKEN}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Asks over so many connections, each again and again, for so long.
pub(crate) async fn ask_for(
    address: &str,
    kind: Kind,
    connections: usize,
    time: Duration,
) -> Result<Vec<Answered>> {
    let mut asking = JoinSet::new();
    let until = Instant::now() + time;
    for n in 0..connections {
        let mut client = Client::connect(address).await?;
        let request = call(kind, n as u64);
        asking.spawn(async move {
            let mut answered = Vec::new();
            while Instant::now() < until {
                answered.push(client.ask(&request).await?);
            }
            Ok::<_, Failure>(answered)
        });
    }
    let mut all = Vec::new();
    while let Some(answered) = asking.join_next().await {
        all.extend(answered??);
    }
    Ok(all)
}
