use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use respire_kvblock::{Lookup, PodSet};
use tokio::sync::Semaphore;

use super::*;

/// Notes the calls, each when it is let through; fails at the adds for one request key.
struct Recorder {
    calls: Mutex<HashMap<String, Vec<Call>>>,
    permits: Semaphore,
    fails_at: Option<BlockHash>,
}

#[derive(Debug, Clone, PartialEq)]
enum Call {
    Add(Vec<BlockHash>, Vec<BlockHash>),
    Evict(Vec<BlockHash>),
    Clear,
}

impl Recorder {
    fn new(permits: usize, fails_at: Option<BlockHash>) -> Arc<Self> {
        Arc::new(Self { calls: Mutex::default(), permits: Semaphore::new(permits), fails_at })
    }

    async fn note(&self, pod: &str, call: Call) {
        self.permits.acquire().await.unwrap().forget();
        // Gives other writers the chance to come in between.
        tokio::task::yield_now().await;
        self.calls.lock().unwrap().entry(pod.to_owned()).or_default().push(call);
    }
}

#[async_trait]
impl Index for Recorder {
    async fn lookup(&self, _: &[BlockHash], _: &PodSet) -> Result<Lookup, IndexError> {
        Ok(std::iter::empty().collect())
    }

    async fn add(
        &self,
        engine_keys: Option<&[BlockHash]>,
        request_keys: &[BlockHash],
        entries: &[PodEntry],
    ) -> Result<(), IndexError> {
        if request_keys.first() == self.fails_at.as_ref() {
            // An error that only an index can make: that of a real one without keys.
            let size = respire_kvblock::InMemoryConfig::default();
            let index = respire_kvblock::InMemoryIndex::new(size).unwrap();
            return index.add(None, &[], entries).await;
        }
        let engine_keys = engine_keys.unwrap_or_default().to_vec();
        self.note(&entries[0].pod_identifier, Call::Add(engine_keys, request_keys.to_vec())).await;
        Ok(())
    }

    async fn evict(
        &self,
        keys: &[BlockHash],
        key_type: KeyType,
        entries: &[PodEntry],
    ) -> Result<(), IndexError> {
        assert_eq!(key_type, KeyType::Engine);
        self.note(&entries[0].pod_identifier, Call::Evict(keys.to_vec())).await;
        Ok(())
    }

    async fn request_key(&self, engine_key: BlockHash) -> Result<BlockHash, IndexError> {
        Ok(engine_key)
    }

    async fn clear(&self, pod_identifier: &str) -> Result<(), IndexError> {
        self.note(pod_identifier, Call::Clear).await;
        Ok(())
    }
}

fn told(stored: &[u64], dropped: &[u64]) -> Told {
    Told::Event(event(stored, dropped))
}

fn event(stored: &[u64], dropped: &[u64]) -> CacheEvent {
    CacheEvent { stored: stored.to_vec(), dropped: dropped.to_vec() }
}

fn calls_of(event: &CacheEvent, keys: &Keys) -> [Call; 2] {
    let engine_keys = |ids: &[u64]| ids.iter().map(|id| keys.engine_key(*id)).collect();
    let request_keys = event.stored.iter().map(|id| keys.request_key(*id)).collect();
    [Call::Add(engine_keys(&event.stored), request_keys), Call::Evict(engine_keys(&event.dropped))]
}

#[tokio::test]
async fn an_event_is_one_add_and_then_one_evict_with_aligned_keys() {
    let (recorder, keys) = (Recorder::new(100, None), Keys::new(0));
    let applier = Applier::new(recorder.clone(), keys, Patience::default());
    let pod = keys.pod_entry(0);
    let full = event(&[1, 2], &[3]);
    for event in [&full, &event(&[4], &[]), &event(&[], &[5]), &event(&[], &[])] {
        applier.apply(&pod, event).await.unwrap();
    }
    let [add, evict] = calls_of(&full, &keys);
    let [only_add, _] = calls_of(&event(&[4], &[]), &keys);
    let [_, only_evict] = calls_of(&event(&[], &[5]), &keys);
    let calls = recorder.calls.lock().unwrap();
    assert_eq!(calls[&pod.pod_identifier], [add, evict, only_add, only_evict]);
}

