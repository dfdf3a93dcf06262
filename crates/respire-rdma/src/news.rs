//! What it means that the connection manager says something.

use std::io;

use crate::{
    protocol::ConnectionEvent,
    verbs::{Event, EventKind},
};

/// What an event is to a connection whose queue pair was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// The connection is there.
    Established,
    /// Something has happened to the connection.
    Of(ConnectionEvent),
    /// The connection will not be there: see [`refusal`].
    Refused,
    /// Nothing that concerns a client.
    Nothing,
}

impl News {
    /// What an event of this kind is to a connection that was established before, or was not.
    pub(crate) fn of(kind: EventKind, is_established: bool) -> Self {
        match kind {
            EventKind::Established => Self::Established,
            EventKind::Disconnected => Self::Of(ConnectionEvent::Disconnected),
            EventKind::DeviceRemoval => Self::Of(ConnectionEvent::DeviceRemoved),
            EventKind::AddressChange => Self::Of(ConnectionEvent::AddressChanged),
            EventKind::TimewaitExit => Self::Of(ConnectionEvent::TimewaitExit),
            // A kernel may learn to say more, and what it says then need not be the end of anything.
            EventKind::Other(_) => Self::Nothing,
            EventKind::AddressError
            | EventKind::RouteError
            | EventKind::ConnectError
            | EventKind::Unreachable
            | EventKind::Rejected
                if is_established =>
            {
                Self::Of(ConnectionEvent::Disconnected)
            }
            // These two were waited for before there was a queue pair, and mean that something is out of order.
            EventKind::AddressResolved | EventKind::RouteResolved if is_established => {
                Self::Nothing
            }
            _ => Self::Refused,
        }
    }
}

/// What an event says that came in place of the one that was hoped for.
pub(crate) fn refusal(event: Event) -> io::Error {
    // What the system calls it, where it is one of its errors.
    let cause = match event.status {
        status if status < 0 => io::Error::from_raw_os_error(-status),
        _ => io::ErrorKind::Other.into(),
    };
    let (kind, text) = match event.kind {
        EventKind::AddressError => (cause.kind(), format!("no RDMA device leads to the address: {cause}")),
        EventKind::RouteError => (cause.kind(), format!("there is no route to the address over RDMA: {cause}")),
        EventKind::Rejected if event.status == NO_LISTENER => (
            io::ErrorKind::ConnectionRefused,
            "nothing listens for RDMA on that port (a server needs rdma-bind and rdma-port; its TCP port is another thing)".to_owned(),
        ),
        EventKind::Rejected => (
            io::ErrorKind::ConnectionRefused,
            format!("the connection was rejected, for reason {} of the connection manager", event.status),
        ),
        EventKind::Unreachable => (
            io::ErrorKind::HostUnreachable,
            "the host does not answer over RDMA".to_owned(),
        ),
        EventKind::ConnectError => (cause.kind(), format!("the connection could not be set up: {cause}")),
        EventKind::DeviceRemoval => (io::ErrorKind::ConnectionAborted, "the RDMA device was removed".to_owned()),
        other => (io::ErrorKind::ConnectionAborted, format!("the connection manager says {other:?}, with status {}", event.status)),
    };
    io::Error::new(kind, text)
}

/// Nothing listens on that port; "invalid service id" in the words of InfiniBand.
const NO_LISTENER: i32 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_before_the_connection_is_there_refuses_it_and_after_that_ends_it() {
        for kind in [EventKind::ConnectError, EventKind::Unreachable, EventKind::Rejected] {
            assert_eq!(News::of(kind, false), News::Refused);
            assert_eq!(News::of(kind, true), News::Of(ConnectionEvent::Disconnected));
        }
    }

    #[test]
    fn an_event_that_is_not_for_a_client_changes_nothing() {
        for number in [4, 5, 12, 13, 16, 99] {
            let kind = EventKind::from(number);
            assert_eq!(kind, EventKind::Other(number));
            assert_eq!(News::of(kind, false), News::Nothing);
            assert_eq!(News::of(kind, true), News::Nothing);
        }
    }

    #[test]
    fn a_refusal_says_what_to_look_at() {
        let words = |kind, status| refusal(Event { kind, status }).to_string();
        assert!(words(EventKind::Rejected, 8).contains("rdma-port"));
        assert!(words(EventKind::Rejected, 28).contains("28"));
        let error = refusal(Event { kind: EventKind::AddressError, status: -libc::ENODEV });
        assert_eq!(error.kind(), io::Error::from_raw_os_error(libc::ENODEV).kind());
        assert!(error.to_string().contains("no RDMA device"), "{error}");
    }
}
