//! Evict: find the request keys, take the entries out, drop the mappings that are done with.

use std::collections::HashSet;

use respire::{Pipeline, Reply};

use super::{
    ServerIndex,
    fields::CallFields,
    is_wrong_type,
    keys::Key,
    lookup::strings,
    refusal,
    scripts::{Call, PRUNE, rerun_unknown},
};
use crate::{BlockHash, IndexError, PodEntry, PodSet};

const EVICT_FAILED: &str = "failed to evict from the index";

/// How many fields of a hash are searched in one step. A hash with more is read whole instead.
const SCAN_COUNT: &[u8] = b"4096";

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
    async fn resolve(&self, engine_keys: &[BlockHash]) -> Result<Vec<Mapped>, IndexError> {
        let mut pipeline = Pipeline::with_capacity(engine_keys.len() * 64);
        for &key in engine_keys {
            pipeline.command(&[b"ZRANGE", Key::engine(key).as_ref(), b"0", b"-1"]);
        }
        let mut mapped = Vec::with_capacity(engine_keys.len());
        let mut of_other_type = Vec::new();
        for (reply, &engine_key) in self.send(pipeline).await?.iter().zip(engine_keys) {
            if is_wrong_type(reply) {
                of_other_type.push(engine_key);
                continue;
            }
            let members = strings(reply).map_err(failed)?;
            // What is no hash was not written by an index: nothing of ours can be there.
            let request_keys = members.filter_map(BlockHash::from_decimal).collect();
            mapped.push(Mapped { engine_key, request_keys });
        }
        mapped.extend(self.resolve_older(&of_other_type).await?);
        mapped.retain(|group| !group.request_keys.is_empty());
        Ok(mapped)
    }

    /// The request keys of engine keys that are strings, as they were up to v0.8.
    async fn resolve_older(&self, engine_keys: &[BlockHash]) -> Result<Vec<Mapped>, IndexError> {
        let mut pipeline = Pipeline::new();
        for &key in engine_keys {
            pipeline.command(&[b"GET", Key::engine(key).as_ref()]);
        }
        let mut mapped = Vec::new();
        for (reply, &engine_key) in self.send(pipeline).await?.iter().zip(engine_keys) {
            if self.is_foreign(reply) {
                continue;
            }
            let text: Option<&[u8]> = reply.parse().map_err(failed)?;
            let request_keys = text.and_then(BlockHash::from_decimal).into_iter().collect();
            mapped.push(Mapped { engine_key, request_keys });
        }
        Ok(mapped)
    }

    /// Takes entries out of request keys, in whatever spelling they are there, and drops the mappings that are done with.
    ///
    /// The spellings that are known are deleted unseen. In the same round trip the server is asked for other fields that
    /// name the pods: one that spells the same entry, say with an annotation of a later version, is deleted in a second.
    pub(super) async fn remove(
        &self,
        request_keys: &[BlockHash],
        entries: &[PodEntry],
        mapped: &[Mapped],
    ) -> Result<(), IndexError> {
        let spellings: Vec<Vec<u8>> = entries.iter().flat_map(PodEntry::spellings).collect();
        let pods: HashSet<&str> =
            entries.iter().map(|entry| entry.pod_identifier.as_str()).collect();
        let patterns: Vec<Vec<u8>> = pods.iter().map(|pod| pattern(pod)).collect();
        let mut pipeline = Pipeline::new();
        for &key in request_keys {
            let name = Key::request(key);
            push_deletion(&mut pipeline, &name, spellings.iter().map(Vec::as_slice));
            for pattern in &patterns {
                let name = name.as_ref();
                pipeline.command(&[b"HSCAN", name, b"0", b"MATCH", pattern, b"COUNT", SCAN_COUNT]);
            }
        }
        let calls = prunings(mapped);
        let (replies, pruned) = self.send_and_call(pipeline, &calls).await?;

        let selected: PodSet = pods.iter().copied().collect();
        let mut fields = CallFields::new(&self.fields, &selected);
        let mut left = Left::default();
        for (replies, &key) in replies.chunks(1 + patterns.len()).zip(request_keys) {
            let (deleted, found) = (&replies[0], &replies[1..]);
            if self.is_foreign(deleted) {
                continue;
            }
            check(deleted)?;
            // A key may be replaced by something else between two commands of a pipeline.
            for reply in found.iter().filter(|reply| !is_wrong_type(reply)) {
                left.scan(key, reply, &mut fields, entries)?;
            }
        }
        pruned.and(self.remove_left(left, entries, fields, &calls).await)
    }

    /// Deletes what was left after the known spellings.
    async fn remove_left(
        &self,
        mut left: Left,
        entries: &[PodEntry],
        mut fields: CallFields<'_>,
        calls: &[Call],
    ) -> Result<(), IndexError> {
        let mut pipeline = Pipeline::new();
        for &key in &left.unread {
            pipeline.command(&[b"HKEYS", Key::request(key).as_ref()]);
        }
        for (reply, key) in self.send(pipeline).await?.iter().zip(std::mem::take(&mut left.unread))
        {
            if !is_wrong_type(reply) {
                left.take(key, strings(reply).map_err(failed)?, &mut fields, entries);
            }
        }
        if left.fields.is_empty() {
            return Ok(());
        }
        let mut pipeline = Pipeline::new();
        for (key, fields) in &left.fields {
            push_deletion(&mut pipeline, &Key::request(*key), fields.iter().map(Vec::as_slice));
        }
        let (replies, pruned) = self.send_and_call(pipeline, calls).await?;
        for reply in replies.iter().filter(|reply| !is_wrong_type(reply)) {
            check(reply)?;
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
        let mut replies = self.send(pipeline).await?;
        let mut called = replies.split_off(replies.len() - calls.len());
        rerun_unknown(&self.client, calls, &mut called).await.map_err(failed)?;
        Ok((replies, called.iter().try_for_each(check)))
    }

    async fn send(&self, pipeline: Pipeline) -> Result<Vec<Reply>, IndexError> {
        self.client.pipeline(pipeline).await.map_err(failed)
    }
}

