//! Sorted sets.

use std::time::Duration;

use respire_codec::{FromValue, ValueError, ValueRef};

use super::{Executor, FromReply, TypedCommand, args::seconds};
use crate::{
    Bytes,
    command::{Args, Command, ToArg},
    scan::ScanOptions,
};

/// Commands on [sorted sets](https://valkey.io/commands/#sorted-set) of `n` members. Each takes O(log n) unless it says
/// otherwise.
///
/// To go through all members there is [`Scan`](crate::Scan).
///
/// ```no_run
/// use respire::commands::*;
///
/// # async fn example(client: &respire::Client) -> Result<(), respire::Error> {
/// client.zadd("board", [(10.5, "ada"), (7.0, "grace")]).await?;
/// let top = Zrange::by_rank(0, 9).reversed();
/// for entry in client.zrange_with_scores::<String>("board", top).await? {
///     println!("{} {}", entry.member, entry.score);
/// }
/// let good: Vec<String> =
///     client.zrange("board", Zrange::by_score(ScoreBound::Above(7.0), ScoreBound::Max)).await?;
/// # Ok(())
/// # }
/// ```
pub trait SortedSetCommands: Executor {
    /// `BZMPOP`: as [`zmpop`](Self::zmpop), and waits for a member for so long, for ever if `None`. Since 7.0.
    fn bzmpop<K: FromReply, T: FromReply>(
        self,
        keys: impl IntoIterator<Item = impl ToArg, IntoIter: ExactSizeIterator>,
        extreme: Extreme,
        count: u64,
        timeout: Option<Duration>,
    ) -> Self::Answer<Option<Popped<K, T>>> {
        let command = Command::new("BZMPOP").arg(seconds(timeout)).counted(keys);
        self.run(command.arg(extreme).arg("COUNT").arg(count).typed())
    }

    /// `BZPOPMAX`: takes the member with the greatest score from the first set that has any; that set's key and it. Waits for
    /// one for so long, for ever if `None`.
    fn bzpopmax<K: FromReply, T: FromReply>(
        self,
        keys: impl IntoIterator<Item = impl ToArg>,
        timeout: Option<Duration>,
    ) -> Self::Answer<Option<(K, Scored<T>)>> {
        let command = Command::new("BZPOPMAX").args(keys).arg(seconds(timeout));
        self.run(TypedCommand::new(command, key_and_scored))
    }

    /// `BZPOPMIN`: as [`bzpopmax`](Self::bzpopmax), the least score.
    fn bzpopmin<K: FromReply, T: FromReply>(
        self,
        keys: impl IntoIterator<Item = impl ToArg>,
        timeout: Option<Duration>,
    ) -> Self::Answer<Option<(K, Scored<T>)>> {
        let command = Command::new("BZPOPMIN").args(keys).arg(seconds(timeout));
        self.run(TypedCommand::new(command, key_and_scored))
    }

    /// `ZADD`: adds members, or changes their scores. How many are new. O(members × log n)
    fn zadd(
        self,
        key: impl ToArg,
        members: impl IntoIterator<Item = (f64, impl ToArg)>,
    ) -> Self::Answer<u64> {
        self.run(Command::new("ZADD").arg(key).args(members).typed())
    }

    /// `ZADD` with options. How many members are new; with [`count_changed`](ZaddOptions::count_changed), new or changed.
    fn zadd_options(
        self,
        key: impl ToArg,
        options: ZaddOptions,
        members: impl IntoIterator<Item = (f64, impl ToArg)>,
    ) -> Self::Answer<u64> {
        self.run(Command::new("ZADD").arg(key).arg(options).args(members).typed())
    }

    /// `ZADD … INCR`: adds to a score. The new score, or `None` where the options forbid it.
    fn zadd_incr(
        self,
        key: impl ToArg,
        options: ZaddOptions,
        by: f64,
        member: impl ToArg,
    ) -> Self::Answer<Option<f64>> {
        let command = Command::new("ZADD").arg(key).arg(options).arg("INCR");
        self.run(command.arg(by).arg(member).typed())
    }

    /// `ZCARD`: the number of members. O(1)
    fn zcard(self, key: impl ToArg) -> Self::Answer<u64> {
        self.run(Command::new("ZCARD").arg(key).typed())
    }

