//! One endpoint's present connection, and what it takes to have the next one.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use respire_codec::Protocol;

use crate::{
    config::{Config, WhenDown},
    connection::Connection,
    error::{Error, SendState},
    session::push::PushSink,
    stats::Totals,
};

/// The distance between attempts to connect: doubled with each that came to nothing, from the first to the second of
/// these, and then shortened at random by up to a half, so that many clients of one server do not dial in step.
const BACKOFF_MIN: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

pub(super) struct Link {
    config: Arc<Config>,
    /// Takes what arrives unasked on any of its connections.
    sink: Arc<dyn PushSink>,
    /// Has the numbers of connections that are gone.
    totals: Arc<Totals>,
    state: Mutex<LinkState>,
}

#[derive(Debug, Default)]
struct LinkState {
    connection: Option<Arc<Connection>>,
    /// Until when the present connection does not dial yet, and why.
    holds_off: Option<(Instant, Error)>,
    /// Connections that take no new requests and may still have some under way.
    given_up: Vec<Weak<Connection>>,
    backoff: Backoff,
    closed: bool,
}

/// When the next attempt to connect may be made.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    /// Attempts in a row that came to nothing.
    failures: u32,
    /// After the last of them.
    next_attempt: Option<Instant>,
}

impl Backoff {
    /// When the next attempt may be made and why not sooner, given the connection that was tried last. `None`: now.
    pub(super) fn hold_off(&mut self, last: &Connection) -> Option<(Instant, Error)> {
        let Some((ended, error)) = last.ended_early() else {
            self.failures = 0;
            return None;
        };
        let next = match self.next_attempt {
            Some(next) => next,
            None => {
                let next = ended + self.pause();
                self.failures = self.failures.saturating_add(1);
                *self.next_attempt.insert(next)
            }
        };
        (Instant::now() < next).then_some((next, error))
    }

    /// The next attempt is being made.
    pub(super) fn attempt(&mut self) {
        self.next_attempt = None;
    }

    fn pause(&self) -> Duration {
        let doubled = BACKOFF_MIN * 2_u32.saturating_pow(self.failures.min(16));
        doubled.min(BACKOFF_MAX).mul_f64(rand::random_range(0.5..=1.0))
    }
}

impl Link {
    pub(super) fn new(config: Arc<Config>, sink: Arc<dyn PushSink>, totals: Arc<Totals>) -> Self {
        Self { config, sink, totals, state: Mutex::new(LinkState::default()) }
    }

    fn state(&self) -> MutexGuard<'_, LinkState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The present connection as it is: it may take no requests any more.
    pub(super) fn present(&self) -> Option<Arc<Connection>> {
        let state = self.state();
        if state.holds_off.is_some() || state.closed {
            return None;
        }
        state.connection.clone()
    }

    /// A connection that takes requests: the present one, or a new attempt at one.
    ///
    /// # Errors
    ///
    /// The client is closed, there is no runtime to connect in, or the last attempt has just failed and nobody is to
    /// wait for the next one.
    pub(super) fn connection(&self, when_down: WhenDown) -> Result<Arc<Connection>, Error> {
        let mut state = self.state();
        if state.closed {
            return Err(Error::closed_by_us().with_send_state(SendState::NotSent));
        }
        if state.holds_off.as_ref().is_some_and(|(until, _)| *until <= Instant::now()) {
            state.holds_off = None;
        }
        let last = state.connection.clone();
        if let Some(connection) = last.as_ref().filter(|connection| connection.accepts()) {
            return match &state.holds_off {
                Some((_, error)) if when_down == WhenDown::FailFast => {
                    Err(error.with_send_state(SendState::NotSent))
                }
                _ => Ok(Arc::clone(connection)),
            };
        }
        let hold_off = last.as_ref().and_then(|last| state.backoff.hold_off(last));
        if let (Some((_, error)), WhenDown::FailFast) = (&hold_off, when_down) {
            return Err(error.with_send_state(SendState::NotSent));
        }
        let not_before = hold_off.as_ref().map(|(until, _)| *until);
        let next = Connection::start(
            Arc::clone(&self.config),
            Arc::clone(&self.sink),
            Arc::clone(&self.totals),
            not_before,
        )?;
        state.backoff.attempt();
        state.holds_off = hold_off;
        state.connection = Some(Arc::clone(&next));
        state.give_up(last.as_ref());
        Ok(next)
    }

    pub(super) fn protocol(&self) -> Option<Protocol> {
        self.state().connection.as_ref().and_then(|connection| connection.protocol())
    }

    /// Takes no more requests. Returns the connections that may have some under way.
    pub(super) fn close(&self) -> Vec<Arc<Connection>> {
        let mut state = self.state();
        state.closed = true;
        let connections = state.connections();
        connections.iter().for_each(|connection| connection.drain());
        connections
    }

    /// The present connection and those that may still have requests under way.
    pub(super) fn connections(&self) -> Vec<Arc<Connection>> {
        self.state().connections()
    }
}

impl LinkState {
    fn connections(&self) -> Vec<Arc<Connection>> {
        self.given_up.iter().filter_map(Weak::upgrade).chain(self.connection.clone()).collect()
    }

    fn give_up(&mut self, connection: Option<&Arc<Connection>>) {
        self.given_up.retain(|connection| connection.strong_count() > 0);
        self.given_up.extend(connection.map(Arc::downgrade));
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // The last handle is gone, and with it every future that waits for a reply.
        if let Some(connection) = &self.state().connection {
            connection.abort();
        }
    }
}
