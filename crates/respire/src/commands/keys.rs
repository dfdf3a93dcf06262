//! Keys, whatever their type.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use respire_codec::{FromValue, ValueError, ValueRef};

use super::{
    Executor, FromReply, TypedCommand,
    args::{Condition, Order, milliseconds, unix_milliseconds},
};
use crate::{
    Bytes,
    command::{Args, Command, ToArg},
    scan::ScanOptions,
};

/// Commands on [keys](https://valkey.io/commands/#generic) of any type. Each takes constant time unless it says otherwise.
///
/// To go through all keys there is [`Scan`](crate::Scan).
pub trait KeyCommands: Executor {
    /// `COPY`: copies a value to another key; one that exists is replaced only if asked to. Whether it was copied. O(size)
    fn copy(self, from: impl ToArg, to: impl ToArg, replace: bool) -> Self::Answer<bool> {
        let command = Command::new("COPY").arg(from).arg(to).word_if(replace, "REPLACE");
        self.run(command.typed())
    }

    /// `DEL`: deletes keys. How many existed. O(keys, and members of what is no string)
    fn del(self, keys: impl IntoIterator<Item = impl ToArg>) -> Self::Answer<u64> {
        self.run(Command::new("DEL").args(keys).typed())
    }

    /// `DUMP`: a value as [`restore`](Self::restore) takes it. O(size)
    fn dump(self, key: impl ToArg) -> Self::Answer<Option<Bytes>> {
        self.run(Command::new("DUMP").arg(key).typed())
    }

    /// `EXISTS`: how many of the keys exist; one that is named twice counts twice. O(keys)
    fn exists(self, keys: impl IntoIterator<Item = impl ToArg>) -> Self::Answer<u64> {
        self.run(Command::new("EXISTS").args(keys).typed())
    }

    /// `PEXPIRE`: sets a key's time to live, rounded up to milliseconds. Whether the key exists. Nothing deletes it at once.
    fn expire(self, key: impl ToArg, time: Duration) -> Self::Answer<bool> {
        self.run(Command::new("PEXPIRE").arg(key).arg(milliseconds(time)).typed())
    }

    /// `PEXPIRE` on a condition. Whether the time to live was set.
    fn expire_if(
        self,
        key: impl ToArg,
        time: Duration,
        condition: Condition,
    ) -> Self::Answer<bool> {
        let command = Command::new("PEXPIRE").arg(key).arg(milliseconds(time));
        self.run(command.arg(condition).typed())
    }

    /// `PEXPIREAT`: sets when a key ceases to be, to the millisecond. Whether the key exists. What is past deletes it at once.
    fn expireat(self, key: impl ToArg, time: SystemTime) -> Self::Answer<bool> {
        self.run(Command::new("PEXPIREAT").arg(key).arg(unix_milliseconds(time)).typed())
    }

    /// `PEXPIREAT` on a condition. Whether the time was set.
    fn expireat_if(
        self,
        key: impl ToArg,
        time: SystemTime,
        condition: Condition,
    ) -> Self::Answer<bool> {
        let command = Command::new("PEXPIREAT").arg(key).arg(unix_milliseconds(time));
        self.run(command.arg(condition).typed())
    }

    /// `PEXPIRETIME`: when a key ceases to be; `None` where it does not, or does not exist. Since 7.0.
    fn expiretime(self, key: impl ToArg) -> Self::Answer<Option<SystemTime>> {
        self.run(TypedCommand::new(Command::new("PEXPIRETIME").arg(key), |reply| {
            let time = u64::try_from(reply.parse::<i64>()?).ok();
            Ok(time.and_then(|time| UNIX_EPOCH.checked_add(Duration::from_millis(time))))
        }))
    }

    /// `KEYS`: all keys that match a pattern. O(keys in the database), all of it in one step that blocks the server: see
    /// [`Scan`](crate::Scan).
    fn keys<T: FromReply>(self, pattern: impl ToArg) -> Self::Answer<Vec<T>> {
        self.run(Command::new("KEYS").arg(pattern).typed())
    }

