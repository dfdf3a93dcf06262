//! A load of many tasks, and a ledger of what the client said of each write, to be held against what the server has.
//!
//! Every write has a key of its own, and every value and reply carries the number of its request. So a reply that went to
//! another request shows at once, and afterwards the server shows what became of each write: an `INCR` that was
//! carried out twice has left a 2, one that was never sent must have left nothing.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};
use respire::{Client, Command, Error, Pipeline, Reply, SendState};
use tokio::{task::JoinSet, time::timeout};

/// A future that ends so long after its deadline counts as hung, however busy the machine is.
const HUNG: Duration = Duration::from_secs(30);

/// Keys that are asked for together when the ledger is checked.
const KEYS_A_CHECK: usize = 500;

/// What is done to a client, from a seed.
#[derive(Clone, Debug)]
pub struct Load {
    /// Is part of every key, so that loads on one server do not meet.
    pub name: String,
    /// How many tasks make requests, one at a time each.
    pub tasks: usize,
    /// Requests that each task makes at most.
    pub requests_a_task: usize,
    /// For how long requests are begun at most.
    pub duration: Duration,
    /// The deadline of each request.
    pub timeout: Duration,
    /// The largest padding of a value, in bytes. Most are far smaller.
    pub value_bytes_max: usize,
    /// How long each task pauses at most between two requests; how long it does is random.
    pub pause_max: Duration,
    /// Whether some futures are dropped before they end.
    pub drops: bool,
    /// Where the random choices begin.
    pub seed: u64,
}

/// What the client said of one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// It was carried out.
    Done,
    /// No byte of it was sent, or the server refused it.
    NotDone,
    /// It may have been carried out, or the future was dropped.
    Unknown,
}

#[derive(Clone, Copy, Debug)]
struct Write {
    task: usize,
    number: usize,
    counts: bool,
    told: Told,
}

/// What came of a [`Load`].
#[derive(Debug, Default)]
pub struct Ledger {
    name: String,
    writes: Vec<Write>,
    /// Requests that were answered; that were never sent or refused by the server; of which the client cannot know; whose
    /// future was dropped.
    pub answered: usize,
    /// See [`answered`](Self::answered).
    pub not_done: usize,
    /// See [`answered`](Self::answered).
    pub unknown: usize,
    /// See [`answered`](Self::answered).
    pub dropped: usize,
    /// By how much requests that ended after their deadline did.
    pub overshoots: Vec<Duration>,
    /// By how much plain timers of the same length were late on the same runtime meanwhile: what the machine and the runtime
    /// make of a deadline, without a client.
    pub timers: Vec<Duration>,
}

impl Load {
    /// Makes the requests.
    ///
    /// # Panics
    ///
    /// When a reply is another request's, when what was acknowledged is not there, or when a future hangs.
    pub async fn run(&self, client: &Client) -> Ledger {
        let client = client.with_command_timeout(Some(self.timeout));
        let mut tasks = JoinSet::new();
        for task in 0..self.tasks {
            tasks.spawn(Worker::new(self.clone(), task, client.clone()).run());
        }
        let late = Arc::new(Mutex::new(Vec::new()));
        let timers = tokio::spawn(watch_timers(self.timeout, Arc::clone(&late)));
        let mut ledger = Ledger { name: self.name.clone(), ..Ledger::default() };
        while let Some(part) = tasks.join_next().await {
            ledger.add(part.expect("a task of the load"));
        }
        timers.abort();
        ledger.timers = std::mem::take(&mut *late.lock().expect("nothing panics under it"));
        ledger
    }
}

/// Sleeps as long as a request may take, again and again, and notes by how much it was late.
async fn watch_timers(length: Duration, late: Arc<Mutex<Vec<Duration>>>) {
    loop {
        let start = Instant::now();
        tokio::time::sleep(length).await;
        let by = start.elapsed().saturating_sub(length);
        late.lock().expect("nothing panics under it").push(by);
    }
}

struct Worker {
    load: Load,
    task: usize,
    client: Client,
    random: Xoshiro256PlusPlus,
    ledger: Ledger,
    /// The number of a `SET` that was acknowledged, and the size of its padding.
    written: Option<(usize, usize)>,
}

impl Worker {
    fn new(load: Load, task: usize, client: Client) -> Self {
        let random = Xoshiro256PlusPlus::seed_from_u64(load.seed ^ (task as u64) << 32);
        Self { load, task, client, random, ledger: Ledger::default(), written: None }
    }

