//! The events of one message.

use std::{fmt, str::FromStr};

use super::{
    error::{DecodeError, Problem},
    extra_keys::ExtraKeys,
    msgpack::{Reader, Value},
};
use crate::BlockHash;

/// The most bytes of a medium's name. It becomes the tier of every block of its event, in the index and on the way there, so
/// that a long one would be written a million times; engines write words such as `GPU`.
const MEDIUM_BYTES_MAX: usize = 256;

/// The engine whose events are read. `Display` and `FromStr` use llm-d's names, `vllm` and `sglang`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Engine {
    /// Events may have more fields than are known, and have to have the first ones.
    #[default]
    Vllm,
    /// Events may leave out fields at their end, and fields behind the extra keys are not vLLM's.
    Sglang,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vllm => "vllm",
            Self::Sglang => "sglang",
        })
    }
}

impl FromStr for Engine {
    type Err = UnknownEngine;

    fn from_str(name: &str) -> Result<Self, UnknownEngine> {
        match name {
            "vllm" => Ok(Self::Vllm),
            "sglang" => Ok(Self::Sglang),
            _ => Err(UnknownEngine),
        }
    }
}

/// The text names no [`Engine`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be vllm or sglang")]
pub struct UnknownEngine;

/// What a pod stored or dropped.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum KvEvent {
    /// Blocks were stored.
    BlockStored(BlockStored),
    /// Blocks were dropped.
    BlockRemoved(BlockRemoved),
    /// Everything was dropped.
    AllBlocksCleared,
}

/// Blocks that follow one another, stored by an engine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BlockStored {
    /// What the engine calls the blocks.
    pub block_hashes: Vec<BlockHash>,
    /// What it calls the block before them; `None` where they begin a prompt. An engine says so by nothing or by 0.
    pub parent: Option<BlockHash>,
    /// The tokens of all blocks. None where blocks that were announced before have come to another tier.
    pub token_ids: Vec<u32>,
    /// The tokens of one block; 0 where the event does not say.
    pub block_size: u32,
    /// The number of an adapter (LoRA). Only for display: it is not the same on two pods.
    pub lora_id: Option<i64>,
    /// Where the blocks are, in the engine's words.
    pub medium: Option<String>,
    /// The name of an adapter (LoRA), which takes the place of the model's.
    pub lora_name: Option<String>,
    /// What each block has besides tokens. As long as `block_hashes`, or empty.
    pub extra_keys: ExtraKeys,
    /// The group of layers that the blocks belong to, where the model has several kinds of attention.
    pub group: Option<i64>,
    /// The kind of that group, in the engine's words.
    pub group_kind: Option<String>,
    /// How far back the layers of that group look, in tokens.
    pub sliding_window: Option<u64>,
}

/// Blocks that an engine dropped.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BlockRemoved {
    /// What the engine calls the blocks.
    pub block_hashes: Vec<BlockHash>,
    /// Where they were, in the engine's words.
    pub medium: Option<String>,
    /// The group of layers that they belonged to.
    pub group: Option<i64>,
}

/// One message of an engine: events in the order in which they happened.
///
/// The message is read as it is gone through, so that it takes no memory but its own and that of one event. An event takes eight
/// times its own bytes at most, where each of them is a hash. Both shapes are read that engines write: arrays that begin with
/// the kind of event, and maps in which `type` names it.
///
/// ```
/// use respire_kvblock::{BlockHash, events::{Engine, EventBatch, KvEvent}};
///
/// // [1.5, [["BlockRemoved", [7]], ["Moved"]], nil]
/// let message = b"\x93\xcb\x3f\xf8\0\0\0\0\0\0\x92\x92\xacBlockRemoved\x91\x07\x91\xa5Moved\xc0";
/// let batch = EventBatch::parse(Engine::Vllm, message)?;
/// let mut events = batch.events();
/// let Some(Ok(KvEvent::BlockRemoved(removed))) = events.next() else { panic!() };
/// assert_eq!(removed.block_hashes, [BlockHash(7)]);
/// // What is not known is passed over, one event at a time.
/// assert!(events.next().unwrap().unwrap_err().is_unknown_event());
/// assert!(events.next().is_none());
/// # Ok::<(), respire_kvblock::events::DecodeError>(())
/// ```
#[derive(Clone, Debug)]
pub struct EventBatch<'a> {
    engine: Engine,
    timestamp: f64,
    /// At the first event.
    events: Reader<'a>,
    len: u32,
}

