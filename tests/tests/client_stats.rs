//! What a client says it has done, held to what the server and the test know.

use std::time::{Duration, Instant};

use respire::{Client, Command, Config, Pipeline, Stats};
use respire_cli::local_server::{Flavour, LocalServer};
use respire_tests::{
    peer::ScriptedPeer,
    servers::{Ways, config, each_way, flavours, network_url},
    tls::TlsServer,
};

/// How long anything may take to come about.
const PATIENCE: Duration = Duration::from_secs(60);

fn server(flavour: Flavour) -> LocalServer {
    LocalServer::builder(flavour).tcp().start().expect("both servers are needed for the tests")
}

fn ping() -> Command {
    Command::new("PING")
}

/// Where a request cannot be under way, every one has come to an end.
fn check_sum(stats: &Stats) {
    let ended = stats.answered + stats.timed_out + stats.abandoned + stats.failed;
    assert_eq!(stats.requests, ended, "{stats:?}");
    let phases = &stats.phases;
    for phase in [&phases.queue, &phases.server, &phases.wake_up] {
        assert_eq!(phase.count(), phases.total.count(), "{stats:?}");
    }
}

async fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_counts_once_and_has_its_phases() {
    each_way(Ways::All, &[], async |_server: TlsServer, config: Config, _: &str| {
        let client = Client::with_config(config.with_latency_sampling(1)).await.unwrap();
        assert_eq!((client.stats().requests, client.stats().connections), (0, 1));

        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..100 {
            let client = client.clone();
            tasks.spawn(async move {
                let key = format!("key:{task}");
                client.execute(Command::new("SET").arg(&key).arg("x")).await.unwrap();
                client.query::<String>(Command::new("GET").arg(&key)).await.unwrap();
                // An error of the server is an answer.
                client.execute(Command::new("LPUSH").arg(&key).arg("x")).await.unwrap_err();
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        let mut pipeline = Pipeline::new();
        (0..10).for_each(|_| _ = pipeline.push(ping()));
        client.pipeline(pipeline).await.unwrap();

        let stats = client.stats();
        check_sum(&stats);
        assert_eq!((stats.requests, stats.answered), (301, 301), "{stats:?}");
        assert_eq!((stats.dials, stats.connections, stats.retried), (1, 1, 0));
        assert_eq!((stats.waiting, stats.in_flight, stats.in_flight_bytes), (0, 0, 0));
        assert_eq!(stats.phases.total.count(), 301, "all of them are sampled");

        client.execute(ping()).await.unwrap();
        let lone = client.stats().since(&stats);
        assert_eq!((lone.bytes_sent, lone.sends), ("*1\r\n$4\r\nPING\r\n".len() as u64, 1));
        assert_eq!((lone.bytes_received, lone.receives), ("+PONG\r\n".len() as u64, 1));
    })
    .await;
}

#[tokio::test]
async fn without_sampling_there_are_counts_and_no_times() {
    let server = server(Flavour::Valkey);
    let config = config(&server.url()).with_latency_sampling(0);
    let client = Client::with_config(config).await.unwrap();
    for _ in 0..50 {
        client.execute(ping()).await.unwrap();
    }
    let stats = client.stats();
    check_sum(&stats);
    assert_eq!((stats.answered, stats.phases.total.count()), (50, 0));
}

#[tokio::test]
async fn the_server_phase_has_the_time_that_the_server_took() {
    let flavour = flavours().last().unwrap();
    let server = LocalServer::builder(flavour).args(["--enable-debug-command", "yes"]);
    let server = server.start().unwrap();
    let config = config(&server.url()).with_latency_sampling(1);
    let client = Client::with_config(config).await.unwrap();
    client.execute(Command::new("DEBUG").arg("SLEEP").arg("1")).await.unwrap();
    let phases = client.stats().phases;
    assert!(phases.total.mean().unwrap() >= Duration::from_secs(1), "{phases:?}");
    // The rest of it may be a busy machine's, which does not let us see that the request is sent.
    assert!(phases.server.mean().unwrap() >= Duration::from_millis(500), "{phases:?}");
}

#[tokio::test]
async fn deadlines_and_dropped_futures_are_told_apart() {
    let peer = ScriptedPeer::start(async |mut connection, _| {
        connection.shake_hands().await;
        connection.swallow().await;
    })
    .await;
    let config: Config = peer.url().parse().unwrap();
    // The check after a timeout would be under way as well.
    let config = config.with_check_after_timeout(false);
    let config = config.with_latency_sampling(1).with_command_timeout(None);
    let client = Client::with_config(config).await.unwrap();

    let hurried = client.with_command_timeout(Some(Duration::from_millis(20)));
    assert!(hurried.execute(ping()).await.unwrap_err().is_timeout());
    let other = client.clone();
    let dropped = tokio::spawn(async move { other.execute(ping()).await });
    wait_until("the second request", || client.stats().in_flight == 2).await;
    dropped.abort();
    assert!(dropped.await.unwrap_err().is_cancelled());

    let stats = client.stats();
    check_sum(&stats);
    assert_eq!((stats.timed_out, stats.abandoned, stats.answered), (1, 1, 0));
    // Their replies are still to come, and keep their places.
    assert_eq!((stats.in_flight, stats.in_flight_bytes), (2, 2 * 14));
    assert_eq!(stats.phases.total.count(), 0, "only what was answered has phases");
}

#[tokio::test]
async fn a_lost_connection_is_counted_and_so_is_the_next() {
    let mut server = server(Flavour::Valkey);
    let config = config(&network_url(&server, "", "")).with_latency_sampling(1);
    let client = Client::with_config(config).await.unwrap();
    for _ in 0..10 {
        client.execute(ping()).await.unwrap();
    }
    let before = client.stats();
    server.restart().unwrap();
    let began = Instant::now();
    while client.execute(ping()).await.is_err() {
        assert!(began.elapsed() < PATIENCE, "no reconnect within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let stats = client.stats();
    check_sum(&stats);
    assert_eq!(stats.connections, 2, "{stats:?}");
    assert!(stats.dials >= 2 && stats.answered == 11, "{stats:?}");
    let since = stats.since(&before);
    assert_eq!((since.answered, since.connections), (1, 1));
    assert_eq!(since.phases.total.count(), 1);
}

#[tokio::test]
async fn requests_that_wait_are_counted_as_waiting() {
    let peer = ScriptedPeer::start(async |connection, _| connection.freeze().await).await;
    let config: Config = peer.url().parse().unwrap();
    let client = Client::unconnected(config);
    let tasks: Vec<_> = (0..3)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.execute(ping()).await })
        })
        .collect();
    wait_until("three requests", || client.stats().waiting == 3).await;
    let stats = client.stats();
    assert_eq!((stats.requests, stats.in_flight, stats.connections), (3, 0, 0));
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    for task in tasks {
        assert!(task.await.unwrap_err().is_cancelled());
    }
    let stats = client.stats();
    assert_eq!((stats.waiting, stats.abandoned), (0, 3));
}

#[tokio::test]
async fn pushes_are_counted_whether_anybody_listens_or_not() {
    let peer = ScriptedPeer::start(async |mut connection, _| {
        connection.shake_hands().await;
        connection.command().await;
        connection.send(">1\r\n+one\r\n>1\r\n+two\r\n+PONG\r\n").await;
        connection.swallow().await;
    })
    .await;
    let client = Client::connect(&peer.url()).await.unwrap();
    client.execute(ping()).await.unwrap();
    assert_eq!(client.stats().pushes, 2);
}

#[tokio::test]
async fn subscriptions_and_caches_are_part_of_a_clients_numbers() {
    use respire::{cache::CacheConfig, commands::*, pubsub::Event};
    // A cache needs RESP3.
    each_way(Ways::Resp3, &[], async |_server: TlsServer, config: Config, _: &str| {
        let client = Client::with_config(config).await.unwrap();
        let before = client.stats();
        let mut news = client.subscribe(["news"]).await.unwrap();
        let small = {
            let mut small = client.subscription();
            small.set_queue_max(1, 1 << 20);
            small.subscribe(["news"]).await.unwrap();
            small
        };
        for text in ["a", "b", "c"] {
            client.publish("news", text).await.unwrap();
        }
        for _ in 0..3 {
            assert!(matches!(news.next().await, Some(Event::Message(_))));
        }
        let stats = client.stats().subscriptions;
        assert_eq!((stats.subscriptions, stats.channels), (2, 1), "{stats:?}");
        assert_eq!((stats.messages, stats.delivered, stats.dropped), (3, 6, 2), "{stats:?}");
        assert_eq!((stats.dials, stats.connections, stats.interruptions), (1, 1, 0), "{stats:?}");
        drop(small);
        let kill = Command::new("CLIENT").arg("KILL").arg("TYPE").arg("pubsub");
        client.execute(kill).await.unwrap();
        while !matches!(news.next().await, Some(Event::Resumed)) {}
        drop(news);
        let stats = client.stats().since(&before).subscriptions;
        assert_eq!((stats.subscriptions, stats.dropped), (0, 2), "what was dropped still counts");
        assert_eq!((stats.dials, stats.connections, stats.interruptions), (2, 2, 1), "{stats:?}");

        let cached = client.cached(CacheConfig::new()).await.unwrap();
        for _ in 0..3 {
            let value: Option<String> = cached.get("k").await.unwrap();
            assert_eq!(value, None);
        }
        let stats = client.stats();
        assert_eq!((stats.cache.hits, stats.cache.misses, stats.cache.keys), (2, 1, 1));
        assert_eq!(stats.cache, cached.stats());
        // The read, and perhaps a proof that announcements arrive.
        let more = stats.since(&before);
        assert!(more.connections == 1 && more.requests >= 5, "{more:?}");
        drop(cached);
        wait_until("the cache's numbers outlive it", || client.stats().cache.keys == 0).await;
        assert_eq!(client.stats().cache.hits, 2);
        wait_until("its connection's too", || client.stats().requests >= stats.requests).await;
    })
    .await;
}
