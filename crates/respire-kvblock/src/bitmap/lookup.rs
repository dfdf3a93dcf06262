//! Lookup: all bitmaps and behind them the nonce, in one pipeline.

use std::{
    ops::Range,
    pin::pin,
    sync::{Arc, MutexGuard, PoisonError},
};

use futures_util::{StreamExt, stream};
use respire::{Client, Command, Pipeline, Reply, Value};

use super::{
    BitmapIndex, Kind, PodPrefix, Registry, attest::ATTEMPTS, columns::Columns, is_error,
    mappings::Mappings, prefixes::Prefixes, scripts::call,
};
use crate::{BlockHash, IndexError, LongestPrefixScorer, Lookup, PodSet, lookup::Walk};

/// The keys of the first chunk, in one round trip. A server needs some 30 us for them, about as long as a round trip on a loopback.
const FIRST_CHUNK: usize = 256;

/// The keys of each further chunk: 50 KiB of replies. A prompt of up to 2,304 blocks takes two round trips.
const CHUNK: usize = 2048;

/// How many chunks are under way at once after the first one.
const UNDER_WAY: usize = 2;

/// How often a question that was lost with its connection is asked again.
const LOST_MAX: usize = 2;

/// What takes the holders of blocks, in order.
pub(super) trait Sink {
    /// Begins, or begins anew, with what columns mean.
    fn begin(&mut self, registry: &Arc<Registry>);

    /// The next block has these holders, of which there is at least one. `false` when it is enough.
    fn push(&mut self, key: BlockHash, holders: &Columns) -> bool;

    /// The next block has the holders of the one before.
    fn repeat(&mut self, key: BlockHash);
}

/// What a walk came to.
#[derive(Clone, Copy)]
enum Outcome {
    Done,
    /// The deadline passed or the server was lost behind what was found.
    Incomplete,
    /// The registry is another one by now.
    Stale,
    /// The primary takes no writes.
    ReadOnly,
}

impl BitmapIndex {
    /// How much of a prompt each pod holds, and its score: what [`lookup`](crate::Index::lookup) and
    /// [`LongestPrefixScorer::score`] answer together, without a list of holders a block.
    ///
    /// # Errors
    ///
    /// As [`lookup`](crate::Index::lookup). A walk that could not go on leaves prefixes shorter than they are.
    pub async fn prefixes(
        &self,
        request_keys: &[BlockHash],
        pods: &PodSet,
        scorer: &LongestPrefixScorer,
    ) -> Result<Vec<PodPrefix>, IndexError> {
        let mut prefixes = Prefixes::new(scorer);
        self.walk(request_keys, pods, &mut prefixes).await?;
        Ok(prefixes.finish())
    }

    pub(super) async fn find(
        &self,
        request_keys: &[BlockHash],
        pods: &PodSet,
    ) -> Result<Lookup, IndexError> {
        let mut entries = Entries::default();
        let is_complete = self.walk(request_keys, pods, &mut entries).await?;
        let table = entries.registry.map(|registry| Arc::clone(&registry.table));
        let lookup = entries.walk.finish(table.unwrap_or_default());
        Ok(if is_complete { lookup } else { lookup.incomplete() })
    }

    /// Walks until it was exact. Whether it could go to the end.
    async fn walk<S: Sink + Send>(
        &self,
        keys: &[BlockHash],
        pods: &PodSet,
        sink: &mut S,
    ) -> Result<bool, IndexError> {
        if keys.is_empty() {
            return Ok(true);
        }
        let call = self.within(self.lookup_timeout);
        let (mut read_only, mut lost) = (false, 0);
        for _ in 0..ATTEMPTS {
            let registry = self.registry_within(&call).await?;
            sink.begin(&registry);
            match self.walk_once(&call.client, &registry, keys, pods, sink, read_only).await {
                Ok(Outcome::Done) => return Ok(true),
                Ok(Outcome::Incomplete) => return Ok(false),
                Ok(Outcome::Stale) => {
                    self.refresh_within(&call, &registry).await?;
                }
                Ok(Outcome::ReadOnly) => read_only = true,
                Err(error) if lost < LOST_MAX && is_lost(&error) => lost += 1,
                Err(error) => return Err(error),
            }
        }
        Err(IndexError::contended())
    }

    async fn walk_once<S: Sink + Send>(
        &self,
        client: &Client,
        registry: &Arc<Registry>,
        keys: &[BlockHash],
        pods: &PodSet,
        sink: &mut S,
        read_only: bool,
    ) -> Result<Outcome, IndexError> {
        let among = registry.columns_of(pods);
        let mut holders = Columns::default();
        let (first, rest) = keys.split_at(keys.len().min(FIRST_CHUNK));
        let mut more = match self.ask(client, registry, first, read_only).await? {
            Answer::Exact(values) => extend(sink, &mut holders, &among, first, &values)?,
            Answer::Other(outcome) => return Ok(outcome),
        };
        let mut chunks = pin!(
            stream::iter(chunks(rest.len()))
                .map(|chunk| async {
                    let keys = &rest[chunk];
                    (keys, self.ask(client, registry, keys, read_only).await)
                })
                .buffered(UNDER_WAY)
        );
        while more && let Some((keys, answer)) = chunks.next().await {
            more = match answer {
                Ok(Answer::Exact(values)) => extend(sink, &mut holders, &among, keys, &values)?,
                Ok(Answer::Other(outcome)) => return Ok(outcome),
                // What was found until then is true.
                Err(error) => {
                    tracing::debug!(%error, "a lookup ends before its time");
                    return Ok(Outcome::Incomplete);
                }
            };
        }
        Ok(Outcome::Done)
    }

