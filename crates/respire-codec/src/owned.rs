use alloc::vec::{self, Vec};
use core::fmt;
use core::ops::Deref;

use bytes::Bytes;

use crate::build::{Branch, Builder};
use crate::scalar::{BigNumber, Double, Verbatim};
use crate::value::{Kind, Value};
use crate::walk::{self, Event, Scalar};

/// A value as a tree of its own.
///
/// Most code does without one: [`ValueRef`](crate::ValueRef) reads a reply where
/// it lies. This is for what has to be built, kept, changed, or sent by a test
/// server. Nothing about it recurses, however deep it is.
///
/// # Example
///
/// ```
/// use bytes::BytesMut;
/// use respire_codec::{Decoder, OwnedValue};
///
/// let mut received = BytesMut::from("%1\r\n$5\r\nscore\r\n:7\r\n");
/// let frame = Decoder::default().decode(&mut received)?.ok_or("a frame")?;
/// let expected = OwnedValue::Map([("score", 7)].into_iter().collect());
/// assert_eq!(frame.to_value(), expected);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub enum OwnedValue {
    /// A short status, such as `OK`.
    SimpleString(Bytes),
    /// An error in one line.
    SimpleError(Bytes),
    /// A signed 64-bit integer.
    Integer(i64),
    /// Any bytes.
    BulkString(Bytes),
    /// No value.
    Null,
    /// True or false.
    Boolean(bool),
    /// A double as its text.
    Double(Double),
    /// An integer of any size, as its text.
    BigNumber(BigNumber),
    /// An error of any length and content.
    BulkError(Bytes),
    /// Text with a format.
    VerbatimString(Verbatim),
    /// Values in order.
    Array(Values),
    /// Values of which each should occur once; nobody checks.
    Set(Values),
    /// Keys and values in order.
    Map(Pairs),
    /// Something that comes unasked.
    Push(Values),
    /// A value with attributes in front of it.
    Attributed(Attributed),
}

impl OwnedValue {
    /// The value without its attributes.
    pub fn value(&self) -> &OwnedValue {
        match self {
            Self::Attributed(attributed) => attributed.value(),
            value => value,
        }
    }

    pub(crate) fn aggregate(kind: Kind, children: Values) -> Self {
        match kind {
            Kind::Set => Self::Set(children),
            Kind::Map => Self::Map(Pairs(children)),
            Kind::Push => Self::Push(children),
            _ => Self::Array(children),
        }
    }

    pub(crate) fn walk(&self) -> OwnedWalk<'_> {
        OwnedWalk { root: Some(self), levels: Vec::new() }
    }

    /// The children, if this is an aggregate or has attributes.
    fn children_mut(&mut self) -> Option<&mut Vec<OwnedValue>> {
        match self {
            Self::Array(values) | Self::Set(values) | Self::Push(values) => Some(&mut values.0),
            Self::Map(pairs) => Some(&mut pairs.0.0),
            Self::Attributed(attributed) => Some(&mut attributed.0.0),
            _ => None,
        }
    }

    /// A copy of a value that is no aggregate; null in place of one that is.
    fn clone_scalar(&self) -> OwnedValue {
        match self {
            Self::SimpleString(text) => Self::SimpleString(text.clone()),
            Self::SimpleError(text) => Self::SimpleError(text.clone()),
            Self::Integer(number) => Self::Integer(*number),
            Self::BulkString(text) => Self::BulkString(text.clone()),
            Self::Boolean(truth) => Self::Boolean(*truth),
            Self::Double(number) => Self::Double(number.clone()),
            Self::BigNumber(number) => Self::BigNumber(number.clone()),
            Self::BulkError(text) => Self::BulkError(text.clone()),
            Self::VerbatimString(text) => Self::VerbatimString(text.clone()),
            _ => Self::Null,
        }
    }
}

impl Clone for OwnedValue {
    fn clone(&self) -> Self {
        let mut builder = Builder::default();
        for event in self.walk() {
            match event {
                Event::Scalar(scalar) => builder.value(scalar.clone_scalar()),
                Event::Begin(Kind::Map, pairs) => builder.begin(Branch::Kind(Kind::Map), pairs * 2),
                Event::Begin(kind, elements) => builder.begin(Branch::Kind(kind), elements),
                Event::BeginAttributes(pairs) => builder.begin(Branch::Attributes, pairs * 2),
                Event::End(_) | Event::EndAttributes => {}
            }
        }
        builder.done.unwrap_or(OwnedValue::Null)
    }
}

impl PartialEq for OwnedValue {
    /// As for [`ValueRef`](crate::ValueRef).
    fn eq(&self, other: &Self) -> bool {
        walk::equal(self.walk(), other.walk())
    }
}

impl Eq for OwnedValue {}

