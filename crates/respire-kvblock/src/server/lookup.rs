//! Lookup: pipelined HKEYS in growing chunks, up to the first key that is not held.

use std::{
    ops::Range,
    pin::pin,
    sync::{Arc, atomic::Ordering},
};

use futures_util::{StreamExt, stream};
use respire::{Command, Pipeline, Reply, Value};

use super::{ServerIndex, fields::CallFields, keys::Key, names_wrong_type};
use crate::{BlockHash, IndexError, Lookup, PodSet, lookup::Walk};

/// The keys of the first chunk. Most prompts that hit nothing are answered with it, and so is every prompt of up to so
/// many blocks, in one round trip. Larger would make a short hit cost more than the round trip itself: 64 keys with four
/// holders took a valkey-server 8.0.1 on the same machine 82 microseconds.
const FIRST_CHUNK: usize = 64;

/// How much larger each chunk is than the one before. With 4, a prompt of 431 blocks takes two round trips, and one of
/// 7,887 ten chunks, of which all but the first overlap.
const GROWTH: usize = 4;

/// The most keys of a chunk: with ten holders a megabyte of replies, which other requests on the connection wait for.
const CHUNK_MAX: usize = 1024;

/// How many chunks are under way at once after the first one. While one is decoded, the server works on the next: the
/// round trips of a long walk overlap. What it costs is the work on chunks behind the end of the prefix, of which most
/// keys are absent and cheap.
const UNDER_WAY: usize = 2;

impl ServerIndex {
    pub(super) async fn lookup_in_chunks(
        &self,
        request_keys: &[BlockHash],
        pods: &PodSet,
    ) -> Result<Lookup, IndexError> {
        let mut walk = Walk::default();
        let mut fields = CallFields::new(&self.fields, pods);
        let (first, rest) = request_keys.split_at(request_keys.len().min(FIRST_CHUNK));
        let mut more = self.extend(&mut walk, &mut fields, first, &self.ask(first).await?)?;
        let mut chunks = pin!(
            stream::iter(chunks(rest.len()))
                .map(|chunk| async { (&rest[chunk.clone()], self.ask(&rest[chunk]).await) })
                .buffered(UNDER_WAY)
        );
        while more && let Some((keys, replies)) = chunks.next().await {
            more = self.extend(&mut walk, &mut fields, keys, &replies?)?;
        }
        Ok(walk.finish(Arc::new(fields.into_entries())))
    }

    async fn ask(&self, request_keys: &[BlockHash]) -> Result<Vec<Reply>, IndexError> {
        // A command takes 36 bytes at most: the headers, `HKEYS` and 20 digits.
        let mut pipeline = Pipeline::with_capacity(request_keys.len() * 44);
        for &key in request_keys {
            pipeline.command(&[b"HKEYS", Key::request(key).as_ref()]);
        }
        let replies = self.client.pipeline(pipeline).await;
        replies.map_err(|error| IndexError::client(LOOKUP_FAILED, error))
    }

    /// Takes the walk through the replies of a chunk. `false` when it is over.
    fn extend(
        &self,
        walk: &mut Walk,
        fields: &mut CallFields<'_>,
        keys: &[BlockHash],
        replies: &[Reply],
    ) -> Result<bool, IndexError> {
        for (&key, reply) in keys.iter().zip(replies) {
            if self.is_foreign(reply) {
                return Ok(false);
            }
            let holders =
                strings(reply).map_err(|error| IndexError::client(LOOKUP_FAILED, error))?;
            if !walk.push(key, holders.filter_map(|field| fields.number(field))) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) async fn last_request_key(
        &self,
        engine_key: BlockHash,
    ) -> Result<BlockHash, IndexError> {
        let failed = |error| IndexError::client(REQUEST_KEY_FAILED, error);
        let key = Key::engine(engine_key);
        // The last in ascending order is the first in descending order, ties included, and every version knows it.
        let last = Command::new("ZRANGE").arg(key.as_ref()).arg(-1).arg(-1);
        let found = match self.client.execute(last).await {
            Ok(reply) => strings(&reply).map_err(failed)?.next().map(<[u8]>::to_vec),
            Err(error) if error.server_error().is_some_and(names_wrong_type) => {
                self.older_request_key(&key).await?
            }
            Err(error) => return Err(failed(error)),
        };
        let found = found.ok_or_else(|| IndexError::engine_key_not_found(engine_key))?;
        BlockHash::from_decimal(&found).ok_or_else(|| IndexError::invalid_hash(&found))
    }

    /// What an engine key names that is a string, as it was up to v0.8.
    async fn older_request_key(&self, key: &Key) -> Result<Option<Vec<u8>>, IndexError> {
        match self.client.query(Command::new("GET").arg(key.as_ref())).await {
            Ok(found) => Ok(found),
            Err(error) if error.server_error().is_some_and(names_wrong_type) => {
                self.wrong_type_keys.fetch_add(1, Ordering::Relaxed);
                Err(IndexError::foreign_key(key.as_ref()))
            }
            Err(error) => Err(IndexError::client(REQUEST_KEY_FAILED, error)),
        }
    }
}

/// llm-d's words, whichever the server is.
const LOOKUP_FAILED: &str = "redis pipeline execution failed";

const REQUEST_KEY_FAILED: &str = "failed to ask for the request key of an engine key";

/// The strings of a reply that lists some: an array, or a set.
pub(super) fn strings(reply: &Reply) -> Result<impl Iterator<Item = &[u8]>, respire::Error> {
    let items = match reply.value().get() {
        Value::Array(items) | Value::Set(items) => Some(items),
        // The null of RESP2 for an array, or an error that says what is wrong with the reply.
        _ => reply.parse::<Option<Vec<&[u8]>>>().map(|_| None)?,
    };
    Ok(items.into_iter().flatten().filter_map(|item| match item.get() {
        Value::BulkString(text) | Value::SimpleString(text) => Some(text),
        _ => None,
    }))
}

/// The chunks after the first one.
fn chunks(keys: usize) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    let mut size = FIRST_CHUNK;
    std::iter::from_fn(move || {
        if start == keys {
            return None;
        }
        size = (size * GROWTH).min(CHUNK_MAX);
        let chunk = start..keys.min(start + size);
        start = chunk.end;
        Some(chunk)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_grow_and_cover_every_key_once() {
        for keys in [0, 1, 255, 256, 257, 1279, 1280, 1281, 7_823] {
            let chunks: Vec<_> = chunks(keys).collect();
            let mut next = 0;
            for chunk in &chunks {
                assert_eq!(chunk.start, next);
                assert!(!chunk.is_empty() && chunk.len() <= CHUNK_MAX);
                next = chunk.end;
            }
            assert_eq!(next, keys);
        }
        let sizes: Vec<_> = chunks(7_823).map(|chunk| chunk.len()).collect();
        assert_eq!(sizes, [256, 1024, 1024, 1024, 1024, 1024, 1024, 1024, 399]);
    }
}
