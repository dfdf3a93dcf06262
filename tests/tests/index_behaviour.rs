//! The index suite over every backend: in memory, and on both servers in both layouts, in both protocols, over every transport.
//! Then what only a configuration, or two backends on one server, can show.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, its helpers included")]

use std::{
    collections::HashMap,
    error::Error as _,
    path::Path,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU32, Ordering},
    },
};

use proptest::{prelude::*, test_runner::TestRunner};
use respire::{Client, Config, Pipeline};
use respire_cli::local_server::{Flavour, LocalServer};
use respire_kvblock::{
    BackendType, BlockHash, InMemoryConfig, InMemoryIndex, Index, IndexConfig, IndexError, KeyType,
    PodEntry, PodSet, ServerConfig, ServerIndex,
};
use respire_tests::{
    index_suite::{Shared, cpu, gpu, hashes, holders, mapped},
    tls::{TlsServer, authority, client_files},
};

/// An index in memory with room for what the suite does.
async fn memory() -> (Shared, ()) {
    let config = InMemoryConfig { pod_cache_size: 1000, ..InMemoryConfig::default() };
    (Arc::new(InMemoryIndex::new(config).unwrap()), ())
}

/// The same with a budget of bytes, opened by a configuration.
async fn budgeted() -> (Shared, ()) {
    let config: IndexConfig = r#"{"costAwareMemoryConfig":{"size":"256MiB"}}"#.parse().unwrap();
    (config.open().await.unwrap(), ())
}

/// A private server, which every test has for itself. A missing program fails the test.
fn server(flavour: Flavour) -> LocalServer {
    LocalServer::builder(flavour).tcp().start().unwrap()
}

