//! Whether the client notices that a connection is of no use, or that replies have shifted.

use std::time::Duration;

use respire::{Client, Command, Config};
use respire_tests::peer::ScriptedPeer;
use respire_tests::servers::{HUNG, Ways, each_way, in_time};
use respire_tests::tls::TlsServer;

fn config(url: &str, command_timeout: Duration) -> Config {
    url.parse::<Config>()
        .expect("the URL is one of ours")
        .with_command_timeout(Some(command_timeout))
}

fn echo(nonce: &str) -> Command {
    Command::new("ECHO").arg(nonce)
}

#[tokio::test]
async fn a_reply_that_is_left_out_is_noticed_before_it_shifts_those_behind_it() {
    let peer = ScriptedPeer::start(|mut connection, _| async move {
        connection.shake_hands().await;
        let mut commands = 0;
        while let Some(command) = connection.command().await {
            commands += 1;
            // The second one is lost on the way, for example in a proxy that gave up on it.
            if commands != 2 {
                connection.send(format!("${}\r\n{}\r\n", command[1].len(), command[1])).await;
            }
        }
    })
    .await;
    let client = in_time(Client::with_config(config(&peer.url(), HUNG))).await.unwrap();
    let echoed: String = in_time(client.query(echo("first"))).await.unwrap();
    assert_eq!(echoed, "first");
    let hasty = client.with_command_timeout(Some(Duration::from_millis(50)));
    assert!(in_time(hasty.execute(echo("lost"))).await.unwrap_err().is_timeout());
    // What answers the fence is taken for the lost reply; so the fence gets the reply to what follows it, and notices.
    let increment = Command::new("INCR").arg("n");
    let error = in_time(client.execute(increment)).await.unwrap_err();
    assert!(error.is_protocol(), "{error:?}");
    for at in 0..10 {
        let nonce = format!("after {at}");
        // On a new connection, whose second command is lost as well.
        if let Ok(echoed) = in_time(hasty.query::<String>(echo(&nonce))).await {
            assert_eq!(echoed, nonce);
        }
    }
}

#[tokio::test]
async fn an_idle_connection_that_is_dead_is_noticed_before_a_request_finds_it() {
    let peer = ScriptedPeer::start(|mut connection, number| async move {
        connection.shake_hands().await;
        let mut commands = 0;
        while let Some(command) = connection.command().await {
            commands += 1;
            if number == 0 && commands > 1 {
                // From now on it is silent, and neither end is closed.
                continue;
            }
            connection.send(format!("${}\r\n{}\r\n", command[1].len(), command[1])).await;
        }
    })
    .await;
    let config = config(&peer.url(), Duration::from_millis(200))
        .with_health_check(Some(Duration::from_millis(50)));
    let client = in_time(Client::with_config(config)).await.unwrap();
    let first: String = in_time(client.query(echo("first"))).await.unwrap();
    assert_eq!(first, "first");
    tokio::time::sleep(Duration::from_secs(1)).await;
    let patient = client.with_command_timeout(Some(HUNG));
    let second: String = in_time(patient.query(echo("second"))).await.unwrap();
    assert_eq!(second, "second", "it came over a connection that answers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checks_disturb_no_request() {
    each_way(Ways::All, &[], async |_server: TlsServer, config: Config, name: &str| {
        let config = config.with_health_check(Some(Duration::from_millis(2)));
        let client = in_time(Client::with_config(config)).await.unwrap();
        let id: i64 = in_time(client.query(Command::new("CLIENT").arg("ID"))).await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..20_u32 {
            let client = client.clone();
            tasks.spawn(async move {
                for round in 0..100_u32 {
                    let nonce = format!("{task}.{round}");
                    if round % 10 == 3 {
                        let hasty = client.with_command_timeout(Some(Duration::from_micros(50)));
                        let _ = hasty.execute(echo(&nonce)).await;
                    }
                    if round % 25 == 7 {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    let echoed: String = in_time(client.query(echo(&nonce))).await.unwrap();
                    assert_eq!(echoed, nonce);
                }
            });
        }
        while let Some(task) = tasks.join_next().await {
            task.unwrap();
        }
        let same: i64 = in_time(client.query(Command::new("CLIENT").arg("ID"))).await.unwrap();
        assert_eq!(id, same, "{name}");
        let pings: String =
            in_time(client.query(Command::new("INFO").arg("commandstats"))).await.unwrap();
        assert!(pings.contains("cmdstat_ping:"), "{pings}");
    })
    .await;
}
