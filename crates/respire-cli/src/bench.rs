//! An open-loop load test of a server.
//!
//! Requests start at instants that are fixed beforehand, whether or not those before them have been
//! answered, and each counts from the instant at which it was to start. So a stall of the server,
//! or of this process, is charged to every request that had to wait for it, and not only to the one
//! that happened to be under way.
//!
//! [`Bench::open`] connects, [`Bench::run`] measures, [`Bench::close`] removes what was written.

mod gate;
mod plot;
pub mod relay;
mod report;
mod schedule;
mod tally;
mod timer;
mod worker;
mod workload;

use std::io;
use std::num::{NonZeroU16, NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::{Duration, Instant};

use respire::{Address, Client, Command, Config, Error, Pipeline};
use rustix::time::{ClockId, clock_gettime};
use tokio_util::sync::CancellationToken;

pub use relay::Delay;
pub use report::{Bin, ClientFigures, Mode, Percentiles, Report, Run, Server, Settings};
pub use schedule::Arrivals;
pub use workload::{KEY, Mix, Template, VALUE};

use relay::Relay;
use schedule::Part;
use tally::Tally;
use worker::{Failure, Job, Worker};
use workload::Workload;

/// Bytes and commands of one flight of writes or removals, about.
const FLIGHT_BYTES: usize = 1024 * 1024;
const FLIGHT_COMMANDS: usize = 512;

/// Keys that one command removes, at the most.
const KEYS_PER_REMOVAL: u32 = 512;

/// From the threads' being connected to the start of the run: what they take to be told of it.
const LEAD: Duration = Duration::from_millis(20);

/// How often progress is told.
const TICK: Duration = Duration::from_millis(100);

/// How hard the server is pressed.
#[derive(Debug, Clone, PartialEq)]
pub enum Load {
    /// Requests arrive at a rate.
    Open(Arrivals),
    /// Every caller sends its next request when the last one is answered.
    Closed,
    /// First a closed loop to find the peak; then requests arrive at these parts of it (0.5 is
    /// half of it).
    PeakAndShares {
        /// The parts, in order.
        shares: Vec<f64>,
        /// Whether they arrive as in [`Arrivals::Poisson`].
        poisson: bool,
    },
}

/// What is to be measured, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The server.
    pub server: Config,
    /// How hard it is pressed.
    pub load: Load,
    /// How long is measured, in each run.
    pub duration: Duration,
    /// How long the same goes on before that.
    pub warm_up: Duration,
    /// Connections, shared among the threads.
    pub connections: NonZeroU16,
    /// The bound of requests under way, shared among the connections.
    pub callers: NonZeroU32,
    /// Threads, each with a runtime of its own. No more than connections or callers.
    pub threads: NonZeroU16,
    /// Which commands are sent.
    pub mix: Mix,
    /// Commands in one request.
    pub pipeline: NonZeroUsize,
    /// How many keys there are.
    pub keys: NonZeroU32,
    /// What their names begin with; a number that no other run has, and the key's own, follow.
    pub key_prefix: String,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// Injected between here and the server, in each direction.
    pub delay: Option<Delay>,
    /// Decides which commands are sent, and when Poisson arrivals come.
    pub seed: u64,
    /// Has the client take the times of every request, and reports where they went.
    pub phases: bool,
}

/// The same server by way of a relay.
fn through(server: Config, relay: Address) -> Config {
    let name = match server.address() {
        Address::Tcp { host, .. } => Some(host.clone()),
        _ => None,
    };
    let server = server.with_address(relay);
    // The relay hands on what is encrypted. The certificate is the server's, whatever the address is now.
    match (server.tls().cloned(), name) {
        (Some(tls), Some(name)) if tls.server_name().is_none() => {
            server.with_tls(tls.with_server_name(name))
        }
        _ => server,
    }
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The server cannot be reached, or does not carry out what is needed.
    #[error("{doing}")]
    Server {
        /// What was under way.
        doing: &'static str,
        /// Why it failed.
        source: Error,
    },
    /// Something on this side failed.
    #[error("the load cannot be made")]
    Io(#[from] io::Error),
    /// Stopped before anything was measured.
    #[error("interrupted before anything was measured")]
    Interrupted,
}

/// How far a run is.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    /// Which run, from 0, and of how many.
    pub run: (usize, usize),
    /// Since its start.
    pub elapsed: Duration,
    /// How long it takes, with its warm-up.
    pub total: Duration,
}

/// A load test of one server.
#[derive(Debug)]
pub struct Bench {
    options: Options,
    client: Client,
    server: Server,
    workload: Arc<Workload>,
    /// Keys may be there.
    has_written: bool,
}

