//! From events to calls of an index.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use futures_util::future::join_all;
use lru::LruCache;
use smallvec::SmallVec;

use super::{
    batch::{BlockRemoved, BlockStored, EventBatch, KvEvent},
    extra_keys::{BlockKeys, ExtraKey},
    pod::{Block, Order, Pod},
    pool::{PoolConfig, Shared},
    topic::EventMessage,
};
use crate::{
    BlockExtra, BlockHash, Index, IndexError, KeyType, PodEntry, RawExtraKey, ResyncReason,
    TokenProcessor,
};

/// The tier of blocks whose event does not say where they are.
const DEFAULT_TIER: &str = "gpu";

/// How many pods a worker remembers something of. One that is forgotten is as one that is met for the first time.
const PODS_MAX: NonZeroUsize = NonZeroUsize::new(4096).expect("not 0");

/// How many request keys are asked for at once. Over one connection they share round trips.
const QUESTIONS_AT_ONCE: usize = 64;

/// The most that the texts of an event's extra keys may take, each counted as often as it is hashed: where an engine's block is several
/// of the index's, its texts are part of each of their keys, so that a short message could ask for an hour of hashing. A
/// text of 64 bytes, as an image has, can be in 160,000 blocks.
const EXTRA_BYTES_MAX: usize = 16 << 20;

/// What a text takes besides its bytes while keys are computed, in bytes.
const EXTRA_KEY_BYTES: usize = 40;

/// The kinds of groups whose blocks say that a prefix is there. A block of any other, such as a window, is no use without
/// those that it looks back on, which may be gone.
const PREFIX_KINDS: [&str; 3] = ["full_attention", "mla_attention", "sink_full_attention"];

/// Applies the messages of some pods, one after the other.
pub(super) struct Applier {
    index: Arc<dyn Index>,
    processor: TokenProcessor,
    shared: Arc<Shared>,
    pods: LruCache<Arc<str>, Pod>,
    /// Whether the last call was given up: the next ones are tried once until one succeeds.
    is_failing: bool,
}

/// What stands before the first block of an event.
enum Before {
    /// The block of this request key; [`BlockHash::EMPTY`] for none.
    Key(BlockHash),
    /// A part of a block.
    Part,
    Unknown,
    /// The index could not be asked.
    Failed,
}

impl Applier {
    pub(super) fn new(
        index: Arc<dyn Index>,
        processor: TokenProcessor,
        shared: Arc<Shared>,
    ) -> Self {
        Self { index, processor, shared, pods: LruCache::sparse(PODS_MAX), is_failing: false }
    }

    /// Applies the events of a message in order.
    pub(super) async fn message(&mut self, message: &EventMessage) {
        self.shared.counters.messages.count();
        self.check_order(message).await;
        let pod = &message.pod_identifier;
        let batch = match EventBatch::parse(self.config().engine, &message.payload) {
            Ok(batch) => batch,
            Err(error) => {
                tracing::debug!(pod = &**pod, %error, "a message of events cannot be read");
                self.shared.counters.unreadable_messages.count();
                return self.shared.resync(pod, ResyncReason::Unreadable);
            }
        };
        for event in batch.events() {
            match event {
                Ok(event) => {
                    self.shared.counters.events.count();
                    self.event(message, event).await;
                }
                Err(error) if error.is_unknown_event() => {
                    self.shared.counters.unknown_events.count();
                }
                Err(error) => {
                    tracing::debug!(pod = &**pod, %error, "an event cannot be read");
                    self.shared.counters.unreadable_events.count();
                    self.shared.resync(pod, ResyncReason::Unreadable);
                }
            }
        }
    }

    /// Notices messages that are missing, and an engine that has started anew.
    async fn check_order(&mut self, message: &EventMessage) {
        let Some(found) = message.sequence else { return };
        let first = self.config().from_start.then_some(0);
        let pod = &message.pod_identifier;
        match self.pod(pod).order(message.publisher, found, first) {
            Order::Due => {}
            Order::Ahead { expected } => {
                self.shared.counters.gaps.count();
                self.shared.resync(pod, ResyncReason::Gap { expected, found });
            }
            Order::Back { expected } => {
                self.shared.counters.restarts.count();
                self.shared.resync(pod, ResyncReason::Restarted { expected, found });
                self.clear(pod).await;
            }
        }
    }

