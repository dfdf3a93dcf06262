//! Measures the index and a port of llm-d's commands in turn, against one server, in one process.

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use respire_benches::environment::{Environment, command};
use respire_benches::index::alternate::{Plan, compare};
use respire_benches::index::fleet::Fleet;
use respire_benches::index::job::{self, Job};
use respire_benches::index::record::Record;
use respire_benches::index::server::{self, Server};
use respire_benches::index::sides::Side;
use respire_benches::index::{hashing, memory};
use respire_benches::options::{self, Common, sides};
use respire_benches::quiet::Usage;
use respire_benches::record::publish;

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
    /// Only these sides
    #[arg(long, value_name = "SIDES", value_delimiter = ',')]
    sides: Vec<Side>,
    /// Only memory and hashing, without the workloads
    #[arg(long, conflicts_with_all = ["only", "full"])]
    costs: bool,
    #[command(flatten)]
    server: options::Server,
    #[command(flatten)]
    common: Common,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let options = Options::parse();
    let environment = Environment::of(&["benches", "crates"]);
    let mut workloads = job::all(options.full);
    workloads.retain(|workload| !options.costs && options.common.chooses(&workload.to_string()));
    ensure!(options.costs || !workloads.is_empty(), "no workload has such a name");
    let plan = Plan { rounds: options.rounds as usize, turn: Duration::from_millis(options.turn) };
    let server = Server::start(options.server.flavour(), Duration::from_millis(1))?;
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
        comparisons.push(compare(workload, &sides(&options.sides), &server, plan).await?);
    }
    let (mut memory, mut hashing) = (Vec::new(), Vec::new());
    if options.common.only.is_none() {
        eprintln!("memory and hashing");
        memory = memory::measure(&server).await?;
        hashing = hashing::measure(plan.rounds, plan.turn)?;
    }
    let end = Usage::now(server.process());
    let record = Record {
        command: command(&environment.profile, "index"),
        environment,
        plan,
        server: server.version.clone(),
        shares: usage.zip(end).map(|(start, end)| end.since(&start)),
        comparisons,
        memory,
        hashing,
    };
    publish(&record, options.common.record.as_deref())
}
