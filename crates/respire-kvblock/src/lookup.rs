//! What a lookup answers.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use crate::{BlockHash, PodEntry};

/// The blocks at the start of a prompt that somebody holds, and who holds them.
///
/// Positions count the request keys that were asked for, from 0. They run without a gap: a lookup ends before the first
/// key that no selected pod holds, because a block behind it is of no use to a prompt.
///
/// Entries are interned: however many blocks a pod holds, there is one [`PodEntry`] for each of its identities.
///
/// ```
/// use std::sync::Arc;
/// use respire_kvblock::{BlockHash, Lookup, PodEntry};
///
/// let pod = Arc::new(PodEntry::new("10.0.0.1:8000", "gpu"));
/// let other = Arc::new(PodEntry::new("10.0.0.2:8000", "gpu"));
/// let lookup: Lookup =
///     [(BlockHash(1), vec![Arc::clone(&pod), other]), (BlockHash(2), vec![pod])].into_iter().collect();
///
/// assert_eq!(lookup.len(), 2);
/// assert_eq!(lookup.entries(1).next().unwrap().pod_identifier, "10.0.0.1:8000");
/// assert_eq!(lookup.prefix_lengths()["10.0.0.1:8000"], 2);
/// assert_eq!(lookup.prefix_lengths()["10.0.0.2:8000"], 1);
/// ```
#[derive(Clone)]
pub struct Lookup {
    /// The keys that were found, one a position.
    keys: Vec<BlockHash>,
    /// Where the entries of each position end in `ids`. As many as `keys`, ascending.
    ends: Vec<usize>,
    /// The entries of all positions, as indices into `table`.
    ids: Vec<u32>,
    /// Every entry that an id stands for. It may hold more than this lookup names.
    table: Arc<Vec<Arc<PodEntry>>>,
    complete: bool,
    /// How old the oldest part of the answer can be; `None` where all of it was read while the call ran.
    staleness: Option<Duration>,
}

impl Lookup {
    /// How many keys were found, counted from the first: the length of the longest prefix that is held at all.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether not even the first key was found.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether the walk went as far as there is something to find.
    ///
    /// If not, its deadline passed or the server was lost on the way. What was found until then is true: every prefix is
    /// at least as long as it says here.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// How long ago the oldest part of the answer may have been overtaken by a change, at the most. `None` where all of it
    /// was read from where the index is kept while the call ran; some time where a near cache has answered.
    pub fn staleness(&self) -> Option<Duration> {
        self.staleness
    }

    /// The same answer of a walk that could not go on.
    #[must_use]
    pub fn incomplete(mut self) -> Self {
        self.complete = false;
        self
    }

    /// The same answer, a part of which may be as old as this. Of several such times the longest counts.
    #[must_use]
    pub fn with_staleness(mut self, staleness: Duration) -> Self {
        self.staleness = self.staleness.max(Some(staleness));
        self
    }

    /// The keys that were found, in the order in which they were asked for.
    pub fn keys(&self) -> &[BlockHash] {
        &self.keys
    }

    /// The entries at a position, each once. None for a position at or behind [`len`](Self::len).
    pub fn entries(&self, position: usize) -> Entries<'_> {
        Entries { ids: self.ids_at(position).iter(), table: &self.table }
    }

    /// The keys that were found, each with its entries.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (BlockHash, Entries<'_>)> {
        self.keys.iter().enumerate().map(|(position, &key)| (key, self.entries(position)))
    }

    /// For each pod that holds the first block: how many blocks it holds without a gap, counted from the first.
    ///
    /// A pod holds a block in whatever tier, group or capacity.
    pub fn prefix_lengths(&self) -> HashMap<&str, usize> {
        let (pods, lengths) = self.lengths();
        pods.names().zip(lengths).collect()
    }

    /// The largest of the [`prefix_lengths`](Self::prefix_lengths): how many blocks the pod that holds most of the prompt
    /// holds of it.
    pub fn longest_prefix(&self) -> usize {
        self.lengths().1.into_iter().max().unwrap_or(0)
    }

    /// The pods that hold the first block, and how many they hold without a gap.
    fn lengths(&self) -> (Pods<'_>, Vec<usize>) {
        let mut pods = Pods::of(self);
        let mut lengths: Vec<usize> = Vec::new();
        for position in 0..self.len() {
            let mut longer = false;
            for &id in self.ids_at(position) {
                let pod = pods.number(id);
                if position == 0 && pod == lengths.len() {
                    lengths.push(0);
                }
                if lengths.get(pod) == Some(&position) {
                    lengths[pod] = position + 1;
                    longer = true;
                }
            }
            if !longer {
                break;
            }
        }
        (pods, lengths)
    }

    /// The keys that were found with owned entries, in the shape of llm-d's lookup result.
    pub fn to_map(&self) -> HashMap<BlockHash, Vec<PodEntry>> {
        self.iter()
            .map(|(key, entries)| (key, entries.map(|entry| PodEntry::clone(entry)).collect()))
            .collect()
    }

    pub(crate) fn ids_at(&self, position: usize) -> &[u32] {
        let Some(&end) = self.ends.get(position) else { return &[] };
        let start = position.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.ids[start..end]
    }

    /// One more than the largest id.
    pub(crate) fn table_len(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn entry(&self, id: u32) -> &Arc<PodEntry> {
        &self.table[id as usize]
    }
}

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Found<'a>(&'a Lookup);
        impl fmt::Debug for Found<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_map()
                    .entries(self.0.iter().map(|(key, entries)| {
                        (key.0, entries.map(ToString::to_string).collect::<Vec<_>>())
                    }))
                    .finish()
            }
        }
        let mut shown = f.debug_struct("Lookup");
        shown.field("found", &Found(self)).field("complete", &self.complete);
        if let Some(staleness) = self.staleness {
            shown.field("staleness", &staleness);
        }
        shown.finish()
    }
}

