//! The command line.

use std::num::{NonZeroU16, NonZeroU64};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use respire::Config;
use respire_cli::causes::with_causes;
use respire_cli::pod::Capacity;
use respire_cli::route::Route;
use respire_cli::source::Source;
use respire_cli::store::StoreChoice;

/// The environment variable with the address of the server that `auto` prefers.
pub(crate) const ADDRESS_VARIABLE: &str = "VALKEY_ADDR";

/// The workload that is generated when there is no trace.
const GENERATOR_SEED: u64 = 1;

/// A KV-block index over Valkey and Redis, for routers in front of LLM servers.
#[derive(Debug, Parser)]
#[command(name = "respire", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Replay(ReplayArgs),
}

/// Replay LLM requests through simulated pods, route them by the index, and check the index.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct ReplayArgs {
    /// The trace; `-` is standard input [default: a generated workload]
    #[arg(long, value_name = "FILE|-")]
    trace: Option<PathBuf>,

    /// Where the index is
    #[arg(long, value_name = "auto|memory|URL", default_value = "auto")]
    store: String,

    /// How many pods there are
    #[arg(long, value_name = "N", default_value = "8")]
    pods: NonZeroU16,

    /// How many blocks a pod can hold
    #[arg(long, value_name = "BLOCKS|unlimited", default_value = "20000")]
    pub(crate) capacity: Capacity,

    /// How pods are chosen
    #[arg(long, value_name = "index|load|round-robin", hide_possible_values = true)]
    #[arg(value_enum, default_value_t)]
    pub(crate) route: Route,

    /// How many tokens a pod computes in a second
    #[arg(long, value_name = "N", default_value = "8000", value_parser = prefill_rate)]
    pub(crate) prefill_rate: f64,

    /// Replay only the first N requests
    #[arg(long, value_name = "N")]
    limit: Option<NonZeroU64>,

    /// Write to the index from N concurrent tasks
    #[arg(long, value_name = "N")]
    writers: Option<NonZeroU16>,

    /// Use a database that holds keys; they stay as they are
    #[arg(long)]
    pub(crate) allow_non_empty: bool,

    /// Print one JSON object, and the table on standard error
    #[arg(long)]
    pub(crate) json: bool,
}

/// Wrapped by hand, at 80 columns.
const AFTER_HELP: &str = "\
A trace has one JSON object a line: `timestamp` (ms), `input_length` and
`output_length` (tokens), `hash_ids` (of the prompt's blocks of 512 tokens).

The store `auto` is the server that VALKEY_ADDR names; without one, a private
valkey-server or redis-server from PATH; without either, memory. A server's keys
that the replay creates are removed at its end, on Ctrl-C too.

The route `index` takes the pod with the shortest estimated time to first token,
by the prefixes that the index knows; `load` the one with the shortest queue.

Every answer of the index is checked, for every pod. With --writers, lookups may
be behind the pods; then all that the index holds is checked at the end.

Exit status: 0 if the index was right; 1 if it was not (false hits or missed
blocks), or if the replay failed; 2 for a wrong command line; 130 after Ctrl-C.";

impl ReplayArgs {
    pub(crate) fn source(&self) -> Source {
        match &self.trace {
            None => Source::Generator(GENERATOR_SEED),
            Some(path) if path.as_os_str() == "-" => Source::Stdin,
            Some(path) => Source::File(path.clone()),
        }
    }

    pub(crate) fn pods(&self) -> usize {
        self.pods.get().into()
    }

    pub(crate) fn limit(&self) -> Option<u64> {
        self.limit.map(NonZeroU64::get)
    }

    pub(crate) fn writers(&self) -> Option<std::num::NonZeroUsize> {
        self.writers.map(Into::into)
    }

    /// The store that was chosen, given the value of [`ADDRESS_VARIABLE`]. The message of an error
    /// does not repeat the URL, which may hold a password.
    pub(crate) fn store(&self, address: Option<&str>) -> Result<StoreChoice, String> {
        match (self.store.as_str(), address.filter(|address| !address.is_empty())) {
            ("memory", _) => Ok(StoreChoice::Memory),
            ("auto", None) => Ok(StoreChoice::Auto),
            ("auto", Some(address)) => server(address, ADDRESS_VARIABLE),
            (url, _) => server(url, "--store"),
        }
    }
}

fn server(url: &str, given_by: &str) -> Result<StoreChoice, String> {
    let config: Config = url
        .parse()
        .map_err(|error| format!("{given_by} names no server: {}", with_causes(&error)))?;
    Ok(StoreChoice::Server(Box::new(config)))
}

fn prefill_rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if f64::is_normal(rate) && rate > 0.0 => Ok(rate),
        _ => Err("expected a positive number of tokens".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<ReplayArgs, clap::Error> {
        let cli = Cli::try_parse_from(["respire", "replay"].iter().chain(args))?;
        let Command::Replay(args) = cli.command;
        Ok(args)
    }

    #[test]
    fn the_definition_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let args = parse(&[]).unwrap();
        assert_eq!((args.pods(), args.route, args.prefill_rate), (8, Route::Index, 8000.0));
        assert_eq!(args.capacity, "20000".parse().unwrap());
        assert_eq!((args.limit(), args.writers()), (None, None));
        assert!(!args.allow_non_empty && !args.json);
        assert!(matches!(args.store(None), Ok(StoreChoice::Auto)));
        assert!(matches!(args.source(), Source::Generator(_)));
    }

    #[test]
    fn a_dash_is_standard_input() {
        assert_eq!(parse(&["--trace", "-"]).unwrap().source(), Source::Stdin);
        assert_eq!(parse(&["--trace", "a"]).unwrap().source(), Source::File("a".into()));
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for args in [
            ["--pods", "0"],
            ["--pods", "65536"],
            ["--capacity", "0"],
            ["--route", "random"],
            ["--prefill-rate", "0"],
            ["--prefill-rate", "-1"],
            ["--prefill-rate", "inf"],
            ["--prefill-rate", "NaN"],
            ["--limit", "0"],
            ["--writers", "0"],
        ] {
            let error = parse(&args).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{args:?}: {error}");
        }
    }

    #[test]
    fn only_auto_asks_the_environment() {
        let address = |args: &[&str], variable| match parse(args).unwrap().store(variable) {
            Ok(StoreChoice::Server(config)) => config.address().to_string(),
            other => format!("{other:?}"),
        };
        assert_eq!(address(&[], Some("example:7000")), "example:7000");
        assert_eq!(address(&["--store", "auto"], Some("valkey://example")), "example:6379");
        assert_eq!(address(&["--store", "auto"], Some("")), "Ok(Auto)");
        assert_eq!(address(&["--store", "memory"], Some("example:7000")), "Ok(Memory)");
        assert_eq!(address(&["--store", "redis://other:1"], Some("example:7000")), "other:1");
        assert_eq!(address(&["--store", "unix:///run/x.sock"], None), "/run/x.sock");
    }

    #[test]
    fn a_url_that_cannot_be_used_is_not_repeated() {
        for (args, variable, names) in [
            (vec!["--store", "http://user:hunter2@host"], None, "--store"),
            (vec![], Some("http://user:hunter2@host"), ADDRESS_VARIABLE),
        ] {
            let message = parse(&args).unwrap().store(variable).unwrap_err();
            assert!(message.starts_with(names), "{message}");
            assert!(!message.contains("hunter2"), "{message}");
        }
    }
}
