//! Connections that one task has to itself for a while.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::Waker,
    time::Instant,
};

use respire_codec::{Frame, Protocol};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

use super::{is_readonly, link::Backoff, rotation::Rotation};
use crate::{
    command::Packet,
    config::{Config, WhenDown, WhenFull},
    connection::Connection,
    deadline::until,
    error::{Error, SendState},
    session::{
        Replies,
        fence::Checks,
        push::{ConnectionId, PushSink},
    },
    stats::{Stats, Totals},
};

/// Connections that wait for the next one to need them. More would only be kept from a server that counts its clients.
const IDLE_MAX: usize = 8;

/// A bounded number of connections, each leased to one task at a time.
pub(super) struct Pool {
    config: Arc<Config>,
    /// Has the numbers of connections that are gone.
    totals: Arc<Totals>,
    rotation: Arc<Rotation>,
    permits: Arc<Semaphore>,
    state: Mutex<PoolState>,
}

#[derive(Default)]
struct PoolState {
    /// In a state as if they were new. The last one was used last.
    idle: Vec<Idle>,
    /// All that were started and are not gone, each once.
    started: Vec<Weak<Connection>>,
    /// The last one that was started.
    last: Option<Arc<Connection>>,
    /// Those on which somebody waits without end.
    endless: Vec<ConnectionId>,
    backoff: Backoff,
    closed: bool,
}

struct Idle {
    connection: Arc<Connection>,
    /// The number of the credentials that it was made with; see [`Rotation`].
    credentials: u64,
}

impl Pool {
    pub(super) fn new(
        config: Arc<Config>,
        totals: Arc<Totals>,
        rotation: Arc<Rotation>,
    ) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(config.dedicated_max()));
        let pool = Self { config, totals, rotation, permits, state: Mutex::default() };
        let pool = Arc::new(pool);
        pool.rotation.empties(Arc::downgrade(&pool));
        pool
    }

    fn state(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection for the caller alone, once there are fewer than may be. It may still have to be established.
    pub(super) async fn lease(
        self: &Arc<Self>,
        deadline: Option<Instant>,
        when_full: WhenFull,
        when_down: WhenDown,
    ) -> Result<Lease, Error> {
        let permit = match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => permit,
            Err(TryAcquireError::NoPermits) if when_full == WhenFull::Reject => {
                return Err(Error::full());
            }
            Err(_) => self.wait(deadline).await?,
        };
        let Idle { connection, credentials } = self.connection(when_down)?;
        let pool = Arc::clone(self);
        Ok(Lease { pool, connection, credentials, _permit: permit, clean: true })
    }

    async fn wait(&self, deadline: Option<Instant>) -> Result<OwnedSemaphorePermit, Error> {
        let turn = Arc::clone(&self.permits).acquire_owned();
        let late = || Error::timeout("waiting for a dedicated connection", SendState::NotSent);
        until(deadline, turn, late).await?.map_err(|_| closed())
    }

    /// One that is idle, or a new one.
    fn connection(&self, when_down: WhenDown) -> Result<Idle, Error> {
        let credentials = self.rotation.before_start();
        while let Some(idle) = self.take_idle()? {
            let Idle { connection, credentials: theirs } = &idle;
            let age_max = self.config.connection_age_max();
            let is_old = age_max.is_some_and(|age_max| connection.age() > age_max);
            if is_old || *theirs < credentials {
                connection.abort();
            } else if connection.accepts() {
                connection.check(Checks::default());
                return Ok(idle);
            }
        }
        let mut state = self.state();
        if state.closed {
            return Err(closed());
        }
        let connection = state.start(&self.config, &self.totals, when_down)?;
        Ok(Idle { connection, credentials })
    }

    /// The one that was used last of those that wait, whatever has become of it.
    fn take_idle(&self) -> Result<Option<Idle>, Error> {
        let mut state = self.state();
        if state.closed { Err(closed()) } else { Ok(state.idle.pop()) }
    }

    /// Closes the connections that wait to be used: they lead to the wrong server, or have the wrong credentials.
    pub(super) fn drop_idle(&self) {
        let idle = std::mem::take(&mut self.state().idle);
        idle.iter().for_each(|idle| idle.connection.abort());
    }

    /// Why no connection can be made, if the last attempts have failed.
    pub(super) fn why_down(&self) -> Option<Error> {
        let state = self.state();
        state.backoff.why_down(state.last.as_ref())
    }

    /// Adds what has happened on the connections that are there.
    pub(super) fn add_stats(&self, stats: &mut Stats) {
        let connections: Vec<_> = self.state().started.iter().filter_map(Weak::upgrade).collect();
        connections.iter().for_each(|connection| stats.add(&connection.stats()));
    }

    /// Takes a connection back that is in a state as if it were new.
    fn give_back(&self, connection: &Arc<Connection>, credentials: u64) {
        // While it is nobody's, a PING of ours is in nobody's way.
        connection.check(self.config.checks());
        let is_kept = {
            let mut state = self.state();
            let is_outdated = credentials < self.rotation.number();
            let is_kept = !state.closed && !is_outdated && state.idle.len() < IDLE_MAX;
            if is_kept {
                state.idle.push(Idle { connection: Arc::clone(connection), credentials });
            }
            is_kept
        };
        if !is_kept {
            connection.drain();
        }
    }

    /// Leases no more. Returns the connections that may have requests under way. Those that might have them for ever are
    /// closed.
    pub(super) fn close(&self) -> Vec<Arc<Connection>> {
        let mut state = self.state();
        state.closed = true;
        self.permits.close();
        let connections: Vec<_> = state.started.drain(..).filter_map(|it| it.upgrade()).collect();
        let endless = std::mem::take(&mut state.endless);
        state.idle.clear();
        drop(state);
        for connection in &connections {
            match endless.contains(&connection.id()) {
                true => connection.abort(),
                false => connection.drain(),
            }
        }
        connections
    }
}

