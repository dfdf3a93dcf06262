use std::sync::Arc;

use proptest::prelude::*;

use super::*;

fn processor(block_size: usize, seed: &str, algorithm: HashAlgorithm) -> TokenProcessor {
    let config = TokenProcessorConfig {
        block_size_tokens: block_size,
        hash_seed: seed.to_owned(),
        hash_algorithm: algorithm,
    };
    TokenProcessor::new(&config).unwrap()
}

fn fnv(block_size: usize, seed: &str) -> TokenProcessor {
    processor(block_size, seed, HashAlgorithm::CborFnv)
}

fn numbers(keys: &[BlockHash]) -> Vec<u64> {
    keys.iter().map(|key| key.0).collect()
}

fn extra<const N: usize>(texts: [&str; N]) -> BlockExtra {
    texts.into_iter().collect()
}

#[test]
fn llm_ds_own_vector_comes_out() {
    let tokens = [8197, 438, 322, 18926, 432, 45600, 49];
    let model = "ibm-granite/granite-3.1-8b-instruct";
    let keys = fnv(4, "").block_keys(BlockHash::EMPTY, &tokens, model);
    assert_eq!(numbers(&keys), [1_334_984_470_577_408_192]);
}

#[test]
fn the_seed_and_the_model_make_the_root() {
    assert_eq!(fnv(16, "").init, 14_695_981_039_346_656_037);
    assert_eq!(fnv(16, "").root("test-model").0, 17_515_353_698_173_365_712);
    let tokens: Vec<u32> = (1..=64).collect();
    let keys = fnv(16, "test").block_keys(BlockHash::EMPTY, &tokens, "test-model");
    let expected = [
        8_542_686_838_728_806_592,
        2_106_228_696_136_303_733,
        16_371_395_216_433_005_515,
        5_023_563_226_861_425_725,
    ];
    assert_eq!(numbers(&keys), expected);
}

/// The published vectors of the two hashes themselves.
#[test]
fn both_hashes_are_those_of_their_specifications() {
    assert_eq!(super::fnv::seed(b"a"), 0xaf63_dc4c_8601_ec8c);
    assert_eq!(super::fnv::seed(b"foobar"), 0x8594_4171_f739_67e8);
    assert_eq!(super::xxh::seed(b""), 0xef46_db37_51d8_e999);
    assert_eq!(super::xxh::seed(b"abc"), 0x44bc_2cf5_ad77_0999);
}

/// FNV-64a of what a CBOR library makes of the block.
fn by_the_library(parent: u64, tokens: Option<&[u32]>, extra: ciborium::Value) -> u64 {
    use ciborium::Value;
    let tokens = tokens.map_or(Value::Null, |tokens| {
        Value::Array(tokens.iter().map(|&token| Value::from(token)).collect())
    });
    let mut bytes = Vec::new();
    let block = Value::Array(vec![Value::from(parent), tokens, extra]);
    ciborium::into_writer(&block, &mut bytes).unwrap();
    super::fnv::seed(&bytes)
}

fn extra_value(extra: &BlockExtra) -> ciborium::Value {
    use ciborium::Value;
    if extra.is_empty() {
        return Value::Null;
    }
    let item = |text: &str| Value::Map(vec![(Value::from("Hash"), Value::from(text))]);
    Value::Array(extra.iter().map(item).collect())
}

/// XXH64 of the block's bytes in one piece.
fn by_bytes(parent: u64, tokens: &[u32], extra: &BlockExtra) -> u64 {
    let mut bytes = parent.to_le_bytes().to_vec();
    bytes.extend(tokens.iter().flat_map(|token| token.to_le_bytes()));
    for text in extra.iter() {
        bytes.extend((text.len() as u64).to_le_bytes());
        bytes.extend(text.as_bytes());
    }
    super::xxh::seed(&bytes)
}

/// Numbers at and beside every length of a CBOR head.
const HEADS: [u64; 10] = [0, 23, 24, 255, 256, 65_535, 65_536, u32::MAX as u64, 1 << 32, u64::MAX];

