//! One end of a connection: the queue pair, its queue, and the memory that the card may reach.

use std::{io, ops::Range, sync::Arc};

use crate::{
    protocol::{COMMAND_BYTES, CommandSend, Outcome, Session, WorkId, WorkStatus, Write},
    sys::{IBV_WC_RDMA_WRITE, IBV_WC_RECV, IBV_WC_RECV_RDMA_WITH_IMM, IBV_WC_SEND},
    verbs::{
        self, Completion, CompletionChannel, CompletionQueue, Domain, Id, Posted, QueuePair, Region,
    },
};

/// Receives that are posted: as many as a server posts. Each takes a slot for a command.
pub(crate) const RECEIVE_SLOTS: u16 = 1024;

/// Places for work that sends: as many as the server has receives. The bound on what is unproven stays far below.
pub(crate) const SEND_PLACES: u16 = 1024;

/// Commands that may be under way. Three may be due at a time.
pub(crate) const COMMAND_SLOTS: u16 = 16;

/// Completions that are taken at a time.
const BATCH: usize = 32;

/// What no status says better: `IBV_WC_GENERAL_ERR`.
const GENERAL: u32 = 21;

/// See the module. Dropping it ends the connection, and takes milliseconds.
pub(crate) struct Endpoint {
    id: Arc<Id>,
    pair: QueuePair,
    queue: Arc<CompletionQueue>,
    channel: Arc<CompletionChannel>,
    /// The slots of receives, and behind them those of commands that are sent.
    slots: Region,
    staging: Region,
    receive: Arc<Region>,
}

impl Endpoint {
    /// Makes everything that belongs to the device that the identifier's address was resolved to. It takes milliseconds,
    /// within which the thread is blocked.
    pub(crate) fn new(id: Arc<Id>, receive_bytes: u32, staging_bytes: u32) -> io::Result<Self> {
        // So that with each connection there is an end to what has gathered before.
        id.take_device_news()?;
        let domain = Arc::new(Domain::new(Arc::clone(&id))?);
        let channel = Arc::new(CompletionChannel::new(Arc::clone(&id))?);
        let entries = u32::from(SEND_PLACES) + u32::from(RECEIVE_SLOTS);
        let queue = Arc::new(CompletionQueue::new(Arc::clone(&channel), entries)?);
        let pair = QueuePair::new(
            Arc::clone(&id),
            Arc::clone(&domain),
            Arc::clone(&queue),
            SEND_PLACES.into(),
            RECEIVE_SLOTS.into(),
        )?;
        let slots = usize::from(RECEIVE_SLOTS + COMMAND_SLOTS) * COMMAND_BYTES;
        let slots = Region::new(Arc::clone(&domain), slots, false)?;
        let staging = Region::new(Arc::clone(&domain), staging_bytes as usize, false)?;
        let receive = Arc::new(Region::new(domain, receive_bytes as usize, true)?);
        Ok(Self { id, pair, queue, channel, slots, staging, receive })
    }

    pub(crate) fn id(&self) -> &Id {
        &self.id
    }

    pub(crate) fn queue(&self) -> &CompletionQueue {
        &self.queue
    }

    pub(crate) fn channel(&self) -> Arc<CompletionChannel> {
        Arc::clone(&self.channel)
    }

    pub(crate) fn receive_memory(&self) -> &Arc<Region> {
        &self.receive
    }

    /// Posts a receive with a slot.
    pub(crate) fn post_receive(&self, slot: u16) -> Result<(), Posted> {
        let work = WorkId::Receive(slot).into();
        taken(self.pair.post_receive(&self.slots, work, &slot_range(slot)))
    }

    /// Copies a command into its slot, and posts it.
    pub(crate) fn post_command(&mut self, command: &CommandSend) -> Result<(), Posted> {
        let slot = slot_range(RECEIVE_SLOTS + command.slot());
        self.slots.write(slot.start, command.bytes());
        taken(self.pair.post_send(&self.slots, command.id().into(), &slot, true))
    }

    /// Copies so many bytes into the staging memory, from the front of what `bytes` yields, and posts the write of them.
    pub(crate) fn post_write<'a>(
        &mut self,
        write: &Write,
        bytes: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), Posted> {
        let range = write.staging();
        let mut at = range.start;
        for piece in bytes {
            let piece = &piece[..piece.len().min(range.end - at)];
            self.staging.write(at, piece);
            at += piece.len();
            if at == range.end {
                break;
            }
        }
        debug_assert_eq!(at, range.end, "fewer bytes than were offered");
        let write = verbs::Write {
            work: write.id().into(),
            source: range,
            address: write.remote_address(),
            key: write.remote_key(),
            immediate: write.immediate(),
            signalled: write.is_signalled(),
        };
        taken(self.pair.post_write(&self.staging, &write))
    }

    /// Has the session handle all that has completed.
    pub(crate) fn drain(&self, session: &mut Session, now: std::time::Instant) -> io::Result<()> {
        let mut completions = [Completion::default(); BATCH];
        loop {
            let count = self.queue.poll(&mut completions)?;
            if count == 0 {
                return Ok(());
            }
            for completion in &completions[..count] {
                self.handle(session, completion, now);
            }
        }
    }

    fn handle(&self, session: &mut Session, completion: &Completion, now: std::time::Instant) {
        let id = WorkId::from(completion.wr_id);
        let slot: [u8; COMMAND_BYTES];
        let outcome = match (completion.status, completion.opcode, id) {
            // Of work that failed, the opcode says nothing.
            (status, _, _) if status != 0 => Outcome::Failed(WorkStatus(status)),
            (_, IBV_WC_SEND | IBV_WC_RDMA_WRITE, _) => Outcome::Sent,
            (_, IBV_WC_RECV_RDMA_WITH_IMM, _) => Outcome::Data(u32::from_be(completion.imm_data)),
            (_, IBV_WC_RECV, WorkId::Receive(number)) if number < RECEIVE_SLOTS => {
                slot = self.slots.read(slot_range(number).start);
                let length = usize::try_from(completion.byte_len).unwrap_or(usize::MAX);
                // The card puts no more than a slot holds into one.
                Outcome::Command(&slot[..length.min(COMMAND_BYTES)])
            }
            // Nothing that was posted completes in another way.
            _ => Outcome::Failed(WorkStatus(GENERAL)),
        };
        session.handle_completion(id, outcome, now);
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        // Whether there was anything left to disconnect does not matter.
        let _ = self.id.disconnect();
    }
}

fn slot_range(slot: u16) -> Range<usize> {
    let start = usize::from(slot) * COMMAND_BYTES;
    start..start + COMMAND_BYTES
}

fn taken(posted: Posted) -> Result<(), Posted> {
    match posted {
        Posted::Taken => Ok(()),
        refused => Err(refused),
    }
}