impl fmt::Debug for OwnedValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        walk::debug(self.walk(), f)
    }
}

impl Scalar for &OwnedValue {
    fn view(&self) -> Value<'_> {
        match self {
            OwnedValue::SimpleString(text) => Value::SimpleString(text),
            OwnedValue::SimpleError(text) => Value::SimpleError(text),
            OwnedValue::Integer(number) => Value::Integer(*number),
            OwnedValue::BulkString(text) => Value::BulkString(text),
            OwnedValue::Boolean(truth) => Value::Boolean(*truth),
            OwnedValue::Double(number) => Value::Double(Double::new(number.as_bytes())),
            OwnedValue::BigNumber(number) => Value::BigNumber(BigNumber::new(number.as_bytes())),
            OwnedValue::BulkError(text) => Value::BulkError(text),
            OwnedValue::VerbatimString(text) => {
                Value::VerbatimString(Verbatim::from_payload(text.payload()))
            }
            _ => Value::Null,
        }
    }
}

/// A list of values that can be dropped, however deep they nest.
///
/// # Example
///
/// ```
/// use respire_codec::{OwnedValue, Values};
///
/// let values: Values = [1, 2].into_iter().collect();
/// assert_eq!(values[1], OwnedValue::Integer(2));
/// assert_eq!(format!("{:?}", OwnedValue::Set(values)), "~[1, 2]");
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Values(Vec<OwnedValue>);

impl Values {
    /// The values as an ordinary vector.
    ///
    /// # Example
    ///
    /// ```
    /// use respire_codec::{OwnedValue, Values};
    ///
    /// let mut values = Values::from_iter([1, 2]).into_vec();
    /// values.push(OwnedValue::Null);
    /// assert_eq!(Values::from(values).len(), 3);
    /// ```
    pub fn into_vec(mut self) -> Vec<OwnedValue> {
        core::mem::take(&mut self.0)
    }
}

impl Drop for Values {
    fn drop(&mut self) {
        // Children are moved to one list before their parent goes, so that no
        // destructor ever finds anything to descend into. A flat list has
        // nothing to move and is dropped as it is.
        let mut doomed: Vec<OwnedValue> = Vec::new();
        take_grandchildren(&mut self.0, &mut doomed);
        while let Some(mut value) = doomed.pop() {
            if let Some(children) = value.children_mut() {
                doomed.append(children);
            }
        }
    }
}

/// Moves the children of each of `values` to `doomed`.
fn take_grandchildren(values: &mut [OwnedValue], doomed: &mut Vec<OwnedValue>) {
    for value in values {
        if let Some(children) = value.children_mut() {
            doomed.append(children);
        }
    }
}

impl Deref for Values {
    type Target = [OwnedValue];

    fn deref(&self) -> &[OwnedValue] {
        &self.0
    }
}

impl From<Vec<OwnedValue>> for Values {
    fn from(values: Vec<OwnedValue>) -> Self {
        Self(values)
    }
}

impl<T: Into<OwnedValue>> FromIterator<T> for Values {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        Self(values.into_iter().map(Into::into).collect())
    }
}

impl IntoIterator for Values {
    type Item = OwnedValue;
    type IntoIter = vec::IntoIter<OwnedValue>;

    fn into_iter(self) -> Self::IntoIter {
        self.into_vec().into_iter()
    }
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The keys and values of a map, in order and with duplicates.
///
/// # Example
///
/// ```
/// use respire_codec::Pairs;
///
/// let pairs: Pairs = [("a", 1), ("b", 2)].into_iter().collect();
/// let keys: Vec<String> = pairs.iter().map(|(key, _)| format!("{key:?}")).collect();
/// assert_eq!(keys, [r#""a""#, r#""b""#]);
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Pairs(Values);

impl Pairs {
    /// From keys and values in turn. A last key without a value is dropped.
    pub(crate) fn flat(mut values: Values) -> Self {
        let even = values.len() / 2 * 2;
        values.0.truncate(even);
        Self(values)
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.0.len() / 2
    }

    /// Whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The pairs, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&OwnedValue, &OwnedValue)> {
        let (pairs, _) = self.0.as_chunks::<2>();
        pairs.iter().map(|[key, value]| (key, value))
    }

    /// Keys and values in turn.
    pub fn into_values(self) -> Values {
        self.0
    }
}

impl<K: Into<OwnedValue>, V: Into<OwnedValue>> FromIterator<(K, V)> for Pairs {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut values = Vec::new();
        for (key, value) in pairs {
            values.push(key.into());
            values.push(value.into());
        }
        Self(Values(values))
    }
}

