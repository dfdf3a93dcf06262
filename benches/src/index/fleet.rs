//! Who holds which blocks.

use std::fmt;

use respire_kvblock::{BlockHash, PodEntry};

/// Blocks that a fleet holds: those of the longest prompt of the trace that the tests replay, at 16 tokens each.
pub const BLOCKS: usize = 7_887;

/// In so many blocks in a row the same pods hold them.
const RUN: usize = 32;

/// Tiers, the first for the first entry of each pod, and so on.
const TIERS: [&str; 5] = ["gpu", "cpu", "disk", "remote", "archive"];

/// So many pods, of whose entries so many stand at each block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fleet {
    /// How many pods there are.
    pub pods: usize,
    /// How many entries each block has; those beyond one for each pod are in further tiers.
    pub entries: usize,
}

/// As in `10 of 40 pods`.
impl fmt::Display for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} pods", self.entries, self.pods)
    }
}

impl Fleet {
    /// Those that are measured.
    pub const ALL: [Self; 8] = [
        Self { pods: 8, entries: 1 },
        Self { pods: 8, entries: 10 },
        Self { pods: 40, entries: 1 },
        Self { pods: 40, entries: 10 },
        Self { pods: 40, entries: 40 },
        Self { pods: 128, entries: 1 },
        Self { pods: 128, entries: 10 },
        Self { pods: 128, entries: 40 },
    ];

    /// A pod's entry.
    pub fn entry(self, number: usize) -> PodEntry {
        let (tier, pod) = (number / self.pods, number % self.pods);
        let address = format!("10.0.{}.{}:8000", pod / 200, 1 + pod % 200);
        PodEntry::new(address, TIERS.get(tier).copied().unwrap_or("gpu"))
    }

    /// The entries at a block, in the order in which they came there.
    ///
    /// All but one are the same everywhere, so that there are prefixes; the last is another pod's after a while. The
    /// order differs from block to block, as it does where pods store blocks at different times.
    pub fn holders(self, block: usize) -> Vec<PodEntry> {
        let steady = self.entries - 1;
        let others = self.pods.saturating_sub(steady).max(1);
        let last = steady + (block / RUN) % others;
        let mut numbers: Vec<usize> = (0..steady).chain([last]).collect();
        numbers.rotate_left(block % self.entries);
        numbers.into_iter().map(|number| self.entry(number)).collect()
    }

    /// The request key of a block that is held.
    pub fn held(self, block: usize) -> BlockHash {
        self.key(block as u64)
    }

    /// The keys of a prompt of so many blocks, of which the first `held` are held.
    pub fn prompt(self, blocks: usize, held: usize) -> Vec<BlockHash> {
        let key = |block: usize| if block < held { self.held(block) } else { self.absent(block) };
        (0..blocks).map(key).collect()
    }

    fn absent(self, block: usize) -> BlockHash {
        self.key(block as u64 | 1 << 40)
    }

    /// A number that looks like a hash, and is another one for each fleet.
    fn key(self, block: u64) -> BlockHash {
        let salt = (self.pods as u64) << 56 | (self.entries as u64) << 48;
        BlockHash(mixed(salt | block))
    }
}

/// Every number from another one, in no order: the finaliser of SplitMix64.
pub fn mixed(number: u64) -> u64 {
    let mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_block_has_its_number_of_entries() {
        for fleet in Fleet::ALL {
            for block in [0, 1, RUN, 1_000, BLOCKS - 1] {
                let holders: HashSet<PodEntry> = fleet.holders(block).into_iter().collect();
                assert_eq!(holders.len(), fleet.entries, "{fleet}, block {block}");
            }
        }
    }

    #[test]
    fn no_two_blocks_have_a_key_in_common() {
        let prompts = Fleet::ALL.into_iter().flat_map(|fleet| {
            fleet.prompt(BLOCKS, BLOCKS).into_iter().chain(fleet.prompt(BLOCKS, 0))
        });
        let keys: Vec<BlockHash> = prompts.collect();
        assert_eq!(keys.iter().collect::<HashSet<_>>().len(), keys.len());
    }
}
