//! From JSON to the configuration, with a name for every complaint.

use std::{num::NonZeroUsize, time::Duration};

use serde_json::Number;

use super::{
    BackendType, ConfigError, CostAwareConfig, EventsConfig, IndexConfig, IndexerConfig, Layout,
    PodDiscoveryConfig, Rdma, ServerConfig, TierWeight, contradicting_type, document::Json, units,
};
use crate::{
    ClearBy, FieldFormat, HashAlgorithm, InMemoryConfig, TokenProcessorConfig, entry::fold,
    events::Engine,
};

pub(super) fn document(text: &str) -> Result<Json, ConfigError> {
    serde_json::from_str(text).map_err(|error| ConfigError::syntax(&error))
}

pub(super) fn index_config(value: &Json) -> Result<IndexConfig, ConfigError> {
    index_config_at(Setting::root(value))
}

/// The shortest of the times that others are judged by.
const TIME_MIN: Duration = Duration::from_millis(1);

/// What llm-d's documents have beside the index, and why it is passed over.
const PASSED_OVER: [(&str, &str); 4] = [
    ("tokenizersPoolConfig", "an index has no tokenizers"),
    ("prefixStoreConfig", "an index has no tokenizers"),
    ("speculativeIndexing", "it is the router that adds expected blocks, and evicts them"),
    ("speculativeTTL", "it is the router that adds expected blocks, and evicts them"),
];

/// What only the whole document has, and what its other parts are called.
const WHOLE: [&str; 4] =
    ["indexerConfig", "kvEventsConfig", "speculativeIndexing", "speculativeTTL"];

fn is_whole(name: &str) -> bool {
    let folded = fold(name);
    WHOLE.iter().any(|known| fold(known) == folded)
}

fn pass_over(members: &Members<'_>) {
    for (name, reason) in PASSED_OVER {
        if let Some(setting) = members.find(name) {
            tracing::warn!("{} is passed over: {reason}", setting.path);
        }
    }
}

/// The indexer's configuration, alone or in the whole document.
pub(super) fn indexer_config(value: &Json) -> Result<IndexerConfig, ConfigError> {
    match value {
        Json::Object(members) if members.iter().any(|(name, _)| is_whole(name)) => {
            const NAMES: [&str; 5] = [
                "indexerConfig",
                "kvEventsConfig",
                "tokenProcessorConfig",
                "speculativeIndexing",
                "speculativeTTL",
            ];
            let members = Setting::root(value).members(&NAMES)?;
            if let Some(enable) = members.find("speculativeIndexing") {
                enable.boolean()?;
            }
            if let Some(ttl) = members.find("speculativeTTL") {
                ttl.duration()?;
            }
            pass_over(&members);
            let (mut config, has_own) = match members.find("indexerConfig") {
                Some(indexer) => indexer_config_at(indexer)?,
                None => (IndexerConfig::default(), false),
            };
            if let Some(setting) = members.find("tokenProcessorConfig") {
                let (path, beside) = (setting.path.clone(), token_processor_config(setting)?);
                if has_own && beside != config.token_processor {
                    let problem = "contradicts the one in indexerConfig: leave one out";
                    return Err(ConfigError::invalid(&path, problem.to_owned()));
                }
                config.token_processor = beside;
            }
            config.events = members.find("kvEventsConfig").map(events_config_at).transpose()?;
            Ok(config)
        }
        _ => Ok(indexer_config_at(Setting::root(value))?.0),
    }
}

