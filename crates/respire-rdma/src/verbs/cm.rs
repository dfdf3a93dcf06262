//! The connection manager: from an address to a connected queue pair, and the news of its end.

use std::{
    ffi::{CStr, c_char},
    io,
    net::{SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::{AsRawFd, RawFd},
    ptr,
    sync::Arc,
    time::Duration,
};

use super::{Watched, check, set_nonblocking};
use crate::sys::{
    Libraries, RDMA_PS_TCP, ibv_async_event, ibv_context, ibv_device, rdma_cm_event, rdma_cm_id,
    rdma_conn_param, rdma_event_channel,
};

/// Where the connection manager says what has happened. Its descriptor is readable when it has something to say.
pub(crate) struct EventChannel {
    raw: *mut rdma_event_channel,
    libraries: &'static Libraries,
}

// SAFETY: the library takes its own locks; a channel may be used from any thread.
unsafe impl Send for EventChannel {}
// SAFETY: as above.
unsafe impl Sync for EventChannel {}

/// What the connection manager has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) kind: EventKind,
    /// 0, an `errno` below it, or the reason for a refusal.
    pub(crate) status: i32,
}

/// The kinds of events that a client is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventKind {
    AddressResolved,
    AddressError,
    RouteResolved,
    RouteError,
    ConnectError,
    Unreachable,
    Rejected,
    Established,
    Disconnected,
    DeviceRemoval,
    AddressChange,
    TimewaitExit,
    /// One that is not for a client.
    Other(u32),
}

impl From<u32> for EventKind {
    fn from(number: u32) -> Self {
        match number {
            0 => Self::AddressResolved,
            1 => Self::AddressError,
            2 => Self::RouteResolved,
            3 => Self::RouteError,
            6 => Self::ConnectError,
            7 => Self::Unreachable,
            8 => Self::Rejected,
            9 => Self::Established,
            10 => Self::Disconnected,
            11 => Self::DeviceRemoval,
            14 => Self::AddressChange,
            15 => Self::TimewaitExit,
            other => Self::Other(other),
        }
    }
}

impl EventChannel {
    pub(crate) fn new(libraries: &'static Libraries) -> io::Result<Self> {
        // SAFETY: it takes nothing and returns a channel, or null.
        let raw = unsafe { (libraries.cm.rdma_create_event_channel)() };
        if raw.is_null() {
            return Err(no_rdma(&io::Error::last_os_error()));
        }
        let channel = Self { raw, libraries };
        set_nonblocking(channel.as_raw_fd())?;
        Ok(channel)
    }

    /// The next event, if there is one.
    pub(crate) fn next(&self) -> io::Result<Option<Event>> {
        let mut event: *mut rdma_cm_event = ptr::null_mut();
        // SAFETY: the channel lives as long as `self`; the call writes an event where it returns 0.
        while unsafe { (self.libraries.cm.rdma_get_cm_event)(self.raw, &raw mut event) } != 0 {
            match io::Error::last_os_error() {
                // There may be an event all the same, and who is told that there is none waits for the next.
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                error => {
                    return Err(super::explain(
                        &error,
                        "reading an event of the connection manager",
                    ));
                }
            }
        }
        // SAFETY: the event is valid until it is acknowledged, which is the last thing done with it.
        unsafe {
            let taken = Event { kind: (*event).event.into(), status: (*event).status };
            (self.libraries.cm.rdma_ack_cm_event)(event);
            Ok(Some(taken))
        }
    }
}

/// Without the kernel's part there is no channel, and the error of the system says little of it.
fn no_rdma(error: &io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!(
            "the RDMA connection manager cannot be opened: {error}; it is the kernel module rdma_ucm, and the device file \
             /dev/infiniband/rdma_cm has to be there and writable"
        ),
    )
}

impl AsRawFd for EventChannel {
    fn as_raw_fd(&self) -> RawFd {
        // SAFETY: the channel lives as long as `self`.
        unsafe { (*self.raw).fd }
    }
}

