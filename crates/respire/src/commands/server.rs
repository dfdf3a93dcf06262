//! The server itself, and its clients.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use respire_codec::{FromValue, ValueError, ValueRef};

use super::{
    Executor, FromReply, TypedCommand,
    args::milliseconds,
    replies::{self, Fields, seconds},
};
use crate::command::{Args, Command, ToArg};

/// Commands about the [server](https://valkey.io/commands/#server) and its
/// [connections](https://valkey.io/commands/#connection).
///
/// ```no_run
/// use respire::commands::*;
///
/// # async fn example(client: &respire::Client) -> Result<(), respire::Error> {
/// let info = client.info(["memory", "keyspace"]).await?;
/// println!("{:?} bytes", info.parse::<u64>("used_memory"));
/// for other in client.client_list().await? {
///     println!("{} {:?} runs {:?}", other.id(), other.field("addr"), other.field("cmd"));
/// }
/// # Ok(())
/// # }
/// ```
pub trait ServerCommands: Executor {
    /// `ACL WHOAMI`: the user of the connection.
    fn acl_whoami(self) -> Self::Answer<String> {
        self.run(Command::new("ACL").arg("WHOAMI").typed())
    }

    /// `BGSAVE`: begins to write a snapshot in the background. What the server says to it.
    fn bgsave(self) -> Self::Answer<String> {
        self.run(Command::new("BGSAVE").typed())
    }

    /// `CLIENT GETNAME`: the name of the connection.
    fn client_getname(self) -> Self::Answer<Option<String>> {
        self.run(Command::new("CLIENT").arg("GETNAME").typed())
    }

    /// `CLIENT ID`: the number of the connection.
    fn client_id(self) -> Self::Answer<i64> {
        self.run(Command::new("CLIENT").arg("ID").typed())
    }

    /// `CLIENT INFO`: what the server knows about the connection.
    fn client_info(self) -> Self::Answer<ClientInfo> {
        self.run(Command::new("CLIENT").arg("INFO").typed())
    }

    /// `CLIENT KILL`: closes connections. How many. O(clients)
    fn client_kill(self, which: ClientKill) -> Self::Answer<u64> {
        self.run(Command::new("CLIENT").arg("KILL").arg(which).typed())
    }

    /// `CLIENT LIST`: what the server knows about all connections. O(clients)
    fn client_list(self) -> Self::Answer<Vec<ClientInfo>> {
        self.run(TypedCommand::new(Command::new("CLIENT").arg("LIST"), |reply| {
            Ok(reply.parse::<&str>()?.lines().map(ClientInfo::new).collect())
        }))
    }

    /// `CLIENT PAUSE`: carries out no commands for so long, or no writes.
    fn client_pause(self, time: Duration, writes_only: bool) -> Self::Answer<()> {
        let mode = if writes_only { "WRITE" } else { "ALL" };
        self.run(Command::new("CLIENT").arg("PAUSE").arg(milliseconds(time)).arg(mode).typed())
    }

    /// `CLIENT UNBLOCK`: ends the wait of a connection, as if its time were over, or with an error. Whether it waited.
    fn client_unblock(self, id: i64, with_error: bool) -> Self::Answer<bool> {
        let how = if with_error { "ERROR" } else { "TIMEOUT" };
        self.run(Command::new("CLIENT").arg("UNBLOCK").arg(id).arg(how).typed())
    }

    /// `CLIENT UNPAUSE`: ends a [`client_pause`](Self::client_pause).
    fn client_unpause(self) -> Self::Answer<()> {
        self.run(Command::new("CLIENT").arg("UNPAUSE").typed())
    }

    /// `COMMAND COUNT`: how many commands the server knows.
    fn command_count(self) -> Self::Answer<u64> {
        self.run(Command::new("COMMAND").arg("COUNT").typed())
    }

    /// `COMMAND GETKEYS`: the keys of a command, as the server finds them.
    fn command_getkeys<T: FromReply>(
        self,
        words: impl IntoIterator<Item = impl ToArg>,
    ) -> Self::Answer<Vec<T>> {
        self.run(Command::new("COMMAND").arg("GETKEYS").args(words).typed())
    }

    /// `COMMAND LIST`: the names of all commands that the server knows. Since 7.0.
    fn command_list(self) -> Self::Answer<Vec<String>> {
        self.run(Command::new("COMMAND").arg("LIST").typed())
    }

