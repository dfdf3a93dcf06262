//! One endpoint's present connection, and what it takes to have the next one.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use respire_codec::Protocol;

use super::{keeper, moving::Watchful, rotation::Rotation};
use crate::{
    config::{Address, Config, WhenDown},
    connection::Connection,
    error::{Error, SendState},
    session::push::PushSink,
    stats::Totals,
};

/// The distance between attempts to connect: doubled with each that came to nothing, from the first to the second of
/// these, and then shortened at random by up to a half, so that many clients of one server do not dial in step.
const BACKOFF_MIN: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// A connection that requests find fault with is replaced no sooner than this after the last one was.
const REPLACE_INTERVAL: Duration = Duration::from_secs(1);

pub(crate) struct Link {
    config: Arc<Config>,
    /// Takes what arrives unasked on any of its connections.
    sink: Arc<Watchful>,
    /// Has the numbers of connections that are gone.
    totals: Arc<Totals>,
    rotation: Arc<Rotation>,
    state: Mutex<LinkState>,
}

/// A connection that is not the present one yet.
#[derive(Debug)]
struct Made {
    connection: Arc<Connection>,
    /// The number of the credentials; see [`Rotation`].
    credentials: u64,
}

#[derive(Debug, Default)]
struct LinkState {
    connection: Option<Arc<Connection>>,
    /// Until when the present connection does not dial yet, and why.
    holds_off: Option<(Instant, Error)>,
    /// Connections that take no new requests and may still have some under way.
    given_up: Vec<Weak<Connection>>,
    /// Made to take the place of the present one.
    replacement: Option<Made>,
    /// When the last one was begun.
    replaced: Option<Instant>,
    /// Somebody sees to a replacement because requests have found fault with the present one.
    is_suspect: bool,
    /// Ready, in case that the present one is lost.
    spare: Option<Made>,
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
    /// Why the last of them failed.
    failure: Option<Error>,
}

impl Backoff {
    /// When the next attempt may be made and why not sooner, given the connection that was tried last. `None`: now.
    pub(super) fn hold_off(&mut self, last: &Connection) -> Option<(Instant, Error)> {
        let Some((ended, error)) = last.ended_early() else {
            self.failures = 0;
            self.failure = None;
            return None;
        };
        let next = match self.next_attempt {
            Some(next) => next,
            None => {
                let next = ended + self.pause();
                self.failures = self.failures.saturating_add(1);
                self.failure = Some(error.clone());
                *self.next_attempt.insert(next)
            }
        };
        (Instant::now() < next).then_some((next, error))
    }

    /// Why the last attempts came to nothing, unless this connection is there.
    pub(super) fn why_down(&self, present: Option<&Arc<Connection>>) -> Option<Error> {
        let is_open = present.is_some_and(|present| present.is_open());
        self.failure.clone().filter(|_| !is_open)
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
    pub(crate) fn new(
        config: Arc<Config>,
        sink: Arc<dyn PushSink>,
        totals: Arc<Totals>,
        rotation: Arc<Rotation>,
    ) -> Arc<Self> {
        Arc::new_cyclic(|link| {
            let sink = Arc::new(Watchful::new(Weak::clone(link), sink));
            Self { config, sink, totals, rotation, state: Mutex::default() }
        })
    }

    fn state(&self) -> MutexGuard<'_, LinkState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `credentials` is their number from before the lock: a provider that is asked for changes may use the client.
    fn start(&self, credentials: u64, not_before: Option<Instant>) -> Result<Made, Error> {
        self.start_with(Arc::clone(&self.config), credentials, not_before)
    }

    fn start_with(
        &self,
        config: Arc<Config>,
        credentials: u64,
        not_before: Option<Instant>,
    ) -> Result<Made, Error> {
        self.sink.start_here();
        let (sink, totals) = (Arc::clone(&self.sink), Arc::clone(&self.totals));
        let checks = config.checks();
        let connection = Connection::start(config, sink, totals, checks, not_before)?;
        Ok(Made { connection, credentials })
    }

    /// Why there is no connection, if attempts have failed since there was one.
    pub(super) fn why_down(&self) -> Option<Error> {
        let state = self.state();
        state.backoff.why_down(state.connection.as_ref())
    }

    /// The present connection as it is: it may take no requests any more.
    pub(crate) fn present(&self) -> Option<Arc<Connection>> {
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
    pub(crate) fn connection(
        self: &Arc<Self>,
        when_down: WhenDown,
    ) -> Result<Arc<Connection>, Error> {
        let credentials = self.rotation.before_start();
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
        // One that is still being dialled is the attempt that there would be otherwise.
        if let Some(spare) = state.spare.take().filter(|spare| spare.connection.accepts()) {
            state.holds_off = None;
            state.give_up(last.as_ref());
            return Ok(self.establish(&mut state, spare));
        }
        let hold_off = last.as_ref().and_then(|last| state.backoff.hold_off(last));
        if let (Some((_, error)), WhenDown::FailFast) = (&hold_off, when_down) {
            return Err(error.with_send_state(SendState::NotSent));
        }
        let not_before = hold_off.as_ref().map(|(until, _)| *until);
        let next = self.start(credentials, not_before)?;
        state.backoff.attempt();
        state.holds_off = hold_off;
        state.give_up(last.as_ref());
        Ok(self.establish(&mut state, next))
    }

    /// Makes a connection the present one, which is looked after.
    fn establish(self: &Arc<Self>, state: &mut LinkState, made: Made) -> Arc<Connection> {
        let Made { connection, credentials } = made;
        state.connection = Some(Arc::clone(&connection));
        if keeper::is_wanted(&self.config)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let kept = keeper::Kept {
                link: Arc::downgrade(self),
                connection: Arc::clone(&connection),
                config: Arc::clone(&self.config),
                rotation: Arc::clone(&self.rotation),
                credentials,
            };
            runtime.spawn(kept.keep());
        }
        connection
    }

    /// Something is wrong with the server behind the present connection: it is replaced, not too often.
    pub(super) fn suspect(self: &Arc<Self>) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let mut state = self.state();
        let recently = |at: Instant| at.elapsed() < REPLACE_INTERVAL;
        let Some(connection) = state.connection.clone() else { return };
        if state.is_suspect || state.replaced.is_some_and(recently) {
            return;
        }
        state.is_suspect = true;
        drop(state);
        let suspicion = Suspicion(Arc::downgrade(self));
        runtime.spawn(async move {
            keeper::replace(Weak::clone(&suspicion.0), connection, None).await;
        });
    }

