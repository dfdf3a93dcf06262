//! TCP.

use std::{io, net::SocketAddr};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};

use super::Transport;
use crate::{config::TcpConfig, error::ConnectFailure};

impl From<TcpStream> for Transport {
    fn from(stream: TcpStream) -> Self {
        let (receive, send) = stream.into_split();
        Self::of_streams(receive, send)
    }
}

/// Dials as the client itself does without a connector: for a connector that may fall back to TCP. The client's own
/// [`TcpConfig`] is not known to a connector.
///
/// # Errors
///
/// When the host has no address, or none that answers.
///
/// # Cancel safety
///
/// Dropping the future leaves nothing behind.
pub async fn connect_tcp(host: &str, port: u16, config: &TcpConfig) -> io::Result<Transport> {
    match dial(host, port, config).await {
        Ok(stream) => Ok(stream.into()),
        Err(ConnectFailure::Resolve(error) | ConnectFailure::Dial(error)) => Err(error),
        Err(other) => Err(io::Error::new(io::ErrorKind::NotFound, other)),
    }
}

/// Looks the host up and connects to the first of its addresses that answers. They are tried in turns of the two
/// families, each with a head start before the next.
pub(crate) async fn dial(
    host: &str,
    port: u16,
    config: &TcpConfig,
) -> Result<TcpStream, ConnectFailure> {
    let addresses = tokio::net::lookup_host((host, port)).await.map_err(ConnectFailure::Resolve)?;
    let ours = config.local_address();
    let addresses =
        addresses.filter(|theirs| ours.is_none_or(|ours| ours.is_ipv4() == theirs.is_ipv4()));
    let mut addresses = interleaved(addresses).into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut last = None;
    attempts.extend(addresses.next().map(|address| connect(address, config)));
    loop {
        let more = addresses.len() > 0;
        let another = tokio::select! {
            attempt = attempts.next() => match attempt {
                None => return Err(last.map_or(ConnectFailure::NoAddress, ConnectFailure::Dial)),
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(error)) => {
                    last = Some(error);
                    addresses.next()
                }
            },
            () = tokio::time::sleep(config.head_start()), if more => addresses.next(),
        };
        attempts.extend(another.map(|address| connect(address, config)));
    }
}

/// The addresses in the resolver's order, but alternating between the families, the first one's first.
fn interleaved(addresses: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let addresses: Vec<_> = addresses.collect();
    let Some(first) = addresses.first() else { return addresses };
    let is_v4 = first.is_ipv4();
    let (same, other): (Vec<SocketAddr>, Vec<SocketAddr>) =
        addresses.iter().partition(|address| address.is_ipv4() == is_v4);
    let mut mixed = Vec::with_capacity(addresses.len());
    let (mut same, mut other) = (same.into_iter(), other.into_iter());
    while mixed.len() < addresses.len() {
        mixed.extend(same.next());
        mixed.extend(other.next());
    }
    mixed
}

async fn connect(address: SocketAddr, config: &TcpConfig) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Requests are small and wait for their answer, so nothing is held back to be sent with more.
    socket.set_nodelay(true)?;
    let options = SockRef::from(&socket);
    if let Some(keepalive) = config.keepalive() {
        let keepalive = TcpKeepalive::new()
            .with_time(keepalive.idle)
            .with_interval(keepalive.interval)
            .with_retries(keepalive.probes);
        options.set_tcp_keepalive(&keepalive)?;
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    options.set_tcp_user_timeout(config.unacknowledged_max())?;
    if let Some(ours) = config.local_address() {
        socket.bind((ours, 0).into())?;
    }
    socket.connect(address).await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Keepalive;

    #[test]
    fn addresses_alternate_between_the_families() {
        let parse = |text: &[&str]| -> Vec<SocketAddr> {
            text.iter().map(|text| text.parse().unwrap()).collect()
        };
        let given = parse(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"]);
        let mixed = parse(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"]);
        assert_eq!(interleaved(given.into_iter()), mixed);
        assert!(interleaved(std::iter::empty()).is_empty());
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_connection_has_the_options_of_its_settings() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seconds = Duration::from_secs;
        let options = |stream: &TcpStream| {
            let socket = SockRef::from(stream);
            assert!(socket.tcp_nodelay().unwrap());
            (
                socket.keepalive().unwrap(),
                socket.tcp_keepalive_time().unwrap(),
                socket.tcp_keepalive_interval().unwrap(),
                socket.tcp_keepalive_retries().unwrap(),
                socket.tcp_user_timeout().unwrap(),
            )
        };
        let stream = dial("127.0.0.1", port, &TcpConfig::new()).await.unwrap();
        assert_eq!(options(&stream), (true, seconds(15), seconds(5), 3, Some(seconds(30))));
        let keepalive = Keepalive { idle: seconds(7), interval: seconds(2), probes: 5 };
        let config = TcpConfig::new()
            .with_keepalive(Some(keepalive))
            .with_unacknowledged_max(Some(Duration::from_millis(1500)))
            .with_local_address("127.0.0.9".parse().unwrap());
        let stream = dial("127.0.0.1", port, &config).await.unwrap();
        let limit = Some(Duration::from_millis(1500));
        assert_eq!(options(&stream), (true, seconds(7), seconds(2), 5, limit));
        assert_eq!(stream.local_addr().unwrap().ip().to_string(), "127.0.0.9");
        let config = TcpConfig::new().with_keepalive(None).with_unacknowledged_max(None);
        let stream = dial("127.0.0.1", port, &config).await.unwrap();
        let (keepalive, .., limit) = options(&stream);
        assert!(!keepalive && limit.is_none(), "{limit:?}");
        let elsewhere = TcpConfig::new().with_local_address("::1".parse().unwrap());
        let failure = dial("127.0.0.1", port, &elsewhere).await.unwrap_err();
        assert!(matches!(failure, ConnectFailure::NoAddress), "{failure:?}");
    }

    #[tokio::test]
    async fn an_address_that_refuses_costs_no_head_start() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        // Where the name has addresses of both families, nobody listens on the other one.
        let config = TcpConfig::new().with_head_start(Duration::from_secs(3600));
        let dialled =
            tokio::time::timeout(Duration::from_secs(20), dial("localhost", port, &config));
        dialled.await.expect("it waits").unwrap();
    }
}
