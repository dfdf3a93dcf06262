//! Transports that are not like a socket: one that lends its memory, one that holds back what it took, one whose halves
//! learn of everything from one queue of completions.

use std::{collections::VecDeque, io, pin::Pin, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf},
    sync::mpsc,
};

use super::{super::tests::*, *};
use crate::{
    session::Replies,
    transport::{ByteStream, Transport},
};

/// Beyond this, a future counts as hung.
const HUNG: Duration = Duration::from_secs(20);

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(HUNG, future).await.expect("a future that hangs")
}

/// Receives into a window of memory, strictly forward, and begins anew when its last byte was released, as registered
/// memory does. What was released is overwritten.
struct LendingHalf {
    stream: tokio::io::ReadHalf<DuplexStream>,
    window: Vec<u8>,
    filled: usize,
    released: usize,
}

impl ReceiveHalf for LendingHalf {
    fn poll_receive<'a>(
        &'a mut self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<transport::Received<'a>>> {
        assert!(buffer.capacity() > buffer.len(), "the buffer has room");
        if self.released == self.window.len() {
            (self.filled, self.released) = (0, 0);
        }
        assert!(self.filled < self.window.len(), "a full window was to be released");
        let mut room = ReadBuf::new(&mut self.window[self.filled..]);
        std::task::ready!(Pin::new(&mut self.stream).poll_read(cx, &mut room))?;
        let count = room.filled().len();
        if count == 0 {
            return Poll::Ready(Ok(transport::Received::End));
        }
        self.filled += count;
        Poll::Ready(Ok(transport::Received::Lent(Lease {
            bytes: &self.window[self.released..self.filled],
            room: self.window.len() - self.filled,
        })))
    }

    fn release(&mut self, count: usize) {
        assert!(count <= self.filled - self.released, "not more than was lent");
        self.window[self.released..self.released + count].fill(b'?');
        self.released += count;
    }
}

fn lending(window: usize, capacity: usize) -> (Transport, DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(capacity);
    let (read, write) = tokio::io::split(ours);
    let half = LendingHalf { stream: read, window: vec![b'?'; window], filled: 0, released: 0 };
    (Transport::new(half, ByteStream(write)), theirs)
}

