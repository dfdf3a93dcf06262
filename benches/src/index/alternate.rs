//! Letting all sides of a workload have their turns.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;
use respire_kvblock::BlockHash;

use super::fleet::{Fleet, mixed};
use super::job::{EVENT, Job, Workload};
use super::server::{self, Server};
use super::sides::{Asked, Side};
use crate::series::Series;
use crate::turns;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How often each side has its turn.
    pub rounds: usize,
    /// How long a turn is; at least one call is made.
    pub turn: Duration,
}

/// A side's figures.
#[derive(Clone, Debug)]
pub struct Figures {
    /// The median of each turn, in nanoseconds.
    pub medians: Series,
    /// All calls of all turns, in nanoseconds.
    pub latencies: Histogram<u64>,
}

impl Figures {
    fn new() -> Result<Self> {
        let latencies = Histogram::new_with_bounds(1, 600_000_000_000, 3)?;
        Ok(Self { medians: Series::default(), latencies })
    }

    fn add(&mut self, turn: &mut [Duration]) {
        turn.sort_unstable();
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        turn.iter().for_each(|time| self.latencies.saturating_record(nanoseconds(*time)));
        let middle = turn.get(turn.len() / 2).copied().unwrap_or_default();
        self.medians.push(nanoseconds(middle) as f64);
    }
}

/// A side's result on a workload.
pub type Outcome = turns::Outcome<Box<Figures>>;

/// What all sides made of a workload.
#[derive(Debug)]
pub struct Comparison {
    /// What it was.
    pub workload: Workload,
    /// What came of it, in the order of the tables.
    pub sides: Vec<(Side, Outcome)>,
}

impl Comparison {
    /// The figures of a side that took part and did not fail.
    pub fn figures(&self, side: Side) -> Option<&Figures> {
        turns::figures(&self.sides, side).map(|figures| &**figures)
    }
}

/// Lets every side have its turn, `plan.rounds` times over; in each round another one begins.
///
/// # Errors
///
/// When there is nobody to be measured.
pub async fn compare(
    workload: Workload,
    sides: &[Side],
    server: &Server,
    plan: Plan,
) -> Result<Comparison> {
    let mut runners = Vec::new();
    for side in sides.iter().filter(|side| side.takes_part(workload.job)) {
        runners.push(Runner::start(*side, workload, server).await);
    }
    ensure!(!runners.is_empty(), "none of these sides does {workload}");
    agree(&mut runners);
    for round in 0..plan.rounds {
        for at in turns::order(round, runners.len()) {
            runners[at].turn(plan.turn).await;
        }
    }
    let sides = runners.into_iter().map(|runner| {
        let figures = runner.state.map(|ready| Box::new(ready.figures));
        (runner.side, figures.into())
    });
    Ok(Comparison { workload, sides: sides.collect() })
}

/// Fails the sides whose first answer is another than the first side's.
fn agree(runners: &mut [Runner]) {
    let answers = runners.iter().filter_map(|runner| runner.state.as_ref().ok());
    let Some(expected) = answers.map(|ready| ready.answer.clone()).next() else { return };
    for runner in runners {
        let differs = runner.state.as_ref().is_ok_and(|ready| !same(&ready.answer, &expected));
        if differs {
            runner.state = Err(anyhow::anyhow!("its answer differs from the first side's"));
        }
    }
}

/// Equal but for the order in which weights were added up.
fn same(one: &[(String, f64)], other: &[(String, f64)]) -> bool {
    let pairs = one.iter().zip(other);
    one.len() == other.len()
        && pairs.into_iter().all(|((one, a), (other, b))| one == other && (a - b).abs() < 1e-6 * b)
}

/// A side and its figures so far, or why it has none.
struct Runner {
    side: Side,
    state: Result<Ready>,
}

struct Ready {
    steps: Steps,
    /// The first answer to a lookup, to be compared.
    answer: Vec<(String, f64)>,
    figures: Figures,
}

