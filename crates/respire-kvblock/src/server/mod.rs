//! The index on a Valkey or Redis server, in llm-d's layout.
//!
//! | key | type | content |
//! |---|---|---|
//! | `<request key>` | hash | a field for each entry, see [`PodEntry`]; the values are empty |
//! | `engine:<engine key>` | sorted set | the request keys, each with its position as its score |
//!
//! Hashes are unsigned decimal numbers. Up to v0.8 an engine key was a string with one request key: it is read, and
//! becomes a sorted set when its engine key is added again.
//!
//! Where a reverse index is kept, there are sets beside these, named `engine:~...`: see [`reverse`]. So is the [mark](loss) by
//! which a loss is noticed.

use std::{
    borrow::Cow,
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use respire::{Client, Pipeline, Reply, ServerError};
use serde::Serialize;

use crate::{BlockHash, ConfigError, Index, IndexError, KeyType, Lookup, PodEntry, PodSet, Resync};

mod add;
mod clear;
mod evict;
mod fields;
mod keys;
mod lookup;
mod loss;
mod mappings;
mod near;
mod pace;
mod report;
mod reverse;
mod scripts;

pub use near::NearCacheConfig;
pub use report::{Finding, ServerReport, Severity, check_server};

/// An index on a server, shared with every other process that uses the same database, llm-d's included.
///
/// What it writes is llm-d's layout of v0.9 and later, byte for byte and, unless a [reverse index](ClearBy) or a
/// [mark](Self::with_loss_detection) is asked for, nothing else; what it reads goes back to v0.5. It speaks RESP2 and RESP3 and sends nothing that servers do not know since version 4.0, but for an option that it can do without. To
/// add it needs permission for transactions, to evict by engine key for scripts.
///
/// An [`add`](Index::add) writes what an engine key maps to and the mapping in one transaction of about 128 blocks: a server
/// that runs out of memory has either both or neither. Only where an engine key has to be made a sorted set first, because
/// a version up to v0.8 has left a string there, its mapping follows in a second step, and until then the old one stands.
///
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use respire_kvblock::{BlockHash, Index, PodEntry, PodSet, ServerIndex};
///
/// let client = respire::Client::connect("valkey://127.0.0.1:6379").await?;
/// let index = ServerIndex::new(client);
/// let (engine, request) = (BlockHash(55269488), BlockHash(10633516));
/// index.add(Some(&[engine]), &[request], &[PodEntry::new("10.0.0.1:8000", "gpu")]).await?;
/// assert_eq!(index.lookup(&[request], &PodSet::all()).await?.len(), 1);
/// # Ok(()) }
/// ```
///
/// # Keys of others
///
/// A request key that holds something else than a hash is not held by anyone: a lookup ends there, an eviction passes it
/// by, and both are counted in [`stats`](Self::stats). Only an [`add`](Index::add) to such a key fails. Nothing is ever
/// overwritten or deleted but entries and mappings.
///
/// # Mappings that change
///
/// A sorted set keeps every request key that an engine key was ever mapped to, until the mapping is dropped.
/// [`request_key`](Index::request_key) then answers the one with the highest score, and of several the last in
/// dictionary order, which need not be the latest.
pub struct ServerIndex {
    client: Client,
    names: keys::Names,
    field_format: FieldFormat,
    clear_by: ClearBy,
    mappings: mappings::MappingMemory,
    lookup_timeout: Option<Duration>,
    fields: fields::FieldTable,
    pace: pace::Pace,
    near: Option<near::NearCache>,
    loss: Option<loss::LossWatch>,
    wrong_type_keys: AtomicU64,
    incomplete_lookups: AtomicU64,
}

/// How a [`ServerIndex`] writes an entry as a hash field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FieldFormat {
    /// As llm-d does since v0.9: [`PodEntry::to_field`].
    #[default]
    Json,
    /// As llm-d did up to v0.8, `pod@tier`: for a database that such versions read too, which fail at JSON. An entry with a
    /// group cannot be added then.
    Text,
}

/// How [`Index::clear`] of a [`ServerIndex`] finds the request keys of a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ClearBy {
    /// It looks at every key of the database. Nothing is written beside llm-d's own keys.
    #[default]
    Scan,
    /// It goes through a reverse index, which takes it straight to the pod's keys, and then scans for what others have
    /// written. An add writes up to one more key a block, and an eviction one more command.
    ReverseIndexThenScan,
    /// It goes through the reverse index alone. This is right only where everything that writes entries to the database
    /// keeps one, and always has: llm-d does not.
    ReverseIndex,
}

/// What a [`ServerIndex`] has met since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStats {
    /// How often a call met a key that held a value of a type which no version of the index keeps there.
    pub wrong_type_keys: u64,
    /// How many lookups had to answer with what they had found until then.
    pub incomplete_lookups: u64,
}

