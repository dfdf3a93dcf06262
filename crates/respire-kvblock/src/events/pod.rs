//! What is remembered of a pod between its events.

use std::num::NonZeroUsize;

use lru::LruCache;
use smallvec::SmallVec;

use crate::BlockHash;

/// How many publishers of a pod are told apart: one for each data-parallel rank.
const PUBLISHERS_MAX: usize = 256;

/// How many tiers and groups of a pod are told apart, and how many groups are known to be passed over.
const SCOPES_MAX: usize = 64;

/// What is known of an engine's block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// The request keys of the index's blocks that end in it, in order.
    pub(super) keys: SmallVec<[BlockHash; 1]>,
    /// Whether the last of them ends where it does, so that a block behind it begins a block of the index.
    pub(super) is_aligned: bool,
}

/// What is remembered of one pod. All of it is bounded.
#[derive(Debug)]
pub(super) struct Pod {
    /// For each publisher the number that is due.
    due: Vec<(u32, u64)>,
    blocks: LruCache<BlockHash, Block>,
    references: Option<References>,
    skipped_groups: Vec<i64>,
}

/// How a message's number compares to the one that was due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Due,
    Ahead { expected: u64 },
    Back { expected: u64 },
}

impl Pod {
    /// A pod of which nothing is known, to remember so many blocks of, and to count the references to so many.
    pub(super) fn new(blocks: NonZeroUsize, references: Option<NonZeroUsize>) -> Self {
        Self {
            due: Vec::new(),
            blocks: LruCache::sparse(blocks),
            references: references.map(References::new),
            skipped_groups: Vec::new(),
        }
    }

    /// Takes note of a message's number. The first one of a publisher is in order if it is `first` or that is `None`.
    pub(super) fn order(&mut self, publisher: u32, found: u64, first: Option<u64>) -> Order {
        // The number of the largest is followed by none.
        let next = found.saturating_add(1);
        let Some((_, due)) = self.due.iter_mut().find(|(number, _)| *number == publisher) else {
            if self.due.len() >= PUBLISHERS_MAX {
                self.due.remove(0);
            }
            self.due.push((publisher, next));
            let expected = first.unwrap_or(found);
            return if found > expected { Order::Ahead { expected } } else { Order::Due };
        };
        let expected = std::mem::replace(due, next);
        match found {
            _ if found == expected => Order::Due,
            _ if found > expected => Order::Ahead { expected },
            _ => Order::Back { expected },
        }
    }

    pub(super) fn block(&mut self, engine_key: BlockHash) -> Option<&Block> {
        self.blocks.get(&engine_key)
    }

    pub(super) fn remember(&mut self, engine_key: BlockHash, block: Block) {
        self.blocks.put(engine_key, block);
    }

    /// Takes note of blocks that were announced.
    pub(super) fn refer(&mut self, tier: &str, group: Option<i64>, hashes: &[BlockHash]) {
        if let Some(references) = &mut self.references {
            references.add(tier, group, hashes);
        }
    }

    /// Of the blocks that were dropped those that nothing else announced and that are there no more.
    pub(super) fn release(
        &mut self,
        tier: &str,
        group: Option<i64>,
        hashes: Vec<BlockHash>,
    ) -> Vec<BlockHash> {
        match &mut self.references {
            Some(references) => references.remove(tier, group, hashes),
            None => hashes,
        }
    }

    /// Takes note of whether the blocks of a group are passed over.
    pub(super) fn skip_group(&mut self, group: i64, is_skipped: bool) {
        if is_skipped == self.skips_group(group) {
            return;
        }
        if !is_skipped {
            self.skipped_groups.retain(|&skipped| skipped != group);
        } else if self.skipped_groups.len() < SCOPES_MAX {
            self.skipped_groups.push(group);
        }
    }

    pub(super) fn skips_group(&self, group: i64) -> bool {
        self.skipped_groups.contains(&group)
    }

    /// Forgets what was announced, but not which message is due.
    pub(super) fn clear(&mut self) {
        self.blocks.clear();
        self.skipped_groups.clear();
        if let Some(references) = &mut self.references {
            references.counts.clear();
        }
    }
}

/// How often each block is announced and not dropped again.
#[derive(Debug)]
struct References {
    /// The tiers and groups, by their numbers in `counts`.
    scopes: Vec<(String, Option<i64>)>,
    /// No count is 0. What was longest not touched is forgotten, and then dropped at its first removal.
    counts: LruCache<(usize, BlockHash), u32>,
}

impl References {
    fn new(blocks: NonZeroUsize) -> Self {
        Self { scopes: Vec::new(), counts: LruCache::sparse(blocks) }
    }

    fn add(&mut self, tier: &str, group: Option<i64>, hashes: &[BlockHash]) {
        let scope = match self.scope(tier, group) {
            Some(scope) => scope,
            None if self.scopes.len() < SCOPES_MAX => {
                self.scopes.push((tier.to_owned(), group));
                self.scopes.len() - 1
            }
            None => return,
        };
        for &hash in hashes {
            let count = self.counts.get_or_insert_mut((scope, hash), || 0);
            *count = count.saturating_add(1);
        }
    }

