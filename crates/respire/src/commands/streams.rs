//! Streams.

use std::{fmt, str::FromStr, time::Duration};

use respire_codec::{FromValue, ValueError, ValueRef};

use super::{
    Executor, FromReply, StreamDetails, Trim, TypedCommand,
    args::milliseconds,
    replies::{self, Fields, or_empty},
};
use crate::command::{Args, Command, ToArg};

/// Commands on [streams](https://valkey.io/commands/#stream). Each takes constant time unless it says otherwise.
///
/// Where an identifier is taken it may be a [`StreamId`] or the server's own words: `"-"` and `"+"` for the ends of a range,
/// `"$"` for the last entry, `">"` for what no consumer of a group has got.
///
/// The fields of an entry are read as any map, or as a `Vec` of pairs, in which an entry may have the same field twice.
///
/// ```no_run
/// use std::{collections::HashMap, time::Duration};
/// use respire::commands::*;
///
/// # async fn example(client: &respire::Client) -> Result<(), respire::Error> {
/// let id = client.xadd("events", [("kind", "login"), ("user", "7")]).await?;
/// let options = ReadOptions::new().count(100);
/// let streams = client.xread::<String, HashMap<String, String>>([("events", "0")], options).await?;
/// for entry in &streams[0].entries {
///     println!("{} {:?}", entry.id, entry.fields);
/// }
/// # Ok(())
/// # }
/// ```
pub trait StreamCommands: Executor {
    /// `XACK`: says that a group has dealt with entries. How many had been pending. O(entries)
    fn xack(
        self,
        key: impl ToArg,
        group: impl ToArg,
        ids: impl IntoIterator<Item = impl ToArg>,
    ) -> Self::Answer<u64> {
        self.run(Command::new("XACK").arg(key).arg(group).args(ids).typed())
    }

    /// `XADD`: appends an entry. Its identifier.
    fn xadd(
        self,
        key: impl ToArg,
        fields: impl IntoIterator<Item = (impl ToArg, impl ToArg)>,
    ) -> Self::Answer<StreamId> {
        self.run(Command::new("XADD").arg(key).arg("*").args(fields).typed())
    }

    /// `XADD` with options. The entry's identifier; `None` where there is no stream and none is to be made.
    fn xadd_options(
        self,
        key: impl ToArg,
        options: AddOptions,
        fields: impl IntoIterator<Item = (impl ToArg, impl ToArg)>,
    ) -> Self::Answer<Option<StreamId>> {
        self.run(Command::new("XADD").arg(key).arg(options).args(fields).typed())
    }

    /// `XAUTOCLAIM`: makes a consumer the owner of up to `count` entries that have been pending for `min_idle` at least. O(count)
    fn xautoclaim<F: FromReply>(
        self,
        key: impl ToArg,
        group: impl ToArg,
        consumer: impl ToArg,
        min_idle: Duration,
        start: impl ToArg,
        count: u64,
    ) -> Self::Answer<AutoClaimed<F>> {
        let command = Command::new("XAUTOCLAIM").arg(key).arg(group).arg(consumer);
        let command = command.arg(milliseconds(min_idle)).arg(start).arg("COUNT").arg(count);
        self.run(TypedCommand::new(command, AutoClaimed::read))
    }

    /// `XCLAIM`: makes a consumer the owner of those of these entries that have been pending for `min_idle` at least. They.
    /// O(entries × log pending)
    fn xclaim<F: FromReply>(
        self,
        key: impl ToArg,
        group: impl ToArg,
        consumer: impl ToArg,
        min_idle: Duration,
        ids: impl IntoIterator<Item = impl ToArg>,
        options: ClaimOptions,
    ) -> Self::Answer<Vec<StreamEntry<F>>> {
        let command = Command::new("XCLAIM").arg(key).arg(group).arg(consumer);
        self.run(command.arg(milliseconds(min_idle)).args(ids).arg(options).typed())
    }

    /// `XCLAIM … JUSTID`: as [`xclaim`](Self::xclaim), their identifiers, and no delivery is counted.
    fn xclaim_ids(
        self,
        key: impl ToArg,
        group: impl ToArg,
        consumer: impl ToArg,
        min_idle: Duration,
        ids: impl IntoIterator<Item = impl ToArg>,
        options: ClaimOptions,
    ) -> Self::Answer<Vec<StreamId>> {
        let command = Command::new("XCLAIM").arg(key).arg(group).arg(consumer);
        let command = command.arg(milliseconds(min_idle)).args(ids).arg(options);
        self.run(command.arg("JUSTID").typed())
    }

