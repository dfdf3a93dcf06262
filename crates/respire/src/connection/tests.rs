//! The driver over an in-process pair: what depends on how much a transport takes or gives at a time.

use std::{sync::Arc, time::Duration};

use respire_codec::{Decoder, DecoderConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};

use super::{
    dial::shake_hands,
    driver::{Guard, drive},
    *,
};
use crate::{
    command::{Command, Pipeline},
    config::Address,
    error::SendState,
    transport::{self, Transport, memory},
};

pub(super) fn config() -> Config {
    Config::new(Address::Tcp { host: "in-process".to_owned(), port: 1 })
}

/// A connection whose peer's end the test holds, after the handshake.
async fn connected(
    capacity: usize,
) -> (Arc<Connection>, DuplexStream, tokio::task::JoinHandle<()>) {
    let (ours, theirs) = memory::pair(capacity);
    connected_over(ours, theirs).await
}

pub(super) async fn connected_over<P: AsyncRead + AsyncWrite + Unpin>(
    ours: Transport,
    mut theirs: P,
) -> (Arc<Connection>, P, tokio::task::JoinHandle<()>) {
    let connection = Arc::new(Connection::new(Bounds {
        commands: 1000,
        bytes: 1 << 20,
        stall: Some(Duration::from_secs(1)),
    }));
    let guard = Guard(Arc::clone(&connection));
    let driver = tokio::spawn(async move {
        let established = shake_hands(ours, &config()).await.expect("the peer shakes hands");
        let error = drive(&guard.0, established).await;
        guard.0.fail(&error);
    });
    for reply in ["%1\r\n+proto\r\n:3\r\n", "+OK\r\n", "+OK\r\n"] {
        command(&mut theirs).await;
        theirs.write_all(reply.as_bytes()).await.unwrap();
    }
    connection.opened().await.unwrap();
    (connection, theirs, driver)
}

/// Reads one command, byte by byte so that nothing behind it is taken.
pub(super) async fn command(peer: &mut (impl AsyncRead + Unpin)) -> Vec<String> {
    let mut decoder = Decoder::new(DecoderConfig::default());
    let mut buffer = bytes::BytesMut::new();
    loop {
        buffer.extend_from_slice(&[peer.read_u8().await.expect("a command")]);
        if let Some(frame) = decoder.decode(&mut buffer).unwrap() {
            return frame.parse().unwrap();
        }
    }
}

pub(super) fn get(key: &str) -> Packet {
    Command::new("GET").arg(key).into_packet().unwrap()
}

pub(super) fn text(replies: Replies) -> Vec<String> {
    replies.into_vec().iter().map(|frame| frame.parse().unwrap()).collect()
}

