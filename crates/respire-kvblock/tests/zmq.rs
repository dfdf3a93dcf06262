//! The subscriber, against sockets of a publisher on the loopback interface.

#![cfg(all(feature = "zmq", unix))]
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use respire_kvblock::prometheus_client::{encoding::text::encode, registry::Registry};
use respire_kvblock::{
    BlockHash, InMemoryConfig, InMemoryIndex, Index, IndexError, KeyType, Lookup, PodEntry, PodSet,
    ResyncReason, TokenProcessor, TokenProcessorConfig,
    events::{
        EventPool, Listener, ListenerConfig, PoolConfig, Replay, Subscriber, SubscriberConfig,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
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

/// What a peer sends before its first message: a greeting of version 3.0 without security, and what kind of socket it is.
fn greeting(socket_type: &str) -> Vec<u8> {
    let mut greeting = vec![0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 0];
    greeting.extend_from_slice(b"NULL");
    greeting.resize(64, 0);
    let mut ready = b"\x05READY\x0bSocket-Type\0\0\0".to_vec();
    ready.push(socket_type.len() as u8);
    ready.extend_from_slice(socket_type.as_bytes());
    greeting.extend_from_slice(&[4, ready.len() as u8]);
    greeting.extend_from_slice(&ready);
    greeting
}

/// The head of a frame of 2^40 bytes.
fn announced() -> Vec<u8> {
    [&[2][..], &(1_u64 << 40).to_be_bytes()].concat()
}

/// Sends this, and returns when the other side has closed the connection.
async fn send_until_closed(mut stream: TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).await.unwrap();
    timeout(PATIENCE, async {
        let mut read = [0; 1024];
        // A reset is as good as an end.
        while stream.read(&mut read).await.is_ok_and(|read| read > 0) {}
    })
    .await
    .expect("the connection is cut in time");
}

#[tokio::test]
async fn a_publisher_that_announces_a_frame_without_end_is_cut_off_and_costs_nothing() {
    let mut bench = Bench::new().await;
    let hostile = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = SubscriberConfig::new(format!("tcp://{}", hostile.local_addr().unwrap()));
    config.reconnect_pause = Duration::from_millis(20);
    let listening = bench.listen(config);
    for before in [greeting("PUB"), Vec::new()] {
        let (stream, _) = timeout(PATIENCE, hostile.accept()).await.unwrap().unwrap();
        let bytes = match before.is_empty() {
            // Instead of a greeting.
            true => vec![0; 200],
            false => [before, announced()].concat(),
        };
        send_until_closed(stream, &bytes).await;
    }
    // It is asked again, and others are heard meanwhile.
    timeout(PATIENCE, hostile.accept()).await.unwrap().unwrap();
    assert!(bench.pool.stats().reconnections >= 1);
    let other = bench.listen(bench.config());
    bench.publish_until_heard(TOPIC, 1).await;
    listening.abort();
    other.abort();
}

#[tokio::test]
async fn a_message_is_heard_up_to_the_length_that_is_allowed() {
    let mut bench = Bench::new().await;
    let mut config = bench.config();
    config.reconnect_pause = Duration::from_millis(20);
    config.message_bytes = TOPIC.len() + 8 + payload(1).len();
    let listening = bench.listen(config);
    bench.publish_until_heard(TOPIC, 1).await;
    // One byte more ends the connection; the next one hears what is allowed.
    let long = vec![TOPIC.into(), number(bench.next), [&payload(9)[..], b"\0"].concat().into()];
    bench.publisher.send(message(long)).await.unwrap();
    bench.next += 1;
    bench.publish_until_heard(TOPIC, 2).await;
    assert!(bench.holders(9).await.is_empty());
    listening.abort();
}

#[tokio::test]
async fn a_replay_that_announces_a_frame_without_end_has_failed() {
    let mut bench = Bench::new().await;
    let hostile = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = bench.config();
    let mut replay = Replay::new(format!("tcp://{}", hostile.local_addr().unwrap()));
    replay.cooldown = Duration::from_secs(3600);
    replay.timeout = Duration::from_secs(20);
    config.replay = Some(replay);
    let answering = tokio::spawn(async move {
        let (stream, _) = hostile.accept().await.unwrap();
        send_until_closed(stream, &[greeting("ROUTER"), announced()].concat()).await;
    });
    let listening = bench.listen(config);
    bench.next = 5;
    bench.publish_until_heard(TOPIC, 1).await;
    timeout(PATIENCE, answering).await.unwrap().unwrap();
    assert_eq!(bench.pool.stats().replay_failures, 1);
    listening.abort();
}

fn metrics(pool: &EventPool) -> String {
    let mut registry = Registry::default();
    pool.register_metrics(&mut registry);
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    text
}

#[tokio::test]
async fn a_subscriber_is_counted_by_its_pod_until_it_ends() {
    let mut bench = Bench::new().await;
    let mut config = bench.config();
    config.pod_identifier = Some("b".to_owned());
    let listening = bench.listen(config);
    bench.publish_until_heard("kv@a@model", 1).await;
    let nobody = "tcp://127.0.0.1:1";
    let failing = bench.listen(SubscriberConfig::new(nobody));
    timeout(PATIENCE, async {
        while !metrics(&bench.pool).contains("zmq_errors_total{") {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
    let text = metrics(&bench.pool);
    let prefix = "llm_d_epp_kv_cache_events";
    for expected in [
        format!(r#"{prefix}_messages_received_total{{pod_identifier="b"}} "#),
        format!(r#"{prefix}_subscriber_reconnections_total{{pod_identifier="{nobody}"}} 1"#),
        format!(r#"{prefix}_zmq_errors_total{{pod_identifier="{nobody}",operation="connect"}} 1"#),
        format!("{prefix}_active_subscribers 2\n"),
    ] {
        assert!(text.contains(&expected), "{expected} is not in\n{text}");
    }
    // Another rank of the pod counts under its name too, and what both have counted stays when one of them ends.
    let mut config = bench.config();
    config.pod_identifier = Some("b".to_owned());
    config.publisher = 1;
    let rank = bench.listen(config);
    timeout(PATIENCE, async {
        while !metrics(&bench.pool).contains("_active_subscribers 3") {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
    rank.abort();
    assert!(rank.await.is_err());
    let text = metrics(&bench.pool);
    assert!(text.contains(r#"messages_received_total{pod_identifier="b"}"#), "{text}");
    listening.abort();
    failing.abort();
    assert!(listening.await.is_err() && failing.await.is_err());
    let text = metrics(&bench.pool);
    assert!(text.contains(&format!("{prefix}_active_subscribers 0\n")), "{text}");
    assert!(!text.contains("pod_identifier="), "{text}");
}

async fn bind(bench: &Bench, config: ListenerConfig) -> (String, JoinHandle<std::io::Result<()>>) {
    let listener = Listener::bind(config).await.unwrap();
    let endpoint = listener.endpoint().unwrap();
    let pool = Arc::clone(&bench.pool);
    (endpoint, tokio::spawn(async move { listener.run(&pool).await }))
}

async fn connect(bench: &mut Bench, endpoint: &str) {
    let mut publisher = PubSocket::new();
    timeout(PATIENCE, publisher.connect(endpoint)).await.unwrap().unwrap();
    bench.publisher = publisher;
}

#[tokio::test]
async fn engines_connect_to_an_address_that_is_bound_here() {
    let mut bench = Bench::new().await;
    let folder = tempfile::tempdir().unwrap();
    let path = format!("ipc://{}", folder.path().join("kv").display());
    for (address, block) in [("tcp://127.0.0.1:0", 1), (&path, 2)] {
        let (endpoint, listening) = bind(&bench, ListenerConfig::new(address)).await;
        connect(&mut bench, &endpoint).await;
        bench.publish_until_heard("kv@a@model", block).await;
        // Another engine at the same address, and what is under another topic.
        let other = vec!["other@x@model".into(), number(0), payload(9)];
        bench.publisher.send(message(other)).await.unwrap();
        connect(&mut bench, &endpoint).await;
        bench.publish_until_heard("kv@b@model", block + 10).await;
        assert_eq!(bench.holders(block).await, ["a@gpu"]);
        assert_eq!(bench.holders(block + 10).await, ["b@gpu"]);
        assert!(bench.holders(9).await.is_empty());
        listening.abort();
        assert!(listening.await.unwrap_err().is_cancelled());
    }
    assert!(!folder.path().join("kv").exists());
}

/// Sends what is next over each of these connections until the index has this block.
async fn publish_in_turn(bench: &Bench, ranks: &mut [(PubSocket, u64)], block: u8) {
    timeout(PATIENCE, async {
        while bench.holders(block).await.is_empty() {
            for (publisher, next) in &mut *ranks {
                let frames = vec![TOPIC.into(), number(*next), payload(block)];
                publisher.send(message(frames)).await.unwrap();
                *next += 1;
            }
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
}

/// Connects once more and is heard from this number on. The connection before stays open, and says nothing any more.
async fn come_again(bench: &mut Bench, endpoint: &str, next: u64, block: u8) -> PubSocket {
    let before = std::mem::replace(&mut bench.publisher, PubSocket::new());
    connect(bench, endpoint).await;
    bench.next = next;
    bench.publish_until_heard(TOPIC, block).await;
    before
}

#[tokio::test]
async fn an_engine_that_comes_again_is_the_same_though_its_old_connection_is_still_open() {
    let mut bench = Bench::new().await;
    let (endpoint, listening) = bind(&bench, ListenerConfig::new("tcp://127.0.0.1:0")).await;
    let bound = come_again(&mut bench, &endpoint, 5000, 1).await;
    assert_eq!((bench.pool.stats().gaps, bench.pool.stats().restarts), (0, 0));
    // Its path was cut, and some messages are missing.
    let first = come_again(&mut bench, &endpoint, 7000, 2).await;
    let stats = bench.pool.stats();
    assert_eq!((stats.gaps, stats.restarts, stats.clears), (1, 0, 0));
    assert!(bench.pool.try_next_resync().unwrap().reason.may_be_stale());
    // It has started anew, and holds nothing of before.
    let second = come_again(&mut bench, &endpoint, 0, 3).await;
    let stats = bench.pool.stats();
    assert_eq!((stats.gaps, stats.restarts, stats.clears), (1, 1, 1));
    assert!(matches!(
        bench.pool.try_next_resync().unwrap().reason,
        ResyncReason::Restarted { expected: 7001.., found: 0..100 }
    ));
    for block in [1, 2] {
        assert!(bench.holders(block).await.is_empty());
    }
    drop((bound, first, second));
    listening.abort();
}

#[tokio::test]
async fn ranks_of_a_pod_are_told_apart_and_keep_their_numbers_when_they_come_again_together() {
    let mut bench = Bench::new().await;
    let mut config = ListenerConfig::new("tcp://127.0.0.1:0");
    config.publishers_per_pod = 2;
    let (endpoint, listening) = bind(&bench, config).await;
    let mut ranks = Vec::new();
    for (next, block) in [(0, 1), (5000, 2)] {
        connect(&mut bench, &endpoint).await;
        bench.next = next;
        bench.publish_until_heard(TOPIC, block).await;
        ranks.push((std::mem::replace(&mut bench.publisher, PubSocket::new()), bench.next));
    }
    for block in 3..20 {
        publish_in_turn(&bench, &mut ranks, block).await;
    }
    // Both come again, in the other order, and go on a little later than they were.
    let mut old = Vec::new();
    for (rank, next) in ranks.iter_mut().rev() {
        bench.next = *next + 1000;
        connect(&mut bench, &endpoint).await;
        let block = if *next > 5000 { 30 } else { 31 };
        bench.publish_until_heard(TOPIC, block).await;
        old.push(std::mem::replace(
            rank,
            std::mem::replace(&mut bench.publisher, PubSocket::new()),
        ));
        *next = bench.next;
    }
    publish_in_turn(&bench, &mut ranks, 32).await;
    let stats = bench.pool.stats();
    assert_eq!((stats.gaps, stats.restarts, stats.clears), (2, 0, 0), "{stats:?}");
    // One begins anew, and with it the pod.
    let (first, _) = ranks.remove(0);
    first.close().await;
    connect(&mut bench, &endpoint).await;
    bench.next = 0;
    bench.publish_until_heard(TOPIC, 33).await;
    assert_eq!((bench.pool.stats().gaps, bench.pool.stats().restarts), (2, 1));
    listening.abort();
}

#[tokio::test]
async fn connections_that_speak_in_turn_for_a_pod_are_found_to_be_two_publishers() {
    let mut bench = Bench::new().await;
    let (endpoint, listening) = bind(&bench, ListenerConfig::new("tcp://127.0.0.1:0")).await;
    let bound = come_again(&mut bench, &endpoint, 5000, 1).await;
    let next = bench.next;
    let first = come_again(&mut bench, &endpoint, 0, 2).await;
    // It was taken for the first one that has started anew.
    assert_eq!(bench.pool.stats().restarts, 1);
    assert!(bench.pool.try_next_resync().is_some());
    let second = std::mem::replace(&mut bench.publisher, PubSocket::new());
    let mut ranks = vec![(first, next), (second, bench.next)];
    for block in 3..20 {
        publish_in_turn(&bench, &mut ranks, block).await;
    }
    let stats = bench.pool.stats();
    assert_eq!((stats.gaps, stats.restarts, stats.clears), (0, 1, 1), "{stats:?}");
    // Its last words would be no others than what a publisher of its own says.
    let resync = bench.pool.try_next_resync().unwrap();
    assert!(matches!(resync.reason, ResyncReason::Restarted { expected: 5001.., .. }));
    drop(bound);
    listening.abort();
}

/// An index that can be made to wait with its writes, as one on a server that is away.
struct Held {
    index: Arc<InMemoryIndex>,
    gate: tokio::sync::Mutex<()>,
}

#[async_trait::async_trait]
impl Index for Held {
    async fn lookup(&self, keys: &[BlockHash], pods: &PodSet) -> Result<Lookup, IndexError> {
        self.index.lookup(keys, pods).await
    }

    async fn add(
        &self,
        engine_keys: Option<&[BlockHash]>,
        request_keys: &[BlockHash],
        entries: &[PodEntry],
    ) -> Result<(), IndexError> {
        drop(self.gate.lock().await);
        self.index.add(engine_keys, request_keys, entries).await
    }

    async fn evict(
        &self,
        keys: &[BlockHash],
        key_type: KeyType,
        entries: &[PodEntry],
    ) -> Result<(), IndexError> {
        self.index.evict(keys, key_type, entries).await
    }

    async fn request_key(&self, engine_key: BlockHash) -> Result<BlockHash, IndexError> {
        self.index.request_key(engine_key).await
    }

    async fn clear(&self, pod_identifier: &str) -> Result<(), IndexError> {
        self.index.clear(pod_identifier).await
    }
}

#[tokio::test]
async fn what_an_engine_said_before_it_ended_is_applied_however_long_there_is_no_room() {
    let mut bench = Bench::new().await;
    let held = Arc::new(Held { index: Arc::clone(&bench.index), gate: Default::default() });
    let mut config = PoolConfig::default();
    (config.workers, config.queue_messages, config.from_start) = (1, 1, true);
    bench.pool = Arc::new(EventPool::start(Arc::clone(&held), &tokens(), config));
    let (endpoint, listening) = bind(&bench, ListenerConfig::new("tcp://127.0.0.1:0")).await;
    // The server is away for longer than last words are waited for.
    let away = held.gate.lock().await;
    let mut engine = TcpStream::connect(endpoint.strip_prefix("tcp://").unwrap()).await.unwrap();
    engine.write_all(&greeting("PUB")).await.unwrap();
    // What it is sent ends with a subscription.
    let mut read = Vec::new();
    while !read.ends_with(b"kv@") {
        assert!(timeout(PATIENCE, engine.read_buf(&mut read)).await.unwrap().unwrap() > 0);
    }
    let mut bytes = Vec::new();
    for block in 0..40 {
        for (flags, frame) in [
            (1, Bytes::from(TOPIC)),
            (1, number(block)),
            (0, payload(u8::try_from(block).unwrap())),
        ] {
            bytes.extend_from_slice(&[flags, u8::try_from(frame.len()).unwrap()]);
            bytes.extend_from_slice(&frame);
        }
    }
    engine.write_all(&bytes).await.unwrap();
    engine.shutdown().await.unwrap();
    sleep(Duration::from_secs(7)).await;
    drop(away);
    timeout(PATIENCE, async {
        while bench.holders(39).await.is_empty() {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("the last word is heard");
    let stats = bench.pool.stats();
    assert_eq!((stats.messages, stats.gaps), (40, 0), "{stats:?}");
    listening.abort();
}

#[tokio::test]
async fn an_engine_that_does_not_introduce_itself_makes_room_for_others() {
    let mut bench = Bench::new().await;
    let mut config = ListenerConfig::new("tcp://127.0.0.1:0");
    config.connections = 1;
    let (endpoint, listening) = bind(&bench, config).await;
    let mut idle = TcpStream::connect(endpoint.strip_prefix("tcp://").unwrap()).await.unwrap();
    // A greeting, and nothing of what has to follow it.
    idle.write_all(&greeting("PUB")[..64]).await.unwrap();
    send_until_closed(idle, b"").await;
    connect(&mut bench, &endpoint).await;
    bench.publish_until_heard(TOPIC, 1).await;
    listening.abort();
}

#[tokio::test]
async fn whoever_connects_and_announces_a_frame_without_end_is_cut_off_and_others_are_heard() {
    let mut bench = Bench::new().await;
    let (endpoint, listening) = bind(&bench, ListenerConfig::new("tcp://127.0.0.1:0")).await;
    connect(&mut bench, &endpoint).await;
    bench.publish_until_heard(TOPIC, 1).await;
    let address = endpoint.strip_prefix("tcp://").unwrap();
    let garbage = [greeting("PUB"), vec![4, 3, 9, 9, 9]].concat();
    for bytes in [[greeting("PUB"), announced()].concat(), vec![0; 200], garbage] {
        send_until_closed(TcpStream::connect(address).await.unwrap(), &bytes).await;
    }
    bench.publish_until_heard(TOPIC, 2).await;
    bench.pool.shutdown().await;
    timeout(PATIENCE, listening).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn no_more_engines_are_connected_than_may_be() {
    let mut bench = Bench::new().await;
    let mut config = ListenerConfig::new("tcp://127.0.0.1:0");
    config.connections = 1;
    let (endpoint, listening) = bind(&bench, config).await;
    connect(&mut bench, &endpoint).await;
    bench.publish_until_heard(TOPIC, 1).await;
    let address = endpoint.strip_prefix("tcp://").unwrap();
    send_until_closed(TcpStream::connect(address).await.unwrap(), b"").await;
    // Its place is free when an engine has gone.
    std::mem::replace(&mut bench.publisher, PubSocket::new()).close().await;
    timeout(PATIENCE, async {
        while PubSocket::new().connect(&endpoint).await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
    listening.abort();
}

#[tokio::test]
async fn an_address_that_is_none_or_is_taken_is_an_error() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("tcp://{}", taken.local_addr().unwrap());
    for address in ["10.0.0.1:5557", "udp://127.0.0.1:0", &taken] {
        assert!(Listener::bind(ListenerConfig::new(address)).await.is_err(), "{address}");
    }
}
