//! The index in this process's memory.

use std::{
    borrow::Cow,
    collections::HashSet,
    fmt,
    num::NonZeroUsize,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use lru::LruCache;
use serde::Serialize;
use smallvec::SmallVec;

use crate::{
    BlockHash, ConfigError, Index, IndexError, KeyType, Lookup, PodEntry, PodSet, lookup::Walk,
    mapping::mappings, memory::table::EntryTable,
};

mod table;

/// The bounds of an [`InMemoryIndex`]. Neither reserves anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InMemoryConfig {
    /// How many request keys are kept, and how many engine keys. At least 1; llm-d's default is a hundred million.
    pub size: usize,
    /// How many entries are kept for one request key. At least 1; llm-d's default is 10.
    pub pod_cache_size: usize,
}

impl Default for InMemoryConfig {
    fn default() -> Self {
        Self { size: 100_000_000, pod_cache_size: 10 }
    }
}

/// An index that lives in memory, bounded in the order of use.
///
/// A full index forgets the request key that was longest neither looked up nor added to; a full request key forgets the
/// entry that was longest not added. Engine keys are forgotten in the same way, by their last mapping or question. The
/// order is exact, over all keys.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), respire_kvblock::IndexError> {
/// use respire_kvblock::{BlockHash, InMemoryConfig, InMemoryIndex, Index, PodEntry, PodSet};
///
/// let index = InMemoryIndex::new(InMemoryConfig { size: 2, ..Default::default() })?;
/// for block in [1, 2, 3] {
///     index.add(None, &[BlockHash(block)], &[PodEntry::new("a", "gpu")]).await?;
/// }
/// assert!(index.lookup(&[BlockHash(1)], &PodSet::all()).await?.is_empty());
/// assert_eq!(index.lookup(&[BlockHash(2), BlockHash(3)], &PodSet::all()).await?.len(), 2);
/// # Ok(()) }
/// ```
///
/// One lock guards the whole and is held for the length of one call, none of which waits for anything. A
/// [`clear`](Index::clear) visits every request key.
pub struct InMemoryIndex {
    state: Mutex<State>,
}

/// Shows how much there is, not what.
impl fmt::Debug for InMemoryIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("InMemoryIndex")
            .field("request_keys", &state.blocks.len())
            .field("engine_keys", &state.engines.len())
            .field("size", &state.blocks.cap())
            .field("pod_cache_size", &state.pod_cache_size)
            .finish_non_exhaustive()
    }
}

