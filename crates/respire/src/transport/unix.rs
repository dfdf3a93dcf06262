//! Unix sockets.

use std::path::Path;

use tokio::net::UnixStream;

use super::Transport;
use crate::error::ConnectFailure;

impl From<UnixStream> for Transport {
    fn from(stream: UnixStream) -> Self {
        let (receive, send) = stream.into_split();
        Self::of_streams(receive, send)
    }
}

pub(crate) async fn dial(path: &Path) -> Result<UnixStream, ConnectFailure> {
    UnixStream::connect(path).await.map_err(ConnectFailure::Dial)
}
