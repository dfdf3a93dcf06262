//! The index on a Valkey or Redis server, in a layout of its own: a bit for each holder of a block.
//!
//! What stands on the server and why no race leads to a false hit is in `docs/design/bitmap.md`.

use std::{
    borrow::Cow,
    fmt,
    num::NonZeroUsize,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use respire::{Client, Reply, Script};
use tokio::sync::Semaphore;

use crate::{BlockHash, ConfigError, Index, IndexError, KeyType, Lookup, PodEntry, PodSet, Resync};

/// The most bytes of a prefix.
const PREFIX_MAX: usize = 128;

/// What is said to the server in milliseconds is not nothing there.
const TIME_MIN: Duration = Duration::from_millis(1);

mod add;
mod attest;
mod columns;
mod evict;
mod keys;
mod life;
mod lookup;
mod mappings;
mod prefixes;
mod registry;
mod scripts;
mod state;
mod sweep;
mod write;

pub use prefixes::PodPrefix;
pub use sweep::Sweep;

use columns::COLUMNS_MAX;
use keys::{Epoch, Kind, Names};
use registry::{Registry, Token};
use state::State;

/// Settings of a [`BitmapIndex`].
///
/// ```
/// use std::time::Duration;
/// use respire_kvblock::BitmapOptions;
///
/// let options = BitmapOptions::default()
///     .with_key_prefix("llama-70b:")?
///     .with_lease(Some(Duration::from_secs(30)));
/// assert_eq!(options.key_prefix(), "llama-70b:");
/// # Ok::<(), respire_kvblock::IndexError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct BitmapOptions {
    key_prefix: String,
    lease: Option<Duration>,
    quarantine: Duration,
    writer_timeout: Duration,
    lives_kept: Duration,
    columns_max: u32,
    mappings_max: NonZeroUsize,
}

impl Default for BitmapOptions {
    /// The prefix `kvb:`, no leases, a quarantine of a minute, a writer timeout of five minutes, 65,536 columns, 100,000 mappings;
    /// pods that are gone are forgotten after a day.
    fn default() -> Self {
        Self {
            key_prefix: "kvb:".to_owned(),
            lease: None,
            quarantine: Duration::from_secs(60),
            writer_timeout: Duration::from_secs(300),
            lives_kept: Duration::from_secs(24 * 3600),
            columns_max: COLUMNS_MAX,
            mappings_max: const { NonZeroUsize::new(100_000).unwrap() },
        }
    }
}

impl BitmapOptions {
    /// Sets what the names of all keys begin with. Indexes with different prefixes share a database and know nothing of each other.
    ///
    /// A hash tag, as in `{llama}:`, keeps an index in one slot of a cluster. In a database that llm-d uses as well, it has to
    /// begin with `engine:` and something that is no digit.
    ///
    /// Give it a prefix that nothing else in the database begins with: a [sweep](BitmapIndex::sweep) removes what looks like a key that
    /// an earlier registry of this index has left. Another index's prefix may go on where this one ends.
    ///
    /// # Errors
    ///
    /// [`config_error`](IndexError::config_error) for an empty prefix, with which every key of the database would be looked at as one of
    /// the index, and for one of more than 128 bytes.
    pub fn with_key_prefix(self, prefix: impl Into<String>) -> Result<Self, IndexError> {
        let named = |problem| ConfigError::invalid("keyPrefix", problem).into();
        self.with_checked_prefix(prefix).map_err(named)
    }

    /// The same, or what is wrong with the prefix.
    pub(crate) fn with_checked_prefix(mut self, prefix: impl Into<String>) -> Result<Self, String> {
        let prefix = prefix.into();
        match prefix.len() {
            0 => return Err("must not be empty".to_owned()),
            1..=PREFIX_MAX => self.key_prefix = prefix,
            _ => return Err(format!("must have at most {PREFIX_MAX} bytes")),
        }
        Ok(self)
    }

    /// Sets for how long the pods that this index writes for count without a [renewal](BitmapIndex::renew). `None`: for ever.
    /// A millisecond at least.
    pub fn with_lease(mut self, lease: Option<Duration>) -> Self {
        self.lease = lease.map(|lease| lease.max(TIME_MIN));
        self
    }

