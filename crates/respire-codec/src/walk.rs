//! Going through a value and everything in it without recursion.
//!
//! Values of a frame and owned values are walked as the same sequence of
//! events. Comparing, printing, copying and encoding are each one loop over it.

use alloc::vec::Vec;
use core::fmt;

use crate::value::{Kind, Value, ValueRef};

/// One step on the way through a value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event<S> {
    /// A value that has nothing in it; a streamed string is one as well.
    Scalar(S),
    /// An aggregate of this many elements, or of this many pairs.
    Begin(Kind, usize),
    End(Kind),
    /// This many pairs describe the value that follows the end of them.
    BeginAttributes(usize),
    EndAttributes,
}

/// A scalar on either side.
pub(crate) trait Scalar {
    fn view(&self) -> Value<'_>;
}

/// What an open level is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Aggregate(Kind),
    Attributes,
}

/// The events of a value in a frame.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    rest: ValueRef<'a>,
    /// The open levels with the children that each still has.
    levels: Vec<(Level, u32)>,
    started: bool,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(value: ValueRef<'a>) -> Self {
        Self { rest: value, levels: Vec::new(), started: false }
    }

    /// Passes over what is left of the innermost open aggregate or attributes.
    /// The next event is their end.
    pub(crate) fn skip_level(&mut self) {
        if let Some((level, remaining)) = self.levels.last_mut() {
            let mut left = core::mem::take(remaining);
            loop {
                for _ in 0..left {
                    self.rest = self.rest.after();
                }
                if *level != Level::Attributes || self.rest.tag() != b'|' {
                    break;
                }
                left = self.rest.count();
                self.rest = self.rest.skip(2);
            }
        }
    }

    fn begin_attributes(&mut self) -> Option<Event<ValueRef<'a>>> {
        // Attributes without content are as good as none.
        let value = self.rest;
        self.next_attribute().then(|| Event::BeginAttributes(value.attributes().count()))
    }

    /// Opens the next attribute in a row of them, if there is one with content.
    fn next_attribute(&mut self) -> bool {
        while self.rest.tag() == b'|' {
            let children = self.rest.count();
            self.rest = self.rest.skip(2);
            if children > 0 {
                self.levels.push((Level::Attributes, children));
                return true;
            }
        }
        false
    }

    /// Closes the innermost level, which has no children left.
    fn end(&mut self, level: Level) -> Option<Event<ValueRef<'a>>> {
        match level {
            Level::Aggregate(kind) => Some(Event::End(kind)),
            // Several attributes in a row are one set of them.
            Level::Attributes if self.next_attribute() => self.next(),
            Level::Attributes => Some(Event::EndAttributes),
        }
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = Event<ValueRef<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.levels.last_mut() {
            Some((level, 0)) => {
                let level = *level;
                self.levels.pop();
                return self.end(level);
            }
            None if self.started => return None,
            _ => {}
        }
        if let Some(event) = self.begin_attributes() {
            return Some(event);
        }
        match self.levels.last_mut() {
            Some((_, remaining)) => *remaining -= 1,
            None => self.started = true,
        }
        let value = self.rest;
        let kind = value.kind();
        if value.width() == 1 || kind == Kind::BulkString {
            self.rest = value.after();
            return Some(Event::Scalar(value));
        }
        let children = value.count();
        self.levels.push((Level::Aggregate(kind), children));
        self.rest = value.skip(2);
        let entries = if kind == Kind::Map { children / 2 } else { children };
        Some(Event::Begin(kind, entries as usize))
    }
}

impl Scalar for ValueRef<'_> {
    fn view(&self) -> Value<'_> {
        self.get()
    }
}

