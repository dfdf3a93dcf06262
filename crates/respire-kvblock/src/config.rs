//! llm-d's configuration of the index, as it stands in its JSON files.

use std::{env, ffi::OsString, fmt, str::FromStr, sync::Arc, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use self::document::Json;
use crate::{
    BitmapIndex, BitmapOptions, ClearBy, FieldFormat, InMemoryConfig, InMemoryIndex, Index,
    IndexError, IndexMetrics, Indexer, LongestPrefixScorer, NearCacheConfig, ObservedIndex,
    ServerIndex, TokenProcessor, TokenProcessorConfig,
};

mod document;
mod error;
mod events;
mod json;
mod rdma;
mod units;

pub use error::ConfigError;
pub use events::{EventsConfig, PodDiscoveryConfig};
pub use rdma::Rdma;

/// Which backend keeps the index, and how: llm-d's `kvBlockIndexConfig`.
///
/// Reads llm-d's JSON as it is, names in any case. What is missing has llm-d's default, and so has what is `null`, as in
/// Go: `{}` is an index in memory, and so is a document that is nothing but `null`. Only `"inMemoryConfig": null` is no
/// index in memory. Unlike llm-d, which passes over it, a setting that it does not know is an error that names it, and so
/// is one that stands there twice.
///
/// Several backends may be configured. The first of these counts: `costAwareMemoryConfig`, `valkeyConfig`,
/// `redisConfig`, `inMemoryConfig`.
///
/// | setting | meaning |
/// |---|---|
/// | `inMemoryConfig.size`, `.podCacheSize` | see [`InMemoryConfig`] |
/// | `valkeyConfig`, `redisConfig` | see [`ServerConfig`] |
/// | `costAwareMemoryConfig.size` | a budget of memory, such as `"2GiB"`; see [`InMemoryIndex::with_budget`] |
/// | `costAwareMemoryConfig.numCounters` | read; what counts frequencies in llm-d has no counterpart here |
/// | `enableMetrics` | whether calls are counted in [`IndexMetrics::global`] |
/// | `metricsLoggingInterval` | how often they are [logged](ObservedIndex::with_logging_interval) then: nanoseconds, or a text as Go writes durations, `"1m0s"` |
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use respire_kvblock::IndexConfig;
///
/// let config: IndexConfig = r#"{ "inMemoryConfig": { "size": 1000000, "podCacheSize": 32 } }"#.parse()?;
/// let index = config.open().await?;
///
/// let misspelled = r#"{ "valkeyConfig": { "adress": "valkey://127.0.0.1:6379" } }"#.parse::<IndexConfig>();
/// assert_eq!(misspelled.unwrap_err().setting(), Some("valkeyConfig.adress"));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IndexConfig {
    /// An index in this process's memory.
    #[serde(rename = "inMemoryConfig", skip_serializing_if = "Option::is_none")]
    pub in_memory: Option<InMemoryConfig>,
    /// An index on a Redis server.
    #[serde(rename = "redisConfig", skip_serializing_if = "Option::is_none")]
    pub redis: Option<ServerConfig>,
    /// An index on a Valkey server.
    #[serde(rename = "valkeyConfig", skip_serializing_if = "Option::is_none")]
    pub valkey: Option<ServerConfig>,
    /// An index in memory with a budget of bytes.
    #[serde(rename = "costAwareMemoryConfig", skip_serializing_if = "Option::is_none")]
    pub cost_aware_memory: Option<CostAwareConfig>,
    /// Whether calls are counted.
    pub enable_metrics: bool,
    /// How often the counters are logged; zero for never. Written to JSON in nanoseconds, which Go can read.
    #[serde(serialize_with = "serialize_nanoseconds")]
    pub metrics_logging_interval: Duration,
}

impl IndexConfig {
    /// A configuration with nothing in it, not even the index in memory that [`default`](Self::default) has.
    pub fn empty() -> Self {
        Self {
            in_memory: None,
            redis: None,
            valkey: None,
            cost_aware_memory: None,
            enable_metrics: false,
            metrics_logging_interval: Duration::ZERO,
        }
    }

    /// A configuration with this Valkey server as its backend.
    pub fn valkey(server: ServerConfig) -> Self {
        Self { valkey: Some(server), ..Self::empty() }
    }

    /// A configuration with this Redis server as its backend.
    pub fn redis(server: ServerConfig) -> Self {
        Self { redis: Some(server), ..Self::empty() }
    }

