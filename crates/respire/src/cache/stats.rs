//! What the cache has done so far.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a [`CachedClient`](super::CachedClient) has done since it was made, and what it holds.
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
