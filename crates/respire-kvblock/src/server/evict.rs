//! Evict: find the request keys, take the entries out, drop the mappings that are done with.

use std::collections::{HashMap, HashSet};

use respire::{Pipeline, Reply, Value};

use super::{
    ClearBy, ServerIndex, check, is_wrong_type,
    keys::Key,
    lookup::strings,
    scripts::{Call, EVICT, PRUNE, rerun_unknown},
};
use crate::{BlockHash, IndexError, PodEntry};

const EVICT_FAILED: &str = "failed to evict from the index";

/// How many keys one call of the pruning script looks at, at least one group of them. While it runs the server does
/// nothing else; between two calls it serves others.
const KEYS_PER_SCRIPT: usize = 512;

/// An engine key and the request keys it maps to.
pub(super) struct Mapped {
    engine_key: BlockHash,
    request_keys: Vec<BlockHash>,
}

/// The most fields of one call of the evicting script, which takes them as arguments of one command.
const FIELDS_PER_SCRIPT: usize = 1000;

impl ServerIndex {
    /// One round trip where this process remembers what the engine keys map to, else two. Two more where an entry is
    /// spelt otherwise.
    pub(super) async fn evict_mapped(
        &self,
        engine_keys: &[BlockHash],
        entries: &[PodEntry],
    ) -> Result<(), IndexError> {
        let engine_keys = distinct(engine_keys.iter().copied());
        let entries = Entries::new(entries);
        let (guessed, mut unknown) = self.guess(&engine_keys, &entries);
        let outcome = self.evict_guessed(&guessed, &mut unknown, &entries).await;
        if unknown.is_empty() {
            return outcome;
        }
        let mapped = self.resolve(&unknown).await?;
        let request_keys =
            distinct(mapped.iter().flat_map(|group| group.request_keys.iter().copied()));
        outcome.and(self.remove(&request_keys, &entries, &mapped).await)
    }

    /// The engine keys of which this process knows what it has mapped them to, and the others.
    fn guess(
        &self,
        engine_keys: &[BlockHash],
        entries: &Entries<'_>,
    ) -> (Vec<Mapped>, Vec<BlockHash>) {
        if entries.spellings.len() > FIELDS_PER_SCRIPT {
            return (Vec::new(), engine_keys.to_vec());
        }
        let (mut guessed, mut unknown) = (Vec::new(), Vec::new());
        for (&engine_key, known) in engine_keys.iter().zip(self.mappings.recall(engine_keys)) {
            match known {
                Some(request_keys) => {
                    guessed.push(Mapped { engine_key, request_keys: request_keys.into_vec() });
                }
                None => unknown.push(engine_key),
            }
        }
        (guessed, unknown)
    }

    /// Evicts through mappings that are compared on the server before anything is touched. Adds to `unknown` the engine
    /// keys that are mapped otherwise.
    async fn evict_guessed(
        &self,
        guessed: &[Mapped],
        unknown: &mut Vec<BlockHash>,
        entries: &Entries<'_>,
    ) -> Result<(), IndexError> {
        if guessed.is_empty() {
            return Ok(());
        }
        let batches = batches(guessed);
        let mut calls: Vec<Call> =
            batches.iter().map(|batch| self.eviction(batch, entries)).collect();
        let request_keys = guessed.iter().flat_map(|group| group.request_keys.iter().copied());
        calls.extend(self.reverse_calls(&distinct(request_keys), entries));
        let (_, mut replies) = self.send_and_call(Pipeline::new(), &calls).await?;
        for tidied in replies.split_off(batches.len()) {
            check(EVICT_FAILED, &tidied)?;
        }
        let mut removed = Removed::default();
        let mut done = Vec::new();
        for (reply, batch) in replies.iter().zip(&batches) {
            check(EVICT_FAILED, reply)?;
            let Value::Array(groups) = reply.value().get() else {
                unknown.extend(batch.iter().map(|group| group.engine_key));
                continue;
            };
            for (group, mapped) in groups.into_iter().zip(*batch) {
                let Value::Array(results) = group.get() else {
                    unknown.push(mapped.engine_key);
                    continue;
                };
                let results = results.into_iter().map(|result| match result.get() {
                    Value::Integer(result) => result,
                    _ => 0,
                });
                if !removed.count(&mapped.request_keys, results) {
                    done.push(mapped.engine_key);
                }
            }
        }
        (0..removed.foreign).for_each(|_| self.count_wrong_type());
        self.mappings.forget(done.into_iter().chain(unknown.iter().copied()));
        let unread = removed.not_as_expected(entries.distinct.len());
        if unread.is_empty() {
            return Ok(());
        }
        self.remove_otherwise_spelt(&unread, entries, &self.prunings(guessed)).await
    }

