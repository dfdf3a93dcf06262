//! What a replay has told the index, for the end: what is to be removed, and compared.

use std::collections::HashMap;

use smallvec::SmallVec;

/// The pods that ever stored a block, in no particular order. Most blocks meet one or two, whose
/// numbers need no memory beside the map's.
type Pods = SmallVec<[usize; 2]>;

/// Every (block, pod) pair that the index was told of.
///
/// A pair is noted before the index hears of it and never taken back: whether an add or an evict
/// that failed was carried out, nobody here can know.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pods: HashMap<u64, Pods>,
}

impl Written {
    /// Notes that `pod` stores the blocks.
    pub(crate) fn note(&mut self, pod: usize, blocks: &[u64]) {
        for id in blocks {
            let pods = self.pods.entry(*id).or_default();
            // Sorted, so that a block of all of a thousand pods is found as fast as any other.
            if let Err(place) = pods.binary_search(&pod) {
                pods.insert(place, pod);
            }
        }
    }

    /// How many blocks there are.
    pub(crate) fn len(&self) -> usize {
        self.pods.len()
    }

    /// The blocks, in no particular order.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = u64> {
        self.pods.keys().copied()
    }

    /// The blocks, each with its pods.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (u64, &[usize])> {
        self.pods.iter().map(|(id, pods)| (*id, pods.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_noted_once_and_a_block_keeps_all_its_pods() {
        let mut written = Written::default();
        for (pod, blocks) in [(9, &[1, 2][..]), (3, &[2]), (9, &[2, 1]), (5, &[2]), (3, &[2])] {
            written.note(pod, blocks);
        }
        assert_eq!(written.len(), 2);
        let mut pairs: Vec<_> = written.pairs().collect();
        pairs.sort_unstable();
        assert_eq!(pairs, [(1, &[9][..]), (2, &[3, 5, 9])]);
        let mut blocks: Vec<_> = written.blocks().collect();
        blocks.sort_unstable();
        assert_eq!(blocks, [1, 2]);
    }
}
