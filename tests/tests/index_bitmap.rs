//! The index suite over the bitmap layout, on both servers in both protocols, and what only this layout has.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, its helpers included")]

use std::sync::Arc;

use respire::{Client, Config, Protocol};
use respire_cli::local_server::{Flavour, LocalServer};
use respire_kvblock::{BitmapIndex, BitmapOptions};
use respire_tests::index_suite::Shared;

/// A server and an index on it that speaks the given protocol.
async fn speaking(protocol: Protocol, flavour: Flavour) -> (Shared, LocalServer) {
    let server = LocalServer::start(flavour).unwrap();
    let config: Config = server.url().parse().unwrap();
    let client = Client::with_config(config.with_protocol(protocol)).await.unwrap();
    assert_eq!(client.protocol(), Some(protocol));
    (Arc::new(BitmapIndex::new(client, BitmapOptions::default())), server)
}

mod on_valkey_in_resp3 {
    use super::{Flavour, Protocol, speaking};
    respire_tests::index_suite!(speaking(Protocol::Resp3, Flavour::Valkey));
}

mod on_valkey_in_resp2 {
    use super::{Flavour, Protocol, speaking};
    respire_tests::index_suite!(speaking(Protocol::Resp2, Flavour::Valkey));
}

mod on_redis_in_resp3 {
    use super::{Flavour, Protocol, speaking};
    respire_tests::index_suite!(speaking(Protocol::Resp3, Flavour::Redis));
}

mod on_redis_in_resp2 {
    use super::{Flavour, Protocol, speaking};
    respire_tests::index_suite!(speaking(Protocol::Resp2, Flavour::Redis));
}
