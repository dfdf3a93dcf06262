//! Servers that are killed and started again under load, with every write on disk before it is acknowledged.

use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};
use respire::{Client, Config, Protocol, WhenDown};
use respire_cli::local_server::{Flavour, LocalServer};
use respire_tests::{chance, ledger::Load};
use tokio::task::JoinSet;

/// The deadline of each request. A server is back sooner.
const TIMEOUT: Duration = Duration::from_secs(2);

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("it does not panic")
}

/// Kills and restarts the server until the time is over. Returns how often.
async fn crash(
    mut server: LocalServer,
    end: Instant,
    mut random: Xoshiro256PlusPlus,
) -> (LocalServer, usize) {
    let mut kills = 0;
    while Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(random.random_range(100..1_500))).await;
        let down = Duration::from_millis(random.random_range(0..300));
        server = blocking(move || {
            server.kill();
            std::thread::sleep(down);
            server.restart().expect("the server starts again on what it has written");
            server
        })
        .await;
        kills += 1;
    }
    (server, kills)
}

async fn load_under_crashes(flavour: Flavour, seed: u64, duration: Duration) {
    let server = LocalServer::builder(flavour)
        .tcp()
        .persistent()
        .start()
        .unwrap_or_else(|error| panic!("the test needs a {}: {error}", flavour.program()));
    let direct = server.url();
    let tcp = server.tcp_url().expect("it was asked for a port");
    let mut loads = JoinSet::new();
    for (name, url, protocol, when_down) in [
        ("tcp", &tcp, Protocol::Resp3, WhenDown::FailFast),
        ("unix", &direct, Protocol::Resp2, WhenDown::Wait),
    ] {
        let config: Config = url.parse().expect("the server's URL is one of ours");
        let config = config
            .with_protocol(protocol)
            .with_when_down(when_down)
            .with_command_timeout(Some(TIMEOUT))
            .with_in_flight_max(16, 100_000);
        let client = Client::with_config(config).await.expect("the server is up");
        let load = Load {
            name: name.to_owned(),
            tasks: 24,
            requests_a_task: usize::MAX,
            duration,
            timeout: TIMEOUT,
            value_bytes_max: 10_000,
            pause_max: Duration::from_millis(20),
            drops: true,
            seed,
        };
        loads.spawn(async move { (name, load.run(&client).await) });
    }
    let random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let (server, kills) = crash(server, Instant::now() + duration, random).await;
    let direct = Client::connect(&server.url()).await.expect("the server is up");
    while let Some(ended) = loads.join_next().await {
        let (name, ledger) = ended.expect("a load that finds no reply of another's");
        ledger.check(&direct).await;
        println!(
            "{} by {name}: {kills} kills, {} writes acknowledged and all there, {} unknown; {}",
            flavour.program(),
            ledger.acknowledged(),
            ledger.unknown_writes(),
            ledger.summary()
        );
        assert!(ledger.acknowledged() > 0 && kills > 0);
        assert!(ledger.unknown_writes() > 0, "the kills came when nothing was under way");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_outlives_a_server_that_is_killed_again_and_again() {
    let seed = chance::seed();
    let duration = chance::duration(Duration::from_secs(10));
    let mut servers = JoinSet::new();
    for flavour in Flavour::ALL {
        servers.spawn(load_under_crashes(flavour, seed, duration));
    }
    while let Some(server) = servers.join_next().await {
        server.expect("a server whose client tells the truth");
    }
    println!("{}", chance::memory());
}
