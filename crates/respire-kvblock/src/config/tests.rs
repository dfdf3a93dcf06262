use std::{error::Error as _, num::NonZeroUsize};

use super::*;
use crate::{HashAlgorithm, events::Engine};

fn index_config(text: &str) -> IndexConfig {
    text.parse().unwrap()
}

fn refused(text: &str) -> ConfigError {
    text.parse::<IndexConfig>().unwrap_err()
}

/// The error of opening, and its causes from the outermost in.
async fn open_error(config: &IndexConfig) -> (IndexError, Vec<String>) {
    let Err(error) = config.open().await else { panic!("{config:?} was opened") };
    let mut texts = vec![error.to_string()];
    let mut source = error.source();
    while let Some(cause) = source {
        texts.push(cause.to_string());
        source = cause.source();
    }
    (error, texts)
}

#[test]
fn what_is_missing_has_llm_ds_default() {
    let config = index_config("{}");
    assert_eq!(config, IndexConfig::default());
    assert_eq!(config.in_memory, Some(InMemoryConfig { size: 100_000_000, pod_cache_size: 10 }));
    assert_eq!(index_config("null"), config);
    let config = index_config(r#"{"redisConfig":{},"valkeyConfig":{},"costAwareMemoryConfig":{}}"#);
    assert_eq!(config.redis, Some(ServerConfig::redis("redis://127.0.0.1:6379")));
    assert_eq!(config.valkey, Some(ServerConfig::valkey("valkey://127.0.0.1:6379")));
    assert_eq!(config.cost_aware_memory, Some(CostAwareConfig { size_bytes: 2 << 30 }));
    let config = index_config(r#"{"inMemoryConfig":{"podCacheSize":3}}"#);
    assert_eq!(config.in_memory, Some(InMemoryConfig { size: 100_000_000, pod_cache_size: 3 }));
}

#[test]
fn every_setting_is_read() {
    let config = index_config(
        r#"{
            "inMemoryConfig": {"size": 5, "podCacheSize": 2},
            "redisConfig": {"address": "10.0.0.1:6379", "backendType": "valkey", "enableRDMA": false},
            "valkeyConfig": {"address": "valkey://v:1", "backendType": "valkey", "enableRDMA": true},
            "costAwareMemoryConfig": {"size": "42 MB", "numCounters": 10000},
            "enableMetrics": true,
            "metricsLoggingInterval": 60000000000
        }"#,
    );
    let expected = IndexConfig {
        in_memory: Some(InMemoryConfig { size: 5, pod_cache_size: 2 }),
        redis: Some(ServerConfig {
            backend_type: BackendType::Valkey,
            ..ServerConfig::redis("10.0.0.1:6379")
        }),
        valkey: Some(ServerConfig { enable_rdma: true, ..ServerConfig::valkey("valkey://v:1") }),
        cost_aware_memory: Some(CostAwareConfig { size_bytes: 42_000_000 }),
        enable_metrics: true,
        metrics_logging_interval: Duration::from_secs(60),
    };
    assert_eq!(config, expected);
}

#[test]
fn names_match_in_any_case_and_null_is_as_good_as_nothing() {
    let config = index_config(
        r#"{"VALKEYCONFIG":{"Address":"unix:///v.sock","BackendType":null,"enablerdma":null},
            "enablemetrics":null,"InMemoryConfig":null}"#,
    );
    let expected = IndexConfig::valkey(ServerConfig::valkey("unix:///v.sock"));
    assert_eq!(config, expected);
    // The Kelvin sign is a capital K to Go.
    let config = index_config("{\"val\u{212a}eyConfig\":{}}");
    assert!(config.valkey.is_some());
}

