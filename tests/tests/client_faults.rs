//! The client against a peer that does what a real server cannot be made to do.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use respire::{Client, Command, Config, Error, SendState};
use respire_tests::peer::ScriptedPeer;

/// Beyond this, a future counts as hung. Deadlines in these tests are far below; the machine may be busy.
const HUNG: Duration = Duration::from_secs(20);

fn config(url: &str, command_timeout: Duration) -> Config {
    url.parse::<Config>()
        .expect("the peer's URL is one of ours")
        .with_command_timeout(Some(command_timeout))
        .with_connect_timeout(Duration::from_secs(10))
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(HUNG, future).await.expect("a future that hangs")
}

fn get() -> Command {
    Command::new("GET").arg("k")
}

#[tokio::test]
async fn a_server_that_accepts_and_never_answers_is_a_connect_timeout() {
    let peer = ScriptedPeer::start(|connection, _| connection.freeze()).await;
    let config: Config = peer.url().parse().unwrap();
    let config = config.with_connect_timeout(Duration::from_millis(100));
    let error = in_time(Client::with_config(config)).await.unwrap_err();
    assert!(error.is_connect() && error.is_timeout(), "{error:?}");
}

#[tokio::test]
async fn a_server_that_stops_answering_ends_each_request_at_its_deadline() {
    let peer = ScriptedPeer::start(|mut connection, _| async move {
        connection.shake_hands().await;
        connection.swallow().await;
    })
    .await;
    let timeout = Duration::from_millis(150);
    let client = in_time(Client::with_config(config(&peer.url(), timeout))).await.unwrap();
    let start = Instant::now();
    let requests: Vec<_> = (0..50)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.execute(get()).await })
        })
        .collect();
    for request in requests {
        let error = in_time(request).await.unwrap().unwrap_err();
        assert!(error.is_timeout(), "{error:?}");
        assert_eq!(error.send_state(), SendState::MaybeSent);
    }
    assert!(start.elapsed() >= timeout);
}

#[tokio::test]
async fn a_connection_on_which_nothing_is_answered_is_replaced() {
    let peer = ScriptedPeer::start(|mut connection, number| async move {
        connection.shake_hands().await;
        if number == 0 {
            connection.swallow().await;
        }
        while connection.command().await.is_some() {
            connection.send("+second\r\n").await;
        }
    })
    .await;
    let timeout = Duration::from_millis(100);
    let client = in_time(Client::with_config(config(&peer.url(), timeout))).await.unwrap();
    assert!(in_time(client.execute(get())).await.unwrap_err().is_timeout());
    let answer: String = in_time(client.query(get())).await.unwrap();
    assert_eq!(answer, "second");
}

#[tokio::test]
async fn a_reply_after_its_deadline_goes_to_nobody() {
    let peer = ScriptedPeer::start(|mut connection, _| async move {
        connection.shake_hands().await;
        // The last one but one is the check that follows a timeout.
        let mut replies = String::new();
        for _ in 0..3 {
            replies += &format!("+{}\r\n", connection.command().await.unwrap()[1]);
        }
        connection.send(replies).await;
        connection.swallow().await;
    })
    .await;
    let client =
        in_time(Client::with_config(config(&peer.url(), Duration::from_secs(10)))).await.unwrap();
    let hasty = client.with_command_timeout(Some(Duration::from_millis(50)));
    assert!(in_time(hasty.execute(Command::new("ECHO").arg("1"))).await.unwrap_err().is_timeout());
    let answer: String = in_time(client.query(Command::new("ECHO").arg("2"))).await.unwrap();
    assert_eq!(answer, "2");
}

#[tokio::test]
async fn half_a_reply_and_then_the_end_is_an_error() {
    let peer = ScriptedPeer::start(|mut connection, _| async move {
        connection.shake_hands().await;
        connection.command().await;
        connection.send("*3\r\n$3\r\none\r\n$3\r\ntw").await;
    })
    .await;
    let client =
        in_time(Client::with_config(config(&peer.url(), Duration::from_secs(10)))).await.unwrap();
    let error = in_time(client.execute(get())).await.unwrap_err();
    assert!(error.is_closed() && error.to_string().contains("middle of a reply"), "{error:?}");
    assert_eq!(error.send_state(), SendState::MaybeSent);
}

