//! A socket that shows its reader nothing but checked requests.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use http::Request;
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::Flaw;
use super::patience::Patience;
use super::scanner::{PREFACE, Scanner};
use super::signals::Signals;

/// So many bytes are read from the socket at once.
const PIECE: usize = 16 * 1024;

/// So many bytes behind a request are read before it is answered.
const MOST_BEHIND: usize = 64 * 1024;

/// How long a client may go on sending a body after its answer.
const LINGER: Duration = Duration::from_secs(5);

/// What hyper reads in place of a flawed head, so that the answer goes out in its
/// turn, after those to the requests before it.
const STAND_IN: &[u8] =
    b"GET /tollhouse/flawed HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

/// Whether a request may be the one that stands for a flawed one.
pub(crate) fn is_stand_in<B>(request: &Request<B>) -> bool {
    request.uri().path() == "/tollhouse/flawed"
}

pin_project! {
    /// A socket whose requests are followed as they are read.
    ///
    /// A head is handed on when it is complete and without a flaw. In place of one
    /// that has a flaw another is read, and the flaw is told; what comes after it is
    /// thrown away. So it is where a head has begun and does not end in time; where none has
    /// begun, or a body is flawed, the reading fails.
    ///
    /// What comes behind a request is handed on when that one is answered. Until then it
    /// would keep its reader from seeing that the client is gone.
    #[project = CheckedProj]
    pub(crate) struct Checked<S> {
        #[pin]
        socket: S,
        scanner: Scanner,
        inbox: BytesMut,
        // So many bytes at the front of the inbox may be handed on.
        cleared: usize,
        signals: Arc<Signals>,
        // For a head, from when one may come.
        heading: Patience,
        // For a peer that does not read.
        writing: Patience,
        // For one that still sends what nobody wants any more.
        lingering: Option<Pin<Box<Sleep>>>,
    }
}

/// How long a socket may stand still, and how long a head may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) head_bytes: usize,
    pub(crate) head_time: Duration,
    pub(crate) write_time: Duration,
}

impl<S> Checked<S> {
    pub(crate) fn new(socket: S, limits: Limits, signals: Arc<Signals>) -> Self {
        Checked {
            socket,
            scanner: Scanner::new(limits.head_bytes),
            inbox: BytesMut::new(),
            cleared: 0,
            signals,
            heading: Patience::new(limits.head_time),
            writing: Patience::new(limits.write_time),
            lingering: None,
        }
    }
}