#[test]
fn every_length_of_head_is_written_as_a_cbor_library_writes_it() {
    for parent in HEADS {
        for count in [1, 16, 23, 24, 255, 256, 300, 65_536] {
            let tokens: Vec<u32> =
                HEADS.iter().cycle().take(count).map(|&head| head as u32).collect();
            let none = BlockExtra::default();
            let expected = by_the_library(parent, Some(&tokens), ciborium::Value::Null);
            assert_eq!(super::fnv::block(parent, &tokens, &none), expected, "{parent} {count}");
            assert_eq!(
                super::xxh::block(parent, &tokens, none.iter()),
                by_bytes(parent, &tokens, &none),
                "{parent} {count}"
            );
        }
    }
    for length in [0, 1, 23, 24, 255, 256, 70_000] {
        let model = "m".repeat(length);
        let expected = by_the_library(5, None, ciborium::Value::from(model.as_str()));
        assert_eq!(super::fnv::root(5, &model), expected, "{length}");
    }
}

fn any_extra() -> impl Strategy<Value = BlockExtra> {
    prop::collection::vec(".{0,30}", 0..4).prop_map(|texts| texts.into_iter().collect())
}

fn any_algorithm() -> impl Strategy<Value = HashAlgorithm> {
    prop::sample::select(&HashAlgorithm::ALL)
}

proptest! {
    #[test]
    fn a_chain_is_what_its_naive_twin_computes(
        seed in ".{0,8}", model in ".{0,40}", block_size in 1..40_usize,
        tokens in prop::collection::vec(any::<u32>(), 0..300),
        pool in prop::collection::vec(any_extra(), 1..6),
    ) {
        let blocks = tokens.len() / block_size;
        let extra: Vec<BlockExtra> = pool.iter().cloned().cycle().take(blocks).collect();
        let fnv = fnv(block_size, &seed);
        let xxh = processor(block_size, &seed, HashAlgorithm::Xxh64);
        let mut last = by_the_library(fnv.init, None, ciborium::Value::from(model.as_str()));
        let name: BlockExtra = [model.as_str()].into_iter().collect();
        let mut last_xxh = by_bytes(xxh.init, &[], &name);
        let (mut expected, mut expected_xxh) = (Vec::new(), Vec::new());
        for (block, extra) in tokens.chunks_exact(block_size).zip(&extra) {
            last = by_the_library(last, Some(block), extra_value(extra));
            expected.push(last);
            last_xxh = by_bytes(last_xxh, block, extra);
            expected_xxh.push(last_xxh);
        }
        let keys = fnv.block_keys_with_extra(BlockHash::EMPTY, &tokens, &model, &extra).unwrap();
        prop_assert_eq!(numbers(&keys), expected);
        let keys = xxh.block_keys_with_extra(BlockHash::EMPTY, &tokens, &model, &extra).unwrap();
        prop_assert_eq!(numbers(&keys), expected_xxh);
    }

    #[test]
    fn keys_are_shared_exactly_up_to_the_first_difference(
        algorithm in any_algorithm(), block_size in 1..20_usize,
        tokens in prop::collection::vec(any::<u32>(), 1..200), at in any::<prop::sample::Index>(),
    ) {
        let processor = processor(block_size, "seed", algorithm);
        let keys = processor.block_keys(BlockHash::EMPTY, &tokens, "model");
        prop_assert_eq!(keys.len(), processor.block_count(tokens.len()));
        prop_assert_eq!(&processor.block_keys(BlockHash::EMPTY, &tokens, "model"), &keys);

        let at = at.index(tokens.len());
        let mut other = tokens.clone();
        other[at] ^= 1;
        let other = processor.block_keys(BlockHash::EMPTY, &other, "model");
        let same = (at / block_size).min(keys.len());
        prop_assert_eq!(&other[..same], &keys[..same]);
        prop_assert!(other[same..].iter().zip(&keys[same..]).all(|(a, b)| a != b));
    }

    #[test]
    fn a_chain_goes_on_from_any_of_its_keys(
        algorithm in any_algorithm(), block_size in 1..20_usize, first in 1..10_usize,
        tokens in prop::collection::vec(any::<u32>(), 0..200),
    ) {
        let processor = processor(block_size, "", algorithm);
        let keys = processor.block_keys(BlockHash::EMPTY, &tokens, "model");
        prop_assume!(first <= keys.len());
        // The model has its part in the parent already.
        let rest = processor.block_keys(keys[first - 1], &tokens[first * block_size..], "other");
        prop_assert_eq!(&rest, &keys[first..]);
    }

    #[test]
    fn media_are_in_the_blocks_that_they_overlap(
        items in prop::collection::vec((0..100_usize, 0..40_usize), 0..6),
        tokens in 0..120_usize, block_size in 1..20_usize,
    ) {
        let items: Vec<MediaItem> = items
            .into_iter()
            .enumerate()
            .map(|(n, (start, length))| MediaItem { hash: format!("{n}").into(), start, length })
            .collect();
        let mut sorted = items.clone();
        sorted.sort_by_key(|item| item.start);
        let expected: Vec<BlockExtra> = (0..tokens / block_size)
            .map(|block| {
                let (start, end) = (block * block_size, (block + 1) * block_size);
                let inside = |item: &&MediaItem| {
                    item.start + item.length > start && item.start < end
                };
                sorted.iter().filter(inside).map(|item| Arc::clone(&item.hash)).collect()
            })
            .collect();
        let found = BlockExtra::of_media(&items, tokens, block_size);
        prop_assert_eq!(found, if items.is_empty() { Vec::new() } else { expected });
    }
}