    /// Opens the backend that is configured, in an [`ObservedIndex`]. A server has answered a PING when this returns.
    ///
    /// # Errors
    ///
    /// [`config_error`](IndexError::config_error) for a configuration that cannot be used: no backend, `enableRDMA` without
    /// a transport for it. [`client_error`](IndexError::client_error) for an address that cannot be read, and for a server
    /// that cannot be reached or refuses.
    pub async fn open(&self) -> Result<Arc<dyn Index>, IndexError> {
        let mut index = ObservedIndex::new(self.open_backend().await?);
        if self.enable_metrics {
            index = index
                .with_metrics(IndexMetrics::global().clone())
                .with_logging_interval(self.metrics_logging_interval);
        }
        Ok(Arc::new(index))
    }

    async fn open_backend(&self) -> Result<Arc<dyn Index>, IndexError> {
        if let Some(config) = self.cost_aware_memory {
            return Ok(Arc::new(InMemoryIndex::with_budget(config)?));
        }
        if let Some(server) = &self.valkey {
            return server.open(BackendType::Valkey, "valkeyConfig").await;
        }
        if let Some(server) = &self.redis {
            return server.open(BackendType::Redis, "redisConfig").await;
        }
        match self.in_memory {
            Some(config) => Ok(Arc::new(InMemoryIndex::new(config)?)),
            None => Err(ConfigError::no_backend().into()),
        }
    }
}

/// llm-d's default: in memory, without metrics.
impl Default for IndexConfig {
    fn default() -> Self {
        Self { in_memory: Some(InMemoryConfig::default()), ..Self::empty() }
    }
}

impl FromStr for IndexConfig {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        json::index_config(&json::document(text)?)
    }
}

impl<'de> Deserialize<'de> for IndexConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        json::index_config(&Json::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// A server that keeps the index.
///
/// `Debug` leaves out what stands before the last `@` of the address: it may be a password. JSON is written whole.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerConfig {
    /// A URL as [`respire::Config`] reads it, or what follows `redis://` in one. Schemes are in lower case. Empty stands
    /// for port 6379 of this machine. Parameters are the client's own: those of go-redis, such as `pool_size`, are refused.
    pub address: String,
    /// Which of the two servers it is: a name for messages. Under `valkeyConfig` it can only be `valkey`.
    pub backend_type: BackendType,
    /// Whether to connect by RDMA: by the transport that is [registered](respire::transport::register) as `rdma`, to the same
    /// host and port. [`rdma`](Self::rdma) says what happens where that is not possible.
    #[serde(rename = "enableRDMA")]
    pub enable_rdma: bool,
    /// Whether RDMA is required where it is enabled, or may be replaced by TCP. In JSON it is an error without
    /// `enableRDMA`.
    #[serde(skip_serializing_if = "is_default")]
    pub rdma: Rdma,
    /// How the index is kept on the server.
    #[serde(skip_serializing_if = "is_default")]
    pub layout: Layout,
    /// What the names of all keys start with; see [`ServerIndex::with_key_prefix`]. Empty by default, as in llm-d; with
    /// [`Layout::Bitmap`] empty stands for the default of [`BitmapOptions`].
    #[serde(skip_serializing_if = "String::is_empty")]
    pub key_prefix: String,
    /// How entries are written.
    #[serde(skip_serializing_if = "is_default")]
    pub field_format: FieldFormat,
    /// How a pod's blocks are found when it is cleared.
    #[serde(skip_serializing_if = "is_default")]
    pub clear_by: ClearBy,
    /// Whether the first blocks of prompts are kept here as long as the server vouches for them; see
    /// [`ServerIndex::with_near_cache`].
    #[serde(skip_serializing_if = "is_default")]
    pub near_cache: bool,
    /// Whether the index notices that the server has lost everything, in llm-d's layout; see [`ServerIndex::with_loss_detection`]. The bitmap
    /// layout always does.
    #[serde(skip_serializing_if = "is_default")]
    pub loss_detection: bool,
    /// For how long pods count without a [renewal](Index::renew), in the bitmap layout; see [`BitmapOptions::with_lease`]. This and the other durations
    /// are written to JSON in nanoseconds.
    #[serde(skip_serializing_if = "is_default", serialize_with = "serialize_if_some")]
    pub lease: Option<Duration>,
    /// See [`BitmapOptions::with_quarantine`].
    #[serde(skip_serializing_if = "is_default", serialize_with = "serialize_if_some")]
    pub quarantine: Option<Duration>,
    /// See [`BitmapOptions::with_writer_timeout`].
    #[serde(skip_serializing_if = "is_default", serialize_with = "serialize_if_some")]
    pub writer_timeout: Option<Duration>,
    /// How often the index [sweeps in the background](BitmapIndex::spawn_sweeps), in the bitmap layout; without it, it does not.
    #[serde(skip_serializing_if = "is_default", serialize_with = "serialize_if_some")]
    pub sweep_interval: Option<Duration>,
}

