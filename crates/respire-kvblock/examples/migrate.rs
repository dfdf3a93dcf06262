//! From Redis to Valkey by changing the configuration.
//!
//! The program works with whatever index its configuration names, and does not know which server that is:
//!
//! ```sh
//! echo '{ "redisConfig": { "address": "redis://localhost:6379" } }' > index.json
//! cargo run -p respire-kvblock --example migrate -- index.json store
//! # Copy the data, as the servers do it: with REPLICAOF, or by a snapshot. Then:
//! echo '{ "valkeyConfig": { "address": "valkey://localhost:6380" } }' > index.json
//! cargo run -p respire-kvblock --example migrate -- index.json find
//! ```

use std::{env, error::Error, fs};

use respire_kvblock::{BlockHash, IndexConfig, KeyType, PodEntry, PodSet};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let [path, step] = args.as_slice() else {
        return Err("usage: migrate CONFIGURATION store|find|drop".into());
    };
    let config: IndexConfig = fs::read_to_string(path)?.parse()?;
    let index = config.open().await?;

    let engine_keys: Vec<BlockHash> = (7_001..7_101).map(BlockHash).collect();
    let request_keys: Vec<BlockHash> = (8_001..8_101).map(BlockHash).collect();
    let pods = ["10.0.0.1:8000", "10.0.0.2:8000"].map(|pod| PodEntry::new(pod, "gpu"));
    match step.as_str() {
        "store" => index.add(Some(&engine_keys), &request_keys, &pods).await?,
        // By the names that the engine gave them, which the index has to know still.
        "drop" => index.evict(&engine_keys, KeyType::Engine, &pods).await?,
        _ => {}
    }
    let found = index.lookup(&request_keys, &PodSet::all()).await?;
    println!("{}: {} of {} blocks", index.describe(), found.len(), request_keys.len());
    Ok(())
}