    /// `ZCOUNT`: the number of members with a score between two.
    fn zcount(
        self,
        key: impl ToArg,
        min: impl Into<ScoreBound>,
        max: impl Into<ScoreBound>,
    ) -> Self::Answer<u64> {
        self.run(Command::new("ZCOUNT").arg(key).arg(min.into()).arg(max.into()).typed())
    }

    /// `ZDIFF`: the members of the first set that are in none of the others. O(members of all × log n)
    fn zdiff<T: FromReply>(
        self,
        keys: impl IntoIterator<Item = impl ToArg, IntoIter: ExactSizeIterator>,
    ) -> Self::Answer<Vec<T>> {
        self.run(Command::new("ZDIFF").counted(keys).typed())
    }

    /// `ZDIFF … WITHSCORES`
    fn zdiff_with_scores<T: FromReply>(
        self,
        keys: impl IntoIterator<Item = impl ToArg, IntoIter: ExactSizeIterator>,
    ) -> Self::Answer<Vec<Scored<T>>> {
        self.run(Command::new("ZDIFF").counted(keys).arg("WITHSCORES").typed())
    }

    /// `ZDIFFSTORE`: makes a sorted set of [`zdiff`](Self::zdiff). Its size.
    fn zdiffstore(
        self,
        to: impl ToArg,
        keys: impl IntoIterator<Item = impl ToArg, IntoIter: ExactSizeIterator>,
    ) -> Self::Answer<u64> {
        self.run(Command::new("ZDIFFSTORE").arg(to).counted(keys).typed())
    }

    /// `ZINCRBY`: adds to a score. The new score.
    fn zincrby(self, key: impl ToArg, by: f64, member: impl ToArg) -> Self::Answer<f64> {
        self.run(Command::new("ZINCRBY").arg(key).arg(by).arg(member).typed())
    }

    /// `ZINTER`: the members that are in all sets, in the order of their combined scores. O(members of the smallest × sets)
    fn zinter<T: FromReply>(
        self,
        keys: impl IntoIterator<Item = impl ToArg, IntoIter: ExactSizeIterator>,
        options: Combine,
    ) -> Self::Answer<Vec<T>> {
        self.run(Command::new("ZINTER").counted(keys).arg(options).typed())
    }

    /// `ZINTER … WITHSCORES`
    fn zinter_with_scores<T: FromReply>(
        self,
        keys: impl IntoIterator<Item = impl ToArg, IntoIter: ExactSizeIterator>,
        options: Combine,
    ) -> Self::Answer<Vec<Scored<T>>> {
        self.run(Command::new("ZINTER").counted(keys).arg(options).arg("WITHSCORES").typed())
    }

    /// `ZINTERCARD`: how many members are in all sets, counted up to a limit if there is one. Since 7.0.
    fn zintercard(
        self,
        keys: impl IntoIterator<Item = impl ToArg, IntoIter: ExactSizeIterator>,
        limit: Option<u64>,
    ) -> Self::Answer<u64> {
        let limit = limit.map(|limit| ("LIMIT", limit));
        self.run(Command::new("ZINTERCARD").counted(keys).optional(limit).typed())
    }

    /// `ZINTERSTORE`: makes a sorted set of [`zinter`](Self::zinter). Its size.
    fn zinterstore(
        self,
        to: impl ToArg,
        keys: impl IntoIterator<Item = impl ToArg, IntoIter: ExactSizeIterator>,
        options: Combine,
    ) -> Self::Answer<u64> {
        self.run(Command::new("ZINTERSTORE").arg(to).counted(keys).arg(options).typed())
    }

    /// `ZLEXCOUNT`: the number of members between two, where all scores are equal.
    fn zlexcount(self, key: impl ToArg, min: LexBound, max: LexBound) -> Self::Answer<u64> {
        self.run(Command::new("ZLEXCOUNT").arg(key).arg(min).arg(max).typed())
    }

    /// `ZMPOP`: takes up to `count` members with the least or greatest scores from the first set that has any; that set's key
    /// and they. Since 7.0.
    fn zmpop<K: FromReply, T: FromReply>(
        self,
        keys: impl IntoIterator<Item = impl ToArg, IntoIter: ExactSizeIterator>,
        extreme: Extreme,
        count: u64,
    ) -> Self::Answer<Option<Popped<K, T>>> {
        let command = Command::new("ZMPOP").counted(keys).arg(extreme);
        self.run(command.arg("COUNT").arg(count).typed())
    }

