//! What a load test has found, for people and for programs.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use hdrhistogram::Histogram;
use respire::{Latencies, Stats};
use serde::{Serialize, Serializer};

use super::schedule::Arrivals;
use super::tally::{LATE, Tally};
use super::{Load, Options, plot};

/// The version of the JSON object. It changes when a field goes or changes its meaning, not when
/// one is added.
const FORMAT: u32 = 1;

/// The part of the requests that may fail, or start late, before the figures no longer describe
/// what was asked for.
const TOLERANCE: f64 = 0.01;

/// The result of a load test. As JSON it is one object with the fields as they stand here;
/// `Display` is a table and a plot of each run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The version of this object: 1.
    pub format: u32,
    /// What was asked.
    pub server: Server,
    /// What it was asked to do.
    pub settings: Settings,
    /// Requests answered in a second of a closed loop, where that was looked for.
    pub peak_rate: Option<f64>,
    /// One after the other.
    pub runs: Vec<Run>,
    /// It was ended early.
    pub interrupted: bool,
    /// Why the figures say nothing, if so.
    pub meaningless: Option<String>,
}

/// The server.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Server {
    /// Where it listens, without credentials.
    pub address: String,
    /// Its name and version, if it says so.
    pub software: Option<String>,
    /// The protocol that was agreed on: 2 or 3.
    pub protocol: Option<u8>,
}

/// What was to be measured, and how.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Settings {
    /// Seconds that were to be measured, in each run.
    pub duration_s: f64,
    /// Seconds before that, which count nothing.
    pub warm_up_s: f64,
    /// Connections.
    pub connections: u16,
    /// The bound of requests under way.
    pub callers: u32,
    /// Threads of the load.
    pub threads: u16,
    /// `GET:SET` in their ratio, or the custom commands.
    pub commands: String,
    /// Commands in one request.
    pub pipeline: usize,
    /// Different keys.
    pub keys: u32,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// The shortest and the longest injected delay, in each direction, in microseconds.
    pub delay_us: Option<[f64; 2]>,
    /// The seed.
    pub seed: u64,
}

/// What decides when a request starts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mode {
    /// A schedule. With a share where the rate is this part of the peak.
    Open {
        /// The part of the peak, from 0 to 1.
        share: Option<f64>,
    },
    /// The end of the request before it.
    Closed,
}

impl Mode {
    pub(crate) fn open(share: Option<f64>) -> Self {
        Self::Open { share }
    }
}

/// The figures of one run. Its warm-up is not in them.
///
/// `scheduled` is `started` and `not_started`; `started` is `answered` and the sum of `errors`;
/// the count of `latency_us` is that of the requests that were answered, not answered in time
/// (`timeout`, `unanswered`) or never started.
#[derive(Debug, Clone, Serialize)]
pub struct Run {
    /// `open-loop` or `closed-loop`.
    #[serde(serialize_with = "mode_name")]
    pub mode: Mode,
    /// `constant`, `poisson`, or `closed`.
    pub arrivals: &'static str,
    /// The part of the peak that was asked for, if one was.
    pub share_of_peak: Option<f64>,
    /// Requests that were to start in a second.
    pub target_rate: Option<f64>,
    /// The time that was measured, in seconds: to the end of the schedule, or to the last answer
    /// where that came later.
    pub seconds: f64,
    /// Requests that were to start.
    pub scheduled: u64,
    /// Requests that did.
    pub started: u64,
    /// Those that had not when the run was given up, a second after its schedule's end.
    pub not_started: u64,
    /// Requests answered without an error.
    pub answered: u64,
    /// Those in a second.
    pub rate: f64,
    /// Their commands in a second.
    pub commands_rate: f64,
    /// Replies that were null, such as that to a GET of a key that is not there.
    pub null_replies: u64,
    /// Requests that failed, by kind.
    pub errors: BTreeMap<String, u64>,
    /// Requests that started more than a millisecond after they were to.
    pub late: u64,
    /// Requests that were to start while all callers were busy.
    pub waited_for_caller: u64,
    /// Whether the load kept to its schedule: at most 1 % of it started late or not at all.
    pub kept_up: bool,
    /// From the instant at which a request was to start to its answer. In a closed loop, from its
    /// start.
    pub latency_us: Percentiles,
    /// From a request's start to its answer: what a closed loop would report.
    pub service_us: Percentiles,
    /// From the instant at which a request was to start to its start.
    pub start_delay_us: Percentiles,
    /// The latencies in intervals that grow by about a quarter; those with none are left out.
    pub histogram: Vec<Bin>,
    /// What the client says of itself, where it was asked.
    pub client: Option<ClientFigures>,
    /// CPU time of this process for a request, in microseconds: of the client, the load itself and,
    /// where there is a delay, its relay. With those of the warm-up.
    pub cpu_us_per_request: Option<f64>,
}