    /// `CONFIG GET`: the settings whose names match one of these patterns; more than one since 7.0.
    fn config_get(
        self,
        patterns: impl IntoIterator<Item = impl ToArg>,
    ) -> Self::Answer<HashMap<String, String>> {
        self.run(Command::new("CONFIG").arg("GET").args(patterns).typed())
    }

    /// `CONFIG RESETSTAT`: sets the counters of [`info`](Self::info) to 0.
    fn config_resetstat(self) -> Self::Answer<()> {
        self.run(Command::new("CONFIG").arg("RESETSTAT").typed())
    }

    /// `CONFIG REWRITE`: writes the settings to the server's configuration file. An error where there is none.
    fn config_rewrite(self) -> Self::Answer<()> {
        self.run(Command::new("CONFIG").arg("REWRITE").typed())
    }

    /// `CONFIG SET`: changes settings, all or none; more than one since 7.0.
    fn config_set(
        self,
        settings: impl IntoIterator<Item = (impl ToArg, impl ToArg)>,
    ) -> Self::Answer<()> {
        self.run(Command::new("CONFIG").arg("SET").args(settings).typed())
    }

    /// `DBSIZE`: the number of keys in the database.
    fn dbsize(self) -> Self::Answer<u64> {
        self.run(Command::new("DBSIZE").typed())
    }

    /// `ECHO`: the same as was sent.
    fn echo<T: FromReply>(self, message: impl ToArg) -> Self::Answer<T> {
        self.run(Command::new("ECHO").arg(message).typed())
    }

    /// `FLUSHALL`: deletes all keys of all databases, and frees their memory at once or aside. O(keys)
    fn flushall(self, how: Flush) -> Self::Answer<()> {
        self.run(Command::new("FLUSHALL").arg(how).typed())
    }

    /// `FLUSHDB`: deletes all keys of the database, and frees their memory at once or aside. O(keys)
    fn flushdb(self, how: Flush) -> Self::Answer<()> {
        self.run(Command::new("FLUSHDB").arg(how).typed())
    }

    /// `INFO`: what the server says of itself, in these sections, more than one since 7.0; without any, the ordinary ones.
    fn info(self, sections: impl IntoIterator<Item = impl ToArg>) -> Self::Answer<Info> {
        self.run(Command::new("INFO").args(sections).typed())
    }

    /// `LASTSAVE`: when a snapshot was last written, to the second.
    fn lastsave(self) -> Self::Answer<SystemTime> {
        self.run(TypedCommand::new(Command::new("LASTSAVE"), |reply| {
            replies::instant(seconds(reply)?, reply)
        }))
    }

    /// `LATENCY DOCTOR`: a report for people.
    fn latency_doctor(self) -> Self::Answer<String> {
        self.run(Command::new("LATENCY").arg("DOCTOR").typed())
    }

    /// `LATENCY HISTORY`: when an event took long, and how long. O(1)
    fn latency_history(self, event: impl ToArg) -> Self::Answer<Vec<(SystemTime, Duration)>> {
        let command = Command::new("LATENCY").arg("HISTORY").arg(event);
        self.run(TypedCommand::new(command, |reply| {
            let samples: Vec<(u64, u64)> = reply.parse()?;
            let sample = |(at, took)| {
                let at = replies::instant(Duration::from_secs(at), reply)?;
                Ok((at, Duration::from_millis(took)))
            };
            samples.into_iter().map(sample).collect()
        }))
    }

    /// `LATENCY LATEST`: of each event that took long, the last time and the longest.
    fn latency_latest(self) -> Self::Answer<Vec<LatencyEvent>> {
        self.run(Command::new("LATENCY").arg("LATEST").typed())
    }

    /// `LATENCY RESET`: forgets these events, or all. How many.
    fn latency_reset(self, events: impl IntoIterator<Item = impl ToArg>) -> Self::Answer<u64> {
        self.run(Command::new("LATENCY").arg("RESET").args(events).typed())
    }

    /// `MEMORY DOCTOR`: a report for people.
    fn memory_doctor(self) -> Self::Answer<String> {
        self.run(Command::new("MEMORY").arg("DOCTOR").typed())
    }

    /// `MEMORY PURGE`: asks the allocator to give memory back.
    fn memory_purge(self) -> Self::Answer<()> {
        self.run(Command::new("MEMORY").arg("PURGE").typed())
    }

