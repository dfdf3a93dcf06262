//! What lies on the server, and how a reply is known to be right.

use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

use anyhow::{Result, ensure};
use bytes::Bytes;

/// Bytes of a small value.
pub const VALUE_BYTES: usize = 32;
/// Bytes of a large value.
pub const LARGE_BYTES: usize = 1 << 20;
/// Small values, and hashes, that there are.
pub const KEYS: usize = 512;
/// Fields of a hash.
pub const FIELDS: usize = 4;
/// Bytes of the name of a field.
pub const FIELD_BYTES: usize = 100;

/// Keys and values, the same for every side.
#[derive(Clone, Debug)]
pub struct Data {
    /// The keys of the small values.
    pub keys: Arc<[String]>,
    /// The keys of the hashes.
    pub hashes: Arc<[String]>,
    /// The key of the large value.
    pub large_key: String,
    /// The large value.
    pub large: Bytes,
}

impl Data {
    /// Always the same.
    pub fn new() -> Self {
        let large: Vec<u8> = (0..LARGE_BYTES).map(|place| (place * 31 % 251) as u8).collect();
        Self {
            keys: (0..KEYS).map(|index| format!("value:{index:04}")).collect(),
            hashes: (0..KEYS).map(|index| format!("block:{index:04}")).collect(),
            large_key: "large".to_owned(),
            large: large.into(),
        }
    }

    /// The small value of a key: no two are alike, so that a reply that went astray shows.
    pub fn value(index: usize) -> [u8; VALUE_BYTES] {
        let mut value = [b'v'; VALUE_BYTES];
        let digits = format!("{index:08}");
        for (byte, digit) in value.iter_mut().zip(digits.bytes()) {
            *byte = digit;
        }
        value
    }

    /// The name of a field of a hash.
    pub fn field(hash: usize, field: usize) -> String {
        format!("{hash:08}-{field:03}-{}", "f".repeat(FIELD_BYTES - 13))
    }

    /// What the first so many small values amount to.
    pub fn values_sum(&self, count: usize) -> Sum {
        let mut sum = Sum::default();
        (0..count).for_each(|index| sum.add_thoroughly(&Self::value(index)));
        sum
    }

    /// What the fields of the first so many hashes amount to.
    pub fn fields_sum(&self, count: usize) -> Sum {
        let mut sum = Sum::default();
        for hash in 0..count {
            (0..FIELDS).for_each(|field| sum.add_thoroughly(Self::field(hash, field).as_bytes()));
        }
        sum
    }

    /// What the large value amounts to.
    pub fn large_sum(&self) -> Sum {
        let mut sum = Sum::default();
        sum.add_thoroughly(&self.large);
        sum
    }
}

impl Default for Data {
    fn default() -> Self {
        Self::new()
    }
}

/// What strings amount to, whatever their order: a hash's fields have none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    strings: u64,
    bytes: u64,
    digest: u64,
}

impl Sum {
    /// Adds a string by its size, which takes no time to speak of.
    #[inline]
    pub fn add(&mut self, string: &[u8]) {
        self.strings += 1;
        self.bytes += string.len() as u64;
    }

    /// Adds a string by all its bytes.
    pub fn add_thoroughly(&mut self, string: &[u8]) {
        self.add(string);
        let mut hasher = DefaultHasher::new();
        hasher.write(string);
        self.digest = self.digest.wrapping_add(hasher.finish());
    }

    /// # Errors
    ///
    /// When the strings are not those that were expected.
    pub fn check_thoroughly(&self, expected: &Self) -> Result<()> {
        ensure!(self == expected, "a wrong reply: {self:?} and not {expected:?}");
        Ok(())
    }

    /// # Errors
    ///
    /// When there were more or fewer strings than expected, or longer or shorter ones.
    pub fn check(&self, expected: &Self) -> Result<()> {
        let same = self.strings == expected.strings && self.bytes == expected.bytes;
        ensure!(same, "a wrong reply: {self:?} and not {expected:?}");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_values_have_the_size_that_they_should() {
        assert_eq!(Data::field(511, 3).len(), FIELD_BYTES);
        assert_ne!(Data::value(11), Data::value(12));
    }

    #[test]
    fn a_sum_tells_other_strings_but_not_another_order() {
        let sum = |strings: &[&[u8]]| {
            let mut sum = Sum::default();
            strings.iter().for_each(|string| sum.add_thoroughly(string));
            sum
        };
        let expected = sum(&[b"ab", b"c"]);
        assert!(sum(&[b"c", b"ab"]).check_thoroughly(&expected).is_ok());
        assert!(sum(&[b"cb", b"a"]).check_thoroughly(&expected).is_err());
        assert!(sum(&[b"xx", b"x"]).check(&expected).is_ok());
        assert!(sum(&[b"abc"]).check(&expected).is_err());
    }
}
