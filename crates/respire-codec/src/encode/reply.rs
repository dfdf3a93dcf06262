use bytes::{BufMut, BytesMut};
use memchr::memchr2;

use super::{array_header, blob, bulk_string, header};
use crate::decode::Protocol;
use crate::error::EncodeError;
use crate::owned::OwnedValue;
use crate::value::{Kind, Value};
use crate::walk::{Event, Scalar};

/// Writes a reply or a push, as a server would on a connection of `protocol`.
///
/// With [`Protocol::Resp2`] the types of RESP3 take the form that servers give
/// them there: maps become arrays of keys and values in turn, sets and pushes
/// arrays, booleans the integers 0 and 1, doubles, big numbers and verbatim
/// strings bulk strings, bulk errors simple ones; attributes are left out.
///
/// # Errors
///
/// When the bytes would not be read as this one value: a line break in a simple
/// string, an error or a number, or a push in a wrong place. Nothing is written
/// then.
///
/// # Example
///
/// ```
/// use bytes::{Bytes, BytesMut};
/// use respire_codec::{EncodeError, OwnedValue, Protocol, encode};
///
/// let mut out = BytesMut::new();
/// let reply = OwnedValue::Map([("fields", 2)].into_iter().collect());
/// encode::reply(&mut out, &reply, Protocol::Resp3)?;
/// assert_eq!(&out[..], b"%1\r\n$6\r\nfields\r\n:2\r\n");
///
/// let split = OwnedValue::SimpleError(Bytes::from("ERR no\r\n+OK"));
/// assert_eq!(encode::reply(&mut out, &split, Protocol::Resp3), Err(EncodeError::LineBreak));
/// # Ok::<(), EncodeError>(())
/// ```
pub fn reply(
    dst: &mut BytesMut,
    value: &OwnedValue,
    protocol: Protocol,
) -> Result<(), EncodeError> {
    let start = dst.len();
    let outcome = match protocol {
        Protocol::Resp2 => reply_resp2(dst, value),
        Protocol::Resp3 => reply_resp3(dst, value),
    };
    if outcome.is_err() {
        dst.truncate(start);
    }
    outcome
}

/// Knows where in a value the walk is, and refuses pushes in a wrong place.
#[derive(Default)]
struct Place {
    depth: usize,
    after_attributes: bool,
}

impl Place {
    fn step<S>(&mut self, event: &Event<S>) -> Result<(), EncodeError> {
        let described = self.after_attributes;
        self.after_attributes = matches!(event, Event::EndAttributes);
        match event {
            Event::Begin(Kind::Push, _) if described => Err(EncodeError::AttributedPush),
            Event::Begin(Kind::Push, _) if self.depth > 0 => Err(EncodeError::NestedPush),
            Event::Begin(..) | Event::BeginAttributes(_) => {
                self.depth += 1;
                Ok(())
            }
            Event::End(_) | Event::EndAttributes => {
                self.depth -= 1;
                Ok(())
            }
            Event::Scalar(_) => Ok(()),
        }
    }
}

fn reply_resp3(dst: &mut BytesMut, value: &OwnedValue) -> Result<(), EncodeError> {
    let mut place = Place::default();
    for event in value.walk() {
        place.step(&event)?;
        match event {
            Event::Scalar(scalar) => scalar_resp3(dst, &scalar.view())?,
            Event::Begin(kind, entries) => header(dst, aggregate_tag(kind), entries),
            Event::BeginAttributes(pairs) => header(dst, b'|', pairs),
            Event::End(_) | Event::EndAttributes => {}
        }
    }
    Ok(())
}

fn aggregate_tag(kind: Kind) -> u8 {
    match kind {
        Kind::Map => b'%',
        Kind::Set => b'~',
        Kind::Push => b'>',
        _ => b'*',
    }
}

fn scalar_resp3(dst: &mut BytesMut, value: &Value<'_>) -> Result<(), EncodeError> {
    match value {
        Value::SimpleString(text) => line(dst, b'+', text)?,
        Value::SimpleError(text) => line(dst, b'-', text)?,
        Value::Integer(number) => integer(dst, *number),
        Value::BulkString(text) => blob(dst, b'$', text),
        Value::BulkError(text) => blob(dst, b'!', text),
        Value::VerbatimString(text) => blob(dst, b'=', text.payload()),
        Value::Boolean(truth) => dst.put_slice(if *truth { b"#t\r\n" } else { b"#f\r\n" }),
        Value::Double(number) => line(dst, b',', number.as_bytes())?,
        Value::BigNumber(number) => line(dst, b'(', number.as_bytes())?,
        _ => dst.put_slice(b"_\r\n"),
    }
    Ok(())
}

fn reply_resp2(dst: &mut BytesMut, value: &OwnedValue) -> Result<(), EncodeError> {
    let mut place = Place::default();
    // Attributes have no form in RESP2. Nothing is written inside of them.
    let mut attributes = 0usize;
    for event in value.walk() {
        place.step(&event)?;
        match event {
            Event::BeginAttributes(_) => attributes += 1,
            Event::EndAttributes => attributes -= 1,
            _ if attributes > 0 => {}
            Event::Scalar(scalar) => scalar_resp2(dst, &scalar.view())?,
            Event::Begin(Kind::Map, pairs) => array_header(dst, pairs * 2),
            Event::Begin(_, elements) => array_header(dst, elements),
            Event::End(_) => {}
        }
    }
    Ok(())
}

fn scalar_resp2(dst: &mut BytesMut, value: &Value<'_>) -> Result<(), EncodeError> {
    match value {
        Value::Null => dst.put_slice(b"$-1\r\n"),
        Value::Boolean(truth) => integer(dst, i64::from(*truth)),
        Value::Double(number) => bulk_string(dst, number.as_bytes()),
        Value::BigNumber(number) => bulk_string(dst, number.as_bytes()),
        Value::VerbatimString(text) => bulk_string(dst, text.text()),
        Value::BulkError(text) => line(dst, b'-', text)?,
        scalar => scalar_resp3(dst, scalar)?,
    }
    Ok(())
}

/// Text that ends at its line break, and must therefore contain none.
fn line(dst: &mut BytesMut, tag: u8, text: &[u8]) -> Result<(), EncodeError> {
    if memchr2(b'\r', b'\n', text).is_some() {
        return Err(EncodeError::LineBreak);
    }
    dst.reserve(text.len() + 3);
    dst.put_u8(tag);
    dst.put_slice(text);
    dst.put_slice(b"\r\n");
    Ok(())
}

fn integer(dst: &mut BytesMut, number: i64) {
    dst.put_u8(b':');
    dst.put_slice(itoa::Buffer::new().format(number).as_bytes());
    dst.put_slice(b"\r\n");
}