    async fn event(&mut self, message: &EventMessage, event: KvEvent) {
        match event {
            KvEvent::BlockStored(stored) => self.stored(message, stored).await,
            KvEvent::BlockRemoved(removed) => self.removed(&message.pod_identifier, removed).await,
            KvEvent::AllBlocksCleared => self.clear(&message.pod_identifier).await,
        }
    }

    async fn stored(&mut self, message: &EventMessage, stored: BlockStored) {
        let pod = &message.pod_identifier;
        if stored.block_hashes.is_empty() {
            return;
        }
        if self.is_skipped(pod, &stored) {
            return self.shared.skip_store(stored.group_kind.as_deref(), "unsupported_cache_kind");
        }
        let entry = entry(pod, stored.medium.as_deref(), stored.group);
        self.pod(pod).refer(&entry.device_tier, entry.group, &stored.block_hashes);
        if stored.token_ids.is_empty() {
            return self.moved(pod, &stored.block_hashes, entry).await;
        }
        let Some(block_size) = block_size(&stored) else {
            self.shared.counters.uneven.count();
            let kind = stored.group_kind.as_deref();
            return self.shared.labelled.skip_store(kind, "non_dense_block_span");
        };
        let before = match self.before(pod, stored.parent).await {
            Before::Key(key) => key,
            Before::Part => return self.shared.counters.misaligned.count(),
            Before::Failed => return,
            Before::Unknown => {
                self.shared.counters.unknown_parents.count();
                let parent = stored.parent.unwrap_or_default();
                return self.shared.resync(pod, ResyncReason::UnknownParent { parent });
            }
        };
        let Some(keys) = self.keys(&stored, before, &message.model, block_size) else {
            return self.shared.counters.excessive.count();
        };
        self.remember(pod, &stored.block_hashes, block_size, &keys);
        if keys.is_empty() {
            return self.shared.counters.too_short.count();
        }
        // A block that no request key covers to its end has none: that it goes says nothing of the one before.
        let covered = (keys.len() * self.processor.block_size()).div_ceil(block_size);
        let engine_keys = &stored.block_hashes[..covered];
        let index = Arc::clone(&self.index);
        let entries = [entry];
        let add = || index.add(Some(engine_keys), &keys, &entries);
        if self.call(pod, add).await.is_some() {
            self.shared.counters.blocks_stored.add(covered);
        }
    }

    /// Whether a group's blocks say nothing of prefixes: by their kind, or that of the group's last event which had one.
    fn is_skipped(&mut self, pod: &Arc<str>, stored: &BlockStored) -> bool {
        let (kind, group) = (stored.group_kind.as_deref(), stored.group);
        let pod = self.pod(pod);
        match kind.map(|kind| PREFIX_KINDS.contains(&kind)) {
            None => group.is_some_and(|group| pod.skips_group(group)),
            Some(holds_prefixes) => {
                if let Some(group) = group {
                    pod.skip_group(group, !holds_prefixes);
                }
                !holds_prefixes
            }
        }
    }

    /// Blocks that the index knows have come to another tier.
    async fn moved(&mut self, pod: &Arc<str>, hashes: &[BlockHash], entry: PodEntry) {
        let mut keys: Vec<BlockHash> = Vec::with_capacity(hashes.len());
        let mut moved = 0;
        let mut unknown = Vec::new();
        let known = self.pod(pod);
        for &hash in hashes {
            match known.block(hash) {
                Some(block) => {
                    keys.extend_from_slice(&block.keys);
                    moved += 1;
                }
                None => unknown.push(hash),
            }
        }
        for chunk in unknown.chunks(QUESTIONS_AT_ONCE) {
            let index = Arc::clone(&self.index);
            let ask = || request_keys(&*index, chunk);
            let Some(found) = self.call(pod, ask).await else { return };
            moved += found.len();
            self.shared.counters.unknown_moves.add(chunk.len() - found.len());
            keys.extend(found);
        }
        if keys.is_empty() {
            return;
        }
        let index = Arc::clone(&self.index);
        let entries = [entry];
        if self.call(pod, || index.add(None, &keys, &entries)).await.is_some() {
            self.shared.counters.blocks_stored.add(moved);
        }
    }

