//! XXH64 over a block's content in little-endian bytes: the parent in 8, each token in 4, and of each extra string the
//! length in 8 and its bytes.

use std::hash::Hasher;

use twox_hash::XxHash64;

/// Tokens are handed to the hash in pieces of so many, 256 bytes each.
const TOKENS_AT_ONCE: usize = 64;

/// The hash that the chain starts from.
pub(super) fn seed(seed: &[u8]) -> u64 {
    XxHash64::oneshot(0, seed)
}

/// The key of a block; with a model's name for the extra string and no tokens, what the first block follows.
pub(super) fn block<'a>(
    parent: u64,
    tokens: &[u32],
    extra: impl IntoIterator<Item = &'a str>,
) -> u64 {
    let mut hash = XxHash64::with_seed(0);
    hash.write(&parent.to_le_bytes());
    let mut buffer = [0; TOKENS_AT_ONCE * 4];
    for piece in tokens.chunks(TOKENS_AT_ONCE) {
        for (bytes, token) in buffer.chunks_exact_mut(4).zip(piece) {
            bytes.copy_from_slice(&token.to_le_bytes());
        }
        hash.write(&buffer[..piece.len() * 4]);
    }
    for text in extra {
        hash.write(&(text.len() as u64).to_le_bytes());
        hash.write(text.as_bytes());
    }
    hash.finish()
}
