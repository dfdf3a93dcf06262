//! What goes out: commands and pipelines, encoded while they are built.

use std::fmt;

use bytes::{Bytes, BytesMut};
use respire_codec::encode;

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
/// ```
///
/// `Debug` shows the name, the number of arguments and their size, never the arguments: they may be secrets.
#[derive(Clone)]
pub struct Command {
    /// The arguments as bulk strings; the array header is written when the command is sent, when their number is known.
    body: BytesMut,
    args: usize,
}

impl Command {
    /// A command with its name, which is the first argument on the wire.
    ///
    /// A command of two words takes the second as an argument: `Command::new("CLIENT").arg("ID")`.
    pub fn new(name: impl AsRef<[u8]>) -> Self {
        let name = name.as_ref();
        let mut body = BytesMut::with_capacity(name.len() + 64);
        encode::bulk_string(&mut body, name);
        Self { body, args: 1 }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl ToArg) -> Self {
        arg.encode_into(&mut self.body);
        self.args += 1;
        self
    }

    /// Adds each argument of a sequence.
    #[must_use]
    pub fn args<A: ToArg>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        for arg in args {
            arg.encode_into(&mut self.body);
            self.args += 1;
        }
        self
    }

    /// The name as it was given.
    pub fn name(&self) -> &[u8] {
        words(&self.body).next().unwrap_or_default()
    }

    /// The number of arguments on the wire, the name included.
    pub fn args_len(&self) -> usize {
        self.args
    }

    pub(crate) fn into_packet(self) -> Result<Packet, &'static str> {
        Transaction::default().check_single(&self.body)?;
        Ok(Packet { header: Header::array(self.args), body: self.body.freeze(), replies: 1 })
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command")
            .field("name", &String::from_utf8_lossy(self.name()))
            .field("args", &self.args)
            .field("bytes", &self.body.len())
            .finish()
    }
}

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
    bytes: BytesMut,
    commands: usize,
    transaction: Transaction,
    refused: Option<&'static str>,
}

impl Pipeline {
    /// An empty pipeline.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty pipeline with room for `bytes` bytes on the wire.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: BytesMut::with_capacity(bytes), ..Self::default() }
    }

    /// Appends a command.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a command that was queued is not sent a second time"
    )]
    pub fn push(&mut self, command: Command) -> &mut Self {
        self.admit(&command.body);
        encode::array_header(&mut self.bytes, command.args);
        self.bytes.extend_from_slice(&command.body);
        self.commands += 1;
        self
    }

    /// Appends a command from its arguments, the name first, without an allocation of its own.
    ///
    /// # Panics
    ///
    /// When `args` is empty: there is no such command.
    pub fn command<A: AsRef<[u8]>>(&mut self, args: &[A]) -> &mut Self {
        assert!(!args.is_empty(), "a command has a name");
        let verdict = self.transaction.check_next(args.iter().map(AsRef::as_ref));
        self.refused = self.refused.or(verdict.err());
        encode::command(&mut self.bytes, args);
        self.commands += 1;
        self
    }

    /// The number of commands.
    pub fn len(&self) -> usize {
        self.commands
    }

    /// Whether there is no command.
    pub fn is_empty(&self) -> bool {
        self.commands == 0
    }

    fn admit(&mut self, body: &[u8]) {
        let verdict = self.transaction.check_next(words(body));
        self.refused = self.refused.or(verdict.err());
    }

    pub(crate) fn into_packet(self) -> Result<Packet, &'static str> {
        if let Some(reason) = self.refused {
            return Err(reason);
        }
        self.transaction.check_end()?;
        Ok(Packet { header: Header::default(), body: self.bytes.freeze(), replies: self.commands })
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
            .field("commands", &self.commands)
            .field("bytes", &self.bytes.len())
            .finish()
    }
}

/// The bytes of a request, ready to be sent, and how many replies they ask for.
///
/// `Debug` shows sizes only.
#[derive(Clone)]
pub(crate) struct Packet {
    /// What goes before the body: the array header of a single command, nothing for a pipeline.
    pub(crate) header: Header,
    pub(crate) body: Bytes,
    pub(crate) replies: usize,
}

impl Packet {
    pub(crate) fn len(&self) -> usize {
        self.header.as_ref().len() + self.body.len()
    }
}

