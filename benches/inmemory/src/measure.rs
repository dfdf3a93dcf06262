//! Letting an index go through a replay.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::replay::Steps;
use crate::sides::{Chain, Radix, Respire, Side};

/// Times of one replay.
#[derive(Clone, Debug, Default)]
pub struct Times {
    /// Of each lookup.
    pub lookups: Vec<Duration>,
    /// Of all events.
    pub events: Duration,
}

/// A side as a row of a table.
#[derive(Clone, Copy, Debug)]
pub struct Entrant {
    /// What it is called.
    pub name: &'static str,
    /// Replays and times.
    pub time: fn(&Steps) -> Result<Times>,
    /// Replays and compares every answer with what the pods hold.
    pub check: fn(&Steps) -> Result<()>,
    /// Replays, and hands over the index, so that what it takes can be told.
    pub build: fn(&Steps) -> Result<Box<dyn std::any::Any>>,
}

/// All sides.
pub const ENTRANTS: [Entrant; 3] = [of::<Respire>(), of::<Chain>(), of::<Radix>()];

const fn of<S: Side + 'static>() -> Entrant {
    Entrant { name: S::NAME, time: time::<S>, check: check::<S>, build: build::<S> }
}

/// Questions and events take turns, as they come.
fn time<S: Side>(steps: &Steps) -> Result<Times> {
    let mut side = S::new(steps)?;
    let mut times = Times::default();
    for step in &steps.steps {
        let question = S::question(steps, step);
        let began = Instant::now();
        let answer = side.ask(question)?;
        black_box(S::score(&answer));
        drop(answer);
        times.lookups.push(began.elapsed());
        let event = side.event(steps, step);
        let began = Instant::now();
        side.tell(event)?;
        times.events += began.elapsed();
    }
    Ok(times)
}

fn check<S: Side>(steps: &Steps) -> Result<()> {
    let mut side = S::new(steps)?;
    for (number, step) in steps.steps.iter().enumerate() {
        let answer = side.ask(S::question(steps, step))?;
        for (pod, held) in step.held.iter().enumerate() {
            let found = side.prefix(steps, &answer, pod);
            ensure!(
                found == *held,
                "{}, request {number}: pod {pod} holds {held} blocks, and {found} were found",
                S::NAME
            );
        }
        let event = side.event(steps, step);
        side.tell(event)?;
    }
    Ok(())
}

fn build<S: Side + 'static>(steps: &Steps) -> Result<Box<dyn std::any::Any>> {
    let mut side = S::new(steps)?;
    for step in &steps.steps {
        let event = side.event(steps, step);
        side.tell(event)?;
    }
    Ok(Box::new(side))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::replay::{Options, simulate};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn every_side_finds_what_the_pods_hold() {
        for args in [
            ["--capacity=700", "--pods=4", "--split=1"],
            ["--capacity=300", "--pods=70", "--split=3"],
        ] {
            let line = Line::parse_from(["", "--limit=400"].into_iter().chain(args));
            let steps = simulate(&line.options).unwrap();
            assert!(steps.steps.iter().any(|step| !step.dropped.is_empty()));
            assert!(steps.entries > steps.distinct);
            for entrant in ENTRANTS {
                (entrant.check)(&steps).unwrap();
                assert_eq!((entrant.time)(&steps).unwrap().lookups.len(), steps.steps.len());
            }
        }
    }
}