impl<'a> EventBatch<'a> {
    /// Reads the frame of a message: that it is a batch, and that the values in it are whole.
    ///
    /// A batch is `[timestamp, events, ...]`; what follows the events is passed over, the number of the data-parallel rank
    /// included. A map with `ts` and `events` is read as well.
    ///
    /// # Errors
    ///
    /// When the message is no batch or ends too soon. Then nothing of it can be trusted.
    pub fn parse(engine: Engine, message: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(message);
        match reader.value()? {
            Value::Array(fields) => Self::parse_array(engine, fields, reader),
            Value::Map(entries) => Self::parse_map(engine, entries, reader),
            _ => Err(DecodeError::new(0, Problem::Expected("a batch of events"))),
        }
    }

    fn parse_array(
        engine: Engine,
        fields: u32,
        mut reader: Reader<'a>,
    ) -> Result<Self, DecodeError> {
        if fields < 2 {
            return Err(DecodeError::new(0, Problem::TooFewFields { fields, least: 2 }));
        }
        let timestamp = timestamp(&mut reader)?;
        let (events, len) = events_of(&mut reader)?;
        reader.skip_many(u64::from(fields) - 2)?;
        Ok(Self { engine, timestamp, events, len })
    }

    fn parse_map(
        engine: Engine,
        entries: u32,
        mut reader: Reader<'a>,
    ) -> Result<Self, DecodeError> {
        let (mut found_timestamp, mut found_events) = (None, None);
        for _ in 0..entries {
            match key(&mut reader)? {
                Some(b"ts") => found_timestamp = Some(timestamp(&mut reader)?),
                Some(b"events") => found_events = Some(events_of(&mut reader)?),
                _ => reader.skip()?,
            }
        }
        let missing = |field| DecodeError::new(0, Problem::Missing).in_field(field);
        let timestamp = found_timestamp.ok_or(missing("ts"))?;
        let (events, len) = found_events.ok_or(missing("events"))?;
        Ok(Self { engine, timestamp, events, len })
    }

    /// When the engine sent it, in seconds since 1970 by its clock.
    pub fn timestamp(&self) -> f64 {
        self.timestamp
    }

    /// How many events there are, those that cannot be read included.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The events in order, each read when it is asked for.
    pub fn events(&self) -> Events<'a> {
        Events { engine: self.engine, reader: self.events, left: self.len }
    }
}

fn timestamp(reader: &mut Reader<'_>) -> Result<f64, DecodeError> {
    let at = reader.at();
    match reader.value()? {
        Value::Float(seconds) => Ok(seconds),
        Value::Integer(seconds) => Ok(seconds as f64),
        _ => Err(DecodeError::new(at, Problem::Expected("a number")).in_field("ts")),
    }
}

/// The place of the first event and how many there are; the reader is behind the last one then.
fn events_of<'a>(reader: &mut Reader<'a>) -> Result<(Reader<'a>, u32), DecodeError> {
    let at = reader.at();
    let Value::Array(len) = reader.value()? else {
        return Err(DecodeError::new(at, Problem::Expected("an array")).in_field("events"));
    };
    let events = *reader;
    reader.skip_many(u64::from(len))?;
    Ok((events, len))
}

/// The key of a map's entry, if it is text.
fn key<'a>(reader: &mut Reader<'a>) -> Result<Option<&'a [u8]>, DecodeError> {
    let before = *reader;
    Ok(match reader.value()? {
        Value::Text(key) => Some(key),
        // It may have other values in it.
        _ => {
            *reader = before;
            reader.skip()?;
            None
        }
    })
}

/// The events of an [`EventBatch`]. An event that cannot be read is an error of its own, and those behind it follow.
#[derive(Clone, Debug)]
pub struct Events<'a> {
    engine: Engine,
    /// At the next event.
    reader: Reader<'a>,
    left: u32,
}

