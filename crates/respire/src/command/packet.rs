//! A request as it is sent.

use std::{
    fmt,
    ops::{Deref, Range},
};

use bytes::{Bytes, BytesMut};

use super::{
    view::View,
    words::{Args, Large, Words},
};

/// The bytes of a request, ready to be sent, and how many replies they ask for.
///
/// `Debug` shows sizes only. The default one is empty.
#[derive(Clone, Default)]
pub(crate) struct Packet {
    /// What goes before the body: the array header of a single command, nothing for a pipeline.
    header: Header,
    /// The words of a single command, or whole commands; without what is in `large`.
    body: Body,
    large: Vec<Large>,
    len: usize,
    pub(crate) replies: usize,
}

/// A small body is copied when it is sent, and need not be shared.
#[derive(Clone)]
enum Body {
    Small(BytesMut),
    Large(Bytes),
}

impl Default for Body {
    fn default() -> Self {
        Self::Small(BytesMut::new())
    }
}

impl Body {
    fn of(bytes: BytesMut) -> Self {
        if bytes.len() < super::LARGE_BYTES {
            Self::Small(bytes)
        } else {
            Self::Large(bytes.freeze())
        }
    }

    fn part(&self, range: Range<usize>) -> Piece<'_> {
        match self {
            Self::Large(bytes) if range.len() >= super::LARGE_BYTES => {
                Piece::Large(bytes.slice(range))
            }
            body => Piece::Small(&body[range]),
        }
    }
}

impl Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Small(bytes) => bytes,
            Self::Large(bytes) => bytes,
        }
    }
}

/// A part of a packet.
#[derive(Debug)]
pub(crate) enum Piece<'a> {
    /// Small, and best copied next to others.
    Small(&'a [u8]),
    /// Large, and best sent from where it is.
    Large(Bytes),
}

impl Packet {
    pub(super) fn new(header: Header, args: Args, replies: usize) -> Self {
        let len = header.as_ref().len() + args.bytes_len();
        let (body, large) = args.into_parts();
        Self { header, body: Body::of(body), large, len, replies }
    }

    /// Bytes on the wire.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Header and body, where all of the packet is small.
    pub(crate) fn as_small(&self) -> Option<[&[u8]; 2]> {
        match &self.body {
            Body::Small(body) if self.large.is_empty() => Some([self.header.as_ref(), body]),
            _ => None,
        }
    }

    /// The parts in order, none of them empty.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = Piece<'_>> {
        let header = Some(Piece::Small(self.header.as_ref()));
        let parts = self.large.iter().scan(0, |start, large| {
            let before = self.body.part(*start..large.at);
            *start = large.at;
            Some([before, Piece::Large(large.bytes.clone())])
        });
        let start = self.large.last().map_or(0, |large| large.at);
        let last = self.body.part(start..self.body.len());
        header.into_iter().chain(parts.flatten()).chain([last]).filter(|piece| !piece.is_empty())
    }

    #[cfg(test)]
    pub(crate) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for piece in self.pieces() {
            match piece {
                Piece::Small(piece) => bytes.extend_from_slice(piece),
                Piece::Large(piece) => bytes.extend_from_slice(&piece),
            }
        }
        bytes
    }

    /// Whether all of its commands only read. `MULTI` and `EXEC` around them change nothing.
    pub(crate) fn is_read_only(&self) -> bool {
        self.all(View::is_read_only)
    }

    /// Whether all of its commands may be sent twice in a row as if they had been sent once.
    pub(crate) fn is_idempotent(&self) -> bool {
        self.all(View::is_idempotent)
    }

    /// The name of the first command, where the table of commands has it: with its second word, in small letters.
    #[cfg(feature = "request-spans")]
    pub(crate) fn command_name(&self) -> Option<&'static str> {
        let mut words = Words::new(&self.body, &self.large);
        let first = match self.header.as_ref() {
            [] => {
                let (count, words) = words.next_command()?;
                View::new(words, count)
            }
            _ => View::new(words, usize::MAX),
        };
        first.info().map(super::table::CommandInfo::name)
    }

    fn all<'a>(&'a self, holds: impl Fn(&View<'a>) -> bool) -> bool {
        let words = Words::new(&self.body, &self.large);
        match self.header.as_ref() {
            [] => View::all_of(words, holds),
            // The words end where the only command does.
            _ => holds(&View::new(words, usize::MAX)),
        }
    }
}

impl fmt::Debug for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packet")
            .field("bytes", &self.len())
            .field("replies", &self.replies)
            .finish()
    }
}

impl Piece<'_> {
    fn is_empty(&self) -> bool {
        match self {
            Self::Small(bytes) => bytes.is_empty(),
            Self::Large(bytes) => bytes.is_empty(),
        }
    }
}

/// The array header of a command, held in place.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Header {
    /// `*`, at most 20 digits, CR LF.
    bytes: [u8; 23],
    len: u8,
}

impl Header {
    pub(super) fn array(elements: usize) -> Self {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(elements).as_bytes();
        let mut bytes = [0; 23];
        bytes[0] = b'*';
        bytes[1..=digits.len()].copy_from_slice(digits);
        bytes[digits.len() + 1..digits.len() + 3].copy_from_slice(b"\r\n");
        // At most 23, by the sum above.
        Self { bytes, len: digits.len() as u8 + 3 }
    }
}

impl AsRef<[u8]> for Header {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}
