//! What the command lines have in common.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use respire_cli::local_server::Flavour;

/// What is measured of all there is, and where the record goes.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// Only workloads in whose name this occurs
    #[arg(long, value_name = "TEXT")]
    pub only: Option<String>,
    /// Also write the record to this file
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
}

impl Common {
    /// Whether a workload of this name was asked for.
    pub fn chooses(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|text| name.contains(text))
    }
}

/// The server to start.
#[derive(Clone, Copy, Debug, Args)]
pub struct Server {
    /// The server to start
    #[arg(long, value_enum, default_value_t = Program::Valkey)]
    server: Program,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Program {
    Valkey,
    Redis,
}

impl Server {
    /// Which of the two.
    pub fn flavour(self) -> Flavour {
        match self.server {
            Program::Valkey => Flavour::Valkey,
            Program::Redis => Flavour::Redis,
        }
    }
}

/// The sides that were named, or all if none was; in the order of the tables.
pub fn sides<S: ValueEnum + Copy + PartialEq>(named: &[S]) -> Vec<S> {
    let chosen = |side: &S| named.is_empty() || named.contains(side);
    S::value_variants().iter().copied().filter(chosen).collect()
}
