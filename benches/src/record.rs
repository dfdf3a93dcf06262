//! What every record has: where it was made, how far it can be trusted, and tables.

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};
use comfy_table::Table;
use comfy_table::presets::ASCII_MARKDOWN;

use crate::environment::{Environment, version};
use crate::quiet::{OTHERS_MAX, Shares};

/// Rounds below which a record is no more than a glance.
pub const ROUNDS_MIN: usize = 9;

/// Where a record was made, as its first lines.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The machine, the commit and the compiler.
    pub environment: &'a Environment,
    /// What to type to get another such record.
    pub command: &'a str,
    /// What else was there, a line each.
    pub others: &'a [String],
    /// The crates whose versions matter.
    pub crates: &'a [&'a str],
    /// Why something is missing, a line each.
    pub notes: &'a [String],
}

impl fmt::Display for Origin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Environment { cpu, load, date, commit, rustc, profile } = self.environment;
        writeln!(f, "- CPU: {cpu}; load average at the start {load}")?;
        writeln!(f, "- Date: {date}")?;
        writeln!(f, "- Commit: {commit}")?;
        writeln!(f, "- Compiler: {rustc}, profile {profile}")?;
        writeln!(f, "- Command, in benches/: `{}`", self.command)?;
        self.others.iter().try_for_each(|other| writeln!(f, "- {other}"))?;
        let versions: Vec<String> =
            self.crates.iter().map(|name| format!("{name} {}", version(name))).collect();
        writeln!(f, "- Crates: {}", versions.join(", "))?;
        self.notes.iter().try_for_each(|note| writeln!(f, "- {note}"))
    }
}

/// The line on a server that was started for the run.
pub fn server(version: &str) -> String {
    format!("Server: {version}, on the same machine, started for this run")
}

/// What speaks against a record.
#[derive(Clone, Copy, Debug)]
pub struct Warnings {
    /// Where the CPU time went, if the kernel says so.
    pub shares: Option<Shares>,
    /// Turns of every side.
    pub rounds: usize,
}

/// Each as a quoted paragraph, and nothing where nothing does.
impl fmt::Display for Warnings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.shares {
            Some(shares) if shares.is_quiet() => {}
            Some(Shares { run, others, stolen }) => writeln!(
                f,
                "> **Warning.** The machine was not quiet: of the processors' time, this run had {:.0} %, other \
                 processes had {:.0} % and other machines {:.0} %, which is more than {:.0} % together. Absolute \
                 figures, and tails above all, are too high; ratios are better, but not good.\n",
                100.0 * run,
                100.0 * others,
                100.0 * stolen,
                100.0 * OTHERS_MAX
            )?,
            None => writeln!(f, "> **Warning.** Whether the machine was quiet is not known.\n")?,
        }
        if self.rounds < ROUNDS_MIN {
            writeln!(
                f,
                "> **Warning.** Fewer than {ROUNDS_MIN} rounds: a glance, not a record.\n"
            )?;
        }
        Ok(())
    }
}

/// An empty table with these columns.
pub fn markdown<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header(header);
    table
}

/// As a table says it.
pub fn yes_or_no(met: bool) -> &'static str {
    if met { "yes" } else { "**no**" }
}

/// The first line of a message.
pub fn one_line(reason: &str) -> &str {
    reason.lines().next().unwrap_or_default()
}

/// Prints a record, and writes it to a file if one was named.
///
/// # Errors
///
/// When the file cannot be written.
pub fn publish(record: &impl fmt::Display, file: Option<&Path>) -> Result<()> {
    let record = record.to_string();
    print!("{record}");
    file.map_or(Ok(()), |file| std::fs::write(file, &record).context("cannot write the record"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_a_quiet_machine_and_enough_rounds_has_no_warning() {
        let shares = |others| Some(Shares { run: 0.5, others, stolen: 0.0 });
        let warnings = |shares, rounds| Warnings { shares, rounds }.to_string();
        assert_eq!(warnings(shares(0.0), ROUNDS_MIN), "");
        assert!(warnings(shares(0.5), ROUNDS_MIN).contains("other processes had 50 %"));
        assert!(warnings(None, ROUNDS_MIN).contains("not known"));
        assert!(warnings(shares(0.0), ROUNDS_MIN - 1).contains("a glance"));
    }
}