/// Collects positions in order; one without entries ends the walk, as it does in a backend.
impl FromIterator<(BlockHash, Vec<Arc<PodEntry>>)> for Lookup {
    fn from_iter<I: IntoIterator<Item = (BlockHash, Vec<Arc<PodEntry>>)>>(positions: I) -> Self {
        let mut numbers = HashMap::new();
        let mut table = Vec::new();
        let mut walk = Walk::default();
        for (key, entries) in positions {
            let ids = entries.into_iter().map(|entry| {
                *numbers.entry(Arc::clone(&entry)).or_insert_with(|| {
                    table.push(entry);
                    // As many entries would fill the memory of any machine long before.
                    u32::try_from(table.len() - 1).expect("fewer than 2^32 distinct entries")
                })
            });
            if !walk.push(key, ids) {
                break;
            }
        }
        walk.finish(Arc::new(table))
    }
}

/// The entries at one position of a [`Lookup`].
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    ids: std::slice::Iter<'a, u32>,
    table: &'a [Arc<PodEntry>],
}

impl<'a> Iterator for Entries<'a> {
    type Item = &'a Arc<PodEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        self.ids.next().map(|&id| &self.table[id as usize])
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.ids.size_hint()
    }
}

impl ExactSizeIterator for Entries<'_> {}

/// A lookup in the making.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    keys: Vec<BlockHash>,
    ends: Vec<usize>,
    ids: Vec<u32>,
    /// For each id, the position after the last one that it was pushed at.
    seen: Vec<usize>,
}

impl Walk {
    /// How many positions there are.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Makes room for so many positions more, each with an entry.
    pub(crate) fn reserve(&mut self, positions: usize) {
        self.keys.reserve(positions);
        self.ends.reserve(positions);
        self.ids.reserve(positions);
    }

    /// Appends a position with the ids of its entries, each kept once. `false`, and nothing appended, when there are
    /// none: the walk is over.
    pub(crate) fn push(&mut self, key: BlockHash, ids: impl IntoIterator<Item = u32>) -> bool {
        let start = self.ids.len();
        let mark = self.keys.len() + 1;
        for id in ids {
            let slot = id as usize;
            if slot >= self.seen.len() {
                self.seen.resize(slot + 1, 0);
            }
            if self.seen[slot] != mark {
                self.seen[slot] = mark;
                self.ids.push(id);
            }
        }
        if self.ids.len() == start {
            return false;
        }
        self.keys.push(key);
        self.ends.push(self.ids.len());
        true
    }

    /// Appends a position with the entries of the one before, which there is.
    pub(crate) fn repeat(&mut self, key: BlockHash) {
        let Some(last) = self.ends.len().checked_sub(1) else { return };
        let start = last.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.ids.extend_from_within(start..self.ends[last]);
        self.keys.push(key);
        self.ends.push(self.ids.len());
    }

    /// The answer of a walk that went to its end. Every id that was pushed is an index into `table`.
    pub(crate) fn finish(self, table: Arc<Vec<Arc<PodEntry>>>) -> Lookup {
        let Self { keys, ends, ids, seen: _ } = self;
        Lookup { keys, ends, ids, table, complete: true, staleness: None }
    }
}

/// Numbers the pods of a lookup's entries in the order in which they are met.
pub(crate) struct Pods<'a> {
    lookup: &'a Lookup,
    /// For each id of the lookup's table its pod's number.
    number_of: Vec<Option<u32>>,
    by_name: hashbrown::HashMap<&'a str, u32>,
    names: Vec<&'a str>,
}

impl<'a> Pods<'a> {
    pub(crate) fn of(lookup: &'a Lookup) -> Self {
        Self {
            lookup,
            number_of: vec![None; lookup.table.len()],
            by_name: hashbrown::HashMap::new(),
            names: Vec::new(),
        }
    }

