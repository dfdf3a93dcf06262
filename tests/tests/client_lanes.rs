//! Large values beside small ones.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use respire::{Bytes, Client, Command, Config, SendState};
use respire_tests::peer::ScriptedPeer;
use respire_tests::servers::{self, HUNG, Ways, in_time};
use respire_tests::tls::TlsServer;

fn config(url: &str) -> Config {
    servers::config(url).with_command_timeout(Some(HUNG))
}

/// Runs a test in each way to each server, with one of its own that has these arguments.
async fn everywhere<F: AsyncFn(Config)>(args: &[&str], test: F) {
    servers::each_way(Ways::All, args, async |_server: TlsServer, config: Config, _: &str| {
        test(config).await;
    })
    .await;
}

async fn connections(client: &Client) -> usize {
    let list = Command::new("CLIENT").arg("LIST").arg("TYPE").arg("normal");
    let list: String = in_time(client.query(list)).await.expect("the server answers");
    list.lines().count()
}

fn set(value: &[u8]) -> Command {
    Command::new("SET").arg("k").arg(value)
}

#[tokio::test]
async fn there_is_one_connection_until_a_large_request_comes() {
    let large = vec![b'x'; 1 << 20];
    everywhere(&[], async |config| {
        let client = in_time(Client::with_config(config.clone())).await.unwrap();
        in_time(client.execute(set(&large[..1000]))).await.unwrap();
        assert_eq!(connections(&client).await, 1);
        for _ in 0..3 {
            in_time(client.execute(set(&large))).await.unwrap();
            let value: Bytes = in_time(client.query(Command::new("GET").arg("k"))).await.unwrap();
            assert!(value == large);
            assert_eq!(connections(&client).await, 2);
        }
        in_time(client.close()).await;
        let error = in_time(client.execute(set(&large))).await.unwrap_err();
        assert!(error.is_closed() && error.send_state() == SendState::NotSent, "{error:?}");

        let client = in_time(Client::with_config(config.clone())).await.unwrap();
        in_time(client.bulk().query::<Bytes>(Command::new("GET").arg("k"))).await.unwrap();
        assert_eq!(connections(&client).await, 2);

        let one = config.clone().with_bulk_lane(None);
        let client = in_time(Client::with_config(one)).await.unwrap();
        in_time(client.execute(set(&large))).await.unwrap();
        in_time(client.bulk().execute(set(&large))).await.unwrap();
        let list = Command::new("CLIENT").arg("LIST").arg("TYPE").arg("normal");
        let list: String = in_time(client.query(list)).await.unwrap();
        let ours: i64 = in_time(client.query(Command::new("CLIENT").arg("ID"))).await.unwrap();
        let newest = list.lines().last().unwrap();
        assert!(newest.starts_with(&format!("id={ours} ")), "no connection came after: {list}");
    })
    .await;
}

#[tokio::test]
async fn a_small_request_passes_a_large_one_that_the_server_does_not_read() {
    let peer = ScriptedPeer::start(|mut connection, number| async move {
        connection.shake_hands().await;
        if number == 1 {
            return connection.freeze().await;
        }
        while let Some(command) = connection.command().await {
            connection.send(format!("+{}\r\n", command[1])).await;
        }
    })
    .await;
    let client = in_time(Client::with_config(config(&peer.url()))).await.unwrap();
    let large = tokio::spawn({
        let client = client.clone();
        async move { client.execute(set(&vec![b'x'; 64 << 20])).await }
    });
    for at in 0..100_u32 {
        tokio::task::yield_now().await;
        let echoed: u32 = in_time(client.query(Command::new("ECHO").arg(at))).await.unwrap();
        assert_eq!(echoed, at);
    }
    assert!(!large.is_finished());
    large.abort();
}

#[tokio::test]
async fn a_server_without_room_for_another_connection_gets_large_requests_over_the_first() {
    everywhere(&["--maxclients", "1"], async |config| {
        let client = in_time(Client::with_config(config.clone())).await.unwrap();
        for _ in 0..3 {
            in_time(client.execute(set(&vec![b'x'; 1 << 20]))).await.unwrap();
        }
        assert_eq!(connections(&client).await, 1);
    })
    .await;
}

#[tokio::test]
async fn several_connections_share_the_requests_and_each_reply_finds_its_own() {
    everywhere(&[], async |config| {
        let several = config.clone().with_lane_connections(4, 2).with_bulk_lane(Some(10_000));
        let client = in_time(Client::with_config(several)).await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..200_usize {
            let client = client.clone();
            tasks.spawn(async move {
                for round in 0..20_usize {
                    let nonce = format!("{task}.{round}.").repeat(1 + (task % 5) * 900);
                    let echoed: String =
                        in_time(client.query(Command::new("ECHO").arg(&nonce))).await.unwrap();
                    assert!(echoed == nonce);
                }
            });
        }
        tasks.join_all().await;
        assert_eq!(connections(&client).await, 6);
    })
    .await;
}

#[tokio::test]
async fn of_several_connections_the_busy_one_is_avoided() {
    let answered = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&answered);
    let peer = ScriptedPeer::start(move |mut connection, number| {
        let counted = Arc::clone(&counted);
        async move {
            connection.shake_hands().await;
            if number == 0 {
                // The first one never answers.
                return connection.swallow().await;
            }
            while let Some(command) = connection.command().await {
                counted.fetch_add(1, Ordering::SeqCst);
                connection.send(format!("+{}\r\n", command[1])).await;
            }
        }
    })
    .await;
    let two = config(&peer.url()).with_lane_connections(2, 1);
    let client = in_time(Client::with_config(two)).await.unwrap();
    let stuck: Vec<_> = (0..4)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.execute(Command::new("ECHO").arg("stuck")).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    // With one of the two busy for good, each of these finds the other.
    for at in 0..100_u32 {
        let echoed: u32 = in_time(client.query(Command::new("ECHO").arg(at))).await.unwrap();
        assert_eq!(echoed, at);
    }
    assert!(answered.load(Ordering::SeqCst) >= 100);
    stuck.iter().for_each(tokio::task::JoinHandle::abort);
}
