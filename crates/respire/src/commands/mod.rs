//! The commands of the servers as methods, with typed arguments and typed replies.
//!
//! There is a trait for each family, such as [`StringCommands`] and [`HashCommands`], and all of them work on whatever
//! commands can be given to ([`Executor`]): a [`Client`](crate::Client), where a method returns a future of the reply; a
//! [`Pipeline`], where it queues the command and returns what the reply is read with later; a
//! [`Dedicated`](crate::Dedicated) connection, a [`Transaction`](crate::Transaction) and a
//! [`CachedClient`](crate::cache::CachedClient); and [`Cmd`], where it returns the command.
//!
//! ```no_run
//! use respire::{Client, Pipeline, commands::*};
//!
//! # async fn example() -> Result<(), respire::Error> {
//! let client = Client::connect("valkey://localhost:6379").await?;
//! client.set("greeting", "hello").await?;
//! let greeting: Option<String> = client.get("greeting").await?;
//! let visits = client.incr("visits").await?;
//!
//! let mut pipeline = Pipeline::new();
//! let sum = pipeline.incrby("visits", 10);
//! let name = pipeline.hget::<String>("user:7", "name");
//! let replies = client.pipeline(pipeline).await?;
//! assert_eq!(sum.read(&replies)?, visits + 10);
//! println!("{greeting:?} {:?}", name.read(&replies)?);
//! # Ok(())
//! # }
//! ```
//!
//! Keys, members and values are anything that is [`ToArg`](crate::ToArg), and replies any type that can be read from a
//! reply and borrows nothing from it ([`FromReply`]). What may be absent is an `Option` already: `hget::<String>` answers
//! with an `Option<String>`. Where many are taken they are any iterator: `client.del(["a", "b"])`.
//!
//! # Errors
//!
//! Those of [`Client::execute`](crate::Client::execute), and where the reply cannot be read as the type that was asked for,
//! an error of which [`is_value`](crate::Error::is_value) is true. A server that does not know a command or an option, as a
//! Redis 7.0 does not know those that are marked *Valkey*, answers with an error.

use std::fmt;

mod acl;
mod args;
mod bitmaps;
mod geo;
mod hashes;
mod hyperloglog;
mod keys;
mod lists;
mod pubsub;
mod replies;
mod scripting;
mod server;
mod sets;
mod sorted_sets;
mod stream_details;
mod streams;
mod strings;

pub use self::{
    acl::{AclCommands, AclUser},
    args::{Condition, Expiry, Order, Trim},
    bitmaps::{BitInteger, BitRange, Bitfield, BitmapCommands, BitwiseOperation, Overflow},
    geo::{GeoCommands, GeoHit, GeoPosition, GeoSearch, GeoUnit},
    hashes::HashCommands,
    hyperloglog::HyperLogLogCommands,
    keys::{KeyCommands, SortOptions, Ttl},
    lists::{Direction, End, ListCommands, PosOptions},
    pubsub::PubSubCommands,
    scripting::{EngineStats, FunctionLibrary, FunctionStats, RunningFunction, ScriptingCommands},
    server::{
        ClientInfo, ClientKill, Flush, Info, LatencyEvent, MemoryStats, ServerCommands,
        SlowlogEntry,
    },
    sets::SetCommands,
    sorted_sets::{
        Aggregate, Combine, Extreme, LexBound, Popped, ScoreBound, Scored, SortedSetCommands,
        ZaddOptions, Zrange,
    },
    stream_details::{ConsumerDetails, Delivery, GroupDetails, StreamDetails},
    streams::{
        AddOptions, AutoClaimed, ClaimOptions, ConsumerInfo, GroupInfo, InvalidStreamId,
        PendingEntry, PendingSummary, ReadOptions, StreamCommands, StreamEntries, StreamEntry,
        StreamId, StreamInfo, StreamTrim,
    },
    strings::{Lcs, LcsMatch, SetOptions, StringCommands},
};
use respire_codec::{FromValue, ValueError, ValueRef};

use crate::{
    command::{Command, Pipeline},
    error::Error,
    reply::Reply,
};

/// Types that a reply can be read as and that borrow nothing from it: all that are [`FromValue`] for any lifetime.
pub trait FromReply: for<'a> FromValue<'a> {}

impl<T: for<'a> FromValue<'a>> FromReply for T {}

