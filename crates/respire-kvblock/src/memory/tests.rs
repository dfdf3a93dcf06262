use std::collections::HashSet;

use proptest::prelude::*;

use super::{
    state::{Holders, MAPPED_MAX},
    *,
};

fn index(size: usize, pod_cache_size: usize) -> InMemoryIndex {
    InMemoryIndex::new(InMemoryConfig { size, pod_cache_size }).unwrap()
}

fn hashes(numbers: impl IntoIterator<Item = u64>) -> Vec<BlockHash> {
    numbers.into_iter().map(BlockHash).collect()
}

fn gpu(pod: &str) -> PodEntry {
    PodEntry::new(pod, "gpu")
}

/// The pods that hold one key, in the order in which the index keeps them. Counts as a use of the key.
async fn holders(index: &InMemoryIndex, key: u64) -> Vec<String> {
    let found = index.lookup(&[BlockHash(key)], &PodSet::all()).await.unwrap();
    found.entries(0).map(|entry| entry.pod_identifier.clone()).collect()
}

#[tokio::test]
async fn a_full_index_forgets_the_key_that_was_longest_not_used() {
    let index = index(2, 10);
    index.add(None, &hashes([1]), &[gpu("a")]).await.unwrap();
    index.add(None, &hashes([2]), &[gpu("a")]).await.unwrap();
    index.add(None, &hashes([3]), &[gpu("a")]).await.unwrap();
    assert!(holders(&index, 1).await.is_empty());
    // A lookup is a use: 2 survives 3.
    assert_eq!(holders(&index, 2).await, ["a"]);
    index.add(None, &hashes([4]), &[gpu("a")]).await.unwrap();
    assert_eq!(holders(&index, 2).await, ["a"]);
    assert!(holders(&index, 3).await.is_empty());
    // So is an add, of whatever entry.
    index.add(None, &hashes([4]), &[gpu("b")]).await.unwrap();
    index.add(None, &hashes([5]), &[gpu("a")]).await.unwrap();
    assert!(holders(&index, 2).await.is_empty());
    assert_eq!(holders(&index, 4).await, ["a", "b"]);
}

#[tokio::test]
async fn keys_of_one_call_are_used_in_their_order() {
    let index = index(2, 10);
    index.add(None, &hashes([1, 2, 3]), &[gpu("a")]).await.unwrap();
    assert!(holders(&index, 1).await.is_empty());
    index.lookup(&hashes([3, 2]), &PodSet::all()).await.unwrap();
    index.add(None, &hashes([4]), &[gpu("a")]).await.unwrap();
    assert!(holders(&index, 3).await.is_empty());
    assert_eq!(holders(&index, 2).await, ["a"]);
}

#[tokio::test]
async fn a_full_key_forgets_the_entry_that_was_longest_not_added() {
    let index = index(10, 2);
    for pod in ["a", "b", "a", "c"] {
        index.add(None, &hashes([1]), &[gpu(pod)]).await.unwrap();
    }
    assert_eq!(holders(&index, 1).await, ["a", "c"]);
    index.add(None, &hashes([1]), &[gpu("d"), gpu("e"), gpu("f")]).await.unwrap();
    assert_eq!(holders(&index, 1).await, ["e", "f"]);
}

#[tokio::test]
async fn the_eleventh_pod_evicts_the_oldest_by_default() {
    let index = InMemoryIndex::new(InMemoryConfig::default()).unwrap();
    for pod in 0..11 {
        index.add(None, &hashes([1]), &[gpu(&pod.to_string())]).await.unwrap();
    }
    let expected: Vec<String> = (1..11).map(|pod| pod.to_string()).collect();
    assert_eq!(holders(&index, 1).await, expected);
}

#[tokio::test]
async fn engine_keys_are_forgotten_in_the_order_of_use() {
    let index = index(2, 10);
    for key in [1, 2] {
        index.add(Some(&hashes([100 + key])), &hashes([key]), &[gpu("a")]).await.unwrap();
    }
    assert_eq!(index.request_key(BlockHash(101)).await.unwrap(), BlockHash(1));
    index.add(Some(&hashes([103])), &hashes([3]), &[gpu("a")]).await.unwrap();
    assert!(index.request_key(BlockHash(102)).await.unwrap_err().is_not_found());
    assert_eq!(index.request_key(BlockHash(101)).await.unwrap(), BlockHash(1));
}

