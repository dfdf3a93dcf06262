//! What an index in memory knows, and what it forgets when there is no more room.

use std::{cell::LazyCell, collections::HashSet};

use lru::LruCache;
use smallvec::SmallVec;

use super::table::EntryTable;
use crate::{BlockHash, KeyType, Lookup, PodEntry, PodSet, lookup::Walk, mapping::mappings};

/// The entries of one request key as ids of the table, the one added last at the end. Most blocks have few holders, and
/// four ids take no more room than the pointer to a longer list.
pub(super) type Holders = SmallVec<[u32; 4]>;

/// The request keys of one engine key, those of the latest mapping at the end.
pub(super) type Mapped = SmallVec<[BlockHash; 2]>;

/// How many request keys an engine key keeps: those of the call that maps it and, up to so many, earlier ones. A block is
/// mapped to a few, and by a few models. A request key that falls off goes itself, as it could not be evicted by this engine key any more.
pub(super) const MAPPED_MAX: usize = 1024;

/// How many keys are searched one by one before a set is built for them.
const SEARCHED_MAX: usize = 16;

/// What a key takes in bytes at most, of either kind, besides a list that does not fit in place: 48 for the node of the list
/// by use, and 78 for its place in the table. That is 17 a bucket, of which a table that forgets as much as it learns has up to
/// 32 for 7 keys: it grows when it is not half full of keys, for the marks that the forgotten ones have left.
const KEY_BYTES: u64 = 48 + 78;

/// How many engine keys are looked at whenever a request key is forgotten, from the longest unused on. More than one, so
/// that those of which nothing is left are found before the index has turned over; few, so that forgetting stays cheap.
const ENGINES_SWEPT: usize = 4;

/// How many keys are found before the first of them is used. A key is at three places in memory that have nothing to do
/// with each other, and a processor waits for several at once if no use of one stands between them.
const AHEAD: usize = 32;

pub(super) struct State {
    /// No value is empty.
    pub(super) blocks: LruCache<BlockHash, Holders>,
    pub(super) engines: LruCache<BlockHash, Mapped>,
    /// Counts how often each entry occurs in `blocks`.
    pub(super) entries: EntryTable,
    /// The most keys of each kind.
    pub(super) size: usize,
    /// The most entries of one request key.
    pub(super) pod_cache_size: usize,
    pub(super) budget_bytes: u64,
    /// What the keys of both kinds take.
    keys_bytes: u64,
}

impl State {
    /// Bounded by so many keys of each kind, so many entries a key, and so many bytes.
    pub(super) fn new(size: usize, pod_cache_size: usize, budget_bytes: u64) -> Self {
        Self {
            blocks: LruCache::unbounded(),
            engines: LruCache::unbounded(),
            entries: EntryTable::default(),
            size,
            pod_cache_size,
            budget_bytes,
            keys_bytes: 0,
        }
    }

    pub(super) fn used_bytes(&self) -> u64 {
        self.keys_bytes + self.entries.bytes()
    }

    pub(super) fn lookup(&mut self, request_keys: &[BlockHash], pods: &PodSet) -> Lookup {
        let table = self.entries.snapshot();
        let selected: Vec<bool> = match pods.is_all() {
            true => Vec::new(),
            false => table.iter().map(|entry| pods.contains(&entry.pod_identifier)).collect(),
        };
        let is_selected = |id: &u32| selected.get(*id as usize).copied().unwrap_or(true);
        let mut walk = Walk::default();
        'keys: for keys in request_keys.chunks(AHEAD) {
            let held = keys.iter().take_while(|key| self.blocks.contains(key)).count();
            walk.reserve(held);
            for key in &keys[..held] {
                let Some(holders) = self.blocks.get(key) else { break 'keys };
                if !walk.push(*key, holders.iter().copied().filter(is_selected)) {
                    break 'keys;
                }
            }
            if held < keys.len() {
                break;
            }
        }
        walk.finish(table)
    }

    pub(super) fn request_key(&mut self, engine_key: BlockHash) -> Option<BlockHash> {
        self.engines.get(&engine_key)?.last().copied()
    }

    pub(super) fn add(&mut self, request_keys: &[BlockHash], entries: &[PodEntry]) {
        // Held for the length of the call, so that a key which is pushed out meanwhile cannot free an id in use here.
        let ids: Vec<u32> = entries.iter().map(|entry| self.entries.hold(entry)).collect();
        for keys in request_keys.chunks(AHEAD) {
            self.fetch_blocks(keys);
            keys.iter().for_each(|&key| self.add_to(key, &ids));
        }
        ids.into_iter().for_each(|id| self.entries.release(id));
    }

