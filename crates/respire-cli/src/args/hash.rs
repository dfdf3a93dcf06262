//! The command line of `hash`.

use std::num::NonZeroUsize;

use clap::Args;
use respire_cli::hash::Format;
use respire_kvblock::{ConfigError, HashAlgorithm, TokenProcessor, TokenProcessorConfig};

/// Compute the block keys of a prompt from the token ids on standard input.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct HashArgs {
    /// The model's name, or an adapter's (LoRA) if the prompt is for one
    #[arg(long, value_name = "NAME")]
    pub(crate) model: String,

    /// The seed of the hashes, as llm-d's `hashSeed`
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    seed: String,

    /// Tokens a block
    #[arg(long, value_name = "N", default_value = "16", value_parser = block_size)]
    block_size: NonZeroUsize,

    /// The hash
    #[arg(long, value_name = "cbor-fnv|xxh64", default_value = "cbor-fnv")]
    algorithm: HashAlgorithm,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Wrapped by hand, at 80 columns.
const AFTER_HELP: &str = "\
The input is a JSON array of token ids, or an object:
  {\"tokens\": [1, 2, ...],    the token ids, from 0 to 4294967295
   \"parent\": 77,             the key of the block before the first one here, as a
                             number or a text; 0 or null: none, then the keys
                             follow from the model's name
   \"extra\": [[\"image\"], null]}   for each full block what engines announce as its
                             extra_keys: texts, or arrays that begin with one
`parent` and `extra` may be left out.

Each full block has a key, printed as one decimal number a line. With --json:
  {\"model\":\"...\",\"algorithm\":\"cbor-fnv\",\"block_size\":16,
   \"root\":17515353698173365712,   the key that the first block follows
   \"tokens\":35,\"keys\":[...]}       numbers of up to 64 bits

cbor-fnv is FNV-64a over the canonical CBOR of [parent, tokens, extra], xxh64 is
XXH64 over the same in little-endian bytes: llm-d's two chains.

Exit status: 0 if the keys were printed, or if nobody reads them any more; 1 if
the input cannot be read or the output not be written; 2 for a wrong command
line; 3 if the input is not what it has to be.";

impl HashArgs {
    pub(crate) fn processor(&self) -> Result<TokenProcessor, ConfigError> {
        TokenProcessor::new(&TokenProcessorConfig {
            block_size_tokens: self.block_size.get(),
            hash_seed: self.seed.clone(),
            hash_algorithm: self.algorithm,
        })
    }

    pub(crate) fn format(&self) -> Format {
        if self.json { Format::Json } else { Format::Lines }
    }
}

fn block_size(text: &str) -> Result<NonZeroUsize, &'static str> {
    text.parse().map_err(|_| "expected a number of tokens, at least 1")
}