impl ServerConfig {
    /// A Valkey server at this address, over TCP or a Unix socket.
    pub fn valkey(address: impl Into<String>) -> Self {
        Self::new(address.into(), BackendType::Valkey)
    }

    /// A Redis server at this address, over TCP or a Unix socket.
    pub fn redis(address: impl Into<String>) -> Self {
        Self::new(address.into(), BackendType::Redis)
    }

    fn new(address: String, backend_type: BackendType) -> Self {
        Self {
            address,
            backend_type,
            enable_rdma: false,
            rdma: Rdma::default(),
            layout: Layout::default(),
            key_prefix: String::new(),
            field_format: FieldFormat::default(),
            clear_by: ClearBy::default(),
            near_cache: false,
            loss_detection: false,
            lease: None,
            quarantine: None,
            writer_timeout: None,
            sweep_interval: None,
        }
    }

    /// The server that the environment names, as llm-d's Valkey example does: `VALKEY_ADDR` is its address,
    /// `VALKEY_ENABLE_RDMA` is `true` or `false`. `None` where neither asks for anything.
    ///
    /// # Errors
    ///
    /// When one of the variables cannot be read; [`ConfigError::setting`] is its name.
    pub fn from_env() -> Result<Option<Self>, ConfigError> {
        Self::from_variables(|name| env::var_os(name))
    }