    async fn removed(&mut self, pod: &Arc<str>, removed: BlockRemoved) {
        if removed.group.is_some_and(|group| self.pod(pod).skips_group(group)) {
            return self.shared.skip_removal("unsupported_cache_kind");
        }
        let entry = entry(pod, removed.medium.as_deref(), removed.group);
        let announced = removed.block_hashes.len();
        let hashes = self.pod(pod).release(&entry.device_tier, entry.group, removed.block_hashes);
        self.shared.counters.removals_suppressed.add(announced - hashes.len());
        self.shared.counters.removals_forwarded.add(hashes.len());
        if hashes.is_empty() {
            return;
        }
        let index = Arc::clone(&self.index);
        let entries = [entry];
        let evict = || index.evict(&hashes, KeyType::Engine, &entries);
        if self.call(pod, evict).await.is_some() {
            self.shared.counters.blocks_removed.add(hashes.len());
        }
    }

    /// Takes a pod out of the index.
    pub(super) async fn clear(&mut self, pod: &Arc<str>) {
        self.pod(pod).clear();
        let index = Arc::clone(&self.index);
        if self.call(pod, || index.clear(pod)).await.is_some() {
            self.shared.counters.clears.count();
        }
    }

    /// Takes a pod out of the index and forgets its numbers.
    pub(super) async fn forget(&mut self, pod: &Arc<str>) {
        self.clear(pod).await;
        self.pods.pop(pod);
    }

    async fn before(&mut self, pod: &Arc<str>, parent: Option<BlockHash>) -> Before {
        let Some(parent) = parent else { return Before::Key(BlockHash::EMPTY) };
        if let Some(block) = self.pod(pod).block(parent) {
            return match block.keys.last() {
                Some(&key) if block.is_aligned => Before::Key(key),
                _ => Before::Part,
            };
        }
        let index = Arc::clone(&self.index);
        match self.call(pod, || request_keys(&*index, std::slice::from_ref(&parent))).await {
            Some(found) => found.first().map_or(Before::Unknown, |&key| Before::Key(key)),
            None => Before::Failed,
        }
    }

    /// The request keys of an event's tokens, unless what its blocks have besides them is too much.
    fn keys(
        &self,
        stored: &BlockStored,
        before: BlockHash,
        model: &str,
        block_size: usize,
    ) -> Option<Vec<BlockHash>> {
        let lora_name = stored.lora_name.as_deref().filter(|name| !name.is_empty());
        let model = lora_name.unwrap_or(model);
        let tokens = &stored.token_ids;
        let blocks = self.processor.block_count(tokens.len());
        let covered = (blocks * self.processor.block_size()).div_ceil(block_size);
        let covered = covered.min(stored.extra_keys.len());
        let each = || stored.extra_keys.iter().take(covered);
        if each().all(|keys| keys.len() == 0) {
            return Some(self.processor.block_keys(before, tokens, model));
        }
        let copies = blocks.div_ceil(covered);
        let bytes = each().fold(0, |sum: usize, keys| sum.saturating_add(cost(&keys)));
        if bytes.saturating_mul(copies) > EXTRA_BYTES_MAX {
            return None;
        }
        let extra = BlockExtra::realign_all(each().map(|keys| extra(keys, lora_name)), blocks);
        let keys = self.processor.block_keys_with_extra(before, tokens, model, &extra);
        Some(keys.expect("there is one for each of the blocks"))
    }

    /// Remembers which request keys end in which of an event's blocks.
    fn remember(
        &mut self,
        pod: &Arc<str>,
        hashes: &[BlockHash],
        block_size: usize,
        keys: &[BlockHash],
    ) {
        let size = self.processor.block_size();
        let pod = self.pod(pod);
        let mut start = 0;
        for (&hash, end) in hashes.iter().zip((1..).map(|blocks| blocks * block_size)) {
            let end_key = (end / size).min(keys.len());
            let keys: SmallVec<[BlockHash; 1]> = keys[start..end_key].into();
            start = end_key;
            let is_aligned = end % size == 0 && !keys.is_empty();
            pod.remember(hash, Block { keys, is_aligned });
        }
    }

