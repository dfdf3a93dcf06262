//! Everything that there is to know about a stream, as `XINFO STREAM … FULL` tells it.

use std::time::{Duration, SystemTime};

use respire_codec::{FromValue, ValueError, ValueRef};

use super::{
    FromReply, StreamEntry, StreamId,
    replies::{self, Fields},
};

/// A stream, with entries and groups; see [`StreamCommands::xinfo_stream_full`](super::StreamCommands::xinfo_stream_full).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamDetails<F> {
    /// The number of entries.
    pub length: u64,
    /// The last identifier that was given out.
    pub last_generated_id: StreamId,
    /// The first entries, as many as were asked for.
    pub entries: Vec<StreamEntry<F>>,
    /// Its groups.
    pub groups: Vec<GroupDetails>,
}

/// A group of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupDetails {
    /// Its name.
    pub name: String,
    /// The last entry that was given out.
    pub last_delivered_id: StreamId,
    /// How many entries were ever given out, if the server can tell. Since 7.0.
    pub entries_read: Option<u64>,
    /// How many entries are yet to be given out, if the server can tell. Since 7.0.
    pub lag: Option<u64>,
    /// How many entries were given out and not acknowledged.
    pub pending_count: u64,
    /// The first of those, as many as were asked for.
    pub pending: Vec<Delivery>,
    /// Its consumers.
    pub consumers: Vec<ConsumerDetails>,
}

/// A consumer of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumerDetails {
    /// Its name.
    pub name: String,
    /// When it last asked for entries.
    pub seen: SystemTime,
    /// When it last got any, if ever. Valkey, Redis since 7.2.
    pub active: Option<SystemTime>,
    /// How many entries it got and has not acknowledged.
    pub pending_count: u64,
    /// The first of those, as many as were asked for.
    pub pending: Vec<Delivery>,
}

/// An entry that was given out and not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivery {
    /// Its identifier.
    pub id: StreamId,
    /// Who got it.
    pub consumer: String,
    /// When that was last.
    pub time: SystemTime,
    /// How often it was given out.
    pub deliveries: u64,
}

impl<'a, F: FromReply> FromValue<'a> for StreamDetails<F> {
    fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError> {
        let fields = Fields::new(value)?;
        Ok(Self {
            length: fields.parse("length")?,
            last_generated_id: fields.parse("last-generated-id")?,
            entries: fields.parse("entries")?,
            groups: fields.parse("groups")?,
        })
    }
}

impl<'a> FromValue<'a> for GroupDetails {
    fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError> {
        let fields = Fields::new(value)?;
        let pending: Vec<(StreamId, String, u64, u64)> = fields.parse("pending")?;
        let delivery = |(id, consumer, time, deliveries)| {
            Ok(Delivery { id, consumer, time: instant(time, value)?, deliveries })
        };
        Ok(Self {
            name: fields.parse("name")?,
            last_delivered_id: fields.parse("last-delivered-id")?,
            entries_read: fields.parse_or_none::<Option<u64>>("entries-read")?.flatten(),
            lag: fields.parse_or_none::<Option<u64>>("lag")?.flatten(),
            pending_count: fields.parse("pel-count")?,
            pending: pending.into_iter().map(delivery).collect::<Result<_, ValueError>>()?,
            consumers: fields.parse("consumers")?,
        })
    }
}

impl<'a> FromValue<'a> for ConsumerDetails {
    fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError> {
        let fields = Fields::new(value)?;
        let name: String = fields.parse("name")?;
        let pending: Vec<(StreamId, u64, u64)> = fields.parse("pending")?;
        let delivery = |(id, time, deliveries)| {
            let time = instant(time, value)?;
            Ok(Delivery { id, consumer: name.clone(), time, deliveries })
        };
        let pending = pending.into_iter().map(delivery).collect::<Result<_, ValueError>>()?;
        let active = fields.parse_or_none::<i64>("active-time")?;
        let active = active.and_then(|active| u64::try_from(active).ok());
        Ok(Self {
            seen: instant(fields.parse("seen-time")?, value)?,
            active: active.map(|active| instant(active, value)).transpose()?,
            pending_count: fields.parse("pel-count")?,
            pending,
            name,
        })
    }
}

/// An instant, by the milliseconds since 1970.
fn instant(milliseconds: u64, value: ValueRef<'_>) -> Result<SystemTime, ValueError> {
    replies::instant(Duration::from_millis(milliseconds), value)
}
