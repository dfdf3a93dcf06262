/// What a peer may make the decoder hold, checked before anything is reserved.
///
/// The defaults let through everything that a stock server sends, but for what
/// scripts nest deeper than `depth`. A count or a
/// length in a header never reserves memory by itself: the decoder's own memory
/// grows with the bytes that have arrived.
///
/// # Example
///
/// ```
/// use respire_codec::Limits;
///
/// let limits = Limits { bulk_bytes: 1 << 20, ..Limits::default() };
/// assert_eq!(limits.depth, 1024);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Aggregates that may be open inside one another: arrays, sets, maps,
    /// pushes and attributes. Default 1,024. Servers stay below ten, apart from
    /// Lua scripts, which reach about 8,000.
    pub depth: usize,
    /// Payload bytes of one bulk string, bulk error or verbatim string, and of
    /// all the chunks of one streamed string together. Default 512 MiB, which is
    /// what servers accept unless `proto-max-bulk-len` was raised.
    pub bulk_bytes: usize,
    /// Bytes of one line: simple strings, errors, numbers. Default 512 MiB,
    /// because a script can put as much in a status reply as in a string.
    pub line_bytes: usize,
    /// Values directly inside one aggregate; a map's pair is two. Default and
    /// most: 2^31 - 1.
    pub elements: u32,
    /// Digits of one length, count or integer, leading zeros included. Default
    /// 64; least 20, so that every number that can be right is read.
    pub header_digits: u8,
    /// Bytes of one frame on the wire, headers included. Default and most:
    /// 2^32 - 1.
    pub frame_bytes: usize,
    /// Nodes in the index of one frame. A string or a number is one node of
    /// 8 bytes, an aggregate two. Default 2^27, which is 1 GiB of them.
    pub tape_nodes: usize,
}

impl Limits {
    /// The most that the index of a frame can express, whatever was asked for.
    pub(crate) const FRAME_BYTES_MAX: usize = u32::MAX as usize;
    pub(crate) const ELEMENTS_MAX: u32 = i32::MAX as u32;

    pub(crate) const HEADER_DIGITS_MIN: u8 = 20;

    /// Brings every limit into the range that the decoder can represent.
    pub(crate) fn clamped(self) -> Self {
        Self {
            elements: self.elements.min(Self::ELEMENTS_MAX),
            header_digits: self.header_digits.max(Self::HEADER_DIGITS_MIN),
            frame_bytes: self.frame_bytes.min(Self::FRAME_BYTES_MAX),
            tape_nodes: self.tape_nodes.min(Self::FRAME_BYTES_MAX),
            ..self
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            depth: 1024,
            bulk_bytes: 512 << 20,
            line_bytes: 512 << 20,
            elements: Self::ELEMENTS_MAX,
            header_digits: 64,
            frame_bytes: Self::FRAME_BYTES_MAX,
            tape_nodes: 1 << 27,
        }
    }
}
