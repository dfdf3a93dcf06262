//! The names of keys on the server.

use std::fmt;

use smallvec::SmallVec;

use crate::BlockHash;

/// What an engine key's name starts with, whatever the index's own prefix: llm-d's clear passes such names by, and stops
/// at any other name that holds no hash.
const ENGINE_PREFIX: &[u8] = b"engine:";

/// The most bytes of an index's own prefix.
const PREFIX_MAX: usize = 128;

/// The names of one index's keys: llm-d's own, or the same behind a prefix.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    prefix: Box<[u8]>,
}

impl Names {
    /// The names behind this prefix, or what is wrong with it.
    ///
    /// A name is the prefix and a number, so that a prefix that ends with a digit would make it another index's name. One
    /// that starts like an engine key's name, or like what we keep beside them, would be taken for it.
    pub(super) fn with_prefix(prefix: &str) -> Result<Self, String> {
        let problem = if prefix.len() > PREFIX_MAX {
            format!("must have at most {PREFIX_MAX} bytes")
        } else if prefix.ends_with(|last: char| last.is_ascii_digit()) {
            "must not end with a digit: a number follows".to_owned()
        } else if prefix.starts_with("engine:") || prefix.contains('~') {
            "must not start with \"engine:\" nor hold a \"~\": other keys of an index do".to_owned()
        } else {
            return Ok(Self { prefix: prefix.as_bytes().into() });
        };
        Err(problem)
    }

    /// The hash that holds the entries of a request key.
    pub(super) fn request(&self, request_key: BlockHash) -> Key {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(request_key.0).as_bytes();
        let mut bytes = SmallVec::new();
        bytes.extend_from_slice(&self.prefix);
        bytes.extend_from_slice(digits);
        Key { bytes }
    }

    /// The sorted set that holds the request keys of an engine key.
    pub(super) fn engine(&self, engine_key: BlockHash) -> Key {
        let mut bytes = SmallVec::from_slice(ENGINE_PREFIX);
        bytes.extend_from_slice(&self.request(engine_key).bytes);
        Key { bytes }
    }

    /// The request key whose entries a key of this name holds, if it is the name that we would give it.
    pub(super) fn parse_request(&self, name: &[u8]) -> Option<BlockHash> {
        let digits = name.strip_prefix(&*self.prefix)?;
        BlockHash::from_decimal(digits).filter(|&hash| self.request(hash).as_ref() == name)
    }

    /// The set of all entries that a pod ever had; see [`reverse`](super::reverse).
    pub(super) fn reverse_fields(&self, pod_identifier: &str) -> Key {
        self.reverse(&[b"engine:~fields:", &self.prefix, b"~", pod_identifier.as_bytes()])
    }

    /// A set of request keys that hold an entry.
    pub(super) fn reverse_keys(&self, bucket: u8, field: &[u8]) -> Key {
        let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
        let bucket = [b'~', digit(bucket >> 4), digit(bucket & 15), b'~'];
        self.reverse(&[b"engine:~keys:", &self.prefix, &bucket, field])
    }

    /// The mark by which a loss is noticed; see [`loss`](super::loss).
    pub(super) fn mark(&self) -> Key {
        self.reverse(&[b"engine:~mark:", &self.prefix])
    }

    fn reverse(&self, parts: &[&[u8]]) -> Key {
        Key { bytes: parts.iter().flat_map(|part| part.iter().copied()).collect() }
    }

    /// The length of the prefix in bytes, behind which the number stands in a request key's name.
    pub(super) fn prefix_len(&self) -> usize {
        self.prefix.len()
    }

    /// A pattern for the names of request keys; `None` where it would fit every name.
    pub(super) fn pattern(&self) -> Option<Vec<u8>> {
        if self.prefix.is_empty() {
            return None;
        }
        let mut pattern = Vec::with_capacity(self.prefix.len() + 1);
        for &byte in &self.prefix {
            if b"*?[]^-\\".contains(&byte) {
                pattern.push(b'\\');
            }
            pattern.push(byte);
        }
        pattern.push(b'*');
        Some(pattern)
    }
}

/// The name of one key.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Key {
    /// In place without a prefix: an engine key's name has 27 bytes at most.
    bytes: SmallVec<[u8; 32]>,
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
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
        let names = Names::default();
        assert_eq!(names.request(BlockHash(0)).as_ref(), b"0");
        assert_eq!(names.request(BlockHash(u64::MAX)).as_ref(), b"18446744073709551615");
        assert_eq!(names.engine(BlockHash(55_269_488)).as_ref(), b"engine:55269488");
        assert_eq!(names.engine(BlockHash(u64::MAX)).as_ref(), b"engine:18446744073709551615");
    }

    #[test]
    fn a_prefix_stands_before_the_number_and_engine_keys_stay_recognisable() {
        let names = Names::with_prefix("tenant-7:").unwrap();
        assert_eq!(names.request(BlockHash(42)).as_ref(), b"tenant-7:42");
        assert_eq!(names.engine(BlockHash(42)).as_ref(), b"engine:tenant-7:42");
        assert_eq!(names.parse_request(b"tenant-7:42"), Some(BlockHash(42)));
        for other in ["42", "tenant-7:", "tenant-7:042", "tenant-77:42", "engine:tenant-7:42"] {
            assert_eq!(names.parse_request(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn a_prefix_that_could_be_taken_for_something_else_is_refused() {
        for prefix in ["1", "tenant-7", "engine:", "engine:x:", "~", "a~b:", &"x".repeat(129)] {
            assert!(Names::with_prefix(prefix).is_err(), "{prefix}");
        }
        for prefix in ["", "a", "{model}:", "7:", "Engine:"] {
            assert!(Names::with_prefix(prefix).is_ok(), "{prefix}");
        }
    }

    #[test]
    fn the_sets_of_a_pod_cannot_be_taken_for_those_of_another_index() {
        let (plain, prefixed) = (Names::default(), Names::with_prefix("a:").unwrap());
        assert_eq!(plain.reverse_fields("p").as_ref(), b"engine:~fields:~p");
        assert_eq!(prefixed.reverse_fields("p").as_ref(), b"engine:~fields:a:~p");
        assert_eq!(plain.reverse_keys(0x0f, b"p@gpu").as_ref(), b"engine:~keys:~0f~p@gpu");
        assert_eq!(prefixed.reverse_keys(0xa0, b"p@gpu").as_ref(), b"engine:~keys:a:~a0~p@gpu");
        assert_eq!(plain.mark().as_ref(), b"engine:~mark:");
        assert_eq!(prefixed.mark().as_ref(), b"engine:~mark:a:");
    }

    #[test]
    fn a_pattern_takes_a_prefix_literally() {
        assert_eq!(Names::default().pattern(), None);
        let pattern = |prefix| Names::with_prefix(prefix).unwrap().pattern().unwrap();
        assert_eq!(pattern("a:"), b"a:*");
        assert_eq!(pattern("a*[b]?\\"), br"a\*\[b\]\?\\*");
    }

    #[test]
    fn only_names_that_we_would_give_are_request_keys() {
        let names = Names::default();
        assert_eq!(names.parse_request(b"42"), Some(BlockHash(42)));
        for name in ["", "042", "engine:42", "42x", "-1", "18446744073709551616", "session"] {
            assert_eq!(names.parse_request(name.as_bytes()), None, "{name}");
        }
    }
}
