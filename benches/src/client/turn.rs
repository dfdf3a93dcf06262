//! One turn of one side: callers that do a job for a while.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use super::data::{Data, Sum};
use super::sides::Client;
use super::workload::{Job, Scheduler, Workload};

/// Workers of a `multi_thread` runtime.
pub const WORKERS: usize = 2;

/// How long a turn may take beyond its length before the side counts as hung.
const PATIENCE: Duration = Duration::from_secs(20);

/// The longest latency that is told from a longer one.
const LATENCY_MAX: Duration = Duration::from_secs(60);

/// Of a task's requests, one in so many is timed when there are many tasks: reading the clock for
/// each would be several per cent of the work.
const SAMPLE: usize = 8;

/// How long a turn is.
#[derive(Clone, Copy, Debug)]
pub struct Length {
    /// For how long nothing is counted yet.
    pub warm_up: Duration,
    /// For how long it is.
    pub timed: Duration,
}

/// What came of a turn.
#[derive(Clone, Debug)]
pub struct Turn {
    /// Requests, or pipelines, that ended in it.
    pub requests: u64,
    /// How long it was.
    pub elapsed: Duration,
    /// CPU time of this process meanwhile.
    pub cpu: Duration,
    /// From the call to its answer, in nanoseconds.
    pub latencies: Histogram<u64>,
}

/// A side that is connected and can have its turns.
pub trait Turns {
    /// Has one turn.
    ///
    /// # Errors
    ///
    /// When a request fails, its reply is wrong, or nothing comes.
    fn turn(&mut self, length: Length) -> Result<Turn>;
}

/// A runtime for one side. While another side has its turn, it sleeps.
///
/// # Errors
///
/// When the operating system refuses what a runtime needs.
pub fn runtime(scheduler: Scheduler) -> Result<Runtime> {
    let mut builder = match scheduler {
        Scheduler::Current => Builder::new_current_thread(),
        Scheduler::Multi => Builder::new_multi_thread(),
    };
    builder.worker_threads(WORKERS).enable_all().build().context("cannot start a runtime")
}

/// Runs a future as a task: on `multi_thread` the one that waits in `block_on` is no worker.
///
/// # Errors
///
/// The future's, or it took longer than `length` by far.
pub fn run<T: Send + 'static>(
    runtime: &Runtime,
    length: Length,
    future: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let limit = length.warm_up + length.timed + PATIENCE;
    runtime.block_on(async {
        let task = tokio::spawn(future);
        match tokio::time::timeout(limit, task).await {
            Ok(outcome) => outcome.context("the side panicked")?,
            Err(_) => bail!("hung: no end of a turn within {limit:?}"),
        }
    })
}

/// Counts and times what one caller does, one thing after the other.
#[derive(Debug)]
pub struct Meter {
    length: Length,
    since: Instant,
    cpu: Option<Duration>,
    latencies: Vec<u64>,
}

impl Meter {
    /// Begins a turn.
    pub fn start(length: Length) -> Self {
        Self { length, since: Instant::now(), cpu: None, latencies: Vec::new() }
    }

    /// Notes that what began at `start` has ended, and returns when that was, or `None` when the
    /// turn is over.
    pub fn ended(&mut self, start: Instant) -> Option<Instant> {
        let now = Instant::now();
        if self.cpu.is_some() {
            self.latencies.push(nanoseconds(now - start));
            return (now - self.since < self.length.timed).then_some(now);
        }
        if now - self.since >= self.length.warm_up {
            self.cpu = Some(cpu());
            self.since = Instant::now();
            return Some(self.since);
        }
        Some(now)
    }

    /// What came of the turn, when each thing that ended was so many requests.
    ///
    /// # Errors
    ///
    /// When there was none.
    pub fn finish(self, requests: u64) -> Result<Turn> {
        let elapsed = self.since.elapsed();
        let used = cpu().saturating_sub(self.cpu.context("the turn was too short")?);
        Ok(Turn {
            requests: self.latencies.len() as u64 * requests,
            elapsed,
            cpu: used,
            latencies: histogram(&self.latencies)?,
        })
    }
}

/// A client with a job.
pub struct Runner<C> {
    runtime: Runtime,
    client: C,
    job: Job,
    data: Data,
}

impl<C> std::fmt::Debug for Runner<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runner").field("job", &self.job).finish_non_exhaustive()
    }
}

impl<C: Client> Runner<C> {
    /// Connects.
    ///
    /// # Errors
    ///
    /// As `connect`.
    pub fn start(
        workload: Workload,
        data: &Data,
        connect: impl Future<Output = Result<C>>,
    ) -> Result<Box<dyn Turns>> {
        let runtime = runtime(workload.scheduler)?;
        let client = runtime.block_on(connect)?;
        Ok(Box::new(Self { runtime, client, job: workload.job, data: data.clone() }))
    }
}

impl<C: Client> Turns for Runner<C> {
    fn turn(&mut self, length: Length) -> Result<Turn> {
        let (client, data, job) = (self.client.clone(), self.data.clone(), self.job);
        run(&self.runtime, length, async move {
            match job {
                Job::Gets { tasks: 1 } => one_get(client, &data, length).await,
                Job::Gets { tasks } => gets(client, &data, tasks, length).await,
                _ => batches(client, &data, job, length).await,
            }
        })
    }
}

