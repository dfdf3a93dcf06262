//! Through a SOCKS5 proxy, which looks the host up, with the client's TLS over it:
//! `cargo run -p respire --example socks_proxy -- valkeys://cache.internal:6380 127.0.0.1:1080`

use std::{io, sync::Arc};

use respire::{
    Address, Client, Config,
    commands::*,
    transport::{ConnectFuture, Connector, Transport},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

#[tokio::main]
async fn main() -> Result<(), respire::Error> {
    let mut args = std::env::args().skip(1);
    let url = args.next();
    let proxy = args.next();
    run(
        url.as_deref().unwrap_or("valkeys://localhost:6379"),
        proxy.as_deref().unwrap_or("127.0.0.1:1080"),
    )
    .await
}

pub(crate) async fn run(url: &str, proxy: &str) -> Result<(), respire::Error> {
    let config: Config = url.parse()?;
    let config = config.with_connector(Arc::new(Socks5 { proxy: proxy.to_owned() }));
    let client = Client::with_config(config).await?;
    client.set("example:far", "away").await?;
    let value: Option<String> = client.getdel("example:far").await?;
    assert_eq!(value.as_deref(), Some("away"));
    println!("{value:?} came through {proxy}");
    client.close().await;
    Ok(())
}

/// Dials through a proxy that wants no credentials (RFC 1928).
#[derive(Debug)]
pub(crate) struct Socks5 {
    /// `host:port`.
    pub(crate) proxy: String,
}

impl Connector for Socks5 {
    fn connect<'a>(&'a self, address: &'a Address) -> ConnectFuture<'a> {
        Box::pin(async move {
            let Address::Tcp { host, port } = address else {
                return Err(io::ErrorKind::Unsupported.into());
            };
            let mut stream = TcpStream::connect(&self.proxy).await?;
            stream.set_nodelay(true)?;
            ask(&mut stream, host, *port).await?;
            // From here on these are the server's bytes, and it is up to the client to speak TLS over them.
            let (receive, send) = stream.into_split();
            Ok(Transport::of_streams(receive, send))
        })
    }
}

/// Has the proxy connect to a host, and waits until it has.
async fn ask(stream: &mut TcpStream, host: &str, port: u16) -> io::Result<()> {
    // Version 5, and one method: without credentials.
    stream.write_all(&[5, 1, 0]).await?;
    let mut method = [0; 2];
    stream.read_exact(&mut method).await?;
    if method != [5, 0] {
        return Err(io::Error::other("the proxy wants credentials, or is none"));
    }
    let length = u8::try_from(host.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // Connect, to a name.
    let mut request = vec![5, 1, 0, 3, length];
    request.extend_from_slice(host.as_bytes());
    request.extend_from_slice(&port.to_be_bytes());
    stream.write_all(&request).await?;
    let mut reply = [0; 4];
    stream.read_exact(&mut reply).await?;
    if reply[1] != 0 {
        return Err(io::Error::other(format!("the proxy cannot connect: code {}", reply[1])));
    }
    // The address that it connected from, which is of no interest, and a port.
    let length = match reply[3] {
        1 => 4,
        3 => usize::from(stream.read_u8().await?),
        4 => 16,
        _ => return Err(io::ErrorKind::InvalidData.into()),
    };
    stream.read_exact(&mut vec![0; length + 2]).await?;
    Ok(())
}
