//! From tokens to block keys.

use std::{fmt, num::NonZeroUsize, str::FromStr};

use serde::Serialize;

use crate::{BlockHash, ConfigError};

mod extra;
mod fnv;
mod xxh;

pub use extra::{BlockExtra, MediaItem, RawExtraKey};

/// How block keys are computed: llm-d's `tokenProcessorConfig`.
///
/// Everybody who shares an index has to compute its keys alike. All three settings are part of every key: none may change
/// while an index holds keys, or engines hold blocks.
///
/// | setting | meaning |
/// |---|---|
/// | `blockSizeTokens` | tokens a block; 0 stands for the default, 16 |
/// | `blockSize` | its old name, which counts where `blockSizeTokens` is missing or 0 |
/// | `hashSeed` | see [`hash_seed`](Self::hash_seed) |
/// | `hashAlgorithm` | `cbor-fnv`, which the empty text stands for too, or `xxh64` |
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenProcessorConfig {
    /// Tokens a block, at least 1. It need not be the engines' block size.
    pub block_size_tokens: usize,
    /// What the first hash is made of. llm-d's deployments set it to the engines' `PYTHONHASHSEED`.
    pub hash_seed: String,
    /// How a block is hashed.
    pub hash_algorithm: HashAlgorithm,
}

/// llm-d's default: 16 tokens, no seed, FNV-64a over CBOR.
impl Default for TokenProcessorConfig {
    fn default() -> Self {
        Self {
            block_size_tokens: 16,
            hash_seed: String::new(),
            hash_algorithm: HashAlgorithm::CborFnv,
        }
    }
}

/// How a block is hashed. `Display` and `FromStr` use llm-d's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub enum HashAlgorithm {
    /// FNV-64a over the canonical CBOR of `[parent, tokens, extra]`: `cbor-fnv`.
    #[default]
    #[serde(rename = "cbor-fnv")]
    CborFnv,
    /// XXH64 over the parent, the tokens and the extra strings, in little-endian bytes: `xxh64`.
    #[serde(rename = "xxh64")]
    Xxh64,
}

impl HashAlgorithm {
    /// All there are.
    pub const ALL: [Self; 2] = [Self::CborFnv, Self::Xxh64];

    /// The name in llm-d's configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::CborFnv => "cbor-fnv",
            Self::Xxh64 => "xxh64",
        }
    }
}

impl fmt::Display for HashAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for HashAlgorithm {
    type Err = UnknownHashAlgorithm;

    fn from_str(name: &str) -> Result<Self, UnknownHashAlgorithm> {
        let found = Self::ALL.into_iter().find(|algorithm| algorithm.name() == name);
        found.ok_or(UnknownHashAlgorithm)
    }
}

/// The text names no [`HashAlgorithm`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be cbor-fnv or xxh64")]
pub struct UnknownHashAlgorithm;

/// Computes the request keys of a prompt, one for each full block of its tokens.
///
/// A key is the hash of the block's tokens, of the key before it, and of what else has a say in the block's content; the first
/// block follows a root that is made of the seed and the model's name. So two prompts have a key in common exactly where they
/// have everything up to there in common, up to a collision of 64 bits.
///
/// ```
/// use respire_kvblock::{BlockHash, TokenProcessor, TokenProcessorConfig};
///
/// let processor = TokenProcessor::new(&TokenProcessorConfig { block_size_tokens: 4, ..Default::default() })?;
/// let tokens = [8197, 438, 322, 18926, 432, 45600, 49];
/// let keys = processor.block_keys(BlockHash::EMPTY, &tokens, "ibm-granite/granite-3.1-8b-instruct");
/// // Of seven tokens, four fill a block.
/// assert_eq!(keys, [BlockHash(1_334_984_470_577_408_192)]);
/// # Ok::<(), respire_kvblock::ConfigError>(())
/// ```
///
/// Hashing allocates nothing but the answer.
#[derive(Clone, Debug)]
pub struct TokenProcessor {
    block_size: NonZeroUsize,
    algorithm: HashAlgorithm,
    /// The hash of the seed.
    init: u64,
}

