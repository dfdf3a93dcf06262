//! Which index a replay runs against, and how it is left behind.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use respire::{Address, Client, Command, Config, Pipeline};
use respire_kvblock::{
    BitmapIndex, BitmapOptions, InMemoryConfig, InMemoryIndex, Index, IndexError, Resync,
    ServerIndex,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::causes::with_causes;
use crate::fleet::FleetSize;
use crate::keys::Keys;
use crate::local_server::{Flavour, LocalServer, LocalServerError};
use crate::pod::Capacity;
use crate::written::Written;

/// What the names of llm-d's engine keys begin with.
const ENGINE_KEY_PREFIX: &[u8] = b"engine:";

/// How many fields are removed in one round trip at the least, but for the last; each is some 100
/// bytes. Also the most that one command removes.
const FIELDS_PER_REMOVAL: usize = 2048;

/// Which index to use.
#[derive(Debug, Clone)]
pub enum StoreChoice {
    /// A private server if one can be started, else memory.
    Auto,
    /// An index in this process.
    Memory,
    /// A private server that can be [restarted](crate::replay::Options::restart).
    Private(PrivateServer),
    /// The server of these settings.
    Server(Box<Config>),
}

/// Which private server to start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PrivateServer {
    /// Its kind; `None` for the first that can be started.
    pub flavour: Option<Flavour>,
    /// Whether it keeps everything over a restart: it writes each change to its log before it answers.
    pub is_persistent: bool,
}

/// How an index on a server is kept there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Layout {
    /// As llm-d keeps it: a hash for each block
    #[default]
    LlmD,
    /// A bit for each holder of a block
    Bitmap,
}

/// An index, the names that a replay uses in it, and what it has written there.
pub struct Store {
    name: String,
    notes: Vec<String>,
    keys: Keys,
    index: Arc<dyn Index>,
    /// The index itself where it can tell what was lost.
    watched: Watched,
    client: Option<Client>,
    layout: Layout,
    tag: u64,
    /// Empty while it is being closed.
    private: Option<Arc<Mutex<Option<LocalServer>>>>,
    fleet: FleetSize,
    /// Every block that the index was ever told of, with its pods.
    written: Written,
}

/// An index that names the pods of which it has lost something.
enum Watched {
    Nothing,
    Server(Arc<ServerIndex>),
    Bitmaps(Arc<BitmapIndex>),
}

impl Store {
    /// Opens the index that was chosen, for a fleet of this size. `tag` keeps the keys of this
    /// replay apart from others'.
    ///
    /// # Errors
    ///
    /// The server cannot be reached, or it already holds keys and `allow_non_empty` is not set;
    /// or `stop` was cancelled while a private server started.
    ///
    /// # Cancel safety
    ///
    /// A private server that is starting goes on to do so when the future is dropped, and ends
    /// then; or at once, when `stop` is cancelled.
    pub async fn open(
        choice: &StoreChoice,
        fleet: FleetSize,
        allow_non_empty: bool,
        tag: u64,
        stop: &CancellationToken,
    ) -> Result<Self, StoreError> {
        Self::open_in(Layout::LlmD, choice, fleet, allow_non_empty, tag, stop).await
    }

    /// As [`open`](Self::open), in the layout that is asked for.
    ///
    /// # Errors
    ///
    /// As there; and where a layout is asked for that only servers have, but there is none.
    ///
    /// # Cancel safety
    ///
    /// As there.
    pub async fn open_in(
        layout: Layout,
        choice: &StoreChoice,
        fleet: FleetSize,
        allow_non_empty: bool,
        tag: u64,
        stop: &CancellationToken,
    ) -> Result<Self, StoreError> {
        let store = match choice {
            StoreChoice::Auto => Self::private(layout, fleet, tag, stop).await?,
            StoreChoice::Memory => Self::memory(fleet, tag),
            StoreChoice::Private(which) => Self::started(layout, *which, fleet, tag, stop).await?,
            StoreChoice::Server(config) => {
                Self::server(layout, config, fleet, allow_non_empty, tag).await?
            }
        };
        match store.client {
            None if layout != Layout::LlmD => Err(StoreError::NoServer),
            _ => Ok(store),
        }
    }

    /// An index in this process that holds whatever the fleet can hold.
    #[must_use]
    pub fn memory(fleet: FleetSize, tag: u64) -> Self {
        let index = InMemoryIndex::new(memory_config(fleet)).expect("both bounds are above 0");
        Self::new("memory".to_owned(), Arc::new(index), fleet, tag)
    }