/// The indexer's configuration, and whether it says how keys are computed.
fn indexer_config_at(setting: Setting<'_>) -> Result<(IndexerConfig, bool), ConfigError> {
    const NAMES: [&str; 6] = [
        "kvBlockIndexConfig",
        "KVBlockScorerConfig",
        "kvCacheBackendConfigs",
        "tokenizersPoolConfig",
        "prefixStoreConfig",
        "tokenProcessorConfig",
    ];
    let mut config = IndexerConfig::default();
    let members = setting.members(&NAMES)?;
    pass_over(&members);
    if let Some(index) = members.find("kvBlockIndexConfig") {
        if !matches!(index.value, Json::Object(_)) {
            return Err(index.must_be("an object"));
        }
        // From here on a setting is named as it is when the index is opened.
        config.index = index_config(index.value)?;
    }
    let of_scorer = match members.find("KVBlockScorerConfig") {
        Some(scorer) => scorer_tiers(scorer)?,
        None => None,
    };
    let of_caches =
        members.find("kvCacheBackendConfigs").map(|setting| (setting.path.clone(), tiers(setting)));
    match (of_scorer, of_caches) {
        (of_scorer, Some((path, tiers))) => {
            config.tiers = tiers?;
            if of_scorer.is_some_and(|tiers| tiers != config.tiers) {
                let problem = "contradicts KVBlockScorerConfig.backendConfigs: leave one out";
                return Err(ConfigError::invalid(&path, problem.to_owned()));
            }
        }
        (Some(tiers), None) => config.tiers = tiers,
        (None, None) => {}
    }
    let of_tokens = members.find("tokenProcessorConfig");
    let has_tokens = of_tokens.is_some();
    if let Some(setting) = of_tokens {
        config.token_processor = token_processor_config(setting)?;
    }
    Ok((config, has_tokens))
}

/// Where events come from: the whole of a document that says nothing else, or its part.
pub(super) fn events_config(value: &Json) -> Result<EventsConfig, ConfigError> {
    match value {
        Json::Object(members) if members.iter().any(|(name, _)| is_whole(name)) => {
            Ok(indexer_config(value)?.events.unwrap_or_default())
        }
        _ => events_config_at(Setting::root(value)),
    }
}

fn events_config_at(setting: Setting<'_>) -> Result<EventsConfig, ConfigError> {
    const NAMES: [&str; 6] = [
        "zmqEndpoint",
        "topicFilter",
        "concurrency",
        "engineType",
        "discoverPods",
        "podDiscoveryConfig",
    ];
    let members = setting.members(&NAMES)?;
    let mut config = EventsConfig::default();
    if let Some(endpoint) = members.find("zmqEndpoint") {
        config.zmq_endpoint = Some(endpoint.text()?.to_owned()).filter(|text| !text.is_empty());
    }
    if let Some(filter) = members.find("topicFilter") {
        filter.text()?.clone_into(&mut config.topic_filter);
    }
    if let Some(concurrency) = members.find("concurrency") {
        let workers = NonZeroUsize::new(concurrency.count()?);
        config.concurrency = workers.unwrap_or(config.concurrency);
    }
    if let Some(engine) = members.find("engineType") {
        config.engine = match engine.text()? {
            "" => Engine::default(),
            name => name.parse().map_err(|_| engine.must_be("vllm or sglang"))?,
        };
    }
    if let Some(discover) = members.find("discoverPods") {
        config.discover_pods = discover.boolean()?;
    }
    if let Some(discovery) = members.find("podDiscoveryConfig") {
        config.pod_discovery = pod_discovery_config(discovery)?;
    }
    Ok(config)
}

fn pod_discovery_config(setting: Setting<'_>) -> Result<PodDiscoveryConfig, ConfigError> {
    const NAMES: [&str; 4] = ["podLabelSelector", "podNamespace", "socketPort", "replaySocketPort"];
    let members = setting.members(&NAMES)?;
    let mut config = PodDiscoveryConfig::default();
    if let Some(selector) = members.find("podLabelSelector") {
        selector.text()?.clone_into(&mut config.pod_label_selector);
    }
    if let Some(namespace) = members.find("podNamespace") {
        namespace.text()?.clone_into(&mut config.pod_namespace);
    }
    if let Some(port) = members.find("socketPort") {
        let number = port.integer()?;
        let read = u16::try_from(number).ok().filter(|&port| port > 0);
        config.socket_port = read.ok_or_else(|| port.must_be("a port, from 1 to 65535"))?;
    }
    if let Some(port) = members.find("replaySocketPort") {
        let number = port.integer()?;
        let read = u16::try_from(number.max(0));
        let read = read.map_err(|_| port.must_be("a port, up to 65535, or 0 for none"))?;
        config.replay_socket_port = Some(read).filter(|&port| port > 0);
    }
    Ok(config)
}