#[tokio::test]
async fn a_new_mapping_joins_those_that_still_hold_something() {
    let index = index(10, 10);
    index.add(Some(&hashes([100])), &hashes([1]), &[gpu("a")]).await.unwrap();
    index.add(Some(&hashes([100])), &hashes([2]), &[gpu("b")]).await.unwrap();
    assert_eq!(index.request_key(BlockHash(100)).await.unwrap(), BlockHash(2));
    // The first mapping's entry is reached as well.
    index.evict(&hashes([100]), KeyType::Engine, &[gpu("a")]).await.unwrap();
    assert!(holders(&index, 1).await.is_empty());
    assert_eq!(holders(&index, 2).await, ["b"]);
    // What holds nothing is left behind, so that a list cannot grow for ever.
    for key in 3..1000 {
        index.add(Some(&hashes([100])), &hashes([key]), &[gpu("b")]).await.unwrap();
        index.evict(&hashes([key]), KeyType::Request, &[gpu("b")]).await.unwrap();
    }
    index.add(Some(&hashes([100])), &hashes([2]), &[gpu("b")]).await.unwrap();
    assert_eq!(index.state().engines.peek(&BlockHash(100)).unwrap().as_slice(), hashes([2]));
}

#[tokio::test]
async fn an_answer_keeps_its_entries_when_their_numbers_are_used_anew() {
    let index = index(10, 10);
    index.add(None, &hashes([1]), &[gpu("a")]).await.unwrap();
    let before = index.lookup(&hashes([1]), &PodSet::all()).await.unwrap();
    index.evict(&hashes([1]), KeyType::Request, &[gpu("a")]).await.unwrap();
    index.add(None, &hashes([1]), &[gpu("b")]).await.unwrap();
    assert_eq!(**before.entries(0).next().unwrap(), gpu("a"));
    assert_eq!(holders(&index, 1).await, ["b"]);
    assert_eq!(index.state().entries.snapshot().len(), 1);
}

#[test]
fn a_bound_of_zero_is_an_error_that_names_it() {
    let refused = |size, pod_cache_size| {
        InMemoryIndex::new(InMemoryConfig { size, pod_cache_size }).unwrap_err()
    };
    assert_eq!(refused(0, 1).setting(), Some("inMemoryConfig.size"));
    assert_eq!(refused(1, 0).setting(), Some("inMemoryConfig.podCacheSize"));
}

#[tokio::test]
async fn debug_shows_how_much_there_is_and_not_what() {
    let index = InMemoryIndex::new(InMemoryConfig { size: 7, pod_cache_size: 3 }).unwrap();
    index.add(Some(&hashes([1])), &hashes([2, 3]), &[PodEntry::new("a", "gpu")]).await.unwrap();
    let shown = "InMemoryIndex { request_keys: 2, engine_keys: 1, size: 7, \
                 pod_cache_size: 3, used_bytes: 550, .. }";
    assert_eq!(format!("{index:?}"), shown);
    let index: std::sync::Arc<dyn Index> = std::sync::Arc::new(index);
    assert_eq!(format!("{index:?}"), "Index(in memory, of up to 7 request keys)");
    assert_eq!(std::sync::Arc::new(index).describe(), "in memory, of up to 7 request keys");
}

