//! Measures the index and a port of llm-d's commands in turn, against one server, in one process.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use respire_benches::client::quiet::Usage;
use respire_benches::environment::{Environment, command};
use respire_benches::index::alternate::{Plan, compare};
use respire_benches::index::fleet::Fleet;
use respire_benches::index::job::{self, Job, Workload};
use respire_benches::index::memory;
use respire_benches::index::record::Record;
use respire_benches::index::server::{self, Server};
use respire_benches::index::sides::Side;
use respire_cli::local_server::Flavour;

/// Measure respire's index and llm-d's commands in turn, and hold it to its bars.
#[derive(Debug, Parser)]
struct Options {
    /// Turns of every side
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Milliseconds of one turn
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    turn: u64,
    /// All lengths with all fleets and all depths, which takes an hour
    #[arg(long)]
    full: bool,
    /// Only workloads in whose name (`Lookup/53 blocks, 53 held by 10 of 40 pods/loopback`) this occurs
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Only these sides
    #[arg(long, value_name = "SIDES", value_delimiter = ',')]
    sides: Vec<Side>,
    /// The server to start
    #[arg(long, value_enum, default_value_t = Program::Valkey)]
    server: Program,
    /// Also write the record to this file
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Program {
    Valkey,
    Redis,
}

impl Options {
    fn chooses(&self, workload: &Workload) -> bool {
        self.only.as_ref().is_none_or(|text| workload.to_string().contains(text))
    }

    fn sides(&self) -> Vec<Side> {
        let chosen = |side: &Side| self.sides.is_empty() || self.sides.contains(side);
        Side::value_variants().iter().copied().filter(chosen).collect()
    }

    fn flavour(&self) -> Flavour {
        match self.server {
            Program::Valkey => Flavour::Valkey,
            Program::Redis => Flavour::Redis,
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let options = Options::parse();
    let environment = Environment::of(&["benches", "crates"]);
    let mut workloads = job::all(options.full);
    workloads.retain(|workload| options.chooses(workload));
    ensure!(!workloads.is_empty(), "no workload has such a name");
    let plan = Plan { rounds: options.rounds as usize, turn: Duration::from_millis(options.turn) };
    let server = Server::start(options.flavour(), Duration::from_millis(1))?;
    let uses = |fleet: &Fleet| {
        workloads.iter().any(|w| matches!(w.job, Job::Lookup { fleet: f, .. } if f == *fleet))
    };
    for fleet in Fleet::ALL.iter().filter(|fleet| uses(fleet)) {
        eprintln!("filling: {fleet}");
        server::fill(&server, *fleet).await?;
    }
    let usage = Usage::now(server.process());
    let mut comparisons = Vec::new();
    for workload in workloads {
        eprintln!("{workload}");
        comparisons.push(compare(workload, &options.sides(), &server, plan).await?);
    }
    let end = Usage::now(server.process());
    let record = Record {
        command: command(&environment.profile, "index"),
        environment,
        plan,
        server: server.version.clone(),
        shares: usage.zip(end).map(|(start, end)| end.since(&start)),
        comparisons,
        memory: if options.only.is_none() { memory::measure(&server).await? } else { Vec::new() },
    };
    print!("{record}");
    if let Some(path) = &options.record {
        std::fs::write(path, record.to_string()).context("cannot write the record")?;
    }
    Ok(())
}