    fn add_to(&mut self, request_key: BlockHash, ids: &[u32]) {
        if let Some(holders) = self.blocks.get_mut(&request_key) {
            let before = holders_bytes(holders);
            join(holders, ids, &mut self.entries, self.pod_cache_size);
            self.keys_bytes = self.keys_bytes + holders_bytes(holders) - before;
        } else {
            if self.blocks.len() >= self.size {
                self.forget_block();
            }
            let mut holders = Holders::new();
            join(&mut holders, ids, &mut self.entries, self.pod_cache_size);
            self.keys_bytes += holders_bytes(&holders);
            self.blocks.put(request_key, holders);
        }
        self.keep_to_budget();
    }

    pub(super) fn map(&mut self, engine_keys: &[BlockHash], request_keys: &[BlockHash]) {
        // Built for the first engine key that has too many.
        let of_call = LazyCell::new(|| membership(request_keys));
        for mappings in mappings(engine_keys, request_keys.len()).chunks(AHEAD) {
            fetch(&self.engines, mappings.iter().map(|mapping| mapping.engine_key));
            for mapping in mappings {
                let new = mapping.positions().map(|at| request_keys[at]).collect();
                self.map_to(mapping.engine_key, new, |key| of_call(key));
                self.keep_to_budget();
            }
        }
    }

    /// Maps an engine key to more, and lets go of the oldest that are too many, but of none that the call adds itself.
    fn map_to(
        &mut self,
        engine_key: BlockHash,
        new: Mapped,
        is_of_call: impl Fn(&BlockHash) -> bool,
    ) {
        let Some(mapped) = self.engines.get_mut(&engine_key) else {
            if self.engines.len() >= self.size {
                self.forget_engine();
            }
            self.keys_bytes += mapped_bytes(&new);
            self.engines.put(engine_key, new);
            return;
        };
        let before = mapped_bytes(mapped);
        let fallen = {
            let is_new = membership(&new);
            // Earlier mappings are kept while there is something at their end, so that an eviction reaches it.
            mapped.retain(|key| !is_new(key) && self.blocks.contains(key));
            let excess = (mapped.len() + new.len()).saturating_sub(MAPPED_MAX);
            let mut fallen = Mapped::new();
            if excess > 0 {
                mapped.retain(|key| {
                    let stays = fallen.len() == excess || is_of_call(key);
                    if !stays {
                        fallen.push(*key);
                    }
                    stays
                });
            }
            fallen
        };
        mapped.extend_from_slice(&new);
        self.keys_bytes = self.keys_bytes + mapped_bytes(mapped) - before;
        for key in fallen {
            if let Some(holders) = self.blocks.pop(&key) {
                self.let_go(holders);
            }
        }
    }

    pub(super) fn evict(&mut self, keys: &[BlockHash], key_type: KeyType, entries: &[PodEntry]) {
        let ids = self.entries.find(entries);
        for keys in keys.chunks(AHEAD) {
            match key_type {
                KeyType::Request => {
                    self.fetch_blocks(keys);
                    self.remove(keys, &ids);
                }
                KeyType::Engine => {
                    self.fetch_mapped(keys);
                    keys.iter().for_each(|&key| self.remove_mapped(key, &ids));
                }
            }
        }
    }

    /// Whether anything is left at any of the keys.
    fn remove(&mut self, request_keys: &[BlockHash], ids: &[u32]) -> bool {
        let mut is_any_held = false;
        for key in request_keys {
            let Some(holders) = self.blocks.peek_mut(key) else { continue };
            release_if(holders, &mut self.entries, |id| ids.contains(&id));
            if holders.is_empty() {
                self.keys_bytes -= holders_bytes(holders);
                self.blocks.pop(key);
            } else {
                is_any_held = true;
            }
        }
        is_any_held
    }

    fn remove_mapped(&mut self, engine_key: BlockHash, ids: &[u32]) {
        let Some(mapped) = self.engines.peek(&engine_key).cloned() else { return };
        if !self.remove(&mapped, ids)
            && let Some(mapped) = self.engines.pop(&engine_key)
        {
            self.keys_bytes -= mapped_bytes(&mapped);
        }
    }

    /// Takes what is known of these keys to the processor's cache.
    fn fetch_blocks(&self, request_keys: &[BlockHash]) {
        fetch(&self.blocks, request_keys.iter().copied());
    }