    /// `MOVE`: moves a key to another database. Whether it was moved, as it is unless the key exists there.
    fn move_to_database(self, key: impl ToArg, database: u32) -> Self::Answer<bool> {
        self.run(Command::new("MOVE").arg(key).arg(database).typed())
    }

    /// `OBJECT ENCODING`: how a value is stored: `listpack`, `embstr` and so on.
    fn object_encoding(self, key: impl ToArg) -> Self::Answer<Option<String>> {
        self.run(Command::new("OBJECT").arg("ENCODING").arg(key).typed())
    }

    /// `OBJECT FREQ`: how often a value is accessed, on a logarithmic scale; an error unless the server evicts by frequency.
    fn object_freq(self, key: impl ToArg) -> Self::Answer<Option<u64>> {
        self.run(Command::new("OBJECT").arg("FREQ").arg(key).typed())
    }

    /// `OBJECT IDLETIME`: for how long a value was not accessed, in steps of about ten seconds.
    fn object_idletime(self, key: impl ToArg) -> Self::Answer<Option<Duration>> {
        let command = Command::new("OBJECT").arg("IDLETIME").arg(key);
        self.run(TypedCommand::new(command, |reply| {
            Ok(reply.parse::<Option<u64>>()?.map(Duration::from_secs))
        }))
    }

    /// `OBJECT REFCOUNT`: how many references there are to a value.
    fn object_refcount(self, key: impl ToArg) -> Self::Answer<Option<u64>> {
        self.run(Command::new("OBJECT").arg("REFCOUNT").arg(key).typed())
    }

    /// `PERSIST`: takes a key's time to live away. Whether it had one.
    fn persist(self, key: impl ToArg) -> Self::Answer<bool> {
        self.run(Command::new("PERSIST").arg(key).typed())
    }

    /// `RANDOMKEY`: any key; `None` in an empty database.
    fn randomkey<T: FromReply>(self) -> Self::Answer<Option<T>> {
        self.run(Command::new("RANDOMKEY").typed())
    }

    /// `RENAME`: renames a key, over another one if there is. An error where it does not exist.
    fn rename(self, from: impl ToArg, to: impl ToArg) -> Self::Answer<()> {
        self.run(Command::new("RENAME").arg(from).arg(to).typed())
    }

    /// `RENAMENX`: renames a key unless the new name exists. Whether it did. An error where the key does not exist.
    fn renamenx(self, from: impl ToArg, to: impl ToArg) -> Self::Answer<bool> {
        self.run(Command::new("RENAMENX").arg(from).arg(to).typed())
    }

    /// `RESTORE`: makes a key of what [`dump`](Self::dump) answered, with this time to live, or none. One that exists is
    /// replaced only if asked to, and is an error else. O(size)
    fn restore(
        self,
        key: impl ToArg,
        dump: impl ToArg,
        time_to_live: Option<Duration>,
        replace: bool,
    ) -> Self::Answer<()> {
        let time_to_live = time_to_live.map_or(0, milliseconds);
        let command = Command::new("RESTORE").arg(key).arg(time_to_live).arg(dump);
        self.run(command.word_if(replace, "REPLACE").typed())
    }

    /// `SCAN`: one page of the database's keys, and where the next one starts: 0 behind the last. O(page)
    ///
    /// [`Client::scan`](crate::Client::scan) goes through all pages.
    fn scan_page<T: FromReply>(self, options: ScanOptions) -> Self::Answer<(u64, Vec<T>)> {
        self.run(options.page_of(Command::new("SCAN")).typed())
    }

    /// `SORT_RO`: the elements of a list, set or sorted set in order. O(n log n)
    fn sort<T: FromReply>(self, key: impl ToArg, options: SortOptions) -> Self::Answer<Vec<T>> {
        self.run(Command::new("SORT_RO").arg(key).arg(options).typed())
    }

    /// `SORT … STORE`: makes a list of the elements in order. Its length. O(n log n)
    fn sort_store(
        self,
        key: impl ToArg,
        options: SortOptions,
        to: impl ToArg,
    ) -> Self::Answer<u64> {
        self.run(Command::new("SORT").arg(key).arg(options).arg("STORE").arg(to).typed())
    }

