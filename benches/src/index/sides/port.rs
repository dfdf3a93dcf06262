//! What llm-d's index sends to a server, sent by redis-rs.
//!
//! The commands, their order and which of them wait for a reply are llm-d's; `tests/port.rs` holds them to that. What is made
//! of the replies is what llm-d makes of them: a list of decoded entries for each key, and scores out of those. JSON is read by
//! sonic-rs and names are borrowed where Rust allows, so that what is compared is the commands and not a language.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, IntoConnectionInfo, Script, cmd, pipe};
use respire_kvblock::{BlockHash, PodEntry};
use serde::{Deserialize, Serialize};

use super::{Asked, Scores};

/// Deletes a request key that has no entries left.
const PRUNE_REQUEST: &str = "if redis.call('HLEN', KEYS[1]) == 0 then \
                             redis.call('DEL', KEYS[1]) return 1 end return 0";

/// Deletes an engine key of whose request keys none has entries left.
const PRUNE_ENGINE: &str = "for i = 2, #KEYS do if redis.call('HLEN', KEYS[i]) > 0 then return 0 \
                            end end redis.call('DEL', KEYS[1]) return 1";

/// What SCAN is asked to look at at once.
const SCAN_COUNT: usize = 1024;

/// An entry as llm-d writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    pod_identifier: String,
    device_tier: String,
    speculative: bool,
    has_group: bool,
    group_idx: i64,
}

impl Entry {
    fn field(entry: &PodEntry) -> Result<Vec<u8>> {
        Ok(sonic_rs::to_vec(&Self {
            pod_identifier: entry.pod_identifier.to_string(),
            device_tier: entry.device_tier.to_string(),
            speculative: entry.speculative,
            has_group: false,
            group_idx: 0,
        })?)
    }
}

/// The port, connected.
#[derive(Debug)]
pub struct Port {
    connection: MultiplexedConnection,
    prune_request: Script,
    prune_engine: Script,
}

impl Port {
    /// Connects.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached.
    pub async fn connect(url: &str) -> Result<Self> {
        let info = url.into_connection_info()?;
        let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let config =
            AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(60)));
        let client = Client::open(info)?;
        let connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        Ok(Self {
            connection,
            prune_request: Script::new(PRUNE_REQUEST),
            prune_engine: Script::new(PRUNE_ENGINE),
        })
    }

    /// All keys in one pipeline; then the entries of each, up to the first key without any.
    async fn lookup(&mut self, keys: &[BlockHash]) -> Result<HashMap<u64, Vec<Entry>>> {
        let mut pipeline = pipe();
        for key in keys {
            pipeline.cmd("HKEYS").arg(key.0);
        }
        let replies: Vec<Vec<Vec<u8>>> = pipeline.query_async(&mut self.connection).await?;
        let mut found = HashMap::with_capacity(keys.len());
        for (key, fields) in keys.iter().zip(&replies) {
            let entries: Vec<Entry> =
                fields.iter().filter_map(|field| sonic_rs::from_slice(field).ok()).collect();
            if entries.is_empty() {
                break;
            }
            found.insert(key.0, entries);
        }
        Ok(found)
    }

    async fn request_keys(&mut self, engine: BlockHash) -> Result<Vec<u64>> {
        let mut range = cmd("ZRANGE");
        range.arg(format!("engine:{engine}")).arg(0).arg(-1);
        Ok(range.query_async(&mut self.connection).await?)
    }
}

/// The sum of a pod's best weights over the blocks that it holds without a gap. llm-d's default weights.
fn score(keys: &[BlockHash], found: &HashMap<u64, Vec<Entry>>) -> HashMap<String, f64> {
    let weight = |tier: &str| if tier == "cpu" { 0.8 } else { 1.0 };
    let best_of = |key: &BlockHash| {
        let mut best: HashMap<&str, f64> = HashMap::new();
        for entry in found.get(&key.0).into_iter().flatten() {
            let best = best.entry(&entry.pod_identifier).or_insert(0.0);
            *best = best.max(weight(&entry.device_tier));
        }
        best
    };
    let Some((first, rest)) = keys.split_first() else { return HashMap::new() };
    let mut scores = best_of(first);
    let mut active: Vec<&str> = scores.keys().copied().collect();
    for key in rest {
        if active.is_empty() {
            break;
        }
        let best = best_of(key);
        active.retain(|pod| {
            let weight = best.get(pod);
            if let (Some(weight), Some(score)) = (weight, scores.get_mut(pod)) {
                *score += weight;
            }
            weight.is_some()
        });
    }
    scores.into_iter().map(|(pod, score)| (pod.to_owned(), score)).collect()
}

#[async_trait]
impl Asked for Port {
    async fn scores(&mut self, keys: &[BlockHash]) -> Result<Scores> {
        let found = self.lookup(keys).await?;
        Ok(Scores::Map(score(keys, &found)))
    }

    /// One pipeline: the mappings, then a command for each block.
    async fn add(
        &mut self,
        engine: &[BlockHash],
        keys: &[BlockHash],
        entry: &PodEntry,
    ) -> Result<()> {
        let field = Entry::field(entry)?;
        let mut pipeline = pipe();
        for (engine, key) in engine.iter().zip(keys) {
            pipeline.cmd("ZADD").arg(format!("engine:{engine}")).arg(0).arg(key.0).ignore();
        }
        for key in keys {
            pipeline.cmd("HSET").arg(key.0).arg(&field).arg("").ignore();
        }
        Ok(pipeline.query_async(&mut self.connection).await?)
    }

    /// Block by block, and four round trips for each.
    async fn evict(&mut self, engine: &[BlockHash], entry: &PodEntry) -> Result<()> {
        let field = Entry::field(entry)?;
        for engine in engine {
            let keys = self.request_keys(*engine).await?;
            for key in &keys {
                let mut remove = pipe();
                remove.cmd("HDEL").arg(*key).arg(&field).ignore();
                let () = remove.query_async(&mut self.connection).await?;
                let _: i64 =
                    self.prune_request.key(*key).invoke_async(&mut self.connection).await?;
            }
            let mut prune = self.prune_engine.key(format!("engine:{engine}"));
            for key in &keys {
                prune.key(*key);
            }
            let _: i64 = prune.invoke_async(&mut self.connection).await?;
        }
        Ok(())
    }

    /// Every key of the database that is not an engine key.
    async fn clear(&mut self, pod: &str) -> Result<()> {
        let mut cursor = 0_u64;
        loop {
            let mut scan = cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg("*").arg("COUNT").arg(SCAN_COUNT);
            let (next, keys): (u64, Vec<String>) = scan.query_async(&mut self.connection).await?;
            for key in keys.iter().filter(|key| !key.starts_with("engine:")) {
                let fields: Vec<Vec<u8>> =
                    cmd("HKEYS").arg(key).query_async(&mut self.connection).await?;
                let mut remove = pipe();
                for field in &fields {
                    let own = sonic_rs::from_slice::<Entry>(field)
                        .is_ok_and(|entry| entry.pod_identifier == pod);
                    if own {
                        remove.cmd("HDEL").arg(key).arg(field).ignore();
                    }
                }
                if !remove.is_empty() {
                    let () = remove.query_async(&mut self.connection).await?;
                    let prune = self.prune_request.key(key);
                    let _: i64 = prune.invoke_async(&mut self.connection).await?;
                }
            }
            cursor = next;
            if cursor == 0 {
                return Ok(());
            }
        }
    }
}
