//! Reads that are answered from memory until the server announces a change.

use std::time::Duration;

use respire::{Client, cache::CacheConfig, commands::*};

#[tokio::main]
async fn main() -> Result<(), respire::Error> {
    let url = std::env::args().nth(1);
    run(url.as_deref().unwrap_or("valkey://localhost:6379")).await
}

pub(crate) async fn run(url: &str) -> Result<(), respire::Error> {
    let client = Client::connect(url).await?;
    let cached = client.cached(CacheConfig::new()).await?;

    cached.set("example:name", "Ada").await?;
    for _ in 0..1000 {
        let name: Option<String> = cached.get("example:name").await?;
        assert_eq!(name.as_deref(), Some("Ada"));
    }
    println!("{:?}", cached.stats());

    // Somebody else changes it. The server says so, a moment later.
    client.set("example:name", "Grace").await?;
    loop {
        let name: Option<String> = cached.get("example:name").await?;
        if name.as_deref() == Some("Grace") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(cached.stats().invalidations > 0);

    client.del(["example:name"]).await?;
    Ok(())
}
