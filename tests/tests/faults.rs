//! Real servers behind a proxy that fails: whatever it does, every reply belongs to its request, what was acknowledged is
//! there, and what the client says of the rest is true.

use std::{net::Ipv4Addr, time::Duration};

use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};
use respire::{Client, Command, Config, Protocol, SendState};
use respire_cli::local_server::Flavour;
use respire_tests::{
    chance,
    ledger::{Ledger, Load},
    proxy::{Fault, FaultProxy, Place, Script, Way},
    tls::{TlsServer, client_tls},
};
use tokio::task::JoinSet;

/// The deadline of a request where faults make some miss it.
const TIMEOUT: Duration = Duration::from_millis(250);

/// No bound for what a timer can do, but for what a busy machine may make of it.
const LATE: Duration = Duration::from_millis(250);

/// How a server is reached: by which transport, through a proxy of the same kind, in which protocol.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Via {
    Tcp,
    Unix,
    Tls,
}

struct Stand {
    server: TlsServer,
    via: Via,
    protocol: Protocol,
    /// Where a proxy's socket may lie.
    directory: tempfile::TempDir,
}

impl Stand {
    fn new(flavour: Flavour, via: Via, protocol: Protocol) -> Self {
        let server = TlsServer::start(flavour, &[]);
        let directory = tempfile::tempdir().expect("a temporary directory");
        Self { server, via, protocol, directory }
    }

    async fn proxy(&self, script: impl FnMut(usize) -> Script + Send + 'static) -> FaultProxy {
        let proxy = match self.via {
            Via::Tcp => {
                let server = self.server.tcp_address().expect("it was asked for a port");
                FaultProxy::tcp(Place::Tcp(server), script).await
            }
            Via::Tls => {
                let server = (Ipv4Addr::LOCALHOST, self.server.tls_port()).into();
                FaultProxy::tcp(Place::Tcp(server), script).await
            }
            Via::Unix => {
                let server = Place::Unix(self.server.socket_path().to_owned());
                let name = format!("{}.sock", rand::random::<u64>());
                FaultProxy::unix(self.directory.path().join(name), server, script)
            }
        };
        proxy.expect("a proxy on a loopback port or a socket of ours")
    }

    fn config(&self, proxy: &FaultProxy, timeout: Duration) -> Config {
        let config = |url: &str| -> Config { url.parse().expect("the proxy's URL is one of ours") };
        let config = match self.via {
            Via::Tls => {
                config(&proxy.url().replace("redis://", "rediss://")).with_tls(client_tls())
            }
            Via::Tcp | Via::Unix => config(&proxy.url()),
        };
        config
            .with_protocol(self.protocol)
            .with_connect_timeout(timeout)
            .with_command_timeout(Some(timeout))
            .with_in_flight_max(12, 100_000)
            .with_bulk_lane(Some(20_000))
    }

    /// A client without a proxy.
    async fn direct(&self) -> Client {
        Client::connect(&self.server.url()).await.expect("the server is up")
    }
}

/// Every combination of server, transport and protocol.
fn stands() -> Vec<Stand> {
    let mut stands = Vec::new();
    for flavour in Flavour::ALL {
        for via in [Via::Tcp, Via::Unix, Via::Tls] {
            for protocol in [Protocol::Resp2, Protocol::Resp3] {
                stands.push(Stand::new(flavour, via, protocol));
            }
        }
    }
    stands
}

/// Runs a test on each stand, all at once: most of what they do is to wait.
async fn on_every_stand<F>(test: impl Fn(Stand, usize) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut tests = JoinSet::new();
    for (number, stand) in stands().into_iter().enumerate() {
        tests.spawn(test(stand, number));
    }
    while let Some(test) = tests.join_next().await {
        test.expect("a test on one of the stands");
    }
}

fn load(name: String, seed: u64) -> Load {
    Load {
        name,
        tasks: 16,
        requests_a_task: 60,
        duration: Duration::from_secs(20),
        timeout: TIMEOUT,
        value_bytes_max: 40_000,
        pause_max: Duration::ZERO,
        drops: true,
        seed,
    }
}

