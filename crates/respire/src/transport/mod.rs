//! How bytes travel: TCP, Unix sockets, TLS, and what others bring.
//!
//! A [`Transport`] only moves bytes: it frames nothing, matches nothing and keeps no time. It is two halves, polled
//! independently of each other and perhaps from different tasks.
//!
//! The [`ReceiveHalf`] does one of two things. It appends to the reader's buffer, as a socket does, whose bytes must be
//! copied to somewhere anyway; or it *lends* memory that it has received into, such as memory that is registered with a
//! network card: the reader decodes there and says how much it is done with. What a user keeps was copied out by then,
//! so that a lease ends when the reader says so and never waits for a user.
//!
//! The [`SendHalf`] takes as much as it can of a gathered list of slices. There is no question whether it is ready: it
//! takes bytes or wakes the task later, whatever it is that tells it that there is room again.
//!
//! # Bringing one's own
//!
//! Implement the two halves (for a byte stream of tokio's there is [`Transport::of_streams`]) and a [`Connector`] that
//! dials. Hand it to one client with [`Config::with_connector`](crate::Config::with_connector), or
//! [`register`] it for all URLs of a scheme of its own. [`memory::pair`] is an example and a transport for tests.

use std::{
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};

mod connector;
pub mod memory;
pub(crate) mod tcp;
#[cfg(feature = "tls")]
pub(crate) mod tls;
#[cfg(unix)]
pub(crate) mod unix;

pub use connector::{ConnectFuture, Connector, Parameters, register};
pub(crate) use connector::{is_name, registered};
pub use tcp::connect_tcp;

/// A connected, reliable, ordered way for bytes, as its two directions.
pub struct Transport {
    pub(crate) receive: Box<dyn ReceiveHalf>,
    pub(crate) send: Box<dyn SendHalf>,
}

impl Transport {
    /// A transport of these halves.
    pub fn new(receive: impl ReceiveHalf, send: impl SendHalf) -> Self {
        Self { receive: Box::new(receive), send: Box::new(send) }
    }

    /// The halves of a byte stream of tokio's, or two streams.
    ///
    /// They must be independent: with halves of [`tokio::io::split`] each call holds a lock that the other half's call
    /// waits for, which does no harm as long as the stream's own calls do not block.
    pub fn of_streams(
        receive: impl AsyncRead + Unpin + Send + 'static,
        send: impl AsyncWrite + Unpin + Send + 'static,
    ) -> Self {
        Self::new(ByteStream(receive), ByteStream(send))
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transport")
    }
}

/// The direction towards us.
///
/// # Wakers
///
/// Where a call is pending, the task of the *last* call is woken when a further one may not be. The two halves may
/// share what they have, such as a queue of completions, and a call of one may come across what the other waits for; it
/// must wake the other's task then and must not drop its waker, because nobody can be relied on to poll both. In
/// particular, a source of events that keeps one waker only (an `AsyncFd` keeps one a direction) has to be given one that
/// wakes both tasks. A task that is woken for nothing just calls again.
pub trait ReceiveHalf: Send + 'static {
    /// Receives, in one of the ways of [`Received`].
    ///
    /// `buffer` has room for at least one byte. It is appended to within that room, and nothing else is done to it; what
    /// finds no room stays with the transport.
    ///
    /// # Errors
    ///
    /// When the connection is broken, and from then on always. What was received before is handed out first.
    fn poll_receive<'a>(
        &'a mut self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<Received<'a>>>;

    /// Takes back the first `count` bytes of what was lent last, at most all of it. The memory may be received into
    /// again, and be announced to the peer for that, at once.
    ///
    /// A half that never lends need not implement it.
    fn release(&mut self, count: usize) {
        let _ = count;
    }
}

/// What [`ReceiveHalf::poll_receive`] came to.
#[derive(Debug)]
pub enum Received<'a> {
    /// So many bytes were appended to the buffer; at least one. Only while nothing is lent.
    Filled(usize),
    /// Bytes are to be read where they are.
    Lent(Lease<'a>),
    /// The peer sends no more.
    End,
}

