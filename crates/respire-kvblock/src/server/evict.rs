//! Evict: find the request keys, take the entries out, drop the mappings that are done with.

use std::collections::{HashMap, HashSet};

use respire::{Pipeline, Reply};

use super::{
    ServerIndex, check, is_wrong_type,
    keys::Key,
    lookup::strings,
    scripts::{Call, PRUNE, rerun_unknown},
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

impl ServerIndex {
    pub(super) async fn evict_mapped(
        &self,
        engine_keys: &[BlockHash],
        entries: &[PodEntry],
    ) -> Result<(), IndexError> {
        let mapped = self.resolve(&distinct(engine_keys.iter().copied())).await?;
        let request_keys =
            distinct(mapped.iter().flat_map(|group| group.request_keys.iter().copied()));
        self.remove(&request_keys, entries, &mapped).await
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
            pipeline.command(&[b"ZRANGE", Key::engine(key).as_ref(), b"0", b"-1"]);
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
            pipeline.command(&[b"GET", Key::engine(key).as_ref()]);
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
        entries: &[PodEntry],
        mapped: &[Mapped],
    ) -> Result<(), IndexError> {
        let mut met = HashSet::new();
        let spellings: Vec<Vec<u8>> = entries
            .iter()
            .filter(|entry| met.insert(*entry))
            .flat_map(PodEntry::spellings)
            .collect();
        let (entries, distinct) = (met, spellings.iter().map(Vec::as_slice).collect());
        let field_bytes: usize = spellings.iter().map(|spelling| spelling.len() + 10).sum();
        let mut pipeline = Pipeline::with_capacity(request_keys.len() * (field_bytes + 44));
        for &key in request_keys {
            push_deletion(&mut pipeline, &Key::request(key), spellings.iter().map(Vec::as_slice));
        }
        let calls = prunings(mapped);
        let (replies, pruned) = self.send_and_call(pipeline, &calls).await?;
        let mut unread = Vec::new();
        for (reply, &key) in replies.iter().zip(request_keys) {
            if self.is_foreign(reply) {
                continue;
            }
            let removed: usize = reply.parse().map_err(failed)?;
            if removed != entries.len() {
                unread.push(key);
            }
        }
        pruned.and(self.remove_otherwise_spelt(&unread, &entries, &distinct, &calls).await)
    }

    /// Deletes what spells one of the entries in a way that is not known beforehand.
    ///
    /// A known spelling that is found was added after its deletion, and stays.
    async fn remove_otherwise_spelt(
        &self,
        request_keys: &[BlockHash],
        entries: &HashSet<&PodEntry>,
        spellings: &HashSet<&[u8]>,
        calls: &[Call],
    ) -> Result<(), IndexError> {
        let mut pipeline = Pipeline::with_capacity(request_keys.len() * 44);
        for &key in request_keys {
            pipeline.command(&[b"HKEYS", Key::request(key).as_ref()]);
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
                        && PodEntry::from_field(field).is_some_and(|entry| entries.contains(&entry))
                };
                if *verdicts.entry(field).or_insert_with(goes) {
                    fields.push(field);
                }
            }
            if !fields.is_empty() {
                push_deletion(&mut pipeline, &Key::request(key), fields.into_iter());
            }
        }
        if pipeline.is_empty() {
            return Ok(());
        }
        let (replies, pruned) = self.send_and_call(pipeline, calls).await?;
        for reply in replies.iter().filter(|reply| !is_wrong_type(reply)) {
            check(EVICT_FAILED, reply)?;
        }
        pruned
    }

    /// Sends the commands and after them the calls of scripts. The replies to the commands, and how the calls went.
    async fn send_and_call(
        &self,
        mut pipeline: Pipeline,
        calls: &[Call],
    ) -> Result<(Vec<Reply>, Result<(), IndexError>), IndexError> {
        for call in calls {
            pipeline.push(call.by_digest());
        }
        let mut replies = self.send(EVICT_FAILED, pipeline).await?;
        let mut called = replies.split_off(replies.len() - calls.len());
        rerun_unknown(&self.client, calls, &mut called).await.map_err(failed)?;
        Ok((replies, called.iter().try_for_each(|reply| check(EVICT_FAILED, reply))))
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

/// Calls of the pruning script for these groups, as many as keep each call short.
fn prunings(mapped: &[Mapped]) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    for group in mapped {
        let keys = 1 + group.request_keys.len();
        let call = match calls.last_mut() {
            Some(call) if call.keys.len() + keys <= KEYS_PER_SCRIPT => call,
            _ => {
                calls.push(Call::new(&PRUNE));
                calls.last_mut().expect("a call was just pushed")
            }
        };
        call.keys.push(Key::engine(group.engine_key));
        call.keys.extend(group.request_keys.iter().map(|&key| Key::request(key)));
        call.args.push(group.request_keys.len().to_string().into_bytes());
    }
    calls
}