impl InMemoryIndex {
    /// An empty index with these bounds.
    ///
    /// # Errors
    ///
    /// When a bound is 0: [`ConfigError::setting`] names it.
    pub fn new(config: InMemoryConfig) -> Result<Self, ConfigError> {
        let size = positive(config.size, "inMemoryConfig.size")?;
        let pod_cache_size = positive(config.pod_cache_size, "inMemoryConfig.podCacheSize")?;
        let state = State {
            blocks: LruCache::sparse(size),
            engines: LruCache::sparse(size),
            entries: EntryTable::default(),
            pod_cache_size: pod_cache_size.get(),
        };
        Ok(Self { state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock calls foreign code, so that a panic there is a defect of ours; what is left is a cache
        // whose worst is a wrong answer for the keys at hand, and the other tasks go on.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn positive(value: usize, setting: &str) -> Result<NonZeroUsize, ConfigError> {
    NonZeroUsize::new(value)
        .ok_or_else(|| ConfigError::invalid(setting, "must be at least 1".to_owned()))
}

#[async_trait]
impl Index for InMemoryIndex {
    async fn lookup(
        &self,
        request_keys: &[BlockHash],
        pods: &PodSet,
    ) -> Result<Lookup, IndexError> {
        Ok(self.state().lookup(request_keys, pods))
    }

    async fn add(
        &self,
        engine_keys: Option<&[BlockHash]>,
        request_keys: &[BlockHash],
        entries: &[PodEntry],
    ) -> Result<(), IndexError> {
        if request_keys.is_empty() || entries.is_empty() {
            return Err(IndexError::invalid_input(IndexError::NOTHING_TO_ADD));
        }
        let mut state = self.state();
        state.add(request_keys, entries);
        state.map(engine_keys.unwrap_or_default(), request_keys);
        Ok(())
    }

    async fn evict(
        &self,
        keys: &[BlockHash],
        key_type: KeyType,
        entries: &[PodEntry],
    ) -> Result<(), IndexError> {
        if keys.is_empty() || entries.is_empty() {
            return Err(IndexError::invalid_input(IndexError::NOTHING_TO_EVICT));
        }
        let mut state = self.state();
        let ids = state.entries.find(entries);
        match key_type {
            KeyType::Request => state.remove(keys, &ids),
            KeyType::Engine => keys.iter().for_each(|&key| state.remove_mapped(key, &ids)),
        }
        Ok(())
    }

    async fn request_key(&self, engine_key: BlockHash) -> Result<BlockHash, IndexError> {
        let mut state = self.state();
        let mapped = state.engines.get(&engine_key).and_then(|request_keys| request_keys.last());
        mapped.copied().ok_or_else(|| IndexError::engine_key_not_found(engine_key))
    }

    async fn clear(&self, pod_identifier: &str) -> Result<(), IndexError> {
        self.state().clear(pod_identifier);
        Ok(())
    }

    fn describe(&self) -> Cow<'_, str> {
        let size = self.state().blocks.cap();
        format!("in memory, of up to {size} request keys").into()
    }
}

/// The entries of one request key as ids of the table, the one added last at the end. Most blocks have few holders, and
/// four ids take no more room than the pointer to a longer list.
type Holders = SmallVec<[u32; 4]>;

/// The request keys of one engine key, those of the latest mapping at the end.
type Mapped = SmallVec<[BlockHash; 2]>;

/// How many request keys an engine key keeps: what its latest mapping has and, up to so many, those of earlier ones. A
/// block is mapped to a few, and by a few models.
const MAPPED_MAX: usize = 1024;

/// How many keys are searched one by one before a set is built for them.
const SEARCHED_MAX: usize = 16;

struct State {
    /// No value is empty.
    blocks: LruCache<BlockHash, Holders>,
    engines: LruCache<BlockHash, Mapped>,
    /// Counts how often each entry occurs in `blocks`.
    entries: EntryTable,
    pod_cache_size: usize,
}

impl State {
    fn lookup(&mut self, request_keys: &[BlockHash], pods: &PodSet) -> Lookup {
        let table = self.entries.snapshot();
        let selected: Vec<bool> = match pods.is_all() {
            true => Vec::new(),
            false => table.iter().map(|entry| pods.contains(&entry.pod_identifier)).collect(),
        };
        let is_selected = |id: &u32| selected.get(*id as usize).copied().unwrap_or(true);
        let mut walk = Walk::default();
        for key in request_keys {
            let Some(holders) = self.blocks.get(key) else { break };
            if !walk.push(*key, holders.iter().copied().filter(is_selected)) {
                break;
            }
        }
        walk.finish(table)
    }

    fn add(&mut self, request_keys: &[BlockHash], entries: &[PodEntry]) {
        // Held for the length of the call, so that a key which is pushed out meanwhile cannot free an id in use here.
        let ids: Vec<u32> = entries.iter().map(|entry| self.entries.hold(entry)).collect();
        for &key in request_keys {
            self.make_room_for(key);
            let holders = self.blocks.get_or_insert_mut(key, Holders::new);
            for &id in &ids {
                match holders.iter().position(|&held| held == id) {
                    Some(at) => drop(holders.remove(at)),
                    None => self.entries.hold_again(id),
                }
                holders.push(id);
                if holders.len() > self.pod_cache_size {
                    self.entries.release(holders.remove(0));
                }
            }
        }
        ids.into_iter().for_each(|id| self.entries.release(id));
    }

    /// Forgets the key that was longest not used, if a new one needs its place.
    fn make_room_for(&mut self, key: BlockHash) {
        if self.blocks.len() < self.blocks.cap().get() || self.blocks.contains(&key) {
            return;
        }
        if let Some((_, holders)) = self.blocks.pop_lru() {
            holders.into_iter().for_each(|id| self.entries.release(id));
        }
    }

    fn map(&mut self, engine_keys: &[BlockHash], request_keys: &[BlockHash]) {
        for mapping in mappings(engine_keys, request_keys.len()) {
            let new: Mapped = mapping.positions().map(|at| request_keys[at]).collect();
            let is_new = membership(&new);
            let blocks = &self.blocks;
            let mapped = self.engines.get_or_insert_mut(mapping.engine_key, Mapped::new);
            // Earlier mappings are kept while there is something at their end, so that an eviction reaches it.
            mapped.retain(|key| blocks.contains(key) && !is_new(key));
            let room = MAPPED_MAX.saturating_sub(new.len());
            mapped.drain(..mapped.len().saturating_sub(room));
            mapped.extend_from_slice(&new);
        }
    }

    fn remove(&mut self, request_keys: &[BlockHash], ids: &[u32]) {
        for key in request_keys {
            let Some(holders) = self.blocks.peek_mut(key) else { continue };
            release_if(holders, &mut self.entries, |id| ids.contains(&id));
            if holders.is_empty() {
                self.blocks.pop(key);
            }
        }
    }

    fn remove_mapped(&mut self, engine_key: BlockHash, ids: &[u32]) {
        let Some(mapped) = self.engines.peek(&engine_key).cloned() else { return };
        self.remove(&mapped, ids);
        if !mapped.iter().any(|key| self.blocks.contains(key)) {
            self.engines.pop(&engine_key);
        }
    }

    fn clear(&mut self, pod_identifier: &str) {
        let table = self.entries.snapshot();
        let is_own = |id: u32| table[id as usize].pod_identifier == pod_identifier;
        let entries = &mut self.entries;
        self.blocks.retain(|_, holders| {
            release_if(holders, entries, is_own);
            !holders.is_empty()
        });
    }
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

#[cfg(test)]
mod tests;
