//! What a pool counts, for Prometheus, under llm-d's names.

#[cfg(all(feature = "zmq", unix))]
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};
use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::{ConstGauge, Gauge},
    },
    registry::Registry,
};
use tokio::sync::mpsc::WeakSender;

use super::pool::{Queued, Shared};

const PREFIX: &str = "llm_d_epp_kv_cache_events";

/// vLLM's kinds of groups. Others are `other`: what a peer writes does not make series without end.
const KINDS: [&str; 9] = [
    "full_attention",
    "mla_attention",
    "sink_full_attention",
    "sliding_window",
    "sliding_window_mla",
    "chunked_local_attention",
    "cross_attention",
    "encoder_only_attention",
    "mamba",
];

type SkipLabels = [(&'static str, &'static str); 2];
type PodLabels = [(&'static str, String); 1];
type ErrorLabels = [(&'static str, String); 2];

/// Operations that can go wrong at a socket, as llm-d calls them.
#[cfg(all(feature = "zmq", unix))]
const OPERATIONS: [&str; 4] = ["connect", "recv", "replay-connect", "replay-recv"];

/// What is counted by labels. Clones count together.
#[derive(Clone, Debug, Default)]
pub(super) struct Labelled {
    stores_skipped: Family<SkipLabels, Counter>,
    removals_skipped: Family<SkipLabels, Counter>,
    active_subscribers: Gauge,
    reconnections: Family<PodLabels, Counter>,
    messages_received: Family<PodLabels, Counter>,
    zmq_errors: Family<ErrorLabels, Counter>,
    /// How many subscribers count under each `pod_identifier`.
    #[cfg(all(feature = "zmq", unix))]
    subscribers: Arc<Mutex<HashMap<String, usize>>>,
}

impl Labelled {
    pub(super) fn skip_store(&self, kind: Option<&str>, reason: &'static str) {
        self.stores_skipped.get_or_create(&skip_labels(kind, reason)).inc();
    }

    pub(super) fn skip_removal(&self, reason: &'static str) {
        self.removals_skipped.get_or_create(&skip_labels(None, reason)).inc();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let name = |name: &str| format!("{PREFIX}_{name}");
        let skipped = [
            ("stores_skipped", "Stored events that were passed over", &self.stores_skipped),
            ("removals_skipped", "Removed events that were passed over", &self.removals_skipped),
        ];
        for (own, help, family) in skipped {
            registry.register(name(own), help, family.clone());
        }
        let help = "Subscribers and listeners that run now";
        registry.register(name("active_subscribers"), help, self.active_subscribers.clone());
        let of_pods = [
            ("subscriber_reconnections", "Connections that were made anew", &self.reconnections),
            ("messages_received", "Messages from sockets", &self.messages_received),
        ];
        for (own, help, family) in of_pods {
            registry.register(name(own), help, family.clone());
        }
        registry.register(name("zmq_errors"), "What went wrong", self.zmq_errors.clone());
    }
}

#[cfg(all(feature = "zmq", unix))]
impl Labelled {
    fn subscribers(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        // Nothing under the lock can panic half-way through a change.
        self.subscribers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn skip_labels(kind: Option<&str>, reason: &'static str) -> SkipLabels {
    let kind = match kind.filter(|kind| !kind.is_empty()) {
        None => "unknown",
        Some(kind) => KINDS.into_iter().find(|known| *known == kind).unwrap_or("other"),
    };
    [("cache_kind", kind), ("reason", reason)]
}

/// What one subscriber counts. Several may count under one name, as those of a pod's ranks do: the metrics go with the last of them.
#[cfg(all(feature = "zmq", unix))]
#[derive(Debug)]
pub(super) struct SubscriberMetrics {
    labelled: Labelled,
    pod: String,
}

#[cfg(all(feature = "zmq", unix))]
impl SubscriberMetrics {
    pub(super) fn new(labelled: &Labelled, pod: &str) -> Self {
        labelled.active_subscribers.inc();
        *labelled.subscribers().entry(pod.to_owned()).or_default() += 1;
        Self { labelled: labelled.clone(), pod: pod.to_owned() }
    }

    pub(super) fn message(&self) {
        self.labelled.messages_received.get_or_create(&self.labels()).inc();
    }

    pub(super) fn reconnection(&self) {
        self.labelled.reconnections.get_or_create(&self.labels()).inc();
    }

    fn labels(&self) -> PodLabels {
        [("pod_identifier", self.pod.clone())]
    }

    /// One of [`OPERATIONS`] went wrong.
    pub(super) fn error(&self, operation: &'static str) {
        self.labelled.zmq_errors.get_or_create(&self.error_labels(operation)).inc();
    }

    fn error_labels(&self, operation: &str) -> ErrorLabels {
        [("pod_identifier", self.pod.clone()), ("operation", operation.to_owned())]
    }
}

#[cfg(all(feature = "zmq", unix))]
impl Drop for SubscriberMetrics {
    fn drop(&mut self) {
        self.labelled.active_subscribers.dec();
        // Held until they are gone, so that one that comes meanwhile does not lose what it counts.
        let mut subscribers = self.labelled.subscribers();
        if let Some(others) = subscribers.get_mut(&self.pod)
            && *others > 1
        {
            *others -= 1;
            return;
        }
        subscribers.remove(&self.pod);
        let labels = self.labels();
        self.labelled.messages_received.remove(&labels);
        self.labelled.reconnections.remove(&labels);
        for operation in OPERATIONS {
            self.labelled.zmq_errors.remove(&self.error_labels(operation));
        }
    }
}

/// What is read off a pool when it is asked for.
pub(super) struct PoolCollector {
    pub(super) shared: Arc<Shared>,
    /// They do not keep the workers from ending.
    pub(super) queues: Vec<WeakSender<Queued>>,
}

impl PoolCollector {
    fn queue_depth(&self) -> usize {
        let queues = self.queues.iter().filter_map(WeakSender::upgrade);
        queues.map(|queue| queue.max_capacity() - queue.capacity()).sum()
    }
}

impl fmt::Debug for PoolCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolCollector").field("queues", &self.queues.len()).finish_non_exhaustive()
    }
}

impl Collector for PoolCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let stats = self.shared.counters.snapshot();
        let of_llm_d = [
            (
                "dedup_removed_hashes_suppressed",
                "Dropped blocks that another announcement still holds.",
                stats.removals_suppressed,
            ),
            (
                "dedup_removed_hashes_forwarded",
                "Dropped blocks that were handed to the index.",
                stats.removals_forwarded,
            ),
        ];
        for (name, help, value) in of_llm_d {
            encode(&mut encoder, &format!("{PREFIX}_{name}"), help, &ConstCounter::new(value))?;
        }
        for (name, help, value) in stats.each() {
            let name = format!("respire_events_{name}");
            encode(&mut encoder, &name, help, &ConstCounter::new(value))?;
        }
        let gauges = [
            ("pool_queue_depth", "Messages that wait for a worker.", self.queue_depth()),
            ("pool_capacity", "Workers.", self.queues.len()),
        ];
        for (name, help, value) in gauges {
            let value = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            encode(&mut encoder, &format!("{PREFIX}_{name}"), help, &value)?;
        }
        Ok(())
    }
}

fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    metric: &impl EncodeMetric,
) -> Result<(), fmt::Error> {
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}
