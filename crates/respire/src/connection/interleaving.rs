//! Callers, the driver and a peer on threads of their own, whose turns change before any lock as a seed says. What
//! `simulation` cannot show: what happens between two locks of one poll.
//!
//! No time passes here, and no timer makes up for a wake-up that was lost. Some requests are overdue when they are made,
//! so that the driver ends them, and raises fences, beside callers that send and receive.

use std::{
    future::poll_fn,
    sync::atomic::{AtomicUsize, Ordering},
};

use bytes::BytesMut;
use respire_codec::{Decoder, DecoderConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::{
    dial::shake_hands,
    driver::{Guard, drive},
    tests::{config, text},
    *,
};
use crate::{
    command::Pipeline,
    error::SendState,
    simulation::{
        History,
        threads::{self, block_on},
    },
    transport::{Transport, memory},
};

const POINTS: u64 = 500_000;
const REQUESTS_A_CALLER: usize = 8;

/// Requests with such a number are overdue when they are made.
const OVERDUE: usize = 10_000;

#[test]
fn no_turn_of_threads_loses_a_wake_up_or_a_reply() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O needs nothing");
    let now = runtime.block_on(async { tokio::time::Instant::now().into_std() });
    History::run_many(POINTS, |history| {
        let capacity = [5, 60, 1 << 16][history.below(3)];
        let (ours, theirs) = memory::pair(capacity);
        let bounds = Bounds {
            commands: [1, 3, 1000][history.below(3)],
            bytes: [60, 1 << 20][history.below(2)],
            stall: None,
        };
        let connection = Arc::new(Connection::new(bounds));
        {
            let mut state = connection.state();
            // Waves are not as large here as they have to be elsewhere.
            if history.once_in(2) {
                state.pace = Pace::with_sizes(pace::THREADS, 4, 1 + history.below(8));
            }
            let after_timeout = history.once_in(2);
            state.session.check(Checks { after_timeout, period: None });
        }
        let callers = 1 + history.below(6);
        // The peer is gone after so many commands, if ever.
        let quits_after = history.once_in(2).then(|| 3 + history.below(40));
        let left = AtomicUsize::new(callers);
        let warm = Gate::default();
        let (seen, not_sent) = (Mutex::default(), Mutex::default());
        let runtime = runtime.handle();
        let mut all: Vec<Box<dyn FnOnce() + Send + '_>> = Vec::new();
        let guard = Guard(Arc::clone(&connection));
        all.push(Box::new(move || {
            let _runtime = runtime.enter();
            block_on(be_driver(guard, ours));
        }));
        let received = &seen;
        all.push(Box::new(move || block_on(be_peer(theirs, received, quits_after))));
        for number in 0..callers {
            let seed = history.below(usize::MAX);
            let (connection, left, warm) = (Arc::clone(&connection), &left, &warm);
            let not_sent = &not_sent;
            all.push(Box::new(move || {
                let history = History::part(seed as u64);
                let may_end = quits_after.is_some();
                let mut caller = Caller { number, connection, history, now, may_end, not_sent };
                block_on(caller.run(warm));
                if left.fetch_sub(1, Ordering::Relaxed) == 1 {
                    caller.connection.drain();
                }
            }));
        }
        let seed = history.below(usize::MAX);
        let points = threads::run(seed as u64, all);
        let seen: Vec<String> = seen.into_inner().expect("no thread has panicked");
        let not_sent: Vec<String> = not_sent.into_inner().expect("no thread has panicked");
        let untrue = not_sent.iter().find(|text| seen.contains(text));
        assert_eq!(untrue, None, "it was said not to be sent");
        points
    });
}

async fn be_driver(guard: Guard, transport: Transport) {
    let error = match shake_hands(transport, &config()).await {
        Ok(established) => drive(&guard.0, established).await,
        Err(failure) => Error::connect(config().address().clone(), failure),
    };
    guard.0.fail(&error);
}

