//! The workers that apply events, and the queues before them.

use std::{
    fmt,
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use prometheus_client::registry::Registry;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch},
    task::JoinHandle,
};

use super::{
    apply::Applier,
    batch::Engine,
    metrics::{Labelled, PoolCollector},
    resyncs::Resyncs,
    stats::{Counters, EventStats},
    topic::EventMessage,
};
use crate::{EventsConfig, Index, Resync, ResyncReason, TokenProcessor};

/// The unit in which queues count bytes. What a message takes besides its payload is some hundred bytes, and one unit
/// stands for it.
const UNIT_BYTES: usize = 1024;

/// How an [`EventPool`] works.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PoolConfig {
    /// The engine whose events come.
    pub engine: Engine,
    /// How many workers there are, at least 1. llm-d's default, 4, is ours.
    pub workers: usize,
    /// How many messages can wait for one worker, at least 1.
    pub queue_messages: usize,
    /// How many bytes of messages can wait for one worker. A message that is longer is never accepted.
    pub queue_bytes: usize,
    /// The most bytes of a message, which takes up to eight times as much while it is applied. A longer one is never accepted. An
    /// engine's step that stores 64,000 tokens has some 300 KiB.
    pub message_bytes: usize,
    /// How calls to the index are repeated.
    pub retry: Retry,
    /// Whether the first message of a publisher has to be its first one, number 0. Else it may be any: the pod has announced blocks
    /// before anybody listened, and an index that outlives its listeners may know them.
    pub from_start: bool,
    /// Of how many engine blocks a pod the request keys are remembered, so that a block behind them need not ask the index.
    pub blocks_per_pod: NonZeroUsize,
    /// Of how many blocks a pod the announcements are counted, so that a block which was stored twice is evicted when it was
    /// dropped twice. `None` not to count: every removal evicts.
    pub references_per_pod: Option<NonZeroUsize>,
}

impl Default for PoolConfig {
    /// For vLLM: 4 workers, for each 1,024 messages and 64 MiB; 16 MiB a message; 16,384 blocks a pod; no counts.
    fn default() -> Self {
        Self {
            engine: Engine::Vllm,
            workers: 4,
            queue_messages: 1024,
            queue_bytes: 64 << 20,
            message_bytes: 16 << 20,
            retry: Retry::default(),
            from_start: false,
            blocks_per_pod: NonZeroUsize::new(16_384).expect("not 0"),
            references_per_pod: None,
        }
    }
}

/// llm-d's settings: the engine, and as many workers as its `concurrency`. The rest is the default.
impl From<&EventsConfig> for PoolConfig {
    fn from(config: &EventsConfig) -> Self {
        Self { engine: config.engine, workers: config.concurrency.get(), ..Self::default() }
    }
}

/// How a call to the index is repeated that failed and may succeed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// How often a call is made at most, the first time included; 0 counts as 1.
    pub attempts: u32,
    /// The pause before the second time. It doubles from then on.
    pub pause: Duration,
    /// The longest pause.
    pub pause_max: Duration,
}

impl Default for Retry {
    /// Eight times within some six seconds, besides what the calls take.
    fn default() -> Self {
        Self { attempts: 8, pause: Duration::from_millis(50), pause_max: Duration::from_secs(5) }
    }
}