    /// The number of the pod that an entry names: from 0, a new pod the next one.
    pub(crate) fn number(&mut self, id: u32) -> usize {
        if let Some(number) = self.number_of[id as usize] {
            return number as usize;
        }
        let name = self.lookup.entry(id).pod_identifier.as_str();
        let names = &mut self.names;
        let number = *self.by_name.entry(name).or_insert_with(|| {
            names.push(name);
            // There is at most one pod an entry, and entries are numbered in 32 bits.
            names.len() as u32 - 1
        });
        self.number_of[id as usize] = Some(number);
        number as usize
    }

    /// The names of the pods met so far, by their numbers.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'a str> {
        self.names.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(pod: &str, tier: &str) -> Arc<PodEntry> {
        Arc::new(PodEntry::new(pod, tier))
    }

    fn lookup(positions: &[&[(&str, &str)]]) -> Lookup {
        positions
            .iter()
            .zip(100..)
            .map(|(entries, key)| {
                (BlockHash(key), entries.iter().map(|(pod, tier)| entry(pod, tier)).collect())
            })
            .collect()
    }

    #[test]
    fn a_prefix_ends_at_a_pods_first_gap_whatever_the_tier() {
        let found = lookup(&[
            &[("a", "gpu"), ("b", "gpu"), ("c", "cpu")],
            &[("a", "cpu"), ("c", "gpu"), ("c", "cpu")],
            &[("b", "gpu"), ("c", "gpu"), ("d", "gpu")],
            &[("a", "gpu"), ("c", "disk")],
        ]);
        assert_eq!(found.prefix_lengths(), HashMap::from([("a", 2), ("b", 1), ("c", 4)]));
        assert_eq!(found.longest_prefix(), 4);
        assert!(found.is_complete());
    }

    #[test]
    fn an_answer_says_whether_it_is_complete_and_how_stale_it_is() {
        let found = lookup(&[&[("a", "gpu")]]);
        assert_eq!((found.is_complete(), found.staleness()), (true, None));
        let partial = found.clone().incomplete();
        assert!(!partial.is_complete());
        assert_eq!(partial.prefix_lengths(), HashMap::from([("a", 1)]));
        let (short, long) = (Duration::from_millis(5), Duration::from_secs(1));
        let stale = found.with_staleness(long).with_staleness(short);
        assert_eq!((stale.is_complete(), stale.staleness()), (true, Some(long)));
        assert!(format!("{stale:?}").ends_with("complete: true, staleness: 1s }"));
    }

    #[test]
    fn nobody_has_a_prefix_of_an_empty_lookup() {
        let found = lookup(&[]);
        assert!(found.is_empty());
        assert!(found.prefix_lengths().is_empty());
        assert_eq!(found.longest_prefix(), 0);
        assert_eq!(found.entries(0).len(), 0);
    }

    #[test]
    fn a_position_without_entries_ends_the_walk() {
        let found = lookup(&[&[("a", "gpu")], &[], &[("a", "gpu")]]);
        assert_eq!(found.keys(), [BlockHash(100)]);
    }

    #[test]
    fn an_entry_counts_once_a_position_and_exists_once_a_lookup() {
        let found = lookup(&[&[("a", "gpu"), ("a", "gpu"), ("a", "cpu")], &[("a", "gpu")]]);
        assert_eq!(found.entries(0).len(), 2);
        let (first, again) = (found.entries(0).next().unwrap(), found.entries(1).next().unwrap());
        assert!(Arc::ptr_eq(first, again));
        assert_eq!(found.to_map()[&BlockHash(101)], [PodEntry::new("a", "gpu")]);
    }

    #[test]
    fn a_repeated_position_has_the_entries_of_the_one_before() {
        let mut walk = Walk::default();
        assert!(walk.push(BlockHash(1), [0]));
        walk.repeat(BlockHash(2));
        assert!(walk.push(BlockHash(3), [1, 0]));
        walk.repeat(BlockHash(4));
        walk.repeat(BlockHash(5));
        // An id is met anew at the next position, whatever was repeated.
        assert!(walk.push(BlockHash(6), [0, 1, 0]));
        assert!(!walk.push(BlockHash(7), []));
        let found = walk.finish(Arc::new(vec![entry("a", "gpu"), entry("b", "gpu")]));
        let ids: Vec<&[u32]> = (0..found.len()).map(|at| found.ids_at(at)).collect();
        assert_eq!(ids, [&[0][..], &[0], &[1, 0], &[1, 0], &[1, 0], &[0, 1]]);
        assert_eq!(found.keys().len(), 6);
    }

    #[test]
    fn debug_shows_keys_and_entries() {
        let found = lookup(&[&[("a", "gpu")]]);
        assert_eq!(format!("{found:?}"), r#"Lookup { found: {100: ["a@gpu"]}, complete: true }"#);
    }
}
