//! The queue of work that sends, the staging memory, and the peer's window.
//!
//! The staging memory is a ring. A byte of it is free again when its write has completed, or when the peer announces its
//! memory after a window that was filled: it has consumed every byte then.

use std::{collections::VecDeque, ops::Range};

use super::{
    command::{COMMAND_BYTES, Command, XferMemory},
    work::WorkId,
};

/// Of so many pieces of work at least one is signalled. The queue is only freed up to a signalled one that has completed,
/// so that a shorter queue has one signalled in half of what writes may take of it.
const SIGNAL_EVERY: u32 = 64;

/// Places in the queue that writes leave for commands. Three may be due at a time.
pub(super) const COMMAND_PLACES: u64 = 8;

#[derive(Debug)]
pub(super) struct Sending {
    queue_places: u64,
    signal_every: u32,
    command_slots: u16,
    staging_bytes: u32,
    peer: Option<XferMemory>,
    /// Bytes written to the peer's memory since it was announced last.
    written: u32,
    /// Bytes staged ever, and those of them whose place is free again.
    staged: u64,
    freed: u64,
    /// Work posted ever, and how much of it, from the first on, is known to be done.
    posted: u64,
    done: u64,
    commands_posted: u64,
    commands_done: u64,
    /// Signalled work that is under way, in order.
    signalled: VecDeque<Signalled>,
    /// Since the last signalled one.
    unsignalled: u32,
    unsignalled_bytes: u32,
}

#[derive(Debug)]
struct Signalled {
    sequence: u64,
    /// Bytes staged ever, with this piece of work.
    staged: u64,
    is_command: bool,
}

/// A write to post: the bytes of `staging`, with an immediate value.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    staging: Range<usize>,
    remote_address: u64,
    remote_key: u32,
    length: u32,
    is_signalled: bool,
    id: WorkId,
}

impl Write {
    /// Where in the staging memory the bytes have to be copied, and are written from. Not empty.
    pub(crate) fn staging(&self) -> Range<usize> {
        self.staging.clone()
    }

    pub(crate) fn length(&self) -> u32 {
        self.length
    }

    /// The immediate value in the byte order of the wire, as verbs want it: how many bytes are written. A server that is
    /// told more than it has room for aborts.
    pub(crate) fn immediate(&self) -> u32 {
        self.length.to_be()
    }

    pub(crate) fn remote_address(&self) -> u64 {
        self.remote_address
    }

    pub(crate) fn remote_key(&self) -> u32 {
        self.remote_key
    }

    pub(crate) fn is_signalled(&self) -> bool {
        self.is_signalled
    }

    pub(crate) fn id(&self) -> WorkId {
        self.id
    }
}

/// A command to post as a signalled send.
#[derive(Clone, Debug)]
pub(crate) struct CommandSend {
    slot: u16,
    bytes: [u8; COMMAND_BYTES],
    id: WorkId,
}

impl CommandSend {
    /// The slot among those for commands that are sent, where the bytes have to be copied.
    pub(crate) fn slot(&self) -> u16 {
        self.slot
    }

    pub(crate) fn bytes(&self) -> &[u8; COMMAND_BYTES] {
        &self.bytes
    }

    pub(crate) fn id(&self) -> WorkId {
        self.id
    }
}

impl Sending {
    /// With a queue of at least twice the places that are left for commands.
    pub(super) fn new(queue_places: u16, command_slots: u16, staging_bytes: u32) -> Self {
        Self {
            queue_places: queue_places.into(),
            signal_every: SIGNAL_EVERY.min((u32::from(queue_places) - COMMAND_PLACES as u32) / 2),
            command_slots,
            staging_bytes,
            peer: None,
            written: 0,
            staged: 0,
            freed: 0,
            posted: 0,
            done: 0,
            commands_posted: 0,
            commands_done: 0,
            signalled: VecDeque::new(),
            unsignalled: 0,
            unsignalled_bytes: 0,
        }
    }

    pub(super) fn has_peer(&self) -> bool {
        self.peer.is_some()
    }

    /// Messages posted ever.
    pub(super) fn posted(&self) -> u64 {
        self.posted
    }

    /// Whether work is under way whose completion will be told.
    pub(super) fn awaits_completion(&self) -> bool {
        !self.signalled.is_empty()
    }

    /// Whether the last pieces of work are such that nobody would be told of their completion.
    pub(super) fn has_untold(&self) -> bool {
        self.unsignalled > 0
    }

    /// Whether all that was posted is known to be done.
    pub(super) fn is_done(&self) -> bool {
        self.under_way() == 0
    }

    /// The peer announces its memory. Returns whether it must have consumed all that was written to it before.
    pub(super) fn open_window(&mut self, memory: XferMemory) -> bool {
        let was_filled = self.peer.is_some_and(|peer| peer.length() == self.written);
        if was_filled {
            self.freed = self.staged;
        }
        self.peer = Some(memory);
        self.written = 0;
        was_filled
    }

    /// The write that may be posted where so many bytes are there to be written.
    pub(super) fn next_write(&self, offered: usize) -> Option<Write> {
        let peer = self.peer?;
        if self.under_way() + COMMAND_PLACES >= self.queue_places {
            return None;
        }
        let at = (self.staged % u64::from(self.staging_bytes)) as u32;
        let staged = (self.staged - self.freed) as u32;
        let length = (peer.length() - self.written)
            .min(self.staging_bytes - at)
            .min(self.staging_bytes - staged)
            .min(u32::try_from(offered).unwrap_or(u32::MAX));
        if length == 0 {
            return None;
        }
        Some(Write {
            staging: at as usize..(at + length) as usize,
            remote_address: peer.address() + u64::from(self.written),
            remote_key: peer.key(),
            length,
            is_signalled: self.unsignalled + 1 >= self.signal_every
                || self.unsignalled_bytes + length >= self.staging_bytes.div_ceil(4),
            id: WorkId::Send(self.posted),
        })
    }

    pub(super) fn note_write(&mut self, write: &Write) {
        self.written += write.length;
        self.staged += u64::from(write.length);
        if write.is_signalled {
            self.note_signalled(false);
        } else {
            self.unsignalled += 1;
            self.unsignalled_bytes += write.length;
        }
        self.posted += 1;
    }

    /// How a command may be posted, if it may.
    pub(super) fn next_command(&self, command: Command) -> Option<CommandSend> {
        let slots_used = self.commands_posted - self.commands_done;
        if slots_used >= self.command_slots.into() || self.under_way() >= self.queue_places {
            return None;
        }
        Some(CommandSend {
            slot: (self.commands_posted % u64::from(self.command_slots)) as u16,
            bytes: command.encode(),
            id: WorkId::Send(self.posted),
        })
    }

    pub(super) fn note_command(&mut self) {
        self.note_signalled(true);
        self.commands_posted += 1;
        self.posted += 1;
    }

    fn note_signalled(&mut self, is_command: bool) {
        self.signalled.push_back(Signalled {
            sequence: self.posted,
            staged: self.staged,
            is_command,
        });
        self.unsignalled = 0;
        self.unsignalled_bytes = 0;
    }

    /// A piece of work has completed, and so have all before it. Returns whether it is one that was under way and
    /// signalled, which complete in order.
    pub(super) fn complete(&mut self, sequence: u64) -> bool {
        let Some(next) = self.signalled.front().filter(|next| next.sequence == sequence) else {
            return false;
        };
        self.done = next.sequence + 1;
        self.freed = self.freed.max(next.staged);
        self.commands_done += u64::from(next.is_command);
        self.signalled.pop_front();
        true
    }

    fn under_way(&self) -> u64 {
        self.posted - self.done
    }
}
