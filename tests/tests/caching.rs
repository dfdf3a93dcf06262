//! Reads through a cache, against real servers and against a peer that chooses when to announce what.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use respire::{
    Client, Command, Config, Pipeline, Protocol,
    cache::{CacheConfig, CachedClient},
    commands::StringCommands,
};
use respire_cli::local_server::Flavour;
use respire_tests::peer::{PeerConnection, ScriptedPeer};
use respire_tests::servers::{Ways, each_way, in_time, server};
use respire_tests::tls::TlsServer;

/// Without the bound on staleness getting in the way of what a test is about.
fn patient() -> CacheConfig {
    CacheConfig::new().with_staleness_max(Duration::from_secs(20))
}

/// Runs a test over each transport to each server: with a client, and another of which there is a cache with these settings.
async fn on_each<F: AsyncFn(Client, CachedClient, &str)>(cache: CacheConfig, test: F) {
    // Nothing is announced in the other protocol.
    each_way(Ways::Resp3, &[], async |_server: TlsServer, config: Config, name: &str| {
        let client = in_time(Client::with_config(config.clone())).await.expect("the server is up");
        let other = in_time(Client::with_config(config)).await.expect("the server is up");
        let cached = in_time(other.cached(cache.clone())).await.expect("it announces changes");
        test(client, cached, name).await;
    })
    .await;
}

async fn set(client: &Client, key: &str, value: impl AsRef<str>) {
    let set = Command::new("SET").arg(key).arg(value.as_ref());
    in_time(client.execute(set)).await.expect("SET is answered");
}

async fn get(cached: &CachedClient, key: &str) -> Option<String> {
    in_time(cached.query(Command::new("GET").arg(key))).await.expect("GET is answered")
}

