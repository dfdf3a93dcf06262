//! FNV-64a over canonical CBOR, fed to the hash as it is written: no block is ever encoded in memory.
//!
//! A block is `[parent, tokens, extra]`, where `extra` is null or an array of `{"Hash": text}`. The root is
//! `[init, null, model]`.

use super::BlockExtra;

/// The hash before the first byte, of the 64-bit FNV.
const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// The major types of CBOR that occur, as the upper bits of a head (RFC 8949, section 3.1).
const UNSIGNED: u8 = 0 << 5;
const TEXT: u8 = 3 << 5;
const ARRAY: u8 = 4 << 5;
const MAP: u8 = 5 << 5;
const NULL: u8 = 0xf6;

/// The hash that the chain starts from.
pub(super) fn seed(seed: &[u8]) -> u64 {
    Fnv::default().bytes(seed).0
}

/// What the first block of a model follows.
pub(super) fn root(init: u64, model: &str) -> u64 {
    Fnv::default().head(ARRAY, 3).head(UNSIGNED, init).byte(NULL).text(model).0
}

/// The key of a block.
pub(super) fn block(parent: u64, tokens: &[u32], extra: &BlockExtra) -> u64 {
    let mut hash = Fnv::default().head(ARRAY, 3).head(UNSIGNED, parent);
    hash = hash.head(ARRAY, tokens.len() as u64);
    for &token in tokens {
        hash = hash.head(UNSIGNED, token.into());
    }
    if extra.is_empty() {
        return hash.byte(NULL).0;
    }
    hash = hash.head(ARRAY, extra.len() as u64);
    for text in extra.iter() {
        hash = hash.head(MAP, 1).text("Hash").text(text);
    }
    hash.0
}

/// The state of the hash.
#[derive(Clone, Copy)]
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(OFFSET_BASIS)
    }
}

impl Fnv {
    #[inline]
    fn byte(self, byte: u8) -> Self {
        Self((self.0 ^ u64::from(byte)).wrapping_mul(PRIME))
    }

    #[inline]
    fn bytes(self, bytes: &[u8]) -> Self {
        bytes.iter().fold(self, |hash, &byte| hash.byte(byte))
    }

    /// A head: the major type with its argument in the fewest bytes, big-endian.
    #[inline]
    fn head(self, major: u8, argument: u64) -> Self {
        match argument {
            0..24 => self.byte(major | argument as u8),
            24..0x100 => self.byte(major | 24).byte(argument as u8),
            0x100..0x1_0000 => self.byte(major | 25).bytes(&(argument as u16).to_be_bytes()),
            0x1_0000..0x1_0000_0000 => {
                self.byte(major | 26).bytes(&(argument as u32).to_be_bytes())
            }
            _ => self.byte(major | 27).bytes(&argument.to_be_bytes()),
        }
    }

    fn text(self, text: &str) -> Self {
        self.head(TEXT, text.len() as u64).bytes(text.as_bytes())
    }
}
