//! TCP.

use std::{io, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use super::Transport;
use crate::error::ConnectFailure;

/// A dead peer of an idle connection is noticed after 15 s and three unanswered probes of 5 s each.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// Looks the host up and tries its addresses one after the other.
pub(crate) async fn dial(host: &str, port: u16) -> Result<Transport, ConnectFailure> {
    let addresses = tokio::net::lookup_host((host, port)).await.map_err(ConnectFailure::Resolve)?;
    let mut last = None;
    for address in addresses {
        match TcpStream::connect(address).await.and_then(tuned) {
            Ok(stream) => {
                let (receive, send) = stream.into_split();
                return Ok(Transport::of_streams(receive, send));
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or(ConnectFailure::NoAddress, ConnectFailure::Dial))
}

/// Requests are small and wait for their answer, so nothing is held back to be sent with more.
fn tuned(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    Ok(stream)
}