/// Waits until something holds. What is waited for is another task's or the server's doing.
async fn eventually<F: AsyncFnMut() -> bool>(mut holds: F) {
    in_time(async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_value_is_read_once_and_again_after_it_has_changed() {
    for (config, announced) in [(patient(), 0), (patient().with_broadcast([""; 0]), 1)] {
        on_each(config, async |client, cached, name| {
            set(&client, "k", "1").await;
            // In broadcast mode, of keys that nobody has read as well.
            eventually(async || cached.stats().invalidations >= announced).await;
            for _ in 0..10 {
                assert_eq!(get(&cached, "k").await.as_deref(), Some("1"), "{name}");
            }
            assert_eq!(get(&cached, "absent").await, None, "{name}");
            assert_eq!(get(&cached, "absent").await, None, "{name}");
            let stats = cached.stats();
            assert_eq!((stats.hits, stats.misses), (10, 2), "{name}: {stats:?}");
            set(&client, "k", "2").await;
            set(&client, "absent", "there").await;
            eventually(async || get(&cached, "k").await.as_deref() == Some("2")).await;
            eventually(async || get(&cached, "absent").await.as_deref() == Some("there")).await;
            assert!(cached.stats().invalidations >= 2, "{name}");
        })
        .await;
    }
}

#[tokio::test]
async fn other_reads_of_a_key_are_cached_apart_and_go_together() {
    on_each(patient(), async |client, cached, name| {
        let hset = Command::new("HSET").arg("h").args(["a", "1", "b", "2"]);
        in_time(client.execute(hset)).await.unwrap();
        for _ in 0..3 {
            let a: String =
                in_time(cached.query(Command::new("HGET").arg("h").arg("a"))).await.unwrap();
            let len: i64 = in_time(cached.query(Command::new("hlen").arg("h"))).await.unwrap();
            let all: Vec<(String, i64)> =
                in_time(cached.query(Command::new("HGETALL").arg("h"))).await.unwrap();
            assert_eq!((a.as_str(), len, all.len()), ("1", 2, 2), "{name}");
            // What depends on chance is not.
            let random = Command::new("HRANDFIELD").arg("h");
            let field: String = in_time(cached.query(random)).await.unwrap();
            assert!(["a", "b"].contains(&field.as_str()));
        }
        let stats = cached.stats();
        assert_eq!((stats.hits, stats.misses, stats.keys), (6, 3, 1), "{name}: {stats:?}");
        // An error is a reply, and none to keep.
        for _ in 0..2 {
            let error = in_time(cached.execute(Command::new("LLEN").arg("h"))).await.unwrap_err();
            assert_eq!(error.server_error().unwrap().code(), "WRONGTYPE", "{name}");
        }
        assert_eq!(cached.stats().misses, 5, "{name}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_never_see_a_value_that_was_changed_longer_ago_than_allowed() {
    const STALENESS: Duration = Duration::from_millis(500);
    for broadcast in [false, true] {
        let mut config = CacheConfig::new().with_staleness_max(STALENESS);
        if broadcast {
            config = config.with_broadcast(["nonce"]);
        }
        on_each(config, async |client, cached, name| {
            set(&client, "nonce", "0").await;
            // When the write of each number was acknowledged.
            let acknowledged: Arc<Mutex<Vec<Instant>>> = Arc::new(Mutex::new(vec![Instant::now()]));
            let stop = Arc::new(AtomicBool::new(false));
            let writer = tokio::spawn({
                let (acknowledged, stop) = (Arc::clone(&acknowledged), Arc::clone(&stop));
                async move {
                    for nonce in 1.. {
                        if stop.load(Ordering::Relaxed) {
                            return nonce;
                        }
                        set(&client, "nonce", nonce.to_string()).await;
                        acknowledged.lock().unwrap().push(Instant::now());
                        let pause = Duration::from_micros(nonce % 7 * 150);
                        tokio::time::sleep(pause).await;
                    }
                    unreachable!("it counts for ever")
                }
            });
            let mut readers = tokio::task::JoinSet::new();
            for _ in 0..4 {
                let (cached, acknowledged) = (cached.clone(), Arc::clone(&acknowledged));
                readers.spawn(async move {
                    let mut last = 0;
                    for round in 0..4000 {
                        let start = Instant::now();
                        let value = get(&cached, "nonce").await.expect("it is there");
                        let value: usize = value.parse().expect("a number");
                        assert!(value >= last, "{value} after {last}");
                        last = value;
                        let next = acknowledged.lock().unwrap().get(value + 1).copied();
                        if let Some(next) = next {
                            let stale = start.saturating_duration_since(next);
                            assert!(stale <= STALENESS, "{stale:?}");
                        }
                        if round % 16 == 0 {
                            tokio::task::yield_now().await;
                        }
                    }
                });
            }
            while let Some(reader) = in_time(readers.join_next()).await {
                reader.unwrap_or_else(|error| panic!("{name} {broadcast}: {error}"));
            }
            stop.store(true, Ordering::Relaxed);
            in_time(writer).await.unwrap();
            let stats = cached.stats();
            assert!(stats.hits > 0 && stats.invalidations > 0, "{name}: {stats:?}");
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_writes_through_the_cache_reads_what_it_wrote() {
    on_each(patient(), async |_, cached, name| {
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..8 {
            let cached = cached.clone();
            tasks.spawn(async move {
                let key = format!("own.{task}");
                for round in 0..300 {
                    let value = round.to_string();
                    match round % 3 {
                        0 => {
                            let set = Command::new("SET").arg(&key).arg(&value);
                            in_time(cached.execute(set)).await.unwrap();
                        }
                        1 => {
                            let mset = Command::new("MSET").arg("x").arg("y").arg(&key).arg(&value);
                            in_time(cached.execute(mset)).await.unwrap();
                        }
                        _ => {
                            let mut pipeline = Pipeline::new();
                            pipeline.command(&["MULTI"]).command(&["SET", &key, &value]);
                            pipeline.command(&["EXEC"]);
                            in_time(cached.pipeline(pipeline)).await.unwrap();
                        }
                    }
                    assert_eq!(get(&cached, &key).await, Some(value.clone()));
                    assert_eq!(get(&cached, &key).await, Some(value));
                }
            });
        }
        while let Some(task) = in_time(tasks.join_next()).await {
            task.unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_that_is_emptied_has_everything_forgotten() {
    for config in [patient(), patient().with_broadcast(["k"])] {
        on_each(config, async |client, cached, name| {
            for number in 0..20 {
                set(&client, &format!("k{number}"), "v").await;
                assert!(get(&cached, &format!("k{number}")).await.is_some());
            }
            in_time(client.execute(Command::new("FLUSHALL"))).await.unwrap();
            eventually(async || get(&cached, "k7").await.is_none()).await;
            for number in 0..20 {
                assert_eq!(get(&cached, &format!("k{number}")).await, None, "{name}");
            }
            assert_eq!(cached.stats().flushes, 1, "{name}");
            // By this client, it is so at once.
            set(&client, "k1", "v").await;
            eventually(async || get(&cached, "k1").await.is_some()).await;
            in_time(cached.execute(Command::new("FLUSHDB"))).await.unwrap();
            assert_eq!(get(&cached, "k1").await, None, "{name}");
        })
        .await;
    }
}

#[tokio::test]
async fn a_value_is_not_served_beyond_its_keys_time_to_live() {
    on_each(patient(), async |client, cached, name| {
        // The server does not look for keys that have expired by itself, and so announces nothing.
        let config = Command::new("CONFIG").arg("SET").arg("hz").arg(1);
        in_time(client.execute(config)).await.unwrap();
        for _ in 0..3 {
            let start = Instant::now();
            let set = Command::new("SET").arg("k").arg("v").arg("PX").arg(150);
            in_time(client.execute(set)).await.unwrap();
            eventually(async || get(&cached, "k").await.is_none()).await;
            assert!(start.elapsed() >= Duration::from_millis(150), "{name}");
        }
        let bounded =
            in_time(cached.client().cached(
                patient().with_ttl_max(Duration::from_millis(50)).with_expiry_followed(false),
            ))
            .await
            .unwrap();
        set(&client, "l", "v").await;
        get(&bounded, "l").await;
        tokio::time::sleep(Duration::from_millis(60)).await;
        get(&bounded, "l").await;
        assert_eq!((bounded.stats().hits, bounded.stats().misses), (0, 2), "{name}");
    })
    .await;
}

#[tokio::test]
async fn the_bound_holds_and_what_has_no_room_is_read_again() {
    on_each(patient().with_bytes_max(200_000), async |client, cached, name| {
        let value = "v".repeat(1000);
        for number in 0..500 {
            set(&client, &number.to_string(), &value).await;
        }
        for _ in 0..2 {
            for number in 0..500 {
                assert_eq!(get(&cached, &number.to_string()).await.as_ref(), Some(&value));
                assert!(cached.stats().bytes <= 200_000, "{name}");
            }
        }
        let stats = cached.stats();
        assert!(stats.evictions > 500 && stats.keys > 100, "{name}: {stats:?}");
        cached.clear();
        assert_eq!((cached.stats().keys, cached.stats().bytes), (0, 0), "{name}");
    })
    .await;
}

#[tokio::test]
async fn a_lost_connection_has_everything_forgotten_and_reads_go_on() {
    on_each(patient(), async |client, cached, name| {
        set(&client, "k", "old").await;
        for round in 1..=3 {
            get(&cached, "k").await;
            assert!(cached.stats().keys > 0, "{name}");
            let kill = Command::new("CLIENT").args(["KILL", "TYPE", "normal", "SKIPME", "yes"]);
            let killed: i64 = in_time(client.query(kill)).await.unwrap();
            assert!(killed >= 1, "{name}");
            let new = format!("new.{round}");
            set(&client, "k", &new).await;
            // Its end may be noticed a moment later, and what was written meanwhile is never announced.
            eventually(async || get(&cached, "k").await.as_ref() == Some(&new)).await;
            eventually(async || {
                let before = cached.stats().hits;
                assert_eq!(get(&cached, "k").await.as_ref(), Some(&new), "{name}");
                cached.stats().hits > before
            })
            .await;
            assert_eq!(cached.stats().losses, round, "{name}");
        }
    })
    .await;
}

#[tokio::test]
async fn in_broadcast_mode_only_keys_with_a_prefix_are_cached() {
    on_each(patient().with_broadcast(["user:", "session:"]), async |client, cached, name| {
        for key in ["user:1", "session:1", "other:1"] {
            set(&client, key, "v").await;
        }
        // A read that meets an announcement is not kept.
        eventually(async || cached.stats().invalidations >= 2).await;
        for key in ["user:1", "session:1", "other:1"] {
            get(&cached, key).await;
            get(&cached, key).await;
        }
        let stats = cached.stats();
        assert_eq!((stats.hits, stats.misses, stats.keys), (2, 2, 2), "{name}: {stats:?}");
        // A change is announced although nobody has read the key.
        let before = cached.stats().invalidations;
        set(&client, "user:unread", "v").await;
        eventually(async || cached.stats().invalidations > before).await;
        // One prefix is the beginning of the other.
        let refused = in_time(client.cached(patient().with_broadcast(["a", "ab"]))).await;
        let error = refused.expect_err("the server refuses that");
        assert!(error.server_error().unwrap().text().contains("overlaps"), "{name}: {error:#}");
    })
    .await;
}

#[tokio::test]
async fn who_reads_the_same_at_the_same_time_shares_a_request() {
    on_each(patient(), async |client, cached, name| {
        set(&client, "k", "v").await;
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let cached = cached.clone();
            tasks.spawn(async move { get(&cached, "k").await });
        }
        while let Some(value) = in_time(tasks.join_next()).await {
            assert_eq!(value.unwrap().as_deref(), Some("v"));
        }
        let stats = cached.stats();
        assert_eq!((stats.misses, stats.hits + stats.joined), (1, 99), "{name}: {stats:?}");
    })
    .await;
}

#[tokio::test]
async fn typed_commands_go_through_the_cache() {
    on_each(patient(), async |_, cached, name| {
        in_time(cached.set("k", "v")).await.unwrap();
        for _ in 0..3 {
            let value: Option<String> = in_time(cached.get("k")).await.unwrap();
            assert_eq!(value.as_deref(), Some("v"), "{name}");
        }
        assert_eq!((cached.stats().hits, cached.stats().misses), (2, 1), "{name}");
    })
    .await;
}

#[tokio::test]
async fn a_server_that_cannot_serve_for_now_is_left_to_the_client() {
    let peer = ScriptedPeer::start(|mut connection, number| async move {
        shake_hands(&mut connection, number).await;
        while until_get(&mut connection).await {
            connection.send(if number == 0 { "$1\r\nv\r\n" } else { "-LOADING soon\r\n" }).await;
        }
    })
    .await;
    let client = in_time(Client::connect(&peer.url())).await.unwrap();
    let cached = in_time(client.cached(patient())).await.unwrap();
    assert_eq!(get(&cached, "k").await.as_deref(), Some("v"));
    assert_eq!(cached.stats().keys, 0);
}

#[tokio::test]
async fn several_keys_are_cached_one_by_one() {
    on_each(patient(), async |client, cached, name| {
        set(&client, "a", "1").await;
        set(&client, "b", "2").await;
        in_time(client.execute(Command::new("RPUSH").arg("list").arg("x"))).await.unwrap();
        let mget = async |keys: &[&str]| -> Vec<Option<String>> {
            in_time(cached.query(Command::new("MGET").args(keys))).await.unwrap()
        };
        let value = |text: &str| Some(text.to_owned());
        let keys = ["a", "absent", "b", "list", "a"];
        let expected = [value("1"), None, value("2"), None, value("1")];
        assert_eq!(mget(&keys).await, expected, "{name}");
        assert_eq!(mget(&keys).await, expected, "{name}");
        assert_eq!(get(&cached, "b").await, value("2"), "{name}");
        let stats = cached.stats();
        // Twice the list, which is an error to GET.
        assert_eq!((stats.hits, stats.misses), (5, 5), "{name}: {stats:?}");
        set(&client, "b", "3").await;
        eventually(async || mget(&["b", "a"]).await == [value("3"), value("1")]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_that_are_dropped_leave_the_others_theirs() {
    on_each(patient(), async |client, cached, name| {
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..60_u64 {
            let (client, cached) = (client.clone(), cached.clone());
            tasks.spawn(async move {
                for round in 0..60_u64 {
                    let key = format!("k{}", round % 5);
                    if task == 0 {
                        set(&client, &key, "x").await;
                    }
                    let patience = Duration::from_micros((task * 17 + round * 31) % 500);
                    let read = get(&cached, &key);
                    if task % 2 == 0 {
                        let _ = tokio::time::timeout(patience, read).await;
                    } else {
                        assert!(matches!(read.await.as_deref(), None | Some("x")));
                    }
                }
            });
        }
        while let Some(task) = in_time(tasks.join_next()).await {
            task.unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        assert_eq!(get(&cached, "k1").await.as_deref(), Some("x"), "{name}");
    })
    .await;
}

#[tokio::test]
async fn without_resp3_there_is_no_cache() {
    let server = server(Flavour::Valkey, &[]);
    let config: Config = server.url().parse().unwrap();
    let client = in_time(Client::with_config(config.with_protocol(Protocol::Resp2))).await.unwrap();
    assert!(in_time(client.cached(CacheConfig::new())).await.unwrap_err().is_usage());
}

#[tokio::test]
async fn a_closed_cache_leaves_its_client_open() {
    on_each(patient(), async |client, cached, name| {
        set(&client, "k", "v").await;
        get(&cached, "k").await;
        in_time(cached.close()).await;
        for _ in 0..2 {
            assert_eq!(get(&cached, "k").await.as_deref(), Some("v"), "{name}");
        }
        assert_eq!(cached.stats().hits, 0, "{name}");
    })
    .await;
}

const INVALIDATE_K: &str = ">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n";
const INVALIDATE_ALL: &str = ">2\r\n$10\r\ninvalidate\r\n_\r\n";

/// Answers the handshake of a connection that changes are announced on, if it is one.
async fn shake_hands(connection: &mut PeerConnection, number: usize) {
    connection.shake_hands().await;
    if number > 0 {
        let tracking = connection.command().await.expect("it asks for announcements");
        assert_eq!(tracking[..3], ["CLIENT", "TRACKING", "ON"]);
        connection.send("+OK\r\n").await;
    }
}

/// Answers until `GET` comes; that is left to the caller.
async fn until_get(connection: &mut PeerConnection) -> bool {
    while let Some(command) = connection.command().await {
        match &*command[0] {
            "GET" => return true,
            "PTTL" => connection.send(":-1\r\n").await,
            "PING" => connection.send("+PONG\r\n").await,
            _ => connection.send("+OK\r\n").await,
        }
    }
    false
}

#[tokio::test]
async fn an_announcement_wins_over_a_reply_before_with_and_behind_it() {
    let old = "$3\r\nold\r\n:-1\r\n";
    // What is sent once GET and PTTL are there, in one piece or two.
    let scripts: Vec<(&str, [String; 2], bool)> = vec![
        ("nothing", [old.to_owned(), String::new()], true),
        ("before", [format!("{INVALIDATE_K}{old}"), String::new()], false),
        ("before, apart", [INVALIDATE_K.to_owned(), old.to_owned()], false),
        ("between", [format!("$3\r\nold\r\n{INVALIDATE_K}:-1\r\n"), String::new()], false),
        ("behind", [format!("{old}{INVALIDATE_K}"), String::new()], false),
        ("behind, apart", [old.to_owned(), INVALIDATE_K.to_owned()], false),
        ("all, before", [format!("{INVALIDATE_ALL}{old}"), String::new()], false),
        ("all, behind", [format!("{old}{INVALIDATE_ALL}"), String::new()], false),
        ("all, behind, apart", [old.to_owned(), INVALIDATE_ALL.to_owned()], false),
        ("many", [format!("{old}>2\r\n+invalidate\r\n*2\r\n+x\r\n+k\r\n"), String::new()], false),
    ];
    for (name, pieces, is_kept) in scripts {
        let gets = Arc::new(AtomicUsize::new(0));
        let (sent, all_sent) = tokio::sync::watch::channel(false);
        let sent = Arc::new(sent);
        let peer = {
            let (gets, sent) = (Arc::clone(&gets), Arc::clone(&sent));
            ScriptedPeer::start(move |mut connection, number| {
                let (gets, sent, pieces) = (Arc::clone(&gets), Arc::clone(&sent), pieces.clone());
                async move {
                    shake_hands(&mut connection, number).await;
                    if !until_get(&mut connection).await {
                        return;
                    }
                    gets.fetch_add(1, Ordering::Relaxed);
                    assert_eq!(connection.command().await.expect("it follows GET")[0], "PTTL");
                    for piece in pieces {
                        connection.send(piece).await;
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    sent.send_replace(true);
                    while until_get(&mut connection).await {
                        gets.fetch_add(1, Ordering::Relaxed);
                        connection.send("$3\r\nnew\r\n").await;
                    }
                }
            })
            .await
        };
        let client = in_time(Client::connect(&peer.url())).await.unwrap();
        let cached = in_time(client.cached(patient())).await.unwrap();
        assert_eq!(get(&cached, "k").await.as_deref(), Some("old"), "{name}");
        let mut all_sent = all_sent;
        in_time(all_sent.wait_for(|sent| *sent)).await.unwrap();
        // The bytes are on the way; a reply to what is sent now is behind them.
        in_time(cached.query::<Option<String>>(Command::new("GET").arg("other"))).await.unwrap();
        let expected = if is_kept { "old" } else { "new" };
        assert_eq!(get(&cached, "k").await.as_deref(), Some(expected), "{name}");
        assert_eq!(gets.load(Ordering::Relaxed), if is_kept { 2 } else { 3 }, "{name}");
    }
}

#[tokio::test]
async fn a_server_that_falls_silent_is_not_vouched_for() {
    const STALENESS: Duration = Duration::from_millis(400);
    let peer = ScriptedPeer::start(|mut connection, number| async move {
        shake_hands(&mut connection, number).await;
        let value = if number == 1 { "$3\r\nold\r\n" } else { "$3\r\nnew\r\n" };
        while until_get(&mut connection).await {
            connection.send(value).await;
            if number == 1 {
                assert_eq!(connection.command().await.expect("it follows GET")[0], "PTTL");
                connection.send(":-1\r\n").await;
                connection.freeze().await;
                return;
            }
        }
    })
    .await;
    let config: Config = peer.url().parse().unwrap();
    let config = config.with_command_timeout(Some(Duration::from_millis(100)));
    let client = in_time(Client::with_config(config)).await.unwrap();
    let cached =
        in_time(client.cached(CacheConfig::new().with_staleness_max(STALENESS))).await.unwrap();
    let read = async || -> Result<String, respire::Error> {
        in_time(cached.query(Command::new("GET").arg("k"))).await
    };
    let begun = Instant::now();
    assert_eq!(read().await.unwrap(), "old");
    loop {
        let start = Instant::now();
        match read().await {
            Ok(value) if value == "new" => break,
            Ok(value) => {
                assert_eq!(value, "old");
                assert!(start.duration_since(begun) <= STALENESS, "it is served without proof");
            }
            // While the connection is found to be lost.
            Err(error) => assert!(error.is_timeout() || error.is_closed(), "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(cached.stats().hits > 0);
}

#[tokio::test]
async fn a_reader_with_less_patience_does_not_spoil_it_for_the_others() {
    let peer = ScriptedPeer::start(|mut connection, number| async move {
        shake_hands(&mut connection, number).await;
        while until_get(&mut connection).await {
            tokio::time::sleep(Duration::from_millis(200)).await;
            connection.send("$1\r\nv\r\n").await;
        }
    })
    .await;
    let client = in_time(Client::connect(&peer.url())).await.unwrap();
    let cached = in_time(client.cached(patient())).await.unwrap();
    let hasty = cached.with(|client| client.with_command_timeout(Some(Duration::from_millis(20))));
    let key = Command::new("GET").arg("k");
    let (first, second, third) = tokio::join!(
        hasty.execute(key.clone()),
        cached.query::<String>(key.clone()),
        hasty.execute(key),
    );
    assert!(first.unwrap_err().is_timeout());
    assert_eq!(second.unwrap(), "v");
    assert!(third.unwrap_err().is_timeout());
}