#[tokio::test]
async fn what_is_not_resp_is_a_protocol_error_that_says_where() {
    let peer = ScriptedPeer::start(|mut connection, _| async move {
        connection.shake_hands().await;
        connection.command().await;
        connection.send("HTTP/1.1 400 Bad Request\r\n\r\n").await;
        connection.swallow().await;
    })
    .await;
    let client =
        in_time(Client::with_config(config(&peer.url(), Duration::from_secs(10)))).await.unwrap();
    let error = in_time(client.execute(get())).await.unwrap_err();
    assert!(error.is_protocol(), "{error:?}");
    let cause = std::error::Error::source(&error).expect("the decoder's error");
    let cause: &respire::codec::DecodeError = cause.downcast_ref().expect("the decoder's error");
    assert_eq!(cause.type_byte(), b'H', "{cause}");
}

#[tokio::test]
async fn a_reply_that_nobody_asked_for_ends_the_connection() {
    let peer = ScriptedPeer::start(|mut connection, number| async move {
        connection.shake_hands().await;
        if number == 0 {
            connection.send("+surprise\r\n").await;
        }
        while connection.command().await.is_some() {
            connection.send("+asked\r\n").await;
        }
    })
    .await;
    let client =
        in_time(Client::with_config(config(&peer.url(), Duration::from_secs(10)))).await.unwrap();
    // The surprise comes while nothing is asked.
    tokio::time::sleep(Duration::from_millis(100)).await;
    for _ in 0..100 {
        match in_time(client.query::<String>(get())).await {
            Ok(answer) => {
                assert_eq!(answer, "asked", "on the connection that took its place");
                return;
            }
            // For a moment after a connection that was of no use, requests fail at once.
            Err(error) => {
                assert!(error.is_protocol(), "{error:?}");
                assert_eq!(error.send_state(), SendState::NotSent);
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the connection is not replaced");
}

#[tokio::test]
async fn an_announced_value_that_never_comes_is_a_timeout() {
    let peer = ScriptedPeer::start(|mut connection, _| async move {
        connection.shake_hands().await;
        connection.command().await;
        connection.send("$536870912\r\nabc").await;
        connection.swallow().await;
    })
    .await;
    let client = in_time(Client::with_config(config(&peer.url(), Duration::from_millis(100))))
        .await
        .unwrap();
    assert!(in_time(client.execute(get())).await.unwrap_err().is_timeout());
}

#[tokio::test]
async fn a_refused_port_is_a_connect_error() {
    // A port that was just free, and that nobody listens on any more.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let error = in_time(Client::connect(&format!("127.0.0.1:{port}"))).await.unwrap_err();
    assert!(error.is_connect() && !error.is_timeout(), "{error:?}");
    assert!(error.to_string().contains(&port.to_string()), "{error}");
    let error = in_time(Client::connect("unix:///nonexistent/respire.sock")).await.unwrap_err();
    assert!(error.is_connect() && error.to_string().contains("respire.sock"), "{error}");
    let error = in_time(Client::connect("no-such-host.invalid")).await.unwrap_err();
    assert!(error.is_connect(), "{error:?}");
}

#[tokio::test]
async fn all_who_wait_share_one_dial() {
    let dials = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&dials);
    let peer = ScriptedPeer::start(move |mut connection, number| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move {
            connection.shake_hands().await;
            if number == 0 {
                return;
            }
            while let Some(command) = connection.command().await {
                connection.send(format!("+{}\r\n", command[1])).await;
            }
        }
    })
    .await;
    let client =
        in_time(Client::with_config(config(&peer.url(), Duration::from_secs(10)))).await.unwrap();
    // The first connection ends at once; all of these find it gone.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let requests: Vec<_> = (0..200_u32)
        .map(|at| {
            let client = client.clone();
            tokio::spawn(async move { client.query::<u32>(Command::new("ECHO").arg(at)).await })
        })
        .collect();
    for (at, request) in requests.into_iter().enumerate() {
        assert_eq!(in_time(request).await.unwrap().unwrap() as usize, at);
    }
    assert_eq!(dials.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_deadline_is_kept_while_the_connection_is_dialled() {
    let peer = ScriptedPeer::start(|mut connection, number| async move {
        if number == 0 {
            connection.shake_hands().await;
            return;
        }
        // The next handshake is never answered.
        connection.freeze().await;
    })
    .await;
    let timeout = Duration::from_millis(100);
    let client = in_time(Client::with_config(config(&peer.url(), timeout))).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let requests: Vec<_> = (0..50)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.execute(get()).await })
        })
        .collect();
    for request in requests {
        let error = in_time(request).await.unwrap().unwrap_err();
        assert!(error.is_timeout() && !error.is_connect(), "it is the request's own: {error:?}");
        assert_eq!(error.send_state(), SendState::NotSent);
    }
}

