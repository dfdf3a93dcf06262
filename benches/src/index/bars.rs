//! What the index is held to, as ratios within one run.

use std::time::Duration;

use super::alternate::{Comparison, Figures};
use super::job::{Job, OTHERS, SHALLOW, USUAL};
use super::memory::Memory;
use super::sides::Side;
use crate::series::Series;

/// One requirement and how it turned out.
#[derive(Clone, Debug)]
pub struct Bar {
    /// What was done.
    pub workload: String,
    /// Whose figure, and compared with whose.
    pub what: String,
    /// What must come out.
    pub required: String,
    /// What came out.
    pub result: String,
    /// Whether that is enough.
    pub met: bool,
}

/// All bars that can be told from these results.
pub fn all(comparisons: &[Comparison], memory: &[Memory]) -> Vec<Bar> {
    let mut bars: Vec<Bar> = comparisons.iter().flat_map(of).collect();
    bars.extend(flat(comparisons));
    bars.extend(
        memory.iter().filter(|memory| memory.holders == 10 && memory.columns == 128).map(smaller),
    );
    bars
}

fn of(comparison: &Comparison) -> Vec<Bar> {
    let near = comparison.workload.round_trip.is_zero();
    let ratio = |side, least| faster(comparison, side, least);
    let bars = match comparison.workload.job {
        Job::Lookup { fleet, blocks, held } if fleet == USUAL && near => {
            let long = blocks >= 1_710;
            let mut bars = match held {
                _ if held == blocks && long => vec![ratio(Side::LlmD, 2.0)],
                0 | SHALLOW if long => vec![ratio(Side::LlmD, 10.0)],
                _ => Vec::new(),
            };
            if blocks == 1_710 && held == blocks {
                for side in [Side::Bitmap, Side::BitmapPrefixes] {
                    bars.push(ratio(side, 12.0));
                    bars.push(at_most(comparison, side, 0.5, Duration::from_millis(1)));
                    bars.push(at_most(comparison, side, 0.99, Duration::from_millis(2)));
                }
            }
            bars
        }
        Job::Lookup { .. } if !near => vec![never_slower(comparison, Side::LlmD)],
        Job::Evict if !near => {
            vec![ratio(Side::LlmD, 20.0), ratio(Side::Bitmap, 20.0)]
        }
        _ => Vec::new(),
    };
    bars.into_iter().flatten().collect()
}

/// How many times as fast as the port a side was, round by round.
fn speed(comparison: &Comparison, side: Side) -> Option<Series> {
    let port = comparison.figures(Side::Port)?;
    Some(port.medians.ratios(&comparison.figures(side)?.medians))
}

fn faster(comparison: &Comparison, side: Side, least: f64) -> Option<Bar> {
    let speed = speed(comparison, side)?;
    let required = format!("≥ {least} ×");
    Some(bar(comparison, side, "speed", required, ratio(&speed), speed.median() >= least))
}

/// But for what the ratio itself varies by.
fn never_slower(comparison: &Comparison, side: Side) -> Option<Bar> {
    let speed = speed(comparison, side)?;
    let met = speed.median() >= 1.0 - speed.spread();
    Some(bar(comparison, side, "speed", "≥ 1 × − spread".to_owned(), ratio(&speed), met))
}

fn at_most(comparison: &Comparison, side: Side, quantile: f64, most: Duration) -> Option<Bar> {
    let figures: &Figures = comparison.figures(side)?;
    let time = Duration::from_nanos(figures.latencies.value_at_quantile(quantile));
    let what = format!("{side}, p{}", quantile * 100.0);
    Some(Bar {
        workload: comparison.workload.to_string(),
        what,
        required: format!("< {most:?}"),
        result: format!("{time:.3?}"),
        met: time < most,
    })
}

/// A clear in the bitmap layout takes the same time in an index that is ten times as large.
fn flat(comparisons: &[Comparison]) -> Option<Bar> {
    let of = |others| {
        comparisons.iter().find(|c| c.workload.job == Job::Clear { others })?.figures(Side::Bitmap)
    };
    let [few, many] = OTHERS.map(of);
    let ratios = many?.medians.ratios(&few?.medians);
    Some(Bar {
        workload: format!("Clear, {} blocks of others over {}", OTHERS[1], OTHERS[0]),
        what: format!("{}, time", Side::Bitmap),
        required: "≤ 1.25 × + spread".to_owned(),
        result: ratio(&ratios),
        met: ratios.median() <= 1.25 + ratios.spread(),
    })
}