    /// The first server that can be started, or memory; [`notes`](Self::notes) say which and why.
    async fn private(
        layout: Layout,
        fleet: FleetSize,
        tag: u64,
        stop: &CancellationToken,
    ) -> Result<Self, StoreError> {
        match Self::started(layout, PrivateServer::default(), fleet, tag, stop).await {
            Err(StoreError::NotStarted { mut notes, is_installed }) => {
                let reason = if is_installed {
                    "no server could be started"
                } else {
                    "there is no server to start"
                };
                notes.push(format!("{reason}, so the index is in memory"));
                Ok(Self { notes, ..Self::memory(fleet, tag) })
            }
            outcome => outcome,
        }
    }

    /// A server of our own.
    async fn started(
        layout: Layout,
        which: PrivateServer,
        fleet: FleetSize,
        tag: u64,
        stop: &CancellationToken,
    ) -> Result<Self, StoreError> {
        let (mut notes, mut is_installed) = (Vec::new(), false);
        for flavour in Flavour::ALL {
            if which.flavour.is_some_and(|wanted| wanted != flavour) {
                continue;
            }
            let mut builder = LocalServer::builder(flavour).stop_when(stop.clone());
            if which.is_persistent {
                builder = builder.persistent();
            }
            let server = match tokio::task::spawn_blocking(|| builder.start()).await {
                Ok(Ok(server)) => server,
                Ok(Err(error @ LocalServerError::Stopped { .. })) => {
                    return Err(StoreError::Private(error));
                }
                Ok(Err(error)) => {
                    is_installed |= !error.is_not_found();
                    notes.push(with_causes(&error));
                    continue;
                }
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            };
            let config = Config::new(Address::Unix(server.socket_path().to_owned()));
            let client = Client::with_config(config).await.map_err(StoreError::Server)?;
            let mut store =
                Self::over(layout, flavour.program().to_owned(), client, fleet, tag, true);
            notes.push(format!("started a private {}", flavour.program()));
            store.notes = notes;
            store.private = Some(Arc::new(Mutex::new(Some(server))));
            return Ok(store);
        }
        Err(StoreError::NotStarted { notes, is_installed })
    }

    async fn server(
        layout: Layout,
        config: &Config,
        fleet: FleetSize,
        allow_non_empty: bool,
        tag: u64,
    ) -> Result<Self, StoreError> {
        let name = server_name(config);
        let client = Client::with_config(config.clone()).await.map_err(StoreError::Server)?;
        let held: u64 = client.query(Command::new("DBSIZE")).await.map_err(StoreError::Server)?;
        if held > 0 && !allow_non_empty {
            return Err(StoreError::NotEmpty { name, held });
        }
        Ok(Self::over(layout, name, client, fleet, tag, false))
    }

    /// An index on a server. On one of our own it may be restarted, and leaves one more key for that.
    fn over(
        layout: Layout,
        name: String,
        client: Client,
        fleet: FleetSize,
        tag: u64,
        is_ours: bool,
    ) -> Self {
        let (index, watched): (Arc<dyn Index>, _) = match layout {
            Layout::LlmD => {
                let index = ServerIndex::new(client.clone());
                let index = Arc::new(if is_ours { index.with_loss_detection() } else { index });
                (index.clone(), Watched::Server(index))
            }
            Layout::Bitmap => {
                let index = Arc::new(bitmaps(&client, tag));
                (index.clone(), Watched::Bitmaps(index))
            }
        };
        let mut store = Self::new(name, index, fleet, tag);
        (store.client, store.layout, store.tag) = (Some(client), layout, tag);
        store.watched = watched;
        store
    }

    fn new(name: String, index: Arc<dyn Index>, fleet: FleetSize, tag: u64) -> Self {
        Self {
            name,
            notes: Vec::new(),
            keys: Keys::new(tag),
            index,
            watched: Watched::Nothing,
            client: None,
            layout: Layout::LlmD,
            tag: 0,
            private: None,
            fleet,
            written: Written::default(),
        }
    }

    /// Puts something between the replay and its index, for tests of the oracle.
    #[must_use]
    pub fn wrap_index(mut self, wrap: impl FnOnce(Arc<dyn Index>) -> Arc<dyn Index>) -> Self {
        self.index = wrap(self.index);
        self
    }

    /// What the report calls it: `memory`, a private server's program, or a server's address.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What there is to say about the choice, a line each.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The size of fleet that it was opened for.
    #[must_use]
    pub fn fleet(&self) -> FleetSize {
        self.fleet
    }

    /// The index itself.
    #[must_use]
    pub fn index(&self) -> &Arc<dyn Index> {
        &self.index
    }

    /// The names that a replay uses in the index.
    #[must_use]
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Of how many blocks [`close`](Self::close) would remove keys. `None` where none have to be:
    /// in memory, and on a private server, which goes as a whole.
    #[must_use]
    pub fn blocks_to_remove(&self) -> Option<usize> {
        (self.client.is_some() && self.private.is_none()).then(|| self.written.len())
    }