    /// `XDEL`: deletes entries. How many existed. O(entries)
    fn xdel(self, key: impl ToArg, ids: impl IntoIterator<Item = impl ToArg>) -> Self::Answer<u64> {
        self.run(Command::new("XDEL").arg(key).args(ids).typed())
    }

    /// `XGROUP CREATE`: makes a group that gets what comes after an entry, and the stream too if asked to. An error where the
    /// group exists.
    fn xgroup_create(
        self,
        key: impl ToArg,
        group: impl ToArg,
        after: impl ToArg,
        make_stream: bool,
    ) -> Self::Answer<()> {
        let command = Command::new("XGROUP").arg("CREATE").arg(key).arg(group).arg(after);
        self.run(command.word_if(make_stream, "MKSTREAM").typed())
    }

    /// `XGROUP CREATECONSUMER`: makes a consumer unless it exists. Whether it did.
    fn xgroup_createconsumer(
        self,
        key: impl ToArg,
        group: impl ToArg,
        consumer: impl ToArg,
    ) -> Self::Answer<bool> {
        self.run(
            Command::new("XGROUP").arg("CREATECONSUMER").arg(key).arg(group).arg(consumer).typed(),
        )
    }

    /// `XGROUP DELCONSUMER`: deletes a consumer. How many entries it had pending, which nobody can claim then.
    fn xgroup_delconsumer(
        self,
        key: impl ToArg,
        group: impl ToArg,
        consumer: impl ToArg,
    ) -> Self::Answer<u64> {
        self.run(
            Command::new("XGROUP").arg("DELCONSUMER").arg(key).arg(group).arg(consumer).typed(),
        )
    }

    /// `XGROUP DESTROY`: deletes a group. Whether it existed. O(pending)
    fn xgroup_destroy(self, key: impl ToArg, group: impl ToArg) -> Self::Answer<bool> {
        self.run(Command::new("XGROUP").arg("DESTROY").arg(key).arg(group).typed())
    }

    /// `XGROUP SETID`: lets a group get what comes after an entry.
    fn xgroup_setid(
        self,
        key: impl ToArg,
        group: impl ToArg,
        after: impl ToArg,
    ) -> Self::Answer<()> {
        self.run(Command::new("XGROUP").arg("SETID").arg(key).arg(group).arg(after).typed())
    }

    /// `XINFO CONSUMERS`: the consumers of a group. O(consumers)
    fn xinfo_consumers(
        self,
        key: impl ToArg,
        group: impl ToArg,
    ) -> Self::Answer<Vec<ConsumerInfo>> {
        self.run(Command::new("XINFO").arg("CONSUMERS").arg(key).arg(group).typed())
    }

    /// `XINFO GROUPS`: the groups of a stream. O(groups)
    fn xinfo_groups(self, key: impl ToArg) -> Self::Answer<Vec<GroupInfo>> {
        self.run(Command::new("XINFO").arg("GROUPS").arg(key).typed())
    }

    /// `XINFO STREAM`: what there is to know about a stream.
    fn xinfo_stream(self, key: impl ToArg) -> Self::Answer<StreamInfo> {
        self.run(Command::new("XINFO").arg("STREAM").arg(key).typed())
    }

    /// `XINFO STREAM … FULL`: a stream with its groups, and of entries the first `count` everywhere: 10 where nothing is said,
    /// all of them if 0. O(what is told)
    fn xinfo_stream_full<F: FromReply>(
        self,
        key: impl ToArg,
        count: Option<u64>,
    ) -> Self::Answer<StreamDetails<F>> {
        let count = count.map(|count| ("COUNT", count));
        let command = Command::new("XINFO").arg("STREAM").arg(key).arg("FULL");
        self.run(command.optional(count).typed())
    }

    /// `XLEN`: the number of entries.
    fn xlen(self, key: impl ToArg) -> Self::Answer<u64> {
        self.run(Command::new("XLEN").arg(key).typed())
    }

    /// `XPENDING`: a summary of what a group was given and has not acknowledged. O(consumers)
    fn xpending(self, key: impl ToArg, group: impl ToArg) -> Self::Answer<PendingSummary> {
        self.run(Command::new("XPENDING").arg(key).arg(group).typed())
    }

