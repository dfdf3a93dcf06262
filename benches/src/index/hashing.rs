//! How fast block keys are hashed.

use std::fmt;
use std::hash::Hasher;
use std::time::Duration;

use anyhow::{Result, ensure};
use respire_kvblock::{BlockHash, HashAlgorithm, TokenProcessor, TokenProcessorConfig};

use super::fleet::mixed;
use crate::clock;
use crate::series::Series;
use crate::turns;

/// Blocks of the prompt: those of one in ten prompts of the trace that the tests replay.
pub const BLOCKS: usize = 1_710;

/// Tokens of a block.
pub const TOKENS: usize = 16;

/// Tokens that a model knows.
const VOCABULARY: u64 = 128_000;

const MODEL: &str = "meta-llama/Llama-3.1-8B-Instruct";

/// A way to hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// llm-d's default.
    CborFnv,
    /// The same keys by a library that writes CBOR, and one that hashes what it has written.
    Libraries,
    /// llm-d's other algorithm.
    Xxh64,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CborFnv => "respire, cbor-fnv",
            Self::Libraries => "ciborium and fnv, cbor-fnv",
            Self::Xxh64 => "respire, xxh64",
        })
    }
}

impl Way {
    const ALL: [Self; 3] = [Self::CborFnv, Self::Libraries, Self::Xxh64];
}

/// The time of a block by one way, round by round.
#[derive(Clone, Debug)]
pub struct Hashing {
    /// By which way.
    pub way: Way,
    /// Nanoseconds of CPU time for each block.
    pub per_block: Series,
}

/// Has every way hash the same prompt in turn.
///
/// # Errors
///
/// When two ways that should agree do not.
pub fn measure(rounds: usize, turn: Duration) -> Result<Vec<Hashing>> {
    let tokens: Vec<u32> =
        (0..BLOCKS * TOKENS).map(|at| (mixed(at as u64) % VOCABULARY) as u32).collect();
    let fnv = processor(HashAlgorithm::CborFnv)?;
    let xxh = processor(HashAlgorithm::Xxh64)?;
    let hash = |way: Way| match way {
        Way::CborFnv => Ok(fnv.block_keys(BlockHash::EMPTY, &tokens, MODEL)),
        Way::Xxh64 => Ok(xxh.block_keys(BlockHash::EMPTY, &tokens, MODEL)),
        Way::Libraries => by_libraries(fnv.root(MODEL), &tokens),
    };
    ensure!(hash(Way::CborFnv)? == hash(Way::Libraries)?, "the libraries make other keys");
    let mut found: Vec<Hashing> =
        Way::ALL.map(|way| Hashing { way, per_block: Series::default() }).into();
    for round in 0..rounds {
        for at in turns::order(round, found.len()) {
            let Hashing { way, per_block } = &mut found[at];
            let (mut passes, mut time) = (0_u32, Duration::ZERO);
            while passes == 0 || time < turn {
                let start = clock::now();
                std::hint::black_box(hash(*way)?);
                time += clock::since(start);
                passes += 1;
            }
            per_block.push(time.as_nanos() as f64 / f64::from(passes) / BLOCKS as f64);
        }
    }
    Ok(found)
}

fn processor(hash_algorithm: HashAlgorithm) -> Result<TokenProcessor> {
    let config = TokenProcessorConfig {
        block_size_tokens: TOKENS,
        hash_algorithm,
        ..TokenProcessorConfig::default()
    };
    Ok(TokenProcessor::new(&config)?)
}

/// What comes to mind first: the block is written as CBOR to a buffer, which is used again for the next, and hashed.
fn by_libraries(root: BlockHash, tokens: &[u32]) -> Result<Vec<BlockHash>> {
    let (mut last, mut buffer) = (root.0, Vec::new());
    let block = |tokens: &[u32]| {
        buffer.clear();
        ciborium::into_writer(&(last, tokens, None::<u8>), &mut buffer)?;
        let mut hasher = fnv::FnvHasher::default();
        hasher.write(&buffer);
        last = hasher.finish();
        Ok(BlockHash(last))
    };
    tokens.chunks_exact(TOKENS).map(block).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_has_a_figure_for_every_round() {
        let found = measure(3, Duration::from_micros(1)).unwrap();
        assert_eq!(found.len(), Way::ALL.len());
        for Hashing { way, per_block } in found {
            assert_eq!(per_block.len(), 3, "{way}");
            assert!(per_block.median() > 0.0, "{way}");
        }
    }
}
