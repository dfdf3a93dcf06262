//! What the cache has done so far.

use std::sync::{
    Arc, Mutex, Weak,
    atomic::{AtomicU64, Ordering},
};

use super::client::Inner;
use crate::{lock::lock, stats::Stats};

/// What a [`CachedClient`](super::CachedClient) has done since it was made, and what it holds; or, in
/// [`Stats`](crate::Stats), all those of a client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Reads that the cache answered.
    pub hits: u64,
    /// Reads that were sent to the server.
    pub misses: u64,
    /// Reads that waited for the reply to one that was under way already.
    pub joined: u64,
    /// Keys that the server announced to have changed.
    pub invalidations: u64,
    /// How often the server had everything forgotten, as by `FLUSHALL`.
    pub flushes: u64,
    /// How often everything was forgotten because the connection was lost.
    pub losses: u64,
    /// Keys that were dropped to make room.
    pub evictions: u64,
    /// Keys that something is held of.
    pub keys: usize,
    /// Bytes that are held, by the count of [`CacheConfig::with_bytes_max`](super::CacheConfig::with_bytes_max).
    pub bytes: usize,
}

impl CacheStats {
    /// The numbers that only grow.
    pub(crate) fn counters(&mut self) -> [&mut u64; 7] {
        [
            &mut self.hits,
            &mut self.misses,
            &mut self.joined,
            &mut self.invalidations,
            &mut self.flushes,
            &mut self.losses,
            &mut self.evictions,
        ]
    }

    /// Adds what another cache holds.
    pub(crate) fn add_present(&mut self, other: &Self) {
        self.keys += other.keys;
        self.bytes += other.bytes;
    }
}

/// The caches of one client.
#[derive(Default)]
pub(crate) struct Caches {
    live: Mutex<Vec<Weak<Inner>>>,
    /// Of those that are gone.
    gone: Mutex<CacheStats>,
}

impl Caches {
    pub(super) fn add(&self, cache: &Arc<Inner>) {
        let mut live = lock(&self.live);
        live.retain(|cache| cache.strong_count() > 0);
        live.push(Arc::downgrade(cache));
    }

    /// A cache goes, and leaves its numbers.
    pub(super) fn keep(&self, mut stats: CacheStats) {
        let mut gone = lock(&self.gone);
        for (number, more) in gone.counters().into_iter().zip(stats.counters()) {
            *number += *more;
        }
    }

    /// Adds what has happened in the caches and on their connections.
    pub(crate) fn add_stats(&self, stats: &mut Stats) {
        let gone = Stats { cache: *lock(&self.gone), ..Stats::default() };
        stats.add(&gone);
        // No lock is held: the last one to hold a cache may be this.
        let live: Vec<_> = lock(&self.live).iter().filter_map(Weak::upgrade).collect();
        for cache in live {
            stats.add(&Stats { cache: cache.stats(), ..Stats::default() });
            for connection in cache.link.connections() {
                stats.add(&connection.stats());
            }
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    hits: AtomicU64,
    misses: AtomicU64,
    joined: AtomicU64,
    invalidations: AtomicU64,
    flushes: AtomicU64,
    losses: AtomicU64,
    evictions: AtomicU64,
}

impl Counters {
    pub(super) fn hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn miss(&self) {
        self.misses.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn join(&self) {
        self.joined.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn invalidate(&self) {
        self.invalidations.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn flush(&self) {
        self.flushes.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn lose(&self) {
        self.losses.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn evict(&self, keys: u64) {
        self.evictions.fetch_add(keys, Ordering::Relaxed);
    }

    /// How many reads there were, whatever answered them.
    pub(super) fn reads(&self) -> u64 {
        let counters = [&self.hits, &self.misses, &self.joined];
        counters.iter().map(|counter| counter.load(Ordering::Relaxed)).fold(0, u64::wrapping_add)
    }

    pub(super) fn stats(&self, (bytes, keys): (usize, usize)) -> CacheStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CacheStats {
            hits: read(&self.hits),
            misses: read(&self.misses),
            joined: read(&self.joined),
            invalidations: read(&self.invalidations),
            flushes: read(&self.flushes),
            losses: read(&self.losses),
            evictions: read(&self.evictions),
            keys,
            bytes,
        }
    }
}