    /// `XPENDING`: up to `count` entries that a group was given and has not acknowledged, of those from `start` to `end`, for
    /// `min_idle` at least, of one consumer if there is one. O(entries looked at)
    #[expect(
        clippy::too_many_arguments,
        reason = "they are the command's, and none has a sensible default"
    )]
    fn xpending_entries(
        self,
        key: impl ToArg,
        group: impl ToArg,
        min_idle: Duration,
        start: impl ToArg,
        end: impl ToArg,
        count: u64,
        consumer: Option<&str>,
    ) -> Self::Answer<Vec<PendingEntry>> {
        let command = Command::new("XPENDING").arg(key).arg(group);
        let command = command.arg("IDLE").arg(milliseconds(min_idle));
        self.run(command.arg(start).arg(end).arg(count).optional(consumer).typed())
    }

    /// `XRANGE`: the entries from `start` to `end`, both included, up to a number of them if there is one. O(entries)
    fn xrange<F: FromReply>(
        self,
        key: impl ToArg,
        start: impl ToArg,
        end: impl ToArg,
        count: Option<u64>,
    ) -> Self::Answer<Vec<StreamEntry<F>>> {
        let count = count.map(|count| ("COUNT", count));
        self.run(Command::new("XRANGE").arg(key).arg(start).arg(end).optional(count).typed())
    }

    /// `XREAD`: what came after an entry in each of these streams; those streams with any, with their keys. With
    /// [`block`](ReadOptions::block) it waits for the first. O(entries)
    fn xread<K: FromReply, F: FromReply>(
        self,
        streams: impl IntoIterator<Item = (impl ToArg, impl ToArg)>,
        options: ReadOptions,
    ) -> Self::Answer<Vec<StreamEntries<K, F>>> {
        let command = Command::new("XREAD").arg(options);
        self.run(TypedCommand::new(with_streams(command, streams), or_empty))
    }

    /// `XREADGROUP`: as [`xread`](Self::xread), for a consumer of a group. After `">"` come entries that no consumer got; after
    /// another identifier those that this one got and has not acknowledged. Of these, one that was deleted has a null for
    /// its fields: read them as an `Option`. O(entries)
    fn xreadgroup<K: FromReply, F: FromReply>(
        self,
        group: impl ToArg,
        consumer: impl ToArg,
        streams: impl IntoIterator<Item = (impl ToArg, impl ToArg)>,
        options: ReadOptions,
    ) -> Self::Answer<Vec<StreamEntries<K, F>>> {
        let command = Command::new("XREADGROUP").arg("GROUP").arg(group).arg(consumer);
        let command = command.arg(options).word_if(options.no_ack, "NOACK");
        self.run(TypedCommand::new(with_streams(command, streams), or_empty))
    }

    /// `XREVRANGE`: the entries from `end` back to `start`, both included, up to a number of them if there is one. O(entries)
    fn xrevrange<F: FromReply>(
        self,
        key: impl ToArg,
        end: impl ToArg,
        start: impl ToArg,
        count: Option<u64>,
    ) -> Self::Answer<Vec<StreamEntry<F>>> {
        let count = count.map(|count| ("COUNT", count));
        self.run(Command::new("XREVRANGE").arg(key).arg(end).arg(start).optional(count).typed())
    }

    /// `XTRIM`: deletes the oldest entries. How many. O(entries deleted)
    fn xtrim(self, key: impl ToArg, trim: StreamTrim) -> Self::Answer<u64> {
        self.run(Command::new("XTRIM").arg(key).arg(trim).typed())
    }
}

impl<E: Executor> StreamCommands for E {}

/// The keys of all streams, and then an identifier for each.
fn with_streams(
    command: Command,
    streams: impl IntoIterator<Item = (impl ToArg, impl ToArg)>,
) -> Command {
    let mut ids = Args::default();
    let mut command = command.arg("STREAMS");
    for (key, id) in streams {
        command = command.arg(key);
        id.move_to(&mut ids);
    }
    command.arg(ids)
}

