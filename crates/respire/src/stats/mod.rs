//! What a client has done, and how long it took.
//!
//! Counters are plain numbers in the session of each connection, which is locked anyway when something happens that
//! counts. A snapshot adds them up.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{cache::CacheStats, pubsub::SubscriptionStats};

mod histogram;
pub(crate) mod recorder;

pub use histogram::Latencies;

/// What a client has done until now; see [`Client::stats`](crate::Client::stats).
///
/// Numbers are those of all connections that the client ever had, those of its caches included, and of all its handles. A
/// request is one call: a pipeline is one, and each attempt of one that is sent again is another. What happened on the
/// connection of its subscriptions is in `subscriptions` and nowhere else.
///
/// What a client sends for itself, to check a connection, counts in bytes and calls and is no request.
///
/// `requests` is the sum of `answered`, `timed_out`, `abandoned`, `failed` and those that wait or are in flight.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Requests that a connection has taken: they were sent, or waited to be.
    pub requests: u64,
    /// Requests that were answered, errors of the server included.
    pub answered: u64,
    /// Requests whose deadline passed.
    pub timed_out: u64,
    /// Requests whose future was dropped before its outcome was there.
    pub abandoned: u64,
    /// Requests that ended with their connection.
    pub failed: u64,
    /// Attempts after a request's first one; see [`RetryPolicy`](crate::RetryPolicy).
    pub retried: u64,
    /// Requests that wait: for a connection, or for their turn.
    pub waiting: u64,
    /// Commands that are sent or about to be, and not answered. Those of abandoned requests count until they are.
    pub in_flight: u64,
    /// The bytes of those commands.
    pub in_flight_bytes: u64,
    /// Bytes that transports have taken. Those of handshakes are not counted.
    pub bytes_sent: u64,
    /// Bytes that transports have given, likewise.
    pub bytes_received: u64,
    /// How often a transport was given bytes to send; over TCP each is a system call.
    pub sends: u64,
    /// How often a transport has given bytes, likewise.
    pub receives: u64,
    /// Frames that the server sent without having been asked.
    pub pushes: u64,
    /// Attempts to connect.
    pub dials: u64,
    /// Those that came to a connection. All but the first of each lane replaced one.
    pub connections: u64,
    /// How long requests took, by phase. Only the requests that are sampled are in it; see
    /// [`Config::with_latency_sampling`](crate::Config::with_latency_sampling).
    pub phases: Phases,
    /// What its subscriptions have done.
    pub subscriptions: SubscriptionStats,
    /// What its caches have done; see [`Client::cached`](crate::Client::cached).
    pub cache: CacheStats,
}

/// Where the time of the requests that were answered went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Phases {
    /// From the call until the transport had taken all bytes of the request: waiting for a connection, for room, and for
    /// the task that sends.
    pub queue: Latencies,
    /// From then until its last reply had been received: the network, the server, and replies before it.
    pub server: Latencies,
    /// From then until the waiting task took it: what the runtime took to run it.
    pub wake_up: Latencies,
    /// From the call until then.
    pub total: Latencies,
}

impl Stats {
    /// What was done after `earlier`, an older snapshot of the same client. What is under way stays as it is.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut since = self.clone();
        for (number, less) in since.counters().zip(earlier.clone().counters()) {
            *number = number.saturating_sub(*less);
        }
        for (phase, less) in since.phases.all_mut().into_iter().zip(earlier.phases.all()) {
            phase.subtract(less);
        }
        since
    }

    /// Adds what another client, or the same one at another time, has done and has under way.
    pub fn add(&mut self, other: &Self) {
        for (number, more) in self.counters().zip(other.clone().counters()) {
            *number += *more;
        }
        self.waiting += other.waiting;
        self.in_flight += other.in_flight;
        self.in_flight_bytes += other.in_flight_bytes;
        self.subscriptions.add_present(&other.subscriptions);
        self.cache.add_present(&other.cache);
        for (phase, more) in self.phases.all_mut().into_iter().zip(other.phases.all()) {
            phase.add(more);
        }
    }

    /// The numbers that only grow.
    fn counters(&mut self) -> impl Iterator<Item = &mut u64> {
        let requests = [
            &mut self.requests,
            &mut self.answered,
            &mut self.timed_out,
            &mut self.abandoned,
            &mut self.failed,
            &mut self.retried,
            &mut self.bytes_sent,
            &mut self.bytes_received,
            &mut self.sends,
            &mut self.receives,
            &mut self.pushes,
            &mut self.dials,
            &mut self.connections,
        ];
        let subscriptions = self.subscriptions.counters();
        requests.into_iter().chain(subscriptions).chain(self.cache.counters())
    }
}

impl Phases {
    fn all(&self) -> [&Latencies; 4] {
        [&self.queue, &self.server, &self.wake_up, &self.total]
    }

    fn all_mut(&mut self) -> [&mut Latencies; 4] {
        [&mut self.queue, &mut self.server, &mut self.wake_up, &mut self.total]
    }

    /// A request went through all phases.
    pub(crate) fn record(&mut self, queue: Duration, server: Duration, wake_up: Duration) {
        self.queue.record(queue);
        self.server.record(server);
        self.wake_up.record(wake_up);
        self.total.record(queue + server + wake_up);
    }
}

/// What does not belong to a connection that is there.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    /// Of the connections that are gone.
    gone: Mutex<Stats>,
    retried: AtomicU64,
}

impl Totals {
    pub(crate) fn count_retry(&self) {
        self.retried.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection goes, and leaves its numbers.
    pub(crate) fn keep(&self, stats: &Stats) {
        self.gone().add(stats);
    }

    pub(crate) fn stats(&self) -> Stats {
        let mut stats = self.gone().clone();
        stats.retried = self.retried.load(Ordering::Relaxed);
        stats
    }

    fn gone(&self) -> MutexGuard<'_, Stats> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    #[test]
    fn the_phases_of_a_request_make_up_its_total() {
        let mut phases = Phases::default();
        phases.record(micros(1), micros(20), micros(3));
        assert_eq!(phases.total.mean(), Some(micros(24)));
        assert!(phases.all().iter().all(|phase| phase.count() == 1));
    }

    #[test]
    fn what_was_done_since_leaves_out_what_was_done_before() {
        let mut earlier = Stats { requests: 10, answered: 8, in_flight: 2, ..Stats::default() };
        earlier.phases.record(micros(1), micros(1), micros(1));
        let more = Stats { requests: 5, answered: 6, bytes_sent: 7, ..Stats::default() };
        let mut later = earlier.clone();
        later.add(&more);
        later.phases.record(micros(2), micros(2), micros(2));
        later.in_flight = 1;
        let since = later.since(&earlier);
        assert_eq!((since.requests, since.answered, since.bytes_sent), (5, 6, 7));
        assert_eq!((since.in_flight, since.phases.total.count()), (1, 1));
        assert_eq!(since.phases.queue.mean(), Some(micros(2)));
    }

    #[test]
    fn connections_that_are_gone_still_count() {
        let totals = Totals::default();
        totals.count_retry();
        let gone = Stats { requests: 3, answered: 2, failed: 1, ..Stats::default() };
        totals.keep(&gone);
        totals.keep(&gone);
        let stats = totals.stats();
        assert_eq!((stats.requests, stats.answered, stats.failed), (6, 4, 2));
        assert_eq!(stats.retried, 1);
    }
}
