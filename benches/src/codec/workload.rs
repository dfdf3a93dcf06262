//! What the sides are asked to do, and with which input.

use std::fmt;
use std::sync::Arc;

use anyhow::Result;

use super::buffers::{self, Buffer};

/// What is done with every reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// To find where it ends and what is in it, in the cheapest way the side
    /// has; most peers cannot without building a value.
    Framing,
    /// To frame it and make a handle of it that can be given away.
    Handles,
    /// To build the side's own tree of values.
    Owned,
    /// To read it as a type of the language.
    Typed(Target),
    /// To frame it from reads of so many bytes, the feeding included.
    Feed(usize),
    /// To write a command of five arguments.
    Encode,
}

/// Types that a reply is read as. Bytes are each side's own type for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A vector of byte strings.
    ByteStrings,
    /// `i64`
    Integer,
    /// `Vec<i64>`
    Integers,
    /// A `HashMap` of byte strings.
    ByteMap,
    /// `HashMap<String, String>`
    TextMap,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ByteStrings => "Vec<Bytes>",
            Self::Integer => "i64",
            Self::Integers => "Vec<i64>",
            Self::ByteMap => "HashMap<Bytes, Bytes>",
            Self::TextMap => "HashMap<String, String>",
        })
    }
}

/// A task and its input.
#[derive(Clone, Debug)]
pub struct Workload {
    /// What to do.
    pub task: Task,
    /// What with; empty for [`Task::Encode`].
    pub buffer: Arc<Buffer>,
    /// Whether the peers take part. Some need time that grows with the square
    /// of the input.
    pub peers: bool,
}

impl Workload {
    fn new(task: Task, buffer: &Arc<Buffer>) -> Self {
        Self { task, buffer: Arc::clone(buffer), peers: true }
    }

    /// The heading of its table and, after a slash, its name in there.
    pub fn name(&self) -> String {
        format!("{}/{}", self.group(), self.column())
    }

    /// The heading of the table that it belongs to.
    pub fn group(&self) -> &'static str {
        match self.task {
            Task::Framing => "Framing",
            Task::Handles => "Frames with handles",
            Task::Owned => "Owned values",
            Task::Typed(_) => "Typed extraction",
            Task::Feed(_) if self.peers => "Split reads",
            Task::Feed(_) => "Byte by byte",
            Task::Encode => "Encoding",
        }
    }

    /// Its name in that table.
    pub fn column(&self) -> String {
        match self.task {
            Task::Framing | Task::Handles | Task::Owned => self.buffer.name.clone(),
            Task::Typed(target) => format!("{} as {target}", self.buffer.name),
            Task::Feed(chunk) if self.peers => format!("{} in {chunk}s", self.buffer.name),
            Task::Feed(_) => format!("{} of {}", self.buffer.name, self.buffer.wire.len()),
            Task::Encode => "a command of five arguments".to_owned(),
        }
    }
}

/// Every workload there is; `captured` is a buffer of a real server's.
///
/// # Errors
///
/// When a buffer is no RESP.
pub fn all(captured: Option<&Arc<Buffer>>) -> Result<Vec<Workload>> {
    let mut buffers = buffers::made()?;
    buffers.extend(captured.cloned());
    let of = |task: Task, names: &[&str]| {
        let named = names.iter().filter_map(|name| buffers.iter().find(|b| b.name == *name));
        named.map(|buffer| Workload::new(task, buffer)).collect::<Vec<_>>()
    };
    let nothing = Buffer::new("encode", "nothing to read", Vec::new())?;
    let mut workloads = [
        of(Task::Framing, &["a", "b", "c", "d", "e", "e2", "f", "COMMAND"]),
        of(Task::Handles, &["a", "b", "c", "d", "e", "e2", "f", "COMMAND"]),
        of(Task::Owned, &["a", "b", "c", "e", "e2", "f", "COMMAND"]),
        of(Task::Typed(Target::ByteStrings), &["c"]),
        of(Task::Typed(Target::Integer), &["e"]),
        of(Task::Typed(Target::Integers), &["e2"]),
        of(Task::Typed(Target::ByteMap), &["m"]),
        of(Task::Typed(Target::TextMap), &["m"]),
        of(Task::Feed(1460), &["t"]),
        of(Task::Feed(1), &["s"]),
        vec![Workload::new(Task::Encode, &nothing)],
    ]
    .concat();
    for size in buffers::FLAT_SIZES {
        let flat = buffers::flat(size)?;
        let workload = |buffer| Workload { peers: false, ..Workload::new(Task::Feed(1), buffer) };
        workloads.extend(flat.iter().map(workload));
    }
    Ok(workloads)
}