    /// `ZMSCORE`: the scores of members, in their order. O(members)
    fn zmscore(
        self,
        key: impl ToArg,
        members: impl IntoIterator<Item = impl ToArg>,
    ) -> Self::Answer<Vec<Option<f64>>> {
        self.run(Command::new("ZMSCORE").arg(key).args(members).typed())
    }

    /// `ZPOPMAX`: takes the member with the greatest score.
    fn zpopmax<T: FromReply>(self, key: impl ToArg) -> Self::Answer<Option<Scored<T>>> {
        self.run(TypedCommand::new(Command::new("ZPOPMAX").arg(key), first))
    }

    /// `ZPOPMAX`: takes up to `count` members with the greatest scores, the greatest first. O(count × log n)
    fn zpopmax_count<T: FromReply>(
        self,
        key: impl ToArg,
        count: u64,
    ) -> Self::Answer<Vec<Scored<T>>> {
        self.run(Command::new("ZPOPMAX").arg(key).arg(count).typed())
    }

    /// `ZPOPMIN`: takes the member with the least score.
    fn zpopmin<T: FromReply>(self, key: impl ToArg) -> Self::Answer<Option<Scored<T>>> {
        self.run(TypedCommand::new(Command::new("ZPOPMIN").arg(key), first))
    }

    /// `ZPOPMIN`: takes up to `count` members with the least scores, the least first. O(count × log n)
    fn zpopmin_count<T: FromReply>(
        self,
        key: impl ToArg,
        count: u64,
    ) -> Self::Answer<Vec<Scored<T>>> {
        self.run(Command::new("ZPOPMIN").arg(key).arg(count).typed())
    }

    /// `ZRANDMEMBER`: any member.
    fn zrandmember<T: FromReply>(self, key: impl ToArg) -> Self::Answer<Option<T>> {
        self.run(Command::new("ZRANDMEMBER").arg(key).typed())
    }

    /// `ZRANDMEMBER`: `count` members at most, each once; with a negative count exactly so many, and the same one perhaps
    /// several times. O(count)
    fn zrandmember_count<T: FromReply>(self, key: impl ToArg, count: i64) -> Self::Answer<Vec<T>> {
        self.run(Command::new("ZRANDMEMBER").arg(key).arg(count).typed())
    }

    /// `ZRANDMEMBER … WITHSCORES`
    fn zrandmember_with_scores<T: FromReply>(
        self,
        key: impl ToArg,
        count: i64,
    ) -> Self::Answer<Vec<Scored<T>>> {
        self.run(Command::new("ZRANDMEMBER").arg(key).arg(count).arg("WITHSCORES").typed())
    }

    /// `ZRANGE`: the members of a range. O(log n + members)
    fn zrange<T: FromReply>(self, key: impl ToArg, range: Zrange) -> Self::Answer<Vec<T>> {
        self.run(Command::new("ZRANGE").arg(key).arg(range).typed())
    }

    /// `ZRANGE … WITHSCORES`; not for a range of [`by_lex`](Zrange::by_lex).
    fn zrange_with_scores<T: FromReply>(
        self,
        key: impl ToArg,
        range: Zrange,
    ) -> Self::Answer<Vec<Scored<T>>> {
        self.run(Command::new("ZRANGE").arg(key).arg(range).arg("WITHSCORES").typed())
    }

    /// `ZRANGESTORE`: makes a sorted set of a range. Its size. O(log n + members)
    fn zrangestore(self, to: impl ToArg, key: impl ToArg, range: Zrange) -> Self::Answer<u64> {
        self.run(Command::new("ZRANGESTORE").arg(to).arg(key).arg(range).typed())
    }

    /// `ZRANK`: how many members have a lesser score, or an equal one and come before it.
    fn zrank(self, key: impl ToArg, member: impl ToArg) -> Self::Answer<Option<u64>> {
        self.run(Command::new("ZRANK").arg(key).arg(member).typed())
    }

