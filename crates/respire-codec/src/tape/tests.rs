use alloc::sync::Arc;
use alloc::vec::Vec;

use super::*;

fn tape(nodes: usize) -> Tape {
    Tape { nodes: vec![Node { off: 7, aux: 7 }; nodes], entries: Vec::new() }
}

#[test]
fn a_tape_comes_back_when_nobody_holds_it() {
    let mut pool = TapePool::default();
    let first = pool.seal(&mut tape(3));
    assert_eq!(first.nodes.len(), 3);
    let address = Arc::as_ptr(&first);
    drop(first);
    let second = pool.seal(&mut tape(2));
    assert_eq!(Arc::as_ptr(&second), address);
    assert_eq!(second.nodes.len(), 2);
}

#[test]
fn a_tape_that_is_held_is_left_alone() {
    let mut pool = TapePool::default();
    let held = pool.seal(&mut tape(3));
    let other = pool.seal(&mut tape(2));
    assert_eq!((held.nodes.len(), other.nodes.len()), (3, 2));
}

#[test]
fn a_tape_that_is_held_for_ever_does_not_hide_the_others() {
    let mut pool = TapePool::default();
    let _held: Vec<Arc<Tape>> = (0..3).map(|_| pool.seal(&mut tape(1))).collect();
    for _ in 0..100 {
        pool.seal(&mut tape(1));
    }
    assert!(pool.tapes.len() <= 5, "{} tapes", pool.tapes.len());
}

#[test]
fn what_is_built_next_starts_empty() {
    let mut pool = TapePool::default();
    let mut building = tape(5);
    drop(pool.seal(&mut building));
    assert!(building.nodes.is_empty());
    building.nodes.push(Node { off: 1, aux: 1 });
    drop(pool.seal(&mut building));
    assert!(building.nodes.is_empty());
    assert!(building.nodes.capacity() >= 5, "the memory is used again");
}

#[test]
fn only_so_many_tapes_are_remembered() {
    let mut pool = TapePool::default();
    let held: Vec<Arc<Tape>> = (0..1_000).map(|_| pool.seal(&mut tape(1))).collect();
    assert_eq!(pool.tapes.len(), TAPES_MAX);
    assert!(held.iter().all(|tape| tape.nodes.len() == 1));
}

#[test]
fn idle_tapes_that_are_large_are_let_go() {
    let mut pool = TapePool::default();
    let held: Vec<Arc<Tape>> = (0..20).map(|_| pool.seal(&mut tape(IDLE_NODES_MAX + 1))).collect();
    drop(held);
    for _ in 0..20 {
        pool.seal(&mut tape(1));
    }
    let large = pool.tapes.iter().filter(|tape| tape.nodes.capacity() > IDLE_NODES_MAX).count();
    assert!(large <= 1, "{large} large tapes are kept");
}

#[test]
fn a_large_tape_that_is_not_needed_any_more_is_let_go() {
    let mut pool = TapePool::default();
    let mut building = tape(IDLE_NODES_MAX + 1);
    drop(pool.seal(&mut building));
    for _ in 0..2 * SPIKE_OVER {
        building.nodes.push(Node { off: 1, aux: 1 });
        drop(pool.seal(&mut building));
    }
    let kept = pool.tapes.iter().map(|tape| tape.capacity()).max();
    assert!(kept.max(Some(building.capacity())) <= Some(IDLE_NODES_MAX));
}

#[test]
fn a_large_tape_that_is_needed_now_and_then_is_kept() {
    let mut pool = TapePool::default();
    let mut building = Tape::default();
    let mut largest = Vec::new();
    for round in 0..10 * SPIKE_OVER {
        let nodes = if round % (SPIKE_OVER / 2) == 0 { IDLE_NODES_MAX + 1 } else { 1 };
        building.nodes.extend(vec![Node { off: 1, aux: 1 }; nodes]);
        let sealed = pool.seal(&mut building);
        largest.push(sealed.capacity().max(building.capacity()));
    }
    assert!(largest.iter().all(|capacity| *capacity > IDLE_NODES_MAX));
}