#[tokio::test]
async fn names_and_fields_of_a_server_are_configured_and_left_out_where_they_are_llm_ds() {
    let text = r#"{"redisConfig":{"keyPrefix":"a:","fieldFormat":"text","clearBy":"reverseIndexThenScan","nearCache":true}}"#;
    let config = index_config(text);
    let server = config.redis.clone().unwrap();
    assert_eq!((&*server.key_prefix, server.field_format), ("a:", FieldFormat::Text));
    assert_eq!(server.clear_by, ClearBy::ReverseIndexThenScan);
    let written = serde_json::to_string(&config).unwrap();
    assert!(
        written
            .contains(r#""keyPrefix":"a:","fieldFormat":"text","clearBy":"reverseIndexThenScan","nearCache":true"#),
        "{written}"
    );
    assert_eq!(index_config(&written), config);
    let plain = index_config(r#"{"redisConfig":{"keyPrefix":"","fieldFormat":"json"}}"#);
    assert_eq!(plain.redis, Some(ServerConfig::redis("redis://127.0.0.1:6379")));
    let error = refused(r#"{"redisConfig":{"fieldFormat":"xml"}}"#);
    assert_eq!(error.to_string(), "redisConfig.fieldFormat: must be json or text");
    // Before anything is connected to.
    let bad =
        index_config(r#"{"valkeyConfig":{"address":"valkey://127.0.0.1:1","keyPrefix":"t1"}}"#);
    let (error, _) = open_error(&bad).await;
    assert_eq!(error.config_error().unwrap().setting(), Some("valkeyConfig.keyPrefix"));
}

#[tokio::test]
async fn a_layout_is_configured_and_has_settings_of_its_own() {
    let config = index_config(r#"{"redisConfig":{"layout":"bitmap","keyPrefix":"a:"}}"#);
    assert_eq!(config.redis.as_ref().unwrap().layout, Layout::Bitmap);
    let written = serde_json::to_string(&config).unwrap();
    assert!(written.contains(r#""layout":"bitmap","keyPrefix":"a:""#), "{written}");
    assert_eq!(index_config(&written), config);
    let plain = index_config(r#"{"redisConfig":{"layout":"llm-d"}}"#);
    assert_eq!(plain.redis, Some(ServerConfig::redis("redis://127.0.0.1:6379")));
    let error = refused(r#"{"redisConfig":{"layout":"sets"}}"#);
    assert_eq!(error.to_string(), "redisConfig.layout: must be llm-d or bitmap");
    let watched = index_config(r#"{"redisConfig":{"lossDetection":true}}"#);
    assert!(watched.redis.as_ref().unwrap().loss_detection);
    assert_eq!(index_config(&serde_json::to_string(&watched).unwrap()), watched);
    // Before anything is connected to.
    for name in ["nearCache", "lossDetection"] {
        let bad = format!(
            r#"{{"valkeyConfig":{{"address":"valkey://127.0.0.1:1","layout":"bitmap","{name}":true}}}}"#
        );
        let (error, _) = open_error(&index_config(&bad)).await;
        let setting = error.config_error().unwrap().setting().map(str::to_owned);
        assert_eq!(setting, Some(format!("valkeyConfig.{name}")));
    }
    let bad = r#"{"valkeyConfig":{"address":"valkey://127.0.0.1:1","lease":"30s"}}"#;
    let (error, _) = open_error(&index_config(bad)).await;
    assert_eq!(error.config_error().unwrap().setting(), Some("valkeyConfig.lease"));
}

#[test]
fn the_durations_of_the_bitmap_layout_are_read_and_written() {
    let text = r#"{"valkeyConfig":{"layout":"bitmap","lease":"30s","quarantine":0,"writerTimeout":"2m","sweepInterval":60000000000}}"#;
    let config = index_config(text);
    let valkey = config.valkey.as_ref().unwrap();
    assert_eq!(valkey.lease, Some(Duration::from_secs(30)));
    assert_eq!(valkey.quarantine, Some(Duration::ZERO));
    assert_eq!(valkey.writer_timeout, Some(Duration::from_secs(120)));
    assert_eq!(valkey.sweep_interval, Some(Duration::from_secs(60)));
    let options = BitmapOptions::default()
        .with_lease(Some(Duration::from_secs(30)))
        .with_quarantine(Duration::ZERO)
        .with_writer_timeout(Duration::from_secs(120));
    assert_eq!(valkey.bitmap_options().unwrap(), Some(options));
    assert_eq!(index_config(&serde_json::to_string(&config).unwrap()), config);
    let plain = index_config(r#"{"valkeyConfig":{"layout":"bitmap","sweepInterval":0}}"#);
    let plain = plain.valkey.unwrap();
    assert_eq!(plain.sweep_interval, None);
    assert_eq!(plain.bitmap_options().unwrap(), Some(BitmapOptions::default()));
    assert_eq!(ServerConfig::redis("").bitmap_options().unwrap(), None);
    let too_short = "must be at least a millisecond; a number without a unit is one of nanoseconds";
    for (name, time) in [("lease", r#""0s""#), ("writerTimeout", "300"), ("sweepInterval", "60")] {
        let error = refused(&format!(r#"{{"redisConfig":{{"layout":"bitmap","{name}":{time}}}}}"#));
        assert_eq!(error.to_string(), format!("redisConfig.{name}: {too_short}"));
    }
}

#[test]
fn an_interval_is_nanoseconds_or_a_text_as_in_go() {
    let interval = |value: &str| {
        index_config(&format!(r#"{{"metricsLoggingInterval":{value}}}"#)).metrics_logging_interval
    };
    assert_eq!(interval("1500"), Duration::from_nanos(1500));
    assert_eq!(interval(r#""1m0s""#), Duration::from_secs(60));
    assert_eq!(interval(r#""30s""#), Duration::from_secs(30));
    for bad in ["-1", "1.5", r#""1 m""#, "true", r#""-1s""#] {
        let error = refused(&format!(r#"{{"metricsLoggingInterval":{bad}}}"#));
        assert_eq!(error.setting(), Some("metricsLoggingInterval"), "{bad}");
    }
}

#[test]
fn a_setting_that_is_not_known_is_named() {
    let setting = |text: &str| refused(text).setting().map(str::to_owned).unwrap();
    assert_eq!(setting(r#"{"valkeyconfg":{}}"#), "valkeyconfg");
    assert_eq!(setting(r#"{"valkeyConfig":{"adress":"x"}}"#), "valkeyConfig.adress");
    assert_eq!(setting(r#"{"inMemoryConfig":{"Size":1,"max":2}}"#), "inMemoryConfig.max");
    assert_eq!(
        refused(r#"{"redisConfig":{"port":6379}}"#).to_string(),
        "redisConfig.port: is none of address, backendType, enableRDMA, rdma, layout, keyPrefix, fieldFormat, clearBy, nearCache, lossDetection, lease, quarantine, writerTimeout, sweepInterval"
    );
}

#[test]
fn a_value_of_the_wrong_kind_is_named_and_not_quoted() {
    let cases = [
        (r"[]", "the configuration"),
        (r#"{"valkeyConfig":"valkey://u:secret@h"}"#, "valkeyConfig"),
        (r#"{"valkeyConfig":{"address":["secret"]}}"#, "valkeyConfig.address"),
        (r#"{"valkeyConfig":{"enableRDMA":"secret"}}"#, "valkeyConfig.enableRDMA"),
        (r#"{"redisConfig":{"backendType":"secret"}}"#, "redisConfig.backendType"),
        (r#"{"inMemoryConfig":{"size":0}}"#, "inMemoryConfig.size"),
        (r#"{"inMemoryConfig":{"size":-1}}"#, "inMemoryConfig.size"),
        (r#"{"inMemoryConfig":{"podCacheSize":1.5}}"#, "inMemoryConfig.podCacheSize"),
        (r#"{"inMemoryConfig":{"size":"10"}}"#, "inMemoryConfig.size"),
        (r#"{"costAwareMemoryConfig":{"size":"secret"}}"#, "costAwareMemoryConfig.size"),
        (r#"{"costAwareMemoryConfig":{"size":5}}"#, "costAwareMemoryConfig.size"),
        (
            r#"{"costAwareMemoryConfig":{"numCounters":"secret"}}"#,
            "costAwareMemoryConfig.numCounters",
        ),
        (r#"{"enableMetrics":1}"#, "enableMetrics"),
    ];
    for (text, setting) in cases {
        let error = refused(text);
        assert_eq!(error.setting(), Some(setting), "{text}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[test]
fn a_redis_under_valkey_config_is_a_contradiction() {
    let error = refused(r#"{"valkeyConfig":{"backendType":"redis"}}"#);
    assert_eq!(error.setting(), Some("valkeyConfig.backendType"));
    assert!(error.to_string().contains("contradicts valkeyConfig"), "{error}");
}

#[test]
fn a_syntax_error_has_a_line_and_a_column() {
    let error = refused("{\n  \"valkeyConfig\": {,}\n}");
    assert_eq!(error.position(), Some((2, 20)));
    assert_eq!(error.setting(), None);
    assert_eq!(error.to_string(), "line 2, column 20: key must be a string");
}

#[test]
fn a_configuration_is_written_as_it_is_read() {
    let config = IndexConfig {
        valkey: Some(ServerConfig::valkey("valkey://h:1")),
        cost_aware_memory: Some(CostAwareConfig { size_bytes: 42_000_000 }),
        enable_metrics: true,
        metrics_logging_interval: Duration::from_secs(60),
        ..IndexConfig::default()
    };
    let text = serde_json::to_string(&config).unwrap();
    assert_eq!(
        text,
        concat!(
            r#"{"inMemoryConfig":{"size":100000000,"podCacheSize":10},"#,
            r#""valkeyConfig":{"address":"valkey://h:1","backendType":"valkey","enableRDMA":false},"#,
            r#""costAwareMemoryConfig":{"size":"42000000"},"enableMetrics":true,"metricsLoggingInterval":60000000000}"#
        )
    );
    assert_eq!(index_config(&text), config);
    let config: IndexerConfig =
        r#"{"kvCacheBackendConfigs":[{"name":"disk","weight":0.25}]}"#.parse().unwrap();
    assert_eq!(serde_json::to_string(&config).unwrap().parse(), Ok(config));
}

#[test]
fn the_whole_indexer_config_is_read() {
    let config: IndexerConfig = r#"{
        "kvBlockIndexConfig": {"redisConfig": {"address": "redis://r:1"}, "inMemoryConfig": null},
        "kvBlockScorerConfig": {"scoringStrategy": "LongestPrefix"},
        "kvCacheBackendConfigs": [{"name": "gpu", "weight": 1}, {"name": "cpu", "weight": 0.5}],
        "tokenizersPoolConfig": {"workersCount": 5}
    }"#
    .parse()
    .unwrap();
    assert_eq!(config.index, IndexConfig::redis(ServerConfig::redis("redis://r:1")));
    assert_eq!(config.scorer(), LongestPrefixScorer::new([("gpu", 1.0), ("cpu", 0.5)]));
    assert_eq!("{}".parse(), Ok(IndexerConfig::default()));
    assert_eq!(IndexerConfig::default().scorer(), LongestPrefixScorer::default());
}

/// The complete example of llm-d's documentation.
const COMPLETE: &str = r#"{
    "prefixStoreConfig": {"cacheSize": 500000, "blockSize": 256},
    "kvBlockIndexConfig": {
        "inMemoryConfig": {"size": 100000000, "podCacheSize": 10},
        "enableMetrics": true,
        "metricsLoggingInterval": "1m0s"
    },
    "tokenizersPoolConfig": {
        "modelName": "namespace/model-name",
        "workersCount": 8,
        "minPrefixOverlapRatio": 0.85,
        "hf": {"huggingFaceToken": "your_hf_token_here", "tokenizersCacheDir": "tokenizers"},
        "local": {"autoDiscoveryDir": "models", "autoDiscoveryTokenizerFileName": "tokenizer.json"}
    },
    "kvCacheBackendConfigs": [{"name": "gpu", "weight": 1.0}, {"name": "cpu", "weight": 0.5}]
}"#;

#[test]
fn llm_ds_complete_example_is_read() {
    let config: IndexerConfig = COMPLETE.parse().unwrap();
    assert!(config.index.enable_metrics);
    assert_eq!(config.index.metrics_logging_interval, Duration::from_secs(60));
    assert_eq!(config.scorer().weight("cpu"), 0.5);
}

#[test]
fn the_indexers_part_of_the_whole_document_is_read() {
    let mut config: IndexerConfig = COMPLETE.parse().unwrap();
    config.events = Some(EventsConfig::default());
    let whole = format!(
        r#"{{"IndexerConfig":{COMPLETE},"kvEventsConfig":{{"concurrency":4}},"tokenProcessorConfig":{{"blockSize":16}}}}"#
    );
    assert_eq!(whole.parse(), Ok(config));
    assert_eq!(
        r#"{"indexerConfig":null,"kvEventsConfig":null}"#.parse(),
        Ok(IndexerConfig::default())
    );
    let setting = |text: &str| {
        text.parse::<IndexerConfig>().unwrap_err().setting().map(str::to_owned).unwrap()
    };
    assert_eq!(setting(r#"{"indexerConfig":{"tiers":[]}}"#), "indexerConfig.tiers");
    assert_eq!(setting(r#"{"indexerConfig":{},"kvBlockIndexConfig":{}}"#), "kvBlockIndexConfig");
    assert_eq!(
        setting(r#"{"indexerConfig":{"kvBlockIndexConfig":{"valkeyConfig":{"x":1}}}}"#),
        "valkeyConfig.x"
    );
}

#[test]
fn what_llm_ds_router_has_beside_the_index_is_checked_and_passed_over() {
    let read = |text: &str| text.parse::<IndexerConfig>();
    let speculative = r#""speculativeIndexing":true,"speculativettl":"2s""#;
    for text in [
        format!("{{{speculative}}}"),
        format!(r#"{{{speculative},"indexerConfig":{{}},"tokenProcessorConfig":{{}}}}"#),
        r#"{"speculativeIndexing":null,"speculativeTTL":null,"kvEventsConfig":null}"#.to_owned(),
    ] {
        assert_eq!(read(&text), Ok(IndexerConfig::default()), "{text}");
        assert_eq!(text.parse(), Ok(EventsConfig::default()), "{text}");
    }
    for (text, setting) in [
        (r#"{"speculativeIndexing":1}"#, "speculativeIndexing"),
        (r#"{"indexerConfig":{},"speculativeTTL":"soon"}"#, "speculativeTTL"),
        (r#"{"indexerConfig":{"speculativeTTL":"2s"}}"#, "indexerConfig.speculativeTTL"),
        (r#"{"speculativeTTL":"2s","valkeyConfig":{}}"#, "valkeyConfig"),
    ] {
        assert_eq!(read(text).unwrap_err().setting(), Some(setting), "{text}");
    }
}

#[tokio::test]
async fn a_setting_has_one_name_in_reading_and_in_opening() {
    let text = r#"{"kvBlockIndexConfig":{"valkeyConfig":{"enableRDMA":VALUE}}}"#;
    let read = text.replace("VALUE", "1").parse::<IndexerConfig>().unwrap_err();
    let config: IndexerConfig = text.replace("VALUE", "true").parse().unwrap();
    let (opened, _) = open_error(&config.index).await;
    assert_eq!(read.setting(), Some("valkeyConfig.enableRDMA"));
    assert_eq!(opened.config_error().unwrap().setting(), read.setting());
}

#[test]
fn a_setting_that_stands_twice_is_named_whatever_its_case() {
    for (text, setting) in [
        (r#"{"valkeyConfig":{"address":"a","address":"b"}}"#, "valkeyConfig.address"),
        (r#"{"valkeyConfig":{"address":"a","Address":"b"}}"#, "valkeyConfig.Address"),
        (r#"{"valkeyConfig":null,"valkeyConfig":{}}"#, "valkeyConfig"),
        (r#"{"inMemoryConfig":{"size":1},"inMemoryConfig":{"size":1}}"#, "inMemoryConfig"),
    ] {
        let error = refused(text);
        assert_eq!(error.setting(), Some(setting), "{text}");
        assert!(error.to_string().ends_with("stands here twice"), "{error}");
        let nested = format!(r#"{{"kvBlockIndexConfig":{text}}}"#).parse::<IndexerConfig>();
        assert_eq!(nested.unwrap_err().setting(), Some(setting));
    }
    // As a part of a larger document too.
    let part = serde_json::from_str::<IndexConfig>(r#"{"valkeyConfig":{},"valkeyConfig":{}}"#);
    assert!(part.unwrap_err().to_string().contains("stands here twice"));
}

#[tokio::test]
async fn addresses_that_the_client_does_not_read_say_how_they_are_written() {
    for (address, hint) in [
        ("/run/valkey.sock", "unix:///run/valkey.sock"),
        ("unix:/run/valkey.sock", "unix:///run/valkey.sock"),
        ("redis://h:1?pool_size=10", "pool_size"),
        ("h:1?dial_timeout=5s", "dial_timeout"),
    ] {
        let (_, texts) = open_error(&IndexConfig::valkey(ServerConfig::valkey(address))).await;
        assert_eq!(texts[1], "failed to parse valkey URL", "{texts:?}");
        assert!(texts.last().unwrap().contains(hint), "{texts:?}");
    }
    for address in ["redis+unix:///no/such.sock", "valkey+unix:///no/such.sock"] {
        let (error, texts) = open_error(&IndexConfig::valkey(ServerConfig::valkey(address))).await;
        assert!(error.client_error().unwrap().is_connect(), "{texts:?}");
    }
}

#[test]
fn what_the_scorer_cannot_use_is_named() {
    let setting = |text: &str| {
        text.parse::<IndexerConfig>().unwrap_err().setting().map(str::to_owned).unwrap()
    };
    assert_eq!(
        setting(r#"{"KVBlockScorerConfig":{"ScoringStrategy":"Random"}}"#),
        "KVBlockScorerConfig.ScoringStrategy"
    );
    assert_eq!(
        setting(r#"{"kvCacheBackendConfigs":[{"name":"gpu","weight":1},{"name":"cpu"}]}"#),
        "kvCacheBackendConfigs[1].weight"
    );
    assert_eq!(setting(r#"{"kvBlockIndexConfig":{"valkeyConfig":{"x":1}}}"#), "valkeyConfig.x");
    assert_eq!(setting(r#"{"kvBlockIndexConfig":[]}"#), "kvBlockIndexConfig");
    let both = r#"{"KVBlockScorerConfig":{"backendConfigs":[{"name":"gpu","weight":1}]},
                   "kvCacheBackendConfigs":[{"name":"gpu","weight":WEIGHT}]}"#;
    assert!(both.replace("WEIGHT", "1").parse::<IndexerConfig>().is_ok());
    assert_eq!(setting(&both.replace("WEIGHT", "2")), "kvCacheBackendConfigs");
}

#[test]
fn how_keys_are_computed_is_read_wherever_llm_d_has_it() {
    let processor = |text: &str| text.parse::<IndexerConfig>().map(|config| config.token_processor);
    let given = r#"{"BLOCKSIZETOKENS":64,"hashSeed":"42","hashAlgorithm":"xxh64"}"#;
    let expected = TokenProcessorConfig {
        block_size_tokens: 64,
        hash_seed: "42".to_owned(),
        hash_algorithm: HashAlgorithm::Xxh64,
    };
    for text in [
        r#"{"tokenProcessorConfig":GIVEN}"#,
        r#"{"indexerConfig":{"tokenProcessorConfig":GIVEN}}"#,
        r#"{"indexerConfig":{},"tokenProcessorConfig":GIVEN}"#,
        r#"{"tokenProcessorConfig":GIVEN,"kvEventsConfig":{}}"#,
        r#"{"indexerConfig":{"tokenProcessorConfig":GIVEN},"tokenProcessorConfig":GIVEN}"#,
    ] {
        let text = text.replace("GIVEN", given);
        assert_eq!(processor(&text), Ok(expected.clone()), "{text}");
        let written = serde_json::to_string(&text.parse::<IndexerConfig>().unwrap()).unwrap();
        assert_eq!(processor(&written), Ok(expected.clone()), "{written}");
    }
    let two = r#"{"indexerConfig":{"tokenProcessorConfig":{}},"tokenProcessorConfig":GIVEN}"#;
    let error = processor(&two.replace("GIVEN", given)).unwrap_err();
    assert_eq!(error.setting(), Some("tokenProcessorConfig"));
}

#[test]
fn a_block_size_has_an_old_name_and_0_is_none() {
    let size = |text: &str| {
        let text = format!(r#"{{"tokenProcessorConfig":{text}}}"#);
        text.parse::<IndexerConfig>().map(|config| config.token_processor.block_size_tokens)
    };
    for (text, expected) in [
        ("{}", 16),
        (r#"{"blockSize":64}"#, 64),
        (r#"{"blockSize":64,"blockSizeTokens":0}"#, 64),
        (r#"{"blockSize":0,"blockSizeTokens":32}"#, 32),
        (r#"{"blockSize":64,"blockSizeTokens":64}"#, 64),
        (r#"{"blockSizeTokens":0,"hashAlgorithm":""}"#, 16),
    ] {
        assert_eq!(size(text), Ok(expected), "{text}");
    }
    for (text, setting) in [
        (r#"{"blockSize":64,"blockSizeTokens":32}"#, "tokenProcessorConfig.blockSize"),
        (r#"{"blockSizeTokens":-1}"#, "tokenProcessorConfig.blockSizeTokens"),
        (r#"{"blockSize":1.5}"#, "tokenProcessorConfig.blockSize"),
        (r#"{"hashAlgorithm":"sha256"}"#, "tokenProcessorConfig.hashAlgorithm"),
        (r#"{"seed":""}"#, "tokenProcessorConfig.seed"),
    ] {
        assert_eq!(size(text).unwrap_err().setting(), Some(setting), "{text}");
    }
}

#[test]
fn an_address_without_a_known_scheme_is_one_of_redis() {
    let url = |address: &str| ServerConfig::redis(address).url();
    assert_eq!(url("127.0.0.1:6379"), "redis://127.0.0.1:6379");
    assert_eq!(url(":pass@host:1/2"), "redis://:pass@host:1/2");
    assert_eq!(url(""), "redis://localhost:6379");
    for known in [
        "redis://h",
        "rediss://h",
        "valkey://h",
        "valkeys://h",
        "unix:///s",
        "redis+unix:///s",
        "valkey+unix:///s",
    ] {
        assert_eq!(url(known), known);
    }
    // Schemes are in lower case.
    assert_eq!(url("VALKEY://h"), "redis://VALKEY://h");
}

#[test]
fn rdma_is_another_scheme_of_the_same_address() {
    let over = |address: &str| {
        ServerConfig { enable_rdma: true, ..ServerConfig::valkey(address) }.dialled_url()
    };
    for (address, url) in [
        ("valkey://u:p@h:1/2?rx_size=64kb", "valkey+rdma://u:p@h:1/2?rx_size=64kb"),
        ("h:1", "redis+rdma://h:1"),
        ("valkey+rdma://h", "valkey+rdma://h"),
    ] {
        assert_eq!(over(address).as_deref(), Some(url));
    }
    for address in ["rediss://h", "valkeys://h", "unix:///s", "/s", "unix:/s"] {
        assert_eq!(over(address), None, "{address}");
    }
    assert_eq!(ServerConfig::valkey("h").dialled_url().as_deref(), Some("redis://h"));
}

#[test]
fn the_environment_names_a_valkey_server() {
    let read = |address: Option<&str>, rdma: Option<&str>| {
        ServerConfig::from_variables(|name| match name {
            "VALKEY_ADDR" => address.map(Into::into),
            "VALKEY_ENABLE_RDMA" => rdma.map(Into::into),
            other => panic!("{other} was asked for"),
        })
    };
    let with_rdma =
        |address: &str| ServerConfig { enable_rdma: true, ..ServerConfig::valkey(address) };
    assert_eq!(read(None, None), Ok(None));
    assert_eq!(read(Some(""), Some("false")), Ok(None));
    assert_eq!(read(Some("h:1"), None), Ok(Some(ServerConfig::valkey("h:1"))));
    assert_eq!(read(Some("h:1"), Some("True")), Ok(Some(with_rdma("h:1"))));
    assert_eq!(read(None, Some("true")), Ok(Some(with_rdma("valkey://127.0.0.1:6379"))));
    assert_eq!(read(Some("h:1"), Some("yes")).unwrap_err().setting(), Some("VALKEY_ENABLE_RDMA"));
}

#[test]
fn debug_hides_what_may_be_a_password() {
    let config = ServerConfig::valkey("valkey://user:p@ss@host:6379/1");
    let shown = format!("{config:?}");
    assert!(shown.contains("***@host:6379/1") && !shown.contains("ss@"), "{shown}");
}

#[tokio::test]
async fn nothing_configured_is_an_error() {
    let (error, texts) = open_error(&IndexConfig::empty()).await;
    assert!(error.config_error().is_some());
    assert_eq!(texts[1], "no valid index configuration provided");
    let (_, texts) = open_error(&index_config(r#"{"inMemoryConfig":null}"#)).await;
    assert_eq!(texts[1], "no valid index configuration provided");
}

#[tokio::test]
async fn backends_take_precedence_in_llm_ds_order() {
    let all = r#"{"inMemoryConfig":{},"redisConfig":{"enableRDMA":true},
                  "valkeyConfig":{"enableRDMA":true},"costAwareMemoryConfig":{}}"#;
    let mut config = index_config(all);
    let index = config.open().await.unwrap();
    assert_eq!(index.describe(), "in memory, of up to 2147483648 bytes");
    config.cost_aware_memory = None;
    let mut settings = Vec::new();
    for _ in 0..2 {
        let (error, _) = open_error(&config).await;
        settings.push(error.config_error().unwrap().setting().unwrap().to_owned());
        if config.valkey.take().is_none() {
            config.redis = None;
        }
    }
    assert_eq!(settings, ["valkeyConfig.enableRDMA", "redisConfig.enableRDMA"]);
    assert!(config.open().await.is_ok());
}

#[tokio::test]
async fn rdma_without_a_transport_is_refused_and_not_replaced_by_tcp() {
    let config =
        index_config(r#"{"valkeyConfig":{"address":"valkey://u:secret@h:1","enableRDMA":true}}"#);
    let (error, texts) = open_error(&config).await;
    assert!(error.client_error().is_none());
    assert_eq!(error.config_error().unwrap().setting(), Some("valkeyConfig.enableRDMA"));
    assert!(texts[1].contains("no transport for RDMA is registered"), "{texts:?}");
    assert!(texts[1].contains("TCP is not used in its place"), "{texts:?}");
    assert!(!format!("{texts:?} {error:?}").contains("secret"));
}

#[tokio::test]
async fn rdma_that_is_only_preferred_is_replaced_by_tcp() {
    let config = index_config(
        r#"{"valkeyConfig":{"address":"127.0.0.1:1","enableRDMA":true,"rdma":"preferred"}}"#,
    );
    // Nothing listens there, so that the error is that of TCP.
    let (error, texts) = open_error(&config).await;
    assert!(error.client_error().unwrap().is_connect(), "{texts:?}");
    assert!(error.config_error().is_none());
}

#[tokio::test]
async fn rdma_contradicts_what_it_cannot_be_used_for() {
    for address in ["valkeys://h", "rediss://h", "unix:///s", "valkey+unix:///s", "/s"] {
        for rdma in [Rdma::Required, Rdma::Preferred] {
            let server = ServerConfig { enable_rdma: true, rdma, ..ServerConfig::valkey(address) };
            let (error, texts) = open_error(&IndexConfig::valkey(server)).await;
            let setting = error.config_error().unwrap().setting();
            assert_eq!(setting, Some("valkeyConfig.enableRDMA"), "{texts:?}");
        }
    }
    for (text, setting) in [
        (r#"{"rdma":"preferred"}"#, "valkeyConfig.rdma"),
        (r#"{"rdma":"required","enableRDMA":false}"#, "valkeyConfig.rdma"),
        (r#"{"rdma":"maybe","enableRDMA":true}"#, "valkeyConfig.rdma"),
    ] {
        let error = refused(&format!(r#"{{"valkeyConfig":{text}}}"#));
        assert_eq!(error.setting(), Some(setting), "{text}");
    }
    let text = r#"{"valkeyConfig":{"enableRDMA":true,"rdma":"preferred"}}"#;
    let config = index_config(text);
    let written = serde_json::to_string(&config).unwrap();
    assert_eq!(written.parse(), Ok(config), "{written}");
}

#[test]
fn where_events_come_from_is_read_alone_and_in_the_whole_document() {
    let events = |text: &str| text.parse::<EventsConfig>();
    let complete = r#"{"zmqEndpoint":"tcp://*:5557","topicFilter":"kv@a","concurrency":8,
        "engineType":"sglang","discoverPods":false,"podDiscoveryConfig":{
        "podLabelSelector":"a=b","podNamespace":"n","socketPort":1,"replaySocketPort":65535}}"#;
    let expected = EventsConfig {
        zmq_endpoint: Some("tcp://*:5557".to_owned()),
        topic_filter: "kv@a".to_owned(),
        concurrency: NonZeroUsize::new(8).unwrap(),
        engine: Engine::Sglang,
        discover_pods: false,
        pod_discovery: PodDiscoveryConfig {
            pod_label_selector: "a=b".to_owned(),
            pod_namespace: "n".to_owned(),
            socket_port: 1,
            replay_socket_port: Some(65535),
        },
    };
    let whole = format!(r#"{{"indexerConfig":{{}},"kvEventsConfig":{complete}}}"#);
    for text in [complete, &format!(r#"{{"kveventsconfig":{complete}}}"#), &whole] {
        assert_eq!(events(text), Ok(expected.clone()), "{text}");
    }
    // It comes back as it was, and with all else that the document says.
    let config: IndexerConfig = whole.parse().unwrap();
    let written = serde_json::to_string(&config).unwrap();
    assert_eq!(written.parse(), Ok(config), "{written}");

    for text in ["{}", "null", r#"{"indexerConfig":{}}"#, r#"{"engineType":"","zmqEndpoint":""}"#] {
        assert_eq!(events(text), Ok(EventsConfig::default()), "{text}");
    }
    let none = events(r#"{"podDiscoveryConfig":{"replaySocketPort":-1}}"#).unwrap();
    assert_eq!(none.pod_discovery.replay_socket_port, None);
    for (text, setting) in [
        (r#"{"concurrency":0}"#, "concurrency"),
        (r#"{"engineType":"trt"}"#, "engineType"),
        (r#"{"podDiscoveryConfig":{"socketPort":0}}"#, "podDiscoveryConfig.socketPort"),
        (r#"{"podDiscoveryConfig":{"socketPort":65536}}"#, "podDiscoveryConfig.socketPort"),
        (r#"{"podDiscoveryConfig":{"port":1}}"#, "podDiscoveryConfig.port"),
        (r#"{"kvEventsConfig":{"topics":[]}}"#, "kvEventsConfig.topics"),
    ] {
        assert_eq!(events(text).unwrap_err().setting(), Some(setting), "{text}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_without_credentials() {
    // Port 1 of the loopback interface: nothing listens there.
    let config = IndexConfig::valkey(ServerConfig::valkey("valkey://user:secret@127.0.0.1:1"));
    let (error, texts) = open_error(&config).await;
    assert!(error.client_error().unwrap().is_connect());
    assert_eq!(texts[..2], ["failed to create Valkey index", "failed to connect to valkey"]);
    assert!(!format!("{texts:?} {error:?}").contains("secret"));
    let config = IndexConfig::redis(ServerConfig::redis("127.0.0.1:1"));
    let (_, texts) = open_error(&config).await;
    assert_eq!(texts[..2], ["failed to create Redis index", "failed to connect to redis"]);
}

#[tokio::test]
async fn an_address_that_cannot_be_read_is_refused_without_credentials() {
    for address in ["valkey://user:secret@host:notaport", "VALKEY://user:secret@host"] {
        let (error, texts) = open_error(&IndexConfig::valkey(ServerConfig::valkey(address))).await;
        assert_eq!(texts[1], "failed to parse valkey URL", "{texts:?}");
        assert!(!format!("{texts:?} {error:?}").contains("secret"), "{texts:?}");
    }
}

#[tokio::test]
async fn encrypted_schemes_are_spoken_to_with_tls() {
    for (scheme, name) in [("valkeys", "valkey"), ("rediss", "redis")] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("{scheme}://{}", listener.local_addr().unwrap());
        let config = match name {
            "valkey" => IndexConfig::valkey(ServerConfig::valkey(address)),
            _ => IndexConfig::redis(ServerConfig::redis(address)),
        };
        // A record of TLS begins with its type, and 22 is a handshake.
        let peer = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::io::AsyncReadExt::read_u8(&mut stream).await.unwrap()
        };
        let ((_, texts), first) = tokio::join!(open_error(&config), peer);
        assert_eq!(first, 22);
        assert_eq!(texts[1], format!("failed to connect to {name}"));
    }
}