    /// `ZRANK … WITHSCORE`: the rank and the score. *Valkey*, Redis since 7.2.
    fn zrank_with_score(
        self,
        key: impl ToArg,
        member: impl ToArg,
    ) -> Self::Answer<Option<(u64, f64)>> {
        self.run(Command::new("ZRANK").arg(key).arg(member).arg("WITHSCORE").typed())
    }

    /// `ZREM`: removes members. How many there were. O(members × log n)
    fn zrem(
        self,
        key: impl ToArg,
        members: impl IntoIterator<Item = impl ToArg>,
    ) -> Self::Answer<u64> {
        self.run(Command::new("ZREM").arg(key).args(members).typed())
    }

    /// `ZREMRANGEBYLEX`: removes the members between two, where all scores are equal. How many. O(log n + members)
    fn zremrangebylex(self, key: impl ToArg, min: LexBound, max: LexBound) -> Self::Answer<u64> {
        self.run(Command::new("ZREMRANGEBYLEX").arg(key).arg(min).arg(max).typed())
    }

    /// `ZREMRANGEBYRANK`: removes the members from one rank to another, both included. How many. O(log n + members)
    fn zremrangebyrank(self, key: impl ToArg, start: i64, end: i64) -> Self::Answer<u64> {
        self.run(Command::new("ZREMRANGEBYRANK").arg(key).arg(start).arg(end).typed())
    }

    /// `ZREMRANGEBYSCORE`: removes the members with a score between two. How many. O(log n + members)
    fn zremrangebyscore(
        self,
        key: impl ToArg,
        min: impl Into<ScoreBound>,
        max: impl Into<ScoreBound>,
    ) -> Self::Answer<u64> {
        self.run(Command::new("ZREMRANGEBYSCORE").arg(key).arg(min.into()).arg(max.into()).typed())
    }

    /// `ZREVRANK`: how many members have a greater score, or an equal one and come after it.
    fn zrevrank(self, key: impl ToArg, member: impl ToArg) -> Self::Answer<Option<u64>> {
        self.run(Command::new("ZREVRANK").arg(key).arg(member).typed())
    }

    /// `ZSCAN`: one page of a sorted set's members with their scores, and where the next one starts: 0 behind the last.
    /// O(page)
    ///
    /// [`Client::zscan`](crate::Client::zscan) goes through all pages.
    fn zscan_page<T: FromReply>(
        self,
        key: impl ToArg,
        options: ScanOptions,
    ) -> Self::Answer<(u64, Vec<Scored<T>>)> {
        self.run(options.page_of(Command::new("ZSCAN").arg(key)).typed())
    }

    /// `ZSCORE`: the score of a member. O(1)
    fn zscore(self, key: impl ToArg, member: impl ToArg) -> Self::Answer<Option<f64>> {
        self.run(Command::new("ZSCORE").arg(key).arg(member).typed())
    }

    /// `ZUNION`: the members of all sets, in the order of their combined scores. O(members of all × log n)
    fn zunion<T: FromReply>(
        self,
        keys: impl IntoIterator<Item = impl ToArg, IntoIter: ExactSizeIterator>,
        options: Combine,
    ) -> Self::Answer<Vec<T>> {
        self.run(Command::new("ZUNION").counted(keys).arg(options).typed())
    }

    /// `ZUNION … WITHSCORES`
    fn zunion_with_scores<T: FromReply>(
        self,
        keys: impl IntoIterator<Item = impl ToArg, IntoIter: ExactSizeIterator>,
        options: Combine,
    ) -> Self::Answer<Vec<Scored<T>>> {
        self.run(Command::new("ZUNION").counted(keys).arg(options).arg("WITHSCORES").typed())
    }

    /// `ZUNIONSTORE`: makes a sorted set of [`zunion`](Self::zunion). Its size.
    fn zunionstore(
        self,
        to: impl ToArg,
        keys: impl IntoIterator<Item = impl ToArg, IntoIter: ExactSizeIterator>,
        options: Combine,
    ) -> Self::Answer<u64> {
        self.run(Command::new("ZUNIONSTORE").arg(to).counted(keys).arg(options).typed())
    }
}

impl<E: Executor> SortedSetCommands for E {}

fn key_and_scored<K: FromReply, T: FromReply>(
    value: ValueRef<'_>,
) -> Result<Option<(K, Scored<T>)>, ValueError> {
    let popped: Option<(K, T, f64)> = value.parse()?;
    Ok(popped.map(|(key, member, score)| (key, Scored { member, score })))
}