fn token_processor_config(setting: Setting<'_>) -> Result<TokenProcessorConfig, ConfigError> {
    let path = setting.path.clone();
    let members =
        setting.members(&["blockSizeTokens", "blockSize", "hashSeed", "hashAlgorithm"])?;
    let mut config = TokenProcessorConfig::default();
    // 0 stands for what is not set, as in llm-d.
    let size = |name| {
        let size = members.find(name).map(|size| size.block_size()).transpose();
        size.map(|size| size.filter(|&size| size > 0))
    };
    let (size, old) = (size("blockSizeTokens")?, size("blockSize")?);
    if let (Some(size), Some(old)) = (size, old)
        && size != old
    {
        let problem = "contradicts blockSizeTokens: leave it out".to_owned();
        return Err(ConfigError::invalid(&format!("{path}.blockSize"), problem));
    }
    config.block_size_tokens = size.or(old).unwrap_or(config.block_size_tokens);
    if let Some(seed) = members.find("hashSeed") {
        seed.text()?.clone_into(&mut config.hash_seed);
    }
    if let Some(algorithm) = members.find("hashAlgorithm") {
        config.hash_algorithm = match algorithm.text()? {
            "" => HashAlgorithm::default(),
            name => name.parse().map_err(|_| algorithm.must_be("cbor-fnv or xxh64"))?,
        };
    }
    Ok(config)
}

fn index_config_at(setting: Setting<'_>) -> Result<IndexConfig, ConfigError> {
    const NAMES: [&str; 6] = [
        "inMemoryConfig",
        "redisConfig",
        "valkeyConfig",
        "costAwareMemoryConfig",
        "enableMetrics",
        "metricsLoggingInterval",
    ];
    let members = setting.members(&NAMES)?;
    let mut config = IndexConfig::default();
    if members.is_null("inMemoryConfig") {
        config.in_memory = None;
    }
    if let Some(memory) = members.find("inMemoryConfig") {
        config.in_memory = Some(in_memory_config(memory)?);
    }
    if let Some(server) = members.find("redisConfig") {
        config.redis = Some(server_config(server, BackendType::Redis)?);
    }
    if let Some(server) = members.find("valkeyConfig") {
        config.valkey = Some(server_config(server, BackendType::Valkey)?);
    }
    if let Some(cost_aware) = members.find("costAwareMemoryConfig") {
        config.cost_aware_memory = Some(cost_aware_config(cost_aware)?);
    }
    if let Some(enable) = members.find("enableMetrics") {
        config.enable_metrics = enable.boolean()?;
    }
    if let Some(interval) = members.find("metricsLoggingInterval") {
        config.metrics_logging_interval = interval.duration()?;
    }
    Ok(config)
}

fn in_memory_config(setting: Setting<'_>) -> Result<InMemoryConfig, ConfigError> {
    let members = setting.members(&["size", "podCacheSize"])?;
    let mut config = InMemoryConfig::default();
    if let Some(size) = members.find("size") {
        config.size = size.count()?;
    }
    if let Some(size) = members.find("podCacheSize") {
        config.pod_cache_size = size.count()?;
    }
    Ok(config)
}

