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
    io::{AsyncRead, ReadBuf},
    net::{UnixStream, unix::OwnedReadHalf},
};

/// Dials a Unix socket, and lends what it receives there out of a window of memory, as memory that is registered with a
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
}

impl Connector for LendingConnector {
    fn connect<'a>(&'a self, address: &'a Address) -> ConnectFuture<'a> {
        Box::pin(async move {
            let Address::Unix(path) = address else {
                return Err(io::ErrorKind::Unsupported.into());
            };
            let (read, write) = UnixStream::connect(path).await?.into_split();
            let window = vec![0; self.window_bytes];
            let half = LendingHalf { stream: read, window, filled: 0, released: 0 };
            Ok(Transport::new(half, ByteStream(write)))
        })
    }
}

/// `window[released..filled]` is lent.
#[derive(Debug)]
struct LendingHalf {
    stream: OwnedReadHalf,
    window: Vec<u8>,
    filled: usize,
    released: usize,
}

impl ReceiveHalf for LendingHalf {
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