#[tokio::test]
async fn all_blocks_of_a_pod_are_announced_again_behind_a_clear_and_in_pieces() {
    let (recorder, keys) = (Recorder::new(100, None), Keys::new(0));
    let applier = Applier::new(recorder.clone(), keys, Patience::default());
    let pod = keys.pod_entry(0);
    let blocks: Vec<u64> = (0..2 * BLOCKS_PER_ADD as u64 + 1).collect();
    applier.tell(&pod, &Told::Again(blocks.clone())).await.unwrap();
    let add = |ids: &[u64]| calls_of(&event(ids, &[]), &keys)[0].clone();
    let adds: Vec<Call> = blocks.chunks(BLOCKS_PER_ADD).map(add).collect();
    assert_eq!(adds.len(), 3);
    let calls = recorder.calls.lock().unwrap();
    assert_eq!(calls[&pod.pod_identifier], [&[Call::Clear][..], &adds].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_pods_events_are_applied_in_order_whatever_the_number_of_writers() {
    for n in [1, 2, 3, 8] {
        let (recorder, keys) = (Recorder::new(10_000, None), Keys::new(0));
        let mut writers =
            Writers::start(n, &Applier::new(recorder.clone(), keys, Patience::default()));
        for id in 0..1000 {
            let pod = id as usize % 5;
            writers.send(pod, &keys.pod_entry(pod), told(&[id], &[id])).await.unwrap();
        }
        writers.finish().await.unwrap();
        let calls = recorder.calls.lock().unwrap();
        for pod in 0..5 {
            let ids = (0..1000).filter(|id| id % 5 == pod);
            let expected: Vec<Call> =
                ids.flat_map(|id| calls_of(&event(&[id], &[id]), &keys)).collect();
            assert_eq!(calls[&keys.pod_entry(pod as usize).pod_identifier], expected, "{n}");
        }
    }
}

#[tokio::test]
async fn a_writer_that_is_behind_holds_up_the_sender() {
    let (recorder, keys) = (Recorder::new(0, None), Keys::new(0));
    let mut writers = Writers::start(2, &Applier::new(recorder.clone(), keys, Patience::default()));
    let pod = keys.pod_entry(0);
    // One event is with the writer, the others wait in its queue.
    for id in 0..=QUEUE_EVENTS as u64 {
        writers.send(0, &pod, told(&[id], &[])).await.unwrap();
        tokio::task::yield_now().await;
    }
    let patience = Duration::from_millis(50);
    let send = writers.send(0, &pod, told(&[999], &[]));
    assert!(tokio::time::timeout(patience, send).await.is_err());
    // The other writer's queue is its own.
    writers.send(1, &keys.pod_entry(1), told(&[1], &[])).await.unwrap();
    recorder.permits.add_permits(1000);
    writers.finish().await.unwrap();
    let calls = recorder.calls.lock().unwrap();
    assert_eq!(calls[&pod.pod_identifier].len(), QUEUE_EVENTS + 1);
}

#[tokio::test]
async fn a_writers_error_reaches_the_sender_or_the_finish() {
    let keys = Keys::new(0);
    let failing =
        || Applier::new(Recorder::new(1000, Some(keys.request_key(7))), keys, Patience::default());
    let pod = keys.pod_entry(0);

    let mut writers = Writers::start(2, &failing());
    writers.send(0, &pod, told(&[7], &[])).await.unwrap();
    assert!(writers.finish().await.unwrap_err().is_invalid_input());
    writers.stop().await;

    let mut writers = Writers::start(2, &failing());
    let error = loop {
        if let Err(error) = writers.send(0, &pod, told(&[7], &[])).await {
            break error;
        }
        tokio::task::yield_now().await;
    };
    assert!(error.is_invalid_input());
    writers.stop().await;
}

#[tokio::test]
async fn stopping_drops_what_is_queued_and_what_is_stuck() {
    let (recorder, keys) = (Recorder::new(3, None), Keys::new(0));
    let mut writers = Writers::start(1, &Applier::new(recorder.clone(), keys, Patience::default()));
    let pod = keys.pod_entry(0);
    for id in 0..10 {
        writers.send(0, &pod, told(&[id], &[])).await.unwrap();
    }
    while recorder.permits.available_permits() > 0 {
        tokio::task::yield_now().await;
    }
    tokio::time::timeout(Duration::from_secs(20), writers.stop()).await.unwrap();
    recorder.permits.add_permits(100);
    tokio::task::yield_now().await;
    assert!(recorder.calls.lock().unwrap()[&pod.pod_identifier].len() <= 3);
}
