use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Waker},
};

use async_trait::async_trait;
use proptest::{collection::vec, prelude::*};

use super::{
    super::testing::{
        Tree::{self, Int, List, Nil},
        ints, message, t,
    },
    *,
};
use crate::{
    BlockExtra, BlockHash, ConfigError, InMemoryConfig, InMemoryIndex, IndexError, KeyType, Lookup,
    PodEntry, PodSet, TokenProcessorConfig,
};

const MODEL: &str = "model";

/// An index in memory that counts questions, fails on demand, and can be held up.
struct Probe {
    inner: InMemoryIndex,
    questions: AtomicUsize,
    writes: AtomicUsize,
    /// How many calls are still to fail.
    failures: AtomicUsize,
    /// A permit for each call that may go on, once `is_held`.
    gate: Semaphore,
    is_held: bool,
}

impl Probe {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: InMemoryIndex::new(InMemoryConfig::default()).unwrap(),
            questions: AtomicUsize::new(0),
            writes: AtomicUsize::new(0),
            failures: AtomicUsize::new(0),
            gate: Semaphore::new(0),
            is_held: false,
        })
    }

    fn held() -> Arc<Self> {
        let mut probe = Self::new();
        Arc::get_mut(&mut probe).unwrap().is_held = true;
        probe
    }

    async fn pass(&self) -> Result<(), IndexError> {
        if self.is_held {
            self.gate.acquire().await.unwrap().forget();
        }
        let fails = |left: usize| left.checked_sub(1);
        match self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fails) {
            Ok(_) => Err(ConfigError::invalid("test", "fails as it was told".to_owned()).into()),
            Err(_) => Ok(()),
        }
    }
}

#[async_trait]
impl Index for Probe {
    async fn lookup(&self, keys: &[BlockHash], pods: &PodSet) -> Result<Lookup, IndexError> {
        self.inner.lookup(keys, pods).await
    }

    async fn add(
        &self,
        engine_keys: Option<&[BlockHash]>,
        request_keys: &[BlockHash],
        entries: &[PodEntry],
    ) -> Result<(), IndexError> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        self.pass().await?;
        self.inner.add(engine_keys, request_keys, entries).await
    }

    async fn evict(
        &self,
        keys: &[BlockHash],
        key_type: KeyType,
        entries: &[PodEntry],
    ) -> Result<(), IndexError> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        self.pass().await?;
        self.inner.evict(keys, key_type, entries).await
    }

    async fn request_key(&self, engine_key: BlockHash) -> Result<BlockHash, IndexError> {
        self.questions.fetch_add(1, Ordering::SeqCst);
        self.pass().await?;
        self.inner.request_key(engine_key).await
    }

    async fn clear(&self, pod_identifier: &str) -> Result<(), IndexError> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        self.pass().await?;
        self.inner.clear(pod_identifier).await
    }
}

fn tokens(block_size_tokens: usize) -> TokenProcessor {
    let config = TokenProcessorConfig { block_size_tokens, ..Default::default() };
    TokenProcessor::new(&config).unwrap()
}

fn config() -> PoolConfig {
    let retry =
        Retry { attempts: 4, pause: Duration::from_millis(1), pause_max: Duration::from_millis(4) };
    PoolConfig { workers: 2, retry, ..Default::default() }
}

/// A pool over an index, with blocks of four tokens.
struct Bench {
    index: Arc<Probe>,
    pool: EventPool,
    tokens: TokenProcessor,
}

impl Bench {
    fn new(config: PoolConfig) -> Self {
        Self::over(Probe::new(), config, 4)
    }

    fn over(index: Arc<Probe>, config: PoolConfig, block_size: usize) -> Self {
        let tokens = tokens(block_size);
        let pool = EventPool::start(Arc::clone(&index), &tokens, config);
        Self { index, pool, tokens }
    }

    async fn apply(&self, events: Vec<Tree>) {
        self.pool.submit(of("a", None, events)).await.unwrap();
        self.pool.flush().await;
    }

    /// Who holds the blocks of a prompt, from the first on.
    async fn held(&self, prompt: &[u32]) -> Vec<BTreeSet<String>> {
        self.held_of(&self.tokens.block_keys(BlockHash::EMPTY, prompt, MODEL)).await
    }

    async fn held_of(&self, keys: &[BlockHash]) -> Vec<BTreeSet<String>> {
        let found = self.index.lookup(keys, &PodSet::all()).await.unwrap();
        found.iter().map(|(_, entries)| entries.map(ToString::to_string).collect()).collect()
    }

