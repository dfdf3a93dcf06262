//! Where work is handed to a card, and where it says what became of it.

use std::{
    io,
    ops::Range,
    os::fd::{AsRawFd, RawFd},
    ptr,
    sync::Arc,
};

use super::{Domain, Id, Region, Watched, check, explain, last_error, note_leak, set_nonblocking};
use crate::sys::{
    IBV_QPT_RC, IBV_SEND_SIGNALED, IBV_WR_RDMA_WRITE_WITH_IMM, IBV_WR_SEND, Operations,
    ibv_comp_channel, ibv_cq, ibv_qp_cap, ibv_qp_init_attr, ibv_recv_wr, ibv_send_wr, ibv_wc,
};

/// Where a queue says that something completed. Its descriptor is readable then.
pub(crate) struct CompletionChannel {
    raw: *mut ibv_comp_channel,
    id: Arc<Id>,
}

// SAFETY: the library takes its own locks; a channel may be used from any thread.
unsafe impl Send for CompletionChannel {}
// SAFETY: as above.
unsafe impl Sync for CompletionChannel {}

impl CompletionChannel {
    /// Needs an identifier whose address was resolved.
    pub(crate) fn new(id: Arc<Id>) -> io::Result<Self> {
        let context = id.context().ok_or(io::ErrorKind::NotConnected)?;
        // SAFETY: the identifier keeps its device open, and the channel keeps the identifier.
        let raw = unsafe { (id.libraries.verbs.ibv_create_comp_channel)(context) };
        if raw.is_null() {
            return Err(last_error("creating a completion channel"));
        }
        let channel = Self { raw, id };
        set_nonblocking(channel.as_raw_fd())?;
        Ok(channel)
    }
}

impl AsRawFd for CompletionChannel {
    fn as_raw_fd(&self) -> RawFd {
        // SAFETY: the channel lives as long as `self`.
        unsafe { (*self.raw).fd }
    }
}

impl Drop for CompletionChannel {
    fn drop(&mut self) {
        // SAFETY: its queue holds on to it, so that one is gone.
        let result = unsafe { (self.id.libraries.verbs.ibv_destroy_comp_channel)(self.raw) };
        note_leak(result, "a completion channel");
    }
}

/// Where completions are found.
pub(crate) struct CompletionQueue {
    raw: *mut ibv_cq,
    channel: Arc<CompletionChannel>,
    operations: Operations,
}

// SAFETY: the library takes its own locks; a queue may be used from any thread.
unsafe impl Send for CompletionQueue {}
// SAFETY: as above.
unsafe impl Sync for CompletionQueue {}

/// What became of a piece of work. Of one that failed, only the first two fields say anything.
pub(crate) type Completion = ibv_wc;

impl CompletionQueue {
    pub(crate) fn new(channel: Arc<CompletionChannel>, entries: u32) -> io::Result<Self> {
        let id = &channel.id;
        let context = id.context().ok_or(io::ErrorKind::NotConnected)?;
        // SAFETY: the identifier keeps its device open.
        let operations = unsafe { Operations::of(&*context) }.ok_or_else(|| {
            io::Error::new(io::ErrorKind::Unsupported, "the device's driver lacks an operation")
        })?;
        let entries = i32::try_from(entries).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: device and channel are kept by the queue.
        let raw = unsafe {
            (id.libraries.verbs.ibv_create_cq)(context, entries, ptr::null_mut(), channel.raw, 0)
        };
        if raw.is_null() {
            return Err(last_error("creating a completion queue"));
        }
        Ok(Self { raw, channel, operations })
    }

    /// Takes what the channel has to say, and acknowledges it. Whether there was anything; then there is nothing more until
    /// the queue is armed again, which has the channel say one thing.
    pub(crate) fn take_event(&self) -> io::Result<bool> {
        let (mut queue, mut context) = (ptr::null_mut(), ptr::null_mut());
        let verbs = &self.channel.id.libraries.verbs;
        // SAFETY: the channel is alive; the call writes the queue and its context where it returns 0.
        while unsafe {
            (verbs.ibv_get_cq_event)(self.channel.raw, &raw mut queue, &raw mut context)
        } != 0
        {
            match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                error => return Err(explain(&error, "reading an event of the completion channel")),
            }
        }
        // SAFETY: the channel belongs to this queue alone, and the event was taken just now.
        unsafe { (verbs.ibv_ack_cq_events)(self.raw, 1) };
        Ok(true)
    }

    /// Has the channel say when the next completion is there. What is there already is not said, and has to be polled.
    pub(crate) fn arm(&self) -> io::Result<()> {
        // SAFETY: the queue is alive, and this is its device's operation.
        let error = unsafe { (self.operations.req_notify_cq)(self.raw, 0) };
        if error == 0 {
            return Ok(());
        }
        Err(explain(&io::Error::from_raw_os_error(error), "arming the completion queue"))
    }

    /// Takes completions; how many, 0 when there are none.
    pub(crate) fn poll(&self, completions: &mut [Completion]) -> io::Result<usize> {
        let room = i32::try_from(completions.len()).unwrap_or(i32::MAX);
        // SAFETY: the queue is alive, this is its device's operation, and it writes at most `room` completions.
        let count = unsafe { (self.operations.poll_cq)(self.raw, room, completions.as_mut_ptr()) };
        usize::try_from(count).map_err(|_| io::Error::other("polling the completion queue failed"))
    }
}

