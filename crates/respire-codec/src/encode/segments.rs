use alloc::collections::VecDeque;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{array_header, header, put_blob};

/// Commands that wait to be sent, with their large arguments left where they
/// are.
///
/// Small arguments are copied together. An argument of
/// [`SHARE_BYTES_MIN`](Self::SHARE_BYTES_MIN) or more becomes a segment of its
/// own. As a [`Buf`] it hands out the segments in order; with the feature `std`,
/// `chunks_vectored` hands out many at once for a vectored write.
///
/// # Example
///
/// ```
/// use bytes::{Buf, Bytes};
/// use respire_codec::encode::Segments;
///
/// let value = Bytes::from(vec![b'x'; 1 << 20]);
/// let mut out = Segments::new();
/// out.command(&[Bytes::from("SET"), Bytes::from("key"), value.clone()]);
/// assert_eq!(out.chunk(), b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$1048576\r\n");
/// out.advance(out.chunk().len());
/// assert_eq!(out.chunk().as_ptr(), value.as_ptr(), "not copied");
/// ```
#[derive(Debug, Default)]
pub struct Segments {
    sealed: VecDeque<Bytes>,
    /// Bytes in `sealed`.
    sealed_len: usize,
    /// What was copied since the last large argument.
    tail: BytesMut,
}

impl Segments {
    /// Arguments of at least this many bytes are not copied: 16 KiB. Below it, a
    /// copy costs less than one more element in a vectored write and a
    /// reference count.
    pub const SHARE_BYTES_MIN: usize = 16 * 1024;

    /// Nothing to send.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a command with its name as the first of `args`.
    pub fn command(&mut self, args: &[Bytes]) {
        self.array_header(args.len());
        for arg in args {
            self.bulk_string(arg);
        }
    }

    /// Appends the header of a command; that many arguments must follow.
    pub fn array_header(&mut self, args: usize) {
        array_header(&mut self.tail, args);
    }

    /// Appends an argument, which is copied unless it is large.
    pub fn bulk_string(&mut self, arg: &Bytes) {
        if arg.len() < Self::SHARE_BYTES_MIN {
            return put_blob(&mut self.tail, b'$', arg);
        }
        header(&mut self.tail, b'$', arg.len());
        let head = self.tail.split().freeze();
        self.sealed_len += head.len() + arg.len();
        self.sealed.push_back(head);
        self.sealed.push_back(arg.clone());
        self.tail.put_slice(b"\r\n");
    }

    /// Appends bytes that are encoded already.
    pub fn encoded(&mut self, bytes: &[u8]) {
        self.tail.put_slice(bytes);
    }
}

impl Buf for Segments {
    fn remaining(&self) -> usize {
        self.sealed_len + self.tail.len()
    }

    fn chunk(&self) -> &[u8] {
        self.sealed.front().map_or(&self.tail, |segment| segment)
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(segment) = self.sealed.front_mut() {
            let taken = count.min(segment.len());
            segment.advance(taken);
            self.sealed_len -= taken;
            count -= taken;
            if !segment.is_empty() {
                return;
            }
            self.sealed.pop_front();
        }
        self.tail.advance(count);
    }

    #[cfg(feature = "std")]
    fn chunks_vectored<'a>(&'a self, dst: &mut [std::io::IoSlice<'a>]) -> usize {
        let tail = (!self.tail.is_empty()).then_some(&self.tail[..]);
        let segments = self.sealed.iter().map(|segment| &segment[..]).chain(tail);
        let mut count = 0;
        for (slot, segment) in dst.iter_mut().zip(segments) {
            *slot = std::io::IoSlice::new(segment);
            count += 1;
        }
        count
    }
}
