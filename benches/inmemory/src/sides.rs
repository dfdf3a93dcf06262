//! The indexes that are compared.
//!
//! Every side gets its questions and events in its own types, which are made before the clock runs. An answer is a score for
//! each pod: for respire's index the lookup and the lengths of the prefixes, which the others compute in one.

use std::future::Future;
use std::pin::pin;
use std::task::{Context as TaskContext, Poll, Waker};

use anyhow::{Context, Result, anyhow, ensure};
use dynamo_kv_router::protocols::{
    ExternalSequenceBlockHash, KvCacheEvent, KvCacheEventData, KvCacheRemoveData, KvCacheStoreData,
    KvCacheStoredBlockData, WorkerWithDpRank,
};
use dynamo_kv_router::{LocalBlockHash, RadixTree, RouterEvent};
use kv_index::{ChainBlockMap, ChainIndex, ContentHash, SequenceHash, StoredBlock};
use respire_kvblock::{
    BlockHash, InMemoryConfig, InMemoryIndex, Index, IndexError, KeyType, Lookup, PodEntry, PodSet,
};

use crate::replay::{Step, Steps};

/// An index.
pub(crate) trait Side: Sized {
    /// What tables call it.
    const NAME: &'static str;
    /// A question, in its own types.
    type Question;
    /// What a pod tells, in its own types.
    type Event;
    /// An answer.
    type Answer;

    /// An empty one for these pods.
    ///
    /// # Errors
    ///
    /// When it refuses so many.
    fn new(steps: &Steps) -> Result<Self>;

    /// The question for a prompt.
    fn question(steps: &Steps, step: &Step) -> Self::Question;

    /// What a request's pod tells.
    fn event(&self, steps: &Steps, step: &Step) -> Self::Event;

    /// Asks.
    ///
    /// # Errors
    ///
    /// When it fails.
    fn ask(&self, question: Self::Question) -> Result<Self::Answer>;

    /// Scores the pods; the number of those that have a score.
    fn score(answer: &Self::Answer) -> usize;

    /// Tells.
    ///
    /// # Errors
    ///
    /// When it fails.
    fn tell(&mut self, event: Self::Event) -> Result<()>;

    /// What it has found of a pod, in blocks.
    fn prefix(&self, steps: &Steps, answer: &Self::Answer, pod: usize) -> usize;
}

/// respire's index in memory, with room for everything.
pub(crate) struct Respire {
    index: InMemoryIndex,
    pods: Vec<PodEntry>,
}

/// What a pod tells respire's index.
pub(crate) struct Told {
    pod: PodEntry,
    stored: Option<(Vec<BlockHash>, Vec<BlockHash>)>,
    dropped: Vec<BlockHash>,
}

impl Side for Respire {
    const NAME: &'static str = "respire, memory";
    type Question = Vec<BlockHash>;
    type Event = Told;
    type Answer = Lookup;

    fn new(steps: &Steps) -> Result<Self> {
        let default = InMemoryConfig::default();
        let size = default.size.max(2 * steps.changes());
        let pod_cache_size = default.pod_cache_size.max(steps.pods);
        let index = InMemoryIndex::new(InMemoryConfig { size, pod_cache_size })?;
        let pods = (0..steps.pods).map(|pod| steps.keys.pod_entry(pod)).collect();
        Ok(Self { index, pods })
    }

    fn question(steps: &Steps, step: &Step) -> Self::Question {
        step.blocks.iter().map(|id| steps.keys.request_key(*id)).collect()
    }

    fn event(&self, steps: &Steps, step: &Step) -> Told {
        let engine = |ids: &[u64]| ids.iter().map(|id| steps.keys.engine_key(*id)).collect();
        let request = step.stored.iter().map(|id| steps.keys.request_key(*id)).collect();
        let stored = (!step.stored.is_empty()).then(|| (engine(&step.stored), request));
        Told { pod: self.pods[step.pod].clone(), stored, dropped: engine(&step.dropped) }
    }

    fn ask(&self, question: Self::Question) -> Result<Lookup> {
        at_once(self.index.lookup(&question, &PodSet::all()))
    }

    fn score(answer: &Lookup) -> usize {
        answer.prefix_lengths().len()
    }

    fn tell(&mut self, event: Told) -> Result<()> {
        let pod = std::slice::from_ref(&event.pod);
        if let Some((engine, request)) = &event.stored {
            at_once(self.index.add(Some(engine), request, pod))?;
        }
        if !event.dropped.is_empty() {
            at_once(self.index.evict(&event.dropped, KeyType::Engine, pod))?;
        }
        Ok(())
    }

    fn prefix(&self, _: &Steps, answer: &Lookup, pod: usize) -> usize {
        let name = self.pods[pod].pod_identifier.as_str();
        answer.prefix_lengths().get(name).copied().unwrap_or(0)
    }
}

/// An index in memory waits for nothing.
fn at_once<T>(future: impl Future<Output = Result<T, IndexError>>) -> Result<T> {
    match pin!(future).poll(&mut TaskContext::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => Ok(outcome?),
        Poll::Pending => Err(anyhow!("an index in memory has to wait")),
    }
}

