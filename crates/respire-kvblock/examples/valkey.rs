//! An index on a Valkey server: configuration, add, lookup, evict, scores.
//!
//! The server is the one that `VALKEY_ADDR` names, or else the one on this machine:
//!
//! ```sh
//! VALKEY_ADDR=valkey://localhost:6379 cargo run -p respire-kvblock --example valkey
//! ```

use std::error::Error;

use respire_kvblock::{
    BlockHash, IndexConfig, IndexerConfig, KeyType, PodEntry, PodSet, ServerConfig,
};

const MODEL: &str = "ibm-granite/granite-3.1-8b-instruct";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = ServerConfig::from_env()?
        .unwrap_or_else(|| ServerConfig::valkey("valkey://127.0.0.1:6379"));
    // What belongs to this example alone, so that nothing else in the database is in its way.
    let server = ServerConfig { key_prefix: "example-valkey:".to_owned(), ..server };
    let config = IndexerConfig { index: IndexConfig::valkey(server), ..IndexerConfig::default() };
    let indexer = config.open().await?;
    println!("the index is {}", indexer.index().describe());

    // A prompt of four blocks, and what the engines of two pods call them.
    let prompt: Vec<u32> = (1..=64).collect();
    let request_keys = indexer.processor().block_keys(BlockHash::EMPTY, &prompt, MODEL);
    let engine_keys: Vec<BlockHash> = (901..905).map(BlockHash).collect();

    // The first pod holds all four on its GPU. The second holds three, the third of them in memory.
    let (gpu, cpu) = (|pod| [PodEntry::new(pod, "gpu")], |pod| [PodEntry::new(pod, "cpu")]);
    let index = indexer.index();
    index.add(Some(&engine_keys), &request_keys, &gpu("10.0.0.1:8000")).await?;
    index.add(Some(&engine_keys[..2]), &request_keys[..2], &gpu("10.0.0.2:8000")).await?;
    index.add(Some(&engine_keys[2..3]), &request_keys[2..3], &cpu("10.0.0.2:8000")).await?;

    let found = index.lookup(&request_keys, &PodSet::all()).await?;
    for (position, (key, entries)) in found.iter().enumerate() {
        let holders: Vec<String> = entries.map(ToString::to_string).collect();
        println!("block {position}, {key}: {}", holders.join(", "));
    }
    print_scores("before", &indexer, &prompt).await?;

    // The first pod drops its second block: what it holds behind that is of no use to this prompt.
    index.evict(&engine_keys[1..2], KeyType::Engine, &gpu("10.0.0.1:8000")).await?;
    print_scores("after an eviction", &indexer, &prompt).await?;

    // Both pods are gone.
    for pod in ["10.0.0.1:8000", "10.0.0.2:8000"] {
        index.clear(pod).await?;
    }
    print_scores("at the end", &indexer, &prompt).await
}

async fn print_scores(
    when: &str,
    indexer: &respire_kvblock::Indexer,
    prompt: &[u32],
) -> Result<(), Box<dyn Error>> {
    let scores = indexer.score_tokens(prompt, MODEL, &PodSet::all()).await?;
    let mut scores: Vec<_> = scores.into_iter().collect();
    scores.sort_by(|(a, _), (b, _)| a.cmp(b));
    println!("{when}: {scores:?}");
    Ok(())
}
