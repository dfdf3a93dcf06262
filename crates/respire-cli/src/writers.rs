//! Tells the index what the pods store and drop: in line, or by concurrent tasks.

use std::sync::Arc;

use respire_kvblock::{BlockHash, Index, IndexError, KeyType, PodEntry};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::keys::Keys;
use crate::pod::CacheEvent;
use crate::restart::Patience;

/// How many events wait for one writer before the replay waits for it. An event holds the blocks
/// of one request.
const QUEUE_EVENTS: usize = 64;

/// How many blocks are announced again by one add.
const BLOCKS_PER_ADD: usize = 1000;

/// What the index is told of a pod.
#[derive(Debug)]
pub(crate) enum Told {
    /// What it has stored and dropped.
    Event(CacheEvent),
    /// All that it holds, because the index has lost it.
    Again(Vec<u64>),
}

/// Tells the index what a pod has stored and dropped.
#[derive(Clone)]
pub(crate) struct Applier {
    index: Arc<dyn Index>,
    keys: Keys,
    patience: Patience,
}

impl Applier {
    pub(crate) fn new(index: Arc<dyn Index>, keys: Keys, patience: Patience) -> Self {
        Self { index, keys, patience }
    }

    /// Tells one thing of a pod.
    ///
    /// # Cancel safety
    ///
    /// What has been told is told in part when the future is dropped.
    pub(crate) async fn tell(&self, pod: &PodEntry, told: &Told) -> Result<(), IndexError> {
        match told {
            Told::Event(event) => self.apply(pod, event).await,
            Told::Again(blocks) => self.announce(pod, blocks).await,
        }
    }

    /// One event: at most one add, then at most one evict.
    async fn apply(&self, pod: &PodEntry, event: &CacheEvent) -> Result<(), IndexError> {
        if !event.stored.is_empty() {
            self.add(pod, &event.stored).await?;
        }
        if !event.dropped.is_empty() {
            let engine_keys = self.engine_keys(&event.dropped);
            let entries = std::slice::from_ref(pod);
            let evict = || self.index.evict(&engine_keys, KeyType::Engine, entries);
            self.patience.call(evict, |()| true).await?;
        }
        Ok(())
    }

    /// All that a pod holds, as if it had just stored it: what was known of it before does not count any more.
    async fn announce(&self, pod: &PodEntry, blocks: &[u64]) -> Result<(), IndexError> {
        let clear = || self.index.clear(&pod.pod_identifier);
        self.patience.call(clear, |()| true).await?;
        for blocks in blocks.chunks(BLOCKS_PER_ADD) {
            self.add(pod, blocks).await?;
        }
        Ok(())
    }

    async fn add(&self, pod: &PodEntry, blocks: &[u64]) -> Result<(), IndexError> {
        let entries = std::slice::from_ref(pod);
        let engine_keys = self.engine_keys(blocks);
        let request_keys: Vec<BlockHash> =
            blocks.iter().map(|id| self.keys.request_key(*id)).collect();
        let add = || self.index.add(Some(&engine_keys), &request_keys, entries);
        self.patience.call(add, |()| true).await
    }

    fn engine_keys(&self, ids: &[u64]) -> Vec<BlockHash> {
        ids.iter().map(|id| self.keys.engine_key(*id)).collect()
    }
}

/// Tasks that tell the index while lookups go on. A pod's events all go to one task, in order.
pub(crate) struct Writers {
    queues: Vec<mpsc::Sender<(PodEntry, Told)>>,
    tasks: JoinSet<Result<(), IndexError>>,
    abort: CancellationToken,
}

impl Writers {
    /// Starts `writers` tasks, at least one.
    pub(crate) fn start(writers: usize, applier: &Applier) -> Self {
        let abort = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let start = |_| {
            let (sender, receiver) = mpsc::channel(QUEUE_EVENTS);
            let work = work(applier.clone(), receiver);
            let abort = abort.clone();
            tasks.spawn(async move { abort.run_until_cancelled(work).await.unwrap_or(Ok(())) });
            sender
        };
        let queues = (0..writers).map(start).collect();
        Self { queues, tasks, abort }
    }

    /// Queues what is to be told of a pod; waits while the pod's writer is behind.
    ///
    /// # Errors
    ///
    /// A writer has failed.
    pub(crate) async fn send(
        &mut self,
        pod_number: usize,
        pod: &PodEntry,
        told: Told,
    ) -> Result<(), IndexError> {
        let queue = &self.queues[pod_number % self.queues.len()];
        match queue.send((pod.clone(), told)).await {
            Ok(()) => Ok(()),
            // The queue's writer has ended, which only an error makes it do while there is a
            // queue: the error is the first that joining meets.
            Err(_) => self.join().await,
        }
    }

    /// Waits until all that was queued is applied, or until the first writer has failed.
    ///
    /// # Errors
    ///
    /// A writer has failed; others may still be at work.
    pub(crate) async fn finish(&mut self) -> Result<(), IndexError> {
        self.queues.clear();
        self.join().await
    }

    /// Drops what is queued, and returns when no writer does anything any more.
    pub(crate) async fn stop(&mut self) {
        self.abort.cancel();
        // Each round ends at a failed writer or at the last one.
        while self.join().await.is_err() {}
    }

    async fn join(&mut self) -> Result<(), IndexError> {
        while let Some(joined) = self.tasks.join_next().await {
            match joined {
                Ok(result) => result?,
                // No writer is aborted through its handle, so that this one has panicked.
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        }
        Ok(())
    }
}

async fn work(
    applier: Applier,
    mut queue: mpsc::Receiver<(PodEntry, Told)>,
) -> Result<(), IndexError> {
    while let Some((pod, told)) = queue.recv().await {
        applier.tell(&pod, &told).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