#[tokio::test]
async fn an_engine_key_keeps_a_bounded_list_and_all_of_its_latest_mapping() {
    let index = InMemoryIndex::new(InMemoryConfig::default()).unwrap();
    let pod = [PodEntry::new("a", "gpu")];
    let engine = hashes([1]);
    let kept = || index.state().engines.peek(&engine[0]).unwrap().to_vec();
    for block in 0..20_000 {
        index.add(Some(&engine), &hashes([block]), &pod).await.unwrap();
    }
    let latest = hashes(20_000 - MAPPED_MAX as u64..20_000);
    assert_eq!(kept(), latest);
    // What has fallen off could not be evicted any more.
    assert!(index.lookup(&hashes([0]), &PodSet::all()).await.unwrap().is_empty());
    assert_eq!(index.lookup(&latest, &PodSet::all()).await.unwrap().len(), MAPPED_MAX);
    assert_eq!(index.state().blocks.len(), MAPPED_MAX);
    // A single call may map more. Were its repetition searched one by one, this test would take minutes.
    let many = hashes(0..100_000);
    for _ in 0..2 {
        index.add(Some(&engine), &many, &pod).await.unwrap();
    }
    assert_eq!(kept(), many);
    index.evict(&engine, KeyType::Engine, &pod).await.unwrap();
    assert!(index.lookup(&many[..1], &PodSet::all()).await.unwrap().is_empty());
    assert!(index.state().blocks.is_empty());
    assert!(index.request_key(engine[0]).await.unwrap_err().is_not_found());
}

/// The index as lists that are searched from end to end, the most recent last.
#[derive(Debug, Default)]
struct Model {
    size: usize,
    pod_cache_size: usize,
    blocks: List<PodEntry>,
    engines: List<BlockHash>,
}

/// What each key has, in an order.
type List<T> = Vec<(BlockHash, Vec<T>)>;

/// Takes the element with this key to the end of a list.
fn used<T>(list: &mut Vec<(BlockHash, T)>, key: BlockHash) -> Option<&mut T> {
    let at = list.iter().position(|(other, _)| *other == key)?;
    let found = list.remove(at);
    list.push(found);
    list.last_mut().map(|(_, value)| value)
}

impl Model {
    fn lookup(&mut self, keys: &[BlockHash], pods: &PodSet) -> Vec<(BlockHash, Vec<PodEntry>)> {
        let mut found = Vec::new();
        for &key in keys {
            let Some(entries) = used(&mut self.blocks, key) else { break };
            let mut entries = entries.clone();
            entries.retain(|entry| pods.contains(&entry.pod_identifier));
            if entries.is_empty() {
                break;
            }
            found.push((key, entries));
        }
        found
    }

    fn add(&mut self, engine_keys: &[BlockHash], keys: &[BlockHash], entries: &[PodEntry]) {
        for &key in keys {
            if used(&mut self.blocks, key).is_none() {
                if self.blocks.len() == self.size {
                    self.blocks.remove(0);
                }
                self.blocks.push((key, Vec::new()));
            }
            let (_, held) = self.blocks.last_mut().unwrap();
            for entry in entries {
                held.retain(|other| other != entry);
                held.push(entry.clone());
                if held.len() > self.pod_cache_size {
                    held.remove(0);
                }
            }
        }
        if engine_keys.is_empty() {
            return;
        }
        let n = engine_keys.len().max(keys.len());
        let mut new: Vec<(BlockHash, Vec<BlockHash>)> = Vec::new();
        for i in 0..n {
            let engine = engine_keys[i * engine_keys.len() / n];
            let at = new.iter().position(|(other, _)| *other == engine).unwrap_or_else(|| {
                new.push((engine, Vec::new()));
                new.len() - 1
            });
            new[at].1.push(keys[i * keys.len() / n]);
        }
        for (engine, new) in new {
            if used(&mut self.engines, engine).is_none() {
                if self.engines.len() == self.size {
                    self.engines.remove(0);
                }
                self.engines.push((engine, Vec::new()));
            }
            let blocks = &self.blocks;
            let mapped = &mut self.engines.last_mut().unwrap().1;
            mapped.retain(|key| blocks.iter().any(|(held, _)| held == key) && !new.contains(key));
            mapped.extend(new);
        }
    }

    fn remove(&mut self, keys: &[BlockHash], entries: &[PodEntry]) {
        self.blocks.retain_mut(|(key, held)| {
            held.retain(|entry| !keys.contains(key) || !entries.contains(entry));
            !held.is_empty()
        });
    }

