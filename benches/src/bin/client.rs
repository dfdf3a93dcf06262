//! Measures the client and its peers in turn, against one server, in one process.

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use respire_benches::client::alternate::{Plan, compare};
use respire_benches::client::data::Data;
use respire_benches::client::record::Record;
use respire_benches::client::server::Server;
use respire_benches::client::sides::Side;
use respire_benches::client::turn::Length;
use respire_benches::client::workload::{self, Scheduler, Workload};
use respire_benches::environment::{Environment, command};
use respire_benches::options::{self, Common, sides};
use respire_benches::quiet::Usage;
use respire_benches::record::publish;

/// Measure respire and its peers in turn, and hold it to its bars.
#[derive(Debug, Parser)]
struct Options {
    /// Turns of every side
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Milliseconds of one turn, to which an eighth is added for warming up
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(8..))]
    turn: u64,
    /// Only this scheduler of tokio's
    #[arg(long, value_name = "SCHEDULER")]
    runtime: Option<Scheduler>,
    /// Only these sides
    #[arg(long, value_name = "SIDES", value_delimiter = ',')]
    sides: Vec<Side>,
    #[command(flatten)]
    server: options::Server,
    #[command(flatten)]
    common: Common,
}

impl Options {
    fn chooses(&self, workload: &Workload) -> bool {
        self.common.chooses(&workload.to_string())
            && self.runtime.is_none_or(|scheduler| workload.scheduler == scheduler)
    }

    fn plan(&self) -> Plan {
        let timed = Duration::from_millis(self.turn);
        Plan { rounds: self.rounds as usize, length: Length { warm_up: timed / 8, timed } }
    }
}

/// Who is not compared, and why.
const LEFT_OUT: &str = "valkey-glide is left out: its native crate depends on close to four hundred others, more than \
                        this package is to build";

fn main() -> Result<()> {
    let options = Options::parse();
    // redis-rs asks for whatever provider the process has; everybody else is given this one.
    let provider = rustls::crypto::ring::default_provider().install_default();
    ensure!(provider.is_ok(), "somebody else has chosen a provider of cryptography");
    let environment = Environment::of(&["benches", "crates"]);
    let workloads: Vec<_> = workload::all().into_iter().filter(|w| options.chooses(w)).collect();
    ensure!(!workloads.is_empty(), "no workload has such a name");
    let (data, sides) = (Data::new(), sides(&options.sides));
    let server = Server::start(options.server.flavour(), &data)?;
    let usage = Usage::now(server.process());
    let mut comparisons = Vec::new();
    for workload in workloads {
        eprintln!("{workload}");
        comparisons.push(compare(workload, &sides, &server.endpoints, &data, options.plan())?);
    }
    let end = Usage::now(server.process());
    let record = Record {
        command: command(&environment.profile, "client"),
        environment,
        plan: options.plan(),
        server: server.version.clone(),
        shares: usage.zip(end).map(|(start, end)| end.since(&start)),
        notes: vec![LEFT_OUT.to_owned()],
        comparisons,
    };
    publish(&record, options.common.record.as_deref())
}
