//! Hashes.

use super::{Executor, FromReply};
use crate::{
    command::{Command, ToArg},
    scan::ScanOptions,
};

/// Commands on [hashes](https://valkey.io/commands/#hash). Each takes constant time unless it says otherwise.
///
/// To go through all fields there is [`Scan`](crate::Scan).
///
/// ```no_run
/// use std::collections::HashMap;
/// use respire::commands::*;
///
/// # async fn example(client: &respire::Client) -> Result<(), respire::Error> {
/// client.hset("user:7", [("name", "Ada"), ("city", "London")]).await?;
/// let user: HashMap<String, String> = client.hgetall("user:7").await?;
/// assert_eq!(user["name"], "Ada");
/// # Ok(())
/// # }
/// ```
pub trait HashCommands: Executor {
    /// `HDEL`: deletes fields. How many existed. O(fields)
    fn hdel(
        self,
        key: impl ToArg,
        fields: impl IntoIterator<Item = impl ToArg>,
    ) -> Self::Answer<u64> {
        self.run(Command::new("HDEL").arg(key).args(fields).typed())
    }

    /// `HEXISTS`: whether there is a field.
    fn hexists(self, key: impl ToArg, field: impl ToArg) -> Self::Answer<bool> {
        self.run(Command::new("HEXISTS").arg(key).arg(field).typed())
    }

    /// `HGET`: the value of a field.
    fn hget<T: FromReply>(self, key: impl ToArg, field: impl ToArg) -> Self::Answer<Option<T>> {
        self.run(Command::new("HGET").arg(key).arg(field).typed())
    }

    /// `HGETALL`: all fields and values, as a map or as a `Vec` of pairs. O(fields)
    fn hgetall<M: FromReply>(self, key: impl ToArg) -> Self::Answer<M> {
        self.run(Command::new("HGETALL").arg(key).typed())
    }

    /// `HINCRBY`: adds to a number. The new number.
    fn hincrby(self, key: impl ToArg, field: impl ToArg, by: i64) -> Self::Answer<i64> {
        self.run(Command::new("HINCRBY").arg(key).arg(field).arg(by).typed())
    }

    /// `HINCRBYFLOAT`: adds to a number. The new number.
    fn hincrbyfloat(self, key: impl ToArg, field: impl ToArg, by: f64) -> Self::Answer<f64> {
        self.run(Command::new("HINCRBYFLOAT").arg(key).arg(field).arg(by).typed())
    }

    /// `HKEYS`: all fields. O(fields)
    fn hkeys<C: FromReply>(self, key: impl ToArg) -> Self::Answer<C> {
        self.run(Command::new("HKEYS").arg(key).typed())
    }

    /// `HLEN`: the number of fields.
    fn hlen(self, key: impl ToArg) -> Self::Answer<u64> {
        self.run(Command::new("HLEN").arg(key).typed())
    }

    /// `HMGET`: the values of fields, in their order. O(fields)
    fn hmget<T: FromReply>(
        self,
        key: impl ToArg,
        fields: impl IntoIterator<Item = impl ToArg>,
    ) -> Self::Answer<Vec<Option<T>>> {
        self.run(Command::new("HMGET").arg(key).args(fields).typed())
    }

    /// `HRANDFIELD`: any field; `None` where there is no such key.
    fn hrandfield<T: FromReply>(self, key: impl ToArg) -> Self::Answer<Option<T>> {
        self.run(Command::new("HRANDFIELD").arg(key).typed())
    }

    /// `HRANDFIELD`: `count` fields at most, each once; with a negative count exactly so many, and the same one perhaps
    /// several times. O(count)
    fn hrandfield_count<T: FromReply>(self, key: impl ToArg, count: i64) -> Self::Answer<Vec<T>> {
        self.run(Command::new("HRANDFIELD").arg(key).arg(count).typed())
    }

    /// `HRANDFIELD … WITHVALUES`: as [`hrandfield_count`](Self::hrandfield_count), fields and values. O(count)
    fn hrandfield_with_values<F: FromReply, V: FromReply>(
        self,
        key: impl ToArg,
        count: i64,
    ) -> Self::Answer<Vec<(F, V)>> {
        self.run(Command::new("HRANDFIELD").arg(key).arg(count).arg("WITHVALUES").typed())
    }

    /// `HSCAN`: one page of a hash's fields with their values, and where the next one starts: 0 behind the last. O(page)
    ///
    /// [`Client::hscan`](crate::Client::hscan) goes through all pages.
    fn hscan_page<F: FromReply, V: FromReply>(
        self,
        key: impl ToArg,
        options: ScanOptions,
    ) -> Self::Answer<(u64, Vec<(F, V)>)> {
        self.run(options.page_of(Command::new("HSCAN").arg(key)).typed())
    }

    /// `HSET`: sets fields. How many of them are new. O(fields)
    fn hset(
        self,
        key: impl ToArg,
        pairs: impl IntoIterator<Item = (impl ToArg, impl ToArg)>,
    ) -> Self::Answer<u64> {
        self.run(Command::new("HSET").arg(key).args(pairs).typed())
    }

    /// `HSETNX`: sets a field unless it exists. Whether it did.
    fn hsetnx(self, key: impl ToArg, field: impl ToArg, value: impl ToArg) -> Self::Answer<bool> {
        self.run(Command::new("HSETNX").arg(key).arg(field).arg(value).typed())
    }

    /// `HSTRLEN`: the length of a field's value in bytes; 0 where there is none.
    fn hstrlen(self, key: impl ToArg, field: impl ToArg) -> Self::Answer<u64> {
        self.run(Command::new("HSTRLEN").arg(key).arg(field).typed())
    }

    /// `HVALS`: all values. O(fields)
    fn hvals<T: FromReply>(self, key: impl ToArg) -> Self::Answer<Vec<T>> {
        self.run(Command::new("HVALS").arg(key).typed())
    }
}

impl<E: Executor> HashCommands for E {}