/// What the client counted in a run, with its warm-up, and where its requests' time went. The
/// times of each request are taken.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClientFigures {
    /// Requests, each attempt of one that was sent again for itself.
    pub requests: u64,
    /// How often a transport was given bytes to send.
    pub sends: u64,
    /// How often a transport has given bytes.
    pub receives: u64,
    /// Bytes sent.
    pub bytes_sent: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Attempts to connect.
    pub dials: u64,
    /// Attempts after a request's first one.
    pub retried: u64,
    /// From the call until the transport had taken the request.
    pub queue_us: Percentiles,
    /// From then until its reply was received.
    pub server_us: Percentiles,
    /// From then until its task had it.
    pub wake_up_us: Percentiles,
    /// All of it.
    pub total_us: Percentiles,
}

impl ClientFigures {
    fn of(stats: &Stats) -> Self {
        let phases = &stats.phases;
        Self {
            requests: stats.requests,
            sends: stats.sends,
            receives: stats.receives,
            bytes_sent: stats.bytes_sent,
            bytes_received: stats.bytes_received,
            dials: stats.dials,
            retried: stats.retried,
            queue_us: Percentiles::of_phase(&phases.queue),
            server_us: Percentiles::of_phase(&phases.server),
            wake_up_us: Percentiles::of_phase(&phases.wake_up),
            total_us: Percentiles::of_phase(&phases.total),
        }
    }
}

/// Times in microseconds, exact to a thousandth of each, those of the client's phases to 1.6 %. `null` where there are none.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Percentiles {
    /// How many.
    pub count: u64,
    /// The mean.
    pub mean: Option<f64>,
    /// The shortest.
    pub min: Option<f64>,
    /// The median.
    pub p50: Option<f64>,
    /// The 90th percentile.
    pub p90: Option<f64>,
    /// The 99th percentile.
    pub p99: Option<f64>,
    /// The 99.9th percentile.
    pub p99_9: Option<f64>,
    /// The 99.99th percentile.
    pub p99_99: Option<f64>,
    /// The longest.
    pub max: Option<f64>,
}

/// An interval of a histogram, in microseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bin {
    /// From this on.
    pub from_us: f64,
    /// Until before this.
    pub to_us: f64,
    /// So many.
    pub count: u64,
}

impl Percentiles {
    fn of(times: &Histogram<u64>) -> Self {
        let some = |nanos: f64| (!times.is_empty()).then_some(nanos / 1000.0);
        let at = |quantile| some(times.value_at_quantile(quantile) as f64);
        Self {
            count: times.len(),
            mean: some(times.mean()),
            min: some(times.min() as f64),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            p99_99: at(0.9999),
            max: some(times.max() as f64),
        }
    }
}

impl Percentiles {
    fn of_phase(times: &Latencies) -> Self {
        let micros = |time: Duration| time.as_nanos() as f64 / 1000.0;
        let at = |part| times.quantile(part).map(micros);
        Self {
            count: times.count(),
            mean: times.mean().map(micros),
            min: at(0.0),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            p99_99: at(0.9999),
            max: at(1.0),
        }
    }
}

impl Run {
    pub(crate) fn new(
        mode: Mode,
        arrivals: Arrivals,
        tally: &Tally,
        measured: Duration,
        cpu: Duration,
        pipeline: NonZeroUsize,
    ) -> Self {
        let (arrivals, target_rate) = match arrivals {
            Arrivals::Constant(rate) => ("constant", Some(rate)),
            Arrivals::Poisson(rate) => ("poisson", Some(rate)),
            Arrivals::Closed => ("closed", None),
        };
        let seconds = measured.as_secs_f64();
        let rate = if seconds > 0.0 { tally.answered as f64 / seconds } else { 0.0 };
        let not_started = tally.scheduled - tally.started;
        let off = (tally.late + not_started) as f64;
        Self {
            mode,
            arrivals,
            share_of_peak: if let Mode::Open { share } = mode { share } else { None },
            target_rate,
            seconds,
            scheduled: tally.scheduled,
            started: tally.started,
            not_started,
            answered: tally.answered,
            rate,
            commands_rate: rate * pipeline.get() as f64,
            null_replies: tally.nulls,
            errors: tally.errors.clone(),
            late: tally.late,
            waited_for_caller: tally.waited_for_caller,
            kept_up: off <= TOLERANCE * tally.scheduled as f64,
            latency_us: Percentiles::of(tally.latency.histogram()),
            service_us: Percentiles::of(tally.service.histogram()),
            start_delay_us: Percentiles::of(tally.start_delay.histogram()),
            histogram: plot::bins(tally.latency.histogram(), plot::FINE),
            client: tally.client.as_ref().map(ClientFigures::of),
            cpu_us_per_request: (tally.ended > 0)
                .then(|| cpu.as_nanos() as f64 / 1000.0 / tally.ended as f64),
        }
    }

