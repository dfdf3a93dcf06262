//! What is counted of an index, for Prometheus.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};

/// What is counted and timed of indexes: llm-d's metrics under llm-d's names, and finer ones beside them.
///
/// Each of llm-d's metrics goes by two names, as in its router: the one that it had, and the one that it has now.
///
/// | `kvcache_index_...`, `llm_d_epp_kv_cache_index_...` | |
/// |---|---|
/// | `admissions_total` | the request keys that were added, failed calls included |
/// | `evictions_total` | the entries that were evicted, counted for each key that was named, failed calls included |
/// | `lookup_requests_total` | lookups |
/// | `max_pod_hit_count_total`, `lookup_hits_total` | for each lookup the [longest prefix](crate::Lookup::longest_prefix) that a pod holds |
/// | `lookup_latency_seconds` | how long lookups took, failed ones included; its buckets begin at 5 ms, as llm-d's do |
///
/// | `respire_index_...` | |
/// |---|---|
/// | `call_duration_seconds{call}` | how long calls took, in buckets from 10 µs to 1 s |
/// | `call_errors_total{call}` | how many failed |
/// | `incomplete_lookups_total` | lookups that answered with what they had found when their time was over |
///
/// A call is `lookup`, `add`, `evict`, `request_key` or `clear`.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use prometheus_client::{encoding::text::encode, registry::Registry};
/// use respire_kvblock::{BlockHash, Index, IndexConfig, IndexMetrics, PodEntry, PodSet};
///
/// // Those of every index that is opened with enableMetrics.
/// let mut registry = Registry::default();
/// IndexMetrics::global().register(&mut registry);
///
/// let config: IndexConfig = r#"{ "enableMetrics": true }"#.parse()?;
/// let index = config.open().await?;
/// index.add(None, &[BlockHash(1)], &[PodEntry::new("10.0.0.1:8000", "gpu")]).await?;
/// index.lookup(&[BlockHash(1), BlockHash(2)], &PodSet::all()).await?;
///
/// let mut text = String::new();
/// encode(&mut text, &registry)?;
/// assert!(text.contains("kvcache_index_lookup_hits_total 1\n"));
/// # Ok(()) }
/// ```
///
/// Clones count together.
#[derive(Clone)]
pub struct IndexMetrics {
    admissions: Counter,
    evictions: Counter,
    lookup_requests: Counter,
    max_pod_hit_count: Counter,
    lookup_hits: Counter,
    lookup_latency: Histogram,
    /// The number and the sum, in nanoseconds, of what `lookup_latency` has seen, which cannot be read out of it.
    lookups_timed: Arc<(AtomicU64, AtomicU64)>,
    durations: Family<CallLabel, Histogram, fn() -> Histogram>,
    errors: Family<CallLabel, Counter>,
    incomplete_lookups: Counter,
}

type CallLabel = [(&'static str, &'static str); 1];

/// The default buckets of Go's client library, in seconds.
const GO_BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// In seconds: a lookup in memory takes some ten microseconds, one that waits for a deadline a second.
const FINE_BUCKETS: [f64; 16] =
    [1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1.0];

/// The two names that llm-d has given to each of its metrics.
const PREFIXES: [&str; 2] = ["kvcache_index", "llm_d_epp_kv_cache_index"];

impl IndexMetrics {
    /// Metrics that nothing has been counted in.
    pub fn new() -> Self {
        let fine = || Histogram::new(FINE_BUCKETS);
        Self {
            admissions: Counter::default(),
            evictions: Counter::default(),
            lookup_requests: Counter::default(),
            max_pod_hit_count: Counter::default(),
            lookup_hits: Counter::default(),
            lookup_latency: Histogram::new(GO_BUCKETS),
            lookups_timed: Arc::default(),
            durations: Family::new_with_constructor(fine),
            errors: Family::default(),
            incomplete_lookups: Counter::default(),
        }
    }

