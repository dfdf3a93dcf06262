//! The record of a run, as Markdown.

use std::fmt;

use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;

use super::alternate::{Comparison, Figures, Outcome, Plan};
use super::bars::{self, Bar, ratio};
use super::job::Job;
use super::memory::{COLUMNS, Memory};
use super::sides::Side;
use crate::client::quiet::{OTHERS_MAX, Shares};
use crate::client::record::ROUNDS_MIN;
use crate::environment::{Environment, version};
use crate::series::nanoseconds;

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
    /// The figures.
    pub comparisons: Vec<Comparison>,
    /// What a block costs.
    pub memory: Vec<Memory>,
}

impl Record {
    fn origin(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Environment { cpu, load, date, commit, rustc, profile } = &self.environment;
        writeln!(f, "- CPU: {cpu}; load average at the start {load}")?;
        writeln!(f, "- Date: {date}")?;
        writeln!(f, "- Commit: {commit}")?;
        writeln!(f, "- Compiler: {rustc}, profile {profile}")?;
        writeln!(f, "- Command, in benches/: `{}`", self.command)?;
        writeln!(f, "- Server: {}, on the same machine, started for this run", self.server)?;
        let crates = ["respire-kvblock", "redis", "sonic-rs", "tokio"];
        let versions = crates.map(|name| format!("{name} {}", version(name)));
        writeln!(f, "- Crates: {}", versions.join(", "))?;
        writeln!(
            f,
            "- {} rounds, in each a turn of {:?} for every side, at least one call, another side first each time. The \
             times are of all calls; ratios are medians of the ratios of the single rounds' medians ± half the distance \
             between the quartiles. 1ms: a relay makes each round trip that much longer.",
            self.plan.rounds, self.plan.turn
        )
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        match self.shares {
            Some(shares) if shares.is_quiet() => {}
            Some(Shares { run, others, stolen }) => warnings.push(format!(
                "The machine was not quiet: of the processors' time, this run had {:.0} %, other processes had \
                 {:.0} % and other machines {:.0} %, which is more than {:.0} % together.",
                100.0 * run,
                100.0 * others,
                100.0 * stolen,
                100.0 * OTHERS_MAX
            )),
            None => warnings.push("Whether the machine was quiet is not known.".to_owned()),
        }
        if self.plan.rounds < ROUNDS_MIN {
            warnings.push(format!("Fewer than {ROUNDS_MIN} rounds: a glance, not a record."));
        }
        warnings
    }

    fn bars(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bars = bars::all(&self.comparisons, &self.memory);
        if bars.is_empty() {
            return Ok(());
        }
        let mut table = markdown(["workload", "what", "required", "result", "met"]);
        for Bar { workload, what, required, result, met } in &bars {
            let met = if *met { "yes" } else { "**no**" };
            table.add_row([workload, what, required, result, met]);
        }
        let met = bars.iter().filter(|bar| bar.met).count();
        writeln!(f, "\n## Bars: {met} of {} met\n\n{table}", bars.len())
    }

    /// One table for lookups, one for the rest.
    fn figures(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_lookup = |c: &&Comparison| matches!(c.workload.job, Job::Lookup { .. });
        let (lookups, events): (Vec<_>, Vec<_>) = self.comparisons.iter().partition(is_lookup);
        for (title, comparisons) in [("Lookups", lookups), ("Events", events)] {
            if comparisons.is_empty() {
                continue;
            }
            let mut table =
                markdown(["workload", "side", "p50", "p99", "p99.9", "calls", "× as fast"]);
            let mut failures = Vec::new();
            for comparison in comparisons {
                for (side, outcome) in &comparison.sides {
                    match outcome {
                        Outcome::Measured(figures) => {
                            table.add_row(row(comparison, *side, figures));
                        }
                        Outcome::Fails(reason) => {
                            failures.push(format!("{}, {side}: {reason}", comparison.workload));
                        }
                    }
                }
            }
            writeln!(f, "\n## {title}\n\n{table}")?;
            for failure in failures {
                writeln!(f, "\nDid not take part: {}", failure.lines().next().unwrap_or_default())?;
            }
        }
        Ok(())
    }

    fn memory(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.memory.is_empty() {
            return Ok(());
        }
        let header = ["holders", "llm-d", "bitmap", "×", "llm-d, mappings", "bitmap, mappings"];
        let mut table = markdown(header);
        for memory in &self.memory {
            table.add_row([
                memory.holders.to_string(),
                format!("{:.0}", memory.llm_d),
                format!("{:.0}", memory.bitmap),
                format!("{:.1}", memory.llm_d / memory.bitmap),
                format!("{:.0}", memory.llm_d_engine),
                format!("{:.0}", memory.bitmap_engine),
            ]);
        }
        writeln!(
            f,
            "\n## Memory\n\nBytes for each block, by `MEMORY USAGE`, of {COLUMNS} pods. Mappings are the engine key and, in \
             llm-d's layout, a share of the reverse index.\n\n{table}"
        )
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# The index against llm-d's commands\n")?;
        for warning in self.warnings() {
            writeln!(f, "> **Warning.** {warning}\n")?;
        }
        self.origin(f)?;
        self.bars(f)?;
        self.figures(f)?;
        self.memory(f)
    }
}

fn row(comparison: &Comparison, side: Side, figures: &Figures) -> [String; 7] {
    let calls = figures.latencies.len();
    // A percentile of too few calls would be made up.
    let at = |quantile: f64, calls_min: u64| match calls {
        _ if calls < calls_min => "-".to_owned(),
        _ => nanoseconds(figures.latencies.value_at_quantile(quantile) as f64),
    };
    let port = comparison.figures(Side::Port).filter(|_| side != Side::Port);
    [
        comparison.workload.to_string(),
        side.to_string(),
        at(0.5, 1),
        at(0.99, 100),
        at(0.999, 1000),
        calls.to_string(),
        port.map(|port| ratio(&port.medians.ratios(&figures.medians))).unwrap_or_default(),
    ]
}

fn markdown<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header(header);
    table
}