impl Drop for EventChannel {
    fn drop(&mut self) {
        // SAFETY: nobody else has it, and each identifier holds on to the channel, so none is left. Each event was
        // acknowledged when it was taken.
        unsafe { (self.libraries.cm.rdma_destroy_event_channel)(self.raw) };
    }
}

/// One end of a connection, as the connection manager knows it.
pub(crate) struct Id {
    pub(super) raw: *mut rdma_cm_id,
    _channel: Arc<EventChannel>,
    pub(super) libraries: &'static Libraries,
}

// SAFETY: the library takes its own locks; an identifier may be used from any thread.
unsafe impl Send for Id {}
// SAFETY: as above. What is read of it is written by the library only within calls of `next` before the address is
// resolved, and read after.
unsafe impl Sync for Id {}

impl Id {
    pub(crate) fn new(channel: Arc<EventChannel>) -> io::Result<Self> {
        let libraries = channel.libraries;
        let mut raw = ptr::null_mut();
        // SAFETY: the channel is alive, and stays so as long as the identifier, which holds on to it.
        let result = unsafe {
            (libraries.cm.rdma_create_id)(channel.raw, &raw mut raw, ptr::null_mut(), RDMA_PS_TCP)
        };
        check(result, "creating an identifier of the connection manager")?;
        Ok(Self { raw, _channel: channel, libraries })
    }

    /// Begins to look for a device that leads to the address: [`AddressResolved`](EventKind::AddressResolved).
    pub(crate) fn resolve_address(
        &self,
        source: Option<SocketAddr>,
        target: SocketAddr,
        timeout: Duration,
    ) -> io::Result<()> {
        let mut source = source.map(RawAddress::from);
        let mut target = RawAddress::from(target);
        let source = source.as_mut().map_or(ptr::null_mut(), RawAddress::as_mut_ptr);
        // SAFETY: the addresses live until the call returns, which copies them, and are as long as their family says.
        let result = unsafe {
            (self.libraries.cm.rdma_resolve_addr)(
                self.raw,
                source,
                target.as_mut_ptr(),
                milliseconds(timeout),
            )
        };
        check(result, "looking for an RDMA device that leads to the address")
    }

    /// Begins to look for a way to the address: [`RouteResolved`](EventKind::RouteResolved).
    pub(crate) fn resolve_route(&self, timeout: Duration) -> io::Result<()> {
        // SAFETY: the identifier is alive.
        let result =
            unsafe { (self.libraries.cm.rdma_resolve_route)(self.raw, milliseconds(timeout)) };
        check(result, "looking for a route to the address")
    }

    /// Begins to connect the queue pair that was made for this: [`Established`](EventKind::Established). No private data
    /// goes with it, which a server would not read.
    pub(crate) fn connect(&self) -> io::Result<()> {
        let mut parameters = rdma_conn_param {
            private_data: ptr::null(),
            private_data_len: 0,
            responder_resources: 1,
            initiator_depth: 1,
            flow_control: 0,
            retry_count: 7,
            // For ever; it is the other end's card that obeys it. What ours obeys, the server says, and that is 0.
            rnr_retry_count: 7,
            srq: 0,
            qp_num: 0,
        };
        self.context().ok_or(io::ErrorKind::NotConnected)?;
        // SAFETY: the identifier is alive and has a device, at which the call looks; the parameters are copied.
        let result = unsafe { (self.libraries.cm.rdma_connect)(self.raw, &raw mut parameters) };
        check(result, "connecting")
    }

    /// Ends the connection: both ends are told.
    pub(crate) fn disconnect(&self) -> io::Result<()> {
        self.context().ok_or(io::ErrorKind::NotConnected)?;
        // SAFETY: the identifier is alive and has a device, at which the call looks.
        let result = unsafe { (self.libraries.cm.rdma_disconnect)(self.raw) };
        check(result, "disconnecting")
    }