impl ServerIndex {
    /// An index in the database that the client has selected. Nothing is sent yet.
    ///
    /// A lookup as a whole may take as long as this client gives one request; see
    /// [`Client::command_timeout`](respire::Client::command_timeout).
    pub fn new(client: Client) -> Self {
        Self {
            lookup_timeout: client.command_timeout(),
            client,
            names: keys::Names::default(),
            field_format: FieldFormat::default(),
            clear_by: ClearBy::default(),
            mappings: mappings::MappingMemory::new(mappings::ENGINE_KEYS_MAX.get()),
            fields: fields::FieldTable::default(),
            pace: pace::Pace::default(),
            near: None,
            loss: None,
            wrong_type_keys: AtomicU64::new(0),
            incomplete_lookups: AtomicU64::new(0),
        }
    }

    /// The same index with another limit to how long a lookup may take, however many requests it consists of. `None` for
    /// no limit.
    #[must_use]
    pub fn with_lookup_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.lookup_timeout = timeout;
        self
    }

    /// The same index with all of its keys behind a prefix, so that several can share a database. An engine key's name is
    /// `engine:`, the prefix and the number, because llm-d's own clear passes by what starts with `engine:` and stops
    /// at everything else that is no hash. Without a prefix, or with an empty one, the names are llm-d's.
    ///
    /// # Errors
    ///
    /// [`config_error`](IndexError::config_error) for a prefix that ends with a digit, that starts with `engine:` or `~`, or
    /// is longer than 128 bytes: its names could be taken for others.
    pub fn with_key_prefix(mut self, prefix: &str) -> Result<Self, IndexError> {
        let names = keys::Names::with_prefix(prefix);
        self.names = names.map_err(|problem| ConfigError::invalid("keyPrefix", problem))?;
        Ok(self)
    }

    /// What is wrong with a prefix, if it cannot be one.
    pub(crate) fn check_key_prefix(prefix: &str) -> Result<(), String> {
        keys::Names::with_prefix(prefix).map(|_| ())
    }

    /// The same index with another form in which entries are written. All forms are read, and all are evicted.
    #[must_use]
    pub fn with_field_format(mut self, format: FieldFormat) -> Self {
        self.field_format = format;
        self
    }

    /// The same index with another way from a pod to its request keys. By default there is none, and a clear scans.
    #[must_use]
    pub fn with_clear_by(mut self, clear_by: ClearBy) -> Self {
        self.clear_by = clear_by;
        self
    }

    /// The same index, which remembers so many of the engine keys that it has added, and what it has mapped them to. An
    /// eviction through those takes one round trip, and one through others two. An engine key costs about a hundred bytes;
    /// by default there are 262,144, enough for all blocks of a dozen pods. 0 to remember none.
    #[must_use]
    pub fn with_mappings_max(mut self, engine_keys: usize) -> Self {
        self.mappings = mappings::MappingMemory::new(engine_keys);
        self
    }

    /// The same index with an assumption on how long a round trip to the server takes, instead of a measurement. `None` to
    /// measure, as by default.
    ///
    /// It decides how many keys a lookup asks for before it knows whether the first is held: as many as keep the server
    /// busy for about a round trip.
    #[must_use]
    pub fn with_round_trip(mut self, round_trip: Option<Duration>) -> Self {
        self.pace = pace::Pace::new(round_trip);
        self
    }

    /// The same index with a near cache: the first blocks of prompts that were looked up before are answered from memory,
    /// for as long as the server, over a connection of the cache's own, announces what changes.
    /// [`Lookup::staleness`] says then how old an answer can be at the most. What this index adds and evicts itself its
    /// lookups see at once. When that connection is lost, everything is forgotten.
    ///
    /// # Errors
    ///
    /// When the connection cannot be established, or the server does not announce changes: it needs RESP3, with Redis 6.0
    /// or later, or any Valkey.
    pub async fn with_near_cache(mut self, config: NearCacheConfig) -> Result<Self, IndexError> {
        let opened = near::NearCache::open(&self.client, config).await;
        self.near = Some(opened.map_err(|error| IndexError::client(NEAR_CACHE_FAILED, error))?);
        Ok(self)
    }

    /// What the near cache has done so far; `None` without one.
    pub fn near_cache_stats(&self) -> Option<respire::cache::CacheStats> {
        self.near.as_ref().map(near::NearCache::stats)
    }

    /// The client that the index uses.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// What the index has met so far.
    pub fn stats(&self) -> ServerStats {
        ServerStats {
            wrong_type_keys: self.wrong_type_keys.load(Ordering::Relaxed),
            incomplete_lookups: self.incomplete_lookups.load(Ordering::Relaxed),
        }
    }

    /// Sends the commands and waits for their replies.
    async fn send(
        &self,
        doing: &'static str,
        pipeline: Pipeline,
    ) -> Result<Vec<Reply>, IndexError> {
        self.pipeline(pipeline).await.map_err(|error| IndexError::client(doing, error))
    }

    /// The same with the client's error. Whatever may write goes through here, so that a near cache forgets what changes.
    async fn pipeline(&self, pipeline: Pipeline) -> Result<Vec<Reply>, respire::Error> {
        match &self.near {
            Some(near) => near.client().pipeline(pipeline).await,
            None => self.client.pipeline(pipeline).await,
        }
    }

    /// Whether the reply says that a key is of a type that the index never keeps there; counts it if so.
    fn is_foreign(&self, reply: &Reply) -> bool {
        let foreign = is_wrong_type(reply);
        if foreign {
            self.count_wrong_type();
        }
        foreign
    }

    fn count_wrong_type(&self) {
        self.wrong_type_keys.fetch_add(1, Ordering::Relaxed);
    }
}