/// Applies the events of pods to an index: those of one pod in order, those of several side by side.
///
/// A fixed number of workers does so. The name of a pod decides which; what waits for a worker is bounded. A write that
/// fails is repeated before anything else of its worker. Whenever the index may have become wrong about a pod, the pod is
/// named by [`next_resync`](Self::next_resync).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
/// use respire_kvblock::{
///     Index, InMemoryConfig, InMemoryIndex, PodSet, TokenProcessor, TokenProcessorConfig,
///     events::{EventMessage, EventPool, PoolConfig},
/// };
///
/// let index = Arc::new(InMemoryIndex::new(InMemoryConfig::default())?);
/// let tokens = TokenProcessor::new(&TokenProcessorConfig { block_size_tokens: 4, ..Default::default() })?;
/// let pool = EventPool::start(Arc::clone(&index), &tokens, PoolConfig::default());
///
/// // A pod has stored a block of four tokens: [0, [["BlockStored", [77], nil, [1, 2, 3, 4], 4]]].
/// let payload = b"\x92\x00\x91\x95\xabBlockStored\x91\x4d\xc0\x94\x01\x02\x03\x04\x04";
/// let frames: [&[u8]; 3] = [b"kv@10.0.0.1:8000@model", &[0; 8], payload];
/// pool.submit(EventMessage::from_frames(&frames.map(bytes::Bytes::copy_from_slice))?).await?;
/// pool.flush().await;
///
/// let prompt = tokens.block_keys(Default::default(), &[1, 2, 3, 4, 5], "model");
/// let found = index.lookup(&prompt, &PodSet::all()).await?;
/// assert_eq!(found.prefix_lengths()["10.0.0.1:8000"], 1);
/// pool.shutdown().await;
/// # Ok(()) }
/// ```
///
/// Dropped without [`shutdown`](Self::shutdown), it accepts nothing more, and its workers end when they have applied what is
/// waiting.
pub struct EventPool {
    shared: Arc<Shared>,
    queues: Vec<Queue>,
    stop: watch::Sender<bool>,
    workers: Mutex<Vec<JoinHandle<()>>>,
}

/// What the workers and the handle have in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: PoolConfig,
    pub(super) counters: Counters,
    pub(super) labelled: Labelled,
    resyncs: Resyncs,
}

impl Shared {
    pub(super) fn new(config: PoolConfig) -> Self {
        Self {
            config,
            counters: Counters::default(),
            labelled: Labelled::default(),
            resyncs: Resyncs::default(),
        }
    }

    /// Counts a stored event that is passed over.
    pub(super) fn skip_store(&self, kind: Option<&str>, reason: &'static str) {
        self.counters.stores_skipped.count();
        self.labelled.skip_store(kind, reason);
    }

    /// Counts a removed event that is passed over; it does not say of which kind its blocks are.
    pub(super) fn skip_removal(&self, reason: &'static str) {
        self.counters.removals_skipped.count();
        self.labelled.skip_removal(reason);
    }

    pub(super) fn resync(&self, pod: &Arc<str>, reason: ResyncReason) {
        if !self.resyncs.push(pod, reason) {
            self.counters.resyncs_lost.count();
        }
    }
}

struct Queue {
    jobs: mpsc::Sender<Queued>,
    /// A permit for each unit of bytes that may wait.
    room: Arc<Semaphore>,
}

pub(super) struct Queued {
    job: Job,
    /// Given back when the job is done with.
    _room: Option<OwnedSemaphorePermit>,
}

pub(super) enum Job {
    Message(EventMessage),
    Forget(Arc<str>),
    /// Says that everything before it is done.
    Flush(oneshot::Sender<()>),
}