/// What commands can be given to.
///
/// ```
/// use respire::{Command, commands::*};
///
/// /// Counts the commands that go through it.
/// struct Counting<E> { inner: E, count: std::cell::Cell<u32> }
///
/// impl<'a, E> Executor for &'a Counting<E> where &'a E: Executor {
///     type Answer<T> = <&'a E as Executor>::Answer<T>;
///
///     fn run<T>(self, command: TypedCommand<T>) -> Self::Answer<T> {
///         self.count.set(self.count.get() + 1);
///         self.inner.run(command)
///     }
/// }
/// ```
pub trait Executor: Sized {
    /// What stands for the reply: a future of it, or a place in a pipeline.
    type Answer<T>;

    /// Takes a command.
    fn run<T>(self, command: TypedCommand<T>) -> Self::Answer<T>;
}

/// Makes commands and gives them to nobody: each method returns a [`TypedCommand`].
///
/// ```
/// use respire::commands::*;
///
/// let command = Cmd.expire("key", std::time::Duration::from_secs(5));
/// assert_eq!(command.command().name(), b"PEXPIRE");
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Cmd;

impl Executor for Cmd {
    type Answer<T> = TypedCommand<T>;

    fn run<T>(self, command: TypedCommand<T>) -> TypedCommand<T> {
        command
    }
}

/// Reads a reply.
type Decode<T> = for<'a> fn(ValueRef<'a>) -> Result<T, ValueError>;

/// A command, and what its reply is read as.
#[derive(Clone)]
#[must_use = "a command does nothing until it is given to an executor"]
pub struct TypedCommand<T> {
    command: Command,
    decode: Decode<T>,
}

impl<T> TypedCommand<T> {
    /// A command whose reply is read by `decode`.
    ///
    /// ```
    /// use respire::{Command, commands::TypedCommand};
    ///
    /// let length = TypedCommand::new(Command::new("GET").arg("k"), |reply| Ok(reply.parse::<&str>()?.len()));
    /// # let _ = length;
    /// ```
    pub fn new(
        command: Command,
        decode: for<'a> fn(ValueRef<'a>) -> Result<T, ValueError>,
    ) -> Self {
        Self { command, decode }
    }

    /// The command alone.
    pub fn command(&self) -> &Command {
        &self.command
    }

    /// The command alone, for instance to read its reply as something that borrows from it.
    pub fn into_command(self) -> Command {
        self.command
    }

    /// Reads a reply to this command.
    ///
    /// # Errors
    ///
    /// The reply is an error of the server, or is not a `T`.
    pub fn read(&self, reply: &Reply) -> Result<T, Error> {
        reply.read(self.decode)
    }

    pub(crate) fn into_parts(self) -> (Command, Decode<T>) {
        (self.command, self.decode)
    }
}

impl<T> fmt::Debug for TypedCommand<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedCommand").field(&self.command).finish()
    }
}

impl Command {
    /// This command, its reply to be read as a `T`.
    ///
    /// ```no_run
    /// use respire::{Command, commands::Executor};
    ///
    /// # async fn example(client: &respire::Client) -> Result<(), respire::Error> {
    /// let free = client.run(Command::new("JSON.NUMINCRBY").arg("stock").arg("$.free").arg(-1).typed::<String>()).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn typed<T: FromReply>(self) -> TypedCommand<T> {
        TypedCommand::new(self, |reply| T::from_value(reply))
    }
}

/// Where the reply to a queued command will be.
///
/// ```no_run
/// use respire::{Pipeline, commands::*};
///
/// # async fn example(client: &respire::Client) -> Result<(), respire::Error> {
/// let mut pipeline = Pipeline::new();
/// let length = pipeline.rpush("queue", ["a", "b"]);
/// let replies = client.pipeline(pipeline).await?;
/// println!("{}", length.read(&replies)?);
/// # Ok(())
/// # }
/// ```
pub struct Queued<T> {
    position: usize,
    decode: Decode<T>,
}

impl<T> Queued<T> {
    /// Which of the replies it is, the first being 0.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Reads the reply, of all those to the pipeline.
    ///
    /// # Errors
    ///
    /// The reply is an error of the server, or not a `T`, or there is no such reply because these are to something else.
    pub fn read(&self, replies: &[Reply]) -> Result<T, Error> {
        let reply = replies.get(self.position).ok_or_else(|| {
            let replies = replies.len();
            Error::usage(format!("there are {replies} replies, and none at {}", self.position))
        })?;
        reply.read(self.decode)
    }
}

impl<T> fmt::Debug for Queued<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queued").field("position", &self.position).finish()
    }
}

impl Executor for &mut Pipeline {
    type Answer<T> = Queued<T>;

    fn run<T>(self, command: TypedCommand<T>) -> Queued<T> {
        let position = self.len();
        let (command, decode) = command.into_parts();
        self.push(command);
        Queued { position, decode }
    }
}
