//! A server that is killed and started again in the middle of a replay.
//!
//! The replay goes on meanwhile, as a router would: its calls fail and are made again. What it may not do is to believe what
//! is not so. A server that has kept everything must be as right afterwards as before; one that comes back empty leaves
//! blocks that the index does not know, until the pods that the index names have announced theirs again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use respire_kvblock::IndexError;
use serde::{Serialize, Serializer};
use tokio::task::JoinHandle;

use crate::local_server::LocalServerError;

/// How long a call is made again for that fails while the server is away: a start is given 30 seconds, and a large log has to
/// be read.
const PATIENCE: Duration = Duration::from_secs(60);

/// The pause before a call is made again.
const PAUSE: Duration = Duration::from_millis(10);

/// What the server has kept when it is there again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Restarted {
    /// Everything: it writes each change to its log before it answers
    Persistent,
    /// Nothing
    Empty,
}

impl Restarted {
    /// The name by which it is chosen and reported.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Persistent => "persistent",
            Self::Empty => "empty",
        }
    }
}

/// By its [name](Restarted::name).
impl Serialize for Restarted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// When a server is killed, and how it comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restart {
    /// What it has kept.
    pub server: Restarted,
    /// How many requests are replayed before.
    pub after_requests: u64,
}

/// What became of a restart.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct RestartReport {
    /// What the server had kept.
    pub server: Restarted,
    /// How many requests had been replayed before.
    pub after_requests: u64,
    /// Measured: from when it was killed to its first answer, in milliseconds.
    pub down_ms: f64,
    /// Calls to the index that failed, or whose answer was incomplete, and were made again.
    pub repeated_calls: u64,
    /// How often the index named a pod that is to announce its blocks again.
    pub resyncs: u64,
    /// Blocks that pods announced again for it.
    pub announced_again: u64,
    /// Blocks of pods that lookups did not know of between the restart and the end of the announcements. Not part of the
    /// report's missed blocks.
    pub missed_before_resync: u64,
}

/// Makes calls again while the server may be away; by default it does not.
#[derive(Debug, Clone, Default)]
pub(crate) struct Patience {
    limit: Option<Duration>,
    repeated: Arc<AtomicU64>,
}

impl Patience {
    /// For a replay with a restart.
    pub(crate) fn with_restart() -> Self {
        Self { limit: Some(PATIENCE), repeated: Arc::default() }
    }

    /// How many calls were made again.
    pub(crate) fn repeated(&self) -> u64 {
        self.repeated.load(Ordering::Relaxed)
    }

