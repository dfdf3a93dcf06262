//! What every backend of the KV-block index has to do: llm-d's own cases, and those at the edges of the contract.
//!
//! Each case takes an index that is empty and its own. [`index_suite!`](crate::index_suite!) makes tests of them.

#![expect(missing_docs, reason = "the name of a case says what it shows")]
#![expect(clippy::unwrap_used, reason = "this is what tests are made of: a case fails by a panic")]

use std::{collections::HashMap, future::Future, sync::Arc};

use futures_util::{StreamExt, future::BoxFuture, stream};
use respire_kvblock::{
    BlockHash, Index, IndexError, KeyType, LongestPrefixScorer, PodEntry, PodSet,
};
use tokio::task::JoinSet;

/// Makes a test of every case of the suite. The argument is an expression for a future that opens an empty index: its
/// output is a tuple of the index and of what has to live as long.
#[macro_export]
macro_rules! index_suite {
    ($open:expr) => {
        $crate::index_suite! { @cases tests ($open) }
    };
    (@cases $what:ident $arguments:tt) => {
        $crate::index_suite! { @$what $arguments
            basic_add_and_lookup
            duplicate_pods_are_one_entry_and_tiers_are_two
            filtered_lookup
            evict_leaves_other_tiers
            concurrent_operations
            add_without_engine_keys_maps_nothing
            stress_adding_overlapping_keys
            stress_adds_and_evictions_interleaved
            stress_adds_and_lookups
            stress_evictions_during_lookups
            stress_high_cardinality
            one_engine_key_maps_to_one_request_key
            many_engine_keys_map_to_one_request_key
            one_engine_key_maps_to_many_request_keys
            uneven_numbers_of_keys_are_mapped_as_they_come
            an_engine_key_that_is_named_twice_maps_to_both_in_order
            one_call_maps_an_engine_key_to_more_than_are_kept_of_earlier_ones
            what_a_call_adds_stays_though_an_engine_key_has_too_many
            evicting_a_middle_block_leaves_its_neighbours
            a_mapping_stays_while_another_tier_is_held
            entries_of_several_groups_coexist
            evicting_a_group_leaves_the_others
            evicting_the_last_group_drops_the_mapping
            a_lookup_tells_groups_apart
            clear_removes_a_pod_everywhere
            clear_leaves_other_pods
            clear_removes_every_tier_and_group
            a_cleared_pod_can_be_added_again
            clear_leaves_mappings
            expected_and_confirmed_entries_coexist
            a_key_whose_last_entry_is_evicted_is_empty
            evicting_an_unknown_engine_key_does_nothing
            a_batch_of_evictions_keeps_the_mappings_that_are_needed
            a_batch_of_evictions_by_request_key
            nothing_to_do_is_an_error_for_add_and_evict
            a_lookup_of_nothing_finds_nothing
            a_lookup_ends_at_the_first_gap
            a_lookup_ends_where_the_filter_leaves_nobody
            a_key_may_be_asked_for_twice
            long_lookups_end_at_the_right_key
            every_kind_of_pod_name_comes_back
            scores_add_up_by_tier_and_end_at_a_gap
            an_entry_is_never_without_its_mapping
            one_index_serves_many_tasks_behind_an_arc
        }
    };
    (@tests ($open:expr) $($case:ident)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            let (index, _lives_as_long) = $open.await;
            $crate::index_suite::$case(index).await;
        }
    )*};
    (@table () $($case:ident)*) => {
        &[$((stringify!($case), |index| Box::pin($crate::index_suite::$case(index)))),*]
    };
}

/// A case and its name.
type Case = (&'static str, fn(Shared) -> BoxFuture<'static, ()>);

const CASES: &[Case] = index_suite!(@cases table ());

/// How many cases of [`all_cases`] run at the same time.
const AT_A_TIME: usize = 4;

/// Runs every case of the suite, a few at a time, each with an index that `open` opens, beside what has to live as long. For tests that open it in so many
/// ways that a test of each case would take too long.
///
/// # Panics
///
/// When a case fails; the names of all that do are told.
pub async fn all_cases<L>(open: impl AsyncFn() -> (Shared, L)) {
    let run = async |&(name, case): &Case| {
        let (index, _lives_as_long) = open().await;
        tokio::spawn(case(index)).await.err().map(|_| name)
    };
    let failed = stream::iter(CASES).map(run).buffer_unordered(AT_A_TIME);
    let failed: Vec<&str> = failed.filter_map(std::future::ready).collect().await;
    assert!(failed.is_empty(), "what is said above is of {failed:?}");
}

/// The index of one case.
pub type Shared = Arc<dyn Index>;

/// Block hashes from numbers.
pub fn hashes(numbers: impl IntoIterator<Item = u64>) -> Vec<BlockHash> {
    numbers.into_iter().map(BlockHash).collect()
}