fn server_config(setting: Setting<'_>, backend: BackendType) -> Result<ServerConfig, ConfigError> {
    let path = setting.path.clone();
    const NAMES: [&str; 14] = [
        "address",
        "backendType",
        "enableRDMA",
        "rdma",
        "layout",
        "keyPrefix",
        "fieldFormat",
        "clearBy",
        "nearCache",
        "lossDetection",
        "lease",
        "quarantine",
        "writerTimeout",
        "sweepInterval",
    ];
    let members = setting.members(&NAMES)?;
    let mut config = ServerConfig::default_for(backend);
    if let Some(address) = members.find("address") {
        address.text()?.clone_into(&mut config.address);
    }
    if let Some(kind) = members.find("backendType") {
        config.backend_type = kind.backend_type()?.unwrap_or(backend);
    }
    if backend == BackendType::Valkey && config.backend_type != backend {
        return Err(contradicting_type(&path));
    }
    if let Some(enable) = members.find("enableRDMA") {
        config.enable_rdma = enable.boolean()?;
    }
    if let Some(rdma) = members.find("rdma") {
        config.rdma = match rdma.text()? {
            "required" => Rdma::Required,
            "preferred" => Rdma::Preferred,
            _ => return Err(rdma.must_be("required or preferred")),
        };
        if !config.enable_rdma {
            let problem = "says how to use RDMA, which is not enabled: set enableRDMA to true";
            return Err(ConfigError::invalid(&rdma.path, problem.to_owned()));
        }
    }
    if let Some(layout) = members.find("layout") {
        config.layout = match layout.text()? {
            "llm-d" => Layout::LlmD,
            "bitmap" => Layout::Bitmap,
            _ => return Err(layout.must_be("llm-d or bitmap")),
        };
    }
    if let Some(prefix) = members.find("keyPrefix") {
        prefix.text()?.clone_into(&mut config.key_prefix);
    }
    if let Some(format) = members.find("fieldFormat") {
        config.field_format = match format.text()? {
            "json" => FieldFormat::Json,
            "text" => FieldFormat::Text,
            _ => return Err(format.must_be("json or text")),
        };
    }
    if let Some(near_cache) = members.find("nearCache") {
        config.near_cache = near_cache.boolean()?;
    }
    if let Some(loss_detection) = members.find("lossDetection") {
        config.loss_detection = loss_detection.boolean()?;
    }
    if let Some(clear_by) = members.find("clearBy") {
        config.clear_by = match clear_by.text()? {
            "scan" => ClearBy::Scan,
            "reverseIndexThenScan" => ClearBy::ReverseIndexThenScan,
            "reverseIndex" => ClearBy::ReverseIndex,
            _ => return Err(clear_by.must_be("scan, reverseIndexThenScan or reverseIndex")),
        };
    }
    if let Some(lease) = members.find("lease") {
        config.lease = Some(lease.time()?);
    }
    if let Some(quarantine) = members.find("quarantine") {
        config.quarantine = Some(quarantine.duration()?);
    }
    if let Some(timeout) = members.find("writerTimeout") {
        config.writer_timeout = Some(timeout.time()?);
    }
    if let Some(interval) = members.find("sweepInterval") {
        let never = interval.duration()?.is_zero();
        config.sweep_interval = if never { None } else { Some(interval.time()?) };
    }
    Ok(config)
}

fn cost_aware_config(setting: Setting<'_>) -> Result<CostAwareConfig, ConfigError> {
    let members = setting.members(&["size", "numCounters"])?;
    if let Some(counters) = members.find("numCounters") {
        counters.integer()?;
    }
    Ok(match members.find("size") {
        Some(size) => CostAwareConfig { size_bytes: size.bytes()? },
        None => CostAwareConfig::default(),
    })
}

fn scorer_tiers(setting: Setting<'_>) -> Result<Option<Vec<TierWeight>>, ConfigError> {
    let members = setting.members(&["ScoringStrategy", "backendConfigs"])?;
    if let Some(strategy) = members.find("ScoringStrategy") {
        let name = strategy.text()?;
        if name != "LongestPrefix" {
            return Err(strategy.must_be("LongestPrefix"));
        }
    }
    members.find("backendConfigs").map(tiers).transpose()
}

fn tiers(setting: Setting<'_>) -> Result<Vec<TierWeight>, ConfigError> {
    setting.items()?.map(tier).collect()
}

fn tier(setting: Setting<'_>) -> Result<TierWeight, ConfigError> {
    let path = setting.path.clone();
    let members = setting.members(&["name", "weight"])?;
    let required = |name: &str| {
        let missing = || ConfigError::invalid(&format!("{path}.{name}"), "is missing".to_owned());
        members.find(name).ok_or_else(missing)
    };
    let name = required("name")?.text()?.to_owned();
    Ok(TierWeight { name, weight: required("weight")?.number()? })
}

/// One value and where it stands.
struct Setting<'a> {
    path: String,
    value: &'a Json,
}

impl<'a> Setting<'a> {
    fn root(value: &'a Json) -> Self {
        Self { path: String::new(), value }
    }

