//! The subscriber, against sockets of a publisher on the loopback interface.

#![cfg(feature = "zmq")]
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use respire_kvblock::{
    BlockHash, InMemoryConfig, InMemoryIndex, Index, PodSet, TokenProcessor, TokenProcessorConfig,
    events::{EventPool, PoolConfig, Replay, Subscriber, SubscriberConfig},
};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};
use zeromq::{PubSocket, RouterSocket, Socket, SocketRecv, SocketSend, ZmqMessage};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

const TOPIC: &str = "kv@10.0.0.1:8000@model";
const HOLDER: &str = "10.0.0.1:8000@gpu";

fn tokens() -> TokenProcessor {
    let config = TokenProcessorConfig { block_size_tokens: 4, ..Default::default() };
    TokenProcessor::new(&config).unwrap()
}

/// A batch with one block of four tokens, all of this number, which is its hash too.
fn payload(block: u8) -> Bytes {
    let mut payload = b"\x92\x00\x91\x95\xabBlockStored\x91".to_vec();
    payload.extend_from_slice(&[block, 0xc0, 0x94, block, block, block, block, 4]);
    payload.into()
}

fn message(frames: Vec<Bytes>) -> ZmqMessage {
    ZmqMessage::try_from(frames).unwrap()
}

fn number(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}

struct Bench {
    index: Arc<InMemoryIndex>,
    pool: Arc<EventPool>,
    publisher: PubSocket,
    endpoint: String,
    /// The number of the next message.
    next: u64,
}

impl Bench {
    async fn new() -> Self {
        let index = Arc::new(InMemoryIndex::new(InMemoryConfig::default()).unwrap());
        let pool = EventPool::start(Arc::clone(&index), &tokens(), PoolConfig::default());
        let mut publisher = PubSocket::new();
        let endpoint = publisher.bind("tcp://127.0.0.1:0").await.unwrap().to_string();
        Self { index, pool: Arc::new(pool), publisher, endpoint, next: 0 }
    }

    fn config(&self) -> SubscriberConfig {
        SubscriberConfig::new(&self.endpoint)
    }

    fn listen(&self, config: SubscriberConfig) -> JoinHandle<()> {
        let pool = Arc::clone(&self.pool);
        tokio::spawn(async move { Subscriber::new(config).run(&pool).await })
    }

    /// Who holds the block of this number.
    async fn holders(&self, block: u8) -> Vec<String> {
        let keys = tokens().block_keys(BlockHash::EMPTY, &[u32::from(block); 4], "model");
        let found = self.index.lookup(&keys, &PodSet::all()).await.unwrap();
        found.entries(0).map(ToString::to_string).collect()
    }

    async fn publish(&mut self, topic: &'static str, block: u8) {
        let frames = vec![topic.into(), number(self.next), payload(block)];
        self.publisher.send(message(frames)).await.unwrap();
        self.next += 1;
    }

    /// Publishes a block again and again until the index has it: who subscribes late misses what came before.
    async fn publish_until_heard(&mut self, topic: &'static str, block: u8) {
        timeout(PATIENCE, async {
            while self.holders(block).await.is_empty() {
                self.publish(topic, block).await;
                sleep(Duration::from_millis(20)).await;
            }
        })
        .await
        .expect("the publisher is heard in time");
    }
}

