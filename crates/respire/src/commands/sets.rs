//! Sets.

use super::{Executor, FromReply};
use crate::{
    command::{Command, ToArg},
    scan::ScanOptions,
};

/// Commands on [sets](https://valkey.io/commands/#set). Each takes constant time unless it says otherwise. Members are read as any collection: a `Vec`, a
/// `HashSet`.
///
/// To go through all members there is [`Scan`](crate::Scan).
pub trait SetCommands: Executor {
    /// `SADD`: adds members. How many are new. O(members)
    fn sadd(
        self,
        key: impl ToArg,
        members: impl IntoIterator<Item = impl ToArg>,
    ) -> Self::Answer<u64> {
        self.run(Command::new("SADD").arg(key).args(members).typed())
    }

    /// `SCARD`: the number of members.
    fn scard(self, key: impl ToArg) -> Self::Answer<u64> {
        self.run(Command::new("SCARD").arg(key).typed())
    }

    /// `SDIFF`: the members of the first set that are in none of the others. O(members of all)
    fn sdiff<C: FromReply>(self, keys: impl IntoIterator<Item = impl ToArg>) -> Self::Answer<C> {
        self.run(Command::new("SDIFF").args(keys).typed())
    }

    /// `SDIFFSTORE`: makes a set of [`sdiff`](Self::sdiff). Its size.
    fn sdiffstore(
        self,
        to: impl ToArg,
        keys: impl IntoIterator<Item = impl ToArg>,
    ) -> Self::Answer<u64> {
        self.run(Command::new("SDIFFSTORE").arg(to).args(keys).typed())
    }

    /// `SINTER`: the members that are in all sets. O(members of the smallest × sets)
    fn sinter<C: FromReply>(self, keys: impl IntoIterator<Item = impl ToArg>) -> Self::Answer<C> {
        self.run(Command::new("SINTER").args(keys).typed())
    }

    /// `SINTERCARD`: how many members are in all sets, counted up to a limit if there is one. Since 7.0.
    fn sintercard(
        self,
        keys: impl IntoIterator<Item = impl ToArg, IntoIter: ExactSizeIterator>,
        limit: Option<u64>,
    ) -> Self::Answer<u64> {
        let limit = limit.map(|limit| ("LIMIT", limit));
        self.run(Command::new("SINTERCARD").counted(keys).optional(limit).typed())
    }

    /// `SINTERSTORE`: makes a set of [`sinter`](Self::sinter). Its size.
    fn sinterstore(
        self,
        to: impl ToArg,
        keys: impl IntoIterator<Item = impl ToArg>,
    ) -> Self::Answer<u64> {
        self.run(Command::new("SINTERSTORE").arg(to).args(keys).typed())
    }

    /// `SISMEMBER`: whether it is a member.
    fn sismember(self, key: impl ToArg, member: impl ToArg) -> Self::Answer<bool> {
        self.run(Command::new("SISMEMBER").arg(key).arg(member).typed())
    }

    /// `SMEMBERS`: all members. O(members)
    fn smembers<C: FromReply>(self, key: impl ToArg) -> Self::Answer<C> {
        self.run(Command::new("SMEMBERS").arg(key).typed())
    }

    /// `SMISMEMBER`: of each whether it is a member. O(members asked for)
    fn smismember(
        self,
        key: impl ToArg,
        members: impl IntoIterator<Item = impl ToArg>,
    ) -> Self::Answer<Vec<bool>> {
        self.run(Command::new("SMISMEMBER").arg(key).args(members).typed())
    }

    /// `SMOVE`: moves a member to another set. Whether it was one.
    fn smove(self, from: impl ToArg, to: impl ToArg, member: impl ToArg) -> Self::Answer<bool> {
        self.run(Command::new("SMOVE").arg(from).arg(to).arg(member).typed())
    }

    /// `SPOP`: takes any member.
    fn spop<T: FromReply>(self, key: impl ToArg) -> Self::Answer<Option<T>> {
        self.run(Command::new("SPOP").arg(key).typed())
    }

    /// `SPOP`: takes `count` members at most. O(count)
    fn spop_count<C: FromReply>(self, key: impl ToArg, count: u64) -> Self::Answer<C> {
        self.run(Command::new("SPOP").arg(key).arg(count).typed())
    }

    /// `SRANDMEMBER`: any member.
    fn srandmember<T: FromReply>(self, key: impl ToArg) -> Self::Answer<Option<T>> {
        self.run(Command::new("SRANDMEMBER").arg(key).typed())
    }

    /// `SRANDMEMBER`: `count` members at most, each once; with a negative count exactly so many, and the same one perhaps
    /// several times. O(count)
    fn srandmember_count<C: FromReply>(self, key: impl ToArg, count: i64) -> Self::Answer<C> {
        self.run(Command::new("SRANDMEMBER").arg(key).arg(count).typed())
    }

    /// `SREM`: removes members. How many there were. O(members)
    fn srem(
        self,
        key: impl ToArg,
        members: impl IntoIterator<Item = impl ToArg>,
    ) -> Self::Answer<u64> {
        self.run(Command::new("SREM").arg(key).args(members).typed())
    }

    /// `SSCAN`: one page of a set's members, and where the next one starts: 0 behind the last. O(page)
    ///
    /// [`Client::sscan`](crate::Client::sscan) goes through all pages.
    fn sscan_page<T: FromReply>(
        self,
        key: impl ToArg,
        options: ScanOptions,
    ) -> Self::Answer<(u64, Vec<T>)> {
        self.run(options.page_of(Command::new("SSCAN").arg(key)).typed())
    }

    /// `SUNION`: the members of all sets. O(members of all)
    fn sunion<C: FromReply>(self, keys: impl IntoIterator<Item = impl ToArg>) -> Self::Answer<C> {
        self.run(Command::new("SUNION").args(keys).typed())
    }

    /// `SUNIONSTORE`: makes a set of [`sunion`](Self::sunion). Its size.
    fn sunionstore(
        self,
        to: impl ToArg,
        keys: impl IntoIterator<Item = impl ToArg>,
    ) -> Self::Answer<u64> {
        self.run(Command::new("SUNIONSTORE").arg(to).args(keys).typed())
    }
}

impl<E: Executor> SetCommands for E {}
