use alloc::{sync::Arc, vec::Vec};
use core::fmt;
use core::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

use crate::build;
use crate::error::ValueError;
use crate::frame::Frame;
use crate::from_value::FromValue;
use crate::number::number_at;
use crate::owned::OwnedValue;
use crate::scalar::{BigNumber, Double, Verbatim};
use crate::seq::{Attributes, Chunks, Map, Seq};
use crate::tape::{self, Node, Tape};
use crate::walk::{self, Visitor, Walk};

/// What a value is, without what it says.
///
/// # Example
///
/// ```
/// use respire_codec::Kind;
///
/// # use bytes::BytesMut;
/// # use respire_codec::Decoder;
/// # let mut received = BytesMut::from("~1\r\n:1\r\n");
/// # let frame = Decoder::default().decode(&mut received)?.ok_or("a frame")?;
/// assert_eq!(frame.value().kind(), Kind::Set);
/// assert_eq!(Kind::Set.noun(), "a set");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `+`
    SimpleString,
    /// `-`
    SimpleError,
    /// `:`
    Integer,
    /// `$`, in one piece or streamed
    BulkString,
    /// `_`, and `$-1` and `*-1` of RESP2
    Null,
    /// `#`
    Boolean,
    /// `,`
    Double,
    /// `(`
    BigNumber,
    /// `!`
    BulkError,
    /// `=`
    VerbatimString,
    /// `*`
    Array,
    /// `~`
    Set,
    /// `%`
    Map,
    /// `>`
    Push,
}

impl Kind {
    /// The kind as a noun with its article: "an integer".
    pub fn noun(self) -> &'static str {
        match self {
            Self::SimpleString => "a simple string",
            Self::SimpleError | Self::BulkError => "an error",
            Self::Integer => "an integer",
            Self::BulkString => "a bulk string",
            Self::Null => "null",
            Self::Boolean => "a boolean",
            Self::Double => "a double",
            Self::BigNumber => "a big number",
            Self::VerbatimString => "a verbatim string",
            Self::Array => "an array",
            Self::Set => "a set",
            Self::Map => "a map",
            Self::Push => "a push",
        }
    }
}

/// How a null was written.
///
/// # Example
///
/// ```
/// use respire_codec::NullForm;
///
/// # use bytes::BytesMut;
/// # use respire_codec::Decoder;
/// # let mut received = BytesMut::from("$-1\r\n");
/// # let frame = Decoder::default().decode(&mut received)?.ok_or("a frame")?;
/// assert!(frame.value().is_null());
/// assert_eq!(frame.value().null_form(), Some(NullForm::BulkString));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NullForm {
    /// `_`, of RESP3.
    Null,
    /// `$-1`, the null bulk string of RESP2.
    BulkString,
    /// `*-1`, the null array of RESP2.
    Array,
}