    fn from_variables(
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Option<Self>, ConfigError> {
        let text = |name: &str| {
            let value = variable(name).unwrap_or_default().into_string();
            value.map_err(|_| ConfigError::invalid(name, "is not UTF-8".to_owned()))
        };
        let address = text("VALKEY_ADDR")?;
        let enable_rdma = match text("VALKEY_ENABLE_RDMA")?.to_ascii_lowercase().as_str() {
            "true" | "1" => true,
            "" | "false" | "0" => false,
            other => {
                let problem = format!("must be true or false, not {other:?}");
                return Err(ConfigError::invalid("VALKEY_ENABLE_RDMA", problem));
            }
        };
        Ok(match (address.is_empty(), enable_rdma) {
            (true, false) => None,
            (true, true) => Some(Self { enable_rdma, ..Self::default_for(BackendType::Valkey) }),
            (false, _) => Some(Self { enable_rdma, ..Self::valkey(address) }),
        })
    }

    fn default_for(backend: BackendType) -> Self {
        match backend {
            BackendType::Valkey => Self::valkey("valkey://127.0.0.1:6379"),
            BackendType::Redis => Self::redis("redis://127.0.0.1:6379"),
        }
    }

    /// The URL that is dialled: [`url`](Self::url), and where RDMA is enabled, the same with `+rdma` in its scheme. `None` where
    /// the address does not go with RDMA.
    pub fn dialled_url(&self) -> Option<String> {
        match self.enable_rdma {
            false => Some(self.url()),
            true => rdma::url(&self.url(), "").ok(),
        }
    }

    /// The address with a scheme: `redis://` goes before one that has none of those known. A password in it is in this too.
    pub fn url(&self) -> String {
        const SCHEMES: [&str; 9] = [
            "redis+rdma://",
            "valkey+rdma://",
            "redis://",
            "rediss://",
            "valkey://",
            "valkeys://",
            "unix://",
            "redis+unix://",
            "valkey+unix://",
        ];
        // The path of a socket is left as it is too: the client says how it is written.
        let is_path = |address: &str| address.starts_with('/') || address.starts_with("unix:");
        match &self.address {
            empty if empty.is_empty() => "redis://localhost:6379".to_owned(),
            known if SCHEMES.iter().any(|scheme| known.starts_with(scheme)) => known.clone(),
            path if is_path(path) => path.clone(),
            other => format!("redis://{other}"),
        }
    }

    /// Connects to the server that stands under `setting` and asks whether it is there.
    async fn open(
        &self,
        backend: BackendType,
        setting: &str,
    ) -> Result<Arc<dyn Index>, IndexError> {
        if backend == BackendType::Valkey && self.backend_type != BackendType::Valkey {
            return Err(contradicting_type(setting).into());
        }
        self.check_layout(setting)?;
        if self.layout == Layout::LlmD {
            ServerIndex::check_key_prefix(&self.key_prefix).map_err(|problem| {
                ConfigError::invalid(&format!("{setting}.keyPrefix"), problem)
            })?;
        }
        let bitmap_options = self.bitmap_options_at(setting)?;
        let kind = self.backend_type;
        let failed = |what: &str, source| {
            IndexError::create(backend.title(), IndexError::client(what.to_owned(), source))
        };
        let parse = |url: &str| {
            let config = url.parse::<respire::Config>();
            config.map_err(|error| failed(&format!("failed to parse {kind} URL"), error))
        };
        let unconnected = |error| failed(&format!("failed to connect to {kind}"), error);
        let tcp = self.url();
        let client = match self.enable_rdma {
            false => connect(parse(&tcp)?).await.map_err(unconnected)?,
            true => match connect(parse(&rdma::url(&tcp, setting)?)?).await {
                Ok(client) => client,
                Err(error) if self.rdma == Rdma::Preferred && error.is_connect() => {
                    tracing::warn!("{setting}.enableRDMA: {error:#}; TCP is used in its place");
                    connect(parse(&tcp)?).await.map_err(unconnected)?
                }
                // Whoever calls has not registered a transport; nobody was dialled.
                Err(error) if error.is_connect() && error.fault() == respire::Fault::Caller => {
                    return Err(rdma::not_registered(setting).into());
                }
                Err(error) => return Err(unconnected(error)),
            },
        };
        match crate::check_server(&client).await {
            Ok(report) => report.log(),
            // A server may forbid to be asked, and serve an index all the same.
            Err(error) => tracing::debug!(%error, "the server's settings are not known"),
        }
        if let Some(options) = bitmap_options {
            let index = Arc::new(BitmapIndex::new(client, options));
            if let Some(interval) = self.sweep_interval {
                index.spawn_sweeps(interval);
            }
            return Ok(index);
        }
        let mut index = ServerIndex::new(client)
            .with_field_format(self.field_format)
            .with_clear_by(self.clear_by)
            .with_key_prefix(&self.key_prefix)?;
        if self.loss_detection {
            index = index.with_loss_detection();
        }
        if !self.near_cache {
            return Ok(Arc::new(index));
        }
        let opened = index.with_near_cache(NearCacheConfig::default()).await;
        Ok(Arc::new(opened.map_err(|error| IndexError::create(kind.title(), error))?))
    }

    /// The options of the index in the bitmap layout; `None` where the layout is another one.
    ///
    /// # Errors
    ///
    /// When the prefix cannot be one.
    pub fn bitmap_options(&self) -> Result<Option<BitmapOptions>, ConfigError> {
        self.bitmap_options_at("")
    }

    fn bitmap_options_at(&self, setting: &str) -> Result<Option<BitmapOptions>, ConfigError> {
        if self.layout != Layout::Bitmap {
            return Ok(None);
        }
        let mut options = BitmapOptions::default().with_lease(self.lease);
        if !self.key_prefix.is_empty() {
            let named = |problem| ConfigError::invalid(&within(setting, "keyPrefix"), problem);
            options = options.with_checked_prefix(&self.key_prefix).map_err(named)?;
        }
        if let Some(quarantine) = self.quarantine {
            options = options.with_quarantine(quarantine);
        }
        if let Some(timeout) = self.writer_timeout {
            options = options.with_writer_timeout(timeout);
        }
        Ok(Some(options))
    }

    /// Whether no setting is of the other layout only.
    fn check_layout(&self, setting: &str) -> Result<(), ConfigError> {
        let of_llm_d = [
            ("fieldFormat", is_default(&self.field_format)),
            ("clearBy", is_default(&self.clear_by)),
            ("nearCache", is_default(&self.near_cache)),
            ("lossDetection", is_default(&self.loss_detection)),
        ];
        let of_bitmap = [
            ("lease", is_default(&self.lease)),
            ("quarantine", is_default(&self.quarantine)),
            ("writerTimeout", is_default(&self.writer_timeout)),
            ("sweepInterval", is_default(&self.sweep_interval)),
        ];
        let (others, layout) = match self.layout {
            Layout::LlmD => (&of_bitmap[..], "llm-d's"),
            Layout::Bitmap => (&of_llm_d[..], "the bitmap"),
        };
        match others.iter().find(|(_, is_default)| !is_default) {
            None => Ok(()),
            Some((name, _)) => {
                let problem = format!("has no meaning in {layout} layout: leave it out");
                Err(ConfigError::invalid(&within(setting, name), problem))
            }
        }
    }
}

/// The name of a setting below another.
fn within(setting: &str, name: &str) -> String {
    if setting.is_empty() { name.to_owned() } else { format!("{setting}.{name}") }
}

impl fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = match self.address.rsplit_once('@') {
            Some((_, host)) => format!("***@{host}"),
            None => self.address.clone(),
        };
        f.debug_struct("ServerConfig")
            .field("address", &shown)
            .field("backend_type", &self.backend_type)
            .field("enable_rdma", &self.enable_rdma)
            .field("rdma", &self.rdma)
            .field("layout", &self.layout)
            .field("key_prefix", &self.key_prefix)
            .field("field_format", &self.field_format)
            .field("clear_by", &self.clear_by)
            .field("near_cache", &self.near_cache)
            .field("loss_detection", &self.loss_detection)
            .field("lease", &self.lease)
            .field("quarantine", &self.quarantine)
            .field("writer_timeout", &self.writer_timeout)
            .field("sweep_interval", &self.sweep_interval)
            .finish()
    }
}

