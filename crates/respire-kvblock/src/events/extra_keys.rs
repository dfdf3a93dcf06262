//! What blocks have besides tokens, kept as it was written.

use std::fmt;

use super::{
    error::{DecodeError, Problem},
    msgpack::{Reader, Value},
};

/// What each block of an event has besides tokens.
///
/// It is kept as the engine wrote it and read as it is gone through: as values of Rust, the empty arrays of a message would take 24
/// times its bytes. Two are equal that say the same, however they are written.
#[derive(Clone, Default)]
pub struct ExtraKeys {
    /// The lists of the blocks, one after the other. Read once before, so that they are whole.
    lists: Box<[u8]>,
    blocks: u32,
}

impl ExtraKeys {
    /// Reads a list of lists, each of which may be nothing.
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let blocks = list_len(reader)?;
        let first = *reader;
        for _ in 0..blocks {
            let keys = list_len(reader)?;
            reader.skip_many(keys.into())?;
        }
        Ok(Self { lists: reader.since(first).into(), blocks })
    }

    /// Of how many blocks it says something.
    pub fn len(&self) -> usize {
        self.blocks as usize
    }

    /// Whether it says nothing of any block.
    pub fn is_empty(&self) -> bool {
        self.blocks == 0
    }

    /// What each block has, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = BlockKeys<'_>> {
        let mut reader = Reader::new(&self.lists);
        (0..self.blocks as usize).map(move |_| BlockKeys::take_from(&mut reader))
    }
}

impl PartialEq for ExtraKeys {
    fn eq(&self, other: &Self) -> bool {
        self.blocks == other.blocks && self.iter().zip(other.iter()).all(|(a, b)| a.eq(b))
    }
}

impl Eq for ExtraKeys {}

impl fmt::Debug for ExtraKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(Iterator::collect::<Vec<_>>)).finish()
    }
}

/// What one block has besides tokens, each read when it is asked for.
#[derive(Clone, Debug)]
pub struct BlockKeys<'a> {
    reader: Reader<'a>,
    left: u32,
}

impl<'a> BlockKeys<'a> {
    /// The keys of the next block; the reader is behind them then.
    fn take_from(reader: &mut Reader<'a>) -> Self {
        // The lists were whole when they were kept.
        let left = list_len(reader).unwrap_or(0);
        let first = *reader;
        let _ = reader.skip_many(left.into());
        Self { reader: Reader::new(reader.since(first)), left }
    }

    /// How many bytes they are written in.
    pub fn bytes(&self) -> usize {
        self.reader.remaining()
    }
}

impl Iterator for BlockKeys<'_> {
    type Item = ExtraKey;

    fn next(&mut self) -> Option<ExtraKey> {
        self.left = self.left.checked_sub(1)?;
        extra_key(&mut self.reader).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for BlockKeys<'_> {}

/// Something that a block has besides tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExtraKey {
    /// A text: the name of an adapter, the hash of an image, a salt.
    Text(String),
    /// An array, by its first element if that is a text. Older engines write `[hash, offset]`.
    Array(Option<String>),
    /// Anything else, which nobody reads.
    Other,
}

/// The length of an array; nothing is as good as an empty one.
fn list_len(reader: &mut Reader<'_>) -> Result<u32, DecodeError> {
    let at = reader.at();
    match reader.value()? {
        Value::Nil => Ok(0),
        Value::Array(len) => Ok(len),
        _ => Err(DecodeError::new(at, Problem::Expected("an array"))),
    }
}

fn extra_key(reader: &mut Reader<'_>) -> Result<ExtraKey, DecodeError> {
    let before = *reader;
    match reader.value()? {
        Value::Text(text) => return Ok(ExtraKey::Text(crate::entry::text_from_bytes(text))),
        Value::Array(len) if len > 0 => {
            let first = *reader;
            let text = match reader.value()? {
                Value::Text(text) => Some(crate::entry::text_from_bytes(text)),
                _ => None,
            };
            *reader = first;
            reader.skip_many(u64::from(len))?;
            return Ok(ExtraKey::Array(text));
        }
        Value::Array(_) => return Ok(ExtraKey::Array(None)),
        _ => {}
    }
    *reader = before;
    reader.skip()?;
    Ok(ExtraKey::Other)
}