    /// `MEMORY STATS`: what the server's memory is used for.
    fn memory_stats(self) -> Self::Answer<MemoryStats> {
        self.run(Command::new("MEMORY").arg("STATS").typed())
    }

    /// `MEMORY USAGE`: how many bytes a key takes, with its value, extrapolated from a number of samples, all if 0. O(samples)
    fn memory_usage(self, key: impl ToArg, samples: Option<u64>) -> Self::Answer<Option<u64>> {
        let samples = samples.map(|samples| ("SAMPLES", samples));
        self.run(Command::new("MEMORY").arg("USAGE").arg(key).optional(samples).typed())
    }

    /// `PING`
    fn ping(self) -> Self::Answer<()> {
        self.run(Command::new("PING").typed())
    }

    /// `SLOWLOG GET`: up to `count` commands that took long, the last first. O(count)
    fn slowlog_get(self, count: u64) -> Self::Answer<Vec<SlowlogEntry>> {
        self.run(Command::new("SLOWLOG").arg("GET").arg(count).typed())
    }

    /// `SLOWLOG LEN`: how many commands that took long are remembered.
    fn slowlog_len(self) -> Self::Answer<u64> {
        self.run(Command::new("SLOWLOG").arg("LEN").typed())
    }

    /// `SLOWLOG RESET`: forgets them.
    fn slowlog_reset(self) -> Self::Answer<()> {
        self.run(Command::new("SLOWLOG").arg("RESET").typed())
    }

    /// `SWAPDB`: swaps two databases.
    fn swapdb(self, first: u32, second: u32) -> Self::Answer<()> {
        self.run(Command::new("SWAPDB").arg(first).arg(second).typed())
    }

    /// `TIME`: the server's clock, to the microsecond.
    fn time(self) -> Self::Answer<SystemTime> {
        self.run(TypedCommand::new(Command::new("TIME"), |reply| {
            let (seconds, micros): (u64, u64) = reply.parse()?;
            let since = Duration::from_secs(seconds).checked_add(Duration::from_micros(micros));
            replies::instant(since.unwrap_or(Duration::MAX), reply)
        }))
    }

    /// `WAITAOF`: how many servers have everything on disk that this connection wrote: this one if `local` is 1, and replicas;
    /// once it is enough or after `timeout`, for ever if `None`. It may block, and tells of the connection that it is sent
    /// over: on one of your own. *Valkey*, Redis since 7.2.
    fn waitaof(
        self,
        local: u64,
        replicas: u64,
        timeout: Option<Duration>,
    ) -> Self::Answer<(u64, u64)> {
        let timeout = timeout.map_or(0, |timeout| milliseconds(timeout).max(1));
        self.run(Command::new("WAITAOF").arg(local).arg(replicas).arg(timeout).typed())
    }
}

impl<E: Executor> ServerCommands for E {}

/// When the memory of deleted keys is freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// Before the answer.
    Sync,
    /// Aside, after the answer.
    Async,
}

impl ToArg for Flush {
    fn add_to(&self, args: &mut Args) {
        match self {
            Self::Sync => args.push(b"SYNC"),
            Self::Async => args.push(b"ASYNC"),
        }
    }
}

/// What a server says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Info {
    fields: HashMap<Box<str>, Box<str>>,
}

impl Info {
    /// One of its fields, such as `used_memory`.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(|value| &**value)
    }

    /// One of its fields as another type; `None` also where it is not of that type.
    pub fn parse<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.field(name)?.parse().ok()
    }

    /// All its fields, in no order.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|(name, value)| (&**name, &**value))
    }
}

impl<'a> FromValue<'a> for Info {
    fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError> {
        let lines = value.parse::<&str>()?.lines().filter(|line| !line.starts_with('#'));
        let fields = lines.filter_map(|line| line.split_once(':'));
        Ok(Self { fields: fields.map(|(name, value)| (name.into(), value.into())).collect() })
    }
}

/// What a server's memory is used for, in bytes.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MemoryStats {
    /// The most that was allocated at a time.
    pub peak_allocated: u64,
    /// What is allocated now.
    pub total_allocated: u64,
    /// What was allocated when the server had started.
    pub startup_allocated: u64,
    /// All that is no data: buffers, tables and the like.
    pub overhead: u64,
    /// All that is data.
    pub dataset: u64,
    /// The share of the data in what was allocated since the start, in per cent.
    pub dataset_percent: f64,
    /// The number of keys.
    pub keys: u64,
    /// What a key takes on average.
    pub bytes_per_key: u64,
    /// How many times what is allocated the process takes.
    pub fragmentation: f64,
}

