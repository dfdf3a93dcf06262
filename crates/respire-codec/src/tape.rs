//! The flat index of a frame, and the pool that its memory goes back to.
//!
//! Every value is one node, in wire order. An aggregate is two, and its
//! children follow it:
//!
//! ```text
//! wire   * 2 \r\n : 7 \r\n * 1 \r\n + a \r\n
//!        ^0       ^4       ^8       ^12
//! tape   [off 0  aux 2 ] [span 6 len 16]   *2, six nodes in all, 16 bytes
//!        [off 4  aux 4 ]                   :7, 4 bytes
//!        [off 8  aux 1 ] [span 3 len 8 ]   *1
//!        [off 12 aux 4 ]                   +a
//! ```
//!
//! The type is not stored: it is the wire byte at `off`.

use alloc::{collections::VecDeque, sync::Arc, vec::Vec};

/// One word of the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// Where the value starts, from the first byte of its frame. In the second
    /// node of an aggregate: the number of nodes from its first one to the one
    /// after its last child.
    pub(crate) off: u32,
    /// Wire bytes of the value. In the first node of an aggregate: the number
    /// of its children.
    pub(crate) aux: u32,
}

/// Nodes that the value at `off` itself has: two for an aggregate or a streamed
/// string, one for any other.
#[inline]
pub(crate) fn width(bytes: &[u8], off: usize) -> usize {
    let next = || bytes.get(off + 1).copied();
    match bytes.get(off) {
        Some(b'$') if next() == Some(b'?') => 2,
        // The null of RESP2 that is written like an array.
        Some(b'*') if next() == Some(b'-') => 1,
        Some(b'*' | b'%' | b'~' | b'>' | b'|') => 2,
        _ => 1,
    }
}

/// Where one frame of a batch lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) start: u32,
    pub(crate) end: u32,
    pub(crate) node: u32,
}

impl Entry {
    /// Positions in a batch fit in 32 bits; see `Batch::BYTES_MAX`.
    pub(crate) fn new(start: usize, end: usize, node: u32) -> Self {
        Self { start: start as u32, end: end as u32, node }
    }

    /// The same frame, so many bytes and nodes further back.
    pub(crate) fn moved(self, bytes: u32, nodes: u32) -> Self {
        Self { start: self.start + bytes, end: self.end + bytes, node: self.node + nodes }
    }
}

/// The nodes of one frame, or of all the frames of a batch.
#[derive(Debug, Default)]
pub(crate) struct Tape {
    pub(crate) nodes: Vec<Node>,
    /// Empty unless the tape belongs to a batch.
    pub(crate) entries: Vec<Entry>,
}

impl Tape {
    fn len(&self) -> usize {
        self.nodes.len().max(self.entries.len())
    }

    fn capacity(&self) -> usize {
        self.nodes.capacity().max(self.entries.capacity())
    }
}

/// Tapes that were handed out, to be used again once nobody holds them.
#[derive(Debug, Default)]
pub(crate) struct TapePool {
    /// Oldest first. Each is shared with frames that may still be alive.
    tapes: VecDeque<Arc<Tape>>,
    /// Tapes sealed since the last large one.
    small_in_a_row: u32,
}

/// Tapes remembered per decoder. A caller that keeps more frames alive than
/// this pays one allocation for each further one.
const TAPES_MAX: usize = 64;

/// Tapes asked, for each one handed out, whether they are free again. More than
/// one, so that a frame that is kept for long does not hide the free ones
/// behind it.
const PROBES: usize = 4;

/// Nodes (8 bytes each) that an idle tape may always keep: 64 such tapes are
/// half a mebibyte. A larger one is let go when another idle one could serve
/// instead, or when it was not needed for a while.
const IDLE_NODES_MAX: usize = 1024;

/// Small tapes in a row after which a large one was a spike.
const SPIKE_OVER: u32 = 64;

impl TapePool {
    /// Hands out what was built in `tape`, which is left empty, with the
    /// memory of a tape that came back where there is one.
    pub(crate) fn seal(&mut self, tape: &mut Tape) -> Arc<Tape> {
        let large = tape.len() > IDLE_NODES_MAX;
        self.small_in_a_row = if large { 0 } else { self.small_in_a_row.saturating_add(1) };
        let mut sealed = self.idle().unwrap_or_default();
        if let Some(free) = Arc::get_mut(&mut sealed) {
            core::mem::swap(free, tape);
        }
        tape.nodes.clear();
        tape.entries.clear();
        if self.small_in_a_row > SPIKE_OVER && tape.capacity() > IDLE_NODES_MAX {
            *tape = Tape::default();
        }
        if self.tapes.len() == TAPES_MAX {
            self.tapes.pop_front();
        }
        self.tapes.push_back(Arc::clone(&sealed));
        sealed
    }

    /// A tape that nobody else holds.
    fn idle(&mut self) -> Option<Arc<Tape>> {
        for _ in 0..PROBES.min(self.tapes.len()) {
            let mut oldest = self.tapes.pop_front()?;
            if Arc::get_mut(&mut oldest).is_some() {
                self.release_spare();
                return Some(oldest);
            }
            self.tapes.push_back(oldest);
        }
        None
    }

    /// Lets go of the next tape when it is idle too and large, so that a spike
    /// does not stay in memory.
    fn release_spare(&mut self) {
        let spare = self.tapes.front_mut().and_then(Arc::get_mut);
        if spare.is_some_and(|tape| tape.capacity() > IDLE_NODES_MAX) {
            self.tapes.pop_front();
        }
    }
}

#[cfg(test)]
mod tests;
