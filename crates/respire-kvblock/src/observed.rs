//! An index whose calls are counted and traced.

use std::{
    borrow::Cow,
    collections::HashSet,
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use tracing::{Instrument, Span, field::Empty};

use crate::{
    BlockHash, Index, IndexError, IndexMetrics, KeyType, Lookup, PodEntry, PodSet, Resync,
};

/// Another index, of which each lookup, add and evict has a span, and every call is counted if there are
/// [metrics](Self::with_metrics).
///
/// The spans are of `tracing`, at its info level, and have the names and attributes that llm-d's router gives them:
/// `index_lookup`, `index_add`, `index_evict`. Kind and status are in `otel.kind`, `otel.status_code` and
/// `otel.status_description`, where `tracing-opentelemetry` looks for them.
///
/// [`IndexConfig::open`](crate::IndexConfig::open) returns every index in one of these.
pub struct ObservedIndex {
    index: Arc<dyn Index>,
    metrics: Option<IndexMetrics>,
    beat: Option<Beat>,
}

impl ObservedIndex {
    /// The index with spans.
    pub fn new(index: Arc<dyn Index>) -> Self {
        Self { index, metrics: None, beat: None }
    }

    /// The same index, which counts its calls here too.
    #[must_use]
    pub fn with_metrics(mut self, metrics: IndexMetrics) -> Self {
        self.metrics = Some(metrics);
        self
    }

    /// The same index, which logs what its metrics have counted when a call ends and nothing was logged for so long: llm-d's
    /// "metrics beat", as an event of `tracing` at its info level. An index that nobody calls logs nothing. Zero for never.
    #[must_use]
    pub fn with_logging_interval(mut self, interval: Duration) -> Self {
        self.beat = (!interval.is_zero()).then(|| Beat::every(interval));
        self
    }

    /// Runs a call and counts how long it took and whether it failed.
    async fn call<T>(
        &self,
        name: &'static str,
        is_failure: impl FnOnce(&IndexError) -> bool,
        call: impl Future<Output = Result<T, IndexError>>,
    ) -> (Result<T, IndexError>, Duration) {
        let Some(metrics) = &self.metrics else { return (call.await, Duration::ZERO) };
        let start = Instant::now();
        let outcome = call.await;
        let took = start.elapsed();
        metrics.count_call(name, took, outcome.as_ref().is_err_and(is_failure));
        (outcome, took)
    }

    fn log_if_due(&self) {
        if let (Some(metrics), Some(beat)) = (&self.metrics, &self.beat)
            && beat.is_due()
        {
            metrics.snapshot().log();
        }
    }
}

impl fmt::Debug for ObservedIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObservedIndex")
            .field("index", &self.index)
            .field("metrics", &self.metrics)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Index for ObservedIndex {
    async fn lookup(
        &self,
        request_keys: &[BlockHash],
        pods: &PodSet,
    ) -> Result<Lookup, IndexError> {
        let span = tracing::info_span!(
            "index_lookup",
            otel.kind = "internal",
            otel.status_code = Empty,
            otel.status_description = Empty,
            llm_d.kv_cache.index.lookup.block_count = request_keys.len(),
            llm_d.kv_cache.lookup.pod_filter_count = pods.len(),
            llm_d.kv_cache.lookup.cache_hit = Empty,
            llm_d.kv_cache.lookup.blocks_found = Empty,
        );
        let call = self.index.lookup(request_keys, pods).instrument(span.clone());
        let (outcome, took) = self.call("lookup", |_| true, call).await;
        if let Some(metrics) = &self.metrics {
            metrics.count_lookup(took);
        }
        match &outcome {
            Ok(found) if self.metrics.is_some() || !span.is_disabled() => {
                let blocks = found.longest_prefix();
                if let Some(metrics) = &self.metrics {
                    metrics.count_found(blocks, found.is_complete());
                }
                span.record("llm_d.kv_cache.lookup.cache_hit", blocks > 0);
                span.record("llm_d.kv_cache.lookup.blocks_found", blocks);
            }
            Ok(_) => {}
            Err(error) => record_error(&span, error),
        }
        self.log_if_due();
        outcome
    }

    async fn add(
        &self,
        engine_keys: Option<&[BlockHash]>,
        request_keys: &[BlockHash],
        entries: &[PodEntry],
    ) -> Result<(), IndexError> {
        let span = tracing::info_span!(
            "index_add",
            otel.kind = "internal",
            otel.status_code = Empty,
            otel.status_description = Empty,
            llm_d.kv_cache.index.add.engine_key_count = engine_keys.map_or(0, <[_]>::len),
            llm_d.kv_cache.index.add.request_key_count = request_keys.len(),
            llm_d.kv_cache.index.add.pod_entry_count = entries.len(),
            llm_d.kv_cache.index.add.device_tier_count = device_tiers(entries),
        );
        let call = self.index.add(engine_keys, request_keys, entries).instrument(span.clone());
        let (outcome, _) = self.call("add", |_| true, call).await;
        if let Some(metrics) = &self.metrics {
            metrics.count_add(request_keys.len());
        }
        if let Err(error) = &outcome {
            record_error(&span, error);
        }
        self.log_if_due();
        outcome
    }

    async fn evict(
        &self,
        keys: &[BlockHash],
        key_type: KeyType,
        entries: &[PodEntry],
    ) -> Result<(), IndexError> {
        let span = tracing::info_span!(
            "index_evict",
            otel.kind = "internal",
            otel.status_code = Empty,
            otel.status_description = Empty,
            llm_d.kv_cache.index.evict.key_type = match key_type {
                KeyType::Engine => "engine",
                KeyType::Request => "request",
            },
            llm_d.kv_cache.index.evict.pod_entry_count = entries.len(),
            llm_d.kv_cache.index.evict.device_tier_count = device_tiers(entries),
        );
        let call = self.index.evict(keys, key_type, entries).instrument(span.clone());
        let (outcome, _) = self.call("evict", |_| true, call).await;
        if let Some(metrics) = &self.metrics {
            metrics.count_evict(keys.len(), entries.len());
        }
        if let Err(error) = &outcome {
            record_error(&span, error);
        }
        self.log_if_due();
        outcome
    }

    async fn request_key(&self, engine_key: BlockHash) -> Result<BlockHash, IndexError> {
        // A key that is not mapped is an answer.
        let is_failure = |error: &IndexError| !error.is_not_found();
        let call = self.index.request_key(engine_key);
        self.call("request_key", is_failure, call).await.0
    }

    fn remembered_request_key(&self, engine_key: BlockHash) -> Option<BlockHash> {
        self.index.remembered_request_key(engine_key)
    }

    async fn clear(&self, pod_identifier: &str) -> Result<(), IndexError> {
        let (outcome, _) = self.call("clear", |_| true, self.index.clear(pod_identifier)).await;
        self.log_if_due();
        outcome
    }

    async fn resyncs(&self) -> Result<Vec<Resync>, IndexError> {
        self.index.resyncs().await
    }

    fn detects_loss(&self) -> bool {
        self.index.detects_loss()
    }

    async fn renew(&self, pods: &[&str]) -> Result<usize, IndexError> {
        self.index.renew(pods).await
    }

    async fn leave(&self) -> Result<(), IndexError> {
        self.index.leave().await
    }

    fn describe(&self) -> Cow<'_, str> {
        self.index.describe()
    }
}

fn record_error(span: &Span, error: &IndexError) {
    span.record("otel.status_code", "ERROR");
    span.record("otel.status_description", tracing::field::display(error));
}

/// How many tiers there are, but for the one without a name.
fn device_tiers(entries: &[PodEntry]) -> usize {
    match entries {
        [] => 0,
        [entry] => usize::from(!entry.device_tier.is_empty()),
        entries => {
            let tiers = entries.iter().map(|entry| entry.device_tier.as_str());
            tiers.filter(|tier| !tier.is_empty()).collect::<HashSet<_>>().len()
        }
    }
}

/// Something that is due again and again.
struct Beat {
    interval: Duration,
    start: Instant,
    /// The last time that it was done, in nanoseconds after the start.
    last: AtomicU64,
}

impl Beat {
    fn every(interval: Duration) -> Self {
        Self { interval, start: Instant::now(), last: AtomicU64::new(0) }
    }

    /// Whether an interval has passed; `true` for one caller an interval.
    fn is_due(&self) -> bool {
        let now = nanoseconds(self.start.elapsed());
        let last = self.last.load(Ordering::Relaxed);
        now.saturating_sub(last) >= nanoseconds(self.interval)
            && self.last.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
