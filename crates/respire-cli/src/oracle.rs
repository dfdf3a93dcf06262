//! Does the index say what is true?

/// How far the index and the simulated pods are apart. Both counters are 0 when it is right.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Blocks that the index says a pod holds and it does not.
    pub false_hits: u64,
    /// Blocks that a pod holds and the index does not know of.
    pub missed_blocks: u64,
}

impl Verdict {
    /// Compares a pod's prefix by the index with its real one, in blocks.
    pub fn compare_prefix(&mut self, claimed: usize, real: usize) {
        self.false_hits += claimed.saturating_sub(real) as u64;
        self.missed_blocks += real.saturating_sub(claimed) as u64;
    }

    /// Compares whether a pod holds a block by the index with whether it really does.
    pub fn compare_block(&mut self, claimed: bool, real: bool) {
        self.compare_prefix(claimed.into(), real.into());
    }

    /// Adds what another comparison has found.
    pub fn add(&mut self, other: Self) {
        self.false_hits += other.false_hits;
        self.missed_blocks += other.missed_blocks;
    }

    /// Whether the index was right in all that was compared.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_too_many_and_too_few_do_not_cancel_out() {
        let mut verdict = Verdict::default();
        verdict.compare_prefix(3, 3);
        assert!(verdict.is_clean());
        verdict.compare_prefix(5, 3);
        verdict.compare_prefix(0, 2);
        assert_eq!(verdict, Verdict { false_hits: 2, missed_blocks: 2 });
        assert!(!verdict.is_clean());
        verdict.add(Verdict { false_hits: 1, missed_blocks: 5 });
        assert_eq!(verdict, Verdict { false_hits: 3, missed_blocks: 7 });
    }

    #[test]
    fn single_blocks_count_as_one() {
        let mut verdict = Verdict::default();
        verdict.compare_block(true, true);
        verdict.compare_block(false, false);
        assert!(verdict.is_clean());
        verdict.compare_block(true, false);
        assert_eq!(verdict, Verdict { false_hits: 1, missed_blocks: 0 });
        verdict.compare_block(false, true);
        assert_eq!(verdict, Verdict { false_hits: 1, missed_blocks: 1 });
    }
}
