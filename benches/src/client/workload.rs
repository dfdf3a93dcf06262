//! What is asked of every side.

use std::fmt;

use clap::ValueEnum;

/// Which way the bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    /// TCP over the loopback interface, with `TCP_NODELAY`.
    Tcp,
    /// A Unix socket.
    Unix,
    /// TLS over that TCP.
    Tls,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Unix => "Unix",
            Self::Tls => "TLS",
        })
    }
}

/// What a caller does, over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// `GET`s of a small value by so many tasks, each of which waits for its reply before it
    /// sends the next.
    Gets {
        /// How many tasks.
        tasks: usize,
    },
    /// Pipelines of so many `GET`s of small values, one pipeline at a time.
    Pipeline {
        /// Commands in a pipeline.
        commands: usize,
    },
    /// Pipelines of so many `HKEYS` of four fields, one pipeline at a time.
    HashKeys {
        /// Commands in a pipeline.
        commands: usize,
    },
    /// `GET`s of a value of 1 MiB, one at a time.
    LargeGet,
    /// `SET`s of a value of 1 MiB, one at a time.
    LargeSet,
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gets { tasks: 1 } => f.write_str("one GET"),
            Self::Gets { tasks } => write!(f, "{tasks} tasks"),
            Self::Pipeline { commands } => write!(f, "{commands} GETs in a pipeline"),
            Self::HashKeys { commands } => write!(f, "{commands} HKEYS in a pipeline"),
            Self::LargeGet => f.write_str("1 MiB GET"),
            Self::LargeSet => f.write_str("1 MiB SET"),
        }
    }
}

/// Which of tokio's schedulers a side runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scheduler {
    /// `current_thread`
    Current,
    /// `multi_thread` with two workers
    Multi,
}

impl fmt::Display for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Current => "current_thread",
            Self::Multi => "multi_thread",
        })
    }
}

/// A job over a transport on a scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Which way the bytes go.
    pub transport: Transport,
    /// What is done.
    pub job: Job,
    /// Who runs the tasks.
    pub scheduler: Scheduler,
}

/// As in `TCP/64 tasks/current_thread`.
impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { transport, job, scheduler } = self;
        write!(f, "{transport}/{job}/{scheduler}")
    }
}

/// What is compared, in the order of the record.
pub fn all() -> Vec<Workload> {
    let gets = [Job::Gets { tasks: 1 }, Job::Gets { tasks: 64 }, Job::Gets { tasks: 512 }];
    let batches = [
        Job::HashKeys { commands: 512 },
        Job::Pipeline { commands: 256 },
        Job::LargeGet,
        Job::LargeSet,
    ];
    let jobs = gets.iter().chain(&batches).map(|job| (Transport::Tcp, *job));
    let jobs = jobs.chain(gets.iter().map(|job| (Transport::Unix, *job)));
    let jobs = jobs.chain(gets.iter().map(|job| (Transport::Tls, *job)));
    let on_both = |(transport, job)| {
        [Scheduler::Current, Scheduler::Multi].map(|scheduler| Workload {
            transport,
            job,
            scheduler,
        })
    };
    jobs.flat_map(on_both).collect()
}