/// An entry in the tier `gpu`.
pub fn gpu(pod: &str) -> PodEntry {
    PodEntry::new(pod, "gpu")
}

/// An entry in the tier `cpu`.
pub fn cpu(pod: &str) -> PodEntry {
    PodEntry::new(pod, "cpu")
}

async fn add(index: &dyn Index, engine: &[u64], request: &[u64], entries: &[PodEntry]) {
    let (engine, request) = (hashes(engine.iter().copied()), hashes(request.iter().copied()));
    index.add(Some(&engine), &request, entries).await.unwrap();
}

async fn evict(index: &dyn Index, engine: &[u64], entries: &[PodEntry]) {
    let engine = hashes(engine.iter().copied());
    index.evict(&engine, KeyType::Engine, entries).await.unwrap();
}

/// The entries of one request key, in order.
pub async fn holders(index: &dyn Index, request: u64) -> Vec<PodEntry> {
    let found = index.lookup(&[BlockHash(request)], &PodSet::all()).await.unwrap();
    let mut entries: Vec<PodEntry> = found.entries(0).map(|entry| (**entry).clone()).collect();
    entries.sort();
    entries
}

/// How many of the keys are found, counted from the first.
async fn found(index: &dyn Index, request: &[BlockHash], pods: &PodSet) -> usize {
    let found = index.lookup(request, pods).await.unwrap();
    assert_eq!(found.keys(), &request[..found.len()]);
    assert!(found.is_complete());
    found.len()
}

/// The request key of an engine key, if it is mapped.
pub async fn mapped(index: &dyn Index, engine: u64) -> Option<u64> {
    match index.request_key(BlockHash(engine)).await {
        Ok(key) => Some(key.0),
        Err(error) => {
            assert!(error.is_not_found(), "{error:?}");
            assert_eq!(error.to_string(), format!("engine key not found: {engine}"));
            None
        }
    }
}

