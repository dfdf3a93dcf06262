//! Where a connection is driven, and whether it sleeps.

use std::time::Duration;

use respire::{Client, Command, Config, Error};
use respire_tests::servers::{Ways, flavours};
use respire_tests::tls::TlsServer;

/// The ways to drive a connection, over each transport to each server, by name; each with a server of its own, which a test may
/// pause.
fn ways() -> Vec<(String, TlsServer, Config)> {
    let mut ways = Vec::new();
    for flavour in flavours() {
        let count = Ways::Half.to(flavour, &TlsServer::start(flavour, &[])).len();
        for at in 0..count {
            for (thread, busy_poll) in [(false, 100), (true, 0), (true, 100)] {
                let server = TlsServer::start(flavour, &[]);
                let (way, config) = Ways::Half.to(flavour, &server).swap_remove(at);
                let config = config
                    .with_driver_thread(thread)
                    .with_busy_poll(Duration::from_micros(busy_poll));
                ways.push((format!("{flavour:?} {way} {thread} {busy_poll}"), server, config));
            }
        }
    }
    ways
}

/// Lone requests, and then many tasks at once: each gets its own reply.
async fn exchange(client: &Client, name: &str) {
    for value in 0..200_u32 {
        let echoed: u32 =
            client.query(Command::new("ECHO").arg(value)).await.expect("the server is up");
        assert_eq!(echoed, value, "{name}");
    }
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..100_u32 {
        let client = client.clone();
        tasks.spawn(async move {
            for round in 0..20_u32 {
                let value = task * 1000 + round;
                let echoed: u32 = client.query(Command::new("ECHO").arg(value)).await?;
                assert_eq!(echoed, value);
            }
            Ok::<_, Error>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no task panics").unwrap_or_else(|error| panic!("{name}: {error:#}"));
    }
}

#[tokio::test]
async fn each_way_to_drive_a_connection_gives_each_request_its_reply() {
    for (name, _server, config) in ways() {
        exchange(&Client::with_config(config).await.unwrap(), &name).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_way_to_drive_a_connection_does_on_several_threads() {
    for (name, _server, config) in ways() {
        exchange(&Client::with_config(config).await.unwrap(), &name).await;
    }
}

#[test]
fn a_driver_thread_needs_nothing_of_the_callers_runtime() {
    for (name, _server, config) in ways() {
        let has_thread = name.contains("true");
        // Without timers and I/O.
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            if !has_thread {
                return;
            }
            let client = Client::with_config(config).await.unwrap();
            exchange(&client, &name).await;
            client.execute(Command::new("CLIENT").arg("PAUSE").arg(1000)).await.unwrap();
            let hasty = client.with_command_timeout(Some(Duration::from_millis(100)));
            let late = hasty.execute(Command::new("GET").arg("k")).await.unwrap_err();
            assert!(late.is_timeout(), "{name}: {late:#}");
            client.close().await;
        });
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_driver_thread_ends_with_its_client() {
    let threads = || {
        std::fs::read_dir("/proc/self/task")
            .expect("this is Linux")
            .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
            .filter(|name| name.trim() == "respire-driver")
            .count()
    };
    for (name, _server, config) in ways().into_iter().filter(|(name, ..)| name.contains("true")) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let before = threads();
        let client = runtime.block_on(Client::with_config(config)).unwrap();
        runtime.block_on(client.execute(Command::new("PING"))).unwrap();
        drop(client);
        let mut looks = 0;
        // Other tests of this program may have threads of their own that come and go.
        while threads() > before && looks < 1000 {
            std::thread::sleep(Duration::from_millis(10));
            looks += 1;
        }
        assert!(looks < 1000, "{name}: the thread is still there");
    }
}