#[tokio::test]
async fn a_server_that_shakes_hands_and_closes_is_not_dialled_in_a_storm() {
    let dials = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&dials);
    let peer = ScriptedPeer::start(move |mut connection, _| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move { connection.shake_hands().await }
    })
    .await;
    let client =
        in_time(Client::with_config(config(&peer.url(), Duration::from_secs(10)))).await.unwrap();
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(500) {
        in_time(client.execute(get())).await.unwrap_err();
        tokio::task::yield_now().await;
    }
    let dials = dials.load(Ordering::SeqCst);
    assert!(dials < 15, "{dials} dials in half a second");
}

#[tokio::test]
async fn closing_waits_for_a_connection_that_was_given_up_as_well() {
    let peer = ScriptedPeer::start(|mut connection, number| async move {
        connection.shake_hands().await;
        if number == 0 {
            connection.command().await;
            connection.command().await;
            tokio::time::sleep(Duration::from_millis(600)).await;
            connection.send("+late\r\n+and later\r\n").await;
        }
        while connection.command().await.is_some() {
            connection.send("+second\r\n").await;
        }
    })
    .await;
    let client = in_time(Client::with_config(config(&peer.url(), Duration::from_millis(100))))
        .await
        .unwrap();
    let hasty = client.clone();
    let hasty = tokio::spawn(async move { hasty.execute(get()).await });
    tokio::time::sleep(Duration::from_millis(20)).await;
    let patient = client.with_command_timeout(Some(Duration::from_secs(10)));
    let patient = tokio::spawn(async move { patient.query::<String>(get()).await });
    assert!(in_time(hasty).await.unwrap().unwrap_err().is_timeout());
    let second: String = in_time(client.query(get())).await.unwrap();
    assert_eq!(second, "second");
    in_time(client.close()).await;
    assert!(patient.is_finished() || in_time(patient).await.is_ok());
}

#[tokio::test]
async fn while_the_server_is_down_requests_fail_fast_and_dials_are_few() {
    let dials = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&dials);
    let peer = ScriptedPeer::start(move |mut connection, number| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move {
            if number == 0 {
                connection.shake_hands().await;
            }
            // Every later connection is closed at once.
        }
    })
    .await;
    let client =
        in_time(Client::with_config(config(&peer.url(), Duration::from_secs(10)))).await.unwrap();
    let start = Instant::now();
    let mut failures = 0;
    while start.elapsed() < Duration::from_millis(500) {
        let error: Error = in_time(client.execute(get())).await.unwrap_err();
        assert!(error.is_connect() || error.is_closed(), "{error:?}");
        assert_eq!(error.send_state(), SendState::NotSent);
        failures += 1;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let dials = dials.load(Ordering::SeqCst);
    assert!(failures > 2 * dials, "{failures} failures, {dials} dials");
    assert!(dials < 12, "{dials} dials in half a second");
}

#[tokio::test]
async fn pushes_between_replies_shift_nothing() {
    let peer = ScriptedPeer::start(|mut connection, _| async move {
        connection.shake_hands().await;
        while let Some(command) = connection.command().await {
            let push = ">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n";
            connection.send(format!("{push}+{}\r\n{push}{push}", command[1])).await;
        }
    })
    .await;
    let client =
        in_time(Client::with_config(config(&peer.url(), Duration::from_secs(10)))).await.unwrap();
    for at in 0..100_u32 {
        let answer: u32 = in_time(client.query(Command::new("ECHO").arg(at))).await.unwrap();
        assert_eq!(answer, at);
    }
}

#[tokio::test]
async fn a_request_lost_with_its_connection_is_not_sent_twice() {
    let commands = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&commands);
    let peer = ScriptedPeer::start(move |mut connection, _| {
        let counted = Arc::clone(&counted);
        async move {
            connection.shake_hands().await;
            if connection.command().await.is_some() {
                counted.fetch_add(1, Ordering::SeqCst);
            }
            // Received, perhaps carried out, and never answered.
        }
    })
    .await;
    let client =
        in_time(Client::with_config(config(&peer.url(), Duration::from_secs(10)))).await.unwrap();
    let error = in_time(client.execute(Command::new("INCR").arg("n"))).await.unwrap_err();
    assert!(error.is_closed() && error.send_state() == SendState::MaybeSent, "{error:?}");
    assert_eq!(commands.load(Ordering::SeqCst), 1);
}
