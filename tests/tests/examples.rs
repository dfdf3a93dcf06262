//! The client's example programs, run against each server.

#![allow(dead_code, reason = "what is run here are not the `main`s of the examples")]

use respire::{Client, commands::*};
use respire_cli::local_server::{Flavour, LocalServer};
use respire_tests::servers::in_time;

#[path = "../../crates/respire/examples/basic.rs"]
mod basic;
#[path = "../../crates/respire/examples/blocking.rs"]
mod blocking;
#[path = "../../crates/respire/examples/caching.rs"]
mod caching;
#[path = "../../crates/respire/examples/failures.rs"]
mod failures;
#[path = "../../crates/respire/examples/pipeline.rs"]
mod pipeline;
#[path = "../../crates/respire/examples/pubsub.rs"]
mod pubsub;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_example_does_what_it_says_and_leaves_nothing_behind() {
    for flavour in Flavour::ALL {
        let server = LocalServer::start(flavour)
            .unwrap_or_else(|error| panic!("the test needs a {}: {error}", flavour.program()));
        let url = server.url();
        in_time(basic::run(&url)).await.unwrap();
        in_time(pipeline::run(&url)).await.unwrap();
        in_time(pubsub::run(&url)).await.unwrap();
        in_time(caching::run(&url)).await.unwrap();
        in_time(failures::run(&url)).await.unwrap();
        // As a program without a runtime would.
        let without_runtime = std::thread::spawn(move || blocking::run(&url));
        let outcome = in_time(tokio::task::spawn_blocking(|| without_runtime.join())).await;
        outcome.unwrap().unwrap().unwrap();
        let client = Client::connect(&server.url()).await.unwrap();
        assert_eq!(client.dbsize().await.unwrap(), 0, "{flavour:?}");
    }
}
