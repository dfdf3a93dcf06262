//! Lists.

use std::time::Duration;

use super::{Executor, FromReply, args::seconds};
use crate::command::{Args, Command, ToArg};

/// Commands on [lists](https://valkey.io/commands/#list). Positions count from 0 at the left end, negative ones from the right end, -1 being the last
/// element. Each takes constant time unless it says otherwise.
pub trait ListCommands: Executor {
    /// `BLMOVE`: as [`lmove`](Self::lmove), and waits for an element for so long, for ever if `None`.
    fn blmove<T: FromReply>(
        self,
        from: impl ToArg,
        to: impl ToArg,
        from_end: End,
        to_end: End,
        timeout: Option<Duration>,
    ) -> Self::Answer<Option<T>> {
        let command = Command::new("BLMOVE").arg(from).arg(to).arg(from_end).arg(to_end);
        self.run(command.arg(seconds(timeout)).typed())
    }

    /// `BLMPOP`: as [`lmpop`](Self::lmpop), and waits for an element for so long, for ever if `None`. Since 7.0.
    fn blmpop<K: FromReply, T: FromReply>(
        self,
        keys: impl IntoIterator<Item = impl ToArg, IntoIter: ExactSizeIterator>,
        end: End,
        count: u64,
        timeout: Option<Duration>,
    ) -> Self::Answer<Option<(K, Vec<T>)>> {
        let command = Command::new("BLMPOP").arg(seconds(timeout)).counted(keys);
        self.run(command.arg(end).arg("COUNT").arg(count).typed())
    }

    /// `BLPOP`: the first element of the first list that has any, and that list's key; waits for one for so long, for ever if
    /// `None`. O(keys)
    fn blpop<K: FromReply, T: FromReply>(
        self,
        keys: impl IntoIterator<Item = impl ToArg>,
        timeout: Option<Duration>,
    ) -> Self::Answer<Option<(K, T)>> {
        self.run(Command::new("BLPOP").args(keys).arg(seconds(timeout)).typed())
    }

    /// `BRPOP`: as [`blpop`](Self::blpop), the last element.
    fn brpop<K: FromReply, T: FromReply>(
        self,
        keys: impl IntoIterator<Item = impl ToArg>,
        timeout: Option<Duration>,
    ) -> Self::Answer<Option<(K, T)>> {
        self.run(Command::new("BRPOP").args(keys).arg(seconds(timeout)).typed())
    }

    /// `LINDEX`: the element at a position. O(distance from the nearer end)
    fn lindex<T: FromReply>(self, key: impl ToArg, position: i64) -> Self::Answer<Option<T>> {
        self.run(Command::new("LINDEX").arg(key).arg(position).typed())
    }

    /// `LINSERT`: puts an element before or after the first that equals `pivot`. The new length; 0 where there is no list, -1
    /// where there is no pivot. O(distance)
    fn linsert(
        self,
        key: impl ToArg,
        side: Direction,
        pivot: impl ToArg,
        element: impl ToArg,
    ) -> Self::Answer<i64> {
        self.run(Command::new("LINSERT").arg(key).arg(side).arg(pivot).arg(element).typed())
    }

    /// `LLEN`: the length.
    fn llen(self, key: impl ToArg) -> Self::Answer<u64> {
        self.run(Command::new("LLEN").arg(key).typed())
    }

    /// `LMOVE`: takes an element from an end of one list, puts it to an end of another, and answers with it.
    fn lmove<T: FromReply>(
        self,
        from: impl ToArg,
        to: impl ToArg,
        from_end: End,
        to_end: End,
    ) -> Self::Answer<Option<T>> {
        self.run(Command::new("LMOVE").arg(from).arg(to).arg(from_end).arg(to_end).typed())
    }

    /// `LMPOP`: takes up to `count` elements from the first list that has any; its key and they. Since 7.0. O(keys + count)
    fn lmpop<K: FromReply, T: FromReply>(
        self,
        keys: impl IntoIterator<Item = impl ToArg, IntoIter: ExactSizeIterator>,
        end: End,
        count: u64,
    ) -> Self::Answer<Option<(K, Vec<T>)>> {
        let command = Command::new("LMPOP").counted(keys).arg(end);
        self.run(command.arg("COUNT").arg(count).typed())
    }

    /// `LPOP`: takes the first element.
    fn lpop<T: FromReply>(self, key: impl ToArg) -> Self::Answer<Option<T>> {
        self.run(Command::new("LPOP").arg(key).typed())
    }

    /// `LPOP`: takes the first elements, `count` at most; none where there is no list. O(count)
    fn lpop_count<T: FromReply>(self, key: impl ToArg, count: u64) -> Self::Answer<Option<Vec<T>>> {
        self.run(Command::new("LPOP").arg(key).arg(count).typed())
    }

    /// `LPOS`: where the first element is that equals `element`. O(length)
    fn lpos(self, key: impl ToArg, element: impl ToArg) -> Self::Answer<Option<u64>> {
        self.run(Command::new("LPOS").arg(key).arg(element).typed())
    }