impl Drop for CompletionQueue {
    fn drop(&mut self) {
        // SAFETY: its queue pair holds on to it, so that one is gone. Each event was acknowledged when it was taken, for
        // which the call would wait.
        let result = unsafe { (self.channel.id.libraries.verbs.ibv_destroy_cq)(self.raw) };
        note_leak(result, "a completion queue");
    }
}

/// The two queues that work is handed to a card in.
pub(crate) struct QueuePair {
    id: Arc<Id>,
    queue: Arc<CompletionQueue>,
    _domain: Arc<Domain>,
}

/// A write to the peer's memory, which tells it how many bytes.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) work: u64,
    /// Which of our memory.
    pub(crate) source: Range<usize>,
    /// Where in the peer's.
    pub(crate) address: u64,
    pub(crate) key: u32,
    /// In network order.
    pub(crate) immediate: u32,
    pub(crate) signalled: bool,
}

/// Whether work was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Posted {
    Taken,
    /// There is no room. There is when something that was signalled has completed.
    Full,
    /// The queue pair takes none: an `errno`.
    Failed(i32),
}

impl Posted {
    fn of(result: i32) -> Self {
        match result {
            0 => Self::Taken,
            libc::ENOMEM => Self::Full,
            // Some drivers return -1 and set `errno`.
            error if error < 0 => match io::Error::last_os_error().raw_os_error() {
                Some(libc::ENOMEM) => Self::Full,
                error => Self::Failed(error.unwrap_or(libc::EIO)),
            },
            error => Self::Failed(error),
        }
    }
}

impl QueuePair {
    /// Makes the identifier's queue pair, with room for so many pieces of work in each direction, each of one piece of
    /// memory.
    pub(crate) fn new(
        id: Arc<Id>,
        domain: Arc<Domain>,
        queue: Arc<CompletionQueue>,
        sends: u32,
        receives: u32,
    ) -> io::Result<Self> {
        let mut attributes = ibv_qp_init_attr {
            qp_context: ptr::null_mut(),
            send_cq: queue.raw,
            recv_cq: queue.raw,
            srq: ptr::null_mut(),
            cap: ibv_qp_cap {
                max_send_wr: sends,
                max_recv_wr: receives,
                max_send_sge: 1,
                max_recv_sge: 1,
                max_inline_data: 0,
            },
            qp_type: IBV_QPT_RC,
            sq_sig_all: 0,
        };
        // SAFETY: domain and queue are of the identifier's device, and are kept by the queue pair; the attributes are
        // copied by the call.
        let result =
            unsafe { (id.libraries.cm.rdma_create_qp)(id.raw, domain.raw, &raw mut attributes) };
        check(result, "creating a queue pair")?;
        Ok(Self { id, queue, _domain: domain })
    }

    /// Posts a write with immediate data.
    pub(crate) fn post_write(&self, memory: &Region, write: &Write) -> Posted {
        let Write { work, source, address, key, immediate, signalled } = write;
        let mut piece = memory.piece(source);
        let mut request = ibv_send_wr {
            wr_id: *work,
            next: ptr::null_mut(),
            sg_list: &raw mut piece,
            num_sge: i32::from(!source.is_empty()),
            opcode: IBV_WR_RDMA_WRITE_WITH_IMM,
            send_flags: if *signalled { IBV_SEND_SIGNALED } else { 0 },
            imm_data: *immediate,
            remote_addr: *address,
            rkey: *key,
            rest: [0; 9],
        };
        self.post(&mut request)
    }

    /// Posts a message.
    pub(crate) fn post_send(
        &self,
        memory: &Region,
        work: u64,
        source: &Range<usize>,
        signalled: bool,
    ) -> Posted {
        let mut piece = memory.piece(source);
        let mut request = ibv_send_wr {
            wr_id: work,
            next: ptr::null_mut(),
            sg_list: &raw mut piece,
            num_sge: 1,
            opcode: IBV_WR_SEND,
            send_flags: if signalled { IBV_SEND_SIGNALED } else { 0 },
            imm_data: 0,
            remote_addr: 0,
            rkey: 0,
            rest: [0; 9],
        };
        self.post(&mut request)
    }

    fn post(&self, request: &mut ibv_send_wr) -> Posted {
        let mut refused = ptr::null_mut();
        // SAFETY: the queue pair is alive until `self` is dropped, and this is its device's operation. The request and its
        // list are copied by the call. The memory that it names is registered, or the work fails.
        let result = unsafe {
            (self.queue.operations.post_send)((*self.id.raw).qp, request, &raw mut refused)
        };
        Posted::of(result)
    }

    /// Posts a receive into a piece of memory.
    pub(crate) fn post_receive(&self, memory: &Region, work: u64, target: &Range<usize>) -> Posted {
        let mut piece = memory.piece(target);
        let mut request =
            ibv_recv_wr { wr_id: work, next: ptr::null_mut(), sg_list: &raw mut piece, num_sge: 1 };
        let mut refused = ptr::null_mut();
        // SAFETY: as in `post`.
        let result = unsafe {
            (self.queue.operations.post_recv)((*self.id.raw).qp, &raw mut request, &raw mut refused)
        };
        Posted::of(result)
    }
}

impl Drop for QueuePair {
    fn drop(&mut self) {
        // SAFETY: the identifier has a queue pair, which is made once and destroyed here alone.
        unsafe { (self.id.libraries.cm.rdma_destroy_qp)(self.id.raw) };
    }
}

// SAFETY: the library opens the descriptor with the channel, and closes it when the channel is destroyed, which is when
// this is dropped.
unsafe impl Watched for CompletionChannel {}