/// Whether two walks tell of equal values.
pub(crate) fn equal<A: Scalar, B: Scalar>(
    mut left: impl Iterator<Item = Event<A>>,
    mut right: impl Iterator<Item = Event<B>>,
) -> bool {
    loop {
        let same = match (left.next(), right.next()) {
            (None, None) => return true,
            (Some(Event::Scalar(a)), Some(Event::Scalar(b))) => a.view() == b.view(),
            (Some(Event::Begin(a, m)), Some(Event::Begin(b, n))) => (a, m) == (b, n),
            (Some(Event::BeginAttributes(m)), Some(Event::BeginAttributes(n))) => m == n,
            (Some(Event::End(_)), Some(Event::End(_)))
            | (Some(Event::EndAttributes), Some(Event::EndAttributes)) => true,
            _ => false,
        };
        if !same {
            return false;
        }
    }
}

/// Prints a value in one line.
pub(crate) fn debug<S: Scalar>(
    events: impl Iterator<Item = Event<S>>,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    // For each open level, whether it has keys, and how many items it has had.
    let mut levels: Vec<(bool, usize)> = Vec::new();
    let mut after_attributes = false;
    for event in events {
        let starts = !matches!(event, Event::End(_) | Event::EndAttributes);
        if let Some((keyed, items)) = levels.last_mut().filter(|_| starts && !after_attributes) {
            f.write_str(match (*keyed, *items) {
                (_, 0) => "",
                (true, odd) if odd % 2 == 1 => ": ",
                _ => ", ",
            })?;
            *items += 1;
        }
        after_attributes = matches!(event, Event::EndAttributes);
        match event {
            Event::Scalar(scalar) => debug_scalar(&scalar.view(), f)?,
            Event::Begin(kind, _) => {
                levels.push((kind == Kind::Map, 0));
                f.write_str(match kind {
                    Kind::Map => "{",
                    Kind::Set => "~[",
                    Kind::Push => ">[",
                    _ => "[",
                })?;
            }
            Event::BeginAttributes(_) => {
                levels.push((true, 0));
                f.write_str("|{")?;
            }
            Event::End(kind) => {
                levels.pop();
                f.write_str(if kind == Kind::Map { "}" } else { "]" })?;
            }
            Event::EndAttributes => {
                levels.pop();
                f.write_str("} ")?;
            }
        }
    }
    Ok(())
}

/// Prints a scalar so that its kind can be told.
pub(crate) fn debug_scalar(value: &Value<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match value {
        Value::SimpleString(text) => write!(f, "+\"{}\"", text.escape_ascii()),
        Value::SimpleError(text) => write!(f, "-\"{}\"", text.escape_ascii()),
        Value::BulkError(text) => write!(f, "!\"{}\"", text.escape_ascii()),
        Value::BulkString(text) => write!(f, "\"{}\"", text.escape_ascii()),
        Value::StreamedString(chunks) => {
            f.write_str("\"")?;
            for chunk in chunks.clone() {
                write!(f, "{}", chunk.escape_ascii())?;
            }
            f.write_str("\"")
        }
        Value::Integer(number) => write!(f, "{number}"),
        Value::Boolean(truth) => write!(f, "{truth}"),
        Value::Double(number) => write!(f, "{number:?}"),
        Value::BigNumber(number) => write!(f, "{number:?}"),
        Value::VerbatimString(text) => write!(f, "{text:?}"),
        _ => f.write_str("null"),
    }
}

