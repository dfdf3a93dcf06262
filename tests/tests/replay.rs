//! The replay over its three stores: it finds what a trace contains, its oracle sees an index that
//! is wrong, and it leaves a server as it found it.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use respire::{Address, Client, Command, Config};
use respire_cli::fleet::FleetSize;
use respire_cli::generate::Generator;
use respire_cli::keys::Keys;
use respire_cli::local_server::{Flavour, LocalServer};
use respire_cli::pod::Capacity;
use respire_cli::replay::{self, Options, ReplayError};
use respire_cli::report::Report;
use respire_cli::restart::{Restart, Restarted};
use respire_cli::route::Route;
use respire_cli::source::{Requests, Source};
use respire_cli::store::{Layout, PrivateServer, Store, StoreChoice, StoreError};
use respire_cli::trace::{Request, TraceError};
use respire_kvblock::{BlockHash, Index, IndexError, KeyType, Lookup, PodEntry, PodSet};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The tag of the replays here, so that a test knows their keys.
const TAG: u64 = 42;

/// A store and, where it has one, its server.
struct Bench {
    name: &'static str,
    server: Option<LocalServer>,
}

impl Bench {
    fn memory() -> Self {
        Self { name: "memory", server: None }
    }

    fn server(flavour: Flavour) -> Self {
        let server = LocalServer::start(flavour).expect("both servers are needed for the tests");
        Self { name: flavour.program(), server: Some(server) }
    }

    fn all() -> [Self; 3] {
        [Self::memory(), Self::server(Flavour::Valkey), Self::server(Flavour::Redis)]
    }

    fn config(&self) -> Option<Config> {
        let server = self.server.as_ref()?;
        Some(Config::new(Address::Unix(server.socket_path().to_owned())))
    }

    async fn open(&self, fleet: FleetSize, allow_non_empty: bool) -> Result<Store, StoreError> {
        let choice = match self.config() {
            Some(config) => StoreChoice::Server(Box::new(config)),
            None => StoreChoice::Memory,
        };
        Store::open(&choice, fleet, allow_non_empty, TAG, &CancellationToken::new()).await
    }

    async fn client(&self) -> Client {
        Client::with_config(self.config().expect("a server's bench")).await.unwrap()
    }

    async fn keys_held(&self) -> u64 {
        match &self.server {
            Some(_) => self.client().await.query(Command::new("DBSIZE")).await.unwrap(),
            None => 0,
        }
    }
}

fn fleet(pods: usize, capacity: &str) -> FleetSize {
    FleetSize { pods, capacity: capacity.parse().unwrap() }
}

fn options(route: Route) -> Options {
    Options { route, prefill_rate: 8000.0, writers: None, restart: None }
}

fn with_writers(writers: usize) -> Options {
    Options { writers: Some(writers.try_into().unwrap()), ..options(Route::Index) }
}

fn workload(requests: usize) -> Requests {
    Box::new(Generator::new(7).take(requests).map(Ok))
}

/// Requests a second apart, one for each list of block ids.
fn requests_of(blocks: &[&[u64]]) -> Requests {
    let requests: Vec<Result<Request, TraceError>> = blocks
        .iter()
        .zip(0_u32..)
        .map(|(ids, second)| Request {
            timestamp_ms: f64::from(second) * 1000.0,
            input_length: 512 * ids.len() as u64,
            output_length: 1,
            hash_ids: ids.to_vec(),
        })
        .map(Ok)
        .collect();
    Box::new(requests.into_iter())
}

async fn run(
    options: &Options,
    requests: Requests,
    store: &mut Store,
) -> Result<Report, ReplayError> {
    replay::run(options, requests, store, || (), &CancellationToken::new()).await
}

