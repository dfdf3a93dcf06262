//! A simulated pod: which blocks its cache holds.

use std::num::NonZeroUsize;

use lru::LruCache;

/// How many blocks a pod can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capacity {
    /// This many blocks.
    Blocks(NonZeroUsize),
    /// Every block that it ever stored.
    Unlimited,
}

impl std::fmt::Display for Capacity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Blocks(blocks) => blocks.fmt(f),
            Self::Unlimited => f.write_str("unlimited"),
        }
    }
}

impl std::str::FromStr for Capacity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "unlimited" {
            return Ok(Self::Unlimited);
        }
        text.parse()
            .map(Self::Blocks)
            .map_err(|_| "expected a number of blocks from 1 upwards, or `unlimited`".to_owned())
    }
}

/// What a pod's cache did with one request's blocks: what it tells the index.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct CacheEvent {
    /// The blocks that the pod lacked and has stored, in the order of the chain.
    pub stored: Vec<u64>,
    /// The blocks that it has dropped afterwards, first dropped first. Of a request that alone
    /// exceeds the capacity, the tail is stored and dropped: it then stands in both lists.
    pub dropped: Vec<u64>,
}

/// A pod's blocks, from the least to the most recently used.
#[derive(Debug)]
pub struct Pod {
    blocks: LruCache<u64, ()>,
    capacity: Capacity,
}

impl Pod {
    /// An empty pod.
    #[must_use]
    pub fn new(capacity: Capacity) -> Self {
        // The cache would reserve its whole capacity, and trims before all blocks are touched:
        // so it is left unbounded and trimmed here.
        Self { blocks: LruCache::unbounded(), capacity }
    }

    /// How many of the first `blocks` the pod holds without a gap.
    #[must_use]
    pub fn prefix_blocks(&self, blocks: &[u64]) -> usize {
        blocks.iter().take_while(|id| self.holds(**id)).count()
    }

    /// Whether the pod holds the block.
    #[must_use]
    pub fn holds(&self, block: u64) -> bool {
        self.blocks.contains(&block)
    }

    /// The blocks that it holds, in no particular order.
    pub fn blocks(&self) -> impl Iterator<Item = u64> {
        self.blocks.iter().map(|(id, ())| *id)
    }

    /// How many blocks it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Uses and stores a request's blocks, then drops what exceeds the capacity.
    ///
    /// The blocks are touched from the last to the first, as vLLM frees them, so that the tail of
    /// a chain is less recently used than its head and is dropped before it.
    pub fn store(&mut self, blocks: &[u64]) -> CacheEvent {
        let is_new = |id: &u64| self.blocks.put(*id, ()).is_none();
        let mut stored: Vec<u64> = blocks.iter().rev().copied().filter(is_new).collect();
        stored.reverse();
        CacheEvent { stored, dropped: self.trim() }
    }

    fn trim(&mut self) -> Vec<u64> {
        let Capacity::Blocks(capacity) = self.capacity else {
            return Vec::new();
        };
        let excess = self.blocks.len().saturating_sub(capacity.get());
        (0..excess).filter_map(|_| self.blocks.pop_lru()).map(|(id, ())| id).collect()
    }
}

#[cfg(test)]
mod tests;
