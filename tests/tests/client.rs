//! The client against real servers: every combination of server, transport and protocol.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use respire::{Address, Bytes, Client, Command, Config, Error, Pipeline, Protocol, SendState};
use respire_cli::local_server::Flavour;
use respire_tests::{
    lending::LendingConnector,
    narrow::NarrowConnector,
    servers::{config, flavours, in_time, is_over_rdma, network_url},
    tls::{TlsServer, client_tls},
};

const PROTOCOLS: [Protocol; 2] = [Protocol::Resp2, Protocol::Resp3];

/// A private server; a missing one fails the test with the reason.
fn server(flavour: Flavour, args: &[&str]) -> TlsServer {
    TlsServer::start(flavour, args)
}

/// The ways to reach a server, by name.
fn configs(server: &TlsServer) -> Vec<(String, Config)> {
    let unix = Config::new(Address::Unix(server.socket_path().to_owned()));
    let tls = config(&server.tls_url()).with_tls(client_tls());
    let ways = if is_over_rdma() {
        vec![("rdma", config(&server.url()))]
    } else {
        vec![
            ("unix", unix.clone()),
            ("tcp", config(&server.tcp_url().expect("it has a port"))),
            ("tls", tls.clone()),
            ("lent", unix.clone().with_connector(Arc::new(LendingConnector::new(1 << 20)))),
            ("lent little", unix.with_connector(Arc::new(LendingConnector::new(4000)))),
            ("tls lent little", tls.clone().with_connector(Arc::new(LendingConnector::new(4000)))),
            ("tls narrow", tls.with_connector(Arc::new(NarrowConnector::new(10_000)))),
        ]
    };
    let mut configs = Vec::new();
    for (transport, config) in ways {
        // What lends, or is narrow, does not care what is said.
        let is_plain = ["unix", "rdma", "tcp", "tls"].contains(&transport);
        let protocols = if is_plain { &PROTOCOLS[..] } else { &PROTOCOLS[1..] };
        for &protocol in protocols {
            let config = config.clone().with_protocol(protocol);
            configs.push((format!("{transport} {protocol:?}"), config));
        }
    }
    configs
}

/// Runs a test against each server in each way.
async fn everywhere<F: AsyncFn(Client, &str)>(test: F) {
    for flavour in flavours() {
        let server = server(flavour, &[]);
        for (name, config) in configs(&server) {
            let expected = config.protocol();
            let client = Client::with_config(config).await.expect("the server is up");
            assert_eq!(client.protocol(), Some(expected), "{name}");
            client.execute(Command::new("FLUSHALL")).await.expect("it is a private server");
            test(client, &format!("{flavour:?} {name}")).await;
        }
    }
}

