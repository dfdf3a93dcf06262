//! A near cache of the first blocks of prompts, which many prompts share.

use std::{
    num::NonZeroUsize,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use lru::LruCache;
use respire::{
    Client, Command, Error, Reply,
    cache::{CacheConfig, CacheStats, CachedClient},
};

use super::keys::Names;
use crate::BlockHash;

/// How many keys are remembered as having been looked up, in about 6 MiB: what a router asks for in some seconds.
const SEEN_MAX: NonZeroUsize = NonZeroUsize::new(65_536).unwrap();

/// How many keys behind the last hot one are marked as seen: a prompt's own blocks are not worth it.
const SEEN_AHEAD: usize = 64;

/// How a [`ServerIndex`](super::ServerIndex) keeps what it reads often.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NearCacheConfig {
    /// The most bytes that are held. A block with ten holders takes about 1,500.
    pub bytes_max: usize,
    /// How many blocks from the start of a prompt may come from the cache.
    pub prefix_max: usize,
    /// How old an answer may be when nothing is heard from the server. While it is heard, changes are known within
    /// fractions of a millisecond.
    pub staleness_max: Duration,
}

/// 64 MiB, 512 blocks, 100 ms.
impl Default for NearCacheConfig {
    fn default() -> Self {
        Self { bytes_max: 64 << 20, prefix_max: 512, staleness_max: Duration::from_millis(100) }
    }
}

/// What is read often, for as long as the server vouches for it.
#[derive(Debug)]
pub(super) struct NearCache {
    client: CachedClient,
    config: NearCacheConfig,
    /// The keys that were looked up lately.
    seen: Mutex<LruCache<BlockHash, ()>>,
}

/// The replies for the first keys of a prompt, and why there are no more of them.
pub(super) struct NearReplies {
    pub(super) replies: Vec<Reply>,
    pub(super) failed: Option<Error>,
}

impl NearCache {
    pub(super) async fn open(client: &Client, config: NearCacheConfig) -> Result<Self, Error> {
        let of_client = CacheConfig::new()
            .with_bytes_max(config.bytes_max)
            .with_staleness_max(config.staleness_max)
            // The keys of an index do not expire.
            .with_expiry_followed(false);
        let client = client.cached(of_client).await?;
        Ok(Self { client, config, seen: Mutex::new(LruCache::sparse(SEEN_MAX)) })
    }

    /// The client through which writes go, so that the cache forgets what they change before they are answered.
    pub(super) fn client(&self) -> &CachedClient {
        &self.client
    }

    pub(super) fn stats(&self) -> CacheStats {
        self.client.stats()
    }

    /// How old what comes from the cache can be.
    pub(super) fn staleness_max(&self) -> Duration {
        self.config.staleness_max
    }

    /// How many of these keys, from the first one on, have been looked up before. Takes note of them.
    ///
    /// Most blocks of most prompts are never asked for again. Each would push a block out that is, and cost a request of its
    /// own instead of its place in a pipeline.
    pub(super) fn hot_run(&self, request_keys: &[BlockHash]) -> usize {
        // Nothing under this lock panics half-way.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut hot = 0;
        let mut is_run = true;
        for (at, &key) in request_keys.iter().take(self.config.prefix_max).enumerate() {
            let again = seen.put(key, ()).is_some();
            is_run &= again;
            if is_run {
                hot = at + 1;
            } else if at >= hot + SEEN_AHEAD {
                break;
            }
        }
        hot
    }

    /// The fields of these keys, from the cache where they are there, all others at once from the server.
    pub(super) async fn read(
        &self,
        names: &Names,
        request_keys: &[BlockHash],
        timeout: Option<Duration>,
    ) -> NearReplies {
        let client = self.client.with(|client| client.with_command_timeout(timeout));
        let reads = request_keys
            .iter()
            .map(|&key| client.execute(Command::new("HKEYS").arg(names.request(key).as_ref())));
        let mut replies = Vec::with_capacity(request_keys.len());
        for outcome in join_all(reads).await {
            match outcome {
                Ok(reply) => replies.push(reply),
                Err(error) => return NearReplies { replies, failed: Some(error) },
            }
        }
        NearReplies { replies, failed: None }
    }
}
