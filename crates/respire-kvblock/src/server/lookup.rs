//! Lookup: pipelined HKEYS in chunks, up to the first key that is not held.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream::FuturesOrdered};
use respire::{Command, Pipeline, Reply, Value};

use super::{ServerIndex, fields::CallFields, keys::Key, names_wrong_type};
use crate::{BlockHash, IndexError, Lookup, PodSet, lookup::Walk};

impl ServerIndex {
    pub(super) async fn lookup_in_chunks(
        &self,
        request_keys: &[BlockHash],
        pods: &PodSet,
    ) -> Result<Lookup, IndexError> {
        let deadline = Deadline::after(self.lookup_timeout);
        let mut walk = Walk::default();
        let mut fields = CallFields::new(&self.fields, pods);
        let mut rest = request_keys;
        let mut staleness = None;
        if let Some(near) = &self.near {
            let hot = &request_keys[..near.hot_run(request_keys)];
            if !hot.is_empty() {
                let read = near.read(&self.names, hot, deadline.left_at(Instant::now())).await;
                // What is asked of the server itself is not old.
                staleness = (!read.replies.is_empty()).then(|| near.staleness_max());
                let goes_on = self.extend(&mut walk, &mut fields, hot, &read.replies)?;
                // What the cache could not answer is asked for as everything behind it.
                rest = if goes_on { &request_keys[read.replies.len()..] } else { &[] };
                if let Some(error) = read.failed {
                    tracing::debug!(%error, "the near cache does not answer");
                }
            }
        }
        let mut window = self.pace.window();
        let mut under_way = FuturesOrdered::new();
        let mut is_complete = true;
        loop {
            while !rest.is_empty()
                && let Some(size) = window.next_chunk()
            {
                let (chunk, behind) = rest.split_at(rest.len().min(size));
                rest = behind;
                window.sent(chunk.len());
                under_way.push_back(self.ask(chunk, deadline));
            }
            let Some(answered) = under_way.next().await else { break };
            let goes_on = answered.and_then(|Answered { keys, replies, elapsed }| {
                if window.is_first() {
                    self.pace.note(elapsed, &replies);
                }
                window.answered(keys.len());
                self.extend(&mut walk, &mut fields, keys, &replies)
            });
            match goes_on {
                Ok(true) => {}
                Ok(false) => break,
                // Nothing at all has been established.
                Err(error) if walk.is_empty() => return Err(error),
                // Whether a server was lost or refuses, what was found until then is so.
                Err(error) => {
                    tracing::debug!(%error, found = walk.len(), "a lookup ends before its time");
                    self.incomplete_lookups.fetch_add(1, Ordering::Relaxed);
                    is_complete = false;
                    break;
                }
            }
        }
        let mut lookup = walk.finish(Arc::new(fields.into_entries()));
        if let Some(staleness) = staleness {
            lookup = lookup.with_staleness(staleness);
        }
        Ok(if is_complete { lookup } else { lookup.incomplete() })
    }

    async fn ask<'a>(
        &self,
        keys: &'a [BlockHash],
        deadline: Deadline,
    ) -> Result<Answered<'a>, IndexError> {
        // A command takes 36 bytes at most: the headers, `HKEYS` and 20 digits.
        let mut pipeline = Pipeline::with_capacity(keys.len() * 44);
        for &key in keys {
            pipeline.command(&[b"HKEYS", self.names.request(key).as_ref()]);
        }
        let asked = Instant::now();
        let client = self.client.with_command_timeout(deadline.left_at(asked));
        let replies = client.pipeline(pipeline).await;
        let replies = replies.map_err(|error| IndexError::client(LOOKUP_FAILED, error))?;
        Ok(Answered { keys, replies, elapsed: asked.elapsed() })
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
        let key = self.names.engine(engine_key);
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
    fn left_at(self, now: Instant) -> Option<Duration> {
        self.0.map(|at| at.saturating_duration_since(now))
    }
}

/// A chunk of keys with the replies to them, and how long they took.
struct Answered<'a> {
    keys: &'a [BlockHash],
    replies: Vec<Reply>,
    elapsed: Duration,
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
