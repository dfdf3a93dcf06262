//! Memory that a card may reach.

use std::{ffi::c_void, io, ops::Range, ptr, sync::Arc};

use rustix::{
    mm::{MapFlags, ProtFlags, mmap_anonymous, munmap},
    process::{Resource, getrlimit},
};

use super::{Id, last_error, note_leak};
use crate::sys::{IBV_ACCESS_LOCAL_WRITE, IBV_ACCESS_REMOTE_WRITE, ibv_mr, ibv_pd, ibv_sge};

/// What registrations and queue pairs of a device belong together in.
pub(crate) struct Domain {
    pub(super) raw: *mut ibv_pd,
    id: Arc<Id>,
}

// SAFETY: the library takes its own locks; a domain may be used from any thread.
unsafe impl Send for Domain {}
// SAFETY: as above.
unsafe impl Sync for Domain {}

impl Domain {
    /// Needs an identifier whose address was resolved.
    pub(crate) fn new(id: Arc<Id>) -> io::Result<Self> {
        let context = id.context().ok_or(io::ErrorKind::NotConnected)?;
        // SAFETY: the identifier keeps its device open, and the domain keeps the identifier.
        let raw = unsafe { (id.libraries.verbs.ibv_alloc_pd)(context) };
        if raw.is_null() {
            return Err(last_error("allocating a protection domain"));
        }
        Ok(Self { raw, id })
    }
}

impl Drop for Domain {
    fn drop(&mut self) {
        // SAFETY: registrations and queue pairs hold on to the domain, so none is left.
        let result = unsafe { (self.id.libraries.verbs.ibv_dealloc_pd)(self.raw) };
        note_leak(result, "a protection domain");
    }
}

/// Whole pages of its own: a forked child may lose the pages that are registered, and nothing else may be on them.
struct Pages {
    start: *mut u8,
    length: usize,
}

impl Pages {
    /// As many pages as `length` takes up, zeroed.
    fn new(length: usize) -> io::Result<Self> {
        let page = rustix::param::page_size();
        let length =
            length.max(1).checked_next_multiple_of(page).ok_or(io::ErrorKind::OutOfMemory)?;
        // SAFETY: a fresh private mapping at an address of the kernel's choice touches nothing that is there.
        let start = unsafe {
            mmap_anonymous(
                ptr::null_mut(),
                length,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        }?;
        Ok(Self { start: start.cast(), length })
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and the registration that pointed to it is gone.
        let _ = unsafe { munmap(self.start.cast::<c_void>(), self.length) };
    }
}

/// Registered memory: the card reads and writes it by its own path while work that names it is under way, and a peer that
/// knows its key whenever it likes.
///
/// No reference into it exists but those that [`bytes`](Self::bytes) hands out; everything else copies in and out.
pub(crate) struct Region {
    raw: *mut ibv_mr,
    length: usize,
    domain: Arc<Domain>,
    /// Dropped behind the registration.
    pages: Pages,
}

// SAFETY: the memory is reached by copies through `&mut self`, or under the conditions of `bytes`.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// Registers so many bytes that our card may write to, and the peer's too if it is told the key.
    pub(crate) fn new(domain: Arc<Domain>, length: usize, remote: bool) -> io::Result<Self> {
        let pages = Pages::new(length)?;
        let access = if remote {
            IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE
        } else {
            IBV_ACCESS_LOCAL_WRITE
        };
        // SAFETY: the pages are mapped, and stay so until the registration is gone.
        let raw = unsafe {
            (domain.id.libraries.verbs.ibv_reg_mr)(
                domain.raw,
                pages.start.cast::<c_void>(),
                pages.length,
                access,
            )
        };
        if raw.is_null() {
            return Err(not_registered(&io::Error::last_os_error(), pages.length));
        }
        Ok(Self { raw, length, domain, pages })
    }

    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// Where it is, as a peer is told.
    pub(crate) fn address(&self) -> u64 {
        self.pages.start as u64
    }

    /// What a peer names it by.
    pub(crate) fn remote_key(&self) -> u32 {
        // SAFETY: the registration lives as long as `self`.
        unsafe { (*self.raw).rkey }
    }