    /// Makes a call until it is done, or fails for a reason that does not pass. An answer may be refused by `is_done`, and is
    /// handed over as it is when the time is over.
    pub(crate) async fn call<T, F>(
        &self,
        call: impl Fn() -> F,
        is_done: impl Fn(&T) -> bool,
    ) -> Result<T, IndexError>
    where
        F: Future<Output = Result<T, IndexError>>,
    {
        let began = Instant::now();
        loop {
            let outcome = call().await;
            let is_final = match &outcome {
                Ok(answer) => is_done(answer),
                Err(error) => error.is_invalid_input() || error.is_foreign_data(),
            };
            if is_final || self.limit.is_none_or(|limit| began.elapsed() >= limit) {
                return outcome;
            }
            self.repeated.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// A restart as a replay goes along.
#[derive(Debug)]
pub(crate) struct Restarting {
    pub(crate) plan: Restart,
    pub(crate) phase: Phase,
    pub(crate) resyncs: u64,
    pub(crate) announced_again: u64,
    pub(crate) missed_before_resync: u64,
}

/// How far a restart has got.
#[derive(Debug)]
pub(crate) enum Phase {
    /// The server has not been killed yet.
    Before,
    /// It is being killed and started.
    Under(JoinHandle<Result<Duration, LocalServerError>>),
    /// It answers again, and was down for so long.
    Over(Duration),
}

impl Restarting {
    pub(crate) fn new(plan: Restart) -> Self {
        Self { plan, phase: Phase::Before, resyncs: 0, announced_again: 0, missed_before_resync: 0 }
    }

    /// Whether it is time to kill the server.
    pub(crate) fn is_due(&self, requests: u64) -> bool {
        matches!(self.phase, Phase::Before) && requests >= self.plan.after_requests
    }

    /// Whether lookups may rightly know too little: the server comes back empty, and nobody has announced anything again.
    pub(crate) fn excuses_misses(&self) -> bool {
        self.plan.server == Restarted::Empty && matches!(self.phase, Phase::Under(_))
    }

    /// Whether named pods announce their blocks again. One that has kept everything must do without.
    pub(crate) fn heeds_resyncs(&self) -> bool {
        self.plan.server == Restarted::Empty && matches!(self.phase, Phase::Over(_))
    }

    /// Once it is over; `None` before.
    pub(crate) fn report(&self, patience: &Patience) -> Option<RestartReport> {
        let Phase::Over(down) = self.phase else { return None };
        Some(RestartReport {
            server: self.plan.server,
            after_requests: self.plan.after_requests,
            down_ms: down.as_secs_f64() * 1000.0,
            repeated_calls: patience.repeated(),
            resyncs: self.resyncs,
            announced_again: self.announced_again,
            missed_before_resync: self.missed_before_resync,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use respire_kvblock::{BlockHash, InMemoryConfig, InMemoryIndex, Index};

    use super::*;

    async fn refused() -> IndexError {
        let index = InMemoryIndex::new(InMemoryConfig::default()).unwrap();
        index.add(None, &[BlockHash(1)], &[]).await.unwrap_err()
    }

    async fn not_found() -> IndexError {
        let index = InMemoryIndex::new(InMemoryConfig::default()).unwrap();
        index.request_key(BlockHash(1)).await.unwrap_err()
    }

    #[tokio::test]
    async fn a_call_is_made_again_only_where_patience_helps() {
        for (patience, expected) in [(Patience::default(), 1), (Patience::with_restart(), 3)] {
            let calls = Cell::new(0);
            let call = || async {
                calls.set(calls.get() + 1);
                if calls.get() < 3 { Err(not_found().await) } else { Ok(()) }
            };
            let outcome = patience.call(call, |()| true).await;
            assert_eq!((calls.get(), outcome.is_ok()), (expected, expected == 3));
            assert_eq!(patience.repeated(), expected - 1);
        }
        let patience = Patience::with_restart();
        let call = || async { Err::<(), _>(refused().await) };
        assert!(patience.call(call, |()| true).await.unwrap_err().is_invalid_input());
        assert_eq!(patience.repeated(), 0);
    }

    #[tokio::test]
    async fn an_incomplete_answer_is_asked_for_again() {
        let patience = Patience::with_restart();
        let calls = Cell::new(0);
        let call = || async {
            calls.set(calls.get() + 1);
            Ok(calls.get())
        };
        assert_eq!(patience.call(call, |&found| found == 2).await.unwrap(), 2);
        assert_eq!(patience.repeated(), 1);
    }

    #[test]
    fn only_an_empty_server_excuses_misses_and_only_until_its_pods_have_announced() {
        for (server, excuses) in [(Restarted::Persistent, false), (Restarted::Empty, true)] {
            let mut restart = Restarting::new(Restart { server, after_requests: 3 });
            assert!(!restart.is_due(2) && restart.is_due(3));
            assert!(!restart.excuses_misses() && !restart.heeds_resyncs());
            assert_eq!(restart.report(&Patience::default()), None);
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            restart.phase = Phase::Under(runtime.spawn(async { Ok(Duration::ZERO) }));
            assert!(!restart.is_due(3));
            assert_eq!(restart.excuses_misses(), excuses);
            restart.phase = Phase::Over(Duration::from_micros(1500));
            assert!(!restart.excuses_misses());
            assert_eq!(restart.heeds_resyncs(), excuses);
            assert_eq!(restart.report(&Patience::default()).unwrap().down_ms, 1.5);
        }
    }
}