impl TokenProcessor {
    /// A processor with these settings.
    ///
    /// # Errors
    ///
    /// When the block size is 0.
    pub fn new(config: &TokenProcessorConfig) -> Result<Self, ConfigError> {
        let block_size = NonZeroUsize::new(config.block_size_tokens).ok_or_else(|| {
            let problem = "must be greater than 0, got 0".to_owned();
            ConfigError::invalid("tokenProcessorConfig.blockSizeTokens", problem)
        })?;
        let seed = config.hash_seed.as_bytes();
        let init = match config.hash_algorithm {
            HashAlgorithm::CborFnv => fnv::seed(seed),
            HashAlgorithm::Xxh64 => xxh::seed(seed),
        };
        Ok(Self { block_size, algorithm: config.hash_algorithm, init })
    }

    /// Tokens a block.
    pub fn block_size(&self) -> usize {
        self.block_size.get()
    }

    /// How a block is hashed.
    pub fn algorithm(&self) -> HashAlgorithm {
        self.algorithm
    }

    /// How many keys so many tokens have: that of the full blocks.
    pub fn block_count(&self, tokens: usize) -> usize {
        tokens / self.block_size
    }

    /// What the first block of every prompt of a model follows.
    pub fn root(&self, model: &str) -> BlockHash {
        BlockHash(match self.algorithm {
            HashAlgorithm::CborFnv => fnv::root(self.init, model),
            HashAlgorithm::Xxh64 => xxh::block(self.init, &[], [model]),
        })
    }

    /// The keys of the full blocks of a text.
    ///
    /// `parent` is the key of the block before the first one here. [`BlockHash::EMPTY`] stands for none: then the keys follow
    /// the [root](Self::root) of `model`, whose name has no other part in them. Of a prompt to an adapter (LoRA), `model` is
    /// the adapter's name.
    pub fn block_keys(&self, parent: BlockHash, tokens: &[u32], model: &str) -> Vec<BlockHash> {
        self.chain(parent, tokens, model, &[])
    }

    /// As [`block_keys`](Self::block_keys), with what each block has besides tokens: `extra` has an element for every full
    /// block, or none at all.
    ///
    /// # Errors
    ///
    /// When it has another number.
    pub fn block_keys_with_extra(
        &self,
        parent: BlockHash,
        tokens: &[u32],
        model: &str,
        extra: &[BlockExtra],
    ) -> Result<Vec<BlockHash>, ExtraCountError> {
        let blocks = self.block_count(tokens.len());
        if !extra.is_empty() && extra.len() != blocks {
            let block_size = self.block_size();
            return Err(ExtraCountError {
                extra: extra.len(),
                blocks,
                block_size,
                tokens: tokens.len(),
            });
        }
        Ok(self.chain(parent, tokens, model, extra))
    }

    fn chain(
        &self,
        parent: BlockHash,
        tokens: &[u32],
        model: &str,
        extra: &[BlockExtra],
    ) -> Vec<BlockHash> {
        let blocks = tokens.chunks_exact(self.block_size());
        if blocks.len() == 0 {
            return Vec::new();
        }
        let mut last = match parent {
            BlockHash::EMPTY => self.root(model).0,
            parent => parent.0,
        };
        let mut next = |tokens: &[u32], extra: &BlockExtra| {
            last = match self.algorithm {
                HashAlgorithm::CborFnv => fnv::block(last, tokens, extra),
                HashAlgorithm::Xxh64 => xxh::block(last, tokens, extra.iter()),
            };
            BlockHash(last)
        };
        if extra.is_empty() {
            let none = BlockExtra::default();
            blocks.map(|tokens| next(tokens, &none)).collect()
        } else {
            blocks.zip(extra).map(|(tokens, extra)| next(tokens, extra)).collect()
        }
    }
}

/// There is not one [`BlockExtra`] for each block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "extraFeatures length {extra} does not match token chunk count {blocks} \
     (blockSizeTokens={block_size}, tokens={tokens})"
)]
pub struct ExtraCountError {
    /// How many were given.
    extra: usize,
    /// How many full blocks there are.
    blocks: usize,
    block_size: usize,
    tokens: usize,
}

#[cfg(test)]
mod tests;
