//! An in-process pair, for tests that need a peer to do what a server would not.

use tokio::io::DuplexStream;

use super::Transport;

/// A transport, and the peer's end of it. Each direction holds at most `capacity` bytes that were not read, so that a
/// peer that stops reading is felt after so many.
///
/// # Example
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use respire::{Address, Client, Command, Config, transport::{ConnectFuture, Connector, Transport, memory}};
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// #[derive(Debug)]
/// struct InProcess(Mutex<Option<Transport>>);
///
/// impl Connector for InProcess {
///     fn connect<'a>(&'a self, _: &'a Address) -> ConnectFuture<'a> {
///         let transport = self.0.lock().unwrap().take();
///         Box::pin(async { transport.ok_or_else(|| std::io::ErrorKind::ConnectionRefused.into()) })
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (transport, mut server) = memory::pair(4096);
/// let config: Config = "redis://in-process".parse()?;
/// let config = config.with_connector(Arc::new(InProcess(Mutex::new(Some(transport)))));
///
/// // A server of a few lines: whatever it is sent, these are its replies.
/// server.write_all(b"%1\r\n+proto\r\n:3\r\n+OK\r\n+OK\r\n").await?;
/// let client = Client::with_config(config).await?;
/// let request = tokio::spawn(async move { client.query::<String>(Command::new("GET").arg("k")).await });
/// let mut received = Vec::new();
/// while !received.ends_with(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n") {
///     server.read_buf(&mut received).await?;
/// }
/// server.write_all(b"$1\r\nv\r\n").await?;
/// assert_eq!(request.await??, "v");
/// # Ok(())
/// # }
/// ```
pub fn pair(capacity: usize) -> (Transport, DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(capacity);
    let (receive, send) = tokio::io::split(ours);
    (Transport::of_streams(receive, send), theirs)
}
