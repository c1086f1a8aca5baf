//! A file as it is meant to be read: one that was packed with gzip is unpacked
//! on the way.

use std::io;

use async_compression::tokio::bufread::GzipDecoder;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

/// Large enough that reading a file costs few trips to the blocking pool.
const BUFFER_BYTES: usize = 64 * 1024;

/// The first byte of every gzip file (RFC 1952, section 2.3.1), and of no text.
const GZIP: u8 = 0x1f;

/// A buffered reader that unpacks what is packed.
#[derive(Debug)]
pub(crate) enum Unpacked<R> {
    /// Nothing was read yet; `None` only while it turns into something else.
    Unseen(Option<BufReader<R>>),
    Plain(BufReader<R>),
    Gzip(Box<BufReader<GzipDecoder<BufReader<R>>>>),
}

impl<R: AsyncRead + Unpin> Unpacked<R> {
    /// Goes by the first byte, not by a name.
    pub(crate) fn new(reader: R) -> Self {
        Self::Unseen(Some(BufReader::with_capacity(BUFFER_BYTES, reader)))
    }

    /// Takes everything as it is.
    pub(crate) fn plain(reader: R) -> Self {
        Self::Plain(BufReader::with_capacity(BUFFER_BYTES, reader))
    }

    /// What comes next; nothing at the end. Safe to give up.
    pub(crate) async fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if let Self::Unseen(Some(reader)) = self {
            let first = reader.fill_buf().await?.first().copied();
            self.settle(first);
        }
        match self {
            Self::Plain(reader) => reader.fill_buf().await,
            Self::Gzip(reader) => reader.fill_buf().await,
            Self::Unseen(_) => unreachable!("its first byte was seen"),
        }
    }

    /// Takes `bytes` of what came as read.
    pub(crate) fn consume(&mut self, bytes: usize) {
        match self {
            Self::Plain(reader) => reader.consume(bytes),
            Self::Gzip(reader) => reader.consume(bytes),
            Self::Unseen(_) => {}
        }
    }

    fn settle(&mut self, first: Option<u8>) {
        let Self::Unseen(reader) = self else { return };
        let Some(reader) = reader.take() else { return };
        *self = match first {
            Some(GZIP) => {
                let mut unpacking = GzipDecoder::new(reader);
                // What was appended to a packed file is packed on its own.
                unpacking.multiple_members(true);
                let unpacked = BufReader::with_capacity(BUFFER_BYTES, unpacking);
                Self::Gzip(Box::new(unpacked))
            }
            _ => Self::Plain(reader),
        };
    }
}
