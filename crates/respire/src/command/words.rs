//! Encoded words, and reading them back.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use respire_codec::encode;

/// From this size on, in bytes, an argument that can be shared is sent from where it is; below, it is copied next to the
/// others, because a copy of so little costs less than another piece in a vectored write. It is the size from which the
/// session hands on a body as it is.
pub(crate) const LARGE_BYTES: usize = 16 * 1024;

/// Takes the arguments of a command, each encoded as it comes.
///
/// It is what a [`ToArg`](super::ToArg) writes to.
#[derive(Clone, Default)]
pub struct Args {
    /// Bulk strings, without the payload of those in `large`.
    bytes: BytesMut,
    /// In the order of their places.
    large: Vec<Large>,
    count: usize,
}

/// A payload that was not copied.
#[derive(Clone)]
pub(crate) struct Large {
    /// Where it belongs: in front of this byte.
    pub(crate) at: usize,
    pub(crate) bytes: Bytes,
}

impl Args {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self { bytes: BytesMut::with_capacity(bytes), ..Self::default() }
    }

    /// Adds an argument by copying it.
    #[inline]
    pub fn push(&mut self, arg: &[u8]) {
        encode::bulk_string(&mut self.bytes, arg);
        self.count += 1;
    }

    /// Adds an argument that is shared, not copied, where it has 16 KiB or more.
    pub fn push_shared(&mut self, arg: Bytes) {
        if arg.len() < LARGE_BYTES {
            return self.push(&arg);
        }
        self.bytes.put_u8(b'$');
        self.bytes.put_slice(itoa::Buffer::new().format(arg.len()).as_bytes());
        self.bytes.put_slice(b"\r\n");
        self.large.push(Large { at: self.bytes.len(), bytes: arg });
        self.bytes.put_slice(b"\r\n");
        self.count += 1;
    }

    /// Adds all of other arguments.
    pub fn append(&mut self, other: &Self) {
        let offset = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        let moved = |large: &Large| Large { at: offset + large.at, bytes: large.bytes.clone() };
        self.large.extend(other.large.iter().map(moved));
        self.count += other.count;
    }

    /// The number of arguments; of a command's, its name is the first.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes on the wire.
    pub(super) fn bytes_len(&self) -> usize {
        self.bytes.len() + self.large.iter().map(|large| large.bytes.len()).sum::<usize>()
    }

    pub(super) fn words(&self) -> Words<'_> {
        Words { bytes: &self.bytes, large: &self.large, at: 0 }
    }

    /// Appends a whole command of these words.
    pub(super) fn push_command(&mut self, mut command: Self) {
        encode::array_header(&mut self.bytes, command.count);
        let offset = self.bytes.len();
        self.bytes.extend_from_slice(&command.bytes);
        self.large
            .extend(command.large.drain(..).map(|large| Large { at: offset + large.at, ..large }));
        self.count += 1;
    }

    /// Appends several whole commands.
    pub(super) fn push_commands(&mut self, mut commands: Self) {
        let offset = self.bytes.len();
        self.bytes.extend_from_slice(&commands.bytes);
        self.large
            .extend(commands.large.drain(..).map(|large| Large { at: offset + large.at, ..large }));
        self.count += commands.count;
    }

    /// Appends a whole command of these words, copied.
    pub(super) fn push_command_of<A: AsRef<[u8]>>(&mut self, words: &[A]) {
        encode::command(&mut self.bytes, words);
        self.count += 1;
    }

    pub(super) fn into_parts(self) -> (BytesMut, Vec<Large>) {
        (self.bytes, self.large)
    }
}

/// Shows sizes only: the arguments may be secrets.
impl fmt::Debug for Args {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Args").field("args", &self.count).field("bytes", &self.bytes_len()).finish()
    }
}

/// Reads words that were encoded here.
#[derive(Clone, Copy)]
pub(crate) struct Words<'a> {
    bytes: &'a [u8],
    /// Those at or behind `at`.
    large: &'a [Large],
    at: usize,
}

impl<'a> Words<'a> {
    pub(super) fn new(bytes: &'a [u8], large: &'a [Large]) -> Self {
        Self { bytes, large, at: 0 }
    }

    /// The number behind a type byte.
    fn header(&mut self) -> Option<usize> {
        let line = self.bytes.get(self.at + 1..)?;
        let mut number = 0_usize;
        for (digits, byte) in line.iter().enumerate() {
            if *byte == b'\r' {
                self.at += digits + 3;
                return Some(number);
            }
            number = number.checked_mul(10)?.checked_add(usize::from(byte.wrapping_sub(b'0')))?;
        }
        None
    }

    /// The next of several commands: its number of words, and a reader of no more than them.
    pub(super) fn next_command(&mut self) -> Option<(usize, Self)> {
        let count = self.header()?;
        let words = *self;
        for _ in 0..count {
            self.next()?;
        }
        Some((count, words))
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let len = self.header()?;
        if let Some((large, rest)) = self.large.split_first()
            && large.at == self.at
        {
            self.large = rest;
            self.at += 2;
            return Some(&large.bytes);
        }
        let word = self.bytes.get(self.at..self.at + len)?;
        self.at += len + 2;
        Some(word)
    }
}
