//! The names of the index's keys.

use smallvec::SmallVec;

use crate::BlockHash;

/// What tells the keys of one registry from those of the one before.
pub(super) type Epoch = [u8; 6];

/// A name, in place for prefixes of up to 17 bytes.
pub(super) type Name = SmallVec<[u8; 32]>;

/// What a key that carries an epoch is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Block,
    Engine,
}

impl Kind {
    const fn sign(self) -> u8 {
        match self {
            Self::Block => b'b',
            Self::Engine => b'e',
        }
    }
}

/// The names of an index with a prefix.
#[derive(Clone, Debug)]
pub(super) struct Names {
    prefix: Box<[u8]>,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.as_bytes().into() }
    }

    pub(super) fn registry(&self) -> Name {
        let mut name = Name::from_slice(&self.prefix);
        name.push(b'r');
        name
    }

    pub(super) fn key(&self, kind: Kind, epoch: Epoch, hash: BlockHash) -> Name {
        let mut name = Name::from_slice(&self.prefix);
        name.push(kind.sign());
        name.extend_from_slice(&epoch);
        name.extend_from_slice(&hash.0.to_be_bytes());
        name
    }

    /// What a name stands for, if it is one of a block or an engine key.
    pub(super) fn parse(&self, name: &[u8]) -> Option<(Kind, Epoch, BlockHash)> {
        let (&sign, rest) = name.strip_prefix(&*self.prefix)?.split_first()?;
        let kind = [Kind::Block, Kind::Engine].into_iter().find(|kind| kind.sign() == sign)?;
        let (epoch, hash) = rest.split_first_chunk()?;
        Some((kind, *epoch, BlockHash(u64::from_be_bytes(hash.try_into().ok()?))))
    }

    /// Which byte of a key's name says what the key is for, counted from 1.
    pub(super) fn sign_at(&self) -> usize {
        self.prefix.len() + 1
    }

    /// The pattern that the names of the index match, for `SCAN`. Others may match it too.
    pub(super) fn pattern(&self) -> Vec<u8> {
        let mut pattern = Vec::with_capacity(self.prefix.len() + 1);
        for &byte in &self.prefix {
            if matches!(byte, b'*' | b'?' | b'[' | b']' | b'\\' | b'^') {
                pattern.push(b'\\');
            }
            pattern.push(byte);
        }
        pattern.push(b'*');
        pattern
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: Epoch = *b"\0\r\n*xy";

    #[test]
    fn names_read_back_and_others_do_not() {
        let names = Names::new("a:");
        for kind in [Kind::Block, Kind::Engine] {
            for hash in [0, 1, u64::MAX] {
                let name = names.key(kind, EPOCH, BlockHash(hash));
                assert_eq!(names.parse(&name), Some((kind, EPOCH, BlockHash(hash))));
                assert_eq!(names.parse(&name[..name.len() - 1]), None);
                assert_eq!(names.parse(&[&name[..], b"x"].concat()), None);
                assert_eq!(Names::new("a").parse(&name), None);
            }
        }
        assert_eq!(names.parse(&names.registry()), None);
        assert_eq!(names.parse(b"a:x0123456789abcd"), None);
    }

    #[test]
    fn a_prefix_is_no_pattern() {
        assert_eq!(Names::new(r"a*[b]?\^:").pattern(), br"a\*\[b\]\?\\\^:*");
    }
}
