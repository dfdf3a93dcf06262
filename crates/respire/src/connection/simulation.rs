//! Random histories of one connection: tasks are polled in any order and late, futures are dropped, the transport takes
//! and gives a few bytes at a time, the peer pauses, and the clock moves only when the test says so.
//!
//! What runs is the connection itself, its driver and its callers. The runtime is played by hand, and to the letter of
//! what a future may rely on: a caller is polled only when it was woken, and only the waker of its last poll counts.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::Wake,
    time::Duration,
};

use bytes::BytesMut;
use respire_codec::{Decoder, DecoderConfig};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use super::{
    dial::shake_hands,
    driver::{Guard, drive},
    *,
};
use crate::{
    command::Pipeline, config::Address, error::SendState, simulation::History, transport::Transport,
};

const STEPS: u64 = 300_000;

/// Polls without a pause after which something counts as spinning.
const POLLS_MAX: usize = 100_000;

/// A deadline is kept by a timer of a millisecond's resolution, and a timer is rounded up.
const TIMER_RESOLUTION: Duration = Duration::from_millis(2);

/// How often some connections are checked, within the time that a history takes.
const CHECK_PERIOD: Duration = Duration::from_millis(30);

/// Shorter than any deadline is told from another by.
const BUSY_POLL: Duration = Duration::from_micros(50);

#[test]
fn no_history_loses_a_wake_up_a_role_or_a_reply() {
    History::run_many(STEPS, |history| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime without I/O needs nothing");
        let history = async { Simulation::new(history).run().await };
        // The runtime would have its share of the turns after so many polls of a timer.
        runtime.block_on(tokio::task::unconstrained(history))
    });
}

/// The tasks that were woken and not yet polled, with the number of the poll whose waker it was.
type Woken = Arc<Mutex<Vec<(Task, usize)>>>;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Task {
    Driver,
    /// By its tag.
    Caller(usize),
}

struct TaskWaker {
    task: Task,
    poll: usize,
    woken: Woken,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.woken.lock().expect("nothing panics under it").push((self.task, self.poll));
    }
}

/// What is between the client's halves of the transport and the peer.
#[derive(Default)]
struct Network {
    /// What the transport has taken, and how much more it takes.
    sent: BytesMut,
    room: usize,
    sender: Option<Waker>,
    /// What there is to receive, and how much of it a read gets.
    arrived: BytesMut,
    piece: usize,
    receiver: Option<Waker>,
    /// How receiving and sending end once all is received, if they do.
    end: Option<End>,
    sending_fails: bool,
}

#[derive(Clone, Copy)]
enum End {
    Closed,
    Reset,
}

struct Receive(Arc<Mutex<Network>>);
struct Send(Arc<Mutex<Network>>);