/// Received bytes in the transport's own memory, until the reader [releases](ReceiveHalf::release) them.
///
/// Bytes that were lent before and not released are at the front, and there is at least one byte behind them: with
/// nothing new, the call is pending.
#[derive(Clone, Copy, Debug)]
pub struct Lease<'a> {
    /// The bytes.
    pub bytes: &'a [u8],
    /// How many more may come to stand behind these before the reader must release some for anything to be received. A
    /// reader that waits for more than that to complete something has to copy out what it has, and release it.
    pub room: usize,
}

/// The direction away from us. What [`ReceiveHalf`] says of wakers holds here as well.
pub trait SendHalf: Send + 'static {
    /// Takes bytes from the front of `slices`, which are not all empty: at least one and as many as it can, since each
    /// call may cost a system call, a record or a message of its own.
    ///
    /// What was taken is sent without being offered again. If some of it is still [held](Taken::held) back, the task is
    /// woken when it can move on. A call that is pending has taken nothing, and the next one need not offer the same
    /// bytes.
    ///
    /// # Errors
    ///
    /// When nothing more can be sent, and from then on always. The call has taken nothing then: whether a request may
    /// have reached the server hangs on that. A half that has taken bytes and fails to send them says so at the next
    /// call.
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<Taken>>;

    /// Moves on what was taken and is held. Called when something is and there is nothing new to send.
    ///
    /// # Errors
    ///
    /// As [`poll_send`](Self::poll_send).
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let _ = cx;
        Poll::Ready(Ok(()))
    }

    /// Moves on what is held and says that nothing more will be sent, where the transport can. Where it cannot at once,
    /// dropping the halves ends the connection all the same: a caller may call this once and drop them then.
    ///
    /// # Errors
    ///
    /// When the connection is broken.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// What [`SendHalf::poll_send`] took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    pub(crate) bytes: usize,
    pub(crate) held: bool,
}

impl Taken {
    /// So many bytes were taken, and need no further call to leave.
    pub fn sent(bytes: usize) -> Self {
        Self { bytes, held: false }
    }

    /// So many bytes were taken, some of which leave only by further calls of
    /// [`poll_send`](SendHalf::poll_send) or [`poll_flush`](SendHalf::poll_flush).
    pub fn held(bytes: usize) -> Self {
        Self { bytes, held: true }
    }
}

/// Asked for by one call at most. A socket is the caller's alone while it copies, and tells the peer of the room that this
/// made only afterwards: one long call for a large value makes its sender wait.
const RECEIVE_BYTES_MAX: usize = 64 * 1024;

/// A byte stream of tokio's as half a [`Transport`], or as both.
#[derive(Debug)]
pub struct ByteStream<S>(pub S);

impl<S: AsyncRead + Unpin + Send + 'static> ReceiveHalf for ByteStream<S> {
    fn poll_receive<'a>(
        &'a mut self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<Received<'a>>> {
        let mut room = buffer.limit(RECEIVE_BYTES_MAX);
        tokio_util::io::poll_read_buf(Pin::new(&mut self.0), cx, &mut room).map_ok(|count| {
            match count {
                0 => Received::End,
                count => Received::Filled(count),
            }
        })
    }
}

impl<S: AsyncWrite + Unpin + Send + 'static> SendHalf for ByteStream<S> {
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<Taken>> {
        let sent = match slices {
            // A plain write costs the kernel less than a vectored one of a single piece.
            [slice] => Pin::new(&mut self.0).poll_write(cx, slice),
            slices => Pin::new(&mut self.0).poll_write_vectored(cx, slices),
        };
        let Poll::Ready(Ok(count)) = sent else { return sent.map_ok(Taken::sent) };
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        // Nothing for a socket; a stream that encrypts may keep what it was given. An error comes again with the next
        // call: this one has taken its bytes.
        match Pin::new(&mut self.0).poll_flush(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(Taken::sent(count))),
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Ready(Ok(Taken::held(count))),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
