//! Real servers, and how long anything may take.

use std::time::Duration;

use respire::{Client, Config, Protocol};
use respire_cli::local_server::{Flavour, LocalServer};

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

/// Runs a test against an empty server of each flavour, in each protocol.
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
            client
                .pipeline(
                    respire::Pipeline::new().command(&["FLUSHALL"]).command(&["FUNCTION", "FLUSH"]),
                )
                .await
                .expect("it is a private server");
            test(client, flavour).await;
        }
    }
}
