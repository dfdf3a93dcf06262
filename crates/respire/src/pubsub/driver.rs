//! The task that connects for the subscriptions of a client, and drives their connection for as long as there are any.

use std::{
    future::{Future, poll_fn},
    io::IoSlice,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{Buf, BytesMut};
use respire_codec::Decoder;
use tokio::time::{Instant, Sleep, sleep_until};

use super::hub::{Driver, Hub};
use crate::{
    connection::{Established, establish},
    error::{ConnectFailure, Error},
    transport::{Lease, Received, Taken, Transport},
};

/// Reads and writes in one turn, before other tasks of the runtime get theirs.
const ROUNDS_A_TURN: usize = 16;

/// Room for one read.
const READ_BYTES: usize = 64 * 1024;

/// A buffer that grew beyond this is let go when it is empty.
const KEPT_BYTES_MAX: usize = 1024 * 1024;

/// No more commands are made while so many bytes of them wait to be sent.
const OUTGOING_BYTES_MAX: usize = 64 * 1024;

/// After so long without a sign of the server it is asked for one: a connection that nobody publishes to looks like one
/// that was lost.
const QUIET_MAX: Duration = Duration::from_secs(5);

/// How long the server may take for a sign where requests have no timeout.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a connection is kept after the last subscription. Programs that subscribe for each of their requests would
/// dial for each.
const LINGER: Duration = Duration::from_secs(5);

/// Until a name is asked for again that the server could not serve for now.
const POSTPONED: Duration = Duration::from_millis(250);

/// The distance between attempts to connect: doubled with each that came to nothing, from the first to the second of
/// these, and then shortened at random by up to a half, so that many clients of one server do not dial in step.
const BACKOFF_MIN: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// After a connection that ends sooner than this, the next one is not dialled at once: it may end each as soon.
const EARLY: Duration = Duration::from_secs(1);

/// Says to those who wait that there is no driver any more, even if its runtime was shut down.
pub(super) struct Guard(pub(super) Arc<Hub>);

impl Drop for Guard {
    fn drop(&mut self) {
        let mut woken = Vec::new();
        let mut state = self.0.state();
        // Ended in order, it is not there already, and its successor may be.
        if matches!(state.driver, Driver::None) {
            return;
        }
        state.driver = Driver::None;
        state.registry.disconnect(&mut woken);
        let error = Error::closed_on_our_side("the subscriptions' runtime was shut down");
        state.registry.fail_joining(&error, &mut woken);
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }
}

/// Connects and drives, again and again, until nobody is subscribed to anything.
pub(super) async fn run(guard: Guard) {
    let hub = &guard.0;
    let mut failures: u32 = 0;
    loop {
        let began = Instant::now();
        let (outcome, useful) = live(hub).await;
        let Some(error) = outcome else {
            if lay_down(hub) {
                return;
            }
            continue;
        };
        tracing::debug!(address = %hub.config().address(), %error, "subscriptions have no connection");
        failures = if useful && began.elapsed() >= EARLY { 0 } else { failures.saturating_add(1) };
        lose(hub, &error, useful);
        if let Some(before) = failures.checked_sub(1) {
            rest(hub, backoff(before)).await;
        }
        hub.state().down = None;
    }
}

/// One connection from its beginning to its end: why it was lost, or `None` where it was not; and whether it was of use.
async fn live(hub: &Hub) -> (Option<Error>, bool) {
    let outcome = connect(hub).await;
    {
        let mut state = hub.state();
        state.dials += u64::from(outcome.is_some());
        state.connections += u64::from(matches!(outcome, Some(Ok(_))));
    }
    match outcome {
        None => (None, false),
        Some(Err(failure)) => {
            (Some(Error::connect(hub.config().address().clone(), failure)), false)
        }
        Some(Ok(established)) => {
            tracing::debug!(address = %hub.config().address(), "subscriptions are connected");
            let mut connection = Connection::new(hub, established);
            let error = poll_fn(|cx| connection.poll(cx)).await;
            let useful = connection.useful;
            connection.close().await;
            (error, useful)
        }
    }
}

/// Whether somebody is subscribed to something.
fn is_wanted(hub: &Hub) -> bool {
    let state = hub.state();
    !state.is_closed() && !state.registry.is_unused()
}

fn backoff(failures: u32) -> Duration {
    let doubled = BACKOFF_MIN * 2_u32.saturating_pow(failures.min(16));
    doubled.min(BACKOFF_MAX).mul_f64(rand::random_range(0.5..=1.0))
}

/// Ends the driver, if nobody needs it.
fn lay_down(hub: &Hub) -> bool {
    let mut woken = Vec::new();
    let mut state = hub.state();
    state.registry.disconnect(&mut woken);
    let ends = state.is_closed() || state.registry.is_unused();
    if ends {
        state.driver = Driver::None;
    }
    drop(state);
    woken.into_iter().for_each(Waker::wake);
    ends
}

/// The connection is gone, or was not to be had. Then those who want to join are told so at once, and those who come until
/// the next attempt is made.
fn lose(hub: &Hub, error: &Error, was_useful: bool) {
    let mut woken = Vec::new();
    let mut state = hub.state();
    state.registry.disconnect(&mut woken);
    if !was_useful {
        state.registry.fail_impatient(error, &mut woken);
        state.down = Some(error.clone());
    }
    drop(state);
    woken.into_iter().for_each(Waker::wake);
}

/// Waits before the next attempt, unless nobody wants it any more.
async fn rest(hub: &Hub, pause: Duration) {
    let mut sleep = pin!(tokio::time::sleep(pause));
    poll_fn(|cx| {
        while is_wanted(hub) && sleep.as_mut().poll(cx).is_pending() {
            if hub.state().sleep(cx) {
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    })
    .await;
}

/// `None` where nobody wants the connection any more.
async fn connect(hub: &Hub) -> Option<Result<Established, ConnectFailure>> {
    let config = hub.config();
    let attempt = establish(config);
    let mut attempt = pin!(attempt);
    poll_fn(|cx| {
        loop {
            // First, so that an attempt that fails at once is not made for nobody.
            if !is_wanted(hub) {
                return Poll::Ready(None);
            }
            if let Poll::Ready(outcome) = attempt.as_mut().poll(cx) {
                return Poll::Ready(Some(outcome));
            }
            if hub.state().sleep(cx) {
                return Poll::Pending;
            }
        }
    })
    .await
}

/// One connection of subscriptions. Its task alone sends and receives.
struct Connection<'a> {
    hub: &'a Hub,
    transport: Transport,
    decoder: Decoder,
    received: BytesMut,
    /// The most that `received` held since it was made.
    largest: usize,
    outgoing: BytesMut,
    /// The transport has taken bytes that leave only by further calls.
    held: bool,
    woken: Vec<Waker>,
    alarm: Pin<Box<Sleep>>,
    is_alarm_set: bool,
    /// The server has answered or told something.
    useful: bool,
    /// When bytes arrived last.
    heard: Instant,
    /// Since when the server owes an answer.
    awaiting: Option<Instant>,
    /// Since when nobody is subscribed to anything.
    unused: Option<Instant>,
    /// Since when names wait to be asked for again.
    postponed: Option<Instant>,
}

impl<'a> Connection<'a> {
    fn new(hub: &'a Hub, established: Established) -> Self {
        let now = Instant::now();
        Self {
            hub,
            transport: established.transport,
            decoder: established.decoder,
            received: established.received,
            largest: 0,
            outgoing: BytesMut::new(),
            held: false,
            woken: Vec::new(),
            alarm: Box::pin(sleep_until(now)),
            is_alarm_set: false,
            useful: false,
            heard: now,
            awaiting: None,
            unused: None,
            postponed: None,
        }
    }

    /// Drives to the end: `Some` where the connection was lost, `None` where it is not needed any more.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Error>> {
        for _ in 0..ROUNDS_A_TURN {
            match self.round(cx) {
                Ok(Some(true)) => {}
                Ok(Some(false)) => {
                    if self.hub.state().sleep(cx) {
                        return Poll::Pending;
                    }
                }
                Ok(None) => return Poll::Ready(None),
                Err(error) => return Poll::Ready(Some(error)),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Gives both directions their turn. Says whether there is more to do, or `None` where there never will be.
    fn round(&mut self, cx: &mut Context<'_>) -> Result<Option<bool>, Error> {
        let received = self.receive(cx)?;
        let Some(next) = self.attend(Instant::now())? else { return Ok(None) };
        let sent = match self.send(cx) {
            Ok(sent) => sent,
            // A server that refuses a client says why and closes; the failure to send is the echo of that.
            Err(error) => return self.receive(cx).and(Err(error)),
        };
        let due = self.is_due(next, cx);
        Ok(Some(received || sent || due))
    }

    fn receive(&mut self, cx: &mut Context<'_>) -> Result<bool, Error> {
        // The handshake may have received more than its own replies.
        self.deliver()?;
        self.make_room();
        match self.transport.receive.poll_receive(cx, &mut self.received) {
            Poll::Pending => return Ok(false),
            Poll::Ready(Ok(Received::End)) => return Err(Error::closed("the server closed it")),
            Poll::Ready(Ok(Received::Filled(_))) => {}
            Poll::Ready(Ok(Received::Lent(Lease { bytes, .. }))) => {
                // Payloads are copied in any case, and the lent memory is soon free again.
                let count = bytes.len();
                self.received.extend_from_slice(bytes);
                self.transport.receive.release(count);
            }
            Poll::Ready(Err(error)) => return Err(Error::closed_by("receiving failed", error)),
        }
        self.largest = self.largest.max(self.received.len());
        self.heard = Instant::now();
        self.deliver()?;
        Ok(true)
    }

    /// The decoder's wish is bounded by what has arrived, so a header alone reserves little.
    fn make_room(&mut self) {
        if self.received.is_empty() && self.largest > KEPT_BYTES_MAX {
            self.received = BytesMut::new();
            self.largest = 0;
        }
        let spare = self.received.capacity() - self.received.len();
        let needed = self.decoder.bytes_needed();
        if spare < needed || spare < READ_BYTES / 4 {
            self.received.reserve(needed.max(READ_BYTES));
        }
    }

    /// Hands on what was received.
    fn deliver(&mut self) -> Result<(), Error> {
        loop {
            let batch = self
                .decoder
                .decode_batch(&mut self.received)
                .map_err(|error| Error::protocol("what it sent is not RESP", Some(error)))?;
            if batch.is_empty() {
                return Ok(());
            }
            let mut state = self.hub.state();
            let mut frames = batch.iter();
            let outcome = frames
                .try_for_each(|frame| state.registry.handle_value(frame.value(), &mut self.woken));
            drop(state);
            self.woken.drain(..).for_each(Waker::wake);
            outcome?;
            self.useful = true;
        }
    }

    /// Makes the commands that are to be sent, and returns when to look again; `None` where the connection has served.
    ///
    /// # Errors
    ///
    /// The server has given no sign for too long.
    fn attend(&mut self, now: Instant) -> Result<Option<Instant>, Error> {
        let mut state = self.hub.state();
        if state.is_closed() {
            return Ok(None);
        }
        let registry = &mut state.registry;
        if since(&mut self.unused, registry.is_unused(), now).is_some_and(|for_| for_ >= LINGER) {
            return Ok(None);
        }
        if since(&mut self.postponed, registry.is_postponing(), now)
            .is_some_and(|for_| for_ >= POSTPONED)
        {
            registry.retry();
            self.postponed = None;
        }
        while self.outgoing.len() < OUTGOING_BYTES_MAX && registry.next_command(&mut self.outgoing)
        {
        }
        if !registry.is_awaiting() && now >= self.heard + QUIET_MAX {
            registry.ping(&mut self.outgoing);
        }
        since(&mut self.awaiting, registry.is_awaiting(), now);
        drop(state);
        let silent = match self.awaiting {
            None => self.heard + QUIET_MAX,
            Some(asked) => {
                let patience = self.hub.config().command_timeout().unwrap_or(PATIENCE);
                let lost = asked.max(self.heard) + patience;
                if now >= lost {
                    return Err(Error::closed("the server stopped answering"));
                }
                lost
            }
        };
        let unused = self.unused.map(|unused| unused + LINGER);
        let postponed = self.postponed.map(|postponed| postponed + POSTPONED);
        Ok([Some(silent), unused, postponed].into_iter().flatten().min())
    }

    fn send(&mut self, cx: &mut Context<'_>) -> Result<bool, Error> {
        let half = &mut self.transport.send;
        let sent = if !self.outgoing.is_empty() {
            half.poll_send(cx, &[IoSlice::new(&self.outgoing)])
        } else if self.held {
            half.poll_flush(cx).map_ok(|()| Taken { bytes: 0, held: false })
        } else {
            return Ok(false);
        };
        match sent {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(Taken { bytes, held })) => {
                self.outgoing.advance(bytes);
                self.held = held;
                Ok(true)
            }
            Poll::Ready(Err(error)) => Err(Error::closed_by("sending failed", error)),
        }
    }

    /// Whether `at` has come. Else the task is woken then, or before: setting the timer only to earlier instants saves
    /// setting it for each message.
    fn is_due(&mut self, at: Instant, cx: &mut Context<'_>) -> bool {
        if !self.is_alarm_set || self.alarm.deadline() > at {
            self.alarm.as_mut().reset(at);
            self.is_alarm_set = true;
        }
        let due = self.alarm.as_mut().poll(cx).is_ready();
        self.is_alarm_set = !due;
        due
    }

    /// Says to the peer that nothing more will be sent. What it makes of that does not matter any more.
    async fn close(mut self) {
        poll_fn(|cx| {
            let _ = self.transport.send.poll_close(cx);
            Poll::Ready(())
        })
        .await;
    }
}

/// Keeps since when something `is` so, and returns for how long.
fn since(start: &mut Option<Instant>, is: bool, now: Instant) -> Option<Duration> {
    if !is {
        *start = None;
        return None;
    }
    Some(now.saturating_duration_since(*start.get_or_insert(now)))
}
