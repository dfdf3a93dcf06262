//! Callers, the driver and a peer on threads of their own, whose turns change before any lock as a seed says. What
//! `simulation` cannot show: what happens between two locks of one poll.
//!
//! No timer ever fires here. So a request that ends has been ended by a wake-up that was not lost.

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
    simulation::{
        History,
        threads::{self, block_on},
    },
    transport::{Transport, memory},
};

const POINTS: u64 = 500_000;
const REQUESTS_A_CALLER: usize = 8;

#[test]
fn no_turn_of_threads_loses_a_wake_up_or_a_reply() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O needs nothing");
    History::run_many(POINTS, |history| {
        let capacity = [5, 60, 1 << 16][history.below(3)];
        let (ours, theirs) = memory::pair(capacity);
        let bounds = Bounds {
            commands: [1, 3, 1000][history.below(3)],
            bytes: [60, 1 << 20][history.below(2)],
            stall: None,
        };
        let connection = Arc::new(Connection::new(bounds));
        let callers = 1 + history.below(3);
        let left = AtomicUsize::new(callers);
        let warm = Gate::default();
        let runtime = runtime.handle();
        let mut all: Vec<Box<dyn FnOnce() + Send + '_>> = Vec::new();
        let guard = Guard(Arc::clone(&connection));
        all.push(Box::new(move || {
            let _runtime = runtime.enter();
            block_on(be_driver(guard, ours));
        }));
        all.push(Box::new(move || block_on(be_peer(theirs))));
        for number in 0..callers {
            let seed = history.below(usize::MAX);
            let (connection, left, warm) = (Arc::clone(&connection), &left, &warm);
            all.push(Box::new(move || {
                let mut caller = Caller { number, connection, history: History::part(seed as u64) };
                block_on(caller.run(warm));
                if left.fetch_sub(1, Ordering::Relaxed) == 1 {
                    caller.connection.drain();
                }
            }));
        }
        let seed = history.below(usize::MAX);
        threads::run(seed as u64, all)
    });
}

async fn be_driver(guard: Guard, transport: Transport) {
    let established = shake_hands(transport, &config()).await.expect("the peer shakes hands");
    let error = drive(&guard.0, established).await;
    guard.0.fail(&error);
}

/// Answers every command with its second word until the client is gone.
async fn be_peer(mut stream: DuplexStream) {
    let mut decoder = Decoder::new(DecoderConfig::default());
    let mut received = BytesMut::new();
    loop {
        while let Some(frame) = decoder.decode(&mut received).expect("it is RESP") {
            let words: Vec<&str> = frame.parse().expect("it is a command");
            let reply = match words[0] {
                "HELLO" => "%1\r\n+proto\r\n:3\r\n".to_owned(),
                _ => format!("+{}\r\n", words[1]),
            };
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

struct Caller {
    number: usize,
    connection: Arc<Connection>,
    history: History,
}

impl Caller {
    async fn run(&mut self, warm: &Gate) {
        if self.number == 0 {
            self.connection.opened().await.expect("the peer shakes hands");
            for number in 0..ALONE_STREAK as usize + 2 {
                self.answered(number).await;
            }
            warm.open();
        }
        warm.pass().await;
        for number in 100..100 + REQUESTS_A_CALLER {
            match self.history.below(8) {
                0 => drop(self.submit(number, 1)),
                1 => self.polled_once(number).await,
                2 | 3 => self.two(number).await,
                _ => self.answered(number).await,
            }
        }
    }

    fn submit(&self, number: usize, replies: usize) -> Pending {
        let mut pipeline = Pipeline::new();
        for reply in 0..replies {
            pipeline.command(&["ECHO", &format!("{}.{number}.{reply}", self.number)]);
        }
        let packet = pipeline.into_packet().expect("ECHO may be sent");
        self.connection.submit(&packet, None).expect("the connection is open")
    }

    fn check(&self, number: usize, replies: Replies) {
        let replies = text(replies);
        let own: Vec<String> =
            (0..replies.len()).map(|reply| format!("{}.{number}.{reply}", self.number)).collect();
        assert_eq!(replies, own, "a reply of another's");
    }

    async fn answered(&mut self, number: usize) {
        let replies = 1 + self.history.below(2);
        let outcome = self.submit(number, replies).await;
        self.check(number, outcome.expect("the peer answers"));
    }

    async fn polled_once(&mut self, number: usize) {
        let mut pending = self.submit(number, 1);
        poll_fn(|cx| Poll::Ready(Pin::new(&mut pending).poll(cx).is_ready())).await;
    }

    /// Two at once, of which the later one is waited for first.
    async fn two(&mut self, number: usize) {
        let (first, second) = (self.submit(number, 1), self.submit(number + 1000, 2));
        let first = async { self.check(number, first.await.expect("the peer answers")) };
        let second = async { self.check(number + 1000, second.await.expect("the peer answers")) };
        futures_util::future::join(second, first).await;
    }
}
