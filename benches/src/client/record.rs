//! The record of a run, as Markdown.

use std::fmt;

use super::alternate::{Comparison, Figures, Outcome, Plan};
use super::bars::{self, Bar, ratio};
use super::data::{FIELD_BYTES, FIELDS, VALUE_BYTES};
use super::sides::Side;
use super::turn::WORKERS;
use crate::environment::Environment;
use crate::quiet::Shares;
use crate::record::{Origin, Warnings, markdown, one_line, server, yes_or_no};
use crate::series::{Series, nanoseconds};

/// Everything that one run found out.
#[derive(Debug)]
pub struct Record {
    /// Where and when.
    pub environment: Environment,
    /// How much was measured.
    pub plan: Plan,
    /// What to type to get another such record.
    pub command: String,
    /// The server's name and version.
    pub server: String,
    /// Where the CPU time went, if the kernel says so.
    pub shares: Option<Shares>,
    /// Why something is missing.
    pub notes: Vec<String>,
    /// The figures.
    pub comparisons: Vec<Comparison>,
}

impl Record {
    fn origin(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = Origin {
            environment: &self.environment,
            command: &self.command,
            others: &[server(&self.server)],
            crates: &["respire", "rustis", "redis", "fred", "tokio", "rustls"],
            notes: &self.notes,
        };
        write!(f, "{origin}")?;
        let Plan { rounds, length } = self.plan;
        writeln!(
            f,
            "- {rounds} rounds, in each a turn of {:?} after {:?} of warming up for every side, \
             another side first each time. The figures are medians over the rounds ± half the \
             distance between the quartiles; ratios are medians of the ratios of single rounds.",
            length.timed, length.warm_up
        )?;
        writeln!(
            f,
            "- multi_thread has {WORKERS} workers. Values have {VALUE_BYTES} bytes, hashes \
             {FIELDS} fields of {FIELD_BYTES} bytes. CPU is this process' time for each request, \
             without the server's."
        )
    }

    fn bars(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bars = bars::all(&self.comparisons);
        if bars.is_empty() {
            return Ok(());
        }
        let mut table = markdown(["workload", "figure", "against", "required", "result", "met"]);
        for Bar { workload, figure, against, required, result, met, is_aim: _ } in &bars {
            table.add_row([workload, *figure, against, required, result, yes_or_no(*met)]);
        }
        let required: Vec<&Bar> = bars.iter().filter(|bar| !bar.is_aim).collect();
        let met = required.iter().filter(|bar| bar.met).count();
        writeln!(f, "\n## Bars: {met} of {} met\n\n{table}", required.len())
    }

    fn comparison(comparison: &Comparison, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = ["", "a second", "p50", "p99", "p99.9", "CPU", "× floor", "× best peer"];
        let mut table = markdown(header);
        let mut failures = Vec::new();
        let best = comparison.best_peer(|figures| &figures.per_request);
        for (side, outcome) in &comparison.sides {
            match outcome {
                Outcome::Measured(figures) => {
                    let over = |other: Option<&Figures>| {
                        let ratios = |o: &Figures| o.per_request.ratios(&figures.per_request);
                        other.map(|other| ratio(&ratios(other))).unwrap_or_default()
                    };
                    table.add_row([
                        side.to_string(),
                        throughput(&figures.per_request),
                        time(&figures.p50, figures.samples, 2),
                        time(&figures.p99, figures.samples, 100),
                        time(&figures.p999, figures.samples, 1000),
                        time(&figures.cpu, figures.samples, 1),
                        over(comparison.figures(Side::Floor)),
                        over(best.map(|(_, figures)| figures)),
                    ]);
                }
                Outcome::Fails(reason) => failures.push((side, reason)),
            }
        }
        writeln!(f, "\n### {}\n\n{table}", comparison.workload)?;
        for (side, reason) in failures {
            writeln!(f, "\n{side} did not take part: {}", one_line(reason))?;
        }
        Ok(())
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# The client against its peers\n")?;
        write!(f, "{}", Warnings { shares: self.shares, rounds: self.plan.rounds })?;
        self.origin(f)?;
        self.bars(f)?;
        writeln!(f, "\n## Figures\n")?;
        writeln!(f, "The last two columns compare throughput: more than 1 is faster.")?;
        self.comparisons.iter().try_for_each(|comparison| Self::comparison(comparison, f))
    }
}

/// A time and its spread, or nothing when it would be made up from too few samples.
fn time(series: &Series, samples: u64, samples_min: u64) -> String {
    if samples < samples_min {
        return "-".to_owned();
    }
    format!("{} ± {:.0} %", nanoseconds(series.median()), 100.0 * series.spread())
}

/// How many a second, from nanoseconds for each.
fn throughput(per_request: &Series) -> String {
    let each = per_request.median();
    let spread = 100.0 * per_request.spread();
    match 1e9 / each {
        many if many >= 1e6 => format!("{:.2} M ± {spread:.0} %", many / 1e6),
        many if many >= 1e4 => format!("{:.1} k ± {spread:.0} %", many / 1e3),
        few => format!("{few:.0} ± {spread:.0} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throughput_has_three_digits_or_so() {
        let printed = |each| throughput(&[each; 3].into_iter().collect());
        assert_eq!(printed(400.0), "2.50 M ± 0 %");
        assert_eq!(printed(16_000.0), "62.5 k ± 0 %");
        assert_eq!(printed(400_000.0), "2500 ± 0 %");
    }

    #[test]
    fn a_percentile_of_too_few_samples_is_not_shown() {
        let series = [1e3; 3].into_iter().collect();
        assert_eq!(time(&series, 999, 1000), "-");
        assert_eq!(time(&series, 1000, 1000), "1.00 µs ± 0 %");
    }
}