    fn resyncs(&self) -> Vec<String> {
        std::iter::from_fn(|| self.pool.try_next_resync())
            .map(|resync| resync.to_string())
            .collect()
    }
}

fn of(pod: &str, sequence: Option<u64>, events: Vec<Tree>) -> EventMessage {
    EventMessage {
        pod_identifier: pod.into(),
        model: MODEL.into(),
        publisher: 0,
        sequence,
        payload: message(events).into(),
    }
}

/// Blocks of these hashes behind a parent, with these tokens in all.
fn stored(hashes: &[u64], parent: u64, tokens: &[u32]) -> Tree {
    stored_in(hashes, parent, tokens, vec![])
}

/// The same with the fields behind the block size.
fn stored_in(hashes: &[u64], parent: u64, tokens: &[u32], rest: Vec<Tree>) -> Tree {
    let size = tokens.len() / hashes.len().max(1);
    let fields =
        vec![t("BlockStored"), ints(hashes), Int(parent.into()), ints(tokens), Int(size as i128)];
    List([fields, rest].concat())
}

fn removed(hashes: &[u64], rest: Vec<Tree>) -> Tree {
    List([vec![t("BlockRemoved"), ints(hashes)], rest].concat())
}

fn cleared() -> Tree {
    List(vec![t("AllBlocksCleared")])
}

fn on(medium: &str) -> Vec<Tree> {
    vec![Nil, t(medium)]
}

fn prompt(blocks: u32) -> Vec<u32> {
    (0..blocks * 4).collect()
}