#[tokio::test]
async fn what_is_published_under_the_filter_reaches_the_index() {
    let mut bench = Bench::new().await;
    let listening = bench.listen(bench.config());
    bench.publish_until_heard(TOPIC, 1).await;
    assert_eq!(bench.holders(1).await, [HOLDER]);

    // Another topic is not for us; frames that are no message are counted, and the next message is heard.
    let other = vec!["other@x@model".into(), number(0), payload(9)];
    bench.publisher.send(message(other)).await.unwrap();
    bench.publisher.send(message(vec!["kv@two frames".into(), "x".into()])).await.unwrap();
    bench.publish_until_heard(TOPIC, 2).await;
    assert!(bench.holders(9).await.is_empty());
    assert_eq!(bench.pool.stats().unreadable_messages, 1);

    // The subscriber ends with the pool.
    bench.pool.shutdown().await;
    timeout(PATIENCE, listening).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_configured_pod_takes_the_place_of_the_topics() {
    let mut bench = Bench::new().await;
    let mut config = bench.config();
    config.pod_identifier = Some("b".to_owned());
    let listening = bench.listen(config);
    bench.publish_until_heard("kv@a@model", 1).await;
    assert_eq!(bench.holders(1).await, ["b@gpu"]);
    listening.abort();
}

#[tokio::test]
async fn a_publisher_that_comes_late_or_again_is_heard() {
    let mut bench = Bench::new().await;
    // Nobody listens at the address at first.
    std::mem::replace(&mut bench.publisher, PubSocket::new()).close().await;
    let mut config = bench.config();
    config.reconnect_pause = Duration::from_millis(50);
    let listening = bench.listen(config);
    sleep(Duration::from_millis(100)).await;
    for block in [1, 2] {
        let endpoint = bench.endpoint.clone();
        timeout(PATIENCE, async {
            while bench.publisher.bind(&endpoint).await.is_err() {
                sleep(Duration::from_millis(50)).await;
            }
        })
        .await
        .unwrap();
        bench.publish_until_heard(TOPIC, block).await;
        std::mem::replace(&mut bench.publisher, PubSocket::new()).close().await;
    }
    listening.abort();
}

/// Answers one request as vLLM does: with the messages that it has kept from a number on, and an end. The number.
async fn answer(mut router: RouterSocket, kept: Vec<(u64, u8)>) -> u64 {
    let request = router.recv().await.unwrap().into_vec();
    let [peer, empty, from] = &request[..] else { panic!("{request:?}") };
    assert!(empty.is_empty());
    let from = u64::from_be_bytes(from.as_ref().try_into().unwrap());
    let kept = kept.into_iter().filter(|(number, _)| *number >= from);
    let replies = kept.map(|(of, block)| (number(of), payload(block)));
    for (number, payload) in replies.chain([(number(u64::MAX), Bytes::new())]) {
        let reply = message(vec![peer.clone(), Bytes::new(), number, payload]);
        if router.send(reply).await.is_err() {
            // Whoever asked has what it wanted.
            break;
        }
    }
    // What is under way goes out before the socket is closed.
    sleep(Duration::from_secs(1)).await;
    from
}

#[tokio::test]
async fn what_was_missed_is_fetched_before_what_came_after_it() {
    let mut bench = Bench::new().await;
    let mut router = RouterSocket::new();
    let mut config = bench.config();
    config.replay = Some(Replay::new(router.bind("tcp://127.0.0.1:0").await.unwrap().to_string()));
    // Nothing was heard of the first messages.
    let kept = (0..200).map(|number| (number, 10 + (number % 3) as u8)).collect();
    let answering = tokio::spawn(answer(router, kept));
    let listening = bench.listen(config);
    bench.next = 5;
    bench.publish_until_heard(TOPIC, 1).await;
    for block in [10, 11, 12] {
        assert_eq!(bench.holders(block).await, [HOLDER]);
    }
    let stats = bench.pool.stats();
    assert!(stats.replayed >= 5, "{stats:?}");
    assert_eq!((stats.gaps, stats.restarts, stats.replay_failures), (0, 0, 0));
    assert!(bench.pool.try_next_resync().is_none());
    assert_eq!(timeout(PATIENCE, answering).await.unwrap().unwrap(), 0);
    listening.abort();
}

#[tokio::test]
async fn what_cannot_be_fetched_whole_is_a_gap_and_the_pod_is_named() {
    let mut bench = Bench::new().await;
    let mut router = RouterSocket::new();
    let mut config = bench.config();
    let mut replay = Replay::new(router.bind("tcp://127.0.0.1:0").await.unwrap().to_string());
    replay.cooldown = Duration::from_secs(3600);
    config.replay = Some(replay);
    // Of the first messages only these are kept; then nothing is fetched for an hour.
    let answering = tokio::spawn(answer(router, vec![(2, 10), (4, 11)]));
    let listening = bench.listen(config);
    bench.next = 500;
    bench.publish_until_heard(TOPIC, 1).await;
    assert_eq!(
        (bench.holders(10).await, bench.holders(11).await),
        (vec![HOLDER.into()], vec![HOLDER.into()])
    );
    let stats = bench.pool.stats();
    assert_eq!((stats.replayed, stats.replay_failures, stats.gaps), (2, 1, 2));
    let resync = bench.pool.try_next_resync().unwrap();
    assert_eq!(resync.pod_identifier, "10.0.0.1:8000");
    bench.next += 7;
    bench.publish_until_heard(TOPIC, 2).await;
    assert_eq!(bench.pool.stats().gaps, 3);
    assert_eq!(timeout(PATIENCE, answering).await.unwrap().unwrap(), 0);
    listening.abort();
}
