//! What a connected engine takes of the process. Alone in its process, as it counts what the whole of it has open.

#![cfg(all(feature = "zmq", target_os = "linux"))]
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

use std::{sync::Arc, time::Duration};

use respire_kvblock::{
    InMemoryConfig, InMemoryIndex, TokenProcessor, TokenProcessorConfig,
    events::{EventPool, Listener, ListenerConfig, PoolConfig},
};
use tokio::time::{sleep, timeout};
use zeromq::{PubSocket, Socket};

fn open() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Waits until no more than so many descriptors are open.
async fn settle(most: usize) {
    timeout(Duration::from_secs(60), async {
        while open() > most {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("{} descriptors are open, not {most}", open()));
}

#[tokio::test]
async fn an_engine_takes_three_descriptors_and_gives_them_back() {
    const ENGINES: usize = 20;
    let index = InMemoryIndex::new(InMemoryConfig::default()).unwrap();
    let tokens = TokenProcessor::new(&TokenProcessorConfig::default()).unwrap();
    let pool = Arc::new(EventPool::start(index, &tokens, PoolConfig::default()));
    let listener = Listener::bind(ListenerConfig::new("tcp://127.0.0.1:0")).await.unwrap();
    let endpoint = listener.endpoint().unwrap();
    let listening = tokio::spawn(async move { listener.run(&pool).await });
    // What all engines have in common is opened with the first of them: a few, whatever their number.
    const COMMON: usize = 8;
    let before = open();
    for _ in 0..2 {
        let mut engines = Vec::new();
        for _ in 0..ENGINES {
            let mut engine = PubSocket::new();
            // It returns when either side has introduced itself.
            timeout(Duration::from_secs(60), engine.connect(&endpoint)).await.unwrap().unwrap();
            engines.push(engine);
        }
        // Three are the listener's, and one is the engine's own.
        settle(before + 4 * ENGINES + COMMON).await;
        assert!(open() >= before + 2 * ENGINES, "they are connected");
        drop(engines);
        settle(before + COMMON).await;
    }
    listening.abort();
}