    /// Asks for the values of blocks. Each question carries the nonce behind them, so that it stands for itself.
    async fn ask(
        &self,
        client: &Client,
        registry: &Registry,
        keys: &[BlockHash],
        read_only: bool,
    ) -> Result<Answer, IndexError> {
        let mut pipeline = Pipeline::new();
        let mut question = Command::new("MGET");
        let mut name = self.names.key(Kind::Block, registry.epoch, BlockHash::EMPTY);
        let hash_at = name.len() - 8;
        for key in keys {
            name[hash_at..].copy_from_slice(&key.0.to_be_bytes());
            question = question.arg(&name[..]);
        }
        pipeline.push(question).push(self.nonce_call(registry, read_only));
        let replies = client.pipeline(pipeline).await.map_err(failed)?;
        let [values, nonce] = &replies[..] else { return Ok(Answer::Other(Outcome::Stale)) };
        if is_error(nonce, "NOSCRIPT") {
            self.state().scripts_unknown(registry.generation);
            return Ok(Answer::Other(Outcome::Stale));
        }
        if is_error(nonce, "MISCONF") || is_error(nonce, "NOREPLICAS") {
            return Ok(Answer::Other(Outcome::ReadOnly));
        }
        super::check(LOOKUP_FAILED, nonce)?;
        super::check(LOOKUP_FAILED, values)?;
        match nonce.value().get() {
            Value::BulkString(nonce) if nonce == registry.nonce.as_bytes() => {
                Ok(Answer::Exact(values.clone()))
            }
            _ => Ok(Answer::Other(Outcome::Stale)),
        }
    }

    /// The call that reads the nonce. A server that is not a primary refuses it, unless it is `read_only`.
    pub(super) fn nonce_call(&self, registry: &Registry, read_only: bool) -> Command {
        let scripts = &registry.scripts;
        let script = if read_only { &scripts.nonce_while_read_only } else { &scripts.nonce };
        call(script, 1).arg(&self.names.registry()[..])
    }

    pub(super) fn mappings(&self) -> MutexGuard<'_, Mappings> {
        // It is a cache: whatever a panic has left there is compared with the server.
        self.mappings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Answer {
    /// The values, which were read while the registry was in force.
    Exact(Reply),
    Other(Outcome),
}

/// Takes the walk through the values of a chunk. `false` when it is over.
fn extend<S: Sink>(
    sink: &mut S,
    holders: &mut Columns,
    among: &Columns,
    keys: &[BlockHash],
    values: &Reply,
) -> Result<bool, IndexError> {
    let Value::Array(values) = values.value().get() else {
        return values.parse::<Vec<Option<&[u8]>>>().map(|_| false).map_err(failed);
    };
    let mut before: Option<&[u8]> = None;
    for (&key, value) in keys.iter().zip(values) {
        let Value::BulkString(value) = value.get() else { return Ok(false) };
        // Neighbouring blocks have mostly the same holders. What stands before was pushed, or the walk were over.
        if before == Some(value) {
            sink.repeat(key);
            continue;
        }
        if !holders.read(value, among) || !sink.push(key, holders) {
            return Ok(false);
        }
        before = Some(value);
    }
    Ok(true)
}

/// The holders of each block, for a [`Lookup`].
#[derive(Debug, Default)]
struct Entries {
    walk: Walk,
    registry: Option<Arc<Registry>>,
}

impl Sink for Entries {
    fn begin(&mut self, registry: &Arc<Registry>) {
        *self = Self { walk: Walk::default(), registry: Some(Arc::clone(registry)) };
    }

    fn push(&mut self, key: BlockHash, holders: &Columns) -> bool {
        let Some(registry) = &self.registry else { return false };
        self.walk.push(key, holders.iter().map(|column| registry.place(column) as u32))
    }

    fn repeat(&mut self, key: BlockHash) {
        self.walk.repeat(key);
    }
}

/// Whether the question was lost on the way, so that it can be asked again.
fn is_lost(error: &IndexError) -> bool {
    error.client_error().is_some_and(|error| {
        let answered = error.server_error().is_some() || error.is_value();
        !answered && !error.is_timeout() && !error.is_usage() && !error.is_connect()
    })
}

fn failed(error: respire::Error) -> IndexError {
    IndexError::client(LOOKUP_FAILED, error)
}

const LOOKUP_FAILED: &str = "failed to look up blocks in the index";

/// The chunks of the keys behind the first one.
fn chunks(keys: usize) -> impl Iterator<Item = Range<usize>> {
    (0..keys).step_by(CHUNK).map(move |start| start..keys.min(start + CHUNK))
}
