//! The command line of `respire bench`.

use std::num::{NonZeroU16, NonZeroU32, NonZeroUsize};
use std::time::Duration;

use clap::{ArgGroup, Args};
use respire_cli::bench::{Arrivals, Delay, Load, Mix, Options, Template};
use respire_codec::Protocol;

use super::{protocol, server};

/// Requests a second where none are asked for: a load that no server minds.
const RATE_DEFAULT: f64 = 1000.0;

/// The slowest and the fastest rate that can be asked for, in requests a second.
const RATES: std::ops::RangeInclusive<f64> = 0.001..=100_000_000.0;

/// The longest run, warm-up and injected delay.
const DURATION_MAX: Duration = Duration::from_secs(24 * 3600);
const DELAY_MAX: Duration = Duration::from_secs(60);

/// The largest value, in bytes, the most commands of one request, and the most callers.
const VALUE_BYTES_MAX: usize = 64 * 1024 * 1024;
const PIPELINE_MAX: usize = 65_536;
const CALLERS_MAX: u32 = 1_000_000;

/// Load a server at a constant rate, and measure each request from the instant it was to start.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
#[command(group = ArgGroup::new("load").args(["rate", "closed_loop", "find_peak"]))]
pub(crate) struct BenchArgs {
    /// The server: redis://, valkey://, unix:// or host:port
    #[arg(value_name = "URL")]
    url: String,

    /// Requests that start in a second [default: 1000]
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,

    /// Send each caller's next request when its last one is answered
    #[arg(long)]
    closed_loop: bool,

    /// Find the peak by a closed loop, then run at the shares of --at
    #[arg(long)]
    find_peak: bool,

    /// Shares of the peak
    #[arg(long, value_name = "N%,...", default_value = "50%,90%", requires = "find_peak")]
    #[arg(value_delimiter = ',', value_parser = share)]
    at: Vec<f64>,

    /// Let requests start at random, the rate being their average
    #[arg(long, conflicts_with = "closed_loop")]
    poisson: bool,

    /// How long to measure, in each run
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    duration: Duration,

    /// How long to do the same before that, without measuring
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = warm_up)]
    warmup: Duration,

    /// How many connections, shared by all callers
    #[arg(long, visible_alias = "clients", value_name = "N", default_value = "1")]
    connections: NonZeroU16,

    /// How many requests may be under way
    #[arg(long, value_name = "N", default_value = "256", value_parser = callers)]
    callers: NonZeroU32,

    /// Threads that make the load, each with connections and callers of its own
    #[arg(long, value_name = "N", default_value = "1")]
    threads: NonZeroU16,

    /// How many GETs come with how many SETs
    #[arg(long, value_name = "GET:SET", default_value = "9:1", value_parser = ratio)]
    ratio: (u32, u32),

    /// Send this command in place of GET and SET; more than one take turns at random
    #[arg(long, value_name = "COMMAND", conflicts_with = "ratio")]
    command: Vec<Template>,

    /// Commands in each request, sent together
    #[arg(long, value_name = "N", default_value = "1", value_parser = pipeline)]
    pipeline: NonZeroUsize,

    /// Different keys
    #[arg(long, value_name = "N", default_value = "10000")]
    keys: NonZeroU32,

    /// What the names of all keys begin with
    #[arg(long, value_name = "TEXT", default_value = "respire-bench:")]
    key_prefix: String,

    /// Bytes of a value
    #[arg(long, value_name = "BYTES", default_value = "100", value_parser = value_size)]
    value_size: usize,

    /// Delay everything on its way, in each direction
    #[arg(long, value_name = "TIME[..TIME]", value_parser = delay)]
    delay: Option<Delay>,

    /// The protocol to ask for [default: the URL's, else 3]
    #[arg(long, value_name = "2|3", value_parser = protocol)]
    protocol: Option<Protocol>,

    /// Decides which commands are sent, and when --poisson sends them
    #[arg(long, value_name = "N", default_value = "1")]
    seed: u64,

    /// Show where the time of the requests went, as the client sees it
    #[arg(long)]
    phases: bool,

    /// Leave the keys on the server
    #[arg(long)]
    pub(crate) keep: bool,

    /// Print one JSON object, and the table on standard error
    #[arg(long)]
    pub(crate) json: bool,
}

