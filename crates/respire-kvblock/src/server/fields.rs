//! Decodes each distinct hash field once.
//!
//! A fleet has a few hundred distinct fields, and a lookup meets the same ones at every block. So an index remembers what
//! a field says, and each call numbers the entries that it meets: for all but the first meeting, a field costs one hash
//! and one comparison, without a lock and without touching a reference count that other threads share.

use std::{
    collections::HashMap,
    hash::BuildHasher,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hashbrown::{DefaultHashBuilder, HashTable, hash_table};

use crate::{PodEntry, PodSet};

/// The most fields that are remembered, a hundred times what a large fleet has.
const FIELDS_MAX: usize = 65_536;

/// The most bytes of fields that are remembered, 16 MiB: as many common fields as the other bound allows, twice over.
const BYTES_MAX: usize = 16 << 20;

/// A field and what it says: `None` when it is not an entry.
#[derive(Debug)]
struct Field {
    bytes: Box<[u8]>,
    entry: Option<Arc<PodEntry>>,
}

/// The fields that an index remembers over all calls.
#[derive(Debug, Default)]
pub(super) struct FieldTable {
    hasher: DefaultHashBuilder,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    fields: HashTable<Arc<Field>>,
    /// The sum of the lengths of `fields`.
    bytes: usize,
}

impl FieldTable {
    fn hash(&self, bytes: &[u8]) -> u64 {
        self.hasher.hash_one(bytes)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Nothing under this lock panics half-way: what is in the table is always whole.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the field says, remembered from the last time or decoded now.
    fn field(&self, hash: u64, bytes: &[u8]) -> Arc<Field> {
        if let Some(field) = self.known().find(hash, bytes) {
            return field;
        }
        // Without the lock, which every lookup of this index takes.
        let entry = PodEntry::from_field(bytes).map(Arc::new);
        let field = Arc::new(Field { bytes: bytes.into(), entry });
        if bytes.len() > BYTES_MAX / 64 {
            return field;
        }
        let mut known = self.known();
        // Another call may have been faster.
        known.find(hash, bytes).unwrap_or_else(|| {
            known.insert(hash, &field, &self.hasher);
            field
        })
    }
}

impl Known {
    fn find(&self, hash: u64, bytes: &[u8]) -> Option<Arc<Field>> {
        self.fields.find(hash, |field| *field.bytes == *bytes).cloned()
    }

    fn insert(&mut self, hash: u64, field: &Arc<Field>, hasher: &DefaultHashBuilder) {
        if self.fields.len() >= FIELDS_MAX || self.bytes + field.bytes.len() > BYTES_MAX {
            // Starting anew is cheaper than keeping an order, and a fleet in use is back after one lookup.
            self.fields.clear();
            self.bytes = 0;
        }
        self.bytes += field.bytes.len();
        self.fields.insert_unique(hash, Arc::clone(field), |field| hasher.hash_one(&*field.bytes));
    }
}

/// The fields that one lookup meets, and numbers for the entries that it selects.
#[derive(Debug)]
pub(super) struct CallFields<'a> {
    shared: &'a FieldTable,
    pods: &'a PodSet,
    /// Every field that was met, with its entry's number.
    met: Vec<(Arc<Field>, Option<u32>)>,
    /// Indices into `met`, by their fields.
    by_bytes: HashTable<u32>,
    /// For each position in the replies of this call, the index into `met` of the field that was last met there.
    last_at: Vec<u32>,
    /// The number of each selected entry. Two fields may spell the same one.
    numbers: HashMap<Arc<PodEntry>, u32>,
    entries: Vec<Arc<PodEntry>>,
}

impl<'a> CallFields<'a> {
    pub(super) fn new(shared: &'a FieldTable, pods: &'a PodSet) -> Self {
        Self {
            shared,
            pods,
            met: Vec::new(),
            by_bytes: HashTable::new(),
            last_at: Vec::new(),
            numbers: HashMap::new(),
            entries: Vec::new(),
        }
    }

    /// The numbers of the entries that the fields of one reply spell, from 0 in the order of their meeting. A field that
    /// is no entry, or one of a pod that is not selected, has none.
    ///
    /// Neighbouring blocks have mostly the same holders in the same order, so that a field is first compared with the one
    /// that was met at its position before.
    pub(super) fn numbers<'b>(
        &mut self,
        fields: impl Iterator<Item = &'b [u8]>,
    ) -> impl Iterator<Item = u32> {
        fields.enumerate().filter_map(|(position, bytes)| {
            let guess = self.last_at.get(position).map(|&at| &self.met[at as usize]);
            if let Some((field, number)) = guess
                && *field.bytes == *bytes
            {
                return *number;
            }
            let at = self.meet(bytes);
            match self.last_at.get_mut(position) {
                Some(last) => *last = at,
                // Positions come in order, so that this is the next one.
                None => self.last_at.push(at),
            }
            self.met[at as usize].1
        })
    }

    /// Where the field stands in `met`.
    fn meet(&mut self, bytes: &[u8]) -> u32 {
        let Self { shared, met, by_bytes, .. } = self;
        let hash = shared.hash(bytes);
        let place = by_bytes.entry(
            hash,
            |&at| *met[at as usize].0.bytes == *bytes,
            |&at| shared.hash(&met[at as usize].0.bytes),
        );
        let vacant = match place {
            hash_table::Entry::Occupied(known) => return *known.get(),
            hash_table::Entry::Vacant(vacant) => vacant,
        };
        // Each was at least one byte of a reply in memory.
        let at = u32::try_from(met.len()).expect("fewer than 2^32 distinct fields");
        vacant.insert(at);
        let field = shared.field(hash, bytes);
        let number = self.number(&field);
        self.met.push((field, number));
        at
    }

    /// The number of the entry that a field spells, if it is selected.
    fn number(&mut self, field: &Field) -> Option<u32> {
        let Self { pods, numbers, entries, .. } = self;
        let entry = field.entry.as_ref().filter(|entry| pods.contains(&entry.pod_identifier))?;
        Some(*numbers.entry(Arc::clone(entry)).or_insert_with(|| {
            entries.push(Arc::clone(entry));
            // There are no more than there are fields, which are numbered in 32 bits.
            entries.len() as u32 - 1
        }))
    }

    /// The entries by number.
    pub(super) fn into_entries(self) -> Vec<Arc<PodEntry>> {
        self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(call: &mut CallFields<'_>, field: &[u8]) -> Option<u32> {
        call.numbers(std::iter::once(field)).next()
    }

    fn len(table: &FieldTable) -> usize {
        table.known.lock().unwrap().fields.len()
    }

    #[test]
    fn a_field_is_decoded_once_and_shared_between_calls() {
        let table = FieldTable::default();
        let all = PodSet::all();
        let field = PodEntry::new("a", "gpu").to_field();
        let entry_of_a_call = || {
            let mut call = CallFields::new(&table, &all);
            assert_eq!(number(&mut call, &field), Some(0));
            assert_eq!(number(&mut call, &field), Some(0));
            call.into_entries().pop().unwrap()
        };
        assert!(Arc::ptr_eq(&entry_of_a_call(), &entry_of_a_call()));
        assert_eq!(len(&table), 1);
    }

    #[test]
    fn spellings_of_one_entry_have_one_number() {
        let table = FieldTable::default();
        let all = PodSet::all();
        let mut call = CallFields::new(&table, &all);
        assert_eq!(number(&mut call, b"b@gpu"), Some(0));
        assert_eq!(number(&mut call, b"a@gpu"), Some(1));
        assert_eq!(number(&mut call, &PodEntry::new("a", "gpu").to_field()), Some(1));
        assert_eq!(
            number(&mut call, br#"{"podIdentifier":"a","deviceTier":"gpu","retrievalSpan":2}"#),
            Some(1)
        );
        let entries = call.into_entries();
        assert_eq!(entries.len(), 2);
        assert_eq!(*entries[1], PodEntry::new("a", "gpu"));
    }

    #[test]
    fn what_is_no_entry_or_not_selected_has_no_number() {
        let table = FieldTable::default();
        let only_b: PodSet = ["b"].into_iter().collect();
        let mut call = CallFields::new(&table, &only_b);
        assert_eq!(number(&mut call, b"garbage"), None);
        assert_eq!(number(&mut call, b"a@gpu"), None);
        assert_eq!(number(&mut call, b"b@gpu"), Some(0));
        assert_eq!(number(&mut call, b"garbage"), None);
        assert_eq!(len(&table), 3);
    }

    #[test]
    fn replies_in_any_order_and_length_are_numbered_alike() {
        let table = FieldTable::default();
        let all = PodSet::all();
        let mut call = CallFields::new(&table, &all);
        let mut numbers =
            |fields: &[&[u8]]| -> Vec<u32> { call.numbers(fields.iter().copied()).collect() };
        assert_eq!(numbers(&[b"a@x", b"b@x", b"c@x"]), [0, 1, 2]);
        assert_eq!(numbers(&[b"a@x", b"b@x", b"c@x"]), [0, 1, 2]);
        assert_eq!(numbers(&[b"b@x", b"c@x"]), [1, 2]);
        assert_eq!(numbers(&[b"garbage", b"c@x", b"a@x", b"d@x"]), [2, 0, 3]);
        assert_eq!(numbers(&[b"garbage", b"a@x", b"c@x", b"d@x"]), [0, 2, 3]);
        assert_eq!(numbers(&[]), [0; 0]);
    }

    #[test]
    fn the_memory_of_fields_is_bounded_in_number_and_bytes() {
        let table = FieldTable::default();
        let all = PodSet::all();
        for pod in 0..FIELDS_MAX + 10 {
            number(&mut CallFields::new(&table, &all), format!("{pod}@gpu").as_bytes());
        }
        assert_eq!(len(&table), 10);
        for byte in 0..80_u8 {
            number(&mut CallFields::new(&table, &all), &[byte; BYTES_MAX / 64]);
        }
        assert!(table.known.lock().unwrap().bytes <= BYTES_MAX);
        assert!(len(&table) <= 64);
        number(&mut CallFields::new(&table, &all), &[b'x'; BYTES_MAX / 64 + 1]);
        assert!(table.known.lock().unwrap().bytes <= BYTES_MAX);
    }
}