impl AsyncRead for Receive {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut network = self.0.lock().expect("nothing panics under it");
        if !network.arrived.is_empty() {
            let count = network.arrived.len().min(network.piece.max(1)).min(buffer.remaining());
            buffer.put_slice(&network.arrived.split_to(count));
            return Poll::Ready(Ok(()));
        }
        match network.end {
            Some(End::Closed) => Poll::Ready(Ok(())),
            Some(End::Reset) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            None => {
                network.receiver = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl AsyncWrite for Send {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut network = self.0.lock().expect("nothing panics under it");
        if network.sending_fails {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if network.room == 0 {
            network.sender = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = bytes.len().min(network.room);
        network.room -= count;
        network.sent.extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A server that reads when it is told to, and answers every command with its second word.
struct Peer {
    decoder: Decoder,
    received: BytesMut,
    /// Replies that are not yet given to the network, byte by byte.
    outbox: BytesMut,
    asked: VecDeque<String>,
    has_shaken_hands: bool,
    /// The tag of each command that came, but for the handshake's.
    commands: Vec<usize>,
}

impl Peer {
    fn receive(&mut self, bytes: &[u8]) {
        self.received.extend_from_slice(bytes);
        while let Some(frame) = self.decoder.decode(&mut self.received).expect("it is RESP") {
            let words: Vec<&str> = frame.parse().expect("it is a command");
            self.asked.push_back(match words[0] {
                "HELLO" => "%1\r\n+proto\r\n:3\r\n".to_owned(),
                "CLIENT" => "+OK\r\n".to_owned(),
                "PING" => format!("${}\r\n{}\r\n", words[1].len(), words[1]),
                _ => {
                    let tag = words[1].split('.').next().expect("a text has a first part");
                    self.has_shaken_hands = true;
                    self.commands.push(tag.parse().expect("it is a tag of ours"));
                    format!("${}\r\n{}\r\n", words[1].len(), words[1])
                }
            });
        }
    }

    fn answer(&mut self) -> bool {
        let Some(reply) = self.asked.pop_front() else { return false };
        self.outbox.extend_from_slice(reply.as_bytes());
        true
    }
}

/// A request whose future is held.
struct Caller {
    tag: usize,
    pending: Pin<Box<Pending>>,
    replies: usize,
    deadline: Option<Instant>,
    polls: usize,
    /// Its task does not get to run, though it was woken.
    is_held_up: bool,
}

/// What may happen in a part of a history. What does not happen cannot make up for what was forgotten: a poll for nothing
/// or a timer may do what a wake-up should have.
struct Manner {
    callers_max: usize,
    after_lone_requests: bool,
    drops: bool,
    holds_up: bool,
    polls_for_nothing: bool,
    passes_time: bool,
    /// All is answered together, and tasks submit the next request as soon as they have a reply.
    in_waves: bool,
}

impl Manner {
    fn random(history: &mut History) -> Self {
        Self {
            callers_max: [1, 2, 3, 20][history.below(4)],
            after_lone_requests: history.once_in(2),
            drops: history.once_in(2),
            holds_up: history.once_in(3),
            polls_for_nothing: history.once_in(4),
            passes_time: history.once_in(3),
            in_waves: history.once_in(2),
        }
    }
}

struct Simulation<'a> {
    history: &'a mut History,
    connection: Arc<Connection>,
    network: Arc<Mutex<Network>>,
    peer: Peer,
    woken: Woken,
    driver: Option<Pin<Box<dyn Future<Output = ()>>>>,
    callers: Vec<Caller>,
    next_tag: usize,
    /// Tags of which the client has said that no byte of them was sent.
    not_sent: Vec<usize>,
    /// The peer answers nothing for now.
    is_silent: bool,
    /// All is answered together, and tasks go on with another request.
    in_waves: bool,
    /// The connection may have been given up, or is being ended.
    may_end: bool,
    polls: Arc<AtomicUsize>,
    steps: u64,
}

impl<'a> Simulation<'a> {
    fn new(history: &'a mut History) -> Self {
        let bounds = Bounds {
            commands: [1, 4, 1000][history.below(3)],
            bytes: [50, 500, 1 << 20][history.below(3)],
            stall: None,
        };
        let connection = Arc::new(Connection {
            busy_poll: [Duration::ZERO, BUSY_POLL][history.below(2)],
            // As where the driver has a thread of its own.
            callers_drive: !history.once_in(4),
            ..Connection::new(bounds)
        });
        // Waves are not as large here as they have to be elsewhere.
        if history.once_in(2) {
            connection.state().pace = Pace::with_sizes(pace::THREADS, 4, 1 + history.below(8));
        }
        connection.state().session.check(Checks {
            after_timeout: history.once_in(2),
            period: history.once_in(3).then_some(CHECK_PERIOD),
        });
        let network = Arc::new(Mutex::new(Network::default()));
        let guard = Guard(Arc::clone(&connection));
        let (receive, send) = (Receive(Arc::clone(&network)), Send(Arc::clone(&network)));
        let driver = async move {
            let config = Config::new(Address::Tcp { host: "simulated".to_owned(), port: 1 });
            let transport = Transport::of_streams(receive, send);
            let error = match shake_hands(transport, &config).await {
                Ok(established) => drive(&guard.0, established).await,
                Err(failure) => Error::connect(config.address().clone(), failure),
            };
            guard.0.fail(&error);
        };
        let woken = Woken::default();
        woken.lock().expect("nothing panics under it").push((Task::Driver, 0));
        let peer = Peer {
            decoder: Decoder::new(DecoderConfig::default()),
            received: BytesMut::new(),
            outbox: BytesMut::new(),
            asked: VecDeque::new(),
            has_shaken_hands: false,
            commands: Vec::new(),
        };
        Self {
            history,
            connection,
            network,
            peer,
            woken,
            driver: Some(Box::pin(driver)),
            callers: Vec::new(),
            next_tag: 0,
            not_sent: Vec::new(),
            is_silent: false,
            in_waves: false,
            may_end: false,
            polls: Arc::default(),
            steps: 0,
        }
    }

    async fn run(&mut self) -> u64 {
        for round in 0..4 + self.history.below(20) {
            let manner = Manner::random(self.history);
            // Until the handshake is done, it is the dial's part to keep deadlines.
            if round > 0 {
                self.is_silent = false;
                if manner.after_lone_requests {
                    self.lone_requests().await;
                }
                self.is_silent = self.history.once_in(3);
            }
            self.in_waves = manner.in_waves;
            for _ in 0..self.history.below(60) {
                self.step(&manner).await;
            }
            self.settle().await;
            self.check_settled();
            self.let_run();
            self.settle().await;
            self.check_settled();
            self.in_waves = false;
        }
        self.end().await;
        self.steps
    }

    /// One request after the other, so that the next one that is alone is its caller's to send and receive.
    async fn lone_requests(&mut self) {
        for _ in 0..=ALONE_STREAK + 1 {
            self.submit();
            self.settle().await;
        }
    }

    async fn step(&mut self, manner: &Manner) {
        self.steps += 1;
        match self.history.below(100) {
            0..40 => {
                self.run_one();
            }
            40..55 if self.callers.len() < manner.callers_max => self.submit(),
            55..59 if manner.drops => self.drop_one(),
            59..62 if manner.holds_up => self.hold_up_one(),
            62 => self.let_run(),
            63..66 if manner.polls_for_nothing => self.poll_for_nothing(),
            66..76 => self.peer_reads(),
            76..86 => {
                self.peer_answers();
            }
            86..96 => self.peer_writes(),
            96 => self.push(),
            97..99 if manner.passes_time => self.pass_time().await,
            99 if manner.passes_time && self.is_silent => self.pass_time_bit_by_bit().await,
            _ => {}
        }
    }

    fn submit(&mut self) {
        let tag = self.next_tag;
        self.next_tag += 1;
        let mut pipeline = Pipeline::new();
        let padding = "x".repeat(self.history.below(40));
        for number in 0..1 + self.history.below(2) {
            pipeline.command(&["ECHO", &format!("{tag}.{number}"), &padding]);
        }
        let packet = pipeline.into_packet().expect("ECHO may be sent");
        let millis = 1 + self.history.below(60) as u64;
        let deadline =
            self.history.once_in(2).then(|| Instant::now() + Duration::from_millis(millis));
        match self.connection.submit(&packet, deadline.map(Instant::into_std)) {
            Ok(pending) => {
                self.callers.push(Caller {
                    tag,
                    pending: Box::pin(pending),
                    replies: packet.replies,
                    deadline,
                    polls: 0,
                    is_held_up: false,
                });
                self.woken.lock().expect("nothing panics under it").push((Task::Caller(tag), 0));
            }
            Err(error) => {
                assert!(self.may_end, "a request is refused: {error:?}");
                assert_eq!(error.send_state(), SendState::NotSent);
                self.not_sent.push(tag);
            }
        }
    }

    /// Which of those that were woken may run.
    fn runnable(&self) -> Vec<usize> {
        let woken = self.woken.lock().expect("nothing panics under it");
        let held_up = |task: Task| {
            let mut callers = self.callers.iter();
            callers.any(|caller| task == Task::Caller(caller.tag) && caller.is_held_up)
        };
        (0..woken.len()).filter(|&at| !held_up(woken[at].0)).collect()
    }

    /// Polls one of the tasks that were woken, not the first one in particular. Whether there was one.
    fn run_one(&mut self) -> bool {
        let runnable = self.runnable();
        if runnable.is_empty() {
            return false;
        }
        let at = runnable[self.history.below(runnable.len())];
        let next = self.woken.lock().expect("nothing panics under it").swap_remove(at);
        match next {
            (Task::Driver, _) => self.poll_driver(),
            (Task::Caller(tag), poll) => {
                let at = self.callers.iter().position(|caller| caller.tag == tag);
                if let Some(at) = at.filter(|&at| self.callers[at].polls == poll) {
                    self.poll_caller(at);
                }
            }
        }
        true
    }

    fn waker(&self, task: Task, poll: usize) -> Waker {
        self.polls.fetch_add(1, Ordering::Relaxed);
        Waker::from(Arc::new(TaskWaker { task, poll, woken: Arc::clone(&self.woken) }))
    }

    fn poll_driver(&mut self) {
        let waker = self.waker(Task::Driver, 0);
        let Some(driver) = &mut self.driver else { return };
        if driver.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            assert!(self.may_end, "the connection ends without a reason");
            self.driver = None;
        }
    }

    fn poll_caller(&mut self, at: usize) {
        self.callers[at].polls += 1;
        let waker = self.waker(Task::Caller(self.callers[at].tag), self.callers[at].polls);
        let outcome = self.callers[at].pending.as_mut().poll(&mut Context::from_waker(&waker));
        let by_caller = matches!(self.connection.state().receiver, Receiver::Caller(_));
        assert!(self.connection.callers_drive || !by_caller, "a caller receives");
        let Poll::Ready(outcome) = outcome else { return };
        let caller = self.callers.swap_remove(at);
        match outcome {
            Ok(replies) => {
                let texts: Vec<String> = replies
                    .into_vec()
                    .iter()
                    .map(|reply| reply.parse().expect("the peer answers with text"))
                    .collect();
                let own: Vec<String> =
                    (0..caller.replies).map(|number| format!("{}.{number}", caller.tag)).collect();
                assert_eq!(texts, own, "a reply of another's");
                if self.in_waves && !self.history.once_in(3) {
                    self.submit();
                }
            }
            Err(error) => {
                let is_overdue = caller.deadline.is_some_and(|deadline| deadline <= Instant::now());
                let may = if error.is_timeout() { is_overdue } else { self.may_end };
                assert!(may, "{}: {error:?}", caller.tag);
                if error.send_state() == SendState::NotSent {
                    self.not_sent.push(caller.tag);
                }
            }
        }
    }

    fn any_caller(&mut self) -> Option<usize> {
        if self.callers.is_empty() { None } else { Some(self.history.below(self.callers.len())) }
    }

    fn drop_one(&mut self) {
        if let Some(at) = self.any_caller() {
            self.callers.swap_remove(at);
        }
    }

    /// From its first poll on, a caller may be left without another one.
    fn hold_up_one(&mut self) {
        if let Some(at) = self.any_caller() {
            self.callers[at].is_held_up = self.callers[at].polls > 0;
        }
    }

    fn let_run(&mut self) {
        self.callers.iter_mut().for_each(|caller| caller.is_held_up = false);
    }

    fn poll_for_nothing(&mut self) {
        if self.history.once_in(4) {
            self.poll_driver();
        } else if let Some(at) = self.any_caller() {
            self.poll_caller(at);
        }
    }

    /// The peer takes what was sent, and makes room for more.
    fn peer_reads(&mut self) {
        let room = 1 + self.history.below(100);
        self.read(room);
    }

    fn read(&mut self, room: usize) -> bool {
        let mut network = self.network();
        let bytes = network.sent.split();
        network.room = room;
        let sender = network.sender.take();
        drop(network);
        self.peer.receive(&bytes);
        let woke = sender.is_some();
        sender.into_iter().for_each(Waker::wake);
        woke || !bytes.is_empty()
    }

    /// Some of what the peer has answered arrives.
    fn peer_writes(&mut self) {
        let count = 1 + self.history.below(80);
        let piece = 1 + self.history.below(60);
        self.write(count, piece);
    }

    fn write(&mut self, count: usize, piece: usize) -> bool {
        let count = count.min(self.peer.outbox.len());
        if count == 0 {
            return false;
        }
        let bytes = self.peer.outbox.split_to(count);
        let mut network = self.network();
        network.piece = piece;
        network.arrived.extend_from_slice(&bytes);
        let receiver = network.receiver.take();
        drop(network);
        receiver.into_iter().for_each(Waker::wake);
        true
    }

    /// The peer says something of its own accord, between two replies.
    fn push(&mut self) {
        if self.peer.has_shaken_hands {
            self.peer.outbox.extend_from_slice(b">2\r\n+invalidate\r\n_\r\n");
        }
    }

    /// Nothing but deadlines may move anything now, and they must.
    async fn pass_time_bit_by_bit(&mut self) {
        self.settle().await;
        for _ in 0..self.history.below(60) {
            tokio::time::advance(Duration::from_millis(1)).await;
            self.settle().await;
            self.check_settled();
        }
    }

    async fn pass_time(&mut self) {
        let millis = [1, 3, 11, 40][self.history.below(4)];
        tokio::time::advance(Duration::from_millis(millis)).await;
    }

    /// Until nobody has anything to do. No time passes, but for those who ask busily and find nothing.
    async fn settle(&mut self) {
        let start = self.polls.load(Ordering::Relaxed);
        loop {
            let ran = self.run_one();
            let read = self.read(1000);
            let answered = self.peer_answers();
            let wrote = self.write(usize::MAX, 1000);
            if !(ran || read || answered || wrote) {
                // Who lets others run first is woken by the runtime.
                match self.connection.busy_poll {
                    Duration::ZERO => tokio::task::yield_now().await,
                    busy_poll => tokio::time::advance(busy_poll).await,
                }
                if self.runnable().is_empty() {
                    return;
                }
            }
            let polls = self.polls.load(Ordering::Relaxed) - start;
            assert!(polls < POLLS_MAX, "the connection spins");
        }
    }

    /// When nobody has anything to do, nobody who can run has anything to wait for but the peer.
    fn check_settled(&self) {
        let now = Instant::now();
        for caller in self.callers.iter().filter(|caller| !caller.is_held_up) {
            assert!(self.is_silent, "{} waits, and everything is answered", caller.tag);
            let is_due = |deadline| deadline + TIMER_RESOLUTION < now;
            assert!(!caller.deadline.is_some_and(is_due), "{} is not told", caller.tag);
        }
        let state = self.connection.state();
        if !self.is_silent && state.session.is_busy() {
            let by_caller = matches!(state.receiver, Receiver::Caller(_));
            assert!(by_caller, "nobody receives what the peer has answered");
            assert!(!state.session.awaits_fence(), "the answer to a check is not received");
        }
    }

    /// Brings the connection to an end in one of the ways there are, with requests under way.
    async fn end(&mut self) {
        self.is_silent = false;
        if self.history.once_in(2) {
            self.lone_requests().await;
        }
        self.may_end = true;
        self.is_silent = self.history.once_in(2);
        for _ in 0..self.history.below(4) {
            self.submit();
            self.run_one();
        }
        if self.history.once_in(3) {
            self.callers.clear();
        }
        match self.history.below(7) {
            0 => {
                self.is_silent = false;
                self.connection.drain();
            }
            1 => {
                self.connection.drain();
                self.settle().await;
                self.callers.clear();
            }
            2 => self.connection.abort(),
            3 => self.peer_ends(End::Closed),
            4 => self.peer_ends(End::Reset),
            5 => {
                self.network().sending_fails = true;
                self.is_silent = false;
                self.submit();
            }
            // Its runtime is gone.
            _ => self.driver = None,
        }
        self.settle().await;
        for _ in 0..400 {
            tokio::time::advance(Duration::from_millis(10)).await;
            self.settle().await;
        }
        assert!(
            self.callers.is_empty(),
            "{} waits for a connection that is gone",
            self.callers[0].tag
        );
        assert!(self.driver.is_none(), "the driver goes on without a connection");
        self.submit();
        assert!(self.callers.is_empty(), "it takes requests after its end");
        self.check_what_was_sent();
    }

    /// Whether there was anything to answer.
    fn peer_answers(&mut self) -> bool {
        let answers = !self.is_silent && self.peer.answer();
        while answers && self.in_waves && self.peer.answer() {}
        answers
    }

    fn peer_ends(&mut self, end: End) {
        let mut network = self.network();
        network.end = Some(end);
        network.sending_fails = matches!(end, End::Reset);
        let woken = [network.sender.take(), network.receiver.take()];
        drop(network);
        woken.into_iter().flatten().for_each(Waker::wake);
    }

    /// Commands came in order, each once, and none of them was said not to be sent.
    fn check_what_was_sent(&mut self) {
        self.read(0);
        let commands = &self.peer.commands;
        assert!(commands.is_sorted(), "the order of bytes is another than that of requests");
        if let Some(untrue) = self.not_sent.iter().find(|tag| commands.contains(tag)) {
            panic!("{untrue} was sent");
        }
        if !self.peer.received.is_empty() {
            let next = commands.last().map_or(0, |last| last + 1);
            let is_check = self.peer.received.iter().zip(b"*2").all(|(is, of)| is == of);
            let may_be = (next..self.next_tag).any(|tag| !self.not_sent.contains(&tag));
            assert!(
                is_check || may_be || commands.is_empty(),
                "what was sent in part was said not to be"
            );
        }
    }

    fn network(&self) -> std::sync::MutexGuard<'_, Network> {
        self.network.lock().expect("nothing panics under it")
    }
}