    /// Sets for how long a lapsed lease can be taken back, and for how long columns rest before a [sweep](BitmapIndex::sweep) takes
    /// them.
    pub fn with_quarantine(mut self, quarantine: Duration) -> Self {
        self.quarantine = quarantine;
        self
    }

    /// Sets after how long without a sign of life a writer is no longer reckoned with by another of the same pods: the index of a
    /// router that was started again. A writer gives one now and then when it writes or sweeps; one that was only slow goes on as if nothing had happened.
    ///
    /// Until then a server that restarts cannot be trusted to have lost nothing of such a pod; see [`leave`](BitmapIndex::leave) for
    /// routers that stop in good order. All writers should have the same. A millisecond at least.
    pub fn with_writer_timeout(mut self, timeout: Duration) -> Self {
        self.writer_timeout = timeout.max(TIME_MIN);
        self
    }

    /// Sets for how long the lives of a pod stay counted that was [cleared](Index::clear) or whose lease ran out, and that has not come back; then a
    /// [sweep](BitmapIndex::sweep) forgets it. Longer than any writer can be behind with a pod's events.
    pub fn with_lives_kept(mut self, kept: Duration) -> Self {
        self.lives_kept = kept;
        self
    }

    /// Sets how many columns there may be, at most 65,536. A pod takes one for each tier, group and capacity in which it holds
    /// blocks.
    pub fn with_columns_max(mut self, columns: u32) -> Self {
        self.columns_max = columns.min(COLUMNS_MAX);
        self
    }

    /// Sets of how many engine keys the request keys are remembered; an eviction by one of them needs no question. Some 100 bytes each.
    pub fn with_mappings_max(mut self, mappings: NonZeroUsize) -> Self {
        self.mappings_max = mappings;
        self
    }

    /// What the names of all keys begin with.
    pub fn key_prefix(&self) -> &str {
        &self.key_prefix
    }
}

/// An index on a server in the bitmap layout, shared with every other process that uses the same database and prefix.
///
/// It needs Redis 7.0 or Valkey, RESP2 or RESP3, permission for scripts and `INFO`, and a server that does not evict keys without
/// an expiry. llm-d cannot read it.
///
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use respire_kvblock::{BitmapIndex, BitmapOptions, BlockHash, Index, PodEntry, PodSet};
///
/// let client = respire::Client::connect("valkey://127.0.0.1:6379").await?;
/// let index = BitmapIndex::new(client, BitmapOptions::default());
/// let (engine, request) = (BlockHash(55269488), BlockHash(10633516));
/// index.add(Some(&[engine]), &[request], &[PodEntry::new("10.0.0.1:8000", "gpu")]).await?;
/// assert_eq!(index.lookup(&[request], &PodSet::all()).await?.len(), 1);
/// # Ok(()) }
/// ```
///
/// # What the server loses
///
/// Nothing that a server has lost or brings back is taken for present: after a restart or a failover a pod counts once its writer has found that
/// none of its writes is missing, which takes one call of any kind. That can be said of a pod with one writer; several routers that write for
/// the same pods cannot vouch for each other. [`resyncs`](Self::resyncs) names the pods of which blocks are missing.
///
/// # Pods that start anew
///
/// [`clear`](Index::clear) is how a pod's new life begins, and takes the same time whatever the pod holds. What other writers still have to say of its former life does
/// nothing, until they come to their own `clear` for it.
///
/// # What it leaves to its user
///
/// It has no task of its own, unless it is [asked for one](Self::spawn_sweeps). [`sweep`](Self::sweep) gives room back and judges leases; call it now
/// and then from one or several processes. Leases are [renewed](Self::renew) by whoever knows that a pod is alive.
pub struct BitmapIndex {
    client: Client,
    names: Names,
    options: BitmapOptions,
    lookup_timeout: Option<Duration>,
    writer: Token,
    /// The number of the last write.
    writes: AtomicU64,
    attest: Script,
    state: Mutex<State>,
    /// Whoever reads the registry because it has changed has the permit, and the others wait for what is read: of a thousand lookups
    /// at once one asks.
    reading: Semaphore,
    mappings: Mutex<mappings::Mappings>,
    pass: Mutex<Option<sweep::Pass>>,
}

