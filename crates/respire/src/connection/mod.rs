//! One connection: the session that tasks submit to, the wire that they and the driver share, and who uses it when.
//!
//! Two roles go with a wire, and each is held by one task at a time:
//!
//! - the *sender* asks the transport to send; it holds the role for one call;
//! - the *receiver* is the task that the transport wakes when something has arrived.
//!
//! The driver is the receiver and the sender as long as several requests are under way: it sends what many callers
//! have left behind in one write, and wakes each when its reply is there. A request that is alone, after others that
//! were, is sent and received by its own caller, without a hop to another task. When a second one comes, or the caller
//! goes, the driver takes the roles back.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, OnceLock},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use respire_codec::Protocol;

use crate::{
    command::Packet,
    config::{Config, WhenFull},
    error::{Error, Fault},
    lock::lock,
    session::{
        Bounds, Replies, RequestId, Session,
        fence::Checks,
        push::{ConnectionId, PushSink},
    },
    stats::{Stats, Totals},
};

mod dial;
mod driver;
mod host;
#[cfg(test)]
mod interleaving;
mod pace;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod wire;

pub(crate) use dial::{Established, establish};
use host::Host;
use pace::Pace;
use wire::{Received, Sent, Wire};

/// After so many requests in a row that found nothing under way, one that does is sent and received by its caller. The
/// first of a wave of requests is alone as well, but only for a moment, and must not cost the others a write of its own.
const ALONE_STREAK: u32 = 4;

/// How often a caller receives in one turn, before other tasks of its runtime get theirs. Tokio's sockets stop it sooner;
/// other transports may always have something.
const CALLERS_RECEIVES_A_TURN: usize = 16;

/// A connection that ends sooner than this and has answered nothing counts as a failed attempt.
const EARLY: std::time::Duration = std::time::Duration::from_secs(1);

/// The connection as its users see it. The driver task holds the other reference.
#[derive(Debug)]
pub(crate) struct Connection {
    id: ConnectionId,
    /// For how long the receiver asks again instead of sleeping while something is under way.
    busy_poll: Duration,
    /// Whether a request that is alone may be sent and received by its own caller.
    callers_drive: bool,
    /// Held for moments, never across an await, and never while a task is woken. Locked after the wire's locks.
    state: Mutex<State>,
    /// There once the handshake is done.
    wire: OnceLock<Wire>,
}

#[derive(Debug)]
struct State {
    session: Session,
    /// The driver's task while it sleeps. Whoever gives it work takes the waker, so that it is woken once.
    driver: Option<Waker>,
    /// The driver was to be woken while it was awake: it looks again before it sleeps.
    missed: bool,
    /// When the driver's timer wakes it, if it is set.
    timer: Option<Instant>,
    receiver: Receiver,
    /// Somebody is asking the transport to send. What others leave behind meanwhile is theirs to see to.
    sending: bool,
    /// Sending has failed for good; what the peer sent before may still be on its way.
    send_failed: Option<std::io::Error>,
    /// How many tasks were woken for their replies and have not come for them yet. Each may submit its next request
    /// when it does, so what they leave behind is sent together. The driver looks after it however long they take.
    returning: usize,
    /// How many have come, ever; it wraps. Tells whether any did in a while in which others were woken.
    came: u32,
    /// How many there were when the last of them was woken.
    wave: usize,
    /// How waves are dealt with.
    pace: Pace,
    /// How many requests in a row found nothing under way.
    alone_streak: u32,
    protocol: Option<Protocol>,
    /// Tasks that wait for the end of the handshake.
    awaiting_open: Vec<Waker>,
    /// Tasks that wait for the end of the connection.
    awaiting_end: Vec<Waker>,
    /// Since when there is no connection, and why, once there is none.
    ended: Option<(Instant, Error)>,
    opened_at: Option<Instant>,
}

/// Who the transport wakes when something has arrived.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Receiver {
    Driver,
    Caller(RequestId),
    /// A caller that is done. The driver takes the role when its timer for that comes: a request that follows soon
    /// finds it free, and the driver is not woken after each.
    Nobody,
}