impl Bench {
    /// Connects to the server. `tag` keeps the keys of this test apart from others'.
    ///
    /// # Errors
    ///
    /// The server cannot be reached.
    pub async fn open(options: Options, tag: u64) -> Result<Self, BenchError> {
        let client = Client::with_config(options.server.clone())
            .await
            .map_err(|source| BenchError::Server { doing: "no connection", source })?;
        // A user that may not ask gets its load test all the same.
        let info = client.query::<String>(Command::new("INFO").arg("server")).await;
        let server = Server {
            address: crate::store::server_name(&options.server),
            software: info.ok().and_then(|info| software(&info)),
            protocol: client.protocol().map(|protocol| match protocol {
                respire::Protocol::Resp2 => 2,
                respire::Protocol::Resp3 => 3,
            }),
        };
        let workload = Arc::new(Workload::new(
            options.mix.clone(),
            options.keys,
            format!("{}{tag:016x}:", options.key_prefix),
            options.value_bytes,
            options.pipeline,
            options.seed,
        ));
        Ok(Self { options, client, server, workload, has_written: false })
    }

    /// What is asked.
    #[must_use]
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// What the names of all keys begin with, if there may be any.
    #[must_use]
    pub fn key_prefix(&self) -> Option<&str> {
        self.workload.writes_keys().then(|| self.workload.prefix())
    }

    /// Writes the keys that are to be read, then measures.
    ///
    /// `stop` ends it early: what was measured until then is reported.
    ///
    /// # Errors
    ///
    /// The keys cannot be written, a connection cannot be made, the client does not send such a
    /// command, or it was stopped before anything was measured.
    pub async fn run(
        &mut self,
        mut progress: impl FnMut(Progress),
        stop: &CancellationToken,
    ) -> Result<Report, BenchError> {
        self.has_written = self.workload.writes_keys();
        if self.workload.is_filled() {
            self.fill(stop).await.map_err(|source| BenchError::Server {
                doing: "the keys cannot be written",
                source,
            })?;
        }
        let relay = self.relay()?;
        let mut server = self.options.server.clone();
        if self.options.phases {
            server = server.with_latency_sampling(1);
        }
        if let Some(relay) = &relay {
            server = through(server, relay.address());
        }
        let mut runs: Vec<Run> = Vec::new();
        let total = match &self.options.load {
            Load::Open(_) | Load::Closed => 1,
            Load::PeakAndShares { shares, .. } => 1 + shares.len(),
        };
        for n in 0..total {
            if stop.is_cancelled() {
                break;
            }
            let peak = runs.first().map_or(0.0, |run| run.rate);
            let (mode, arrivals) = self.mode(n, peak);
            let progress = |elapsed, length| {
                progress(Progress { run: (n, total), elapsed, total: length });
            };
            runs.push(self.measure(mode, arrivals, &server, progress, stop).await?);
            // Nothing was answered, so there are no parts of it.
            if runs[0].answered == 0 {
                break;
            }
        }
        runs.retain(|run| run.scheduled > 0);
        if runs.is_empty() {
            return Err(BenchError::Interrupted);
        }
        Ok(Report::new(self.server.clone(), &self.options, runs, stop.is_cancelled()))
    }

    /// Removes the keys, and returns how many there were.
    ///
    /// # Errors
    ///
    /// Not all of them could be removed.
    pub async fn close(self) -> Result<u64, Error> {
        let mut removed = 0;
        let mut next = if self.has_written { 0 } else { self.workload.keys() };
        while next < self.workload.keys() {
            let mut pipeline = Pipeline::new();
            for _ in 0..FLIGHT_COMMANDS / 32 {
                let end = next.saturating_add(KEYS_PER_REMOVAL).min(self.workload.keys());
                if next < end {
                    let keys = (next..end).map(|n| self.workload.key(n).to_vec());
                    pipeline.push(Command::new("DEL").args(keys));
                }
                next = end;
            }
            for reply in self.client.pipeline(pipeline).await? {
                removed += reply.parse::<u64>()?;
            }
        }
        self.client.close().await;
        Ok(removed)
    }

    /// Writes every key.
    async fn fill(&self, stop: &CancellationToken) -> Result<(), Error> {
        let value = self.workload.value();
        let commands = (FLIGHT_BYTES / value.len().max(1)).clamp(1, FLIGHT_COMMANDS) as u32;
        let mut next = 0;
        while next < self.workload.keys() && !stop.is_cancelled() {
            let mut pipeline = Pipeline::new();
            let end = next.saturating_add(commands).min(self.workload.keys());
            for n in next..end {
                pipeline.command(&[b"SET", &self.workload.key(n)[..], value]);
            }
            next = end;
            for reply in self.client.pipeline(pipeline).await? {
                reply.into_result()?;
            }
        }
        Ok(())
    }