    /// Those of this process: what indexes count in that are opened by a configuration with `enableMetrics`.
    pub fn global() -> &'static Self {
        static GLOBAL: OnceLock<IndexMetrics> = OnceLock::new();
        GLOBAL.get_or_init(Self::new)
    }

    /// Adds the metrics to a registry, under llm-d's names as they are if the registry has no prefix. Once for each
    /// registry.
    pub fn register(&self, registry: &mut Registry) {
        for prefix in PREFIXES {
            let counters = [
                ("admissions", "Request keys that were added", &self.admissions),
                ("evictions", "Entries that were evicted", &self.evictions),
                ("lookup_requests", "Lookups", &self.lookup_requests),
                (
                    "max_pod_hit_count",
                    "Blocks of the longest prefix that a pod holds, summed over lookups",
                    &self.max_pod_hit_count,
                ),
                (
                    "lookup_hits",
                    "Blocks that the pod with the longest prefix holds, summed over lookups",
                    &self.lookup_hits,
                ),
            ];
            for (name, help, counter) in counters {
                registry.register(format!("{prefix}_{name}"), help, counter.clone());
            }
            let name = format!("{prefix}_lookup_latency_seconds");
            registry.register(name, "How long lookups took", self.lookup_latency.clone());
        }
        registry.register(
            "respire_index_call_duration_seconds",
            "How long calls took",
            self.durations.clone(),
        );
        registry.register("respire_index_call_errors", "Calls that failed", self.errors.clone());
        registry.register(
            "respire_index_incomplete_lookups",
            "Lookups whose time was over before their answer was complete",
            self.incomplete_lookups.clone(),
        );
    }

    /// What has been counted so far under llm-d's names.
    pub fn snapshot(&self) -> MetricsSnapshot {
        let nanoseconds = self.lookups_timed.1.load(Ordering::Relaxed);
        MetricsSnapshot {
            admissions: self.admissions.get(),
            evictions: self.evictions.get(),
            lookups: self.lookup_requests.get(),
            hits: self.lookup_hits.get(),
            max_pod_hit_count: self.max_pod_hit_count.get(),
            latency_count: self.lookups_timed.0.load(Ordering::Relaxed),
            latency_sum: Duration::from_nanos(nanoseconds),
        }
    }

    pub(crate) fn count_add(&self, request_keys: usize) {
        self.admissions.inc_by(request_keys as u64);
    }

    pub(crate) fn count_evict(&self, keys: usize, entries: usize) {
        self.evictions.inc_by((keys as u64).saturating_mul(entries as u64));
    }

    pub(crate) fn count_lookup(&self, took: Duration) {
        self.lookup_requests.inc();
        self.lookup_latency.observe(took.as_secs_f64());
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.lookups_timed.0.fetch_add(1, Ordering::Relaxed);
        self.lookups_timed.1.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    pub(crate) fn count_found(&self, blocks: usize, is_complete: bool) {
        self.max_pod_hit_count.inc_by(blocks as u64);
        self.lookup_hits.inc_by(blocks as u64);
        if !is_complete {
            self.incomplete_lookups.inc();
        }
    }

    pub(crate) fn count_call(&self, call: &'static str, took: Duration, failed: bool) {
        let label = [("call", call)];
        self.durations.get_or_create(&label).observe(took.as_secs_f64());
        if failed {
            self.errors.get_or_create(&label).inc();
        }
    }
}

impl Default for IndexMetrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for IndexMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("IndexMetrics").field(&self.snapshot()).finish()
    }
}

/// What [`IndexMetrics`] have counted under llm-d's names; what `metricsLoggingInterval` has logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MetricsSnapshot {
    /// Request keys that were added.
    pub admissions: u64,
    /// Entries that were evicted, counted for each key.
    pub evictions: u64,
    /// Lookups.
    pub lookups: u64,
    /// The blocks of the longest prefix of each lookup, summed up.
    pub hits: u64,
    /// The same.
    pub max_pod_hit_count: u64,
    /// How many lookups were timed.
    pub latency_count: u64,
    /// How long they took in sum.
    pub latency_sum: Duration,
}

impl MetricsSnapshot {
    pub(crate) fn log(&self) {
        let latency_sum = self.latency_sum.as_secs_f64();
        let latency_avg =
            if self.latency_count > 0 { latency_sum / self.latency_count as f64 } else { 0.0 };
        tracing::info!(
            admissions = self.admissions,
            evictions = self.evictions,
            lookups = self.lookups,
            hits = self.hits,
            max_pod_hit_count = self.max_pod_hit_count,
            latency_count = self.latency_count,
            latency_sum,
            latency_avg,
            "metrics beat"
        );
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn every_metric_has_llm_ds_two_names_and_its_buckets() {
        let metrics = IndexMetrics::new();
        metrics.count_add(3);
        metrics.count_evict(2, 2);
        metrics.count_lookup(Duration::from_millis(30));
        metrics.count_found(7, false);
        metrics.count_call("lookup", Duration::from_micros(30), true);
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for prefix in PREFIXES {
            for line in [
                "admissions_total 3",
                "evictions_total 4",
                "lookup_requests_total 1",
                "max_pod_hit_count_total 7",
                "lookup_hits_total 7",
                "lookup_latency_seconds_count 1",
                "lookup_latency_seconds_sum 0.03",
                r#"lookup_latency_seconds_bucket{le="0.005"} 0"#,
                r#"lookup_latency_seconds_bucket{le="0.025"} 0"#,
                r#"lookup_latency_seconds_bucket{le="0.05"} 1"#,
                r#"lookup_latency_seconds_bucket{le="10.0"} 1"#,
            ] {
                let line = format!("{prefix}_{line}");
                assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
            }
        }
        for line in [
            r#"respire_index_call_duration_seconds_bucket{le="0.00002",call="lookup"} 0"#,
            r#"respire_index_call_duration_seconds_bucket{le="0.00005",call="lookup"} 1"#,
            r#"respire_index_call_errors_total{call="lookup"} 1"#,
            "respire_index_incomplete_lookups_total 1",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
        }
        let snapshot = metrics.snapshot();
        assert_eq!((snapshot.admissions, snapshot.evictions, snapshot.hits), (3, 4, 7));
        assert_eq!(snapshot.latency_sum, Duration::from_millis(30));
        assert_eq!(snapshot.latency_count, 1);
    }
}
