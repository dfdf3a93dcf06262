//! Strings and counters.

use std::time::{Duration, SystemTime};

use respire_codec::{ValueError, ValueRef};

use super::{
    Executor, FromReply,
    args::Expiry,
    replies::{Fields, done},
};
use crate::command::{Args, Command, ToArg};

/// Commands on [strings](https://valkey.io/commands/#string). Each takes constant time unless it says otherwise.
///
/// ```no_run
/// use respire::commands::*;
/// use std::time::Duration;
///
/// # async fn example(client: &respire::Client) -> Result<(), respire::Error> {
/// let lock = SetOptions::new().if_absent().expire_in(Duration::from_secs(10));
/// if client.set_options("lock", "me", lock).await? {
///     let number = client.incrby("counter", 5).await?;
///     println!("{number}");
/// }
/// # Ok(())
/// # }
/// ```
pub trait StringCommands: Executor {
    /// `APPEND`: adds to the end of a value. The new length in bytes.
    fn append(self, key: impl ToArg, value: impl ToArg) -> Self::Answer<u64> {
        self.run(Command::new("APPEND").arg(key).arg(value).typed())
    }

    /// `DECR`: subtracts 1. The new number.
    fn decr(self, key: impl ToArg) -> Self::Answer<i64> {
        self.run(Command::new("DECR").arg(key).typed())
    }

    /// `DECRBY`: subtracts a number. The new number.
    fn decrby(self, key: impl ToArg, by: i64) -> Self::Answer<i64> {
        self.run(Command::new("DECRBY").arg(key).arg(by).typed())
    }

    /// `GET`: the value of a key.
    fn get<T: FromReply>(self, key: impl ToArg) -> Self::Answer<Option<T>> {
        self.run(Command::new("GET").arg(key).typed())
    }

    /// `GETDEL`: the value of a key, which is deleted.
    fn getdel<T: FromReply>(self, key: impl ToArg) -> Self::Answer<Option<T>> {
        self.run(Command::new("GETDEL").arg(key).typed())
    }

    /// `GETEX`: the value of a key, whose time to live is set, or taken away with `None`.
    fn getex<T: FromReply>(
        self,
        key: impl ToArg,
        expiry: Option<Expiry>,
    ) -> Self::Answer<Option<T>> {
        let command = Command::new("GETEX").arg(key);
        self.run(expiry_or_persist(command, expiry).typed())
    }

    /// `GETRANGE`: the bytes of a value from `start` to `end`, both included; negative positions count from the end, -1 being
    /// the last byte. O(length of the answer)
    fn getrange<T: FromReply>(self, key: impl ToArg, start: i64, end: i64) -> Self::Answer<T> {
        self.run(Command::new("GETRANGE").arg(key).arg(start).arg(end).typed())
    }

    /// `INCR`: adds 1. The new number.
    fn incr(self, key: impl ToArg) -> Self::Answer<i64> {
        self.run(Command::new("INCR").arg(key).typed())
    }

    /// `INCRBY`: adds a number. The new number.
    fn incrby(self, key: impl ToArg, by: i64) -> Self::Answer<i64> {
        self.run(Command::new("INCRBY").arg(key).arg(by).typed())
    }

    /// `INCRBYFLOAT`: adds a number. The new number.
    fn incrbyfloat(self, key: impl ToArg, by: f64) -> Self::Answer<f64> {
        self.run(Command::new("INCRBYFLOAT").arg(key).arg(by).typed())
    }

    /// `LCS`: the longest common subsequence of two values. O(product of their lengths)
    fn lcs<T: FromReply>(self, first: impl ToArg, second: impl ToArg) -> Self::Answer<T> {
        self.run(Command::new("LCS").arg(first).arg(second).typed())
    }

    /// `LCS … LEN`: its length.
    fn lcs_len(self, first: impl ToArg, second: impl ToArg) -> Self::Answer<u64> {
        self.run(Command::new("LCS").arg(first).arg(second).arg("LEN").typed())
    }

    /// `LCS … IDX`: where its parts of at least `min_len` bytes are in both.
    fn lcs_matches(self, first: impl ToArg, second: impl ToArg, min_len: u64) -> Self::Answer<Lcs> {
        let command = Command::new("LCS").arg(first).arg(second).arg("IDX");
        self.run(command.arg("MINMATCHLEN").arg(min_len).arg("WITHMATCHLEN").typed())
    }

    /// `MGET`: the values of keys, in their order. O(keys)
    fn mget<T: FromReply>(
        self,
        keys: impl IntoIterator<Item = impl ToArg>,
    ) -> Self::Answer<Vec<Option<T>>> {
        self.run(Command::new("MGET").args(keys).typed())
    }

    /// `MSET`: sets keys, all at once. O(keys)
    fn mset(self, pairs: impl IntoIterator<Item = (impl ToArg, impl ToArg)>) -> Self::Answer<()> {
        self.run(Command::new("MSET").args(pairs).typed())
    }

