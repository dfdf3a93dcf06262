//! Letting all sides of a workload have their turns.

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;

use super::data::Data;
use super::server::Endpoints;
use super::sides::Side;
use super::turn::{Length, Turn, Turns};
use super::workload::Workload;
use crate::series::Series;
use crate::turns;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How often each side has its turn.
    pub rounds: usize,
    /// How long a turn is.
    pub length: Length,
}

/// The figures of a side, one for each of its turns, in nanoseconds.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// The length of the turn over the number of requests: the inverse of the throughput.
    pub per_request: Series,
    /// The latency that half of the requests did not exceed.
    pub p50: Series,
    /// The latency that 99 of 100 did not exceed.
    pub p99: Series,
    /// The latency that 999 of 1000 did not exceed.
    pub p999: Series,
    /// CPU time of this process for each request.
    pub cpu: Series,
    /// The fewest latencies that a turn's percentiles are made of.
    pub samples: u64,
}

impl Figures {
    fn add(&mut self, turn: &Turn) {
        let requests = turn.requests as f64;
        let at = |quantile| Histogram::value_at_quantile(&turn.latencies, quantile) as f64;
        self.per_request.push(turn.elapsed.as_secs_f64() * 1e9 / requests);
        self.p50.push(at(0.5));
        self.p99.push(at(0.99));
        self.p999.push(at(0.999));
        self.cpu.push(turn.cpu.as_secs_f64() * 1e9 / requests);
        let samples = turn.latencies.len();
        self.samples =
            if self.per_request.len() == 1 { samples } else { samples.min(self.samples) };
    }
}

/// A side's result on a workload.
pub type Outcome = turns::Outcome<Figures>;

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
        turns::figures(&self.sides, side)
    }

    /// The peer with the lowest median of a figure.
    pub fn best_peer(&self, figure: impl Fn(&Figures) -> &Series) -> Option<(Side, &Figures)> {
        let peers = self.sides.iter().map(|(side, _)| *side).filter(|side| side.is_peer());
        let measured = peers.filter_map(|side| Some((side, self.figures(side)?)));
        let median = |figures: &Figures| figure(figures).median();
        measured.min_by(|(_, one), (_, other)| median(one).total_cmp(&median(other)))
    }
}

/// Lets every side have its turn, `plan.rounds` times over; in each round another one begins.
///
/// # Errors
///
/// When there is nobody to be measured.
pub fn compare(
    workload: Workload,
    sides: &[Side],
    endpoints: &Endpoints,
    data: &Data,
    plan: Plan,
) -> Result<Comparison> {
    let connect = |side: &Side| match side.connect(workload, endpoints, data) {
        Ok(turns) => Runner { side: *side, turns, outcome: Ok(Figures::default()) },
        Err(error) => Runner { side: *side, turns: Box::new(Absent), outcome: Err(error) },
    };
    let taking_part = sides.iter().filter(|side| side.takes_part(workload.job));
    let mut runners: Vec<Runner> = taking_part.map(connect).collect();
    ensure!(!runners.is_empty(), "none of these sides does {workload}");
    for round in 0..plan.rounds {
        turns::order(round, runners.len()).for_each(|at| runners[at].turn(plan.length));
    }
    let sides = runners.into_iter().map(|runner| (runner.side, runner.outcome.into()));
    Ok(Comparison { workload, sides: sides.collect() })
}

/// A side and its figures so far, or why it has none.
struct Runner {
    side: Side,
    turns: Box<dyn Turns>,
    outcome: Result<Figures>,
}

impl Runner {
    fn turn(&mut self, length: Length) {
        let Ok(figures) = &mut self.outcome else { return };
        match self.turns.turn(length) {
            Ok(turn) => figures.add(&turn),
            Err(error) => self.outcome = Err(error),
        }
    }
}

/// A side that did not come.
struct Absent;

impl Turns for Absent {
    fn turn(&mut self, _: Length) -> Result<Turn> {
        anyhow::bail!("it is not connected")
    }
}
