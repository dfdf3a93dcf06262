use core::fmt;

use thiserror::Error;

use crate::value::Kind;

/// The input is not RESP, or is more than the limits allow.
///
/// RESP has no point at which a reader could pick up again, so a decoder that
/// has returned one of these returns it for ever. The message never contains
/// payload bytes.
///
/// # Example
///
/// ```
/// use bytes::BytesMut;
/// use respire_codec::{Decoder, Reason};
///
/// let mut decoder = Decoder::default();
/// let error = decoder.decode(&mut BytesMut::from("$3\r\nabcdef")).unwrap_err();
/// assert_eq!((error.offset(), error.reason()), (7, Reason::MissingCrlf));
/// assert_eq!(decoder.decode(&mut BytesMut::from("+OK\r\n")), Err(error));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("invalid RESP at byte {offset}, in a value that starts with {}: {reason}", Byte(*.type_byte))]
pub struct DecodeError {
    pub(crate) offset: u64,
    pub(crate) type_byte: u8,
    pub(crate) reason: Reason,
}

impl DecodeError {
    /// Where the input went wrong, in bytes since the decoder was made.
    ///
    /// For broken syntax this is the offending byte; for an exceeded limit and
    /// for a value that must not be there, the value's type byte.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// First byte of the value, chunk or terminator that was being read.
    pub fn type_byte(&self) -> u8 {
        self.type_byte
    }

    /// What was wrong.
    pub fn reason(&self) -> Reason {
        self.reason
    }
}

/// What was wrong with the input.
///
/// # Example
///
/// ```
/// use bytes::BytesMut;
/// use respire_codec::{Decoder, Reason};
///
/// let error = Decoder::default().decode(&mut BytesMut::from(":12a\r\n")).unwrap_err();
/// assert_eq!(error.reason(), Reason::MalformedInteger);
/// assert_eq!(error.reason().to_string(), "malformed integer");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[non_exhaustive]
pub enum Reason {
    /// No value of either protocol starts with this byte.
    #[error("unknown type byte")]
    UnknownType,
    /// The type exists in RESP3, and the decoder was told to expect RESP2.
    #[error("a type of RESP3 on a RESP2 connection")]
    NotInProtocol,
    /// A length or a count is empty or contains something other than digits.
    #[error("malformed length")]
    MalformedLength,
    /// More digits than [`Limits::header_digits`](crate::Limits::header_digits).
    #[error("length with too many digits")]
    HeaderTooLong,
    /// More payload than [`Limits::bulk_bytes`](crate::Limits::bulk_bytes).
    #[error("string longer than the limit")]
    BulkTooLong,
    /// A longer line than [`Limits::line_bytes`](crate::Limits::line_bytes).
    #[error("line longer than the limit")]
    LineTooLong,
    /// More values in one aggregate than [`Limits::elements`](crate::Limits::elements).
    #[error("more elements than the limit")]
    TooManyElements,
    /// Deeper nesting than [`Limits::depth`](crate::Limits::depth).
    #[error("nested deeper than the limit")]
    TooDeep,
    /// More wire bytes than [`Limits::frame_bytes`](crate::Limits::frame_bytes).
    #[error("frame longer than the limit")]
    FrameTooLong,
    /// More values in one frame than [`Limits::tape_nodes`](crate::Limits::tape_nodes).
    #[error("more values in one frame than the limit")]
    TooManyNodes,
    /// A carriage return or a line feed that is not part of a CRLF.
    #[error("stray carriage return or line feed")]
    StrayLineBreak,
    /// The CRLF after a fixed-size value or a payload is missing.
    #[error("CRLF expected")]
    MissingCrlf,
    /// An integer with other than digits after its sign, or with none.
    #[error("malformed integer")]
    MalformedInteger,
    /// An integer outside of -2^63 to 2^63 - 1.
    #[error("integer out of range")]
    IntegerOutOfRange,
    /// A boolean that is neither `t` nor `f`.
    #[error("malformed boolean")]
    MalformedBoolean,
    /// A verbatim string without three bytes of format and a colon.
    #[error("malformed verbatim string")]
    MalformedVerbatim,
    /// Something other than a chunk inside a streamed string, or a chunk
    /// outside of one, or an end marker written in another form than `;0`.
    #[error("chunk of a streamed string expected, or not expected here")]
    MisplacedChunk,
    /// The end marker of a streamed aggregate where none is open, after a key
    /// without a value, or after an attribute.
    #[error("misplaced end of a streamed aggregate")]
    MisplacedEnd,
    /// A push inside of another value, in strict mode.
    #[error("push inside of a reply")]
    NestedPush,
    /// An attribute in front of a push.
    #[error("attribute in front of a push")]
    AttributedPush,
}