    /// Calls that follow a deletion where there is a reverse index.
    fn reverse_calls(&self, request_keys: &[BlockHash], entries: &Entries<'_>) -> Vec<Call> {
        match self.clear_by {
            ClearBy::Scan => Vec::new(),
            _ => self.tidyings(request_keys, entries.distinct.iter().copied()),
        }
    }

    fn eviction(&self, groups: &[Mapped], entries: &Entries<'_>) -> Call {
        let mut call = Call::new(&EVICT);
        call.args.push(self.names.prefix_len().to_string().into_bytes());
        call.args.push(entries.spellings.len().to_string().into_bytes());
        call.args.extend(entries.spellings.iter().cloned());
        for group in groups {
            call.keys.push(self.names.engine(group.engine_key));
            call.keys.extend(group.request_keys.iter().map(|&key| self.names.request(key)));
            call.args.push(group.request_keys.len().to_string().into_bytes());
        }
        call
    }

    /// The request keys of those engine keys that are mapped.
    ///
    /// An engine key that is no sorted set is asked for as the string that it was up to v0.8. One that is no string either
    /// may have become a sorted set in between, and is asked for once more.
    async fn resolve(&self, engine_keys: &[BlockHash]) -> Result<Vec<Mapped>, IndexError> {
        let (mut mapped, others) = self.resolve_sets(engine_keys).await?;
        if !others.is_empty() {
            let (of_older_form, others) = self.resolve_strings(&others).await?;
            mapped.extend(of_older_form);
            let (migrated, foreign) = self.resolve_sets(&others).await?;
            mapped.extend(migrated);
            foreign.iter().for_each(|_| self.count_wrong_type());
        }
        mapped.retain(|group| !group.request_keys.is_empty());
        Ok(mapped)
    }

    /// The request keys of engine keys that are sorted sets, and the engine keys of another type.
    async fn resolve_sets(
        &self,
        engine_keys: &[BlockHash],
    ) -> Result<(Vec<Mapped>, Vec<BlockHash>), IndexError> {
        let mut pipeline = Pipeline::with_capacity(engine_keys.len() * 64);
        for &key in engine_keys {
            pipeline.command(&[b"ZRANGE", self.names.engine(key).as_ref(), b"0", b"-1"]);
        }
        let (mut mapped, mut others) = (Vec::with_capacity(engine_keys.len()), Vec::new());
        let replies = self.send(EVICT_FAILED, pipeline).await?;
        for (reply, &engine_key) in replies.iter().zip(engine_keys) {
            if is_wrong_type(reply) {
                others.push(engine_key);
                continue;
            }
            let members = strings(reply).map_err(failed)?;
            // What is no hash was not written by an index: nothing of ours can be there.
            let request_keys = members.filter_map(BlockHash::from_decimal).collect();
            mapped.push(Mapped { engine_key, request_keys });
        }
        Ok((mapped, others))
    }

    /// The request keys of engine keys that are strings, and the engine keys of another type.
    async fn resolve_strings(
        &self,
        engine_keys: &[BlockHash],
    ) -> Result<(Vec<Mapped>, Vec<BlockHash>), IndexError> {
        let mut pipeline = Pipeline::new();
        for &key in engine_keys {
            pipeline.command(&[b"GET", self.names.engine(key).as_ref()]);
        }
        let (mut mapped, mut others) = (Vec::new(), Vec::new());
        let replies = self.send(EVICT_FAILED, pipeline).await?;
        for (reply, &engine_key) in replies.iter().zip(engine_keys) {
            if is_wrong_type(reply) {
                others.push(engine_key);
                continue;
            }
            let text: Option<&[u8]> = reply.parse().map_err(failed)?;
            let request_keys = text.and_then(BlockHash::from_decimal).into_iter().collect();
            mapped.push(Mapped { engine_key, request_keys });
        }
        Ok((mapped, others))
    }