/// Runs as many tasks at once and waits for all; one that panics fails the case.
async fn in_tasks<F, T>(tasks: u64, task: F)
where
    F: Fn(u64) -> T,
    T: Future<Output = ()> + Send + 'static,
{
    let mut running = JoinSet::new();
    for number in 0..tasks {
        running.spawn(task(number));
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
}

pub async fn basic_add_and_lookup(index: Shared) {
    add(&*index, &[55_269_488], &[10_633_516], &[gpu("pod1"), gpu("pod2")]).await;
    let found = index.lookup(&hashes([10_633_516]), &PodSet::all()).await.unwrap();
    assert_eq!((found.len(), found.is_complete()), (1, true));
    assert_eq!(holders(&*index, 10_633_516).await, [gpu("pod1"), gpu("pod2")]);
    assert_eq!(mapped(&*index, 55_269_488).await, Some(10_633_516));
}

pub async fn duplicate_pods_are_one_entry_and_tiers_are_two(index: Shared) {
    add(&*index, &[91_642_125], &[61_519_471], &[gpu("pod1"), gpu("pod2")]).await;
    add(&*index, &[91_642_125], &[61_519_471], &[gpu("pod2"), cpu("pod2"), gpu("pod3")]).await;
    let expected = [gpu("pod1"), cpu("pod2"), gpu("pod2"), gpu("pod3")];
    assert_eq!(holders(&*index, 61_519_471).await, expected);
    add(&*index, &[91_642_125], &[61_519_471], &[gpu("pod3"), gpu("pod3")]).await;
    assert_eq!(holders(&*index, 61_519_471).await, expected);
}

pub async fn filtered_lookup(index: Shared) {
    let key = hashes([93_788_608]);
    add(&*index, &[55_204_205], &[93_788_608], &[gpu("pod1"), gpu("pod2"), cpu("pod3")]).await;
    let pods_among = async |names: &[&str]| {
        let pods: PodSet = names.iter().copied().collect();
        let found = index.lookup(&key, &pods).await.unwrap();
        let mut pods: Vec<_> = found.entries(0).map(|entry| entry.pod_identifier.clone()).collect();
        pods.sort();
        pods
    };
    assert_eq!(pods_among(&["pod1"]).await, ["pod1"]);
    assert_eq!(pods_among(&["pod1", "pod3"]).await, ["pod1", "pod3"]);
    assert!(pods_among(&["pod999"]).await.is_empty());
    assert_eq!(pods_among(&[]).await.len(), 3);
}

pub async fn evict_leaves_other_tiers(index: Shared) {
    add(&*index, &[17_434_655], &[59_244_875], &[gpu("pod1"), gpu("pod2"), cpu("pod3")]).await;
    evict(&*index, &[17_434_655], &[gpu("pod1"), gpu("pod3")]).await;
    assert_eq!(holders(&*index, 59_244_875).await, [gpu("pod2"), cpu("pod3")]);
    assert_eq!(mapped(&*index, 17_434_655).await, Some(59_244_875));
}

pub async fn concurrent_operations(index: Shared) {
    in_tasks(100, |number| {
        let index = Arc::clone(&index);
        async move {
            let pod = [gpu(&format!("pod-{number}"))];
            for step in 0..10 {
                match step % 3 {
                    0 => add(&*index, &[38_894_120], &[72_568_158], &pod).await,
                    1 => assert!(holders(&*index, 72_568_158).await.len() <= 100),
                    _ => evict(&*index, &[38_894_120], &pod).await,
                }
            }
            // Step 9, the last, has added.
        }
    })
    .await;
    assert_eq!(holders(&*index, 72_568_158).await.len(), 100);
    assert_eq!(mapped(&*index, 38_894_120).await, Some(72_568_158));
}

pub async fn add_without_engine_keys_maps_nothing(index: Shared) {
    for engine_keys in [None, Some([].as_slice())] {
        index.add(engine_keys, &hashes([10_633_516]), &[gpu("pod1")]).await.unwrap();
        assert_eq!(holders(&*index, 10_633_516).await, [gpu("pod1")]);
        assert_eq!(mapped(&*index, 10_633_516).await, None);
        index.clear("pod1").await.unwrap();
    }
}

pub async fn stress_adding_overlapping_keys(index: Shared) {
    in_tasks(100, |number| {
        let index = Arc::clone(&index);
        async move {
            let pod = [gpu(&format!("pod-{number}"))];
            for key in 0..10 {
                add(&*index, &[1000 + key], &[2000 + key], &pod).await;
            }
        }
    })
    .await;
    for key in 0..10 {
        assert_eq!(holders(&*index, 2000 + key).await.len(), 100);
        assert_eq!(mapped(&*index, 1000 + key).await, Some(2000 + key));
    }
}

pub async fn stress_adds_and_evictions_interleaved(index: Shared) {
    in_tasks(50, |number| {
        let index = Arc::clone(&index);
        async move {
            let pod = [gpu(&format!("pod-{number}"))];
            for _ in 0..20 {
                add(&*index, &[1, 2, 3], &[11, 12, 13], &pod).await;
                evict(&*index, &[1, 2, 3], &pod).await;
            }
        }
    })
    .await;
    for (engine, request) in [(1, 11), (2, 12), (3, 13)] {
        assert_eq!(holders(&*index, request).await, []);
        assert_eq!(mapped(&*index, engine).await, None);
    }
}

pub async fn stress_adds_and_lookups(index: Shared) {
    let keys = hashes(0..50);
    in_tasks(60, |number| {
        let (index, keys) = (Arc::clone(&index), keys.clone());
        async move {
            let pod = format!("pod-{number}");
            for round in 0..10 {
                if number % 2 == 0 {
                    index.add(Some(&keys), &keys, &[gpu(&pod)]).await.unwrap();
                } else {
                    let seen = index.lookup(&keys, &PodSet::all()).await.unwrap();
                    assert!(seen.iter().all(|(_, entries)| (1..=30).contains(&entries.len())));
                }
                if number % 2 == 0 && round == 9 {
                    let own: PodSet = [pod.as_str()].into_iter().collect();
                    assert_eq!(found(&*index, &keys, &own).await, 50);
                }
            }
        }
    })
    .await;
    assert_eq!(index.lookup(&keys, &PodSet::all()).await.unwrap().prefix_lengths().len(), 30);
}

pub async fn stress_evictions_during_lookups(index: Shared) {
    let keys = hashes(100..120);
    let stays = [gpu("stays")];
    index.add(Some(&keys), &keys, &stays).await.unwrap();
    in_tasks(40, |number| {
        let (index, keys) = (Arc::clone(&index), keys.clone());
        async move {
            let pod = [gpu(&format!("pod-{number}"))];
            for _ in 0..10 {
                if number % 2 == 0 {
                    index.add(Some(&keys), &keys, &pod).await.unwrap();
                    index.evict(&keys, KeyType::Engine, &pod).await.unwrap();
                } else {
                    let seen = index.lookup(&keys, &PodSet::all()).await.unwrap();
                    assert_eq!(seen.prefix_lengths().get("stays"), Some(&20));
                }
            }
        }
    })
    .await;
    let left = index.lookup(&keys, &PodSet::all()).await.unwrap();
    assert!(left.iter().all(|(_, entries)| entries.len() == 1));
    for key in &keys {
        assert_eq!(index.request_key(*key).await.unwrap(), *key);
    }
}

pub async fn stress_high_cardinality(index: Shared) {
    in_tasks(120, |number| {
        let index = Arc::clone(&index);
        async move {
            let pod = gpu(&format!("pod-{}", number % 40));
            let keys = hashes((0..1000).filter(|key| key % 40 == number % 40));
            match number / 40 {
                0 => index.add(Some(&keys), &keys, &[pod]).await.unwrap(),
                1 => assert!(found(&*index, &keys, &PodSet::all()).await <= keys.len()),
                _ => {
                    index.add(None, &keys, &[pod.with_speculative()]).await.unwrap();
                }
            }
        }
    })
    .await;
    let all = index.lookup(&hashes(0..1000), &PodSet::all()).await.unwrap();
    assert_eq!(all.len(), 1000);
    assert!(all.iter().all(|(_, entries)| entries.len() == 2));
}

pub async fn one_engine_key_maps_to_one_request_key(index: Shared) {
    add(&*index, &[1, 2, 3], &[11, 12, 13], &[gpu("pod1")]).await;
    for (engine, request) in [(1, 11), (2, 12), (3, 13)] {
        assert_eq!(mapped(&*index, engine).await, Some(request));
        evict(&*index, &[engine], &[gpu("pod1")]).await;
        assert_eq!(holders(&*index, request).await, []);
        assert_eq!(mapped(&*index, engine).await, None);
    }
}

pub async fn many_engine_keys_map_to_one_request_key(index: Shared) {
    add(&*index, &[1, 2, 3, 4], &[11], &[gpu("pod1")]).await;
    for engine in 1..=4 {
        assert_eq!(mapped(&*index, engine).await, Some(11));
    }
    // Any one of them takes the pod out; the mappings of the others wait for their own eviction.
    evict(&*index, &[3], &[gpu("pod1")]).await;
    assert_eq!(holders(&*index, 11).await, []);
    assert_eq!(mapped(&*index, 3).await, None);
    for engine in [1, 2, 4] {
        assert_eq!(mapped(&*index, engine).await, Some(11));
    }
    evict(&*index, &[1, 2, 4], &[gpu("pod1")]).await;
    for engine in 1..=4 {
        assert_eq!(mapped(&*index, engine).await, None);
    }
}

pub async fn one_engine_key_maps_to_many_request_keys(index: Shared) {
    add(&*index, &[1], &[11, 12, 13, 14], &[gpu("pod1"), gpu("pod2")]).await;
    assert_eq!(mapped(&*index, 1).await, Some(14));
    evict(&*index, &[1], &[gpu("pod1")]).await;
    for request in 11..=14 {
        assert_eq!(holders(&*index, request).await, [gpu("pod2")]);
    }
    assert_eq!(mapped(&*index, 1).await, Some(14));
    // Three of four empty is not empty.
    index.evict(&hashes([11, 12, 14]), KeyType::Request, &[gpu("pod2")]).await.unwrap();
    evict(&*index, &[1], &[gpu("pod1")]).await;
    assert_eq!(mapped(&*index, 1).await, Some(14));
    evict(&*index, &[1], &[gpu("pod2")]).await;
    assert_eq!(holders(&*index, 13).await, []);
    assert_eq!(mapped(&*index, 1).await, None);
}

pub async fn uneven_numbers_of_keys_are_mapped_as_they_come(index: Shared) {
    add(&*index, &[1, 2, 3], &[11, 12], &[gpu("pod1")]).await;
    for (engine, request) in [(1, 11), (2, 11), (3, 12)] {
        assert_eq!(mapped(&*index, engine).await, Some(request));
    }
    add(&*index, &[4, 5], &[21, 22, 23], &[gpu("pod1")]).await;
    for (engine, last) in [(4, 22), (5, 23)] {
        assert_eq!(mapped(&*index, engine).await, Some(last));
    }
    evict(&*index, &[4], &[gpu("pod1")]).await;
    assert_eq!(holders(&*index, 21).await, []);
    assert_eq!(holders(&*index, 22).await, []);
    assert_eq!(holders(&*index, 23).await, [gpu("pod1")]);
}

pub async fn an_engine_key_that_is_named_twice_maps_to_both_in_order(index: Shared) {
    add(&*index, &[7, 8, 7], &[99, 55, 100], &[gpu("pod1")]).await;
    // The last in the list, not in the dictionary.
    assert_eq!(mapped(&*index, 7).await, Some(100));
    assert_eq!(mapped(&*index, 8).await, Some(55));
    evict(&*index, &[7], &[gpu("pod1")]).await;
    assert_eq!(holders(&*index, 99).await, []);
    assert_eq!(holders(&*index, 100).await, []);
    assert_eq!(holders(&*index, 55).await, [gpu("pod1")]);
    assert_eq!(mapped(&*index, 7).await, None);
}

pub async fn one_call_maps_an_engine_key_to_more_than_are_kept_of_earlier_ones(index: Shared) {
    let request = hashes(0..1400);
    for _ in 0..2 {
        index.add(Some(&hashes([7])), &request, &[gpu("pod1")]).await.unwrap();
        assert_eq!(found(&*index, &request, &PodSet::all()).await, 1400);
        assert_eq!(mapped(&*index, 7).await, Some(1399));
    }
    evict(&*index, &[7], &[gpu("pod1")]).await;
    for key in [0, 375, 376, 1023, 1399] {
        assert_eq!(holders(&*index, key).await, [], "{key}");
    }
    assert_eq!(mapped(&*index, 7).await, None);
}

pub async fn what_a_call_adds_stays_though_an_engine_key_has_too_many(index: Shared) {
    // Few keys and many, whichever of the two is written first: the block, or what pushes it off.
    for (round, count, pushes_at) in [(1, 2, 0), (2, 2, 1), (3, 600, 0), (4, 600, 599)] {
        let first = round * 100_000;
        let block = first;
        let full = hashes(first..first + 1024);
        index.add(Some(&hashes([first])), &full, &[gpu("pod1")]).await.unwrap();

        let mut engine = hashes(first + 5000..first + 5000 + count);
        let mut request = hashes(first + 7000..first + 7000 + count);
        engine[pushes_at] = BlockHash(first);
        let other_end = request.len() - 1 - pushes_at;
        request[other_end] = BlockHash(block);
        index.add(Some(&engine), &request, &[gpu("pod2")]).await.unwrap();
        assert_eq!(found(&*index, &request, &PodSet::all()).await, request.len(), "{round}");
        assert_eq!(holders(&*index, block).await, [gpu("pod1"), gpu("pod2")], "{round}");
        assert_eq!(mapped(&*index, engine[other_end].0).await, Some(block));
        // Both engine keys reach it.
        evict(&*index, &[first], &[gpu("pod1")]).await;
        assert_eq!(holders(&*index, block).await, [gpu("pod2")], "{round}");
        evict(&*index, &[engine[other_end].0], &[gpu("pod2")]).await;
        assert_eq!(holders(&*index, block).await, [], "{round}");
    }
}

pub async fn evicting_a_middle_block_leaves_its_neighbours(index: Shared) {
    add(&*index, &[1, 2, 3], &[11, 12, 13], &[gpu("pod1")]).await;
    evict(&*index, &[2], &[gpu("pod1")]).await;
    assert_eq!(holders(&*index, 11).await, [gpu("pod1")]);
    assert_eq!(holders(&*index, 12).await, []);
    assert_eq!(holders(&*index, 13).await, [gpu("pod1")]);
    assert_eq!(mapped(&*index, 1).await, Some(11));
    assert_eq!(mapped(&*index, 2).await, None);
    assert_eq!(mapped(&*index, 3).await, Some(13));
}

pub async fn a_mapping_stays_while_another_tier_is_held(index: Shared) {
    add(&*index, &[1], &[11], &[gpu("pod1"), cpu("pod1")]).await;
    evict(&*index, &[1], &[gpu("pod1")]).await;
    assert_eq!(holders(&*index, 11).await, [cpu("pod1")]);
    assert_eq!(mapped(&*index, 1).await, Some(11));
    evict(&*index, &[1], &[cpu("pod1")]).await;
    assert_eq!(holders(&*index, 11).await, []);
    assert_eq!(mapped(&*index, 1).await, None);
}

pub async fn entries_of_several_groups_coexist(index: Shared) {
    let entries = [gpu("pod1"), gpu("pod1").with_group(0), gpu("pod1").with_group(1)];
    add(&*index, &[1], &[11], &entries).await;
    assert_eq!(holders(&*index, 11).await, entries);
    add(&*index, &[1], &[11], &entries[1..2]).await;
    assert_eq!(holders(&*index, 11).await, entries);
}

pub async fn evicting_a_group_leaves_the_others(index: Shared) {
    add(&*index, &[1], &[11], &[gpu("pod1").with_group(0), gpu("pod1").with_group(1)]).await;
    evict(&*index, &[1], &[gpu("pod1").with_group(0), gpu("pod1")]).await;
    assert_eq!(holders(&*index, 11).await, [gpu("pod1").with_group(1)]);
    assert_eq!(mapped(&*index, 1).await, Some(11));
}

pub async fn evicting_the_last_group_drops_the_mapping(index: Shared) {
    add(&*index, &[1], &[11], &[gpu("pod1").with_group(0), gpu("pod1").with_group(1)]).await;
    evict(&*index, &[1], &[gpu("pod1").with_group(0)]).await;
    evict(&*index, &[1], &[gpu("pod1").with_group(1)]).await;
    assert_eq!(holders(&*index, 11).await, []);
    assert_eq!(mapped(&*index, 1).await, None);
}

pub async fn a_lookup_tells_groups_apart(index: Shared) {
    let entries = [
        gpu("pod1").with_group(-1),
        gpu("pod1").with_group(7),
        gpu("pod2"),
        cpu("pod2").with_group(0),
    ];
    add(&*index, &[1], &[11], &entries).await;
    let mut expected = entries.to_vec();
    expected.sort();
    assert_eq!(holders(&*index, 11).await, expected);
}

pub async fn clear_removes_a_pod_everywhere(index: Shared) {
    // More keys than a page of a scan.
    let keys = hashes(1..=3000);
    index.add(Some(&keys), &keys, &[gpu("pod1")]).await.unwrap();
    index.clear("pod1").await.unwrap();
    for key in [1, 2, 1500, 2999, 3000] {
        assert_eq!(holders(&*index, key).await, []);
    }
    // Nothing is left anywhere: each key is missing now, in whatever order they are asked for.
    for key in keys {
        assert_eq!(found(&*index, &[key], &PodSet::all()).await, 0);
    }
    index.clear("pod1").await.unwrap();
}

pub async fn clear_leaves_other_pods(index: Shared) {
    add(&*index, &[1, 2], &[11, 12], &[gpu("pod1"), gpu("pod2")]).await;
    add(&*index, &[3], &[13], &[gpu("pod10")]).await;
    index.clear("pod1").await.unwrap();
    for request in [11, 12] {
        assert_eq!(holders(&*index, request).await, [gpu("pod2")]);
    }
    assert_eq!(holders(&*index, 13).await, [gpu("pod10")]);
    index.clear("pod").await.unwrap();
    index.clear("").await.unwrap();
    assert_eq!(holders(&*index, 13).await, [gpu("pod10")]);
}

pub async fn clear_removes_every_tier_and_group(index: Shared) {
    let entries = [
        gpu("pod1"),
        cpu("pod1"),
        gpu("pod1").with_group(0),
        gpu("pod1").with_group(3).with_speculative(),
        cpu("pod1").with_speculative(),
        gpu("pod2").with_group(0),
    ];
    add(&*index, &[1], &[11], &entries).await;
    index.clear("pod1").await.unwrap();
    assert_eq!(holders(&*index, 11).await, [gpu("pod2").with_group(0)]);
}

pub async fn a_cleared_pod_can_be_added_again(index: Shared) {
    add(&*index, &[1], &[11], &[gpu("pod1")]).await;
    index.clear("pod1").await.unwrap();
    assert_eq!(holders(&*index, 11).await, []);
    add(&*index, &[1], &[11], &[gpu("pod1")]).await;
    assert_eq!(holders(&*index, 11).await, [gpu("pod1")]);
    assert_eq!(mapped(&*index, 1).await, Some(11));
}

pub async fn clear_leaves_mappings(index: Shared) {
    add(&*index, &[1], &[11], &[gpu("pod1")]).await;
    index.clear("pod1").await.unwrap();
    assert_eq!(mapped(&*index, 1).await, Some(11));
    // The next eviction finds nothing there and drops it.
    evict(&*index, &[1], &[gpu("pod1")]).await;
    assert_eq!(mapped(&*index, 1).await, None);
}

pub async fn expected_and_confirmed_entries_coexist(index: Shared) {
    let expected = gpu("pod1").with_speculative();
    add(&*index, &[1], &[11], &[gpu("pod1")]).await;
    index.add(None, &hashes([11]), std::slice::from_ref(&expected)).await.unwrap();
    assert_eq!(holders(&*index, 11).await, [gpu("pod1"), expected.clone()]);
    index.evict(&hashes([11]), KeyType::Request, &[expected]).await.unwrap();
    assert_eq!(holders(&*index, 11).await, [gpu("pod1")]);
    assert_eq!(mapped(&*index, 1).await, Some(11));
}

pub async fn a_key_whose_last_entry_is_evicted_is_empty(index: Shared) {
    let expected = [gpu("pod1").with_speculative()];
    index.add(None, &hashes([11]), &expected).await.unwrap();
    index.evict(&hashes([11]), KeyType::Request, &expected).await.unwrap();
    let nothing = index.lookup(&hashes([11]), &PodSet::all()).await.unwrap();
    assert!(nothing.is_empty() && nothing.is_complete());
    index.evict(&hashes([11]), KeyType::Request, &expected).await.unwrap();
}

pub async fn evicting_an_unknown_engine_key_does_nothing(index: Shared) {
    add(&*index, &[1], &[11], &[gpu("pod1")]).await;
    evict(&*index, &[404], &[gpu("pod1")]).await;
    // A request key is not an engine key.
    evict(&*index, &[11], &[gpu("pod1")]).await;
    index.evict(&hashes([1]), KeyType::Request, &[gpu("pod1")]).await.unwrap();
    assert_eq!(holders(&*index, 11).await, [gpu("pod1")]);
    assert_eq!(mapped(&*index, 1).await, Some(11));
}

pub async fn a_batch_of_evictions_keeps_the_mappings_that_are_needed(index: Shared) {
    add(&*index, &[1, 2, 3], &[11, 12, 13], &[gpu("pod1")]).await;
    add(&*index, &[2], &[12], &[gpu("pod2")]).await;
    evict(&*index, &[1, 404, 2, 2, 3], &[gpu("pod1")]).await;
    for request in [11, 13] {
        assert_eq!(holders(&*index, request).await, []);
    }
    assert_eq!(holders(&*index, 12).await, [gpu("pod2")]);
    assert_eq!(mapped(&*index, 1).await, None);
    assert_eq!(mapped(&*index, 2).await, Some(12));
    assert_eq!(mapped(&*index, 3).await, None);
    evict(&*index, &[2, 1], &[gpu("pod2")]).await;
    assert_eq!(mapped(&*index, 2).await, None);
    // A large event, with more keys than one script looks at.
    let (engine, request) = (hashes(10_000..11_500), hashes(20_000..21_500));
    index.add(Some(&engine), &request, &[gpu("pod1"), gpu("pod2")]).await.unwrap();
    index.evict(&engine, KeyType::Engine, &[gpu("pod1")]).await.unwrap();
    let left = index.lookup(&request, &PodSet::all()).await.unwrap();
    assert_eq!(left.prefix_lengths(), HashMap::from([("pod2", 1500)]));
    index.evict(&engine, KeyType::Engine, &[gpu("pod2")]).await.unwrap();
    for at in [0, 511, 512, 1499] {
        assert_eq!(holders(&*index, request[at].0).await, []);
        assert_eq!(mapped(&*index, engine[at].0).await, None);
    }
}

pub async fn a_batch_of_evictions_by_request_key(index: Shared) {
    add(&*index, &[1, 2], &[11, 12], &[gpu("pod1"), gpu("pod2")]).await;
    let keys = hashes([11, 404, 12, 11]);
    index.evict(&keys, KeyType::Request, &[gpu("pod1"), cpu("pod2")]).await.unwrap();
    for request in [11, 12] {
        assert_eq!(holders(&*index, request).await, [gpu("pod2")]);
    }
    index.evict(&keys, KeyType::Request, &[gpu("pod2")]).await.unwrap();
    // Mappings are not touched by request keys.
    assert_eq!(mapped(&*index, 1).await, Some(11));
}

pub async fn nothing_to_do_is_an_error_for_add_and_evict(index: Shared) {
    fn refused(outcome: Result<(), IndexError>, text: &str) {
        let error = outcome.unwrap_err();
        assert!(error.is_invalid_input(), "{error:?}");
        assert_eq!(error.to_string(), text);
    }
    let (keys, pods) = (hashes([1]), [gpu("pod1")]);
    const ADD: &str = "no keys or entries provided for adding to index";
    refused(index.add(Some(&keys), &[], &pods).await, ADD);
    refused(index.add(Some(&keys), &keys, &[]).await, ADD);
    refused(index.add(None, &[], &[]).await, ADD);
    const EVICT: &str = "no keys or entries provided for eviction from index";
    for key_type in [KeyType::Engine, KeyType::Request] {
        refused(index.evict(&keys, key_type, &[]).await, EVICT);
        refused(index.evict(&[], key_type, &pods).await, EVICT);
    }
    assert_eq!(mapped(&*index, 1).await, None);
}

pub async fn a_lookup_of_nothing_finds_nothing(index: Shared) {
    add(&*index, &[1], &[11], &[gpu("pod1")]).await;
    let nothing = index.lookup(&[], &PodSet::all()).await.unwrap();
    assert!(nothing.is_empty() && nothing.is_complete());
}

pub async fn a_lookup_ends_at_the_first_gap(index: Shared) {
    add(&*index, &[1, 2, 4], &[11, 12, 14], &[gpu("pod1")]).await;
    assert_eq!(found(&*index, &hashes([11, 12, 13, 14]), &PodSet::all()).await, 2);
    assert_eq!(found(&*index, &hashes([13, 11]), &PodSet::all()).await, 0);
    assert_eq!(found(&*index, &hashes([14, 12, 11]), &PodSet::all()).await, 3);
}

pub async fn a_lookup_ends_where_the_filter_leaves_nobody(index: Shared) {
    add(&*index, &[1, 2, 3], &[11, 12, 13], &[gpu("pod1")]).await;
    add(&*index, &[1, 3], &[11, 13], &[gpu("pod2")]).await;
    let only: PodSet = ["pod2"].into_iter().collect();
    assert_eq!(found(&*index, &hashes([11, 12, 13]), &only).await, 1);
    assert_eq!(found(&*index, &hashes([11, 13]), &only).await, 2);
    assert_eq!(found(&*index, &hashes([11, 12, 13]), &PodSet::all()).await, 3);
}

pub async fn a_key_may_be_asked_for_twice(index: Shared) {
    add(&*index, &[1], &[11], &[gpu("pod1"), gpu("pod2")]).await;
    let found = index.lookup(&hashes([11, 11, 11]), &PodSet::all()).await.unwrap();
    assert_eq!(found.len(), 3);
    assert_eq!(found.prefix_lengths(), HashMap::from([("pod1", 3), ("pod2", 3)]));
}

/// Around the ends of the chunks that a backend on a server asks in.
pub async fn long_lookups_end_at_the_right_key(index: Shared) {
    let keys = hashes(1_000_000..1_005_000);
    for depth in [0, 1, 63, 64, 65, 319, 320, 321, 1343, 1344, 1345, 2368, 4999, 5000] {
        index.clear("deep").await.unwrap();
        if depth > 0 {
            index.add(None, &keys[..depth], &[gpu("deep")]).await.unwrap();
        }
        if depth + 1 < keys.len() {
            // Something behind the gap.
            index.add(None, &keys[depth + 1..], &[gpu("deep")]).await.unwrap();
        }
        assert_eq!(found(&*index, &keys, &PodSet::all()).await, depth);
    }
}

pub async fn every_kind_of_pod_name_comes_back(index: Shared) {
    let names = [
        "10.0.0.1:8000",
        "[2001:db8::1]:8000",
        "",
        "a@b",
        "{brace",
        "quote\"backslash\\slash/",
        "<script>&amp;",
        "line\u{2028}paragraph\u{2029}",
        "tab\tnewline\nbell\u{7}null\0",
        "*",
        "a*b?c[d]",
        "Ü漢字\u{1f600}",
    ];
    for (name, key) in names.into_iter().zip(100..) {
        let entry = PodEntry::new(name, format!("tier[{name}]"));
        let other = gpu("other");
        add(&*index, &[key], &[key], &[entry.clone(), other.clone()]).await;
        assert!(holders(&*index, key).await.contains(&entry), "{name:?}");
        evict(&*index, &[key], std::slice::from_ref(&entry)).await;
        assert_eq!(holders(&*index, key).await, std::slice::from_ref(&other), "{name:?}");
        add(&*index, &[key], &[key], &[entry]).await;
        index.clear(name).await.unwrap();
        assert_eq!(holders(&*index, key).await, [other], "{name:?}");
    }
}

pub async fn scores_add_up_by_tier_and_end_at_a_gap(index: Shared) {
    let keys = hashes([1001, 1002, 1003, 1004]);
    add(&*index, &[1, 2, 3], &[1001, 1002, 1003], &[gpu("a")]).await;
    add(&*index, &[1, 3], &[1001, 1003], &[gpu("b")]).await;
    add(&*index, &[1], &[1001], &[cpu("c")]).await;
    add(&*index, &[2], &[1002], &[cpu("c"), gpu("c")]).await;
    let found = index.lookup(&keys, &PodSet::all()).await.unwrap();
    let expected = HashMap::from([("a".into(), 3.0), ("b".into(), 1.0), ("c".into(), 1.8)]);
    assert_eq!(LongestPrefixScorer::default().score(&keys, &found), expected);
}

/// Two pods share a block, and add and evict it in turn, each knowing nothing of the other. Whenever a pod has added, the
/// engine key must lead to its entry.
pub async fn an_entry_is_never_without_its_mapping(index: Shared) {
    in_tasks(4, |number| {
        let index = Arc::clone(&index);
        async move {
            let pod = format!("pod-{number}");
            let own: PodSet = [pod.as_str()].into_iter().collect();
            for _ in 0..100 {
                add(&*index, &[1], &[11], &[gpu(&pod)]).await;
                assert_eq!(mapped(&*index, 1).await, Some(11));
                evict(&*index, &[1], &[gpu(&pod)]).await;
                assert_eq!(found(&*index, &hashes([11]), &own).await, 0);
            }
        }
    })
    .await;
    assert_eq!(holders(&*index, 11).await, []);
    assert_eq!(mapped(&*index, 1).await, None);
}

pub async fn one_index_serves_many_tasks_behind_an_arc(index: Shared) {
    async fn through(index: impl Index) -> usize {
        index.add(None, &hashes([1]), &[gpu("pod1")]).await.unwrap();
        index.lookup(&hashes([1]), &PodSet::all()).await.unwrap().len()
    }
    assert_eq!(through(Arc::clone(&index)).await, 1);
    assert_eq!(through(index).await, 1);
}
