use std::collections::HashSet;

use super::*;
use crate::stats::nearest_rank;

fn workload(seed: u64, requests: usize) -> Vec<Request> {
    Generator::new(seed).take(requests).collect()
}

/// How many of a request's first blocks an endless cache would hold.
fn hits(seen: &HashSet<u64>, request: &Request) -> usize {
    request.hash_ids.iter().take_while(|id| seen.contains(id)).count()
}

#[test]
fn the_same_seed_makes_the_same_workload_and_another_one_another() {
    assert_eq!(workload(1, 2000), workload(1, 2000));
    assert_ne!(workload(1, 50), workload(2, 50));
}

#[test]
fn what_it_makes_is_a_valid_trace() {
    let mut previous = 0.0;
    for request in workload(3, 5000) {
        assert!(request.timestamp_ms >= previous);
        previous = request.timestamp_ms;
        assert!(request.output_length > 0);
        assert_eq!(request.hash_ids.len() as u64, request.input_length.div_ceil(BLOCK_TOKENS));
        let distinct: HashSet<_> = request.hash_ids.iter().collect();
        assert_eq!(distinct.len(), request.hash_ids.len());
    }
}

#[test]
fn a_block_always_follows_the_same_block_so_that_ids_stand_for_chains() {
    let mut parents = std::collections::HashMap::new();
    for request in workload(4, 5000) {
        let mut parent = None;
        for id in request.hash_ids {
            assert_eq!(*parents.entry(id).or_insert(parent), parent, "the parent of {id}");
            parent = Some(id);
        }
    }
}

#[test]
fn sessions_share_system_prompts_and_have_several_turns() {
    let workload = workload(5, 5000);
    let first = workload[0].hash_ids[0];
    assert!(workload.iter().all(|request| request.hash_ids[0] == first));

    let mut seen = HashSet::new();
    let (mut shared_prompts, mut later_turns) = (0, 0);
    for request in &workload {
        match hits(&seen, request) {
            0..=1 => {}
            2..=9 => shared_prompts += 1,
            _ => later_turns += 1,
        }
        seen.extend(request.hash_ids.iter().copied());
    }
    assert!(shared_prompts > 500 && later_turns > 500, "{shared_prompts}, {later_turns}");
}

#[test]
fn has_about_the_shape_of_the_conversation_trace() {
    for seed in [0, 1, 2] {
        let workload = workload(seed, REQUESTS_DEFAULT as usize);
        let mut seen = HashSet::new();
        let (mut hit_blocks, mut blocks) = (0, 0);
        for request in &workload {
            hit_blocks += hits(&seen, request);
            blocks += request.hash_ids.len();
            seen.extend(request.hash_ids.iter().copied());
        }
        let mut tokens: Vec<_> = workload.iter().map(|request| request.input_length).collect();
        tokens.sort_unstable();
        let mean = tokens.iter().sum::<u64>() / tokens.len() as u64;
        let seconds = workload[workload.len() - 1].timestamp_ms / 1000.0;
        let shape = [
            // What is measured, the trace's value, and how far from it we may be.
            ("requests a second", workload.len() as f64 / seconds, 3.4, 0.3),
            ("tokens, mean", mean as f64, 12_035.0, 1_500.0),
            ("tokens, median", nearest_rank(&tokens, 0.5).unwrap() as f64, 6_909.0, 1_000.0),
            ("tokens, p90", nearest_rank(&tokens, 0.9).unwrap() as f64, 27_367.0, 4_000.0),
            ("tokens, p99", nearest_rank(&tokens, 0.99).unwrap() as f64, 85_401.0, 12_000.0),
            ("block hit rate", hit_blocks as f64 / blocks as f64, 0.366, 0.06),
        ];
        println!("seed {seed}: {shape:?}");
        for (what, value, expected, tolerance) in shape {
            assert!((value - expected).abs() < tolerance, "seed {seed}: {what} is {value}");
        }
    }
}