#[test]
fn everything_that_has_a_say_in_a_key_changes_it() {
    let tokens: Vec<u32> = (1..=32).collect();
    for algorithm in HashAlgorithm::ALL {
        let plain = processor(16, "", algorithm);
        let keys = plain.block_keys(BlockHash::EMPTY, &tokens, "model");
        let with = |extra: &[BlockExtra]| {
            plain.block_keys_with_extra(BlockHash::EMPTY, &tokens, "model", extra).unwrap()
        };
        assert_eq!(with(&[extra([]), extra([])]), keys);
        let with_image = with(&[extra([]), extra(["image"])]);
        assert_eq!(with_image[0], keys[0]);
        let mut salted = Vec::new();
        BlockExtra::add_cache_salt(&mut salted, "salt", 2);
        let others = [
            with_image[1],
            with(&[extra(["image"]), extra([])])[1],
            with(&[extra(["ima", "ge"]), extra([])])[1],
            with(&salted)[1],
            plain.block_keys(BlockHash::EMPTY, &tokens, "adapter")[1],
            processor(16, "1", algorithm).block_keys(BlockHash::EMPTY, &tokens, "model")[1],
            plain.block_keys(BlockHash(1), &tokens, "model")[1],
        ];
        let mut distinct: Vec<BlockHash> = others.into_iter().chain([keys[0], keys[1]]).collect();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), 9, "{algorithm}");
    }
    let by =
        |algorithm| processor(16, "", algorithm).block_keys(BlockHash::EMPTY, &tokens, "model");
    assert_ne!(by(HashAlgorithm::CborFnv), by(HashAlgorithm::Xxh64));
}

#[test]
fn only_full_blocks_have_keys() {
    let processor = fnv(4, "");
    for (tokens, blocks) in [(0, 0), (3, 0), (4, 1), (7, 1), (8, 2)] {
        let keys = processor.block_keys(BlockHash::EMPTY, &vec![7; tokens], "model");
        assert_eq!(keys.len(), blocks);
    }
}

#[test]
fn another_number_of_extras_than_of_blocks_is_refused() {
    let processor = fnv(16, "");
    let refused = processor.block_keys_with_extra(BlockHash::EMPTY, &[1; 40], "m", &[extra([])]);
    assert_eq!(
        refused.unwrap_err().to_string(),
        "extraFeatures length 1 does not match token chunk count 2 (blockSizeTokens=16, tokens=40)"
    );
    // None at all is plain text.
    assert!(processor.block_keys_with_extra(BlockHash::EMPTY, &[1; 40], "m", &[]).is_ok());
}

