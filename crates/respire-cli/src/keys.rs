//! The index's names for a trace's blocks and for the simulated pods.

use respire_kvblock::{BlockHash, PodEntry};

use crate::trace::BLOCK_ID_MAX;

/// The tier that the simulated pods hold their blocks in.
const TIER: &str = "gpu";

/// Turns block ids into request keys and engine keys, and pod numbers into entries.
///
/// In life both keys are hashes, made by different parties from the same tokens. Here they are
/// well-mixed numbers that look like hashes, and that are certain not to collide: all request and
/// engine keys of all ids are different from each other, and none is 0, the empty hash.
///
/// A tag keeps runs apart: what another run has left on a server, or writes to it meanwhile, has
/// other keys and other pods.
#[derive(Debug, Clone, Copy)]
pub struct Keys {
    /// An odd number, so that multiplying by it can be undone.
    multiplier: u64,
    tag: u64,
}

impl Keys {
    /// Names that depend on `tag` alone.
    #[must_use]
    pub fn new(tag: u64) -> Self {
        Self { multiplier: mix(tag) | 1, tag }
    }

    /// The hash by which the router knows the block.
    ///
    /// # Panics
    ///
    /// When `id` is greater than [`BLOCK_ID_MAX`].
    #[must_use]
    pub fn request_key(&self, id: u64) -> BlockHash {
        self.key(id, 1)
    }

    /// The hash by which the engine knows the block.
    ///
    /// # Panics
    ///
    /// When `id` is greater than [`BLOCK_ID_MAX`].
    #[must_use]
    pub fn engine_key(&self, id: u64) -> BlockHash {
        self.key(id, 2)
    }

    /// The entry by which the index knows a pod.
    #[must_use]
    pub fn pod_entry(&self, pod: usize) -> PodEntry {
        PodEntry::new(format!("{}{pod}", self.pod_prefix()), TIER)
    }

    /// What the names of all pods begin with, and no other run's: letters, digits and dashes.
    #[must_use]
    pub fn pod_prefix(&self) -> String {
        format!("replay-{:016x}-", self.tag)
    }

    /// `2 id + 1` and `2 id + 2` are all different over all ids and none is 0. Each step after
    /// that maps different numbers to different numbers, and 0 to 0 only.
    fn key(&self, id: u64, offset: u64) -> BlockHash {
        assert!(id <= BLOCK_ID_MAX, "the block id {id} is out of range");
        BlockHash(mix((2 * id + offset).wrapping_mul(self.multiplier)))
    }
}

/// Spreads every bit of `x` over all of the result. It can be undone (xor-shifts and products with
/// odd numbers can), so that different numbers stay different; 0 stays 0.
fn mix(mut x: u64) -> u64 {
    // Odd, with bits set all over: the fractions of the golden ratio and of the square root of 3.
    const FIRST: u64 = 0x9e37_79b9_7f4a_7c15;
    const SECOND: u64 = 0xbb67_ae85_84ca_a73b;
    for multiplier in [FIRST, SECOND] {
        x ^= x >> 32;
        x = x.wrapping_mul(multiplier);
    }
    x ^ (x >> 32)
}

#[cfg(test)]
mod tests;
