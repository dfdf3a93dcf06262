//! The sides: respire's codec, its peers, and floors: a plain copy, and maps of
//! strings that somebody else has found.
//!
//! Each is used in the fastest way that it recommends. For all alike: the
//! input lies in the buffer that the side reads from before the clock starts,
//! except where feeding is the task; what a side makes of a reply is dropped
//! before the next reply, or with the batch that it came in, while the clock
//! runs; decoders, receive buffers and write buffers are used again and again.

mod amount;
mod floor;
pub mod hiredis;
mod received;
mod redis_protocol;
mod redis_rs;
mod respire;
mod rustis;

use std::fmt;

use anyhow::Result;

use super::workload::Workload;
use crate::pass::Pass;
use hiredis::Hiredis;

/// Who does it, and in which of several ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// A copy of the bytes.
    Memcpy,
    /// The standard library's map, filled from strings that were found before.
    Std,
    /// respire-codec by the batch.
    Respire,
    /// respire-codec, frame by frame.
    RespireSingly,
    /// respire-codec, reading into types that borrow from the frame.
    RespireBorrowed,
    /// respire-codec with the start of the command encoded in advance.
    RespirePrefix,
    /// rustis.
    Rustis,
    /// rustis through the function that it benchmarks itself with, which copies
    /// every reply and allocates a tape for it, as the client does not.
    RustisShim,
    /// redis-rs.
    Redis,
    /// redis-rs with a new command object each time.
    RedisFresh,
    /// The codec of redis-protocol.
    RedisProtocol,
    /// The decoder of redis-protocol that makes owned frames.
    RedisProtocolOwned,
    /// hiredis, in a process of its own.
    Hiredis,
}

impl Side {
    /// All of them, in the order of the tables.
    pub const ALL: [Self; 13] = [
        Self::Memcpy,
        Self::Std,
        Self::Respire,
        Self::RespireSingly,
        Self::RespireBorrowed,
        Self::RespirePrefix,
        Self::Rustis,
        Self::RustisShim,
        Self::Redis,
        Self::RedisFresh,
        Self::RedisProtocol,
        Self::RedisProtocolOwned,
        Self::Hiredis,
    ];

    /// Whether this does less than what is asked, to show what nobody can undercut.
    pub fn is_floor(self) -> bool {
        self < Self::Respire
    }

    /// Whether this is neither respire nor a floor.
    pub fn is_peer(self) -> bool {
        self >= Self::Rustis
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Memcpy => "memcpy",
            Self::Std => "std, no parsing",
            Self::Respire => "respire",
            Self::RespireSingly => "respire, one at a time",
            Self::RespireBorrowed => "respire, borrowed types",
            Self::RespirePrefix => "respire, prefix",
            Self::Rustis => "rustis",
            Self::RustisShim => "rustis, raw shim",
            Self::Redis => "redis-rs",
            Self::RedisFresh => "redis-rs, new Cmd",
            Self::RedisProtocol => "redis-protocol codec",
            Self::RedisProtocolOwned => "redis-protocol owned",
            Self::Hiredis => "hiredis",
        })
    }
}

/// A side that is ready to be measured.
pub struct Contestant {
    /// Who it is.
    pub side: Side,
    /// What it does.
    pub pass: Box<dyn Pass>,
}

impl Contestant {
    fn new(side: Side, pass: impl Pass + 'static) -> Self {
        Self { side, pass: Box::new(pass) }
    }
}

impl fmt::Debug for Contestant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contestant").field("side", &self.side).finish_non_exhaustive()
    }
}

/// Everyone who can do `workload`, in the order of the tables.
///
/// # Errors
///
/// When a floor cannot be made of the input.
pub fn contestants(workload: &Workload, hiredis: Option<&Hiredis>) -> Result<Vec<Contestant>> {
    let mut contestants = respire::contestants(workload);
    if workload.peers {
        contestants.extend(floor::contestants(workload)?);
        contestants.extend(rustis::contestants(workload));
        contestants.extend(redis_rs::contestants(workload));
        contestants.extend(redis_protocol::contestants(workload));
        contestants.extend(hiredis.and_then(|hiredis| hiredis.contestant(workload)));
    }
    contestants.sort_by_key(|contestant| contestant.side);
    Ok(contestants)
}

/// The command that is encoded.
const COMMAND: [&[u8]; 5] = [
    b"SET",
    b"session:8f14e45fceea167a",
    b"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0",
    b"EX",
    b"3600",
];

/// Commands written in one pass.
const COMMANDS: u64 = 1000;
