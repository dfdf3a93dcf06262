//! Which messages the peer has certainly looked at.
//!
//! Each message takes one of the receives that the peer has posted, and the peer posts it again when it has looked at the
//! message. Where it does not look, because it is busy, the message that finds no receive ends the connection: the
//! peer's parameters have our card not retry. That our card is done with a message says nothing; its peer acknowledges
//! alone.

/// No data is written while so many messages are unproven. The peer has posted 1024 receives; half of them are left for
/// commands, and for those who count otherwise.
pub(crate) const UNPROVEN_MAX: u64 = 512;

/// From so many on, the peer is asked for a proof. Half of the bound, so that the answer is usually there before the bound
/// is met.
const FENCE_AT: u64 = UNPROVEN_MAX / 2;

#[derive(Debug)]
pub(super) struct Budget {
    /// Of all messages ever posted, so many first ones were looked at.
    proven: u64,
    fence: Option<Fence>,
    next_select: u16,
    /// Messages up to the last write.
    written: u64,
    /// Messages up to the last announcement of our memory, while nothing has arrived there.
    announced: Option<u64>,
}

/// A question that the peer answers when it comes to it.
#[derive(Debug)]
struct Fence {
    select: u16,
    /// Messages up to it.
    posted: u64,
}

impl Budget {
    pub(super) fn new() -> Self {
        Self { proven: 0, fence: None, next_select: 1, written: 0, announced: None }
    }

    /// How many of so many messages the peer may not have looked at.
    pub(super) fn unproven(&self, posted: u64) -> u64 {
        posted - self.proven
    }

    /// The `select` of a fence, if one is due.
    pub(super) fn fence_due(&self, posted: u64) -> Option<u16> {
        (self.fence.is_none() && self.unproven(posted) >= FENCE_AT).then_some(self.next_select)
    }

    pub(super) fn note_write(&mut self, posted: u64) {
        self.written = posted;
    }

    pub(super) fn note_announcement(&mut self, posted: u64) {
        self.announced = Some(posted);
    }

    pub(super) fn note_fence(&mut self, posted: u64) {
        self.fence = Some(Fence { select: self.next_select, posted });
        self.next_select = self.next_select.wrapping_add(1);
    }

    /// The peer has consumed all that was written to its memory.
    pub(super) fn window_was_consumed(&mut self) {
        self.prove(self.written);
    }

    /// The peer has written to our memory. It was announced before, and each announcement is met by data before the
    /// next one is made, so that it is the last one that the peer has looked at.
    pub(super) fn data_arrived(&mut self) {
        if let Some(posted) = self.announced.take() {
            self.prove(posted);
        }
    }

    /// The peer has answered. Returns whether it was asked that.
    pub(super) fn fence_answered(&mut self, select: u16) -> bool {
        match self.fence.take_if(|fence| fence.select == select) {
            Some(fence) => {
                self.prove(fence.posted);
                true
            }
            None => false,
        }
    }

    fn prove(&mut self, posted: u64) {
        self.proven = self.proven.max(posted);
    }
}
