//! What is measured.

use std::fmt;
use std::time::Duration;

use super::fleet::{BLOCKS, Fleet};

/// What a side does, over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// Asks for a prompt and scores the answer.
    Lookup {
        /// Who holds what.
        fleet: Fleet,
        /// Blocks of the prompt.
        blocks: usize,
        /// Of which the first so many are held.
        held: usize,
    },
    /// Adds an event of 64 blocks of one pod.
    Add,
    /// Evicts what was added, by the index that has added it.
    Evict,
    /// Evicts what another index has added.
    EvictUnknown,
    /// Clears a pod with 64 blocks, in an index of so many blocks of others.
    Clear {
        /// Blocks of the others.
        others: usize,
    },
}

/// Blocks of an event.
pub const EVENT: usize = 64;

/// Blocks of others where a pod is cleared: few, and ten times as many.
pub const OTHERS: [usize; 2] = [2_000, 20_000];

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lookup { fleet, blocks, held } => {
                write!(f, "Lookup/{blocks} blocks, {held} held by {fleet}")
            }
            Self::Add => write!(f, "Add/{EVENT} blocks"),
            Self::Evict => write!(f, "Evict/{EVENT} blocks"),
            Self::EvictUnknown => write!(f, "Evict/{EVENT} blocks of another"),
            Self::Clear { others } => write!(f, "Clear/{EVENT} blocks beside {others}"),
        }
    }
}

/// A job over a way of some length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workload {
    /// What is done.
    pub job: Job,
    /// How much longer a round trip takes than over the loopback.
    pub round_trip: Duration,
}

/// As in `Evict/64 blocks/1ms`.
impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.round_trip {
            Duration::ZERO => write!(f, "{}/loopback", self.job),
            longer => write!(f, "{}/{longer:?}", self.job),
        }
    }
}

/// Lengths of prompts, in blocks.
pub const PROMPTS: [usize; 4] = [53, 431, 1_710, BLOCKS];

/// What a shallow hit finds.
pub const SHALLOW: usize = 8;

/// The fleet where only one thing at a time is varied.
pub const USUAL: Fleet = Fleet { pods: 40, entries: 10 };

/// What is measured: everything, or what differs from the usual in one way.
pub fn all(full: bool) -> Vec<Workload> {
    let depths = |blocks| [0, SHALLOW, blocks / 3, blocks];
    let mut jobs = Vec::new();
    for fleet in Fleet::ALL {
        for blocks in PROMPTS {
            for held in depths(blocks) {
                let unusual = [fleet != USUAL, blocks != 1_710, held != blocks];
                let bar = fleet == USUAL && blocks == BLOCKS && held == SHALLOW;
                if full || bar || unusual.iter().filter(|unusual| **unusual).count() <= 1 {
                    jobs.push(Job::Lookup { fleet, blocks, held });
                }
            }
        }
    }
    jobs.extend([Job::Add, Job::Evict, Job::EvictUnknown]);
    let ways = [Duration::ZERO, Duration::from_millis(1)];
    let over = |job: Job| ways.map(|round_trip| Workload { job, round_trip });
    // How long a clear takes on a long way is a question of patience with the port's scan.
    let clears =
        OTHERS.map(|others| Workload { job: Job::Clear { others }, round_trip: Duration::ZERO });
    jobs.into_iter().flat_map(over).chain(clears).collect()
}
