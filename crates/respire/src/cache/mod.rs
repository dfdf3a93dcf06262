//! Reads that are answered from memory, for as long as the server vouches for them.
//!
//! [`Client::cached`] opens a connection on which the server announces what changes (`CLIENT TRACKING`), and keeps the
//! replies to reads until then:
//!
//! ```no_run
//! use respire::{Client, Command, cache::CacheConfig};
//!
//! # async fn example() -> Result<(), respire::Error> {
//! let client = Client::connect("valkey://localhost").await?;
//! let cached = client.cached(CacheConfig::new()).await?;
//! for _ in 0..1000 {
//!     // One of them goes to the server.
//!     let name: Option<String> = cached.query(Command::new("HGET").arg("user:7").arg("name")).await?;
//!     # let _ = name;
//! }
//! println!("{:?}", cached.stats());
//! # Ok(())
//! # }
//! ```
//!
//! # What is cached
//!
//! Replies to commands that read one key and depend on nothing else: `GET`, `HGET`, `HGETALL`, `ZRANGE`, `LRANGE` and
//! so on, the absence of a key included; errors are not. `MGET` is answered key by key, so its values need not be of one
//! moment. Everything else goes through the client as ever: commands of several keys, of chance or of time (`TTL`),
//! scripts, pipelines. Tasks that read the same at the same time share one request.
//!
//! Replies are held as they were received. A server counts a hash field's own time to live as no change: such fields can be
//! served until [`CacheConfig::with_ttl_max`].
//!
//! # What can be relied on
//!
//! - After a write through this client has been answered, reads through it see that write or a later one.
//! - A change by others is seen when the server's announcement has arrived, which is usually a fraction of a millisecond
//!   after the change. An announcement wins over a read under way, however the two meet.
//! - A value is never served when the last sign that announcements arrive is older than
//!   [`CacheConfig::with_staleness_max`], one second by default. Whatever becomes of the network, no value is served
//!   that was changed longer ago than that. In broadcast mode the server sends announcements once in each turn of its
//!   event loop, and that much later.
//! - When the connection is lost, everything is forgotten. Reads go on through the client, uncached, until there is
//!   another.
//! - A value is not served beyond its key's time to live, nor beyond [`CacheConfig::with_ttl_max`].
//!
//! It needs RESP3: with a server that does not speak it, [`Client::cached`] is an error.

use crate::{client::Client, error::Error};

/// What `epoch` synchronises by. The models in `loom` have others in its place.
mod atomic {
    pub(super) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
}
mod client;
mod config;
mod epoch;
mod keeper;
mod rules;
mod stats;
mod store;

pub use client::CachedClient;
pub use config::CacheConfig;
pub use stats::CacheStats;
pub(crate) use stats::Caches;

pub(crate) use config::Tracking;

impl Client {
    /// A client that answers reads from memory while the server vouches for it; see [`cache`](self). It has a cache and
    /// a connection of its own, and uses this client for all that is not cached.
    ///
    /// # Errors
    ///
    /// The connection cannot be established, or the server does not announce changes: it does not speak RESP3, refuses
    /// `CLIENT TRACKING`, or does not accept the prefixes.
    pub async fn cached(&self, config: CacheConfig) -> Result<CachedClient, Error> {
        CachedClient::connect(self, config).await
    }
}
