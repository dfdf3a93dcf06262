//! The index suite over RDMA, in both layouts, and with as little memory as a connection may have. See `rdma.rs` for what it
//! needs.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by a panic, its helpers included")]

use std::sync::Arc;

use respire::Client;
use respire_cli::local_server::{Flavour, LocalServer};
use respire_kvblock::{BitmapIndex, BitmapOptions, ServerIndex};
use respire_tests::{index_suite::Shared, servers::config};

/// A server and a client over RDMA. Nothing is to end by a deadline on an emulated machine.
async fn client(parameters: &str) -> (Client, LocalServer) {
    let server = LocalServer::start(Flavour::Valkey).unwrap();
    assert!(server.url().starts_with("valkey+rdma://"), "RESPIRE_LOCAL_RDMA names no address");
    let config = config(&format!("{}{parameters}", server.url()));
    (Client::with_config(config).await.unwrap(), server)
}

async fn hashes(parameters: &str) -> (Shared, LocalServer) {
    let (client, server) = client(parameters).await;
    (Arc::new(ServerIndex::new(client)), server)
}

async fn bitmaps() -> (Shared, LocalServer) {
    let (client, server) = client("").await;
    (Arc::new(BitmapIndex::new(client, BitmapOptions::default())), server)
}

mod in_hashes {
    respire_tests::index_suite!(super::hashes(""));
}

mod in_hashes_through_little_memory {
    respire_tests::index_suite!(super::hashes("?rx_size=4kb"));
}

mod in_bitmaps {
    respire_tests::index_suite!(super::bitmaps());
}