/// The identifier of an entry: when it was added, in milliseconds since 1970, and its number among those of that
/// millisecond.
///
/// ```
/// use respire::commands::StreamId;
///
/// let id: StreamId = "1526919030474-55".parse()?;
/// assert_eq!((id.milliseconds, id.sequence), (1526919030474, 55));
/// assert!(id < id.next());
/// assert_eq!(id.to_string(), "1526919030474-55");
/// # Ok::<(), respire::commands::InvalidStreamId>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    /// The first part.
    pub milliseconds: u64,
    /// The second part.
    pub sequence: u64,
}

impl StreamId {
    /// An identifier of two parts.
    pub const fn new(milliseconds: u64, sequence: u64) -> Self {
        Self { milliseconds, sequence }
    }

    /// The least identifier that is greater; the greatest has none and stays.
    #[must_use]
    pub const fn next(self) -> Self {
        match (self.sequence.checked_add(1), self.milliseconds.checked_add(1)) {
            (Some(sequence), _) => Self { sequence, ..self },
            (None, Some(milliseconds)) => Self { milliseconds, sequence: 0 },
            (None, None) => self,
        }
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.milliseconds, self.sequence)
    }
}

/// A text is not the identifier of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("two numbers with a hyphen between them expected")]
pub struct InvalidStreamId;

impl FromStr for StreamId {
    type Err = InvalidStreamId;

    fn from_str(text: &str) -> Result<Self, InvalidStreamId> {
        let (milliseconds, sequence) = text.split_once('-').ok_or(InvalidStreamId)?;
        let number = |text: &str| text.parse().map_err(|_| InvalidStreamId);
        Ok(Self { milliseconds: number(milliseconds)?, sequence: number(sequence)? })
    }
}

impl ToArg for StreamId {
    fn add_to(&self, args: &mut Args) {
        args.push(self.to_string().as_bytes());
    }
}

impl<'a> FromValue<'a> for StreamId {
    fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError> {
        let text: &str = value.parse()?;
        text.parse().map_err(|_| ValueError::other_form("an entry's identifier", value.kind()))
    }
}

/// An entry of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamEntry<F> {
    /// Its identifier.
    pub id: StreamId,
    /// Its fields and their values.
    pub fields: F,
}

impl<'a, F: FromValue<'a>> FromValue<'a> for StreamEntry<F> {
    fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError> {
        let (id, fields) = value.parse()?;
        Ok(Self { id, fields })
    }
}

/// What was read of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamEntries<K, F> {
    /// Which stream it is.
    pub key: K,
    /// Its entries, in their order.
    pub entries: Vec<StreamEntry<F>>,
}

impl<'a, K: FromValue<'a>, F: FromValue<'a>> FromValue<'a> for StreamEntries<K, F> {
    fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError> {
        let (key, entries) = value.parse()?;
        Ok(Self { key, entries })
    }

    fn vec_from_value(value: ValueRef<'a>) -> Result<Vec<Self>, ValueError> {
        let pairs: Vec<(K, Vec<StreamEntry<F>>)> = value.parse()?;
        Ok(pairs.into_iter().map(|(key, entries)| Self { key, entries }).collect())
    }
}

/// How much [`xread`](StreamCommands::xread) and [`xreadgroup`](StreamCommands::xreadgroup) read, and whether they wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct ReadOptions {
    count: Option<u64>,
    /// In milliseconds; 0 is for ever.
    block: Option<u64>,
    no_ack: bool,
}

impl ReadOptions {
    /// All that there is, without waiting.
    pub fn new() -> Self {
        Self::default()
    }

    /// Up to so many entries of each stream.
    pub fn count(mut self, count: u64) -> Self {
        self.count = Some(count);
        self
    }

    /// Waits for so long if there is nothing, for ever if `None`.
    pub fn block(mut self, timeout: Option<Duration>) -> Self {
        self.block = Some(timeout.map_or(0, |timeout| milliseconds(timeout).max(1)));
        self
    }

    /// Counts what is read as acknowledged. For groups only.
    pub fn no_ack(mut self) -> Self {
        self.no_ack = true;
        self
    }
}

impl ToArg for ReadOptions {
    fn add_to(&self, args: &mut Args) {
        if let Some(count) = self.count {
            ("COUNT", count).add_to(args);
        }
        if let Some(block) = self.block {
            ("BLOCK", block).add_to(args);
        }
    }
}

/// Which of the oldest entries are deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct StreamTrim {
    to: TrimTo,
    how: Trim,
    limit: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TrimTo {
    Length(u64),
    Id(StreamId),
}