    fn evict_mapped(&mut self, keys: &[BlockHash], entries: &[PodEntry]) {
        for key in keys {
            let Some(at) = self.engines.iter().position(|(engine, _)| engine == key) else {
                continue;
            };
            let mapped = self.engines[at].1.clone();
            self.remove(&mapped, entries);
            if !self.blocks.iter().any(|(held, _)| mapped.contains(held)) {
                self.engines.remove(at);
            }
        }
    }

    fn clear(&mut self, pod: &str) {
        self.blocks.retain_mut(|(_, held)| {
            held.retain(|entry| entry.pod_identifier != pod);
            !held.is_empty()
        });
    }
}

#[derive(Clone, Debug)]
enum Operation {
    Lookup(Vec<BlockHash>, Vec<String>),
    Add(Vec<BlockHash>, Vec<BlockHash>, Vec<PodEntry>),
    Evict(Vec<BlockHash>, KeyType, Vec<PodEntry>),
    RequestKey(BlockHash),
    Clear(String),
}

fn any_operation() -> impl Strategy<Value = Operation> {
    operation_on(8, 5)
}

/// On keys below `keys`, and fewer than `a_call` of them at a time.
fn operation_on(keys: u64, a_call: usize) -> impl Strategy<Value = Operation> {
    let pod = || prop_oneof![Just("a"), Just("b"), Just("c"), Just("d")].prop_map(str::to_owned);
    let entry = || {
        (pod(), prop_oneof![Just("gpu"), Just("cpu")], any::<bool>(), prop::option::of(0..2_i64))
            .prop_map(|(pod, tier, speculative, group)| PodEntry {
                pod_identifier: pod,
                device_tier: tier.to_owned(),
                speculative,
                group,
            })
    };
    let key = move || (0..keys).prop_map(BlockHash);
    let keys = move |least: usize| prop::collection::vec(key(), least..a_call);
    let entries = || prop::collection::vec(entry(), 1..4);
    prop_oneof![
        3 => (keys(0), prop::collection::vec(pod(), 0..3))
            .prop_map(|(keys, pods)| Operation::Lookup(keys, pods)),
        4 => (keys(0), keys(1), entries()).prop_map(|(e, r, p)| Operation::Add(e, r, p)),
        3 => (keys(1), prop_oneof![Just(KeyType::Engine), Just(KeyType::Request)], entries())
            .prop_map(|(keys, kind, entries)| Operation::Evict(keys, kind, entries)),
        1 => key().prop_map(Operation::RequestKey),
        1 => pod().prop_map(Operation::Clear),
    ]
}

/// Does the same to both and compares what they answer.
async fn step(index: &InMemoryIndex, model: &mut Model, operation: Operation) {
    match operation {
        Operation::Lookup(keys, pods) => {
            let pods: PodSet = pods.into_iter().collect();
            let found = index.lookup(&keys, &pods).await.unwrap();
            let found: Vec<_> = found
                .iter()
                .map(|(key, entries)| (key, entries.map(|entry| (**entry).clone()).collect()))
                .collect();
            assert_eq!(found, model.lookup(&keys, &pods));
        }
        Operation::Add(engine_keys, keys, entries) => {
            index.add(Some(&engine_keys), &keys, &entries).await.unwrap();
            model.add(&engine_keys, &keys, &entries);
        }
        Operation::Evict(keys, key_type, entries) => {
            index.evict(&keys, key_type, &entries).await.unwrap();
            match key_type {
                KeyType::Request => model.remove(&keys, &entries),
                KeyType::Engine => model.evict_mapped(&keys, &entries),
            }
        }
        Operation::RequestKey(engine_key) => {
            let expected =
                used(&mut model.engines, engine_key).and_then(|mapped| mapped.last().copied());
            assert_eq!(index.request_key(engine_key).await.ok(), expected);
        }
        Operation::Clear(pod) => {
            index.clear(&pod).await.unwrap();
            model.clear(&pod);
        }
    }
}