/// Answers every command with its second word until the client is gone, or it has had enough.
async fn be_peer(mut stream: DuplexStream, seen: &Mutex<Vec<String>>, quits_after: Option<usize>) {
    let mut decoder = Decoder::new(DecoderConfig::default());
    let mut received = BytesMut::new();
    loop {
        while let Some(frame) = decoder.decode(&mut received).expect("it is RESP") {
            let words: Vec<&str> = frame.parse().expect("it is a command");
            let reply = match words[0] {
                "HELLO" => "%1\r\n+proto\r\n:3\r\n".to_owned(),
                _ => format!("+{}\r\n", words[1]),
            };
            let count = {
                let mut seen = seen.lock().expect("nothing panics under it");
                seen.push(words[1].to_owned());
                seen.len()
            };
            if quits_after.is_some_and(|commands| count >= commands) {
                return;
            }
            if stream.write_all(reply.as_bytes()).await.is_err() {
                return;
            }
        }
        match stream.read_buf(&mut received).await {
            Ok(0) | Err(_) => return,
            Ok(_) => threads::point(),
        }
    }
}

/// Shut until the first caller has made requests that were alone.
#[derive(Default)]
struct Gate(Mutex<(bool, Vec<Waker>)>);

impl Gate {
    async fn pass(&self) {
        poll_fn(|cx| {
            let mut gate = crate::lock::lock(&self.0);
            if gate.0 {
                return Poll::Ready(());
            }
            gate.1.push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn open(&self) {
        let mut gate = crate::lock::lock(&self.0);
        gate.0 = true;
        let waiting = std::mem::take(&mut gate.1);
        drop(gate);
        waiting.into_iter().for_each(Waker::wake);
    }
}

struct Caller<'a> {
    number: usize,
    connection: Arc<Connection>,
    history: History,
    /// By the clock, which does not move.
    now: Instant,
    /// The peer may quit at any time.
    may_end: bool,
    /// The texts of requests of which the client has said that they were not sent.
    not_sent: &'a Mutex<Vec<String>>,
}

impl Caller<'_> {
    async fn run(&mut self, warm: &Gate) {
        if self.number == 0 {
            let opened = self.connection.opened().await;
            assert!(opened.is_ok() || self.may_end, "the peer shakes hands");
            for number in 0..ALONE_STREAK as usize + 2 {
                self.answered(number).await;
            }
            warm.open();
        }
        warm.pass().await;
        for number in 100..100 + REQUESTS_A_CALLER {
            match self.history.below(9) {
                0 => drop(self.submit(number, 1)),
                1 => self.polled_once(number).await,
                2 | 3 => self.two(number).await,
                4 => self.answered(OVERDUE + number).await,
                _ => self.answered(number).await,
            }
        }
    }

    fn submit(&self, number: usize, replies: usize) -> Option<Pending> {
        let mut pipeline = Pipeline::new();
        for reply in 0..replies {
            pipeline.command(&["ECHO", &self.text(number, reply)]);
        }
        let packet = pipeline.into_packet().expect("ECHO may be sent");
        let deadline = (number >= OVERDUE).then_some(self.now);
        let submitted = self.connection.submit(&packet, deadline);
        submitted.map_err(|error| self.check_error(number, &error)).ok()
    }

    fn text(&self, number: usize, reply: usize) -> String {
        format!("{}.{number}.{reply}", self.number)
    }

    fn check(&self, number: usize, outcome: Result<Replies, Error>) {
        match outcome {
            Ok(replies) => {
                let replies = text(replies);
                let own: Vec<String> =
                    (0..replies.len()).map(|reply| self.text(number, reply)).collect();
                assert_eq!(replies, own, "a reply of another's");
            }
            Err(error) => self.check_error(number, &error),
        }
    }

    fn check_error(&self, number: usize, error: &Error) {
        let is_overdue = number >= OVERDUE && error.is_timeout();
        assert!(self.may_end || is_overdue, "{error:?}");
        if error.send_state() == SendState::NotSent {
            let mut not_sent = self.not_sent.lock().expect("nothing panics under it");
            not_sent.push(self.text(number, 0));
        }
    }

    async fn answered(&mut self, number: usize) {
        let replies = 1 + self.history.below(2);
        if let Some(pending) = self.submit(number, replies) {
            self.check(number, pending.await);
        }
    }

    async fn polled_once(&mut self, number: usize) {
        if let Some(mut pending) = self.submit(number, 1) {
            poll_fn(|cx| Poll::Ready(Pin::new(&mut pending).poll(cx).is_ready())).await;
        }
    }

    /// Two at once, of which the later one is waited for first.
    async fn two(&mut self, number: usize) {
        let (first, second) = (self.submit(number, 1), self.submit(number + 1000, 2));
        let (Some(first), Some(second)) = (first, second) else { return };
        let first = async { self.check(number, first.await) };
        let second = async { self.check(number + 1000, second.await) };
        futures_util::future::join(second, first).await;
    }
}
