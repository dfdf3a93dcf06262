//! The `respire` command.

mod args;
mod signals;

use std::error::Error;
use std::fmt::Display;
use std::fs;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{CommandFactory, Parser};
use indicatif::{ProgressBar, ProgressStyle};
use respire::{Client, Config};
use respire_cli::bench::{self, Bench};
use respire_cli::causes::with_causes;
use respire_cli::decode::{self, Outcome, StreamError};
use respire_cli::doctor;
use respire_cli::fleet::FleetSize;
use respire_cli::hash;
use respire_cli::index;
use respire_cli::rdma;
use respire_cli::replay::{self, Options, ReplayError};
use respire_cli::report::Report;
use respire_cli::source::{Extent, Requests, Source};
use respire_cli::store::{Store, StoreChoice, StoreError, server_name};
use respire_kvblock::{
    BitmapIndex, BlockHash, ConfigError, Index, IndexConfig, IndexerConfig, KeyType, Layout,
    ServerConfig,
};

use crate::args::{Action, BenchArgs, Cli, Command, DoctorArgs, HashArgs, IndexArgs, ReplayArgs};
use crate::signals::Signals;

/// Exit status of `decode` when the input is not RESP.
const PROTOCOL_ERROR: u8 = 3;

/// Exit status of `decode` when the input stops inside of a frame.
const INCOMPLETE: u8 = 4;

/// What the names of a bitmap index begin with if nothing else is said.
const BITMAP_PREFIX: &str = "kvb:";

/// Exit status of `hash` and `index` when what stands on standard input is not what it has to be.
const BAD_INPUT: u8 = 3;

/// Exit status of `doctor` when something should be changed.
const WARNINGS: u8 = 1;

/// Exit status of `doctor` when the server cannot be asked.
const NOT_EXAMINED: u8 = 3;

/// Exit status of `bench` when too much failed for its figures to say anything.
const MEANINGLESS: u8 = 3;

/// Bytes that `decode` reads at once, at most.
const INPUT_BYTES: usize = 64 * 1024;

fn main() -> ExitCode {
    rdma::register();
    let outcome = match Cli::parse().command {
        Command::Replay(args) => replay(&args),
        Command::Bench(args) => bench(&args),
        Command::Decode(args) => decode(&args.options()).map_err(Into::into),
        Command::Doctor(args) => doctor(&args),
        Command::Hash(args) => hash(&args),
        Command::Index(args) => index(&args),
    };
    outcome.unwrap_or_else(|error| {
        say(&with_causes(&*error));
        if error.is::<BadInput>() { ExitCode::from(BAD_INPUT) } else { ExitCode::FAILURE }
    })
}

/// Standard input is not what it has to be.
#[derive(Debug, thiserror::Error)]
#[error("the input: {0}")]
struct BadInput(String);