impl<'a> FromValue<'a> for MemoryStats {
    fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError> {
        let fields = Fields::new(value)?;
        Ok(Self {
            peak_allocated: fields.parse("peak.allocated")?,
            total_allocated: fields.parse("total.allocated")?,
            startup_allocated: fields.parse("startup.allocated")?,
            overhead: fields.parse("overhead.total")?,
            dataset: fields.parse("dataset.bytes")?,
            dataset_percent: fields.parse("dataset.percentage")?,
            keys: fields.parse("keys.count")?,
            bytes_per_key: fields.parse("keys.bytes-per-key")?,
            fragmentation: fields.parse("fragmentation")?,
        })
    }
}

/// What a server knows about a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientInfo {
    line: Box<str>,
}

impl ClientInfo {
    fn new(line: &str) -> Self {
        Self { line: line.trim().into() }
    }

    /// Its number; 0 if the server does not say.
    pub fn id(&self) -> i64 {
        self.parse("id").unwrap_or_default()
    }

    /// One of its fields, such as `addr`, `name`, `age`, `db` or `cmd`.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields().find(|(field, _)| *field == name).map(|(_, value)| value)
    }

    /// One of its fields as another type; `None` also where it is not of that type.
    pub fn parse<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.field(name)?.parse().ok()
    }

    /// All its fields.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.line.split(' ').filter_map(|field| field.split_once('='))
    }
}

impl<'a> FromValue<'a> for ClientInfo {
    fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError> {
        value.parse::<&str>().map(Self::new)
    }
}

/// Which connections [`client_kill`](ServerCommands::client_kill) closes: those that all of these hold for.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct ClientKill {
    args: Args,
}

impl ClientKill {
    /// The one with this number.
    pub fn id(id: i64) -> Self {
        Self::default().with(("ID", id))
    }

    /// The one that comes from this address, `host:port`.
    pub fn address(address: &str) -> Self {
        Self::default().with(("ADDR", address))
    }

    /// Those of a user.
    pub fn user(user: &str) -> Self {
        Self::default().with(("USER", user))
    }

    /// Those of a type: `normal`, `master`, `replica` or `pubsub`.
    pub fn client_type(name: &str) -> Self {
        Self::default().with(("TYPE", name))
    }

    /// And this one too, if the rest holds for it. Else it is left out.
    pub fn even_this(self) -> Self {
        self.with(("SKIPME", "no"))
    }

    fn with(mut self, condition: impl ToArg) -> Self {
        condition.add_to(&mut self.args);
        self
    }
}

impl ToArg for ClientKill {
    fn add_to(&self, args: &mut Args) {
        args.append(&self.args);
    }
}

/// An event that took long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LatencyEvent {
    /// Its name.
    pub name: String,
    /// When it did last.
    pub at: SystemTime,
    /// How long it took then.
    pub latest: Duration,
    /// The longest that it ever took.
    pub longest: Duration,
}

impl<'a> FromValue<'a> for LatencyEvent {
    fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError> {
        const EXPECTED: &str = "an event that took long";
        // Newer servers say more behind: Valkey since 8.1 the sum and the count.
        let mut items = replies::elements(value, EXPECTED)?;
        let mut next = || replies::next(&mut items, EXPECTED);
        Ok(Self {
            name: next()?.parse()?,
            at: replies::instant(Duration::from_secs(next()?.parse()?), value)?,
            latest: Duration::from_millis(next()?.parse()?),
            longest: Duration::from_millis(next()?.parse()?),
        })
    }
}

/// A command that took long.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SlowlogEntry {
    /// Its number, one more than the one's before.
    pub id: u64,
    /// When it was carried out, to the second.
    pub at: SystemTime,
    /// How long it took, to the microsecond.
    pub took: Duration,
    /// The command, whose long arguments are cut.
    pub words: Vec<crate::Bytes>,
    /// Where it came from.
    pub client_address: String,
    /// The name of the connection that it came over; empty if it has none.
    pub client_name: String,
}

impl<'a> FromValue<'a> for SlowlogEntry {
    fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError> {
        let (id, at, took, words, client_address, client_name) = value.parse()?;
        let at = replies::instant(Duration::from_secs(at), value)?;
        let took = Duration::from_micros(took);
        Ok(Self { id, at, took, words, client_address, client_name })
    }
}