    /// `TOUCH`: marks keys as accessed. How many exist. O(keys)
    fn touch(self, keys: impl IntoIterator<Item = impl ToArg>) -> Self::Answer<u64> {
        self.run(Command::new("TOUCH").args(keys).typed())
    }

    /// `PTTL`: a key's time to live.
    fn ttl(self, key: impl ToArg) -> Self::Answer<Ttl> {
        self.run(Command::new("PTTL").arg(key).typed())
    }

    /// `TYPE`: `string`, `list`, `hash` and so on; `None` where there is no such key.
    fn key_type(self, key: impl ToArg) -> Self::Answer<Option<String>> {
        self.run(TypedCommand::new(Command::new("TYPE").arg(key), |reply| {
            Ok(Some(reply.parse::<String>()?).filter(|name| name != "none"))
        }))
    }

    /// `UNLINK`: deletes keys, and frees their memory aside. How many existed. O(keys)
    fn unlink(self, keys: impl IntoIterator<Item = impl ToArg>) -> Self::Answer<u64> {
        self.run(Command::new("UNLINK").args(keys).typed())
    }

    /// `WAIT`: how many replicas have everything that this connection wrote, once it is `replicas` or after `timeout`, for
    /// ever if `None`. It may block, and tells of the connection that it is sent over: on one of your own.
    fn wait(self, replicas: u64, timeout: Option<Duration>) -> Self::Answer<u64> {
        let timeout = timeout.map_or(0, |timeout| milliseconds(timeout).max(1));
        self.run(Command::new("WAIT").arg(replicas).arg(timeout).typed())
    }
}

impl<E: Executor> KeyCommands for E {}

/// A key's time to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// There is no such key.
    Missing,
    /// It has none.
    Forever,
    /// It is there for so long, to the millisecond.
    In(Duration),
}

impl<'a> FromValue<'a> for Ttl {
    fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError> {
        match value.parse::<i64>()? {
            -2 => Ok(Self::Missing),
            -1 => Ok(Self::Forever),
            time => match u64::try_from(time) {
                Ok(time) => Ok(Self::In(Duration::from_millis(time))),
                Err(_) => Err(ValueError::other_form("a time to live", value.kind())),
            },
        }
    }
}

/// How [`sort`](KeyCommands::sort) sorts, and what it answers with.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct SortOptions {
    by: Option<Bytes>,
    limit: Option<(u64, i64)>,
    get: Vec<Bytes>,
    order: Option<Order>,
    alphabetic: bool,
}

impl SortOptions {
    /// By the elements, as numbers, from the least on.
    pub fn new() -> Self {
        Self::default()
    }

    /// By the values of other keys, whose names are this pattern with the element in place of `*`. A cluster refuses it.
    pub fn by(mut self, pattern: impl Into<Bytes>) -> Self {
        self.by = Some(pattern.into());
        self
    }

    /// Passes over `offset` elements and takes `count` at most; a negative count takes all.
    pub fn limit(mut self, offset: u64, count: i64) -> Self {
        self.limit = Some((offset, count));
        self
    }

    /// Answers with the values of other keys, named as in [`by`](Self::by), in place of the elements; `#` is the element
    /// itself. May be said several times.
    pub fn get(mut self, pattern: impl Into<Bytes>) -> Self {
        self.get.push(pattern.into());
        self
    }

    /// In this order.
    pub fn order(mut self, order: Order) -> Self {
        self.order = Some(order);
        self
    }

    /// As bytes, not as numbers.
    pub fn alphabetic(mut self) -> Self {
        self.alphabetic = true;
        self
    }
}

impl ToArg for SortOptions {
    fn add_to(&self, args: &mut Args) {
        if let Some(by) = &self.by {
            ("BY", by).add_to(args);
        }
        if let Some(limit) = &self.limit {
            ("LIMIT", *limit).add_to(args);
        }
        for get in &self.get {
            ("GET", get).add_to(args);
        }
        if let Some(order) = self.order {
            order.add_to(args);
        }
        if self.alphabetic {
            args.push(b"ALPHA");
        }
    }
}
