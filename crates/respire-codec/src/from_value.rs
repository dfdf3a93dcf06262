use alloc::borrow::Cow;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::error::{Found, ValueError};
use crate::number::{parse_double, parse_integer};
use crate::owned::OwnedValue;
use crate::seq::Seq;
use crate::value::{Kind, Value, ValueRef};

/// Types that a value can be read as.
///
/// RESP2 and RESP3 send the same reply in different forms, so a type accepts
/// all the forms that mean the same:
///
/// | type | accepts |
/// |---|---|
/// | integers | an integer, or a string or big number in decimal, in range |
/// | `f64`, `f32` | a double, or a string, integer or big number in decimal |
/// | `bool` | a boolean, the integers 0 and 1, the simple string `OK` |
/// | `&str`, `String`, `&[u8]`, `Vec<u8>`, `Bytes`, `Cow` | a string; the text of a verbatim string; the text of a number |
/// | `Option<T>` | null as `None`, everything else as `T` |
/// | `Vec<T>` | an array, set or push; a map as keys and values in turn |
/// | `Vec<(A, B)>`, maps | a map, an array of pairs, or an array of keys and values in turn |
/// | sets | as `Vec<T>` |
/// | tuples | an array, set or push of that many elements |
/// | `()` | everything but an error |
///
/// An error reply is never read as anything else. A borrowed type takes a
/// streamed string only when it came in a single chunk.
///
/// # Example
///
/// ```
/// use bytes::BytesMut;
/// use respire_codec::{Decoder, FromValue, ValueError, ValueRef};
///
/// /// One pair of the reply to `CONFIG GET`.
/// struct Setting<'a> { name: &'a str, value: Option<u64> }
///
/// impl<'a> FromValue<'a> for Setting<'a> {
///     fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError> {
///         let (name, value) = value.parse()?;
///         Ok(Self { name, value })
///     }
/// }
///
/// let mut received = BytesMut::from("*2\r\n$9\r\nmaxmemory\r\n$1\r\n0\r\n");
/// let frame = Decoder::default().decode(&mut received)?.ok_or("a frame")?;
/// let setting: Setting<'_> = frame.parse()?;
/// assert_eq!((setting.name, setting.value), ("maxmemory", Some(0)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait FromValue<'a>: Sized {
    /// Reads `value`.
    ///
    /// # Errors
    ///
    /// When the value is of another type, out of range, or an error reply.
    fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError>;

    /// Reads `value` as a vector of this type. Types of which a list has a form
    /// of its own override it: bytes are sent as a string, pairs as a map.
    ///
    /// # Errors
    ///
    /// As [`from_value`](Self::from_value).
    fn vec_from_value(value: ValueRef<'a>) -> Result<Vec<Self>, ValueError> {
        collect(elements(value, "an array")?.map(Self::from_value))
    }
}

/// The error for a value that is of the wrong kind.
#[cold]
fn unexpected(value: ValueRef<'_>, expected: &'static str) -> ValueError {
    ValueError::new(expected, Found::Kind(value.kind()))
}

/// Collects into a vector of the right size. Every item is a value that has
/// arrived, so their number may be trusted.
fn collect<T>(items: impl Iterator<Item = Result<T, ValueError>>) -> Result<Vec<T>, ValueError> {
    let mut all = Vec::with_capacity(items.size_hint().0);
    for item in items {
        all.push(item?);
    }
    Ok(all)
}

/// The elements of an aggregate; of a map, keys and values in turn.
#[inline]
fn elements<'a>(value: ValueRef<'a>, expected: &'static str) -> Result<Seq<'a>, ValueError> {
    value.elements().ok_or_else(|| value.apart(|value| unexpected(value, expected)))
}

/// The text of a string or a number, if it is in one piece.
#[inline(always)]
fn text<'a>(value: ValueRef<'a>, expected: &'static str) -> Result<&'a [u8], ValueError> {
    match value.bulk() {
        Some(text) => Ok(text),
        None => value.apart(|value| other_text(value, expected)),
    }
}

/// As [`text`], for what is no bulk string in one piece or has attributes.
fn other_text<'a>(value: ValueRef<'a>, expected: &'static str) -> Result<&'a [u8], ValueError> {
    match value.get() {
        Value::SimpleString(text) | Value::BulkString(text) => Ok(text),
        Value::VerbatimString(text) => Ok(text.into_text()),
        Value::Integer(_) => Ok(value.integer_text()),
        Value::Double(number) => Ok(number.into_text()),
        Value::BigNumber(number) => Ok(number.into_text()),
        Value::StreamedString(mut chunks) => match (chunks.next(), chunks.next()) {
            (None, _) => Ok(&[]),
            (Some(only), None) => Ok(only),
            _ => Err(ValueError::new(expected, Found::InPieces)),
        },
        _ => Err(unexpected(value, expected)),
    }
}

