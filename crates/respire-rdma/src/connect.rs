//! From an address to a connection.

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::io::unix::AsyncFd;

use crate::{
    RdmaConfig, device,
    driver::Link,
    endpoint::{COMMAND_SLOTS, Endpoint, RECEIVE_SLOTS, SEND_PLACES},
    protocol::{Session, Settings, XferMemory},
    sys::Libraries,
    verbs::{Event, EventChannel, EventKind, Id, watch},
};

/// For each of the two look-ups. The reference allows 100 ms, which an idle machine keeps and a busy one does not; the
/// deadline of the whole is the client's.
const RESOLVED_WITHIN: Duration = Duration::from_secs(5);

/// Connects to the first address that answers.
pub(crate) async fn connect(config: &RdmaConfig, host: &str, port: u16) -> io::Result<Arc<Link>> {
    let libraries = blocking(|| {
        Libraries::load().map_err(|error| io::Error::new(io::ErrorKind::Unsupported, error))
    })
    .await?;
    let dial = Dial { config };
    let mut last = None;
    for address in tokio::net::lookup_host((host, port)).await? {
        match dial.connect_to(libraries, address).await {
            Ok(link) => return Ok(link),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the host has no address")))
}

struct Dial<'a> {
    config: &'a RdmaConfig,
}

impl Dial<'_> {
    async fn connect_to(
        &self,
        libraries: &'static Libraries,
        address: SocketAddr,
    ) -> io::Result<Arc<Link>> {
        let source = self.config.device().map(|name| device::source_address(name, address));
        let source = source.transpose()?.flatten();
        let events = Arc::new(EventChannel::new(libraries)?);
        let id = Arc::new(Id::new(Arc::clone(&events))?);
        let events = watch(events)?;
        id.resolve_address(source, address, RESOLVED_WITHIN)
            .map_err(|error| leads_nowhere(&error, address))?;
        expect(&events, EventKind::AddressResolved)
            .await
            .map_err(|error| leads_nowhere(&error, address))?;
        self.check_device(&id)?;
        id.resolve_route(RESOLVED_WITHIN)?;
        expect(&events, EventKind::RouteResolved).await?;

        let (receive_bytes, staging_bytes) =
            (self.config.receive_bytes(), self.config.send_bytes());
        let endpoint = blocking(move || Endpoint::new(id, receive_bytes, staging_bytes)).await?;
        let link = Link::new(endpoint, events, |memory| {
            let now = Instant::now();
            let settings = Settings {
                receive_memory: memory,
                staging_bytes,
                send_places: SEND_PLACES,
                command_slots: COMMAND_SLOTS,
                receive_slots: RECEIVE_SLOTS,
                announced_by: now + self.config.announced_within(),
                probe_after: self.config.probe_after(),
            };
            Session::new(settings, now)
        })?;
        let link = Arc::new(link);
        link.connect()?;
        poll_fn(|cx| link.poll_ready(cx)).await?;
        Ok(link)
    }

    /// The routing tables may lead to another device than was asked for.
    fn check_device(&self, id: &Id) -> io::Result<()> {
        let (Some(wanted), Some(found)) = (self.config.device(), id.device()) else {
            return Ok(());
        };
        if wanted == found {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::AddrNotAvailable,
            format!(
                "the address is reached over the RDMA device {found:?}, and not over {wanted:?} as was asked for"
            ),
        ))
    }
}

/// Waits for an event, and takes any other for an error.
async fn expect(events: &AsyncFd<Arc<EventChannel>>, kind: EventKind) -> io::Result<()> {
    loop {
        let mut ready = events.readable().await?;
        match events.get_ref().next()? {
            None => ready.clear_ready(),
            Some(event) if event.kind == kind => return Ok(()),
            Some(event) => return Err(refusal(event)),
        }
    }
}

/// Runs what may block for milliseconds where that does no harm.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Without a device that leads there, the system's words are hard to understand.
fn leads_nowhere(error: &io::Error, address: SocketAddr) -> io::Error {
    io::Error::new(
        error.kind(),
        format!("{error}: {} has to be reached over a network device with RDMA", address.ip()),
    )
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

/// The receive memory, as the peer is told of it.
pub(crate) fn announced(address: u64, length: usize, key: u32) -> io::Result<XferMemory> {
    u32::try_from(length)
        .ok()
        .and_then(|length| XferMemory::new(address, length, key).ok())
        .ok_or_else(|| io::Error::other("the receive memory cannot be announced"))
}