impl EventPool {
    /// Starts the workers on the runtime that this is called on.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn start(index: impl Index + 'static, tokens: &TokenProcessor, config: PoolConfig) -> Self {
        let index: Arc<dyn Index> = Arc::new(index);
        let (stop, stopped) = watch::channel(false);
        let (workers, messages) = (config.workers.max(1), config.queue_messages);
        let messages = messages.clamp(1, Semaphore::MAX_PERMITS);
        let units = (config.queue_bytes / UNIT_BYTES).clamp(1, Semaphore::MAX_PERMITS);
        let shared = Arc::new(Shared::new(config));
        let (queues, workers) = (0..workers)
            .map(|_| {
                let (jobs, queue) = mpsc::channel(messages);
                let (index, shared) = (Arc::clone(&index), Arc::clone(&shared));
                let applier = Applier::new(index, tokens.clone(), shared);
                let worker = tokio::spawn(work(queue, applier, stopped.clone()));
                (Queue { jobs, room: Arc::new(Semaphore::new(units)) }, worker)
            })
            .unzip();
        Self { shared, queues, stop, workers: Mutex::new(workers) }
    }

    /// Hands a message over, and waits until there is room for it.
    ///
    /// Messages of one pod are applied in the order in which these calls returned; several at once for one pod have no order.
    ///
    /// # Errors
    ///
    /// When the pool was shut down, or the message is longer than it may be: then its pod is named for a resync.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it returned, the message is not applied, and missing if it is not submitted again.
    pub async fn submit(&self, message: EventMessage) -> Result<(), SubmitError> {
        let queue = self.queue(&message.pod_identifier);
        let units = self.units(queue, &message)?;
        let room = Arc::clone(&queue.room).acquire_many_owned(units).await;
        let room = room.map_err(|_| SubmitError::Closed)?;
        let queued = Queued { job: Job::Message(message), _room: Some(room) };
        queue.jobs.send(queued).await.map_err(|_| SubmitError::Closed)
    }

    /// Hands a message over if there is room for it. Else the message is dropped and its pod named for a resync.
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit), and when there is no room.
    pub fn try_submit(&self, message: EventMessage) -> Result<(), SubmitError> {
        let pod = Arc::clone(&message.pod_identifier);
        let queue = self.queue(&pod);
        let units = self.units(queue, &message)?;
        let room = Arc::clone(&queue.room).try_acquire_many_owned(units);
        let sent = match room {
            Ok(room) => {
                let queued = Queued { job: Job::Message(message), _room: Some(room) };
                queue.jobs.try_send(queued).map_err(|error| match error {
                    mpsc::error::TrySendError::Full(_) => SubmitError::Full,
                    mpsc::error::TrySendError::Closed(_) => SubmitError::Closed,
                })
            }
            Err(_) if queue.jobs.is_closed() => Err(SubmitError::Closed),
            Err(_) => Err(SubmitError::Full),
        };
        if sent == Err(SubmitError::Full) {
            self.overrun(&pod);
        }
        sent
    }

    /// Takes a pod out of the index, after all of its events that were submitted before, and forgets the numbers of its messages.
    ///
    /// # Errors
    ///
    /// When the pool was shut down.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it returned, it may or may not happen.
    pub async fn clear(&self, pod_identifier: &str) -> Result<(), SubmitError> {
        let queued = Queued { job: Job::Forget(pod_identifier.into()), _room: None };
        let sent = self.queue(pod_identifier).jobs.send(queued).await;
        sent.map_err(|_| SubmitError::Closed)
    }

    /// Waits until everything has been applied or given up that was submitted before.
    pub async fn flush(&self) {
        let mut waiting = Vec::with_capacity(self.queues.len());
        for queue in &self.queues {
            let (done, is_done) = oneshot::channel();
            if queue.jobs.send(Queued { job: Job::Flush(done), _room: None }).await.is_ok() {
                waiting.push(is_done);
            }
        }
        for is_done in waiting {
            // An error says that the worker is gone, and with it what it had to do.
            let _ = is_done.await;
        }
    }

    /// The next pod that has to announce its blocks again. A pod that is named several times before it is asked for is
    /// answered once, with the gravest reason. `None` when the pool was shut down and no pod is left.
    ///
    /// These are the pods whose events the pool has not applied as they were. An index on a server has others to name, by
    /// [`Index::resyncs`]. To both the answer is the same: [`clear`](Self::clear) the pod here, and have it announce what it holds.
    ///
    /// # Cancel safety
    ///
    /// No pod is lost when this is dropped.
    pub async fn next_resync(&self) -> Option<Resync> {
        self.shared.resyncs.next().await
    }

    /// As [`next_resync`](Self::next_resync), without waiting.
    pub fn try_next_resync(&self) -> Option<Resync> {
        self.shared.resyncs.try_next()
    }

    /// What the pool has met so far.
    pub fn stats(&self) -> EventStats {
        self.shared.counters.snapshot()
    }

    /// Adds metrics to a registry, under llm-d's names as they are if the registry has no prefix. Once for each registry.
    ///
    /// | `llm_d_epp_kv_cache_events_...` | |
    /// |---|---|
    /// | `dedup_removed_hashes_suppressed_total`, `dedup_removed_hashes_forwarded_total` | blocks that engines dropped: still held by another announcement, and handed to the index |
    /// | `stores_skipped_total{cache_kind,reason}`, `removals_skipped_total{cache_kind,reason}` | events that were passed over. A reason is `unsupported_cache_kind` or `non_dense_block_span`, a kind one of vLLM's names, `other`, or `unknown` where an event has none |
    /// | `active_subscribers` | subscribers and listeners that run now |
    /// | `subscriber_reconnections_total{pod_identifier}` | connections that were made anew |
    /// | `messages_received_total{pod_identifier}` | messages from sockets |
    /// | `zmq_errors_total{pod_identifier,operation}` | what went wrong: `connect`, `recv`, `replay-connect`, `replay-recv` |
    /// | `pool_queue_depth`, `pool_capacity` | messages that wait, and workers |
    ///
    /// A `pod_identifier` is what the subscriber was given, else its address; a listener's is `local-subscriber`. Its metrics go with the
    /// last subscriber of that name.
    ///
    /// Beside them each of the [`stats`](Self::stats) is `respire_events_..._total`.
    pub fn register_metrics(&self, registry: &mut Registry) {
        self.shared.labelled.register(registry);
        let queues = self.queues.iter().map(|queue| queue.jobs.downgrade()).collect();
        let shared = Arc::clone(&self.shared);
        registry.register_collector(Box::new(PoolCollector { shared, queues }));
    }

    /// How many messages are waiting, for all workers together.
    pub fn queue_depth(&self) -> usize {
        self.queues.iter().map(|queue| queue.jobs.max_capacity() - queue.jobs.capacity()).sum()
    }

    /// Accepts nothing more, and waits until the workers have applied or given up what is waiting. That takes as long as calls to
    /// the index do, and their repetitions.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the workers go on until they are done.
    ///
    /// # Panics
    ///
    /// When a worker has, because the index has.
    pub async fn shutdown(&self) {
        self.stop.send_replace(true);
        let workers = {
            let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *workers)
        };
        for worker in workers {
            if let Err(error) = worker.await
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
        self.shared.resyncs.close();
    }

    /// The queue of a pod's worker.
    fn queue(&self, pod: &str) -> &Queue {
        // As in llm-d: FNV-1a of 32 bits.
        let hash = pod
            .bytes()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        &self.queues[hash as usize % self.queues.len()]
    }

    /// How much room a message takes.
    fn units(&self, queue: &Queue, message: &EventMessage) -> Result<u32, SubmitError> {
        if queue.jobs.is_closed() {
            return Err(SubmitError::Closed);
        }
        let config = &self.shared.config;
        let most = (config.queue_bytes / UNIT_BYTES).max(1);
        let units = message.payload.len() / UNIT_BYTES + 1;
        match u32::try_from(units) {
            Ok(fitting) if units <= most && message.payload.len() <= config.message_bytes => {
                Ok(fitting)
            }
            _ => {
                self.overrun(&message.pod_identifier);
                Err(SubmitError::TooLong)
            }
        }
    }

    fn overrun(&self, pod: &Arc<str>) {
        self.shared.counters.overruns.count();
        self.shared.resync(pod, ResyncReason::Overrun);
    }

    /// Waits until the pool was shut down.
    #[cfg(all(feature = "zmq", unix))]
    pub(super) async fn closed(&self) {
        self.queues[0].jobs.closed().await;
    }

    #[cfg(all(feature = "zmq", unix))]
    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }
}

