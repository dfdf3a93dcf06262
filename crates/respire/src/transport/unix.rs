//! Unix sockets.

use std::path::Path;

use tokio::net::UnixStream;

use super::ByteStream;
use crate::error::ConnectFailure;

pub(crate) async fn dial(path: &Path) -> Result<ByteStream<UnixStream>, ConnectFailure> {
    UnixStream::connect(path).await.map(ByteStream).map_err(ConnectFailure::Dial)
}
