use alloc::sync::Arc;
use core::fmt;

use bytes::Bytes;

use crate::frame::{Frame, FrameRef};
use crate::tape::Tape;

/// The complete frames of one read, in order.
///
/// As an iterator it yields owned frames. [`iter`](Self::iter) lends them, which
/// touches no reference count at all.
///
/// # Example
///
/// ```
/// use bytes::BytesMut;
/// use respire_codec::Decoder;
///
/// let mut received = BytesMut::from("+OK\r\n:1\r\n*1\r\n:2\r\n$5\r\nhal");
/// let batch = Decoder::default().decode_batch(&mut received)?;
/// assert_eq!(batch.len(), 3);
/// assert_eq!(batch.iter().nth(1).map(|frame| frame.parse::<u8>()), Some(Ok(1)));
/// for frame in batch {
///     assert!(!frame.is_push());
/// }
/// # Ok::<(), respire_codec::DecodeError>(())
/// ```
#[derive(Clone, Default)]
pub struct Batch {
    bytes: Bytes,
    tape: Option<Arc<Tape>>,
    /// Frames before this one were taken already.
    next: usize,
}

impl Batch {
    /// Bytes in one batch at most, because positions have 32 bits.
    pub(crate) const BYTES_MAX: usize = u32::MAX as usize;

    pub(crate) fn new(bytes: Bytes, tape: Arc<Tape>) -> Self {
        Self { bytes, tape: Some(tape), next: 0 }
    }

    /// Number of frames that were not taken yet.
    #[inline]
    pub fn len(&self) -> usize {
        self.tape.as_ref().map_or(0, |tape| tape.entries.len() - self.next)
    }

    /// Whether all frames were taken.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The frames that were not taken yet.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = FrameRef<'_>> {
        let tape = self.tape.as_deref();
        let entries = tape.and_then(|tape| tape.entries.get(self.next..)).unwrap_or_default();
        let nodes = tape.map_or(&[][..], |tape| &tape.nodes);
        entries.iter().map(|entry| FrameRef::new(&self.bytes, nodes, *entry))
    }
}

impl Iterator for Batch {
    type Item = Frame;

    #[inline]
    fn next(&mut self) -> Option<Frame> {
        let tape = self.tape.as_ref()?;
        let entry = *tape.entries.get(self.next)?;
        self.next += 1;
        let wire = self.bytes.get(entry.start as usize..entry.end as usize)?;
        if let Some(frame) = Frame::constant(wire) {
            return Some(frame);
        }
        let bytes = self.bytes.slice(entry.start as usize..entry.end as usize);
        Some(Frame::of_tape(bytes, tape, entry.node))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len(), Some(self.len()))
    }
}

impl ExactSizeIterator for Batch {}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
