//! The `respire` command.

mod args;
mod signals;

use std::error::Error;
use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use indicatif::{ProgressBar, ProgressStyle};
use respire_cli::causes::with_causes;
use respire_cli::fleet::FleetSize;
use respire_cli::replay::{self, Options, ReplayError};
use respire_cli::report::Report;
use respire_cli::source::{Requests, Source};
use respire_cli::store::{Store, StoreChoice};

use crate::args::{ADDRESS_VARIABLE, Cli, Command, ReplayArgs};
use crate::signals::Signals;

fn main() -> ExitCode {
    let Command::Replay(args) = Cli::parse().command;
    let address = std::env::var(ADDRESS_VARIABLE).ok();
    let choice = args.store(address.as_deref()).unwrap_or_else(|message| {
        let kind = clap::error::ErrorKind::ValueValidation;
        Cli::command().error(kind, message).exit()
    });
    match run(&args, &choice) {
        Ok(code) => code,
        Err(error) => {
            say(&with_causes(&*error));
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(args: &ReplayArgs, choice: &StoreChoice) -> Result<ExitCode, Box<dyn Error>> {
    let signals = Signals::listen()?;
    let (requests, expected) = open_source(&args.source(), args.limit())?;
    let fleet = FleetSize { pods: args.pods(), capacity: args.capacity };
    let open = Store::open(choice, fleet, args.allow_non_empty, tag());
    let mut store = match signals.stop().run_until_cancelled(open).await {
        Some(store) => store?,
        None => return Ok(ExitCode::from(signals.exit_code())),
    };
    for note in store.notes() {
        say(note);
    }

    let options =
        Options { route: args.route, prefill_rate: args.prefill_rate, writers: args.writers() };
    let progress = progress_bar(expected);
    let outcome = replay::run(&options, requests, &mut store, &progress, signals.stop()).await;
    progress.finish_and_clear();
    // Said first, because clearing up may fail as well, and for the same reason.
    if let Err(error) = &outcome {
        say(&with_causes(error));
    }
    let closed = store.close().await;
    if let Err(error) = &closed {
        say(&format!("the replay's keys could not all be removed: {}", with_causes(error)));
    }
    let code = match outcome {
        Ok(report) => print_report(&report, args.json)?,
        Err(ReplayError::Interrupted) => return Ok(ExitCode::from(signals.exit_code())),
        Err(_) => ExitCode::FAILURE,
    };
    Ok(if closed.is_ok() { code } else { ExitCode::FAILURE })
}

fn open_source(source: &Source, limit: Option<u64>) -> Result<(Requests, Option<u64>), String> {
    let opened = source.open(limit);
    let (requests, expected) =
        opened.map_err(|error| format!("the trace cannot be opened: {error}"))?;
    if let (Source::Generator(_), Some(n)) = (source, expected) {
        say(&format!("no --trace given: replaying {n} requests of the built-in generator"));
    }
    Ok((requests, expected))
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
fn progress_bar(expected: Option<u64>) -> ProgressBar {
    let (bar, template) = match expected {
        Some(n) => {
            (ProgressBar::new(n), "{wide_bar} {human_pos}/{human_len} requests, {eta} to go")
        }
        None => (ProgressBar::no_length(), "{spinner} {human_pos} requests in {elapsed}"),
    };
    bar.with_style(ProgressStyle::with_template(template).expect("the templates are well-formed"))
}

/// A number that no other replay has.
fn tag() -> u64 {
    rand::random()
}
