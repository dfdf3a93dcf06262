//! Iterators over what is in a value.

use alloc::vec::Vec;
use core::fmt;
use core::iter::FusedIterator;

use crate::value::ValueRef;

/// The elements of an array, a set or a push, in wire order.
///
/// Passing over an element takes the same time whatever is in it.
///
/// # Example
///
/// ```
/// use respire_codec::Value;
///
/// # use bytes::BytesMut;
/// # use respire_codec::Decoder;
/// # let mut received = BytesMut::from("*3\r\n:1\r\n*2\r\n:2\r\n:3\r\n:4\r\n");
/// # let frame = Decoder::default().decode(&mut received)?.ok_or("a frame")?;
/// let Value::Array(mut items) = frame.value().get() else { return Err("no array".into()) };
/// assert_eq!(items.len(), 3);
/// assert_eq!(items.nth(2).map(|item| item.parse::<u8>()), Some(Ok(4)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Seq<'a> {
    rest: ValueRef<'a>,
    remaining: usize,
}

impl<'a> Seq<'a> {
    /// So many values, one after the other, from `first` on.
    #[inline]
    pub(crate) fn new(first: ValueRef<'a>, len: usize) -> Self {
        Self { rest: first, remaining: len }
    }
}

impl<'a> Iterator for Seq<'a> {
    type Item = ValueRef<'a>;

    #[inline]
    fn next(&mut self) -> Option<ValueRef<'a>> {
        self.remaining = self.remaining.checked_sub(1)?;
        let value = self.rest;
        self.rest = value.after();
        Some(value)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining, Some(self.remaining))
    }
}

impl ExactSizeIterator for Seq<'_> {}
impl FusedIterator for Seq<'_> {}

/// The entries of a map, in wire order.
///
/// # Example
///
/// ```
/// use respire_codec::Value;
///
/// # use bytes::BytesMut;
/// # use respire_codec::Decoder;
/// # let mut received = BytesMut::from("%1\r\n+ttl\r\n:60\r\n");
/// # let frame = Decoder::default().decode(&mut received)?.ok_or("a frame")?;
/// let Value::Map(entries) = frame.value().get() else { return Err("no map".into()) };
/// for (key, value) in entries {
///     assert_eq!((key.parse::<&str>()?, value.parse::<u64>()?), ("ttl", 60));
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Map<'a>(Seq<'a>);

impl<'a> Map<'a> {
    /// From keys and values in turn.
    #[inline]
    pub(crate) fn new(flat: Seq<'a>) -> Self {
        Self(flat)
    }

    /// Keys and values in turn, as RESP2 sends a map.
    pub fn flatten(self) -> Seq<'a> {
        self.0
    }
}

impl<'a> Iterator for Map<'a> {
    type Item = (ValueRef<'a>, ValueRef<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        Some((self.0.next()?, self.0.next()?))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let pairs = self.0.remaining / 2;
        (pairs, Some(pairs))
    }
}

impl ExactSizeIterator for Map<'_> {}
impl FusedIterator for Map<'_> {}

/// The attributes of one value, in wire order.
///
/// # Example
///
/// ```
/// # use bytes::BytesMut;
/// # use respire_codec::Decoder;
/// # let mut received = BytesMut::from("*1\r\n|1\r\n+ttl\r\n:60\r\n$1\r\nx\r\n");
/// # let frame = Decoder::default().decode(&mut received)?.ok_or("a frame")?;
/// let [item] = frame.parse::<Vec<respire_codec::ValueRef<'_>>>()?[..] else { panic!() };
/// let attributes: Vec<(&str, u64)> = item
///     .attributes()
///     .map(|(key, value)| Ok((key.parse()?, value.parse()?)))
///     .collect::<Result<_, respire_codec::ValueError>>()?;
/// assert_eq!(attributes, [("ttl", 60)]);
/// assert_eq!(item.parse::<&str>()?, "x");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Attributes<'a> {
    /// What is left of the nodes in front of the value.
    rest: ValueRef<'a>,
    /// Keys and values left of the attribute that `rest` is in.
    remaining: u32,
}

impl<'a> Attributes<'a> {
    /// From the nodes of attributes in a row, and no others.
    pub(crate) fn new(nodes: ValueRef<'a>) -> Self {
        Self { rest: nodes, remaining: 0 }
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (ValueRef<'a>, ValueRef<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        while self.remaining == 0 {
            if !self.rest.has_nodes() {
                return None;
            }
            self.remaining = self.rest.count();
            self.rest = self.rest.skip(2);
        }
        let key = self.rest;
        let value = key.after();
        self.rest = value.after();
        self.remaining = self.remaining.saturating_sub(2);
        Some((key, value))
    }
}

impl FusedIterator for Attributes<'_> {}

/// The pieces of a streamed string, in order; none is empty.
///
/// # Example
///
/// ```
/// use respire_codec::Value;
///
/// # use bytes::BytesMut;
/// # use respire_codec::Decoder;
/// # let mut received = BytesMut::from("$?\r\n;2\r\nab\r\n;1\r\nc\r\n;0\r\n");
/// # let frame = Decoder::default().decode(&mut received)?.ok_or("a frame")?;
/// let Value::StreamedString(chunks) = frame.value().get() else { return Err("no stream".into()) };
/// assert!(chunks.eq([&b"ab"[..], b"c"]));
/// assert_eq!(frame.parse::<String>()?, "abc");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Chunks<'a>(Seq<'a>);

impl<'a> Chunks<'a> {
    /// From chunks one after the other.
    pub(crate) fn new(chunks: Seq<'a>) -> Self {
        Self(chunks)
    }
}

impl<'a> Iterator for Chunks<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.0.next().map(ValueRef::payload)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for Chunks<'_> {}
impl FusedIterator for Chunks<'_> {}

impl fmt::Debug for Seq<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

impl fmt::Debug for Map<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.clone()).finish()
    }
}

impl fmt::Debug for Attributes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.clone()).finish()
    }
}

impl fmt::Debug for Chunks<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone().map(Vec::from)).finish()
    }
}

impl PartialEq for Seq<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.clone().eq(other.clone())
    }
}

impl PartialEq for Map<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl PartialEq for Chunks<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.clone().flatten().eq(other.clone().flatten())
    }
}
