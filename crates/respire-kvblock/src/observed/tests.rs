use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{Mutex, atomic::AtomicUsize},
};

use tracing::{
    Event, Id, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Record},
};

use super::*;
use crate::{
    InMemoryConfig, InMemoryIndex, Indexer, LongestPrefixScorer, TokenProcessor,
    TokenProcessorConfig,
};

/// The name of a span and its fields.
type Noted = (&'static str, BTreeMap<&'static str, String>);

/// What spans were called and given, in the order in which spans began; events count as spans.
#[derive(Clone, Default)]
struct Notes {
    spans: Arc<Mutex<Vec<Noted>>>,
    ids: Arc<AtomicUsize>,
}

struct Fields<'a>(&'a mut BTreeMap<&'static str, String>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

impl Subscriber for Notes {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("respire_kvblock")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut fields = BTreeMap::new();
        span.record(&mut Fields(&mut fields));
        self.spans.lock().unwrap().push((span.metadata().name(), fields));
        Id::from_u64(self.ids.fetch_add(1, Ordering::Relaxed) as u64 + 1)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let mut spans = self.spans.lock().unwrap();
        values.record(&mut Fields(&mut spans[span.into_u64() as usize - 1].1));
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = BTreeMap::new();
        event.record(&mut Fields(&mut fields));
        self.spans.lock().unwrap().push(("event", fields));
        self.ids.fetch_add(1, Ordering::Relaxed);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

impl Notes {
    /// The spans without what says nothing, and what they were given.
    fn take(&self) -> Vec<Noted> {
        let mut spans = self.spans.lock().unwrap().clone();
        for (_, fields) in &mut spans {
            fields.retain(|name, _| *name != "otel.kind");
        }
        spans
    }
}

fn fields<const N: usize>(expected: [(&'static str, &str); N]) -> BTreeMap<&'static str, String> {
    expected.map(|(name, value)| (name, value.to_owned())).into()
}

fn hashes(numbers: impl IntoIterator<Item = u64>) -> Vec<BlockHash> {
    numbers.into_iter().map(BlockHash).collect()
}

fn memory() -> Arc<dyn Index> {
    Arc::new(InMemoryIndex::new(InMemoryConfig::default()).unwrap())
}

fn gpu(pod: &str) -> PodEntry {
    PodEntry::new(pod, "gpu")
}

#[tokio::test]
async fn calls_have_llm_ds_spans_with_its_attributes() {
    let notes = Notes::default();
    let _default = tracing::subscriber::set_default(notes.clone());
    let index = ObservedIndex::new(memory());
    let entries = [gpu("a"), PodEntry::new("a", "cpu"), PodEntry::new("b", ""), gpu("b")];
    index.add(Some(&hashes([7])), &hashes([1, 2]), &entries).await.unwrap();
    let pods: PodSet = ["a"].into_iter().collect();
    index.lookup(&hashes([1, 2, 3]), &pods).await.unwrap();
    index.lookup(&hashes([3]), &PodSet::all()).await.unwrap();
    index.evict(&hashes([7]), KeyType::Engine, &entries[..1]).await.unwrap();
    index.evict(&hashes([1]), KeyType::Request, &entries[2..3]).await.unwrap();
    // These have none.
    index.request_key(BlockHash(7)).await.unwrap();
    index.clear("a").await.unwrap();
    let lookup = |blocks, pods, hit, found| {
        let fields = fields([
            ("llm_d.kv_cache.index.lookup.block_count", blocks),
            ("llm_d.kv_cache.lookup.pod_filter_count", pods),
            ("llm_d.kv_cache.lookup.cache_hit", hit),
            ("llm_d.kv_cache.lookup.blocks_found", found),
        ]);
        ("index_lookup", fields)
    };
    let evict = |kind, tiers| {
        let fields = fields([
            ("llm_d.kv_cache.index.evict.key_type", kind),
            ("llm_d.kv_cache.index.evict.pod_entry_count", "1"),
            ("llm_d.kv_cache.index.evict.device_tier_count", tiers),
        ]);
        ("index_evict", fields)
    };
    let expected = [
        (
            "index_add",
            fields([
                ("llm_d.kv_cache.index.add.engine_key_count", "1"),
                ("llm_d.kv_cache.index.add.request_key_count", "2"),
                ("llm_d.kv_cache.index.add.pod_entry_count", "4"),
                ("llm_d.kv_cache.index.add.device_tier_count", "2"),
            ]),
        ),
        lookup("3", "1", "true", "2"),
        lookup("1", "0", "false", "0"),
        evict("\"engine\"", "1"),
        evict("\"request\"", "0"),
    ];
    assert_eq!(notes.take(), expected);
}

#[tokio::test]
async fn a_failed_call_leaves_its_error_in_the_span() {
    let notes = Notes::default();
    let _default = tracing::subscriber::set_default(notes.clone());
    let index = ObservedIndex::new(memory());
    assert!(index.add(None, &[], &[gpu("a")]).await.is_err());
    assert!(index.evict(&[], KeyType::Request, &[gpu("a")]).await.is_err());
    for ((_, fields), says) in notes.take().iter().zip(["adding to index", "eviction from index"]) {
        assert_eq!(fields["otel.status_code"], "\"ERROR\"");
        assert!(fields["otel.status_description"].ends_with(says), "{fields:?}");
    }
    assert_eq!(notes.take().len(), 2);
}

#[tokio::test]
async fn scoring_has_spans_of_its_own() {
    let notes = Notes::default();
    let _default = tracing::subscriber::set_default(notes.clone());
    let config = TokenProcessorConfig { block_size_tokens: 2, ..TokenProcessorConfig::default() };
    let processor = TokenProcessor::new(&config).unwrap();
    let keys = processor.block_keys(BlockHash::EMPTY, &[1, 2, 3, 4], "model");
    let index = memory();
    index.add(None, &keys[..1], &[gpu("a"), PodEntry::new("b", "cpu")]).await.unwrap();
    let indexer = Indexer::new(index, processor, LongestPrefixScorer::new([("cpu", 0.5)]));
    let scores = indexer.score_tokens(&[1, 2, 3, 4, 5], "model", &PodSet::all()).await.unwrap();
    assert_eq!((scores.len(), scores["b"]), (2, 0.5));
    let expected = [
        (
            "score_tokens",
            fields([
                ("gen_ai.request.model", "\"model\""),
                ("llm_d.kv_cache.pod_count", "0"),
                ("llm_d.kv_cache.token_count", "5"),
                ("llm_d.kv_cache.block_keys.count", "2"),
                ("llm_d.kv_cache.block_hit_ratio", "0.5"),
                ("llm_d.kv_cache.blocks_found", "1"),
            ]),
        ),
        (
            "compute_scores",
            fields([
                ("llm_d.kv_cache.scorer.algorithm", "\"LongestPrefix\""),
                ("llm_d.kv_cache.scorer.key_count", "2"),
                ("llm_d.kv_cache.scorer.pods_scored", "2"),
                ("llm_d.kv_cache.score.max", "1.0"),
                ("llm_d.kv_cache.score.avg", "0.75"),
            ]),
        ),
    ];
    assert_eq!(notes.take(), expected);
}

#[tokio::test]
async fn calls_are_counted_as_llm_d_counts_them() {
    let metrics = IndexMetrics::new();
    let index = ObservedIndex::new(memory()).with_metrics(metrics.clone());
    let keys = hashes([1, 2, 3]);
    index.add(Some(&keys), &keys, &[gpu("a"), gpu("b")]).await.unwrap();
    assert!(index.add(None, &keys, &[]).await.is_err());
    index.evict(&keys[1..], KeyType::Engine, &[gpu("a"), gpu("c")]).await.unwrap();
    index.evict(&keys[1..2], KeyType::Request, &[gpu("b")]).await.unwrap();
    // a and b hold 1, b holds 3 behind a gap.
    index.lookup(&keys, &PodSet::all()).await.unwrap();
    index.lookup(&[], &PodSet::all()).await.unwrap();
    let counted = metrics.snapshot();
    assert_eq!((counted.admissions, counted.evictions), (6, 5));
    assert_eq!((counted.lookups, counted.latency_count), (2, 2));
    assert_eq!((counted.hits, counted.max_pod_hit_count), (1, 1));
    assert!(counted.latency_sum > Duration::ZERO);
}

/// llm-d's cases of what a hit is: blocks from the first one on that one and the same pod holds.
#[tokio::test]
async fn hits_are_the_longest_chain_of_any_pod_from_the_first_block_on() {
    for (holders, hits) in [
        (&[][..], 0),
        (&[&["a"][..]], 1),
        (&[&["a"], &["a"], &["a"]], 3),
        (&[&["a"], &["b"], &["a"]], 1),
        (&[&["a", "b"], &["b"], &["b", "a"]], 3),
        (&[&["a"], &[], &["a"]], 1),
        (&[&[], &["a"], &["a"]], 0),
    ] {
        let metrics = IndexMetrics::new();
        let index = ObservedIndex::new(memory()).with_metrics(metrics.clone());
        for (key, pods) in (1..).zip(holders) {
            let entries: Vec<PodEntry> = pods.iter().map(|pod| gpu(pod)).collect();
            if !entries.is_empty() {
                index.add(None, &hashes([key]), &entries).await.unwrap();
            }
        }
        index.lookup(&hashes([1, 2, 3]), &PodSet::all()).await.unwrap();
        assert_eq!(metrics.snapshot().hits, hits, "{holders:?}");
    }
}

#[tokio::test]
async fn errors_are_counted_by_call_and_an_unknown_engine_key_is_none() {
    let metrics = IndexMetrics::new();
    let index = ObservedIndex::new(memory()).with_metrics(metrics.clone());
    assert!(index.add(None, &[], &[]).await.is_err());
    assert!(index.request_key(BlockHash(1)).await.is_err());
    index.clear("a").await.unwrap();
    let mut registry = prometheus_client::registry::Registry::default();
    metrics.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let errors: Vec<&str> =
        text.lines().filter(|line| line.starts_with("respire_index_call_errors_total")).collect();
    assert_eq!(errors, [r#"respire_index_call_errors_total{call="add"} 1"#]);
    for call in ["add", "request_key", "clear"] {
        let line = format!("respire_index_call_duration_seconds_count{{call=\"{call}\"}} 1");
        assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn a_beat_is_logged_when_it_is_due_and_somebody_calls() {
    let notes = Notes::default();
    let _default = tracing::subscriber::set_default(notes.clone());
    let beats = || {
        let spans = notes.take().into_iter();
        spans.filter(|(name, _)| *name == "event").map(|(_, fields)| fields).collect::<Vec<_>>()
    };
    let observed = || ObservedIndex::new(memory()).with_metrics(IndexMetrics::new());
    let seldom = observed().with_logging_interval(Duration::from_secs(3600));
    let never = observed().with_logging_interval(Duration::ZERO);
    for index in [&seldom, &never] {
        index.add(None, &hashes([1]), &[gpu("a")]).await.unwrap();
    }
    assert!(beats().is_empty());

    let often = observed().with_logging_interval(Duration::from_nanos(1));
    often.add(None, &hashes([1, 2]), &[gpu("a")]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    often.lookup(&hashes([1]), &PodSet::all()).await.unwrap();
    let beats = beats();
    assert!(!beats.is_empty());
    let last = beats.last().unwrap();
    assert_eq!(last["message"], "metrics beat");
    for (name, value) in [("admissions", "2"), ("lookups", "1"), ("hits", "1")] {
        assert_eq!(last[name], value);
    }
    assert_eq!(last["latency_count"], "1");
}
