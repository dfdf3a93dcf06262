//! Measures the codec and its peers in turn, in one run.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use respire_benches::codec::alternate::{Plan, compare};
use respire_benches::codec::capture::command_reply;
use respire_benches::codec::record::{Allocations, Record};
use respire_benches::codec::sides::Side;
use respire_benches::codec::sides::hiredis::Hiredis;
use respire_benches::codec::workload;
use respire_benches::environment::Environment;
use respire_benches::options::Common;
use respire_benches::record::publish;

/// Measure respire-codec and its peers in turn, and hold it to its bars.
#[derive(Debug, Parser)]
struct Options {
    /// Turns of every side
    #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u32).range(9..))]
    rounds: u32,
    /// Milliseconds of one turn
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    turn: u64,
    #[command(flatten)]
    common: Common,
}

impl Options {
    fn command(&self, profile: &str) -> String {
        let Self { rounds, turn, common } = self;
        let only = common.only.as_ref().map(|text| format!(" --only '{text}'")).unwrap_or_default();
        format!("cargo run --profile {profile} -- --rounds {rounds} --turn {turn}{only}")
    }
}

fn main() -> Result<()> {
    let options = Options::parse();
    let environment = Environment::current();
    let plan = Plan { rounds: options.rounds as usize, turn: Duration::from_millis(options.turn) };
    let mut notes = Vec::new();
    let (hiredis, version) = match Hiredis::build() {
        Ok(hiredis) => (Some(hiredis.clone()), hiredis.version().to_owned()),
        Err(error) => (None, format!("left out: {error:#}")),
    };
    let captured = command_reply().inspect_err(|error| {
        notes.push(format!("COMMAND is left out: {error:#}"));
    });
    // First, because it builds something and may fail at it.
    let allocations = allocations(&options, &environment.profile)?;
    let mut comparisons = Vec::new();
    for workload in workload::all(captured.as_ref().ok())? {
        if options.common.chooses(&workload.name()) {
            eprintln!("{}", workload.name());
            comparisons.push(compare(&workload, hiredis.as_ref(), plan)?);
        }
    }
    ensure!(!comparisons.is_empty(), "no workload has such a name");
    let record = Record {
        command: options.command(&environment.profile),
        environment,
        plan,
        hiredis: version,
        notes,
        comparisons,
        allocations,
    };
    publish(&record, options.common.record.as_deref())
}

/// Runs the program that counts allocations. It is one of its own because its
/// allocator counts whoever allocates, and would slow down those who do.
fn allocations(options: &Options, profile: &str) -> Result<Vec<Allocations>> {
    eprintln!("allocations");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let output = Command::new(cargo)
        .args(["run", "--quiet", "--profile", profile, "--bin", "codec_allocations"])
        .args(["--manifest-path", manifest])
        .output()
        .context("cannot start cargo")?;
    if !output.status.success() {
        bail!("counting allocations: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let lines = String::from_utf8(output.stdout)?;
    let mut allocations = Vec::new();
    for line in lines.lines() {
        let counted = parse(line).with_context(|| format!("not a count: {line}"))?;
        if options.common.chooses(&counted.workload) {
            allocations.push(counted);
        }
    }
    Ok(allocations)
}

fn parse(line: &str) -> Option<Allocations> {
    let [workload, side, count, replies] = line.split('\t').collect::<Vec<_>>().try_into().ok()?;
    Some(Allocations {
        workload: workload.to_owned(),
        side: Side::ALL.into_iter().find(|candidate| candidate.to_string() == side)?,
        count: count.parse().ok()?,
        replies: replies.parse().ok()?,
    })
}