fn first<T: FromReply>(value: ValueRef<'_>) -> Result<Option<Scored<T>>, ValueError> {
    Ok(value.parse::<Vec<Scored<T>>>()?.into_iter().next())
}

/// A member of a sorted set and its score.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Scored<T> {
    /// What is in the set.
    pub member: T,
    /// What it is sorted by.
    pub score: f64,
}

impl<'a, T: FromValue<'a>> FromValue<'a> for Scored<T> {
    fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError> {
        let (member, score) = value.parse()?;
        Ok(Self { member, score })
    }

    fn vec_from_value(value: ValueRef<'a>) -> Result<Vec<Self>, ValueError> {
        let pairs: Vec<(T, f64)> = value.parse()?;
        Ok(pairs.into_iter().map(|(member, score)| Self { member, score }).collect())
    }
}

/// Members that were taken from one of several sorted sets.
#[derive(Clone, Debug, PartialEq)]
pub struct Popped<K, T> {
    /// Which of them.
    pub key: K,
    /// The members, the extreme one first.
    pub members: Vec<Scored<T>>,
}

impl<'a, K: FromValue<'a>, T: FromValue<'a>> FromValue<'a> for Popped<K, T> {
    fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError> {
        let (key, members) = value.parse()?;
        Ok(Self { key, members })
    }
}

/// Which members are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extreme {
    /// Those with the least scores.
    Min,
    /// Those with the greatest.
    Max,
}

impl ToArg for Extreme {
    fn add_to(&self, args: &mut Args) {
        match self {
            Self::Min => args.push(b"MIN"),
            Self::Max => args.push(b"MAX"),
        }
    }
}

/// An end of a range of scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ScoreBound {
    /// Negative infinity: the range has no lower end.
    Min,
    /// This score or a greater one as the lower end, this or a lesser one as the upper end.
    At(f64),
    /// A greater score, as the lower end.
    Above(f64),
    /// A lesser score, as the upper end.
    Below(f64),
    /// Infinity: the range has no upper end.
    Max,
}

impl From<f64> for ScoreBound {
    fn from(score: f64) -> Self {
        Self::At(score)
    }
}

impl ToArg for ScoreBound {
    fn add_to(&self, args: &mut Args) {
        match self {
            Self::Min => args.push(b"-inf"),
            Self::At(score) => score.add_to(args),
            Self::Above(score) | Self::Below(score) => args.push(format!("({score}").as_bytes()),
            Self::Max => args.push(b"+inf"),
        }
    }
}

/// An end of a range of members that are compared as bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LexBound {
    /// Before all members.
    Min,
    /// This member, which is in the range.
    At(Bytes),
    /// This member, which is not in the range.
    Beyond(Bytes),
    /// Behind all members.
    Max,
}

impl LexBound {
    /// This member, which is in the range.
    pub fn at(member: impl Into<Bytes>) -> Self {
        Self::At(member.into())
    }

    /// This member, which is not in the range.
    pub fn beyond(member: impl Into<Bytes>) -> Self {
        Self::Beyond(member.into())
    }
}

impl ToArg for LexBound {
    fn add_to(&self, args: &mut Args) {
        match self {
            Self::Min => args.push(b"-"),
            Self::At(member) => args.push(&[b"[", &member[..]].concat()),
            Self::Beyond(member) => args.push(&[b"(", &member[..]].concat()),
            Self::Max => args.push(b"+"),
        }
    }
}

/// A range of a sorted set.
///
/// The lower end comes first in each of these, also where the range is [`reversed`](Self::reversed).
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct Zrange {
    ends: Ends,
    reversed: bool,
    limit: Option<(u64, i64)>,
}

#[derive(Clone, Debug, PartialEq)]
enum Ends {
    Rank(i64, i64),
    Score(ScoreBound, ScoreBound),
    Lex(LexBound, LexBound),
}

impl Zrange {
    fn new(ends: Ends) -> Self {
        Self { ends, reversed: false, limit: None }
    }

    /// From one rank to another, both included; negative ones count from the last member, which is -1. In a reversed range
    /// 0 is the member with the greatest score.
    pub fn by_rank(start: i64, end: i64) -> Self {
        Self::new(Ends::Rank(start, end))
    }

