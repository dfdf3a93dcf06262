//! What the client is held to, as ratios within one run.

use super::alternate::{Comparison, Figures};
use super::sides::Side;
use super::workload::Job;
use crate::series::Series;

/// One requirement and how it turned out.
#[derive(Clone, Debug)]
pub struct Bar {
    /// What was done.
    pub workload: String,
    /// Which figure is compared.
    pub figure: &'static str,
    /// With whom.
    pub against: String,
    /// What must come out.
    pub required: String,
    /// What came out.
    pub result: String,
    /// Whether that is enough.
    pub met: bool,
    /// Whether it is wished for only.
    pub is_aim: bool,
}

/// All bars that can be told from these results.
pub fn all(comparisons: &[Comparison]) -> Vec<Bar> {
    comparisons.iter().flat_map(of).collect()
}

fn of(comparison: &Comparison) -> Vec<Bar> {
    let Some(ours) = comparison.figures(Side::Respire) else { return Vec::new() };
    let bars = Bars { comparison, ours };
    let job = match comparison.workload.job {
        Job::Gets { tasks: 1 } | Job::LargeGet | Job::LargeSet => bars.time_over_floor(1.05),
        Job::HashKeys { .. } => bars.time_over_floor(1.15),
        Job::Gets { tasks: 64 } => bars.throughput_over_floor(0.9),
        Job::Gets { .. } => bars.throughput_over_floor(0.7),
        Job::Pipeline { .. } => None,
    };
    job.into_iter()
        .chain(bars.tail())
        .chain(bars.cpu())
        .chain(bars.twice_the_best())
        .chain(bars.busy())
        .collect()
}

struct Bars<'a> {
    comparison: &'a Comparison,
    ours: &'a Figures,
}

impl Bars<'_> {
    fn time_over_floor(&self, most: f64) -> Option<Bar> {
        let ratios = self.ours.p50.ratios(&self.comparison.figures(Side::Floor)?.p50);
        let required = format!("≤ {most} ×");
        Some(self.bar("p50", Side::Floor, required, &ratios, ratios.median() <= most))
    }

    fn throughput_over_floor(&self, least: f64) -> Option<Bar> {
        let floor = self.comparison.figures(Side::Floor)?;
        let ratios = floor.per_request.ratios(&self.ours.per_request);
        let required = format!("≥ {least} ×");
        Some(self.bar("throughput", Side::Floor, required, &ratios, ratios.median() >= least))
    }

    /// No worse than the best peer's, but for what the ratio itself varies by.
    fn tail(&self) -> Option<Bar> {
        let (peer, theirs) = self.comparison.best_peer(|figures| &figures.p99)?;
        let ratios = self.ours.p99.ratios(&theirs.p99);
        let met = ratios.median() <= 1.0 + ratios.spread();
        Some(self.bar("p99", peer, "≤ 1 × + spread".to_owned(), &ratios, met))
    }

    fn cpu(&self) -> Option<Bar> {
        let (peer, theirs) = self.comparison.best_peer(|figures| &figures.cpu)?;
        let ratios = self.ours.cpu.ratios(&theirs.cpu);
        Some(self.bar("CPU", peer, "< 1 ×".to_owned(), &ratios, ratios.median() < 1.0))
    }

    fn twice_the_best(&self) -> Option<Bar> {
        let Job::Gets { tasks: 512 } = self.comparison.workload.job else { return None };
        let (peer, theirs) = self.comparison.best_peer(|figures| &figures.per_request)?;
        let ratios = theirs.per_request.ratios(&self.ours.per_request);
        let met = ratios.median() >= 2.0;
        let bar = self.bar("throughput", peer, "aim: ≥ 2 ×".to_owned(), &ratios, met);
        Some(Bar { is_aim: true, ..bar })
    }

    /// Less than half the floor's time is wished for where processors halt while they wait, which
    /// cannot be known here.
    fn busy(&self) -> Option<Bar> {
        let busy = self.comparison.figures(Side::RespireBusy)?;
        let ratios = busy.p50.ratios(&self.comparison.figures(Side::Floor)?.p50);
        let required = "aim: < 0.5 × where processors halt".to_owned();
        let bar = self.bar("p50, busy", Side::Floor, required, &ratios, ratios.median() < 0.5);
        Some(Bar { is_aim: true, ..bar })
    }

    fn bar(
        &self,
        figure: &'static str,
        against: Side,
        required: String,
        ratios: &Series,
        met: bool,
    ) -> Bar {
        Bar {
            workload: self.comparison.workload.to_string(),
            figure,
            against: against.to_string(),
            required,
            result: ratio(ratios),
            met,
            is_aim: false,
        }
    }
}

/// The median ratio and its spread.
pub fn ratio(ratios: &Series) -> String {
    format!("{:.2} × ± {:.0} %", ratios.median(), 100.0 * ratios.spread())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::alternate::Outcome;
    use crate::client::workload::{Scheduler, Transport, Workload};

    /// A side that takes this many nanoseconds for everything in every round.
    fn steady(nanoseconds: f64) -> Outcome {
        let series = || [nanoseconds; 9].into_iter().collect::<Series>();
        Outcome::Measured(Figures {
            per_request: series(),
            p50: series(),
            p99: series(),
            p999: series(),
            cpu: series(),
            samples: 1,
        })
    }

    fn met(job: Job, floor: f64, ours: f64, peer: f64) -> Vec<(&'static str, bool)> {
        let workload = Workload { transport: Transport::Tcp, job, scheduler: Scheduler::Current };
        let sides = vec![
            (Side::Floor, steady(floor)),
            (Side::Respire, steady(ours)),
            (Side::Rustis, steady(peer)),
            (Side::Fred, Outcome::Fails("a wrong reply".to_owned())),
        ];
        let bars = all(&[Comparison { workload, sides }]);
        bars.iter().map(|bar| (bar.figure, bar.met)).collect()
    }

    #[test]
    fn a_lone_request_is_held_to_the_floor_and_to_the_best_peer() {
        let one = Job::Gets { tasks: 1 };
        assert_eq!(met(one, 100.0, 104.0, 105.0), [("p50", true), ("p99", true), ("CPU", true)]);
        assert_eq!(met(one, 100.0, 106.0, 106.0), [("p50", false), ("p99", true), ("CPU", false)]);
        assert_eq!(met(one, 100.0, 106.0, 105.0), [("p50", false), ("p99", false), ("CPU", false)]);
    }

    #[test]
    fn many_tasks_are_held_to_a_share_of_the_floors_throughput() {
        let throughput = |tasks, ours| met(Job::Gets { tasks }, 90.0, ours, 250.0)[0];
        assert_eq!(throughput(64, 100.0), ("throughput", true));
        assert_eq!(throughput(64, 101.0), ("throughput", false));
        assert_eq!(throughput(512, 128.0), ("throughput", true));
        assert_eq!(throughput(512, 129.0), ("throughput", false));
    }

    #[test]
    fn twice_the_best_peer_is_an_aim_at_512_tasks_only() {
        let last = |tasks, ours| *met(Job::Gets { tasks }, 90.0, ours, 250.0).last().unwrap();
        assert_eq!(last(512, 125.0), ("throughput", true));
        assert_eq!(last(512, 126.0), ("throughput", false));
        assert_eq!(last(64, 125.0), ("CPU", true));
    }
}
