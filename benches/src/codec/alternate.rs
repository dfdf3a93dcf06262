//! Measuring all sides of a workload in turn.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::sides::hiredis::Hiredis;
use super::sides::{Contestant, Side, contestants};
use super::workload::Workload;
use crate::pass::{Pass, Tally};
use crate::series::Series;
use crate::turns;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How often each side has its turn.
    pub rounds: usize,
    /// About how long one turn lasts on the wall, if a pass is not longer.
    pub turn: Duration,
}

/// A side's result on a workload, in nanoseconds per reply, or per command.
pub type Outcome = turns::Outcome<Series>;

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
    pub fn series(&self, side: Side) -> Option<&Series> {
        turns::figures(&self.sides, side)
    }
}

/// Lets every side have its turn, `plan.rounds` times over; in each round
/// another one begins.
///
/// # Errors
///
/// When respire fails, or two sides read different things.
pub fn compare(workload: &Workload, hiredis: Option<&Hiredis>, plan: Plan) -> Result<Comparison> {
    let mut runners = Vec::new();
    let mut sides = Vec::new();
    for contestant in checked(workload, hiredis)? {
        match contestant {
            Ok(contestant) => runners.push(Runner::new(contestant, plan.turn)?),
            Err((side, reason)) => sides.push((side, Outcome::Fails(reason))),
        }
    }
    for round in 0..plan.rounds {
        for at in turns::order(round, runners.len()) {
            runners[at].turn()?;
        }
    }
    sides.extend(runners.into_iter().map(|r| (r.side, Outcome::Measured(r.series))));
    sides.sort_by_key(|(side, _)| *side);
    Ok(Comparison { workload: workload.clone(), sides })
}

/// The sides that read the input, and those that cannot.
///
/// # Errors
///
/// When respire fails, or two sides read different things.
pub fn checked(
    workload: &Workload,
    hiredis: Option<&Hiredis>,
) -> Result<Vec<Result<Contestant, (Side, String)>>> {
    let mut expected: Option<Tally> = None;
    let mut check = |mut contestant: Contestant| {
        let side = contestant.side;
        let tally = match contestant.pass.tally() {
            Ok(tally) => tally,
            Err(error) if side.is_peer() => return Ok(Err((side, error.to_string()))),
            Err(error) => return Err(error.context(format!("{side} on {}", workload.name()))),
        };
        if side != Side::Memcpy {
            let expected = *expected.get_or_insert(tally);
            ensure!(tally == expected, Mismatch { side, tally, expected });
        }
        Ok(Ok(contestant))
    };
    let contestants = contestants(workload, hiredis)?;
    contestants.into_iter().map(&mut check).collect::<Result<_>>().with_context(|| workload.name())
}

#[derive(Debug)]
struct Mismatch {
    side: Side,
    tally: Tally,
    expected: Tally,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} made {:?} of it and not {:?}", self.side, self.tally, self.expected)
    }
}

impl std::error::Error for Mismatch {}

/// A side and its figures so far.
struct Runner {
    side: Side,
    pass: Box<dyn Pass>,
    /// Passes in a turn, and replies in all of them.
    passes: u64,
    replies: f64,
    series: Series,
}

impl Runner {
    /// Warms the side up and finds out how many passes make a turn.
    fn new(Contestant { side, mut pass }: Contestant, turn: Duration) -> Result<Self> {
        let replies = pass.tally()?.replies;
        let mut passes = 1;
        let cost = loop {
            let start = Instant::now();
            pass.time(passes)?;
            let cost = start.elapsed();
            if cost >= turn / 4 || passes >= 1 << 20 {
                break cost / passes as u32;
            }
            passes *= 4;
        };
        let passes = (turn.as_secs_f64() / cost.as_secs_f64()).ceil().max(1.0) as u64;
        let replies = replies as f64 * passes as f64;
        Ok(Self { side, pass, passes, replies, series: Series::default() })
    }

    fn turn(&mut self) -> Result<()> {
        let time = self.pass.time(self.passes)?;
        self.series.push(time.as_secs_f64() * 1e9 / self.replies);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::workload::{Task, all};

    /// The rest takes minutes without optimisation.
    fn quick(workload: &Workload) -> bool {
        workload.buffer.wire.len() < 1_000_000 && !matches!(workload.task, Task::Feed(_))
    }

    #[test]
    fn all_sides_read_the_same_or_are_known_to_fail() {
        let hiredis = Hiredis::build().inspect_err(|error| eprintln!("no hiredis: {error:#}")).ok();
        for workload in all(None).unwrap().iter().filter(|workload| quick(workload)) {
            for checked in checked(workload, hiredis.as_ref()).unwrap() {
                if let Err((side, reason)) = checked {
                    // Before its version 1 it knows RESP2 only.
                    assert_eq!(side, Side::Hiredis, "{}: {reason}", workload.name());
                    assert!(["f", "m"].contains(&workload.buffer.name.as_str()), "{reason}");
                }
            }
        }
    }

    #[test]
    fn every_side_has_a_figure_for_every_round() {
        let encoding = |workload: &Workload| workload.task == Task::Encode;
        let workload = all(None).unwrap().into_iter().find(encoding).unwrap();
        let plan = Plan { rounds: 9, turn: Duration::from_millis(1) };
        let comparison = compare(&workload, None, plan).unwrap();
        assert!(comparison.sides.iter().any(|(side, _)| *side == Side::Respire));
        for (side, _) in &comparison.sides {
            let series = comparison.series(*side).unwrap();
            assert_eq!(series.len(), plan.rounds, "{side}");
            assert!(series.median() > 0.0, "{side}");
        }
    }
}
