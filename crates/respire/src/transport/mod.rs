//! How bytes travel. A transport only moves bytes: it frames nothing, matches nothing and keeps no time.

use std::{
    fmt,
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

/// A connected, reliable, ordered way for bytes, as its two directions. They are polled independently, also from
/// different tasks: neither may wait for the other.
pub(crate) struct Transport {
    pub(crate) receive: Box<dyn ReceiveHalf>,
    pub(crate) send: Box<dyn SendHalf>,
}

impl Transport {
    /// The halves of a byte stream of tokio's.
    pub(crate) fn of_streams(
        receive: impl AsyncRead + Unpin + Send + 'static,
        send: impl AsyncWrite + Unpin + Send + 'static,
    ) -> Self {
        Self { receive: Box::new(ByteStream(receive)), send: Box::new(ByteStream(send)) }
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transport")
    }
}

/// The direction towards us.
pub(crate) trait ReceiveHalf: Send + 'static {
    /// Appends received bytes to `buffer`, which has room for at least one, and returns how many; 0 means that the peer
    /// sends no more. Bytes beyond the spare capacity stay with the transport.
    ///
    /// Where it is pending, the task of the last call is woken when there is something to receive.
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<usize>>;
}

/// The direction away from us.
pub(crate) trait SendHalf: Send + 'static {
    /// Takes bytes from the front of `slices`, which are not all empty, and returns how many: at least one.
    ///
    /// Where it is pending, the task of the last call is woken when there is room again.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>>;

    /// Says that nothing more will be sent, where the transport can.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// A byte stream of tokio's as half a transport.
#[derive(Debug)]
struct ByteStream<S>(S);

impl<S: AsyncRead + Unpin + Send + 'static> ReceiveHalf for ByteStream<S> {
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        tokio_util::io::poll_read_buf(Pin::new(&mut self.0), cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin + Send + 'static> SendHalf for ByteStream<S> {
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let sent = match slices {
            // A plain write costs the kernel less than a vectored one of a single piece.
            [slice] => Pin::new(&mut self.0).poll_write(cx, slice),
            slices => Pin::new(&mut self.0).poll_write_vectored(cx, slices),
        };
        match sent {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            sent => sent,
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
