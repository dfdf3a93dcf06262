//! Runs one side on one workload for a while and nothing else, for a profiler to
//! look at.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use respire_benches::codec::capture::command_reply;
use respire_benches::codec::sides::contestants;
use respire_benches::codec::workload;
use respire_benches::series::nanoseconds;

/// Run one side on one workload, over and over.
#[derive(Debug, Parser)]
struct Options {
    /// The workload's name, such as `Framing/a`
    workload: String,
    /// The side's name, such as `respire`
    #[arg(default_value = "respire")]
    side: String,
    /// For how long
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let captured = if options.workload.contains("COMMAND") { Some(command_reply()?) } else { None };
    let workloads = workload::all(captured.as_ref())?;
    let named = workloads.iter().find(|workload| workload.name() == options.workload);
    let contestants = contestants(named.context("no workload has this name")?, None)?;
    let side = contestants.into_iter().find(|side| side.side.to_string() == options.side);
    let mut pass = side.context("no side has this name")?.pass;
    let replies = pass.tally()?.replies;
    let (mut time, mut passes) = (Duration::ZERO, 0);
    let end = Instant::now() + Duration::from_secs(options.seconds);
    while Instant::now() < end {
        time += pass.time(1)?;
        passes += 1;
    }
    let per_reply = time.as_secs_f64() * 1e9 / (replies as f64 * f64::from(passes));
    println!("{passes} passes, {} per reply", nanoseconds(per_reply));
    Ok(())
}