    /// Begins to dial a connection in place of this one; `None` if it is not the present one any more, or another is being
    /// dialled for it, by somebody who goes on until there is one. It leads to another address, if one is given.
    ///
    /// # Errors
    ///
    /// As [`Connection::start`].
    pub(super) fn start_replacement(
        &self,
        old: &Arc<Connection>,
        address: Option<Address>,
    ) -> Option<Result<Arc<Connection>, Error>> {
        let credentials = self.rotation.before_start();
        let mut state = self.state();
        let dialling = state.replacement.as_ref().is_some_and(|next| next.connection.accepts());
        if state.closed || dialling || !state.is_present(old) {
            return None;
        }
        let config = match address {
            Some(address) => Arc::new(Config::clone(&self.config).with_address(address)),
            None => Arc::clone(&self.config),
        };
        state.replaced = Some(Instant::now());
        Some(self.start_with(config, credentials, None).map(|made| {
            let next = Arc::clone(&made.connection);
            state.replacement = Some(made);
            next
        }))
    }

    /// A connection takes the place of another, if that is the present one still. What is under way on the old one is
    /// carried out there.
    pub(super) fn switch(self: &Arc<Self>, old: &Arc<Connection>, next: &Arc<Connection>) {
        let mut state = self.state();
        let made = state.replacement.take_if(|made| Arc::ptr_eq(&made.connection, next));
        let Some(made) = made.filter(|_| !state.closed && state.is_present(old)) else {
            drop(state);
            return next.abort();
        };
        state.give_up(Some(old));
        let spare = state.spare.take();
        self.establish(&mut state, made);
        drop(state);
        // It is as old, or was made with the same credentials.
        if let Some(spare) = spare {
            spare.connection.abort();
        }
        old.drain();
    }

    /// The present connection has ended: the spare one, if there is one, takes its place.
    pub(super) fn promote_spare(self: &Arc<Self>) {
        let has_spare = self.state().spare.is_some();
        if has_spare {
            // Where it is too soon for another attempt, the next request will see to it.
            let _ = self.connection(WhenDown::FailFast);
        }
    }

    /// The spare connection, made if there is none; `None` once there is to be none.
    ///
    /// # Errors
    ///
    /// As [`Connection::start`].
    pub(super) fn spare(&self) -> Option<Result<Arc<Connection>, Error>> {
        let credentials = self.rotation.before_start();
        let mut state = self.state();
        if state.closed {
            return None;
        }
        let ready = state.spare.as_ref().map(|spare| &spare.connection);
        if let Some(spare) = ready.filter(|spare| spare.accepts()) {
            return Some(Ok(Arc::clone(spare)));
        }
        Some(self.start(credentials, None).map(|made| {
            let spare = state.spare.insert(made);
            Arc::clone(&spare.connection)
        }))
    }

    pub(super) fn protocol(&self) -> Option<Protocol> {
        self.state().connection.as_ref().and_then(|connection| connection.protocol())
    }

    /// Takes no more requests. Returns the connections that may have some under way.
    pub(crate) fn close(&self) -> Vec<Arc<Connection>> {
        let mut state = self.state();
        state.closed = true;
        let connections = state.connections();
        drop(state);
        connections.iter().for_each(|connection| connection.drain());
        connections
    }

    /// The present connection and those that may still have requests under way.
    pub(crate) fn connections(&self) -> Vec<Arc<Connection>> {
        self.state().connections()
    }
}

/// Says at its end that nobody sees to a replacement any more.
struct Suspicion(Weak<Link>);

impl Drop for Suspicion {
    fn drop(&mut self) {
        if let Some(link) = self.0.upgrade() {
            link.state().is_suspect = false;
        }
    }
}

impl LinkState {
    /// Those that may have requests under way, and those that are ready.
    fn connections(&self) -> Vec<Arc<Connection>> {
        let given_up = self.given_up.iter().filter_map(Weak::upgrade);
        given_up.chain(self.live().cloned()).collect()
    }

    /// The present one, and those that may take its place.
    fn live(&self) -> impl Iterator<Item = &Arc<Connection>> {
        let made = [&self.replacement, &self.spare].into_iter().flatten();
        self.connection.iter().chain(made.map(|made| &made.connection))
    }

    fn is_present(&self, connection: &Arc<Connection>) -> bool {
        self.connection.as_ref().is_some_and(|present| Arc::ptr_eq(present, connection))
    }

    fn give_up(&mut self, connection: Option<&Arc<Connection>>) {
        self.given_up.retain(|connection| connection.strong_count() > 0);
        self.given_up.extend(connection.map(Arc::downgrade));
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // The last handle is gone, and with it every future that waits for a reply.
        let state = self.state();
        state.live().for_each(|connection| connection.abort());
    }
}

#[cfg(test)]
mod tests;