    /// What to look for to find what this replay may have left on a server.
    #[must_use]
    pub fn traces(&self) -> String {
        match self.layout {
            Layout::LlmD => format!("which are those of the pods {}*", self.keys.pod_prefix()),
            Layout::Bitmap => format!("which begin with {}", bitmap_prefix(self.tag)),
        }
    }

    /// The server, if what stands there is in llm-d's layout.
    pub(crate) fn client(&self) -> Option<&Client> {
        self.client.as_ref().filter(|_| self.layout == Layout::LlmD)
    }

    /// An index that knows nothing of what this one remembers, over what this one has written.
    pub(crate) fn second_index(&self) -> Arc<dyn Index> {
        match &self.client {
            Some(client) if self.layout == Layout::Bitmap => Arc::new(bitmaps(client, self.tag)),
            _ => Arc::clone(&self.index),
        }
    }

    /// Kills the server, which has to be a private one, and starts it again, on a thread of its own. How long it was down.
    pub(crate) fn restart(&self) -> Result<RestartTask, StoreError> {
        let server = Arc::clone(self.private.as_ref().ok_or(StoreError::NotPrivate)?);
        Ok(tokio::task::spawn_blocking(move || {
            let began = Instant::now();
            let mut server = server.lock().unwrap_or_else(PoisonError::into_inner);
            // It is closed while the replay ends, and needs no restart then.
            let restarted = server.as_mut().map_or(Ok(()), LocalServer::restart);
            restarted.map(|()| began.elapsed())
        }))
    }

    /// The pods of which the index has lost something since the last call.
    pub(crate) async fn resyncs(&self) -> Result<Vec<Resync>, IndexError> {
        match &self.watched {
            Watched::Nothing => Ok(Vec::new()),
            Watched::Server(index) => index.resyncs().await,
            Watched::Bitmaps(index) => index.resyncs().await,
        }
    }

    pub(crate) fn written(&self) -> &Written {
        &self.written
    }

    /// To be called with a pod's blocks before the index is told of them.
    pub(crate) fn note_written(&mut self, pod: usize, blocks: &[u64]) {
        self.written.note(pod, blocks);
    }

    /// Removes from a server what this replay has written there, or stops the server if it is
    /// ours. Nothing else is touched: a key that others have written to as well keeps what is
    /// theirs.
    ///
    /// # Errors
    ///
    /// The server cannot be reached or refuses; what was written may be left in part.
    pub async fn close(mut self) -> Result<(), StoreError> {
        if let Some(server) = self.private.take() {
            // A restart that is under way is given up with the replay, and holds the lock until then.
            let stop = tokio::task::spawn_blocking(move || {
                let server = server.lock().unwrap_or_else(PoisonError::into_inner).take();
                server.map_or(Ok(()), LocalServer::stop)
            });
            return match stop.await {
                Ok(result) => result.map_err(StoreError::Private),
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            };
        }
        let Some(client) = &self.client else { return Ok(()) };
        match self.layout {
            Layout::LlmD => self.remove_written(client).await,
            Layout::Bitmap => remove_all(client, &bitmap_prefix(self.tag)).await,
        }
    }

    /// Removes exactly the pairs that were written, so that the cost is theirs and not that of all
    /// blocks times all pods. A hash or a sorted set disappears with its last member, so that
    /// members are all there is to remove.
    async fn remove_written(&self, client: &Client) -> Result<(), StoreError> {
        let field = |pod: &usize| self.keys.pod_entry(*pod).to_field();
        let (mut pipeline, mut fields) = (Pipeline::new(), 0);
        for (id, pods) in self.written.pairs() {
            let request_key = self.keys.request_key(id).to_string();
            let engine_key = self.keys.engine_key(id).to_string();
            let engine_key = [ENGINE_KEY_PREFIX, engine_key.as_bytes()].concat();
            for pods in pods.chunks(FIELDS_PER_REMOVAL) {
                pipeline.push(Command::new("HDEL").arg(&*request_key).args(pods.iter().map(field)));
            }
            pipeline.command(&[b"ZREM", &*engine_key, request_key.as_bytes()]);
            fields += pods.len();
            if fields >= FIELDS_PER_REMOVAL {
                remove(client, std::mem::take(&mut pipeline)).await?;
                fields = 0;
            }
        }
        remove(client, pipeline).await
    }
}

/// A restart under way.
type RestartTask = JoinHandle<Result<Duration, LocalServerError>>;

/// What the names of a replay's bitmaps begin with: no other index has the same.
fn bitmap_prefix(tag: u64) -> String {
    format!("respire-replay-{tag:016x}:")
}