impl Iterator for Events<'_> {
    type Item = Result<KvEvent, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let before = self.reader;
        let event = event(self.engine, &mut self.reader);
        if event.is_err() {
            self.reader = before;
            // The values were whole when the frame was read.
            if self.reader.skip().is_err() {
                self.left = 0;
            }
        }
        Some(event)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for Events<'_> {}

/// What an event may say.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Field {
    BlockHashes,
    Parent,
    TokenIds,
    BlockSize,
    LoraId,
    Medium,
    LoraName,
    ExtraKeys,
    Group,
    GroupKind,
    SlidingWindow,
}

impl Field {
    const ALL: [Self; 11] = [
        Self::BlockHashes,
        Self::Parent,
        Self::TokenIds,
        Self::BlockSize,
        Self::LoraId,
        Self::Medium,
        Self::LoraName,
        Self::ExtraKeys,
        Self::Group,
        Self::GroupKind,
        Self::SlidingWindow,
    ];

    /// Its key in an event that is a map.
    fn name(self) -> &'static str {
        match self {
            Self::BlockHashes => "block_hashes",
            Self::Parent => "parent_block_hash",
            Self::TokenIds => "token_ids",
            Self::BlockSize => "block_size",
            Self::LoraId => "lora_id",
            Self::Medium => "medium",
            Self::LoraName => "lora_name",
            Self::ExtraKeys => "extra_keys",
            Self::Group => "group_idx",
            Self::GroupKind => "kv_cache_spec_kind",
            Self::SlidingWindow => "kv_cache_spec_sliding_window",
        }
    }
}

/// The kinds of events, by what their arrays hold behind the tag.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Stored,
    Removed,
    Cleared,
}

impl Kind {
    fn of(tag: &[u8]) -> Option<Self> {
        match tag {
            b"BlockStored" => Some(Self::Stored),
            b"BlockRemoved" => Some(Self::Removed),
            b"AllBlocksCleared" => Some(Self::Cleared),
            _ => None,
        }
    }

    /// The fields in the order of an array.
    fn fields(self, engine: Engine) -> &'static [Field] {
        const REMOVED: [Field; 3] = [Field::BlockHashes, Field::Medium, Field::Group];
        match (self, engine) {
            (Self::Stored, Engine::Vllm) => &Field::ALL,
            (Self::Stored, Engine::Sglang) => &Field::ALL[..8],
            (Self::Removed, Engine::Vllm) => &REMOVED,
            (Self::Removed, Engine::Sglang) => &REMOVED[..2],
            (Self::Cleared, _) => &[],
        }
    }

    /// How many of them an array has to have.
    fn least(self, engine: Engine) -> u32 {
        match (self, engine) {
            (_, Engine::Sglang) | (Self::Cleared, _) => 0,
            (Self::Stored, Engine::Vllm) => 4,
            (Self::Removed, Engine::Vllm) => 1,
        }
    }

    /// The fields that say what the event is about. One of them that is nothing is an error.
    fn is_needed(self, field: Field) -> bool {
        match self {
            Self::Stored => matches!(field, Field::BlockHashes | Field::TokenIds),
            Self::Removed => field == Field::BlockHashes,
            Self::Cleared => false,
        }
    }
}

fn event(engine: Engine, reader: &mut Reader<'_>) -> Result<KvEvent, DecodeError> {
    let at = reader.at();
    match reader.value()? {
        Value::Array(fields) => event_array(engine, at, fields, reader),
        Value::Map(entries) => event_map(engine, at, entries, reader),
        _ => Err(DecodeError::new(at, Problem::Expected("an event"))),
    }
}

fn event_array(
    engine: Engine,
    at: usize,
    fields: u32,
    reader: &mut Reader<'_>,
) -> Result<KvEvent, DecodeError> {
    let Some(fields) = fields.checked_sub(1) else {
        return Err(DecodeError::new(at, Problem::TooFewFields { fields, least: 1 }));
    };
    let kind = tag(reader)?;
    let least = kind.least(engine);
    if fields < least {
        let (fields, least) = (fields + 1, least + 1);
        return Err(DecodeError::new(at, Problem::TooFewFields { fields, least }));
    }
    let known = kind.fields(engine);
    let mut content = Content::default();
    for &field in known.iter().take(fields as usize) {
        content.read(field, reader)?;
    }
    reader.skip_many(u64::from(fields).saturating_sub(known.len() as u64))?;
    content.finish(kind, engine, at)
}

