//! A transport that lends its memory, to a real server.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use respire::{
    Address,
    transport::{ByteStream, ConnectFuture, Connector, Lease, ReceiveHalf, Received, Transport},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};

/// Dials a Unix socket or TCP, and lends what it receives there out of a window of memory, as memory that is registered with a
/// network card is lent: filled strictly forward, and from the beginning again only once its last byte was released.
#[derive(Debug)]
pub struct LendingConnector {
    window_bytes: usize,
}

impl LendingConnector {
    /// Each connection has a window of so many bytes.
    pub fn new(window_bytes: usize) -> Self {
        Self { window_bytes }
    }

    fn lend(
        &self,
        stream: impl AsyncRead + Unpin + Send + 'static,
        write: impl AsyncWrite + Unpin + Send + 'static,
    ) -> Transport {
        let window = vec![0; self.window_bytes];
        let half = LendingHalf { stream, window, filled: 0, released: 0 };
        Transport::new(half, ByteStream(write))
    }
}

impl Connector for LendingConnector {
    fn connect<'a>(&'a self, address: &'a Address) -> ConnectFuture<'a> {
        Box::pin(async move {
            match address {
                Address::Unix(path) => {
                    let (read, write) = UnixStream::connect(path).await?.into_split();
                    Ok(self.lend(read, write))
                }
                Address::Tcp { host, port } => {
                    let stream = TcpStream::connect((&**host, *port)).await?;
                    stream.set_nodelay(true)?;
                    let (read, write) = stream.into_split();
                    Ok(self.lend(read, write))
                }
                _ => Err(io::ErrorKind::Unsupported.into()),
            }
        })
    }
}

/// `window[released..filled]` is lent.
#[derive(Debug)]
struct LendingHalf<S> {
    stream: S,
    window: Vec<u8>,
    filled: usize,
    released: usize,
}

impl<S: AsyncRead + Unpin + Send + 'static> ReceiveHalf for LendingHalf<S> {
    fn poll_receive<'a>(
        &'a mut self,
        cx: &mut Context<'_>,
        _: &mut BytesMut,
    ) -> Poll<io::Result<Received<'a>>> {
        if self.released == self.window.len() {
            (self.filled, self.released) = (0, 0);
        }
        assert!(self.filled < self.window.len(), "a full window was to be released");
        let mut room = ReadBuf::new(&mut self.window[self.filled..]);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut room))?;
        let count = room.filled().len();
        if count == 0 {
            return Poll::Ready(Ok(Received::End));
        }
        self.filled += count;
        Poll::Ready(Ok(Received::Lent(Lease {
            bytes: &self.window[self.released..self.filled],
            room: self.window.len() - self.filled,
        })))
    }

    fn release(&mut self, count: usize) {
        assert!(count <= self.filled - self.released, "not more than was lent");
        self.window[self.released..self.released + count].fill(b'?');
        self.released += count;
    }
}