impl<S: AsyncRead> Checked<S> {
    /// Whether its peer speaks HTTP/2, as its first bytes say. They stay to be read: hyper
    /// gets a first head in one piece, and keeps the smallest buffer that it has.
    pub(crate) fn poll_speaks_http_2(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<bool>> {
        let mut this = self.project();
        while PREFACE.starts_with(this.inbox) && this.inbox.len() < PREFACE.len() {
            let filled = fill(this.socket.as_mut(), cx, this.inbox);
            match ready!(in_time(filled, Some(this.heading), cx)) {
                Ok(0) => break,
                Ok(_) => {}
                // It is answered as one of HTTP/1.
                Err(error) if is_slow(&error, this.inbox) => break,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(this.inbox.starts_with(PREFACE)))
    }
}

impl<S: AsyncRead> AsyncRead for Checked<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut this = self.project();
        loop {
            if *this.cleared > 0 {
                this.hand_on(buffer);
                return Poll::Ready(Ok(()));
            }
            if this.signals.flaw().is_some() {
                return throw_away(this.socket, cx);
            }
            if this.signals.is_opened() {
                this.scanner.open();
            }
            if this.scanner.is_at_head() && this.signals.poll_idle(cx).is_pending() {
                ready!(this.poll_gone(cx))?;
                return Poll::Ready(Ok(()));
            }
            if this.inbox.is_empty() {
                match ready!(this.poll_into(cx, buffer))? {
                    Came::MayBeRead => return Poll::Ready(Ok(())),
                    Came::IsKeptBack => continue,
                }
            }
            match this.scanner.clear(this.inbox) {
                Ok(0) => {}
                Ok(cleared) => {
                    *this.cleared = cleared;
                    this.heading.end();
                    continue;
                }
                Err(flaw) => {
                    this.refuse(flaw)?;
                    continue;
                }
            }
            let filled = fill(this.socket.as_mut(), cx, this.inbox);
            match ready!(in_time(filled, this.head_patience(), cx)) {
                Ok(0) => return Poll::Ready(Ok(())),
                Ok(_) => {}
                Err(error) if is_slow(&error, this.inbox) => this.refuse(Flaw::SlowHead)?,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

/// What became of what came.
enum Came {
    /// Some of it, or nothing, which is the end.
    MayBeRead,
    IsKeptBack,
}

impl<S: AsyncRead> CheckedProj<'_, S> {
    /// Reads to where it is wanted, and leaves there what may be read, which mostly is all
    /// of it; the rest is kept back. Nothing may be in the inbox.
    fn poll_into(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<Came>> {
        let before = buffer.filled().len();
        let read = self.socket.as_mut().poll_read(cx, buffer);
        let read = read.map_ok(|()| buffer.filled().len() - before);
        ready!(in_time(read, self.head_patience(), cx))?;
        let came = &buffer.filled()[before..];
        let cleared = match self.scanner.clear(came) {
            Ok(cleared) => cleared,
            Err(flaw) => {
                buffer.set_filled(before);
                self.refuse(flaw)?;
                return Poll::Ready(Ok(Came::IsKeptBack));
            }
        };
        self.inbox.extend_from_slice(&came[cleared..]);
        let is_kept_back = cleared == 0 && !came.is_empty();
        buffer.set_filled(before + cleared);
        if is_kept_back {
            return Poll::Ready(Ok(Came::IsKeptBack));
        }
        self.heading.end();
        Poll::Ready(Ok(Came::MayBeRead))
    }

    /// That of the next head, if one can come: not in a body, and not while the client has still to
    /// read what hyper has of the answer before it, which is `writing`'s to time.
    fn head_patience(&mut self) -> Option<&mut Patience> {
        let may_come = self.scanner.is_at_head() && !self.writing.is_running();
        may_come.then_some(&mut *self.heading)
    }

    /// All of an answer is on its way, and the time of the next head begins. Nobody may read any
    /// more until something comes: whoever flushes is woken when it is over.
    fn begin_to_wait(&mut self, cx: &mut Context<'_>) {
        if !self.signals.is_idle() {
            return;
        }
        let late = self.head_patience().map(|patience| patience.poll::<()>(cx));
        if late.is_some_and(|late| late.is_ready()) {
            cx.waker().wake_by_ref();
        }
    }

    /// Waits until the client is gone, and keeps what it says meanwhile. Whoever says very
    /// much is read no further.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.inbox.len() < MOST_BEHIND {
            if ready!(fill(self.socket.as_mut(), cx, self.inbox))? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
        Poll::Pending
    }

    /// Hands on what may be read of the inbox.
    fn hand_on(&mut self, buffer: &mut ReadBuf<'_>) {
        let length = buffer.remaining().min(*self.cleared);
        buffer.put_slice(&self.inbox[..length]);
        self.inbox.advance(length);
        *self.cleared -= length;
        if self.inbox.is_empty() {
            *self.inbox = BytesMut::new();
        }
    }

    /// Puts another head in the place of a flawed one; fails where it is a body.
    fn refuse(&mut self, flaw: Flaw) -> io::Result<()> {
        let is_head = self.scanner.is_at_head();
        self.signals.is_flawed(flaw);
        if !is_head {
            return Err(io::Error::new(io::ErrorKind::InvalidData, flaw));
        }
        self.inbox.clear();
        self.inbox.extend_from_slice(STAND_IN);
        *self.cleared = STAND_IN.len();
        Ok(())
    }
}

/// The same, or an error where it is waited for for too long.
fn in_time(
    filled: Poll<io::Result<usize>>,
    patience: Option<&mut Patience>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    match patience {
        Some(patience) if filled.is_pending() => patience.poll(cx),
        _ => filled,
    }
}

/// Whether a head took too long of which something is there. Who has said nothing has asked
/// nothing, and is owed no answer.
fn is_slow(error: &io::Error, inbox: &[u8]) -> bool {
    error.kind() == io::ErrorKind::TimedOut && !inbox.is_empty()
}

/// How many bytes more there are; none at the end. What is not there yet has no room
/// kept for it: most connections wait, and there may be thousands.
fn fill<S: AsyncRead>(
    socket: Pin<&mut S>,
    cx: &mut Context<'_>,
    inbox: &mut BytesMut,
) -> Poll<io::Result<usize>> {
    let mut piece = [const { MaybeUninit::uninit() }; PIECE];
    let mut piece = ReadBuf::uninit(&mut piece);
    ready!(socket.poll_read(cx, &mut piece))?;
    inbox.extend_from_slice(piece.filled());
    Poll::Ready(Ok(piece.filled().len()))
}

/// Reads what nobody wants any more, so that closing the socket resets nothing that
/// is still on its way out. Ready at its end.
fn throw_away<S: AsyncRead>(mut socket: Pin<&mut S>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    let mut piece = [0; 1_024];
    loop {
        let mut piece = ReadBuf::new(&mut piece);
        ready!(socket.as_mut().poll_read(cx, &mut piece))?;
        if piece.filled().is_empty() {
            return Poll::Ready(Ok(()));
        }
    }
}

impl<S: AsyncRead + AsyncWrite> AsyncWrite for Checked<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        this.writing.of(cx, |cx| this.socket.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut this = self.project();
        let socket = this.socket.as_mut();
        let flushed = this.writing.of(cx, |cx| socket.poll_flush(cx));
        if flushed.is_ready() {
            this.begin_to_wait(cx);
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut this = self.project();
        if this.lingering.is_none() {
            let socket = this.socket.as_mut();
            ready!(this.writing.of(cx, |cx| socket.poll_shutdown(cx)))?;
            if !this.scanner.is_in_body() {
                return Poll::Ready(Ok(()));
            }
        }
        // Closing now would reset the connection under a client that is still sending, and
        // some give up then without reading what they were told.
        let lingering = this
            .lingering
            .get_or_insert_with(|| Box::pin(sleep(LINGER)));
        match lingering.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Ok(())),
            Poll::Pending => throw_away(this.socket, cx).map(|_| Ok(())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        this.writing
            .of(cx, |cx| this.socket.poll_write_vectored(cx, slices))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::{Instant, timeout};

    use super::*;

    const LIMITS: Limits = Limits {
        head_bytes: 1_024,
        head_time: Duration::from_secs(30),
        write_time: Duration::from_secs(300),
    };

    async fn read(sent: &[u8]) -> (String, io::Result<()>, Option<Flaw>) {
        let signals = Arc::<Signals>::default();
        let mut checked = Checked::new(sent, LIMITS, Arc::clone(&signals));
        let mut seen = Vec::new();
        let ended = checked.read_to_end(&mut seen).await.map(drop);
        let seen = String::from_utf8(seen).expect("text");
        (seen, ended, signals.flaw())
    }

    const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

    #[tokio::test]
    async fn another_head_is_read_in_place_of_a_flawed_one() {
        let sent = format!("{GET}GET / HTTP/1.1\nhost: a\n\n{GET}");
        let (seen, ended, flaw) = read(sent.as_bytes()).await;
        let stand_in = str::from_utf8(STAND_IN).unwrap();
        assert_eq!(seen, format!("{GET}{stand_in}"));
        assert!(ended.is_ok());
        assert_eq!(flaw, Some(Flaw::BareLf));
    }

    #[tokio::test]
    async fn http_2_is_known_by_its_first_bytes_which_stay() {
        let preface = str::from_utf8(PREFACE).unwrap();
        for (sent, speaks) in [
            (preface, true),
            (GET, false),
            ("P", false),
            ("", false),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\n", false),
        ] {
            let mut checked = Checked::new(sent.as_bytes(), LIMITS, Arc::default());
            let said = poll_fn(|cx| Pin::new(&mut checked).poll_speaks_http_2(cx)).await;
            assert_eq!(said.unwrap(), speaks, "{sent}");
            let mut seen = String::new();
            if sent == GET || speaks {
                checked.read_to_string(&mut seen).await.unwrap();
                assert_eq!(seen, sent);
            }
        }
    }

    /// Who has said nothing has asked nothing.
    #[tokio::test(start_paused = true)]
    async fn a_first_head_that_does_not_begin_in_time_fails() {
        let (_client, server) = tokio::io::duplex(64);
        let start = Instant::now();
        let mut checked = Checked::new(server, LIMITS, Arc::default());
        let said = poll_fn(|cx| Pin::new(&mut checked).poll_speaks_http_2(cx)).await;
        assert_eq!(said.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed(), LIMITS.head_time);
    }

    #[tokio::test(start_paused = true)]
    async fn another_head_is_read_in_place_of_a_first_one_that_is_slow() {
        for sent in ["GET / HT", "P", "PRI * HTTP"] {
            let (mut client, server) = tokio::io::duplex(64);
            let start = Instant::now();
            client.write_all(sent.as_bytes()).await.unwrap();
            let signals = Arc::<Signals>::default();
            let mut checked = Checked::new(server, LIMITS, Arc::clone(&signals));
            let said = poll_fn(|cx| Pin::new(&mut checked).poll_speaks_http_2(cx)).await;
            assert!(!said.unwrap());
            let mut seen = vec![0; STAND_IN.len()];
            checked.read_exact(&mut seen).await.unwrap();
            assert_eq!(seen, STAND_IN);
            assert_eq!(signals.flaw(), Some(Flaw::SlowHead));
            assert_eq!(start.elapsed(), LIMITS.head_time, "{sent}");
        }
    }

    /// The time of a later head begins when the answer before it is over, and so does that of a
    /// client that says nothing more.
    #[tokio::test(start_paused = true)]
    async fn later_heads_are_timed_as_the_first_one_is() {
        for next in ["", "GET / HT"] {
            let signals = Arc::<Signals>::default();
            let (mut client, server) = tokio::io::duplex(1_024);
            let mut checked = Checked::new(server, LIMITS, Arc::clone(&signals));
            for round in 0..3 {
                // Just in time.
                let sends = async {
                    sleep(LIMITS.head_time - Duration::from_millis(1)).await;
                    client.write_all(GET.as_bytes()).await.unwrap();
                };
                let mut seen = vec![0; GET.len()];
                let (read, ()) = tokio::join!(checked.read_exact(&mut seen), sends);
                read.unwrap_or_else(|error| panic!("{round}: {error}"));
                // The answer takes longer than a head may.
                let turn = signals.turn();
                let waiting = timeout(LIMITS.head_time * 2, checked.read_u8()).await;
                assert!(waiting.is_err(), "{waiting:?}");
                drop(turn);
            }
            client.write_all(next.as_bytes()).await.unwrap();
            let start = Instant::now();
            let mut seen = vec![0; STAND_IN.len()];
            let read = checked.read_exact(&mut seen).await;
            assert_eq!(start.elapsed(), LIMITS.head_time, "{next:?}");
            match next {
                "" => assert_eq!(read.unwrap_err().kind(), io::ErrorKind::TimedOut),
                _ => assert_eq!(seen, STAND_IN),
            }
        }
    }

    /// An answer is over here when hyper has it, and may take its reader much longer.
    #[tokio::test(start_paused = true)]
    async fn no_head_is_waited_for_while_the_answer_before_it_is_read() {
        let (mut client, server) = tokio::io::duplex(8);
        let checked = Checked::new(server, LIMITS, Arc::default());
        let (mut reads, mut writes) = tokio::io::split(checked);
        let late = LIMITS.head_time * 3;
        let writes = async {
            writes.write_all(&[b'x'; 64]).await.unwrap();
            Instant::now()
        };
        let gone = async {
            let read = reads.read_u8().await;
            (read.unwrap_err().kind(), Instant::now())
        };
        let takes = async {
            sleep(late).await;
            client.read_exact(&mut [0; 64]).await.unwrap();
        };
        let start = Instant::now();
        let (written, (kind, ended), _) = tokio::join!(writes, gone, takes);
        assert_eq!(written - start, late);
        assert_eq!(
            (kind, ended - start),
            (io::ErrorKind::TimedOut, late + LIMITS.head_time)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_read_in_time_fails() {
        let (_client, server) = tokio::io::duplex(8);
        let start = Instant::now();
        let mut checked = Checked::new(server, LIMITS, Arc::default());
        checked.write_all(b"8 bytes.").await.unwrap();
        let error = checked.write_u8(1).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed(), LIMITS.write_time);
    }

    /// Nobody waits for longer than that, and for nobody who has said all.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_still_sends_is_let_finish_for_a_while() {
        let head = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2000\r\n\r\n";
        for (sent, lingers) in [(format!("{head}begin"), true), (GET.to_owned(), false)] {
            let (mut client, server) = tokio::io::duplex(64 * 1024);
            client.write_all(sent.as_bytes()).await.unwrap();
            let mut checked = Checked::new(server, LIMITS, Arc::default());
            checked.read_u8().await.unwrap();
            let start = Instant::now();
            checked.shutdown().await.unwrap();
            let expected = if lingers { LINGER } else { Duration::ZERO };
            assert_eq!(start.elapsed(), expected, "{sent}");
        }
        let (mut client, server) = tokio::io::duplex(64);
        let mut checked = Checked::new(server, LIMITS, Arc::default());
        let sends = async {
            client.write_all(head.as_bytes()).await.unwrap();
            client.write_all(&[b'x'; 2_000]).await.unwrap();
            drop(client);
        };
        let shuts = async {
            checked.read_u8().await.unwrap();
            checked.shutdown().await.unwrap();
            Instant::now()
        };
        let start = Instant::now();
        let ((), shut) = tokio::join!(sends, shuts);
        assert_eq!(shut, start, "it was the end");
    }

    /// And whoever is gone is seen to be, whatever was read before.
    #[tokio::test(start_paused = true)]
    async fn what_comes_behind_a_request_waits_until_that_is_answered() {
        for goes in [false, true] {
            let signals = Arc::<Signals>::default();
            let (mut client, server) = tokio::io::duplex(1_024);
            let mut checked = Checked::new(server, LIMITS, Arc::clone(&signals));
            let sent = format!("{GET}\r\n{GET}");
            client.write_all(sent.as_bytes()).await.unwrap();
            let mut seen = vec![0; GET.len()];
            checked.read_exact(&mut seen).await.unwrap();
            let turn = signals.turn();
            let waiting = timeout(LINGER, checked.read_u8()).await;
            assert!(waiting.is_err(), "{waiting:?}");
            if goes {
                drop(client);
                let gone = checked.read_u8().await.unwrap_err();
                assert_eq!(gone.kind(), io::ErrorKind::UnexpectedEof);
                continue;
            }
            let ends = async {
                sleep(LINGER).await;
                drop(turn);
            };
            let mut seen = vec![0; GET.len() + 2];
            let (read, ()) = tokio::join!(checked.read_exact(&mut seen), ends);
            read.unwrap();
            assert_eq!(seen, format!("\r\n{GET}").as_bytes());
        }
    }

    /// So much of it is kept, and no more.
    #[tokio::test(start_paused = true)]
    async fn who_says_very_much_behind_a_request_is_read_no_further() {
        let signals = Arc::<Signals>::default();
        let (mut client, server) = tokio::io::duplex(1_024);
        let mut checked = Checked::new(server, LIMITS, Arc::clone(&signals));
        let turn = signals.turn();
        let much = vec![b'\r'; 1_000_000];
        let sends = client.write_all(&much);
        let (sent, read) = tokio::join!(timeout(LINGER, sends), timeout(LINGER, checked.read_u8()));
        assert!(sent.is_err() && read.is_err());
        let kept = checked.inbox.len();
        assert!(kept < MOST_BEHIND + PIECE, "{kept}");
        drop(turn);
    }

    #[tokio::test]
    async fn a_flawed_body_fails() {
        let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
        let sent = format!("{head}1\nx\r\n0\r\n\r\n");
        let (seen, ended, flaw) = read(sent.as_bytes()).await;
        assert_eq!(seen, head);
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(flaw, Some(Flaw::BareLf));
    }

    #[tokio::test]
    async fn what_is_not_complete_is_not_read() {
        let (seen, ended, flaw) = read(b"GET / HTTP/1.1\r\nhost: a\r\n").await;
        assert_eq!((seen.as_str(), flaw), ("", None));
        assert!(ended.is_ok());
    }
}