    /// The members of an object, if each has one of these names, in whatever case, and none stands there twice.
    fn members(self, names: &'static [&'static str]) -> Result<Members<'a>, ConfigError> {
        // `null` leaves everything at its default, as in Go.
        let object = match self.value {
            Json::Object(object) => object.as_slice(),
            Json::Null => &[],
            _ => return Err(self.must_be("an object")),
        };
        let mut found: Vec<(&'static str, &Json)> = Vec::new();
        for (written, value) in object {
            let path = self.path_of(written);
            let Some(name) = names.iter().find(|name| fold(name) == fold(written)) else {
                let known = names.join(", ");
                return Err(ConfigError::invalid(&path, format!("is none of {known}")));
            };
            if found.iter().any(|(other, _)| other == name) {
                let problem = format!("{name} stands here twice");
                return Err(ConfigError::invalid(&path, problem));
            }
            found.push((name, value));
        }
        Ok(Members { path: self.path, found })
    }

    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    fn items(self) -> Result<impl Iterator<Item = Setting<'a>>, ConfigError> {
        let Json::Array(items) = self.value else { return Err(self.must_be("an array")) };
        Ok(items.iter().enumerate().map(move |(position, value)| Setting {
            path: format!("{}[{position}]", self.path),
            value,
        }))
    }

    fn text(&self) -> Result<&'a str, ConfigError> {
        self.value.as_str().ok_or_else(|| self.must_be("a text"))
    }

    fn boolean(&self) -> Result<bool, ConfigError> {
        self.value.as_bool().ok_or_else(|| self.must_be("true or false"))
    }

    fn number(&self) -> Result<f64, ConfigError> {
        self.value.as_number().and_then(Number::as_f64).ok_or_else(|| self.must_be("a number"))
    }

    /// A number of things of which there is at least one.
    fn count(&self) -> Result<usize, ConfigError> {
        let count = self.value.as_number().and_then(Number::as_u64);
        let count = count.and_then(|count| usize::try_from(count).ok());
        count.filter(|&count| count > 0).ok_or_else(|| self.must_be("a whole number of at least 1"))
    }

    fn integer(&self) -> Result<i64, ConfigError> {
        let number = self.value.as_number().and_then(Number::as_i64);
        number.ok_or_else(|| self.must_be("a whole number"))
    }

    /// A number of tokens, 0 for none given.
    fn block_size(&self) -> Result<usize, ConfigError> {
        let size = self.value.as_number().and_then(Number::as_u64);
        let size = size.and_then(|size| usize::try_from(size).ok());
        size.ok_or_else(|| self.must_be("a whole number of tokens, at least 0"))
    }

    fn bytes(&self) -> Result<u64, ConfigError> {
        let bytes = self.value.as_str().and_then(units::bytes).filter(|&bytes| bytes > 0);
        bytes.ok_or_else(|| self.must_be(r#"a size above 0, such as "2GiB""#))
    }

    fn duration(&self) -> Result<Duration, ConfigError> {
        let duration = match self.value {
            Json::Text(text) => units::duration(text),
            value => value
                .as_number()
                .and_then(Number::as_i64)
                .and_then(|nanoseconds| u64::try_from(nanoseconds).ok())
                .map(Duration::from_nanos),
        };
        duration.ok_or_else(|| self.must_be(r#"nanoseconds or a duration such as "1m0s""#))
    }

    /// A duration of a millisecond at least. Less is a number of seconds that was not given its unit.
    fn time(&self) -> Result<Duration, ConfigError> {
        let duration = self.duration()?;
        if duration >= TIME_MIN {
            return Ok(duration);
        }
        Err(self.must_be("at least a millisecond; a number without a unit is one of nanoseconds"))
    }

    /// `None` for an empty text, which stands for the default in llm-d.
    fn backend_type(&self) -> Result<Option<BackendType>, ConfigError> {
        match self.text()? {
            "" => Ok(None),
            "redis" => Ok(Some(BackendType::Redis)),
            "valkey" => Ok(Some(BackendType::Valkey)),
            _ => Err(self.must_be("redis or valkey")),
        }
    }

    /// The complaint that the value is not what it has to be. The value itself is not quoted: where a text belongs, it may
    /// be a password.
    fn must_be(&self, what: &str) -> ConfigError {
        let path = if self.path.is_empty() { "the configuration" } else { &self.path };
        ConfigError::invalid(path, format!("must be {what}"))
    }
}

/// The members of an object by the names that they have in llm-d.
struct Members<'a> {
    path: String,
    found: Vec<(&'static str, &'a Json)>,
}

impl<'a> Members<'a> {
    fn value(&self, name: &str) -> Option<&'a Json> {
        self.found.iter().find(|(found, _)| *found == name).map(|&(_, value)| value)
    }

    fn is_null(&self, name: &str) -> bool {
        self.value(name) == Some(&Json::Null)
    }

    /// The member of this name, unless it is missing or `null`.
    fn find(&self, name: &str) -> Option<Setting<'a>> {
        let value = self.value(name).filter(|value| **value != Json::Null)?;
        let path =
            if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) };
        Some(Setting { path, value })
    }
}
