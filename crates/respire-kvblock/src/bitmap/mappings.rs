//! What a client remembers of engine keys.

use std::num::NonZeroUsize;

use lru::LruCache;
use smallvec::SmallVec;

use super::keys::Epoch;
use crate::BlockHash;

/// The most request keys of one engine key that are remembered. Whoever has more asks the server.
const REQUEST_KEYS_MAX: usize = 64;

/// The request keys of an engine key.
pub(super) type RequestKeys = SmallVec<[BlockHash; 2]>;

/// The request keys of the engine keys that were used last. A server knows better: what is remembered is compared there.
#[derive(Debug)]
pub(super) struct Mappings {
    epoch: Epoch,
    of: LruCache<BlockHash, RequestKeys>,
}

impl Mappings {
    pub(super) fn new(max: NonZeroUsize) -> Self {
        Self { epoch: Epoch::default(), of: LruCache::sparse(max) }
    }

    pub(super) fn recall(&mut self, epoch: Epoch, engine_key: BlockHash) -> Option<RequestKeys> {
        self.turn(epoch);
        self.of.get(&engine_key).cloned()
    }

    pub(super) fn remember(&mut self, epoch: Epoch, engine_key: BlockHash, keys: RequestKeys) {
        self.turn(epoch);
        if keys.len() <= REQUEST_KEYS_MAX {
            self.of.put(engine_key, keys);
        }
    }

    pub(super) fn forget(&mut self, engine_key: BlockHash) {
        self.of.pop(&engine_key);
    }

    /// These request keys were mapped as the last ones.
    pub(super) fn extend(&mut self, epoch: Epoch, engine_key: BlockHash, keys: &[BlockHash]) {
        self.turn(epoch);
        let known = self.of.get_or_insert_mut(engine_key, RequestKeys::new);
        known.retain(|key| !keys.contains(key));
        known.extend_from_slice(keys);
        if known.len() > REQUEST_KEYS_MAX {
            self.of.pop(&engine_key);
        }
    }

    fn turn(&mut self, epoch: Epoch) {
        if self.epoch != epoch {
            self.of.clear();
            self.epoch = epoch;
        }
    }
}
