use super::*;

fn request(timestamp_ms: f64, input_length: u64) -> Request {
    Request { timestamp_ms, input_length, output_length: 1, hash_ids: vec![1] }
}

/// A router at 512 tokens, so one block, a second.
fn router(route: Route, free_at: &[f64]) -> Router {
    let mut router = Router::new(route, free_at.len(), 512.0);
    router.free_at.copy_from_slice(free_at);
    router
}

#[test]
fn index_weighs_the_queue_against_the_uncached_tokens() {
    // At 10 s, a prompt of 4 blocks: pod 0 waits 3 s and computes 1, pod 1 waits 0 and computes 4.
    let mut router = router(Route::Index, &[13.0, 9.0]);
    assert_eq!(router.choose(&request(10_000.0, 2048), &[3, 0]), 1);
    // With the whole prompt cached, pod 0 takes 3 s in all.
    assert_eq!(router.choose(&request(10_000.0, 2048), &[4, 0]), 0);
}

#[test]
fn index_breaks_ties_by_the_lowest_free_at_then_by_number() {
    // 4 s each: pod 0 waits 3 and computes 1; pods 1 and 2 wait 1 and compute 3.
    let mut three = router(Route::Index, &[13.0, 11.0, 11.0]);
    assert_eq!(three.choose(&request(10_000.0, 2048), &[3, 1, 1]), 1);
    // Two idle pods: the one that has been idle for longer.
    let mut idle = router(Route::Index, &[8.0, 7.0, 7.0]);
    assert_eq!(idle.choose(&request(10_000.0, 2048), &[0, 0, 0]), 1);
}

#[test]
fn cached_blocks_cannot_count_for_more_than_the_prompt() {
    // The last block is partly filled: 2 blocks hold 1,024 tokens of a prompt of 600.
    let mut router = router(Route::Index, &[0.0, 0.0]);
    assert_eq!(router.assign(0, &request(5_000.0, 600), 2), 0.0);
    assert_eq!(router.free_at[0], 5.0);
}

#[test]
fn load_takes_the_shortest_queue_and_ignores_how_long_a_pod_is_idle() {
    let mut router = router(Route::Load, &[12.0, 11.0, 9.0, 3.0]);
    assert_eq!(router.choose(&request(10_000.0, 2048), &[4, 0, 0, 4]), 2);
    router.free_at = vec![12.0, 11.0, 11.0, 13.0];
    assert_eq!(router.choose(&request(10_000.0, 2048), &[4, 0, 0, 4]), 1);
}

#[test]
fn round_robin_starts_at_pod_0_and_ignores_everything() {
    let mut router = router(Route::RoundRobin, &[99.0, 0.0, 0.0]);
    let mut choose = || router.choose(&request(0.0, 2048), &[0, 0, 4]);
    assert_eq!([choose(), choose(), choose(), choose()], [0, 1, 2, 0]);
}

#[test]
fn a_pod_is_busy_from_arrival_or_from_the_end_of_its_queue() {
    let mut router = router(Route::Index, &[0.0]);
    // Idle until 10 s, then 3 blocks at one a second.
    assert_eq!(router.assign(0, &request(10_000.0, 2048), 1), 3.0);
    assert_eq!(router.free_at[0], 13.0);
    // At 11 s there are 2 s to wait, and 4 blocks to compute.
    assert_eq!(router.assign(0, &request(11_000.0, 2048), 0), 6.0);
    assert_eq!(router.free_at[0], 17.0);
}

#[test]
fn routes_are_named_as_they_are_chosen() {
    use clap::ValueEnum;
    for route in Route::value_variants() {
        assert_eq!(route.to_possible_value().unwrap().get_name(), route.name());
    }
}