/// Wrapped by hand, at 80 columns.
const AFTER_HELP: &str = "\
Requests start at instants that are fixed beforehand, and each counts from the
instant at which it was to start. So a stall is charged to every request that
had to wait for it. When all callers are busy, or this process comes too late,
requests start late: that is part of their latency, and shown as start delay. A
second after the schedule's end no more are started; those left over count with
the time that they had waited until then, and so do those that timed out. A
closed loop sends less when the server is slow, and hides what that does to
latencies; it is there to find the peak.

Keys are named by the prefix, a number that no other run has, and a number of
ten digits. Those that GET reads are written first. All are removed at the end,
on Ctrl-C too, unless --keep is given; a second Ctrl-C leaves them, and says how
they begin.

In a --command, words are separated by spaces; {key} stands for a key, {value}
for a value. Keys that it makes otherwise stay on the server.

With --delay, what is sent goes through a relay in this process, which hands on
each byte after that time (for a range, a random time in it), in order. Over TLS
these bytes are encrypted, and the certificate must be for the URL's host.

What the rows of the table mean:
  latency           From the instant at which a request was to start (in a
                    closed loop: from its start) to its answer.
  from the start    From its start to its answer: what a closed loop reports.
  start delay       From the instant at which it was to start to its start.
  waited for a caller
                    Was to start while all callers were busy.
  CPU time          Of this process: client, load and, with --delay, relay.
And with --phases, for which the client takes the times of every request:
  queue             From the call until its bytes were with the transport.
  server and network
                    From then until its reply was received.
  wake-up           From then until its task had it.

With --json the object has: format, server, settings, peak_rate, runs (each with
mode, arrivals, share_of_peak, target_rate, seconds, scheduled, started,
not_started, answered, rate, commands_rate, null_replies, errors by kind, late,
waited_for_caller, kept_up, latency_us, service_us, start_delay_us, histogram,
client, cpu_us_per_request), interrupted, meaningless. What each means is documented in
docs/design/bench.md. Times are in microseconds, exact to a thousandth.

Exit status: 0 if there are figures; 1 if the load could not be made, or keys
not be removed; 2 for a wrong command line; 3 if more than 1 % of the requests
failed, or none was answered; 130 after Ctrl-C, 143 after SIGTERM, 129 after
SIGHUP.";

impl BenchArgs {
    /// What to measure. The message of an error does not repeat a URL, which may hold a password.
    pub(crate) fn options(&self) -> Result<Options, String> {
        let mut server = server(&self.url).map_err(|error| format!("the URL {error}"))?;
        if let Some(protocol) = self.protocol {
            server = server.with_protocol(protocol);
        }
        for (name, count) in
            [("--connections", self.connections.get().into()), ("--callers", self.callers.get())]
        {
            if count < self.threads.get().into() {
                return Err(format!(
                    "each of the {} --threads needs one of the {name}, of which there are {count}",
                    self.threads
                ));
            }
        }
        Ok(Options {
            server,
            load: self.load(),
            duration: self.duration,
            warm_up: self.warmup,
            connections: self.connections,
            callers: self.callers,
            threads: self.threads,
            mix: self.mix(),
            pipeline: self.pipeline,
            keys: self.keys,
            key_prefix: self.key_prefix.clone(),
            value_bytes: self.value_size,
            delay: self.delay,
            seed: self.seed,
            phases: self.phases,
        })
    }

