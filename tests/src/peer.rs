//! A scripted peer: a server that does what no real one can be made to do.

use std::future::Future;

use bytes::BytesMut;
use respire::codec::{Decoder, DecoderConfig};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// Listens on a loopback port and plays a script on each connection. Stops when dropped.
#[derive(Debug)]
pub struct ScriptedPeer {
    port: u16,
    task: JoinHandle<()>,
}

impl ScriptedPeer {
    /// Starts; `script` is called with each connection and its number, from 0.
    ///
    /// # Panics
    ///
    /// When no loopback port can be had.
    pub async fn start<F, S>(script: S) -> Self
    where
        S: Fn(PeerConnection, usize) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let task = tokio::spawn(async move {
            let mut number = 0;
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(script(PeerConnection::new(stream), number));
                number += 1;
            }
        });
        Self { port, task }
    }

    /// The URL to connect to.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

impl Drop for ScriptedPeer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The peer's end of one connection.
#[derive(Debug)]
pub struct PeerConnection {
    stream: TcpStream,
    decoder: Decoder,
    received: BytesMut,
}

impl PeerConnection {
    fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a connected socket takes the option");
        let decoder = Decoder::new(DecoderConfig::default());
        Self { stream, decoder, received: BytesMut::new() }
    }

    /// The next command's words, or `None` when the client has closed or reset the connection.
    ///
    /// # Panics
    ///
    /// When what the client sent is not a command.
    pub async fn command(&mut self) -> Option<Vec<String>> {
        loop {
            let frame = self.decoder.decode(&mut self.received).expect("the client sends RESP");
            if let Some(frame) = frame {
                return Some(frame.parse().expect("a command is an array of strings"));
            }
            if self.stream.read_buf(&mut self.received).await.ok()? == 0 {
                return None;
            }
        }
    }

    /// Sends bytes as they are. What fails because the client is gone is left to the next read.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    /// Answers the client's handshake as a RESP3 server would.
    ///
    /// # Panics
    ///
    /// When the client sends something else.
    pub async fn shake_hands(&mut self) {
        for expected in ["HELLO", "CLIENT", "CLIENT"] {
            let command = self.command().await.expect("a client that shakes hands");
            assert_eq!(command[0], expected);
            let reply: &[u8] =
                if expected == "HELLO" { b"%1\r\n$5\r\nproto\r\n:3\r\n" } else { b"+OK\r\n" };
            self.send(reply).await;
        }
    }

    /// Reads commands and answers none, until the client goes.
    pub async fn swallow(&mut self) {
        while self.command().await.is_some() {}
    }

    /// Neither reads nor closes, until the peer is dropped.
    pub async fn freeze(self) {
        std::future::pending::<()>().await;
    }
}
