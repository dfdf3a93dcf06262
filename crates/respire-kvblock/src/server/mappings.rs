//! What this process has mapped engine keys to, so that an eviction need not ask for it first.

use std::{
    num::NonZeroUsize,
    sync::{Mutex, MutexGuard, PoisonError},
};

use lru::LruCache;
use smallvec::SmallVec;

use crate::BlockHash;

/// The request keys of an engine key, mostly one.
pub(super) type RequestKeys = SmallVec<[BlockHash; 1]>;

/// The most request keys of one engine key that are remembered. Whoever has more asks the server.
const REQUEST_KEYS_MAX: usize = 64;

/// How many engine keys are remembered by default: the blocks of a dozen pods, in about 30 MiB.
pub(super) const ENGINE_KEYS_MAX: NonZeroUsize = NonZeroUsize::new(262_144).unwrap();

/// Engine keys that were added lately, with the request keys that they were mapped to.
///
/// It is a guess: others change mappings too. Whoever acts on it has the server compare first.
#[derive(Debug)]
pub(super) struct MappingMemory {
    known: Option<Mutex<LruCache<BlockHash, RequestKeys>>>,
}

impl MappingMemory {
    /// Room for so many engine keys.
    pub(super) fn new(engine_keys: usize) -> Self {
        let known = NonZeroUsize::new(engine_keys).map(|size| Mutex::new(LruCache::sparse(size)));
        Self { known }
    }

    fn known(&self) -> Option<MutexGuard<'_, LruCache<BlockHash, RequestKeys>>> {
        // Nothing under this lock panics half-way.
        self.known.as_ref().map(|known| known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes note that each engine key was mapped to these request keys as well, the last of them the latest.
    pub(super) fn extend(&self, mappings: impl Iterator<Item = (BlockHash, RequestKeys)>) {
        let Some(mut known) = self.known() else { return };
        for (engine_key, request_keys) in mappings {
            let list = known.get_or_insert_mut(engine_key, RequestKeys::new);
            list.retain(|key| !request_keys.contains(key));
            list.extend_from_slice(&request_keys);
            if list.len() > REQUEST_KEYS_MAX {
                known.pop(&engine_key);
            }
        }
    }

    /// The latest request key of an engine key.
    pub(super) fn latest(&self, engine_key: BlockHash) -> Option<BlockHash> {
        self.known()?.get(&engine_key)?.last().copied()
    }

    pub(super) fn forget(&self, engine_keys: impl Iterator<Item = BlockHash>) {
        let Some(mut known) = self.known() else { return };
        for engine_key in engine_keys {
            known.pop(&engine_key);
        }
    }

    /// What the engine keys were mapped to, each with its request keys where they are remembered.
    pub(super) fn recall(&self, engine_keys: &[BlockHash]) -> Vec<Option<RequestKeys>> {
        match self.known() {
            Some(mut known) => engine_keys.iter().map(|key| known.get(key).cloned()).collect(),
            None => vec![None; engine_keys.len()],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(numbers: &[u64]) -> RequestKeys {
        numbers.iter().copied().map(BlockHash).collect()
    }

    #[test]
    fn a_mapping_grows_as_it_does_on_the_server_and_the_latest_is_last() {
        let memory = MappingMemory::new(10);
        memory.extend([(BlockHash(1), keys(&[11, 12]))].into_iter());
        memory.extend([(BlockHash(1), keys(&[13, 11]))].into_iter());
        assert_eq!(memory.recall(&keys(&[1, 2])), [Some(keys(&[12, 13, 11])), None]);
        assert_eq!(memory.latest(BlockHash(1)), Some(BlockHash(11)));
        memory.forget([BlockHash(1)].into_iter());
        assert_eq!(memory.recall(&keys(&[1])), [None]);
    }

    #[test]
    fn what_is_remembered_is_bounded_in_both_directions() {
        let memory = MappingMemory::new(2);
        for engine_key in 1..=3 {
            memory.extend([(BlockHash(engine_key), keys(&[7]))].into_iter());
        }
        assert_eq!(memory.recall(&keys(&[1, 2, 3])), [None, Some(keys(&[7])), Some(keys(&[7]))]);
        let many: Vec<u64> = (0..=REQUEST_KEYS_MAX as u64).collect();
        memory.extend([(BlockHash(3), keys(&many))].into_iter());
        assert_eq!(memory.recall(&keys(&[3])), [None]);
        let nothing = MappingMemory::new(0);
        nothing.extend([(BlockHash(1), keys(&[7]))].into_iter());
        assert_eq!(nothing.recall(&keys(&[1])), [None]);
    }
}