/// A value, one level deep: scalars are read, aggregates are iterators.
///
/// Strings are bytes. Servers do send simple strings and errors that are not
/// UTF-8.
///
/// # Example
///
/// ```
/// use respire_codec::Value;
///
/// # use bytes::BytesMut;
/// # use respire_codec::Decoder;
/// # let mut received = BytesMut::from("*2\r\n:1\r\n$1\r\nx\r\n");
/// # let frame = Decoder::default().decode(&mut received)?.ok_or("a frame")?;
/// let Value::Array(items) = frame.value().get() else { return Err("no array".into()) };
/// for item in items {
///     match item.get() {
///         Value::Integer(number) => assert_eq!(number, 1),
///         Value::BulkString(text) => assert_eq!(text, b"x"),
///         other => println!("neither: {other:?}"),
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub enum Value<'a> {
    /// A short status, such as `OK`.
    SimpleString(&'a [u8]),
    /// An error in one line.
    SimpleError(&'a [u8]),
    /// A signed 64-bit integer.
    Integer(i64),
    /// Any bytes.
    BulkString(&'a [u8]),
    /// A bulk string whose length was not known in advance, in pieces.
    StreamedString(Chunks<'a>),
    /// No value, in any of the three forms; see [`ValueRef::null_form`].
    Null,
    /// True or false.
    Boolean(bool),
    /// A double as its text.
    Double(Double<&'a [u8]>),
    /// An integer of any size, as its text.
    BigNumber(BigNumber<&'a [u8]>),
    /// An error of any length and content.
    BulkError(&'a [u8]),
    /// Text with a format.
    VerbatimString(Verbatim<&'a [u8]>),
    /// Values in order.
    Array(Seq<'a>),
    /// Values of which each should occur once; the codec does not check.
    Set(Seq<'a>),
    /// Keys and values in wire order, duplicates included.
    Map(Map<'a>),
    /// Something that came unasked.
    Push(Seq<'a>),
}

/// A place in a frame where a value is.
///
/// Two values are equal when they are of the same kind, have the same content
/// and carry equal attributes. The forms of null are equal, and so are a
/// streamed and an ordinary aggregate or string with the same content. Doubles
/// and big numbers are compared as text.
///
/// # Example
///
/// ```
/// use respire_codec::ValueRef;
///
/// # use bytes::BytesMut;
/// # use respire_codec::Decoder;
/// # let mut received = BytesMut::from("*2\r\n-ERR no\r\n$2\r\nhi\r\n");
/// # let frame = Decoder::default().decode(&mut received)?.ok_or("a frame")?;
/// let results: Vec<ValueRef<'_>> = frame.parse()?;
/// assert_eq!(results[0].error(), Some(&b"ERR no"[..]));
/// assert_eq!(results[1].parse::<&str>()?, "hi");
/// assert_eq!(results[1].to_bytes().as_deref(), Some(&b"hi"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy)]
pub struct ValueRef<'a> {
    bytes: &'a Bytes,
    /// Nodes from the value's first one on, which is an attribute's if the
    /// value has any.
    nodes: &'a [Node],
    /// Where the frame starts in `bytes`.
    base: u32,
}

impl<'a> ValueRef<'a> {
    #[inline]
    pub(crate) fn new(bytes: &'a Bytes, nodes: &'a [Node], base: u32) -> Self {
        Self { bytes, nodes, base }
    }

    /// What the value is.
    pub fn kind(self) -> Kind {
        match (self.bare().tag(), self.null_form()) {
            (_, Some(_)) => Kind::Null,
            (b'+', _) => Kind::SimpleString,
            (b'-', _) => Kind::SimpleError,
            (b':', _) => Kind::Integer,
            (b'$', _) => Kind::BulkString,
            (b'#', _) => Kind::Boolean,
            (b',', _) => Kind::Double,
            (b'(', _) => Kind::BigNumber,
            (b'!', _) => Kind::BulkError,
            (b'=', _) => Kind::VerbatimString,
            (b'*', _) => Kind::Array,
            (b'~', _) => Kind::Set,
            (b'%', _) => Kind::Map,
            (b'>', _) => Kind::Push,
            _ => Kind::Null,
        }
    }

    /// The value.
    #[inline]
    pub fn get(self) -> Value<'a> {
        let value = self.bare();
        match value.tag() {
            b'$' => value.dollar(),
            b':' => Value::Integer(value.number()),
            b'+' => Value::SimpleString(value.line()),
            b'-' => Value::SimpleError(value.line()),
            b'*' if value.width() == 2 => Value::Array(value.children()),
            b'%' => Value::Map(Map::new(value.children())),
            b'~' => Value::Set(value.children()),
            b'>' => Value::Push(value.children()),
            b'#' => Value::Boolean(value.wire().get(1) == Some(&b't')),
            b',' => Value::Double(Double::new(value.line())),
            b'(' => Value::BigNumber(BigNumber::new(value.line())),
            b'!' => Value::BulkError(value.payload()),
            b'=' => Value::VerbatimString(Verbatim::from_payload(value.payload())),
            _ => Value::Null,
        }
    }

    /// What starts with a `$`.
    #[inline]
    fn dollar(self) -> Value<'a> {
        match self.wire().get(1) {
            Some(b'-') => Value::Null,
            Some(b'?') => Value::StreamedString(Chunks::new(self.children())),
            _ => Value::BulkString(self.payload()),
        }
    }

    /// The value as a type of the caller's choice.
    ///
    /// # Errors
    ///
    /// When the value is of another type, out of range, or an error reply.
    pub fn parse<T: FromValue<'a>>(self) -> Result<T, ValueError> {
        T::from_value(self)
    }

    /// The text of an error reply, if this is one.
    ///
    /// # Example
    ///
    /// ```
    /// # use bytes::BytesMut;
    /// # use respire_codec::Decoder;
    /// # let mut received = BytesMut::from("-ERR no\r\n");
    /// # let frame = Decoder::default().decode(&mut received)?.ok_or("a frame")?;
    /// assert_eq!(frame.value().error(), Some(&b"ERR no"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn error(self) -> Option<&'a [u8]> {
        let value = self.bare();
        match value.tag() {
            b'-' => Some(value.line()),
            b'!' => Some(value.payload()),
            _ => None,
        }
    }

    /// Whether the value is null, in any form.
    pub fn is_null(self) -> bool {
        self.null_form().is_some()
    }

    /// How a null was written; `None` when the value is none.
    pub fn null_form(self) -> Option<NullForm> {
        match self.bare().wire() {
            [b'_', ..] => Some(NullForm::Null),
            [b'$', b'-', ..] => Some(NullForm::BulkString),
            [b'*', b'-', ..] => Some(NullForm::Array),
            _ => None,
        }
    }

    /// Whether the value was sent without its length in advance.
    ///
    /// # Example
    ///
    /// ```
    /// # use bytes::BytesMut;
    /// # use respire_codec::Decoder;
    /// # let mut received = BytesMut::from("$?\r\n;2\r\nhe\r\n;3\r\nllo\r\n;0\r\n");
    /// # let frame = Decoder::default().decode(&mut received)?.ok_or("a frame")?;
    /// assert!(frame.value().is_streamed());
    /// assert_eq!(frame.parse::<String>()?, "hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_streamed(self) -> bool {
        matches!(self.bare().wire(), [b'$' | b'*' | b'~' | b'%', b'?', ..])
    }

    /// The attributes in front of the value, as keys and values in wire order.
    ///
    /// # Example
    ///
    /// ```
    /// # use bytes::BytesMut;
    /// # use respire_codec::Decoder;
    /// # let mut received = BytesMut::from("|1\r\n+ttl\r\n:60\r\n$1\r\nx\r\n");
    /// # let frame = Decoder::default().decode(&mut received)?.ok_or("a frame")?;
    /// assert_eq!(frame.parse::<&str>()?, "x");
    /// for (key, value) in frame.value().attributes() {
    ///     assert_eq!((key.parse::<&str>()?, value.parse::<u8>()?), ("ttl", 60));
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn attributes(self) -> Attributes<'a> {
        let own = self.nodes.len() - self.bare().nodes.len();
        let nodes = self.nodes.get(..own).unwrap_or_default();
        Attributes::new(Self { nodes, ..self })
    }

    /// The bytes of a simple, bulk, verbatim or streamed string.
    ///
    /// Shares the frame's memory, and keeps all of it alive; only a streamed
    /// string of several chunks is copied together. Of a verbatim string, the
    /// text without the format.
    ///
    /// # Example
    ///
    /// ```
    /// # use bytes::BytesMut;
    /// # use respire_codec::Decoder;
    /// # let mut received = BytesMut::from("=6\r\ntxt:hi\r\n");
    /// # let frame = Decoder::default().decode(&mut received)?.ok_or("a frame")?;
    /// assert_eq!(frame.value().to_bytes().as_deref(), Some(&b"hi"[..]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn to_bytes(self) -> Option<Bytes> {
        match self.get() {
            Value::SimpleString(text) | Value::BulkString(text) => Some(self.share(text)),
            Value::VerbatimString(text) => Some(self.share(text.into_text())),
            Value::StreamedString(chunks) => Some(self.join(chunks)),
            _ => None,
        }
    }

    /// The value as a tree of its own, whose strings still share this frame's
    /// memory.
    ///
    /// # Example
    ///
    /// ```
    /// # use bytes::BytesMut;
    /// # use respire_codec::Decoder;
    /// # let mut received = BytesMut::from("*1\r\n:7\r\n");
    /// # let frame = Decoder::default().decode(&mut received)?.ok_or("a frame")?;
    /// use respire_codec::OwnedValue;
    ///
    /// assert_eq!(frame.value().to_value(), OwnedValue::from(vec![OwnedValue::Integer(7)]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn to_value(self) -> OwnedValue {
        build::build(self)
    }

    /// The value as a frame of its own, with its attributes, in the same memory.
    ///
    /// An aggregate gets an index of its own, which is an allocation.
    ///
    /// # Example
    ///
    /// ```
    /// use bytes::BytesMut;
    /// use respire_codec::{Decoder, Value};
    ///
    /// let mut received = BytesMut::from("*2\r\n:1\r\n*1\r\n+deep\r\n");
    /// let frame = Decoder::default().decode(&mut received)?.ok_or("a frame")?;
    /// let Value::Array(elements) = frame.value().get() else { return Err("an array".into()) };
    /// let last = elements.last().ok_or("two elements")?.to_frame();
    /// drop(frame);
    /// assert_eq!(last.parse::<Vec<&str>>()?, ["deep"]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn to_frame(self) -> Frame {
        self.framed(|range| self.bytes.slice(range))
    }

    /// A copy of the value, with its attributes, that holds on to nothing but itself.
    ///
    /// [`Frame::detach`] says when that is worth its price; this is the same for a part of a
    /// frame.
    ///
    /// # Example
    ///
    /// ```
    /// use bytes::BytesMut;
    /// use respire_codec::{Decoder, Value};
    ///
    /// let mut received = BytesMut::from("*2\r\n$5\r\nlarge\r\n:7\r\n");
    /// let frame = Decoder::default().decode(&mut received)?.ok_or("a frame")?;
    /// let Value::Array(elements) = frame.value().get() else { return Err("an array".into()) };
    /// let kept = elements.last().ok_or("two elements")?.detach();
    /// assert_eq!((kept.bytes().len(), kept.parse::<u8>()?), (4, 7));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn detach(self) -> Frame {
        self.framed(|range| Bytes::copy_from_slice(self.bytes.get(range).unwrap_or_default()))
    }

    /// The value as a frame of the bytes that `take` returns for where it lies.
    fn framed(self, take: impl FnOnce(Range<usize>) -> Bytes) -> Frame {
        let (start, base) = (self.at(), self.at() as u32 - self.base);
        let last = self.bare();
        let length = if last.width() == 1 { last.count() } else { last.lengths().aux };
        let range = start..last.at() + length as usize;
        let wire = self.bytes.get(range.clone()).unwrap_or_default();
        if let Some(frame) = Frame::constant(wire) {
            return frame;
        }
        let bytes = take(range);
        let mut nodes = self.nodes.get(..self.span()).unwrap_or(self.nodes).to_vec();
        let mut at = 0;
        while let Some(node) = nodes.get_mut(at) {
            // The second node of an aggregate holds lengths, which stay as they are.
            node.off -= base;
            at += tape::width(&bytes, node.off as usize);
        }
        match *nodes {
            [node] => Frame::scalar(bytes, node),
            _ => Frame::aggregate(bytes, Arc::new(Tape { nodes, entries: Vec::new() }), 0),
        }
    }

    /// Shows the value and everything in it to `visitor`, in wire order.
    ///
    /// # Errors
    ///
    /// What the visitor returns.
    pub fn visit<V: Visitor<'a>>(self, visitor: &mut V) -> Result<(), V::Error> {
        walk::visit(Walk::new(self), visitor)
    }

    /// Where the value starts, in bytes from the first one of its frame.
    ///
    /// # Example
    ///
    /// ```
    /// # use bytes::BytesMut;
    /// # use respire_codec::Decoder;
    /// # let mut received = BytesMut::from("*2\r\n:1\r\n:2\r\n");
    /// # let frame = Decoder::default().decode(&mut received)?.ok_or("a frame")?;
    /// use respire_codec::ValueRef;
    ///
    /// let items: Vec<ValueRef<'_>> = frame.parse()?;
    /// assert_eq!(items[1].offset(), 8);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn offset(self) -> usize {
        self.bare().nodes.first().map_or(0, |node| node.off as usize)
    }

    /// The text of an integer, as it was sent.
    pub(crate) fn integer_text(self) -> &'a [u8] {
        self.bare().line()
    }

    /// The value if the first node here is an integer.
    #[inline(always)]
    pub(crate) fn plain_integer(self) -> Option<i64> {
        (self.tag() == b':').then(|| self.number())
    }

    /// The payload, if the first node here is a bulk string in one piece.
    #[inline(always)]
    pub(crate) fn bulk(self) -> Option<&'a [u8]> {
        self.bytes.get(self.plain_bulk()?)
    }

    /// Where the payload is in the frame's memory, if the first node here is a
    /// bulk string in one piece.
    #[inline(always)]
    pub(crate) fn plain_bulk(self) -> Option<Range<usize>> {
        let node = self.nodes.first()?;
        let at = self.base as usize + node.off as usize;
        let start = match self.bytes.get(at..) {
            Some([b'$', b'0'..=b'9', b'\r', ..]) => at + 4,
            Some([b'$', b'0'..=b'9', _, b'\r', ..]) => at + 5,
            Some([b'$', b'0'..=b'9', ..]) => at + 1 + self.header(),
            _ => return None,
        };
        // Of a complete bulk string, its CRLF comes after all of its header.
        Some(start..at + node.aux as usize - 2)
    }

    /// Whether the first node here is the simple string `OK`.
    #[inline(always)]
    pub(crate) fn is_ok(self) -> bool {
        matches!(self.bytes.get(self.at()..), Some([b'+', b'O', b'K', b'\r', ..]))
    }

    /// The bytes in `range`, which came from [`plain_bulk`](Self::plain_bulk), as
    /// a handle of their own.
    #[inline(always)]
    pub(crate) fn slice(self, range: Range<usize>) -> Bytes {
        self.bytes.slice(range)
    }

    /// A slice of this frame as a handle of its own.
    pub(crate) fn share(self, part: &'a [u8]) -> Bytes {
        self.bytes.slice_ref(part)
    }

    /// The chunks of a streamed string in one piece.
    pub(crate) fn join(self, mut chunks: Chunks<'a>) -> Bytes {
        match (chunks.next(), chunks.next()) {
            (None, _) => Bytes::new(),
            (Some(only), None) => self.share(only),
            (Some(first), Some(second)) => {
                let mut whole = BytesMut::from(first);
                whole.put_slice(second);
                chunks.for_each(|chunk| whole.put_slice(chunk));
                whole.freeze()
            }
        }
    }

    /// The value without the attributes in front of it.
    #[inline]
    pub(crate) fn bare(self) -> Self {
        // The first attribute of a value leads past all of them.
        if self.tag() == b'|' { self.skip(self.lengths().off as usize) } else { self }
    }

    /// The value at the `count`th node from here.
    #[inline]
    pub(crate) fn skip(self, count: usize) -> Self {
        Self { nodes: self.nodes.get(count..).unwrap_or_default(), ..self }
    }

    /// What follows the value with its attributes and everything in it.
    #[inline(always)]
    pub(crate) fn after(self) -> Self {
        let at = self.at();
        self.skip(match self.bytes.get(at..at + 2) {
            Some([b'$', b'0'..=b'9'] | [b':' | b'+', _]) => 1,
            _ => self.apart(Self::span),
        })
    }

    /// Nodes of the value with its attributes and everything in it.
    pub(crate) fn span(self) -> usize {
        let value = self.bare();
        let own = if value.width() == 1 { 1 } else { value.lengths().off as usize };
        self.nodes.len() - value.nodes.len() + own
    }

    /// Calls `f`, which is seldom needed, with a copy of this.
    ///
    /// What is handed to a function by itself has to lie in memory, and then every
    /// other use of it goes through memory as well. The parts stay in registers.
    #[inline(always)]
    pub(crate) fn apart<T>(self, f: impl FnOnce(Self) -> T) -> T {
        call_with_parts(self.bytes, self.nodes, self.base, f)
    }

    /// Nodes of the value itself.
    #[inline]
    pub(crate) fn width(self) -> usize {
        tape::width(self.bytes, self.at())
    }

    /// Children of the aggregate whose first node this is.
    #[inline]
    pub(crate) fn count(self) -> u32 {
        self.nodes.first().map_or(0, |node| node.aux)
    }

    pub(crate) fn has_nodes(self) -> bool {
        !self.nodes.is_empty()
    }

    /// The type byte.
    #[inline]
    pub(crate) fn tag(self) -> u8 {
        match self.nodes {
            [] => 0,
            _ => self.bytes.get(self.at()).copied().unwrap_or_default(),
        }
    }

    /// What is in an array, a set or a push; of a map, keys and values in turn.
    #[inline]
    pub(crate) fn elements(self) -> Option<Seq<'a>> {
        let value = self.bare();
        let aggregate = matches!(value.tag(), b'*' | b'~' | b'%' | b'>') && value.width() == 2;
        aggregate.then(|| value.children())
    }

    /// The children of an aggregate, or the chunks of a streamed string.
    #[inline]
    fn children(self) -> Seq<'a> {
        Seq::new(self.skip(2), self.count() as usize)
    }

    #[inline]
    fn lengths(self) -> Node {
        self.nodes.get(1).copied().unwrap_or(Node { off: 1, aux: 0 })
    }

    #[inline]
    fn at(self) -> usize {
        self.base as usize + self.nodes.first().map_or(0, |node| node.off as usize)
    }

    /// The bytes of the value, from its type byte to its last CRLF.
    #[inline]
    fn wire(self) -> &'a [u8] {
        let length = if self.width() == 1 { self.count() } else { self.lengths().aux };
        let at = self.at();
        self.bytes.get(at..at + length as usize).unwrap_or_default()
    }

    /// Of a scalar: what is between the type byte and the CRLF.
    #[inline]
    fn line(self) -> &'a [u8] {
        let (at, length) = (self.at(), self.count() as usize);
        self.bytes.get(at + 1..at + length.saturating_sub(2)).unwrap_or_default()
    }

    /// Of a scalar: what is between the header and the CRLF.
    #[inline]
    pub(crate) fn payload(self) -> &'a [u8] {
        self.line().get(self.header()..).unwrap_or_default()
    }

    /// Of a scalar with a length: the bytes of its line up to the payload.
    #[inline]
    fn header(self) -> usize {
        let line = self.line();
        let digits = match line {
            [_, b'\r', ..] => 1,
            [_, _, b'\r', ..] => 2,
            [_, _, _, b'\r', ..] => 3,
            _ => line.iter().position(|byte| *byte == b'\r').unwrap_or(line.len()),
        };
        digits + 2
    }

    /// Of an integer: its value, which was checked when it was framed.
    #[inline(always)]
    fn number(self) -> i64 {
        let (start, length) = (self.at() + 1, (self.count() as usize).saturating_sub(3));
        number_at(self.bytes, start, length)
    }
}