/// A value cannot be read as the type that was asked for.
///
/// # Example
///
/// ```
/// # use bytes::BytesMut;
/// # use respire_codec::Decoder;
/// # let mut received = BytesMut::from("_\r\n");
/// # let frame = Decoder::default().decode(&mut received)?.ok_or("a frame")?;
/// let error = frame.parse::<u64>().unwrap_err();
/// assert!(error.is_null());
/// assert_eq!(error.to_string(), "an integer expected, null found");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Error)]
#[error("{expected} expected, {} found", .found.noun())]
pub struct ValueError {
    pub(crate) expected: &'static str,
    pub(crate) found: Found,
}

/// What was there instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Kind(Kind),
    Length(usize),
    OutOfRange,
    Malformed(Kind),
    NotUtf8,
    InPieces,
}

impl ValueError {
    pub(crate) fn new(expected: &'static str, found: Found) -> Self {
        Self { expected, found }
    }

    /// For types of one's own: `expected`, with its article, was asked for, and what was found is of this kind, or of this
    /// kind with other contents.
    ///
    /// ```
    /// use respire_codec::{Kind, ValueError};
    ///
    /// let error = ValueError::other_form("a weekday", Kind::BulkString);
    /// assert_eq!(error.to_string(), "a weekday expected, a bulk string of another form found");
    /// ```
    pub fn other_form(expected: &'static str, found: Kind) -> Self {
        Self::new(expected, Found::Malformed(found))
    }

    /// What was asked for, with its article: "an integer".
    pub fn expected(&self) -> &'static str {
        self.expected
    }

    /// Whether the value was null.
    pub fn is_null(&self) -> bool {
        self.found == Found::Kind(Kind::Null)
    }

    /// Whether the value was an error reply of the server.
    pub fn is_error_reply(&self) -> bool {
        matches!(self.found, Found::Kind(Kind::SimpleError | Kind::BulkError))
    }
}

impl fmt::Debug for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ValueError({self})")
    }
}

impl Found {
    fn noun(self) -> impl fmt::Display {
        struct Noun(Found);
        impl fmt::Display for Noun {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.0 {
                    Found::Kind(kind) => f.write_str(kind.noun()),
                    Found::Length(1) => f.write_str("1 element"),
                    Found::Length(n) => write!(f, "{n} elements"),
                    Found::OutOfRange => f.write_str("a number out of range"),
                    Found::Malformed(kind) => write!(f, "{} of another form", kind.noun()),
                    Found::NotUtf8 => f.write_str("bytes that are not UTF-8"),
                    Found::InPieces => f.write_str("a streamed string in several pieces"),
                }
            }
        }
        Noun(self)
    }
}

/// A value cannot be put on the wire without breaking the stream.
///
/// # Example
///
/// ```
/// use bytes::{Bytes, BytesMut};
/// use respire_codec::{EncodeError, OwnedValue, Protocol, encode};
///
/// let mut out = BytesMut::new();
/// let array = OwnedValue::from(vec![OwnedValue::Push(["news"].into_iter().collect())]);
/// let refused = encode::reply(&mut out, &array, Protocol::Resp3);
/// assert_eq!(refused, Err(EncodeError::NestedPush));
/// assert!(out.is_empty());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// A carriage return or line feed in a simple string, an error or a number
    /// would end the reply early and turn the rest into another one.
    #[error("line break in a value that ends at a line break")]
    LineBreak,
    /// Pushes exist at the top level only.
    #[error("push inside of another value")]
    NestedPush,
    /// Attributes describe replies, and pushes are none.
    #[error("attribute in front of a push")]
    AttributedPush,
}

/// A byte as people read it: printable as a character, others in hexadecimal.
struct Byte(u8);

impl fmt::Display for Byte {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            byte @ b'!'..=b'~' => write!(f, "'{}'", char::from(byte)),
            byte => write!(f, "0x{byte:02x}"),
        }
    }
}
