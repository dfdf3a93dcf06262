//! Replays a trace against respire's index in memory and against those of others, in turn.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use comfy_table::{Table, presets::ASCII_MARKDOWN};
use respire_benches_inmemory::environment::{Environment, command, version};
use respire_benches_inmemory::measure::{ENTRANTS, Times};
use respire_benches_inmemory::replay::{self, Steps, simulate};

/// Measure indexes of KV blocks in memory on one replay.
#[derive(Debug, Parser)]
struct Options {
    #[command(flatten)]
    replay: replay::Options,
    /// Replays of every side
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Also write the record to this file
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let environment = Environment::of(&["benches", "crates"]);
    eprintln!("simulating");
    let steps = simulate(&options.replay)?;
    for entrant in ENTRANTS {
        eprintln!("checking: {}", entrant.name);
        (entrant.check)(&steps)?;
    }
    let mut rounds: Vec<Vec<Times>> = vec![Vec::new(); ENTRANTS.len()];
    for round in 0..options.rounds as usize {
        for turn in 0..ENTRANTS.len() {
            let side = (round + turn) % ENTRANTS.len();
            eprintln!("round {}: {}", round + 1, ENTRANTS[side].name);
            rounds[side].push((ENTRANTS[side].time)(&steps)?);
        }
    }
    let bytes = bytes(&environment.profile, &options.replay)?;
    let record = record(&environment, &options, &steps, &rounds, &bytes);
    print!("{record}");
    if let Some(path) = &options.record {
        std::fs::write(path, record).context("cannot write the record")?;
    }
    Ok(())
}

/// Runs the program that counts.
fn bytes(profile: &str, options: &replay::Options) -> Result<HashMap<String, u64>> {
    eprintln!("counting bytes");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["run", "--quiet", "--profile", profile, "--bin", "inmemory_bytes"])
        .args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"), "--"])
        .args(options.arguments())
        .output()
        .context("cannot start cargo")?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "counting bytes: {}", error.trim());
    let parse = |line: &str| -> Result<(String, u64)> {
        let (name, bytes) = line.split_once('\t').context("not a count")?;
        Ok((name.to_owned(), bytes.parse()?))
    };
    String::from_utf8(output.stdout)?.lines().map(parse).collect()
}

fn record(
    environment: &Environment,
    options: &Options,
    steps: &Steps,
    rounds: &[Vec<Times>],
    bytes: &HashMap<String, u64>,
) -> String {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header([
        "side",
        "lookups a second",
        "lookup, p50",
        "p99",
        "events a second",
        "blocks changed a second",
        "bytes a held block",
        "bytes a distinct block",
    ]);
    for (entrant, rounds) in ENTRANTS.iter().zip(rounds) {
        let bytes = bytes.get(entrant.name).copied().unwrap_or_default() as f64;
        let mut lookups: Vec<Duration> =
            rounds.iter().flat_map(|times| &times.lookups).copied().collect();
        lookups.sort_unstable();
        let asked: Vec<f64> = rounds
            .iter()
            .map(|times| times.lookups.iter().sum::<Duration>().as_secs_f64())
            .collect();
        let told: Vec<f64> = rounds.iter().map(|times| times.events.as_secs_f64()).collect();
        let (asked, told) = (median(asked), median(told));
        table.add_row([
            entrant.name.to_owned(),
            rate(steps.steps.len(), asked),
            format!("{:.2} µs", percentile(&lookups, 50)),
            format!("{:.2} µs", percentile(&lookups, 99)),
            rate(steps.events(), told),
            rate(steps.changes(), told),
            format!("{:.0}", bytes / steps.entries as f64),
            format!("{:.0}", bytes / steps.distinct as f64),
        ]);
    }
    let Environment { cpu, load, date, commit, rustc, profile } = environment;
    let versions = ["respire-kvblock", "kv-index", "dynamo-kv-router"];
    let versions = versions.map(|name| format!("{name} {}", version(name))).join(", ");
    let workload = match &options.replay.trace {
        Some(_) => "the trace that was named",
        None => "the built-in workload",
    };
    format!(
        "# The index in memory beside others\n\n\
         - CPU: {cpu}; load average at the start {load}\n\
         - Date: {date}\n\
         - Commit: {commit}\n\
         - Compiler: {rustc}, profile {profile}\n\
         - Command, in benches/inmemory/: `{}`\n\
         - Crates: {versions}\n\
         - Replayed, {} times by each side, another one first each time: {} requests of {workload} with {} blocks, for {} \
         pods; {} events, {} blocks stored or dropped. In the end {} blocks are held, {} different ones.\n\
         - One thread. Every answer of every side was compared with what the pods hold, before anything was timed. Rates \
         are those of the round in the middle; percentiles are of all lookups.\n\n{table}\n",
        command(profile, "inmemory"),
        options.rounds,
        steps.steps.len(),
        steps.blocks(),
        steps.pods,
        steps.events(),
        steps.changes(),
        steps.entries,
        steps.distinct,
    )
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_unstable_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

/// In microseconds; there is at least one.
fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)].as_nanos() as f64 / 1000.0
}

fn rate(count: usize, seconds: f64) -> String {
    match count as f64 / seconds {
        many if many >= 1e6 => format!("{:.2} M", many / 1e6),
        many if many >= 1e4 => format!("{:.1} k", many / 1e3),
        few => format!("{few:.0}"),
    }
}
