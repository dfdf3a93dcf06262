//! The memory that the peer writes to.
//!
//! ```text
//! 0        consumed      lent       arrived        length
//! | released  | with the reader | new  | room         |
//! ```
//!
//! It is announced again when `consumed` reaches `length`, and not before.

use std::ops::Range;

use super::failure::ProtocolError;

#[derive(Debug)]
pub(super) struct Receiving {
    length: u32,
    arrived: u32,
    lent: u32,
    consumed: u32,
    /// The peer may write. False from the last byte's consumption until the announcement was posted.
    announced: bool,
}

impl Receiving {
    pub(super) fn new(length: u32) -> Self {
        Self { length, arrived: 0, lent: 0, consumed: 0, announced: false }
    }

    pub(super) fn is_announced(&self) -> bool {
        self.announced
    }

    pub(super) fn note_announcement(&mut self) {
        self.announced = true;
    }

    /// The peer says that it has written so many bytes behind the last ones.
    pub(super) fn arrive(&mut self, bytes: u32) -> Result<(), ProtocolError> {
        let room = if self.announced { self.room() } else { 0 };
        if bytes > room {
            return Err(ProtocolError::Overrun { bytes, room });
        }
        self.arrived += bytes;
        Ok(())
    }

    fn room(&self) -> u32 {
        self.length - self.arrived
    }

    pub(super) fn has_new(&self) -> bool {
        self.lent < self.arrived
    }

    /// What a reader may look at, and how many bytes may still arrive behind it; nothing where that is what it was lent
    /// last.
    pub(super) fn lend(&mut self) -> Option<(Range<usize>, usize)> {
        if !self.has_new() {
            return None;
        }
        self.lent = self.arrived;
        Some((self.consumed as usize..self.lent as usize, self.room() as usize))
    }

    /// Takes back the first bytes of what was lent.
    pub(super) fn release(&mut self, count: usize) {
        let lent = (self.lent - self.consumed) as usize;
        debug_assert!(count <= lent, "{count} bytes are released and {lent} were lent");
        self.consumed += count.min(lent) as u32;
        if self.consumed == self.length {
            *self = Self::new(self.length);
        }
    }
}
