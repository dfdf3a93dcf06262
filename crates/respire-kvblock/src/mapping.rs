//! Which request keys an engine key stands for.

use std::ops::Range;

use hashbrown::{HashMap, hash_map::Entry};
use smallvec::SmallVec;

use crate::BlockHash;

/// An engine key of a call, and where the request keys stand that the call maps it to.
#[derive(Debug)]
pub(crate) struct Mapping {
    pub(crate) engine_key: BlockHash,
    /// One for each time that the engine key was named.
    ranges: SmallVec<[Range<usize>; 1]>,
}

impl Mapping {
    /// The positions of the request keys, in the order in which they are mapped.
    pub(crate) fn positions(&self) -> impl Iterator<Item = usize> {
        self.ranges.iter().cloned().flatten()
    }
}

/// What a call maps, one mapping for each distinct engine key, in the order in which they are first named.
///
/// An engine key that is named several times has one list of request keys, which grows with each.
pub(crate) fn mappings(engine_keys: &[BlockHash], request_keys: usize) -> Vec<Mapping> {
    let mut at: HashMap<BlockHash, usize> = HashMap::with_capacity(engine_keys.len());
    let mut mappings: Vec<Mapping> = Vec::with_capacity(engine_keys.len());
    for (engine, range) in mapped_positions(engine_keys.len(), request_keys) {
        let engine_key = engine_keys[engine];
        match at.entry(engine_key) {
            Entry::Occupied(at) => mappings[*at.get()].ranges.push(range),
            Entry::Vacant(vacant) => {
                vacant.insert(mappings.len());
                mappings.push(Mapping { engine_key, ranges: SmallVec::from_buf([range]) });
            }
        }
    }
    mappings
}

/// For each engine key, in order, the positions of the request keys that it maps to.
///
/// With n the larger of the two numbers, engine key `i * engine_keys / n` maps to request key `i * request_keys / n`
/// for every i below n. Nothing where either number is 0.
fn mapped_positions(
    engine_keys: usize,
    request_keys: usize,
) -> impl Iterator<Item = (usize, Range<usize>)> {
    let engine_keys = if request_keys == 0 { 0 } else { engine_keys };
    (0..engine_keys).map(move |engine| {
        if engine_keys >= request_keys {
            // n is the number of engine keys, so that i is the engine key itself.
            let request = scaled(engine, request_keys, engine_keys);
            return (engine, request..request + 1);
        }
        // n is the number of request keys, so that i is the request key itself: those with
        // `i * engine_keys / request_keys == engine` start at the quotient's ceiling.
        let start = scaled_up(engine, request_keys, engine_keys);
        (engine, start..scaled_up(engine + 1, request_keys, engine_keys))
    })
}

/// `value * numerator / denominator` without overflow.
fn scaled(value: usize, numerator: usize, denominator: usize) -> usize {
    // The result is below the numerator, which was a usize.
    (value as u128 * numerator as u128 / denominator as u128) as usize
}

fn scaled_up(value: usize, numerator: usize, denominator: usize) -> usize {
    // As above, at most the numerator.
    (value as u128 * numerator as u128).div_ceil(denominator as u128) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rule as llm-d states it, one pair at a time.
    fn pairs_by_the_rule(engine_keys: usize, request_keys: usize) -> Vec<(usize, usize)> {
        if engine_keys == 0 || request_keys == 0 {
            return Vec::new();
        }
        let n = engine_keys.max(request_keys);
        (0..n).map(|i| (i * engine_keys / n, i * request_keys / n)).collect()
    }

    #[test]
    fn every_ratio_maps_as_the_rule_says() {
        for engine_keys in 0..40 {
            for request_keys in 0..40 {
                let ours: Vec<_> = mapped_positions(engine_keys, request_keys)
                    .flat_map(|(engine, requests)| requests.map(move |request| (engine, request)))
                    .collect();
                assert_eq!(
                    ours,
                    pairs_by_the_rule(engine_keys, request_keys),
                    "{engine_keys} : {request_keys}"
                );
            }
        }
    }

    #[test]
    fn an_engine_key_that_is_named_again_has_one_growing_list() {
        let engine_keys = [7, 8, 7].map(BlockHash);
        let mapped: Vec<_> = mappings(&engine_keys, 6)
            .iter()
            .map(|mapping| (mapping.engine_key.0, mapping.positions().collect::<Vec<_>>()))
            .collect();
        assert_eq!(mapped, [(7, vec![0, 1, 4, 5]), (8, vec![2, 3])]);
        assert!(mappings(&engine_keys, 0).is_empty());
        assert!(mappings(&[], 6).is_empty());
    }

    #[test]
    fn uneven_ratios_are_rounded_down() {
        let mapped: Vec<_> = mapped_positions(3, 2).collect();
        assert_eq!(mapped, [(0, 0..1), (1, 0..1), (2, 1..2)]);
        let mapped: Vec<_> = mapped_positions(2, 5).collect();
        assert_eq!(mapped, [(0, 0..3), (1, 3..5)]);
    }
}
