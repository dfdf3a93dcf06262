//! Replays requests: looks each one up, routes it, and keeps the index true.
//!
//! A request's life here: the index is asked which pods hold how much of its prompt; the oracle
//! compares the answer for every pod with what the pod really holds; the router chooses a pod; the
//! pod's cache stores the prompt's blocks, and what it stored and dropped is told to the index
//! before the next request, or by [writers](Options::writers) while the replay goes on.

use std::io;
use std::num::NonZeroUsize;
use std::time::Instant;

use respire_kvblock::{BlockHash, IndexError, Lookup, PodSet};
use tokio_util::sync::CancellationToken;

use crate::dump;
use crate::fleet::Fleet;
use crate::report::{Report, Setting, Tally};
use crate::route::{Route, Router};
use crate::source::ReadAhead;
use crate::store::{Store, StoreError};
use crate::trace::{Request, TraceError};
use crate::writers::{Applier, Writers};

/// How to simulate. How many pods there are and what they can hold is the [`Store`]'s to say,
/// because it is sized for them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// How pods are chosen.
    pub route: Route,
    /// Tokens that a pod computes in a second; finite and positive.
    pub prefill_rate: f64,
    /// How many tasks apply the pods' events. `None` applies each before the next request, and
    /// the oracle judges every lookup; else lookups may lag behind, and the oracle compares what
    /// the index holds with what the pods hold at the end.
    pub writers: Option<NonZeroUsize>,
}

/// Why a replay did not come to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// A request could not be read.
    #[error("the trace cannot be replayed")]
    Trace(#[source] TraceError),
    /// There was no request.
    #[error("the trace holds no request")]
    NoRequests,
    /// The index failed.
    #[error("the index failed")]
    Index(#[source] IndexError),
    /// A lookup ended before its time, so that its answer cannot be judged.
    #[error(
        "a lookup of {asked} blocks ended after {found}: its deadline passed or the server was lost"
    )]
    Incomplete {
        /// How many blocks were asked for.
        asked: usize,
        /// How many were found until then.
        found: usize,
    },
    /// What the server holds could not be read.
    #[error("the index could not be checked")]
    Store(#[source] StoreError),
    /// No thread to read on.
    #[error("the trace's reader cannot be started")]
    Reader(#[source] io::Error),
    /// It was told to stop.
    #[error("interrupted")]
    Interrupted,
}

/// Replays `requests` on a fleet of empty, idle pods until they end or `stop` is cancelled, and
/// calls `progress` after each. [`Store::close`] is the caller's to call, whatever came out.
///
/// # Errors
///
/// A request was wrong, the index failed, or `stop` was cancelled. Nothing writes to the index any
/// more then.
///
/// # Cancel safety
///
/// When the future is dropped, writers may go on for a moment; cancel `stop` instead.
pub async fn run(
    options: &Options,
    requests: impl Iterator<Item = Result<Request, TraceError>> + Send + 'static,
    store: &mut Store,
    progress: impl Fn(),
    stop: &CancellationToken,
) -> Result<Report, ReplayError> {
    let requests = ReadAhead::start(requests).map_err(ReplayError::Reader)?;
    let mut replay = Replay::new(options, store);
    let applier = replay.applier.clone();
    let mut writers = options.writers.map(|n| Writers::start(n.get(), &applier));

    let outcome = tokio::select! {
        biased;
        () = stop.cancelled() => Err(ReplayError::Interrupted),
        outcome = replay.run(requests, writers.as_mut(), progress) => outcome,
    };
    if let Some(writers) = &mut writers {
        writers.stop().await;
    }
    outcome?;
    let tally = replay.tally;
    let setting = Setting { fleet: store.fleet(), options: *options };
    tally.report(store.name(), setting).ok_or(ReplayError::NoRequests)
}

/// The state of a replay under way.
struct Replay<'a> {
    store: &'a mut Store,
    applier: Applier,
    fleet: Fleet,
    router: Router,
    tally: Tally,
    /// Whether each lookup is judged: with concurrent writers it may be behind the pods.
    judges_lookups: bool,
}

impl<'a> Replay<'a> {
    fn new(options: &Options, store: &'a mut Store) -> Self {
        let size = store.fleet();
        let tally = Tally { requests_per_pod: vec![0; size.pods], ..Tally::default() };
        Self {
            applier: Applier::new(store.index().clone(), *store.keys()),
            fleet: Fleet::new(size.pods, size.capacity, store.keys()),
            router: Router::new(options.route, size.pods, options.prefill_rate),
            tally,
            judges_lookups: options.writers.is_none(),
            store,
        }
    }

    async fn run(
        &mut self,
        mut requests: ReadAhead,
        mut writers: Option<&mut Writers>,
        progress: impl Fn(),
    ) -> Result<(), ReplayError> {
        while let Some(request) = requests.next().await {
            let request = request.map_err(ReplayError::Trace)?;
            self.step(&request, writers.as_deref_mut()).await?;
            progress();
        }
        if let Some(writers) = writers {
            writers.finish().await.map_err(ReplayError::Index)?;
            self.tally.verdict = dump::compare(self.store, &self.fleet).await?;
        }
        Ok(())
    }

    /// One request from its arrival to what its pod tells the index.
    async fn step(
        &mut self,
        request: &Request,
        writers: Option<&mut Writers>,
    ) -> Result<(), ReplayError> {
        let lookup = self.lookup(request).await?;
        let claimed = self.fleet.claimed_prefixes(&lookup);
        let real = self.fleet.real_prefixes(&request.hash_ids);
        if self.judges_lookups {
            for (claimed, real) in claimed.iter().zip(&real) {
                self.tally.verdict.compare_prefix(*claimed, *real);
            }
        }

        let pod = self.router.choose(request, &claimed);
        let ttft_s = self.router.assign(pod, request, real[pod]);
        let event = self.fleet.pod_mut(pod).store(&request.hash_ids);

        self.tally.count(request, pod, real[pod], ttft_s, &event);
        self.store.note_written(pod, &event.stored);
        let entry = self.fleet.entry(pod);
        let applied = match writers {
            None => self.applier.apply(entry, &event).await,
            Some(writers) => writers.send(pod, entry, event).await,
        };
        applied.map_err(ReplayError::Index)
    }

    async fn lookup(&mut self, request: &Request) -> Result<Lookup, ReplayError> {
        let keys = self.store.keys();
        let request_keys: Vec<BlockHash> =
            request.hash_ids.iter().map(|id| keys.request_key(*id)).collect();
        let began = Instant::now();
        let lookup = self.store.index().lookup(&request_keys, &PodSet::all()).await;
        let lookup = lookup.map_err(ReplayError::Index)?;
        self.tally.lookups.push(began.elapsed());
        if !lookup.is_complete() {
            let (asked, found) = (request_keys.len(), lookup.len());
            return Err(ReplayError::Incomplete { asked, found });
        }
        Ok(lookup)
    }
}