    /// Does so with engine keys and what they map to.
    fn fetch_mapped(&self, engine_keys: &[BlockHash]) {
        let mapped = engine_keys.iter().filter_map(|key| self.engines.peek(key)?.last().copied());
        let mapped: SmallVec<[BlockHash; AHEAD]> = mapped.collect();
        self.fetch_blocks(&mapped);
    }

    pub(super) fn clear(&mut self, pod_identifier: &str) {
        let table = self.entries.snapshot();
        let is_own = |id: u32| table[id as usize].pod_identifier == pod_identifier;
        let (entries, keys_bytes) = (&mut self.entries, &mut self.keys_bytes);
        self.blocks.retain(|_, holders| {
            release_if(holders, entries, is_own);
            if holders.is_empty() {
                *keys_bytes -= holders_bytes(holders);
            }
            !holders.is_empty()
        });
    }

    fn is_any_held(&self, request_keys: &[BlockHash]) -> bool {
        request_keys.iter().any(|key| self.blocks.contains(key))
    }

    fn keep_to_budget(&mut self) {
        while self.used_bytes() > self.budget_bytes {
            if self.forget_block() {
                self.sweep_engines();
            } else if !self.forget_engine() {
                break;
            }
        }
    }

    /// Forgets the request key that was longest not used; `false` if there is none.
    fn forget_block(&mut self) -> bool {
        let Some((_, holders)) = self.blocks.pop_lru() else { return false };
        self.let_go(holders);
        true
    }

    /// Sees to what a request key has held that is not there any more.
    fn let_go(&mut self, holders: Holders) {
        self.keys_bytes -= holders_bytes(&holders);
        holders.into_iter().for_each(|id| self.entries.release(id));
    }

    /// Forgets the engine key that was longest not used; `false` if there is none.
    fn forget_engine(&mut self) -> bool {
        let Some((_, mapped)) = self.engines.pop_lru() else { return false };
        self.keys_bytes -= mapped_bytes(&mapped);
        true
    }

    /// Forgets engine keys of which nothing is left, and puts those of which there is behind the others.
    fn sweep_engines(&mut self) {
        for _ in 0..ENGINES_SWEPT {
            let Some((&key, mapped)) = self.engines.peek_lru() else { return };
            if self.is_any_held(mapped) {
                self.engines.promote(&key);
            } else {
                self.forget_engine();
            }
        }
    }
}

/// Finds keys only to have them in the processor's cache when they are used.
fn fetch<V>(keys: &LruCache<BlockHash, V>, wanted: impl Iterator<Item = BlockHash>) {
    let found = wanted.filter(|key| keys.contains(key)).count();
    // The count is of no use, but a compiler could leave out what nobody counts.
    std::hint::black_box(found);
}

/// Adds entries to a request key, the last one at the end, and drops the oldest of those that are too many.
fn join(holders: &mut Holders, ids: &[u32], entries: &mut EntryTable, pod_cache_size: usize) {
    for &id in ids {
        match holders.iter().position(|&held| held == id) {
            Some(at) => drop(holders.remove(at)),
            None => entries.hold_again(id),
        }
        holders.push(id);
        if holders.len() > pod_cache_size {
            entries.release(holders.remove(0));
        }
    }
}

/// What a request key takes with its entries.
fn holders_bytes(holders: &Holders) -> u64 {
    let list = if holders.spilled() { holders.capacity() * size_of::<u32>() } else { 0 };
    KEY_BYTES + list as u64
}

/// What an engine key takes with its request keys.
fn mapped_bytes(mapped: &Mapped) -> u64 {
    let list = if mapped.spilled() { mapped.capacity() * size_of::<BlockHash>() } else { 0 };
    KEY_BYTES + list as u64
}

/// Whether a key is one of these, in a time that does not grow with their number.
fn membership(keys: &[BlockHash]) -> impl Fn(&BlockHash) -> bool {
    let set: Option<HashSet<BlockHash>> =
        (keys.len() > SEARCHED_MAX).then(|| keys.iter().copied().collect());
    move |key| set.as_ref().map_or_else(|| keys.contains(key), |set| set.contains(key))
}

/// Takes the ids that a rule selects out of a key's holders.
fn release_if(holders: &mut Holders, entries: &mut EntryTable, goes: impl Fn(u32) -> bool) {
    holders.retain(|id| {
        let goes = goes(*id);
        if goes {
            entries.release(*id);
        }
        !goes
    });
}
