//! What the client keeps in memory. One test, so that the process holds nothing else.

use std::time::Duration;

use respire::{Client, Command};
use respire_cli::local_server::{Flavour, LocalServer};

#[tokio::test]
async fn a_large_reply_that_nobody_waits_for_does_not_stay_in_memory() {
    let server = LocalServer::start(Flavour::Valkey).expect("the test needs a valkey-server");
    let client = Client::connect(&server.url()).await.unwrap();
    let size = 128 << 20;
    let set = Command::new("SETRANGE").arg("k").arg(size - 1).arg("x");
    client.execute(set).await.unwrap();
    let hasty = client.with_command_timeout(Some(Duration::from_millis(1)));
    let error = hasty.execute(Command::new("GET").arg("k")).await.unwrap_err();
    assert!(error.is_timeout(), "{error:?}");
    for _ in 0..100 {
        client.execute(Command::new("PING")).await.unwrap();
    }
    // Unused memory of the allocator's aside, the process is small but for that reply.
    let resident = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = resident.split(' ').nth(1).unwrap().parse().unwrap();
    assert!(pages * 4096 < size, "{} MiB are resident", (pages * 4096) >> 20);
}