    /// Calls the index, again and again if need be. `None` when that was given up, and the pod is named then.
    async fn call<'a, T, F>(&mut self, pod: &Arc<str>, call: impl Fn() -> F) -> Option<T>
    where
        F: Future<Output = Result<T, IndexError>> + Send + 'a,
    {
        let retry = &self.shared.config.retry;
        let attempts = if self.is_failing { 1 } else { retry.attempts.max(1) };
        let mut pause = retry.pause;
        for attempt in 1.. {
            match call().await {
                Ok(answer) => {
                    self.is_failing = false;
                    return Some(answer);
                }
                Err(error) if error.is_invalid_input() || error.is_foreign_data() => {
                    tracing::debug!(pod = &**pod, %error, "the index refuses what an event says");
                    self.shared.counters.refusals.count();
                    return None;
                }
                Err(error) if attempt >= attempts => {
                    tracing::warn!(pod = &**pod, %error, "an event was given up");
                    self.is_failing = true;
                    self.shared.counters.failures.count();
                    self.shared.resync(pod, ResyncReason::WriteFailed);
                    return None;
                }
                Err(_) => {
                    self.shared.counters.retries.count();
                    tokio::time::sleep(pause).await;
                    pause = pause.saturating_mul(2).min(retry.pause_max).max(Duration::ZERO);
                }
            }
        }
        None
    }

    fn pod(&mut self, pod: &Arc<str>) -> &mut Pod {
        let config = &self.shared.config;
        let (blocks, references) = (config.blocks_per_pod, config.references_per_pod);
        self.pods.get_or_insert_mut(Arc::clone(pod), || Pod::new(blocks, references))
    }

    fn config(&self) -> &PoolConfig {
        &self.shared.config
    }
}

/// The request keys of those engine keys that are mapped, in order. All are asked for at once.
async fn request_keys(
    index: &dyn Index,
    engine_keys: &[BlockHash],
) -> Result<Vec<BlockHash>, IndexError> {
    let mut found = Vec::with_capacity(engine_keys.len());
    for answer in join_all(engine_keys.iter().map(|&key| index.request_key(key))).await {
        match answer {
            Ok(key) => found.push(key),
            // What stands there is somebody else's, and no request key of ours.
            Err(error) if error.is_not_found() || error.is_foreign_data() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

fn entry(pod: &str, medium: Option<&str>, group: Option<i64>) -> PodEntry {
    let medium = medium.filter(|medium| !medium.is_empty());
    let tier = medium.map_or_else(|| DEFAULT_TIER.to_owned(), str::to_lowercase);
    PodEntry { group, ..PodEntry::new(pod, tier) }
}

/// Tokens an engine's block, if every block of the event has its tokens and, where there are any, its extra keys.
fn block_size(stored: &BlockStored) -> Option<usize> {
    let (tokens, blocks) = (stored.token_ids.len(), stored.block_hashes.len());
    let size = tokens / blocks;
    let is_announced = stored.block_size == 0 || size == stored.block_size as usize;
    let has_extra = stored.extra_keys.is_empty() || stored.extra_keys.len() == blocks;
    (size > 0 && size * blocks == tokens && is_announced && has_extra).then_some(size)
}

/// What the extra keys of a block take, roughly, while keys are computed, in bytes.
fn cost(keys: &BlockKeys<'_>) -> usize {
    keys.bytes().saturating_add(keys.len().saturating_mul(EXTRA_KEY_BYTES))
}

fn extra(keys: BlockKeys<'_>, lora_name: Option<&str>) -> BlockExtra {
    let keys: Vec<ExtraKey> = keys.collect();
    BlockExtra::from_raw(keys.iter().map(raw), lora_name)
}

fn raw(key: &ExtraKey) -> RawExtraKey<'_> {
    match key {
        ExtraKey::Text(text) => RawExtraKey::Text(text),
        ExtraKey::Array(text) => RawExtraKey::Array(text.as_deref()),
        ExtraKey::Other => RawExtraKey::Other,
    }
}