fn closed() -> Error {
    Error::closed_by_us().with_send_state(SendState::NotSent)
}

impl PoolState {
    fn start(
        &mut self,
        config: &Arc<Config>,
        totals: &Arc<Totals>,
        when_down: WhenDown,
    ) -> Result<Arc<Connection>, Error> {
        // An attempt that is under way tells nothing yet.
        let told = self.last.as_ref().filter(|last| last.is_open() || !last.accepts());
        let hold_off = told.and_then(|last| self.backoff.hold_off(last));
        if let (Some((_, error)), WhenDown::FailFast) = (&hold_off, when_down) {
            return Err(error.with_send_state(SendState::NotSent));
        }
        let not_before = hold_off.map(|(until, _)| until);
        let connection = Connection::start(
            Arc::clone(config),
            Arc::new(Unheard),
            Arc::clone(totals),
            // A PING of ours between the commands of a transaction would be one of them.
            Checks::default(),
            not_before,
        )?;
        self.backoff.attempt();
        self.started.retain(|connection| connection.strong_count() > 0);
        self.started.push(Arc::downgrade(&connection));
        self.last = Some(Arc::clone(&connection));
        Ok(connection)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.drop_idle();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("idle", &self.state().idle.len()).finish()
    }
}

/// A connection that is the holder's alone. It is closed in the end, or goes back to the pool if it is clean.
#[derive(Debug)]
pub(super) struct Lease {
    pool: Arc<Pool>,
    connection: Arc<Connection>,
    credentials: u64,
    _permit: OwnedSemaphorePermit,
    /// Nothing is under way on it, and its state on the server is that of a new one.
    clean: bool,
}

impl Lease {
    pub(super) fn set_clean(&mut self, clean: bool) {
        self.clean = clean;
    }

    pub(super) fn protocol(&self) -> Option<Protocol> {
        self.connection.protocol()
    }

    /// The database that is selected on a new connection.
    pub(super) fn database(&self) -> u32 {
        self.pool.config.database()
    }

    /// Sends a request that leaves the connection as it was. If the future is dropped, or fails, the connection is not
    /// clean any more; nor is it if the server answers that it is no primary.
    pub(super) async fn run(
        &mut self,
        packet: &Packet,
        deadline: Option<Instant>,
    ) -> Result<Replies, Error> {
        let clean = std::mem::replace(&mut self.clean, false);
        let replies = self.connection.submit(packet, deadline)?.await?;
        if replies.iter().any(is_readonly) {
            // Its name may lead to another server by now, and what is idle does not.
            self.pool.drop_idle();
        } else {
            self.clean = clean;
        }
        Ok(replies)
    }

    /// As [`run`](Self::run), for a request that nothing ends but the server, and [`Pool::close`].
    pub(super) async fn run_endless(&mut self, packet: &Packet) -> Result<Replies, Error> {
        let endless = Endless { pool: Arc::clone(&self.pool), id: self.connection.id() };
        {
            let mut state = self.pool.state();
            if state.closed {
                return Err(closed());
            }
            state.endless.push(endless.id);
        }
        self.run(packet, None).await
    }
}

/// Somebody waits without end on a connection.
struct Endless {
    pool: Arc<Pool>,
    id: ConnectionId,
}

impl Drop for Endless {
    fn drop(&mut self) {
        self.pool.state().endless.retain(|id| *id != self.id);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        match self.clean && self.connection.accepts() {
            true => self.pool.give_back(&self.connection, self.credentials),
            // Closing it at once is how the server learns that nobody waits any more.
            false => self.connection.abort(),
        }
    }
}

/// Nobody has asked for pushes on a connection that is leased.
#[derive(Debug)]
struct Unheard;

impl PushSink for Unheard {
    fn handle_push(&self, _: ConnectionId, _: Frame, _: &mut Vec<Waker>) {}

    fn handle_end(&self, _: ConnectionId, _: &mut Vec<Waker>) {}

    fn is_urgent(&self) -> bool {
        false
    }
}
