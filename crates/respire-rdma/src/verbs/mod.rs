//! Owners of what the libraries hand out.
//!
//! Each owner holds on to what its own belongs to, so that things are given back in the only order that works, whatever is
//! dropped first: queue pair, completion queue and channel, registrations, protection domain, identifier, event channel.
//! The calls that could block (destroying an identifier or a queue with events that were not acknowledged) do not, because
//! each event is acknowledged as it is taken.

#![allow(unsafe_code, reason = "the libraries are called here, and only here")]

mod cm;
mod memory;
mod queue;

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, RawFd},
    sync::Arc,
};

pub(crate) use cm::{Event, EventChannel, EventKind, Id};
pub(crate) use memory::{Domain, Region};
pub(crate) use queue::{Completion, CompletionChannel, CompletionQueue, Posted, QueuePair, Write};

use tokio::io::{Interest, unix::AsyncFd};

use crate::sys::Libraries;

/// What has one descriptor that tells by being readable that there is news.
///
/// # Safety
///
/// The descriptor must be open, and the same, from the first to the last moment of the value.
pub(crate) unsafe trait Watched: AsRawFd {}

/// Has the runtime watch a channel. Must be called within one.
pub(crate) fn watch<T: Watched>(channel: Arc<T>) -> io::Result<AsyncFd<Arc<T>>> {
    // SAFETY: what is watched keeps the channel, and a channel keeps its descriptor.
    Ok(unsafe { AsyncFd::register_with_interest(channel, Interest::READABLE) }?)
}

/// The RDMA devices that this machine has.
pub(crate) fn devices(libraries: &'static Libraries) -> io::Result<Vec<String>> {
    let mut count = 0;
    // SAFETY: the call writes the count and returns an array of as many devices, or null.
    let list = unsafe { (libraries.verbs.ibv_get_device_list)(&raw mut count) };
    if list.is_null() {
        return match io::Error::last_os_error() {
            // The kernel knows nothing of RDMA.
            error if error.raw_os_error() == Some(libc::ENOSYS) => Ok(Vec::new()),
            error => Err(error),
        };
    }
    let names = (0..usize::try_from(count).unwrap_or(0))
        // SAFETY: the array has `count` devices, which live until it is freed below.
        .map(|at| unsafe { cm::device_name(libraries, *list.add(at)) })
        .collect();
    // SAFETY: it came from the call above, and none of its devices is used any more.
    unsafe { (libraries.verbs.ibv_free_device_list)(list) };
    Ok(names)
}

/// What a call that returns 0 or -1, and sets `errno`, came to.
fn check(result: i32, what: &str) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(last_error(what)) }
}

/// The `errno` of a call, and what the call was for.
fn last_error(what: &str) -> io::Error {
    explain(&io::Error::last_os_error(), what)
}

fn explain(error: &io::Error, what: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{what} failed: {error}"))
}

/// Something could not be given back. What still needed it is gone with it or keeps it for good, and nothing can be done about
/// either but to say so.
fn note_leak(result: i32, what: &str) {
    if result != 0 {
        tracing::debug!(result, "{what} could not be given back to the network card");
    }
}

/// Reads of a descriptor return at once, instead of waiting.
fn set_nonblocking(descriptor: RawFd) -> io::Result<()> {
    // SAFETY: the caller owns what the descriptor belongs to, for longer than this call takes.
    let descriptor = unsafe { BorrowedFd::borrow_raw(descriptor) };
    let flags = rustix::fs::fcntl_getfl(descriptor)?;
    rustix::fs::fcntl_setfl(descriptor, flags | rustix::fs::OFlags::NONBLOCK)?;
    Ok(())
}