    /// `LPOS … COUNT`: where up to `count` elements are that equal `element`, all if 0. O(length)
    fn lpos_count(
        self,
        key: impl ToArg,
        element: impl ToArg,
        count: u64,
        options: PosOptions,
    ) -> Self::Answer<Vec<u64>> {
        let command = Command::new("LPOS").arg(key).arg(element).arg("COUNT").arg(count);
        self.run(command.arg(options).typed())
    }

    /// `LPUSH`: puts elements before the first, one after the other. The new length. O(elements)
    fn lpush(
        self,
        key: impl ToArg,
        elements: impl IntoIterator<Item = impl ToArg>,
    ) -> Self::Answer<u64> {
        self.run(Command::new("LPUSH").arg(key).args(elements).typed())
    }

    /// `LPUSHX`: as [`lpush`](Self::lpush), if the list exists; else 0.
    fn lpushx(
        self,
        key: impl ToArg,
        elements: impl IntoIterator<Item = impl ToArg>,
    ) -> Self::Answer<u64> {
        self.run(Command::new("LPUSHX").arg(key).args(elements).typed())
    }

    /// `LRANGE`: the elements from `start` to `end`, both included. O(start + elements)
    fn lrange<T: FromReply>(self, key: impl ToArg, start: i64, end: i64) -> Self::Answer<Vec<T>> {
        self.run(Command::new("LRANGE").arg(key).arg(start).arg(end).typed())
    }

    /// `LREM`: removes the first `count` elements that equal `element`; from the right end if negative, all if 0. How many.
    /// O(length)
    fn lrem(self, key: impl ToArg, count: i64, element: impl ToArg) -> Self::Answer<u64> {
        self.run(Command::new("LREM").arg(key).arg(count).arg(element).typed())
    }

    /// `LSET`: replaces the element at a position, which must exist. O(distance from the nearer end)
    fn lset(self, key: impl ToArg, position: i64, element: impl ToArg) -> Self::Answer<()> {
        self.run(Command::new("LSET").arg(key).arg(position).arg(element).typed())
    }

    /// `LTRIM`: keeps the elements from `start` to `end`, both included. O(elements removed)
    fn ltrim(self, key: impl ToArg, start: i64, end: i64) -> Self::Answer<()> {
        self.run(Command::new("LTRIM").arg(key).arg(start).arg(end).typed())
    }

    /// `RPOP`: takes the last element.
    fn rpop<T: FromReply>(self, key: impl ToArg) -> Self::Answer<Option<T>> {
        self.run(Command::new("RPOP").arg(key).typed())
    }

    /// `RPOP`: takes the last elements, `count` at most, the last one first; none where there is no list. O(count)
    fn rpop_count<T: FromReply>(self, key: impl ToArg, count: u64) -> Self::Answer<Option<Vec<T>>> {
        self.run(Command::new("RPOP").arg(key).arg(count).typed())
    }

    /// `RPUSH`: puts elements after the last, one after the other. The new length. O(elements)
    fn rpush(
        self,
        key: impl ToArg,
        elements: impl IntoIterator<Item = impl ToArg>,
    ) -> Self::Answer<u64> {
        self.run(Command::new("RPUSH").arg(key).args(elements).typed())
    }

    /// `RPUSHX`: as [`rpush`](Self::rpush), if the list exists; else 0.
    fn rpushx(
        self,
        key: impl ToArg,
        elements: impl IntoIterator<Item = impl ToArg>,
    ) -> Self::Answer<u64> {
        self.run(Command::new("RPUSHX").arg(key).args(elements).typed())
    }
}

impl<E: Executor> ListCommands for E {}

/// An end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Where position 0 is.
    Left,
    /// Where position -1 is.
    Right,
}

impl ToArg for End {
    fn add_to(&self, args: &mut Args) {
        match self {
            Self::Left => args.push(b"LEFT"),
            Self::Right => args.push(b"RIGHT"),
        }
    }
}

/// A side of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the left of it.
    Before,
    /// To the right of it.
    After,
}

impl ToArg for Direction {
    fn add_to(&self, args: &mut Args) {
        match self {
            Self::Before => args.push(b"BEFORE"),
            Self::After => args.push(b"AFTER"),
        }
    }
}

/// Where [`lpos_count`](ListCommands::lpos_count) looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct PosOptions {
    rank: Option<i64>,
    max_len: Option<u64>,
}

impl PosOptions {
    /// From the left end, the whole list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts with the match of this rank, 1 being the first; from the right end if negative. Not 0.
    pub fn rank(mut self, rank: i64) -> Self {
        self.rank = Some(rank);
        self
    }

    /// Compares so many elements at most.
    pub fn max_len(mut self, max_len: u64) -> Self {
        self.max_len = Some(max_len);
        self
    }
}

impl ToArg for PosOptions {
    fn add_to(&self, args: &mut Args) {
        if let Some(rank) = self.rank {
            ("RANK", rank).add_to(args);
        }
        if let Some(max_len) = self.max_len {
            ("MAXLEN", max_len).add_to(args);
        }
    }
}