impl fmt::Debug for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packet")
            .field("bytes", &self.len())
            .field("replies", &self.replies)
            .finish()
    }
}

/// The array header of a command, held in place.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Header {
    /// `*`, at most 20 digits, CR LF.
    bytes: [u8; 23],
    len: u8,
}

impl Header {
    fn array(elements: usize) -> Self {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(elements).as_bytes();
        let mut bytes = [0; 23];
        bytes[0] = b'*';
        bytes[1..=digits.len()].copy_from_slice(digits);
        bytes[digits.len() + 1..digits.len() + 3].copy_from_slice(b"\r\n");
        // At most 23, by the sum above.
        Self { bytes, len: digits.len() as u8 + 3 }
    }
}

impl AsRef<[u8]> for Header {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// The words of a command whose bulk strings we encoded ourselves.
fn words(mut body: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let line_end = body.iter().position(|&byte| byte == b'\r')?;
        let len: usize = std::str::from_utf8(body.get(1..line_end)?).ok()?.parse().ok()?;
        let start = line_end + 2;
        let word = body.get(start..start + len)?;
        body = body.get(start + len + 2..)?;
        Some(word)
    })
}

/// Follows `MULTI` and `EXEC` through a pipeline, and refuses what a shared connection must not carry.
#[derive(Clone, Copy, Debug, Default)]
struct Transaction {
    open: bool,
}

impl Transaction {
    fn check_single(mut self, body: &[u8]) -> Result<(), &'static str> {
        self.check_next(words(body))?;
        self.check_end()
    }

    fn check_next<'a>(
        &mut self,
        mut words: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), &'static str> {
        let name = words.next().unwrap_or_default();
        // The longest name that matters has 12 bytes.
        let mut upper = [0_u8; 12];
        let Some(upper) = upper.get_mut(..name.len()) else { return Ok(()) };
        upper.copy_from_slice(name);
        upper.make_ascii_uppercase();
        match &*upper {
            // A server refuses these with an argument, and what they were to open or close stays as it was.
            b"MULTI" | b"EXEC" if words.next().is_some() => {
                return Err("MULTI and EXEC take no arguments");
            }
            b"MULTI" if self.open => return Err("MULTI inside MULTI"),
            b"MULTI" => self.open = true,
            b"EXEC" if !self.open => return Err("there is no MULTI in the pipeline for this EXEC"),
            b"EXEC" => self.open = false,
            // A server that refuses it, for its arguments or the user's rights, leaves the transaction open, for the
            // commands of other tasks to fall into. And nothing that a pipeline could learn would ask for it.
            b"DISCARD" => return Err("a pipeline that is not to be carried out need not be sent"),
            upper => return refusal(upper, words),
        }
        Ok(())
    }

    fn check_end(self) -> Result<(), &'static str> {
        if self.open {
            return Err("MULTI is left open: put it and its EXEC into one pipeline");
        }
        Ok(())
    }
}

/// Why a command must not be sent over a connection that many tasks share, if so.
fn refusal<'a>(upper: &[u8], mut args: impl Iterator<Item = &'a [u8]>) -> Result<(), &'static str> {
    const STATE: &str = "it changes the shared connection for every task: set it in Config";
    const BLOCKS: &str = "it may block the shared connection and every task on it";
    const SHARED: &str = "it changes the shared connection for every task";
    const PUSHES: &str = "its answers arrive as pushes, which this version cannot hand on";
    let refused = match upper {
        b"SELECT" | b"AUTH" | b"HELLO" => Some(STATE),
        b"RESET" | b"QUIT" => {
            Some("it ends the shared connection for every task: use Client::close")
        }
        b"WATCH" => Some("on a shared connection another task's commands would run in between"),
        b"BLPOP" | b"BRPOP" | b"BLMOVE" | b"BRPOPLPUSH" | b"BLMPOP" | b"BZPOPMIN" | b"BZPOPMAX"
        | b"BZMPOP" | b"WAIT" | b"WAITAOF" => Some(BLOCKS),
        b"XREAD" | b"XREADGROUP" => blocking_read(args).then_some(BLOCKS),
        b"SUBSCRIBE" | b"PSUBSCRIBE" | b"SSUBSCRIBE" | b"UNSUBSCRIBE" | b"PUNSUBSCRIBE"
        | b"SUNSUBSCRIBE" | b"MONITOR" => Some(PUSHES),
        b"SYNC" | b"PSYNC" | b"REPLCONF" => Some("it turns the connection into a replication link"),
        b"CLIENT" => match args.next() {
            Some(word) if word.eq_ignore_ascii_case(b"REPLY") => {
                Some("replies are matched to requests in order, so none may be left out")
            }
            Some(word) if is_one_of(word, &["TRACKING", "CACHING"]) => Some(PUSHES),
            Some(word) if is_one_of(word, &["SETNAME", "SETINFO"]) => Some(STATE),
            Some(word) if is_one_of(word, &["NO-EVICT", "NO-TOUCH", "CAPA"]) => Some(SHARED),
            _ => None,
        },
        b"READONLY" | b"READWRITE" | b"ASKING" => Some(SHARED),
        b"SCRIPT" => args
            .next()
            .is_some_and(|word| word.eq_ignore_ascii_case(b"DEBUG"))
            .then_some("its answers are no replies"),
        _ => None,
    };
    refused.map_or(Ok(()), Err)
}

