use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

#[test]
fn request_and_engine_keys_never_collide_and_are_never_empty() {
    for tag in [0, 1, u64::MAX] {
        let keys = Keys::new(tag);
        let ids = (0..100_000).chain(BLOCK_ID_MAX - 1000..=BLOCK_ID_MAX);
        let mut seen = HashSet::from([BlockHash::EMPTY]);
        for id in ids {
            assert!(seen.insert(keys.request_key(id)), "request key of {id}, tag {tag}");
            assert!(seen.insert(keys.engine_key(id)), "engine key of {id}, tag {tag}");
        }
    }
}

#[test]
fn neighbouring_blocks_have_keys_that_differ_in_about_half_of_their_bits() {
    let keys = Keys::new(7);
    let distances =
        (0..1000).map(|id| (keys.request_key(id).0 ^ keys.request_key(id + 1).0).count_ones());
    let mean = f64::from(distances.sum::<u32>()) / 1000.0;
    assert!((30.0..34.0).contains(&mean), "{mean}");
}

#[test]
fn another_tag_means_other_keys_and_other_pods() {
    let (one, other) = (Keys::new(1), Keys::new(2));
    assert_ne!(one.request_key(5), other.request_key(5));
    assert_ne!(one.engine_key(5), other.engine_key(5));
    assert_ne!(one.pod_entry(0), other.pod_entry(0));
    assert_ne!(one.pod_entry(0), one.pod_entry(1));
    assert_eq!(one.request_key(5), Keys::new(1).request_key(5));
}

proptest! {
    #[test]
    fn mixing_can_be_undone(x: u64) {
        // What one step does, taken back: `x ^ (x >> 32)` is its own inverse.
        let inverse = |odd: u64| (0..6).fold(odd, |y, _| {
            y.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(y)))
        });
        let mut y = mix(x);
        y ^= y >> 32;
        for multiplier in [0xbb67_ae85_84ca_a73b_u64, 0x9e37_79b9_7f4a_7c15] {
            y = y.wrapping_mul(inverse(multiplier));
            y ^= y >> 32;
        }
        prop_assert_eq!(y, x);
    }
}
