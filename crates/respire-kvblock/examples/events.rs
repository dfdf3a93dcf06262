//! An index that is fed by what engines announce.
//!
//! The engine is simulated: it publishes as vLLM does. With the `zmq` feature a `Subscriber` takes the place of the calls of
//! `submit`, one for each pod.
//!
//! ```sh
//! cargo run -p respire-kvblock --example events
//! ```

use std::{error::Error, sync::Arc};

use bytes::Bytes;
use respire_kvblock::{
    BlockHash, InMemoryConfig, InMemoryIndex, Index, PodSet, TokenProcessor, TokenProcessorConfig,
    events::{EventMessage, EventPool, PoolConfig},
};

/// A batch in MessagePack: [0, [["BlockStored", [hash], parent, tokens, 4]]]. Numbers are below 128; no parent is 0.
fn stored(hash: u8, parent: u8, tokens: [u8; 4]) -> Vec<u8> {
    let mut batch = b"\x92\x00\x91\x95\xabBlockStored\x91".to_vec();
    batch.extend_from_slice(&[hash, parent, 0x94]);
    batch.extend_from_slice(&tokens);
    batch.push(4);
    batch
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let index = Arc::new(InMemoryIndex::new(InMemoryConfig::default())?);
    let config = TokenProcessorConfig { block_size_tokens: 4, ..Default::default() };
    let tokens = TokenProcessor::new(&config)?;
    let pool = EventPool::start(Arc::clone(&index), &tokens, PoolConfig::default());

    // Message 2 is lost on the way.
    let published = [
        (0_u64, stored(101, 0, [1, 2, 3, 4])),
        (1, stored(102, 101, [5, 6, 7, 8])),
        (3, stored(104, 103, [13, 14, 15, 16])),
    ];
    for (number, batch) in published {
        let topic = Bytes::from_static(b"kv@10.0.0.1:8000@model");
        let number = Bytes::copy_from_slice(&number.to_be_bytes());
        pool.submit(EventMessage::from_frames(&[topic, number, batch.into()])?).await?;
    }
    // Everything that was submitted is applied, and nothing more is accepted.
    pool.shutdown().await;

    let prompt: Vec<u32> = (1..=16).collect();
    let keys = tokens.block_keys(BlockHash::EMPTY, &prompt, "model");
    let found = index.lookup(&keys, &PodSet::all()).await?;
    for (pod, blocks) in found.prefix_lengths() {
        println!("{pod} holds {blocks} of {} blocks", keys.len());
    }
    while let Some(resync) = pool.next_resync().await {
        println!("{resync}");
    }
    Ok(())
}