impl StreamTrim {
    /// All but so many.
    pub fn max_len(len: u64, how: Trim) -> Self {
        Self { to: TrimTo::Length(len), how, limit: None }
    }

    /// Those before this one.
    pub fn min_id(id: StreamId, how: Trim) -> Self {
        Self { to: TrimTo::Id(id), how, limit: None }
    }

    /// Deletes so many at most. Only with [`Trim::Nearly`].
    pub fn limit(mut self, limit: u64) -> Self {
        self.limit = Some(limit);
        self
    }
}

impl ToArg for StreamTrim {
    fn add_to(&self, args: &mut Args) {
        args.push(match self.to {
            TrimTo::Length(_) => b"MAXLEN",
            TrimTo::Id(_) => b"MINID",
        });
        args.push(match self.how {
            Trim::Exactly => b"=",
            Trim::Nearly => b"~",
        });
        match self.to {
            TrimTo::Length(len) => len.add_to(args),
            TrimTo::Id(id) => id.add_to(args),
        }
        if let Some(limit) = self.limit {
            ("LIMIT", limit).add_to(args);
        }
    }
}

/// How [`xadd_options`](StreamCommands::xadd_options) adds an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct AddOptions {
    id: Option<StreamId>,
    no_make_stream: bool,
    trim: Option<StreamTrim>,
}

impl AddOptions {
    /// With the next identifier, to a stream that is made if there is none.
    pub fn new() -> Self {
        Self::default()
    }

    /// With this identifier, which must be greater than the last one.
    pub fn id(mut self, id: StreamId) -> Self {
        self.id = Some(id);
        self
    }

    /// Only if there is a stream.
    pub fn no_make_stream(mut self) -> Self {
        self.no_make_stream = true;
        self
    }

    /// And trims the stream.
    pub fn trim(mut self, trim: StreamTrim) -> Self {
        self.trim = Some(trim);
        self
    }
}

impl ToArg for AddOptions {
    fn add_to(&self, args: &mut Args) {
        if self.no_make_stream {
            args.push(b"NOMKSTREAM");
        }
        if let Some(trim) = self.trim {
            trim.add_to(args);
        }
        match self.id {
            Some(id) => id.add_to(args),
            None => args.push(b"*"),
        }
    }
}

/// What [`xclaim`](StreamCommands::xclaim) sets of the entries that it claims.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct ClaimOptions {
    idle: Option<u64>,
    retry_count: Option<u64>,
    force: bool,
}

impl ClaimOptions {
    /// Delivered now, once more than before.
    pub fn new() -> Self {
        Self::default()
    }

    /// Delivered so long ago.
    pub fn idle(mut self, idle: Duration) -> Self {
        self.idle = Some(milliseconds(idle));
        self
    }

    /// Delivered so often.
    pub fn retry_count(mut self, count: u64) -> Self {
        self.retry_count = Some(count);
        self
    }

    /// Claims entries that nobody has pending, too.
    pub fn force(mut self) -> Self {
        self.force = true;
        self
    }
}

impl ToArg for ClaimOptions {
    fn add_to(&self, args: &mut Args) {
        if let Some(idle) = self.idle {
            ("IDLE", idle).add_to(args);
        }
        if let Some(count) = self.retry_count {
            ("RETRYCOUNT", count).add_to(args);
        }
        if self.force {
            args.push(b"FORCE");
        }
    }
}

/// What [`xautoclaim`](StreamCommands::xautoclaim) claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AutoClaimed<F> {
    /// Where to go on; 0-0 when all were looked at.
    pub next: StreamId,
    /// The entries.
    pub entries: Vec<StreamEntry<F>>,
    /// Entries that were pending and had been deleted, and are not pending any more. Since 7.0.
    pub deleted: Vec<StreamId>,
}

impl<F: FromReply> AutoClaimed<F> {
    fn read(value: ValueRef<'_>) -> Result<Self, ValueError> {
        const EXPECTED: &str = "claimed entries";
        let mut items = replies::elements(value, EXPECTED)?;
        Ok(Self {
            next: replies::next(&mut items, EXPECTED)?.parse()?,
            entries: replies::next(&mut items, EXPECTED)?.parse()?,
            deleted: items.next().map_or(Ok(Vec::new()), ValueRef::parse)?,
        })
    }
}