    async fn run(mut self) -> Ledger {
        let end = Instant::now() + self.load.duration;
        for number in 0..self.load.requests_a_task {
            if Instant::now() >= end {
                break;
            }
            if self.request(number).await != Told::Done {
                let pause = Duration::from_millis(self.random.random_range(1..6));
                tokio::time::sleep(pause).await;
            }
            if !self.load.pause_max.is_zero() {
                let pause = self.random.random_range(Duration::ZERO..self.load.pause_max);
                tokio::time::sleep(pause).await;
            }
        }
        self.ledger
    }

    async fn request(&mut self, number: usize) -> Told {
        let text = nonce(&self.load.name, self.task, number);
        let (counter, key) = (key(&text, true), key(&text, false));
        let padding = self.padding();
        let client = self.client.clone();
        match self.random.random_range(0..10) {
            0..4 => {
                let made = client.query::<u64>(Command::new("INCR").arg(&counter));
                let (told, reply) = self.told(made).await;
                self.write(number, true, told);
                reply.into_iter().for_each(|count| assert_eq!(count, 1, "{counter}"));
                told
            }
            4..7 => {
                let set = Command::new("SET").arg(&key).arg(value(&text, padding));
                let (told, reply) = self.told(client.query::<String>(set)).await;
                self.write(number, false, told);
                if let Some(reply) = reply {
                    assert_eq!(reply, "OK", "{key}");
                    self.written = Some((number, padding));
                }
                told
            }
            7 => {
                let (told, reply) =
                    self.told(client.query::<String>(Command::new("ECHO").arg(&text))).await;
                reply.into_iter().for_each(|reply| assert_eq!(reply, text));
                told
            }
            8 => self.read_back().await,
            _ => self.pipeline(number, &text, padding).await,
        }
    }

    /// What was acknowledged is there, also in the middle of whatever goes on.
    async fn read_back(&mut self) -> Told {
        let Some((number, padding)) = self.written else { return Told::Done };
        let text = nonce(&self.load.name, self.task, number);
        let get = Command::new("GET").arg(key(&text, false));
        let client = self.client.clone();
        let (told, reply) = self.told(client.query::<Option<String>>(get)).await;
        if let Some(found) = reply {
            assert!(found == Some(value(&text, padding)), "{text} was acknowledged: {found:.80?}");
        }
        told
    }

    async fn pipeline(&mut self, number: usize, text: &str, padding: usize) -> Told {
        let mut pipeline = Pipeline::new();
        pipeline
            .push(Command::new("INCR").arg(key(text, true)))
            .push(Command::new("ECHO").arg(text))
            .push(Command::new("SET").arg(key(text, false)).arg(value(text, padding)));
        let client = self.client.clone();
        let (told, replies) = self.told(client.pipeline(pipeline)).await;
        let Some(replies) = replies else {
            self.write(number, true, told);
            self.write(number, false, told);
            return told;
        };
        let [count, echo, set]: [Reply; 3] = replies.try_into().expect("a reply a command");
        let of = |reply: &Reply| match reply.server_error() {
            None => Told::Done,
            Some(_) => Told::NotDone,
        };
        self.write(number, true, of(&count));
        self.write(number, false, of(&set));
        if of(&echo) == Told::Done {
            assert_eq!(echo.parse::<&str>().expect("ECHO's reply is text"), text);
        }
        if of(&count) == Told::Done {
            assert_eq!(count.parse::<u64>().expect("INCR's reply is a number"), 1, "{text}");
        }
        told
    }

    /// Waits for a request, or drops it, and says what is known of it.
    async fn told<T>(
        &mut self,
        request: impl Future<Output = Result<T, Error>>,
    ) -> (Told, Option<T>) {
        let start = Instant::now();
        let is_dropped = self.load.drops && self.random.random_ratio(1, 20);
        let limit = match is_dropped {
            true => Duration::from_micros(self.random.random_range(0..3_000)),
            false => self.load.timeout + HUNG,
        };
        let Ok(outcome) = timeout(limit, request).await else {
            assert!(is_dropped, "a request hangs");
            self.ledger.dropped += 1;
            return (Told::Unknown, None);
        };
        let overshoot = start.elapsed().checked_sub(self.load.timeout);
        self.ledger.overshoots.extend(overshoot);
        let told = match &outcome {
            Ok(_) => Told::Done,
            Err(error) => match error.send_state() {
                SendState::NotSent => Told::NotDone,
                SendState::MaybeSent => Told::Unknown,
                SendState::Answered => {
                    assert!(error.server_error().is_some(), "a reply of another's: {error:?}");
                    Told::NotDone
                }
            },
        };
        match told {
            Told::Done => self.ledger.answered += 1,
            Told::NotDone => self.ledger.not_done += 1,
            Told::Unknown => self.ledger.unknown += 1,
        }
        (told, outcome.ok())
    }

