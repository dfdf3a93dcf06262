//! The command line.

use std::num::{NonZeroU16, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Parser, Subcommand};
use respire::Config;
use respire_cli::causes::with_causes;
use respire_cli::decode::{Format, Options};
use respire_cli::pod::Capacity;
use respire_cli::restart::{Restart, Restarted};
use respire_cli::route::Route;
use respire_cli::source::Source;
use respire_cli::store::{Layout, PrivateServer, StoreChoice, server_name};
use respire_codec::{DecoderConfig, Limits, Mode, Protocol};
use respire_kvblock::{ConfigError, ServerConfig};

mod bench;
mod doctor;
mod hash;
mod index;

pub(crate) use bench::BenchArgs;
pub(crate) use doctor::DoctorArgs;
pub(crate) use hash::HashArgs;
pub(crate) use index::{Action, IndexArgs};

/// The environment variable with the address of the server that `auto` prefers.
const ADDRESS_VARIABLE: &str = "VALKEY_ADDR";

/// The slowest pod, in tokens a second: with the longest prompts that a trace may have, its times
/// are still finite numbers.
const PREFILL_RATE_MIN: f64 = 0.001;

/// After how many requests a server is restarted if nothing else is said.
const RESTART_AFTER_DEFAULT: u64 = 1000;

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
    Bench(Box<BenchArgs>),
    Decode(DecodeArgs),
    Doctor(DoctorArgs),
    Hash(HashArgs),
    Index(IndexArgs),
}

/// Replay LLM requests through simulated pods, route them by the index, and check the index.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct ReplayArgs {
    /// The trace; `-` is standard input [default: a generated workload]
    #[arg(long, value_name = "FILE|-")]
    trace: Option<PathBuf>,

    /// Where the index is; `auto` looks at VALKEY_ADDR first
    #[arg(long, value_name = "auto|memory|URL", default_value = "auto")]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    store: String,

    /// How the index is kept on a server
    #[arg(long, value_name = "llm-d|bitmap", hide_possible_values = true)]
    #[arg(value_enum, default_value_t)]
    pub(crate) layout: Layout,

    /// How many pods there are
    #[arg(long, value_name = "N", default_value = "8", value_parser = pods)]
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

    /// Kill the private server on the way, and start it again with all or with nothing
    #[arg(long, value_name = "persistent|empty", hide_possible_values = true, value_enum)]
    restart_server: Option<Restarted>,

    /// Kill it after N requests [default: 1000]
    #[arg(long, value_name = "N", requires = "restart_server")]
    restart_after: Option<NonZeroU64>,

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
The generated workload resembles a production trace and is none: its figures
are not those of any trace.

The store `auto` is the server that VALKEY_ADDR names; without one, a private
valkey-server or redis-server from PATH; without either, memory. A server's keys
that the replay creates are removed at its end, on Ctrl-C too; a second Ctrl-C
leaves them, and names the pods that they belong to.

The route `index` takes the pod with the shortest estimated time to first token,
by the prefixes that the index knows; `load` the one with the shortest queue.

What the rows of the report mean:
  block hit rate       Simulated: the blocks of the longest prefix that the
                       chosen pod holds when a request arrives, over all blocks.
  time to first token  Simulated: the wait for the requests before it on its
                       pod, then its uncached tokens at the prefill rate. A pod
                       works off one request after the other, without batches;
                       the network and the lookup count nothing.
  blocks added         Stored by the pods and told to the index.
  blocks evicted       Dropped by the pods and told to the index.
  lookup               Measured: from the question to the index's answer.
  false hits           Blocks that the index claimed for a pod without them.
  missed blocks        Blocks of a pod that the index did not know.

With --restart-server, a private valkey-server or redis-server is killed and
started again while the replay goes on, and VALKEY_ADDR is not looked at. A
`persistent` server writes each change to its log before it answers, and must
come back without a false hit and without a missed block. An `empty` one has
lost all: its index has to name the pods, which announce their blocks again, and
from then on nothing may be missed. What is missed until then is counted apart.
All that the index holds is checked at the end, too.

Every answer of the index is checked, for every pod. With --writers, lookups may
be behind the pods; then all that the index holds is checked at the end.

Exit status: 0 if the index was right; 1 if it was not (false hits or missed
blocks), or if the replay failed; 2 for a wrong command line; 130 after Ctrl-C,
143 after SIGTERM, 129 after SIGHUP.";

/// Print the frames in raw reply bytes, such as a captured connection, from standard input.
#[derive(Debug, Args)]
#[command(after_help = DECODE_AFTER_HELP)]
pub(crate) struct DecodeArgs {
    /// The protocol; with 2, the types of RESP3 are errors
    #[arg(long, value_name = "2|3", default_value = "3", value_parser = protocol)]
    protocol: Protocol,