    fn failed(&self) -> u64 {
        self.errors.values().sum()
    }

    /// What the run is called in the table.
    fn title(&self) -> String {
        match (self.mode, self.target_rate) {
            (Mode::Open { share: Some(share) }, _) => {
                format!("{} % of the peak", rounded(100.0 * share))
            }
            (Mode::Open { share: None }, Some(rate)) => format!("{}/s", rounded(rate)),
            _ => "closed loop".to_owned(),
        }
    }

    fn meaningless(&self) -> Option<String> {
        if self.answered == 0 {
            return Some("nothing was answered".to_owned());
        }
        let failed = self.failed();
        (failed as f64 > TOLERANCE * self.started as f64)
            .then(|| format!("{failed} of {} requests failed", self.started))
    }
}

impl Report {
    pub(crate) fn new(
        server: Server,
        options: &Options,
        runs: Vec<Run>,
        interrupted: bool,
    ) -> Self {
        let micros = |duration: Duration| duration.as_nanos() as f64 / 1000.0;
        let settings = Settings {
            duration_s: options.duration.as_secs_f64(),
            warm_up_s: options.warm_up.as_secs_f64(),
            connections: options.connections.get(),
            callers: options.callers.get(),
            threads: options.threads.get(),
            commands: options.mix.to_string(),
            pipeline: options.pipeline.get(),
            keys: options.keys.get(),
            value_bytes: options.value_bytes,
            delay_us: options.delay.map(|delay| [micros(delay.min), micros(delay.max)]),
            seed: options.seed,
        };
        let finds_peak = matches!(options.load, Load::PeakAndShares { .. });
        Self {
            format: FORMAT,
            server,
            settings,
            peak_rate: runs.first().filter(|_| finds_peak).map(|run| run.rate),
            meaningless: runs.iter().find_map(Run::meaningless),
            runs,
            interrupted,
        }
    }

