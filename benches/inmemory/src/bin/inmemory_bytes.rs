//! Counts the bytes that each index has allocated at the end of a replay. A program of its own, because its allocator counts
//! whoever allocates, and would slow down those who do.

use anyhow::Result;
use clap::Parser;
use respire_benches_inmemory::measure::ENTRANTS;
use respire_benches_inmemory::replay::{self, simulate};

/// Count the bytes that indexes of KV blocks take.
#[derive(Debug, Parser)]
struct Options {
    #[command(flatten)]
    replay: replay::Options,
}

fn main() -> Result<()> {
    let steps = simulate(&Options::parse().replay)?;
    for entrant in ENTRANTS {
        let mut built = None;
        let counted = allocation_counter::measure(|| built = Some((entrant.build)(&steps)));
        // Kept until here, so that all that it holds has been counted.
        let kept = built.transpose()?;
        println!("{}\t{}", entrant.name, counted.bytes_current);
        drop(kept);
    }
    Ok(())
}
