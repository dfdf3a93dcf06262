//! Numbers for entries, so that a block holds four bytes an entry and a lookup copies no strings.

use std::{collections::HashMap, sync::Arc};

use crate::PodEntry;

/// Every entry that some block has, each under a number that is used anew once no block has it.
#[derive(Debug, Default)]
pub(super) struct EntryTable {
    /// By number. A number that is free keeps its last entry until it is used anew.
    entries: Arc<Vec<Arc<PodEntry>>>,
    /// How often each number is held; 0 for a free one.
    holds: Vec<usize>,
    /// The number of every entry that is held.
    numbers: HashMap<Arc<PodEntry>, u32>,
    free: Vec<u32>,
}

impl EntryTable {
    /// The entry's number, new if need be, held once more.
    pub(super) fn hold(&mut self, entry: &PodEntry) -> u32 {
        if let Some(&number) = self.numbers.get(entry) {
            self.hold_again(number);
            return number;
        }
        let entry = Arc::new(entry.clone());
        // Copies the table when a lookup's answer still refers to it: then only, and only for an entry that is new.
        let entries = Arc::make_mut(&mut self.entries);
        let number = match self.free.pop() {
            Some(number) => {
                entries[number as usize] = Arc::clone(&entry);
                self.holds[number as usize] = 1;
                number
            }
            None => {
                entries.push(Arc::clone(&entry));
                self.holds.push(1);
                // Every entry takes more than a hundred bytes: memory ends before the numbers do.
                u32::try_from(entries.len() - 1).expect("fewer than 2^32 distinct entries")
            }
        };
        self.numbers.insert(entry, number);
        number
    }

    /// Holds a number that is held once more.
    pub(super) fn hold_again(&mut self, number: u32) {
        self.holds[number as usize] += 1;
    }

    /// Gives up one hold; the last one frees the number.
    pub(super) fn release(&mut self, number: u32) {
        let holds = &mut self.holds[number as usize];
        *holds -= 1;
        if *holds == 0 {
            self.numbers.remove(&self.entries[number as usize]);
            self.free.push(number);
        }
    }

    /// The numbers of those of these entries that are held.
    pub(super) fn find(&self, entries: &[PodEntry]) -> Vec<u32> {
        entries.iter().filter_map(|entry| self.numbers.get(entry).copied()).collect()
    }

    /// The entries by number, as they are now.
    pub(super) fn snapshot(&self) -> Arc<Vec<Arc<PodEntry>>> {
        Arc::clone(&self.entries)
    }

    /// How many entries are held.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }
}