    fn load(&self) -> Load {
        if self.closed_loop {
            return Load::Closed;
        }
        if self.find_peak {
            return Load::PeakAndShares { shares: self.at.clone(), poisson: self.poisson };
        }
        let rate = self.rate.unwrap_or(RATE_DEFAULT);
        Load::Open(if self.poisson { Arrivals::Poisson(rate) } else { Arrivals::Constant(rate) })
    }

    fn mix(&self) -> Mix {
        if self.command.is_empty() {
            let (gets, sets) = self.ratio;
            return Mix::GetSet { gets, sets };
        }
        Mix::Custom(self.command.clone())
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if RATES.contains(&rate) => Ok(rate),
        _ => Err(format!(
            "expected a number of requests a second from {} to {}",
            RATES.start(),
            RATES.end()
        )),
    }
}

fn share(text: &str) -> Result<f64, &'static str> {
    let percent = text.strip_suffix('%').and_then(|number| number.parse::<f64>().ok());
    match percent {
        Some(percent) if (0.1..=1000.0).contains(&percent) => Ok(percent / 100.0),
        _ => Err("expected percentages of the peak, such as 50%,90%"),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    match warm_up(text)? {
        Duration::ZERO => Err("expected more than no time".to_owned()),
        duration => Ok(duration),
    }
}

fn warm_up(text: &str) -> Result<Duration, String> {
    time(text, DURATION_MAX)
}

fn time(text: &str, max: Duration) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    humantime::parse_duration(text).ok().filter(|time| *time <= max).ok_or_else(|| {
        format!("expected a time with its unit, such as 500ms, of at most {} s", max.as_secs())
    })
}

fn delay(text: &str) -> Result<Delay, String> {
    let (min, max) = text.split_once("..").unwrap_or((text, text));
    let delay = Delay { min: time(min, DELAY_MAX)?, max: time(max, DELAY_MAX)? };
    if delay.min > delay.max {
        return Err("expected the shorter time first".to_owned());
    }
    Ok(delay)
}

fn ratio(text: &str) -> Result<(u32, u32), &'static str> {
    let parts = text
        .split_once(':')
        .and_then(|(gets, sets)| Some((gets.parse::<u32>().ok()?, sets.parse::<u32>().ok()?)));
    match parts {
        Some(parts) if parts != (0, 0) => Ok(parts),
        _ => Err("expected two numbers, such as 9:1 for nine GETs and a SET"),
    }
}

fn callers(text: &str) -> Result<NonZeroU32, String> {
    let callers = text.parse().ok().filter(|callers: &NonZeroU32| callers.get() <= CALLERS_MAX);
    callers.ok_or_else(|| format!("expected a number of callers from 1 to {CALLERS_MAX}"))
}

fn pipeline(text: &str) -> Result<NonZeroUsize, String> {
    let commands = text.parse().ok().filter(|n: &NonZeroUsize| n.get() <= PIPELINE_MAX);
    commands.ok_or_else(|| format!("expected a number of commands from 1 to {PIPELINE_MAX}"))
}