#[tokio::test]
async fn values_come_back_as_they_went() {
    everywhere(async |client, name| {
        let binary: Vec<u8> = (0..=255).collect();
        for value in [&b""[..], b"\r\n", &binary, &vec![b'x'; 3 << 20]] {
            let reply = client.execute(Command::new("SET").arg("k").arg(value)).await.unwrap();
            assert_eq!(reply.parse::<&str>().unwrap(), "OK", "{name}");
            let got: Option<Bytes> = client.query(Command::new("GET").arg("k")).await.unwrap();
            assert!(got.as_deref() == Some(value), "{name}");
        }
        let absent: Option<String> = client.query(Command::new("GET").arg("none")).await.unwrap();
        assert_eq!(absent, None, "{name}");
        client.execute(Command::new("HSET").arg("h").args(["a", "1", "b", "2"])).await.unwrap();
        let hash: HashMap<String, i64> =
            client.query(Command::new("HGETALL").arg("h")).await.unwrap();
        assert_eq!(hash, HashMap::from([("a".to_owned(), 1), ("b".to_owned(), 2)]), "{name}");
        let members: HashSet<String> = {
            client.execute(Command::new("SADD").arg("s").args(["x", "y"])).await.unwrap();
            let list: Vec<String> = client.query(Command::new("SMEMBERS").arg("s")).await.unwrap();
            list.into_iter().collect()
        };
        assert_eq!(members, HashSet::from(["x".to_owned(), "y".to_owned()]), "{name}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_tasks_on_one_connection_each_get_their_own_reply() {
    everywhere(async |client, name| {
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..1000_u32 {
            let client = client.clone();
            tasks.spawn(async move {
                for round in 0..20_u32 {
                    let nonce = format!("{task}.{round}");
                    let echoed: String =
                        client.query(Command::new("ECHO").arg(&nonce)).await.unwrap();
                    assert_eq!(echoed, nonce);
                }
            });
        }
        while let Some(result) = tasks.join_next().await {
            result.expect("every task got its own replies");
        }
        let clients: String = client
            .query(Command::new("CLIENT").arg("LIST").arg("TYPE").arg("normal"))
            .await
            .unwrap();
        let ours: i64 = client.query(Command::new("CLIENT").arg("ID")).await.unwrap();
        assert!(clients.contains(&format!("id={ours} ")), "{name}");
        assert_eq!(clients.lines().count(), 1, "{name}: all tasks shared one connection");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn futures_dropped_in_flight_shift_nobodys_reply() {
    everywhere(async |client, name| {
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..200_u64 {
            let client = client.clone();
            tasks.spawn(async move {
                for round in 0..50_u64 {
                    let nonce = format!("{task}.{round}");
                    let mut pipeline = Pipeline::new();
                    pipeline.command(&["ECHO", &nonce]).command(&["ECHO", "second"]);
                    let request = client.pipeline(pipeline);
                    if (task + round) % 3 == 0 {
                        // Dropped after anything between no poll and a complete reply.
                        let patience = Duration::from_micros((task * 7 + round * 13) % 400);
                        let _ = tokio::time::timeout(patience, request).await;
                        continue;
                    }
                    let replies = request.await.unwrap();
                    let texts: Vec<&str> =
                        replies.iter().map(|reply| reply.parse().unwrap()).collect();
                    assert_eq!(texts, [&nonce, "second"]);
                }
            });
        }
        while let Some(result) = tasks.join_next().await {
            result.unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    })
    .await;
}

#[tokio::test]
async fn an_error_is_a_reply_and_the_connection_lives_on() {
    everywhere(async |client, name| {
        let id: i64 = client.query(Command::new("CLIENT").arg("ID")).await.unwrap();
        client.execute(Command::new("SET").arg("text").arg("x")).await.unwrap();
        let error = client.execute(Command::new("INCR").arg("text")).await.unwrap_err();
        assert_eq!(error.server_error().unwrap().code(), "ERR", "{name}");
        assert_eq!(error.send_state(), SendState::Answered);
        let error = client.execute(Command::new("HKEYS").arg("text")).await.unwrap_err();
        assert_eq!(error.server_error().unwrap().code(), "WRONGTYPE", "{name}");
        // The text of this one is not UTF-8.
        let error = client.execute(Command::new(b"\xff\xfe").arg(b"\xe9")).await.unwrap_err();
        assert!(error.server_error().unwrap().message().starts_with("unknown command"), "{name}");
        let error = client.query::<i64>(Command::new("GET").arg("text")).await.unwrap_err();
        assert!(error.server_error().is_none() && !error.is_closed(), "{name}: {error}");
        let same: i64 = client.query(Command::new("CLIENT").arg("ID")).await.unwrap();
        assert_eq!(id, same, "{name}");
    })
    .await;
}

#[tokio::test]
async fn a_pipeline_has_a_reply_for_each_command() {
    everywhere(async |client, name| {
        let mut pipeline = Pipeline::new();
        for at in 0..5000_u32 {
            pipeline.push(Command::new("RPUSH").arg("l").arg(at));
        }
        pipeline.command(&["INCR", "l"]).command(&["LLEN", "l"]);
        let replies = client.pipeline(pipeline).await.unwrap();
        assert_eq!(replies.len(), 5002, "{name}");
        assert_eq!(replies[4999].parse::<u32>().unwrap(), 5000, "{name}");
        assert_eq!(replies[5000].server_error().unwrap().code(), "WRONGTYPE", "{name}");
        assert!(replies[5000].parse::<i64>().is_err());
        assert_eq!(replies[5001].parse::<u32>().unwrap(), 5000, "{name}");

        let mut transaction = Pipeline::new();
        transaction.command(&["MULTI"]).command(&["SET", "a", "1"]).command(&["INCR", "a"]);
        transaction.command(&["EXEC"]);
        let replies = client.pipeline(transaction).await.unwrap();
        assert_eq!(replies[3].parse::<(String, i64)>().unwrap(), ("OK".to_owned(), 2), "{name}");
        assert!(client.pipeline(Pipeline::new()).await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_large_value_makes_the_round_trip() {
    everywhere(async |client, name| {
        let client = client.with_command_timeout(Some(Duration::from_secs(60)));
        // What is narrow takes thousands of steps for it.
        let mebibytes: u32 = if name.contains("narrow") { 2 } else { 32 };
        let value: Vec<u8> = (0..mebibytes << 20).map(|at| (at % 251) as u8).collect();
        client.execute(Command::new("SET").arg("k").arg(&value)).await.unwrap();
        let got: Bytes = client.query(Command::new("GET").arg("k")).await.unwrap();
        assert!(got == value, "{name}");
    })
    .await;
}

#[tokio::test]
async fn requests_beyond_the_bounds_take_turns() {
    for flavour in flavours() {
        let server = server(flavour, &[]);
        let config = config(&server.url()).with_in_flight_max(3, 200);
        let client = Client::with_config(config).await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..100_usize {
            let client = client.clone();
            tasks.spawn(async move {
                // Some are larger than the bound on bytes, some have more commands than the bound on those.
                let nonce = "x".repeat(task * 10);
                let echoed: String = client.query(Command::new("ECHO").arg(&nonce)).await.unwrap();
                assert_eq!(echoed, nonce);
                let mut pipeline = Pipeline::new();
                for at in 0..task % 7 {
                    pipeline.push(Command::new("ECHO").arg(at));
                }
                for (at, reply) in client.pipeline(pipeline).await.unwrap().iter().enumerate() {
                    assert_eq!(reply.parse::<usize>().unwrap(), at);
                }
            });
        }
        tasks.join_all().await;
    }
}

#[tokio::test]
async fn the_handshake_sets_user_name_and_database() {
    for flavour in flavours() {
        let server = server(flavour, &[]);
        let admin = Client::connect(&server.url()).await.unwrap();
        let user =
            Command::new("ACL").arg("SETUSER").arg("app").args(["on", ">pw:/@#", "~*", "+@all"]);
        admin.execute(user).await.unwrap();
        let password = Command::new("CONFIG").arg("SET").arg("requirepass").arg("s3cret pass");
        admin.execute(password).await.unwrap();
        for protocol in ["2", "3"] {
            let rest = format!("/5?protocol={protocol}&client_name=router-1");
            let url = network_url(&server, "app:pw%3A%2F%40%23@", &rest);
            let client = Client::connect(&url).await.unwrap();
            let user: String = client.query(Command::new("ACL").arg("WHOAMI")).await.unwrap();
            assert_eq!(user, "app");
            let info: String = client.query(Command::new("CLIENT").arg("INFO")).await.unwrap();
            assert!(info.contains(" name=router-1 ") && info.contains(" db=5 "), "{info}");
            assert!(info.contains(&format!(" resp={protocol}")), "{info}");
            if flavour == Flavour::Valkey {
                assert!(info.contains(" lib-name=respire "), "{info}");
            }

            let rest = format!("?protocol={protocol}");
            let url = network_url(&server, ":s3cret%20pass@", &rest);
            let client = Client::connect(&url).await.unwrap();
            let user: String = client.query(Command::new("ACL").arg("WHOAMI")).await.unwrap();
            assert_eq!(user, "default");
        }
    }
}

#[tokio::test]
async fn a_refused_handshake_says_why_and_shows_no_credentials() {
    for flavour in flavours() {
        let server = server(flavour, &["--requirepass", "right"]);
        for protocol in ["2", "3"] {
            let refused = async |userinfo: &str, database: &str| {
                let rest = format!("{database}?protocol={protocol}");
                let url = network_url(&server, userinfo, &rest);
                Client::connect(&url).await.expect_err("the handshake is refused")
            };
            let wrong = refused("hunter2:hunter2@", "").await;
            assert!(wrong.is_connect() && !wrong.is_timeout());
            assert_eq!(wrong.server_error().unwrap().code(), "WRONGPASS");
            assert_eq!(wrong.send_state(), SendState::NotSent);
            let mut shown = format!("{wrong:?} {wrong}");
            let mut source = std::error::Error::source(&wrong);
            while let Some(cause) = source {
                shown += &format!("{cause:?} {cause}");
                source = cause.source();
            }
            assert!(!shown.contains("hunter2"), "{shown}");

            let range = refused(":right@", "/99").await;
            assert!(range.server_error().unwrap().message().contains("out of range"));
        }
        for protocol in ["2", "3"] {
            let url = network_url(&server, "", &format!("?protocol={protocol}"));
            let none = Client::connect(&url).await;
            let none = none.expect_err("the handshake needs a password");
            assert_eq!(none.server_error().unwrap().code(), "NOAUTH", "RESP{protocol}");
        }
    }
}

#[tokio::test]
async fn a_server_without_hello_is_spoken_to_in_resp2() {
    for flavour in flavours() {
        for (args, userinfo) in [
            (&["--rename-command", "HELLO", ""][..], ""),
            (&["--rename-command", "HELLO", "", "--requirepass", "hunter2"], ":hunter2@"),
        ] {
            let server = server(flavour, args);
            let url = network_url(&server, userinfo, "/3?client_name=old");
            let client = Client::connect(&url).await.unwrap();
            assert_eq!(client.protocol(), Some(Protocol::Resp2));
            let info: String = client.query(Command::new("CLIENT").arg("INFO")).await.unwrap();
            assert!(info.contains(" name=old ") && info.contains(" db=3 "), "{info}");
            if !userinfo.is_empty() {
                // The server quotes the arguments of a command that it does not know.
                let url = network_url(&server, ":hunter3@", "");
                let error = Client::connect(&url).await.unwrap_err();
                assert!(!format!("{error:?}").contains("hunter"), "{error:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_full_server_says_so() {
    for flavour in flavours() {
        let server = server(flavour, &["--maxclients", "1"]);
        let _first = Client::connect(&server.url()).await.expect("it is the only client");
        for (name, config) in configs(&server) {
            let mut said = None;
            // The system drops what the server says where it closes before it has read what it was sent. Over RDMA there is no way to
            // say it.
            for _ in 0..if is_over_rdma() { 1 } else { 20 } {
                let error = Client::with_config(config.clone()).await.expect_err("it is full");
                assert!(error.is_connect(), "{name}");
                said = error.server_error().map(|said| said.message().to_owned());
                if said.is_some() {
                    break;
                }
            }
            // A server says it before it has shaken hands over TLS, or not at all.
            if !name.starts_with("tls") && !is_over_rdma() {
                assert_eq!(said.as_deref(), Some("max number of clients reached"), "{name}");
            }
        }
    }
}

#[tokio::test]
async fn what_a_shared_connection_must_not_carry_is_refused_before_it_is_sent() {
    everywhere(async |client, name| {
        for words in [&["SELECT", "1"][..], &["WATCH", "k"], &["SUBSCRIBE", "c"], &["MULTI"]] {
            let error = client.execute(Command::new(words[0]).args(&words[1..])).await.unwrap_err();
            assert_eq!(error.send_state(), SendState::NotSent, "{name} {words:?}");
            assert!(error.server_error().is_none(), "{name} {words:?}");
        }
        let pong: String = client.query(Command::new("PING")).await.unwrap();
        assert_eq!(pong, "PONG");
    })
    .await;
}

#[tokio::test]
async fn no_pipeline_leaves_a_transaction_open_for_others_to_fall_into() {
    everywhere(async |client, name| {
        for words in [
            &[&["MULTI"][..], &["SET", "a", "1"], &["DISCARD", "oops"]][..],
            &[&["MULTI"], &["SET", "a", "1"], &["DISCARD"]],
            &[&["MULTI", "oops"], &["SET", "a", "1"], &["EXEC"]],
            &[&["MULTI"], &["SET", "a", "1"], &["EXEC", "oops"]],
            &[&["MULTI"], &["SET", "a", "1"]],
        ] {
            let mut pipeline = Pipeline::new();
            for command in words {
                pipeline.command(command);
            }
            let error = client.pipeline(pipeline).await.unwrap_err();
            assert!(error.is_usage(), "{name} {words:?}");
            let absent: Option<String> = client.query(Command::new("GET").arg("a")).await.unwrap();
            assert_eq!(absent, None, "{name} {words:?}");
        }
        // A command that the server refuses to queue aborts the transaction, and that is the end of it.
        let mut pipeline = Pipeline::new();
        pipeline.command(&["MULTI"]).command(&["SET", "a"]).command(&["EXEC"]);
        let replies = client.pipeline(&mut pipeline).await.unwrap();
        assert_eq!(replies[2].server_error().unwrap().code(), "EXECABORT", "{name}");
        let pong: String = client.query(Command::new("PING")).await.unwrap();
        assert_eq!(pong, "PONG", "{name}");
    })
    .await;
}

#[tokio::test]
async fn a_user_without_a_password_logs_in_with_an_empty_one() {
    for flavour in flavours() {
        let server = server(flavour, &["--user", "guest", "on", "nopass", "~*", "+@all"]);
        for protocol in ["2", "3"] {
            let rest = format!("?protocol={protocol}");
            let url = network_url(&server, "guest:@", &rest);
            let client = Client::connect(&url).await.unwrap();
            let user: String = client.query(Command::new("ACL").arg("WHOAMI")).await.unwrap();
            assert_eq!(user, "guest");
            let url = network_url(&server, "nobody:@", &rest);
            let error = Client::connect(&url).await.expect_err("there is no such user");
            assert_eq!(error.server_error().unwrap().code(), "WRONGPASS");
        }
    }
}

/// Enough requests, one after the other, for the next one to be sent and received by its own task.
async fn one_at_a_time(client: &Client) {
    for at in 0..20_u32 {
        let echoed: u32 =
            client.query(Command::new("ECHO").arg(at)).await.expect("the server answers");
        assert_eq!(echoed, at);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_future_that_is_held_and_not_polled_holds_up_nobody() {
    everywhere(async |client, name| {
        for round in 0..20_u32 {
            one_at_a_time(&client).await;
            let mut held = Box::pin(client.query::<u32>(Command::new("ECHO").arg(round)));
            let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(held.as_mut().poll(cx)));
            let early = polled.await;
            let other = tokio::time::timeout(
                Duration::from_secs(20),
                client.query::<String>(Command::new("ECHO").arg("other")),
            );
            assert_eq!(other.await.expect("it hangs").unwrap(), "other", "{name}");
            if round % 2 == 0 && early.is_pending() {
                assert_eq!(held.await.unwrap(), round, "{name}");
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lone_requests_and_bursts_in_turn_get_their_own_replies() {
    everywhere(async |client, name| {
        for round in 0..100_u32 {
            one_at_a_time(&client).await;
            let burst: Vec<_> = (0..round % 7)
                .map(|at| {
                    let client = client.clone();
                    tokio::spawn(async move {
                        let nonce = format!("{round}.{at}");
                        let request = client.query::<String>(Command::new("ECHO").arg(&nonce));
                        if at % 3 == 1 {
                            let patience = Duration::from_micros(u64::from(at * round));
                            let _ = tokio::time::timeout(patience, request).await;
                            return;
                        }
                        assert_eq!(request.await.unwrap(), nonce);
                    })
                })
                .collect();
            for task in burst {
                task.await.unwrap_or_else(|error| panic!("{name}: {error}"));
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_lone_request_is_ended_by_its_deadline_and_by_the_server() {
    for flavour in flavours() {
        let mut server = server(flavour, &["--enable-debug-command", "yes"]);
        let client = Client::connect(&server.url()).await.unwrap();
        // What waits behind a busy server, on a machine that may be busy as well.
        let patient = client.with_command_timeout(Some(Duration::from_secs(60)));
        one_at_a_time(&patient).await;
        // Takes as long as it says however busy the machine is, which a script that counts does not.
        let slow = |seconds: u32| Command::new("DEBUG").arg("SLEEP").arg(seconds);
        let hasty = client.with_command_timeout(Some(Duration::from_millis(20)));
        assert!(hasty.execute(slow(1)).await.unwrap_err().is_timeout());
        one_at_a_time(&patient).await;
        let sends = client.stats().sends;
        let request = {
            let patient = patient.clone();
            tokio::spawn(async move { patient.execute(slow(60)).await })
        };
        in_time(async {
            while client.stats().sends == sends {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        server.kill();
        let error = in_time(request).await.unwrap().unwrap_err();
        assert!(error.is_closed() && error.send_state() == SendState::MaybeSent, "{error:?}");
    }
}

#[tokio::test]
async fn debug_shows_nothing_that_was_sent() {
    let server = server(Flavour::Valkey, &[]);
    let client = Client::connect(&server.url()).await.unwrap();
    let command = Command::new("SET").arg("key").arg("hunter2").arg("PX").arg(10_000);
    let mut request = Box::pin(client.execute(command));
    // Once polled, its bytes wait for the driver, which has not run yet.
    let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(request.as_mut().poll(cx)));
    assert!(polled.await.is_pending());
    let shown = format!("{client:?}");
    let address = if is_over_rdma() { "Tcp" } else { "Unix" };
    assert!(!shown.contains("hunter2") && shown.contains(address), "{shown}");
    request.await.unwrap();
}

#[test]
fn a_client_outlives_its_runtime_and_connects_anew_in_another() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for flavour in flavours() {
        let server = server(flavour, &[]);
        let first = runtime();
        let client = first.block_on(Client::connect(&server.url())).unwrap();
        drop(first);
        for _ in 0..3 {
            let second = runtime();
            let pong: String = second.block_on(client.query(Command::new("PING"))).unwrap();
            assert_eq!(pong, "PONG");
        }
        let waker = std::task::Waker::noop();
        let mut request = Box::pin(client.execute(Command::new("PING")));
        match request.as_mut().poll(&mut std::task::Context::from_waker(waker)) {
            std::task::Poll::Ready(Err(error)) => assert!(error.is_usage(), "{error:?}"),
            other => panic!("without a runtime it is an error: {other:?}"),
        }
    }
}

/// What a task saw while its server was killed and restarted.
#[derive(Default)]
struct Seen {
    answered: u64,
    failed: u64,
    slowest: Duration,
}

async fn load(client: Client, task: usize, until: Instant) -> Seen {
    let mut seen = Seen::default();
    for round in 0_u64.. {
        let start = Instant::now();
        if start >= until {
            break;
        }
        let nonce = format!("{task}.{round}");
        let outcome: Result<String, Error> = client.query(Command::new("ECHO").arg(&nonce)).await;
        seen.slowest = seen.slowest.max(start.elapsed());
        match outcome {
            Ok(echoed) => {
                assert_eq!(echoed, nonce);
                seen.answered += 1;
            }
            Err(error) => {
                assert!(error.is_closed() || error.is_connect() || error.is_timeout(), "{error:?}");
                seen.failed += 1;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
    seen
}

/// Whether the server answers before long. After a failed attempt requests fail at once for up to a second.
async fn found_again(client: &Client) -> bool {
    for _ in 0..1000 {
        match client.query::<String>(Command::new("PING")).await {
            Ok(pong) => return pong == "PONG",
            Err(error) => assert!(error.is_connect() || error.is_closed(), "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_under_load_ends_requests_in_time_and_is_found_again() {
    for flavour in flavours() {
        let mut server = server(flavour, &[]);
        for (name, config) in configs(&server) {
            let timeout = Duration::from_secs(2);
            let client =
                Client::with_config(config.with_command_timeout(Some(timeout))).await.unwrap();
            let until = Instant::now() + Duration::from_millis(1500);
            let tasks: Vec<_> =
                (0..50).map(|task| tokio::spawn(load(client.clone(), task, until))).collect();
            tokio::time::sleep(Duration::from_millis(300)).await;
            server.kill();
            tokio::time::sleep(Duration::from_millis(300)).await;
            server = tokio::task::spawn_blocking(move || {
                server.restart().expect("the server starts again");
                server
            })
            .await
            .unwrap();
            let mut all = Seen::default();
            for task in tasks {
                let seen = task.await.expect("every reply belonged to its request");
                all.answered += seen.answered;
                all.failed += seen.failed;
                all.slowest = all.slowest.max(seen.slowest);
            }
            assert!(all.answered > 0 && all.failed > 0, "{flavour:?} {name}");
            // Far beyond the deadline: this machine may be busy, and only a hang must fail.
            assert!(all.slowest < timeout + Duration::from_secs(10), "{:?}", all.slowest);
            assert!(found_again(&client).await, "{flavour:?} {name}: the server is found again");
        }
    }
}

#[tokio::test]
async fn a_restart_while_idle_costs_no_request() {
    for flavour in flavours() {
        let mut server = server(flavour, &[]);
        let client = Client::connect(&network_url(&server, "", "")).await.unwrap();
        for _ in 0..3 {
            let pong: String = client.query(Command::new("PING")).await.unwrap();
            assert_eq!(pong, "PONG");
            server.kill();
            server.restart().unwrap();
            // The runtime was blocked meanwhile; it notices the end when it runs again.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn closing_waits_for_what_is_under_way() {
    everywhere(async |client, name| {
        let mut tasks = tokio::task::JoinSet::new();
        for at in 0..100_u32 {
            let client = client.clone();
            tasks.spawn(async move { client.query::<u32>(Command::new("ECHO").arg(at)).await });
        }
        tokio::task::yield_now().await;
        client.close().await;
        let mut answered = 0;
        while let Some(outcome) = tasks.join_next().await {
            match outcome.unwrap() {
                Ok(_) => answered += 1,
                Err(error) => assert_eq!(error.send_state(), SendState::NotSent, "{name}"),
            }
        }
        assert!(answered > 0, "{name}");
        let error = client.execute(Command::new("PING")).await.unwrap_err();
        assert!(error.is_closed() && error.send_state() == SendState::NotSent, "{name}");
    })
    .await;
}

#[tokio::test]
async fn a_client_that_is_dropped_leaves_no_connection() {
    for flavour in flavours() {
        let server = server(flavour, &[]);
        let watcher = Client::connect(&server.url()).await.unwrap();
        for _ in 0..20 {
            let client = Client::connect(&server.url()).await.unwrap();
            client.execute(Command::new("PING")).await.unwrap();
        }
        let mut left = 0;
        for _ in 0..200 {
            let list: String = watcher
                .query(Command::new("CLIENT").arg("LIST").arg("TYPE").arg("normal"))
                .await
                .unwrap();
            left = list.lines().filter(|line| line.contains("cmd=ping")).count();
            if left == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(left, 0, "{flavour:?}");
    }
}
