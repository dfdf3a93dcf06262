//! What goes out: commands and pipelines, encoded while they are built, and what is known of them.

mod arg;
mod keys;
mod packet;
mod pipeline;
mod placement;
mod rules;
mod table;
mod view;
mod words;

use std::fmt;

pub use self::{
    arg::ToArg, pipeline::Pipeline, placement::Blocking, table::CommandInfo, words::Args,
};
use self::{packet::Header, placement::Transaction};
pub(crate) use self::{
    packet::{Packet, Piece},
    placement::Placement,
    view::View,
    words::LARGE_BYTES,
};

/// One command and its arguments.
///
/// The arguments are encoded as they are added, so that nothing is left to do when the command is sent.
///
/// ```
/// use respire::Command;
///
/// let command = Command::new("SET").arg("key").arg("value").arg("EX").arg(60);
/// assert_eq!(command.name(), b"SET");
/// assert_eq!(command.args_len(), 5);
/// assert_eq!(command.keys().collect::<Vec<_>>(), [b"key"]);
/// assert!(command.is_idempotent() && !command.is_read_only());
/// ```
///
/// A value of 16 KiB or more that is handed over as [`Bytes`](bytes::Bytes), `Vec<u8>` or `String` is not copied: it is
/// sent from where it is.
///
/// `Debug` shows the name, the number of arguments and their size, never the arguments: they may be secrets.
#[derive(Clone)]
pub struct Command {
    /// The name is the first. The array header is written when the command is sent, when their number is known.
    words: Args,
}

/// Room for the arguments of an ordinary command, in bytes, beside its name.
const ROOM_BYTES: usize = 64;

impl Command {
    /// A command with its name, which is the first argument on the wire.
    ///
    /// A command of two words takes the second as an argument: `Command::new("CLIENT").arg("ID")`.
    pub fn new(name: impl AsRef<[u8]>) -> Self {
        let name = name.as_ref();
        let mut words = Args::with_capacity(name.len() + ROOM_BYTES);
        words.push(name);
        Self { words }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl ToArg) -> Self {
        arg.move_to(&mut self.words);
        self
    }

    /// Adds each argument of a sequence.
    #[must_use]
    pub fn args<A: ToArg>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        args.into_iter().for_each(|arg| arg.move_to(&mut self.words));
        self
    }

    /// The name as it was given.
    pub fn name(&self) -> &[u8] {
        self.words.words().next().unwrap_or_default()
    }

    /// The number of arguments on the wire, the name included.
    pub fn args_len(&self) -> usize {
        self.words.len()
    }

    /// What is known of commands of this name, and this subcommand; `None` for what neither of our servers knows.
    pub fn info(&self) -> Option<&'static CommandInfo> {
        self.view().info()
    }

    /// Whether it only reads; `false` for what is not known. See [`CommandInfo::is_read_only`].
    pub fn is_read_only(&self) -> bool {
        self.view().is_read_only()
    }

    /// Whether sending it twice in a row leaves what sending it once would leave; `false` for what is not known.
    ///
    /// Reads are, and writes by their arguments: `SET`, `DEL` and `HSET` are, `SET … NX`, `INCR` and `LPUSH` are not. A
    /// reply that counts changes counts those of the last time, and a relative time to live runs from then. Nothing is said
    /// of what others write in between: a repeated `SET` undoes it.
    pub fn is_idempotent(&self) -> bool {
        self.view().is_idempotent()
    }

    /// How long it may make its connection wait, if it may.
    ///
    /// ```
    /// use std::time::Duration;
    /// use respire::{Blocking, Command};
    ///
    /// let pop = Command::new("BLPOP").arg("queue").arg(0);
    /// assert_eq!(pop.blocking(), Some(Blocking::Unlimited));
    /// let read = Command::new("XREAD").args(["STREAMS", "events", "0"]);
    /// assert_eq!(read.blocking(), None);
    /// ```
    pub fn blocking(&self) -> Option<Blocking> {
        self.view().blocking()
    }

    /// Its keys, in the order of the arguments; none for what is not known.
    ///
    /// The patterns of `SORT … BY` and `GET` are not keys, nor are the channels of sharded pub/sub; see
    /// [`sharded_channels`](Self::sharded_channels).
    pub fn keys(&self) -> impl Iterator<Item = &[u8]> {
        self.view().keys(false)
    }

    /// Its channels of sharded pub/sub, which have slots in a cluster as keys have; none for what is not known.
    pub fn sharded_channels(&self) -> impl Iterator<Item = &[u8]> {
        self.view().keys(true)
    }

    /// Its words as they were given, the name first.
    pub(crate) fn words(&self) -> impl Iterator<Item = &[u8]> {
        self.words.words()
    }

    /// Which connections may carry it.
    pub(crate) fn placement(&self) -> Placement {
        let view = self.view();
        let info = view.info();
        if info.is_none_or(CommandInfo::is_plain) {
            return Placement::Shared;
        }
        let mut transaction = Transaction::default();
        let placement = transaction.place(info, view.args());
        placement.and(transaction.place_end())
    }

    /// As it is sent over a connection that many tasks share.
    ///
    /// # Errors
    ///
    /// Why such a connection must not carry it.
    #[cfg(test)]
    pub(crate) fn into_packet(self) -> Result<Packet, &'static str> {
        self.placement().check_shared()?;
        Ok(self.into_unchecked_packet())
    }

    /// As it is sent, whatever connection may carry it.
    pub(crate) fn into_unchecked_packet(self) -> Packet {
        Packet::new(Header::array(self.words.len()), self.words, 1)
    }

    pub(crate) fn view(&self) -> View<'_> {
        View::new(self.words.words(), self.words.len())
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command")
            .field("name", &String::from_utf8_lossy(self.name()))
            .field("args", &self.words.len())
            .field("bytes", &self.words.bytes_len())
            .finish()
    }
}

#[cfg(test)]
mod tests;