fn value_size(text: &str) -> Result<usize, String> {
    let bytes = text.parse().ok().filter(|bytes| *bytes <= VALUE_BYTES_MAX);
    bytes.ok_or_else(|| format!("expected a number of bytes, at most {VALUE_BYTES_MAX}"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn parse(args: &[&str]) -> Result<BenchArgs, clap::Error> {
        let cli = Cli::try_parse_from(["respire", "bench", "localhost"].iter().chain(args))?;
        let Command::Bench(args) = cli.command else { panic!("not bench") };
        Ok(*args)
    }

    fn options(args: &[&str]) -> Options {
        parse(args).unwrap().options().unwrap()
    }

    #[test]
    fn the_load_is_gentle_unless_more_is_asked_for() {
        let options = options(&[]);
        assert_eq!(options.load, Load::Open(Arrivals::Constant(1000.0)));
        assert_eq!(options.mix, Mix::GetSet { gets: 9, sets: 1 });
        assert_eq!((options.connections.get(), options.callers.get()), (1, 256));
        assert_eq!(options.delay, None);
    }

    #[test]
    fn loads_are_what_was_asked_for() {
        let load = |args: &[&str]| options(args).load;
        assert_eq!(load(&["--rate", "2.5e4"]), Load::Open(Arrivals::Constant(25_000.0)));
        assert_eq!(load(&["--rate", "7", "--poisson"]), Load::Open(Arrivals::Poisson(7.0)));
        assert_eq!(load(&["--closed-loop"]), Load::Closed);
        let peak = |shares: &[f64], poisson| Load::PeakAndShares { shares: shares.into(), poisson };
        assert_eq!(load(&["--find-peak"]), peak(&[0.5, 0.9], false));
        assert_eq!(load(&["--find-peak", "--at", "10%,120%"]), peak(&[0.1, 1.2], false));
        assert_eq!(load(&["--find-peak", "--at", "75%", "--poisson"]), peak(&[0.75], true));
    }

    #[test]
    fn one_load_at_a_time() {
        for args in [
            &["--rate", "1", "--closed-loop"][..],
            &["--rate", "1", "--find-peak"],
            &["--closed-loop", "--find-peak"],
            &["--closed-loop", "--poisson"],
            &["--at", "50%"],
            &["--ratio", "1:1", "--command", "PING"],
        ] {
            assert_eq!(parse(args).unwrap_err().exit_code(), 2, "{args:?}");
        }
    }

    #[test]
    fn delays_are_a_time_or_a_range() {
        let ms = Duration::from_millis;
        assert_eq!(options(&["--delay", "1ms"]).delay, Some(Delay { min: ms(1), max: ms(1) }));
        let range = options(&["--delay", "1ms..2500us"]).delay;
        assert_eq!(range, Some(Delay { min: ms(1), max: Duration::from_micros(2500) }));
    }

    #[test]
    fn messages_say_what_is_expected() {
        for (args, expected) in [
            (["--rate", "0"], "expected a number of requests a second from 0.001"),
            (["--rate", "NaN"], "expected a number of requests a second"),
            (["--duration", "0"], "expected more than no time"),
            (["--duration", "10"], "expected a time with its unit"),
            (["--duration", "9000d"], "of at most 86400 s"),
            (["--warmup", "1 fortnight"], "expected a time with its unit"),
            (["--delay", "2ms..1ms"], "expected the shorter time first"),
            (["--delay", "2h"], "of at most 60 s"),
            (["--ratio", "0:0"], "expected two numbers"),
            (["--ratio", "9"], "expected two numbers"),
            (["--command", " "], "expected a command"),
            (["--callers", "0"], "expected a number of callers from 1 to"),
            (["--pipeline", "0"], "expected a number of commands from 1 to"),
            (["--value-size", "1e3"], "expected a number of bytes"),
            (["--protocol", "4"], "expected 2 or 3"),
        ] {
            let error = parse(&args).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{args:?}");
            assert!(error.to_string().contains(expected), "{error}");
        }
        let error = parse(&["--find-peak", "--at", "0.5"]).unwrap_err().to_string();
        assert!(error.contains("expected percentages of the peak"), "{error}");
    }

    #[test]
    fn threads_need_connections_and_callers() {
        for (args, expected) in [
            (&["--threads", "2"][..], "--connections"),
            (&["--threads", "2", "--connections", "2", "--callers", "1"], "--callers"),
        ] {
            let error = parse(args).unwrap().options().unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        assert_eq!(options(&["--threads", "2", "--clients", "3"]).connections.get(), 3);
    }

    #[test]
    fn a_url_that_cannot_be_used_is_not_repeated() {
        let cli = Cli::try_parse_from(["respire", "bench", "http://user:hunter2@host"]).unwrap();
        let Command::Bench(args) = cli.command else { panic!("not bench") };
        let message = args.options().unwrap_err();
        assert!(message.starts_with("the URL names no server"), "{message}");
        assert!(!message.contains("hunter2"), "{message}");
    }
}