/// Does the operations to an index and to the model, and compares the whole of both after each.
fn compare(size: usize, pod_cache_size: usize, operations: Vec<Operation>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let index = index(size, pod_cache_size);
        let mut model = Model { size, pod_cache_size, ..Model::default() };
        for operation in operations {
            step(&index, &mut model, operation).await;
            let (blocks, engines) = contents(&index.state());
            assert_eq!(blocks, model.blocks);
            assert_eq!(engines, model.engines);
            let distinct: HashSet<_> = model.blocks.iter().flat_map(|(_, held)| held).collect();
            assert_eq!(index.state().entries.len(), distinct.len());
        }
    });
}

/// The whole of the index, the least recent first, without using any of it.
fn contents(state: &State) -> (List<PodEntry>, List<BlockHash>) {
    let table = state.entries.snapshot();
    let entries = |holders: &Holders| {
        holders.iter().map(|&id| (*table[id as usize]).clone()).collect::<Vec<_>>()
    };
    let mut blocks: Vec<_> =
        state.blocks.iter().map(|(key, holders)| (*key, entries(holders))).collect();
    let mut engines: Vec<_> =
        state.engines.iter().map(|(key, mapped)| (*key, mapped.to_vec())).collect();
    blocks.reverse();
    engines.reverse();
    (blocks, engines)
}