/// kv-index's event-driven index, with a map of blocks for each worker as its user keeps them.
pub(crate) struct Chain {
    index: ChainIndex,
    workers: Vec<(u32, ChainBlockMap)>,
}

/// What a pod tells kv-index.
pub(crate) struct ChainEvent {
    pod: usize,
    parent: Option<SequenceHash>,
    stored: Vec<StoredBlock>,
    dropped: Vec<SequenceHash>,
}

impl Side for Chain {
    const NAME: &'static str = "kv-index, ChainIndex";
    type Question = Vec<ContentHash>;
    type Event = ChainEvent;
    type Answer = kv_index::OverlapScores;

    fn new(steps: &Steps) -> Result<Self> {
        let index = ChainIndex::with_max_workers(steps.pods);
        let worker = |pod: usize| {
            let id = index.intern_worker(&steps.keys.pod_entry(pod).pod_identifier);
            anyhow::Ok((id.map_err(|error| anyhow!("{error}"))?, ChainBlockMap::new()))
        };
        let workers = (0..steps.pods).map(worker).collect::<Result<_>>()?;
        Ok(Self { index, workers })
    }

    fn question(steps: &Steps, step: &Step) -> Self::Question {
        step.blocks.iter().map(|id| ContentHash(steps.keys.request_key(*id).0)).collect()
    }

    fn event(&self, steps: &Steps, step: &Step) -> ChainEvent {
        let engine = |id: u64| SequenceHash(steps.keys.engine_key(id).0);
        let stored = |id: &u64| StoredBlock {
            seq_hash: engine(*id),
            content_hash: ContentHash(steps.keys.request_key(*id).0),
        };
        ChainEvent {
            pod: step.pod,
            parent: step.parent.map(engine),
            stored: step.stored.iter().map(stored).collect(),
            dropped: step.dropped.iter().map(|id| engine(*id)).collect(),
        }
    }

    fn ask(&self, question: Self::Question) -> Result<Self::Answer> {
        Ok(self.index.find_matches(&question, false))
    }

    fn score(answer: &Self::Answer) -> usize {
        answer.scores.len()
    }

    fn tell(&mut self, event: ChainEvent) -> Result<()> {
        let (worker, map) = &mut self.workers[event.pod];
        let stored = self.index.apply_stored(*worker, &event.stored, event.parent, map);
        stored.context("a block cannot be stored")?;
        self.index.apply_removed(*worker, &event.dropped, map);
        Ok(())
    }

    fn prefix(&self, _: &Steps, answer: &Self::Answer, pod: usize) -> usize {
        answer.scores.get(&self.workers[pod].0).map_or(0, |&blocks| blocks as usize)
    }
}

/// Dynamo's radix tree, as its indexer's thread keeps it.
pub(crate) struct Radix {
    tree: RadixTree,
}

impl Side for Radix {
    const NAME: &'static str = "dynamo-kv-router, RadixTree";
    type Question = Vec<LocalBlockHash>;
    type Event = Vec<RouterEvent>;
    type Answer = dynamo_kv_router::OverlapScores;

    fn new(_: &Steps) -> Result<Self> {
        Ok(Self { tree: RadixTree::new() })
    }

    fn question(steps: &Steps, step: &Step) -> Self::Question {
        step.blocks.iter().map(|id| LocalBlockHash(steps.keys.request_key(*id).0)).collect()
    }

    fn event(&self, steps: &Steps, step: &Step) -> Vec<RouterEvent> {
        let engine = |id: &u64| ExternalSequenceBlockHash(steps.keys.engine_key(*id).0);
        let mut events = Vec::new();
        let mut push = |data: KvCacheEventData| {
            let event = KvCacheEvent { event_id: 0, data, dp_rank: 0 };
            events.push(RouterEvent::new(step.pod as u64, event));
        };
        if !step.stored.is_empty() {
            let block = |id: &u64| KvCacheStoredBlockData {
                block_hash: engine(id),
                tokens_hash: LocalBlockHash(steps.keys.request_key(*id).0),
                mm_extra_info: None,
            };
            push(KvCacheEventData::Stored(KvCacheStoreData {
                parent_hash: step.parent.as_ref().map(engine),
                start_position: None,
                blocks: step.stored.iter().map(block).collect(),
            }));
        }
        if !step.dropped.is_empty() {
            let block_hashes = step.dropped.iter().map(engine).collect();
            push(KvCacheEventData::Removed(KvCacheRemoveData { block_hashes }));
        }
        events
    }

    fn ask(&self, question: Self::Question) -> Result<Self::Answer> {
        Ok(self.tree.find_matches(question, false))
    }

    fn score(answer: &Self::Answer) -> usize {
        answer.scores.len()
    }

    fn tell(&mut self, events: Vec<RouterEvent>) -> Result<()> {
        for event in events {
            let told = self.tree.apply_event(event);
            ensure!(told.is_ok(), "an event cannot be applied: {told:?}");
        }
        Ok(())
    }

    fn prefix(&self, _: &Steps, answer: &Self::Answer, pod: usize) -> usize {
        let worker = WorkerWithDpRank { worker_id: pod as u64, dp_rank: 0 };
        answer.scores.get(&worker).map_or(0, |&blocks| blocks as usize)
    }
}
