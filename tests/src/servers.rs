//! Real servers for tests of commands.

use respire::{Client, Config, Protocol};
use respire_cli::local_server::{Flavour, LocalServer};

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