fn decode(options: &decode::Options) -> Result<ExitCode, StreamError> {
    let input = BufReader::with_capacity(INPUT_BYTES, io::stdin().lock());
    match decode::run(input, io::stdout().lock(), options) {
        Ok(Outcome::Complete) => Ok(ExitCode::SUCCESS),
        Ok(Outcome::ProtocolError) => Ok(ExitCode::from(PROTOCOL_ERROR)),
        Ok(Outcome::Incomplete) => Ok(ExitCode::from(INCOMPLETE)),
        // A reader that has seen enough is no error.
        Err(StreamError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => Err(error),
    }
}

fn doctor(args: &DoctorArgs) -> Result<ExitCode, Box<dyn Error>> {
    let config = args.config().unwrap_or_else(|message| {
        let kind = clap::error::ErrorKind::ValueValidation;
        Cli::command().error(kind, message).exit()
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let examination = match runtime.block_on(doctor::examine(&config)) {
        Ok(examination) => examination,
        Err(error) => {
            let name = server_name(&config);
            say(&format!("{name} cannot be examined: {}", with_causes(&error)));
            return Ok(ExitCode::from(NOT_EXAMINED));
        }
    };
    if args.json {
        print(&examination.to_json())?;
    } else {
        print(&examination)?;
    }
    Ok(if examination.is_fine() { ExitCode::SUCCESS } else { ExitCode::from(WARNINGS) })
}

fn hash(args: &HashArgs) -> Result<ExitCode, Box<dyn Error>> {
    let mut text = Vec::new();
    let read = io::stdin().lock().read_to_end(&mut text);
    read.map_err(|error| format!("the input cannot be read: {error}"))?;
    let keys = hash::keys(&text, &args.processor()?, &args.model);
    let keys = keys.map_err(|error| BadInput(with_causes(&error)))?;
    if keys.keys().is_empty() {
        say(&format!("{} tokens fill no block: there are no keys", keys.tokens()));
    }
    match hash::print(&keys, args.format(), &mut BufWriter::new(io::stdout().lock())) {
        // A reader that has seen enough is no error.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(format!("the keys cannot be written: {error}").into())
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Does what `index` was asked to.
#[tokio::main(flavor = "current_thread")]
async fn index(args: &IndexArgs) -> Result<ExitCode, Box<dyn Error>> {
    let target = Target::of(args)?;
    match &args.action {
        Action::Lookup { keys, pod } => {
            let keys = keys_or_input(keys)?;
            let pods = pod.iter().map(String::as_str).collect();
            let found = index::lookup(&*target.open().await?, &keys, &pods).await?;
            print_either(&found, args.json)?;
        }
        Action::Add { keys, entry, engine_key } => {
            let keys = keys_or_input(keys)?;
            let index = target.open().await?;
            index.add(Some(engine_key), &keys, entry).await?;
            index.leave().await?;
            print_done(args.json)?;
        }
        Action::Evict { keys, entry, engine } => {
            let keys = keys_or_input(keys)?;
            let key_type = if *engine { KeyType::Engine } else { KeyType::Request };
            let index = target.open().await?;
            index.evict(&keys, key_type, entry).await?;
            index.leave().await?;
            print_done(args.json)?;
        }
        Action::Clear { pod } => {
            target.open().await?.clear(pod).await?;
            print_done(args.json)?;
        }
        Action::Sweep => {
            let swept = index::sweep(&target.open_bitmap().await?).await?;
            print_either(&swept, args.json)?;
        }
        Action::Stat { entries } => {
            let layout = target.layout();
            if *entries && layout == index::Layout::Bitmap {
                let kind = clap::error::ErrorKind::ArgumentConflict;
                let message = "--entries counts in llm-d's layout only";
                Cli::command().error(kind, message).exit();
            }
            let client = target.client().await?;
            let stat = index::stat(&client, layout, target.prefix(), *entries).await?;
            print_either(&stat, args.json)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The index that is meant: a server, and how it is kept there.
struct Target {
    server: ServerConfig,
    is_redis: bool,
}

impl Target {
    fn of(args: &IndexArgs) -> Result<Self, Box<dyn Error>> {
        let (mut server, is_redis) = match (&args.url, &args.config) {
            (Some(url), _) if url.starts_with("redis") => (ServerConfig::redis(url), true),
            (Some(url), _) => (ServerConfig::valkey(url), false),
            (None, Some(path)) => Self::configured(path)?,
            (None, None) => {
                let server = ServerConfig::from_env()?;
                (server.ok_or("name a server by --url, --config or VALKEY_ADDR")?, false)
            }
        };
        if let Some(layout) = args.layout {
            server.layout = layout.into();
        }
        if let Some(prefix) = &args.key_prefix {
            server.key_prefix.clone_from(prefix);
        }
        if server.layout == Layout::Bitmap && server.key_prefix.is_empty() {
            server.key_prefix = BITMAP_PREFIX.to_owned();
        }
        Ok(Self { server, is_redis })
    }

    fn layout(&self) -> index::Layout {
        match self.server.layout {
            Layout::LlmD => index::Layout::LlmD,
            Layout::Bitmap => index::Layout::Bitmap,
        }
    }

    fn configured(path: &Path) -> Result<(ServerConfig, bool), Box<dyn Error>> {
        let named = |error: &dyn Display| format!("{}: {error}", path.display());
        let text = fs::read_to_string(path).map_err(|error| named(&error))?;
        let config: IndexerConfig =
            text.parse().map_err(|error: ConfigError| named(&with_causes(&error)))?;
        match (config.index.valkey, config.index.redis) {
            (Some(valkey), _) => Ok((valkey, false)),
            (None, Some(redis)) => Ok((redis, true)),
            (None, None) => {
                Err(named(&"configures no server, and an index in memory is its process's own")
                    .into())
            }
        }
    }

    fn prefix(&self) -> &str {
        &self.server.key_prefix
    }

    async fn open(&self) -> Result<Arc<dyn Index>, Box<dyn Error>> {
        let server = ServerConfig { sweep_interval: None, ..self.server.clone() };
        let config =
            if self.is_redis { IndexConfig::redis(server) } else { IndexConfig::valkey(server) };
        Ok(config.open().await?)
    }

    async fn open_bitmap(&self) -> Result<BitmapIndex, Box<dyn Error>> {
        match self.server.bitmap_options()? {
            Some(options) => Ok(BitmapIndex::new(self.client().await?, options)),
            None => Err("only an index in the bitmap layout is swept".into()),
        }
    }

    async fn client(&self) -> Result<Client, Box<dyn Error>> {
        let url = self.server.dialled_url();
        let url = url.ok_or("RDMA was asked for, and has neither TLS nor Unix sockets")?;
        let config: Config = url.parse()?;
        Ok(Client::with_config(config).await?)
    }
}

/// The keys of the command line, or those that stand on standard input if there are none.
fn keys_or_input(keys: &[BlockHash]) -> Result<Vec<BlockHash>, Box<dyn Error>> {
    if !keys.is_empty() {
        return Ok(keys.to_vec());
    }
    let mut text = Vec::new();
    let read = io::stdin().lock().read_to_end(&mut text);
    read.map_err(|error| format!("the input cannot be read: {error}"))?;
    let text = str::from_utf8(&text).map_err(|error| BadInput(error.to_string()))?;
    let key = |word: &str| {
        let key = word.parse();
        key.map_err(|error| BadInput(format!("{word:.40}: {error}")).into())
    };
    text.split_whitespace().map(key).collect()
}

fn print_done(json: bool) -> io::Result<()> {
    if json { print(&r#"{"done":true}"#) } else { Ok(()) }
}

fn print_either<T: Display + serde::Serialize>(
    value: &T,
    json: bool,
) -> Result<(), Box<dyn Error>> {
    if json {
        print(&serde_json::to_string(value)?)?;
    } else {
        print(&value.to_string().trim_end())?;
    }
    Ok(())
}

fn replay(args: &ReplayArgs) -> Result<ExitCode, Box<dyn Error>> {
    let (choice, note) = args.store(ServerConfig::from_env).unwrap_or_else(|message| {
        let kind = clap::error::ErrorKind::ValueValidation;
        Cli::command().error(kind, message).exit()
    });
    if let Some(note) = note {
        say(&note);
    }
    // Before signals are listened for: to open a named pipe may take for ever, and Ctrl-C then
    // ends the process as it ends any other.
    let source = args.source();
    let (requests, extent) = open_source(&source, args.limit())?;
    run(args, &choice, &source, requests, &extent)
}

fn bench(args: &BenchArgs) -> Result<ExitCode, Box<dyn Error>> {
    let options = args.options().unwrap_or_else(|message| {
        let kind = clap::error::ErrorKind::ValueValidation;
        Cli::command().error(kind, message).exit()
    });
    run_bench(args, options)
}

#[tokio::main(flavor = "current_thread")]
async fn run_bench(args: &BenchArgs, options: bench::Options) -> Result<ExitCode, Box<dyn Error>> {
    let signals = Signals::listen()?;
    let open = signals.stop().run_until_cancelled(Bench::open(options, tag())).await;
    let Some(mut bench) = open.transpose()? else {
        say("interrupted");
        return Ok(ExitCode::from(signals.exit_code()));
    };
    if let Some(prefix) = bench.key_prefix() {
        let then = if args.keep { "left there" } else { "removed at the end" };
        say(&format!("its keys begin with {prefix} and are {then}"));
        signals.set_last_word(format!("left at once: keys may be left that begin with {prefix}"));
    }
    let bar = bench_bar();
    let progress = |progress: bench::Progress| {
        bar.set_length(progress.total.as_millis() as u64);
        bar.set_position(progress.elapsed.as_millis() as u64);
        bar.set_message(format!("run {} of {}", progress.run.0 + 1, progress.run.1));
    };
    let outcome = bench.run(progress, signals.stop()).await;
    bar.finish_and_clear();
    if let Err(error) = &outcome {
        say(&with_causes(error));
    }
    let removed = if args.keep { Ok(0) } else { bench.close().await };
    if let Err(error) = &removed {
        say(&format!("the keys could not all be removed: {}", with_causes(error)));
    }
    let code = match &outcome {
        Ok(report) => print_bench(report, args.json)?,
        Err(_) => ExitCode::FAILURE,
    };
    Ok(match (&outcome, removed) {
        _ if signals.stop().is_cancelled() => ExitCode::from(signals.exit_code()),
        (Ok(report), Err(_)) if report.meaningless.is_none() => ExitCode::FAILURE,
        _ => code,
    })
}

/// Prints what was measured, and tells whether it says anything.
fn print_bench(report: &bench::Report, json: bool) -> io::Result<ExitCode> {
    if json {
        let _ = write!(io::stderr(), "{report}");
        print(&report.to_json())?;
    } else {
        print(&report.to_string().trim_end())?;
    }
    for warning in report.warnings() {
        say(&warning);
    }
    Ok(match report.meaningless {
        None => ExitCode::SUCCESS,
        Some(_) => ExitCode::from(MEANINGLESS),
    })
}

fn open_source(source: &Source, limit: Option<u64>) -> Result<(Requests, Extent), String> {
    let opened = source.open(limit);
    let (requests, extent) =
        opened.map_err(|error| format!("{source}: the trace cannot be opened: {error}"))?;
    if let (Source::Generator(_), Extent::Requests(n)) = (source, &extent) {
        say(&format!("no --trace given: replaying {n} requests of {source}"));
    }
    Ok((requests, extent))
}

#[tokio::main]
async fn run(
    args: &ReplayArgs,
    choice: &StoreChoice,
    source: &Source,
    requests: Requests,
    extent: &Extent,
) -> Result<ExitCode, Box<dyn Error>> {
    let signals = Signals::listen()?;
    let Some(mut store) = open_store(args, choice, &signals).await? else {
        say("interrupted");
        return Ok(ExitCode::from(signals.exit_code()));
    };

    let options = Options {
        route: args.route,
        prefill_rate: args.prefill_rate,
        writers: args.writers(),
        restart: args.restart(),
    };
    let bar = progress_bar(extent);
    let progress = || match extent {
        Extent::Bytes { read, .. } => bar.set_position(read.count()),
        Extent::Requests(_) | Extent::Unknown => bar.inc(1),
    };
    let outcome = replay::run(&options, requests, &mut store, progress, signals.stop()).await;
    bar.finish_and_clear();
    // Said first, because clearing up may fail as well, and for the same reason.
    match &outcome {
        Ok(_) | Err(ReplayError::Interrupted) => {}
        Err(error @ (ReplayError::Trace(_) | ReplayError::NoRequests)) => {
            say(&format!("{source}: {}", with_causes(error)));
        }
        Err(error) => say(&with_causes(error)),
    }
    let closed = close_store(store, &signals).await;
    if let Err(error) = &closed {
        say(&format!("the replay's keys could not all be removed: {}", with_causes(error)));
    }
    let code = match outcome {
        Ok(report) => print_report(&report, args.json)?,
        Err(_) => ExitCode::FAILURE,
    };
    Ok(match closed {
        _ if signals.stop().is_cancelled() => ExitCode::from(signals.exit_code()),
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    })
}

/// Opens the store and says what it is; `None` after a signal.
async fn open_store(
    args: &ReplayArgs,
    choice: &StoreChoice,
    signals: &Signals,
) -> Result<Option<Store>, StoreError> {
    let fleet = FleetSize { pods: args.pods(), capacity: args.capacity };
    let open =
        Store::open_in(args.layout, choice, fleet, args.allow_non_empty, tag(), signals.stop());
    let Some(store) = signals.stop().run_until_cancelled(open).await else { return Ok(None) };
    let store = store?;
    for note in store.notes() {
        say(note);
    }
    if store.blocks_to_remove().is_some() {
        signals.set_last_word(format!(
            "left at once: {} may still hold keys of this replay, {}",
            store.name(),
            store.traces()
        ));
    }
    Ok(Some(store))
}

/// Closes the store, and after a signal says what that takes.
async fn close_store(store: Store, signals: &Signals) -> Result<(), StoreError> {
    let notice = match store.blocks_to_remove() {
        Some(n) => {
            format!("interrupted: removing the keys of {n} blocks; press again to leave them")
        }
        None => "interrupted".to_owned(),
    };
    let mut closing = pin!(store.close());
    tokio::select! {
        biased;
        () = signals.stop().cancelled() => {
            say(&notice);
            closing.await
        }
        closed = &mut closing => closed,
    }
}

/// Prints the report, and tells whether the index was right.
fn print_report(report: &Report, json: bool) -> io::Result<ExitCode> {
    if json {
        let _ = writeln!(io::stderr(), "{report}");
        print(&report.to_json())?;
    } else {
        print(report)?;
    }
    if report.is_clean() {
        return Ok(ExitCode::SUCCESS);
    }
    say("the index and the pods disagree: see the false hits and missed blocks of the report");
    Ok(ExitCode::FAILURE)
}

/// Writes a line to standard output. A reader that has seen enough is no error.
fn print(line: &dyn Display) -> io::Result<()> {
    match writeln!(io::stdout(), "{line}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

/// Tells a person something, on standard error; there is nobody to tell when that fails.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "respire: {line}");
}

/// Draws on standard error, and only where that is a terminal.
fn progress_bar(extent: &Extent) -> ProgressBar {
    let (bar, template) = match extent {
        Extent::Requests(n) => {
            (ProgressBar::new(*n), "{wide_bar} {human_pos}/{human_len} requests, {eta} to go")
        }
        Extent::Bytes { total, .. } => {
            (ProgressBar::new(*total), "{wide_bar} {bytes}/{total_bytes} of the trace, {eta} to go")
        }
        Extent::Unknown => {
            (ProgressBar::no_length(), "{spinner} {human_pos} requests in {elapsed}")
        }
    };
    bar.with_style(ProgressStyle::with_template(template).expect("the templates are well-formed"))
}

/// Draws on standard error, and only where that is a terminal.
fn bench_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_bar} {msg}, {elapsed}");
    ProgressBar::no_length().with_style(style.expect("the template is well-formed"))
}

/// A number that no other replay or load test has.
fn tag() -> u64 {
    rand::random()
}