#[test]
fn a_block_without_tokens_is_refused() {
    let config = TokenProcessorConfig { block_size_tokens: 0, ..Default::default() };
    let error = TokenProcessor::new(&config).unwrap_err();
    assert_eq!(error.setting(), Some("tokenProcessorConfig.blockSizeTokens"));
}

#[test]
fn algorithms_have_llm_ds_names() {
    for algorithm in HashAlgorithm::ALL {
        assert_eq!(algorithm.to_string().parse(), Ok(algorithm));
    }
    assert_eq!("XXH64".parse::<HashAlgorithm>(), Err(UnknownHashAlgorithm));
    assert_eq!("".parse::<HashAlgorithm>(), Err(UnknownHashAlgorithm));
}

#[test]
fn raw_keys_are_texts_or_arrays_that_begin_with_one() {
    use RawExtraKey::{Array, Other, Text};
    let cases: [(&[RawExtraKey<'_>], Option<&str>, BlockExtra); 9] = [
        (&[], None, extra([])),
        (&[Text("a"), Text("b")], None, extra(["a", "b"])),
        (&[Array(Some("a")), Array(None), Other, Text("b")], None, extra(["a", "b"])),
        (&[Text("adapter")], Some("adapter"), extra([])),
        (&[Text("adapter"), Text("i"), Text("salt")], Some("adapter"), extra(["i", "salt"])),
        (&[Text("i"), Text("adapter")], Some("adapter"), extra(["i", "adapter"])),
        (&[Text("adapter")], None, extra(["adapter"])),
        (&[Text("")], Some(""), extra([""])),
        (&[Array(Some("adapter"))], Some("adapter"), extra(["adapter"])),
    ];
    for (raw, lora_name, expected) in cases {
        assert_eq!(BlockExtra::from_raw(raw.iter().copied(), lora_name), expected, "{raw:?}");
    }
}

#[test]
fn llm_ds_cases_of_images_come_out() {
    let image = |hash: &str, start, length| MediaItem { hash: hash.into(), start, length };
    let one = BlockExtra::of_media(&[image("A", 0, 48)], 64, 16);
    assert_eq!(one, [extra(["A"]), extra(["A"]), extra(["A"]), extra([])]);
    let two = BlockExtra::of_media(&[image("B", 48, 32), image("A", 0, 32)], 80, 16);
    assert_eq!(two, [extra(["A"]), extra(["A"]), extra([]), extra(["B"]), extra(["B"])]);
    // Far behind the prompt, and longer than numbers go.
    let far =
        BlockExtra::of_media(&[image("A", usize::MAX, 2), image("B", 17, usize::MAX)], 48, 16);
    assert_eq!(far, [extra([]), extra(["B"]), extra(["B"])]);
}

#[test]
fn a_salt_comes_behind_the_images_of_the_first_block() {
    let mut salted = vec![extra(["image"]), extra([])];
    BlockExtra::add_cache_salt(&mut salted, "salt", 2);
    assert_eq!(salted, [extra(["image", "salt"]), extra([])]);
    for (salt, blocks) in [("", 2), ("salt", 0)] {
        let mut unsalted = Vec::new();
        BlockExtra::add_cache_salt(&mut unsalted, salt, blocks);
        assert!(unsalted.is_empty());
    }
}

#[test]
fn extras_are_spread_over_blocks_of_another_size() {
    let engine = [extra(["a"]), extra([]), extra(["b"])];
    let realigned = |blocks| BlockExtra::realign(&engine, blocks);
    assert_eq!(realigned(3), engine);
    assert_eq!(
        realigned(6),
        [extra(["a"]), extra(["a"]), extra([]), extra([]), extra(["b"]), extra(["b"]),]
    );
    assert_eq!(realigned(5), [extra(["a"]), extra(["a"]), extra([]), extra([]), extra(["b"])]);
    assert_eq!(realigned(2), [extra(["a"]), extra(["b"])]);
    assert_eq!(realigned(1), [extra(["a", "b"])]);
    assert!(realigned(0).is_empty());
    assert!(BlockExtra::realign(&[], 3).is_empty());
}