impl fmt::Debug for EventPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventPool")
            .field("config", &self.shared.config)
            .field("queue_depth", &self.queue_depth())
            .finish_non_exhaustive()
    }
}

/// Why a message was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// The pool was shut down.
    #[error("the pool of events was shut down")]
    Closed,
    /// There is no room, and the caller would not wait.
    #[error("the queue of the pod's worker is full")]
    Full,
    /// The message is longer than one may be, or would not fit into an empty queue.
    #[error("the message is longer than one may be")]
    TooLong,
}

/// One worker: does its jobs in order until nobody is left to send any, or the pool was shut down and none is waiting.
async fn work(
    mut queue: mpsc::Receiver<Queued>,
    mut applier: Applier,
    mut stop: watch::Receiver<bool>,
) {
    let mut is_open = true;
    loop {
        let queued = tokio::select! {
            biased;
            () = wanted(&mut stop), if is_open => {
                is_open = false;
                queue.close();
                continue;
            }
            queued = queue.recv() => queued,
        };
        match queued.map(|queued| (queued.job, queued._room)) {
            Some((Job::Message(message), _room)) => applier.message(&message).await,
            Some((Job::Forget(pod), _)) => applier.forget(&pod).await,
            // Whoever asked may have gone.
            Some((Job::Flush(done), _)) => drop(done.send(())),
            None => return,
        }
    }
}

/// Waits until the workers are to come to an end.
async fn wanted(stop: &mut watch::Receiver<bool>) {
    // An error says that the pool was dropped, and comes to the same.
    let _ = stop.wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests;