    fn write(&mut self, number: usize, counts: bool, told: Told) {
        self.ledger.writes.push(Write { task: self.task, number, counts, told });
    }

    fn padding(&mut self) -> usize {
        let max = self.load.value_bytes_max;
        match self.random.random_range(0..50) {
            0 => self.random.random_range(0..=max),
            _ => self.random.random_range(0..=max.min(200)),
        }
    }
}

impl Ledger {
    /// Holds what the client said against what the server has.
    ///
    /// # Panics
    ///
    /// When a write that was acknowledged is not there, one that was not sent is, or one was carried out twice.
    pub async fn check(&self, server: &Client) {
        for writes in self.writes.chunks(KEYS_A_CHECK) {
            let keys = writes.iter().map(|write| key(&self.nonce(write), write.counts));
            let found = server.execute(Command::new("MGET").args(keys)).await;
            let found = found.expect("the server is up, and asked without a proxy");
            let found: Vec<Option<&str>> = found.parse().expect("MGET answers with values");
            for (write, found) in writes.iter().zip(found) {
                self.check_one(write, found);
            }
        }
    }

    fn check_one(&self, write: &Write, found: Option<&str>) {
        let nonce = self.nonce(write);
        match (write.told, found) {
            (Told::Done | Told::Unknown, Some(found)) if write.counts => {
                assert_eq!(found, "1", "{nonce} was carried out {found} times");
            }
            (Told::Done | Told::Unknown, Some(found)) => {
                assert!(found.starts_with(&nonce), "{nonce} was written as {found:.80}");
            }
            (Told::Done, None) => panic!("{nonce} was acknowledged and is lost"),
            (Told::NotDone, Some(_)) => {
                panic!("{nonce} was said not to be sent, and was carried out")
            }
            (Told::NotDone | Told::Unknown, None) => {}
        }
    }

    /// How many writes were acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        self.writes.iter().filter(|write| write.told == Told::Done).count()
    }

    /// How many writes there were of which the client could not know, dropped ones included.
    #[must_use]
    pub fn unknown_writes(&self) -> usize {
        self.writes.iter().filter(|write| write.told == Told::Unknown).count()
    }

    /// Adds what another load came to. Only one of the two can be checked.
    pub fn add(&mut self, other: Self) {
        self.writes.extend(other.writes);
        self.answered += other.answered;
        self.not_done += other.not_done;
        self.unknown += other.unknown;
        self.dropped += other.dropped;
        self.overshoots.extend(other.overshoots);
        self.timers.extend(other.timers);
    }

    /// The counts and the distribution of overshoots, in one line.
    #[must_use]
    pub fn summary(&self) -> String {
        format!(
            "{} answered, {} not done, {} unknown, {} dropped; late by (ms): requests {}; plain timers {}",
            self.answered,
            self.not_done,
            self.unknown,
            self.dropped,
            distribution(&self.overshoots),
            distribution(&self.timers),
        )
    }

    /// The median overshoot of the requests that ended after their deadline; zero where none did.
    #[must_use]
    pub fn overshoot_median(&self) -> Duration {
        let mut late = self.overshoots.clone();
        late.sort_unstable();
        late.get(late.len() / 2).copied().unwrap_or_default()
    }

    fn nonce(&self, write: &Write) -> String {
        nonce(&self.name, write.task, write.number)
    }
}

fn distribution(late: &[Duration]) -> String {
    let mut late = late.to_vec();
    late.sort_unstable();
    let at = |share: f64| {
        let at = ((late.len() as f64 * share) as usize).min(late.len().saturating_sub(1));
        late.get(at).map_or(0.0, |late| late.as_secs_f64() * 1e3)
    };
    let [p50, p90, p99, max] = [0.5, 0.9, 0.99, 1.0].map(at);
    format!("{} of p50 {p50:.2} p90 {p90:.2} p99 {p99:.2} max {max:.2}", late.len())
}

fn nonce(name: &str, task: usize, number: usize) -> String {
    format!("{name}:{task}:{number};")
}

fn key(nonce: &str, counts: bool) -> String {
    format!("{}{nonce}", if counts { "count:" } else { "value:" })
}

fn value(nonce: &str, padding: usize) -> String {
    format!("{nonce}{}", "x".repeat(padding))
}
