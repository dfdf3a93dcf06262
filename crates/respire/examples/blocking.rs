//! A program without a runtime.

use std::time::Duration;

use respire::{ScanOptions, blocking::Client, commands::*};

fn main() -> Result<(), respire::Error> {
    let url = std::env::args().nth(1);
    run(url.as_deref().unwrap_or("valkey://localhost:6379"))
}

pub(crate) fn run(url: &str) -> Result<(), respire::Error> {
    let client = Client::connect(url)?;
    client.del(["example:jobs"])?;

    // A command that waits has a connection of its own: other threads are not held up.
    let worker = std::thread::spawn({
        let client = client.clone();
        move || client.blpop::<String, String>(["example:jobs"], Some(Duration::from_secs(10)))
    });
    client.rpush("example:jobs", ["sweep"])?;
    let job = worker.join().expect("no thread panics")?;
    println!("{job:?}");
    assert!(job.is_some_and(|(_, job)| job == "sweep"));

    // What is a stream elsewhere is an iterator here.
    client.set("example:key", 1)?;
    let keys = client
        .run(async |client| client.scan::<String>(ScanOptions::new().pattern("example:*")))?;
    for key in client.iter(keys) {
        println!("{}", key??);
    }
    client.del(["example:key"])?;
    client.close()
}
