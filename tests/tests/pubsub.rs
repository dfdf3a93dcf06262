//! Subscriptions against real servers, over both protocols; and against a peer that falls silent.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use respire::{
    Client, Command, Config, Pipeline, Protocol, WhenDown,
    pubsub::{ChannelKind, Event, Message, Subscription},
};
use respire_cli::local_server::{Flavour, LocalServer};
use respire_tests::peer::ScriptedPeer;
use respire_tests::servers::{HUNG, Ways, config, each_way, flavours, in_time, server};
use respire_tests::tls::TlsServer;

async fn client(server: &LocalServer, protocol: Protocol) -> Client {
    in_time(Client::with_config(config(&server.url()).with_protocol(protocol)))
        .await
        .expect("the server is up")
}

/// Runs a test in each way to each server, each a new one, which knows no channels.
async fn everywhere<F: AsyncFn(Client, &LocalServer, &str)>(test: F) {
    each_way(Ways::All, &[], async |server: TlsServer, config: Config, name: &str| {
        let client = in_time(Client::with_config(config)).await.expect("the server is up");
        test(client, &server, name).await;
    })
    .await;
}

async fn publish(client: &Client, channel: &str, payload: impl AsRef<[u8]>) -> i64 {
    let command = Command::new("PUBLISH").arg(channel).arg(payload.as_ref());
    in_time(client.query(command)).await.expect("PUBLISH is answered")
}

