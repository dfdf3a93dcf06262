//! The task that connects, and that drives a connection whenever no caller does.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use super::{
    Connection, Receiver,
    dial::{Established, establish},
    let_others_run,
    wire::{Received, Sent, Wire},
};
use crate::{
    config::Config,
    error::{ConnectFailure, Error},
};

/// Reads and writes in one turn, before other tasks of the runtime get theirs.
const ROUNDS_A_TURN: usize = 16;

/// After so many turns of the runtime in which none of the tasks came back that were woken, they are waited for no more.
/// One says nothing: the driver may have had its turn before those that it has just had woken.
const IDLE_TURNS: u32 = 2;

/// How often the driver looks whether the role of the receiver was left to it, while callers have it. So long may the
/// end of an idle connection go unnoticed after a caller is done.
const TAKE_BACK_INTERVAL: Duration = Duration::from_millis(10);

/// How long is received after sending failed. A server that refuses a client says why and closes at once; one that only
/// stopped reading would hold up what must be sent elsewhere.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Ends the connection when the driver goes, even if its runtime does.
pub(super) struct Guard(pub(super) Arc<Connection>);

impl Drop for Guard {
    fn drop(&mut self) {
        // Where the driver ended in order there is an error already, and it stands.
        self.0.fail(&Error::closed_on_our_side(match std::thread::panicking() {
            true => "its driver panicked: has the runtime I/O and time enabled?",
            false => "its runtime was shut down",
        }));
    }
}

/// Connects, then drives the connection to its end.
pub(super) async fn run(guard: Guard, config: Arc<Config>, not_before: Option<std::time::Instant>) {
    let connection = &*guard.0;
    let address = config.address().clone();
    match connect(connection, &config, not_before).await {
        Ok(Some(established)) => {
            tracing::debug!(%address, protocol = ?established.protocol, "connected");
            let error = drive(connection, established).await;
            tracing::debug!(%address, %error, "the connection ended");
            connection.fail(&error);
        }
        Ok(None) => connection.fail(&Error::closed_by_us()),
        Err(failure) => {
            tracing::debug!(%address, %failure, "cannot connect");
            connection.fail(&Error::connect(address, failure));
        }
    }
}

/// Establishes the connection within the time for it, while the deadlines of the requests that wait for it are kept.
/// `None` where nobody wants it any more.
async fn connect(
    connection: &Connection,
    config: &Config,
    not_before: Option<std::time::Instant>,
) -> Result<Option<Established>, ConnectFailure> {
    let attempt = async {
        if let Some(not_before) = not_before {
            sleep_until(Instant::from_std(not_before)).await;
        }
        connection.state().session.recorder().stats.dials += 1;
        establish(config).await
    };
    let mut attempt = pin!(attempt);
    let mut clock = Clock::new();
    poll_fn(|cx| {
        if let Poll::Ready(result) = attempt.as_mut().poll(cx) {
            return Poll::Ready(result.map(Some));
        }
        loop {
            clock.keep_deadlines(cx, connection);
            let mut state = connection.state();
            if state.session.is_finished() {
                return Poll::Ready(Ok(None));
            }
            if !state.needs_timer() {
                state.driver = Some(cx.waker().clone());
                return Poll::Pending;
            }
        }
    })
    .await
}

/// Drives the connection, and returns why it ended.
pub(super) async fn drive(connection: &Connection, established: Established) -> Error {
    let protocol = established.protocol;
    let wire = connection.open(protocol, Wire::new(established));
    // The handshake may have received more than its own replies.
    let error = match wire.decode_received(connection) {
        Err(error) => error,
        Ok(()) => {
            let mut driver = Driver {
                connection,
                wire,
                clock: Clock::new(),
                alarm: Alarm::new(),
                came: 0,
                idle_turns: 0,
                asks_until: None,
                last_words: None,
            };
            poll_fn(|cx| driver.poll(cx)).await
        }
    };
    poll_fn(|cx| {
        wire.close(cx);
        Poll::Ready(())
    })
    .await;
    error
}

/// A timer that is set anew only to an earlier instant: one that fires early costs one more look, setting it for each
/// request would cost more.
struct Alarm {
    sleep: Pin<Box<Sleep>>,
    set: bool,
}

impl Alarm {
    fn new() -> Self {
        Self { sleep: Box::pin(sleep_until(Instant::now())), set: false }
    }

    /// Whether `at` or the instant that it was set to before has come. Else the task is woken then.
    fn poll(&mut self, cx: &mut Context<'_>, at: Instant) -> bool {
        if !self.set || self.sleep.deadline() > at {
            self.sleep.as_mut().reset(at);
            self.set = true;
        }
        if self.sleep.as_mut().poll(cx).is_pending() {
            return false;
        }
        self.set = false;
        true
    }
}

/// One timer for all requests of a connection, set to the earliest deadline.
struct Clock {
    alarm: Alarm,
    woken: Vec<Waker>,
}

impl Clock {
    fn new() -> Self {
        Self { alarm: Alarm::new(), woken: Vec::new() }
    }

