//! What a client does when something is not as it should be.

use std::{num::NonZeroU32, time::Duration};

use super::{Config, credentials::Provider};
use crate::{client::RetryPolicy, session::fence::Checks};

/// What a request does when the last attempt to connect has failed and it is too soon for the next one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenDown {
    /// It fails at once, with the error of that attempt: a caller that can do without, or ask elsewhere, is not held up.
    #[default]
    FailFast,
    /// It waits for further attempts, within its deadline. All requests that wait share one attempt at a time.
    ///
    /// The same holds while a server answers that it cannot serve for now: see [`RetryPolicy`]. A server that refuses the
    /// credentials is not down: that fails at once.
    Wait,
}

/// What a request does when as much is under way as [`Config::with_in_flight_max`] allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// It waits for its turn, within its deadline.
    #[default]
    Wait,
    /// It fails at once; [`Error::is_full`](crate::Error::is_full) tells.
    Reject,
}

/// One request in so many has its times taken where nothing else is said.
const LATENCY_SAMPLING: Option<NonZeroU32> = NonZeroU32::new(16);

#[derive(Clone, Debug)]
pub(super) struct Behaviour {
    when_down: WhenDown,
    when_full: WhenFull,
    retry: RetryPolicy,
    bulk_bytes_min: Option<usize>,
    main_connections: usize,
    bulk_connections: usize,
    dedicated_max: usize,
    latency_sampling: Option<NonZeroU32>,
    health_check: Option<Duration>,
    check_after_timeout: bool,
    connection_age_max: Option<Duration>,
    warm_spare: bool,
    client_info: bool,
    announced_moves: bool,
    busy_poll: Duration,
    driver_thread: bool,
    pub(super) provider: Option<Provider>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            when_down: WhenDown::default(),
            when_full: WhenFull::default(),
            retry: RetryPolicy::default(),
            // A quarter of a millisecond on a network of 10 Gbit/s, which requests behind it would have to wait.
            bulk_bytes_min: Some(256 * 1024),
            main_connections: 1,
            bulk_connections: 1,
            dedicated_max: 64,
            latency_sampling: LATENCY_SAMPLING,
            // As long as a dead peer takes to be noticed by probes of TCP.
            health_check: Some(Duration::from_secs(30)),
            check_after_timeout: true,
            connection_age_max: None,
            warm_spare: false,
            client_info: true,
            announced_moves: false,
            busy_poll: Duration::ZERO,
            driver_thread: false,
            provider: None,
        }
    }
}

impl Config {
    /// Sets what requests do while the server cannot be reached. The default is to fail at once.
    pub fn with_when_down(mut self, when_down: WhenDown) -> Self {
        self.behaviour.when_down = when_down;
        self
    }

    /// Sets what requests do when the connection is full. The default is to wait.
    pub fn with_when_full(mut self, when_full: WhenFull) -> Self {
        self.behaviour.when_full = when_full;
        self
    }

    /// Sets what is sent again when it failed.
    pub fn with_retry(mut self, retry: RetryPolicy) -> Self {
        self.behaviour.retry = retry;
        self
    }

    /// Sets from how many bytes on a request is large, so that it takes the bulk lane: a connection beside the first one,
    /// made when the first large request comes. `None`: there is no such lane. The default is 256 KiB.
    ///
    /// A reply that is large holds up the replies behind it as well, and a request does not show how large its reply will
    /// be: [`Client::bulk`](crate::Client::bulk) says so.
    ///
    /// Requests of different lanes may overtake each other. A request that is made when the reply to another one is there
    /// comes after it in any case; one that is made sooner, as by another task, may be carried out first, on the same key
    /// too. Where the bulk lane cannot connect, the first connection serves for both.
    pub fn with_bulk_lane(mut self, bytes_min: Option<usize>) -> Self {
        self.behaviour.bulk_bytes_min = bytes_min;
        self
    }

    /// Sets how many connections share the requests, and how many the large ones; at least one each, and one each by
    /// default. Of several a request takes, out of two at random, the one with fewer bytes under way; so requests may
    /// overtake each other, as between [lanes](Self::with_bulk_lane).
    pub fn with_lane_connections(mut self, main: usize, bulk: usize) -> Self {
        self.behaviour.main_connections = main.max(1);
        self.behaviour.bulk_connections = bulk.max(1);
        self
    }

    /// Sets how many connections there may be for those who need one of their own: for blocking commands, for transactions
    /// that watch keys, and for [`Client::dedicated`](crate::Client::dedicated). More wait for one of them to be free, or
    /// are rejected, as [`with_when_full`](Self::with_when_full) says. The default is 64, the least 1.
    pub fn with_dedicated_max(mut self, connections: usize) -> Self {
        // What a semaphore can count.
        self.behaviour.dedicated_max = connections.clamp(1, 1 << 20);
        self
    }

    /// Sets how often each connection is checked, whether idle or not, unless it is leased: 30 s by default, or up to a fifth
    /// sooner, at random; `None` is never.
    ///
    /// A check is a `PING` with a number of its own. Nothing answered within the command timeout, or 5 s where there is none, means
    /// that the connection is lost. Another answer means that replies have shifted, which no later check could put right:
    /// the connection is closed, and the requests on it end with an error of which
    /// [`is_protocol`](crate::Error::is_protocol) is true.
    pub fn with_health_check(mut self, period: Option<Duration>) -> Self {
        self.behaviour.health_check = period;
        self
    }

