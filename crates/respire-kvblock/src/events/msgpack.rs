//! Values of MessagePack, one at a time, out of bytes that somebody else has written.
//!
//! Nothing here recurses, and nothing is reserved for a length that is only announced.

use rmp::{Marker, decode};

use super::error::{DecodeError, Problem};

/// One value, or the head of one that has others in it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Nil,
    /// Within `i64::MIN..=u64::MAX`.
    Integer(i128),
    Float(f64),
    /// What its writer calls text. It need not be UTF-8.
    Text(&'a [u8]),
    Binary(&'a [u8]),
    /// Followed by so many values.
    Array(u32),
    /// Followed by twice as many values: a key and what it stands for.
    Map(u32),
    /// A truth value or an extension, which no event has.
    Other,
}

/// A place in a message, and what follows there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    /// The length of the whole message.
    len: usize,
    /// The end of it.
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(message: &'a [u8]) -> Self {
        Self { len: message.len(), rest: message }
    }

    /// How many bytes stand before this place.
    pub(super) fn at(&self) -> usize {
        self.len - self.rest.len()
    }

    /// How many bytes follow: no fewer than values do.
    pub(super) fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// What stands between an earlier place of the same message and this one.
    pub(super) fn since(&self, earlier: Self) -> &'a [u8] {
        &earlier.rest[..earlier.rest.len() - self.rest.len()]
    }

    /// Reads a value. Of an array or a map that is its head only; what is in it follows.
    pub(super) fn value(&mut self) -> Result<Value<'a>, DecodeError> {
        let at = self.at();
        let cut = DecodeError::new(at, Problem::Truncated);
        let first = *self.rest.first().ok_or(cut)?;
        let rest = &mut self.rest;
        Ok(match Marker::from_u8(first) {
            Marker::FixPos(_)
            | Marker::FixNeg(_)
            | Marker::U8
            | Marker::U16
            | Marker::U32
            | Marker::U64
            | Marker::I8
            | Marker::I16
            | Marker::I32
            | Marker::I64 => Value::Integer(decode::read_int(rest).map_err(|_| cut)?),
            Marker::F32 => Value::Float(f64::from(decode::read_f32(rest).map_err(|_| cut)?)),
            Marker::F64 => Value::Float(decode::read_f64(rest).map_err(|_| cut)?),
            Marker::Null => {
                decode::read_nil(rest).map_err(|_| cut)?;
                Value::Nil
            }
            Marker::True | Marker::False => {
                decode::read_bool(rest).map_err(|_| cut)?;
                Value::Other
            }
            Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => {
                let len = decode::read_str_len(rest).map_err(|_| cut)?;
                Value::Text(self.bytes(len, at)?)
            }
            Marker::Bin8 | Marker::Bin16 | Marker::Bin32 => {
                let len = decode::read_bin_len(rest).map_err(|_| cut)?;
                Value::Binary(self.bytes(len, at)?)
            }
            Marker::FixArray(_) | Marker::Array16 | Marker::Array32 => {
                Value::Array(decode::read_array_len(rest).map_err(|_| cut)?)
            }
            Marker::FixMap(_) | Marker::Map16 | Marker::Map32 => {
                Value::Map(decode::read_map_len(rest).map_err(|_| cut)?)
            }
            Marker::FixExt1
            | Marker::FixExt2
            | Marker::FixExt4
            | Marker::FixExt8
            | Marker::FixExt16
            | Marker::Ext8
            | Marker::Ext16
            | Marker::Ext32 => {
                let meta = decode::read_ext_meta(rest).map_err(|_| cut)?;
                self.bytes(meta.size, at)?;
                Value::Other
            }
            Marker::Reserved => return Err(DecodeError::new(at, Problem::Reserved)),
        })
    }

    /// Passes over a value with all that is in it, however deep that is nested.
    pub(super) fn skip(&mut self) -> Result<(), DecodeError> {
        self.skip_many(1)
    }

    /// Passes over so many values with all that is in them.
    pub(super) fn skip_many(&mut self, values: u64) -> Result<(), DecodeError> {
        // Each value takes a byte at least, so that this ends; heads add at most 2^33 a byte.
        let mut open = u128::from(values);
        while open > 0 {
            open -= 1;
            match self.value()? {
                Value::Array(len) => open += u128::from(len),
                Value::Map(len) => open += 2 * u128::from(len),
                _ => {}
            }
        }
        Ok(())
    }

    /// The body of a value that began `at`.
    fn bytes(&mut self, len: u32, at: usize) -> Result<&'a [u8], DecodeError> {
        let cut = DecodeError::new(at, Problem::Truncated);
        let (body, rest) = self.rest.split_at_checked(len as usize).ok_or(cut)?;
        self.rest = rest;
        Ok(body)
    }
}