    /// The device, once the address was resolved.
    pub(super) fn context(&self) -> Option<*mut ibv_context> {
        // SAFETY: the identifier is alive. The library sets the field before it reports the address as resolved.
        let context = unsafe { (*self.raw).verbs };
        (!context.is_null()).then_some(context)
    }

    /// Takes what the device has to say of itself: that its port went down, or that a queue of it has failed. Whom that
    /// concerns is told by other ways, so that it is for the log only; but the kernel keeps it until somebody has read it, for as
    /// long as the device is open, which is until the process ends.
    ///
    /// The device is open once a process. Whoever else connects through librdmacm shares it, and what is taken here.
    pub(crate) fn take_device_news(&self) -> io::Result<()> {
        let context = self.context().ok_or(io::ErrorKind::NotConnected)?;
        // SAFETY: the identifier keeps its device open.
        set_nonblocking(unsafe { (*context).async_fd })?;
        let verbs = &self.libraries.verbs;
        let mut event = ibv_async_event { element: ptr::null_mut(), event_type: 0 };
        // SAFETY: the device is open; the call writes an event where it returns 0.
        while unsafe { (verbs.ibv_get_async_event)(context, &raw mut event) } == 0 {
            // SAFETY: it takes any number, and returns a string that is there for good, or null.
            let name = unsafe { string((verbs.ibv_event_type_str)(event.event_type)) };
            tracing::debug!(device = self.device(), event = name, "the RDMA device has news");
            // SAFETY: the event was taken just now. What it is about is there until the event is acknowledged, since giving it
            // back waits for that.
            unsafe { (verbs.ibv_ack_async_event)(&raw mut event) };
        }
        Ok(())
    }

    /// The name of the device, once the address was resolved.
    pub(crate) fn device(&self) -> Option<String> {
        let context = self.context()?;
        // SAFETY: the identifier keeps its device open.
        Some(unsafe { device_name(self.libraries, (*context).device) })
    }
}

impl Drop for Id {
    fn drop(&mut self) {
        // SAFETY: the queue pair and everything of the device hold on to the identifier, so they are gone. Each event was
        // acknowledged when it was taken, for which the call would wait.
        unsafe { (self.libraries.cm.rdma_destroy_id)(self.raw) };
    }
}

/// # Safety
///
/// The device must be in a list that was not freed, or open.
pub(super) unsafe fn device_name(libraries: &Libraries, device: *mut ibv_device) -> String {
    // SAFETY: the caller says that the device is there; its name is a string that lives as long.
    unsafe { string((libraries.verbs.ibv_get_device_name)(device)) }
}

/// # Safety
///
/// It must be a string that is there until the call returns, or null.
unsafe fn string(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the caller says so.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

fn milliseconds(timeout: Duration) -> i32 {
    i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX)
}

/// An address as C has it.
#[repr(C)]
union RawAddress {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

impl RawAddress {
    fn as_mut_ptr(&mut self) -> *mut libc::sockaddr {
        ptr::from_mut(self).cast()
    }
}

impl From<SocketAddr> for RawAddress {
    fn from(address: SocketAddr) -> Self {
        match address {
            SocketAddr::V4(address) => Self { v4: v4(address) },
            SocketAddr::V6(address) => Self { v6: v6(address) },
        }
    }
}

fn v4(address: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
        sin_zero: [0; 8],
    }
}

fn v6(address: SocketAddrV6) -> libc::sockaddr_in6 {
    libc::sockaddr_in6 {
        sin6_family: libc::AF_INET6 as libc::sa_family_t,
        sin6_port: address.port().to_be(),
        sin6_flowinfo: address.flowinfo(),
        sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
        sin6_scope_id: address.scope_id(),
    }
}

// SAFETY: the library opens the descriptor with the channel, and closes it when the channel is destroyed, which is when
// this is dropped.
unsafe impl Watched for EventChannel {}
