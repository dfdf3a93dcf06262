//! What the client keeps in memory while nothing is answered. One test, so that the process holds nothing else.

use std::time::{Duration, Instant};

use respire::{Client, Command, Config};
use respire_cli::local_server::{Flavour, LocalServer};
use respire_tests::{
    chance,
    proxy::{Fault, FaultProxy, Place, Script, Way},
};
use tokio::task::JoinSet;

const TASKS: usize = 300;
const VALUE_BYTES: usize = 64 * 1024;
const IN_FLIGHT_BYTES: usize = 8 << 20;
const TIMEOUT: Duration = Duration::from_millis(100);

/// Callers that go on asking, each with a value of its own, for so long that all they ask would not fit.
async fn ask_on_and_on(client: &Client) {
    let end = Instant::now() + Duration::from_millis(2_500);
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let client = client.clone();
        tasks.spawn(async move {
            let mut asked = 0;
            while Instant::now() < end {
                let value = vec![b'x'; VALUE_BYTES];
                let set = Command::new("SET").arg(format!("k{task}")).arg(value);
                if client.execute(set).await.is_err_and(|error| !error.is_timeout()) {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                asked += 1;
            }
            asked
        });
    }
    let asked: usize = tasks.join_all().await.into_iter().sum();
    println!("{asked} requests of {VALUE_BYTES} bytes: {}", chance::memory());
    assert!(asked * VALUE_BYTES > 400 << 20, "too few to tell");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_keep_up_does_not_fill_the_memory() {
    let server = LocalServer::builder(Flavour::Valkey).tcp().start();
    let server = server.expect("the test needs a valkey-server");
    let place = Place::Tcp(server.tcp_address().unwrap());
    let stall = Way::clean().then(100_000, Fault::Stall);
    let swallow = Way::clean().then(500, Fault::Swallow);
    let slow = Way::clean().throttled(1 << 20);
    for script in [
        Script::clean().to_server(stall),
        Script::clean().to_client(swallow),
        Script::clean().to_server(slow),
        Script::frozen(),
    ] {
        let proxy = FaultProxy::tcp(place.clone(), move |_| script.clone()).await.unwrap();
        let config: Config = proxy.url().parse().unwrap();
        let config = config
            .with_command_timeout(Some(TIMEOUT))
            .with_connect_timeout(TIMEOUT)
            .with_in_flight_max(10_000, IN_FLIGHT_BYTES);
        ask_on_and_on(&Client::unconnected(config)).await;
    }
    // What the callers hold, what is under way on a connection and on those it has replaced, and the test itself.
    let bound = TASKS * VALUE_BYTES + 8 * IN_FLIGHT_BYTES + (50 << 20);
    let most = chance::memory_max().expect("/proc says it");
    assert!(most < bound, "{} MiB, and not {}", most >> 20, bound >> 20);
}
