//! Real servers, and how long anything may take.

use std::time::Duration;

use respire::{Client, Config, Protocol};
use respire_cli::local_server::{Flavour, LocalServer};

use crate::tls::{TlsServer, client_tls};

/// Beyond this, a future counts as hung. Deadlines in tests are far below; the machine may be busy.
pub const HUNG: Duration = Duration::from_secs(60);

/// What a future comes to.
///
/// # Panics
///
/// When it hangs.
pub async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(HUNG, future).await.expect("a future that hangs")
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
    let config = |url: String| url.parse::<Config>().expect("the server's URL is one of ours");
    let transports = if server.url().contains("+rdma:") {
        vec![("rdma", config(server.url()))]
    } else {
        let tcp = server.tcp_url().expect("it has a port");
        let tls = config(server.tls_url()).with_tls(client_tls());
        vec![("unix", config(server.url())), ("tcp", config(tcp)), ("tls", tls)]
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
/// not have there.
pub fn half_the_ways(flavour: Flavour, server: &TlsServer) -> Vec<(String, Config)> {
    let offset = usize::from(flavour == Flavour::Redis);
    let ways = ways(server).into_iter().enumerate();
    // The protocols alternate within a transport, and from one transport to the next.
    ways.filter(|(at, _)| (at + at / 2 + offset) % 2 == 0).map(|(_, way)| way).collect()
}

/// Runs a test against an empty server of each flavour, in each of the [`ways`].
///
/// # Panics
///
/// When a server cannot be started, and when the test does.
pub async fn everywhere<F: AsyncFn(Client, Flavour)>(test: F) {
    for flavour in Flavour::ALL {
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

/// Runs a test against an empty server of each flavour, in each protocol, over a Unix socket.
///
/// # Panics
///
/// When a server cannot be started, and when the test does.
pub async fn on_each_server<F: AsyncFn(Client, Flavour)>(test: F) {
    for flavour in Flavour::ALL {
        let server = LocalServer::start(flavour)
            .unwrap_or_else(|error| panic!("the test needs a {}: {error}", flavour.program()));
        for protocol in [Protocol::Resp2, Protocol::Resp3] {
            let config: Config = server.url().parse().expect("the server's URL is one of ours");
            let client = Client::with_config(config.with_protocol(protocol))
                .await
                .expect("the server is up");
            empty(&client).await;
            test(client, flavour).await;
        }
    }
}
