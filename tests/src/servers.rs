//! Real servers, and how long anything may take.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use respire::{Client, Config, Protocol};
use respire_cli::local_server::{Flavour, LocalServer};

use crate::tls::{TlsServer, client_tls};

/// Beyond this, a future counts as hung. Deadlines in tests are far below; the machine may be busy, and an emulated one at that.
pub const HUNG: Duration = Duration::from_secs(240);

/// What a future comes to.
///
/// # Panics
///
/// When it hangs.
pub async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(HUNG, future).await.expect("a future that hangs")
}

/// Whether private servers are reached over RDMA, see `LocalServer`: a suite that runs over several transports then leaves out
/// the others, which it has been run over elsewhere, on a machine that is not an emulated one.
pub fn is_over_rdma() -> bool {
    std::env::var_os("RESPIRE_LOCAL_RDMA").is_some()
}

/// The servers to test against: both, or the one that has RDMA.
pub fn flavours() -> impl Iterator<Item = Flavour> {
    Flavour::ALL.into_iter().filter(|&flavour| flavour == Flavour::Valkey || !is_over_rdma())
}

/// What the URL of a private server says. Over RDMA nothing is to end by a deadline that no test has set: the machine is an
/// emulated one.
///
/// # Panics
///
/// When it is not a URL.
pub fn config(url: &str) -> Config {
    let config: Config = url.parse().expect("the server's URL is one of ours");
    if is_over_rdma() {
        return config.with_connect_timeout(HUNG).with_command_timeout(Some(HUNG));
    }
    config
}

/// A URL of the server with a place for credentials and a database: that of its port, or over RDMA. Both parts of what may
/// stand in it are as a URL has them, `user:password@` and `/5?client_name=x`.
///
/// # Panics
///
/// When the server has no port.
pub fn network_url(server: &LocalServer, credentials: &str, rest: &str) -> String {
    let url = if is_over_rdma() { Some(server.url()) } else { server.tcp_url() };
    let url = url.expect("the server has a port");
    let (scheme, authority) = url.split_once("://").expect("it is a URL");
    format!("{scheme}://{credentials}{authority}{rest}")
}

/// A private server with a Unix socket and a port.
///
/// # Panics
///
/// When it cannot be started: a missing server fails the test with the reason.
pub fn server(flavour: Flavour, args: &[&str]) -> LocalServer {
    LocalServer::builder(flavour)
        .tcp()
        .args(args)
        .start()
        .unwrap_or_else(|error| panic!("the test needs a {}: {error}", flavour.program()))
}

/// The ways to a server, by name: over a Unix socket, TCP and TLS, in each protocol.
///
/// Where the environment has private servers reached over RDMA, only over that: a machine that has a device for it may be slow, and
/// the others are run elsewhere.
///
/// # Panics
///
/// When the server has no URL of ours.
pub fn ways(server: &TlsServer) -> Vec<(String, Config)> {
    let transports = if is_over_rdma() {
        vec![("rdma", config(&server.url()))]
    } else {
        let tcp = server.tcp_url().expect("it has a port");
        let tls = config(&server.tls_url()).with_tls(client_tls());
        vec![("unix", config(&server.url())), ("tcp", config(&tcp)), ("tls", tls)]
    };
    let protocols = [Protocol::Resp3, Protocol::Resp2];
    let ways = transports.into_iter().flat_map(|(name, config)| {
        protocols.map(|protocol| {
            (format!("{name} {protocol:?}"), config.clone().with_protocol(protocol))
        })
    });
    ways.collect()
}

/// Half of the [`ways`] for suites that take long: each transport once a flavour, in the protocol that the other flavour does
/// not have there. Over RDMA, which one flavour has, all.
///
/// # Panics
///
/// When the server has no URL of ours.
pub fn half_the_ways(flavour: Flavour, server: &TlsServer) -> Vec<(String, Config)> {
    if is_over_rdma() {
        return ways(server);
    }
    let offset = usize::from(flavour == Flavour::Redis);
    let ways = ways(server).into_iter().enumerate();
    // The protocols alternate within a transport, and from one transport to the next.
    ways.filter(|(at, _)| (at + at / 2 + offset) % 2 == 0).map(|(_, way)| way).collect()
}