async fn message(subscription: &mut Subscription) -> Message {
    match in_time(subscription.next()).await {
        Some(Event::Message(message)) => message,
        other => panic!("no message but {other:?}"),
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("the test's strings are text")
}

/// How many subscribers the server knows of a channel.
async fn subscribers(client: &Client, channel: &str) -> i64 {
    let command = Command::new("PUBSUB").arg("NUMSUB").arg(channel);
    let (_, count): (String, i64) = in_time(client.query(command)).await.expect("it is answered");
    count
}

/// Waits until something holds. What is waited for is another task's or the server's doing.
async fn eventually<F: AsyncFnMut() -> bool>(mut holds: F) {
    in_time(async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn messages_come_in_order_from_many_channels() {
    everywhere(async |client, _, name| {
        let channels: Vec<String> = (0..500).map(|number| format!("channel.{number}")).collect();
        let mut subscription = in_time(client.subscribe(&channels)).await.unwrap();
        assert_eq!(subscription.channels().len(), 500);
        let mut pipeline = Pipeline::new();
        for at in 0..5000_usize {
            pipeline.command(&["PUBLISH", &channels[at * 7 % 500], &at.to_string()]);
        }
        let replies = in_time(client.pipeline(pipeline)).await.unwrap();
        assert!(replies.iter().all(|reply| reply.parse::<i64>().unwrap() == 1), "{name}");
        for at in 0..5000_usize {
            let message = message(&mut subscription).await;
            assert_eq!(text(message.payload()), at.to_string(), "{name}");
            assert_eq!(text(message.channel()), channels[at * 7 % 500], "{name}");
            assert_eq!((message.kind(), message.pattern()), (ChannelKind::Channel, None));
        }
        assert_eq!(subscription.dropped(), 0);
    })
    .await;
}

#[tokio::test]
async fn patterns_and_sharded_channels_are_kept_apart_from_channels() {
    everywhere(async |client, _, name| {
        let mut subscription = in_time(client.psubscribe(["news.*"])).await.unwrap();
        in_time(subscription.ssubscribe(["news.shard"])).await.unwrap();
        in_time(subscription.subscribe(["news.it", "news.it"])).await.unwrap();
        publish(&client, "news.it", "both").await;
        let spublish = Command::new("SPUBLISH").arg("news.shard").arg("sharded");
        let reached: i64 = in_time(client.query(spublish)).await.unwrap();
        assert_eq!(reached, 1, "{name}");
        publish(&client, "news.shard", "pattern").await;
        let mut seen = Vec::new();
        for _ in 0..4 {
            let message = message(&mut subscription).await;
            let pattern = message.pattern().map(|pattern| text(pattern).to_owned());
            let channel = text(message.channel()).to_owned();
            seen.push((message.kind(), pattern, channel, text(message.payload()).to_owned()));
        }
        let seen: Vec<_> = seen
            .iter()
            .map(|(kind, pattern, channel, payload)| {
                (*kind, pattern.as_deref(), channel.as_str(), payload.as_str())
            })
            .collect();
        let expected = [
            (ChannelKind::Channel, None, "news.it", "both"),
            (ChannelKind::Pattern, Some("news.*"), "news.it", "both"),
            (ChannelKind::Shard, None, "news.shard", "sharded"),
            (ChannelKind::Pattern, Some("news.*"), "news.shard", "pattern"),
        ];
        assert_eq!(seen, expected, "{name}");
        subscription.punsubscribe(["news.*"]);
        subscription.sunsubscribe(["news.shard"]);
        assert_eq!(subscription.channels().len(), 1);
        publish(&client, "news.it", "last").await;
        assert_eq!(text(message(&mut subscription).await.payload()), "last", "{name}");
    })
    .await;
}

#[tokio::test]
async fn the_server_knows_a_channel_once_and_until_the_last_subscription_goes() {
    everywhere(async |client, _, name| {
        let mut first = in_time(client.subscribe(["a"])).await.unwrap();
        let mut second = in_time(client.subscribe(["a", "b"])).await.unwrap();
        assert_eq!(publish(&client, "a", "1").await, 1, "{name}: one connection");
        assert_eq!(text(message(&mut first).await.payload()), "1");
        assert_eq!(text(message(&mut second).await.payload()), "1");
        drop(first);
        assert_eq!(publish(&client, "a", "2").await, 1, "{name}");
        assert_eq!(text(message(&mut second).await.payload()), "2");
        second.unsubscribe(["a"]);
        eventually(async || subscribers(&client, "a").await == 0).await;
        assert_eq!(subscribers(&client, "b").await, 1, "{name}");
        drop(second);
        eventually(async || subscribers(&client, "b").await == 0).await;
    })
    .await;
}

#[tokio::test]
async fn a_refusal_reaches_the_caller_it_is_for_and_nobody_else() {
    everywhere(async |client, server, name| {
        let setuser = Command::new("ACL").arg("SETUSER").arg("reader").arg("on").arg(">pw");
        let setuser = setuser.args(["+@all", "&mine.*", "~*"]);
        in_time(client.execute(setuser)).await.unwrap();
        let config = config(&server.url());
        let config =
            config.with_credentials(Some("reader"), "pw").with_protocol(client.config().protocol());
        let reader = in_time(Client::with_config(config)).await.unwrap();
        let mut allowed = in_time(reader.subscribe(["mine.a"])).await.unwrap();
        let mut others = tokio::task::JoinSet::new();
        for number in 0..50 {
            let reader = reader.clone();
            others.spawn(async move {
                let channel = format!("{}.{number}", ["mine", "yours"][number % 2]);
                let outcome = reader.subscribe(["mine.shared", &channel]).await;
                (number, outcome)
            });
        }
        let mut kept = Vec::new();
        while let Some(outcome) = in_time(others.join_next()).await {
            match outcome.unwrap() {
                (number, Ok(subscription)) if number % 2 == 0 => kept.push(subscription),
                (number, Err(error)) if number % 2 == 1 => {
                    assert_eq!(error.server_error().unwrap().code(), "NOPERM", "{name}");
                }
                (number, outcome) => panic!("{name}: {number} {outcome:?}"),
            }
        }
        publish(&client, "mine.a", "still here").await;
        assert_eq!(text(message(&mut allowed).await.payload()), "still here", "{name}");
        publish(&client, "mine.shared", "x").await;
        for subscription in &mut kept {
            assert_eq!(text(message(subscription).await.payload()), "x", "{name}");
        }
    })
    .await;
}

/// Ends the subscriptions' connection from the server's side.
async fn kill_subscribers(client: &Client) -> i64 {
    let kill = Command::new("CLIENT").arg("KILL").arg("TYPE").arg("pubsub");
    in_time(client.query(kill)).await.expect("CLIENT KILL is answered")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_killed_under_load_is_back_and_the_gap_is_told() {
    everywhere(async |client, server, name| {
        let publisher = self::client(server, client.config().protocol()).await;
        let mut subscription =
            in_time(client.subscribe((0..20).map(|number| format!("c{number}")))).await.unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let load = tokio::spawn({
            let stop = Arc::clone(&stop);
            async move {
                let mut at = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    let mut pipeline = Pipeline::new();
                    for _ in 0..20 {
                        pipeline.command(&["PUBLISH", &format!("c{}", at % 20), &at.to_string()]);
                        at += 1;
                    }
                    publisher.pipeline(pipeline).await.expect("the publisher is not killed");
                    tokio::time::sleep(Duration::from_micros(500)).await;
                }
            }
        });
        let mut last: Option<u64> = None;
        let mut whole = true;
        for round in 0..5 {
            for _ in 0..200 {
                let number: u64 = text(message(&mut subscription).await.payload()).parse().unwrap();
                if whole {
                    assert_eq!(number, last.map_or(number, |last| last + 1), "{name} {round}");
                }
                whole = true;
                last = Some(number);
            }
            assert_eq!(kill_subscribers(&client).await, 1, "{name}");
            // What was sent before the end is still whole.
            loop {
                match in_time(subscription.next()).await {
                    Some(Event::Message(message)) => {
                        let number: u64 = text(message.payload()).parse().unwrap();
                        assert_eq!(number, last.unwrap() + 1, "{name} {round}");
                        last = Some(number);
                    }
                    Some(Event::Interrupted) => break,
                    other => panic!("{name}: {other:?}"),
                }
            }
            // In between, messages are missing, but those that come are in order.
            loop {
                match in_time(subscription.next()).await {
                    Some(Event::Message(message)) => {
                        let number: u64 = text(message.payload()).parse().unwrap();
                        assert!(number > last.unwrap(), "{name} {round}");
                        last = Some(number);
                    }
                    Some(Event::Resumed) => break,
                    other => panic!("{name}: {other:?}"),
                }
            }
            whole = false;
        }
        stop.store(true, Ordering::Relaxed);
        in_time(load).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_server_that_is_gone_for_a_while_is_waited_for_by_those_who_have_subscribed() {
    each_way(Ways::All, &[], async |mut server: TlsServer, config: Config, _: &str| {
        let client = in_time(Client::with_config(config)).await.expect("the server is up");
        let mut subscription = in_time(client.subscribe(["a"])).await.unwrap();
        server.kill();
        assert!(matches!(in_time(subscription.next()).await, Some(Event::Interrupted)));
        // Those who come while there is no server are told at once.
        eventually(async || {
            let outcome = in_time(client.subscribe(["b"])).await;
            outcome.expect_err("there is no server").is_connect()
        })
        .await;
        // Or wait, if that is asked for; not beyond their deadlines.
        let patient = client.with_when_down(WhenDown::Wait);
        let hasty = patient.with_deadline(Instant::now() + Duration::from_millis(50));
        assert!(in_time(hasty.subscribe(["b"])).await.unwrap_err().is_timeout());
        let patient = patient.with_command_timeout(Some(HUNG));
        let waiting = tokio::spawn(async move { patient.subscribe(["b"]).await });
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!waiting.is_finished());
        server.restart().unwrap();
        assert!(matches!(in_time(subscription.next()).await, Some(Event::Resumed)));
        let mut waited = in_time(waiting).await.unwrap().unwrap();
        publish(&client, "b", "here").await;
        assert_eq!(text(message(&mut waited).await.payload()), "here");
        publish(&client, "a", "again").await;
        assert_eq!(text(message(&mut subscription).await.payload()), "again");
    })
    .await;
}

#[tokio::test]
async fn a_sharded_channel_whose_slot_goes_away_is_resumed_when_it_is_back() {
    for flavour in flavours() {
        let bus = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = LocalServer::builder(flavour)
            .tcp()
            .args(["--cluster-enabled", "yes", "--cluster-port", &bus.to_string()])
            .start()
            .unwrap_or_else(|error| panic!("the test needs a {}: {error}", flavour.program()));
        let client = client(&server, Protocol::Resp3).await;
        let cluster = async |words: &[&str]| {
            let command = Command::new("CLUSTER").args(words);
            in_time(client.execute(command)).await.expect("it is a cluster of one")
        };
        cluster(&["ADDSLOTSRANGE", "0", "16383"]).await;
        eventually(async || {
            let info = cluster(&["INFO"]).await;
            info.parse::<&str>().unwrap().contains("cluster_state:ok")
        })
        .await;
        let mut subscription = in_time(client.ssubscribe(["shard"])).await.unwrap();
        let slot = cluster(&["KEYSLOT", "shard"]).await.parse::<i64>().unwrap().to_string();
        cluster(&["DELSLOTS", &slot]).await;
        let event = in_time(subscription.next()).await;
        assert!(matches!(event, Some(Event::Interrupted)), "{flavour:?}: {event:?}");
        assert_eq!(subscription.channels().len(), 1, "{flavour:?}");
        // Until the slot is served again, the server says CLUSTERDOWN.
        cluster(&["ADDSLOTS", &slot]).await;
        let event = in_time(subscription.next()).await;
        assert!(matches!(event, Some(Event::Resumed)), "{flavour:?}: {event:?}");
        let spublish = Command::new("SPUBLISH").arg("shard").arg("x");
        let reached: i64 = in_time(client.query(spublish)).await.unwrap();
        assert_eq!(reached, 1, "{flavour:?}");
        assert_eq!(text(message(&mut subscription).await.payload()), "x", "{flavour:?}");
    }
}

#[tokio::test]
async fn a_slow_subscriber_loses_the_oldest_is_told_and_holds_up_nobody() {
    everywhere(async |client, _, name| {
        let mut slow = client.subscription();
        slow.set_queue_max(100, 1 << 20);
        in_time(slow.subscribe(["a"])).await.unwrap();
        let mut quick = in_time(client.subscribe(["a"])).await.unwrap();
        for at in 0..2000_u32 {
            publish(&client, "a", at.to_string()).await;
            assert_eq!(text(message(&mut quick).await.payload()), at.to_string(), "{name}");
        }
        match in_time(slow.next()).await {
            Some(Event::Lagged { dropped: 1900 }) => {}
            other => panic!("{name}: {other:?}"),
        }
        for at in 1900..2000_u32 {
            assert_eq!(text(message(&mut slow).await.payload()), at.to_string(), "{name}");
        }
        assert_eq!((slow.dropped(), quick.dropped()), (1900, 0), "{name}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribing_may_be_dropped_at_any_point_without_a_trace() {
    everywhere(async |client, _, name| {
        let watch = in_time(client.subscribe(["watch"])).await.unwrap();
        let kept = Arc::new(AtomicUsize::new(0));
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..40_u64 {
            let (client, kept) = (client.clone(), Arc::clone(&kept));
            tasks.spawn(async move {
                for round in 0..25_u64 {
                    let own = format!("own.{task}.{round}");
                    let patience = Duration::from_micros((task * 13 + round * 29) % 700);
                    let subscribing = client.subscribe([own.as_str(), "shared"]);
                    let Ok(subscription) = tokio::time::timeout(patience, subscribing).await else {
                        continue;
                    };
                    let mut subscription = subscription.expect("the server allows it");
                    kept.fetch_add(1, Ordering::Relaxed);
                    publish(&client, &own, "x").await;
                    loop {
                        let message = message(&mut subscription).await;
                        if text(message.channel()) == own {
                            break;
                        }
                    }
                    // As late as a stream can be dropped: while it waits.
                    let _ = tokio::time::timeout(patience, subscription.next()).await;
                }
            });
        }
        while let Some(task) = in_time(tasks.join_next()).await {
            task.unwrap();
        }
        eventually(async || {
            let channels = Command::new("PUBSUB").arg("CHANNELS");
            let channels: Vec<String> = in_time(client.query(channels)).await.unwrap();
            channels == ["watch"]
        })
        .await;
        assert!(kept.load(Ordering::Relaxed) > 0, "{name}: some came through");
        drop(watch);
    })
    .await;
}

#[tokio::test]
async fn a_closed_client_ends_its_streams_and_takes_no_more() {
    everywhere(async |client, server, name| {
        let mut subscription = in_time(client.subscribe(["a"])).await.unwrap();
        publish(&client, "a", "last").await;
        let watcher = self::client(server, Protocol::Resp3).await;
        // The message may be on its way when the client is closed; it is not waited for then.
        assert_eq!(text(message(&mut subscription).await.payload()), "last");
        in_time(client.close()).await;
        assert!(in_time(subscription.next()).await.is_none(), "{name}");
        assert!(in_time(client.subscribe(["b"])).await.unwrap_err().is_closed(), "{name}");
        assert!(in_time(subscription.subscribe(["b"])).await.unwrap_err().is_closed(), "{name}");
        eventually(async || subscribers(&watcher, "a").await == 0).await;
    })
    .await;
}

#[tokio::test]
async fn the_connection_goes_some_time_after_the_last_subscription() {
    let server = server(Flavour::Valkey, &[]);
    let client = client(&server, Protocol::Resp3).await;
    let connections = async || {
        let list = Command::new("CLIENT").arg("LIST");
        let list: String = in_time(client.query(list)).await.unwrap();
        list.lines().count()
    };
    assert_eq!(connections().await, 1);
    // A subscription outlives its client.
    let other = self::client(&server, Protocol::Resp3).await;
    let mut subscription = in_time(other.subscribe(["a"])).await.unwrap();
    drop(other);
    publish(&client, "a", "x").await;
    assert_eq!(text(message(&mut subscription).await.payload()), "x");
    drop(subscription);
    eventually(async || connections().await == 1).await;
}

#[test]
fn a_subscription_outlives_the_runtime_that_connected() {
    let server = server(Flavour::Valkey, &[]);
    let runtime =
        || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let first = runtime();
    let client = first.block_on(client(&server, Protocol::Resp3));
    let mut subscription = first.block_on(client.subscribe(["a"])).unwrap();
    drop(first);
    runtime().block_on(async {
        assert!(matches!(in_time(subscription.next()).await, Some(Event::Interrupted)));
        assert!(matches!(in_time(subscription.next()).await, Some(Event::Resumed)));
        publish(&client, "a", "x").await;
        assert_eq!(text(message(&mut subscription).await.payload()), "x");
    });
    // Outside of any runtime it is an error, and no panic.
    let outside = futures_poll(client.subscription().subscribe(["b"]));
    assert!(outside.expect("it is no matter of waiting").unwrap_err().is_usage());
}

/// The output of a future that has it at once.
fn futures_poll<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut cx) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}

#[tokio::test]
async fn a_connection_that_has_fallen_silent_is_noticed_and_replaced() {
    let peer = ScriptedPeer::start(|mut connection, number| async move {
        connection.shake_hands().await;
        while let Some(command) = connection.command().await {
            match (&*command[0], number) {
                ("SUBSCRIBE", _) => {
                    let channel = &command[1];
                    let len = channel.len();
                    let reply = format!(">3\r\n$9\r\nsubscribe\r\n${len}\r\n{channel}\r\n:1\r\n");
                    connection.send(reply).await;
                }
                // The first two connections are the requests' and the one that falls silent.
                ("PING", 1) => connection.swallow().await,
                _ => connection.send("+PONG\r\n").await,
            }
        }
    })
    .await;
    let config = peer.url().parse::<Config>().unwrap();
    let config = config.with_command_timeout(Some(Duration::from_millis(500)));
    let client = in_time(Client::with_config(config)).await.unwrap();
    let mut subscription = in_time(client.subscribe(["a"])).await.unwrap();
    assert!(matches!(in_time(subscription.next()).await, Some(Event::Interrupted)));
    assert!(matches!(in_time(subscription.next()).await, Some(Event::Resumed)));
}

#[tokio::test]
async fn a_server_that_does_not_confirm_is_a_timeout_and_leaves_nothing_behind() {
    let peer = ScriptedPeer::start(|mut connection, _| async move {
        connection.shake_hands().await;
        connection.swallow().await;
    })
    .await;
    let config = peer.url().parse::<Config>().unwrap();
    let config = config.with_command_timeout(Some(Duration::from_millis(100)));
    let client = in_time(Client::with_config(config)).await.unwrap();
    let mut subscription = client.subscription();
    let error = in_time(subscription.subscribe(["a"])).await.unwrap_err();
    assert!(error.is_timeout() || error.is_closed(), "{error:?}");
    assert!(subscription.channels().is_empty());
}

#[tokio::test]
async fn a_flood_leaves_memory_bounded_and_the_latest_to_be_read() {
    // Else the server drops a subscriber that is 32 MiB behind, and this is about our side.
    let unlimited = ["--client-output-buffer-limit", "pubsub", "0", "0", "0"];
    let server = server(Flavour::Valkey, &unlimited);
    let client = client(&server, Protocol::Resp3).await;
    let mut subscription = client.subscription();
    subscription.set_queue_max(1_000_000, 4 << 20);
    in_time(subscription.subscribe(["flood"])).await.unwrap();
    let payload = vec![b'x'; 64 << 10];
    let (before, mut sent) = (resident_bytes(), 0);
    // 256 MiB in all.
    for _ in 0..64 {
        let mut pipeline = Pipeline::new();
        for _ in 0..64 {
            pipeline.push(Command::new("PUBLISH").arg("flood").arg(&payload));
            sent += 1;
        }
        in_time(client.pipeline(pipeline)).await.unwrap();
    }
    publish(&client, "flood", "end").await;
    let (mut seen, mut dropped) = (0, 0);
    let mut after = None;
    loop {
        match in_time(subscription.next()).await {
            Some(Event::Lagged { dropped: count }) => dropped += count,
            Some(Event::Message(message)) if &message.payload()[..] == b"end" => break,
            Some(Event::Message(_)) => seen += 1,
            other => panic!("{other:?}"),
        }
        after.get_or_insert_with(resident_bytes);
    }
    assert_eq!(seen + dropped, sent);
    assert!(dropped > 0, "256 MiB have no room in 4");
    let grown = after.expect("something was read").saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more for 4 MiB that may wait");
    let names: HashMap<_, _> = subscription.channels().into_iter().collect();
    assert_eq!(names.len(), 1);
}

/// The memory that this process holds, as the kernel counts it.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs is there");
    let line =
        status.lines().find(|line| line.starts_with("VmRSS:")).expect("it has a line for it");
    let kib: u64 = line.split_whitespace().nth(1).expect("a number").parse().expect("a number");
    kib * 1024
}

#[tokio::test]
async fn a_subscription_keeps_the_deadline_of_the_handle_that_made_it() {
    let peer = respire_tests::peer::ScriptedPeer::start(|mut connection, _| async move {
        connection.shake_hands().await;
        connection.swallow().await;
    })
    .await;
    let client = Client::connect(&peer.url()).await.unwrap();
    let patient = client.with_command_timeout(None);
    let deadline = std::time::Instant::now() + Duration::from_millis(200);
    let mut subscription = patient.with_deadline(deadline).subscription();
    let error = in_time(subscription.subscribe(["a"])).await.unwrap_err();
    assert!(error.is_timeout(), "{error:?}");
}