    fn remove(
        &mut self,
        tier: &str,
        group: Option<i64>,
        mut hashes: Vec<BlockHash>,
    ) -> Vec<BlockHash> {
        let Some(scope) = self.scope(tier, group) else { return hashes };
        hashes.retain(|&hash| match self.counts.get_mut(&(scope, hash)) {
            Some(count) if *count > 1 => {
                *count -= 1;
                false
            }
            _ => {
                self.counts.pop(&(scope, hash));
                true
            }
        });
        hashes
    }

    fn scope(&self, tier: &str, group: Option<i64>) -> Option<usize> {
        self.scopes.iter().position(|(name, number)| name == tier && *number == group)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(n: usize) -> NonZeroUsize {
        NonZeroUsize::new(n).unwrap()
    }

    fn hashes(numbers: &[u64]) -> Vec<BlockHash> {
        numbers.iter().copied().map(BlockHash).collect()
    }

    #[test]
    fn numbers_are_compared_with_the_one_that_is_due_from_the_same_publisher() {
        let mut pod = Pod::new(number(1), None);
        assert_eq!(pod.order(0, 500, None), Order::Due, "the first one may be any");
        assert_eq!(pod.order(0, 501, None), Order::Due);
        assert_eq!(pod.order(1, 3, None), Order::Due, "another publisher's first one");
        assert_eq!(pod.order(0, 504, None), Order::Ahead { expected: 502 });
        assert_eq!(pod.order(0, 505, None), Order::Due);
        assert_eq!(pod.order(1, 4, None), Order::Due);
        assert_eq!(pod.order(0, 0, None), Order::Back { expected: 506 });
        assert_eq!(pod.order(0, 1, None), Order::Due);
        assert_eq!(pod.order(0, 1, None), Order::Back { expected: 2 });
        assert_eq!(pod.order(0, u64::MAX, None), Order::Ahead { expected: 2 });
        assert_eq!(pod.order(0, u64::MAX, None), Order::Due, "there is no larger one");
    }

    #[test]
    fn the_first_number_can_be_asked_to_be_the_first_there_is() {
        let mut pod = Pod::new(number(1), None);
        assert_eq!(pod.order(0, 0, Some(0)), Order::Due);
        assert_eq!(pod.order(1, 7, Some(0)), Order::Ahead { expected: 0 });
        assert_eq!(pod.order(1, 8, Some(0)), Order::Due);
    }

    #[test]
    fn publishers_are_bounded_and_the_oldest_is_forgotten() {
        let mut pod = Pod::new(number(1), None);
        for publisher in 0..=PUBLISHERS_MAX as u32 {
            pod.order(publisher, 0, None);
        }
        assert_eq!(pod.due.len(), PUBLISHERS_MAX);
        assert_eq!(pod.order(1, 5, None), Order::Ahead { expected: 1 });
        assert_eq!(pod.order(0, 5, None), Order::Due, "it was forgotten");
    }

    #[test]
    fn a_block_goes_with_its_last_announcement() {
        let mut pod = Pod::new(number(1), Some(number(100)));
        pod.refer("cpu", None, &hashes(&[1, 2, 3]));
        pod.refer("cpu", None, &hashes(&[2]));
        pod.refer("gpu", None, &hashes(&[1]));
        pod.refer("gpu", Some(0), &hashes(&[1, 1]));
        assert_eq!(pod.release("cpu", None, hashes(&[1, 2])), hashes(&[1]));
        assert_eq!(pod.release("cpu", None, hashes(&[2, 2])), hashes(&[2, 2]));
        assert_eq!(pod.release("gpu", None, hashes(&[1])), hashes(&[1]));
        assert_eq!(pod.release("gpu", Some(0), hashes(&[1, 1])), hashes(&[1]));
        // What nobody announced goes to the index, which will not know it either.
        assert_eq!(pod.release("cpu", None, hashes(&[9])), hashes(&[9]));
        assert_eq!(pod.release("disk", None, hashes(&[3])), hashes(&[3]));
        pod.refer("cpu", None, &hashes(&[3]));
        pod.clear();
        assert_eq!(pod.release("cpu", None, hashes(&[3])), hashes(&[3]));
    }

    #[test]
    fn counts_are_bounded_and_what_is_forgotten_goes_at_once() {
        let mut pod = Pod::new(number(1), Some(number(2)));
        pod.refer("gpu", None, &hashes(&[1, 1]));
        pod.refer("gpu", None, &hashes(&[2, 2, 3, 3]));
        assert_eq!(pod.release("gpu", None, hashes(&[1, 2, 3])), hashes(&[1]));
    }

    #[test]
    fn without_counts_every_removal_counts() {
        let mut pod = Pod::new(number(1), None);
        pod.refer("gpu", None, &hashes(&[1, 1]));
        assert_eq!(pod.release("gpu", None, hashes(&[1])), hashes(&[1]));
    }
}
