//! A peer that reads no more may have answered.
//!
//! A server that refuses an upload by its head answers and closes. What is written from then
//! on fails, and hyper gives up a connection whose writing fails without reading what has
//! arrived on it. So a write that fails because nobody is there any more is thrown away
//! instead, and the reading tells how it ends: with the answer, or with the same error.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper_util::client::legacy::connect::{Connected, Connection};
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pin_project! {
    /// A connection whose writing never fails for want of a reader.
    #[derive(Debug)]
    pub(super) struct ToTheDeaf<T> {
        #[pin]
        inner: T,
        // Over HTTP/1 alone: HTTP/2 says itself that it reads no more.
        may_be: bool,
        is_deaf: bool,
    }
}

impl<T: Connection> ToTheDeaf<T> {
    pub(super) fn new(inner: T) -> Self {
        ToTheDeaf {
            may_be: !inner.connected().is_negotiated_h2(),
            inner,
            is_deaf: false,
        }
    }
}

impl<T> ToTheDeaf<T> {
    /// What `write` says, or that all is well where nobody reads any more.
    fn unless_deaf<A>(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        all_is_well: A,
        write: impl FnOnce(Pin<&mut T>, &mut Context<'_>) -> Poll<io::Result<A>>,
    ) -> Poll<io::Result<A>> {
        let this = self.project();
        if *this.is_deaf {
            return Poll::Ready(Ok(all_is_well));
        }
        match ready!(write(this.inner, cx)) {
            Err(error) if *this.may_be && is_gone(&error) => {
                *this.is_deaf = true;
                Poll::Ready(Ok(all_is_well))
            }
            written => Poll::Ready(written),
        }
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted
    )
}

impl<T: Connection> Connection for ToTheDeaf<T> {
    fn connected(&self) -> Connected {
        self.inner.connected()
    }
}

impl<T: AsyncRead> AsyncRead for ToTheDeaf<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.project().inner.poll_read(cx, buf)
    }
}

impl<T: AsyncWrite> AsyncWrite for ToTheDeaf<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.unless_deaf(cx, buf.len(), |inner, cx| inner.poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.unless_deaf(cx, (), |inner, cx| inner.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.unless_deaf(cx, (), |inner, cx| inner.poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all = bufs.iter().map(|buf| buf.len()).sum();
        self.unless_deaf(cx, all, |inner, cx| inner.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