fn event_map(
    engine: Engine,
    at: usize,
    entries: u32,
    reader: &mut Reader<'_>,
) -> Result<KvEvent, DecodeError> {
    // What the event is may stand behind what it says.
    let mut ahead = *reader;
    let mut kind = None;
    for _ in 0..entries {
        match key(&mut ahead)? {
            Some(b"type") => kind = Some(tag(&mut ahead)?),
            _ => ahead.skip()?,
        }
    }
    let kind = kind.ok_or(DecodeError::new(at, Problem::Missing).in_field("type"))?;
    let known = kind.fields(engine);
    let mut content = Content::default();
    for _ in 0..entries {
        let key = key(reader)?.unwrap_or_default();
        match known.iter().find(|field| field.name().as_bytes() == key) {
            Some(&field) => content.read(field, reader)?,
            None => reader.skip()?,
        }
    }
    content.finish(kind, engine, at)
}

fn tag(reader: &mut Reader<'_>) -> Result<Kind, DecodeError> {
    let at = reader.at();
    match reader.value()? {
        Value::Text(tag) => Kind::of(tag).ok_or(DecodeError::new(at, Problem::UnknownTag)),
        _ => Err(DecodeError::new(at, Problem::Expected("the kind of an event"))),
    }
}

/// What has been read of an event.
#[derive(Default)]
struct Content {
    /// `None` where there was no such field or nothing in it.
    block_hashes: Option<Vec<BlockHash>>,
    token_ids: Option<Vec<u32>>,
    /// What needs no more than a default.
    rest: BlockStored,
}

impl Content {
    /// Reads one field. Nothing stands for its absence.
    fn read(&mut self, field: Field, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        let at = reader.at();
        self.read_value(field, at, reader).map_err(|error| error.in_field(field.name()))
    }

    fn read_value(
        &mut self,
        field: Field,
        at: usize,
        reader: &mut Reader<'_>,
    ) -> Result<(), DecodeError> {
        let rest = &mut self.rest;
        match field {
            Field::BlockHashes => self.block_hashes = list(reader, hash)?,
            Field::Parent => {
                rest.parent = optional(reader, hash)?.filter(|&parent| parent != BlockHash::EMPTY);
            }
            Field::TokenIds => self.token_ids = list(reader, unsigned)?,
            Field::BlockSize => rest.block_size = optional(reader, unsigned)?.unwrap_or(0),
            // These two say nothing to an index, and what they are made of is not its business.
            Field::LoraId => rest.lora_id = lenient_integer(reader)?,
            Field::SlidingWindow => rest.sliding_window = lenient_integer(reader)?,
            Field::Medium => {
                rest.medium = optional(reader, text)?;
                if rest.medium.as_ref().is_some_and(|medium| medium.len() > MEDIUM_BYTES_MAX) {
                    return Err(DecodeError::new(at, Problem::TooLong(MEDIUM_BYTES_MAX)));
                }
            }
            Field::LoraName => rest.lora_name = optional(reader, text)?,
            Field::ExtraKeys => rest.extra_keys = ExtraKeys::read(reader)?,
            Field::Group => {
                rest.group = optional(reader, integer)?;
                if rest.group.is_some_and(i64::is_negative) {
                    return Err(DecodeError::new(at, Problem::OutOfRange("0 to 2^63-1")));
                }
            }
            Field::GroupKind => rest.group_kind = optional(reader, text)?,
        }
        Ok(())
    }

