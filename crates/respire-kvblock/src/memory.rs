//! The index in this process's memory.

use std::{
    borrow::Cow,
    fmt,
    num::NonZeroUsize,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use serde::Serialize;

use self::state::State;
use crate::{
    BlockHash, ConfigError, CostAwareConfig, Index, IndexError, KeyType, Lookup, PodEntry, PodSet,
};

mod state;
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
/// Instead of by numbers of keys it may be bounded [by bytes](Self::with_budget).
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
            .field("size", &state.size)
            .field("pod_cache_size", &state.pod_cache_size)
            .field("used_bytes", &state.used_bytes())
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
        let state = State::new(size.get(), pod_cache_size.get(), u64::MAX);
        Ok(Self { state: Mutex::new(state) })
    }

    /// An empty index with a budget of memory: llm-d's cost-aware backend.
    ///
    /// The budget is for everything, what is known of engine keys included. When it is used up, the index forgets the
    /// request key that was longest neither looked up nor added to, with all its entries. An engine key is forgotten once
    /// nothing is left of what it maps to, some time after; before that only if there is no request key left to forget. So
    /// a block that is held can be evicted, however many have come and gone.
    ///
    /// What it takes is reckoned, not measured: the allocator's own needs are not in it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), respire_kvblock::IndexError> {
    /// use respire_kvblock::{BlockHash, CostAwareConfig, InMemoryIndex, Index, PodEntry, PodSet};
    ///
    /// let index = InMemoryIndex::with_budget(CostAwareConfig { size_bytes: 64 * 1024 })?;
    /// for block in 0..100_000 {
    ///     index.add(Some(&[BlockHash(block)]), &[BlockHash(block)], &[PodEntry::new("a", "gpu")]).await?;
    /// }
    /// assert!(index.used_bytes() <= 64 * 1024);
    /// assert_eq!(index.lookup(&[BlockHash(99_999)], &PodSet::all()).await?.len(), 1);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When the budget is 0: [`ConfigError::setting`] names it.
    pub fn with_budget(config: CostAwareConfig) -> Result<Self, ConfigError> {
        if config.size_bytes == 0 {
            let problem = "must be above 0".to_owned();
            return Err(ConfigError::invalid("costAwareMemoryConfig.size", problem));
        }
        let state = State::new(usize::MAX, usize::MAX, config.size_bytes);
        Ok(Self { state: Mutex::new(state) })
    }

    /// How much memory the index takes, in bytes as they are [reckoned](Self::with_budget).
    pub fn used_bytes(&self) -> u64 {
        self.state().used_bytes()
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
        self.state().evict(keys, key_type, entries);
        Ok(())
    }

    async fn request_key(&self, engine_key: BlockHash) -> Result<BlockHash, IndexError> {
        let mut state = self.state();
        let mapped = state.request_key(engine_key);
        mapped.ok_or_else(|| IndexError::engine_key_not_found(engine_key))
    }

    async fn clear(&self, pod_identifier: &str) -> Result<(), IndexError> {
        self.state().clear(pod_identifier);
        Ok(())
    }

    fn describe(&self) -> Cow<'_, str> {
        let state = self.state();
        match state.budget_bytes {
            u64::MAX => format!("in memory, of up to {} request keys", state.size).into(),
            budget => format!("in memory, of up to {budget} bytes").into(),
        }
    }
}

#[cfg(test)]
mod tests;