    /// `MSETNX`: sets keys, all at once, unless one of them exists. Whether it did. O(keys)
    fn msetnx(
        self,
        pairs: impl IntoIterator<Item = (impl ToArg, impl ToArg)>,
    ) -> Self::Answer<bool> {
        self.run(Command::new("MSETNX").args(pairs).typed())
    }

    /// `SET`: sets a key, whatever it was, without a time to live.
    fn set(self, key: impl ToArg, value: impl ToArg) -> Self::Answer<()> {
        self.run(Command::new("SET").arg(key).arg(value).typed())
    }

    /// `SET … PX`: sets a key with a time to live, rounded up to milliseconds.
    fn setex(self, key: impl ToArg, value: impl ToArg, time_to_live: Duration) -> Self::Answer<()> {
        self.run(Command::new("SET").arg(key).arg(value).arg(Expiry::In(time_to_live)).typed())
    }

    /// `SET` with options. Whether it was set, which depends on the condition.
    fn set_options(
        self,
        key: impl ToArg,
        value: impl ToArg,
        options: SetOptions,
    ) -> Self::Answer<bool> {
        let command = Command::new("SET").arg(key).arg(value).arg(options);
        self.run(super::TypedCommand::new(command, done))
    }

    /// `SET … GET`: sets a key and answers with its value before. With a condition, whether it was set is to be told from that:
    /// with [`if_absent`](SetOptions::if_absent), `None` says that it was.
    fn set_get<T: FromReply>(
        self,
        key: impl ToArg,
        value: impl ToArg,
        options: SetOptions,
    ) -> Self::Answer<Option<T>> {
        self.run(Command::new("SET").arg(key).arg(value).arg(options).arg("GET").typed())
    }

    /// `SETNX`: sets a key unless it exists. Whether it did.
    fn setnx(self, key: impl ToArg, value: impl ToArg) -> Self::Answer<bool> {
        self.run(Command::new("SETNX").arg(key).arg(value).typed())
    }

    /// `SETRANGE`: overwrites a value from a position on, in bytes. The new length.
    fn setrange(self, key: impl ToArg, offset: u64, value: impl ToArg) -> Self::Answer<u64> {
        self.run(Command::new("SETRANGE").arg(key).arg(offset).arg(value).typed())
    }

    /// `STRLEN`: the length of a value in bytes; 0 where there is none.
    fn strlen(self, key: impl ToArg) -> Self::Answer<u64> {
        self.run(Command::new("STRLEN").arg(key).typed())
    }
}

impl<E: Executor> StringCommands for E {}

fn expiry_or_persist(command: Command, expiry: Option<Expiry>) -> Command {
    match expiry {
        Some(expiry) => command.arg(expiry),
        None => command.arg("PERSIST"),
    }
}

/// What `SET` depends on and what becomes of the time to live, which it takes away unless told otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct SetOptions {
    exists: Option<bool>,
    expiry: Option<Expiry>,
    keep_ttl: bool,
}

impl SetOptions {
    /// No condition and no time to live.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only if the key does not exist (`NX`).
    pub fn if_absent(mut self) -> Self {
        self.exists = Some(false);
        self
    }

    /// Only if the key exists (`XX`).
    pub fn if_present(mut self) -> Self {
        self.exists = Some(true);
        self
    }

    /// With this time to live, rounded up to milliseconds (`PX`).
    pub fn expire_in(self, time: Duration) -> Self {
        self.with_expiry(Expiry::In(time))
    }

    /// Until this time, to the millisecond (`PXAT`).
    pub fn expire_at(self, time: SystemTime) -> Self {
        self.with_expiry(Expiry::At(time))
    }

    /// With the time to live that the key has (`KEEPTTL`).
    pub fn keep_ttl(mut self) -> Self {
        self.expiry = None;
        self.keep_ttl = true;
        self
    }

    fn with_expiry(mut self, expiry: Expiry) -> Self {
        self.expiry = Some(expiry);
        self.keep_ttl = false;
        self
    }
}

impl ToArg for SetOptions {
    fn add_to(&self, args: &mut Args) {
        if let Some(exists) = self.exists {
            args.push(if exists { b"XX" } else { b"NX" });
        }
        if let Some(expiry) = self.expiry {
            expiry.add_to(args);
        }
        if self.keep_ttl {
            args.push(b"KEEPTTL");
        }
    }
}

/// Where two values have a longest subsequence in common.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lcs {
    /// Its length in bytes, those parts included that were too short to be listed.
    pub len: u64,
    /// Its parts, from the last to the first.
    pub matches: Vec<LcsMatch>,
}

/// A part that two values have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LcsMatch {
    /// Its first and last byte in the first value.
    pub first: (u64, u64),
    /// Its first and last byte in the second value.
    pub second: (u64, u64),
    /// Its length in bytes.
    pub len: u64,
}

impl<'a> respire_codec::FromValue<'a> for LcsMatch {
    fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError> {
        let (first, second, len) = value.parse()?;
        Ok(Self { first, second, len })
    }
}

impl<'a> respire_codec::FromValue<'a> for Lcs {
    fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError> {
        let fields = Fields::new(value)?;
        Ok(Self { len: fields.parse("len")?, matches: fields.parse("matches")? })
    }
}
