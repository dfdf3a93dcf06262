//! What the index asks of a pod when it may no longer know what the pod holds.

use std::fmt;

use crate::BlockHash;

/// A pod whose entries may be wrong, and why: somebody has to have it announce its blocks again.
///
/// Until it has done so, the index may know less of the pod than is there, or more. [`ResyncReason::may_be_stale`] tells
/// the two apart: what is missing costs a router hits, what is stale sends requests to where their blocks are not.
///
/// ```
/// use respire_kvblock::{Resync, ResyncReason};
///
/// let resync = Resync::new("10.0.0.1:8000", ResyncReason::Gap { expected: 17, found: 20 });
/// assert_eq!(resync.to_string(), "10.0.0.1:8000 has to announce its blocks again: event 17 was due, 20 came");
/// assert!(resync.reason.may_be_stale());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Resync {
    /// The pod, as its entries name it.
    pub pod_identifier: String,
    /// What happened.
    pub reason: ResyncReason,
}

impl Resync {
    /// A request to this pod, for this reason.
    pub fn new(pod_identifier: impl Into<String>, reason: ResyncReason) -> Self {
        Self { pod_identifier: pod_identifier.into(), reason }
    }
}

impl fmt::Display for Resync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} has to announce its blocks again: {}", self.pod_identifier, self.reason)
    }
}

/// Why a pod has to announce its blocks again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ResyncReason {
    /// Events are missing: their sequence numbers went from one below `expected` to `found`.
    Gap {
        /// The number that was due.
        expected: u64,
        /// The number that came, above `expected`.
        found: u64,
    },
    /// The sequence numbers went back: the engine has started anew, and holds nothing of what it announced before.
    Restarted {
        /// The number that was due.
        expected: u64,
        /// The number that came, below `expected`.
        found: u64,
    },
    /// A message could not be read.
    Unreadable,
    /// Events came faster than they could be applied, and were dropped.
    Overrun,
    /// The index could not be written to, however often it was tried.
    WriteFailed,
    /// A block was stored behind one that the index does not know, so that its request key cannot be computed.
    UnknownParent {
        /// The engine key of the block before it.
        parent: BlockHash,
    },
    /// The server has lost what the index kept there: it was flushed, restarted without its data, or replaced by
    /// another that did not have all of it.
    IndexLost,
    /// The server may have lost writes, and nobody has confirmed yet that none of this pod's are among them. Until its writer
    /// does, the pod is left out of every answer.
    Unconfirmed,
    /// Somebody else has ended this life of the pod, by `clear` or because its lease ran out. Calls for the pod do nothing until
    /// they begin with a [`clear`](crate::Index::clear).
    Retired,
}

impl ResyncReason {
    /// Whether the index may believe that the pod holds blocks which it does not hold. Where it may not, it only knows too
    /// little.
    pub fn may_be_stale(&self) -> bool {
        !matches!(
            self,
            Self::UnknownParent { .. } | Self::IndexLost | Self::Unconfirmed | Self::Retired
        )
    }
}

impl fmt::Display for ResyncReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gap { expected, found } => write!(f, "event {expected} was due, {found} came"),
            Self::Restarted { expected, found } => {
                write!(f, "event {expected} was due, and its numbers start over at {found}")
            }
            Self::Unreadable => f.write_str("a message of its could not be read"),
            Self::Overrun => f.write_str("its events came faster than they could be applied"),
            Self::WriteFailed => f.write_str("the index could not be written to"),
            Self::UnknownParent { parent } => {
                write!(f, "a block follows {parent}, which the index does not know")
            }
            Self::IndexLost => f.write_str("the server has lost what the index kept there"),
            Self::Unconfirmed => f.write_str(
                "the server may have lost writes, and its writer has not confirmed its own",
            ),
            Self::Retired => f.write_str("somebody else has ended what it was known by"),
        }
    }
}
