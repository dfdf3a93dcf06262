use proptest::prelude::*;

use super::*;

fn pod(capacity: usize) -> Pod {
    Pod::new(Capacity::Blocks(NonZeroUsize::new(capacity).unwrap()))
}

fn event(stored: &[u64], dropped: &[u64]) -> CacheEvent {
    CacheEvent { stored: stored.to_vec(), dropped: dropped.to_vec() }
}

#[test]
fn stores_what_it_lacks_in_chain_order() {
    let mut pod = pod(10);
    assert_eq!(pod.store(&[1, 2, 3]), event(&[1, 2, 3], &[]));
    assert_eq!(pod.store(&[1, 2, 3]), event(&[], &[]));
    assert_eq!(pod.store(&[1, 2, 4, 5]), event(&[4, 5], &[]));
    assert_eq!(pod.len(), 5);
}

#[test]
fn drops_the_tail_of_the_oldest_chain_first() {
    let mut pod = pod(5);
    pod.store(&[1, 2, 3]);
    pod.store(&[7, 8]);
    assert_eq!(pod.store(&[9]), event(&[9], &[3]));
    assert_eq!(pod.store(&[9, 10]), event(&[10], &[2]));
    assert_eq!(pod.prefix_blocks(&[1, 2, 3]), 1);
}

#[test]
fn a_touched_prefix_outlives_a_chain_that_came_later() {
    let mut pod = pod(5);
    pod.store(&[1, 2, 3]);
    pod.store(&[7, 8]);
    pod.store(&[1, 2]);
    assert_eq!(pod.store(&[9, 10, 11]), event(&[9, 10, 11], &[3, 8, 7]));
    assert_eq!(pod.prefix_blocks(&[1, 2, 3]), 2);
}

#[test]
fn of_a_request_that_exceeds_the_capacity_the_head_remains() {
    let mut pod = pod(2);
    pod.store(&[7]);
    assert_eq!(pod.store(&[1, 2, 3, 4]), event(&[1, 2, 3, 4], &[7, 4, 3]));
    assert_eq!((pod.prefix_blocks(&[1, 2, 3, 4]), pod.len()), (2, 2));
}

#[test]
fn a_prefix_ends_at_the_first_block_that_is_missing() {
    let mut pod = pod(10);
    pod.store(&[1, 2, 4]);
    assert_eq!(pod.prefix_blocks(&[1, 2, 3, 4]), 2);
    assert_eq!(pod.prefix_blocks(&[3, 1, 2]), 0);
    assert_eq!(pod.prefix_blocks(&[]), 0);
}

#[test]
fn a_block_listed_twice_is_stored_once() {
    let mut pod = pod(10);
    let event = pod.store(&[1, 2, 1]);
    assert_eq!((event.stored.len(), pod.len()), (2, 2));
    assert_eq!(pod.prefix_blocks(&[1, 2, 1]), 3);
}

#[test]
fn unlimited_capacity_never_drops() {
    let mut pod = Pod::new(Capacity::Unlimited);
    assert!(pod.store(&(0..10_000).collect::<Vec<_>>()).dropped.is_empty());
    assert_eq!(pod.len(), 10_000);
}

#[test]
fn a_capacity_is_a_positive_number_or_unlimited() {
    assert_eq!("unlimited".parse(), Ok(Capacity::Unlimited));
    assert_eq!("3".parse(), Ok(Capacity::Blocks(NonZeroUsize::new(3).unwrap())));
    for wrong in ["0", "-1", "1.5", "", "none"] {
        assert!(wrong.parse::<Capacity>().is_err(), "{wrong}");
    }
}

/// The rule of the cache in its plainest form: a list from the least to the most recently used.
fn naive_store(held: &mut Vec<u64>, blocks: &[u64], capacity: usize) -> CacheEvent {
    let mut stored = Vec::new();
    for id in blocks.iter().rev() {
        match held.iter().position(|other| other == id) {
            Some(at) => drop(held.remove(at)),
            None => stored.insert(0, *id),
        }
        held.push(*id);
    }
    let dropped = held.drain(..held.len().saturating_sub(capacity)).collect();
    CacheEvent { stored, dropped }
}

proptest! {
    #[test]
    fn does_what_the_naive_list_does(
        capacity in 1_usize..12,
        requests in prop::collection::vec(prop::collection::vec(0_u64..16, 1..8), 1..40),
    ) {
        let (mut pod, mut held) = (pod(capacity), Vec::new());
        for blocks in requests {
            prop_assert_eq!(pod.store(&blocks), naive_store(&mut held, &blocks, capacity));
            prop_assert_eq!(pod.len(), held.len());
            for id in 0..16 {
                prop_assert_eq!(pod.holds(id), held.contains(&id));
            }
        }
    }
}
