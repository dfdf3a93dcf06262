//! A transport that takes and gives little at a time, and holds back what it has taken.

use std::io;

use respire::{
    Address,
    transport::{ConnectFuture, Connector, Transport},
};
use tokio::{io::BufWriter, net::TcpStream};

/// Dials TCP, with a pipe of so many bytes before it, and a buffer before that which has to be flushed.
#[derive(Debug)]
pub struct NarrowConnector {
    capacity: usize,
}

impl NarrowConnector {
    /// Each direction of a connection has room for so many bytes.
    pub fn new(capacity: usize) -> Self {
        Self { capacity }
    }
}

impl Connector for NarrowConnector {
    fn connect<'a>(&'a self, address: &'a Address) -> ConnectFuture<'a> {
        Box::pin(async move {
            let Address::Tcp { host, port } = address else {
                return Err(io::ErrorKind::Unsupported.into());
            };
            let mut server = TcpStream::connect((&**host, *port)).await?;
            server.set_nodelay(true)?;
            let (ours, mut theirs) = tokio::io::duplex(self.capacity);
            tokio::spawn(async move {
                // It ends with either side, and what it comes to is for these to notice.
                let _ = tokio::io::copy_bidirectional(&mut theirs, &mut server).await;
            });
            let (receive, send) = tokio::io::split(ours);
            let send = BufWriter::with_capacity(self.capacity * 3, send);
            Ok(Transport::of_streams(receive, send))
        })
    }
}
