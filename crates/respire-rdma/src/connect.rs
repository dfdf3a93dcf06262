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
    news::refusal,
    off_thread::{OffThread, blocking},
    protocol::{Session, Settings, XferMemory},
    sys::Libraries,
    verbs::{EventChannel, EventKind, Id, watch},
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
        let device = self.config.device().map(str::to_owned);
        let Begun { source, events, id } =
            blocking(move || begin(libraries, device, address)).await?;
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
        let id = id.into_inner();
        let endpoint = blocking(move || {
            let endpoint = Endpoint::new(id, receive_bytes, staging_bytes)?;
            Ok(OffThread::new(endpoint))
        });
        let endpoint = endpoint.await?;
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
        let connecting = Arc::clone(&link);
        blocking(move || connecting.connect()).await?;
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

/// What needs the kernel's files and the card, but neither the network nor the peer.
struct Begun {
    /// Where to connect from, if a device was asked for and has an address.
    source: Option<SocketAddr>,
    events: Arc<EventChannel>,
    id: OffThread<Arc<Id>>,
}

/// The first of a process opens all devices.
fn begin(
    libraries: &'static Libraries,
    device: Option<String>,
    target: SocketAddr,
) -> io::Result<Begun> {
    let source = device.map(|name| device::source_address(&name, target));
    let events = Arc::new(EventChannel::new(libraries)?);
    let id = OffThread::new(Arc::new(Id::new(Arc::clone(&events))?));
    Ok(Begun { source: source.transpose()?.flatten(), events, id })
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

/// Without a device that leads there, the system's words are hard to understand.
fn leads_nowhere(error: &io::Error, address: SocketAddr) -> io::Error {
    io::Error::new(
        error.kind(),
        format!("{error}: {} has to be reached over a network device with RDMA", address.ip()),
    )
}

/// The receive memory, as the peer is told of it.
pub(crate) fn announced(address: u64, length: usize, key: u32) -> io::Result<XferMemory> {
    u32::try_from(length)
        .ok()
        .and_then(|length| XferMemory::new(address, length, key).ok())
        .ok_or_else(|| io::Error::other("the receive memory cannot be announced"))
}