    /// Sets whether a shared connection is checked as well when a request on it has timed out, which is when replies may
    /// be left out by what is between us and the server. It is by default.
    pub fn with_check_after_timeout(mut self, check: bool) -> Self {
        self.behaviour.check_after_timeout = check;
        self
    }

    pub(crate) fn checks(&self) -> Checks {
        Checks {
            after_timeout: self.behaviour.check_after_timeout,
            period: self.behaviour.health_check,
        }
    }

    /// Sets how long a connection is used before it is replaced, so that a name that leads elsewhere by now, or a proxy that
    /// balances connections, gets its way. Each is replaced after this time or up to a fifth sooner, at random. The new one
    /// is made first, requests go over to it, and those under way on the old one are answered there. `None`, the default:
    /// as long as it lasts.
    pub fn with_connection_age_max(mut self, age: Option<Duration>) -> Self {
        self.behaviour.connection_age_max = age;
        self
    }

    /// Sets whether a second connection is kept ready, so that requests need not wait for a dial when the first one is
    /// lost. It is not by default. Each shared connection has its own.
    pub fn with_warm_spare(mut self, spare: bool) -> Self {
        self.behaviour.warm_spare = spare;
        self
    }

    /// Sets whether a connection tells the server the library's name and version (`CLIENT SETINFO`), for `CLIENT LIST` to
    /// show. It does by default.
    pub fn with_client_info(mut self, client_info: bool) -> Self {
        self.behaviour.client_info = client_info;
        self
    }

    /// Sets whether the server is asked to announce that it will go (`CLIENT MAINT_NOTIFICATIONS`). It is not by default; one
    /// that does not know the command, as Valkey and Redis themselves do not, is used as it is. It takes RESP3.
    ///
    /// Redis Enterprise, and services that are built on it, announce with a `MOVING` push that a connection will end. Whether
    /// that was asked for or not, a shared connection is then replaced before it ends: at once where the push
    /// names an address, which is dialled once; else after half of the time that it leaves, by when the name should
    /// lead elsewhere. Requests go over to the new one, and those under way are answered on the old one.
    pub fn with_announced_moves(mut self, announced: bool) -> Self {
        self.behaviour.announced_moves = announced;
        self
    }

    /// Sets for how long whoever receives asks again and again, instead of sleeping, while something is under way and
    /// nothing moves. The default, zero, is to sleep at once.
    ///
    /// A sleeping processor takes tens of microseconds to wake up on many machines, virtual ones first of all. Asking
    /// saves that and costs the processor's time instead: up to this long a request. Other tasks of the runtime run in
    /// between, each asking again after they had their turn. Some 50 to 200 µs are of use; a second at most is taken.
    pub fn with_busy_poll(mut self, time: Duration) -> Self {
        self.behaviour.busy_poll = time.min(Duration::from_secs(1));
        self
    }

    /// Sets whether each connection is driven by a thread of its own, whose runtime does nothing else. By default it is
    /// driven in the runtime that it is established in.
    ///
    /// Deadlines are then kept and replies received whatever else the program's runtime does, and connecting takes no
    /// runtime at all. A request costs a hop from thread to thread in each direction; together with
    /// [`with_busy_poll`](Self::with_busy_poll) that thread need not be woken for it.
    pub fn with_driver_thread(mut self, thread: bool) -> Self {
        self.behaviour.driver_thread = thread;
        self
    }

    pub(crate) fn busy_poll(&self) -> Duration {
        self.behaviour.busy_poll
    }

    pub(crate) fn driver_thread(&self) -> bool {
        self.behaviour.driver_thread
    }

    pub(crate) fn connection_age_max(&self) -> Option<Duration> {
        self.behaviour.connection_age_max
    }

    pub(crate) fn warm_spare(&self) -> bool {
        self.behaviour.warm_spare
    }

    pub(crate) fn client_info(&self) -> bool {
        self.behaviour.client_info
    }

    pub(crate) fn announced_moves(&self) -> bool {
        self.behaviour.announced_moves
    }

    pub(crate) fn dedicated_max(&self) -> usize {
        self.behaviour.dedicated_max
    }

    /// Sets that one request in `every`, at random, has its times taken for [`Stats::phases`](crate::Stats::phases): 1 is
    /// each of them, 0 none. The default is 16.
    pub fn with_latency_sampling(mut self, every: u32) -> Self {
        self.behaviour.latency_sampling = NonZeroU32::new(every);
        self
    }

    pub(crate) fn latency_sampling(&self) -> Option<NonZeroU32> {
        self.behaviour.latency_sampling
    }

    pub(crate) fn bulk_bytes_min(&self) -> Option<usize> {
        self.behaviour.bulk_bytes_min
    }

    /// Of the main lane and of the bulk lane.
    pub(crate) fn lane_connections(&self) -> (usize, usize) {
        (self.behaviour.main_connections, self.behaviour.bulk_connections)
    }

    /// What requests do while the server cannot be reached.
    pub fn when_down(&self) -> WhenDown {
        self.behaviour.when_down
    }

    /// What requests do when the connection is full.
    pub fn when_full(&self) -> WhenFull {
        self.behaviour.when_full
    }

    /// What is sent again when it failed.
    pub fn retry(&self) -> RetryPolicy {
        self.behaviour.retry
    }
}
