//! TCP.

use std::{io, net::SocketAddr, time::Duration};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use super::Transport;
use crate::error::ConnectFailure;

/// A dead peer of an idle connection is noticed after 15 s and three unanswered probes of 5 s each.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_PROBES: u32 = 3;

/// What was sent and is not acknowledged for so long ends the connection, as an unanswered probe does. The system's own
/// limit is a quarter of an hour.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(30);

/// The head start of an address before the next one is tried beside it: RFC 8305, section 8, recommends 250 ms.
const HEAD_START: Duration = Duration::from_millis(250);

/// Looks the host up and connects to the first of its addresses that answers. They are tried in turns of the two
/// families, each with a head start before the next.
pub(crate) async fn dial(host: &str, port: u16) -> Result<Transport, ConnectFailure> {
    let addresses = tokio::net::lookup_host((host, port)).await.map_err(ConnectFailure::Resolve)?;
    let mut addresses = interleaved(addresses).into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut last = None;
    loop {
        let more = addresses.len() > 0;
        if attempts.is_empty() {
            let Some(address) = addresses.next() else {
                return Err(last.map_or(ConnectFailure::NoAddress, ConnectFailure::Dial));
            };
            attempts.push(TcpStream::connect(address));
            continue;
        }
        tokio::select! {
            Some(attempt) = attempts.next() => match attempt.and_then(tuned) {
                Ok(stream) => {
                    let (receive, send) = stream.into_split();
                    return Ok(Transport::of_streams(receive, send));
                }
                Err(error) => last = Some(error),
            },
            () = tokio::time::sleep(HEAD_START), if more => {
                attempts.extend(addresses.next().map(TcpStream::connect));
            }
        }
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

/// Requests are small and wait for their answer, so nothing is held back to be sent with more.
fn tuned(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