impl Runner {
    async fn start(side: Side, workload: Workload, server: &Server) -> Self {
        Self { side, state: Ready::start(side, workload, server).await }
    }

    async fn turn(&mut self, length: Duration) {
        let Ok(ready) = &mut self.state else { return };
        match ready.steps.turn(length).await {
            Ok(mut times) => ready.figures.add(&mut times),
            Err(error) => self.state = Err(error),
        }
    }
}

impl Ready {
    async fn start(side: Side, workload: Workload, server: &Server) -> Result<Self> {
        let mut asked = side.connect(workload, server).await?;
        let other = match workload.job {
            Job::EvictUnknown => Some(side.connect(workload, server).await?),
            _ => None,
        };
        let mut answer = Vec::new();
        let mut keys = Vec::new();
        match workload.job {
            Job::Lookup { fleet, blocks, held } => {
                keys = fleet.prompt(blocks, held);
                answer = asked.scores(&keys).await?.sorted();
                ensure!(answer.is_empty() == (held == 0), "{} pods", answer.len());
            }
            Job::Clear { others } => {
                let database = server::scratch(side as usize, workload.job);
                fill_others(side, &server.url(database, false), others).await?;
            }
            _ => {}
        }
        let steps = Steps { job: workload.job, asked, other, keys, events: 0 };
        Ok(Self { steps, answer, figures: Figures::new()? })
    }
}

/// By an index that writes the side's layout.
async fn fill_others(side: Side, url: &str, others: usize) -> Result<()> {
    let client = server::patient(url).await?;
    match side {
        Side::Port | Side::LlmD => {
            server::fill_others(&respire_kvblock::ServerIndex::new(client), others).await
        }
        Side::Bitmap | Side::BitmapPrefixes => {
            server::fill_others(&server::bitmap(client, "kvb:"), others).await
        }
    }
}

/// What a side does in a turn.
struct Steps {
    job: Job,
    asked: Box<dyn Asked>,
    /// Who adds what the side evicts, where that is another.
    other: Option<Box<dyn Asked>>,
    keys: Vec<BlockHash>,
    events: u64,
}

impl Steps {
    async fn turn(&mut self, length: Duration) -> Result<Vec<Duration>> {
        let mut times = Vec::new();
        let begun = Instant::now();
        // The first call finds cold caches; it is not counted where there is time for others.
        let first = self.step().await?;
        while begun.elapsed() < length {
            times.push(self.step().await?);
        }
        if times.is_empty() {
            times.push(first);
        }
        Ok(times)
    }

    /// One call, timed without what has to come before and after it.
    async fn step(&mut self) -> Result<Duration> {
        let Self { job, asked, other, keys, events } = self;
        if let Job::Lookup { .. } = job {
            let start = Instant::now();
            std::hint::black_box(asked.scores(keys).await?);
            return Ok(start.elapsed());
        }
        *events += 1;
        let number = |block: u64| BlockHash(mixed(1 << 52 | *events << 8 | block));
        let engine: Vec<BlockHash> = (0..EVENT as u64).map(number).collect();
        let request: Vec<BlockHash> = engine.iter().map(|key| BlockHash(!key.0)).collect();
        let entry = Fleet { pods: 128, entries: 1 }.entry(100);
        let start = Instant::now();
        other.as_mut().unwrap_or(asked).add(&engine, &request, &entry).await?;
        let added = start.elapsed();
        let start = Instant::now();
        match job {
            Job::Clear { .. } => asked.clear(&entry.pod_identifier).await?,
            _ => asked.evict(&engine, &entry).await?,
        }
        let removed = start.elapsed();
        if *events == 1 && !asked.scores(&request).await?.sorted().is_empty() {
            bail!("something is left of what was removed");
        }
        match job {
            Job::Add => Ok(added),
            Job::Evict | Job::EvictUnknown | Job::Clear { .. } => Ok(removed),
            Job::Lookup { .. } => None.context("a lookup adds nothing"),
        }
    }
}
