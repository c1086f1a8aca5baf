//! What the other end of a connection lets us open.
//!
//! HTTP/2 lets a peer say how many streams it takes, none included, at any time; and
//! until its first SETTINGS nothing is known of it at all. Requests then stand in
//! hyper's line without a word, up to their timeouts. So the frames that arrive are
//! looked over for that one number, and [`TransportFuture`](super::transport) asks
//! for it.
//!
//! ```text
//! Untold   no SETTINGS yet: none of our requests has left (the transport begins
//!   |      with room for no stream)
//!   +-> Open   requests leave as they come
//!   +-> Shut   what is asked from now on does not leave, until it is Open again
//! ```

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use hyper_util::client::legacy::connect::{CaptureConnection, Connected, Connection};
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// The other end of one connection, as its reader and the calls on it share it.
#[derive(Clone, Debug)]
pub(super) struct Peer(Arc<Mutex<Door>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Untold,
    Open,
    /// No stream is allowed since then; or since ever.
    Shut(Option<Instant>),
}

/// Why a request has surely not left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    Untold,
    Shut,
}

impl Peer {
    /// `speaks_http2`: HTTP/1 has no streams to allow.
    fn new(speaks_http2: bool) -> Peer {
        let door = match speaks_http2 {
            true => Door::Untold,
            false => Door::Open,
        };
        Peer(Arc::new(Mutex::new(door)))
    }

    /// Why a request that was made at `asked` cannot have left by now, if so.
    pub(super) fn keeps(&self, asked: Instant) -> Option<Kept> {
        match *self.door() {
            Door::Untold => Some(Kept::Untold),
            Door::Shut(None) => Some(Kept::Shut),
            Door::Shut(Some(since)) if since <= asked => Some(Kept::Shut),
            Door::Shut(Some(_)) | Door::Open => None,
        }
    }

    /// Takes in one SETTINGS frame, and how many streams it allows if it says so.
    fn told(&self, streams: Option<u32>) {
        let mut door = self.door();
        *door = match (*door, streams) {
            (Door::Untold, None) | (_, Some(1..)) => Door::Open,
            (Door::Untold, Some(0)) => Door::Shut(None),
            (Door::Open, Some(0)) => Door::Shut(Some(Instant::now())),
            (unchanged, _) => unchanged,
        };
    }

    /// It is whole at every instant, so a panic elsewhere does not matter.
    fn door(&self) -> MutexGuard<'_, Door> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pin_project! {
    /// A connection whose frames are looked over as they arrive, and nothing else.
    #[derive(Debug)]
    pub(super) struct Watched<T> {
        #[pin]
        inner: T,
        peer: Peer,
        // None over HTTP/1, of which there may be very many.
        frames: Option<Box<Frames>>,
    }
}

impl<T: Connection> Watched<T> {
    pub(super) fn new(inner: T) -> Self {
        let speaks_http2 = inner.connected().is_negotiated_h2();
        Watched {
            inner,
            peer: Peer::new(speaks_http2),
            frames: speaks_http2.then(Box::default),
        }
    }
}

impl<T: Connection> Connection for Watched<T> {
    fn connected(&self) -> Connected {
        self.inner.connected().extra(self.peer.clone())
    }
}