#[tokio::test]
async fn requests_and_replies_pass_a_transport_of_a_few_bytes_at_a_time() {
    let (connection, peer, _driver) = connected(3).await;
    let (mut read, mut write) = tokio::io::split(peer);
    let large = Command::new("SET").arg("k").arg(vec![b'v'; 50_000]).into_packet().unwrap();
    let requests = [get("a"), large, get("b")];
    let bytes: usize = requests.iter().map(Packet::len).sum();
    let drain = tokio::spawn(async move {
        let mut sink = vec![0; bytes];
        read.read_exact(&mut sink).await.unwrap();
        sink
    });
    let pending: Vec<_> =
        requests.into_iter().map(|request| connection.submit(&request, None).unwrap()).collect();
    let sent = drain.await.unwrap();
    assert!(sent.starts_with(b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n*3\r\n$3\r\nSET"));
    assert!(sent.ends_with(b"*2\r\n$3\r\nGET\r\n$1\r\nb\r\n"));
    tokio::spawn(async move { write.write_all(b"$1\r\n1\r\n+OK\r\n$1\r\n2\r\n").await });
    let mut replies = Vec::new();
    for pending in pending {
        replies.extend(text(pending.await.unwrap()));
    }
    assert_eq!(replies, ["1", "OK", "2"]);
}

#[tokio::test]
async fn a_peer_that_stops_reading_does_not_stop_us_reading() {
    let (connection, mut peer, _driver) = connected(64).await;
    let first = connection.submit(&get("a"), None).unwrap();
    command(&mut peer).await;
    // The peer reads nothing of this, so that the transport stays full.
    let blocked = connection
        .submit(&Command::new("SET").arg("k").arg(vec![b'v'; 10_000]).into_packet().unwrap(), None)
        .unwrap();
    tokio::task::yield_now().await;
    peer.write_all(b"+first\r\n").await.unwrap();
    assert_eq!(text(first.await.unwrap()), ["first"]);
    command(&mut peer).await;
    peer.write_all(b"+second\r\n").await.unwrap();
    assert_eq!(text(blocked.await.unwrap()), ["second"]);
}

#[tokio::test]
async fn half_a_reply_and_then_the_end_is_an_error_of_its_own() {
    let (connection, mut peer, _driver) = connected(1024).await;
    let pending = connection.submit(&get("a"), None).unwrap();
    command(&mut peer).await;
    peer.write_all(b"$5\r\nhel").await.unwrap();
    drop(peer);
    let error = pending.await.unwrap_err();
    assert!(error.is_closed() && error.to_string().contains("middle of a reply"), "{error}");
    assert_eq!(error.send_state(), SendState::MaybeSent);
    connection.finished().await;
    assert!(!connection.accepts());
}

#[tokio::test]
async fn what_is_not_resp_ends_the_connection_after_the_replies_before_it() {
    let (connection, mut peer, _driver) = connected(1024).await;
    let good = connection.submit(&get("a"), None).unwrap();
    let bad = connection.submit(&get("b"), None).unwrap();
    command(&mut peer).await;
    command(&mut peer).await;
    peer.write_all(b"+good\r\nHTTP/1.1 400\r\n").await.unwrap();
    assert_eq!(text(good.await.unwrap()), ["good"]);
    assert!(bad.await.unwrap_err().is_protocol());
}

#[tokio::test]
async fn the_servers_last_words_are_in_the_error() {
    let (connection, mut peer, _driver) = connected(1024).await;
    peer.write_all(b"-ERR the server is going\r\n").await.unwrap();
    connection.finished().await;
    let error = connection.ended_early().unwrap().1;
    assert_eq!(error.server_error().unwrap().message(), "the server is going");
}

#[tokio::test]
async fn replies_that_came_with_the_handshake_are_not_lost() {
    let (ours, mut theirs) = memory::pair(1024);
    let connection = Arc::new(Connection::new(Bounds { commands: 10, bytes: 1000, stall: None }));
    theirs
        .write_all(b"%1\r\n+proto\r\n:3\r\n+OK\r\n+OK\r\n>1\r\n+hello\r\n-ERR and goodbye\r\n")
        .await
        .unwrap();
    let established = shake_hands(ours, &config()).await.unwrap();
    let error = drive(&connection, established).await;
    assert_eq!(error.server_error().unwrap().message(), "and goodbye");
}

#[tokio::test(start_paused = true)]
async fn deadlines_are_kept_while_nothing_comes() {
    let (connection, mut peer, _driver) = connected(1024).await;
    let start = tokio::time::Instant::now();
    let deadline = |millis| Some((start + Duration::from_millis(millis)).into_std());
    let late = connection.submit(&get("late"), deadline(300)).unwrap();
    let early = connection.submit(&get("early"), deadline(20)).unwrap();
    assert!(early.await.unwrap_err().is_timeout());
    let passed = start.elapsed();
    assert!((20..=22).contains(&passed.as_millis()), "{passed:?}");
    assert!(late.await.unwrap_err().is_timeout());
    let passed = start.elapsed();
    assert!((300..=302).contains(&passed.as_millis()), "{passed:?}");
    // The replies come after all, and the connection is still good.
    command(&mut peer).await;
    command(&mut peer).await;
    peer.write_all(b"+late\r\n+early\r\n").await.unwrap();
    let next = connection.submit(&get("next"), None).unwrap();
    command(&mut peer).await;
    peer.write_all(b"+next\r\n").await.unwrap();
    assert_eq!(text(next.await.unwrap()), ["next"]);
}

#[tokio::test(start_paused = true)]
async fn a_lone_request_is_told_of_its_deadline_though_an_alarm_went_off_before() {
    let (connection, mut peer, _driver) = connected(1024).await;
    let deadline =
        |millis| Some((tokio::time::Instant::now() + Duration::from_millis(millis)).into_std());
    for at in 0..=ALONE_STREAK + 2 {
        if at > ALONE_STREAK + 1 {
            // The alarm for the requests before goes off, with nothing under way.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let request =
            connection.submit(&get("k"), deadline(100).filter(|_| at <= ALONE_STREAK + 1)).unwrap();
        let answer = async {
            command(&mut peer).await;
            peer.write_all(b"+v\r\n").await.unwrap();
        };
        assert_eq!(text(tokio::join!(request, answer).0.unwrap()), ["v"]);
    }
    let start = tokio::time::Instant::now();
    let late = connection.submit(&get("late"), deadline(2)).unwrap();
    assert!(matches!(connection.state().receiver, Receiver::Caller(_)));
    assert!(late.await.unwrap_err().is_timeout());
    let passed = start.elapsed();
    assert!((2..=4).contains(&passed.as_millis()), "{passed:?}");
}

#[tokio::test]
async fn dropping_futures_at_any_point_shifts_no_reply() {
    let (connection, mut peer, _driver) = connected(1 << 16).await;
    let mut kept = Vec::new();
    for at in 0..300 {
        let mut pipeline = Pipeline::new();
        pipeline.command(&["ECHO", &at.to_string()]).command(&["ECHO", "x"]);
        let pending = connection.submit(&pipeline.into_packet().unwrap(), None).unwrap();
        match at % 3 {
            0 => drop(pending),
            1 => {
                let polled = tokio::time::timeout(Duration::ZERO, pending).await;
                assert!(polled.is_err(), "nothing was answered yet");
            }
            _ => kept.push((at, pending)),
        }
    }
    for at in 0..300 {
        for expected in [at.to_string(), "x".to_owned()] {
            let command = command(&mut peer).await;
            assert_eq!(command[1], expected);
            peer.write_all(format!("+{expected}\r\n").as_bytes()).await.unwrap();
        }
    }
    for (at, pending) in kept {
        assert_eq!(text(pending.await.unwrap()), [at.to_string(), "x".to_owned()]);
    }
}

#[tokio::test]
async fn a_runtime_that_shuts_down_ends_what_waits() {
    let (connection, _peer, driver) = connected(1024).await;
    let pending = connection.submit(&get("a"), None).unwrap();
    driver.abort();
    let error = pending.await.unwrap_err();
    assert!(error.is_closed() && error.to_string().contains("runtime"), "{error}");
}

/// A peer that answers each command with its last word until the test ends.
pub(super) fn echo(mut peer: DuplexStream) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            let words = command(&mut peer).await;
            let reply = format!("+{}\r\n", words.last().unwrap());
            if peer.write_all(reply.as_bytes()).await.is_err() {
                return;
            }
        }
    })
}

