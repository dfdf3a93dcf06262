//! Connections of one's own: blocking commands, transactions, and what changes a connection.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::{Duration, Instant},
};

use respire::{Client, Command, Config, Error, Pipeline, SendState, WhenFull};
use respire_tests::peer::ScriptedPeer;
use respire_tests::{
    servers::{Ways, each_way, in_time, is_over_rdma},
    tls::TlsServer,
};

fn command(words: &[&str]) -> Command {
    Command::new(words[0]).args(&words[1..])
}

/// Runs a test in each way to each server, with one of its own.
async fn everywhere<F: AsyncFn(Client, &str)>(test: F) {
    each_way(Ways::All, &[], async |_server: TlsServer, config: Config, name: &str| {
        test(in_time(Client::with_config(config)).await.expect("the server is up"), name).await;
    })
    .await;
}

/// The lines of `CLIENT LIST`, until there are as many as expected.
async fn connections(client: &Client, expected: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for _ in 0..500 {
        let list = command(&["CLIENT", "LIST", "TYPE", "normal"]);
        let list: String = in_time(client.query(list)).await.expect("the server answers");
        lines = list.lines().map(str::to_owned).collect();
        if lines.len() == expected {
            return lines;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{expected} connections were expected: {lines:?}");
}

/// Waits until so many clients are blocked on the server.
async fn blocked(client: &Client, expected: usize) {
    for _ in 0..1000 {
        let info: String =
            in_time(client.query(command(&["INFO", "clients"]))).await.unwrap_or_default();
        if info.contains(&format!("blocked_clients:{expected}\r\n")) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("not {expected} clients are blocked");
}

#[tokio::test]
async fn a_blocking_command_holds_up_nobody() {
    everywhere(async |client, name| {
        let pop = {
            let client = client.clone();
            tokio::spawn(async move {
                client.query::<(String, String)>(command(&["BLPOP", "queue", "0"])).await
            })
        };
        blocked(&client, 1).await;
        for at in 0..100_u32 {
            let echoed: u32 = in_time(client.query(Command::new("ECHO").arg(at))).await.unwrap();
            assert_eq!(echoed, at);
        }
        assert!(!pop.is_finished());
        client.execute(command(&["RPUSH", "queue", "element"])).await.unwrap();
        let popped = in_time(pop).await.unwrap().unwrap();
        assert_eq!(popped, ("queue".to_owned(), "element".to_owned()), "{name}");
        // The connection is kept for the next one.
        connections(&client, 2).await;
        client.execute(command(&["RPUSH", "queue", "next"])).await.unwrap();
        let popped: (String, String) =
            in_time(client.query(command(&["BLPOP", "queue", "0"]))).await.unwrap();
        assert_eq!(popped.1, "next", "{name}");
        connections(&client, 2).await;
    })
    .await;
}

#[tokio::test]
async fn every_blocking_command_is_answered_in_its_own_way() {
    everywhere(async |client, name| {
        for words in [
            &["BLPOP", "k", "0.01"][..],
            &["BRPOP", "k", "0.01"],
            &["BLMOVE", "k", "l", "LEFT", "RIGHT", "0.01"],
            &["BRPOPLPUSH", "k", "l", "0.01"],
            &["BLMPOP", "0.01", "1", "k", "LEFT"],
            &["BZPOPMIN", "k", "0.01"],
            &["BZPOPMAX", "k", "0.01"],
            &["BZMPOP", "0.01", "1", "k", "MIN"],
            &["XREAD", "BLOCK", "10", "STREAMS", "s", "$"],
        ] {
            let reply = in_time(client.execute(command(words))).await.unwrap();
            assert!(reply.value().is_null(), "{name} {words:?}: {reply:?}");
        }
        let replicas: u32 = in_time(client.query(command(&["WAIT", "1", "10"]))).await.unwrap();
        assert_eq!(replicas, 0, "{name}");
        // What is no time is the server's to refuse.
        let error = in_time(client.execute(command(&["BLPOP", "k", "soon"]))).await.unwrap_err();
        assert!(error.server_error().is_some(), "{name}: {error:?}");
        connections(&client, 2).await;
        let mut pipeline = Pipeline::new();
        pipeline.command(&["BLPOP", "k", "0.01"]).command(&["ECHO", "x"]);
        let replies = in_time(client.pipeline(pipeline)).await.unwrap();
        assert!(replies[0].value().is_null());
        assert_eq!(replies[1].parse::<&str>().unwrap(), "x");
    })
    .await;
}

#[tokio::test]
async fn the_time_that_a_command_blocks_comes_on_top_of_its_timeout() {
    everywhere(async |client, name| {
        let hasty = client.with_command_timeout(Some(Duration::from_millis(200)));
        let start = Instant::now();
        let reply = in_time(hasty.execute(command(&["BLPOP", "k", "0.6"]))).await;
        // On a busy machine the answer may come too late, but not before the server has waited.
        match reply {
            Ok(reply) => assert!(reply.value().is_null(), "{name}"),
            Err(error) => assert!(error.is_timeout(), "{name}: {error:?}"),
        }
        assert!(start.elapsed() >= Duration::from_millis(600), "{name}");
        // An instant is an instant, also for what may block for ever.
        for time in ["30", "0"] {
            let bounded = client.with_deadline(Instant::now() + Duration::from_millis(100));
            let error = in_time(bounded.execute(command(&["BLPOP", "k", time]))).await.unwrap_err();
            assert!(error.is_timeout(), "{name}: {error:?}");
        }
        // The server has been told that nobody waits any more.
        blocked(&client, 0).await;
        client.execute(command(&["RPUSH", "k", "kept"])).await.unwrap();
        let kept: Option<String> = client.query(command(&["LPOP", "k"])).await.unwrap();
        assert_eq!(kept.as_deref(), Some("kept"), "{name}");
    })
    .await;
}

#[tokio::test]
async fn a_blocking_request_that_is_dropped_takes_nothing_once_the_server_knows() {
    everywhere(async |client, name| {
        for round in 0..5 {
            let pop = {
                let client = client.clone();
                tokio::spawn(async move { client.execute(command(&["BLPOP", "k", "0"])).await })
            };
            blocked(&client, 1).await;
            pop.abort();
            blocked(&client, 0).await;
            connections(&client, 1).await;
            client.execute(Command::new("RPUSH").arg("k").arg(round)).await.unwrap();
            let kept: Option<u32> = client.query(command(&["LPOP", "k"])).await.unwrap();
            assert_eq!(kept, Some(round), "{name}");
        }
    })
    .await;
}

#[tokio::test]
async fn more_than_may_be_wait_for_a_connection_within_their_deadlines() {
    each_way(Ways::All, &[], async |_server: TlsServer, config: Config, _: &str| {
        let config = config.with_dedicated_max(2);
        let client = in_time(Client::with_config(config)).await.unwrap();
        let pop = |key: &'static str| {
            let client = client.clone();
            tokio::spawn(async move {
                client.query::<(String, u32)>(command(&["BLPOP", key, "0"])).await
            })
        };
        let (first, second) = (pop("a"), pop("b"));
        blocked(&client, 2).await;
        let hasty = client.with_command_timeout(Some(Duration::from_millis(100)));
        let error = in_time(hasty.execute(command(&["BLPOP", "c", "0"]))).await.unwrap_err();
        assert!(error.is_timeout() && error.send_state() == SendState::NotSent, "{error:?}");
        let choosy = client.with_when_full(WhenFull::Reject);
        let error = in_time(choosy.execute(command(&["BLPOP", "c", "0"]))).await.unwrap_err();
        assert!(error.is_full() && error.send_state() == SendState::NotSent, "{error:?}");
        let third = pop("c");
        client.execute(command(&["RPUSH", "c", "3"])).await.unwrap();
        client.execute(command(&["RPUSH", "a", "1"])).await.unwrap();
        assert_eq!(in_time(first).await.unwrap().unwrap().1, 1);
        assert_eq!(in_time(third).await.unwrap().unwrap().1, 3);
        client.execute(command(&["RPUSH", "b", "2"])).await.unwrap();
        assert_eq!(in_time(second).await.unwrap().unwrap().1, 2);
        connections(&client, 3).await;
    })
    .await;
}

#[tokio::test]
async fn what_was_changed_ends_with_the_connection() {
    everywhere(async |client, name| {
        let kept = async |steps: &[&[&str]]| {
            let mut own = in_time(client.dedicated()).await.unwrap();
            let id: i64 = own.query(command(&["CLIENT", "ID"])).await.unwrap();
            for words in steps {
                let _ = own.execute(command(words)).await;
            }
            drop(own);
            let mut next = in_time(client.dedicated()).await.unwrap();
            let same = id == next.query::<i64>(command(&["CLIENT", "ID"])).await.unwrap();
            let info: String = next.query(command(&["CLIENT", "INFO"])).await.unwrap();
            // How many commands a transaction has is 0 or -1 where there is none; its flag says whether there is one.
            let flags = info.split(' ').find(|field| field.starts_with("flags=")).unwrap();
            assert!(info.contains(" db=0 ") && !flags.contains('x'), "{name}: {info}");
            assert!(info.contains(" name= "), "{name}: {info}");
            same
        };
        for steps in [
            &[][..],
            &[&["SET", "a", "1"][..], &["INCR", "a"]],
            &[&["MULTI"], &["SET", "a", "1"], &["EXEC"]],
            &[&["MULTI"], &["SET", "a", "1"], &["DISCARD"]],
            &[&["MULTI"], &["SET", "a"], &["EXEC"]],
            &[&["WATCH", "a"], &["UNWATCH"]],
            &[&["WATCH", "a"], &["MULTI"], &["EXEC"]],
            &[&["SELECT", "3"], &["SELECT", "0"]],
            &[&["BLPOP", "none", "0.01"]],
        ] {
            assert!(kept(steps).await, "{name} {steps:?}");
        }
        for steps in [
            &[&["MULTI"][..]][..],
            &[&["MULTI"], &["SET", "a", "1"], &["EXEC", "oops"]],
            &[&["WATCH", "a"]],
            &[&["MULTI"], &["UNWATCH"], &["DISCARD"], &["WATCH", "a"]],
            &[&["SELECT", "3"]],
            &[&["MULTI"], &["SELECT", "3"], &["EXEC"]],
            &[&["CLIENT", "SETNAME", "mine"]],
        ] {
            assert!(!kept(steps).await, "{name} {steps:?}");
        }
        // What would leave replies that belong to no request is refused here as well.
        let mut own = in_time(client.dedicated()).await.unwrap();
        for words in
            [&["SUBSCRIBE", "c"][..], &["MONITOR"], &["CLIENT", "REPLY", "OFF"], &["RESET"]]
        {
            let error = own.execute(command(words)).await.unwrap_err();
            assert!(error.is_usage() && error.send_state() == SendState::NotSent, "{error:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_future_of_a_connection_of_ones_own_may_be_dropped_after_any_poll() {
    everywhere(async |client, name| {
        for polls in 0..6 {
            let mut own = in_time(client.dedicated()).await.unwrap();
            for at in 0..20_u32 {
                {
                    let mut dropped = Box::pin(own.query::<u32>(Command::new("ECHO").arg(at)));
                    for _ in 0..polls {
                        let poll =
                            std::future::poll_fn(|cx| Poll::Ready(dropped.as_mut().poll(cx)));
                        if poll.await.is_ready() {
                            break;
                        }
                        tokio::task::yield_now().await;
                    }
                }
                let nonce = format!("after {at}");
                let echoed: String =
                    in_time(own.query(Command::new("ECHO").arg(&nonce))).await.unwrap();
                assert_eq!(echoed, nonce, "{name}");
            }
        }
    })
    .await;
}

/// Polls a future so many times, with turns for others in between, and drops it.
async fn polled<F: Future>(future: F, polls: usize) {
    let mut future = Box::pin(future);
    for _ in 0..polls {
        let poll = std::future::poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_ready()));
        if poll.await {
            return;
        }
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
}

#[tokio::test]
async fn futures_that_are_dropped_after_any_poll_leak_no_connection() {
    each_way(Ways::All, &[], async |_server: TlsServer, config: Config, name: &str| {
        let config = config.with_dedicated_max(2);
        let client = in_time(Client::with_config(config)).await.unwrap();
        for polls in 0..12 {
            polled(client.execute(command(&["BLPOP", "none", "0"])), polls).await;
            polled(client.dedicated(), polls).await;
            let attempt = client.transaction(["k"], |mut transaction| async move {
                transaction.execute(command(&["GET", "k"])).await?;
                let mut commands = Pipeline::new();
                commands.command(&["INCR", "k"]);
                transaction.commit::<(u32,)>(commands).await
            });
            polled(attempt, polls).await;
            let mut atomic = Pipeline::atomic();
            atomic.command(&["ECHO", "a"]).command(&["ECHO", "b"]);
            polled(client.pipeline(&mut atomic), polls).await;
            // Both connections can be had, and each reply is its own.
            let (mut one, mut other) = (
                in_time(client.dedicated()).await.unwrap(),
                in_time(client.dedicated()).await.unwrap(),
            );
            for own in [&mut one, &mut other] {
                let nonce = format!("after {polls}");
                let echoed: String =
                    in_time(own.query(Command::new("ECHO").arg(&nonce))).await.unwrap();
                assert_eq!(echoed, nonce, "{name}");
            }
        }
        connections(&client, 3).await;
        blocked(&client, 0).await;
    })
    .await;
}

async fn sell(client: &Client, sold: &AtomicUsize) -> Result<bool, Error> {
    client
        .transaction(["stock"], |mut transaction| async move {
            let stock: u32 = transaction.query(command(&["GET", "stock"])).await?;
            if stock == 0 {
                return transaction.abandon(false).await;
            }
            tokio::task::yield_now().await;
            let mut commands = Pipeline::new();
            commands.push(Command::new("SET").arg("stock").arg(stock - 1));
            commands.push(Command::new("RPUSH").arg("sales").arg(stock));
            let attempt = transaction.commit::<(String, u32)>(commands).await?;
            Ok(attempt.map(|(ok, _)| {
                sold.fetch_add(1, Ordering::SeqCst);
                ok == "OK"
            }))
        })
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_of_many_tasks_sell_each_item_once() {
    everywhere(async |client, name| {
        client.execute(command(&["SET", "stock", "40"])).await.unwrap();
        let sold = Arc::new(AtomicUsize::new(0));
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (client, sold) = (client.clone(), Arc::clone(&sold));
            tasks.spawn(async move { while in_time(sell(&client, &sold)).await.unwrap() {} });
        }
        while let Some(task) = tasks.join_next().await {
            task.unwrap();
        }
        assert_eq!(sold.load(Ordering::SeqCst), 40, "{name}");
        let mut sales: Vec<u32> =
            client.query(command(&["LRANGE", "sales", "0", "-1"])).await.unwrap();
        assert!(sales.is_sorted_by(|a, b| a > b), "{name}: {sales:?}");
        sales.dedup();
        assert_eq!(sales.len(), 40, "{name}");
        let left: u32 = client.query(command(&["GET", "stock"])).await.unwrap();
        assert_eq!(left, 0);
    })
    .await;
}

#[tokio::test]
async fn a_transaction_that_never_gets_through_is_a_conflict_by_the_deadline() {
    everywhere(async |client, name| {
        let attempts = AtomicUsize::new(0);
        let hasty = client.with_command_timeout(Some(Duration::from_millis(300)));
        let error = in_time(hasty.transaction(["k"], |mut transaction| {
            attempts.fetch_add(1, Ordering::SeqCst);
            let client = client.clone();
            async move {
                let _: Option<u32> = transaction.query(command(&["GET", "k"])).await?;
                client.execute(command(&["INCR", "k"])).await?;
                let mut commands = Pipeline::new();
                commands.command(&["SET", "k", "never"]);
                transaction.commit::<(String,)>(commands).await
            }
        }))
        .await
        .unwrap_err();
        let attempts = attempts.load(Ordering::SeqCst);
        // Where the machine is busy, an attempt may itself be overtaken by the deadline.
        assert!(error.is_conflict() || error.is_timeout(), "{name}: {error:?}");
        assert!(attempts >= 1, "{name}");
        let value: usize = client.query(command(&["GET", "k"])).await.unwrap();
        assert!(value == attempts || value + 1 == attempts, "{name}: {value} of {attempts}");
    })
    .await;
}

#[tokio::test]
async fn a_refused_command_aborts_a_transaction_and_is_named() {
    everywhere(async |client, name| {
        let refused = |error: Error| {
            assert_eq!(error.aborted_command(), Some(1), "{name}: {error:?}");
            assert_eq!(error.send_state(), SendState::Answered);
            let said = error.server_error().unwrap();
            assert!(said.message().contains("wrong number of arguments"), "{name}: {said}");
            assert!(error.to_string().contains("command 1"), "{error}");
        };
        let mut commands = Pipeline::new();
        commands.command(&["SET", "a", "1"]).command(&["INCR"]).command(&["SET", "b", "1"]);
        let watched = client.transaction(["a"], |transaction| {
            transaction.commit::<(String, u32, String)>(commands.clone())
        });
        refused(in_time(watched).await.unwrap_err());
        let mut atomic = Pipeline::atomic();
        atomic.command(&["SET", "a", "1"]).command(&["INCR"]).command(&["SET", "b", "1"]);
        refused(in_time(client.pipeline(&mut atomic)).await.unwrap_err());
        let absent: Vec<Option<String>> = client.query(command(&["MGET", "a", "b"])).await.unwrap();
        assert_eq!(absent, [None, None], "{name}");
        // The connection is as it was, and serves the next one.
        connections(&client, 2).await;
    })
    .await;
}

#[tokio::test]
async fn an_atomic_pipeline_returns_its_own_replies() {
    everywhere(async |client, name| {
        let mut atomic = Pipeline::atomic();
        atomic.command(&["SET", "a", "1"]).command(&["RPUSH", "l", "x", "y"]);
        atomic.command(&["LRANGE", "l", "0", "-1"]).command(&["INCR", "l"]);
        atomic.command(&["GET", "none"]).command(&["HGETALL", "none"]);
        assert_eq!(atomic.len(), 6);
        let replies = in_time(client.pipeline(&mut atomic)).await.unwrap();
        assert_eq!(replies.len(), 6, "{name}");
        assert_eq!(replies[0].parse::<&str>().unwrap(), "OK");
        assert_eq!(replies[1].parse::<u32>().unwrap(), 2);
        assert_eq!(replies[2].parse::<Vec<String>>().unwrap(), ["x", "y"]);
        assert_eq!(replies[3].server_error().unwrap().code(), "WRONGTYPE", "{name}");
        assert_eq!(replies[4].parse::<Option<&str>>().unwrap(), None);
        assert!(replies[5].parse::<Vec<(String, String)>>().unwrap().is_empty());
        assert!(in_time(client.pipeline(Pipeline::atomic())).await.unwrap().is_empty());
        for words in [&["MULTI"][..], &["EXEC"], &["DISCARD"], &["SELECT", "1"], &["WATCH", "a"]] {
            let mut atomic = Pipeline::atomic();
            atomic.command(words).command(&["SET", "a", "2"]);
            let error = in_time(client.pipeline(&mut atomic)).await.unwrap_err();
            assert!(error.is_usage(), "{name} {words:?}: {error:?}");
            let mut commands = Pipeline::new();
            commands.command(words);
            let watched = client.transaction(["a"], |transaction| {
                transaction.commit::<Vec<String>>(commands.clone())
            });
            assert!(in_time(watched).await.unwrap_err().is_usage(), "{name} {words:?}");
        }
        let mut own = in_time(client.dedicated()).await.unwrap();
        let mut atomic = Pipeline::atomic();
        atomic.command(&["INCR", "a"]);
        let replies = in_time(own.pipeline(&mut atomic)).await.unwrap();
        assert_eq!(replies[0].parse::<u32>().unwrap(), 2, "{name}");
    })
    .await;
}

#[tokio::test]
async fn a_refused_multi_is_reported_as_what_it_is() {
    let peer = ScriptedPeer::start(|mut connection, _| async move {
        connection.shake_hands().await;
        for _ in 0..3 {
            connection.command().await;
        }
        connection.send("-NOPERM no MULTI for you\r\n+OK\r\n-ERR EXEC without MULTI\r\n").await;
        connection.swallow().await;
    })
    .await;
    let client = in_time(Client::connect(&peer.url())).await.unwrap();
    let mut atomic = Pipeline::atomic();
    atomic.command(&["SET", "a", "1"]);
    let error = in_time(client.pipeline(&mut atomic)).await.unwrap_err();
    assert_eq!(error.server_error().unwrap().code(), "NOPERM");
    assert_eq!(error.send_state(), SendState::MaybeSent, "the SET was carried out by itself");
}

#[tokio::test]
async fn closing_waits_for_connections_that_are_leased() {
    // Long enough to be seen before it is over.
    let seconds = if is_over_rdma() { "5" } else { "0.3" };
    everywhere(async |client, name| {
        let pop = {
            let client = client.clone();
            tokio::spawn(async move { client.execute(command(&["BLPOP", "k", seconds])).await })
        };
        blocked(&client, 1).await;
        in_time(client.close()).await;
        let reply = in_time(pop).await.unwrap().unwrap();
        assert!(reply.value().is_null(), "{name}");
        let error = in_time(client.execute(command(&["BLPOP", "k", "0"]))).await.unwrap_err();
        assert!(error.is_closed() && error.send_state() == SendState::NotSent, "{name}: {error:?}");
        let error = in_time(client.dedicated()).await.unwrap_err();
        assert!(error.is_closed(), "{name}");
    })
    .await;
}

#[tokio::test]
async fn an_idle_connection_that_was_lost_is_replaced_unnoticed() {
    each_way(Ways::All, &[], async |mut server: TlsServer, config: Config, _: &str| {
        let client = in_time(Client::with_config(config)).await.unwrap();
        for _ in 0..3 {
            let reply = in_time(client.execute(command(&["BLPOP", "k", "0.01"]))).await.unwrap();
            assert!(reply.value().is_null());
            server.kill();
            server.restart().unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
            let _ = in_time(client.execute(command(&["PING"]))).await;
        }
    })
    .await;
}

#[tokio::test]
async fn closing_does_not_wait_for_what_waits_without_end() {
    everywhere(async |client, name| {
        let pop = {
            let client = client.clone();
            tokio::spawn(async move { client.execute(command(&["BLPOP", "k", "0"])).await })
        };
        let mut own = in_time(client.dedicated()).await.unwrap();
        let read = tokio::spawn(async move {
            own.execute(command(&["XREAD", "BLOCK", "0", "STREAMS", "s", "$"])).await
        });
        blocked(&client, 2).await;
        in_time(client.close()).await;
        for waiting in [pop, read] {
            let error = in_time(waiting).await.unwrap().unwrap_err();
            assert!(error.is_closed(), "{name}: {error:?}");
            assert_eq!(error.send_state(), SendState::MaybeSent, "{name}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_idle_connection_that_is_dead_is_not_handed_out() {
    let peer = ScriptedPeer::start(|mut connection, number| async move {
        connection.shake_hands().await;
        let mut pops = 0;
        while let Some(command) = connection.command().await {
            match &*command[0] {
                "PING" if number == 1 => return connection.swallow().await,
                "PING" => {
                    connection.send(format!("${}\r\n{}\r\n", command[1].len(), command[1])).await;
                }
                _ => {
                    pops += 1;
                    connection.send(format!(":{}\r\n", number * 10 + pops)).await;
                }
            }
        }
    })
    .await;
    let config: Config = peer.url().parse().unwrap();
    let config = config
        .with_command_timeout(Some(Duration::from_millis(200)))
        .with_health_check(Some(Duration::from_millis(300)));
    let client = in_time(Client::with_config(config)).await.unwrap();
    let pop =
        async || in_time(client.query::<usize>(command(&["BLPOP", "k", "30"]))).await.unwrap();
    assert_eq!(pop().await, 11);
    assert_eq!(pop().await, 12, "the connection is kept");
    // It is asked, and does not answer.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let popped = pop().await;
    assert!(popped > 20, "{popped}");
}

#[tokio::test]
async fn a_blocking_command_that_is_sent_again_has_one_deadline() {
    let peer = ScriptedPeer::start(|mut connection, number| async move {
        connection.shake_hands().await;
        if connection.command().await.is_some() && number == 1 {
            tokio::time::sleep(Duration::from_secs(3)).await;
            return;
        }
        connection.swallow().await;
    })
    .await;
    let config: Config = peer.url().parse().unwrap();
    let config = config.with_command_timeout(Some(Duration::from_secs(2)));
    let client = in_time(Client::with_config(config)).await.unwrap();
    let start = Instant::now();
    let read = command(&["XREAD", "BLOCK", "2000", "STREAMS", "s", "$"]);
    let error = in_time(client.execute(read)).await.unwrap_err();
    assert!(error.is_timeout() && error.send_state() == SendState::MaybeSent, "{error:?}");
    // Two seconds each for the server and for the request; a second attempt from its own start would take until the seventh.
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
    assert_eq!(client.stats().retried, 1);
}