/// As [`text`], and a streamed string copied together.
#[inline]
fn whole_text<'a>(value: ValueRef<'a>) -> Result<Cow<'a, [u8]>, ValueError> {
    match value.bulk() {
        Some(text) => Ok(Cow::Borrowed(text)),
        None => value.apart(other_whole_text),
    }
}

fn other_whole_text<'a>(value: ValueRef<'a>) -> Result<Cow<'a, [u8]>, ValueError> {
    match value.get() {
        Value::StreamedString(chunks) if chunks.len() > 1 => {
            Ok(Cow::Owned(Vec::from(value.join(chunks))))
        }
        _ => text(value, "a string").map(Cow::Borrowed),
    }
}

/// As [`whole_text`] as a handle, for what is no bulk string in one piece or has
/// attributes.
fn other_bytes(value: ValueRef<'_>) -> Result<Bytes, ValueError> {
    match other_whole_text(value)? {
        Cow::Borrowed(text) => Ok(value.share(text)),
        Cow::Owned(text) => Ok(Bytes::from(text)),
    }
}

fn not_utf8<E>(_: E) -> ValueError {
    ValueError::new("a string", Found::NotUtf8)
}

macro_rules! integers {
    ($($type:ty)*) => {$(
        impl<'a> FromValue<'a> for $type {
            #[inline]
            fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError> {
                match value.plain_integer() {
                    Some(number) => <$type>::try_from(number)
                        .map_err(|_| ValueError::new("an integer", Found::OutOfRange)),
                    None => value.apart(integer_from_text),
                }
            }
        }
    )*};
}

integers!(i8 i16 i32 i64 i128 isize u16 u32 u64 u128 usize);

impl<'a> FromValue<'a> for u8 {
    fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError> {
        integer_from_text(value)
    }

    fn vec_from_value(value: ValueRef<'a>) -> Result<Vec<Self>, ValueError> {
        match elements(value, "a string") {
            Ok(items) => collect(items.map(Self::from_value)),
            Err(_) => whole_text(value).map(Cow::into_owned),
        }
    }
}

fn integer_from_text<T: crate::number::Integer>(value: ValueRef<'_>) -> Result<T, ValueError> {
    const EXPECTED: &str = "an integer";
    if matches!(value.kind(), Kind::Double) {
        return Err(unexpected(value, EXPECTED));
    }
    let text = text(value, EXPECTED)?;
    let found = || match parse_double(text) {
        Some(_) if crate::number::is_big_number(text) => Found::OutOfRange,
        _ => Found::Malformed(value.kind()),
    };
    parse_integer(text).ok_or_else(|| ValueError::new(EXPECTED, found()))
}

impl<'a> FromValue<'a> for f64 {
    fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError> {
        const EXPECTED: &str = "a double";
        let text = text(value, EXPECTED)?;
        parse_double(text).ok_or(ValueError::new(EXPECTED, Found::Malformed(value.kind())))
    }
}

/// The double, rounded; one that is too large becomes an infinity.
impl<'a> FromValue<'a> for f32 {
    fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError> {
        f64::from_value(value).map(|number| number as f32)
    }
}

impl<'a> FromValue<'a> for bool {
    fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError> {
        match value.get() {
            Value::Boolean(truth) => Ok(truth),
            Value::Integer(0) => Ok(false),
            Value::Integer(1) | Value::SimpleString(b"OK") => Ok(true),
            _ => Err(unexpected(value, "a boolean")),
        }
    }
}

impl<'a> FromValue<'a> for () {
    fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError> {
        match value.error() {
            None => Ok(()),
            Some(_) => Err(unexpected(value, "anything but an error")),
        }
    }
}

impl<'a> FromValue<'a> for &'a [u8] {
    #[inline(always)]
    fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError> {
        text(value, "a string")
    }

    fn vec_from_value(value: ValueRef<'a>) -> Result<Vec<Self>, ValueError> {
        let items = elements(value, "an array")?;
        let mut all = Vec::with_capacity(items.len());
        for item in items {
            // Without a result in between, which would go through memory.
            match item.bulk() {
                Some(text) => all.push(text),
                None => all.push(item.apart(|item| other_text(item, "a string"))?),
            }
        }
        Ok(all)
    }
}