pub(super) async fn one_at_a_time(connection: &Arc<Connection>) {
    for at in 0..=ALONE_STREAK + 2 {
        let key = at.to_string();
        assert_eq!(text(connection.submit(&get(&key), None).unwrap().await.unwrap()), [key]);
    }
}

#[tokio::test]
async fn a_request_that_is_alone_is_received_by_its_caller_and_others_by_the_driver() {
    let (connection, peer, _driver) = connected(1 << 16).await;
    let _peer = echo(peer);
    one_at_a_time(&connection).await;
    let lone = connection.submit(&get("lone"), None).unwrap();
    assert!(matches!(connection.state().receiver, Receiver::Caller(_)));
    let second = connection.submit(&get("second"), None).unwrap();
    assert_eq!(connection.state().receiver, Receiver::Driver);
    // The first one has not been polled, so that its bytes are still to be sent; the second one's go after them.
    let (lone, second) = tokio::join!(lone, second);
    assert_eq!(text(lone.unwrap()), ["lone"]);
    assert_eq!(text(second.unwrap()), ["second"]);
}

#[tokio::test]
async fn roles_come_back_from_a_request_that_is_dropped() {
    let (connection, peer, _driver) = connected(1 << 16).await;
    let _peer = echo(peer);
    for poll in [false, true] {
        one_at_a_time(&connection).await;
        let mut lone = Box::pin(connection.submit(&get("dropped"), None).unwrap());
        if poll {
            let polled =
                std::future::poll_fn(|cx| Poll::Ready(lone.as_mut().poll(cx).is_pending()));
            assert!(polled.await);
        }
        drop(lone);
        {
            let state = connection.state();
            assert!(!state.sending && state.receiver == Receiver::Driver);
        }
        let next = connection.submit(&get("next"), None).unwrap();
        assert_eq!(text(next.await.unwrap()), ["next"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_check_is_received_though_the_future_of_a_lone_request_is_not_polled() {
    let (connection, mut peer, _driver) = connected(1 << 16).await;
    connection.check(Checks { after_timeout: true, period: None });
    for _ in 0..=ALONE_STREAK {
        let request = connection.submit(&get("k"), None).unwrap();
        let answer = async {
            command(&mut peer).await;
            peer.write_all(b"+v\r\n").await.unwrap();
        };
        assert_eq!(text(tokio::join!(request, answer).0.unwrap()), ["v"]);
    }
    let deadline = tokio::time::Instant::now() + Duration::from_millis(50);
    let mut lone = Box::pin(connection.submit(&get("late"), Some(deadline.into_std())).unwrap());
    let polled = std::future::poll_fn(|cx| Poll::Ready(lone.as_mut().poll(cx).is_pending()));
    assert!(polled.await);
    assert!(matches!(connection.state().receiver, Receiver::Caller(_)));
    // It is overdue when it is answered, and its task is busy with something else.
    command(&mut peer).await;
    assert_eq!(command(&mut peer).await[0], "PING");
    peer.write_all(b"+late\r\n-LOADING and so not checked\r\n").await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(connection.accepts(), "it is given up though all was answered");
    assert!(lone.await.unwrap_err().is_timeout());
}

#[tokio::test]
async fn the_end_of_a_connection_is_noticed_after_its_last_caller_is_done() {
    let (connection, peer, _driver) = connected(1 << 16).await;
    let peer = echo(peer);
    one_at_a_time(&connection).await;
    assert_eq!(connection.state().receiver, Receiver::Nobody);
    peer.abort();
    tokio::time::timeout(Duration::from_secs(20), connection.finished()).await.expect("it hangs");
}

#[cfg(unix)]
#[tokio::test]
async fn a_peer_that_reads_no_more_ends_the_connection_without_any_deadline() {
    for alone in [false, true] {
        let (ours, theirs) = tokio::net::UnixStream::pair().unwrap();
        let (receive, send) = ours.into_split();
        let transport = Transport::of_streams(receive, send);
        let (connection, mut peer, _driver) = connected_over(transport, theirs).await;
        if alone {
            for _ in 0..=ALONE_STREAK {
                let request = connection.submit(&get("k"), None).unwrap();
                let answer = async {
                    command(&mut peer).await;
                    peer.write_all(b"+v\r\n").await.unwrap();
                };
                assert_eq!(text(tokio::join!(request, answer).0.unwrap()), ["v"]);
            }
        }
        let peer = peer.into_std().unwrap();
        peer.shutdown(std::net::Shutdown::Read).unwrap();
        let request = connection.submit(&get("k"), None).unwrap();
        let outcome = tokio::time::timeout(Duration::from_secs(20), request).await;
        let error = outcome.expect("it hangs").unwrap_err();
        assert!(error.is_closed() && error.send_state() == SendState::NotSent, "{error:?}");
    }
}

/// Has a task of its own that listens to each push.
#[derive(Debug, Default)]
struct Listened(std::sync::atomic::AtomicUsize);

impl PushSink for Listened {
    fn handle_push(&self, _: ConnectionId, _: respire_codec::Frame, woken: &mut Vec<Waker>) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        woken.push(Waker::noop().clone());
    }

    fn handle_end(&self, _: ConnectionId, _: &mut Vec<Waker>) {}

    fn is_urgent(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn who_listens_to_pushes_is_not_waited_for() {
    let (connection, mut peer, _driver) = connected(1024).await;
    let listened = Arc::new(Listened::default());
    let sink: Arc<dyn PushSink> = Arc::<Listened>::clone(&listened);
    connection.state().session.attach(connection.id(), sink);
    peer.write_all(">1\r\n+news\r\n".repeat(8).as_bytes()).await.unwrap();
    while listened.0.load(std::sync::atomic::Ordering::Relaxed) < 8 {
        tokio::task::yield_now().await;
        assert_eq!(connection.state().returning, 0);
    }
}

#[tokio::test]
async fn a_task_that_drops_what_it_was_woken_for_is_not_waited_for() {
    let (connection, mut peer, _driver) = connected(1024).await;
    let mut held = Vec::new();
    for at in 0..6 {
        let mut pending = Box::pin(connection.submit(&get(&at.to_string()), None).unwrap());
        let mut cx = Context::from_waker(Waker::noop());
        assert!(pending.as_mut().poll(&mut cx).is_pending());
        held.push(pending);
    }
    for _ in 0..6 {
        command(&mut peer).await;
    }
    peer.write_all("+v\r\n".repeat(6).as_bytes()).await.unwrap();
    while connection.state().returning == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(connection.state().returning, 6);
    held.truncate(2);
    assert_eq!(connection.state().returning, 2);
    held.clear();
    assert_eq!(connection.state().returning, 0);
}

/// Has a push whenever it is asked, so many times.
struct Flood {
    left: Arc<std::sync::atomic::AtomicUsize>,
    inner: Box<dyn transport::ReceiveHalf>,
}

impl transport::ReceiveHalf for Flood {
    fn poll_receive<'a>(
        &'a mut self,
        cx: &mut Context<'_>,
        buffer: &mut bytes::BytesMut,
    ) -> Poll<std::io::Result<transport::Received<'a>>> {
        use std::sync::atomic::Ordering::Relaxed;
        if self.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_err() {
            return self.inner.poll_receive(cx, buffer);
        }
        buffer.extend_from_slice(b">1\r\n+news\r\n");
        Poll::Ready(Ok(transport::Received::Filled(12)))
    }
}

#[tokio::test]
async fn a_caller_that_receives_lets_others_run_though_there_is_always_something() {
    let (ours, theirs) = memory::pair(1 << 16);
    let left = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let flood = Flood { left: Arc::clone(&left), inner: ours.receive };
    let transport = Transport { receive: Box::new(flood), send: ours.send };
    let (connection, peer, _driver) = connected_over(transport, theirs).await;
    let _peer = echo(peer);
    one_at_a_time(&connection).await;
    let mut lone = Box::pin(connection.submit(&get("lone"), None).unwrap());
    assert!(matches!(connection.state().receiver, Receiver::Caller(_)));
    left.store(1000, std::sync::atomic::Ordering::Relaxed);
    let polled = std::future::poll_fn(|cx| Poll::Ready(lone.as_mut().poll(cx).is_pending()));
    assert!(polled.await);
    let left = left.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(left, 1000 - CALLERS_RECEIVES_A_TURN, "others wait");
    assert_eq!(text(lone.await.unwrap()), ["lone"], "it goes on by itself");
}
