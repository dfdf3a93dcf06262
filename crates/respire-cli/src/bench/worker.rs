//! One thread of a run: a runtime of its own, some connections, the callers, and the task that hands
//! them what is due.

use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use respire::{Client, Config, Stats};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::gate::{Gate, Step};
use super::schedule::{Arrival, Arrivals, Part, Schedule};
use super::tally::Tally;
use super::timer::Timer;
use super::workload::Workload;

/// What is due so soon is waited for awake: to sleep takes about as long, and the callers have their
/// turn meanwhile.
const AWAKE: Duration = Duration::from_micros(10);

/// How much longer than its own deadline the end of a request is waited for, once nothing more
/// starts; a request without one has this long.
const LAST_ANSWERS: Duration = Duration::from_secs(10);

/// How long a caller of a closed loop rests after a request has failed: where nobody listens, a
/// failure takes no time, and the loop would do nothing else.
const REST: Duration = Duration::from_millis(10);

/// What one thread has to do.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) server: Config,
    pub(crate) workload: Arc<Workload>,
    pub(crate) arrivals: Arrivals,
    pub(crate) part: Part,
    pub(crate) connections: usize,
    pub(crate) callers: usize,
    pub(crate) warm_up: Duration,
    /// When the schedule ends, from the start of the run.
    pub(crate) end: Duration,
    pub(crate) seed: u64,
    /// Whether the clients are asked what they counted.
    pub(crate) phases: bool,
    pub(crate) stop: CancellationToken,
}

/// Why a thread has measured nothing.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The connections could not be made, or the client does not send such a command.
    Client(respire::Error),
    Io(io::Error),
}