/// A server and an index on it, opened by a configuration as a router would.
async fn configured(flavour: Flavour) -> (Shared, LocalServer) {
    let server = server(flavour);
    let text = match flavour {
        Flavour::Valkey => {
            let address = server.tcp_url().unwrap().replace("redis://", "valkey://");
            format!(
                r#"{{"valkeyConfig":{{"address":"{address}","backendType":"valkey","enableRDMA":false}}}}"#
            )
        }
        Flavour::Redis => format!(r#"{{"redisConfig":{{"address":"{}"}}}}"#, server.url()),
    };
    let config: IndexConfig = text.parse().unwrap();
    (config.open().await.unwrap(), server)
}

mod in_memory {
    respire_tests::index_suite!(super::memory());
}

mod in_memory_by_bytes {
    respire_tests::index_suite!(super::budgeted());
}

/// How a server is reached.
#[derive(Clone, Copy)]
enum Over {
    Tcp,
    Unix,
    Tls,
}

/// The server of a flavour. All tests that run at the same time share one, and each has a database of its own.
fn shared(flavour: Flavour) -> Arc<TlsServer> {
    static SERVERS: [Mutex<Weak<TlsServer>>; 2] =
        [Mutex::new(Weak::new()), Mutex::new(Weak::new())];
    let mut server =
        SERVERS[flavour as usize].lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    server.upgrade().unwrap_or_else(|| {
        let started = Arc::new(TlsServer::start(flavour, &["--databases", "2048"]));
        *server = Arc::downgrade(&started);
        started
    })
}

/// An index in an empty database, opened by a configuration as a router would.
async fn opened(server: &TlsServer, layout: &str, protocol: u8, over: Over) -> (Shared, ()) {
    static DATABASES: AtomicU32 = AtomicU32::new(0);
    let database = DATABASES.fetch_add(1, Ordering::Relaxed);
    let file = |path: &Path| path.to_str().unwrap().to_owned();
    let address = match over {
        Over::Tcp => format!("{}?", server.tcp_url().unwrap()),
        Over::Unix => format!("unix://{}?", file(server.socket_path())),
        Over::Tls => {
            let (url, ca, client) = (server.tls_url(), file(&authority().file()), client_files());
            let (certificate, key) = (file(&client.certificate), file(&client.key));
            format!("{url}?tls_ca={ca}&tls_cert={certificate}&tls_key={key}&")
        }
    };
    // The machine may be busy with the other cases.
    let address = format!("{address}db={database}&protocol={protocol}&command_timeout=60s");
    let config = format!(r#"{{"redisConfig":{{"address":"{address}","layout":"{layout}"}}}}"#);
    let config: IndexConfig = config.parse().unwrap();
    (config.open().await.unwrap(), ())
}

/// A test for each way, in which all cases of the suite run.
macro_rules! suites {
    ($($name:ident: $flavour:ident, $layout:literal, $protocol:literal, $over:ident;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let server = shared(Flavour::$flavour);
            let open = async || opened(&server, $layout, $protocol, Over::$over).await;
            respire_tests::index_suite::all_cases(open).await;
        }
    )*};
}

suites! {
    llm_d_on_valkey_in_resp2_over_tcp: Valkey, "llm-d", 2, Tcp;
    llm_d_on_valkey_in_resp2_over_unix: Valkey, "llm-d", 2, Unix;
    llm_d_on_valkey_in_resp2_over_tls: Valkey, "llm-d", 2, Tls;
    llm_d_on_valkey_in_resp3_over_tcp: Valkey, "llm-d", 3, Tcp;
    llm_d_on_valkey_in_resp3_over_unix: Valkey, "llm-d", 3, Unix;
    llm_d_on_valkey_in_resp3_over_tls: Valkey, "llm-d", 3, Tls;
    llm_d_on_redis_in_resp2_over_tcp: Redis, "llm-d", 2, Tcp;
    llm_d_on_redis_in_resp2_over_unix: Redis, "llm-d", 2, Unix;
    llm_d_on_redis_in_resp2_over_tls: Redis, "llm-d", 2, Tls;
    llm_d_on_redis_in_resp3_over_tcp: Redis, "llm-d", 3, Tcp;
    llm_d_on_redis_in_resp3_over_unix: Redis, "llm-d", 3, Unix;
    llm_d_on_redis_in_resp3_over_tls: Redis, "llm-d", 3, Tls;
    bitmap_on_valkey_in_resp2_over_tcp: Valkey, "bitmap", 2, Tcp;
    bitmap_on_valkey_in_resp2_over_unix: Valkey, "bitmap", 2, Unix;
    bitmap_on_valkey_in_resp2_over_tls: Valkey, "bitmap", 2, Tls;
    bitmap_on_valkey_in_resp3_over_tcp: Valkey, "bitmap", 3, Tcp;
    bitmap_on_valkey_in_resp3_over_unix: Valkey, "bitmap", 3, Unix;
    bitmap_on_valkey_in_resp3_over_tls: Valkey, "bitmap", 3, Tls;
    bitmap_on_redis_in_resp2_over_tcp: Redis, "bitmap", 2, Tcp;
    bitmap_on_redis_in_resp2_over_unix: Redis, "bitmap", 2, Unix;
    bitmap_on_redis_in_resp2_over_tls: Redis, "bitmap", 2, Tls;
    bitmap_on_redis_in_resp3_over_tcp: Redis, "bitmap", 3, Tcp;
    bitmap_on_redis_in_resp3_over_unix: Redis, "bitmap", 3, Unix;
    bitmap_on_redis_in_resp3_over_tls: Redis, "bitmap", 3, Tls;
}

#[tokio::test]
async fn a_valkey_configuration_has_its_defaults_and_keeps_what_it_is_given() {
    let config: IndexConfig = r#"{"valkeyConfig":{}}"#.parse().unwrap();
    let valkey = config.valkey.unwrap();
    assert_eq!(valkey, ServerConfig::valkey("valkey://127.0.0.1:6379"));
    assert_eq!((valkey.backend_type, valkey.enable_rdma), (BackendType::Valkey, false));

    let server = server(Flavour::Valkey);
    let address = server.tcp_address().unwrap().to_string();
    let config = IndexConfig::valkey(ServerConfig::valkey(format!("valkey://{address}")));
    let index = config.open().await.unwrap();
    index.add(None, &hashes([1]), &[gpu("pod1")]).await.unwrap();
    assert_eq!(index.describe(), format!("on the server at {address}, database 0"));

    let text =
        format!(r#"{{"valkeyConfig":{{"address":"valkey://{address}","enableRDMA":true}}}}"#);
    let config: IndexConfig = text.parse().unwrap();
    assert!(config.valkey.as_ref().unwrap().enable_rdma);
    let refused = config.open().await.err().unwrap();
    assert_eq!(refused.config_error().unwrap().setting(), Some("valkeyConfig.enableRDMA"));

    let encrypted = IndexConfig::valkey(ServerConfig::valkey(format!("valkeys://{address}")));
    let refused = encrypted.open().await.err().unwrap();
    assert_eq!(refused.to_string(), "failed to create Valkey index");
    assert_eq!(refused.source().unwrap().to_string(), "failed to connect to valkey");
}

#[tokio::test]
async fn the_schemes_of_both_servers_lead_to_either() {
    for flavour in Flavour::ALL {
        let server = server(flavour);
        let address = server.tcp_address().unwrap();
        for (scheme, works) in [
            ("", true),
            ("redis://", true),
            ("valkey://", true),
            ("rediss://", false),
            ("valkeys://", false),
        ] {
            let address = format!("{scheme}{address}");
            for config in [
                IndexConfig::valkey(ServerConfig::valkey(&*address)),
                IndexConfig::redis(ServerConfig::redis(&*address)),
            ] {
                let opened = config.open().await;
                assert_eq!(opened.is_ok(), works, "{config:?}");
            }
        }
    }
}

#[tokio::test]
async fn both_backends_see_each_others_entries_on_one_server() {
    for flavour in Flavour::ALL {
        let server = server(flavour);
        let address = server.tcp_address().unwrap().to_string();
        let valkey = IndexConfig::valkey(ServerConfig::valkey(&*address)).open().await.unwrap();
        let redis = IndexConfig::redis(ServerConfig::redis(&*address)).open().await.unwrap();
        valkey.add(Some(&hashes([1])), &hashes([11]), &[gpu("pod1")]).await.unwrap();
        redis.add(Some(&hashes([1])), &hashes([11]), &[gpu("pod2")]).await.unwrap();
        for index in [&valkey, &redis] {
            assert_eq!(holders(&**index, 11).await, [gpu("pod1"), gpu("pod2")]);
            assert_eq!(mapped(&**index, 1).await, Some(11));
        }
        redis.evict(&hashes([1]), KeyType::Engine, &[gpu("pod1")]).await.unwrap();
        valkey.clear("pod2").await.unwrap();
        assert_eq!(holders(&*redis, 11).await, []);
    }
}

#[tokio::test]
async fn a_password_is_used_and_not_shown() {
    let server = LocalServer::builder(Flavour::Valkey)
        .tcp()
        .args(["--requirepass", "s3cret"])
        .start()
        .unwrap();
    let address = server.tcp_address().unwrap();
    let open = async |credentials: &str| {
        let address = format!("valkey://{credentials}{address}");
        IndexConfig::valkey(ServerConfig::valkey(address)).open().await
    };
    let index = open(":s3cret@").await.unwrap();
    index.add(None, &hashes([1]), &[gpu("pod1")]).await.unwrap();
    for wrong in ["", ":wr0ng@", "nobody:wr0ng@"] {
        let error = open(wrong).await.err().unwrap();
        let mut shown = format!("{error:?}");
        let mut cause: Option<&dyn std::error::Error> = Some(&error);
        while let Some(error) = cause {
            shown += &error.to_string();
            cause = error.source();
        }
        assert!(error.client_error().is_some(), "{shown}");
        assert!(!shown.contains("wr0ng"), "{shown}");
    }
}

/// A call, with an engine key always standing for the same request key, as it does for one model.
#[derive(Clone, Debug)]
enum Call {
    Lookup(Vec<u64>, Vec<&'static str>),
    Add(Vec<u64>, bool, Vec<PodEntry>),
    /// An engine key, one of its own, that is named twice for two request keys whose names sort the other way round.
    AddTwice(u64, Vec<PodEntry>),
    Evict(Vec<u64>, KeyType, Vec<PodEntry>),
    RequestKey(u64),
    Clear(&'static str),
}

const PODS: [&str; 3] = ["10.0.0.1:8000", "<pod> & \"b\"", "c@d"];

fn any_call() -> impl Strategy<Value = Call> {
    let pod = || prop::sample::select(&PODS);
    let entry = || {
        (pod(), any::<bool>(), any::<bool>(), prop::option::of(0..2_i64)).prop_map(
            |(pod, on_gpu, speculative, group)| PodEntry {
                speculative,
                group,
                ..if on_gpu { gpu(pod) } else { cpu(pod) }
            },
        )
    };
    let keys = |below: u64| prop::collection::vec(0..below, 1..5);
    let entries = || prop::collection::vec(entry(), 1..4);
    prop_oneof![
        3 => (keys(11), prop::collection::vec(pod(), 0..3)).prop_map(|(k, p)| Call::Lookup(k, p)),
        4 => (keys(6), any::<bool>(), entries()).prop_map(|(k, m, e)| Call::Add(k, m, e)),
        2 => (6..8_u64, entries()).prop_map(|(k, e)| Call::AddTwice(k, e)),
        3 => (keys(11), any::<bool>(), entries()).prop_map(|(k, engine, e)| {
            Call::Evict(k, if engine { KeyType::Engine } else { KeyType::Request }, e)
        }),
        2 => (0..8_u64).prop_map(Call::RequestKey),
        1 => pod().prop_map(Call::Clear),
    ]
}

fn engine(numbers: &[u64]) -> Vec<BlockHash> {
    hashes(numbers.iter().map(|number| 1000 + number))
}

/// What a call answers, in a form in which two backends can be compared.
async fn answer(index: &dyn Index, call: &Call) -> Result<String, IndexError> {
    Ok(match call {
        Call::Lookup(keys, pods) => {
            let pods: PodSet = pods.iter().copied().collect();
            let found = index.lookup(&hashes(keys.iter().copied()), &pods).await?;
            let sorted = found.iter().map(|(key, entries)| {
                let mut entries: Vec<_> = entries.collect();
                entries.sort();
                format!("{key}: {entries:?}")
            });
            sorted.collect::<Vec<_>>().join("\n")
        }
        Call::Add(keys, with_engine_keys, entries) => {
            let engine_keys = with_engine_keys.then(|| engine(keys));
            index.add(engine_keys.as_deref(), &hashes(keys.iter().copied()), entries).await?;
            String::new()
        }
        Call::AddTwice(number, entries) => {
            index.add(Some(&engine(&[*number, *number])), &hashes([9, 10]), entries).await?;
            String::new()
        }
        Call::Evict(keys, KeyType::Engine, entries) => {
            index.evict(&engine(keys), KeyType::Engine, entries).await?;
            String::new()
        }
        Call::Evict(keys, KeyType::Request, entries) => {
            index.evict(&hashes(keys.iter().copied()), KeyType::Request, entries).await?;
            String::new()
        }
        Call::RequestKey(number) => match index.request_key(engine(&[*number])[0]).await {
            Ok(key) => key.to_string(),
            Err(error) if error.is_not_found() => error.to_string(),
            Err(error) => return Err(error),
        },
        Call::Clear(pod) => {
            index.clear(pod).await?;
            String::new()
        }
    })
}

/// llm-d's own clear reads every key whose name does not start with `engine:` as a hash, and gives up at the first that
/// is none. How many there are.
async fn only_engine_keys_are_no_hashes(client: &Client) -> usize {
    let mut names: Vec<Vec<u8>> = Vec::new();
    let mut cursor = b"0".to_vec();
    loop {
        let scan = respire::Command::new("SCAN").arg(&cursor).arg("COUNT").arg(1000);
        let page: (Vec<u8>, Vec<Vec<u8>>) = client.query(scan).await.unwrap();
        names.extend(page.1.into_iter().filter(|name| !name.starts_with(b"engine:")));
        cursor = page.0;
        if cursor == b"0" {
            break;
        }
    }
    for name in &names {
        let fields: Result<Vec<Vec<u8>>, _> =
            client.query(respire::Command::new("HKEYS").arg(name)).await;
        assert!(!fields.unwrap().is_empty(), "{name:?}");
    }
    names.len()
}

/// Pods share a thousand blocks, each told by a task with a connection of its own, as several routers would. Whoever has
/// added must find its blocks, and whoever has evicted by engine keys must not: a mapping that was dropped while its entry
/// was on the way would leave the entry behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_events_of_many_writers_leave_nothing_behind() {
    for flavour in Flavour::ALL {
        let server = server(flavour);
        let client = Client::connect(&server.url()).await.unwrap();
        let keys = hashes(1_000_000..1_001_000);
        let mut writers = tokio::task::JoinSet::new();
        for number in 0..3 {
            let client = Client::connect(&server.url()).await.unwrap();
            let keys = keys.clone();
            writers.spawn(async move {
                let index = ServerIndex::new(client.clone());
                let pod = format!("pod-{number}");
                let entry = [gpu(&pod)];
                let held = async || {
                    let mut questions = Pipeline::new();
                    for key in &keys {
                        let field = entry[0].to_field();
                        questions.command(&[
                            b"HEXISTS".as_slice(),
                            key.to_string().as_bytes(),
                            &field,
                        ]);
                    }
                    let answers = client.pipeline(questions).await.unwrap();
                    answers.iter().map(|answer| answer.parse::<usize>().unwrap()).sum::<usize>()
                };
                let (mut missing, mut left) = (0, 0);
                for _ in 0..40 {
                    index.add(Some(&keys), &keys, &entry).await.unwrap();
                    missing += keys.len() - held().await;
                    index.evict(&keys, KeyType::Engine, &entry).await.unwrap();
                    left += held().await;
                }
                index.add(Some(&keys[..100]), &keys[..100], &entry).await.unwrap();
                (missing, left)
            });
        }
        while let Some(writer) = writers.join_next().await {
            assert_eq!(writer.unwrap(), (0, 0), "blocks missing, and left behind");
        }
        assert_eq!(only_engine_keys_are_no_hashes(&client).await, 100);
    }
}

#[test]
fn any_calls_are_answered_alike_in_memory_and_on_servers() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for flavour in Flavour::ALL {
        let server = server(flavour);
        let client = runtime.block_on(Client::connect(&server.url())).unwrap();
        let on_server = ServerIndex::new(client.clone());
        let config = ProptestConfig { cases: 128, failure_persistence: None, ..Default::default() };
        let calls = prop::collection::vec(any_call(), 1..40);
        let outcome = TestRunner::new(config).run(&calls, |calls| {
            runtime.block_on(async {
                client.execute(respire::Command::new("FLUSHALL")).await.unwrap();
                let (in_memory, ()) = memory().await;
                let (by_bytes, ()) = budgeted().await;
                for call in &calls {
                    let expected = answer(&*in_memory, call).await.unwrap();
                    prop_assert_eq!(answer(&*by_bytes, call).await.unwrap(), expected.clone());
                    prop_assert_eq!(
                        answer(&on_server, call).await.unwrap(),
                        expected,
                        "{:?}",
                        call
                    );
                }
                only_engine_keys_are_no_hashes(&client).await;
                Ok(())
            })
        });
        outcome.unwrap();
    }
}

#[tokio::test]
async fn a_server_that_dies_is_an_error_for_every_call_and_comes_back() {
    for flavour in Flavour::ALL {
        let mut server = server(flavour);
        let config: Config = server.url().parse().unwrap();
        let index = ServerIndex::new(Client::with_config(config).await.unwrap());
        let (keys, pods) = (hashes([1]), [gpu("pod1")]);
        index.add(Some(&keys), &keys, &pods).await.unwrap();
        server.kill();
        let failures = [
            index.lookup(&keys, &PodSet::all()).await.err(),
            index.add(None, &keys, &pods).await.err(),
            index.evict(&keys, KeyType::Engine, &pods).await.err(),
            index.evict(&keys, KeyType::Request, &pods).await.err(),
            index.request_key(keys[0]).await.err(),
            index.clear("pod1").await.err(),
        ];
        for failure in failures {
            let error = failure.expect("a call without a server fails");
            assert!(error.client_error().is_some(), "{error:?}");
            assert!(!error.is_not_found() && !error.is_foreign_data());
        }
        server.restart().unwrap();
        let mut tries = 0;
        while index.lookup(&keys, &PodSet::all()).await.is_err() {
            tries += 1;
            assert!(tries < 100, "the index does not find its server again");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        // Nothing was kept on disk, so the server has forgotten both the block and the scripts.
        assert_eq!(mapped(&index, 1).await, None);
        index.add(Some(&keys), &keys, &pods).await.unwrap();
        index.evict(&keys, KeyType::Engine, &pods).await.unwrap();
        assert_eq!(mapped(&index, 1).await, None);
    }
}

#[tokio::test]
async fn prefix_lengths_agree_between_backends() {
    let (in_memory, ()) = memory().await;
    let (on_valkey, _server) = configured(Flavour::Valkey).await;
    for index in [&in_memory, &on_valkey] {
        for (pod, blocks) in [("a", 1700), ("b", 64), ("c", 321), ("d", 0)] {
            let keys = hashes(0..blocks);
            if !keys.is_empty() {
                index.add(Some(&keys), &keys, &[gpu(pod)]).await.unwrap();
            }
        }
        let found = index.lookup(&hashes(0..2000), &PodSet::all()).await.unwrap();
        assert_eq!(found.prefix_lengths(), HashMap::from([("a", 1700), ("b", 64), ("c", 321)]));
    }
}
