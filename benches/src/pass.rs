//! What is measured: a pass over an input, again and again.

use std::time::Duration;

use anyhow::Result;

use crate::clock;

/// What a pass brought forth, the same for every side of a workload or
/// something is wrong with one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// Replies read, or commands written.
    pub replies: u64,
    /// A number that sums up what was in them.
    pub digest: u64,
}

/// One side of a comparison, ready to be timed on one input.
pub trait Pass {
    /// CPU time of so many passes.
    ///
    /// # Errors
    ///
    /// When the side fails on the input.
    fn time(&mut self, passes: u64) -> Result<Duration>;

    /// What one pass brings forth.
    ///
    /// # Errors
    ///
    /// When the side fails on the input.
    fn tally(&mut self) -> Result<Tally>;

    /// Whether its memory is allocated in this process, by nothing but the work
    /// that is timed, so that counting allocations means something.
    fn allocates_here(&self) -> bool {
        true
    }
}

/// A pass in this process.
pub trait Work {
    /// Puts the input back. Not timed.
    ///
    /// # Errors
    ///
    /// When the side fails on the input.
    fn refill(&mut self) -> Result<()> {
        Ok(())
    }

    /// The timed part. Returns the number of replies.
    ///
    /// # Errors
    ///
    /// When the side fails on the input.
    fn run(&mut self) -> Result<u64>;

    /// [`Tally::digest`] of a pass over fresh input.
    ///
    /// # Errors
    ///
    /// When the side fails on the input.
    fn digest(&mut self) -> Result<u64>;
}

impl<W: Work> Pass for W {
    fn time(&mut self, passes: u64) -> Result<Duration> {
        let mut total = Duration::ZERO;
        for _ in 0..passes {
            self.refill()?;
            let start = clock::now();
            std::hint::black_box(self.run()?);
            total += clock::since(start);
        }
        Ok(total)
    }

    fn tally(&mut self) -> Result<Tally> {
        self.refill()?;
        let replies = self.run()?;
        self.refill()?;
        Ok(Tally { replies, digest: self.digest()? })
    }
}

/// A cost that cannot be measured by itself: one pass, and what a second one
/// takes longer than a third.
pub struct Difference {
    /// What is there in any case.
    pub base: Box<dyn Pass>,
    /// The work of interest, together with something that is not.
    pub with: Box<dyn Pass>,
    /// Only that something.
    pub without: Box<dyn Pass>,
}

impl std::fmt::Debug for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Difference").finish_non_exhaustive()
    }
}

impl Pass for Difference {
    fn time(&mut self, passes: u64) -> Result<Duration> {
        let base = self.base.time(passes)?;
        let with = self.with.time(passes)?;
        Ok(base + with.saturating_sub(self.without.time(passes)?))
    }

    fn tally(&mut self) -> Result<Tally> {
        self.with.tally()
    }

    fn allocates_here(&self) -> bool {
        false
    }
}