    /// All members.
    pub fn all() -> Self {
        Self::by_rank(0, -1)
    }

    /// By scores.
    pub fn by_score(min: impl Into<ScoreBound>, max: impl Into<ScoreBound>) -> Self {
        Self::new(Ends::Score(min.into(), max.into()))
    }

    /// By members as bytes, where all scores are equal.
    pub fn by_lex(min: LexBound, max: LexBound) -> Self {
        Self::new(Ends::Lex(min, max))
    }

    /// From the greatest to the least.
    pub fn reversed(mut self) -> Self {
        self.reversed = true;
        self
    }

    /// Passes over `offset` members and takes `count` at most, all if negative. Not for a range by ranks.
    pub fn limit(mut self, offset: u64, count: i64) -> Self {
        self.limit = Some((offset, count));
        self
    }
}

impl ToArg for Zrange {
    fn add_to(&self, args: &mut Args) {
        fn ends(first: &impl ToArg, second: &impl ToArg, swapped: bool, args: &mut Args) {
            if swapped {
                (second, first).add_to(args);
            } else {
                (first, second).add_to(args);
            }
        }
        match &self.ends {
            Ends::Rank(start, end) => ends(start, end, false, args),
            Ends::Score(min, max) => {
                ends(min, max, self.reversed, args);
                args.push(b"BYSCORE");
            }
            Ends::Lex(min, max) => {
                ends(min, max, self.reversed, args);
                args.push(b"BYLEX");
            }
        }
        if self.reversed {
            args.push(b"REV");
        }
        if let Some(limit) = self.limit {
            ("LIMIT", limit).add_to(args);
        }
    }
}

/// What `ZADD` does with members that are there, and with those that are not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct ZaddOptions {
    exists: Option<bool>,
    greater: Option<bool>,
    count_changed: bool,
}

impl ZaddOptions {
    /// Adds and changes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only adds (`NX`).
    pub fn if_absent(mut self) -> Self {
        self.exists = Some(false);
        self
    }

    /// Only changes (`XX`).
    pub fn if_present(mut self) -> Self {
        self.exists = Some(true);
        self
    }

    /// Changes to a greater score only (`GT`). Still adds.
    pub fn if_greater(mut self) -> Self {
        self.greater = Some(true);
        self
    }

    /// Changes to a lesser score only (`LT`). Still adds.
    pub fn if_less(mut self) -> Self {
        self.greater = Some(false);
        self
    }

    /// Counts members that were changed too (`CH`).
    pub fn count_changed(mut self) -> Self {
        self.count_changed = true;
        self
    }
}

impl ToArg for ZaddOptions {
    fn add_to(&self, args: &mut Args) {
        if let Some(exists) = self.exists {
            args.push(if exists { b"XX" } else { b"NX" });
        }
        if let Some(greater) = self.greater {
            args.push(if greater { b"GT" } else { b"LT" });
        }
        if self.count_changed {
            args.push(b"CH");
        }
    }
}

/// How the scores of a member that is in several sets make one.
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use]
pub struct Combine {
    weights: Vec<f64>,
    aggregate: Option<Aggregate>,
}

impl Combine {
    /// By their sum.
    pub fn new() -> Self {
        Self::default()
    }

    /// Multiplies the scores of each set by one of these, as many as there are sets.
    pub fn weights(mut self, weights: impl IntoIterator<Item = f64>) -> Self {
        self.weights = weights.into_iter().collect();
        self
    }

    /// By this.
    pub fn aggregate(mut self, aggregate: Aggregate) -> Self {
        self.aggregate = Some(aggregate);
        self
    }
}

impl ToArg for Combine {
    fn add_to(&self, args: &mut Args) {
        if !self.weights.is_empty() {
            args.push(b"WEIGHTS");
            self.weights.iter().for_each(|weight| weight.add_to(args));
        }
        if let Some(aggregate) = self.aggregate {
            args.push(b"AGGREGATE");
            args.push(match aggregate {
                Aggregate::Sum => b"SUM",
                Aggregate::Min => b"MIN",
                Aggregate::Max => b"MAX",
            });
        }
    }
}

/// What several scores make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Aggregate {
    /// Their sum.
    #[default]
    Sum,
    /// The least.
    Min,
    /// The greatest.
    Max,
}
