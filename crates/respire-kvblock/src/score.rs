//! Scores: how much of a prompt a pod already holds.

use std::collections::HashMap;

use crate::{BlockHash, Lookup, lookup::Pods};

/// Scores pods by the longest prefix that they hold, each block with the weight of its fastest tier.
///
/// A pod that does not hold the first block has no score. The others count block by block until the first one that they
/// do not hold, in whatever tier; each block adds the largest weight among the tiers that the pod holds it in. A tier
/// without a weight weighs 1, and a negative weight weighs 0. Expected blocks count like held ones, and groups are not
/// looked at.
///
/// ```
/// use std::sync::Arc;
/// use respire_kvblock::{BlockHash, LongestPrefixScorer, Lookup, PodEntry};
///
/// let gpu = Arc::new(PodEntry::new("a", "gpu"));
/// let cpu = Arc::new(PodEntry::new("a", "cpu"));
/// let keys = [BlockHash(1), BlockHash(2)];
/// let lookup: Lookup = [(keys[0], vec![gpu]), (keys[1], vec![cpu])].into_iter().collect();
///
/// let scores = LongestPrefixScorer::default().score(&keys, &lookup);
/// assert_eq!(scores["a"], 1.8);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct LongestPrefixScorer {
    weights: HashMap<Box<str>, f64>,
}

impl LongestPrefixScorer {
    /// What a block weighs in a tier that has no weight of its own.
    pub const UNKNOWN_TIER_WEIGHT: f64 = 1.0;

    /// A scorer with these weights a tier; of several for one tier the last counts.
    pub fn new<T: Into<Box<str>>>(weights: impl IntoIterator<Item = (T, f64)>) -> Self {
        Self { weights: weights.into_iter().map(|(tier, weight)| (tier.into(), weight)).collect() }
    }

    /// What a block in this tier weighs.
    pub fn weight(&self, tier: &str) -> f64 {
        self.weights.get(tier).copied().unwrap_or(Self::UNKNOWN_TIER_WEIGHT)
    }

    /// The score of every pod that holds the first key.
    ///
    /// `request_keys` are those that were looked up, or fewer from the start of them; a key that the lookup did not
    /// find ends every prefix.
    pub fn score(&self, request_keys: &[BlockHash], lookup: &Lookup) -> HashMap<String, f64> {
        let found = lookup.keys().iter().zip(request_keys).take_while(|(key, asked)| key == asked);
        let mut pods = Pods::of(lookup);
        let mut weights = vec![None; lookup.table_len()];
        let mut prefixes: Vec<Prefix> = Vec::new();
        for position in 0..found.count() {
            let mut longer = false;
            for &id in lookup.ids_at(position) {
                let pod = pods.number(id);
                if position == 0 && pod == prefixes.len() {
                    prefixes.push(Prefix::default());
                }
                let Some(prefix) = prefixes.get_mut(pod) else { continue };
                let weight = weights[id as usize]
                    .get_or_insert_with(|| self.weight(&lookup.entry(id).device_tier));
                longer |= prefix.meet(position, *weight);
            }
            if !longer {
                break;
            }
        }
        pods.names().zip(prefixes).map(|(pod, prefix)| (pod.to_owned(), prefix.score())).collect()
    }
}

/// The weights of llm-d's default configuration: `gpu` 1.0, `cpu` 0.8.
impl Default for LongestPrefixScorer {
    fn default() -> Self {
        Self::new([("gpu", 1.0), ("cpu", 0.8)])
    }
}

/// How far one pod's prefix has come.
#[derive(Clone, Copy, Default)]
struct Prefix {
    /// The number of blocks, the one at hand included.
    blocks: usize,
    /// The weights of the blocks before the one at hand.
    before: f64,
    /// The largest weight met for the block at hand.
    at_hand: f64,
}

impl Prefix {
    /// The pod holds the block at `position` with this weight. Positions come in order, each any number of times.
    /// Whether the prefix reaches this block.
    fn meet(&mut self, position: usize, weight: f64) -> bool {
        if self.blocks == position {
            self.before += self.at_hand;
            // The largest weight is looked for from 0 upwards, as in llm-d.
            self.at_hand = 0.0;
            self.blocks += 1;
        }
        let reaches = self.blocks == position + 1;
        if reaches {
            self.at_hand = self.at_hand.max(weight);
        }
        reaches
    }