fn bitmaps(client: &Client, tag: u64) -> BitmapIndex {
    let options = BitmapOptions::default().with_key_prefix(bitmap_prefix(tag));
    BitmapIndex::new(client.clone(), options.expect("the prefix is some 30 bytes long"))
}

/// Removes every key whose name begins with a prefix, in which no sign is special in a pattern.
async fn remove_all(client: &Client, prefix: &str) -> Result<(), StoreError> {
    let mut cursor = "0".to_owned();
    loop {
        let scan = Command::new("SCAN").arg(&*cursor).arg("MATCH").arg(format!("{prefix}*"));
        let scan = scan.arg("COUNT").arg(FIELDS_PER_REMOVAL);
        let (next, keys): (String, Vec<Vec<u8>>) =
            client.query(scan).await.map_err(StoreError::Server)?;
        if !keys.is_empty() {
            let unlink = Command::new("UNLINK").args(keys);
            client.execute(unlink).await.map_err(StoreError::Server)?;
        }
        if next == "0" {
            return Ok(());
        }
        cursor = next;
    }
}

async fn remove(client: &Client, pipeline: Pipeline) -> Result<(), StoreError> {
    for reply in client.pipeline(pipeline).await.map_err(StoreError::Server)? {
        // Somebody else's value of another type stands there now: ours is gone.
        if reply.server_error().is_none_or(|error| error.code() != "WRONGTYPE") {
            reply.into_result().map_err(StoreError::Server)?;
        }
    }
    Ok(())
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("name", &self.name)
            .field("fleet", &self.fleet)
            .field("written", &self.written.len())
            .finish_non_exhaustive()
    }
}

/// Why a store cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database holds keys.
    #[error(
        "the database at {name} already holds {held} keys: choose an empty one, or give \
         --allow-non-empty to add this replay's keys to it for a while"
    )]
    NotEmpty {
        /// The server's address.
        name: String,
        /// How many keys there are.
        held: u64,
    },
    /// No private server can be started.
    #[error("no private server can be started: {}", notes.join("; "))]
    NotStarted {
        /// What happened, a server each.
        notes: Vec<String>,
        /// Whether there is one on PATH at all.
        is_installed: bool,
    },
    /// Somebody else's server cannot be restarted.
    #[error("the index is on no server that was started for it, and so is not restarted")]
    NotPrivate,
    /// There is no server for the layout.
    #[error("the layout is one of servers, and there is none")]
    NoServer,
    /// The server failed.
    #[error("the server cannot be used")]
    Server(#[source] respire::Error),
    /// The private server's start was given up, or it could not be cleared away.
    #[error("the private server is stopped")]
    Private(#[source] LocalServerError),
}

/// Room for everything, so that the oracle judges the index and not its size.
fn memory_config(fleet: FleetSize) -> InMemoryConfig {
    let size = match fleet.capacity {
        // A pod exceeds its capacity for a moment, until what it dropped is evicted.
        Capacity::Blocks(blocks) => blocks.get().saturating_mul(2).saturating_mul(fleet.pods),
        Capacity::Unlimited => usize::MAX,
    };
    let default = InMemoryConfig::default();
    InMemoryConfig {
        size: size.max(default.size),
        pod_cache_size: fleet.pods.max(default.pod_cache_size),
    }
}

/// The address and the database, without credentials.
#[must_use]
pub fn server_name(config: &Config) -> String {
    match config.database() {
        0 => config.address().to_string(),
        database => format!("{}, database {database}", config.address()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet(pods: usize, capacity: &str) -> FleetSize {
        FleetSize { pods, capacity: capacity.parse().unwrap() }
    }

    #[test]
    fn memory_has_room_for_the_fleet_and_never_less_than_its_default() {
        let default = InMemoryConfig::default();
        assert_eq!(memory_config(fleet(1, "1")), default);
        let large = memory_config(fleet(200, "1000000"));
        assert!(large.size >= 200 * 1_000_000, "{large:?}");
        assert_eq!(large.pod_cache_size, 200);
        assert_eq!(memory_config(fleet(1, "unlimited")).size, usize::MAX);
        assert_eq!(memory_config(fleet(8, &usize::MAX.to_string())).size, usize::MAX);
    }

    #[test]
    fn a_server_is_named_by_its_address_and_database_alone() {
        for (url, name) in [
            ("redis://user:secret@example:7000", "example:7000"),
            ("valkey://:secret@example/2", "example:6379, database 2"),
            ("unix:///run/x.sock", "/run/x.sock"),
        ] {
            assert_eq!(server_name(&url.parse().unwrap()), name);
        }
    }
}
