//! The record of a run, as Markdown.

use std::fmt;

use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;

use super::alternate::{Comparison, Outcome, Plan};
use super::bars::{self, Bar};
use super::sides::Side;
use crate::environment::Environment;
use crate::record::{Origin, markdown, yes_or_no};
use crate::series::{Series, nanoseconds};

/// What a side allocated on a workload, once its buffers had their size.
#[derive(Clone, Debug)]
pub struct Allocations {
    /// The workload's name.
    pub workload: String,
    /// The side.
    pub side: Side,
    /// Allocations of several passes.
    pub count: u64,
    /// Replies in those passes.
    pub replies: u64,
}

impl Allocations {
    fn per_reply(&self) -> String {
        match self.count as f64 / self.replies as f64 {
            0.0 => "0".to_owned(),
            few if few < 0.01 => "< 0.01".to_owned(),
            count => format!("{count:.2}").trim_end_matches(".00").to_owned(),
        }
    }
}

/// Everything that one run found out.
#[derive(Debug)]
pub struct Record {
    /// Where and when.
    pub environment: Environment,
    /// How much was measured.
    pub plan: Plan,
    /// What to type to get another such record.
    pub command: String,
    /// The version of hiredis, or why it did not take part.
    pub hiredis: String,
    /// Why something else is missing.
    pub notes: Vec<String>,
    /// The times.
    pub comparisons: Vec<Comparison>,
    /// The allocations.
    pub allocations: Vec<Allocations>,
}

impl Record {
    /// What the codec is held to, and how it did.
    pub fn bars(&self) -> Vec<Bar> {
        bars::all(&self.comparisons, &self.allocations)
    }

    fn origin(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = Origin {
            environment: &self.environment,
            command: &self.command,
            others: &[format!("hiredis: {}", self.hiredis)],
            crates: &["rustis", "redis", "redis-protocol", "bytes"],
            notes: &self.notes,
        };
        write!(f, "{origin}")?;
        let Plan { rounds, turn } = self.plan;
        writeln!(
            f,
            "- CPU time, {rounds} rounds, in each a turn of about {turn:?} for every side, \
             another side first each time; the figures are medians ± half the distance between \
             the quartiles"
        )
    }

    /// The tables of times, one for each group of workloads.
    fn times(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let with_peers = self.comparisons.iter().filter(|c| c.workload.peers);
        for group in distinct(with_peers.map(|comparison| comparison.workload.group())) {
            let of_group = |c: &&Comparison| c.workload.peers && c.workload.group() == group;
            let columns: Vec<_> = self.comparisons.iter().filter(of_group).collect();
            writeln!(f, "\n## {group}\n\n{}", times_table(&columns))?;
        }
        Ok(())
    }

    fn contents(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = markdown(["buffer", "bytes", "replies", "contents"]);
        let with_peers = self.comparisons.iter().filter(|c| c.workload.peers);
        let mut seen: Vec<&str> = Vec::new();
        for buffer in with_peers.map(|comparison| &comparison.workload.buffer) {
            if seen.contains(&buffer.name.as_str()) || buffer.wire.is_empty() {
                continue;
            }
            seen.push(&buffer.name);
            table.add_row([
                &buffer.name,
                &buffer.wire.len().to_string(),
                &buffer.replies.len().to_string(),
                &buffer.contents,
            ]);
        }
        writeln!(f, "\n## Buffers\n\n{table}")
    }

    fn byte_by_byte(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shapes = bars::per_byte(&self.comparisons);
        if shapes.is_empty() {
            return Ok(());
        }
        let mut table = markdown(["reply", "30 kB", "300 kB", "3 MB"]);
        for (shape, sizes) in shapes {
            table.add_row([shape].into_iter().chain(sizes.iter().map(|(_, s)| figure(s))));
        }
        writeln!(f, "\n## Byte by byte, per byte\n\n{table}")
    }