impl fmt::Debug for Pairs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// A value with attributes in front of it.
///
/// # Example
///
/// ```
/// use respire_codec::{Attributed, OwnedValue};
///
/// let value = Attributed::new([("ttl", 60)].into_iter().collect(), "x".into());
/// assert_eq!(value.value(), &OwnedValue::from("x"));
/// assert_eq!(value.attributes().len(), 1);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Attributed(
    /// Keys and values in turn, and the value at the end.
    Values,
);

impl Attributed {
    /// Puts `attributes` in front of `value`, and in front of those that it
    /// already has.
    pub fn new(attributes: Pairs, value: OwnedValue) -> Self {
        let mut values = attributes.into_values().into_vec();
        match value {
            OwnedValue::Attributed(inner) => values.append(&mut inner.0.into_vec()),
            value => values.push(value),
        }
        Self(Values(values))
    }

    /// The value, which has no further attributes.
    pub fn value(&self) -> &OwnedValue {
        self.0.last().unwrap_or(&OwnedValue::Null)
    }

    /// The attributes, in order.
    pub fn attributes(&self) -> impl ExactSizeIterator<Item = (&OwnedValue, &OwnedValue)> {
        let (pairs, _) = self.0.as_chunks::<2>();
        pairs.iter().map(|[key, value]| (key, value))
    }
}

impl fmt::Debug for Attributed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attributed").field("values", &self.0).finish()
    }
}

macro_rules! from {
    ($($type:ty => $into:expr;)*) => {$(
        impl From<$type> for OwnedValue {
            fn from(value: $type) -> Self {
                $into(value)
            }
        }
    )*};
}

from! {
    i64 => OwnedValue::Integer;
    bool => OwnedValue::Boolean;
    f64 => |number: f64| OwnedValue::Double(Double::from(number));
    Bytes => OwnedValue::BulkString;
    Vec<u8> => |text: Vec<u8>| OwnedValue::BulkString(Bytes::from(text));
    &str => |text: &str| OwnedValue::BulkString(Bytes::copy_from_slice(text.as_bytes()));
    &[u8] => |text: &[u8]| OwnedValue::BulkString(Bytes::copy_from_slice(text));
    Vec<OwnedValue> => |values: Vec<OwnedValue>| OwnedValue::Array(Values(values));
}

/// The events of an owned value.
#[derive(Debug)]
pub(crate) struct OwnedWalk<'a> {
    root: Option<&'a OwnedValue>,
    levels: Vec<Open<'a>>,
}

#[derive(Debug)]
enum Open<'a> {
    Aggregate(Kind, core::slice::Iter<'a, OwnedValue>),
    Attributes(core::slice::Iter<'a, OwnedValue>),
    /// Attributes that are closed; what they describe comes next.
    Attributed(&'a OwnedValue),
}

impl<'a> OwnedWalk<'a> {
    /// Closes the innermost level.
    fn end(&mut self) -> Option<Event<&'a OwnedValue>> {
        match self.levels.pop()? {
            Open::Aggregate(kind, _) => Some(Event::End(kind)),
            Open::Attributes(_) => Some(Event::EndAttributes),
            Open::Attributed(value) => self.enter(value),
        }
    }

    fn enter(&mut self, value: &'a OwnedValue) -> Option<Event<&'a OwnedValue>> {
        let (kind, children, entries) = match value {
            OwnedValue::Array(values) => (Kind::Array, values, values.len()),
            OwnedValue::Set(values) => (Kind::Set, values, values.len()),
            OwnedValue::Push(values) => (Kind::Push, values, values.len()),
            OwnedValue::Map(pairs) => (Kind::Map, &pairs.0, pairs.len()),
            OwnedValue::Attributed(attributed) => return self.enter_attributed(attributed),
            scalar => return Some(Event::Scalar(scalar)),
        };
        self.levels.push(Open::Aggregate(kind, children.iter()));
        Some(Event::Begin(kind, entries))
    }

    fn enter_attributed(&mut self, attributed: &'a Attributed) -> Option<Event<&'a OwnedValue>> {
        let value = attributed.value();
        let attributes =
            attributed.0.get(..attributed.0.len().saturating_sub(1)).unwrap_or_default();
        if attributes.is_empty() {
            return self.enter(value);
        }
        self.levels.push(Open::Attributed(value));
        self.levels.push(Open::Attributes(attributes.iter()));
        Some(Event::BeginAttributes(attributes.len() / 2))
    }
}

impl<'a> Iterator for OwnedWalk<'a> {
    type Item = Event<&'a OwnedValue>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = match self.levels.last_mut() {
            Some(Open::Aggregate(_, children) | Open::Attributes(children)) => children.next(),
            Some(Open::Attributed(_)) => None,
            None => return self.root.take().and_then(|root| self.enter(root)),
        };
        match next {
            Some(value) => self.enter(value),
            None => self.end(),
        }
    }
}