/// Whether a visitor wants to see what is in an aggregate.
///
/// # Example
///
/// ```
/// use respire_codec::{Kind, ValueRef, Visit, Visitor};
///
/// /// Counts the values of a reply, and of arrays in it only that they are there.
/// #[derive(Default)]
/// struct Top { depth: usize, values: usize }
///
/// impl Visitor<'_> for Top {
///     type Error = std::convert::Infallible;
///
///     fn scalar(&mut self, _: ValueRef<'_>) -> Result<(), Self::Error> {
///         self.values += 1;
///         Ok(())
///     }
///
///     fn begin(&mut self, _: Kind, _: usize) -> Result<Visit, Self::Error> {
///         self.depth += 1;
///         self.values += usize::from(self.depth > 1);
///         Ok(if self.depth > 1 { Visit::Skip } else { Visit::Enter })
///     }
///
///     fn end(&mut self, _: Kind) -> Result<(), Self::Error> {
///         self.depth -= 1;
///         Ok(())
///     }
/// }
///
/// # use bytes::BytesMut;
/// # use respire_codec::Decoder;
/// # let mut received = BytesMut::from("*3\r\n:1\r\n*2\r\n:2\r\n:3\r\n:4\r\n");
/// # let frame = Decoder::default().decode(&mut received)?.ok_or("a frame")?;
/// let mut top = Top::default();
/// frame.value().visit(&mut top)?;
/// assert_eq!(top.values, 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visit {
    /// Show it.
    Enter,
    /// Pass over it. Passing over an element takes the same time whatever is
    /// in it.
    Skip,
}

/// Is shown a value and everything in it, in wire order.
///
/// Every method does nothing by default, and enters everything but attributes.
///
/// # Example
///
/// ```
/// use bytes::BytesMut;
/// use core::convert::Infallible;
/// use respire_codec::{Decoder, Value, ValueRef, Visitor};
///
/// /// Adds up all the integers of a reply.
/// #[derive(Default)]
/// struct Sum(i64);
///
/// impl Visitor<'_> for Sum {
///     type Error = Infallible;
///
///     fn scalar(&mut self, value: ValueRef<'_>) -> Result<(), Infallible> {
///         if let Value::Integer(number) = value.get() {
///             self.0 += number;
///         }
///         Ok(())
///     }
/// }
///
/// let mut received = BytesMut::from("*2\r\n:1\r\n*2\r\n:20\r\n:300\r\n");
/// let frame = Decoder::default().decode(&mut received)?.ok_or("a frame")?;
/// let mut sum = Sum::default();
/// frame.value().visit(&mut sum)?;
/// assert_eq!(sum.0, 321);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Visitor<'a> {
    /// Why a visit is broken off.
    type Error;

    /// A value that is no aggregate.
    ///
    /// # Errors
    ///
    /// To end the visit.
    fn scalar(&mut self, value: ValueRef<'a>) -> Result<(), Self::Error> {
        let _ = value;
        Ok(())
    }

    /// An aggregate of `entries` elements, or pairs in a map.
    ///
    /// # Errors
    ///
    /// To end the visit.
    fn begin(&mut self, kind: Kind, entries: usize) -> Result<Visit, Self::Error> {
        let _ = (kind, entries);
        Ok(Visit::Enter)
    }

    /// The end of an aggregate, whether it was entered or not.
    ///
    /// # Errors
    ///
    /// To end the visit.
    fn end(&mut self, kind: Kind) -> Result<(), Self::Error> {
        let _ = kind;
        Ok(())
    }

    /// The attributes of the value that comes next, as keys and values in turn.
    ///
    /// # Errors
    ///
    /// To end the visit.
    fn begin_attributes(&mut self) -> Result<Visit, Self::Error> {
        Ok(Visit::Skip)
    }

    /// The end of the attributes, whether they were entered or not.
    ///
    /// # Errors
    ///
    /// To end the visit.
    fn end_attributes(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}

pub(crate) fn visit<'a, V: Visitor<'a>>(
    mut walk: Walk<'a>,
    visitor: &mut V,
) -> Result<(), V::Error> {
    while let Some(event) = walk.next() {
        let wish = match event {
            Event::Scalar(value) => visitor.scalar(value).map(|()| Visit::Enter),
            Event::Begin(kind, entries) => visitor.begin(kind, entries),
            Event::End(kind) => visitor.end(kind).map(|()| Visit::Enter),
            Event::BeginAttributes(_) => visitor.begin_attributes(),
            Event::EndAttributes => visitor.end_attributes().map(|()| Visit::Enter),
        };
        if wish? == Visit::Skip {
            walk.skip_level();
        }
    }
    Ok(())
}