/// Opens, replays, closes.
async fn replay_on(
    bench: &Bench,
    options: &Options,
    fleet: FleetSize,
    requests: Requests,
) -> Report {
    let mut store = bench.open(fleet, false).await.unwrap();
    let report = run(options, requests, &mut store).await.unwrap();
    store.close().await.unwrap();
    assert_eq!(bench.keys_held().await, 0, "{} is left as it was found", bench.name);
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn all_stores_and_ways_of_writing_agree_with_the_pods_and_with_each_other() {
    for route in [Route::Index, Route::Load, Route::RoundRobin] {
        let mut reports = Vec::new();
        for bench in Bench::all() {
            let size = fleet(4, "700");
            let report = replay_on(&bench, &options(route), size, workload(400)).await;
            assert!(report.is_clean(), "{}: {report:?}", bench.name);
            assert!(report.evicts > 0 && report.block_hit_rate > 0.0, "{report:?}");
            let lookup_us = report.lookup_us;
            assert!(lookup_us.p50 > 0.0 && lookup_us.p50 <= lookup_us.p99, "{report:?}");
            reports.push(report);
        }
        let same = Report { lookup_us: reports[0].lookup_us, ..reports[0].clone() };
        for report in reports {
            let (lookup_us, store) = (same.lookup_us, same.store.clone());
            assert_eq!(Report { lookup_us, store, ..report }, same);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_writers_leave_the_index_equal_to_the_pods() {
    for bench in Bench::all() {
        for writers in [1, 4] {
            let size = fleet(6, "400");
            let report = replay_on(&bench, &with_writers(writers), size, workload(400)).await;
            assert!(report.is_clean(), "{}, {writers} writers: {report:?}", bench.name);
            assert!(report.adds > report.evicts && report.evicts > 0, "{report:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bitmaps_agree_with_the_pods_and_leave_nothing_behind() {
    let stop = CancellationToken::new();
    let refused =
        Store::open_in(Layout::Bitmap, &StoreChoice::Memory, fleet(4, "700"), false, TAG, &stop);
    assert!(matches!(refused.await, Err(StoreError::NoServer)));
    for flavour in Flavour::ALL {
        let bench = Bench::server(flavour);
        for (pods, options) in
            [(4, options(Route::Index)), (40, with_writers(4)), (4, with_writers(4))]
        {
            let choice = StoreChoice::Server(Box::new(bench.config().unwrap()));
            let size = fleet(pods, "700");
            let opened = Store::open_in(Layout::Bitmap, &choice, size, false, TAG, &stop);
            let mut store = opened.await.unwrap();
            let report = run(&options, workload(300), &mut store).await.unwrap();
            assert!(report.is_clean(), "{}: {report:?}", bench.name);
            assert!(report.adds > 0 && report.block_hit_rate > 0.0, "{report:?}");
            store.close().await.unwrap();
            assert_eq!(bench.keys_held().await, 0, "{} is left as it was found", bench.name);
        }
    }
}

/// Replays on a private server that is killed on the way, and hands over what is reported.
async fn replay_with_restart(
    (layout, flavour): (Layout, Flavour),
    server: Restarted,
    (options, pods): (Options, usize),
    (after_requests, requests): (u64, Requests),
) -> Result<Report, ReplayError> {
    let stop = CancellationToken::new();
    let is_persistent = server == Restarted::Persistent;
    let choice = StoreChoice::Private(PrivateServer { flavour: Some(flavour), is_persistent });
    let opened = Store::open_in(layout, &choice, fleet(pods, "700"), false, TAG, &stop);
    let mut store = opened.await.unwrap();
    let options = Options { restart: Some(Restart { server, after_requests }), ..options };
    let outcome = run(&options, requests, &mut store).await;
    store.close().await.unwrap();
    outcome
}

const LAYOUTS: [Layout; 2] = [Layout::LlmD, Layout::Bitmap];

#[tokio::test(flavor = "multi_thread")]
async fn a_persistent_server_that_is_killed_comes_back_without_a_miss_and_without_a_false_hit() {
    for flavour in Flavour::ALL {
        for layout in LAYOUTS {
            for options in [options(Route::Index), with_writers(4)] {
                let on = (layout, flavour);
                let requests = (100, workload(250));
                let report = replay_with_restart(on, Restarted::Persistent, (options, 8), requests);
                let report = report.await.unwrap();
                assert!(report.is_clean(), "{on:?}: {report:?}");
                assert_eq!((report.requests, report.store), (250, flavour.program().to_owned()));
                let restart = report.restart.unwrap();
                assert_eq!((restart.after_requests, restart.announced_again), (100, 0));
                assert_eq!(restart.missed_before_resync, 0);
                assert!(restart.down_ms > 0.0, "{restart:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_server_is_right_again_once_the_pods_that_the_index_names_have_announced() {
    for flavour in Flavour::ALL {
        for layout in LAYOUTS {
            for options in [options(Route::Index), with_writers(4)] {
                let on = (layout, flavour);
                let requests = (100, workload(250));
                let report = replay_with_restart(on, Restarted::Empty, (options, 8), requests);
                let report = report.await.unwrap();
                assert!(report.is_clean(), "{on:?}: {report:?}");
                let restart = report.restart.unwrap();
                assert!(restart.resyncs >= 8, "all pods hold something: {restart:?}");
                assert!(restart.announced_again > 0, "{restart:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oracle_sees_what_a_server_has_lost_that_was_to_keep_all() {
    for layout in LAYOUTS {
        let stop = CancellationToken::new();
        // It is told to keep everything by the options alone, and was started without a log.
        let choice = StoreChoice::Private(PrivateServer::default());
        let opened = Store::open_in(layout, &choice, fleet(4, "700"), false, TAG, &stop);
        let mut store = opened.await.unwrap();
        let restart = Restart { server: Restarted::Persistent, after_requests: 100 };
        let options = Options { restart: Some(restart), ..with_writers(2) };
        let report = run(&options, workload(150), &mut store).await.unwrap();
        store.close().await.unwrap();
        assert_eq!(report.false_hits, 0, "{layout:?}: {report:?}");
        assert!(report.missed_blocks > 0, "{layout:?}: {report:?}");
        assert!(report.restart.unwrap().resyncs > 0, "{layout:?}: {report:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_needs_a_server_of_its_own_and_a_trace_that_is_long_enough() {
    let restart = Restart { server: Restarted::Empty, after_requests: 10 };
    let options = Options { restart: Some(restart), ..options(Route::Index) };
    for bench in [Bench::memory(), Bench::server(Flavour::Valkey)] {
        let mut store = bench.open(fleet(2, "700"), false).await.unwrap();
        let error = run(&options, workload(11), &mut store).await.unwrap_err();
        assert!(matches!(error, ReplayError::Store(StoreError::NotPrivate)), "{error:?}");
        store.close().await.unwrap();
    }
    let on = (Layout::LlmD, Flavour::Valkey);
    let requests = (10, workload(10));
    let outcome = replay_with_restart(on, Restarted::Empty, (options, 2), requests).await;
    let error = outcome.unwrap_err();
    assert!(matches!(error, ReplayError::NotRestarted { requests: 10 }), "{error:?}");
    // After the last request but one, it comes back in time for the comparison.
    let requests = (10, workload(11));
    let report = replay_with_restart(on, Restarted::Empty, (options, 2), requests).await.unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert!(report.restart.unwrap().announced_again > 0, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_larger_than_a_pod_leaves_only_its_head_in_the_index() {
    for bench in Bench::all() {
        // The last request finds the two blocks that remained of the first.
        let requests = || requests_of(&[&[1, 2, 3, 4], &[1, 2, 3]]);
        for options in [options(Route::Index), with_writers(2)] {
            let report = replay_on(&bench, &options, fleet(1, "2"), requests()).await;
            assert!(report.is_clean(), "{}: {report:?}", bench.name);
            assert_eq!((report.adds, report.evicts), (5, 3));
            assert_eq!(report.block_hit_rate, 2.0 / 7.0);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_listed_twice_counts_as_listed_and_is_stored_once() {
    for bench in Bench::all() {
        let requests = requests_of(&[&[1, 2, 1], &[1, 2, 1]]);
        let report =
            replay_on(&bench, &options(Route::Index), fleet(1, "unlimited"), requests).await;
        assert!(report.is_clean(), "{}: {report:?}", bench.name);
        assert_eq!((report.blocks, report.adds), (6, 2));
        assert_eq!(report.block_hit_rate, 0.5);
    }
}

/// An index whose adds and evicts pass through a gate each, which sees them counted from 0.
struct Gated<A, E> {
    index: Arc<dyn Index>,
    add_gate: A,
    evict_gate: E,
    adds: AtomicUsize,
    evicts: AtomicUsize,
}

/// What becomes of a call.
enum Gate {
    /// It is carried out.
    Open,
    /// It is answered with success and not carried out.
    Swallow,
    /// It is answered with an error and not carried out.
    Fail,
}

impl Gate {
    fn swallows_if(swallows: bool) -> Self {
        if swallows { Self::Swallow } else { Self::Open }
    }
}

impl<A, E> Gated<A, E>
where
    A: Fn(usize) -> Gate + Send + Sync + 'static,
    E: Fn(usize) -> Gate + Send + Sync + 'static,
{
    fn wrap(index: Arc<dyn Index>, add_gate: A, evict_gate: E) -> Arc<dyn Index> {
        let (adds, evicts) = Default::default();
        Arc::new(Self { index, add_gate, evict_gate, adds, evicts })
    }
}

#[async_trait]
impl<A, E> Index for Gated<A, E>
where
    A: Fn(usize) -> Gate + Send + Sync,
    E: Fn(usize) -> Gate + Send + Sync,
{
    async fn lookup(&self, keys: &[BlockHash], pods: &PodSet) -> Result<Lookup, IndexError> {
        self.index.lookup(keys, pods).await
    }

    async fn add(
        &self,
        engine_keys: Option<&[BlockHash]>,
        request_keys: &[BlockHash],
        entries: &[PodEntry],
    ) -> Result<(), IndexError> {
        match (self.add_gate)(self.adds.fetch_add(1, Ordering::Relaxed)) {
            Gate::Open => self.index.add(engine_keys, request_keys, entries).await,
            Gate::Swallow => Ok(()),
            // Without keys, an index answers with an error of its own.
            Gate::Fail => self.index.add(None, &[], entries).await,
        }
    }

    async fn evict(
        &self,
        keys: &[BlockHash],
        key_type: KeyType,
        entries: &[PodEntry],
    ) -> Result<(), IndexError> {
        match (self.evict_gate)(self.evicts.fetch_add(1, Ordering::Relaxed)) {
            Gate::Open => self.index.evict(keys, key_type, entries).await,
            Gate::Swallow => Ok(()),
            Gate::Fail => self.index.evict(&[], key_type, entries).await,
        }
    }

    async fn request_key(&self, engine_key: BlockHash) -> Result<BlockHash, IndexError> {
        self.index.request_key(engine_key).await
    }

    async fn clear(&self, pod_identifier: &str) -> Result<(), IndexError> {
        self.index.clear(pod_identifier).await
    }
}

/// The counters after a replay on one pod of two blocks, with one call swallowed.
async fn verdict(
    bench: &Bench,
    options: &Options,
    blocks: &[&[u64]],
    (add, evict): (Option<usize>, Option<usize>),
) -> (u64, u64) {
    let store = bench.open(fleet(1, "2"), false).await.unwrap();
    let mut store = store.wrap_index(|index| {
        let swallows = |which| move |n| Gate::swallows_if(which == Some(n));
        Gated::wrap(index, swallows(add), swallows(evict))
    });
    let report = run(options, requests_of(blocks), &mut store).await.unwrap();
    store.close().await.unwrap();
    assert_eq!(bench.keys_held().await, 0);
    assert_eq!(report.is_clean(), report.false_hits == 0 && report.missed_blocks == 0);
    (report.false_hits, report.missed_blocks)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oracle_of_lookups_sees_a_suppressed_add_and_a_suppressed_evict() {
    let blocks: &[&[u64]] = &[&[1, 2], &[1, 2], &[3], &[1, 2]];
    for bench in Bench::all() {
        let options = options(Route::Index);
        assert_eq!(verdict(&bench, &options, blocks, (None, None)).await, (0, 0));
        // The pod holds 1 and 2, and the index is never told: the second request misses both, and
        // the last one misses 1 again (2 had to make way for 3, and the index knows that).
        let counters = verdict(&bench, &options, blocks, (Some(0), None)).await;
        assert_eq!(counters, (0, 3), "{}: a suppressed add", bench.name);
        // The index still has 2 after the pod has dropped it, as the last request shows.
        let counters = verdict(&bench, &options, blocks, (None, Some(0))).await;
        assert_eq!(counters, (1, 0), "{}: a suppressed evict", bench.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oracle_of_the_dump_sees_a_suppressed_add_and_a_suppressed_evict() {
    let blocks: &[&[u64]] = &[&[1, 2], &[3]];
    for bench in Bench::all() {
        let options = with_writers(1);
        assert_eq!(verdict(&bench, &options, blocks, (None, None)).await, (0, 0));
        // The pod ends with 1 and 3.
        let counters = verdict(&bench, &options, blocks, (Some(0), None)).await;
        assert_eq!(counters, (0, 1), "{}: the add of 1 and 2", bench.name);
        let counters = verdict(&bench, &options, blocks, (Some(1), None)).await;
        assert_eq!(counters, (0, 1), "{}: the add of 3", bench.name);
        let counters = verdict(&bench, &options, blocks, (None, Some(0))).await;
        assert_eq!(counters, (1, 0), "{}: the evict of 2", bench.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_fails_ends_the_replay_and_the_keys_are_removed_all_the_same() {
    let bench = Bench::server(Flavour::Valkey);
    for options in [options(Route::Index), with_writers(3)] {
        let store = bench.open(fleet(4, "500"), false).await.unwrap();
        let mut store = store.wrap_index(|index| {
            let fails_later = |n| if n < 50 { Gate::Open } else { Gate::Fail };
            Gated::wrap(index, fails_later, |_| Gate::Open)
        });
        let endless = Box::new(Generator::new(7).map(Ok));
        let error = run(&options, endless, &mut store).await.unwrap_err();
        assert!(matches!(error, ReplayError::Index(_)), "{error:?}");
        assert!(bench.keys_held().await > 0);
        store.close().await.unwrap();
        assert_eq!(bench.keys_held().await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_ends_a_replay_under_way_and_its_keys_are_removed() {
    let bench = Bench::server(Flavour::Redis);
    for options in [options(Route::Index), with_writers(3)] {
        let mut store = bench.open(fleet(4, "500"), false).await.unwrap();
        let stop = CancellationToken::new();
        let endless = Box::new(Generator::new(7).map(Ok)) as Requests;
        let replaying = replay::run(&options, endless, &mut store, || (), &stop);
        let (outcome, ()) = tokio::join!(replaying, async {
            while bench.keys_held().await < 100 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            stop.cancel();
        });
        assert!(matches!(outcome, Err(ReplayError::Interrupted)), "{outcome:?}");
        store.close().await.unwrap();
        assert_eq!(bench.keys_held().await, 0);
        // Nothing was still under way that would write again.
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(bench.keys_held().await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_with_keys_is_refused_unless_allowed() {
    let bench = Bench::server(Flavour::Valkey);
    let client = bench.client().await;
    let (): () =
        client.execute(Command::new("SET").arg("theirs").arg("1")).await.map(drop).unwrap();
    let error = bench.open(fleet(1, "10"), false).await.unwrap_err();
    assert!(matches!(error, StoreError::NotEmpty { held: 1, .. }), "{error:?}");
    assert!(error.to_string().contains("--allow-non-empty"), "{error}");
    bench.open(fleet(1, "10"), true).await.unwrap().close().await.unwrap();
    let kept: String = client.query(Command::new("GET").arg("theirs")).await.unwrap();
    assert_eq!(kept, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_keys_survive_even_where_they_share_a_name_with_the_replays() {
    for flavour in Flavour::ALL {
        let bench = Bench::server(flavour);
        let client = bench.client().await;
        let keys = Keys::new(TAG);
        let request_key = keys.request_key(1).to_string();
        let engine_key = format!("engine:{}", keys.engine_key(1));
        // Another pod holds block 1 under the same names, and block 9 by itself; the
        // rest is no index's at all.
        let theirs = PodEntry::new("10.0.0.1:8000", "gpu").to_field();
        for command in [
            Command::new("HSET").arg(&*request_key).arg(&theirs).arg(""),
            Command::new("ZADD").arg(&*engine_key).arg(0).arg("9"),
            Command::new("HSET").arg("9").arg(&theirs).arg(""),
            Command::new("ZADD").arg("engine:99").arg(0).arg("9"),
            Command::new("SET").arg("text").arg("1"),
            Command::new("RPUSH").arg("engine:~list").arg("1"),
            Command::new("SADD").arg("7").arg("1"),
        ] {
            client.execute(command).await.unwrap();
        }
        let before = snapshot(&client).await;

        for options in [options(Route::Index), with_writers(2)] {
            let mut store = bench.open(fleet(2, "2"), true).await.unwrap();
            let requests = requests_of(&[&[1, 2], &[1, 2], &[3, 4], &[1], &[5]]);
            let report = run(&options, requests, &mut store).await.unwrap();
            assert!(report.is_clean(), "{report:?}");
            assert_ne!(snapshot(&client).await, before);
            store.close().await.unwrap();
            assert_eq!(snapshot(&client).await, before);
        }
    }
}

/// A figure of INFO, such as the bytes that the server has received.
async fn figure(client: &Client, name: &str) -> u64 {
    let info: String = client.query(Command::new("INFO").arg("stats")).await.unwrap();
    let figure = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    figure.unwrap().trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_costs_what_was_written_and_not_all_blocks_of_all_pods() {
    let bench = Bench::server(Flavour::Valkey);
    let client = bench.client().await;
    let mut store = bench.open(fleet(1000, "unlimited"), false).await.unwrap();
    let blocks: Vec<Vec<u64>> = (0..100).map(|n| (10 * n..10 * n + 10).collect()).collect();
    // Every block is on one pod, and the first one on all others as well.
    let mut requests: Vec<&[u64]> = blocks.iter().map(|ids| &ids[..]).collect();
    requests.resize(1000, &[0]);
    let round_robin = options(Route::RoundRobin);
    run(&round_robin, requests_of(&requests), &mut store).await.unwrap();
    let before = figure(&client, "total_net_input_bytes").await;
    store.close().await.unwrap();
    let received = figure(&client, "total_net_input_bytes").await - before;
    // 1,999 pairs of some 150 bytes each, and 1,000 engine keys.
    assert!(received < 1_000_000, "{received} bytes");
    assert_eq!(bench.keys_held().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dump_leaves_the_fields_of_large_foreign_hashes_on_the_server() {
    const FIELDS: u64 = 50_000;
    const HASH_BYTES: u64 = FIELDS * 100;
    for flavour in Flavour::ALL {
        let bench = Bench::server(flavour);
        let client = bench.client().await;
        // One has the name of a block of the replay's, so that ours is a field among many.
        let shared = Keys::new(TAG).request_key(1).to_string();
        let script = "for i = 1, ARGV[1] do \
                          redis.call('HSET', KEYS[1], string.rep('x', 100) .. i, '') \
                      end";
        for hash in ["7", &shared] {
            let fill = Command::new("EVAL").arg(script).arg(1).arg(hash).arg(FIELDS);
            client.execute(fill).await.unwrap();
        }
        let mut store = bench.open(fleet(1, "2"), true).await.unwrap();
        let before = figure(&client, "total_net_output_bytes").await;
        let report = run(&with_writers(1), requests_of(&[&[1, 2]]), &mut store).await.unwrap();
        assert!(report.is_clean(), "{report:?}");
        let read = figure(&client, "total_net_output_bytes").await - before;
        assert!(read > HASH_BYTES, "a lookup has to read what stands under its key: {read}");
        assert!(read < 2 * HASH_BYTES, "and nothing else is read whole: {read}");
        store.close().await.unwrap();
        for hash in ["7", &shared] {
            let held: u64 = client.query(Command::new("HLEN").arg(hash)).await.unwrap();
            assert_eq!(held, FIELDS);
        }
    }
}

/// Every key with its serialised value, sorted.
async fn snapshot(client: &Client) -> Vec<(String, Vec<u8>)> {
    let mut keys: Vec<String> = client.query(Command::new("KEYS").arg("*")).await.unwrap();
    keys.sort_unstable();
    let mut dump = Vec::new();
    for key in keys {
        let value: Vec<u8> = client.query(Command::new("DUMP").arg(&*key)).await.unwrap();
        dump.push((key, value));
    }
    dump
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_without_requests_is_an_error() {
    let mut store = Bench::memory().open(fleet(1, "10"), false).await.unwrap();
    let error = run(&options(Route::Index), requests_of(&[]), &mut store).await.unwrap_err();
    assert!(matches!(error, ReplayError::NoRequests), "{error:?}");
}

/// The conversation trace, or `None` and a loud word about it.
fn conversation_trace() -> Option<PathBuf> {
    let path = std::env::var_os("RESPIRE_TRACE").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/conversation_trace.jsonl"),
        PathBuf::from,
    );
    if path.is_file() {
        return Some(path);
    }
    // Written directly, because what a passing test prints is captured, and this must be seen.
    let notice = b"\n*** NOT CHECKED: the conversation trace is not there, neither where \
        RESPIRE_TRACE says nor in ../shared/data. README says where it comes from. ***\n\n";
    let _ = std::io::stderr().lock().write_all(notice);
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn the_conversation_trace_survives_a_killed_server_in_every_layout() {
    let Some(trace) = conversation_trace() else { return };
    for (server, writers) in [(Restarted::Persistent, 0), (Restarted::Empty, 4)] {
        for layout in LAYOUTS {
            let options = if writers > 0 { with_writers(writers) } else { options(Route::Index) };
            let (requests, _) = Source::File(trace.clone()).open(Some(600)).unwrap();
            let requests = (300, requests);
            let on = (layout, Flavour::Valkey);
            let report = replay_with_restart(on, server, (options, 8), requests).await.unwrap();
            assert!(report.is_clean(), "{on:?}, {server:?}: {report:?}");
            assert_eq!(report.requests, 600);
        }
    }
}

/// Replays the trace on every store, all of them at once, and hands over what each reports.
async fn replay_trace(trace: &Path, size: FleetSize, route: Route) -> Vec<(&'static str, Report)> {
    let mut replays = JoinSet::new();
    for bench in Bench::all() {
        let (requests, _) = Source::File(trace.to_owned()).open(None).unwrap();
        replays.spawn(async move {
            let report = replay_on(&bench, &options(route), size, requests).await;
            (bench.name, report)
        });
    }
    let reports = replays.join_all().await;
    for (name, report) in &reports {
        assert!(report.is_clean(), "{name}: {report:?}");
        assert_eq!((report.requests, report.blocks), (12_031, 288_500), "{name}");
    }
    assert_eq!(reports.len(), 3);
    reports
}

#[tokio::test(flavor = "multi_thread")]
async fn finds_in_the_conversation_trace_what_it_contains_on_every_store() {
    let Some(trace) = conversation_trace() else { return };
    let size = FleetSize { pods: 1, capacity: Capacity::Unlimited };
    for (name, report) in replay_trace(&trace, size, Route::Index).await {
        assert_eq!(format!("{:.5}", report.block_hit_rate), "0.36641", "{name}");
        assert_eq!((report.adds, report.evicts), (182_790, 0), "{name}");
    }
}

/// The numbers in README's table: route; block hit rate; time to first token: mean, p50, p90.
const README_ROWS: [(Route, [&str; 4]); 3] = [
    (Route::Index, ["32.7 %", "1.162 s", "0.614 s", "2.752 s"]),
    (Route::Load, ["13.4 %", "1.533 s", "0.923 s", "3.508 s"]),
    (Route::RoundRobin, ["13.5 %", "2.904 s", "1.560 s", "7.725 s"]),
];

/// What an independent implementation of the same rules has found: mean time to first token.
const MEANS_S: [&str; 3] = ["1.1624897556", "1.5329969766", "2.9037615327"];

#[tokio::test(flavor = "multi_thread")]
async fn every_store_has_the_rows_of_readme_where_the_index_doubles_the_hit_rate() {
    let Some(trace) = conversation_trace() else { return };
    let mut hit_rates = Vec::new();
    for ((route, row), mean) in README_ROWS.into_iter().zip(MEANS_S) {
        let reports = replay_trace(&trace, fleet(8, "20000"), route).await;
        for (name, report) in &reports {
            let ttft = report.ttft_s;
            let seconds = [ttft.mean, ttft.p50, ttft.p90].map(|time| format!("{time:.3} s"));
            let hit_rate = format!("{:.1} %", 100.0 * report.block_hit_rate);
            assert_eq!([&[hit_rate][..], &seconds].concat(), row, "{name}, {}", route.name());
            assert_eq!(format!("{:.10}", ttft.mean), mean, "{name}, {}", route.name());
        }
        let (_, report) = &reports[0];
        hit_rates.push(report.block_hit_rate);
        if route == Route::Index {
            assert_eq!(format!("{:.10}", report.block_hit_rate), "0.3268249567");
            assert_eq!((report.adds, report.evicts), (194_211, 34_211));
        }
    }
    let [index, load, round_robin] = hit_rates[..] else { panic!("{hit_rates:?}") };
    assert!(index > 2.0 * load && index > 2.0 * round_robin, "{hit_rates:?}");
}

#[test]
fn readme_has_the_rows_that_are_checked() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = std::fs::read_to_string(path).unwrap();
    for (route, row) in README_ROWS {
        let line = format!("| `{}` | {} | 0 | 0 |", route.name(), row.join(" | "));
        assert!(readme.lines().any(|it| it == line), "{line}");
    }
}