    fn finish(self, kind: Kind, engine: Engine, at: usize) -> Result<KvEvent, DecodeError> {
        let absent = |field| match field {
            Field::BlockHashes => self.block_hashes.is_none(),
            _ => self.token_ids.is_none(),
        };
        let missing = Field::ALL.into_iter().find(|&field| kind.is_needed(field) && absent(field));
        if let (Engine::Vllm, Some(field)) = (engine, missing) {
            return Err(DecodeError::new(at, Problem::Missing).in_field(field.name()));
        }
        let block_hashes = self.block_hashes.unwrap_or_default();
        let token_ids = self.token_ids.unwrap_or_default();
        Ok(match kind {
            Kind::Stored => {
                KvEvent::BlockStored(BlockStored { block_hashes, token_ids, ..self.rest })
            }
            Kind::Removed => {
                let BlockStored { medium, group, .. } = self.rest;
                KvEvent::BlockRemoved(BlockRemoved { block_hashes, medium, group })
            }
            Kind::Cleared => KvEvent::AllBlocksCleared,
        })
    }
}

/// A value that may be nothing.
fn optional<'a, T>(
    reader: &mut Reader<'a>,
    read: impl FnOnce(&mut Reader<'a>) -> Result<T, DecodeError>,
) -> Result<Option<T>, DecodeError> {
    let before = *reader;
    if reader.value()? == Value::Nil {
        return Ok(None);
    }
    *reader = before;
    read(reader).map(Some)
}

/// An array that may be nothing.
fn list<'a, T>(
    reader: &mut Reader<'a>,
    read: impl Fn(&mut Reader<'a>) -> Result<T, DecodeError>,
) -> Result<Option<Vec<T>>, DecodeError> {
    let at = reader.at();
    let len = match reader.value()? {
        Value::Nil => return Ok(None),
        Value::Array(len) => len,
        _ => return Err(DecodeError::new(at, Problem::Expected("an array"))),
    };
    // Every element takes a byte at least: no more is reserved than the message is long.
    let mut elements = Vec::with_capacity((len as usize).min(reader.remaining()));
    for _ in 0..len {
        elements.push(read(reader)?);
    }
    Ok(Some(elements))
}

/// A hash: a number, negative ones as they lie in memory, or bytes, of which the last eight count.
fn hash(reader: &mut Reader<'_>) -> Result<BlockHash, DecodeError> {
    let at = reader.at();
    match reader.value()? {
        // Both ranges of 64 bits fit, which is all that there is.
        Value::Integer(number) => Ok(BlockHash(number as u64)),
        Value::Binary(bytes) if !bytes.is_empty() => {
            let last = &bytes[bytes.len().saturating_sub(8)..];
            Ok(BlockHash(last.iter().fold(0, |hash, &byte| hash << 8 | u64::from(byte))))
        }
        _ => Err(DecodeError::new(at, Problem::Expected("a hash, as a number or as bytes"))),
    }
}

fn integer(reader: &mut Reader<'_>) -> Result<i64, DecodeError> {
    let at = reader.at();
    let Value::Integer(number) = reader.value()? else {
        return Err(DecodeError::new(at, Problem::Expected("a whole number")));
    };
    i64::try_from(number).map_err(|_| DecodeError::new(at, Problem::OutOfRange("0 to 2^63-1")))
}

fn unsigned(reader: &mut Reader<'_>) -> Result<u32, DecodeError> {
    let at = reader.at();
    let Value::Integer(number) = reader.value()? else {
        return Err(DecodeError::new(at, Problem::Expected("a whole number")));
    };
    u32::try_from(number).map_err(|_| DecodeError::new(at, Problem::OutOfRange("0 to 2^32-1")))
}

/// A number, or `None` for anything else.
fn lenient_integer<T: TryFrom<i128>>(reader: &mut Reader<'_>) -> Result<Option<T>, DecodeError> {
    let before = *reader;
    if let Value::Integer(number) = reader.value()? {
        return Ok(T::try_from(number).ok());
    }
    *reader = before;
    reader.skip()?;
    Ok(None)
}

fn text(reader: &mut Reader<'_>) -> Result<String, DecodeError> {
    let at = reader.at();
    match reader.value()? {
        Value::Text(text) => Ok(crate::entry::text_from_bytes(text)),
        _ => Err(DecodeError::new(at, Problem::Expected("a text"))),
    }
}

#[cfg(test)]
mod tests;
