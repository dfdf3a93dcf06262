//! Lookup: pipelined HKEYS in growing chunks, up to the first key that is not held.

use std::{
    ops::Range,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use respire::{Command, Pipeline, Reply, Value};

use super::{ServerIndex, fields::CallFields, keys::Key, names_wrong_type};
use crate::{BlockHash, IndexError, Lookup, PodSet, lookup::Walk};

/// The keys of the first chunk. Most prompts that hit nothing are answered with it, and so is every prompt of up to so
/// many blocks, in one round trip. More would let a prompt without a hit wait for work on keys that are of no use to it.
const FIRST_CHUNK: usize = 64;

/// How much larger each chunk is than the one before. With 4, a prompt of 431 blocks takes two round trips, and one of
/// 7,887 ten chunks, of which all but the first overlap.
const GROWTH: usize = 4;

/// The most keys of a chunk: with ten holders a megabyte of replies, which other requests on the connection wait for.
const CHUNK_MAX: usize = 1024;

/// How many chunks are under way at once after the first one, so that a long walk over a network waits for every second
/// round trip at most. Without one, as on a loopback, there is nothing to gain. What it costs is the work on chunks behind
/// the end of the prefix, of which most keys are absent and cheap.
const UNDER_WAY: usize = 2;

impl ServerIndex {
    pub(super) async fn lookup_in_chunks(
        &self,
        request_keys: &[BlockHash],
        pods: &PodSet,
    ) -> Result<Lookup, IndexError> {
        let deadline = Deadline::after(self.lookup_timeout);
        let mut walk = Walk::default();
        let mut fields = CallFields::new(&self.fields, pods);
        let (first, rest) = request_keys.split_at(request_keys.len().min(FIRST_CHUNK));
        let mut more =
            self.extend(&mut walk, &mut fields, first, &self.ask(first, deadline).await?)?;
        let mut chunks = pin!(
            stream::iter(chunks(rest.len()))
                .map(|chunk| async {
                    (&rest[chunk.clone()], self.ask(&rest[chunk], deadline).await)
                })
                .buffered(UNDER_WAY)
        );
        while more && let Some((keys, replies)) = chunks.next().await {
            more = self.extend(&mut walk, &mut fields, keys, &replies?)?;
        }
        Ok(walk.finish(Arc::new(fields.into_entries())))
    }

    async fn ask(
        &self,
        request_keys: &[BlockHash],
        deadline: Deadline,
    ) -> Result<Vec<Reply>, IndexError> {
        // A command takes 36 bytes at most: the headers, `HKEYS` and 20 digits.
        let mut pipeline = Pipeline::with_capacity(request_keys.len() * 44);
        for &key in request_keys {
            pipeline.command(&[b"HKEYS", Key::request(key).as_ref()]);
        }
        let client = self.client.with_command_timeout(deadline.left());
        let replies = client.pipeline(pipeline).await;
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
        let mut before: Option<&Reply> = None;
        for (&key, reply) in keys.iter().zip(replies) {
            // Neighbouring blocks have mostly the same holders. What stands before was pushed, or the walk were over.
            if before.is_some_and(|before| before.frame().bytes() == reply.frame().bytes()) {
                walk.repeat(key);
                continue;
            }
            if self.is_foreign(reply) {
                return Ok(false);
            }
            let holders =
                strings(reply).map_err(|error| IndexError::client(LOOKUP_FAILED, error))?;
            if !walk.push(key, fields.numbers(holders)) {
                return Ok(false);
            }
            before = Some(reply);
        }
        Ok(true)
    }

    /// As for an eviction, an engine key that is no sorted set is asked for as a string, and as a sorted set once more.
    pub(super) async fn last_request_key(
        &self,
        engine_key: BlockHash,
    ) -> Result<BlockHash, IndexError> {
        let key = Key::engine(engine_key);
        let found = match self.last_of_set(&key).await? {
            Asked::Found(found) => found,
            Asked::WrongType => match self.string(&key).await? {
                Asked::Found(found) => found,
                Asked::WrongType => match self.last_of_set(&key).await? {
                    Asked::Found(found) => found,
                    Asked::WrongType => {
                        self.count_wrong_type();
                        return Err(IndexError::foreign_key(key.as_ref()));
                    }
                },
            },
        };
        let found = found.ok_or_else(|| IndexError::engine_key_not_found(engine_key))?;
        BlockHash::from_decimal(&found).ok_or_else(|| IndexError::invalid_hash(&found))
    }

    async fn last_of_set(&self, key: &Key) -> Result<Asked, IndexError> {
        // The last in ascending order is the first in descending order, ties included, and every version knows it.
        let last = Command::new("ZRANGE").arg(key.as_ref()).arg(-1).arg(-1);
        match self.client.execute(last).await {
            Ok(reply) => {
                let found = strings(&reply).map_err(request_key_failed)?.next().map(<[u8]>::to_vec);
                Ok(Asked::Found(found))
            }
            Err(error) => Asked::wrong_type_or(error),
        }
    }

    async fn string(&self, key: &Key) -> Result<Asked, IndexError> {
        match self.client.query(Command::new("GET").arg(key.as_ref())).await {
            Ok(found) => Ok(Asked::Found(found)),
            Err(error) => Asked::wrong_type_or(error),
        }
    }
}

/// What a key holds that was asked for as one type.
enum Asked {
    Found(Option<Vec<u8>>),
    WrongType,
}

impl Asked {
    fn wrong_type_or(error: respire::Error) -> Result<Self, IndexError> {
        match error.server_error() {
            Some(refusal) if names_wrong_type(refusal) => Ok(Self::WrongType),
            _ => Err(request_key_failed(error)),
        }
    }
}

fn request_key_failed(error: respire::Error) -> IndexError {
    IndexError::client(REQUEST_KEY_FAILED, error)
}

/// When a lookup has to be done, all of its chunks together.
#[derive(Clone, Copy)]
struct Deadline(Option<Instant>);

impl Deadline {
    fn after(timeout: Option<Duration>) -> Self {
        Self(timeout.and_then(|timeout| Instant::now().checked_add(timeout)))
    }

    /// What is left of the time. The client answers a request without any that its deadline has passed.
    fn left(self) -> Option<Duration> {
        self.0.map(|at| at.saturating_duration_since(Instant::now()))
    }
}

const LOOKUP_FAILED: &str = "failed to look up blocks in the index";

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