    /// Ends what is overdue, and sees to it that the task is woken at the next deadline.
    fn keep_deadlines(&mut self, cx: &mut Context<'_>, connection: &Connection) {
        loop {
            let next = {
                let mut state = connection.state();
                let now = Instant::now();
                let next = state.session.handle_deadlines(now.into_std());
                state.session.take_woken(&mut self.woken);
                // What is said of the timer here is made true below, before the task can sleep.
                // An alarm whose time has come wakes nobody any more.
                let set =
                    Some(self.alarm.sleep.deadline()).filter(|&at| self.alarm.set && at > now);
                state.timer = [next, set.map(Instant::into_std)].into_iter().flatten().min();
                next
            };
            self.woken.drain(..).for_each(Waker::wake);
            let Some(next) = next.map(Instant::from_std) else { return };
            if !self.alarm.poll(cx, next) {
                return;
            }
        }
    }
}

struct Driver<'a> {
    connection: &'a Connection,
    wire: &'a Wire,
    clock: Clock,
    /// For taking back the role of the receiver.
    alarm: Alarm,
    /// How many tasks had ever come back when the driver let others go first.
    came: u32,
    /// In how many turns since then none did.
    idle_turns: u32,
    /// Until when the driver asks again instead of sleeping.
    asks_until: Option<Instant>,
    /// Since sending failed: until when the peer's end is waited for.
    last_words: Option<Pin<Box<Sleep>>>,
}

impl Driver<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        self.look_who_came_back();
        for _ in 0..ROUNDS_A_TURN {
            // Both directions have their turn, whatever the other one came to. Receiving comes first: a request that
            // is not sent because the end was noticed in time may be sent again elsewhere.
            // What had gathered by now is not held back for those who are woken in this round: while their requests come,
            // the server works on it.
            let others_come = self.connection.state().returning > 0;
            let receives = self.receives(cx);
            let mut busy = false;
            if receives {
                match self.wire.receive(cx, self.connection) {
                    Received::Nothing | Received::NotOurs => {}
                    Received::Some => busy = true,
                    Received::End(error) => return Poll::Ready(self.connection.end(error)),
                }
            }
            let sent = match others_come {
                true => Sent::Nothing,
                false => self.wire.send(cx, self.connection),
            };
            match sent {
                Sent::Nothing | Sent::Blocked => {}
                Sent::All => self.asks_until = None,
                Sent::Part | Sent::Failed => busy = true,
            }
            if let Some(error) = self.last_words(cx) {
                return Poll::Ready(error);
            }
            self.clock.keep_deadlines(cx, self.connection);
            if busy {
                self.asks_until = None;
                continue;
            }
            let mut state = self.connection.state();
            if state.session.is_finished() {
                let error = || match state.session.is_given_up() {
                    true => Error::closed("the server stopped answering"),
                    false => Error::closed_by_us(),
                };
                let ended = state.ended.as_ref().map(|(_, error)| error.clone());
                return Poll::Ready(ended.unwrap_or_else(error));
            }
            if state.returning > 0 {
                self.came = state.came;
                drop(state);
                return let_others_run(cx);
            }
            let missed = std::mem::take(&mut state.missed);
            let raised = state.session.take_raised();
            if raised {
                // Nothing is alone beside a fence, and the task of what was may not come to receive its reply.
                state.receiver = Receiver::Driver;
            }
            if raised || missed || state.needs_timer() {
                continue;
            }
            if receives && state.session.is_busy() && self.asks_again() {
                drop(state);
                return let_others_run(cx);
            }
            state.driver = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let_others_run(cx)
    }

    /// Whether what is under way is to be asked for again soon, since something moved not long ago.
    fn asks_again(&mut self) -> bool {
        let busy_poll = self.connection.busy_poll;
        if busy_poll.is_zero() {
            return false;
        }
        let now = Instant::now();
        now < *self.asks_until.get_or_insert(now + busy_poll)
    }

    /// At the start of a turn: forgets the tasks that were to come back for their replies in the last ones, if none did.
    ///
    /// What those tasks submit is sent together, so as long as some come in each turn of the runtime they are waited
    /// for. A task that is slow, or a future that nobody polls, holds up the others no longer than that.
    fn look_who_came_back(&mut self) {
        let mut state = self.connection.state();
        if state.returning == 0 || state.came != self.came {
            self.idle_turns = 0;
            return;
        }
        self.idle_turns += 1;
        if self.idle_turns >= IDLE_TURNS {
            state.returning = 0;
        }
    }

    /// Why the connection ends, if sending has failed and the peer has not come to an end of its own since.
    fn last_words(&mut self, cx: &mut Context<'_>) -> Option<Error> {
        self.connection.state().send_failed.as_ref()?;
        let sleep = self.last_words.get_or_insert_with(|| Box::pin(tokio::time::sleep(LAST_WORDS)));
        match sleep.as_mut().poll(cx) {
            Poll::Ready(()) => Some(self.connection.end(Error::closed("sending failed"))),
            Poll::Pending => None,
        }
    }

    /// Whether the driver is the receiver, now or again. Where it is not, it is woken to look again.
    fn receives(&mut self, cx: &mut Context<'_>) -> bool {
        if self.connection.state().receiver == Receiver::Driver {
            self.alarm.set = false;
            return true;
        }
        while self.alarm.poll(cx, Instant::now() + TAKE_BACK_INTERVAL) {
            let mut state = self.connection.state();
            if state.receiver == Receiver::Nobody {
                state.receiver = Receiver::Driver;
                return true;
            }
        }
        false
    }
}