/// See [`ValueRef::apart`].
#[inline(never)]
fn call_with_parts<'a, T>(
    bytes: &'a Bytes,
    nodes: &'a [Node],
    base: u32,
    f: impl FnOnce(ValueRef<'a>) -> T,
) -> T {
    f(ValueRef { bytes, nodes, base })
}

impl PartialEq for ValueRef<'_> {
    fn eq(&self, other: &Self) -> bool {
        walk::equal(Walk::new(*self), Walk::new(*other))
    }
}

impl Eq for ValueRef<'_> {}

impl PartialEq<OwnedValue> for ValueRef<'_> {
    fn eq(&self, other: &OwnedValue) -> bool {
        walk::equal(Walk::new(*self), other.walk())
    }
}

impl fmt::Debug for ValueRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        walk::debug(Walk::new(*self), f)
    }
}

impl PartialEq for Value<'_> {
    fn eq(&self, other: &Self) -> bool {
        use Value as V;
        match (self, other) {
            (V::SimpleString(a), V::SimpleString(b))
            | (V::SimpleError(a), V::SimpleError(b))
            | (V::BulkError(a), V::BulkError(b))
            | (V::BulkString(a), V::BulkString(b)) => a == b,
            (V::BulkString(whole), V::StreamedString(pieces))
            | (V::StreamedString(pieces), V::BulkString(whole)) => {
                pieces.clone().flatten().eq(whole.iter())
            }
            (V::StreamedString(a), V::StreamedString(b)) => a == b,
            (V::Integer(a), V::Integer(b)) => a == b,
            (V::Null, V::Null) => true,
            (V::Boolean(a), V::Boolean(b)) => a == b,
            (V::Double(a), V::Double(b)) => a == b,
            (V::BigNumber(a), V::BigNumber(b)) => a == b,
            (V::VerbatimString(a), V::VerbatimString(b)) => a == b,
            (V::Array(a), V::Array(b)) | (V::Set(a), V::Set(b)) | (V::Push(a), V::Push(b)) => {
                a == b
            }
            (V::Map(a), V::Map(b)) => a == b,
            _ => false,
        }
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Array(items) => items.fmt(f),
            Self::Set(items) => write!(f, "~{items:?}"),
            Self::Push(items) => write!(f, ">{items:?}"),
            Self::Map(entries) => entries.fmt(f),
            scalar => walk::debug_scalar(scalar, f),
        }
    }
}