fn smaller(memory: &Memory) -> Bar {
    let times = memory.llm_d / memory.bitmap;
    Bar {
        workload: format!("Memory, a request key with {} of 128 holders", memory.holders),
        what: format!("{} over {}", Side::LlmD, Side::Bitmap),
        required: "≥ 10 ×".to_owned(),
        result: format!("{times:.1} ×"),
        met: times >= 10.0,
    }
}

fn bar(
    comparison: &Comparison,
    side: Side,
    figure: &str,
    required: String,
    result: String,
    met: bool,
) -> Bar {
    let what = format!("{side}, {figure} over {}", Side::Port);
    Bar { workload: comparison.workload.to_string(), what, required, result, met }
}

/// The median ratio and its spread.
pub fn ratio(ratios: &Series) -> String {
    format!("{:.2} × ± {:.0} %", ratios.median(), 100.0 * ratios.spread())
}

#[cfg(test)]
mod tests {
    use hdrhistogram::Histogram;

    use super::*;
    use crate::index::alternate::Outcome;
    use crate::index::fleet::BLOCKS;
    use crate::index::job::Workload;

    /// A side that takes this many nanoseconds for everything.
    fn steady(nanoseconds: u64) -> Outcome {
        let mut latencies = Histogram::new(3).unwrap();
        latencies.record(nanoseconds).unwrap();
        let medians = [nanoseconds as f64; 9].into_iter().collect();
        Outcome::Measured(Box::new(Figures { medians, latencies }))
    }

    fn met(job: Job, round_trip: u64, port: u64, llm_d: u64, bitmap: u64) -> Vec<bool> {
        let workload = Workload { job, round_trip: Duration::from_millis(round_trip) };
        let sides = vec![
            (Side::Port, steady(port)),
            (Side::LlmD, steady(llm_d)),
            (Side::Bitmap, steady(bitmap)),
        ];
        let bars = all(&[Comparison { workload, sides }], &[]);
        bars.into_iter().map(|bar| bar.met).collect()
    }

    #[test]
    fn a_full_hit_is_held_to_twice_and_twelve_times_the_port() {
        let job = Job::Lookup { fleet: USUAL, blocks: 1_710, held: 1_710 };
        assert_eq!(met(job, 0, 2_000_000, 1_000_000, 160_000), [true, true, true, true]);
        assert_eq!(met(job, 0, 1_990_000, 1_000_000, 170_000), [false, false, true, true]);
        assert_eq!(met(job, 0, 90_000_000, 1, 3_000_000), [true, true, false, false]);
    }

    #[test]
    fn a_shallow_hit_is_held_to_ten_times_the_port() {
        let job = Job::Lookup { fleet: USUAL, blocks: BLOCKS, held: SHALLOW };
        assert_eq!(met(job, 0, 1_000, 100, 1), [true]);
        assert_eq!(met(job, 0, 990, 100, 1), [false]);
    }

    #[test]
    fn far_away_no_lookup_may_be_slower_and_an_eviction_is_twenty_times_as_fast() {
        let job = Job::Lookup { fleet: USUAL, blocks: 431, held: 0 };
        assert_eq!(met(job, 1, 1_000, 1_000, 1), [true]);
        assert_eq!(met(job, 1, 1_000, 1_001, 1), [false]);
        assert_eq!(met(Job::Evict, 1, 2_000, 100, 101), [true, false]);
    }

    #[test]
    fn a_clear_may_not_grow_with_the_index() {
        let clear = |others, bitmap| Comparison {
            workload: Workload { job: Job::Clear { others }, round_trip: Duration::ZERO },
            sides: vec![(Side::Bitmap, steady(bitmap))],
        };
        let met = |many| all(&[clear(OTHERS[0], 100), clear(OTHERS[1], many)], &[])[0].met;
        assert!(met(125) && !met(126));
    }
}
