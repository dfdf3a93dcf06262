//! The names of pieces of work, and how they came out.

use super::failure::WorkStatus;

/// Which piece of work a completion is of; what verbs call `wr_id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WorkId {
    /// The receive that was posted with this slot.
    Receive(u16),
    /// The write or command with this number, counted from 0.
    Send(u64),
}

/// Sends are told from receives by this bit. No connection sends so many.
const RECEIVE: u64 = 1 << 63;

impl From<WorkId> for u64 {
    fn from(id: WorkId) -> Self {
        match id {
            WorkId::Receive(slot) => RECEIVE | u64::from(slot),
            WorkId::Send(sequence) => sequence & !RECEIVE,
        }
    }
}

impl From<u64> for WorkId {
    fn from(id: u64) -> Self {
        match id & RECEIVE {
            0 => Self::Send(id),
            // A card gives back what it was given; of anything else, no slot comes out that has to exist.
            _ => Self::Receive(id as u16),
        }
    }
}

/// How a piece of work came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome<'a> {
    /// A write or a command was taken by the peer's card.
    Sent,
    /// These bytes came into the slot of a receive.
    Command(&'a [u8]),
    /// The peer has written to our memory, and says that it wrote so many bytes: the immediate value of the completion as
    /// a number, which is to say after [`u32::from_be`].
    Data(u32),
    /// Anything else. Nothing but the status may be looked at.
    Failed(WorkStatus),
}