/// The client is good again after what happened to it.
async fn recovers(client: &Client) {
    for _ in 0..1000 {
        if client.execute(Command::new("PING")).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the client does not recover");
}

/// A load through a proxy whose first connection follows `script`, and every later one is clean.
async fn run_through(stand: &Stand, load: &Load, script: Script) -> (Ledger, usize) {
    let proxy =
        stand.proxy(move |number| if number == 0 { script.clone() } else { Script::clean() }).await;
    let client = Client::unconnected(stand.config(&proxy, load.timeout));
    let ledger = load.run(&client).await;
    recovers(&client).await;
    ledger.check(&stand.direct().await).await;
    println!("{}: {}", load.name, ledger.summary());
    (ledger, proxy.accepted())
}

/// The fault, whether it meets the commands or the replies, and how many times it is tried, at random places.
const FAULTS: [(Fault, bool); 13] = [
    (Fault::Cut, true),
    (Fault::Cut, false),
    (Fault::HalfClose, true),
    (Fault::HalfClose, false),
    (Fault::Reset, true),
    (Fault::Reset, false),
    (Fault::Stall, true),
    (Fault::Stall, false),
    (Fault::Swallow, true),
    (Fault::Swallow, false),
    (Fault::Garble, false),
    (Fault::Pause(Duration::from_millis(400)), true),
    (Fault::Pause(Duration::from_millis(400)), false),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_after_any_number_of_bytes_makes_no_untruth() {
    let seed = chance::seed();
    on_every_stand(move |stand, number| async move {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed ^ number as u64);
        // Each stand has every other one, so that each is tried on four.
        for (at, (fault, to_server)) in FAULTS.into_iter().enumerate().skip(number % 2).step_by(2) {
            let way = Way::clean().then(random.random_range(0..4_000), fault);
            let script = match to_server {
                true => Script::clean().to_server(way),
                false => Script::clean().to_client(way),
            };
            let load = load(format!("{number}.{at}"), seed);
            let (ledger, accepted) = run_through(&stand, &load, script).await;
            assert!(ledger.acknowledged() > 0, "{fault:?}: nothing was acknowledged");
            if !matches!(fault, Fault::Pause(_)) {
                assert!(accepted > 1, "{fault:?}: the connection was not replaced");
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_way_in_pieces_makes_no_error() {
    let seed = chance::seed();
    on_every_stand(move |stand, number| async move {
        for (at, way) in [
            Way::clean().delayed(Duration::from_millis(20)),
            Way::clean().in_pieces(1),
            Way::clean().in_pieces(7).delayed(Duration::from_millis(5)),
            Way::clean().throttled(300_000),
        ]
        .into_iter()
        .enumerate()
        {
            let load = Load {
                timeout: Duration::from_secs(60),
                duration: Duration::from_secs(2),
                value_bytes_max: 5_000,
                drops: false,
                requests_a_task: 30,
                ..load(format!("{number}.{at}"), seed)
            };
            let script = match at % 2 == number % 2 {
                true => Script::clean().to_server(way.clone()).to_client(way),
                false => Script::clean().to_client(way),
            };
            let (ledger, _) = run_through(&stand, &load, script).await;
            assert_eq!((ledger.not_done, ledger.unknown), (0, 0));
            assert!(ledger.acknowledged() > 0);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_at_random_make_no_untruth() {
    let seed = chance::seed();
    let duration = chance::duration(Duration::from_secs(4));
    on_every_stand(move |stand, number| async move {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed ^ (number as u64) << 8);
        let mut of_scripts = Xoshiro256PlusPlus::seed_from_u64(random.random());
        let mut proxy = stand.proxy(move |_| Script::random(&mut of_scripts, 100_000)).await;
        let client = Client::unconnected(stand.config(&proxy, TIMEOUT));
        let load = Load {
            duration,
            requests_a_task: usize::MAX,
            pause_max: Duration::from_millis(4),
            ..load(number.to_string(), seed)
        };
        let running = tokio::spawn(async move { load.run(&client).await });
        while !running.is_finished() {
            tokio::time::sleep(Duration::from_millis(random.random_range(50..500))).await;
            match random.random_range(0..4) {
                0 => proxy.reset_all(),
                1 => {
                    proxy.refuse();
                    tokio::time::sleep(Duration::from_millis(random.random_range(1..100))).await;
                    proxy.accept().expect("the port is still ours");
                }
                _ => {}
            }
        }
        let ledger = running.await.expect("the load");
        let accepted = proxy.accepted();
        println!("{number}, over {accepted} connections: {}", ledger.summary());
        ledger.check(&stand.direct().await).await;
        assert!(accepted > 1 && ledger.acknowledged() > 0);
        assert!(ledger.overshoot_median() < LATE, "{}", ledger.summary());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_connection_is_not_sent_and_a_frozen_one_neither() {
    on_every_stand(|stand, _| async move {
        let mut proxy = stand.proxy(|_| Script::frozen()).await;
        let client = Client::unconnected(stand.config(&proxy, TIMEOUT));
        for is_refused in [false, true] {
            if is_refused {
                proxy.refuse();
            }
            for _ in 0..20 {
                let error = client.execute(Command::new("INCR").arg("n")).await.unwrap_err();
                assert_eq!(error.send_state(), SendState::NotSent, "{error:?}");
            }
        }
        let direct = stand.direct().await;
        assert_eq!(direct.query::<u64>(Command::new("EXISTS").arg("n")).await.unwrap(), 0);
    })
    .await;
}
