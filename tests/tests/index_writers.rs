//! Several writers on one server, in random order and at the same time, against a model.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, its helpers included")]

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroUsize,
    sync::Arc,
    time::Duration,
};

use proptest::{prelude::*, test_runner::TestRunner};
use respire::{Client, Command, Config, Protocol};
use respire_cli::local_server::{Flavour, LocalServer};
use respire_kvblock::{
    BitmapIndex, BitmapOptions, BlockHash, ClearBy, FieldFormat, Index, KeyType, PodEntry, PodSet,
    ServerIndex,
};
use respire_tests::index_suite::hashes;

/// How many blocks the pods share.
const BLOCKS: u64 = 24;

/// The engine key of a block, whose request key is its number.
fn engine_keys(blocks: &[u64]) -> Vec<BlockHash> {
    hashes(blocks.iter().map(|block| block + 1000))
}

/// What happens to one pod. Its events come in order; those of different pods do not.
#[derive(Clone, Debug)]
enum Event {
    Add(Vec<u64>, &'static str),
    EvictByEngine(Vec<u64>, &'static str),
    EvictByRequest(Vec<u64>, &'static str),
    Clear,
}

fn any_event() -> impl Strategy<Value = Event> {
    let blocks = || prop::collection::vec(0..BLOCKS, 1..8);
    let tier = || prop::sample::select(&["gpu", "cpu"]);
    prop_oneof![
        5 => (blocks(), tier()).prop_map(|(blocks, tier)| Event::Add(blocks, tier)),
        3 => (blocks(), tier()).prop_map(|(blocks, tier)| Event::EvictByEngine(blocks, tier)),
        1 => (blocks(), tier()).prop_map(|(blocks, tier)| Event::EvictByRequest(blocks, tier)),
        1 => Just(Event::Clear),
    ]
}

/// What one pod holds: the tiers of each block.
type Held = BTreeMap<u64, BTreeSet<&'static str>>;

fn apply_to_model(held: &mut Held, event: &Event) {
    match event {
        Event::Add(blocks, tier) => {
            for &block in blocks {
                held.entry(block).or_default().insert(tier);
            }
        }
        // With one engine key a block, whose mapping stays as long as anyone holds the block, the two are the same.
        Event::EvictByEngine(blocks, tier) | Event::EvictByRequest(blocks, tier) => {
            for block in blocks {
                if let Some(tiers) = held.get_mut(block) {
                    tiers.remove(tier);
                }
            }
        }
        Event::Clear => held.clear(),
    }
    held.retain(|_, tiers| !tiers.is_empty());
}

async fn apply(index: &dyn Index, pod: &str, event: &Event) {
    match event {
        Event::Add(blocks, tier) => {
            let request_keys = hashes(blocks.iter().copied());
            let entry = [PodEntry::new(pod, *tier)];
            index.add(Some(&engine_keys(blocks)), &request_keys, &entry).await.unwrap();
        }
        Event::EvictByEngine(blocks, tier) => {
            let entry = [PodEntry::new(pod, *tier)];
            index.evict(&engine_keys(blocks), KeyType::Engine, &entry).await.unwrap();
        }
        Event::EvictByRequest(blocks, tier) => {
            let (keys, entry) = (hashes(blocks.iter().copied()), [PodEntry::new(pod, *tier)]);
            index.evict(&keys, KeyType::Request, &entry).await.unwrap();
        }
        Event::Clear => index.clear(pod).await.unwrap(),
    }
}

/// The index of one writer. All keep what the others' clears go by, and differ in everything else.
async fn writer(config: &Config, number: usize, reversed: bool) -> ServerIndex {
    let client = Client::with_config(config.clone()).await.unwrap();
    let index = ServerIndex::new(client);
    let index = if number.is_multiple_of(2) { index } else { index.with_mappings_max(8) };
    let index = match number {
        0 => index.with_field_format(FieldFormat::Text),
        3 => index.with_mappings_max(0),
        _ => index,
    };
    match (reversed, number) {
        (false, _) => index,
        (true, 1) => index.with_clear_by(ClearBy::ReverseIndexThenScan),
        (true, _) => index.with_clear_by(ClearBy::ReverseIndex),
    }
}

/// Runs the events of each pod by a task of its own, and compares what is there in the end. Then every pod drops all that
/// it holds by engine keys, and nothing may be left but the mappings that a clear has left.
async fn run(config: &Config, events: &[Vec<Event>], reversed: bool) {
    let admin = Client::with_config(config.clone()).await.unwrap();
    admin.execute(Command::new("FLUSHALL")).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    let mut models = Vec::new();
    for (number, events) in events.iter().enumerate() {
        let mut held = Held::new();
        events.iter().for_each(|event| apply_to_model(&mut held, event));
        models.push(held);
        let (config, events) = (config.clone(), events.clone());
        tasks.spawn(async move {
            let index = writer(&config, number, reversed).await;
            for event in &events {
                apply(&index, &format!("pod-{number}"), event).await;
            }
            (number, index)
        });
    }
    let mut writers = BTreeMap::new();
    while let Some(done) = tasks.join_next().await {
        let (number, index) = done.unwrap();
        writers.insert(number, index);
    }
    compare(&ServerIndex::new(admin.clone()), &models).await;
    let all: Vec<u64> = (0..BLOCKS).collect();
    for (number, index) in &writers {
        for tier in ["gpu", "cpu"] {
            let event = Event::EvictByEngine(all.clone(), tier);
            apply(index, &format!("pod-{number}"), &event).await;
        }
    }
    let names: Vec<String> = admin.query(Command::new("KEYS").arg("*")).await.unwrap();
    let is_left = |name: &&String| {
        let is_mapping = name.strip_prefix("engine:").is_some_and(|key| key.parse::<u64>().is_ok());
        !is_mapping && !name.starts_with("engine:~fields:")
    };
    let left: Vec<&String> = names.iter().filter(is_left).collect();
    assert!(left.is_empty(), "{left:?}");
    if !events
        .iter()
        .flatten()
        .any(|event| matches!(event, Event::Clear | Event::EvictByRequest(..)))
    {
        assert!(names.iter().all(|name| name.starts_with("engine:~fields:")), "{names:?}");
    }
}

/// Holds what an index answers against what the pods hold.
async fn compare(reader: &dyn Index, models: &[Held]) {
    for block in 0..BLOCKS {
        let found = reader.lookup(&hashes([block]), &PodSet::all()).await.unwrap();
        let found: BTreeSet<String> = found.entries(0).map(ToString::to_string).collect();
        let mut expected = BTreeSet::new();
        for (number, held) in models.iter().enumerate() {
            let tiers = held.get(&block).into_iter().flatten();
            expected.extend(tiers.map(|tier| format!("pod-{number}@{tier}")));
        }
        assert_eq!(found, expected, "block {block}");
    }
}

/// The index of one of a pod's two writers in the bitmap layout: they differ in what they remember, and the first one takes the second one for
/// silent whenever it writes.
async fn bitmap_writer(config: &Config, number: usize) -> BitmapIndex {
    let client = Client::with_config(config.clone()).await.unwrap();
    let options = BitmapOptions::default();
    let options = match number {
        0 => options.with_writer_timeout(Duration::ZERO),
        _ => options.with_mappings_max(NonZeroUsize::MIN),
    };
    BitmapIndex::new(client, options)
}

/// Runs the events of each pod by two tasks that are told the same and go at their own pace, with a sweep all the time. In the end the index has
/// what the pods hold; and when they have dropped that, and a sweep has gone over it, nothing is left but the registry.
async fn run_bitmaps(config: &Config, events: &[Vec<Event>]) {
    let admin = Client::with_config(config.clone()).await.unwrap();
    admin.execute(Command::new("FLUSHALL")).await.unwrap();
    let options = BitmapOptions::default().with_quarantine(Duration::ZERO);
    let sweeper = Arc::new(BitmapIndex::new(admin.clone(), options));
    sweeper.spawn_sweeps(Duration::from_millis(2));
    let mut tasks = tokio::task::JoinSet::new();
    let mut models = Vec::new();
    for (number, events) in events.iter().enumerate() {
        let mut held = Held::new();
        events.iter().for_each(|event| apply_to_model(&mut held, event));
        models.push(held);
        // Whoever begins later begins with what the pod holds then: both are there from the start.
        let pod = format!("pod-{number}");
        let first = Event::Add(vec![BLOCKS], "gpu");
        let (one, other) = (bitmap_writer(config, 0).await, bitmap_writer(config, 1).await);
        for writer in [&one, &other] {
            apply(writer, &pod, &first).await;
        }
        for writer in [one, other] {
            let (pod, events) = (pod.clone(), events.clone());
            tasks.spawn(async move {
                for event in &events {
                    apply(&writer, &pod, event).await;
                }
                (pod, writer)
            });
        }
    }
    let mut writers = BTreeMap::new();
    while let Some(done) = tasks.join_next().await {
        let (pod, writer) = done.unwrap();
        writers.insert(pod, writer);
    }
    compare(&*sweeper, &models).await;
    let all: Vec<u64> = (0..=BLOCKS).collect();
    for (pod, writer) in &writers {
        for tier in ["gpu", "cpu"] {
            apply(writer, pod, &Event::EvictByEngine(all.clone(), tier)).await;
        }
    }
    for _ in 0..2 {
        while !sweeper.sweep(1000).await.unwrap().is_done {}
    }
    let names: Vec<Vec<u8>> = admin.query(Command::new("KEYS").arg("*")).await.unwrap();
    assert_eq!(names, [b"kvb:r"]);
}

fn check_bitmaps(flavour: Flavour, protocol: Protocol) {
    run_cases(6, flavour, protocol, &async |config, events| run_bitmaps(config, events).await);
}

#[test]
fn two_writers_a_pod_leave_what_they_mean_in_bitmaps_on_valkey() {
    check_bitmaps(Flavour::Valkey, Protocol::Resp3);
}

#[test]
fn two_writers_a_pod_leave_what_they_mean_in_bitmaps_on_redis() {
    check_bitmaps(Flavour::Redis, Protocol::Resp2);
}

fn check(flavour: Flavour, protocol: Protocol, reversed: bool) {
    run_cases(12, flavour, protocol, &async |config, events| run(config, events, reversed).await);
}

fn run_cases(
    cases: u32,
    flavour: Flavour,
    protocol: Protocol,
    case: &impl AsyncFn(&Config, &[Vec<Event>]),
) {
    let server = LocalServer::start(flavour).unwrap();
    let config = server.url().parse::<Config>().unwrap().with_protocol(protocol);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let config_of_run = ProptestConfig { cases, failure_persistence: None, ..Default::default() };
    let events = prop::collection::vec(prop::collection::vec(any_event(), 1..25), 4);
    TestRunner::new(config_of_run)
        .run(&events, |events| {
            runtime.block_on(case(&config, &events));
            Ok(())
        })
        .unwrap();
}

#[test]
fn writers_at_once_leave_what_each_of_them_means_on_valkey() {
    check(Flavour::Valkey, Protocol::Resp3, false);
}

#[test]
fn writers_at_once_leave_what_each_of_them_means_on_redis() {
    check(Flavour::Redis, Protocol::Resp2, false);
}

#[test]
fn writers_with_a_reverse_index_leave_what_each_of_them_means_on_valkey() {
    check(Flavour::Valkey, Protocol::Resp2, true);
}

#[test]
fn writers_with_a_reverse_index_leave_what_each_of_them_means_on_redis() {
    check(Flavour::Redis, Protocol::Resp3, true);
}
