//! What a server sends unasked over the shared connection.

use std::time::Duration;

use respire::{
    Client, Command, Config,
    pubsub::{PushEvent, Pushes},
};
use respire_tests::{
    peer::ScriptedPeer,
    servers::{Ways, each_way, in_time},
    tls::TlsServer,
};

fn debug_push() -> Command {
    Command::new("DEBUG").arg("PROTOCOL").arg("push")
}

async fn number(pushes: &mut Pushes) -> i64 {
    match in_time(pushes.next()).await {
        Some(PushEvent::Push(push)) => {
            let (_, number): (&str, i64) = push.parse().expect("two elements");
            number
        }
        other => panic!("no push but {other:?}"),
    }
}

#[tokio::test]
async fn a_push_reaches_every_listener_and_no_request() {
    let args = ["--enable-debug-command", "local"];
    each_way(Ways::Resp3, &args, async |_server: TlsServer, config: Config, name: &str| {
        let client = Client::with_config(config).await.unwrap();
        client.execute(debug_push()).await.unwrap();
        // Which of the two a server sends first is its own affair.
        in_time(async {
            while client.pushes_unheard() == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        assert_eq!(client.pushes_unheard(), 1, "{name}");
        let (mut first, mut second) = (client.pushes(), client.pushes());
        let reply = client.execute(debug_push()).await.unwrap();
        assert!(reply.parse::<&str>().unwrap().starts_with("Some real reply"), "{name}");
        for pushes in [&mut first, &mut second] {
            let Some(PushEvent::Push(push)) = in_time(pushes.next()).await else {
                panic!("{name}: no push")
            };
            assert_eq!(push.kind(), b"server-cpu-usage", "{name}");
            assert_eq!(push.parse::<(&str, i64)>().unwrap(), ("server-cpu-usage", 42));
        }
        drop(first);
        client.close().await;
        assert_eq!(in_time(second.next()).await, None, "{name}");
        assert_eq!(client.pushes_unheard(), 1, "{name}");
    })
    .await;
}

#[tokio::test]
async fn a_listener_that_does_not_keep_up_loses_the_oldest_and_is_told() {
    let peer = ScriptedPeer::start(|mut connection, _| async move {
        connection.shake_hands().await;
        connection.command().await.unwrap();
        for number in 0..1000 {
            connection.send(format!(">2\r\n+n\r\n:{number}\r\n")).await;
        }
        connection.send("+OK\r\n").await;
        connection.swallow().await;
    })
    .await;
    let config = peer.url().parse::<Config>().unwrap().with_push_queue_max(10, 1 << 20);
    let client = in_time(Client::with_config(config)).await.unwrap();
    let mut pushes = client.pushes();
    in_time(client.execute(Command::new("GO"))).await.unwrap();
    assert_eq!(in_time(pushes.next()).await, Some(PushEvent::Lagged { dropped: 990 }));
    for expected in 990..1000 {
        assert_eq!(number(&mut pushes).await, expected);
    }
    assert_eq!(pushes.dropped(), 990);
    drop(client);
    assert_eq!(in_time(pushes.next()).await, None);
}

#[tokio::test]
async fn pushes_arrive_without_any_request() {
    let peer = ScriptedPeer::start(|mut connection, _| async move {
        connection.shake_hands().await;
        connection.command().await.unwrap();
        connection.send("+OK\r\n").await;
        for number in 0..3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            connection.send(format!(">2\r\n+n\r\n:{number}\r\n")).await;
        }
        connection.swallow().await;
    })
    .await;
    let config: Config = peer.url().parse().unwrap();
    let client = in_time(Client::with_config(config)).await.unwrap();
    let mut pushes = client.pushes();
    in_time(client.execute(Command::new("GO"))).await.unwrap();
    for expected in 0..3 {
        assert_eq!(number(&mut pushes).await, expected);
    }
}

#[tokio::test]
async fn a_client_that_was_told_to_close_ends_its_streams_even_if_nobody_waits_for_that() {
    let peer = ScriptedPeer::start(|mut connection, _| async move {
        connection.shake_hands().await;
        connection.swallow().await;
    })
    .await;
    let client = Client::connect(&peer.url()).await.unwrap();
    let mut pushes = client.pushes();
    let under_way = client.clone();
    let request = tokio::spawn(async move { under_way.execute(Command::new("PING")).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let close = tokio::time::timeout(Duration::from_millis(100), client.close());
    assert!(close.await.is_err(), "it waits for the request");
    assert_eq!(in_time(pushes.next()).await, None);
    assert!(in_time(request).await.unwrap().is_err());
}
