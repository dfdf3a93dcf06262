//! Several commands in one request.

use std::fmt;

use super::{
    Command,
    packet::{Header, Packet},
    placement::{Placement, Transaction},
    table::CommandInfo,
    view::View,
    words::Args,
};
use crate::script::Digest;

/// Several commands that are sent together and answered in order.
///
/// Nothing of another task comes between the commands of a pipeline, so `MULTI` … `EXEC` may stand in one. A pipeline
/// that leaves a transaction open, or may (`DISCARD`), is refused.
///
/// ```
/// use respire::{Command, Pipeline};
///
/// let mut pipeline = Pipeline::new();
/// pipeline.push(Command::new("INCR").arg("visits")).command(&["EXPIRE", "visits", "60"]);
/// assert_eq!(pipeline.len(), 2);
/// ```
#[derive(Clone, Default)]
pub struct Pipeline {
    /// Whole commands, and their number.
    commands: Args,
    transaction: Transaction,
    placement: Placement,
    /// The command that [`command`](Self::command) appended last, if any connection may carry it whatever its arguments.
    last_plain: Option<&'static CommandInfo>,
    is_atomic: bool,
    /// The digests of scripts that a command in the pipeline makes known to the server.
    scripts: Vec<Digest>,
}

impl Pipeline {
    /// An empty pipeline.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty pipeline with room for `bytes` bytes on the wire.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { commands: Args::with_capacity(bytes), ..Self::default() }
    }

    /// A pipeline whose commands are carried out together or, if the server refuses one of them, not at all: `MULTI` and
    /// `EXEC` are put around them. Only the commands' own replies are returned.
    ///
    /// A command that fails when it is carried out, as for the wrong type of a key, does not undo the others.
    ///
    /// ```
    /// use respire::{Command, Pipeline};
    ///
    /// let mut pipeline = Pipeline::atomic();
    /// pipeline.push(Command::new("INCR").arg("a")).push(Command::new("DECR").arg("b"));
    /// assert_eq!(pipeline.len(), 2);
    /// ```
    pub fn atomic() -> Self {
        let mut pipeline = Self { is_atomic: true, ..Self::default() };
        pipeline.command(&["MULTI"]);
        pipeline
    }

    /// Appends the commands of another pipeline, one that is not atomic.
    pub(crate) fn append(&mut self, other: Self) {
        let mut words = other.commands.words();
        while let Some((count, words)) = words.next_command() {
            let view = View::new(words, count);
            let placement = self.transaction.place(view.info(), view.args());
            self.placement = self.placement.and(placement);
        }
        self.commands.push_commands(other.commands);
    }

    /// Whether it was made by [`atomic`](Self::atomic).
    pub fn is_atomic(&self) -> bool {
        self.is_atomic
    }

    /// Appends a command.
    pub fn push(&mut self, command: Command) -> &mut Self {
        let view = command.view();
        let placement = self.transaction.place(view.info(), view.args());
        self.placement = self.placement.and(placement);
        self.commands.push_command(command.words);
        self
    }

    /// Appends a command from its arguments, the name first, without an allocation of its own.
    ///
    /// # Panics
    ///
    /// When `args` is empty: there is no such command.
    pub fn command<A: AsRef<[u8]>>(&mut self, args: &[A]) -> &mut Self {
        let (name, rest) = args.split_first().expect("a command has a name");
        // Many pipelines repeat one command, and most commands may be anywhere.
        let is_known = self.last_plain.is_some_and(|last| last.has_name(name.as_ref()));
        if !is_known {
            let info = CommandInfo::of(name, rest.first().map(AsRef::as_ref));
            let placement = self.transaction.place(info, rest.iter().map(AsRef::as_ref));
            self.placement = self.placement.and(placement);
            self.last_plain = info.filter(|info| info.is_plain() && !info.has_subcommands());
        }
        self.commands.push_command_of(args);
        self
    }

    /// The number of commands.
    pub fn len(&self) -> usize {
        self.commands.len() - usize::from(self.is_atomic)
    }

    /// Whether there is no command.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether all of its commands only read; see [`Command::is_read_only`]. `MULTI` and `EXEC` around them change nothing.
    pub fn is_read_only(&self) -> bool {
        View::all_of(self.commands.words(), View::is_read_only)
    }

    /// Whether all of its commands may be sent twice in a row; see [`Command::is_idempotent`].
    pub fn is_idempotent(&self) -> bool {
        View::all_of(self.commands.words(), View::is_idempotent)
    }

    /// Whether the next call of a script is to make it known to the server, because none before does for sure: one in a
    /// transaction may not be carried out.
    pub(crate) fn makes_known(&mut self, script: &Digest) -> bool {
        if self.transaction.is_open() {
            return true;
        }
        let new = !self.scripts.contains(script);
        if new {
            self.scripts.push(*script);
        }
        new
    }

    /// The commands one by one.
    pub(crate) fn commands(&self) -> impl Iterator<Item = View<'_>> {
        View::each_of(self.commands.words())
    }

    /// Which connections may carry it.
    pub(crate) fn placement(&self) -> Placement {
        let mut transaction = self.transaction;
        let mut placement = self.placement;
        if self.is_atomic {
            let exec = CommandInfo::of("EXEC", None);
            placement = placement.and(transaction.place(exec, std::iter::empty()));
        }
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
    pub(crate) fn into_unchecked_packet(mut self) -> Packet {
        if self.is_atomic {
            self.commands.push_command_of(&["EXEC"]);
        }
        let replies = self.commands.len();
        Packet::new(Header::default(), self.commands, replies)
    }
}

/// Takes the commands out, so that a chain of [`push`](Pipeline::push) can be handed on as it stands.
impl From<&mut Pipeline> for Pipeline {
    fn from(pipeline: &mut Pipeline) -> Self {
        std::mem::take(pipeline)
    }
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline")
            .field("commands", &self.len())
            .field("bytes", &self.commands.bytes_len())
            .finish()
    }
}
