use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};

use bytes::Bytes;

/// Sums up a typed value, so that what the sides read can be compared.
pub(super) trait Amount {
    fn amount(&self) -> u64;
}

/// A digest of bytes in their order.
pub(super) fn bytes(bytes: &[u8]) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

impl Amount for i64 {
    fn amount(&self) -> u64 {
        self.cast_unsigned()
    }
}

impl Amount for Bytes {
    fn amount(&self) -> u64 {
        bytes(self)
    }
}

impl Amount for rustis::resp::BulkString {
    fn amount(&self) -> u64 {
        bytes(self)
    }
}

impl Amount for String {
    fn amount(&self) -> u64 {
        bytes(self.as_bytes())
    }
}

impl Amount for &str {
    fn amount(&self) -> u64 {
        bytes(self.as_bytes())
    }
}

impl Amount for &[u8] {
    fn amount(&self) -> u64 {
        bytes(self)
    }
}

impl<T: Amount> Amount for Vec<T> {
    fn amount(&self) -> u64 {
        let fold = |sum: u64, item: &T| sum.rotate_left(1).wrapping_add(item.amount());
        self.iter().fold(self.len() as u64, fold)
    }
}

impl<K: Amount, V: Amount, S: BuildHasher> Amount for HashMap<K, V, S> {
    fn amount(&self) -> u64 {
        let fold = |sum: u64, (key, value): (&K, &V)| {
            sum.wrapping_add(key.amount().rotate_left(7) ^ value.amount())
        };
        self.iter().fold(self.len() as u64, fold)
    }
}