impl<'a> FromValue<'a> for &'a str {
    #[inline]
    fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError> {
        core::str::from_utf8(text(value, "a string")?).map_err(not_utf8)
    }
}

impl<'a> FromValue<'a> for Cow<'a, [u8]> {
    fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError> {
        whole_text(value)
    }
}

impl<'a> FromValue<'a> for Cow<'a, str> {
    fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError> {
        match whole_text(value)? {
            Cow::Borrowed(text) => core::str::from_utf8(text).map(Cow::Borrowed).map_err(not_utf8),
            Cow::Owned(text) => String::from_utf8(text).map(Cow::Owned).map_err(not_utf8),
        }
    }
}

fn other_string(value: ValueRef<'_>) -> Result<String, ValueError> {
    Cow::<str>::from_value(value).map(Cow::into_owned)
}

impl<'a> FromValue<'a> for String {
    #[inline]
    fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError> {
        match value.bulk() {
            Some(text) => core::str::from_utf8(text).map(String::from).map_err(not_utf8),
            None => value.apart(other_string),
        }
    }
}

impl<'a> FromValue<'a> for Bytes {
    #[inline(always)]
    fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError> {
        match value.plain_bulk() {
            Some(range) => Ok(value.slice(range)),
            None => value.apart(other_bytes),
        }
    }

    fn vec_from_value(value: ValueRef<'a>) -> Result<Vec<Self>, ValueError> {
        let items = elements(value, "an array")?;
        let mut all = Vec::with_capacity(items.len());
        for item in items {
            // There is always room; see how owned values are built.
            match item.plain_bulk().map(|range| item.slice(range)) {
                Some(text) if all.len() < all.capacity() => all.push(text),
                _ => all.push(item.apart(other_bytes)?),
            }
        }
        Ok(all)
    }
}

impl<'a> FromValue<'a> for ValueRef<'a> {
    fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError> {
        Ok(value)
    }
}

impl<'a> FromValue<'a> for OwnedValue {
    fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError> {
        Ok(value.to_value())
    }
}

impl<'a, T: FromValue<'a>> FromValue<'a> for Option<T> {
    fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError> {
        if value.is_null() { Ok(None) } else { T::from_value(value).map(Some) }
    }
}

impl<'a, T: FromValue<'a>> FromValue<'a> for Vec<T> {
    fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError> {
        T::vec_from_value(value)
    }
}

impl<'a, T: FromValue<'a> + Ord> FromValue<'a> for BTreeSet<T> {
    fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError> {
        elements(value, "a set")?.map(T::from_value).collect()
    }
}

impl<'a, K: FromValue<'a> + Ord, V: FromValue<'a>> FromValue<'a> for BTreeMap<K, V> {
    fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError> {
        pairs(value)?.map(parse_pair).collect()
    }
}

#[cfg(feature = "std")]
impl<'a, T, S> FromValue<'a> for std::collections::HashSet<T, S>
where
    T: FromValue<'a> + Eq + core::hash::Hash,
    S: core::hash::BuildHasher + Default,
{
    fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError> {
        let items = elements(value, "a set")?;
        let mut set = Self::with_capacity_and_hasher(items.len(), S::default());
        for item in items {
            set.insert(T::from_value(item)?);
        }
        Ok(set)
    }
}

#[cfg(feature = "std")]
impl<'a, K, V, S> FromValue<'a> for std::collections::HashMap<K, V, S>
where
    K: FromValue<'a> + Eq + core::hash::Hash,
    V: FromValue<'a>,
    S: core::hash::BuildHasher + Default,
{
    fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError> {
        let pairs = pairs(value)?;
        let mut map = Self::with_capacity_and_hasher(pairs.size_hint().0, S::default());
        pairs.each(|key, value| {
            map.insert(K::from_value(key)?, V::from_value(value)?);
            Ok(())
        })?;
        Ok(map)
    }
}

/// A map in any of the forms that servers send one in.
enum PairIter<'a> {
    /// Keys and values in turn.
    Flat(Seq<'a>),
    /// An array of arrays of two.
    Nested(Seq<'a>),
}

#[cfg(feature = "std")]
impl<'a> PairIter<'a> {
    /// Calls `f` with every pair. Asks for the form once, and not for each pair.
    #[inline(always)]
    fn each(
        self,
        mut f: impl FnMut(ValueRef<'a>, ValueRef<'a>) -> Result<(), ValueError>,
    ) -> Result<(), ValueError> {
        let Self::Flat(mut items) = self else {
            return nested(self, &mut f);
        };
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            f(key, value)?;
        }
        Ok(())
    }
}

