//! How an index in llm-d's layout notices that its server has lost everything.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, its helpers included")]

use std::time::Duration;

use respire::{Address, Client, Command, Config, WhenDown};
use respire_cli::local_server::{Flavour, LocalServer};
use respire_kvblock::{Index, IndexConfig, PodSet, ResyncReason, ServerIndex};
use respire_tests::index_suite::{cpu, gpu, hashes, holders};

/// A client that waits for its server.
fn client(server: &LocalServer) -> Client {
    Client::unconnected(
        Config::new(Address::Unix(server.socket_path().to_owned()))
            .with_when_down(WhenDown::Wait)
            .with_command_timeout(Some(Duration::from_secs(20))),
    )
}

async fn named(index: &ServerIndex) -> Vec<String> {
    let resyncs = index.resyncs().await.unwrap();
    assert!(resyncs.iter().all(|resync| resync.reason == ResyncReason::IndexLost));
    resyncs.into_iter().map(|resync| resync.pod_identifier).collect()
}

async fn run(client: &Client, command: &[&str]) {
    client.execute(Command::new(command[0]).args(&command[1..])).await.unwrap();
}

/// Kills the server and starts it again, and waits until the client is at the new one.
async fn restart(server: &mut LocalServer, client: &Client) {
    tokio::task::block_in_place(|| server.restart().unwrap());
    while client.execute(Command::new("PING")).await.is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_named_once_each_time_everything_was_lost() {
    for flavour in Flavour::ALL {
        let mut server = LocalServer::start(flavour).unwrap();
        let client = client(&server);
        let index = ServerIndex::new(client.clone()).with_loss_detection();
        assert_eq!(named(&index).await, [""; 0]);
        let keys = hashes(0..10);
        for round in 0..3 {
            index.add(Some(&keys), &keys, &[gpu("a"), cpu("b")]).await.unwrap();
            index.add(None, &keys, &[gpu("cleared")]).await.unwrap();
            index.clear("cleared").await.unwrap();
            assert_eq!(named(&index).await, [""; 0]);
            match round {
                0 => run(&client, &["FLUSHALL"]).await,
                1 => run(&client, &["FLUSHDB"]).await,
                _ => restart(&mut server, &client).await,
            }
            // What is added meanwhile is kept, and its pod is named all the same, for what it had before.
            index.add(None, &keys[..1], &[gpu("a")]).await.unwrap();
            assert_eq!(named(&index).await, ["a", "b"]);
            assert_eq!(named(&index).await, [""; 0]);
            assert_eq!(holders(&index, 0).await, [gpu("a")]);
        }
    }
}

#[tokio::test]
async fn who_opens_an_index_by_a_configuration_can_ask_for_loss_detection_and_whether_it_is_on() {
    for flavour in Flavour::ALL {
        let server = LocalServer::start(flavour).unwrap();
        let client = client(&server);
        for (settings, is_on) in [
            (r#""lossDetection":true"#, true),
            (r#""lossDetection":true,"nearCache":true"#, true),
            (r#""lossDetection":false"#, false),
            (r#""layout":"bitmap""#, true),
        ] {
            run(&client, &["FLUSHALL"]).await;
            let text = format!(r#"{{"redisConfig":{{"address":"{}",{settings}}}}}"#, server.url());
            let index = text.parse::<IndexConfig>().unwrap().open().await.unwrap();
            assert_eq!(index.detects_loss(), is_on, "{settings}");
            index.add(None, &hashes(0..3), &[gpu("a")]).await.unwrap();
            run(&client, &["FLUSHALL"]).await;
            // The bitmap layout notices by any call.
            index.lookup(&hashes(0..3), &PodSet::all()).await.unwrap();
            let named = index.resyncs().await.unwrap();
            let named: Vec<_> = named.iter().map(|resync| resync.pod_identifier.as_str()).collect();
            assert_eq!(named, if is_on { vec!["a"] } else { vec![] }, "{settings}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_index_over_the_same_keys_names_its_own_pods() {
    for flavour in Flavour::ALL {
        let server = LocalServer::start(flavour).unwrap();
        let client = client(&server);
        let index = |_: ()| ServerIndex::new(client.clone()).with_loss_detection();
        let (first, second) = (index(()), index(()));
        let apart = ServerIndex::new(client.clone()).with_key_prefix("apart:").unwrap();
        let apart = apart.with_loss_detection();
        let silent = ServerIndex::new(client.clone());
        for (index, pod) in [(&first, "a"), (&second, "b"), (&apart, "c"), (&silent, "d")] {
            index.add(None, &hashes([1]), &[gpu(pod)]).await.unwrap();
        }
        run(&client, &["FLUSHALL"]).await;
        assert_eq!(named(&first).await, ["a"]);
        // The first one has left a mark of its own by now, which says as much.
        assert_eq!(named(&second).await, ["b"]);
        assert_eq!(named(&apart).await, ["c"]);
        assert_eq!(named(&silent).await, [""; 0]);
        let marks: Vec<String> =
            client.query(Command::new("KEYS").arg("engine:~mark*")).await.unwrap();
        assert_eq!(marks.len(), 2, "{marks:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_has_kept_everything_names_nobody() {
    for flavour in Flavour::ALL {
        let mut server = LocalServer::builder(flavour).persistent().start().unwrap();
        let client = client(&server);
        let index = ServerIndex::new(client.clone()).with_loss_detection();
        index.add(None, &hashes([1]), &[gpu("a")]).await.unwrap();
        restart(&mut server, &client).await;
        assert_eq!(named(&index).await, [""; 0]);
        assert_eq!(holders(&index, 1).await, [gpu("a")]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn something_else_under_the_marks_name_is_an_error_and_stays() {
    let server = LocalServer::start(Flavour::Valkey).unwrap();
    let client = client(&server);
    run(&client, &["SADD", "engine:~mark:", "theirs"]).await;
    let index = ServerIndex::new(client.clone()).with_loss_detection();
    assert!(index.resyncs().await.unwrap_err().is_foreign_data());
    let refused = index.add(None, &hashes([1]), &[gpu("a")]).await.unwrap_err();
    assert!(refused.is_foreign_data(), "{refused:?}");
    assert_eq!(client.query::<u64>(Command::new("DBSIZE")).await.unwrap(), 1);
}
