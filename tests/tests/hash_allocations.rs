//! Block keys are hashed without any memory but that of the answer.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, its helpers included")]

use respire_kvblock::{BlockExtra, BlockHash, HashAlgorithm, TokenProcessor, TokenProcessorConfig};

const BLOCKS: usize = 500;

fn processor(algorithm: HashAlgorithm, block_size_tokens: usize) -> TokenProcessor {
    let hash_seed = "42".to_owned();
    let config = TokenProcessorConfig { block_size_tokens, hash_seed, hash_algorithm: algorithm };
    TokenProcessor::new(&config).unwrap()
}

/// Allocations and bytes of a call that answers with keys.
fn counted(call: impl FnOnce() -> Vec<BlockHash>) -> (Vec<BlockHash>, u64, u64) {
    let mut keys = Vec::new();
    let counts = allocation_counter::measure(|| keys = call());
    (keys, counts.count_total, counts.bytes_total)
}

#[test]
fn hashing_a_prompt_allocates_its_keys_at_once_and_nothing_else() {
    const KEYS_BYTES: u64 = (BLOCKS * size_of::<BlockHash>()) as u64;
    // Heads of CBOR of every length, and tokens that do not fill a block.
    let tokens = |count: usize| -> Vec<u32> {
        [0, 23, 24, 255, 256, 65_535, 65_536, u32::MAX].into_iter().cycle().take(count).collect()
    };
    // Images in some blocks, a salt in the first, more texts than have room in place.
    let mut extra: Vec<BlockExtra> = (0..BLOCKS)
        .map(|block| (0..block % 5).map(|image| format!("image {block} {image}")).collect())
        .collect();
    BlockExtra::add_cache_salt(&mut extra, "salt", BLOCKS);
    for algorithm in [HashAlgorithm::CborFnv, HashAlgorithm::Xxh64] {
        for block_size in [1, 16, 64, 512] {
            let processor = processor(algorithm, block_size);
            let tokens = tokens(BLOCKS * block_size + block_size - 1);
            for parent in [BlockHash::EMPTY, BlockHash(7)] {
                let (plain, count, bytes) =
                    counted(|| processor.block_keys(parent, &tokens, "a model"));
                let case = format!("{algorithm}, {block_size} tokens a block, behind {parent}");
                assert_eq!((plain.len(), count, bytes), (BLOCKS, 1, KEYS_BYTES), "{case}");
                let (salted, count, bytes) = counted(|| {
                    processor.block_keys_with_extra(parent, &tokens, "a model", &extra).unwrap()
                });
                assert_eq!((salted.len(), count, bytes), (BLOCKS, 1, KEYS_BYTES), "{case}");
                assert!(plain.iter().zip(&salted).all(|(one, other)| one != other), "{case}");
            }
            let (keys, count, _) =
                counted(|| processor.block_keys(BlockHash::EMPTY, &tokens[..block_size - 1], "m"));
            assert_eq!((keys.len(), count), (0, 0), "less than a block has no keys");
            let root = allocation_counter::measure(|| {
                std::hint::black_box(processor.root("a model"));
            });
            assert_eq!(root.count_total, 0);
        }
    }
}
