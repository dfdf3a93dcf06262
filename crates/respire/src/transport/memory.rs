//! An in-process pair, for tests that need a peer to do what a server would not.

use tokio::io::DuplexStream;

use super::Transport;

/// A transport, and the peer's end of it. Each direction holds at most `capacity` bytes that were not read.
pub(crate) fn pair(capacity: usize) -> (Transport, DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(capacity);
    let (receive, send) = tokio::io::split(ours);
    (Transport::of_streams(receive, send), theirs)
}