impl BitmapIndex {
    /// An index in the database that the client has selected. Nothing is sent yet.
    ///
    /// A lookup as a whole may take as long as this client gives one request; see
    /// [`Client::command_timeout`](respire::Client::command_timeout).
    pub fn new(client: Client, options: BitmapOptions) -> Self {
        let writer = Token::random();
        Self {
            lookup_timeout: client.command_timeout(),
            client,
            names: Names::new(&options.key_prefix),
            writer,
            writes: AtomicU64::new(0),
            attest: scripts::attest(),
            state: Mutex::new(State::new(writer)),
            reading: Semaphore::new(1),
            mappings: Mutex::new(mappings::Mappings::new(options.mappings_max)),
            pass: Mutex::new(None),
            options,
        }
    }

    /// The same index with another limit to how long a lookup may take, however many requests it consists of. `None` for
    /// no limit.
    #[must_use]
    pub fn with_lookup_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.lookup_timeout = timeout;
        self
    }

    /// The client that the index uses.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The settings.
    pub fn options(&self) -> &BitmapOptions {
        &self.options
    }

    /// The pods that have to announce their blocks again, and why, each told once. To be asked now and then: what is missing is noticed
    /// by calls of any kind.
    pub fn resyncs(&self) -> Vec<Resync> {
        self.state().take_resyncs()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // What a panic has left there is consistent: each change is a few assignments that cannot panic in between.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_write(&self) -> u64 {
        self.writes.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A call of several requests that begins now.
    fn within(&self, timeout: Option<Duration>) -> Call {
        let client = self.client.with_command_timeout(timeout);
        match timeout.and_then(|timeout| Instant::now().checked_add(timeout)) {
            Some(deadline) => {
                Call { client: client.with_deadline(deadline), deadline: Some(deadline) }
            }
            None => Call { client, deadline: None },
        }
    }
}

/// A call of several requests: the client for them, and when all of it has to be over.
struct Call {
    client: Client,
    deadline: Option<Instant>,
}

/// Shows nothing of what the index knows of its pods.
impl fmt::Debug for BitmapIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BitmapIndex")
            .field("client", &self.client)
            .field("options", &self.options)
            .field("lookup_timeout", &self.lookup_timeout)
            .finish_non_exhaustive()
    }
}

/// Fails when the server has answered with an error.
fn check(doing: &'static str, reply: &Reply) -> Result<(), IndexError> {
    match reply.server_error() {
        None => Ok(()),
        Some(_) => match reply.clone().into_result() {
            Ok(_) => Ok(()),
            Err(error) => Err(IndexError::client(doing, error)),
        },
    }
}

/// The code of the server's error, where the reply is one.
fn is_error(reply: &Reply, code: &str) -> bool {
    reply.server_error().is_some_and(|error| error.code() == code)
}

#[async_trait]
impl Index for BitmapIndex {
    async fn lookup(
        &self,
        request_keys: &[BlockHash],
        pods: &PodSet,
    ) -> Result<Lookup, IndexError> {
        self.find(request_keys, pods).await
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
            KeyType::Request => self.evict_blocks(keys, entries).await,
        }
    }

    async fn request_key(&self, engine_key: BlockHash) -> Result<BlockHash, IndexError> {
        self.last_request_key(engine_key).await
    }

    /// As everywhere, and in the same time whatever the pod holds. It ends the life of the pod that this index is in; see
    /// [`BitmapIndex`].
    async fn clear(&self, pod_identifier: &str) -> Result<(), IndexError> {
        self.end_life(pod_identifier).await
    }

    async fn resyncs(&self) -> Result<Vec<Resync>, IndexError> {
        Ok(Self::resyncs(self))
    }

    async fn renew(&self, pods: &[&str]) -> Result<usize, IndexError> {
        Self::renew(self, pods).await
    }

    async fn leave(&self) -> Result<(), IndexError> {
        Self::leave(self).await
    }

    fn describe(&self) -> Cow<'_, str> {
        let config = self.client.config();
        let (address, database) = (config.address(), config.database());
        let prefix = &self.options.key_prefix;
        format!("on the server at {address}, database {database}, as bitmaps under \"{prefix}\"")
            .into()
    }
}