    /// Takes entries out of request keys, in whatever spelling they are there, and drops the mappings that are done with.
    ///
    /// The spellings that are known are deleted unseen. Where that removes another number of fields than there are entries,
    /// the key is read: what spells one of them otherwise, say with an annotation of a later version, is deleted then.
    pub(super) async fn remove(
        &self,
        request_keys: &[BlockHash],
        entries: &Entries<'_>,
        mapped: &[Mapped],
    ) -> Result<(), IndexError> {
        let spellings = &entries.spellings;
        let field_bytes: usize = spellings.iter().map(|spelling| spelling.len() + 10).sum();
        let mut pipeline = Pipeline::with_capacity(request_keys.len() * (field_bytes + 44));
        for &key in request_keys {
            let name = self.names.request(key);
            push_deletion(&mut pipeline, &name, spellings.iter().map(Vec::as_slice));
        }
        let mut calls = self.prunings(mapped);
        calls.extend(self.reverse_calls(request_keys, entries));
        let (replies, called) = self.send_and_call(pipeline, &calls).await?;
        let pruned = called.iter().try_for_each(|reply| check(EVICT_FAILED, reply));
        let mut unread = Vec::new();
        for (reply, &key) in replies.iter().zip(request_keys) {
            if self.is_foreign(reply) {
                continue;
            }
            let removed: usize = reply.parse().map_err(failed)?;
            if removed != entries.distinct.len() {
                unread.push(key);
            }
        }
        pruned.and(self.remove_otherwise_spelt(&unread, entries, &calls).await)
    }

    /// Deletes what spells one of the entries in a way that is not known beforehand.
    ///
    /// A known spelling that is found was added after its deletion, and stays.
    async fn remove_otherwise_spelt(
        &self,
        request_keys: &[BlockHash],
        entries: &Entries<'_>,
        calls: &[Call],
    ) -> Result<(), IndexError> {
        let spellings: HashSet<&[u8]> = entries.spellings.iter().map(Vec::as_slice).collect();
        let mut pipeline = Pipeline::with_capacity(request_keys.len() * 44);
        for &key in request_keys {
            pipeline.command(&[b"HKEYS", self.names.request(key).as_ref()]);
        }
        let replies = self.send(EVICT_FAILED, pipeline).await?;
        // Decoded once a call: most keys have the same fields, few of which are to go.
        let mut verdicts: HashMap<&[u8], bool> = HashMap::new();
        let mut pipeline = Pipeline::new();
        // A key may be replaced by something else between two commands.
        let of_hashes = replies.iter().zip(request_keys).filter(|(reply, _)| !is_wrong_type(reply));
        for (reply, &key) in of_hashes {
            let mut fields: Vec<&[u8]> = Vec::new();
            for field in strings(reply).map_err(failed)? {
                let goes = || {
                    !spellings.contains(field)
                        && PodEntry::from_field(field)
                            .is_some_and(|entry| entries.distinct.contains(&entry))
                };
                if *verdicts.entry(field).or_insert_with(goes) {
                    fields.push(field);
                }
            }
            if !fields.is_empty() {
                push_deletion(&mut pipeline, &self.names.request(key), fields.into_iter());
            }
        }
        if pipeline.is_empty() {
            return Ok(());
        }
        let (replies, called) = self.send_and_call(pipeline, calls).await?;
        for reply in replies.iter().filter(|reply| !is_wrong_type(reply)) {
            check(EVICT_FAILED, reply)?;
        }
        called.iter().try_for_each(|reply| check(EVICT_FAILED, reply))
    }

    /// Sends the commands and after them the calls of scripts: the replies to the commands, and those to the calls.
    async fn send_and_call(
        &self,
        mut pipeline: Pipeline,
        calls: &[Call],
    ) -> Result<(Vec<Reply>, Vec<Reply>), IndexError> {
        for call in calls {
            pipeline.push(call.by_digest());
        }
        let mut replies = self.send(EVICT_FAILED, pipeline).await?;
        let mut called = replies.split_off(replies.len() - calls.len());
        rerun_unknown(self, calls, &mut called).await.map_err(failed)?;
        Ok((replies, called))
    }

    /// Calls of the pruning script for these groups, as many as keep each call short.
    fn prunings(&self, mapped: &[Mapped]) -> Vec<Call> {
        let call = |groups: &&[Mapped]| {
            let mut call = Call::new(&PRUNE);
            call.args.push(self.names.prefix_len().to_string().into_bytes());
            for group in *groups {
                call.keys.push(self.names.engine(group.engine_key));
                call.keys.extend(group.request_keys.iter().map(|&key| self.names.request(key)));
                call.args.push(group.request_keys.len().to_string().into_bytes());
            }
            call
        };
        batches(mapped).iter().map(call).collect()
    }
}

/// The entries of a call, each once, and how each may be spelt.
pub(super) struct Entries<'a> {
    distinct: HashSet<&'a PodEntry>,
    spellings: Vec<Vec<u8>>,
}

