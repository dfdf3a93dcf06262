//! Sets of columns, and the values of blocks.
//!
//! A set is 64-bit words. Column c is the bit c % 64 of word c / 64, counted from the highest, so that a bitmap's bytes are
//! words as they stand.

/// How many columns an index can have: they are written in two bytes.
pub(super) const COLUMNS_MAX: u32 = 1 << 16;

/// A bitmap follows.
const BITMAP: u8 = 0;
/// The columns themselves follow.
const LIST: u8 = 1;

/// A set of columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Columns {
    words: Vec<u64>,
}

impl Columns {
    /// An empty set with room for the columns below `len`.
    pub(super) fn with_room(len: usize) -> Self {
        Self { words: vec![0; len.div_ceil(64)] }
    }

    /// Adds a column, for which there has to be room; else it is left out.
    pub(super) fn insert(&mut self, column: usize) {
        if let Some(word) = self.words.get_mut(column / 64) {
            *word |= bit(column);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        self.words
            .iter()
            .enumerate()
            .flat_map(|(at, &word)| Bits(word).map(move |bit| at * 64 + bit))
    }

    /// Becomes those of `among` that a block's value names. Whether there is any. A value that is not a block's names none.
    pub(super) fn read(&mut self, value: &[u8], among: &Self) -> bool {
        self.words.clear();
        self.words.resize(among.words.len(), 0);
        match value.split_first() {
            Some((&BITMAP, bitmap)) => self.read_bitmap(bitmap, among),
            Some((&LIST, list)) => self.read_list(list, among),
            _ => false,
        }
    }

    fn read_bitmap(&mut self, bitmap: &[u8], among: &Self) -> bool {
        let (whole, rest) = bitmap.as_chunks();
        let mut end = [0; 8];
        end[..rest.len()].copy_from_slice(rest);
        let mut any = 0;
        for ((word, bytes), among) in
            self.words.iter_mut().zip(whole.iter().chain([&end])).zip(&among.words)
        {
            *word = u64::from_be_bytes(*bytes) & among;
            any |= *word;
        }
        any != 0
    }

    fn read_list(&mut self, list: &[u8], among: &Self) -> bool {
        let mut any = false;
        for &column in list.as_chunks().0 {
            let column = usize::from(u16::from_be_bytes(column));
            let (Some(word), Some(among)) =
                (self.words.get_mut(column / 64), among.words.get(column / 64))
            else {
                continue;
            };
            *word |= bit(column) & among;
            any |= bit(column) & among != 0;
        }
        any
    }
}

const fn bit(column: usize) -> u64 {
    1 << 63 >> (column % 64)
}

/// The bits of a word that are set, counted from the highest.
struct Bits(u64);

impl Iterator for Bits {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        (self.0 != 0).then(|| {
            let at = self.0.leading_zeros() as usize;
            self.0 &= !bit(at);
            at
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(len: usize, columns: &[usize]) -> Columns {
        let mut set = Columns::with_room(len);
        columns.iter().for_each(|&column| set.insert(column));
        set
    }

    fn read(value: &[u8], among: &Columns) -> Vec<usize> {
        let mut found = Columns::default();
        let any = found.read(value, among);
        let found: Vec<_> = found.iter().collect();
        assert_eq!(any, !found.is_empty());
        found
    }

    #[test]
    fn both_forms_say_the_same() {
        let all = set(200, &(0..200).collect::<Vec<_>>());
        let columns = [0, 7, 8, 63, 64, 65, 127, 130];
        let (mut bitmap, mut list) = (vec![0; 18], vec![1]);
        for &column in &columns {
            bitmap[1 + column / 8] |= 128 >> (column % 8);
            list.extend_from_slice(&(column as u16).to_be_bytes());
        }
        assert_eq!(read(&bitmap, &all), columns);
        assert_eq!(read(&list, &all), columns);
        let some = set(200, &[7, 65, 131]);
        assert_eq!(read(&bitmap, &some), [7, 65]);
        assert_eq!(read(&list, &some), [7, 65]);
    }

    #[test]
    fn columns_that_nobody_knows_and_values_of_others_name_none() {
        let known = set(3, &[0, 1, 2]);
        assert_eq!(read(b"\x01\xff\xff\x00\x02\x00", &known), [2]);
        assert_eq!(read(&[[0].as_slice(), &[0xff; 100]].concat(), &known), [0, 1, 2]);
        for value in [b"".as_slice(), b"\0", b"\x01", b"\x02\0\0", b"text"] {
            assert_eq!(read(value, &known), [0_usize; 0], "{value:?}");
        }
        assert_eq!(read(b"\0\xff", &Columns::default()), [0_usize; 0]);
    }
}
