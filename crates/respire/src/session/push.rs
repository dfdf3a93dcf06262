//! What arrives unasked, and who takes it.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    task::Waker,
};

use respire_codec::Frame;

/// Tells the connections of this process apart, those that are gone included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ConnectionId(u64);

impl ConnectionId {
    /// One that no other connection has.
    pub(crate) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// Takes the pushes of one or more connections.
///
/// Both methods are called under the connection's lock, at the push's place among the replies: what they do has happened
/// before any later reply is handed to its caller. So they are short, they call nothing of the connection, and they wake
/// nobody themselves: wakers go into `woken`, to be woken when the lock is gone.
pub(crate) trait PushSink: fmt::Debug + Send + Sync {
    /// A push has arrived.
    fn handle_push(&self, connection: ConnectionId, push: Frame, woken: &mut Vec<Waker>);

    /// Nothing that the connection was to tell can be relied on any more: it has ended, or is about to.
    fn handle_end(&self, connection: ConnectionId, woken: &mut Vec<Waker>);

    /// Whether pushes matter as soon as they arrive. Else a caller that receives by itself and is not polled may hold
    /// them up.
    fn is_urgent(&self) -> bool;
}