/// Which of the ways to a server a test is run over.
#[derive(Clone, Copy, Debug)]
pub enum Ways {
    /// All of the [`ways`].
    All,
    /// [`half_the_ways`].
    Half,
    /// Each transport to each server in RESP3, for what the other protocol does not have.
    Resp3,
}

impl Ways {
    /// These ways to a server, by name.
    ///
    /// # Panics
    ///
    /// When the server has no URL of ours.
    pub fn to(self, flavour: Flavour, server: &TlsServer) -> Vec<(String, Config)> {
        match self {
            Self::All => ways(server),
            Self::Half => half_the_ways(flavour, server),
            Self::Resp3 => {
                let ways = ways(server).into_iter();
                ways.filter(|(_, config)| config.protocol() == Protocol::Resp3).collect()
            }
        }
    }
}

/// Runs a test in each of these ways to each of the [`flavours`], with a server of its own for each, with these arguments: all
/// of them at the same time, for tests that mostly wait or that count what a server has. Nothing ends by a deadline that the test
/// has not set, however long a busy machine takes.
///
/// # Panics
///
/// When a server cannot be started, and when the test does, with the name of the way said on the standard output.
pub async fn each_way<F: AsyncFn(TlsServer, Config, &str)>(which: Ways, args: &[&str], test: F) {
    let test = &test;
    // Each is polled when it was woken, as it would be by itself, and not whenever one of the others is: some tests count polls.
    let mut runs = FuturesUnordered::new();
    for flavour in flavours() {
        let first = TlsServer::start(flavour, args);
        let count = which.to(flavour, &first).len();
        let more = std::iter::repeat_with(|| TlsServer::start(flavour, args));
        for (at, server) in std::iter::once(first).chain(more).take(count).enumerate() {
            let (way, config) = which.to(flavour, &server).swap_remove(at);
            let config = config.with_connect_timeout(HUNG).with_command_timeout(Some(HUNG));
            runs.push(async move {
                let name = format!("{flavour:?} {way}");
                let run = AssertUnwindSafe(test(server, config, &name)).catch_unwind().await;
                if let Err(panic) = run {
                    println!("it was {name}");
                    std::panic::resume_unwind(panic);
                }
            });
        }
    }
    while runs.next().await.is_some() {}
}

/// Runs a test against an empty server of each of the [`flavours`], in each of the [`ways`].
///
/// # Panics
///
/// When a server cannot be started, and when the test does.
pub async fn everywhere<F: AsyncFn(Client, Flavour)>(test: F) {
    for flavour in flavours() {
        let server = TlsServer::start(flavour, &[]);
        for (name, config) in ways(&server) {
            // Shown where the test fails.
            println!("{flavour:?} {name}");
            let client = Client::with_config(config).await.expect("the server is up");
            empty(&client).await;
            test(client, flavour).await;
        }
    }
}

async fn empty(client: &Client) {
    let mut pipeline = respire::Pipeline::new();
    pipeline.command(&["FLUSHALL"]).command(&["FUNCTION", "FLUSH"]);
    client.pipeline(pipeline).await.expect("it is a private server");
}

/// Runs a test against an empty server of each of the [`flavours`], in each protocol, over a Unix socket.
///
/// # Panics
///
/// When a server cannot be started, and when the test does.
pub async fn on_each_server<F: AsyncFn(Client, Flavour)>(test: F) {
    for flavour in flavours() {
        let server = LocalServer::start(flavour)
            .unwrap_or_else(|error| panic!("the test needs a {}: {error}", flavour.program()));
        for protocol in [Protocol::Resp2, Protocol::Resp3] {
            let config = config(&server.url());
            let client = Client::with_config(config.with_protocol(protocol))
                .await
                .expect("the server is up");
            empty(&client).await;
            test(client, flavour).await;
        }
    }
}
