//! What building and sending commands allocates.

use allocation_counter::{AllocationInfo, measure};
use respire::{Bytes, Client, Command, Pipeline, commands::*};
use respire_cli::local_server::{Flavour, LocalServer};

/// What `work` allocates when it has been done a few times before. The client's own tasks run on this thread too, so that
/// of several rounds the least is taken.
fn steady(mut work: impl FnMut()) -> AllocationInfo {
    (0..10).for_each(|_| work());
    (0..50).map(|_| measure(&mut work)).min_by_key(|info| info.count_total).expect("fifty rounds")
}

fn connected() -> (tokio::runtime::Runtime, LocalServer, Client) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let server = LocalServer::start(Flavour::Valkey).expect("the test needs a valkey-server");
    let client = runtime.block_on(Client::connect(&server.url())).expect("the server is up");
    (runtime, server, client)
}

#[test]
fn a_typed_command_allocates_no_more_than_an_untyped_one() {
    let (runtime, _server, client) = connected();
    runtime.block_on(client.set("k", 7)).unwrap();
    let untyped = steady(|| {
        let answer = client.query::<Option<i64>>(Command::new("GET").arg("k"));
        assert_eq!(runtime.block_on(answer).unwrap(), Some(7));
    });
    let typed = steady(|| {
        assert_eq!(runtime.block_on(client.get::<i64>("k")).unwrap(), Some(7));
    });
    assert!(typed.count_total <= untyped.count_total, "{typed:?} {untyped:?}");
}

#[test]
fn a_small_command_is_one_allocation() {
    let info = steady(|| {
        let command = Command::new("SET").arg("key").arg("value").arg("EX").arg(60);
        assert!(command.is_idempotent() && command.keys().count() == 1);
    });
    assert_eq!(info.count_total, 1, "{info:?}");
    let mut pipeline = Pipeline::with_capacity(1 << 16);
    let info = measure(|| {
        for _ in 0..1000 {
            pipeline.command(&["HKEYS", "block:1234567"]);
        }
    });
    assert_eq!(info.count_total, 0, "{info:?}");
}

#[test]
fn large_values_are_sent_without_being_copied() {
    let (runtime, _server, client) = connected();
    let value = Bytes::from(vec![b'v'; 4 << 20]);
    let info = steady(|| runtime.block_on(client.set("k", &value)).unwrap());
    assert!(info.bytes_total < 64 << 10, "{info:?}");
    let info = steady(|| {
        let mut pipeline = Pipeline::new();
        pipeline.set("a", value.clone());
        pipeline.hset("h", [("f", &value), ("g", &value)]);
        assert_eq!(runtime.block_on(client.pipeline(pipeline)).unwrap().len(), 2);
    });
    assert!(info.bytes_total < 64 << 10, "{info:?}");
    // A vector that is handed over is sent from where it is.
    let info = steady(|| runtime.block_on(client.set("k", vec![b'v'; 4 << 20])).unwrap());
    assert!(info.bytes_total < (4 << 20) + (64 << 10), "the vector itself: {info:?}");
    assert_eq!(runtime.block_on(client.strlen("k")).unwrap(), 4 << 20);
}