    /// One JSON object on one line.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a report is text and numbers under fixed names")
    }

    /// What a reader of the table must know, and might not see in it.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for run in &self.runs {
            let title = run.title();
            if !run.kept_up {
                let why = match run.waited_for_caller * 2 > run.late {
                    true => "; all callers were busy",
                    false => "; this process came too late",
                };
                warnings.push(format!(
                    "{title}: the load fell behind its schedule: of {} requests {} started more \
                     than {} ms late and {} not at all{why}; their waits are in the latencies",
                    run.scheduled,
                    run.late,
                    LATE.as_millis(),
                    run.not_started
                ));
            }
            if let Some(reason) = run.meaningless() {
                warnings.push(format!("{title}: the figures say nothing: {reason}"));
            }
        }
        if self.interrupted {
            warnings.push("interrupted: what was measured until then".to_owned());
        }
        warnings
    }

    fn rows(&self) -> Vec<(&'static str, Vec<String>)> {
        let runs = &self.runs;
        let mut rows: Vec<(&'static str, Vec<String>)> = Vec::new();
        let mut row = |name, cell: &dyn Fn(&Run) -> String| {
            rows.push((name, runs.iter().map(cell).collect()));
        };
        row("", &Run::title);
        row("requests scheduled", &|run| grouped(run.scheduled));
        row("answered", &|run| grouped(run.answered));
        row("failed", &|run| grouped(run.failed()));
        row("not started", &|run| grouped(run.not_started));
        row("answered a second", &|run| rounded(run.rate));
        if self.settings.pipeline > 1 {
            row("commands a second", &|run| rounded(run.commands_rate));
        }
        row("latency, mean", &|run| time(run.latency_us.mean));
        row("latency, p50", &|run| time(run.latency_us.p50));
        row("latency, p90", &|run| time(run.latency_us.p90));
        row("latency, p99", &|run| time(run.latency_us.p99));
        row("latency, p99.9", &|run| time(run.latency_us.p99_9));
        row("latency, p99.99", &|run| time(run.latency_us.p99_99));
        row("latency, max", &|run| time(run.latency_us.max));
        row("from the start, p50", &|run| time(run.service_us.p50));
        row("from the start, p99", &|run| time(run.service_us.p99));
        row("start delay, p50", &|run| time(run.start_delay_us.p50));
        row("start delay, p99", &|run| time(run.start_delay_us.p99));
        row("started more than 1 ms late", &|run| grouped(run.late));
        row("waited for a caller", &|run| grouped(run.waited_for_caller));
        row("null replies", &|run| grouped(run.null_replies));
        row("CPU time a request", &|run| time(run.cpu_us_per_request));
        if runs.iter().any(|run| run.client.is_some()) {
            phase_rows(&mut rows, runs);
        }
        let kinds: std::collections::BTreeSet<_> =
            runs.iter().flat_map(|run| run.errors.keys()).collect();
        for kind in kinds {
            let counts = runs.iter().map(|run| {
                let count = run.errors.get(kind).copied().unwrap_or_default();
                format!("{kind}: {}", grouped(count))
            });
            rows.push(("errors", counts.collect()));
        }
        rows
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { connections, callers, threads, pipeline, keys, value_bytes, .. } =
            &self.settings;
        let software = self.server.software.as_deref().unwrap_or("a server");
        let protocol = self.server.protocol.map_or(String::new(), |n| format!(", RESP{n}"));
        writeln!(f, "{software} at {}{protocol}", self.server.address)?;
        writeln!(
            f,
            "{}, {} a request; {} of {value_bytes} bytes; {}, {}, {}",
            self.settings.commands,
            counted(*pipeline as u64, "command"),
            counted((*keys).into(), "key"),
            counted((*connections).into(), "connection"),
            counted((*callers).into(), "caller"),
            counted((*threads).into(), "thread"),
        )?;
        if let Some([min, max]) = self.settings.delay_us {
            let range = if min == max {
                time(Some(min))
            } else {
                format!("{} to {}", time(Some(min)), time(Some(max)))
            };
            writeln!(f, "with a delay of {range} injected in each direction")?;
        }
        let mut table = Table::new();
        table.load_style(presets::UTF8_BORDERS_ONLY);
        for (name, cells) in self.rows() {
            table.add_row(std::iter::once(name.to_owned()).chain(cells));
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        writeln!(f, "{table}")?;
        for run in &self.runs {
            writeln!(f, "\nlatency, {}", run.title())?;
            plot::write(f, &run.histogram)?;
        }
        Ok(())
    }
}

/// The client's phases, and how many requests went with a call of the transport.
fn phase_rows(rows: &mut Vec<(&'static str, Vec<String>)>, runs: &[Run]) {
    type Cell = fn(&ClientFigures) -> String;
    let cells: [(&str, Cell); 8] = [
        ("queue, p50", |client| time(client.queue_us.p50)),
        ("queue, p99", |client| time(client.queue_us.p99)),
        ("server and network, p50", |client| time(client.server_us.p50)),
        ("server and network, p99", |client| time(client.server_us.p99)),
        ("wake-up, p50", |client| time(client.wake_up_us.p50)),
        ("wake-up, p99", |client| time(client.wake_up_us.p99)),
        ("requests a send", |client| rounded(client.requests as f64 / client.sends.max(1) as f64)),
        ("requests a receive", |client| {
            rounded(client.requests as f64 / client.receives.max(1) as f64)
        }),
    ];
    for (name, cell) in cells {
        let cells = runs.iter().map(|run| run.client.as_ref().map_or("-".to_owned(), cell));
        rows.push((name, cells.collect()));
    }
}

/// A number with its noun, in the plural unless there is one.
fn counted(n: u64, noun: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", grouped(n))
}

/// A rate or a percentage with as many digits as it deserves.
fn rounded(number: f64) -> String {
    if number >= 100.0 {
        return grouped(number.round() as u64);
    }
    let text = format!("{number:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A count with its thousands apart.
pub(super) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time in microseconds, in the unit that suits it.
pub(super) fn time(micros: Option<f64>) -> String {
    match micros {
        None => "-".to_owned(),
        Some(us) if us < 1000.0 => format!("{us:.1} µs"),
        Some(us) if us < 1_000_000.0 => format!("{:.2} ms", us / 1000.0),
        Some(us) => format!("{:.2} s", us / 1_000_000.0),
    }
}

// Serde hands every field over by reference.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn mode_name<S: Serializer>(mode: &Mode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match mode {
        Mode::Open { .. } => "open-loop",
        Mode::Closed => "closed-loop",
    })
}

#[cfg(test)]
mod tests;
