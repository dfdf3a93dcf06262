//! Why a connection ended.

use std::io;

use super::command::CommandError;

/// Why nothing more can be sent, or received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// The peer, or this end, has disconnected.
    #[error("the server closed the connection")]
    Disconnected,
    /// Disconnected before the peer had announced memory.
    #[error(
        "the server closed the connection before it could be used, and over RDMA it cannot say why: it may have as many \
         clients as it takes (maxclients), or refuse those from elsewhere (protected-mode)"
    )]
    ClosedEarly,
    /// The peer has not announced memory in time.
    #[error("the server accepted the connection and did not announce its memory in time")]
    NotAnnounced,
    /// The peer has broken the protocol.
    #[error("the server does not speak Valkey over RDMA as it is specified: {0}")]
    Protocol(ProtocolError),
    /// A message found no receive posted, and is not retried.
    #[error(
        "the server had no receive posted for a message, which the server's card refuses for good: it has not looked at \
         the last {unproven} messages"
    )]
    ReceiverNotReady {
        /// How many messages may not have been looked at.
        unproven: u64,
    },
    /// Nothing at the other end acknowledges any more.
    #[error(
        "the server's network card does not answer any more: the host or the network between is gone"
    )]
    Unreachable,
    /// The peer's card refused a write to memory.
    #[error("the server's network card refused access to the memory that the server had announced")]
    AccessRefused,
    /// The card gave up work that was posted, and nobody said why.
    #[error("the connection broke, and the network card gives no reason")]
    Flushed,
    /// The card could not do what was posted.
    #[error("the network card failed with status {0} ({name})", name = .0.name())]
    Work(WorkStatus),
    /// Posting work failed.
    #[error("work could not be handed to the network card: error {0}")]
    Post(i32),
    /// The card said that something completed which was not under way.
    #[error("the network card completed work that it was not given")]
    StrayCompletion,
    /// A task of this process has left things in an unknown state.
    #[error("a task panicked while it used the connection")]
    Panicked,
    /// The device is gone.
    #[error("the RDMA device was removed")]
    DeviceRemoved,
    /// The address that the connection is bound to has moved to another device.
    #[error("the network address has moved to another device")]
    AddressChanged,
    /// The connection is over, and its number may be used again.
    #[error("the connection has left the time-wait state")]
    TimewaitExit,
}

/// What a peer did that the protocol does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProtocolError {
    #[error(transparent)]
    Command(#[from] CommandError),
    /// An answer to what was not asked, or what only a client sends.
    #[error("a command that no server sends unasked")]
    Unasked,
    /// More data than the memory has room for.
    #[error("{bytes} bytes arrived where there is room for {room}")]
    Overrun { bytes: u32, room: u32 },
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        let kind = match failure {
            Failure::Disconnected | Failure::Flushed | Failure::ReceiverNotReady { .. } => {
                io::ErrorKind::ConnectionReset
            }
            Failure::ClosedEarly => io::ErrorKind::ConnectionRefused,
            Failure::NotAnnounced | Failure::Unreachable => io::ErrorKind::TimedOut,
            Failure::Protocol(_) => io::ErrorKind::InvalidData,
            Failure::AccessRefused => io::ErrorKind::PermissionDenied,
            Failure::DeviceRemoved | Failure::AddressChanged | Failure::TimewaitExit => {
                io::ErrorKind::ConnectionAborted
            }
            Failure::Work(_) | Failure::Post(_) | Failure::StrayCompletion | Failure::Panicked => {
                io::ErrorKind::Other
            }
        };
        io::Error::new(kind, failure)
    }
}

/// The status of a completion, as `ibv_wc_status` numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WorkStatus(pub(crate) u32);

impl WorkStatus {
    /// Not done, because the connection is over.
    pub(crate) const FLUSHED: Self = Self(5);
    pub(crate) const REMOTE_ACCESS: Self = Self(10);
    pub(crate) const RETRY_EXCEEDED: Self = Self(12);
    pub(crate) const RECEIVER_NOT_READY: Self = Self(13);

    pub(crate) fn name(self) -> &'static str {
        const NAMES: [&str; 23] = [
            "success",
            "local length",
            "local queue pair operation",
            "local end-to-end context",
            "local protection",
            "flushed",
            "memory window bind",
            "bad response",
            "local access",
            "remote invalid request",
            "remote access",
            "remote operation",
            "retries exceeded",
            "receiver not ready",
            "local domain violation",
            "remote invalid read request",
            "remote abort",
            "invalid end-to-end context number",
            "invalid end-to-end context state",
            "fatal",
            "response timeout",
            "general",
            "tag matching",
        ];
        usize::try_from(self.0).ok().and_then(|at| NAMES.get(at)).copied().unwrap_or("unknown")
    }
}

impl std::fmt::Display for WorkStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}
