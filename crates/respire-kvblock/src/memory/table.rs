//! Numbers for entries, so that a block holds four bytes an entry and a lookup copies no strings.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::PodEntry;

/// Every entry that some block has, each under a number that is used anew once no block has it.
#[derive(Debug, Default)]
pub(super) struct EntryTable {
    /// By number. One that is free has no entry, or the last one if an answer referred to the table when it was freed.
    entries: Arc<Vec<Arc<PodEntry>>>,
    /// How often each number is held; 0 for a free one.
    holds: Vec<usize>,
    /// The number of every entry that is held.
    numbers: HashMap<Arc<PodEntry>, u32>,
    free: Vec<u32>,
    /// Stands where there is no entry.
    nobody: Arc<PodEntry>,
    /// What the entries that are held take.
    bytes: u64,
}

/// What an entry takes in bytes besides its texts: itself, its count and what refers to it.
const ENTRY_BYTES: usize = size_of::<PodEntry>() + 96;

fn entry_bytes(entry: &PodEntry) -> u64 {
    (ENTRY_BYTES + entry.pod_identifier.len() + entry.device_tier.len()) as u64
}

impl EntryTable {
    /// The entry's number, new if need be, held once more.
    pub(super) fn hold(&mut self, entry: &PodEntry) -> u32 {
        if let Some(&number) = self.numbers.get(entry) {
            self.hold_again(number);
            return number;
        }
        let entry = Arc::new(entry.clone());
        self.bytes += entry_bytes(&entry);
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
            let entry = &self.entries[number as usize];
            self.bytes -= entry_bytes(entry);
            self.numbers.remove(entry);
            self.free.push(number);
            // Not kept until the number is used anew, unless a lookup's answer refers to the table.
            if let Some(entries) = Arc::get_mut(&mut self.entries) {
                entries[number as usize] = Arc::clone(&self.nobody);
            }
        }
    }

    /// The numbers of those of these entries that are held.
    pub(super) fn find(&self, entries: &[PodEntry]) -> Vec<u32> {
        entries.iter().filter_map(|entry| self.numbers.get(entry).copied()).collect()
    }

    /// What the entries take in memory, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
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
