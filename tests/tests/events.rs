//! Engines' events, applied to indexes on real servers in both layouts.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

use std::sync::Arc;

use bytes::Bytes;
use respire::Client;
use respire_kvblock::{
    BitmapIndex, BitmapOptions, BlockHash, Index, PodSet, ServerIndex, TokenProcessor,
    TokenProcessorConfig,
    events::{EventMessage, EventPool, PoolConfig},
};
use respire_tests::servers::on_each_server;

const MODEL: &str = "model";

/// What an engine writes, as far as these tests need it. Numbers and lengths are below 128 and 16.
#[derive(Clone)]
enum Value {
    Nil,
    Number(u8),
    Text(&'static str),
    List(Vec<Value>),
}

use Value::{List, Nil, Number, Text};

impl Value {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Nil => out.push(0xc0),
            Number(number) => out.push(*number),
            Text(text) => {
                out.push(0xa0 | text.len() as u8);
                out.extend_from_slice(text.as_bytes());
            }
            List(values) => {
                out.push(0x90 | values.len() as u8);
                values.iter().for_each(|value| value.write(out));
            }
        }
    }
}

fn numbers(numbers: impl IntoIterator<Item = u8>) -> Value {
    List(numbers.into_iter().map(Number).collect())
}

/// Blocks of two tokens.
fn stored(hashes: &[u8], parent: Value, tokens: &[u8], rest: Vec<Value>) -> Value {
    let hashes = numbers(hashes.iter().copied());
    let tokens = numbers(tokens.iter().copied());
    List([vec![Text("BlockStored"), hashes, parent, tokens, Number(2)], rest].concat())
}

fn removed(hashes: &[u8], medium: &'static str) -> Value {
    List(vec![Text("BlockRemoved"), numbers(hashes.iter().copied()), Text(medium)])
}

fn message(pod: &str, sequence: u64, events: Vec<Value>) -> EventMessage {
    let mut payload = Vec::new();
    List(vec![Number(0), List(events), Nil]).write(&mut payload);
    EventMessage {
        pod_identifier: pod.into(),
        model: MODEL.into(),
        publisher: 0,
        sequence: Some(sequence),
        payload: Bytes::from(payload),
    }
}

/// The life of two pods, and what the index says of it.
async fn follows_two_pods(index: Arc<dyn Index>, name: &str) {
    let config = TokenProcessorConfig { block_size_tokens: 2, ..Default::default() };
    let tokens = TokenProcessor::new(&config).unwrap();
    let prompt: Vec<u32> = (1..=8).collect();
    let keys = tokens.block_keys(BlockHash::EMPTY, &prompt, MODEL);
    let start = || EventPool::start(Arc::clone(&index), &tokens, PoolConfig::default());
    let held = async || {
        let found = index.lookup(&keys, &PodSet::all()).await.unwrap();
        let mut all: Vec<Vec<String>> =
            found.iter().map(|(_, entries)| entries.map(ToString::to_string).collect()).collect();
        all.iter_mut().for_each(|entries| entries.sort());
        all
    };

    let pool = start();
    let store = stored(&[11, 12, 13], Nil, &[1, 2, 3, 4, 5, 6], vec![]);
    pool.submit(message("a", 0, vec![store.clone()])).await.unwrap();
    pool.submit(message("a", 1, vec![stored(&[14], Number(13), &[7, 8], vec![])])).await.unwrap();
    pool.submit(message("b", 0, vec![store])).await.unwrap();
    pool.flush().await;
    let both = vec!["a@gpu".to_owned(), "b@gpu".to_owned()];
    let of_a = vec!["a@gpu".to_owned()];
    assert_eq!(held().await, [&both, &both, &both, &of_a].map(Clone::clone), "{name}");

    // Two blocks go to another tier and leave the first; the parent of what follows is known to the server alone.
    pool.shutdown().await;
    let pool = start();
    let cpu = vec![Nil, Text("CPU")];
    pool.submit(message("a", 2, vec![stored(&[13, 14], Nil, &[], cpu)])).await.unwrap();
    pool.submit(message("a", 3, vec![removed(&[13, 14], "GPU")])).await.unwrap();
    pool.submit(message("b", 1, vec![stored(&[24], Number(13), &[7, 8], vec![])])).await.unwrap();
    pool.flush().await;
    let moved = vec!["a@cpu".to_owned(), "b@gpu".to_owned()];
    assert_eq!(held().await, [&both, &both, &moved, &moved].map(Clone::clone), "{name}");
    assert!(pool.try_next_resync().is_none(), "{name}");

    // One starts anew, the other is cleared.
    pool.submit(message("a", 0, vec![stored(&[31], Nil, &[1, 2], vec![])])).await.unwrap();
    pool.submit(message("b", 2, vec![List(vec![Text("AllBlocksCleared")])])).await.unwrap();
    pool.shutdown().await;
    assert_eq!(held().await, [of_a], "{name}");
    let stats = pool.stats();
    assert_eq!((stats.restarts, stats.clears, stats.failures), (1, 2, 0), "{name}");
    assert_eq!(pool.next_resync().await.unwrap().pod_identifier, "a", "{name}");
    assert_eq!(pool.next_resync().await, None, "{name}");
}

#[tokio::test]
async fn an_index_on_a_server_follows_its_pods() {
    on_each_server(async |client: Client, flavour| {
        let name = format!("{} with {:?}", flavour.program(), client.config().protocol());
        let index = Arc::new(ServerIndex::new(client.clone()));
        follows_two_pods(index, &format!("llm-d's layout on {name}")).await;
        let index = Arc::new(BitmapIndex::new(client, BitmapOptions::default()));
        follows_two_pods(index, &format!("bitmaps on {name}")).await;
    })
    .await;
}