impl From<respire::Error> for Failure {
    fn from(error: respire::Error) -> Self {
        Self::Client(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A thread that is connecting, or waits for its start, or runs.
#[derive(Debug)]
pub(crate) struct Worker {
    ready: oneshot::Receiver<Result<(), Failure>>,
    start: oneshot::Sender<Instant>,
    done: oneshot::Receiver<Result<Tally, Failure>>,
}

impl Worker {
    pub(crate) fn spawn(job: Job) -> io::Result<Self> {
        let (ready_sender, ready) = oneshot::channel();
        let (start, start_receiver) = oneshot::channel();
        let (done_sender, done) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().name("respire-load".to_owned()).spawn(move || {
            runtime.block_on(async {
                let clients = connect(&job).await;
                let (clients, report) = match clients {
                    Ok(clients) => (clients, Ok(())),
                    Err(error) => (Vec::new(), Err(error)),
                };
                // Where nobody waits any more, there is nothing to do.
                if ready_sender.send(report).is_err() || clients.is_empty() {
                    return;
                }
                let Ok(start) = start_receiver.await else { return };
                let _ = done_sender.send(run(&job, clients, start).await);
            });
        })?;
        Ok(Self { ready, start, done })
    }

    /// Waits until the thread is connected; then it can be told to start.
    pub(crate) async fn connected(&mut self) -> Result<(), Failure> {
        (&mut self.ready).await.unwrap_or_else(|_| Err(lost()))
    }

    /// Lets the run begin at an instant, the same for all threads, and waits for its end.
    pub(crate) async fn run(self, start: Instant) -> Result<Tally, Failure> {
        // A thread that is gone says so below.
        let _ = self.start.send(start);
        self.done.await.unwrap_or_else(|_| Err(lost()))
    }
}

fn lost() -> Failure {
    Failure::Io(io::Error::other("a thread of the run has panicked"))
}

async fn connect(job: &Job) -> Result<Vec<Client>, Failure> {
    let mut clients = Vec::with_capacity(job.connections);
    for _ in 0..job.connections {
        clients.push(Client::with_config(job.server.clone()).await?);
    }
    Ok(clients)
}

/// What the tasks of a thread share. They never run at the same time, so its lock is always free.
struct Shared {
    start: Instant,
    state: Mutex<State>,
}

struct State {
    gate: Gate,
    /// The callers' tasks, while they wait.
    callers: Vec<Option<Waker>>,
    /// The task that hands out what is due.
    pacer: Option<Waker>,
    fatal: Option<respire::Error>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }
}

async fn run(job: &Job, clients: Vec<Client>, start: Instant) -> Result<Tally, Failure> {
    let schedule = Schedule::new(job.arrivals, job.part, job.end, job.seed);
    let shared = Arc::new(Shared {
        start,
        state: Mutex::new(State {
            gate: Gate::new(schedule, job.callers, job.warm_up, job.end),
            callers: vec![None; job.callers],
            pacer: None,
            fatal: None,
        }),
    });
    let before: Vec<_> = counts(job, &clients);
    Timer::new()?.wait(start).await?;
    let mut callers = JoinSet::new();
    for caller in 0..job.callers {
        let client = clients[caller % clients.len()].clone();
        let rests = job.arrivals == Arrivals::Closed;
        callers.spawn(call(Arc::clone(&shared), caller, client, Arc::clone(&job.workload), rests));
    }
    pace(&shared, job).await?;
    let patience = job.server.command_timeout().unwrap_or_default() + LAST_ANSWERS;
    let ended = async { while callers.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(patience, ended).await;
    callers.shutdown().await;
    let shared = Arc::into_inner(shared).expect("the callers' tasks are gone");
    let now = shared.now();
    let state = shared.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = state.fatal {
        return Err(error.into());
    }
    let mut tally = state.gate.into_tally(now);
    for (before, after) in before.iter().zip(&counts(job, &clients)) {
        tally.add_client(before, after);
    }
    Ok(tally)
}

/// What the clients counted until now; nothing where they are not asked.
fn counts(job: &Job, clients: &[Client]) -> Vec<Stats> {
    let asked = if job.phases { clients } else { &[] };
    asked.iter().map(Client::stats).collect()
}

/// Hands out what is due until the schedule is at its end, or the run is stopped.
async fn pace(shared: &Shared, job: &Job) -> io::Result<()> {
    let mut timer = Timer::new()?;
    let mut woken = Vec::new();
    tokio::select! {
        biased;
        () = job.stop.cancelled() => {
            shared.state().gate.stop(shared.now());
            // Nothing is left to wait for; what waits is woken.
            poll_fn(|cx| poll_pace(cx, shared, &mut timer, &mut woken)).await
        }
        paced = poll_fn(|cx| poll_pace(cx, shared, &mut timer, &mut woken)) => paced,
    }
}

fn poll_pace(
    cx: &mut Context<'_>,
    shared: &Shared,
    timer: &mut Timer,
    woken: &mut Vec<usize>,
) -> Poll<io::Result<()>> {
    loop {
        let now = shared.now();
        let mut state = shared.state();
        let State { gate, callers, pacer, .. } = &mut *state;
        let next = gate.dispatch(now, woken);
        *pacer = Some(cx.waker().clone());
        let wakers: Vec<_> = woken.drain(..).filter_map(|caller| callers[caller].take()).collect();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        let Some(next) = next else { return Poll::Ready(Ok(())) };
        if next.saturating_sub(now) <= AWAKE {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        match timer.poll(cx, shared.start + next) {
            Poll::Ready(Ok(())) => {}
            other => return other,
        }
    }
}

/// A caller: sends one request after the other, each when it is given one.
async fn call(
    shared: Arc<Shared>,
    caller: usize,
    client: Client,
    workload: Arc<Workload>,
    rests: bool,
) {
    while let Some(arrival) = next(&shared, caller).await {
        match workload.call(&client, arrival.number).await {
            Ok(outcome) => {
                let failed = !matches!(outcome, super::tally::Outcome::Answered { .. });
                shared.state().gate.finish(caller, shared.now(), outcome);
                if failed && rests {
                    tokio::time::sleep(REST).await;
                }
            }
            Err(error) => {
                let mut state = shared.state();
                state.fatal.get_or_insert(error);
                state.gate.stop(shared.now());
                let pacer = state.pacer.take();
                drop(state);
                pacer.into_iter().for_each(Waker::wake);
                return;
            }
        }
    }
}

/// Waits for the caller's next request; `None` once there is none.
async fn next(shared: &Shared, caller: usize) -> Option<Arrival> {
    poll_fn(|cx| {
        let mut state = shared.state();
        match state.gate.next(caller, shared.now()) {
            Step::Start(arrival) => Poll::Ready(Some(arrival)),
            Step::Over => Poll::Ready(None),
            Step::Wait { rouse } => {
                state.callers[caller] = Some(cx.waker().clone());
                let pacer = if rouse { state.pacer.take() } else { None };
                drop(state);
                pacer.into_iter().for_each(Waker::wake);
                Poll::Pending
            }
        }
    })
    .await
}
