//! The number that stands for a block of tokens.

use std::{fmt, str::FromStr};

/// The hash of a block of tokens and of everything before it.
///
/// The same type serves the two kinds of key that an [`Index`](crate::Index) knows: *request keys*, computed from a
/// prompt's tokens, and *engine keys*, which an inference engine announces. `Display` is the unsigned decimal number
/// that llm-d uses in its keys, and `FromStr` reads just that: digits, no sign, no blanks.
///
/// ```
/// use respire_kvblock::BlockHash;
///
/// let hash: BlockHash = "9540012594951042066".parse()?;
/// assert_eq!(hash, BlockHash(9_540_012_594_951_042_066));
/// assert_eq!(hash.to_string(), "9540012594951042066");
/// assert!("+1".parse::<BlockHash>().is_err());
/// # Ok::<(), respire_kvblock::ParseBlockHashError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockHash(pub u64);

impl BlockHash {
    /// The hash that stands for "no block": the parent of a first block.
    pub const EMPTY: Self = Self(0);

    /// Reads what [`Display`](fmt::Display) writes, from bytes. Leading zeros are accepted, as Go accepts them.
    pub(crate) fn from_decimal(text: &[u8]) -> Option<Self> {
        // `u64::from_str` would also take a plus sign.
        if !text.iter().all(u8::is_ascii_digit) {
            return None;
        }
        std::str::from_utf8(text).ok()?.parse().ok().map(Self)
    }
}

impl fmt::Display for BlockHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl From<u64> for BlockHash {
    fn from(hash: u64) -> Self {
        Self(hash)
    }
}

impl FromStr for BlockHash {
    type Err = ParseBlockHashError;

    fn from_str(text: &str) -> Result<Self, ParseBlockHashError> {
        Self::from_decimal(text.as_bytes()).ok_or(ParseBlockHashError)
    }
}

/// The text is not an unsigned decimal number of 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an unsigned decimal number of 64 bits")]
pub struct ParseBlockHashError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_u64_reads_back_from_its_decimal_form() {
        for number in [0, 1, 10, 55_269_488, u64::MAX / 2 + 1, u64::MAX] {
            let hash = BlockHash(number);
            assert_eq!(hash.to_string(), number.to_string());
            assert_eq!(hash.to_string().parse(), Ok(hash));
        }
    }

    #[test]
    fn what_go_would_not_read_as_an_unsigned_number_is_refused() {
        for text in ["", "+1", "-1", " 1", "1 ", "1_000", "0x1", "1.0", "18446744073709551616"] {
            assert_eq!(text.parse::<BlockHash>(), Err(ParseBlockHashError), "{text:?}");
        }
        assert_eq!("007".parse(), Ok(BlockHash(7)));
    }
}
