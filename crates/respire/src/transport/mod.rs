//! How bytes travel. A transport only moves bytes: it frames nothing, matches nothing and keeps no time.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};

#[cfg(test)]
pub(crate) mod memory;
pub(crate) mod tcp;
#[cfg(unix)]
pub(crate) mod unix;

/// A connected, reliable, ordered way for bytes in both directions.
///
/// Receiving and sending are polled by one task but do not wait for each other: either may be pending while the other
/// goes on.
pub(crate) trait Transport: Send + 'static {
    /// Appends received bytes to `buffer`, which has room for at least one, and returns how many; 0 means that the peer
    /// sends no more. Bytes beyond the spare capacity stay with the transport.
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<usize>>;

    /// Takes bytes from the front of `slices`, which are not all empty, and returns how many: at least one.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>>;

    /// Says that nothing more will be sent, where the transport can.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// A transport of any kind.
pub(crate) type AnyTransport = Box<dyn Transport>;

impl Transport for AnyTransport {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        (**self).poll_receive(cx, buffer)
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        (**self).poll_send(cx, slices)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        (**self).poll_close(cx)
    }
}

/// A byte stream of tokio's as a transport.
#[derive(Debug)]
pub(crate) struct ByteStream<S>(pub(crate) S);

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Transport for ByteStream<S> {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        tokio_util::io::poll_read_buf(Pin::new(&mut self.0), cx, buffer)
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.0).poll_write_vectored(cx, slices) {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            other => other,
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
