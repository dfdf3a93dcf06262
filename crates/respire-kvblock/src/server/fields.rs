//! Decodes each distinct hash field once.
//!
//! A fleet has a few hundred distinct fields, and a lookup meets the same ones at every block. So an index remembers what
//! a field says, and each call numbers the entries that it meets: for all but the first meeting, a field costs one hash
//! and one comparison, without a lock and without touching a reference count that other threads share.

use std::{
    collections::HashMap,
    hash::BuildHasher,
    sync::{Arc, Mutex, PoisonError},
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

    /// What the field says, remembered from the last time or decoded now.
    fn field(&self, hash: u64, bytes: &[u8]) -> Arc<Field> {
        // Nothing under this lock panics half-way: what is in the table is always whole.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(field) = known.fields.find(hash, |field| *field.bytes == *bytes) {
            return Arc::clone(field);
        }
        let entry = PodEntry::from_field(bytes).map(Arc::new);
        let field = Arc::new(Field { bytes: bytes.into(), entry });
        if bytes.len() <= BYTES_MAX / 64 {
            known.insert(hash, &field, &self.hasher);
        }
        field
    }
}

impl Known {
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

/// The fields that one call meets, and numbers for the entries that it selects.
#[derive(Debug)]
pub(super) struct CallFields<'a> {
    shared: &'a FieldTable,
    pods: &'a PodSet,
    met: HashTable<(Arc<Field>, Option<u32>)>,
    /// The number of each selected entry. Two fields may spell the same one.
    numbers: HashMap<Arc<PodEntry>, u32>,
    entries: Vec<Arc<PodEntry>>,
}

impl<'a> CallFields<'a> {
    pub(super) fn new(shared: &'a FieldTable, pods: &'a PodSet) -> Self {
        Self { shared, pods, met: HashTable::new(), numbers: HashMap::new(), entries: Vec::new() }
    }

    /// The number of the entry that the field spells, from 0 in the order of their meeting; `None` for a field that is no
    /// entry, and for a pod that is not selected.
    pub(super) fn number(&mut self, bytes: &[u8]) -> Option<u32> {
        let Self { shared, pods, met, numbers, entries } = self;
        let hash = shared.hash(bytes);
        let met = met.entry(
            hash,
            |(field, _)| *field.bytes == *bytes,
            |(field, _)| shared.hash(&field.bytes),
        );
        let vacant = match met {
            hash_table::Entry::Occupied(met) => return met.get().1,
            hash_table::Entry::Vacant(vacant) => vacant,
        };
        let field = shared.field(hash, bytes);
        let selected = field.entry.as_ref().filter(|entry| pods.contains(&entry.pod_identifier));
        let number = selected.map(|entry| {
            *numbers.entry(Arc::clone(entry)).or_insert_with(|| {
                entries.push(Arc::clone(entry));
                // Each was at least one byte of a reply in memory.
                u32::try_from(entries.len() - 1).expect("fewer than 2^32 distinct entries")
            })
        });
        vacant.insert((field, number));
        number
    }

    /// The entry of a number.
    pub(super) fn entry(&self, number: u32) -> &PodEntry {
        &self.entries[number as usize]
    }

    /// The entries by number.
    pub(super) fn into_entries(self) -> Vec<Arc<PodEntry>> {
        self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(call.number(&field), Some(0));
            assert_eq!(call.number(&field), Some(0));
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
        assert_eq!(call.number(b"b@gpu"), Some(0));
        assert_eq!(call.number(b"a@gpu"), Some(1));
        assert_eq!(call.number(&PodEntry::new("a", "gpu").to_field()), Some(1));
        assert_eq!(
            call.number(br#"{"podIdentifier":"a","deviceTier":"gpu","retrievalSpan":2}"#),
            Some(1)
        );
        assert_eq!(*call.entry(1), PodEntry::new("a", "gpu"));
        assert_eq!(call.into_entries().len(), 2);
    }

    #[test]
    fn what_is_no_entry_or_not_selected_has_no_number() {
        let table = FieldTable::default();
        let only_b: PodSet = ["b"].into_iter().collect();
        let mut call = CallFields::new(&table, &only_b);
        assert_eq!(call.number(b"garbage"), None);
        assert_eq!(call.number(b"a@gpu"), None);
        assert_eq!(call.number(b"b@gpu"), Some(0));
        assert_eq!(call.number(b"garbage"), None);
        assert_eq!(len(&table), 3);
    }

    #[test]
    fn the_memory_of_fields_is_bounded_in_number_and_bytes() {
        let table = FieldTable::default();
        let all = PodSet::all();
        for number in 0..FIELDS_MAX + 10 {
            CallFields::new(&table, &all).number(format!("{number}@gpu").as_bytes());
        }
        assert_eq!(len(&table), 10);
        for number in 0..80_u8 {
            CallFields::new(&table, &all).number(&[number; BYTES_MAX / 64]);
        }
        assert!(table.known.lock().unwrap().bytes <= BYTES_MAX);
        assert!(len(&table) <= 64);
        CallFields::new(&table, &all).number(&[b'x'; BYTES_MAX / 64 + 1]);
        assert!(table.known.lock().unwrap().bytes <= BYTES_MAX);
    }
}