const NEAR_CACHE_FAILED: &str = "failed to open a near cache of the index";

/// Shows nothing of what the index remembers of its fields.
impl fmt::Debug for ServerIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerIndex")
            .field("client", &self.client)
            .field("lookup_timeout", &self.lookup_timeout)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// Fails when the server has answered with an error.
fn check(doing: &'static str, reply: &Reply) -> Result<(), IndexError> {
    refusal(reply).map_or(Ok(()), |error| Err(IndexError::client(doing, error)))
}

/// Whether the reply says that a key is of another type than the command is for.
fn is_wrong_type(reply: &Reply) -> bool {
    reply.server_error().as_ref().is_some_and(names_wrong_type)
}

/// The server's error, where the reply is one.
fn refusal(reply: &Reply) -> Option<respire::Error> {
    reply.value().error()?;
    reply.clone().into_result().err()
}

fn names_wrong_type(error: &ServerError) -> bool {
    error.code() == "WRONGTYPE"
}

#[async_trait]
impl Index for ServerIndex {
    async fn lookup(
        &self,
        request_keys: &[BlockHash],
        pods: &PodSet,
    ) -> Result<Lookup, IndexError> {
        self.lookup_in_chunks(request_keys, pods).await
    }

    async fn add(
        &self,
        engine_keys: Option<&[BlockHash]>,
        request_keys: &[BlockHash],
        entries: &[PodEntry],
    ) -> Result<(), IndexError> {
        if request_keys.is_empty() || entries.is_empty() {
            return Err(IndexError::invalid_input(IndexError::NOTHING_TO_ADD));
        }
        self.watch_loss(entries).await?;
        // One that fails or is dropped may have added some.
        let _noted = self.loss.as_ref().map(|loss| loss.note_when_done(entries));
        self.add_and_map(engine_keys.unwrap_or_default(), request_keys, entries).await
    }

    async fn evict(
        &self,
        keys: &[BlockHash],
        key_type: KeyType,
        entries: &[PodEntry],
    ) -> Result<(), IndexError> {
        if keys.is_empty() || entries.is_empty() {
            return Err(IndexError::invalid_input(IndexError::NOTHING_TO_EVICT));
        }
        match key_type {
            KeyType::Engine => self.evict_mapped(keys, entries).await,
            KeyType::Request => {
                let keys = evict::distinct(keys.iter().copied());
                self.remove(&keys, &evict::Entries::new(entries), &[]).await
            }
        }
    }

    async fn request_key(&self, engine_key: BlockHash) -> Result<BlockHash, IndexError> {
        self.last_request_key(engine_key).await
    }

    fn remembered_request_key(&self, engine_key: BlockHash) -> Option<BlockHash> {
        self.mappings.latest(engine_key)
    }

    async fn clear(&self, pod_identifier: &str) -> Result<(), IndexError> {
        if self.clear_by != ClearBy::Scan {
            self.clear_by_reverse_index(pod_identifier).await?;
        }
        if self.clear_by != ClearBy::ReverseIndex {
            self.clear_by_scan(pod_identifier).await?;
        }
        if let Some(loss) = &self.loss {
            loss.forget(pod_identifier);
        }
        Ok(())
    }

    async fn resyncs(&self) -> Result<Vec<Resync>, IndexError> {
        Self::resyncs(self).await
    }

    fn detects_loss(&self) -> bool {
        self.loss.is_some()
    }

    fn describe(&self) -> Cow<'_, str> {
        let config = self.client.config();
        format!("on the server at {}, database {}", config.address(), config.database()).into()
    }
}