    /// A piece of it, as work names it.
    ///
    /// # Panics
    ///
    /// When the range is not within the memory.
    pub(super) fn piece(&self, range: &Range<usize>) -> ibv_sge {
        assert!(range.start <= range.end && range.end <= self.length, "a piece beyond its memory");
        ibv_sge {
            addr: self.address() + range.start as u64,
            length: u32::try_from(range.len()).expect("registered memory is shorter than 4 GiB"),
            // SAFETY: the registration lives as long as `self`.
            lkey: unsafe { (*self.raw).lkey },
        }
    }

    /// Copies in.
    ///
    /// # Panics
    ///
    /// When it does not fit behind `at`.
    pub(crate) fn write(&mut self, at: usize, bytes: &[u8]) {
        assert!(at <= self.length && bytes.len() <= self.length - at, "a copy beyond its memory");
        // SAFETY: the target is within the mapping, as was just looked at; nothing borrows it, since that would borrow
        // `self`. A card that reads it at the same time sends some mixture of old and new, which is not for this process
        // to see.
        unsafe {
            ptr::copy_nonoverlapping(bytes.as_ptr(), self.pages.start.add(at), bytes.len());
        }
    }

    /// Copies out.
    ///
    /// # Panics
    ///
    /// When there are not so many behind `at`.
    pub(crate) fn read<const N: usize>(&self, at: usize) -> [u8; N] {
        assert!(at <= self.length && N <= self.length - at, "a copy beyond its memory");
        let mut bytes = [0; N];
        // SAFETY: the source is within the mapping, as was just looked at. A peer's card that breaks the protocol may write
        // there at the same time: the copy is then some mixture, which is checked as everything that a peer sends.
        unsafe { ptr::copy_nonoverlapping(self.pages.start.add(at), bytes.as_mut_ptr(), N) };
        bytes
    }

    /// Lends a piece.
    ///
    /// # Safety
    ///
    /// For as long as the slice lives, no work that is under way and no announcement to the peer that is open may allow a card to write there.
    ///
    /// A peer that breaks the protocol may do so all the same, as another process may change a file that was mapped:
    /// nothing can be done about it but to have bounds checked by whoever reads, as the decoder does, which contains no
    /// `unsafe` and copies what it hands on.
    ///
    /// Bounds are all that this is about. The decoder looks at a frame first and copies it afterwards, so that a peer which
    /// writes in between can have it take other bytes for what it has looked at: wrong values, and a value of one
    /// kind in the place of another, within the frame. And by the letter of the language a slice whose bytes change is undefined
    /// behaviour, whoever changes them. Only a copy made before anything is looked at would do without either, at the price of
    /// the copy. What has access to this memory is the server that a client gives its data to, and nobody else.
    ///
    /// # Panics
    ///
    /// When the range is not within the memory.
    pub(crate) unsafe fn bytes(&self, range: Range<usize>) -> &[u8] {
        assert!(range.start <= range.end && range.end <= self.length, "a piece beyond its memory");
        // SAFETY: it is within the mapping, which is initialised; the rest is the caller's.
        unsafe { std::slice::from_raw_parts(self.pages.start.add(range.start), range.len()) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: nobody else has the registration. Once the call returns, no card reaches the memory any more: what still
        // names it fails.
        let result = unsafe { (self.domain.id.libraries.verbs.ibv_dereg_mr)(self.raw) };
        // The kernel holds on to the pages then, so that the card has no other memory in their place.
        note_leak(result, "registered memory");
    }
}

/// The usual reason is a limit that has little to do with what the system calls the error.
fn not_registered(error: &io::Error, bytes: usize) -> io::Error {
    let limit = getrlimit(Resource::Memlock).current;
    let hint = match (error.raw_os_error(), limit) {
        (Some(libc::ENOMEM | libc::EAGAIN | libc::EPERM), Some(limit)) => format!(
            "; registered memory is locked, and this process may lock {} KiB (RLIMIT_MEMLOCK: `ulimit -l`, LimitMEMLOCK= of a \
             service, limits.conf)",
            limit / 1024
        ),
        _ => String::new(),
    };
    io::Error::new(
        error.kind(),
        format!(
            "registering {} KiB of memory with the network card failed: {error}{hint}",
            bytes / 1024
        ),
    )
}