fn is_one_of(word: &[u8], names: &[&str]) -> bool {
    names.iter().any(|name| word.eq_ignore_ascii_case(name.as_bytes()))
}

/// Whether an `XREAD` or `XREADGROUP` asks to block. `BLOCK` stands before `STREAMS`, after which come keys; the names
/// of a group and a consumer, and a count, may be any word.
fn blocking_read<'a>(mut args: impl Iterator<Item = &'a [u8]>) -> bool {
    while let Some(word) = args.next() {
        if is_one_of(word, &["BLOCK"]) {
            return true;
        } else if is_one_of(word, &["STREAMS"]) {
            return false;
        } else if is_one_of(word, &["GROUP"]) {
            args.nth(1);
        } else if is_one_of(word, &["COUNT"]) {
            args.next();
        }
    }
    false
}

/// A value that can be an argument of a command.
///
/// Text and bytes go out as they are, `true` and `false` as `1` and `0`, integers in decimal, floating-point numbers in the shortest form that reads back
/// as the same number (`inf`, `-inf` and `nan` as the servers spell them).
pub trait ToArg {
    /// Appends the argument to `body` as one bulk string.
    fn encode_into(&self, body: &mut BytesMut);
}

macro_rules! bytes_to_arg {
    ($($type:ty),*) => {$(
        impl ToArg for $type {
            fn encode_into(&self, body: &mut BytesMut) {
                encode::bulk_string(body, AsRef::<[u8]>::as_ref(self));
            }
        }
    )*};
}

bytes_to_arg!(str, String, [u8], Vec<u8>, Bytes, BytesMut);

impl<T: ToArg + ToOwned + ?Sized> ToArg for std::borrow::Cow<'_, T> {
    fn encode_into(&self, body: &mut BytesMut) {
        (**self).encode_into(body);
    }
}

impl<const N: usize> ToArg for [u8; N] {
    fn encode_into(&self, body: &mut BytesMut) {
        encode::bulk_string(body, self);
    }
}

impl<T: ToArg + ?Sized> ToArg for &T {
    fn encode_into(&self, body: &mut BytesMut) {
        (**self).encode_into(body);
    }
}

macro_rules! integer_to_arg {
    ($($type:ty),*) => {$(
        impl ToArg for $type {
            fn encode_into(&self, body: &mut BytesMut) {
                encode::bulk_string(body, itoa::Buffer::new().format(*self).as_bytes());
            }
        }
    )*};
}

integer_to_arg!(i8, i16, i32, i64, i128, isize, u8, u16, u32, u64, u128, usize);

impl ToArg for bool {
    fn encode_into(&self, body: &mut BytesMut) {
        encode::bulk_string(body, if *self { b"1" } else { b"0" });
    }
}

macro_rules! float_to_arg {
    ($($type:ty),*) => {$(
        impl ToArg for $type {
            fn encode_into(&self, body: &mut BytesMut) {
                if self.is_nan() {
                    return encode::bulk_string(body, b"nan");
                }
                encode::bulk_string(body, self.to_string().as_bytes());
            }
        }
    )*};
}

float_to_arg!(f32, f64);

#[cfg(test)]
mod tests;
