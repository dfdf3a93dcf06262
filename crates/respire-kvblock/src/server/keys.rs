//! The names of keys on the server.

use std::fmt;

use crate::BlockHash;

/// What an engine key's name starts with.
const ENGINE_PREFIX: &[u8] = b"engine:";

/// The most digits that a hash has.
const DIGITS_MAX: usize = 20;

/// The name of one key, held in place.
#[derive(Clone, Copy)]
pub(super) struct Key {
    bytes: [u8; ENGINE_PREFIX.len() + DIGITS_MAX],
    /// At most the length of `bytes`.
    len: u8,
}

impl Key {
    /// The hash that holds the entries of a request key.
    pub(super) fn request(request_key: BlockHash) -> Self {
        Self::with_prefix(b"", request_key)
    }

    /// The sorted set that holds the request keys of an engine key.
    pub(super) fn engine(engine_key: BlockHash) -> Self {
        Self::with_prefix(ENGINE_PREFIX, engine_key)
    }

    fn with_prefix(prefix: &[u8], hash: BlockHash) -> Self {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(hash.0).as_bytes();
        let len = prefix.len() + digits.len();
        let mut bytes = [0; ENGINE_PREFIX.len() + DIGITS_MAX];
        bytes[..prefix.len()].copy_from_slice(prefix);
        bytes[prefix.len()..len].copy_from_slice(digits);
        // At most 27.
        Self { bytes, len: len as u8 }
    }

    /// The request key whose entries a key of this name holds, if it is the name that we would give it.
    pub(super) fn parse_request(name: &[u8]) -> Option<BlockHash> {
        BlockHash::from_decimal(name).filter(|&hash| Self::request(hash).as_ref() == name)
    }
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_layout() {
        assert_eq!(Key::request(BlockHash(0)).as_ref(), b"0");
        assert_eq!(Key::request(BlockHash(u64::MAX)).as_ref(), b"18446744073709551615");
        assert_eq!(Key::engine(BlockHash(55_269_488)).as_ref(), b"engine:55269488");
        assert_eq!(Key::engine(BlockHash(u64::MAX)).as_ref(), b"engine:18446744073709551615");
    }

    #[test]
    fn only_names_that_we_would_give_are_request_keys() {
        assert_eq!(Key::parse_request(b"42"), Some(BlockHash(42)));
        for name in ["", "042", "engine:42", "42x", "-1", "18446744073709551616", "session"] {
            assert_eq!(Key::parse_request(name.as_bytes()), None, "{name}");
        }
    }
}
