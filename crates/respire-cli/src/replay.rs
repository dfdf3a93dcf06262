//! Replays requests: looks each one up, routes it, and keeps the index true.
//!
//! A request's life here: the index is asked which pods hold how much of its prompt; the oracle
//! compares the answer for every pod with what the pod really holds; the router chooses a pod; the
//! pod's cache stores the prompt's blocks, and what it stored and dropped is told to the index
//! before the next request, or by [writers](Options::writers) while the replay goes on.
//!
//! Where a [restart](Options::restart) is asked for, the server is killed on the way, and the replay goes on.

use std::io;
use std::num::NonZeroUsize;
use std::time::Instant;

use respire_kvblock::{BlockHash, IndexError, Lookup, PodSet};
use tokio_util::sync::CancellationToken;

use crate::dump;
use crate::fleet::Fleet;
use crate::oracle::Verdict;
use crate::report::{Report, Setting, Tally};
use crate::restart::{Patience, Phase, Restart, Restarted, Restarting};
use crate::route::{Route, Router};
use crate::source::ReadAhead;
use crate::store::{Store, StoreError};
use crate::trace::{Request, TraceError};
use crate::writers::{Applier, Told, Writers};

/// How many times named pods announce their blocks again at the end, before what is missing then counts.
const LAST_ROUNDS: usize = 8;

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
    /// Whether the store's server is killed and started again on the way. The oracle then compares at the end, too. It
    /// needs a store that was opened with [`StoreChoice::Private`](crate::store::StoreChoice::Private), with a log if the
    /// server is to be persistent.
    pub restart: Option<Restart>,
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
    /// The trace was too short for the restart.
    #[error("the trace ended after {requests} requests, before the server was restarted")]
    NotRestarted {
        /// How many requests there were.
        requests: u64,
    },
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
    patience: Patience,
    fleet: Fleet,
    router: Router,
    tally: Tally,
    restarting: Option<Restarting>,
    /// Whether each lookup is judged: with concurrent writers it may be behind the pods.
    judges_lookups: bool,
}

impl<'a> Replay<'a> {
    fn new(options: &Options, store: &'a mut Store) -> Self {
        let size = store.fleet();
        let tally = Tally { requests_per_pod: vec![0; size.pods], ..Tally::default() };
        let patience = match options.restart {
            None => Patience::default(),
            Some(_) => Patience::with_restart(),
        };
        Self {
            applier: Applier::new(store.index().clone(), *store.keys(), patience.clone()),
            patience,
            fleet: Fleet::new(size.pods, size.capacity, store.keys()),
            router: Router::new(options.route, size.pods, options.prefill_rate),
            tally,
            restarting: options.restart.map(Restarting::new),
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
            self.restart_if_due()?;
            self.step(&request, writers.as_deref_mut()).await?;
            self.follow_restart(&request, writers.as_deref_mut()).await?;
            progress();
        }
        if self.restarting.is_some() {
            self.await_restart().await?;
        }
        let compares = writers.is_some() || self.restarting.is_some();
        if let Some(writers) = writers {
            writers.finish().await.map_err(ReplayError::Index)?;
        }
        self.finish_restart().await?;
        if compares {
            self.tally.verdict.add(dump::compare(self.store, &self.fleet).await?);
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
            self.judge(&claimed, &real);
        }

        let pod = self.router.choose(request, &claimed);
        let ttft_s = self.router.assign(pod, request, real[pod]);
        let event = self.fleet.pod_mut(pod).store(&request.hash_ids);

        self.tally.count(request, pod, real[pod], ttft_s, &event);
        self.store.note_written(pod, &event.stored);
        self.tell(pod, Told::Event(event), writers).await
    }

    fn judge(&mut self, claimed: &[usize], real: &[usize]) {
        let mut verdict = Verdict::default();
        for (claimed, real) in claimed.iter().zip(real) {
            verdict.compare_prefix(*claimed, *real);
        }
        if let Some(restarting) = &mut self.restarting
            && restarting.excuses_misses()
        {
            restarting.missed_before_resync += std::mem::take(&mut verdict.missed_blocks);
        }
        self.tally.verdict.add(verdict);
    }

    /// Tells the index of a pod, at once or behind what was told before.
    async fn tell(
        &self,
        pod: usize,
        told: Told,
        writers: Option<&mut Writers>,
    ) -> Result<(), ReplayError> {
        let entry = self.fleet.entry(pod);
        let outcome = match writers {
            None => self.applier.tell(entry, &told).await,
            Some(writers) => writers.send(pod, entry, told).await,
        };
        outcome.map_err(ReplayError::Index)
    }