/// Requests enough for all replies, which the peer sends `piece` bytes at a time, and reads them back.
async fn replies_over(window: usize, piece: usize, replies: &[String]) -> Vec<String> {
    let (ours, theirs) = lending(window, 1 << 16);
    let (connection, peer, _driver) = connected_over(ours, theirs).await;
    let (mut read, mut write) = tokio::io::split(peer);
    tokio::spawn(
        async move { while read.read(&mut [0; 4096]).await.is_ok_and(|count| count > 0) {} },
    );
    let pending: Vec<_> =
        replies.iter().map(|_| connection.submit(&get("k"), None).unwrap()).collect();
    let wire: Vec<u8> = replies
        .iter()
        .flat_map(|reply| format!("${}\r\n{reply}\r\n", reply.len()).into_bytes())
        .collect();
    tokio::spawn(async move {
        for piece in wire.chunks(piece) {
            write.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        std::future::pending::<()>().await;
    });
    let mut seen = Vec::new();
    for pending in pending {
        seen.extend(text(in_time(pending).await.unwrap()));
    }
    seen
}

#[tokio::test]
async fn small_and_large_replies_pass_a_small_window_of_lent_memory() {
    let replies: Vec<String> = [0, 3, 20, 200, 5, 64, 57, 58, 59, 60, 20_000, 1, 3000, 63, 65]
        .iter()
        .enumerate()
        .map(|(at, size)| char::from(b'a' + at as u8).to_string().repeat(*size))
        .collect();
    for window in [1, 7, 64, 4096, 1 << 20] {
        for piece in [1, 13, 64, 5000] {
            if window * piece < 49 || window == 1 << 20 && piece == 1 {
                // Only slow.
                continue;
            }
            assert_eq!(replies_over(window, piece, &replies).await, replies, "{window} {piece}");
        }
    }
}

#[tokio::test]
async fn what_a_user_keeps_does_not_hold_up_the_window() {
    let (ours, theirs) = lending(64, 1 << 16);
    let (connection, peer, _driver) = connected_over(ours, theirs).await;
    let _peer = echo(peer);
    let mut kept: Vec<Replies> = Vec::new();
    for at in 0..100 {
        let pending = connection.submit(&get(&format!("reply {at}")), None).unwrap();
        kept.push(in_time(pending).await.unwrap());
    }
    for (at, replies) in kept.into_iter().enumerate() {
        assert_eq!(text(replies), [format!("reply {at}")], "the window was overwritten since");
    }
}

#[tokio::test]
async fn a_large_reply_that_fits_the_lent_memory_is_copied_once() {
    let (ours, theirs) = lending(1 << 20, 1 << 16);
    let (connection, mut peer, _driver) = connected_over(ours, theirs).await;
    let pending = connection.submit(&get("k"), None).unwrap();
    command(&mut peer).await;
    let value = vec![b'v'; 900_000];
    tokio::spawn(async move {
        peer.write_all(b"$900000\r\n").await.unwrap();
        peer.write_all(&value).await.unwrap();
        peer.write_all(b"\r\n").await.unwrap();
        std::future::pending::<()>().await;
    });
    let frame = in_time(pending).await.unwrap().into_one().unwrap();
    assert_eq!(frame.bytes().len(), 900_011);
    let wire = connection.wire.get().unwrap();
    assert_eq!(lock(&wire.receiving).largest, 0, "nothing came through the buffer");
    assert!(lock(&wire.receiving).received.capacity() <= 2 * READ_BYTES);
}

#[tokio::test]
async fn an_end_in_the_middle_of_lent_bytes_is_said_to_be_that() {
    let (ours, theirs) = lending(1024, 1024);
    let (connection, mut peer, _driver) = connected_over(ours, theirs).await;
    let pending = connection.submit(&get("a"), None).unwrap();
    command(&mut peer).await;
    peer.write_all(b"$5\r\nhel").await.unwrap();
    drop(peer);
    let error = in_time(pending).await.unwrap_err();
    assert!(error.is_closed() && error.to_string().contains("middle of a reply"), "{error}");
}

#[tokio::test]
async fn replies_before_what_is_not_resp_are_read_from_lent_memory() {
    let (ours, theirs) = lending(64, 1024);
    let (connection, mut peer, _driver) = connected_over(ours, theirs).await;
    let good = connection.submit(&get("a"), None).unwrap();
    let bad = connection.submit(&get("b"), None).unwrap();
    command(&mut peer).await;
    command(&mut peer).await;
    peer.write_all(b"+good\r\nHTTP/1.1 400\r\n").await.unwrap();
    assert_eq!(text(in_time(good).await.unwrap()), ["good"]);
    assert!(in_time(bad).await.unwrap_err().is_protocol());
}

/// Takes up to 100 bytes into a buffer of its own, and moves them on as the stream takes them: three at a time.
struct HoldingHalf {
    stream: tokio::io::WriteHalf<DuplexStream>,
    held: VecDeque<u8>,
}

impl SendHalf for HoldingHalf {
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<Taken>> {
        if self.poll_flush(cx)?.is_pending() && self.held.len() > 50 {
            return Poll::Pending;
        }
        let before = self.held.len();
        self.held.extend(slices.iter().flat_map(|slice| slice.iter()).take(100 - before));
        let taken = self.held.len() - before;
        // An error comes again.
        match self.poll_flush(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(Ok(Taken::sent(taken))),
            _ => Poll::Ready(Ok(Taken::held(taken))),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            let part: Vec<u8> = self.held.iter().copied().take(3).collect();
            let count = std::task::ready!(Pin::new(&mut self.stream).poll_write(cx, &part))?;
            self.held.drain(..count);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.poll_flush(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

fn holding(capacity: usize) -> (Transport, DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(capacity);
    let (read, write) = tokio::io::split(ours);
    let half = HoldingHalf { stream: write, held: VecDeque::new() };
    (Transport::new(ByteStream(read), half), theirs)
}

#[tokio::test]
async fn what_a_transport_holds_back_leaves_without_another_request() {
    let (ours, theirs) = holding(5);
    let (connection, peer, _driver) = connected_over(ours, theirs).await;
    let _peer = echo(peer);
    // One at a time, by the driver at first and then by the callers themselves, and many together.
    for round in 0..3 {
        one_at_a_time(&connection).await;
        let many: Vec<_> = (0..50)
            .map(|at| connection.submit(&get(&format!("{round}.{at}")), None).unwrap())
            .collect();
        for (at, pending) in many.into_iter().enumerate() {
            assert_eq!(text(in_time(pending).await.unwrap()), [format!("{round}.{at}")]);
        }
    }
}

#[tokio::test]
async fn a_request_that_a_transport_took_and_could_not_send_may_have_been_sent() {
    let (ours, theirs) = holding(5);
    let (connection, peer, _driver) = connected_over(ours, theirs).await;
    let pending = connection.submit(&get("k"), None).unwrap();
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    drop(peer);
    let error = in_time(pending).await.unwrap_err();
    assert!(error.is_closed(), "{error:?}");
    assert_eq!(error.send_state(), crate::error::SendState::MaybeSent);
}

/// What a card reports: bytes that arrived, or that what was posted has left and there is room for as much again.
enum Completion {
    Arrived(Vec<u8>),
    Sent(usize),
}

/// One queue of completions for both halves, and a limit to what may be posted. Whichever half looks takes everything
/// off the queue, also what the other waits for.
struct Card {
    completions: mpsc::UnboundedReceiver<Completion>,
    posted: mpsc::UnboundedSender<Vec<u8>>,
    credit: usize,
    arrived: VecDeque<u8>,
    ended: bool,
    receiver: Option<Waker>,
    sender: Option<Waker>,
}

/// The queue keeps one waker, so it gets one for both tasks.
struct Both(Option<Waker>, Option<Waker>);

impl std::task::Wake for Both {
    fn wake(self: Arc<Self>) {
        self.0.iter().chain(&self.1).for_each(Waker::wake_by_ref);
    }
}

impl Card {
    fn reap(&mut self) {
        loop {
            let both = Waker::from(Arc::new(Both(self.receiver.clone(), self.sender.clone())));
            match self.completions.poll_recv(&mut Context::from_waker(&both)) {
                Poll::Pending => return,
                Poll::Ready(Some(Completion::Arrived(bytes))) => {
                    self.arrived.extend(bytes);
                    self.receiver.take().into_iter().for_each(Waker::wake);
                }
                Poll::Ready(Some(Completion::Sent(count))) => {
                    self.credit += count;
                    self.sender.take().into_iter().for_each(Waker::wake);
                }
                Poll::Ready(None) => {
                    self.ended = true;
                    self.receiver.take().into_iter().for_each(Waker::wake);
                    self.sender.take().into_iter().for_each(Waker::wake);
                    return;
                }
            }
        }
    }
}

#[derive(Clone)]
struct CardHalf(Arc<Mutex<Card>>);

impl ReceiveHalf for CardHalf {
    fn poll_receive<'a>(
        &'a mut self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
    ) -> Poll<io::Result<transport::Received<'a>>> {
        let mut card = lock(&self.0);
        card.receiver = Some(cx.waker().clone());
        card.reap();
        let count = card.arrived.len().min(buffer.capacity() - buffer.len());
        if count > 0 {
            buffer.extend(card.arrived.drain(..count));
            return Poll::Ready(Ok(transport::Received::Filled(count)));
        }
        if card.ended { Poll::Ready(Ok(transport::Received::End)) } else { Poll::Pending }
    }
}

impl SendHalf for CardHalf {
    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<Taken>> {
        let mut card = lock(&self.0);
        card.sender = Some(cx.waker().clone());
        card.reap();
        if card.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let bytes: Vec<u8> =
            slices.iter().flat_map(|slice| slice.iter().copied()).take(card.credit).collect();
        if bytes.is_empty() {
            return Poll::Pending;
        }
        let count = bytes.len();
        card.credit -= count;
        let _ = card.posted.send(bytes);
        Poll::Ready(Ok(Taken::sent(count)))
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A card with room for `credit` bytes, and a peer that is a byte stream. What was posted is reported as sent only
/// after the peer has read it.
fn card(credit: usize) -> (Transport, DuplexStream) {
    let (complete, completions) = mpsc::unbounded_channel();
    let (posted, mut outbox) = mpsc::unbounded_channel::<Vec<u8>>();
    let (link, peer) = tokio::io::duplex(1);
    let (mut from_peer, mut to_peer) = tokio::io::split(link);
    let reports = complete.clone();
    tokio::spawn(async move {
        while let Some(bytes) = outbox.recv().await {
            if to_peer.write_all(&bytes).await.is_err() {
                return;
            }
            let _ = reports.send(Completion::Sent(bytes.len()));
        }
    });
    tokio::spawn(async move {
        let mut bytes = [0; 100];
        while let Ok(count) = from_peer.read(&mut bytes).await {
            if count == 0 || complete.send(Completion::Arrived(bytes[..count].to_vec())).is_err() {
                return;
            }
        }
    });
    let half = CardHalf(Arc::new(Mutex::new(Card {
        completions,
        posted,
        credit,
        arrived: VecDeque::new(),
        ended: false,
        receiver: None,
        sender: None,
    })));
    (Transport::new(half.clone(), half), peer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn halves_that_share_one_queue_of_completions_lose_no_wake() {
    let (ours, theirs) = card(10);
    let (connection, peer, _driver) = connected_over(ours, theirs).await;
    let _peer = echo(peer);
    for round in 0..10 {
        one_at_a_time(&connection).await;
        // A lone request that is larger than the credit: its task receives, the driver sends what is left of it.
        let long = "x".repeat(500 + round);
        assert_eq!(
            text(in_time(connection.submit(&get(&long), None).unwrap()).await.unwrap()),
            [long]
        );
        let many: Vec<_> = (0..20)
            .map(|at| connection.submit(&get(&format!("{round}.{at}")), None).unwrap())
            .collect();
        for (at, pending) in many.into_iter().enumerate() {
            assert_eq!(text(in_time(pending).await.unwrap()), [format!("{round}.{at}")]);
        }
    }
}