/// A client of a server that has answered.
async fn connect(config: respire::Config) -> Result<respire::Client, respire::Error> {
    let client = respire::Client::with_config(config).await?;
    client.execute(respire::Command::new("PING")).await?;
    Ok(client)
}

fn contradicting_type(setting: &str) -> ConfigError {
    let problem = "contradicts valkeyConfig: leave it out, or move the settings to redisConfig";
    ConfigError::invalid(&format!("{setting}.backendType"), problem.to_owned())
}

/// How an index is kept on a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub enum Layout {
    /// As llm-d keeps it: [`ServerIndex`].
    #[default]
    #[serde(rename = "llm-d")]
    LlmD,
    /// A bit for each holder of a block: [`BitmapIndex`].
    #[serde(rename = "bitmap")]
    Bitmap,
}

/// Which of the two servers. `Display` is the name in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendType {
    /// A Redis server.
    Redis,
    /// A Valkey server.
    Valkey,
}

impl BackendType {
    fn title(self) -> &'static str {
        match self {
            Self::Redis => "Redis",
            Self::Valkey => "Valkey",
        }
    }
}

impl fmt::Display for BackendType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Redis => "redis",
            Self::Valkey => "valkey",
        })
    }
}

/// The bound of the cost-aware backend, [`InMemoryIndex::with_budget`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CostAwareConfig {
    /// The budget in bytes. In JSON a text such as `"2GiB"`, `"500 MB"` or `"42"`; written to JSON in bytes.
    #[serde(rename = "size", serialize_with = "serialize_bytes")]
    pub size_bytes: u64,
}

/// llm-d's default, two gibibytes.
impl Default for CostAwareConfig {
    fn default() -> Self {
        Self { size_bytes: 2 << 30 }
    }
}

