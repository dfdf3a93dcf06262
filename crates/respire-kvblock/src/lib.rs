//! The KV-block index: which pods hold the longest cached prefix of a prompt?
//!
//! An inference engine keeps the keys and values of the tokens that it has seen in blocks. A router that knows which pod
//! holds which blocks sends a request to where most of its prompt is computed already. This crate is what it asks: an
//! [`Index`] of blocks by their hashes, and a [scorer](LongestPrefixScorer) for its answers.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use respire_kvblock::{BlockHash, Index, IndexerConfig, KeyType, PodEntry, PodSet};
//!
//! // llm-d's configuration as it is. On a server: {"kvBlockIndexConfig": {"valkeyConfig": {"address": "valkey://127.0.0.1:6379"}}}.
//! let config: IndexerConfig = r#"{"kvBlockIndexConfig": {"inMemoryConfig": {"size": 100000}}}"#.parse()?;
//! let index = config.index.open().await?;
//!
//! // A pod has stored three blocks: their hashes as its engine names them, and as we compute them from the tokens.
//! let engine_keys = [901, 902, 903].map(BlockHash);
//! let request_keys = [11, 12, 13].map(BlockHash);
//! let pod = PodEntry::new("10.0.0.1:8000", "gpu");
//! index.add(Some(&engine_keys), &request_keys, std::slice::from_ref(&pod)).await?;
//!
//! // It drops the last one again.
//! index.evict(&engine_keys[2..], KeyType::Engine, &[pod]).await?;
//!
//! // A prompt of which the first three blocks are these.
//! let prompt = [11, 12, 13, 14].map(BlockHash);
//! let found = index.lookup(&prompt, &PodSet::all()).await?;
//! assert_eq!(found.prefix_lengths()["10.0.0.1:8000"], 2);
//! assert_eq!(config.scorer().score(&prompt, &found)["10.0.0.1:8000"], 2.0);
//! # Ok(()) }
//! ```
//!
//! # Backends
//!
//! - [`InMemoryIndex`]: in this process, bounded by numbers of keys or by a budget of bytes. The default.
//! - [`ServerIndex`]: on a Valkey or Redis server, in the layout of llm-d's index, so that both can share a database.
//! - [`BitmapIndex`]: on a server, in a layout of its own: a bit for each holder of a block.
//!
//! [`IndexConfig`] chooses one of them as llm-d's configuration does. All behave alike, as [`Index`] says.
//!
//! # What it is not
//!
//! It has no opinion on where to send a request beyond the scores, and no tokenizer: a prompt comes as tokens, of which a
//! [`TokenProcessor`] makes the keys of its blocks. It finds no pods: whoever knows them says where to listen for the [`events`]
//! by which engines announce what they store and drop.
//!
//! # Features
//!
//! - `zmq`: the sockets on which engines publish their events, connected to or bound; on Unix. It needs Rust 1.89.

mod bitmap;
mod block;
mod config;
mod entry;
mod error;
pub mod events;
mod index;
mod indexer;
mod keys;
mod lookup;
mod mapping;
mod memory;
mod metrics;
mod observed;
mod resync;
mod score;
mod server;

pub use bitmap::{BitmapIndex, BitmapOptions, PodPrefix, Sweep};
pub use block::{BlockHash, ParseBlockHashError};
pub use config::{
    BackendType, ConfigError, CostAwareConfig, EventsConfig, IndexConfig, IndexerConfig, Layout,
    PodDiscoveryConfig, Rdma, ServerConfig, TierWeight,
};
pub use entry::PodEntry;
pub use error::IndexError;
pub use index::{Index, KeyType, PodSet};
pub use indexer::Indexer;
pub use keys::{
    BlockExtra, ExtraCountError, HashAlgorithm, MediaItem, RawExtraKey, TokenProcessor,
    TokenProcessorConfig, UnknownHashAlgorithm,
};
pub use lookup::{Entries, Lookup};
pub use memory::{InMemoryConfig, InMemoryIndex};
pub use metrics::{IndexMetrics, MetricsSnapshot};
pub use observed::ObservedIndex;
/// The crate whose registry [`IndexMetrics`] are registered in.
pub use prometheus_client;
pub use resync::{Resync, ResyncReason};
pub use score::LongestPrefixScorer;
pub use server::{
    ClearBy, FieldFormat, Finding, NearCacheConfig, ServerIndex, ServerReport, ServerStats,
    Severity, check_server,
};
