//! Servers that are killed and started again under load, with every write on disk before it is acknowledged.

use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};
use respire::{Client, WhenDown};
use respire_cli::local_server::Flavour;
use respire_tests::{chance, ledger::Load, servers::half_the_ways, tls::TlsServer};
use tokio::task::JoinSet;

/// The deadline of each request. A server is back sooner.
const TIMEOUT: Duration = Duration::from_secs(2);

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("it does not panic")
}

/// Kills and restarts the server until the time is over. Returns how often.
async fn crash(
    mut server: TlsServer,
    end: Instant,
    mut random: Xoshiro256PlusPlus,
) -> (TlsServer, usize) {
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
    let server = TlsServer::start(flavour, &["--appendonly", "yes", "--appendfsync", "always"]);
    let mut loads = JoinSet::new();
    let ways = half_the_ways(flavour, &server).into_iter();
    for ((name, config), when_down) in
        ways.zip([WhenDown::FailFast, WhenDown::Wait].into_iter().cycle())
    {
        let config = config
            .with_when_down(when_down)
            .with_command_timeout(Some(TIMEOUT))
            .with_in_flight_max(16, 100_000);
        let client = Client::with_config(config).await.expect("the server is up");
        let load = Load {
            name: name.clone(),
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