/// llm-d's `indexerConfig`: the index and how its answers are scored.
///
/// Reads it alone, and as a part of llm-d's whole document, in which it stands beside `kvEventsConfig`.
///
/// | setting | meaning |
/// |---|---|
/// | `kvBlockIndexConfig` | see [`IndexConfig`] |
/// | `KVBlockScorerConfig.ScoringStrategy` | `LongestPrefix`, the only one |
/// | `kvCacheBackendConfigs`, or `KVBlockScorerConfig.backendConfigs` | the weight of each tier: `[{"name": "gpu", "weight": 1.0}]` |
/// | `tokenizersPoolConfig`, `prefixStoreConfig` | belong to llm-d's tokenizers, which an index has none of; passed over with a warning |
/// | `tokenProcessorConfig` | see [`TokenProcessorConfig`]; in the whole document it may stand beside `indexerConfig` |
/// | `kvEventsConfig` | see [`EventsConfig`]; only in the whole document |
/// | `speculativeIndexing`, `speculativeTTL` | belong to llm-d's router; only in the whole document; passed over with a warning |
///
/// ```
/// use respire_kvblock::IndexerConfig;
///
/// let config: IndexerConfig = r#"{
///     "kvBlockIndexConfig": { "valkeyConfig": { "address": "valkey://127.0.0.1:6379" } },
///     "kvCacheBackendConfigs": [{ "name": "gpu", "weight": 1.0 }, { "name": "cpu", "weight": 0.5 }]
/// }"#.parse()?;
/// assert_eq!(config.scorer().weight("cpu"), 0.5);
/// # Ok::<(), respire_kvblock::ConfigError>(())
/// ```
///
/// It is written as the indexer's part alone where there are no events, and else as the whole document.
#[derive(Clone, Debug, PartialEq)]
pub struct IndexerConfig {
    /// The backend of the index.
    pub index: IndexConfig,
    /// What a block weighs in each tier.
    pub tiers: Vec<TierWeight>,
    /// How the keys of a prompt's blocks are computed.
    pub token_processor: TokenProcessorConfig,
    /// Where events come from, if the document says so.
    pub events: Option<EventsConfig>,
}

/// The indexer's part of the document.
#[derive(Serialize)]
struct IndexerPart<'a> {
    #[serde(rename = "kvBlockIndexConfig")]
    index: &'a IndexConfig,
    #[serde(rename = "kvCacheBackendConfigs")]
    tiers: &'a [TierWeight],
    #[serde(rename = "tokenProcessorConfig")]
    token_processor: &'a TokenProcessorConfig,
}

#[derive(Serialize)]
struct WholeDocument<'a> {
    #[serde(rename = "indexerConfig")]
    indexer: IndexerPart<'a>,
    #[serde(rename = "kvEventsConfig")]
    events: &'a EventsConfig,
}

impl Serialize for IndexerConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { index, tiers, token_processor, events } = self;
        let indexer = IndexerPart { index, tiers, token_processor };
        match events {
            None => indexer.serialize(serializer),
            Some(events) => WholeDocument { indexer, events }.serialize(serializer),
        }
    }
}

impl IndexerConfig {
    /// The scorer that is configured.
    pub fn scorer(&self) -> LongestPrefixScorer {
        LongestPrefixScorer::new(self.tiers.iter().map(|tier| (tier.name.as_str(), tier.weight)))
    }

    /// Opens all that is configured.
    ///
    /// # Errors
    ///
    /// Those of [`IndexConfig::open`], and that the block size is 0, which no JSON can say.
    pub async fn open(&self) -> Result<Indexer, IndexError> {
        let processor = self.token_processor()?;
        Ok(Indexer::new(self.index.open().await?, processor, self.scorer()))
    }

    /// What computes block keys as configured.
    ///
    /// # Errors
    ///
    /// When the block size is 0, which no JSON can say.
    pub fn token_processor(&self) -> Result<TokenProcessor, ConfigError> {
        TokenProcessor::new(&self.token_processor)
    }
}

/// llm-d's defaults: an index in memory, `gpu` 1.0 and `cpu` 0.8.
impl Default for IndexerConfig {
    fn default() -> Self {
        let tier = |name: &str, weight| TierWeight { name: name.to_owned(), weight };
        Self {
            index: IndexConfig::default(),
            tiers: vec![tier("gpu", 1.0), tier("cpu", 0.8)],
            token_processor: TokenProcessorConfig::default(),
            events: None,
        }
    }
}

impl FromStr for IndexerConfig {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        json::indexer_config(&json::document(text)?)
    }
}

impl<'de> Deserialize<'de> for IndexerConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        json::indexer_config(&Json::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// What a block weighs in a tier.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TierWeight {
    /// The tier's name, as entries have it.
    pub name: String,
    /// The weight: 1.0 for a block that costs nothing to use, less for one that has to be fetched.
    pub weight: f64,
}

fn serialize_nanoseconds<S: Serializer>(
    duration: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let nanoseconds = i64::try_from(duration.as_nanos());
    serializer.serialize_i64(nanoseconds.map_err(serde::ser::Error::custom)?)
}

fn serialize_if_some<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => serialize_nanoseconds(duration, serializer),
        None => serializer.serialize_none(),
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn serialize_bytes<S: Serializer>(bytes: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(bytes)
}

#[cfg(test)]
mod tests;