    async fn lookup(&mut self, request: &Request) -> Result<Lookup, ReplayError> {
        let keys = self.store.keys();
        let request_keys: Vec<BlockHash> =
            request.hash_ids.iter().map(|id| keys.request_key(*id)).collect();
        let began = Instant::now();
        let lookup = self.ask(&request_keys).await?;
        self.tally.lookups.push(began.elapsed());
        if !lookup.is_complete() {
            let (asked, found) = (request_keys.len(), lookup.len());
            return Err(ReplayError::Incomplete { asked, found });
        }
        Ok(lookup)
    }

    /// A lookup, and while the server may be away another one for as long as it fails.
    async fn ask(&self, request_keys: &[BlockHash]) -> Result<Lookup, ReplayError> {
        let pods = PodSet::all();
        let lookup = || self.store.index().lookup(request_keys, &pods);
        self.patience.call(lookup, Lookup::is_complete).await.map_err(ReplayError::Index)
    }
}

/// What a restart adds to a replay.
impl Replay<'_> {
    /// Has the server killed and started again, while the replay goes on, when it is time for it.
    fn restart_if_due(&mut self) -> Result<(), ReplayError> {
        let requests = self.tally.requests();
        if let Some(restarting) = &mut self.restarting
            && restarting.is_due(requests)
        {
            restarting.phase = Phase::Under(self.store.restart().map_err(ReplayError::Store)?);
        }
        Ok(())
    }

    /// Takes note when the server is there again. From then on, the pods that the index names announce their blocks again.
    async fn follow_restart(
        &mut self,
        request: &Request,
        writers: Option<&mut Writers>,
    ) -> Result<(), ReplayError> {
        let Some(restarting) = &mut self.restarting else { return Ok(()) };
        if let Phase::Under(task) = &restarting.phase {
            if !task.is_finished() {
                return Ok(());
            }
            self.await_restart().await?;
            self.ask_anything(request.hash_ids[0]).await?;
        }
        self.heed_resyncs(writers).await.map(drop)
    }

    /// Waits until the server is there again.
    async fn await_restart(&mut self) -> Result<(), ReplayError> {
        let requests = self.tally.requests();
        match self.restarting.as_mut().map(|restarting| &mut restarting.phase) {
            Some(Phase::Before) if requests == 0 => Err(ReplayError::NoRequests),
            Some(Phase::Before) => Err(ReplayError::NotRestarted { requests }),
            Some(phase @ Phase::Under(_)) => {
                let Phase::Under(task) = phase else { return Ok(()) };
                let down = match task.await {
                    Ok(restarted) => restarted.map_err(StoreError::Private),
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                };
                *phase = Phase::Over(down.map_err(ReplayError::Store)?);
                Ok(())
            }
            Some(Phase::Over(_)) | None => Ok(()),
        }
    }

    /// Any call will do for an index to notice that its server is another one.
    async fn ask_anything(&self, id: u64) -> Result<(), ReplayError> {
        self.ask(&[self.store.keys().request_key(id)]).await.map(drop)
    }

    /// Has the pods that the index names announce all their blocks again, behind what was told of them before. Whether
    /// there was any.
    async fn heed_resyncs(
        &mut self,
        mut writers: Option<&mut Writers>,
    ) -> Result<bool, ReplayError> {
        if !self.restarting.as_ref().is_some_and(Restarting::heeds_resyncs) {
            return Ok(false);
        }
        let named = self.named().await?;
        for &pod in &named {
            let blocks: Vec<u64> = self.fleet.pods()[pod].blocks().collect();
            if let Some(restarting) = &mut self.restarting {
                restarting.announced_again += blocks.len() as u64;
            }
            self.tell(pod, Told::Again(blocks), writers.as_deref_mut()).await?;
        }
        Ok(!named.is_empty())
    }

    /// The numbers of the pods that the index names.
    async fn named(&mut self) -> Result<Vec<usize>, ReplayError> {
        let ask = || self.store.resyncs();
        let resyncs = self.patience.call(ask, |_| true).await.map_err(ReplayError::Index)?;
        let named = resyncs.iter().filter_map(|resync| self.fleet.named(&resync.pod_identifier));
        let named: Vec<usize> = named.collect();
        if let Some(restarting) = &mut self.restarting {
            restarting.resyncs += named.len() as u64;
        }
        Ok(named)
    }

    /// Announces what was found missing last, and sums up.
    async fn finish_restart(&mut self) -> Result<(), ReplayError> {
        let Some(restarting) = &self.restarting else { return Ok(()) };
        let id = self.store.written().blocks().next();
        if restarting.plan.server == Restarted::Persistent {
            // It must be right without: who was named is only counted.
            self.named().await?;
        } else if let Some(id) = id {
            for _ in 0..LAST_ROUNDS {
                self.ask_anything(id).await?;
                if !self.heed_resyncs(None).await? {
                    break;
                }
            }
        }
        let restarting = self.restarting.as_ref();
        self.tally.restart = restarting.and_then(|restarting| restarting.report(&self.patience));
        Ok(())
    }
}