fn failed(error: respire::Error) -> IndexError {
    IndexError::client(EVICT_FAILED, error)
}

fn check(reply: &Reply) -> Result<(), IndexError> {
    refusal(reply).map_or(Ok(()), |error| Err(failed(error)))
}

fn distinct(keys: impl Iterator<Item = BlockHash>) -> Vec<BlockHash> {
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

/// A pattern that matches every field which spells the pod, and few others: the longest run of characters in its name
/// that no version and no encoder writes in another way, and anything around it.
///
/// One run and not all of them, because matching several wildcards can take the server long.
fn pattern(pod: &str) -> Vec<u8> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '-' | '_');
    let run = pod.split(|c| !plain(c)).max_by_key(|run| run.len()).unwrap_or_default();
    if run.is_empty() {
        return b"*".to_vec();
    }
    format!("*{run}*").into_bytes()
}

/// What the known spellings have left to be deleted.
#[derive(Default)]
struct Left {
    fields: Vec<(BlockHash, Vec<Vec<u8>>)>,
    /// Keys with more fields than one step searches.
    unread: Vec<BlockHash>,
}

impl Left {
    /// Takes note of the reply to HSCAN: a cursor, and fields and values in turn.
    fn scan(
        &mut self,
        key: BlockHash,
        reply: &Reply,
        fields: &mut CallFields<'_>,
        entries: &[PodEntry],
    ) -> Result<(), IndexError> {
        check(reply)?;
        let (cursor, found): (&[u8], Vec<&[u8]>) = reply.parse().map_err(failed)?;
        self.take(key, found.into_iter().step_by(2), fields, entries);
        if cursor != b"0" && self.unread.last() != Some(&key) {
            self.unread.push(key);
        }
        Ok(())
    }

    fn take<'a>(
        &mut self,
        key: BlockHash,
        found: impl Iterator<Item = &'a [u8]>,
        fields: &mut CallFields<'_>,
        entries: &[PodEntry],
    ) {
        let mut spells_one = |field: &[u8]| {
            fields.number(field).is_some_and(|number| entries.contains(fields.entry(number)))
        };
        let found: Vec<Vec<u8>> =
            found.filter(|field| spells_one(field)).map(<[u8]>::to_vec).collect();
        if !found.is_empty() {
            self.fields.push((key, found));
        }
    }
}