    /// Make a push inside of a reply an error
    #[arg(long)]
    strict: bool,

    /// Feed the decoder this many bytes at a time; the output is the same
    #[arg(long, value_name = "BYTES", value_parser = chunk)]
    chunk: Option<NonZeroUsize>,

    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// Wrapped by hand, at 80 columns.
const DECODE_AFTER_HELP: &str = "\
Each value is printed on a line, with its type in front and two spaces of
indentation a level. Strings are quoted, with a backslash in front of quotes and
backslashes, and bytes other than printable ASCII escaped as \\n, \\r, \\t or \\xff.
Below level 32 the indentation stays as it is, and the level is printed in
brackets:
  map of 1                          %1
    key: bulk \"flags\"                 $5 flags
    value: set of 2                   ~2
      simple \"readonly\"                 +readonly
      int 7                             :7
  attribute                         |1
    key: simple \"ttl\"                 +ttl
    value: double 1.5                 ,1.5
    of: null                        _
The types are: simple, error, bulk error, int, bulk, null, bool, double, bignum,
verbatim (its format comes first), array, set, map, push, attribute.

With --json, a frame is one object on one line:
  {\"type\":\"simple\",\"data_hex\":\"4f4b\"}
  {\"type\":\"error\",\"kind\":\"simple\"|\"bulk\",\"data_hex\":\"...\"}
  {\"type\":\"int\",\"value\":\"-7\"}
  {\"type\":\"bulk\",\"data_hex\":\"...\"}
  {\"type\":\"null\"}
  {\"type\":\"bool\",\"value\":true}
  {\"type\":\"double\",\"value\":\"1e+300\"}
  {\"type\":\"bignum\",\"value\":\"...\"}
  {\"type\":\"verbatim\",\"format\":\"txt\",\"data_hex\":\"...\"}
  {\"type\":\"array\"|\"set\"|\"push\",\"items\":[...]}
  {\"type\":\"map\",\"pairs\":[[key,value],...]}
  {\"type\":\"attribute\",\"attrs\":[[key,value],...],\"value\":...}
In the text of a big number and in a format, U+FFFD stands for what is no UTF-8.

In both formats:
  int       in its shortest form: :+007 is 7
  double    as it was sent: digits with an optional sign, fraction and exponent,
            or inf, -inf, nan, -nan; anything else, such as .5, 5. or +inf, is a
            protocol error here (a client reads on, and only the value is wrong)
  bignum    as it was sent, even if it is no number
  null      for each of the three forms _, $-1 and *-1
  attribute around the value that it describes; several in a row are one, and an
            empty one is not shown; in front of a push it is a protocol error
  streamed  as if it had been sent with its length
Without --strict, a push inside of a reply is printed in front of the reply and
is no part of it. Limits are the codec's defaults, such as 1,024 levels.

When not all of the input was frames, the last line says so, in both formats:
  {\"protocol_error\":\"...\",\"offset\":...}    the first thing that is wrong
  {\"incomplete\":true,\"pending_bytes\":...}  nothing is; the last frame is cut off
The offset counts bytes from the start of the input: to the first byte that can
not be right, or, where a value as a whole is wrong (a double, an integer out of
range, a type where it may not be, a length out of bounds), to its type byte. A
double and the range of an integer are judged when their line has ended. Of a
frame that is wrong or cut off nothing is printed, nor of pushes inside of it.

Exit status: 0 if all of the input was frames, or if nobody reads the output any
more; 1 if the input cannot be read or the output not be written; 2 for a wrong
command line; 3 after a protocol error; 4 if the input was incomplete.";

impl DecodeArgs {
    pub(crate) fn options(&self) -> Options {
        let mode = if self.strict { Mode::Strict } else { Mode::Lenient };
        let decoder = DecoderConfig { protocol: self.protocol, mode, limits: Limits::default() };
        let format = if self.json { Format::Json } else { Format::Pretty };
        Options { decoder, chunk: self.chunk, format }
    }
}

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

    /// The restart that was asked for.
    pub(crate) fn restart(&self) -> Option<Restart> {
        let after_requests = self.restart_after.map_or(RESTART_AFTER_DEFAULT, NonZeroU64::get);
        self.restart_server.map(|server| Restart { server, after_requests })
    }

    pub(crate) fn writers(&self) -> Option<std::num::NonZeroUsize> {
        self.writers.map(Into::into)
    }

    /// The store that was chosen, and what there is to say about it. Only `auto` asks for the
    /// environment's server. The message of an error does not repeat a URL, which may hold a
    /// password.
    pub(crate) fn store(
        &self,
        environment: impl FnOnce() -> Result<Option<ServerConfig>, ConfigError>,
    ) -> Result<(StoreChoice, Option<String>), String> {
        if let Some(server) = self.restart_server {
            if self.store != "auto" {
                return Err("--restart-server restarts a server that the replay starts itself, and no other: \
                            leave out --store"
                    .to_owned());
            }
            let is_persistent = server == Restarted::Persistent;
            return Ok((
                StoreChoice::Private(PrivateServer { flavour: None, is_persistent }),
                None,
            ));
        }
        match self.store.as_str() {
            "memory" => Ok((StoreChoice::Memory, None)),
            "auto" => match environment().map_err(|error| with_causes(&error))? {
                Some(server) => environment_server(&server),
                None => Ok((StoreChoice::Auto, None)),
            },
            url => {
                let config = server(url).map_err(|error| format!("--store {error}"))?;
                Ok((StoreChoice::Server(Box::new(config)), None))
            }
        }
    }
}

fn environment_server(named: &ServerConfig) -> Result<(StoreChoice, Option<String>), String> {
    let url = named.dialled_url().ok_or_else(|| {
        format!("VALKEY_ENABLE_RDMA is set, and {ADDRESS_VARIABLE} names a Unix socket or TLS, which RDMA has none of")
    })?;
    let config = server(&url).map_err(|error| format!("{ADDRESS_VARIABLE} {error}"))?;
    let note = format!("store: {ADDRESS_VARIABLE}, {}", server_name(&config));
    Ok((StoreChoice::Server(Box::new(config)), Some(note)))
}

/// The settings in a URL; an error follows the name of what the URL stands in.
fn server(url: &str) -> Result<Config, String> {
    url.parse().map_err(|error| {
        let reason = format!("names no server: {}", with_causes(&error));
        // The path alone is repeated, and only of what is no URL with a password in it.
        let path = url.strip_prefix("unix:").unwrap_or(url);
        if path.starts_with('/') && !path.starts_with("//") && !path.contains('@') {
            format!("{reason}; a Unix socket is written unix://{path}")
        } else {
            reason
        }
    })
}

fn protocol(text: &str) -> Result<Protocol, &'static str> {
    match text {
        "2" => Ok(Protocol::Resp2),
        "3" => Ok(Protocol::Resp3),
        _ => Err("expected 2 or 3"),
    }
}

fn chunk(text: &str) -> Result<NonZeroUsize, &'static str> {
    text.parse().map_err(|_| "expected a number of bytes, at least 1")
}

fn pods(text: &str) -> Result<NonZeroU16, String> {
    text.parse().map_err(|_| format!("expected a number of pods from 1 to {}", u16::MAX))
}

fn prefill_rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if f64::is_finite(rate) && rate >= PREFILL_RATE_MIN => Ok(rate),
        _ => Err(format!("expected a number of tokens, at least {PREFILL_RATE_MIN}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<ReplayArgs, clap::Error> {
        let cli = Cli::try_parse_from(["respire", "replay"].iter().chain(args))?;
        let Command::Replay(args) = cli.command else { panic!("not a replay") };
        Ok(args)
    }

    fn parse_decode(args: &[&str]) -> Result<Options, clap::Error> {
        let cli = Cli::try_parse_from(["respire", "decode"].iter().chain(args))?;
        let Command::Decode(args) = cli.command else { panic!("not decode") };
        Ok(args.options())
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
        assert_eq!((args.limit(), args.writers(), args.restart()), (None, None, None));
        assert!(!args.allow_non_empty && !args.json);
        assert!(matches!(args.store(|| Ok(None)), Ok((StoreChoice::Auto, None))));
        assert!(matches!(args.source(), Source::Generator(_)));
    }

    #[test]
    fn decode_reads_resp3_leniently_and_prints_for_people_unless_told_otherwise() {
        let options = parse_decode(&[]).unwrap();
        assert_eq!(options.decoder, DecoderConfig::default());
        assert_eq!((options.chunk, options.format), (None, Format::Pretty));

        let args = ["--protocol", "2", "--strict", "--chunk", "7", "--json"];
        let options = parse_decode(&args).unwrap();
        assert_eq!(options.decoder.protocol, Protocol::Resp2);
        assert_eq!(options.decoder.mode, Mode::Strict);
        assert_eq!(options.decoder.limits, Limits::default());
        assert_eq!((options.chunk, options.format), (NonZeroUsize::new(7), Format::Json));
    }

    #[test]
    fn decode_refuses_other_protocols_and_pieces_without_bytes() {
        for (args, expected) in [
            (["--protocol", "4"], "expected 2 or 3"),
            (["--protocol", ""], "expected 2 or 3"),
            (["--chunk", "0"], "expected a number of bytes, at least 1"),
            (["--chunk", "all"], "expected a number of bytes, at least 1"),
        ] {
            let error = parse_decode(&args).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{args:?}");
            assert!(error.to_string().contains(expected), "{error}");
        }
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
            ["--prefill-rate", "1e-300"],
            ["--store", ""],
            ["--prefill-rate", "NaN"],
            ["--limit", "0"],
            ["--writers", "0"],
        ] {
            let error = parse(&args).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{args:?}: {error}");
        }
    }

    #[test]
    fn messages_say_what_is_expected() {
        for (args, expected) in [
            (["--pods", "0"], "expected a number of pods from 1 to 65535"),
            (["--pods", "65536"], "expected a number of pods from 1 to 65535"),
            (["--prefill-rate", "0.0009"], "expected a number of tokens, at least 0.001"),
        ] {
            let message = parse(&args).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
        assert_eq!(parse(&["--prefill-rate", "0.001"]).unwrap().prefill_rate, 0.001);
    }

    #[test]
    fn only_auto_asks_the_environment() {
        let address = |args: &[&str], variable: Option<&str>| {
            let environment = || Ok(variable.map(ServerConfig::valkey));
            match parse(args).unwrap().store(environment).unwrap() {
                (StoreChoice::Server(config), note) => (config.address().to_string(), note),
                (other, note) => (format!("{other:?}"), note),
            }
        };
        let noted =
            |address: &str| (address.to_owned(), Some(format!("store: VALKEY_ADDR, {address}")));
        let named = |address: &str| (address.to_owned(), None);
        assert_eq!(address(&[], Some("example:7000")), noted("example:7000"));
        let auto = ["--store", "auto"];
        assert_eq!(address(&auto, Some("valkey://u:secret@example")), noted("example:6379"));
        assert_eq!(address(&auto, None), named("Auto"));
        assert_eq!(address(&["--store", "memory"], Some("example:7000")), named("Memory"));
        let url = ["--store", "redis://other:1"];
        assert_eq!(address(&url, Some("example:7000")), named("other:1"));
        assert_eq!(address(&["--store", "unix:///run/x.sock"], None), named("/run/x.sock"));
    }

    #[test]
    fn only_a_private_server_is_restarted() {
        let environment = || Ok(Some(ServerConfig::valkey("example:7000")));
        for (name, server) in [("persistent", Restarted::Persistent), ("empty", Restarted::Empty)] {
            let args = parse(&["--restart-server", name, "--restart-after", "7"]).unwrap();
            assert_eq!(args.restart(), Some(Restart { server, after_requests: 7 }));
            let (choice, note) = args.store(environment).unwrap();
            let StoreChoice::Private(private) = choice else { panic!("{choice:?}") };
            assert_eq!(private.is_persistent, server == Restarted::Persistent);
            assert_eq!((private.flavour, note), (None, None));
            let args = parse(&["--restart-server", name]).unwrap();
            assert_eq!(args.restart(), Some(Restart { server, after_requests: 1000 }));
            for store in ["memory", "redis://example"] {
                let args = parse(&["--restart-server", name, "--store", store]).unwrap();
                let message = args.store(environment).unwrap_err();
                assert!(message.contains("leave out --store"), "{message}");
            }
        }
        for args in [["--restart-after", "7"], ["--restart-server", "half"]] {
            assert_eq!(parse(&args).unwrap_err().exit_code(), 2);
        }
    }

    #[test]
    fn rdma_is_not_silently_something_else() {
        let rdma = || {
            Ok(Some(ServerConfig { enable_rdma: true, ..ServerConfig::valkey("unix:///run/s") }))
        };
        let message = parse(&[]).unwrap().store(rdma).unwrap_err();
        assert!(message.contains("which RDMA has none of"), "{message}");
        assert!(parse(&["--store", "memory"]).unwrap().store(rdma).is_ok());
    }

    #[test]
    fn a_url_that_cannot_be_used_is_not_repeated() {
        let url = "http://user:hunter2@host";
        for (args, names) in [(vec!["--store", url], "--store"), (vec![], ADDRESS_VARIABLE)] {
            let environment = || Ok(Some(ServerConfig::valkey(url)));
            let message = parse(&args).unwrap().store(environment).unwrap_err();
            assert!(message.starts_with(names), "{message}");
            assert!(!message.contains("hunter2"), "{message}");
        }
    }

    #[test]
    fn a_bare_path_is_told_how_a_socket_is_written() {
        for url in ["/tmp/x.sock", "unix:/tmp/x.sock"] {
            match parse(&["--store", url]).unwrap().store(|| Ok(None)) {
                Ok((StoreChoice::Server(config), _)) => {
                    assert_eq!(config.address(), &respire::Address::Unix("/tmp/x.sock".into()));
                }
                Ok(other) => panic!("{other:?}"),
                Err(message) => {
                    assert!(message.ends_with("is written unix:///tmp/x.sock"), "{message}");
                }
            }
        }
    }
}
