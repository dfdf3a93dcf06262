//! A SOCKS5 proxy, for what dials through one.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// Connects to 127.0.0.1, whatever name it is given: so a client gets there only through it.
#[derive(Debug)]
pub struct SocksProxy {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl SocksProxy {
    /// One on a free port.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let count = Arc::clone(&count);
                // It ends with either side, and what it comes to is for these to notice.
                tokio::spawn(async move { serve(stream, &count).await });
            }
        });
        Self { address, connections, accepting }
    }

    /// Where it listens, `host:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// How many connections it has made.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for SocksProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(mut client: TcpStream, count: &AtomicUsize) -> io::Result<()> {
    let mut greeting = [0; 3];
    client.read_exact(&mut greeting).await?;
    assert_eq!(greeting, [5, 1, 0], "version 5, without credentials");
    client.write_all(&[5, 0]).await?;
    let mut request = [0; 5];
    client.read_exact(&mut request).await?;
    assert_eq!(request[..4], [5, 1, 0, 3], "to connect to a name");
    let mut rest = vec![0; usize::from(request[4]) + 2];
    client.read_exact(&mut rest).await?;
    let port = u16::from_be_bytes([rest[rest.len() - 2], rest[rest.len() - 1]]);
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await else {
        // Connection refused.
        return client.write_all(&[5, 5, 0, 1, 0, 0, 0, 0, 0, 0]).await;
    };
    count.fetch_add(1, Ordering::Relaxed);
    // As if connected from an IPv6 address, the longest there is.
    let mut reply = vec![5, 0, 0, 4];
    reply.resize(4 + 16 + 2, 0);
    client.write_all(&reply).await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}