impl State {
    /// Sees to it that the driver looks at everything anew. The waker is to be woken when the lock is gone.
    #[must_use]
    fn rouse(&mut self) -> Option<Waker> {
        let driver = self.driver.take();
        self.missed |= driver.is_none();
        driver
    }

    /// A task that was woken for its reply has come for it. After the last one there is something to send.
    #[must_use]
    fn come_back(&mut self) -> Option<Waker> {
        if self.returning == 0 {
            return None;
        }
        self.returning -= 1;
        self.came = self.came.wrapping_add(1);
        if self.returning == 0 && self.session.has_outgoing() { self.rouse() } else { None }
    }

    /// The replies of so many tasks came together, and all of them are woken. Returns whether that is to be done late.
    fn begin_wave(&mut self, tasks: usize, now: Instant) -> bool {
        self.returning += tasks;
        self.wave = self.returning;
        self.pace.wave(tasks, now);
        self.pace.wakes_late(tasks)
    }

    /// Whether half of the tasks that were woken together have submitted again, while the server has nothing to do. What
    /// they have submitted is then sent at once: from there on the server works on one half while tasks work on the
    /// other.
    fn is_half_a_wave(&self) -> bool {
        self.returning > 0
            && self.pace.halves(self.wave)
            && self.session.unsent_while_idle() == self.wave / 2
    }

    /// The driver is to receive from now on.
    #[must_use]
    fn receive_by_driver(&mut self) -> Option<Waker> {
        self.receiver = Receiver::Driver;
        self.rouse()
    }

    /// Whether the driver's timer is late for a deadline.
    fn needs_timer(&self) -> bool {
        match (self.session.next_check(), self.timer) {
            (None, _) => false,
            (Some(next), Some(timer)) => next < timer,
            (Some(_), None) => true,
        }
    }
}

impl Connection {
    /// Starts to connect, in a task of its own, at once or at the instant that is given. Requests may be submitted at once.
    /// What arrives unasked goes to `sink`.
    ///
    /// # Errors
    ///
    /// Outside of a tokio runtime, where the driver is not to have a thread of its own; and where that cannot be had.
    pub(crate) fn start(
        config: Arc<Config>,
        sink: Arc<dyn PushSink>,
        totals: Arc<Totals>,
        checks: Checks,
        not_before: Option<Instant>,
    ) -> Result<Arc<Self>, Error> {
        let host = Host::of(&config)?;
        let (commands, bytes) = config.in_flight_max();
        let bounds = Bounds { commands, bytes, stall: config.command_timeout() };
        let connection = Arc::new(Self {
            busy_poll: config.busy_poll(),
            // What a thread of its own drives, a caller's would only disturb.
            callers_drive: !config.driver_thread(),
            ..Self::new(bounds)
        });
        {
            let session = &mut connection.state().session;
            session.attach(connection.id, sink);
            session.check(checks);
            session.recorder().sample(config.latency_sampling());
            session.recorder().bequeath(totals);
        }
        host.run(driver::run(driver::Guard(Arc::clone(&connection)), config, not_before))?;
        Ok(connection)
    }