fn set(entries: &[&str]) -> BTreeSet<String> {
    entries.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn stored_blocks_are_held_and_what_follows_them_asks_nobody() {
    let bench = Bench::new(config());
    let prompt = prompt(3);
    bench.apply(vec![stored(&[901, 902], 0, &prompt[..8])]).await;
    bench.apply(vec![stored(&[903], 902, &prompt[8..])]).await;
    assert_eq!(bench.held(&prompt).await, vec![set(&["a@gpu"]); 3]);
    assert_eq!(bench.index.questions.load(Ordering::SeqCst), 0);
    assert_eq!(bench.pool.stats().blocks_stored, 3);
    assert!(bench.resyncs().is_empty());
}

#[tokio::test]
async fn a_parent_that_only_the_index_knows_is_asked_for_once() {
    let bench = Bench::new(config());
    let prompt = prompt(2);
    let keys = bench.tokens.block_keys(BlockHash::EMPTY, &prompt, MODEL);
    let other = [PodEntry::new("b", "gpu")];
    bench.index.add(Some(&[BlockHash(901)]), &keys[..1], &other).await.unwrap();
    bench.apply(vec![stored(&[902], 901, &prompt[4..])]).await;
    assert_eq!(bench.held_of(&keys[1..]).await, [set(&["a@gpu"])]);
    assert_eq!(bench.index.questions.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn blocks_behind_an_unknown_parent_are_dropped_and_the_pod_is_named() {
    let bench = Bench::new(config());
    bench.apply(vec![stored(&[902], 901, &[1, 2, 3, 4])]).await;
    assert_eq!(bench.index.writes.load(Ordering::SeqCst), 0);
    assert_eq!(bench.pool.stats().unknown_parents, 1);
    let named =
        "a has to announce its blocks again: a block follows 901, which the index does not know";
    assert_eq!(bench.resyncs(), [named]);
}

#[tokio::test]
async fn an_adapter_takes_the_place_of_the_model() {
    let bench = Bench::new(config());
    let prompt = prompt(1);
    let lora = vec![Int(1), Nil, t("adapter")];
    bench.apply(vec![stored_in(&[901], 0, &prompt, lora)]).await;
    assert!(bench.held(&prompt).await.is_empty());
    let keys = bench.tokens.block_keys(BlockHash::EMPTY, &prompt, "adapter");
    assert_eq!(bench.held_of(&keys).await, [set(&["a@gpu"])]);
}

#[tokio::test]
async fn images_are_a_part_of_the_keys_whatever_the_block_sizes() {
    // How often an image is in each block of the index: engines have it in the third and the fourth of six.
    for (index_size, counts) in
        [(4, &[0, 0, 1, 1, 0, 0][..]), (2, &[0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0]), (8, &[0, 2, 0])]
    {
        let bench = Bench::over(Probe::new(), config(), index_size);
        let prompt = prompt(6);
        let hashes: Vec<u64> = (901..907).collect();
        let extra: Vec<Tree> = (0..6)
            .map(|block| match block {
                2 | 3 => List(vec![List(vec![t("image"), Int(block)])]),
                _ => Nil,
            })
            .collect();
        let rest = vec![Nil, t("GPU"), Nil, List(extra)];
        bench.apply(vec![stored_in(&hashes, 0, &prompt, rest)]).await;
        let blocks: Vec<BlockExtra> =
            counts.iter().map(|&count| std::iter::repeat_n("image", count).collect()).collect();
        let keys = bench.tokens.block_keys_with_extra(BlockHash::EMPTY, &prompt, MODEL, &blocks);
        let held = bench.held_of(&keys.unwrap()).await;
        assert_eq!(held, vec![set(&["a@gpu"]); 24 / index_size], "{index_size}");
    }
}

#[tokio::test]
async fn larger_blocks_of_an_engine_are_several_of_the_index() {
    let bench = Bench::new(config());
    let prompt = prompt(6);
    bench.apply(vec![stored(&[901, 902], 0, &prompt[..16])]).await;
    bench.apply(vec![stored(&[903], 902, &prompt[16..])]).await;
    assert_eq!(bench.held(&prompt).await.len(), 6);
    bench.apply(vec![stored_in(&[902], 0, &[], on("CPU"))]).await;
    let held = bench.held(&prompt).await;
    assert_eq!(held[1], set(&["a@gpu"]));
    assert_eq!(held[2..4], [set(&["a@cpu", "a@gpu"]), set(&["a@cpu", "a@gpu"])]);
    bench.apply(vec![removed(&[902], on("GPU")[1..].to_vec())]).await;
    let held = bench.held(&prompt).await;
    assert_eq!(held[2..4], [set(&["a@cpu"]), set(&["a@cpu"])]);
}

#[tokio::test]
async fn smaller_blocks_of_an_engine_share_one_of_the_index() {
    let bench = Bench::new(config());
    let prompt = prompt(3);
    // Five blocks of two tokens: the fifth is half of a block.
    bench.apply(vec![stored(&[901, 902, 903, 904, 905], 0, &prompt[..10])]).await;
    assert_eq!(bench.held(&prompt).await.len(), 2);
    // What follows the half has no keys, and is no reason to announce anything again.
    bench.apply(vec![stored(&[906], 905, &prompt[10..])]).await;
    assert_eq!(bench.pool.stats().misaligned, 1);
    assert!(bench.resyncs().is_empty());
    // That the half goes says nothing of the whole ones.
    bench.apply(vec![removed(&[905], vec![])]).await;
    assert_eq!(bench.held(&prompt).await.len(), 2);
    // Behind a whole one things go on.
    bench.apply(vec![stored(&[907, 908], 904, &prompt[8..])]).await;
    assert_eq!(bench.held(&prompt).await.len(), 3);
    bench.apply(vec![removed(&[903], vec![])]).await;
    assert_eq!(bench.held(&prompt).await.len(), 1);
}

#[tokio::test]
async fn tokens_that_do_not_belong_to_the_blocks_are_passed_over() {
    let bench = Bench::new(config());
    bench.apply(vec![stored(&[901, 902], 0, &[1, 2, 3])]).await;
    let wrong_size =
        List(vec![t("BlockStored"), ints(&[901_u64]), Nil, ints(&[1_u32, 2, 3, 4]), Int(16)]);
    bench.apply(vec![wrong_size]).await;
    let extra = vec![Nil, Nil, Nil, List(vec![Nil])];
    bench.apply(vec![stored_in(&[901, 902], 0, &prompt(2), extra)]).await;
    assert_eq!(bench.pool.stats().uneven, 3);
    bench.apply(vec![stored(&[901], 0, &[1, 2])]).await;
    assert_eq!(bench.pool.stats().too_short, 1);
    bench.apply(vec![stored(&[], 0, &[1, 2])]).await;
    assert_eq!(bench.index.writes.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn blocks_move_to_another_tier_without_their_tokens() {
    let bench = Bench::new(config());
    let prompt = prompt(2);
    bench.apply(vec![stored(&[901, 902], 0, &prompt)]).await;
    bench.apply(vec![stored_in(&[901, 902, 999], 0, &[], on("CPU"))]).await;
    assert_eq!(bench.held(&prompt).await, vec![set(&["a@cpu", "a@gpu"]); 2]);
    assert_eq!(bench.pool.stats().unknown_moves, 1);
    bench.apply(vec![removed(&[901], vec![t("GPU")])]).await;
    assert_eq!(bench.held(&prompt).await, [set(&["a@cpu"]), set(&["a@cpu", "a@gpu"])]);
    bench.apply(vec![removed(&[901, 902], vec![t("cpu")])]).await;
    assert!(bench.held(&prompt).await.is_empty());
}

#[tokio::test]
async fn a_block_that_only_the_index_knows_can_move_too() {
    let bench = Bench::new(config());
    let keys = bench.tokens.block_keys(BlockHash::EMPTY, &prompt(2), MODEL);
    let engine_keys = [BlockHash(901), BlockHash(902)];
    let gpu = [PodEntry::new("a", "gpu")];
    bench.index.add(Some(&engine_keys), &keys, &gpu).await.unwrap();
    bench.apply(vec![stored_in(&[901, 902], 0, &[], on("disk"))]).await;
    assert_eq!(bench.held_of(&keys).await, vec![set(&["a@disk", "a@gpu"]); 2]);
}

#[tokio::test]
async fn a_pod_is_cleared_in_order_with_its_events_and_others_are_not() {
    let bench = Bench::new(config());
    let prompt = prompt(1);
    let store = || stored(&[901], 0, &prompt);
    bench.pool.submit(of("b", None, vec![store()])).await.unwrap();
    bench.apply(vec![store(), cleared()]).await;
    assert_eq!(bench.held(&prompt).await, [set(&["b@gpu"])]);
    bench.apply(vec![cleared(), store()]).await;
    assert_eq!(bench.held(&prompt).await, [set(&["a@gpu", "b@gpu"])]);
    bench.pool.clear("b").await.unwrap();
    bench.pool.flush().await;
    assert_eq!(bench.held(&prompt).await, [set(&["a@gpu"])]);
    assert_eq!(bench.pool.stats().clears, 3);
}

#[tokio::test]
async fn only_groups_that_hold_prefixes_are_kept() {
    let bench = Bench::new(config());
    let prompt = prompt(1);
    let group = |number: i128, kind: &str| {
        stored_in(&[901], 0, &prompt, vec![Nil, Nil, Nil, Nil, Int(number), t(kind)])
    };
    bench.apply(vec![group(0, "full_attention"), group(1, "sliding_window")]).await;
    bench.apply(vec![group(2, "mla_attention"), group(3, "mamba"), group(4, "unknown")]).await;
    bench.apply(vec![group(5, "sink_full_attention")]).await;
    let all = ["a@gpu[group=0]", "a@gpu[group=2]", "a@gpu[group=5]"];
    assert_eq!(bench.held(&prompt).await, [set(&all)]);
    assert_eq!(bench.pool.stats().stores_skipped, 3);
    let writes = bench.index.writes.load(Ordering::SeqCst);
    bench.apply(vec![removed(&[901], vec![Nil, Int(1)])]).await;
    assert_eq!(bench.pool.stats().removals_skipped, 1);
    assert_eq!(bench.index.writes.load(Ordering::SeqCst), writes);
    bench.apply(vec![removed(&[901], vec![Nil, Int(0)])]).await;
    assert_eq!(bench.held(&prompt).await, [set(&all[1..])]);
}

#[tokio::test]
async fn a_group_without_a_kind_has_that_of_its_last_event() {
    let bench = Bench::new(config());
    let prompt = prompt(1);
    let group = |number: i128, kind: Option<&str>| {
        let kind = kind.map_or(Nil, t);
        stored_in(&[901], 0, &prompt, vec![Nil, Nil, Nil, Nil, Int(number), kind])
    };
    // Of a group that nothing is known of, its blocks may be a prefix.
    bench.apply(vec![group(1, Some("sliding_window")), group(1, None), group(2, None)]).await;
    assert_eq!(bench.held(&prompt).await, [set(&["a@gpu[group=2]"])]);
    assert_eq!(bench.pool.stats().stores_skipped, 2);
    // The engine has been set up anew.
    bench.apply(vec![group(1, Some("full_attention")), group(2, Some("mamba"))]).await;
    bench.apply(vec![removed(&[901], vec![Nil, Int(1)]), group(1, None), group(2, None)]).await;
    assert_eq!(bench.held(&prompt).await, [set(&["a@gpu[group=1]", "a@gpu[group=2]"])]);
    assert_eq!((bench.pool.stats().stores_skipped, bench.pool.stats().removals_skipped), (4, 0));
}

#[tokio::test]
async fn a_pools_metrics_have_llm_ds_names_and_its_own() {
    let references_per_pod = NonZeroUsize::new(100);
    let bench = Bench::new(PoolConfig { references_per_pod, ..config() });
    let prompt = prompt(2);
    let of_kind =
        |kind: &str| stored_in(&[903], 0, &prompt[..4], vec![Nil, Nil, Nil, Nil, Int(1), t(kind)]);
    bench.apply(vec![stored(&[901, 902], 0, &prompt), stored(&[901], 0, &prompt[..4])]).await;
    bench.apply(vec![removed(&[901, 902], vec![]), of_kind("mamba"), of_kind("made up")]).await;
    bench.apply(vec![stored(&[904, 905], 0, &prompt[..3])]).await;
    bench.apply(vec![removed(&[903], vec![Nil, Int(1)])]).await;
    let mut registry = Registry::default();
    bench.pool.register_metrics(&mut registry);
    let encoded = || {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    };
    let text = encoded();
    let prefix = "llm_d_epp_kv_cache_events";
    for line in [
        format!("{prefix}_dedup_removed_hashes_suppressed_total 1"),
        format!("{prefix}_dedup_removed_hashes_forwarded_total 1"),
        format!(
            r#"{prefix}_stores_skipped_total{{cache_kind="mamba",reason="unsupported_cache_kind"}} 1"#
        ),
        format!(
            r#"{prefix}_stores_skipped_total{{cache_kind="other",reason="unsupported_cache_kind"}} 1"#
        ),
        format!(
            r#"{prefix}_stores_skipped_total{{cache_kind="unknown",reason="non_dense_block_span"}} 1"#
        ),
        format!(
            r#"{prefix}_removals_skipped_total{{cache_kind="unknown",reason="unsupported_cache_kind"}} 1"#
        ),
        format!("{prefix}_active_subscribers 0"),
        format!("{prefix}_pool_queue_depth 0"),
        format!("{prefix}_pool_capacity 2"),
        "respire_events_messages_total 4".to_owned(),
        "respire_events_stores_skipped_total 2".to_owned(),
        "# HELP respire_events_gaps How often sequence numbers went ahead.".to_owned(),
    ] {
        assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
    }
    // What is registered does not keep the workers, and says what was counted last.
    bench.pool.shutdown().await;
    drop(bench);
    assert!(encoded().contains("respire_events_messages_total 4"));
}

#[tokio::test]
async fn a_block_that_was_stored_twice_goes_when_it_was_dropped_twice() {
    let references_per_pod = NonZeroUsize::new(100);
    let bench = Bench::new(PoolConfig { references_per_pod, ..config() });
    let prompt = prompt(2);
    bench.apply(vec![stored(&[901, 902], 0, &prompt), stored(&[901], 0, &prompt[..4])]).await;
    bench.apply(vec![removed(&[901, 902], vec![])]).await;
    assert_eq!(bench.held(&prompt).await.len(), 1);
    assert_eq!(bench.pool.stats().removals_suppressed, 1);
    bench.apply(vec![removed(&[901], vec![])]).await;
    assert!(bench.held(&prompt).await.is_empty());

    let bench = Bench::new(config());
    bench.apply(vec![stored(&[901], 0, &prompt[..4]), stored(&[901], 0, &prompt[..4])]).await;
    bench.apply(vec![removed(&[901], vec![])]).await;
    assert!(bench.held(&prompt).await.is_empty(), "without counts every removal counts");
}

#[tokio::test]
async fn numbers_that_go_ahead_name_the_pod_and_numbers_that_go_back_clear_it() {
    let bench = Bench::new(config());
    let prompt = prompt(2);
    let submit = async |sequence, events| {
        bench.pool.submit(of("a", Some(sequence), events)).await.unwrap();
        bench.pool.flush().await;
    };
    submit(7, vec![stored(&[901], 0, &prompt[..4])]).await;
    submit(8, vec![]).await;
    assert!(bench.resyncs().is_empty());
    submit(11, vec![stored(&[902], 901, &prompt[4..])]).await;
    assert_eq!(bench.resyncs(), ["a has to announce its blocks again: event 9 was due, 11 came"]);
    assert_eq!(bench.held(&prompt).await.len(), 2);
    let other = [40, 41, 42, 43];
    submit(0, vec![stored(&[903], 0, &other)]).await;
    let again =
        "a has to announce its blocks again: event 12 was due, and its numbers start over at 0";
    assert_eq!(bench.resyncs(), [again]);
    assert!(bench.held(&prompt).await.is_empty());
    assert_eq!(bench.held(&other).await.len(), 1);
    let stats = bench.pool.stats();
    assert_eq!((stats.gaps, stats.restarts), (1, 1));

    // A pod that was cleared by hand starts with any number.
    bench.pool.clear("a").await.unwrap();
    submit(100, vec![]).await;
    assert!(bench.resyncs().is_empty());

    let bench = Bench::new(PoolConfig { from_start: true, ..config() });
    bench.pool.submit(of("a", Some(3), vec![])).await.unwrap();
    bench.pool.flush().await;
    assert_eq!(bench.resyncs(), ["a has to announce its blocks again: event 0 was due, 3 came"]);
}

#[tokio::test]
async fn what_cannot_be_read_leaves_the_rest() {
    let bench = Bench::new(config());
    let prompt = prompt(1);
    bench.apply(vec![List(vec![t("BlockMigrated")]), stored(&[901], 0, &prompt)]).await;
    assert_eq!(bench.held(&prompt).await.len(), 1);
    assert!(bench.resyncs().is_empty(), "nothing is missing");
    bench.apply(vec![List(vec![t("BlockStored"), Nil]), removed(&[901], vec![])]).await;
    assert!(bench.held(&prompt).await.is_empty());
    let unreadable = ["a has to announce its blocks again: a message of its could not be read"];
    assert_eq!(bench.resyncs(), unreadable);
    let mut broken = of("a", None, vec![stored(&[901], 0, &prompt)]);
    broken.payload.truncate(broken.payload.len() - 1);
    bench.pool.submit(broken).await.unwrap();
    bench.pool.flush().await;
    assert_eq!(bench.resyncs(), unreadable);
    let stats = bench.pool.stats();
    assert_eq!(
        (stats.unknown_events, stats.unreadable_events, stats.unreadable_messages),
        (1, 1, 1)
    );
}

#[tokio::test]
async fn a_write_that_fails_is_repeated_before_what_came_after_it() {
    let bench = Bench::new(config());
    let prompt = prompt(1);
    bench.index.failures.store(3, Ordering::SeqCst);
    bench.apply(vec![stored(&[901], 0, &prompt), removed(&[901], vec![])]).await;
    assert!(bench.held(&prompt).await.is_empty(), "the removal came last");
    assert_eq!(bench.pool.stats().retries, 3);
    assert_eq!(bench.index.writes.load(Ordering::SeqCst), 5);
    assert!(bench.resyncs().is_empty());
}

#[tokio::test]
async fn a_write_that_keeps_failing_is_given_up_and_the_next_ones_are_tried_once() {
    let bench = Bench::new(config());
    let prompt = prompt(2);
    // Four attempts of the first, one of the second.
    bench.index.failures.store(5, Ordering::SeqCst);
    bench.apply(vec![stored(&[901], 0, &prompt[..4]), stored(&[950], 0, &[9, 9, 9, 9])]).await;
    assert_eq!(bench.index.writes.load(Ordering::SeqCst), 5);
    assert_eq!(bench.pool.stats().failures, 2);
    let named = ["a has to announce its blocks again: the index could not be written to"];
    assert_eq!(bench.resyncs(), named);
    // The index is back, and what follows the block that was lost has the right keys.
    bench.apply(vec![stored(&[902], 901, &prompt[4..])]).await;
    let keys = bench.tokens.block_keys(BlockHash::EMPTY, &prompt, MODEL);
    assert_eq!(bench.held_of(&keys[1..]).await, [set(&["a@gpu"])]);
    // And patience with it.
    bench.index.failures.store(3, Ordering::SeqCst);
    bench.apply(vec![stored(&[901], 0, &prompt[..4])]).await;
    assert_eq!(bench.held(&prompt).await.len(), 2);
    assert!(bench.resyncs().is_empty());
}

#[tokio::test]
async fn a_full_queue_makes_a_caller_wait_or_drops_its_message_and_names_the_pod() {
    let index = Probe::held();
    let config = PoolConfig { workers: 1, queue_messages: 2, ..config() };
    let bench = Bench::over(Arc::clone(&index), config, 4);
    let blocks: Vec<Vec<u32>> = (0..4).map(|block| vec![block; 4]).collect();
    let store = |at: usize| of("a", None, vec![stored(&[at as u64 + 1], 0, &blocks[at])]);
    bench.pool.submit(store(0)).await.unwrap();
    while index.writes.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    // The worker is at the first one, two wait, and there is no room for a fourth.
    bench.pool.submit(store(1)).await.unwrap();
    bench.pool.submit(store(2)).await.unwrap();
    assert_eq!(bench.pool.queue_depth(), 2);
    assert_eq!(bench.pool.try_submit(store(3)), Err(SubmitError::Full));
    let named =
        ["a has to announce its blocks again: its events came faster than they could be applied"];
    assert_eq!(bench.resyncs(), named);
    {
        let mut waiting = std::pin::pin!(bench.pool.submit(store(3)));
        let mut nobody = Context::from_waker(Waker::noop());
        assert!(waiting.as_mut().poll(&mut nobody).is_pending());
        index.gate.add_permits(1);
        waiting.await.unwrap();
    }
    index.gate.add_permits(3);
    bench.pool.flush().await;
    for block in &blocks {
        assert_eq!(bench.held(block).await.len(), 1);
    }
    assert_eq!(bench.pool.stats().overruns, 1);
}

#[tokio::test]
async fn bounds_may_be_as_large_as_numbers_get() {
    let index = Arc::new(InMemoryIndex::new(InMemoryConfig::default()).unwrap());
    let config = PoolConfig { queue_messages: usize::MAX, queue_bytes: usize::MAX, ..config() };
    let pool = EventPool::start(index, &tokens(4), config);
    pool.submit(of("a", None, vec![stored(&[1], 0, &prompt(1))])).await.unwrap();
    pool.flush().await;
    assert_eq!(pool.stats().blocks_stored, 1);
}

#[tokio::test]
async fn a_message_is_not_accepted_that_is_longer_than_one_may_be() {
    let message = of("a", None, vec![stored(&[1], 0, &prompt(1))]);
    let of_bytes = |message_bytes| Bench::new(PoolConfig { message_bytes, ..config() });
    let bench = of_bytes(message.payload.len() - 1);
    assert_eq!(bench.pool.submit(message.clone()).await, Err(SubmitError::TooLong));
    assert_eq!(bench.pool.try_submit(message.clone()), Err(SubmitError::TooLong));
    assert_eq!((bench.pool.stats().overruns, bench.resyncs().len()), (2, 1));
    let bench = of_bytes(message.payload.len());
    bench.pool.submit(message).await.unwrap();
    bench.pool.flush().await;
    assert_eq!(bench.pool.stats().blocks_stored, 1);
}

/// One engine's block of 40,000 tokens, 10,000 of the index's, with so many images of 64 bytes.
fn many_copies(images: usize) -> EventMessage {
    let images = List((0..images).map(|image| t(&format!("{image:064}"))).collect());
    let rest = vec![Nil, Nil, Nil, List(vec![images])];
    of("a", None, vec![stored_in(&[1], 0, &prompt(10_000), rest)])
}

#[test]
fn extra_keys_that_would_take_an_hour_to_hash_are_passed_over_and_take_no_memory() {
    let bench = || Bench::new(PoolConfig { workers: 1, ..config() });
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let message = many_copies(1000);
    let bytes = message.payload.len() as u64;
    let bench = runtime.block_on(async { bench() });
    let measured = allocation_counter::measure(|| {
        runtime.block_on(async {
            bench.pool.submit(message).await.unwrap();
            bench.pool.flush().await;
        });
    });
    assert!(measured.bytes_max < 8 * bytes, "{} for {bytes}", measured.bytes_max);
    let stats = bench.pool.stats();
    assert_eq!((stats.excessive, stats.blocks_stored), (1, 0));
    // Fifteen images are not too much, and the next event is applied.
    runtime.block_on(async {
        bench.pool.submit(many_copies(15)).await.unwrap();
        bench.pool.flush().await;
    });
    let stats = bench.pool.stats();
    assert_eq!((stats.excessive, stats.blocks_stored), (1, 1));
}

#[tokio::test]
async fn bytes_that_wait_are_bounded_as_well() {
    let index = Probe::held();
    let config = PoolConfig { workers: 1, queue_bytes: 8 * 1024, ..config() };
    let bench = Bench::over(Arc::clone(&index), config, 4);
    let long = |tokens: u32| of("a", None, vec![stored(&[1], 0, &(0..tokens).collect::<Vec<_>>())]);
    assert_eq!(bench.pool.submit(long(10_000)).await, Err(SubmitError::TooLong));
    assert_eq!(bench.pool.try_submit(long(10_000)), Err(SubmitError::TooLong));
    assert_eq!(bench.resyncs().len(), 1);
    // Some five of eight units; the worker keeps them until it is done.
    bench.pool.try_submit(long(1_600)).unwrap();
    assert_eq!(bench.pool.try_submit(long(1_600)), Err(SubmitError::Full));
    index.gate.add_permits(1);
    bench.pool.flush().await;
    bench.pool.try_submit(long(1_600)).unwrap();
    index.gate.add_permits(1);
    bench.pool.flush().await;
    assert_eq!(bench.pool.stats().messages, 2);
}

#[tokio::test]
async fn a_shut_down_pool_has_applied_what_it_accepted_and_accepts_nothing_more() {
    let index = Probe::held();
    let bench = Bench::over(Arc::clone(&index), config(), 4);
    let prompts: Vec<Vec<u32>> = (0..20).map(|token| vec![token; 4]).collect();
    for (prompt, hash) in prompts.iter().zip(1..) {
        let pod = format!("pod-{}", hash % 3);
        bench.pool.submit(of(&pod, None, vec![stored(&[hash], 0, prompt)])).await.unwrap();
    }
    bench.pool.submit(of("a", None, vec![stored(&[1], 77, &prompts[0])])).await.unwrap();
    index.gate.add_permits(100);
    bench.pool.shutdown().await;
    for prompt in &prompts {
        assert_eq!(bench.held(prompt).await.len(), 1);
    }
    assert_eq!(bench.pool.submit(of("a", None, vec![])).await, Err(SubmitError::Closed));
    assert_eq!(bench.pool.try_submit(of("a", None, vec![])), Err(SubmitError::Closed));
    assert_eq!(bench.pool.clear("a").await, Err(SubmitError::Closed));
    bench.pool.flush().await;
    assert_eq!(bench.pool.next_resync().await.unwrap().pod_identifier, "a");
    assert_eq!(bench.pool.next_resync().await, None);
    bench.pool.shutdown().await;
}

#[derive(Clone, Debug)]
enum Step {
    /// Stores the first blocks of a prompt.
    Store {
        prompt: u8,
        blocks: u8,
    },
    /// Drops a prompt's block and those behind it, as an engine does.
    Drop {
        prompt: u8,
        from: u8,
    },
    Clear,
}

fn a_step() -> impl Strategy<Value = (u8, Step)> {
    let step = prop_oneof![
        4 => (0..4u8, 1..5u8).prop_map(|(prompt, blocks)| Step::Store { prompt, blocks }),
        3 => (0..4u8, 0..4u8).prop_map(|(prompt, from)| Step::Drop { prompt, from }),
        1 => Just(Step::Clear),
    ];
    (0..5u8, step)
}

fn prompt_of(number: u8) -> Vec<u32> {
    (0..16).map(|token| 100 * u32::from(number) + token).collect()
}

fn hash_of(prompt: u8, block: u8) -> u64 {
    1000 + 10 * u64::from(prompt) + u64::from(block)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever happens to several pods at once, and however often the index fails meanwhile, the index is what the pods
    /// are in the end.
    #[test]
    fn the_index_follows_every_pod(steps in vec(a_step(), 1..60), failures in 0..6usize) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let (held, expected) = runtime.block_on(async {
            let retry = Retry { attempts: 8, ..config().retry };
            let bench = Bench::new(PoolConfig { workers: 3, retry, ..config() });
            bench.index.failures.store(failures, Ordering::SeqCst);
            let mut pods: BTreeMap<u8, BTreeSet<(u8, u8)>> = BTreeMap::new();
            for (sequence, (pod, step)) in (0..).zip(steps) {
                let blocks = pods.entry(pod).or_default();
                let event = match step {
                    Step::Store { prompt, blocks: n } => {
                        blocks.extend((0..n).map(|block| (prompt, block)));
                        let hashes: Vec<u64> = (0..n).map(|block| hash_of(prompt, block)).collect();
                        stored(&hashes, 0, &prompt_of(prompt)[..4 * usize::from(n)])
                    }
                    Step::Drop { prompt, from } => {
                        blocks.retain(|&(of, block)| of != prompt || block < from);
                        let hashes: Vec<u64> = (from..4).map(|block| hash_of(prompt, block)).collect();
                        removed(&hashes, vec![])
                    }
                    Step::Clear => {
                        blocks.clear();
                        cleared()
                    }
                };
                let mut message = of(&pod.to_string(), Some(sequence), vec![event]);
                message.publisher = sequence as u32;
                bench.pool.submit(message).await.unwrap();
            }
            bench.pool.shutdown().await;
            let mut held = BTreeSet::new();
            for prompt in 0..4 {
                let keys = bench.tokens.block_keys(BlockHash::EMPTY, &prompt_of(prompt), MODEL);
                for (key, block) in keys.iter().zip(0u8..) {
                    for pods in bench.held_of(std::slice::from_ref(key)).await {
                        held.extend(pods.into_iter().map(|pod| (pod, prompt, block)));
                    }
                }
            }
            let expected: BTreeSet<_> = pods
                .into_iter()
                .flat_map(|(pod, blocks)| {
                    blocks.into_iter().map(move |(prompt, block)| (format!("{pod}@gpu"), prompt, block))
                })
                .collect();
            (held, expected)
        });
        prop_assert_eq!(held, expected);
    }
}