/// What a group was given and has not acknowledged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PendingSummary {
    /// How many entries.
    pub count: u64,
    /// The first and the last of them.
    pub range: Option<(StreamId, StreamId)>,
    /// The consumers with any, and how many each has.
    pub consumers: Vec<(String, u64)>,
}

impl<'a> FromValue<'a> for PendingSummary {
    fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError> {
        type Parts = (u64, Option<StreamId>, Option<StreamId>, Option<Vec<(String, u64)>>);
        let (count, first, last, consumers): Parts = value.parse()?;
        Ok(Self { count, range: first.zip(last), consumers: consumers.unwrap_or_default() })
    }
}

/// An entry that a consumer was given and has not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingEntry {
    /// Which it is.
    pub id: StreamId,
    /// Who has it.
    pub consumer: String,
    /// How long ago it was delivered last.
    pub idle: Duration,
    /// How often it was delivered.
    pub deliveries: u64,
}

impl<'a> FromValue<'a> for PendingEntry {
    fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError> {
        let (id, consumer, idle, deliveries) = value.parse()?;
        Ok(Self { id, consumer, idle: Duration::from_millis(idle), deliveries })
    }
}

/// What there is to know about a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamInfo {
    /// The number of entries.
    pub length: u64,
    /// The last identifier that was given out.
    pub last_generated_id: StreamId,
    /// The greatest identifier of an entry that was deleted. Since 7.0.
    pub max_deleted_entry_id: Option<StreamId>,
    /// How many entries were ever added. Since 7.0.
    pub entries_added: Option<u64>,
    /// The number of groups.
    pub groups: u64,
    /// The identifier of the first entry.
    pub first_entry: Option<StreamId>,
    /// The identifier of the last entry.
    pub last_entry: Option<StreamId>,
}

impl<'a> FromValue<'a> for StreamInfo {
    fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError> {
        let fields = Fields::new(value)?;
        let entry = |name| -> Result<Option<StreamId>, ValueError> {
            let entry: Option<StreamEntry<()>> = fields.parse(name)?;
            Ok(entry.map(|entry| entry.id))
        };
        Ok(Self {
            length: fields.parse("length")?,
            last_generated_id: fields.parse("last-generated-id")?,
            max_deleted_entry_id: fields.parse_or_none("max-deleted-entry-id")?,
            entries_added: fields.parse_or_none("entries-added")?,
            groups: fields.parse("groups")?,
            first_entry: entry("first-entry")?,
            last_entry: entry("last-entry")?,
        })
    }
}

/// What there is to know about a group.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupInfo {
    /// Its name.
    pub name: String,
    /// The number of its consumers.
    pub consumers: u64,
    /// How many entries were given out and not acknowledged.
    pub pending: u64,
    /// The last entry that was given out.
    pub last_delivered_id: StreamId,
    /// How many entries were ever given out, if the server can tell. Since 7.0.
    pub entries_read: Option<u64>,
    /// How many entries are yet to be given out, if the server can tell. Since 7.0.
    pub lag: Option<u64>,
}

impl<'a> FromValue<'a> for GroupInfo {
    fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError> {
        let fields = Fields::new(value)?;
        Ok(Self {
            name: fields.parse("name")?,
            consumers: fields.parse("consumers")?,
            pending: fields.parse("pending")?,
            last_delivered_id: fields.parse("last-delivered-id")?,
            entries_read: fields.parse_or_none::<Option<u64>>("entries-read")?.flatten(),
            lag: fields.parse_or_none::<Option<u64>>("lag")?.flatten(),
        })
    }
}

/// What there is to know about a consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumerInfo {
    /// Its name.
    pub name: String,
    /// How many entries it got and has not acknowledged.
    pub pending: u64,
    /// How long ago it last asked for entries.
    pub idle: Duration,
    /// How long ago it last got any, if ever. Valkey, Redis since 7.2.
    pub inactive: Option<Duration>,
}

impl<'a> FromValue<'a> for ConsumerInfo {
    fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError> {
        let fields = Fields::new(value)?;
        let inactive = fields.parse_or_none::<i64>("inactive")?;
        Ok(Self {
            name: fields.parse("name")?,
            pending: fields.parse("pending")?,
            idle: Duration::from_millis(fields.parse("idle")?),
            inactive: inactive.and_then(|time| u64::try_from(time).ok()).map(Duration::from_millis),
        })
    }
}
