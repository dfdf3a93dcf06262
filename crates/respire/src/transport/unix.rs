//! Unix sockets.

use std::path::Path;

use tokio::net::UnixStream;

use super::Transport;
use crate::error::ConnectFailure;

pub(crate) async fn dial(path: &Path) -> Result<Transport, ConnectFailure> {
    let stream = UnixStream::connect(path).await.map_err(ConnectFailure::Dial)?;
    let (receive, send) = stream.into_split();
    Ok(Transport::of_streams(receive, send))
}