    fn new(bounds: Bounds) -> Self {
        Self {
            id: ConnectionId::next(),
            busy_poll: Duration::ZERO,
            callers_drive: true,
            state: Mutex::new(State {
                session: Session::new(bounds, Instant::now()),
                driver: None,
                missed: false,
                timer: None,
                receiver: Receiver::Driver,
                sending: false,
                send_failed: None,
                returning: 0,
                came: 0,
                wave: 0,
                pace: Pace::new(pace::ONE_THREAD),
                alone_streak: 0,
                protocol: None,
                awaiting_open: Vec::new(),
                awaiting_end: Vec::new(),
                ended: None,
                opened_at: None,
            }),
            wire: OnceLock::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// As whose its pushes go to the sink.
    pub(crate) fn id(&self) -> ConnectionId {
        self.id
    }

    /// Whether new requests are taken.
    pub(crate) fn accepts(&self) -> bool {
        self.state().session.accepts()
    }

    /// The protocol that was agreed on, once it was.
    pub(crate) fn protocol(&self) -> Option<Protocol> {
        self.state().protocol
    }

    /// Whether it was established, be it gone since.
    pub(crate) fn is_open(&self) -> bool {
        self.state().protocol.is_some()
    }

    /// What has happened on it and is under way.
    pub(crate) fn stats(&self) -> Stats {
        self.state().session.stats()
    }

    /// How long ago it was established; nothing where it was not.
    pub(crate) fn age(&self) -> Duration {
        self.state().opened_at.map_or(Duration::ZERO, |opened| opened.elapsed())
    }

    /// The bytes of the requests under way; `None` unless the connection is there and takes more.
    pub(crate) fn bytes_under_way(&self) -> Option<usize> {
        let state = self.state();
        let open = state.protocol.is_some() && state.session.accepts();
        open.then(|| state.session.bytes_in_flight())
    }

    /// When the connection ended, and why, if it has come to an end by no doing of ours and without being of any use: it
    /// was not established, or ended soon and without an answer.
    pub(crate) fn ended_early(&self) -> Option<(Instant, Error)> {
        let state = self.state();
        let (at, error) = state.ended.as_ref()?;
        let useful = state.session.has_answered()
            || state.session.is_given_up()
            || error.fault() == Fault::Caller
            || state.opened_at.is_some_and(|opened| at.duration_since(opened) >= EARLY);
        if useful { None } else { Some((*at, error.clone())) }
    }

    /// Submits a request. Its replies come by the future that is returned; dropping that abandons the request.
    pub(crate) fn submit(
        self: &Arc<Self>,
        packet: &Packet,
        deadline: Option<Instant>,
    ) -> Result<Pending, Error> {
        Arc::clone(self).submit_when(packet, Instant::now(), deadline, WhenFull::Wait, None)
    }

    /// As [`submit`](Self::submit), where the request may be rejected.
    ///
    /// A task that is about to await the future can leave its waker here at once, which spares it a look for a reply
    /// that cannot be there yet.
    pub(crate) fn submit_when(
        self: Arc<Self>,
        packet: &Packet,
        now: Instant,
        deadline: Option<Instant>,
        when_full: WhenFull,
        waker: Option<&Waker>,
    ) -> Result<Pending, Error> {
        let mut state = self.state();
        if when_full == WhenFull::Reject && state.session.is_full_for(packet) {
            return Err(Error::full());
        }
        let id = state.session.submit(packet, deadline, now)?;
        if let Some(waker) = waker {
            state.session.register(id, waker);
        }
        let alone = state.session.is_alone(id);
        state.alone_streak = if alone { state.alone_streak.saturating_add(1) } else { 0 };
        let may_send = self.callers_drive
            && !state.sending
            && state.send_failed.is_none()
            && self.wire.get().is_some();
        let by_caller =
            alone && may_send && state.alone_streak > ALONE_STREAK && !state.session.is_urgent();
        let sends = by_caller || may_send && state.is_half_a_wave();
        state.sending |= sends;
        let driver = if by_caller {
            let was = std::mem::replace(&mut state.receiver, Receiver::Caller(id));
            // A driver that slept as the receiver has no timer to take the role back by.
            let rouse = was == Receiver::Driver || state.needs_timer();
            if rouse { state.rouse() } else { None }
        } else if state.receiver == Receiver::Driver {
            if state.returning > 0 { None } else { state.rouse() }
        } else {
            state.receive_by_driver()
        };
        drop(state);
        // Whom a caller leaves the receiving to has the time that the request is under way.
        let driver = match driver {
            Some(driver) if !sends => {
                driver.wake();
                None
            }
            driver => driver,
        };
        let next = match waker {
            _ if sends => Next::Send,
            Some(_) => Next::Sleep,
            None => Next::Look,
        };
        Ok(Pending { connection: self, id: Some(id), next, driver, asks_until: None })
    }

    /// Waits until the handshake is done, and says how it went.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect on the connection.
    pub(crate) async fn opened(&self) -> Result<Protocol, Error> {
        std::future::poll_fn(|cx| {
            let mut state = self.state();
            // It may have opened and ended since; that is for the next request to find.
            if let Some(protocol) = state.protocol {
                return Poll::Ready(Ok(protocol));
            }
            if let Some((_, error)) = &state.ended {
                return Poll::Ready(Err(error.clone()));
            }
            register(&mut state.awaiting_open, cx);
            Poll::Pending
        })
        .await
    }

    /// Has it checked in another way from now on.
    pub(crate) fn check(&self, checks: Checks) {
        let mut state = self.state();
        state.session.change_checks(checks, Instant::now());
        let driver = if state.needs_timer() { state.rouse() } else { None };
        drop(state);
        driver.into_iter().for_each(Waker::wake);
    }

    /// Takes no new requests, and ends when those that were taken have.
    pub(crate) fn drain(&self) {
        self.change(Session::drain);
    }

    /// Ends, with every request.
    pub(crate) fn abort(&self) {
        self.change(|session| session.fail(&Error::closed_by_us()));
    }

    fn change(&self, change: impl FnOnce(&mut Session)) {
        let mut state = self.state();
        change(&mut state.session);
        let mut woken: Vec<Waker> = state.rouse().into_iter().collect();
        state.session.take_woken(&mut woken);
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Waits until the connection has ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect on the connection.
    pub(crate) async fn finished(&self) {
        std::future::poll_fn(|cx| {
            let mut state = self.state();
            if state.ended.is_some() {
                return Poll::Ready(());
            }
            register(&mut state.awaiting_end, cx);
            Poll::Pending
        })
        .await;
    }

    /// The handshake is done.
    fn open(&self, protocol: Protocol, wire: Wire) -> &Wire {
        let wire = self.wire.get_or_init(|| wire);
        let mut state = self.state();
        let now = Instant::now();
        state.protocol = Some(protocol);
        state.opened_at = Some(now);
        state.session.open(now);
        if wire.is_among_threads() {
            state.pace.choose_from(pace::THREADS);
        }
        state.session.recorder().stats.connections += 1;
        let woken = std::mem::take(&mut state.awaiting_open);
        drop(state);
        woken.into_iter().for_each(Waker::wake);
        wire
    }

    /// Ends every request and everything that waits, and the driver. The first error stands.
    fn fail(&self, error: &Error) {
        let mut state = self.state();
        state.session.fail(error);
        state.ended.get_or_insert_with(|| (Instant::now(), error.clone()));
        let mut woken = std::mem::take(&mut state.awaiting_open);
        woken.append(&mut state.awaiting_end);
        woken.extend(state.rouse());
        state.session.take_woken(&mut woken);
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }

    /// Why the connection ended, where receiving ended with `error`. A server that refuses a client says so and closes;
    /// a failure to send to it is only the echo of that, and tells less.
    fn end(&self, error: Error) -> Error {
        match self.state().send_failed.take() {
            Some(failure) if error.server_error().is_none() => {
                Error::closed_by("sending failed", failure)
            }
            _ => error,
        }
    }
}

/// Has this task polled again after those that can run now.
fn let_others_run<T>(cx: &mut Context<'_>) -> Poll<T> {
    let turn = std::pin::pin!(tokio::task::yield_now());
    if turn.poll(cx).is_ready() {
        cx.waker().wake_by_ref();
    }
    Poll::Pending
}

/// Has a task woken when this thread has nothing else to run, with all others that are to be woken then.
fn wake_late(waker: &Waker) {
    let _: Poll<()> = let_others_run(&mut Context::from_waker(waker));
}

/// Keeps one entry a task, so that a future that is polled often does not grow the list.
fn register(wakers: &mut Vec<Waker>, cx: &Context<'_>) {
    if !wakers.iter().any(|known| known.will_wake(cx.waker())) {
        wakers.push(cx.waker().clone());
    }
}

/// The replies of a request, once they are all there.
#[derive(Debug)]
pub(crate) struct Pending {
    connection: Arc<Connection>,
    /// Until the outcome was taken.
    id: Option<RequestId>,
    next: Next,
    /// To be woken once the request is sent.
    driver: Option<Waker>,
    /// Until when the task asks for the reply again instead of sleeping, since it has begun to.
    asks_until: Option<Instant>,
}

/// What a request's future does when it is polled next.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Next {
    /// Send: the role of the sender is ours, and the request's bytes are still to go.
    Send,
    /// Nothing: the session has had the task's waker since the request was submitted.
    Sleep,
    /// Look for the outcome.
    Look,
}

impl Pending {
    /// Sends the request. What the transport does not take at once is left to the driver.
    fn send(&mut self, cx: &mut Context<'_>) {
        self.next = Next::Look;
        let wire = self.connection.wire.get().expect("the role of the sender goes with a wire");
        let rouse = match wire.send_as_sender(cx, &self.connection) {
            Sent::All => None,
            Sent::Part | Sent::Blocked | Sent::Nothing => self.connection.state().rouse(),
            Sent::Failed => self.connection.state().receive_by_driver(),
        };
        self.driver.take().into_iter().chain(rouse).for_each(Waker::wake);
    }

    /// The outcome, where it is there. Else the task is woken when it is, and the error says whether it is to receive.
    fn poll_outcome(
        &mut self,
        id: RequestId,
        cx: &Context<'_>,
    ) -> Result<Result<Replies, Error>, bool> {
        let mut state = self.connection.state();
        let Poll::Ready(outcome) = state.session.poll_outcome(id, cx.waker()) else {
            return Err(state.receiver == Receiver::Caller(id));
        };
        self.id = None;
        if let Some(sample) = state.session.take_finished() {
            state.session.recorder().finished(sample, Instant::now());
        }
        let driver = self.give_up_receiving(&mut state, id).or_else(|| state.come_back());
        drop(state);
        if let Some(driver) = driver {
            driver.wake();
        }
        Ok(outcome)
    }

    /// Nothing has arrived: the task sleeps, or is to be polled again soon.
    fn asks_again<T>(&mut self, cx: &mut Context<'_>) -> Poll<T> {
        let busy_poll = self.connection.busy_poll;
        if busy_poll.is_zero() {
            return Poll::Pending;
        }
        // The runtime's clock, which a simulation stops.
        let now = tokio::time::Instant::now().into_std();
        if now < *self.asks_until.get_or_insert(now + busy_poll) {
            return let_others_run(cx);
        }
        Poll::Pending
    }

    /// If the request's task is the receiver, it is no longer.
    fn give_up_receiving(&self, state: &mut State, id: RequestId) -> Option<Waker> {
        if state.receiver != Receiver::Caller(id) {
            return None;
        }
        if state.session.is_busy() || state.send_failed.is_some() {
            return state.receive_by_driver();
        }
        state.receiver = Receiver::Nobody;
        None
    }
}

impl Future for Pending {
    type Output = Result<Replies, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let id = self.id.expect("a future that is ready is not polled again");
        match self.next {
            Next::Send => self.send(cx),
            Next::Sleep => {
                self.next = Next::Look;
                return Poll::Pending;
            }
            Next::Look => {}
        }
        for _ in 0..CALLERS_RECEIVES_A_TURN {
            let receives = match self.poll_outcome(id, cx) {
                Ok(outcome) => return Poll::Ready(outcome),
                Err(receives) => receives,
            };
            let connection = &*self.connection;
            let Some(wire) = connection.wire.get().filter(|_| receives) else {
                return Poll::Pending;
            };
            match wire.receive_as_caller(cx, connection, id) {
                Received::NotOurs => return Poll::Pending,
                Received::Nothing => return self.asks_again(cx),
                Received::Some => {}
                Received::End(error) => connection.fail(&connection.end(error)),
            }
        }
        let_others_run(cx)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let Some(id) = self.id else { return };
        let mut state = self.connection.state();
        if self.next == Next::Send {
            state.sending = false;
        }
        if state.receiver == Receiver::Caller(id) {
            state.receiver = Receiver::Driver;
        }
        let back = match state.session.abandon(id) {
            // Its task was woken and has no more to come for.
            true => state.come_back(),
            false => None,
        };
        // What waited behind it may have its turn now, and a retired connection may have lost its last user.
        let driver = back.or_else(|| state.rouse());
        drop(state);
        self.driver.take().into_iter().chain(driver).for_each(Waker::wake);
    }
}