proptest! {
    #[test]
    fn any_operations_do_what_they_do_to_plain_lists(
        size in 1..6_usize, pod_cache_size in 1..4_usize,
        operations in prop::collection::vec(any_operation(), 1..80),
    ) {
        compare(size, pod_cache_size, operations);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A call's keys are looked for some at a time.
    #[test]
    fn operations_on_many_keys_at_once_do_what_they_do_to_plain_lists(
        size in 20..130_usize, pod_cache_size in 1..4_usize,
        operations in prop::collection::vec(operation_on(120, 100), 1..20),
    ) {
        compare(size, pod_cache_size, operations);
    }
}

fn with_budget(size_bytes: u64) -> InMemoryIndex {
    InMemoryIndex::with_budget(CostAwareConfig { size_bytes }).unwrap()
}

#[test]
fn a_budget_of_nothing_is_refused() {
    let error = InMemoryIndex::with_budget(CostAwareConfig { size_bytes: 0 }).unwrap_err();
    assert_eq!(error.setting(), Some("costAwareMemoryConfig.size"));
}

#[tokio::test]
async fn a_spent_budget_forgets_the_keys_that_were_longest_not_used() {
    let index = with_budget(100_000);
    for key in 0..3_000 {
        index.add(Some(&hashes([key])), &hashes([key]), &[gpu("a")]).await.unwrap();
        // The first one is used all the time.
        assert_eq!(holders(&index, 0).await, ["a"], "{key}");
        assert!(index.used_bytes() <= 100_000);
    }
    let held = index.state().blocks.len() as u64;
    assert!((100..1_000).contains(&held), "{held}");
    for key in 3_001 - held..3_000 {
        assert_eq!(holders(&index, key).await, ["a"], "{key} of {held}");
    }
    assert!(holders(&index, 3_000 - held).await.is_empty());
}

#[tokio::test]
async fn engine_keys_are_bounded_and_those_of_held_blocks_stay() {
    let index = with_budget(100_000);
    index.add(Some(&hashes([7])), &hashes([7]), &[gpu("a")]).await.unwrap();
    for key in 100..4_000 {
        index
            .add(Some(&hashes([key, key + 1_000_000])), &hashes([key]), &[gpu("a")])
            .await
            .unwrap();
        assert_eq!(holders(&index, 7).await, ["a"]);
    }
    let blocks = index.state().blocks.len();
    let engines = index.state().engines.len();
    assert!(engines < 4 * blocks, "{engines} engine keys for {blocks} request keys");
    index.evict(&hashes([7]), KeyType::Engine, &[gpu("a")]).await.unwrap();
    assert!(holders(&index, 7).await.is_empty());
    index.evict(&hashes([1_003_999]), KeyType::Engine, &[gpu("a")]).await.unwrap();
    assert!(holders(&index, 3_999).await.is_empty());
}

#[tokio::test]
async fn what_is_larger_than_the_budget_is_not_kept() {
    let index = with_budget(1_000);
    let long = "p".repeat(2_000);
    index.add(Some(&hashes([1])), &hashes([1, 2]), &[gpu(&long)]).await.unwrap();
    assert!(holders(&index, 1).await.is_empty());
    assert!(index.used_bytes() <= 1_000);
    index.add(None, &hashes([1]), &[gpu("a")]).await.unwrap();
    assert_eq!(holders(&index, 1).await, ["a"]);
    assert_eq!(index.describe(), "in memory, of up to 1000 bytes");
}

#[tokio::test]
async fn pods_that_come_and_go_leave_nothing_in_the_budget() {
    let index = with_budget(1 << 20);
    for pod in 0..100 {
        let pod = format!("{pod}{}", "x".repeat(1_000));
        let keys = hashes(0..50);
        index.add(Some(&keys), &keys, &[gpu(&pod)]).await.unwrap();
        index.evict(&keys, KeyType::Engine, &[gpu(&pod)]).await.unwrap();
        assert_eq!(index.used_bytes(), 0);
    }
}

/// What the parts of the index take, counted anew.
fn recounted(state: &State) -> u64 {
    let key = |spilled, capacity: usize, item| 126 + if spilled { capacity * item } else { 0 };
    let blocks: usize =
        state.blocks.iter().map(|(_, list)| key(list.spilled(), list.capacity(), 4)).sum();
    let engines: usize =
        state.engines.iter().map(|(_, list)| key(list.spilled(), list.capacity(), 8)).sum();
    let table = state.entries.snapshot();
    let held: HashSet<u32> = state.blocks.iter().flat_map(|(_, list)| list).copied().collect();
    let entries: usize = held
        .into_iter()
        .map(|id| &table[id as usize])
        .map(|entry| 72 + 96 + entry.pod_identifier.len() + entry.device_tier.len())
        .sum();
    (blocks + engines + entries) as u64
}

proptest! {
    #[test]
    fn a_budget_is_kept_and_what_is_left_is_what_was_added(
        budget in 1_000..5_000_u64, operations in prop::collection::vec(any_operation(), 1..80),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let index = with_budget(budget);
            let mut model = Model { size: usize::MAX, pod_cache_size: usize::MAX, ..Model::default() };
            for operation in operations {
                match &operation {
                    Operation::Lookup(keys, pods) => {
                        let pods: PodSet = pods.iter().map(String::as_str).collect();
                        let found = index.lookup(keys, &pods).await.unwrap();
                        let all = model.lookup(keys, &pods);
                        // Keys are forgotten as a whole, and come back with what was added since.
                        for ((key, entries), (expected, held)) in found.iter().zip(all) {
                            assert_eq!(key, expected);
                            assert!(entries.into_iter().all(|entry| held.contains(entry)));
                        }
                    }
                    Operation::Add(engine_keys, keys, entries) => {
                        index.add(Some(engine_keys), keys, entries).await.unwrap();
                        model.add(engine_keys, keys, entries);
                    }
                    Operation::Evict(keys, key_type, entries) => {
                        // What an engine key maps to may have been forgotten, and then it evicts nothing.
                        let reached: Vec<BlockHash> = match key_type {
                            KeyType::Request => keys.clone(),
                            KeyType::Engine => {
                                let state = index.state();
                                let mapped = keys.iter().filter_map(|key| state.engines.peek(key));
                                mapped.flatten().copied().collect()
                            }
                        };
                        index.evict(keys, *key_type, entries).await.unwrap();
                        model.remove(&reached, entries);
                    }
                    Operation::RequestKey(engine_key) => {
                        drop(index.request_key(*engine_key).await);
                    }
                    Operation::Clear(pod) => {
                        index.clear(pod).await.unwrap();
                        model.clear(pod);
                    }
                }
                let state = index.state();
                assert_eq!(state.used_bytes(), recounted(&state));
                assert!(state.used_bytes() <= budget);
            }
        });
    }
}