impl<'a> Entries<'a> {
    pub(super) fn new(entries: &'a [PodEntry]) -> Self {
        let mut distinct = HashSet::new();
        let met = entries.iter().filter(|entry| distinct.insert(*entry));
        let spellings = met.flat_map(PodEntry::spellings).collect();
        Self { distinct, spellings }
    }
}

/// What calls of the evicting script have removed.
#[derive(Default)]
struct Removed {
    /// For each request key how many fields were deleted, and whether something is left there. Several engine keys may
    /// have led to one.
    fields: HashMap<BlockHash, (u64, bool)>,
    /// How many request keys were of another type.
    foreign: usize,
}

impl Removed {
    /// Counts what the script says of these request keys. Whether one of them still holds something.
    fn count(&mut self, request_keys: &[BlockHash], results: impl Iterator<Item = i64>) -> bool {
        let mut is_held = false;
        for (&key, result) in request_keys.iter().zip(results) {
            let Ok(result) = u64::try_from(result) else {
                self.foreign += 1;
                continue;
            };
            let (fields, left) = self.fields.entry(key).or_default();
            *fields += result / 2;
            *left = result % 2 == 1;
            is_held |= *left;
        }
        is_held
    }

    /// The request keys that still hold something, and lost another number of fields than there are entries.
    fn not_as_expected(&self, entries: usize) -> Vec<BlockHash> {
        let odd = |&(_, &(fields, left)): &(_, &(u64, bool))| left && fields != entries as u64;
        self.fields.iter().filter(odd).map(|(&key, _)| key).collect()
    }
}

fn failed(error: respire::Error) -> IndexError {
    IndexError::client(EVICT_FAILED, error)
}

pub(super) fn distinct(keys: impl Iterator<Item = BlockHash>) -> Vec<BlockHash> {
    let mut met = HashSet::new();
    keys.filter(|&key| met.insert(key)).collect()
}

fn push_deletion<'a>(
    pipeline: &mut Pipeline,
    name: &'a Key,
    fields: impl Iterator<Item = &'a [u8]>,
) {
    let mut args: Vec<&[u8]> = vec![b"HDEL", name.as_ref()];
    args.extend(fields);
    pipeline.command(&args);
}

/// The groups in as many parts as keep a call of a script for each short.
fn batches(mapped: &[Mapped]) -> Vec<&[Mapped]> {
    let mut batches = Vec::new();
    let (mut start, mut keys) = (0, 0);
    for (at, group) in mapped.iter().enumerate() {
        let more = 1 + group.request_keys.len();
        if at > start && keys + more > KEYS_PER_SCRIPT {
            batches.push(&mapped[start..at]);
            (start, keys) = (at, 0);
        }
        keys += more;
    }
    if start < mapped.len() {
        batches.push(&mapped[start..]);
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(engine_key: u64, request_keys: u64) -> Mapped {
        let request_keys = (0..request_keys).map(BlockHash).collect();
        Mapped { engine_key: BlockHash(engine_key), request_keys }
    }

    #[test]
    fn a_call_is_short_and_takes_a_group_as_a_whole() {
        let sizes = |groups: &[Mapped]| batches(groups).iter().map(|b| b.len()).collect::<Vec<_>>();
        assert_eq!(sizes(&[]), [0; 0]);
        let ones: Vec<_> = (0..600).map(|engine_key| group(engine_key, 1)).collect();
        assert_eq!(sizes(&ones), [256, 256, 88]);
        assert_eq!(sizes(&[group(1, 2000), group(2, 1), group(3, 1)]), [1, 2]);
        assert_eq!(sizes(&[group(1, 1), group(2, 2000)]), [1, 1]);
    }

    #[test]
    fn a_request_key_of_several_engine_keys_is_counted_once() {
        let keys = [BlockHash(1), BlockHash(2)];
        let mut removed = Removed::default();
        // One field of one entry, and the key is still there; then, through a second engine key, nothing more.
        assert!(removed.count(&keys[..1], [3].into_iter()));
        assert!(removed.count(&keys[..1], [1].into_iter()));
        // Nothing was found at a key that is gone, and one is somebody else's.
        assert!(!removed.count(&keys, [0, -1].into_iter()));
        assert_eq!(removed.foreign, 1);
        assert_eq!(removed.fields[&keys[0]].0, 1);
        assert_eq!(removed.not_as_expected(1), []);
        assert!(removed.count(&keys[1..], [1].into_iter()));
        assert_eq!(removed.not_as_expected(1), [keys[1]]);
    }
}
