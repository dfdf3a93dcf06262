//! What requests do when the server is away, or the connection full.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use respire::{Client, Command, Config, RetryPolicy, SendState, WhenDown, WhenFull};
use respire_cli::local_server::Flavour;
use respire_tests::peer::ScriptedPeer;
use respire_tests::servers::{HUNG, Ways, each_way, in_time, is_over_rdma, server};
use respire_tests::tls::TlsServer;

fn config(url: &str, command_timeout: Duration) -> Config {
    url.parse::<Config>()
        .expect("the URL is one of ours")
        .with_command_timeout(Some(command_timeout))
        .with_connect_timeout(patience())
}

/// How long a real server may take, where no test is about that.
fn patience() -> Duration {
    if is_over_rdma() { HUNG } else { Duration::from_secs(20) }
}

fn echo(nonce: impl respire::ToArg) -> Command {
    Command::new("ECHO").arg(nonce)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_wait_are_answered_when_the_server_is_back() {
    each_way(Ways::All, &[], async |mut server: TlsServer, config: Config, name: &str| {
        let config = config.with_when_down(WhenDown::Wait);
        let client = in_time(Client::with_config(config)).await.unwrap();
        server.kill();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let requests: Vec<_> = (0..200_u32)
            .map(|at| {
                let client = client.clone();
                tokio::spawn(async move { client.query::<u32>(echo(at)).await })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let server = tokio::task::spawn_blocking(move || {
            server.restart().expect("the server starts again");
            server
        });
        let _server = server.await.unwrap();
        for (at, request) in requests.into_iter().enumerate() {
            assert_eq!(in_time(request).await.unwrap().unwrap() as usize, at, "{name}");
        }
    })
    .await;
}

#[tokio::test]
async fn all_who_wait_share_each_attempt_and_end_by_their_deadlines() {
    let dials = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&dials);
    let peer = ScriptedPeer::start(move |_, _| {
        counted.fetch_add(1, Ordering::SeqCst);
        // Closed before the handshake.
        async {}
    })
    .await;
    let timeout = Duration::from_millis(500);
    let config = config(&peer.url(), timeout).with_when_down(WhenDown::Wait);
    let client = Client::unconnected(config);
    let start = Instant::now();
    let requests: Vec<_> = (0..500_u32)
        .map(|at| {
            let client = client.clone();
            tokio::spawn(async move { client.execute(echo(at)).await })
        })
        .collect();
    for request in requests {
        let error = in_time(request).await.unwrap().unwrap_err();
        // One that learns of a failed attempt when no time is left for another has that attempt's error.
        assert!(error.is_timeout() || error.is_connect(), "{error:?}");
        assert_eq!(error.send_state(), SendState::NotSent);
    }
    assert!(start.elapsed() >= timeout, "each waited for its deadline");
    // 20 ms, doubled each time and halved at most, are six dials in half a second, were they all to fail at once.
    let dials = dials.load(Ordering::SeqCst);
    assert!((2..20).contains(&dials), "{dials} dials");
}

#[tokio::test]
async fn who_fails_fast_is_not_held_up_by_those_who_wait() {
    let peer = ScriptedPeer::start(|_, _| async {}).await;
    let config = config(&peer.url(), Duration::from_secs(3)).with_when_down(WhenDown::Wait);
    let waiting = Client::unconnected(config);
    let hasty = waiting.with_when_down(WhenDown::FailFast);
    // After some failures the distance between attempts is long enough for the next lines.
    let request = {
        let waiting = waiting.clone();
        tokio::spawn(async move { waiting.execute(echo(1)).await })
    };
    tokio::time::sleep(Duration::from_millis(700)).await;
    let error = in_time(hasty.execute(echo(2))).await.unwrap_err();
    assert!(error.is_connect() && !error.is_timeout(), "{error:?}");
    assert!(!request.is_finished(), "the other one still waits");
    let error = in_time(request).await.unwrap().unwrap_err();
    assert!(error.is_timeout(), "{error:?}");
}

#[tokio::test]
async fn a_refused_password_is_not_waited_for() {
    let args = ["--requirepass", "right"];
    each_way(Ways::All, &args, async |_server: TlsServer, config: Config, _: &str| {
        let config = config
            .with_command_timeout(Some(Duration::from_secs(60)))
            .with_credentials(None, "wrong")
            .with_when_down(WhenDown::Wait);
        let client = Client::unconnected(config);
        let error = in_time(client.execute(echo(1))).await.unwrap_err();
        assert_eq!(error.server_error().unwrap().code(), "WRONGPASS", "{error:?}");
    })
    .await;
}

/// Answers what comes first with an error for so many times, then with what was asked.
fn passing_state(code: &'static str, times: usize) -> impl Future<Output = ScriptedPeer> {
    ScriptedPeer::start(move |mut connection, _| async move {
        connection.shake_hands().await;
        let mut seen = 0;
        while let Some(command) = connection.command().await {
            seen += 1;
            match seen <= times {
                true => connection.send(format!("-{code} not now\r\n")).await,
                false => connection.send(format!("+{}\r\n", command[1])).await,
            }
        }
    })
}

#[tokio::test]
async fn a_state_of_the_server_that_passes_is_waited_for_if_asked() {
    for code in ["LOADING", "MASTERDOWN", "TRYAGAIN", "CLUSTERDOWN", "BUSY"] {
        let peer = passing_state(code, 3).await;
        let hasty = Client::unconnected(config(&peer.url(), Duration::from_secs(10)));
        let error = in_time(hasty.execute(echo(1))).await.unwrap_err();
        assert_eq!(error.server_error().unwrap().code(), code);
        let patient = hasty.with_when_down(WhenDown::Wait);
        assert_eq!(in_time(patient.query::<u32>(echo(7))).await.unwrap(), 7, "{code}");
    }
    // An error of the command's own is an answer.
    let peer = passing_state("BUSYGROUP", 1).await;
    let patient = Client::unconnected(config(&peer.url(), Duration::from_secs(10)))
        .with_when_down(WhenDown::Wait);
    let error = in_time(patient.execute(echo(1))).await.unwrap_err();
    assert_eq!(error.server_error().unwrap().code(), "BUSYGROUP");
}

#[tokio::test]
async fn a_state_that_does_not_pass_is_reported_by_the_deadline() {
    let peer = passing_state("LOADING", usize::MAX).await;
    let config = config(&peer.url(), Duration::from_millis(300)).with_when_down(WhenDown::Wait);
    let client = Client::unconnected(config);
    let error = in_time(client.execute(echo(1))).await.unwrap_err();
    assert!(error.is_timeout() || error.server_error().unwrap().code() == "LOADING", "{error:?}");
}

#[tokio::test]
async fn a_request_that_finds_the_connection_full_is_rejected_if_asked() {
    let args = ["--enable-debug-command", "yes"];
    each_way(Ways::All, &args, async |_server: TlsServer, config: Config, _: &str| {
        let config = config.with_in_flight_max(2, 1 << 20);
        let client = in_time(Client::with_config(config)).await.unwrap();
        let choosy = client.with_when_full(WhenFull::Reject);
        // Takes as long as it says however busy the machine is, which a script that counts does not.
        let slow = Command::new("DEBUG").arg("SLEEP").arg("0.3");
        let mut slow = Box::pin(client.execute(slow));
        let mut second = Box::pin(choosy.query::<u32>(echo(2)));
        std::future::poll_fn(|cx| {
            assert!(slow.as_mut().poll(cx).is_pending());
            assert!(second.as_mut().poll(cx).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
        let error = in_time(choosy.execute(echo(3))).await.unwrap_err();
        assert!(error.is_full() && error.send_state() == SendState::NotSent, "{error:?}");
        // Who is not asked to be choosy waits for its turn.
        assert_eq!(in_time(client.query::<u32>(echo(4))).await.unwrap(), 4);
        in_time(slow).await.unwrap();
        assert_eq!(in_time(second).await.unwrap(), 2);
        assert_eq!(in_time(choosy.query::<u32>(echo(5))).await.unwrap(), 5);
    })
    .await;
}

#[tokio::test]
async fn while_the_connection_is_dialled_no_more_wait_than_may_be_under_way() {
    let peer = ScriptedPeer::start(|connection, _| connection.freeze()).await;
    let config = config(&peer.url(), Duration::from_millis(300))
        .with_in_flight_max(3, 1 << 20)
        .with_when_full(WhenFull::Reject);
    let client = Client::unconnected(config);
    let requests: Vec<_> = (0..10_u32)
        .map(|at| {
            let client = client.clone();
            tokio::spawn(async move { client.execute(echo(at)).await })
        })
        .collect();
    let mut full = 0;
    for request in requests {
        let error = in_time(request).await.unwrap().unwrap_err();
        assert_eq!(error.send_state(), SendState::NotSent);
        full += usize::from(error.is_full());
    }
    assert_eq!(full, 7);
}

#[tokio::test]
async fn an_instant_ends_requests_as_a_timeout_does() {
    let peer = ScriptedPeer::start(|mut connection, _| async move {
        connection.shake_hands().await;
        connection.swallow().await;
    })
    .await;
    let client = Client::unconnected(config(&peer.url(), Duration::from_secs(3600)));
    let client = client.with_deadline(Instant::now() + Duration::from_millis(100));
    for _ in 0..2 {
        let error = in_time(client.execute(echo(1))).await.unwrap_err();
        assert!(error.is_timeout(), "{error:?}");
    }
    // What comes first holds.
    let later = client
        .with_deadline(Instant::now() + Duration::from_secs(3600))
        .with_command_timeout(Some(Duration::from_millis(50)));
    assert!(in_time(later.execute(echo(1))).await.unwrap_err().is_timeout());
}

/// Answers `PING`, so that the connection was of use; ends it when another command has arrived, `times` times. Counts
/// those.
async fn loses(times: usize) -> (ScriptedPeer, Arc<AtomicUsize>) {
    let commands = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&commands);
    let peer = ScriptedPeer::start(move |mut connection, number| {
        let counted = Arc::clone(&counted);
        async move {
            connection.shake_hands().await;
            while let Some(command) = connection.command().await {
                if command[0] == "PING" {
                    connection.send("+PONG\r\n").await;
                    continue;
                }
                counted.fetch_add(1, Ordering::SeqCst);
                if number < times {
                    return;
                }
                connection.send(format!("+{}\r\n", command[1])).await;
            }
        }
    })
    .await;
    (peer, commands)
}

#[tokio::test]
async fn what_may_have_been_carried_out_is_reported_and_not_repeated() {
    let (peer, commands) = loses(1).await;
    let policy = RetryPolicy::default().with_attempts(10);
    let config = config(&peer.url(), Duration::from_secs(10)).with_retry(policy);
    let client = in_time(Client::with_config(config)).await.unwrap();
    let error = in_time(client.execute(Command::new("INCR").arg("n"))).await.unwrap_err();
    assert!(error.is_closed() && error.send_state() == SendState::MaybeSent, "{error:?}");
    assert_eq!(commands.load(Ordering::SeqCst), 1);
    assert_eq!(in_time(client.query::<u32>(echo(1))).await.unwrap(), 1);
}

/// A client whose connection has been of use: its end is no failed attempt.
async fn useful(config: Config) -> Client {
    let client = in_time(Client::with_config(config)).await.expect("the peer shakes hands");
    in_time(client.execute(Command::new("PING"))).await.expect("the peer answers");
    client
}

#[tokio::test]
async fn reads_are_repeated_and_writes_that_may_be_only_if_asked() {
    let get = || Command::new("GET").arg("k");
    let set = || Command::new("SET").arg("k").arg("v");
    let incr = || Command::new("INCR").arg("k");
    let default = RetryPolicy::default();
    for (command, policy, sent) in [
        (get(), default, 2),
        (get(), default.with_reads(false), 1),
        (get(), RetryPolicy::never(), 1),
        (set(), default, 1),
        (set(), default.with_idempotent_writes(true), 2),
        (incr(), default.with_idempotent_writes(true), 1),
    ] {
        let (peer, commands) = loses(1).await;
        let client = useful(config(&peer.url(), Duration::from_secs(10)).with_retry(policy)).await;
        let outcome = in_time(client.query::<String>(command.clone())).await;
        assert_eq!(commands.load(Ordering::SeqCst), sent, "{command:?} {policy:?}");
        match outcome {
            Ok(answer) => assert!(sent == 2 && answer == "k"),
            Err(error) => {
                assert!(sent == 1 && error.is_closed(), "{error:?}");
                assert_eq!(error.send_state(), SendState::MaybeSent);
            }
        }
        // Of a pipeline, every command has to be of the kind.
        let (peer, commands) = loses(1).await;
        let client = useful(config(&peer.url(), Duration::from_secs(10)).with_retry(policy)).await;
        let mut pipeline = respire::Pipeline::new();
        pipeline.push(command.clone()).push(incr());
        assert!(in_time(client.pipeline(pipeline)).await.is_err());
        assert_eq!(commands.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn of_several_attempts_the_error_says_the_most_that_may_have_been_sent() {
    let peer = ScriptedPeer::start(|mut connection, number| async move {
        if number == 0 {
            connection.shake_hands().await;
            connection.command().await;
            connection.send("+PONG\r\n").await;
            connection.command().await;
        }
    })
    .await;
    let client = useful(config(&peer.url(), Duration::from_secs(10))).await;
    let error = in_time(client.execute(Command::new("GET").arg("k"))).await.unwrap_err();
    assert!(error.is_connect(), "{error:?}");
    assert_eq!(error.send_state(), SendState::MaybeSent);
}

#[tokio::test]
async fn an_unconnected_client_connects_when_it_is_used() {
    each_way(Ways::All, &[], async |_server: TlsServer, config: Config, _: &str| {
        let client = Client::unconnected(config.clone());
        assert_eq!(client.protocol(), None);
        assert_eq!(in_time(client.query::<u32>(echo(1))).await.unwrap(), 1);
        assert!(client.protocol().is_some());
        in_time(client.close()).await;
        let error = in_time(client.execute(echo(2))).await.unwrap_err();
        assert!(error.is_closed() && error.send_state() == SendState::NotSent, "{error:?}");
        // One that was never used has nothing to close.
        in_time(Client::unconnected(config).close()).await;
    })
    .await;
}

#[tokio::test]
async fn who_waits_in_vain_is_told_what_for() {
    let url = {
        let peer = ScriptedPeer::start(|_, _| async {}).await;
        peer.url()
    };
    let config = config(&url, Duration::from_millis(300)).with_when_down(WhenDown::Wait);
    let client = Client::unconnected(config);
    let pop = Command::new("BLPOP").arg("k").arg(10);
    for command in [echo(1), pop] {
        let client = client.with_deadline(Instant::now() + Duration::from_millis(300));
        let error = in_time(client.execute(command)).await.unwrap_err();
        assert!(error.is_timeout() || error.is_connect(), "{error:?}");
        assert_eq!(error.send_state(), SendState::NotSent);
        assert!(format!("{error:#}").contains("refused"), "{error:#}");
    }
}

#[test]
fn what_takes_a_runtime_is_an_error_without_one() {
    /// What a future comes to that is polled once, by no runtime.
    fn once<F: Future>(future: F) -> std::task::Poll<F::Output> {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        std::pin::pin!(future).poll(&mut cx)
    }
    let server = server(Flavour::Valkey, &[]);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let config = config(&server.url(), patience()).with_driver_thread(true);
    let (client, _subscription) = runtime.block_on(async {
        let client = Client::with_config(config).await.unwrap();
        let subscription = client.subscribe(["a"]).await.unwrap();
        (client, subscription)
    });
    let std::task::Poll::Ready(Err(error)) = once(client.subscribe(["b"])) else {
        panic!("it cannot wait")
    };
    assert!(error.is_usage(), "{error:?}");
    let std::task::Poll::Ready(Err(error)) = once(client.cached(Default::default())) else {
        panic!("it cannot be kept")
    };
    assert!(error.is_usage(), "{error:?}");
}
