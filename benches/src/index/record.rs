//! The record of a run, as Markdown.

use std::fmt;

use super::alternate::{Comparison, Figures, Outcome, Plan};
use super::bars::{self, Bar, ratio};
use super::hashing::{self, Hashing, Way};
use super::job::Job;
use super::memory::Memory;
use super::sides::Side;
use crate::environment::Environment;
use crate::quiet::Shares;
use crate::record::{Origin, Warnings, markdown, one_line, server, yes_or_no};
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
    /// How fast block keys are hashed.
    pub hashing: Vec<Hashing>,
}

impl Record {
    fn origin(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = Origin {
            environment: &self.environment,
            command: &self.command,
            others: &[server(&self.server)],
            crates: &["respire-kvblock", "redis", "sonic-rs", "tokio", "ciborium", "fnv"],
            notes: &[],
        };
        write!(f, "{origin}")?;
        writeln!(
            f,
            "- {} rounds, in each a turn of {:?} for every side, at least one call, another side first each time. The \
             times are of all calls; ratios are medians of the ratios of the single rounds' medians ± half the distance \
             between the quartiles. 1ms: a relay makes each round trip that much longer.",
            self.plan.rounds, self.plan.turn
        )
    }

    fn bars(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bars = bars::all(&self.comparisons, &self.memory);
        if bars.is_empty() {
            return Ok(());
        }
        let mut table = markdown(["workload", "what", "required", "result", "met"]);
        for Bar { workload, what, required, result, met } in &bars {
            table.add_row([workload, what, required, result, yes_or_no(*met)]);
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
                            let reason = one_line(reason);
                            failures.push(format!("{}, {side}: {reason}", comparison.workload));
                        }
                    }
                }
            }
            writeln!(f, "\n## {title}\n\n{table}")?;
            for failure in failures {
                writeln!(f, "\nDid not take part: {failure}")?;
            }
        }
        Ok(())
    }

    fn memory(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.memory.is_empty() {
            return Ok(());
        }
        let header = [
            "columns",
            "holders",
            "llm-d",
            "bitmap",
            "×",
            "value",
            "llm-d, mappings",
            "bitmap, mappings",
        ];
        let mut table = markdown(header);
        for memory in &self.memory {
            table.add_row([
                memory.columns.to_string(),
                memory.holders.to_string(),
                format!("{:.0}", memory.llm_d),
                format!("{:.0}", memory.bitmap),
                format!("{:.1}", memory.llm_d / memory.bitmap),
                format!("{}, {:.0} bytes", memory.form, memory.value),
                format!("{:.0}", memory.llm_d_engine),
                format!("{:.0}", memory.bitmap_engine),
            ]);
        }
        writeln!(
            f,
            "\n## Memory\n\nBytes for each block: the sum of `MEMORY USAGE` of its keys, without sampling. Mappings are the engine \
             key. The value is what a block's key holds in the bitmap layout: a list of columns, as long as a bitmap would be \
             longer, or a bitmap.\n\n{table}"
        )
    }

    fn hashing(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let libraries = self.hashing.iter().find(|hashing| hashing.way == Way::Libraries);
        let Some(libraries) = libraries else { return Ok(()) };
        let mut table = markdown(["by", "blocks a second", "a block", "× as fast"]);
        for Hashing { way, per_block } in &self.hashing {
            let each = per_block.median();
            let times = libraries.per_block.ratios(per_block);
            table.add_row([
                way.to_string(),
                format!("{:.2} M", 1e3 / each),
                nanoseconds(each),
                if *way == Way::Libraries { String::new() } else { ratio(&times) },
            ]);
        }
        writeln!(
            f,
            "\n## Hashing\n\nCPU time to hash a prompt of {} blocks of {} tokens, all in one call, by one thread.\n\n{table}",
            hashing::BLOCKS,
            hashing::TOKENS
        )
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# The index against llm-d's commands\n")?;
        write!(f, "{}", Warnings { shares: self.shares, rounds: self.plan.rounds })?;
        self.origin(f)?;
        self.bars(f)?;
        self.figures(f)?;
        self.memory(f)?;
        self.hashing(f)
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