impl<T: AsyncRead> AsyncRead for Watched<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.project();
        let before = buf.filled().len();
        ready!(this.inner.poll_read(cx, buf))?;
        if let Some(frames) = this.frames {
            frames.read(&buf.filled()[before..], |streams| this.peer.told(streams));
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite> AsyncWrite for Watched<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.project().inner.poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().inner.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().inner.poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.project().inner.poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

/// The bytes of a frame's header, and of one setting (RFC 9113, 4.1 and 6.5.1).
const HEADER: usize = 9;
const SETTING: usize = 6;
const SETTINGS: u8 = 0x4;
const ACK: u8 = 0x1;
const MAX_CONCURRENT_STREAMS: u16 = 0x3;

/// Reads the SETTINGS among the frames of a connection, cut anywhere.
#[derive(Debug, Default)]
struct Frames {
    /// The beginning of a header or of a setting.
    held: [u8; HEADER],
    length: usize,
    /// Bytes of this frame that are nobody's concern.
    skipped: usize,
    /// Settings of this frame that are still to come.
    settings: usize,
    streams: Option<u32>,
}

impl Frames {
    fn read(&mut self, mut bytes: &[u8], mut told: impl FnMut(Option<u32>)) {
        while !bytes.is_empty() {
            if self.skipped > 0 {
                let skipped = self.skipped.min(bytes.len());
                self.skipped -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let wanted = if self.settings > 0 { SETTING } else { HEADER };
            let taken = (wanted - self.length).min(bytes.len());
            self.held[self.length..][..taken].copy_from_slice(&bytes[..taken]);
            self.length += taken;
            bytes = &bytes[taken..];
            if self.length < wanted {
                return;
            }
            self.length = 0;
            let is_told = match self.settings {
                0 => self.header(),
                _ => self.setting(),
            };
            if is_told {
                told(self.streams.take());
            }
        }
    }

    /// Whether this is the whole of a SETTINGS frame.
    fn header(&mut self) -> bool {
        let [a, b, c, kind, flags, ..] = self.held;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        if kind != SETTINGS || flags & ACK != 0 {
            self.skipped = length;
            return false;
        }
        self.settings = length / SETTING;
        self.settings == 0
    }

    /// Whether this was the last one of its frame.
    fn setting(&mut self) -> bool {
        let [id, id_low, a, b, c, d, ..] = self.held;
        if u16::from_be_bytes([id, id_low]) == MAX_CONCURRENT_STREAMS {
            self.streams = Some(u32::from_be_bytes([a, b, c, d]));
        }
        self.settings -= 1;
        self.settings == 0
    }
}

/// Lets nobody use a connection again.
pub(super) fn poison(connection: &CaptureConnection) {
    if let Some(connected) = &*connection.connection_metadata() {
        connected.poison();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
        let header = [length[1], length[2], length[3], kind, flags, 0, 0, 0, 0];
        [&header, payload].concat()
    }

    fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
        let setting = |(id, value): &(u16, u32)| {
            let (id, value) = (id.to_be_bytes(), value.to_be_bytes());
            [&id[..], &value[..]].concat()
        };
        frame(
            SETTINGS,
            0,
            &settings.iter().flat_map(setting).collect::<Vec<_>>(),
        )
    }

    #[test]
    fn settings_are_read_however_the_bytes_are_cut() {
        let data = frame(0, 0, &settings(&[(3, 9)]));
        let bytes = [
            settings(&[]),
            data,
            settings(&[(4, 65_535), (3, 0), (1, 0)]),
            frame(SETTINGS, ACK, &[]),
            frame(6, 0, &[0; 8]),
            settings(&[(3, 250)]),
            settings(&[(5, 16_384)]),
        ]
        .concat();
        for piece in 1..=bytes.len() {
            let (mut frames, mut told) = (Frames::default(), Vec::new());
            for bytes in bytes.chunks(piece) {
                frames.read(bytes, |streams| told.push(streams));
            }
            assert_eq!(told, [None, Some(0), Some(250), None], "cut by {piece}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_was_asked_behind_a_shut_door_has_surely_not_left() {
        let (peer, early) = (Peer::new(true), Instant::now());
        assert_eq!(peer.keeps(early), Some(Kept::Untold));
        peer.told(Some(0));
        assert_eq!(peer.keeps(early), Some(Kept::Shut));
        peer.told(Some(100));
        assert_eq!(peer.keeps(early), None);

        tokio::time::advance(Duration::from_millis(1)).await;
        peer.told(Some(0));
        assert_eq!(peer.keeps(early), None, "it may have left before");
        assert_eq!(peer.keeps(Instant::now()), Some(Kept::Shut));
        peer.told(None);
        assert_eq!(
            peer.keeps(Instant::now()),
            Some(Kept::Shut),
            "not said anew"
        );

        let quiet = Peer::new(true);
        quiet.told(None);
        assert_eq!(quiet.keeps(early), None, "no number is no limit");
        assert_eq!(Peer::new(false).keeps(early), None);
    }
}