    fn allocations(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |counted: &Allocations| counted.side;
        let mut sides = distinct(self.allocations.iter().map(side));
        sides.retain(|side| !side.is_floor());
        sides.sort_unstable();
        if sides.is_empty() {
            return Ok(());
        }
        let workloads = distinct(self.allocations.iter().map(|counted| &counted.workload));
        let mut table = Table::new();
        table.load_style(ASCII_MARKDOWN).set_header(
            ["per reply".to_owned()].into_iter().chain(sides.iter().map(Side::to_string)),
        );
        for workload in workloads {
            let cell = |side: &Side| {
                let of =
                    |counted: &&Allocations| counted.side == *side && counted.workload == *workload;
                self.allocations.iter().find(of).map(Allocations::per_reply).unwrap_or_default()
            };
            table.add_row([workload.clone()].into_iter().chain(sides.iter().map(cell)));
        }
        writeln!(f, "\n## Allocations in the steady state\n\n{table}")
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# The codec against its peers\n")?;
        self.origin(f)?;
        let mut table =
            markdown(["workload", "against", "required", "result", "at the floor", "met"]);
        let bars = self.bars();
        for Bar { what, against, required, result, at_the_floor, met } in &bars {
            let floor = at_the_floor.as_deref().unwrap_or_default();
            table.add_row([what, against, required, result, floor, yes_or_no(*met)]);
        }
        let met = bars.iter().filter(|bar| bar.met).count();
        writeln!(f, "\n## Bars: {met} of {} met\n\n{table}", bars.len())?;
        self.times(f)?;
        self.byte_by_byte(f)?;
        self.allocations(f)?;
        self.contents(f)
    }
}

/// The items without those that came before, in their order.
fn distinct<T: PartialEq>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut distinct = Vec::new();
    for item in items {
        if !distinct.contains(&item) {
            distinct.push(item);
        }
    }
    distinct
}

fn times_table(columns: &[&Comparison]) -> Table {
    let mut sides = distinct(columns.iter().flat_map(|c| c.sides.iter().map(|(side, _)| *side)));
    sides.sort_unstable();
    let mut table = Table::new();
    let names = columns.iter().map(|comparison| comparison.workload.column());
    table.load_style(ASCII_MARKDOWN).set_header(["per reply".to_owned()].into_iter().chain(names));
    for side in sides {
        let cells = columns.iter().map(|comparison| cell(comparison, side));
        table.add_row([side.to_string()].into_iter().chain(cells));
    }
    table
}

fn cell(comparison: &Comparison, side: Side) -> String {
    match comparison.sides.iter().find(|(s, _)| *s == side) {
        Some((_, Outcome::Measured(series))) => figure(series),
        Some((_, Outcome::Fails(reason))) => format!("fails: {}", one_line(reason)),
        None => String::new(),
    }
}

/// The median and the spread.
fn figure(series: &Series) -> String {
    format!("{} ± {:.0} %", nanoseconds(series.median()), 100.0 * series.spread())
}

/// A peer's message, cut so that it fits in a cell.
fn one_line(reason: &str) -> String {
    const CHARS_MAX: usize = 60;
    let line = reason.lines().next().unwrap_or_default().replace('|', "/");
    let short: String = line.chars().take(CHARS_MAX).collect();
    if short.len() < line.len() { format!("{short}…") } else { short }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_allocations_are_told_from_none() {
        let per_reply = |count, replies| {
            let (workload, side) = (String::new(), Side::Respire);
            Allocations { workload, side, count, replies }.per_reply()
        };
        let printed = [per_reply(0, 10), per_reply(1, 1000), per_reply(20, 10), per_reply(1, 2)];
        assert_eq!(printed, ["0", "< 0.01", "2", "0.50"]);
    }

    #[test]
    fn reasons_fit_in_a_cell() {
        assert_eq!(one_line("first | line\nsecond"), "first / line");
        assert_eq!(one_line(&"x".repeat(100)), format!("{}…", "x".repeat(60)));
    }
}