    fn score(self) -> f64 {
        self.before + self.at_hand
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::PodEntry;

    const KEYS: [BlockHash; 6] = [
        BlockHash(1001),
        BlockHash(1002),
        BlockHash(1003),
        BlockHash(1004),
        BlockHash(1005),
        BlockHash(1006),
    ];

    fn lookup(positions: &[&[PodEntry]]) -> Lookup {
        KEYS.iter()
            .zip(positions)
            .map(|(&key, entries)| (key, entries.iter().cloned().map(Arc::new).collect()))
            .collect()
    }

    fn gpu(pod: &str) -> PodEntry {
        PodEntry::new(pod, "gpu")
    }

    fn cpu(pod: &str) -> PodEntry {
        PodEntry::new(pod, "cpu")
    }

    fn scores<const N: usize>(expected: [(&str, f64); N]) -> HashMap<String, f64> {
        expected.map(|(pod, score)| (pod.to_owned(), score)).into()
    }

    #[test]
    fn a_block_counts_with_its_best_tier() {
        let scorer = LongestPrefixScorer::new([("gpu", 1.0), ("cpu", 0.5)]);
        let in_both_tiers = lookup(&[
            &[gpu("podA")],
            &[gpu("podA")],
            &[cpu("podA"), gpu("podA")],
            &[gpu("podB")],
            &[gpu("podB")],
            &[cpu("podB")],
        ]);
        assert_eq!(scorer.score(&KEYS, &in_both_tiers), scores([("podA", 3.0)]));
        let in_one = lookup(&[
            &[gpu("podA")],
            &[gpu("podA")],
            &[cpu("podA")],
            &[gpu("podB")],
            &[gpu("podB")],
            &[cpu("podB")],
        ]);
        assert_eq!(scorer.score(&KEYS, &in_one), scores([("podA", 2.5)]));
    }

    #[test]
    fn a_pod_without_the_first_block_has_no_score() {
        let found = lookup(&[&[gpu("a")], &[gpu("a"), gpu("b")]]);
        assert_eq!(LongestPrefixScorer::default().score(&KEYS, &found), scores([("a", 2.0)]));
    }

    #[test]
    fn a_gap_ends_a_prefix_for_good() {
        let found = lookup(&[&[gpu("a"), gpu("b")], &[gpu("a")], &[gpu("a"), gpu("b")]]);
        let expected = scores([("a", 3.0), ("b", 1.0)]);
        assert_eq!(LongestPrefixScorer::default().score(&KEYS, &found), expected);
    }

    #[test]
    fn an_unknown_tier_weighs_one_and_mixed_tiers_add_up() {
        let found = lookup(&[&[gpu("a"), PodEntry::new("b", "disk")], &[cpu("a")]]);
        let expected = scores([("a", 1.8), ("b", 1.0)]);
        assert_eq!(LongestPrefixScorer::default().score(&KEYS, &found), expected);
    }

    #[test]
    fn groups_and_expectation_do_not_matter() {
        let found = lookup(&[
            &[gpu("a").with_group(0), gpu("a").with_group(1), gpu("a").with_speculative()],
            &[gpu("a").with_speculative()],
        ]);
        assert_eq!(LongestPrefixScorer::default().score(&KEYS, &found), scores([("a", 2.0)]));
    }

    #[test]
    fn a_negative_weight_counts_as_zero_and_ends_no_prefix() {
        let scorer = LongestPrefixScorer::new([("gpu", 0.0), ("cpu", -1.0)]);
        let found = lookup(&[&[cpu("a")], &[cpu("a"), gpu("a")], &[PodEntry::new("a", "disk")]]);
        assert_eq!(scorer.score(&KEYS, &found), scores([("a", 1.0)]));
    }

    #[test]
    fn only_the_keys_that_are_given_are_scored() {
        let found = lookup(&[&[gpu("a")], &[gpu("a")], &[gpu("a")]]);
        let scorer = LongestPrefixScorer::default();
        assert_eq!(scorer.score(&KEYS[..2], &found), scores([("a", 2.0)]));
        assert_eq!(scorer.score(&[], &found), scores([]));
        assert_eq!(scorer.score(&[KEYS[0], KEYS[2]], &found), scores([("a", 1.0)]));
        assert_eq!(scorer.score(&KEYS, &lookup(&[])), scores([]));
    }
}