async fn one_get<C: Client>(mut client: C, data: &Data, length: Length) -> Result<Turn> {
    let expected = Data::value(0);
    let key = data.keys.first().context("no keys")?;
    let mut meter = Meter::start(length);
    let mut start = Some(Instant::now());
    while let Some(begun) = start {
        check_value(client.get(key).await?.as_ref(), &expected)?;
        start = meter.ended(begun);
    }
    meter.finish(1)
}

async fn batches<C: Client>(mut client: C, data: &Data, job: Job, length: Length) -> Result<Turn> {
    let batch = Batch::new(job, data)?;
    batch.run(&mut client, data, true).await?;
    let mut meter = Meter::start(length);
    let mut start = Some(Instant::now());
    while let Some(begun) = start {
        batch.run(&mut client, data, false).await?;
        start = meter.ended(begun);
    }
    meter.finish(1)
}

/// One request of a job other than a small `GET`.
struct Batch {
    job: Job,
    keys: Arc<[String]>,
    expected: Sum,
}

impl Batch {
    fn new(job: Job, data: &Data) -> Result<Self> {
        let (keys, expected) = match job {
            Job::Gets { tasks } => bail!("no batch: {tasks} tasks"),
            Job::Pipeline { commands } => {
                (data.keys.get(..commands).map(Arc::from), data.values_sum(commands))
            }
            Job::HashKeys { commands } => {
                (data.hashes.get(..commands).map(Arc::from), data.fields_sum(commands))
            }
            Job::LargeGet | Job::LargeSet => (Some(Arc::from([])), data.large_sum()),
        };
        Ok(Self { job, keys: keys.context("more commands than keys")?, expected })
    }

    /// `thoroughly` looks at every byte of the reply, else at the sizes only.
    async fn run<C: Client>(&self, client: &mut C, data: &Data, thoroughly: bool) -> Result<()> {
        let mut sum = Sum::default();
        let mut each =
            |bytes: &[u8]| if thoroughly { sum.add_thoroughly(bytes) } else { sum.add(bytes) };
        match self.job {
            Job::Pipeline { .. } => client.get_all(&self.keys, &mut each).await?,
            Job::HashKeys { .. } => client.hash_keys_all(&self.keys, &mut each).await?,
            Job::LargeSet => {
                client.set(&data.large_key, &data.large).await?;
                if !thoroughly {
                    return Ok(());
                }
                each(client.get(&data.large_key).await?.as_ref());
            }
            Job::LargeGet | Job::Gets { .. } => each(client.get(&data.large_key).await?.as_ref()),
        }
        if thoroughly { sum.check_thoroughly(&self.expected) } else { sum.check(&self.expected) }
    }
}

/// What the tasks of a turn go by.
mod phase {
    pub(super) const WARM_UP: u8 = 0;
    pub(super) const TIMED: u8 = 1;
    pub(super) const OVER: u8 = 2;
}

async fn gets<C: Client>(client: C, data: &Data, tasks: usize, length: Length) -> Result<Turn> {
    let phase = Arc::new(AtomicU8::new(phase::WARM_UP));
    let mut callers = JoinSet::new();
    for index in 0..tasks {
        let key = data.keys.get(index).context("more tasks than keys")?.clone();
        callers.spawn(caller(client.clone(), key, index, Arc::clone(&phase)));
    }
    tokio::time::sleep(length.warm_up).await;
    let (start, used) = (Instant::now(), cpu());
    phase.store(phase::TIMED, Ordering::Relaxed);
    tokio::time::sleep(length.timed).await;
    phase.store(phase::OVER, Ordering::Relaxed);
    let (elapsed, used) = (start.elapsed(), cpu().saturating_sub(used));
    let (mut requests, mut latencies) = (0, Vec::new());
    while let Some(calls) = callers.join_next().await {
        let calls = calls.context("a caller panicked")??;
        requests += calls.count;
        latencies.extend(calls.latencies);
    }
    ensure!(requests > 0, "nothing was answered");
    Ok(Turn { requests, elapsed, cpu: used, latencies: histogram(&latencies)? })
}

#[derive(Default)]
struct Calls {
    count: u64,
    latencies: Vec<u64>,
}

async fn caller<C: Client>(
    mut client: C,
    key: String,
    index: usize,
    phase: Arc<AtomicU8>,
) -> Result<Calls> {
    let expected = Data::value(index);
    let mut calls = Calls::default();
    // Tasks that run in step must not all look at the clock in the same step.
    for call in index.. {
        let start = call.is_multiple_of(SAMPLE).then(Instant::now);
        check_value(client.get(&key).await?.as_ref(), &expected)?;
        match phase.load(Ordering::Relaxed) {
            phase::WARM_UP => {}
            phase::TIMED => {
                calls.count += 1;
                calls.latencies.extend(start.map(|start| nanoseconds(start.elapsed())));
            }
            _ => break,
        }
    }
    Ok(calls)
}

fn check_value(value: &[u8], expected: &[u8]) -> Result<()> {
    ensure!(value == expected, "a wrong reply: {}", value.escape_ascii());
    Ok(())
}

fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn histogram(latencies: &[u64]) -> Result<Histogram<u64>> {
    let mut histogram = Histogram::new_with_max(nanoseconds(LATENCY_MAX), 3)?;
    latencies.iter().for_each(|latency| histogram.saturating_record(*latency));
    Ok(histogram)
}