impl<'a> Iterator for PairIter<'a> {
    type Item = (ValueRef<'a>, ValueRef<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Flat(items) => Some((items.next()?, items.next()?)),
            Self::Nested(items) => pair_of(items.next()?),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match self {
            Self::Flat(items) => (items.len() / 2, Some(items.len() / 2)),
            Self::Nested(items) => items.size_hint(),
        }
    }
}

/// As [`PairIter::each`], for what is seldom flat. Apart from it, so that the
/// usual form has the only copy of what `f` does in its loop.
#[cfg(feature = "std")]
#[inline(never)]
fn nested<'a>(
    pairs: PairIter<'a>,
    f: &mut dyn FnMut(ValueRef<'a>, ValueRef<'a>) -> Result<(), ValueError>,
) -> Result<(), ValueError> {
    pairs.into_iter().try_for_each(|(key, value)| f(key, value))
}

fn pair_of(value: ValueRef<'_>) -> Option<(ValueRef<'_>, ValueRef<'_>)> {
    match value.get() {
        Value::Array(mut items) if items.len() == 2 => Some((items.next()?, items.next()?)),
        _ => None,
    }
}

/// The pairs of a map, of an array in which every element is an array of two,
/// or of another array with as many keys as values.
fn pairs<'a>(value: ValueRef<'a>) -> Result<PairIter<'a>, ValueError> {
    const EXPECTED: &str = "a map";
    let items = elements(value, EXPECTED)?;
    match value.bare().tag() {
        b'%' => return Ok(PairIter::Flat(items)),
        // The elements of a set are in no order, so that none of them belongs to the one before.
        b'>' | b'~' => return Err(unexpected(value, EXPECTED)),
        _ => {}
    }
    if items.len() > 0 && items.clone().all(|item| pair_of(item).is_some()) {
        return Ok(PairIter::Nested(items));
    }
    if items.len().is_multiple_of(2) {
        return Ok(PairIter::Flat(items));
    }
    Err(ValueError::new(EXPECTED, Found::Length(items.len())))
}

fn parse_pair<'a, K: FromValue<'a>, V: FromValue<'a>>(
    (key, value): (ValueRef<'a>, ValueRef<'a>),
) -> Result<(K, V), ValueError> {
    Ok((K::from_value(key)?, V::from_value(value)?))
}

impl<'a, A: FromValue<'a>, B: FromValue<'a>> FromValue<'a> for (A, B) {
    fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError> {
        const EXPECTED: &str = "an array of 2";
        let mut items = exactly(value, 2, EXPECTED)?;
        Ok((parse_next(&mut items, EXPECTED)?, parse_next(&mut items, EXPECTED)?))
    }

    fn vec_from_value(value: ValueRef<'a>) -> Result<Vec<Self>, ValueError> {
        collect(pairs(value)?.map(parse_pair))
    }
}

/// The elements of an aggregate that has exactly `count` of them.
fn exactly<'a>(
    value: ValueRef<'a>,
    count: usize,
    expected: &'static str,
) -> Result<Seq<'a>, ValueError> {
    let items = elements(value, expected)?;
    if items.len() != count {
        return Err(ValueError::new(expected, Found::Length(items.len())));
    }
    Ok(items)
}

/// Reads the next of elements that were counted before.
#[inline]
fn parse_next<'a, T: FromValue<'a>>(
    items: &mut Seq<'a>,
    expected: &'static str,
) -> Result<T, ValueError> {
    match items.next() {
        Some(item) => T::from_value(item),
        None => Err(ValueError::new(expected, Found::Length(0))),
    }
}

macro_rules! tuples {
    ($($count:literal $expected:literal: $($name:ident)+;)*) => {$(
        impl<'a, $($name: FromValue<'a>),+> FromValue<'a> for ($($name,)+) {
            fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError> {
                let mut items = exactly(value, $count, $expected)?;
                Ok(($(parse_next::<$name>(&mut items, $expected)?,)+))
            }
        }
    )*};
}

tuples! {
    1 "an array of 1": A;
    3 "an array of 3": A B C;
    4 "an array of 4": A B C D;
    5 "an array of 5": A B C D E;
    6 "an array of 6": A B C D E F;
    7 "an array of 7": A B C D E F G;
    8 "an array of 8": A B C D E F G H;
}