    fn relay(&self) -> io::Result<Option<Relay>> {
        let address = self.options.server.address().clone();
        let start = |delay| Relay::start(address, delay, self.options.seed);
        self.options.delay.map(start).transpose()
    }

    /// The n-th run, where the first has found this peak, in requests a second.
    fn mode(&self, n: usize, peak: f64) -> (Mode, Arrivals) {
        match &self.options.load {
            Load::Open(arrivals) => (Mode::open(None), *arrivals),
            Load::Closed => (Mode::Closed, Arrivals::Closed),
            Load::PeakAndShares { .. } if n == 0 => (Mode::Closed, Arrivals::Closed),
            Load::PeakAndShares { shares, poisson } => {
                let share = shares[n - 1];
                let rate = peak * share;
                let arrivals =
                    if *poisson { Arrivals::Poisson(rate) } else { Arrivals::Constant(rate) };
                (Mode::open(Some(share)), arrivals)
            }
        }
    }

    async fn measure(
        &self,
        mode: Mode,
        arrivals: Arrivals,
        server: &Config,
        mut progress: impl FnMut(Duration, Duration),
        stop: &CancellationToken,
    ) -> Result<Run, BenchError> {
        let end = self.options.warm_up + self.options.duration;
        let mut workers =
            self.jobs(arrivals, server, stop).map(Worker::spawn).collect::<io::Result<Vec<_>>>()?;
        for worker in &mut workers {
            worker.connected().await.map_err(failed)?;
        }
        let cpu = cpu_time();
        let start = Instant::now() + LEAD;
        let mut running: tokio::task::JoinSet<_> =
            workers.into_iter().map(|worker| worker.run(start)).collect();
        let mut tally = Tally::new();
        let mut tick = tokio::time::interval(TICK);
        let mut stopped_at = None;
        loop {
            tokio::select! {
                done = running.join_next() => match done {
                    Some(done) => {
                        let done = done.unwrap_or_else(|panic| Err(io::Error::other(panic).into()));
                        tally.add(&done.map_err(failed)?);
                    }
                    None => break,
                },
                () = stop.cancelled(), if stopped_at.is_none() => stopped_at = Some(start.elapsed()),
                _ = tick.tick() => progress(start.elapsed().min(end), end),
            }
        }
        let cpu = cpu_time().saturating_sub(cpu);
        let end = stopped_at.map_or(end, |at| end.min(at));
        // What was answered after the end took longer than what is measured.
        let end = if mode == Mode::Closed { end } else { end.max(tally.last_answer) };
        let measured = end.saturating_sub(self.options.warm_up);
        Ok(Run::new(mode, arrivals, &tally, measured, cpu, self.options.pipeline))
    }

    fn jobs(
        &self,
        arrivals: Arrivals,
        server: &Config,
        stop: &CancellationToken,
    ) -> impl Iterator<Item = Job> {
        let Options { connections, callers, threads, .. } = self.options;
        let threads = usize::from(threads.get());
        // The first threads have one more where the division leaves a rest.
        let part = move |whole: usize, n: usize| whole / threads + usize::from(n < whole % threads);
        (0..threads).map(move |n| Job {
            server: server.clone(),
            workload: Arc::clone(&self.workload),
            arrivals,
            part: Part { index: n as u64, of: threads as u64 },
            connections: part(connections.get().into(), n),
            callers: part(callers.get() as usize, n),
            warm_up: self.options.warm_up,
            end: self.options.warm_up + self.options.duration,
            seed: self.options.seed,
            phases: self.options.phases,
            stop: stop.clone(),
        })
    }
}

fn failed(failure: Failure) -> BenchError {
    match failure {
        Failure::Client(source) => BenchError::Server { doing: "no load can be made", source },
        Failure::Io(error) => BenchError::Io(error),
    }
}

/// The CPU time of this process until now.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// The server's name and version in its `INFO server`.
fn software(info: &str) -> Option<String> {
    let field = |name: &str| {
        info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    };
    // A Valkey server says under the other name which Redis it is compatible with.
    let (name, version) = match field("valkey_version") {
        Some(version) => ("valkey", version),
        None => ("redis", field("redis_version")?),
    };
    Some(format!("{name} {version}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_called_what_it_is() {
        let valkey =
            "# Server\r\nredis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.0.1\r\n";
        assert_eq!(software(valkey).unwrap(), "valkey 8.0.1");
        assert_eq!(software("redis_version:7.0.15\r\n").unwrap(), "redis 7.0.15");
        assert_eq!(software("# Server"), None);
    }
}
